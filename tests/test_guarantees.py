"""
The numbered promises of the library, each as the program that relies on it.

What is tested here once and plainly is tested elsewhere in every corner.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest
from attrs import frozen

from statestore import (
    CallbackFailure,
    Commit,
    Key,
    LaggedError,
    MutableValueError,
    Store,
    StoreClosedError,
    Transaction,
    Transition,
    ValueWatcher,
    WaitTimeoutError,
)
from statestore.testing import StepLoop, assert_no_trace

PATIENCE: Final = 20.0
"""Seconds after which a thread counts as stuck."""


@frozen
class Server:
    """Something immutable, unless its tags are not."""

    name: str
    tags: Any = ()


class App(Store):
    """The state of a program."""

    conn = Key("down")
    left = Key(0)
    right = Key(0)
    server = Key[Server | None](None)


@pytest.fixture
def app() -> Iterator[App]:
    """Give a store on which nobody may be left registered."""
    with App() as store:
        yield store
    assert_no_trace(store)


@pytest.fixture
def loop() -> Iterator[StepLoop]:
    """Give an event loop with a clock of its own, which moves when it is told to."""
    with StepLoop() as step_loop:
        yield step_loop


def in_threads(*acts: Callable[[], object]) -> list[Any]:
    """Run *acts* at once, each in a thread; give what they return."""
    start = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> object:
        start.wait(PATIENCE)
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return [future.result(PATIENCE) for future in [pool.submit(run, act) for act in acts]]


def drained(sub: Any) -> list[Any]:
    """Give what a subscription holds."""
    return [sub.get_nowait() for _ in range(sub.pending)]


def counts(watcher: ValueWatcher[int], times: int) -> Callable[[], None]:
    """Give a function that counts a watcher up."""

    def count() -> None:
        for _ in range(times):
            watcher.update(lambda now: now + 1)

    return count


# -- P1 Complete -----------------------------------------------------------------------------------


def test_p1_complete_in_order_from_many_threads(app: App) -> None:
    """Whatever threads set, each consumer is given every transition, once, in one order (P026)."""
    told: list[int] = []
    with (
        app.left.subscribe() as sub,
        app.left.subscribe(maxlen=10_000) as bounded,
        app.left.on_change(lambda _old, new: told.append(new)),
    ):
        in_threads(*[counts(app.left, 200)] * 4)
        transitions = drained(sub)

        assert drained(bounded) == transitions
    assert [(n, n + 1) for n in range(800)] == [(t.old, t.new) for t in transitions]
    assert list(range(1, 801)) == [t.revision for t in transitions]
    assert list(range(1, 801)) == told


async def test_p1_complete_for_a_task_while_threads_set(app: App) -> None:
    """A task that iterates while other threads set misses nothing and sees nothing twice."""
    seen: list[int] = []

    async def follow() -> None:
        with app.left.subscribe() as sub:
            ready.set()
            async for transition in sub:
                seen.append(transition.new)
                if transition.new == 400:
                    break

    ready = asyncio.Event()
    task = asyncio.create_task(follow())
    await ready.wait()
    await asyncio.to_thread(in_threads, *[counts(app.left, 100)] * 4)
    await task

    assert list(range(1, 401)) == seen


# -- P2 No gap at the start ------------------------------------------------------------------------


@pytest.mark.parametrize("steps_before", range(5))
def test_p2_no_gap_at_the_start(app: App, loop: StepLoop, steps_before: int) -> None:
    """A match is found whether it came just before, while or after the wait began."""
    task = loop.create_task(app.conn.wait_for("up"))
    loop.steps(steps_before)
    app.conn.value = "up"
    loop.settle()

    assert "up" == task.result()


def test_p2_no_gap_at_the_start_of_a_blocking_wait(app: App) -> None:
    """The same in a thread, as often as it is tried."""
    for n in range(100):
        found, _ = in_threads(
            lambda n=n: app.left.blocking.wait_for(n + 1, timeout=PATIENCE),
            lambda n=n: app.left.set(n + 1),
        )
        assert n + 1 == found


# -- P3 No gap between waits -----------------------------------------------------------------------


async def test_p3_no_gap_between_waits_of_a_subscription(app: App) -> None:
    """What happens between two waits of one subscription is in its queue (P016)."""
    with app.conn.subscribe() as sub:
        for value in ("connecting", "up", "closing", "down"):
            app.conn.value = value

        assert "up" == await sub.wait_for("up")
        assert "closing" == (await anext(sub)).new
        assert "down" == await sub.wait_for("down")


async def test_p3_two_plain_waits_may_miss_what_is_between(app: App) -> None:
    """What is not promised: the second wait begins when it begins."""
    app.conn.value = "up"
    await app.conn.wait_for("up")
    app.conn.value = "closing"
    app.conn.value = "down"
    with pytest.raises(WaitTimeoutError):
        await app.conn.wait_for("closing", timeout=0)


def test_p3_every_visit_has_its_turn(app: App, loop: StepLoop) -> None:
    """Work is begun for every visit of a state, those of one tick too, in order."""
    seen: list[str] = []

    async def note(visit: Transition[str]) -> None:
        seen.append(visit.new)
        await asyncio.sleep(0)

    works = dict.fromkeys(("up", "closing"), note)
    task = loop.create_task(app.conn.supervise(works, until="closed"))
    loop.settle()
    for state in ("up", "closing", "up", "closed"):
        app.conn.value = state
    loop.settle()

    assert task.done()
    assert ["up", "closing", "up"] == seen


# -- P4 One order, whole commits -------------------------------------------------------------------


def test_p4_one_order_of_all_keys(app: App) -> None:
    """The revisions of a store number the commits of all its keys."""
    assert [1, 2, 3] == [
        app.left.set(1).revision,
        app.right.set(1).revision,
        app.left.set(2).revision,
    ]  # type: ignore[union-attr]
    assert [2, 3] == [app.right.revision, app.left.revision]
    assert 3 == app.revision


def test_p4_whole_commits_while_threads_write(app: App) -> None:
    """Nobody sees half of a transaction: no snapshot, no transaction, no subscription (P087)."""
    is_over = threading.Event()

    def move() -> None:
        for _ in range(200):
            app.transact(one_up)
        is_over.set()

    def one_up(tx: Any) -> None:
        tx[app.left], tx[app.right] = tx[app.left] + 1, tx[app.right] - 1

    def check() -> None:
        while not is_over.is_set():
            now = app.snapshot()
            assert 0 == now.left + now.right
            assert 0 == app.transact(lambda tx: tx[app.left] + tx[app.right])

    with app.subscribe(app.left, app.right) as sub:
        in_threads(move, check)
        commits: list[Commit] = drained(sub)

    assert 200 == len(commits)
    assert [["left", "right"]] * 200 == [[t.key for t in c.transitions] for c in commits]
    assert all(0 == sum(t.new for t in commit.transitions) for commit in commits)


# -- P5 User code never runs under the lock --------------------------------------------------------


def test_p5_user_code_holds_nothing(app: App, loop: StepLoop) -> None:
    """While a predicate or a callback runs, another thread reads, sets and registers."""

    def use_elsewhere(*_args: object) -> bool:
        in_threads(
            lambda: app.right.update(lambda now: now + 1), lambda: app.left.subscribe().close()
        )
        return True

    task = loop.create_task(app.left.wait_until(use_elsewhere, immediate=False))
    loop.settle()
    with app.left.on_change(use_elsewhere):
        app.left.value = 1
    loop.settle()
    assert app.left.set_if(2, use_elsewhere)

    assert 1 == task.result()
    assert 3 == app.right.value


# -- P6 A setter never waits and is not broken -----------------------------------------------------


def test_p6_a_setter_is_not_broken_by_a_consumer(loop: StepLoop) -> None:
    """An error of user code hurts its own consumer: the wait raises it, `on_error` is told."""
    failures: list[CallbackFailure] = []

    def fail(*_args: object) -> bool:
        raise ZeroDivisionError

    with App(on_error=failures.append) as app, app.left.on_change(fail):
        bad = loop.create_task(app.left.wait_until(fail, immediate=False))
        good = loop.create_task(app.left.wait_for(1))
        loop.settle()
        app.left.value = 1
        loop.settle()

        assert isinstance(bad.exception(), ZeroDivisionError)
        assert 1 == good.result()
    assert [("left", 1, fail)] == [(f.key, f.revision, f.callback) for f in failures]
    assert isinstance(failures[0].error, ZeroDivisionError)


def test_p6_an_interrupt_in_a_callback_comes_out_after_all_were_told(app: App) -> None:
    """KeyboardInterrupt is for the whole program: it propagates, when the others were told."""
    told: list[int] = []

    def interrupt(_old: int, _new: int) -> None:
        raise KeyboardInterrupt

    with (
        app.left.on_change(interrupt),
        app.left.on_change(lambda _old, new: told.append(new)),
        pytest.raises(KeyboardInterrupt),
    ):
        app.left.value = 1

    assert [1] == told
    assert 1 == app.left.value


def test_p6_a_setter_never_waits_for_a_consumer(app: App) -> None:
    """Nobody reads, nobody runs: setting goes on."""
    loop = StepLoop()
    task = loop.create_task(app.left.wait_for(1_000))
    loop.settle()
    with app.left.subscribe(maxlen=1), app.left.subscribe():
        for n in range(1_000):
            app.left.value = n + 1
    # One wake-up for all of them, on a loop that has not run since.
    assert 1 == len(loop.ready())
    loop.settle()
    loop.close()

    assert 1_000 == task.result()


# -- P7 Callbacks are orderly ----------------------------------------------------------------------


def test_p7_callbacks_are_orderly(app: App) -> None:
    """A set made in a callback commits at once; its callbacks run after this round (P043)."""
    told: list[str] = []

    def first(_old: int, new: int) -> None:
        told.append(f"first begins {new}")
        if new == 1:
            app.left.value = 2
            assert 2 == app.left.value
        told.append(f"first ends {new}")

    with (
        app.left.on_change(first),
        app.left.on_change(lambda _old, new: told.append(f"then {new}")),
    ):
        app.left.value = 1

    assert [
        *("first begins 1", "first ends 1", "then 1"),
        *("first begins 2", "first ends 2", "then 2"),
    ] == told


def test_p7_callbacks_are_orderly_across_threads(app: App) -> None:
    """One at a time, in revision order, whatever threads set."""
    running = threading.Lock()
    told: list[int] = []

    def callback(_old: int, new: int) -> None:
        assert running.acquire(blocking=False)
        told.append(new)
        running.release()

    with app.left.on_change(callback):
        in_threads(*[counts(app.left, 100)] * 4)

    assert list(range(1, 401)) == told


# -- P8 Waits leave no trace -----------------------------------------------------------------------


@pytest.mark.parametrize("end", ["match", "time", "cancel", "close", "error"])
def test_p8_waits_leave_no_trace(loop: StepLoop, end: str) -> None:
    """However a wait ends, no registration, task or timer is left."""
    app = App()
    task = loop.create_task(app.left.wait_until(lambda now: 1 / (5 - now) < 0, timeout=9))
    loop.settle()
    assert 1 == len(loop.timers())
    if end == "match":
        app.left.value = 6
    elif end == "time":
        loop.advance(9)
    elif end == "cancel":
        task.cancel()
    elif end == "close":
        app.close()
    else:
        app.left.value = 5
    loop.settle()

    assert task.done()
    assert (end == "cancel") is task.cancelled()
    if end != "cancel":
        errors = {"time": WaitTimeoutError, "close": StoreClosedError, "error": ZeroDivisionError}
        assert errors.get(end, type(None)) is type(task.exception())
    assert [] == loop.ready()
    assert [] == loop.timers()
    assert_no_trace(app)


def test_p8_cancelled_means_it_did_not_happen(app: App, loop: StepLoop) -> None:
    """A cancellation in the tick of the match wins, and takes nothing (P001)."""
    with app.left.subscribe() as sub:
        task = loop.create_task(anext(sub))
        wait = loop.create_task(app.left.wait_for(1))
        loop.settle()
        app.left.value = 1
        assert task.cancel()
        assert wait.cancel()
        loop.settle()

        assert task.cancelled()
        assert wait.cancelled()
        assert 1 == sub.get_nowait().new


def test_p8_a_commit_before_the_deadline_is_never_lost(app: App, loop: StepLoop) -> None:
    """The loop comes too late for both the match and the deadline: the match counts (P004)."""
    task = loop.create_task(app.left.wait_for(1, timeout=5))
    loop.settle()
    app.left.value = 1
    app.left.value = 2
    loop.fall_behind(10)
    loop.settle()

    assert 1 == task.result()


def test_p8_what_held_for_a_while_was_not_broken(app: App, loop: StepLoop) -> None:
    """A break that was over before the loop saw it starts the time anew."""
    task = loop.create_task(app.conn.wait_for("down", held_for=2))
    loop.settle()
    loop.fall_behind(1)
    app.conn.value = "up"
    app.conn.value = "down"
    loop.advance(1)
    assert not task.done()
    loop.advance(1)

    assert "down" == task.result()


def test_p8_work_bound_to_a_state_holds_back_no_cancellation(app: App, loop: StepLoop) -> None:
    """Who cancels a task in the moment in which the state ends is obeyed."""

    async def main() -> None:
        async with app.conn.during("down"):
            await app.left.wait_for(1)

    task = loop.create_task(main())
    loop.settle()
    app.conn.value = "up"
    loop.step()
    assert task.cancel()
    loop.settle()

    assert task.cancelled()


# -- P9 Bounded memory, honest loss ----------------------------------------------------------------


class Big:
    """A value that one can see go."""


def test_p9_without_consumers_nothing_is_kept() -> None:
    """An old value goes as soon as there is a new one."""
    watcher = ValueWatcher[object](Big())
    gone = weakref.ref(watcher.value)
    watcher.value = None
    gc.collect()

    assert gone() is None


def test_p9_a_transition_is_kept_until_the_last_has_read_it() -> None:
    """All subscriptions share one record, which goes with the last that needs it."""
    watcher = ValueWatcher[object](None)
    with watcher.subscribe() as one, watcher.subscribe() as other:
        watcher.value = Big()
        kept = weakref.ref(watcher.value)
        watcher.value = None
        assert one.get_nowait().new is other.get_nowait().new
        assert kept() is not None
        one.get_nowait()
        other.get_nowait()
        gc.collect()

        assert kept() is None


def test_p9_loss_is_told_once_at_its_place(app: App) -> None:
    """How many, which revisions, and what to go on from; then the oldest that was kept (P094)."""
    with (
        app.left.subscribe(maxlen=2) as sub,
        app.left.subscribe(maxlen=2, overflow="latest") as last,
    ):
        for n in range(1, 6):
            app.left.value = n
        with pytest.raises(LaggedError) as caught:
            sub.get_nowait()
        lag = caught.value

        assert (3, 1, 3) == (lag.missed, lag.first_revision, lag.last_revision)
        assert 5 == lag.value
        assert [(3, 4), (4, 5)] == [(t.old, t.new) for t in drained(sub)]
        assert [(0, 1, 0), (1, 5, 3)] == [(t.old, t.new, t.missed) for t in drained(last)]


@pytest.mark.filterwarnings("ignore:.*was never closed:ResourceWarning")
def test_p9_a_subscription_that_is_collected_is_dropped(app: App) -> None:
    """Nobody holds it: neither does the store."""
    gone = [weakref.ref(app.left.subscribe(maxlen=5)), weakref.ref(app.subscribe())]
    app.left.value = 1
    gc.collect()

    assert [None, None] == [reference() for reference in gone]


# -- P10 Immutable values --------------------------------------------------------------------------


def test_p10_immutable_values_at_any_depth(app: App) -> None:
    """The error names the path to what can be changed, and the fix; nothing is set (P072)."""
    with pytest.raises(MutableValueError, match=r"server\.tags\[1\].*list") as caught:
        app.server.value = Server("one", tags=("a", ["b"]))

    assert "server.tags[1]" == caught.value.path
    assert "tuple" in str(caught.value)
    assert 0 == app.revision


# -- P11 Equal means unchanged ---------------------------------------------------------------------


def test_p11_equal_means_unchanged(app: App) -> None:
    """An equal value of the same type makes no transition, and the old object stays (P063)."""
    first = Server("one")
    app.server.value = first

    assert app.server.set(Server("one")) is None
    assert first is app.server.value
    assert app.left.set(0) is None
    assert app.left.set(False) is not None
    assert 2 == app.revision


async def test_p11_waiting_uses_plain_equality(app: App) -> None:
    """What is waited for need not be of the type of the value."""
    app.left.value = True

    assert await app.left.wait_for(1.0) is True


# -- P12 Safe anywhere -----------------------------------------------------------------------------


def test_p12_safe_in_threads(app: App) -> None:
    """Every update counts, whichever way it is made (P090)."""

    def compare_and_set() -> None:
        for _ in range(100):
            while not app.left.compare_and_set(now := app.left.value, now + 1):
                pass

    def transact() -> None:
        for _ in range(100):
            app.transact(lambda tx: tx.__setitem__(app.left, tx[app.left] + 1))

    in_threads(counts(app.left, 100), compare_and_set, transact)

    assert 300 == app.left.value
    assert 300 == app.revision


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends a signal")
def test_p12_safe_in_a_signal_handler(app: App, untraced: None) -> None:
    """A handler that interrupts commits of its own thread reads its own writes (P106)."""
    done: list[bool] = []

    def handler(_number: int, _frame: object) -> None:
        made = app.right.update(lambda now: now + 1)
        # A later signal may have come in between already.
        done.append(made is not None and made.new <= app.right.value)
        if len(done) >= 50:
            signal.setitimer(signal.ITIMER_REAL, 0)

    previous = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        while len(done) < 50:
            app.left.update(lambda now: now + 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)

    assert all(done)
    assert app.revision == app.left.value + app.right.value
    assert len(done) == app.right.value


def test_p12_safe_in_a_finalizer(app: App) -> None:
    """A finalizer that runs in the middle of an update sets as well, and both count (P107)."""

    class Last:
        """Something that says goodbye."""

        def __del__(self) -> None:
            app.left.update(lambda now: now + 10)

    things = [Last()]

    def one_more(now: int) -> int:
        things.clear()
        return now + 1

    app.left.update(one_more)

    assert 11 == app.left.value
    assert 2 == app.revision


# -- P13 A clear end -------------------------------------------------------------------------------


def test_p13_a_clear_end(loop: StepLoop) -> None:
    """Waits end with an error, subscriptions after what they hold, sets are refused (P092)."""
    app = App()
    found = loop.create_task(app.left.wait_for(1))
    lost = loop.create_task(app.left.wait_for(9))
    loop.settle()
    with app.left.subscribe() as sub:
        app.left.value = 1
        app.close()
        app.close()
        loop.settle()

        assert 1 == found.result()
        assert isinstance(lost.exception(), StoreClosedError)
        assert Transition(key="left", old=0, new=1, revision=1) == sub.get_nowait()
        with pytest.raises(StoreClosedError):
            sub.get_nowait()
    with pytest.raises(StoreClosedError):
        app.left.value = 2
    assert 1 == app.left.value
    assert_no_trace(app)


def test_p13_a_clear_end_for_blocked_threads() -> None:
    """A thread that is blocked is let go by the end, with the error."""
    app = App()

    def wait() -> type[BaseException]:
        with pytest.raises(StoreClosedError) as caught:
            app.left.blocking.wait_for(9, timeout=PATIENCE)
        return type(caught.value)

    assert [StoreClosedError, StoreClosedError, None] == in_threads(wait, wait, app.close)
    assert_no_trace(app)


def test_p13_a_dead_loop_costs_nothing(app: App) -> None:
    """A loop that was closed with waits and subscriptions on it is forgotten (P031)."""
    for _ in range(20):
        loop = StepLoop()
        loop.create_task(app.left.wait_for(-1))
        loop.settle()
        loop.close()
        # The task is dropped as asyncio drops those of a loop that is gone.
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        app.left.update(lambda now: now + 1)
    del loop, task
    gc.collect()

    assert_no_trace(app)


# -- P14 Explains itself ---------------------------------------------------------------------------


def test_p14_a_timeout_explains_itself(app: App, loop: StepLoop) -> None:
    """The error says what was waited for, and what the value is since when."""
    app.conn.value = "connecting"
    with pytest.raises(WaitTimeoutError) as caught:
        loop.run(app.conn.wait_for("up", timeout=1.5))

    expected = "waited 1.5 s in vain for conn to be 'up'; it is 'connecting' since revision 1"
    assert expected == str(caught.value)
    error = caught.value
    assert ("conn", "connecting", 1, 1.5) == (error.key, error.value, error.revision, error.timeout)


# -- P15 One winner --------------------------------------------------------------------------------


def test_p15_one_winner(app: App, loop: StepLoop) -> None:
    """Of those who claim exactly one gets each state, in the order in which they came."""
    served: list[str] = []

    async def take(name: str) -> None:
        await app.left.claim(lambda now: now > 0, lambda now: now - 1)
        served.append(name)

    tasks = [loop.create_task(take(name)) for name in ("first", "cancelled", "second", "third")]
    loop.settle()
    tasks[1].cancel()
    app.left.value = 2
    loop.settle()

    assert ["first", "second"] == served
    assert (0, 3) == (app.left.value, app.revision)
    tasks[3].cancel()


def test_p15_several_keys_change_with_their_condition() -> None:
    """A thread and a store claim: both keys change in the commit in which the condition holds."""
    app = App()

    def move(tx: Transaction) -> None:
        tx[App.left] -= 1
        tx[App.right] += 1

    def claim() -> None:
        app.blocking.claim(app.left.matches(lambda now: now > 0), move, timeout=PATIENCE)

    in_threads(claim, claim, counts(app.left, 1), counts(app.left, 1))

    assert (0, 2) == (app.left.value, app.right.value)
    assert_no_trace(app)
