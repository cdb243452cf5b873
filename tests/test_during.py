"""Work bound to a state: `during()`, whose model is `asyncio.timeout()`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import pytest
from attrs import define, field, frozen

from statestore import (
    DerivationError,
    During,
    Family,
    Key,
    KeyRemovedError,
    StateStoreError,
    Store,
    StoreClosedError,
    Transition,
    ValueWatcher,
    WaitTimeoutError,
)
from statestore._during import Guard
from statestore.testing import StepLoop, assert_no_trace, inside
from support.loops import MODES, make_loop

OFFSETS: Final = range(-8, 9)
GAPS: Final = (0, 1, 2, 3, 4)
TIMEOUT: Final = 5.0
VALUES: Final = {"m": "goal", "a": "away", "o": "other"}


class App(Store):
    """What work is bound to."""

    state = Key("start")
    number = Key(1)
    jobs = Family[str, str](default="goal")


@pytest.fixture
def app() -> Iterator[App]:
    """Give a store on which nobody may be left registered."""
    store = App()
    yield store
    assert_no_trace(store)


def start(loop: StepLoop, main: Any) -> asyncio.Task[Any]:
    """Start *main* from inside the loop, and let it go as far as it gets."""
    with inside(loop):
        task = loop.create_task(main)
    loop.settle()
    return task


# Whatever comes at whatever callback

EVENTS: Final = (
    *("m", "ma", "mam", "mao", "mo", "mx", "xm", "max", "mxa", "mxx", "maxx", "x", "a", "c"),
    *("mc", "mac", "mca", "mcx", "mxc", "cm", "mt", "tm", "t", "mat", "tma"),
    *("md", "mda", "mad", "mdx", "mxd", "mdc", "mcd", "dma", "madx", "mdax", "maxd"),
)

Scope = Callable[[App], AbstractAsyncContextManager[Any]]

SCOPES: Final[dict[str, Scope]] = {
    "key": lambda app: app.state.during("goal", timeout=TIMEOUT),
    "map": lambda app: app.state.map(str).during("goal", timeout=TIMEOUT),
    "condition": lambda app: app.state.is_("goal").during(timeout=TIMEOUT),
}


@contextlib.asynccontextmanager
async def in_a_child(work: Callable[[], Any]) -> AsyncIterator[Callable[[], Any]]:
    async with asyncio.TaskGroup() as tasks:

        async def start() -> None:
            tasks.create_task(work())

        yield start


@contextlib.asynccontextmanager
async def beside(scope: Any, work: Callable[[], Any]) -> AsyncIterator[Callable[[], Any]]:
    async with scope:
        yield work


Within = Callable[[App, Callable[[], Any]], AbstractAsyncContextManager[Callable[[], Any]]]
WITHIN: Final[dict[str, Within]] = {
    "nothing": lambda app, work: contextlib.nullcontext(work),
    "timeout": lambda app, work: beside(asyncio.timeout(9 * TIMEOUT), work),
    "during": lambda app, work: beside(app.state.during("goal"), work),
    "during of what is derived": lambda app, work: beside(app.state.is_("goal").during(), work),
    "task group": lambda app, work: in_a_child(work),
}


@define
class Scenario:
    """One run: what happened, in order, and the task that lived through it."""

    loop: StepLoop
    scope: Scope
    within: Within
    app: App = field(factory=App)
    happened: list[str] = field(factory=list)
    revisions: list[int] = field(factory=list)
    is_cancelled: bool = False
    task: asyncio.Task[int | None] | None = None
    done: asyncio.Future[None] = field(init=False)

    def run(self, events: str, offset: int, gap: int) -> None:
        schedule: dict[int, list[str]] = {}
        for number, event in enumerate(events):
            schedule.setdefault(offset + number * gap, []).append(event)
        self.done = self.loop.create_future()
        for position in range(OFFSETS[0], max(schedule) + 1):
            if position == 0:
                self.begin()
            for event in schedule.get(position, ()):
                self.do(event)
            # There is always something else to run.
            self.loop.call_soon(int)
            self.loop.steps(1)
        if self.task is None:
            self.begin()
        self.loop.settle()

    def begin(self) -> None:
        with inside(self.loop):
            self.task = self.loop.create_task(self.live())

    async def live(self) -> int | None:
        self.note("start")
        async with self.scope(self.app) as scope:
            self.note("in")
            try:
                async with self.within(self.app, self.work) as work:
                    await work()
            except asyncio.CancelledError:
                self.note("cut")
                raise
            finally:
                self.note("over")
        current = asyncio.current_task()
        assert current is not None
        assert self.is_cancelled or 0 == current.cancelling()
        # Nothing of the cancellation may be left for what follows.
        await asyncio.sleep(0)
        return None if scope.ended is None else scope.ended.revision

    async def work(self) -> None:
        await asyncio.sleep(0)
        await asyncio.shield(self.done)

    def do(self, event: str) -> None:
        if event == "x":
            self.is_cancelled |= self.task is not None and self.task.cancel()
        elif event in VALUES:
            with contextlib.suppress(StoreClosedError):
                if self.app.state.set(VALUES[event]) is not None:
                    self.note(VALUES[event])
        elif event == "c":
            self.app.close()
            self.note("close")
        elif event == "d":
            if not self.done.done():
                self.done.set_result(None)
            self.note("done")
        else:
            self.loop.fall_behind(2 * TIMEOUT)
            self.note("time")

    def note(self, happened: str) -> None:
        self.happened.append(happened)
        self.revisions.append(self.app.revision)

    def entry(self) -> set[str]:
        """Give how the wait for the state may have ended."""
        found: set[str] = set()
        begun = late = closed = False
        value = "start"
        for event in self.happened:
            begun |= event == "start"
            closed |= event == "close"
            late |= begun and event == "time"
            value = event if event in VALUES.values() else value
            if begun and value == "goal":
                return {*found, "in"}
            if begun and closed:
                return {*found, "closed"}
            if late:
                found.add("timeout")
        return found or {"pending"}

    def end(self) -> int | None:
        """Give the revision that ended the state, if that came before the work was over."""
        begun = matched = False
        value = "start"
        for event, revision in zip(self.happened, self.revisions, strict=True):
            begun |= event == "start"
            value = event if event in VALUES.values() else value
            matched |= begun and value == "goal"
            if matched and value != "goal":
                return revision
            if event == "over":
                break
        return None

    def expected(self) -> set[Any]:
        """Give what may have come of it."""
        if self.is_cancelled:
            return {"cancelled"}
        if "in" not in self.happened:
            return self.entry()
        assert "in" in self.entry()
        end = self.end()
        if "over" not in self.happened:
            assert end is None
            assert not {"close", "done"} & set(self.happened)
            return {"pending"}
        is_closed = "close" in self.happened[: self.happened.index("over")]
        if end is not None:
            # A block of its own within waits for the state once more.
            return {end, "closed"} if is_closed and "cut" not in self.happened else {end}
        if "cut" in self.happened:
            assert is_closed
            return {"closed"}
        assert {"done", "close"} & set(self.happened)
        return {None, "closed"} if is_closed else {None}


def outcome(task: asyncio.Task[int | None]) -> int | str | None:
    if not task.done():
        return "pending"
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    names: dict[type[BaseException], str] = {
        StoreClosedError: "closed",
        WaitTimeoutError: "timeout",
    }
    return task.result() if error is None else names[type(error)]


@pytest.mark.parametrize(("mode", "seed"), [("plain", None), ("plain", 7), (MODES[-1], None)])
@pytest.mark.parametrize("within", WITHIN.values(), ids=WITHIN)
@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
def test_every_outcome_is_right_and_leaves_no_trace(
    scope: Scope, within: Within, mode: str, seed: int | None
) -> None:
    """
    Whatever comes at whatever callback, P001 P002 P004 P005 P012 hold for work bound to a state.

    Who cancels from elsewhere is obeyed; else the end of the state is told if it came before the
    work was over, and nothing of the cancellation is left.
    """
    offsets = OFFSETS if seed is None else OFFSETS[::3]
    with make_loop(mode, seed) as loop:
        for events, offset in itertools.product(EVENTS, offsets):
            for gap in GAPS[: 1 if len(events) == 1 else None]:
                run = Scenario(loop, scope, within)
                run.run(events, offset, gap)
                assert run.task is not None

                assert outcome(run.task) in run.expected(), (events, offset, gap, run.happened)

                run.task.cancel()
                loop.settle()
                assert_no_trace(run.app)
                assert [] == loop.ready()
                assert [] == loop.timers()
    assert [] == loop.failures


@pytest.mark.parametrize("is_outside", [False, True])
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "debug"])
@pytest.mark.parametrize("events", ["aT", "Ta"])
def test_a_timeout_in_the_same_moment_is_a_timeout(
    mode: str, events: str, is_outside: bool
) -> None:
    """
    Together with a deadline of `asyncio.timeout()`, the end of a state is as another deadline.

    The one outside is told: who bound the whole knows that it is over.
    """

    async def main(app: App, timeouts: list[asyncio.Timeout]) -> None:
        timeout = asyncio.timeout(None)
        timeouts.append(timeout)
        scope = app.state.during("start")
        outer, inner = (timeout, scope) if is_outside else (scope, timeout)
        try:
            async with outer, inner:
                await asyncio.Event().wait()
        finally:
            current = asyncio.current_task()
            assert current is not None
            assert 0 == current.cancelling()

    with make_loop(mode) as loop:
        for first, second in itertools.product(range(5), GAPS):
            app, timeouts = App(), list[asyncio.Timeout]()
            task = start(loop, main(app, timeouts))
            for event, steps in zip(events, (first, second), strict=True):
                loop.call_soon(int)
                loop.steps(steps)
                if event == "a":
                    app.state.value = "away"
                elif not task.done():
                    with inside(loop):
                        timeouts[0].reschedule(loop.time())
            loop.settle()

            error = task.exception()
            assert error is None or isinstance(error, TimeoutError)
            if error is not None or is_outside:
                assert timeouts[0].expired() == isinstance(error, TimeoutError)
            assert_no_trace(app)


# One rule at a time


def test_the_block_lasts_as_long_as_the_state(loop: StepLoop, app: App) -> None:
    """It begins when the state is there, is cancelled when it ends, and what follows goes on."""
    seen: list[str] = []

    async def main() -> Transition[str] | None:
        async with app.state.during("goal") as scope:
            seen.append("in")
            assert scope.ended is None
            try:
                await asyncio.Event().wait()
            finally:
                assert scope.ended is not None
                seen.append("cut")
        await asyncio.sleep(0)
        seen.append("after")
        return scope.ended

    task = start(loop, main())
    assert [] == seen
    app.state.value = "goal"
    loop.settle()
    assert ["in"] == seen
    app.state.value = "away"
    app.state.value = "goal"
    loop.settle()

    assert ["in", "cut", "after"] == seen
    assert Transition(key="state", old="goal", new="away", revision=2) == task.result()


def test_a_block_that_is_over_first_is_not_cancelled(loop: StepLoop, app: App) -> None:
    """If the state outlasts the block, nothing has ended."""

    async def main() -> Transition[str] | None:
        async with app.state.during("start") as scope:
            await asyncio.sleep(1)
        await asyncio.sleep(1)
        return scope.ended

    task = start(loop, main())
    loop.advance(1)
    app.state.value = "away"
    loop.advance(1)

    assert task.result() is None


def test_a_block_that_begins_late_runs_up_to_its_first_suspension(loop: StepLoop, app: App) -> None:
    """A state that had ended before the block began lets it begin, and cancels it then."""
    seen: list[str] = []

    async def main() -> Transition[str] | None:
        async with app.state.during("goal") as scope:
            seen.append("in")
            await asyncio.sleep(0)
            seen.append("too far")
        return scope.ended

    task = start(loop, main())
    app.state.value = "goal"
    app.state.value = "away"
    loop.settle()

    assert ["in"] == seen
    assert Transition(key="state", old="goal", new="away", revision=2) == task.result()


def test_a_block_that_ends_the_state_itself_is_told(loop: StepLoop, app: App) -> None:
    """What the block does last counts, and nothing is cancelled behind it."""

    async def main() -> Transition[str] | None:
        async with app.state.during("start") as scope:
            app.state.value = "away"
        await asyncio.sleep(0)
        return scope.ended

    assert 1 == start(loop, main()).result().revision


@pytest.mark.parametrize("is_cut", [False, True])
def test_what_the_block_raises_goes_through(loop: StepLoop, app: App, is_cut: bool) -> None:
    """An error of the block, also while it is being cancelled, comes out as it is."""
    error = LookupError()
    scope = app.state.during("start")

    async def main() -> None:
        try:
            async with scope:
                try:
                    await asyncio.sleep(1)
                finally:
                    raise error
        finally:
            current = asyncio.current_task()
            assert current is not None
            assert 0 == current.cancelling()

    task = start(loop, main())
    if is_cut:
        app.state.value = "away"
    loop.advance(1)

    assert error is task.exception()
    assert is_cut == (scope.ended is not None)


def test_a_block_may_swallow_its_cancellation(loop: StepLoop, app: App) -> None:
    """It goes on to its end then; it is cancelled once, and what ended the state is told."""

    async def main() -> tuple[int, Transition[str] | None]:
        async with app.state.during("start") as scope:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await asyncio.sleep(1)
        current = asyncio.current_task()
        assert current is not None
        return current.cancelling(), scope.ended

    task = start(loop, main())
    app.state.value = "away"
    loop.settle()
    app.state.value = "start"
    app.state.value = "other"
    loop.advance(1)

    expected = Transition(key="state", old="start", new="away", revision=1)
    assert (0, expected) == task.result()


def test_a_block_that_outlives_its_state_keeps_nothing(loop: StepLoop, app: App) -> None:
    """What comes after the end of the state is not kept for a block that goes on."""

    @frozen(eq=False)
    class Opaque:
        pass

    watcher = ValueWatcher[Any]("start")

    async def main() -> None:
        async with watcher.during("start"):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await asyncio.Event().wait()

    task = start(loop, main())
    watcher.value = "away"
    loop.settle()
    watcher.value = Opaque()
    kept = weakref.ref(watcher.value)
    watcher.value = "last"
    gc.collect()

    assert kept() is None
    assert not task.done()
    assert_no_trace(watcher)


def test_a_request_to_cancel_from_before_is_none_of_ours(loop: StepLoop, app: App) -> None:
    """As with `asyncio.timeout()`, what was asked for before the block began is not counted."""

    async def main() -> int:
        current = asyncio.current_task()
        assert current is not None
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        async with app.state.during("start"):
            await asyncio.Event().wait()
        return current.cancelling()

    task = start(loop, main())
    task.cancel()
    loop.settle()
    app.state.value = "away"
    loop.settle()

    assert 1 == task.result()


def test_a_sibling_that_fails_is_told(loop: StepLoop, app: App) -> None:
    """In a task group around the block, the error of another task ends it with that error."""
    error = LookupError()

    async def fail() -> None:
        await app.state.wait_for("away")
        raise error

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
            async with app.state.during("start"):
                await asyncio.Event().wait()
            await asyncio.Event().wait()

    task = start(loop, main())
    app.state.value = "away"
    loop.settle()

    raised = task.exception()
    assert isinstance(raised, ExceptionGroup)
    assert (error,) == raised.exceptions


def test_a_child_that_fails_while_it_is_cancelled_is_told(loop: StepLoop, app: App) -> None:
    """In a task group within the block, the error of a child is not taken for a cancellation."""
    error = LookupError()

    async def fail() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise error

    async def main() -> int:
        current = asyncio.current_task()
        assert current is not None
        try:
            async with app.state.during("start"), asyncio.TaskGroup() as tasks:
                tasks.create_task(fail())
        except* LookupError:
            pass
        await asyncio.sleep(0)
        return current.cancelling()

    task = start(loop, main())
    app.state.value = "away"
    loop.settle()

    assert 0 == task.result()


def test_an_interrupt_of_the_cancellation_cancels_but_once(
    loop: StepLoop, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lands when the task was cancelled, and not noted yet why: that is done later (P104)."""
    let_go = Guard._let_go

    def interrupted(guard: Guard) -> None:
        monkeypatch.setattr(Guard, "_let_go", let_go)
        raise KeyboardInterrupt

    async def main() -> tuple[Any, int]:
        current = asyncio.current_task()
        assert current is not None
        async with app.state.during("start") as scope:
            try:
                await asyncio.Event().wait()
            finally:
                # Long enough for it to be called once more.
                for _ in range(3):
                    await asyncio.sleep(0)
        return scope.ended, current.cancelling()

    task = start(loop, main())
    monkeypatch.setattr(Guard, "_let_go", interrupted)
    app.state.value = "away"
    # In debug mode the loop calls it, and loses the call.
    if loop.get_debug():
        loop.step()
        monkeypatch.undo()
    else:
        with pytest.raises(KeyboardInterrupt):
            loop.step()
    loop.settle()

    ended, requests = task.result()
    assert ("start", "away", 0) == (ended.old, ended.new, requests)


def test_equal_values_are_one_state(loop: StepLoop) -> None:
    """A state lasts as long as the value equals it, and what it was last is told."""
    watcher = ValueWatcher[Any](1)

    async def main() -> Transition[Any] | None:
        async with watcher.during(1) as scope:
            await asyncio.Event().wait()
        return scope.ended

    task = start(loop, main())
    watcher.value = True
    loop.settle()
    assert not task.done()
    watcher.value = 2

    loop.settle()
    ended = task.result()
    assert (True, 2) == (ended.old, ended.new)
    assert ended.old is True


def test_it_waits_no_longer_than_it_may(loop: StepLoop, app: App) -> None:
    """A state that does not come in time is told as by any wait, and the block does not begin."""

    async def main() -> None:
        async with app.state.during("goal", timeout=TIMEOUT):
            raise AssertionError

    task = start(loop, main())
    loop.advance(TIMEOUT)

    assert isinstance(task.exception(), WaitTimeoutError)


def test_the_block_may_take_longer_than_the_wait(loop: StepLoop, app: App) -> None:
    """The timeout is that of the wait."""

    async def main() -> str:
        async with app.state.during("start", timeout=TIMEOUT):
            await asyncio.sleep(2 * TIMEOUT)
        return "done"

    task = start(loop, main())
    loop.advance(2 * TIMEOUT)

    assert "done" == task.result()


def test_what_is_no_timeout_is_refused_at_the_call(app: App) -> None:
    """A wrong timeout is an error of the call, not of the block (P009)."""
    with pytest.raises(TypeError, match="timeout"):
        app.state.during("goal", timeout="1")  # type: ignore[arg-type]


ENDS: Final[dict[str, tuple[Callable[[App], During[Any]], Callable[[App], Any], type[Exception]]]]
ENDS = {
    "the store closes": (lambda app: app.state.during("start"), App.close, StoreClosedError),
    "the member goes": (
        lambda app: app.jobs.add("a").during("goal"),
        lambda app: app.jobs.__delitem__("a"),
        KeyRemovedError,
    ),
    "there is no value": (
        lambda app: app.number.map(lambda number: 1 // number).during(1),
        lambda app: app.number.set(0),
        DerivationError,
    ),
}
each_end = pytest.mark.parametrize(("begin", "end", "error"), ENDS.values(), ids=ENDS)


@each_end
@pytest.mark.parametrize("is_early", [False, True])
def test_an_error_that_ends_the_state_comes_in_place_of_the_cancellation(  # noqa: PLR0917 -- as above
    loop: StepLoop, app: App, begin: Any, end: Any, error: type[Exception], is_early: bool
) -> None:
    """When nothing will tell of the state any more, the block is cancelled and told why."""
    seen: list[str] = []
    scope = begin(app)

    async def main() -> None:
        async with scope:
            if is_early:
                end(app)
            seen.append("in")
            try:
                await asyncio.Event().wait()
            finally:
                seen.append("cut")

    task = start(loop, main())
    if not is_early:
        end(app)
    loop.settle()

    assert error is type(task.exception())
    assert ["in", "cut"] == seen
    assert scope.ended is None


@each_end
def test_an_error_behind_the_block_does_not_count(
    loop: StepLoop, app: App, begin: Any, end: Any, error: type[Exception]
) -> None:
    """A block that was over is not cancelled, so there is nothing to be raised in its place."""
    scope = begin(app)

    async def main() -> str:
        async with scope:
            end(app)
        await asyncio.sleep(0)
        return "done"

    assert "done" == start(loop, main()).result()
    assert scope.ended is None


@pytest.mark.parametrize("error", [KeyRemovedError, StoreClosedError])
def test_a_state_that_came_and_went_before_the_end_is_seen(
    loop: StepLoop, app: App, error: type[Exception]
) -> None:
    """A block whose state was there, and ended with the end of all, begins and is told (P091)."""
    seen: list[str] = []
    job = app.jobs.add("a", "new")

    async def main() -> None:
        async with job.during("goal"):
            seen.append("in")
            await asyncio.sleep(0)
            seen.append("too far")

    task = start(loop, main())
    job.value = "goal"
    if error is KeyRemovedError:
        del app.jobs["a"]
    else:
        app.close()
    loop.settle()

    assert error is type(task.exception())
    assert ["in"] == seen


def test_an_equality_that_raises_ends_the_state(loop: StepLoop) -> None:
    """What `==` raises comes out in place of the cancellation (P067)."""

    class Hostile:
        def __eq__(self, other: object) -> bool:
            raise LookupError

        def __hash__(self) -> int:
            return 0

    watcher = ValueWatcher[Any]("start")
    scope = watcher.during("start")

    async def main() -> None:
        async with scope:
            await asyncio.Event().wait()

    task = start(loop, main())
    watcher.value = Hostile()
    loop.settle()

    assert isinstance(task.exception(), LookupError)
    assert scope.ended is None


def test_what_came_before_the_block_does_not_end_the_state(loop: StepLoop, app: App) -> None:
    """What others who wait were not shown yet is none of its business."""
    other = start(loop, app.state.wait_for("never"))

    async def main() -> Transition[str] | None:
        app.state.value = "other"
        app.state.value = "goal"
        async with app.state.during("goal") as scope:
            pass
        return scope.ended

    assert start(loop, main()).result() is None
    other.cancel()
    loop.settle()


def test_it_is_entered_once(loop: StepLoop, app: App) -> None:
    """A scope tells of one block."""

    async def main() -> None:
        scope = app.state.during("start")
        async with scope:
            pass
        async with scope:
            pass

    error = start(loop, main()).exception()
    assert isinstance(error, StateStoreError)
    assert "entered once" in str(error)


def test_it_needs_a_task(loop: StepLoop, app: App) -> None:
    """Without a task there is nothing to cancel."""
    with inside(loop), pytest.raises(StateStoreError, match="only in a task"):
        app.state.during("goal").__aenter__().send(None)


def test_it_may_be_left_by_being_closed(app: App) -> None:
    """A task that is dropped with its loop leaves no trace."""

    async def main() -> None:
        async with app.state.during("start"):
            await asyncio.Event().wait()

    loop = StepLoop()
    task = start(loop, main())
    coroutine: Any = task.get_coro()
    coroutine.close()
    loop.close()
    # Or it would complain of being destroyed.
    task._log_destroy_pending = False  # type: ignore[attr-defined]

    assert_no_trace(app)


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


WAYS: Final[dict[str, Callable[[App], object]]] = {
    "cut": lambda app: app.jobs["a"].set("away"),
    "over": lambda app: None,
    "error": App.close,
    "error at the beginning": lambda app: None,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("_no_collector")
def test_it_is_no_cycle(app: App, way: str) -> None:
    """A scope, and the error that it raises, go without the collector (P023)."""
    made: list[weakref.ref[Any]] = []
    job = app.jobs.add("a", "new")

    async def main() -> None:
        scope = job.during("goal")
        try:
            async with scope:
                # What a guard holds on to, and is held by.
                assert scope._guard is not None
                made.append(weakref.ref(scope._guard._waiter.future))
                await asyncio.sleep(1)
        except (StoreClosedError, KeyRemovedError) as error:
            made.append(weakref.ref(error))

    with StepLoop() as loop:
        task = start(loop, main())
        job.value = "goal"
        if way == "error at the beginning":
            del app.jobs["a"]
        loop.settle()
        WAYS[way](app)
        loop.advance(1)

        assert task.done()
        assert 1 + way.startswith("error") == len(made)
        assert not any(reference() for reference in made)
