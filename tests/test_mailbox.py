"""Event loops as they really are: other threads, closed and broken loops, signals."""

from __future__ import annotations

import asyncio
import functools
import gc
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from selectors import DefaultSelector
from typing import Any, Final, NamedTuple, TypeVar

import pytest
import structlog.testing

from statestore import (
    Key,
    Store,
    StoreClosedError,
    SubscriptionError,
    ValueWatcher,
    WaitTimeoutError,
)
from statestore._mailbox import LoopPort
from statestore.testing import BrokenLoop, StepLoop, assert_no_trace, in_thread, traces_of

T = TypeVar("T")

PATIENCE: Final = 20.0
"""Seconds after which a test that hangs fails instead. No test waits for it to pass."""


class Mode(NamedTuple):
    """A kind of loop, of tasks, and whether asyncio looks for mistakes."""

    is_uvloop: bool = False
    is_eager: bool = False
    debug: bool = False

    def __str__(self) -> str:
        kinds = ["uvloop" if self.is_uvloop else "asyncio"]
        kinds += ["eager"] * self.is_eager + ["debug"] * self.debug
        return "-".join(kinds)

    def make(self) -> asyncio.AbstractEventLoop:
        """Make the loop, or skip the test, saying why."""
        if self.is_eager and sys.version_info < (3, 12):
            pytest.skip("eager tasks came with Python 3.12")
        if self.is_uvloop and self.is_eager:
            pytest.skip("uvloop has no eager tasks on every Python")
        if self.is_uvloop:
            loop = pytest.importorskip("uvloop").new_event_loop()
        else:
            loop = asyncio.new_event_loop()
        loop.set_debug(self.debug)
        if self.is_eager:
            loop.set_task_factory(asyncio.eager_task_factory)
        assert isinstance(loop, asyncio.AbstractEventLoop)
        return loop

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run *main* as `asyncio.run()` does."""
        try:
            with asyncio.Runner(loop_factory=self.make) as runner:
                return runner.run(asyncio.wait_for(main, PATIENCE))
        finally:
            main.close()


MODES: Final = [
    Mode(is_uvloop, is_eager, debug)
    for is_uvloop in (False, True)
    for is_eager in (False, True)
    for debug in (False, True)
]
each_mode = pytest.mark.parametrize("mode", MODES, ids=str)


class App(Store):
    """A store with two keys."""

    state = Key("start")
    count = Key(0)


class CountingLoop(StepLoop):
    """A loop that counts how often it is woken, and from where."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        """Note what is not asyncio's own."""
        if "LoopMailbox" in repr(callback):
            self.calls.append("soon")
        return super().call_soon(callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """Note that, too."""
        self.calls.append("threadsafe")
        return super().call_soon_threadsafe(callback, *args, context=context)


# One wake-up for each batch


def test_a_batch_of_commits_wakes_a_loop_once() -> None:
    """However many keys, commits and waits: one call from outside, until the loop looks (P032)."""
    app = App()
    with CountingLoop() as loop:
        for _ in range(10):
            loop.create_task(app.state.wait_for("never"))
            loop.create_task(app.count.wait_until(lambda value: value < 0))
        loop.settle()
        for number in range(100):
            app.count.value = number + 1
            app.state.value = str(number)

        assert ["threadsafe"] == loop.calls
        assert 1 == len(loop.ready())

        loop.settle()
        app.count.value = -1

        assert ["threadsafe"] * 2 == loop.calls


def test_a_set_in_a_task_wakes_its_loop_cheaply() -> None:
    """In a task of the loop itself one `call_soon()` does for the whole batch (P032, P034)."""
    app = App()

    async def main() -> None:
        for number in range(100):
            app.count.value = number + 1
        assert 100 == app.count.value

    with CountingLoop() as loop:
        task = loop.create_task(app.count.wait_for(50))
        loop.settle()
        loop.run(main())
        loop.settle()

        assert ["soon"] == loop.calls
        assert 50 == task.result()


def test_a_set_in_a_plain_callback_goes_the_safe_way() -> None:
    """Outside tasks the loop may be about to sleep, so it is woken as from another thread."""
    app = App()
    with CountingLoop() as loop:
        task = loop.create_task(app.state.wait_for("goal"))
        loop.settle()
        loop.call_soon(app.state.set, "goal")
        loop.settle()

        assert "threadsafe" in loop.calls
        assert "goal" == task.result()


def test_who_does_not_care_is_not_woken() -> None:
    """A set of a key wakes no loop that only waits on another one."""
    app = App()
    with CountingLoop() as loop:
        loop.create_task(app.state.wait_for("goal"))
        loop.settle()
        app.count.value = 1

        assert [] == loop.calls


def test_a_stopped_loop_gathers_one_handle() -> None:
    """A loop that does not run has one call pending, whatever the number of commits (P030)."""
    app = App()
    with CountingLoop() as loop:
        task = loop.create_task(app.count.wait_for(999))
        stream = app.count.subscribe()
        reader = loop.create_task(anext(stream))
        loop.settle()
        for number in range(1_000):
            app.count.value = number + 1

        assert 1 == len(loop.ready())

        loop.settle()

        assert 999 == task.result()
        assert 1 == reader.result().new
        stream.close()
    assert_no_trace(app)


def test_a_commit_during_a_drain_is_seen() -> None:
    """Whatever is committed while the loop looks is looked at, without another commit (P027)."""
    app = App()

    def predicate(value: int) -> bool:
        if value == 1:
            # From another thread, in the middle of the drain.
            in_thread(lambda: app.state.set("one"))
            in_thread(lambda: app.count.set(2))
        return value == 2

    with StepLoop() as loop:
        state = loop.create_task(app.state.wait_for("one"))
        count = loop.create_task(app.count.wait_until(predicate))
        loop.settle()
        app.count.value = 1
        loop.settle()

        assert "one" == state.result()
        assert 2 == count.result()


class SettingLoop(StepLoop):
    """A loop on which something happens whenever a future is made: between looking and parking."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self._act = act

    def create_future(self) -> asyncio.Future[Any]:
        """Make it, and let another thread act."""
        in_thread(self._act)
        return super().create_future()


def test_a_commit_between_looking_and_parking_is_seen() -> None:
    """A setter that found no port yet is found by the wait that then arms it (P027)."""
    app = App()
    with SettingLoop(lambda: app.state.set("goal")) as loop:
        task = loop.create_task(app.state.wait_for("goal"))
        loop.settle()

        assert "goal" == task.result()


class ActingDict(dict[Any, Any]):
    """A dict in which something happens when anything is taken out."""

    act: Callable[[], object] | None = None

    def pop(self, *args: Any) -> Any:
        """Take it out, and let another thread act once."""
        act, self.act = self.act, None
        found = super().pop(*args)
        if act is not None:
            in_thread(act)
        return found


@pytest.mark.parametrize("event", ["set", "close"])
def test_what_comes_between_looking_and_arming_is_seen(event: str) -> None:
    """A commit or the end, when all was shown and the port is not armed yet, is seen (P027)."""
    app = App()
    app._core.listen(app.state).ports = ports = ActingDict()
    with StepLoop() as loop:
        task = loop.create_task(app.state.wait_for("goal"))
        loop.settle()
        app.state.value = "other"
        ports.act = app.close if event == "close" else lambda: app.state.set("goal")
        loop.settle()

        assert ports.act is None
        assert task.done()
        assert isinstance(task.exception(), StoreClosedError if event == "close" else type(None))


def test_a_wait_is_asked_once_about_each_value() -> None:
    """P061: a wait that begins while older transitions wait for the loop is not told of them."""
    app = App()
    asked: list[str] = []

    def is_goal(value: str) -> bool:
        asked.append(value)
        return value == "goal"

    with StepLoop() as loop:
        early = loop.create_task(app.state.wait_for("never"))
        loop.settle()
        late = loop.create_task(app.state.wait_until(is_goal))
        change = loop.create_task(app.state.wait_for_change())
        # The loop is woken for the early one, but the late ones run first, and look themselves.
        app.state.value = "away"
        loop.settle()
        assert ["away"] == asked
        assert not change.done()
        app.state.value = "goal"
        loop.settle()

        assert ["away", "goal"] == asked
        assert ("goal", "goal") == (late.result(), change.result())
        assert not early.done()


def test_waits_of_all_kinds_end_in_the_order_of_their_registration() -> None:
    """P099: those found by hash do not overtake those that are asked one by one."""
    app = App()
    ended: list[int] = []

    async def wait(number: int, waiting: Awaitable[str]) -> None:
        await waiting
        ended.append(number)

    with StepLoop() as loop:
        waits: list[Awaitable[str]] = [
            app.state.wait_until(lambda value: value == "goal"),
            app.state.wait_for("goal"),
            app.state.wait_for_change(),
            app.state.wait_for("goal"),
            app.state.wait_for_not("start"),
        ]
        for number, waiting in enumerate(waits):
            loop.create_task(wait(number, waiting))
        loop.settle()
        app.state.value = "goal"
        loop.settle()

        assert [0, 1, 2, 3, 4] == ended


# Loops that are closed, broken or gone


def test_a_closed_loop_costs_the_setter_nothing() -> None:
    """A set goes on as if the loop had never been; what waited there is dropped (P028, P031)."""
    app = App()
    loop = StepLoop()
    task = loop.create_task(app.state.wait_for("goal"))
    loop.settle()
    loop.close()
    gone = weakref.ref(loop)

    assert [] != traces_of(app)

    app.state.value = "other"
    app.state.value = "goal"

    assert [] == list(app._core.listeners[app.state].ports)

    task._log_destroy_pending = False
    del loop, task
    gc.collect()

    assert gone() is None
    assert_no_trace(app)


@pytest.mark.parametrize("how", ["subscription", "values", "commits"])
def test_a_reader_on_a_closed_loop_is_dropped(how: str) -> None:
    """A subscription that is being read there costs nothing; closing it raises nothing (P031)."""
    app = App()
    loop = StepLoop()
    streams = {"subscription": app.state.subscribe, "values": app.state.values}
    stream: Any = streams.get(how, app.subscribe)()
    if how == "values":
        stream.get_nowait()
    task = loop.create_task(anext(stream))
    loop.settle()
    loop.close()
    app.state.value = "other"
    stream.close()
    task._log_destroy_pending = False
    del loop, task, stream
    gc.collect()

    assert_no_trace(app)


class ClosingLoop(StepLoop):
    """A loop that is closed by somebody else in the last moment."""

    def is_closed(self) -> bool:
        """Say that it is open."""
        return False

    def call_soon_threadsafe(
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """Fail as a closed loop does."""
        raise RuntimeError("Event loop is closed")


def test_a_loop_that_closes_in_the_last_moment_hurts_nobody() -> None:
    """Between looking and calling it closes: neither setters nor closers see it (P029)."""
    app = App()
    with structlog.testing.capture_logs() as logs, ClosingLoop() as loop:
        wait = loop.create_task(app.state.wait_for("goal", timeout=5))
        stream = app.state.subscribe()
        reader = loop.create_task(anext(stream))
        loop.settle()
        app.state.value = "goal"
        stream.close()
        app.close()
        loop.advance(5)

        assert "goal" == wait.result()
        reader.cancel()
        loop.settle()
        asyncio.BaseEventLoop.close(loop)
        loop.__class__ = StepLoop
    assert [] == logs


def test_a_broken_loop_is_told_of_once() -> None:
    """Any other error of a loop is logged once for its waits, never thrown (P040)."""
    app = App()
    with structlog.testing.capture_logs() as logs, BrokenLoop(ZeroDivisionError) as loop:
        task = loop.create_task(app.state.wait_for("goal", timeout=5))
        loop.settle()
        for number in range(10):
            app.state.value = str(number)

        assert ["statestore.loop_failed"] == [log["event"] for log in logs]
        assert isinstance(logs[0]["exc_info"], ZeroDivisionError)
        assert "BrokenLoop" in logs[0]["loop"]

        loop.advance(5)

        assert isinstance(task.exception(), WaitTimeoutError)
        assert {} == app._core.listeners[app.state].ports


def test_a_deadline_on_a_broken_loop_finds_what_came_before() -> None:
    """Its timers still look: at what came since each wait began, and at nothing older (P040)."""
    app = App()
    with structlog.testing.capture_logs(), BrokenLoop(ZeroDivisionError) as loop:
        early = loop.create_task(app.state.wait_for("goal", timeout=5))
        loop.settle()
        app.state.value = "goal"
        app.state.value = "away"
        late = loop.create_task(app.state.wait_for("goal", immediate=False, timeout=1))
        loop.advance(5)

        assert "goal" == early.result()
        assert isinstance(late.exception(), WaitTimeoutError)


def test_a_broken_loop_hurts_no_other() -> None:
    """Waits on other loops, and callbacks, are served although one loop is broken (P040)."""
    app = App()
    seen: list[str] = []
    with (
        structlog.testing.capture_logs(),
        BrokenLoop(ZeroDivisionError) as broken,
        StepLoop() as loop,
    ):
        broken.create_task(app.state.wait_for("goal"))
        broken.settle()
        task = loop.create_task(app.state.wait_for("goal"))
        loop.settle()
        with app.state.on_change(lambda old, new: seen.append(new)):
            app.state.value = "goal"
        loop.settle()

        assert "goal" == task.result()
        assert ["goal"] == seen


def test_a_loop_that_refused_once_is_asked_again() -> None:
    """What a loop did not take is not thought to be on its way: the next call brings both."""
    app = App()

    class Refusing(StepLoop):
        left = 1

        def call_soon_threadsafe(
            self, callback: Any, *args: Any, context: Any = None
        ) -> asyncio.Handle:
            if self.left:
                self.left -= 1
                raise RuntimeError
            return super().call_soon_threadsafe(callback, *args, context=context)

    with Refusing() as loop:
        first = loop.create_task(app.state.wait_for("goal"))
        loop.settle()
        app.state.value = "goal"
        loop.settle()
        second = loop.create_task(app.state.wait_for("away"))
        loop.settle()
        app.state.value = "away"
        loop.settle()

        assert "goal" == first.result()
        assert "away" == second.result()


AT_EXIT: Final = """
import asyncio, threading
from statestore import Store, Key

class App(Store):
    count = Key(0)

app = App()
loop = asyncio.new_event_loop()
task = loop.create_task(app.count.wait_for(-1))
task._log_destroy_pending = False
loop.call_soon(loop.stop)
loop.run_forever()
started = threading.Event()

def run(app=app):
    while True:
        app.count.update(lambda value: value + 1)
        started.set()

class Late:
    def __init__(self):
        self.watcher = app.count
    def __del__(self):
        self.watcher.value = -self.watcher.value

late = Late()
threading.Thread(target=run, daemon=True).start()
started.wait()
loop.close()
"""


def test_sets_while_the_interpreter_ends_do_no_harm() -> None:
    """A daemon thread and a finalizer that still set then: no traceback, no hang (P039)."""
    done = subprocess.run(  # noqa: S603 -- this very interpreter
        [sys.executable, "-c", AT_EXIT],
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE,
    )

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_an_interrupt_while_waking_wakes_nevertheless() -> None:
    """A KeyboardInterrupt inside the call to the loop propagates, and the loop is woken."""
    app = App()

    class Interrupted(StepLoop):
        left = 1

        def call_soon_threadsafe(
            self, callback: Any, *args: Any, context: Any = None
        ) -> asyncio.Handle:
            if self.left:
                self.left -= 1
                raise KeyboardInterrupt
            return super().call_soon_threadsafe(callback, *args, context=context)

    with Interrupted() as loop:
        task = loop.create_task(app.state.wait_for("goal"))
        loop.settle()
        with pytest.raises(KeyboardInterrupt):
            app.state.value = "goal"
        loop.settle()

        assert "goal" == app.state.value
        assert "goal" == task.result()
    assert_no_trace(app)


def test_a_test_that_interrupts_the_loop_loses_nothing() -> None:
    """A KeyboardInterrupt out of a wait's own test ends that wait; the others are served."""
    app = App()

    def predicate(value: str) -> bool:
        if value == "goal":
            raise KeyboardInterrupt
        return False

    with StepLoop() as loop:
        first = loop.create_task(app.state.wait_until(predicate))
        second = loop.create_task(app.state.wait_for("goal"))
        loop.settle()
        app.state.value = "goal"
        with pytest.raises(KeyboardInterrupt):
            loop.settle()
        loop.settle()

        assert isinstance(first.exception(), KeyboardInterrupt)
        assert "goal" == second.result()


# Many loops


@each_mode
def test_a_hundred_runs_leave_nothing(mode: Mode) -> None:
    """Loops come and go, with waits done and undone: the store remembers none of them (P031)."""
    app = App()

    async def main(number: int) -> None:
        waits = [asyncio.ensure_future(app.count.wait_for(n)) for n in (number, -1)]
        with app.count.subscribe() as sub:
            app.count.value = number
            assert number == (await anext(sub)).new
            assert number == await waits[0]

    for number in range(1, 101 if not mode.debug else 11):
        mode.run(main(number))
    gc.collect()

    assert_no_trace(app)
    assert {} == app._core.mailboxes


@each_mode
def test_a_store_belongs_to_no_loop(mode: Mode) -> None:
    """Made outside or on one loop, it serves any other, also when that has ended (P035, P036)."""

    async def make() -> App:
        made = App()
        made.count.value = 1
        assert 1 == await made.count.wait_for(1)
        return made

    async def use(app: App, number: int) -> int:
        wait = asyncio.ensure_future(app.count.wait_for(number))
        await asyncio.sleep(0)
        app.count.value = number
        return await wait

    app = mode.run(make())
    app.count.value = 2

    assert [3, 4] == [mode.run(use(app, number)) for number in (3, 4)]

    app.count.value = 5

    assert 5 == app.revision


def test_a_subscription_belongs_to_one_loop() -> None:
    """Reading it on another loop is refused, with the reason (P036)."""
    app = App()

    async def read(stream: Any) -> Any:
        return await stream.wait_for("start")

    async def make() -> Any:
        return app.state.subscribe()

    with StepLoop() as one, StepLoop() as two:
        stream = one.run(make())

        assert "start" == one.run(read(stream))
        with pytest.raises(SubscriptionError, match="another event loop"):
            two.run(read(stream))
        assert "start" == one.run(read(stream))
        stream.close()


@each_mode
def test_tasks_of_one_loop_may_share_a_subscription_in_turn(mode: Mode) -> None:
    """Opened in one task, read in another: allowed on the same loop (P037)."""
    app = App()

    async def read(stream: Any) -> str:
        return str((await anext(stream)).new)

    async def main() -> list[str]:
        with app.state.subscribe() as stream:
            app.state.value = "one"
            app.state.value = "two"
            return [await asyncio.create_task(read(stream)) for _ in range(2)]

    assert ["one", "two"] == mode.run(main())


@each_mode
def test_every_loop_sees_everything_in_order(mode: Mode) -> None:  # noqa: C901 -- three roles
    """Eight loops in eight threads, four threads that set: all see one order (P026, P038)."""
    app = App()
    loops, setters, sets = 8, 4, 250
    end = setters * sets
    ready = threading.Barrier(loops + 1)
    results: queue.SimpleQueue[list[int] | BaseException] = queue.SimpleQueue()

    async def read() -> list[int]:
        seen = []
        with app.count.subscribe() as stream:
            ready.wait(PATIENCE)
            async for transition in stream:
                assert len(seen) == transition.old
                assert len(seen) + 1 == transition.revision
                seen.append(transition.new)
                if transition.new == end:
                    break
        return seen

    def run() -> None:
        try:
            results.put(mode.run(read()))
        except BaseException as error:
            results.put(error)

    def set_many() -> None:
        for _ in range(sets):
            app.count.update(lambda value: value + 1)

    mode.make().close()
    threads = [threading.Thread(target=run) for _ in range(loops)]
    for thread in threads:
        thread.start()
    ready.wait(PATIENCE)
    threads += [threading.Thread(target=set_many) for _ in range(setters)]
    for thread in threads[loops:]:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert [list(range(1, end + 1))] * loops == [results.get_nowait() for _ in range(loops)]
    gc.collect()
    assert_no_trace(app)


@each_mode
def test_a_wait_is_served_from_another_thread(mode: Mode) -> None:
    """A set elsewhere wakes the loop; futures are touched on their own loop only (P033, P041)."""
    app = App()
    here = threading.get_ident()
    ran: list[int] = []

    def predicate(value: int) -> bool:
        ran.append(threading.get_ident())
        return value == 3

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        waits: list[Awaitable[Any]] = [
            asyncio.ensure_future(main)
            for main in (
                app.count.wait_for(2),
                app.count.wait_until(predicate),
                app.state.wait_for("goal", timeout=PATIENCE),
            )
        ]
        await asyncio.sleep(0)

        def elsewhere() -> None:
            for number in (1, 2, 3):
                app.count.value = number
            app.state.value = "goal"

        await loop.run_in_executor(None, elsewhere)
        return list(await asyncio.gather(*waits))

    assert [2, 3, "goal"] == mode.run(main())
    assert {here} == set(ran)
    assert_no_trace(app)


@each_mode
def test_a_plain_callback_of_the_loop_may_set(mode: Mode) -> None:
    """A timer that sets a value wakes the waits of its own loop."""
    app = App()

    async def main() -> str:
        asyncio.get_running_loop().call_soon(app.state.set, "goal")
        return await app.state.wait_for("goal")

    assert "goal" == mode.run(main())


@each_mode
def test_a_match_in_the_same_tick_is_found(mode: Mode) -> None:
    """Set and taken back at once, by the loop's own task: every kind of task finds it (P111)."""
    app = App()

    async def main() -> list[Any]:
        waits = [
            asyncio.create_task(app.state.wait_for("goal")),
            asyncio.create_task(app.state.wait_until(lambda value: value == "goal", timeout=9)),
            asyncio.create_task(app.state.wait_for_change()),
        ]
        cancelled = asyncio.create_task(app.state.wait_for("goal"))
        await asyncio.sleep(0)
        app.state.value = "goal"
        app.state.value = "away"
        assert cancelled.cancel()
        found = await asyncio.gather(*waits, cancelled, return_exceptions=True)
        return [*found[:-1], type(found[-1])]

    assert ["goal", "goal", "goal", asyncio.CancelledError] == mode.run(main())
    assert_no_trace(app)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_an_eager_task_is_registered_when_it_is_made() -> None:
    """Its first step runs inside `create_task()`, so what is set right after is found (P111)."""
    state = ValueWatcher("start")

    async def main() -> str:
        wait = asyncio.create_task(state.wait_for("goal"))
        state.value = "goal"
        state.value = "away"
        return await wait

    with StepLoop() as loop:
        loop.set_task_factory(asyncio.eager_task_factory)

        assert "goal" == loop.run(main())
    assert_no_trace(state)


# Signals


class ParkedSelector(DefaultSelector):
    """A selector that tells whether the loop is asleep in it."""

    is_parked = False

    def select(self, timeout: float | None = None) -> Any:
        """Wait as ever, and say so."""
        self.is_parked = timeout is None or timeout > 0
        try:
            return super().select(timeout)
        finally:
            self.is_parked = False


@pytest.fixture
def on_alarm(untraced: None) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Give what has a function called by a signal handler, again and again, until the end."""
    if not hasattr(signal, "setitimer"):
        pytest.skip("no signals of that kind here")
    before = signal.getsignal(signal.SIGALRM)

    def begin(function: Callable[[], object]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: function())
        # Again and again, for a signal just before the system call would not end the sleep.
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)

    yield begin
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("debug", [False, True])
def test_a_signal_handler_wakes_the_loop_that_sleeps(
    on_alarm: Callable[[Callable[[], object]], None], debug: bool
) -> None:
    """A handler that interrupts the sleep of the loop sets a value: the loop wakes up for it."""
    app = App()
    selector = ParkedSelector()
    late: list[bool] = []

    def set_if_parked() -> None:
        if selector.is_parked:
            app.state.value = "goal"

    async def main() -> str:
        guard = asyncio.get_running_loop().call_later(5, late.append, True)
        found = await app.state.wait_for("goal")
        guard.cancel()
        return found

    with asyncio.Runner(
        loop_factory=functools.partial(asyncio.SelectorEventLoop, selector), debug=debug
    ) as runner:
        on_alarm(set_if_parked)

        assert "goal" == runner.run(main())
    assert [] == late


@each_mode
def test_a_signal_handler_may_set_at_any_time(
    on_alarm: Callable[[Callable[[], object]], None], mode: Mode
) -> None:
    """Whatever the loop is doing when the handler sets: every value arrives, in order."""
    app = App()
    count = 20

    def step() -> None:
        if app.count.value < count:
            app.count.update(lambda value: value + 1)

    async def main() -> list[int]:
        with app.count.subscribe() as stream:
            on_alarm(step)
            return [(await anext(stream)).new for _ in range(count)]

    assert list(range(1, count + 1)) == mode.run(main())


class LoopWithoutMemory(StepLoop):
    """A loop that has no memory for one call."""

    def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> Any:
        """Fail once."""
        if self.__dict__.setdefault("fails", True):
            self.fails = False
            raise MemoryError
        return super().call_soon_threadsafe(*args, **kwargs)


def test_a_wake_up_without_memory_is_made_up_for() -> None:
    """P105: the error comes out of the set, which is done; the next operation wakes the wait."""
    with LoopWithoutMemory() as loop:
        state = ValueWatcher(0)
        waiting = loop.create_task(state.wait_for(1))
        loop.settle()
        with pytest.raises(MemoryError):
            state.value = 1
        assert 1 == state.value
        loop.settle()
        assert 1 == waiting.result()


def test_an_interrupt_before_a_port_is_looked_at_loses_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P104: the loop is told of what is left, also if nothing else ever comes."""
    app = App()
    with StepLoop() as loop:
        task = loop.create_task(app.state.wait_for("open"))
        loop.settle()
        app.state.value = "open"
        with monkeypatch.context() as patch:

            def interrupted(port: LoopPort) -> None:
                raise KeyboardInterrupt

            patch.setattr(LoopPort, "drain", interrupted)
            with pytest.raises(KeyboardInterrupt):
                loop.step()
        loop.settle()

        assert "open" == task.result()


def test_an_interrupt_while_waits_are_looked_at_loses_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P104: what a loop was interrupted in is done when it goes on."""
    with StepLoop() as loop:
        state = ValueWatcher(0)
        waiting = loop.create_task(state.wait_for(1))
        loop.settle()
        drain = LoopPort.drain

        def interrupted(port: LoopPort) -> None:
            monkeypatch.setattr(LoopPort, "drain", drain)
            raise KeyboardInterrupt

        monkeypatch.setattr(LoopPort, "drain", interrupted)
        state.value = 1
        with pytest.raises(KeyboardInterrupt):
            loop.settle()
        loop.settle()
        assert 1 == waiting.result()
