"""What is kept, and for how long: nothing without consumers, nothing after them, nothing twice."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from statestore import (
    Key,
    KeyRemovedError,
    Ref,
    Store,
    StoreClosedError,
    ValueWatcher,
    WaitTimeoutError,
    Watcher,
    combine,
)
from statestore.testing import StepLoop, assert_no_trace
from support.families import Pool
from support.streams import drain, drain_to_error
from support.twin import POINTER


class Thing:
    """A value that can be referred to weakly."""


class App(Store):
    """Two keys."""

    left = Key[object](0)
    right = Key[object](0)


@pytest.fixture
def loop() -> Iterator[StepLoop]:
    """Give a loop that moves only when told to."""
    with StepLoop() as loop:
        yield loop


def is_gone(reference: weakref.ref[Any]) -> bool:
    """Tell whether what *reference* referred to has been collected."""
    gc.collect()
    return reference() is None


def is_unregistered(state: ValueWatcher[Any]) -> bool:
    """Tell whether nobody is registered with *state*, or with the store that it is in."""
    core = state._core
    every = core.listeners.values()
    idle = all(not (one.callbacks or one.groups or one.ports or one.rings) for one in every)
    return idle and not core.attention


def allocated_by(function: Callable[[], object]) -> int:
    """Give the number of bytes that are there after *function* and were not before."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        function()
        gc.collect()
        now, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return now - before


# -- waits leave no trace --------------------------------------------------------------------------


WAITS: list[Callable[[ValueWatcher[Any], Any], Coroutine[Any, Any, Any]]] = [
    lambda state, timeout: state.wait_for(1, timeout=timeout),
    lambda state, timeout: state.wait_for((1,), timeout=timeout),
    lambda state, timeout: state.wait_until(lambda value: value == 1, timeout=timeout),
    lambda state, timeout: state.wait_for_change(timeout=timeout),
]


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("timeout", [None, 10])
@pytest.mark.parametrize("end", ["match", "cancel", "timeout", "close", "error"])
def test_a_wait_leaves_no_trace_however_it_ends(
    loop: StepLoop, wait: Callable[..., Any], timeout: float | None, end: str
) -> None:
    """No registration, timer, task or waiter is left once it is over. P022."""
    state = ValueWatcher[Any](0)
    task = loop.create_task(wait(state, timeout))
    loop.settle()
    assert not is_unregistered(state)
    match end:
        case "match":
            state.value = (1,)
            state.value = 1
        case "cancel":
            task.cancel()
        case "timeout":
            loop.advance(10)
        case "close":
            state.close()
        case "error":
            state.value = Bad()
            state.value = 1
    loop.settle()
    if end == "timeout" and timeout is None:
        assert not task.done()
        task.cancel()
        loop.settle()
    assert task.done()
    if not task.cancelled():
        task.exception()
    assert is_unregistered(state)
    assert [] == loop.timers()
    assert [] == loop.ready()
    gone = weakref.ref(task)
    del task
    assert is_gone(gone)
    assert {} == state._core.mailboxes


class Bad:
    """A value whose comparison fails."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("cannot be compared")

    __hash__ = None  # type: ignore[assignment]


def test_a_wait_that_never_began_has_no_registration() -> None:
    """A coroutine that nobody awaits is just that; Python's own warning is all there is. P021."""
    state = ValueWatcher(0)
    waits = [state.wait_for(1)]
    with pytest.warns(RuntimeWarning, match="was never awaited"):
        waits.clear()
    assert is_unregistered(state)


def test_a_wait_cancelled_before_its_first_step_leaves_nothing(loop: StepLoop) -> None:
    """It never registered, so there is nothing to take back. P014."""
    state = ValueWatcher(0)
    task = loop.create_task(state.wait_for(1))
    task.cancel()
    loop.settle()
    assert task.cancelled()
    assert is_unregistered(state)


async def test_a_wait_keeps_its_task_alive() -> None:
    """A task that only the wait refers to does not vanish. P020."""
    state = ValueWatcher(0)
    done = []

    async def main() -> None:
        done.append(await state.wait_for(1))

    task = weakref.ref(asyncio.create_task(main()))
    await asyncio.sleep(0)
    gc.collect()
    assert task() is not None
    state.value = 1
    for _ in range(5):
        await asyncio.sleep(0)
    assert [1] == done


async def test_timers_are_not_kept_after_many_timed_waits() -> None:
    """Waits that end long before their timeout leave no timer, closure or frame. P022."""

    async def wait_often(count: int) -> None:
        for value in range(count):
            waiting = asyncio.ensure_future(state.wait_for(value, immediate=False, timeout=3_600))
            await asyncio.sleep(0)
            state.value = value
            await waiting

    state = ValueWatcher[object](None)
    await wait_often(200)
    running: Any = asyncio.get_running_loop()
    gc.collect()
    before = len(gc.get_objects())
    await wait_often(20_000)
    gc.collect()
    # asyncio drops cancelled timers in batches: at most a hundred, or half of all.
    left = [timer for timer in getattr(running, "_scheduled", ()) if not timer.cancelled()]
    assert [] == left
    assert len(gc.get_objects()) - before < 2_000


async def test_the_error_of_a_timeout_is_in_no_cycle() -> None:
    """A caught `WaitTimeoutError` goes without the garbage collector, and holds no store. P023."""
    state = ValueWatcher(0)

    gc.collect()
    gc.disable()
    try:
        gone = await fail_and_forget(state)
        assert gone() is None
    finally:
        gc.enable()
    assert is_unregistered(state)


async def fail_and_forget(state: ValueWatcher[int]) -> weakref.ref[WaitTimeoutError]:
    """Let a wait time out; give a weak reference to its error."""
    try:
        await state.wait_for(1, timeout=0.001)
    except WaitTimeoutError as error:
        return weakref.ref(error)
    raise AssertionError


async def test_the_error_of_a_predicate_is_in_no_cycle() -> None:
    """What a predicate raised while the wait slept goes without the collector, too. P023."""

    class OwnError(Exception):
        pass

    def fail(value: int) -> bool:
        if value:
            raise OwnError
        return False

    async def catch() -> weakref.ref[OwnError]:
        try:
            await state.wait_until(fail)
        except OwnError as error:
            return weakref.ref(error)
        raise AssertionError

    state = ValueWatcher(0)
    gc.collect()
    gc.disable()
    try:
        task = asyncio.create_task(catch())
        await asyncio.sleep(0)
        state.value = 1
        assert (await task)() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("bounded", [False, True])
def test_a_subscription_leaves_no_trace(loop: StepLoop, bounded: bool) -> None:
    """Opened, waited on, cancelled and closed, it is as if it had never been."""
    app = App()
    sub = app.left.subscribe(maxlen=3 if bounded else None)
    commits = app.subscribe(maxlen=3 if bounded else None)
    some = app.subscribe(app.left, maxlen=3 if bounded else None)
    reads: list[Any] = [anext(sub), anext(commits), some.wait_until(lambda now: False, timeout=9)]
    tasks = [loop.create_task(read) for read in reads]
    loop.settle()
    app.left.value = 1
    loop.settle()
    for task in tasks:
        task.cancel()
    loop.settle()
    for stream in (sub, commits, some):
        stream.close()
    assert is_unregistered(app.left)
    assert [] == loop.timers()
    gone = [weakref.ref(stream) for stream in (sub, commits, some)]
    del sub, commits, some, stream, task, tasks, reads
    assert [True] * 3 == [is_gone(reference) for reference in gone]
    assert {} == app._core.mailboxes


def test_blocking_waits_leave_no_trace() -> None:
    """A thread that was woken, or gave up, has nothing registered."""
    state = ValueWatcher(0)
    thread = threading.Thread(target=state.blocking.wait_for, args=(1,))
    thread.start()
    state.value = 1
    thread.join()
    with pytest.raises(WaitTimeoutError):
        state.blocking.wait_for(2, timeout=0.001)
    state.close()
    with pytest.raises(StoreClosedError):
        state.blocking.wait_for(2)
    assert is_unregistered(state)


# -- old values ------------------------------------------------------------------------------------


def test_a_value_is_freed_when_it_is_replaced() -> None:
    """A watcher without consumers keeps its current value and no other."""
    state = ValueWatcher[object](Thing())
    gone = weakref.ref(state.value)
    state.value = 1
    assert is_gone(gone)


def test_a_store_keeps_no_old_value() -> None:
    """The same holds in a store, for single sets and transactions."""
    app = App()
    things = [Thing(), Thing()]
    with app.transaction() as tx:
        tx[app.left] = Ref(things[0])
        tx[app.right] = Ref(things[1])
    gone = [weakref.ref(thing) for thing in things]
    things.clear()
    with app.transaction() as tx:
        tx[app.left] = tx[app.right] = 1
    del tx
    assert [True, True] == [is_gone(reference) for reference in gone]


def test_a_value_is_freed_when_its_last_reader_has_taken_it() -> None:
    """A buffered transition is kept as long as somebody still has to read it, and no longer."""
    state = ValueWatcher[object](0)
    with state.subscribe() as first, state.subscribe() as second:
        state.value = Thing()
        gone = weakref.ref(state.value)
        state.value = 1
        state.value = 2
        for _ in range(3):
            first.get_nowait()
        assert not is_gone(gone)
        second.get_nowait()
        # It is the old value of the next one.
        assert not is_gone(gone)
        second.get_nowait()
        assert is_gone(gone)


@pytest.mark.parametrize("maxlen", [None, 5])
def test_closing_a_subscription_frees_what_it_held(maxlen: int | None) -> None:
    """A closed subscription that somebody still refers to holds nothing, later values included."""
    state = ValueWatcher[object](0)
    sub = state.subscribe(maxlen=maxlen)
    state.value = Thing()
    before = weakref.ref(state.value)
    state.value = 1
    sub.close()
    state.value = Thing()
    after = weakref.ref(state.value)
    state.value = 2
    assert (True, True) == (is_gone(before), is_gone(after))
    assert "closed" in repr(sub)


def test_a_wait_keeps_the_last_three_transitions_while_it_sleeps(loop: StepLoop) -> None:
    """What a wait has looked at before those is free as soon as the loop has run."""
    state = ValueWatcher[object](0)
    task = loop.create_task(state.wait_for("never"))
    loop.settle()
    gone = []
    for _ in range(3):
        state.value = Thing()
        gone.append(weakref.ref(state.value))
    state.value = 1
    loop.settle()
    assert [False] * 3 == [reference() is None for reference in gone]
    for value in range(2, 5):
        state.value = value
        loop.settle()
    assert [True] * 3 == [is_gone(reference) for reference in gone]
    task.cancel()


def test_a_callback_keeps_no_values() -> None:
    """Once it has been called, nothing of the call is kept."""
    state = ValueWatcher[object](0)
    with state.on_change(lambda old, new: None):
        state.value = Thing()
        gone = weakref.ref(state.value)
        state.value = 1
        state.value = 2
        assert is_gone(gone)


def test_a_closed_handle_lets_its_callback_go() -> None:
    """The registration is what keeps a callback's object; the handle's end frees it. P052."""

    class Owner:
        def changed(self, old: object, new: object) -> None:
            """Do nothing."""

    state = ValueWatcher(0)
    owner = Owner()
    gone = weakref.ref(owner)
    handle = state.on_change(owner.changed)
    state.value = 1
    del owner
    assert not is_gone(gone)
    handle.close()
    state.value = 2
    del handle
    assert is_gone(gone)


# -- queues share ----------------------------------------------------------------------------------


def test_lagging_subscriptions_share_what_they_buffer() -> None:
    """A hundred of them cost less than twice the memory of one."""
    count = 10_000

    def buffered(subscribers: int) -> int:
        state = ValueWatcher[object](None)
        with ExitStack() as stack:
            for _ in range(subscribers):
                stack.enter_context(state.subscribe())

            def fill() -> None:
                for value in range(count):
                    state.value = value

            return allocated_by(fill)

    assert buffered(100) < 2 * buffered(1)


def test_without_consumers_nothing_is_buffered() -> None:
    """However much is set, memory stays as it is."""
    state = ValueWatcher[object](None)
    app = App()

    def fill() -> None:
        for value in range(10_000):
            state.value = value
            app.left.value = value

    assert allocated_by(fill) < 10_000


def test_a_long_backlog_can_be_dropped() -> None:
    """A chain of half a million transitions goes without a recursion that ends the process."""
    state = ValueWatcher(0)
    sub = state.subscribe()
    for value in range(1, 500_001):
        state.value = value
    first = sub.get_nowait()
    assert (0, 1) == (first.old, first.new)
    sub.close()
    assert 500_000 == state.value


def test_a_long_backlog_can_be_dropped_with_its_watcher() -> None:
    """The same, if the watcher goes first and the subscription is never closed."""
    state = ValueWatcher(0)
    values = state.values()
    for value in range(1, 500_001):
        state.value = value
    gone = weakref.ref(values)
    del state, values
    assert is_gone(gone)


# -- whole objects ---------------------------------------------------------------------------------


def test_a_watcher_that_stands_alone_is_collected() -> None:
    """With its last reference it goes, with its callbacks and values."""
    state = ValueWatcher[object](Thing())
    state.on_change(lambda old, new: None)
    gone = [weakref.ref(state), weakref.ref(state.value)]
    state.value = 1
    del state
    assert [True, True] == [is_gone(reference) for reference in gone]


def test_a_store_is_collected() -> None:
    """With its last reference it goes, though it was followed, waited on and snapshot."""
    app = App()
    app.left.on_change(lambda old, new: None)
    with app.subscribe() as sub, app.subscribe(app.left) as some:
        app.left.value = 1
        app.snapshot()
        app.add("port", 8080)
        assert 2 == sub.pending
        assert 1 == some.pending
    gone = [weakref.ref(app), weakref.ref(app._core), weakref.ref(app.left)]
    del app, sub, some
    assert [True] * 3 == [is_gone(reference) for reference in gone]


async def test_a_dropped_watcher_goes_while_a_wait_on_it_is_cancelled() -> None:
    """A wait refers to its watcher; once it is cancelled, nothing does."""
    state = ValueWatcher(0)
    gone = weakref.ref(state)
    task = asyncio.create_task(state.wait_for(1))
    del state
    await asyncio.sleep(0)
    assert not is_gone(gone)
    task.cancel()
    await asyncio.wait([task])
    del task
    assert is_gone(gone)


# -- loops that end --------------------------------------------------------------------------------


def test_many_runs_leave_nothing() -> None:
    """After a hundred `asyncio.run()` with waits left open there is no mailbox or port. P031."""
    state = ValueWatcher(0)

    async def main() -> None:
        waiting = asyncio.create_task(state.wait_for(-1))
        values = state.values()
        reading = asyncio.create_task(values.__anext__())
        await reading
        reading = asyncio.create_task(values.__anext__())
        await asyncio.sleep(0)
        assert not waiting.done()
        assert not reading.done()

    for _ in range(100):
        asyncio.run(main())
    gc.collect()
    assert {} == state._core.mailboxes
    assert is_unregistered(state)


def test_a_loop_that_was_closed_with_waits_is_freed_by_the_next_commit() -> None:
    """What still waits on a dead loop goes with the next set, which it does not disturb. P031."""
    state = ValueWatcher(0)
    loop = StepLoop()
    task = loop.create_task(state.wait_for(1))
    loop.settle()
    loop.close()
    # asyncio would report that the task can never end.
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    gone = weakref.ref(loop)
    state.value = 1
    assert is_unregistered(state)
    del loop, task
    assert is_gone(gone)
    assert {} == state._core.mailboxes


FOLLOWERS: dict[str, Callable[[Pool], Any]] = {
    "commits": lambda pool: pool.subscribe(),
    "commits of some": lambda pool: pool.subscribe(pool.things["a"]),
    "mapping": lambda pool: pool.things.mapping.subscribe(),
    "count": lambda pool: pool.things.count().subscribe(),
    "callback": lambda pool: pool.things.mapping.on_change(lambda _old, _new: None),
    "snapshot": lambda pool: closing_nothing(pool.snapshot()),
    "read": lambda pool: closing_nothing(pool.things.mapping.value),
}


@contextmanager
def closing_nothing(_thing: object) -> Iterator[None]:
    """Do as if there were something to close."""
    yield


@pytest.mark.parametrize("follow", FOLLOWERS.values(), ids=FOLLOWERS.keys())
@pytest.mark.parametrize("removed", [False, True])
def test_the_last_commit_goes_with_its_last_follower(
    follow: Callable[[Pool], Any], removed: bool
) -> None:
    """What it replaced or removed is kept for nobody once it was followed by nobody."""
    pool = Pool()
    pool.things.add("a", Ref(Thing()))
    gone = weakref.ref(pool.things["a"].value.target)
    with follow(pool) as stream:
        if removed:
            del pool.things["a"]
        else:
            pool.things["a"].value = 1
    del stream
    assert is_gone(gone)


# -- members of families ---------------------------------------------------------------------------


def test_an_idle_member_is_small() -> None:
    """A member that nobody follows takes less than 400 bytes, key and name included."""
    count = 10_000
    pool = Pool()

    def fill() -> None:
        for number in range(count):
            pool.workers.add(str(number))

    assert allocated_by(fill) < (400 + POINTER) * count


def test_an_idle_member_is_as_small_after_it_was_followed() -> None:
    """What is computed of all members leaves nothing with each of them."""
    count = 1_000
    pool = Pool()
    for number in range(count):
        pool.workers.add(str(number))

    def follow() -> None:
        with (
            pool.workers.all(bool).subscribe(),
            pool.workers.mapping.subscribe(),
            pool.workers.any(bool).on_change(lambda _old, _new: None),
        ):
            for number in range(count):
                pool.workers[str(number)].value = 1
        pool.workers.count(bool).value

    follow()
    assert allocated_by(follow) < 20 * count


def test_members_that_are_gone_take_nothing() -> None:
    """After thousands of members that came and went memory is as it was."""
    count = 3_000
    pool = Pool()

    def come_and_go() -> None:
        for number in range(count):
            pool.workers.add(str(number))
        for number in range(count):
            del pool.workers[str(number)]

    # Python itself keeps some memory of freed objects for the next ones.
    assert allocated_by(come_and_go) < 30 * count


def test_a_removed_member_is_freed() -> None:
    """Nobody holds its watcher, its values or its key, once nobody uses them. P091."""
    pool = Pool()
    key = Ref(Thing())
    member = pool.things.add(key, Ref(Thing()))
    gone = [weakref.ref(thing) for thing in (member, key.target, member.value.target)]
    member.value = Ref(Thing())
    gone.append(weakref.ref(member.value.target))
    pool.snapshot()
    pool.things.mapping.value
    del pool.things[key]
    del member, key
    assert [True] * 4 == [is_gone(reference) for reference in gone]


def test_a_removed_member_is_freed_whoever_followed_it(loop: StepLoop) -> None:
    """Waits, subscriptions, callbacks and what was derived of it leave nothing behind. P091."""
    pool = Pool()
    member = pool.workers.add("a")
    member.on_change(lambda _old, _new: None)
    member.on_value(5, lambda: None)
    derived = combine(member, pool.n).map(sum)
    with (
        member.subscribe() as sub,
        member.subscribe(maxlen=1) as bounded,
        derived.subscribe() as computed,
        pool.subscribe(member, pool.n) as commits,
    ):
        reads: list[Any] = [
            *(member.wait_for(9), member.wait_until(bool), derived.wait_for(9)),
            *(anext(sub), anext(bounded), anext(computed)),
        ]
        tasks = [loop.create_task(read) for read in reads]
        loop.settle()
        del pool.workers["a"]
        loop.settle()
        assert {KeyRemovedError} == {type(task.exception()) for task in tasks}
        assert 1 == commits.pending
    gone = weakref.ref(member)
    del member, derived, sub, bounded, computed, commits, reads, tasks
    assert is_gone(gone)
    assert_no_trace(pool)
    assert {} == pool._core.mailboxes


def test_a_removed_member_is_freed_though_it_was_followed_later() -> None:
    """Who begins to follow a member that is removed already does not bring it back. P091."""
    pool = Pool()
    member = pool.workers.add("a")
    del pool.workers["a"]
    member.on_change(lambda _old, _new: None).close()
    member.map(str).on_change(lambda _old, _new: None).close()
    for maxlen in (None, 1):
        with member.subscribe(maxlen=maxlen) as sub:
            assert ([], KeyRemovedError) == drain_to_error(sub)
    with pytest.raises(KeyRemovedError):
        member.blocking.wait_for_change()
    gone = weakref.ref(member)
    del member, sub
    assert_no_trace(pool)
    assert is_gone(gone)


def test_a_snapshot_or_mapping_holds_values_and_no_watchers() -> None:
    """What was given out keeps what was there, not who can set it."""
    pool = Pool()
    member = pool.things.add("a", Ref(Thing()))
    snapshot, mapping = pool.snapshot(), pool.things.mapping.value
    gone, kept = weakref.ref(member), weakref.ref(member.value.target)
    del pool.things["a"], member
    assert (True, False) == (is_gone(gone), is_gone(kept))
    del snapshot, mapping
    assert is_gone(kept)


def test_a_family_keeps_no_old_value() -> None:
    """Values of members are freed when they are replaced, once all listeners have seen that."""
    pool = Pool()
    pool.things.add("a", 0)
    with pool.things.mapping.subscribe() as sub, pool.things.all(bool).subscribe() as condition:
        gone = []
        for _ in range(3):
            pool.things["a"].value = Ref(Thing())
            gone.append(weakref.ref(pool.things["a"].value.target))
        pool.things["a"].value = 1
        assert [4, 1] == [len(drain(sub)), len(drain(condition))]
        pool.things["a"].value = 2
        drain(sub)
        drain(condition)
        assert [True] * 3 == [is_gone(reference) for reference in gone]


class Predicate:
    """A predicate that can be referred to weakly."""

    def __call__(self, value: int) -> bool:
        return value > 0


FAMILY_DERIVED: dict[str, Callable[[Pool, Predicate], Watcher[Any]]] = {
    "all": lambda pool, predicate: pool.workers.all(predicate),
    "any": lambda pool, predicate: pool.workers.any(predicate),
    "count": lambda pool, predicate: pool.workers.count(predicate),
    "at_least": lambda pool, predicate: pool.workers.at_least(2, predicate),
    "mapping": lambda pool, predicate: pool.workers.mapping.map(predicate_of_one(predicate)),
    "a condition": lambda pool, predicate: pool.workers.all(predicate) & pool.n.is_(0),
}


def predicate_of_one(predicate: Predicate) -> Callable[[Any], bool]:
    """Give a function of the mapping that asks *predicate* for one member."""
    return lambda members: predicate(members.get("a", 0))


def listen_in_every_way(pool: Pool, derived: Watcher[Any], loop: StepLoop) -> None:
    """Read *derived*, wait for it, subscribe to it, call back, and end all that."""
    never = loop.create_task(derived.wait_for("never"))
    timed = loop.create_task(derived.wait_for("never", timeout=1))
    reader = loop.create_task(derived.values(latest=True).__anext__())
    handles = [derived.on_change(lambda _old, _new: None), derived.on_value("never", bool)]
    blocking = derived.blocking.subscribe()
    with derived.subscribe() as sub, derived.subscribe(maxlen=1) as bounded:
        loop.settle()
        pool.workers["a"].value += 1
        pool.workers.add("b", 1)
        del pool.workers["b"]
        derived.value
        loop.advance(1)
        for stream in (sub, bounded, blocking):
            drain_to_error(stream)
    never.cancel()
    loop.settle()
    assert [True, True, True] == [task.done() for task in (never, timed, reader)]
    timed.exception()
    blocking.close()
    for handle in handles:
        handle.close()


@pytest.mark.parametrize("make", FAMILY_DERIVED.values(), ids=FAMILY_DERIVED.keys())
def test_what_is_derived_of_a_family_leaves_nothing(
    loop: StepLoop, make: Callable[[Pool, Predicate], Watcher[Any]]
) -> None:
    """A derived watcher that nobody holds or follows is gone, with its predicate. P103."""
    pool = Pool()
    pool.workers.add("a", 0)
    predicate = Predicate()
    derived = make(pool, predicate)
    listen_in_every_way(pool, derived, loop)
    assert_no_trace(pool)
    gone = weakref.ref(predicate)
    del derived, predicate
    assert is_gone(gone)
    assert {} == pool._core.mailboxes


def test_many_derived_watchers_leave_nothing(loop: StepLoop) -> None:
    """Made, followed and dropped again and again, they take no memory. P103."""
    pool = Pool()
    for number in range(10):
        pool.workers.add(str(number))

    def make_and_drop() -> None:
        for number in range(300):
            derived = pool.workers.at_least(1, lambda value, number=number: value > number)
            with derived.subscribe() as sub, derived.on_change(lambda _old, _new: None):
                pool.workers["5"].value += 1
                drain(sub)

    make_and_drop()
    assert allocated_by(make_and_drop) < 30_000
    assert_no_trace(pool)


def test_a_family_that_nobody_follows_lists_nothing() -> None:
    """After its last listener sets of members leave no record of them."""
    pool = Pool()
    member = pool.workers.add("a")
    with pool.workers.mapping.subscribe():
        member.value = 1

    def fill() -> None:
        for value in range(10_000):
            member.value = value

    assert allocated_by(fill) < 10_000


def test_lagging_mappings_share_their_members() -> None:
    """Hundreds of mappings of ten thousand members take less than one of them by itself."""
    pool = Pool()
    with pool.transaction() as tx:
        for number in range(10_000):
            tx.add(pool.workers, str(number))
    with pool.workers.mapping.subscribe() as sub:

        def change() -> None:
            for number in range(300):
                pool.workers[str(number)].value = 1
            assert 300 == sub.pending

        # One of them without the others is about a million bytes.
        assert allocated_by(change) < 1_000_000


def test_loops_that_end_leave_no_follower_of_a_family() -> None:
    """After a hundred `asyncio.run()` with listeners left open a family is not followed. P031."""
    pool = Pool()
    pool.workers.add("a")

    async def main() -> None:
        waits = [
            asyncio.create_task(pool.workers.all(bool).wait()),
            asyncio.create_task(pool.workers.mapping.wait_for_change()),
        ]
        values = pool.workers.count(bool).values()
        await anext(values)
        reading = asyncio.create_task(values.__anext__())
        await asyncio.sleep(0)
        assert [False] * 3 == [task.done() for task in (*waits, reading)]

    for _ in range(100):
        asyncio.run(main())
    gc.collect()
    assert {} == pool._core.mailboxes
    assert_no_trace(pool)


def test_a_store_with_families_is_collected() -> None:
    """With its last reference it goes, whatever was derived of it and followed."""
    pool = Pool()
    member = pool.workers.add("a")
    pool.workers.all(bool).on_change(lambda _old, _new: None)
    pool.workers.mapping.on_change(lambda _old, _new: None)
    member.map(str).on_change(lambda _old, _new: None)
    with pool.workers.mapping.subscribe() as sub, pool.subscribe() as commits:
        member.value = 1
        pool.workers.count(bool).value
        assert [1, 1] == [sub.pending, commits.pending]
    gone = [weakref.ref(thing) for thing in (pool, pool._core, member)]
    del pool, member, sub, commits
    assert [True] * 3 == [is_gone(reference) for reference in gone]
