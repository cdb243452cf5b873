"""What is kept, and for how long: nothing without consumers, nothing after them, nothing twice."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from statestore import Key, Ref, Store, StoreClosedError, ValueWatcher, WaitTimeoutError
from support.loop import StepLoop


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


def test_a_wait_keeps_no_values_while_it_sleeps(loop: StepLoop) -> None:
    """What a wait has looked at is free as soon as the loop has run."""
    state = ValueWatcher[object](0)
    task = loop.create_task(state.wait_for("never"))
    loop.settle()
    gone = []
    for _ in range(3):
        state.value = Thing()
        gone.append(weakref.ref(state.value))
    state.value = 1
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
