"""Work for every state that is visited: `supervise()` and `run_to_end()`."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs
import pytest
from attrs import define, field

from statestore import (
    DerivationError,
    Family,
    Key,
    KeyRemovedError,
    Lifecycle,
    Store,
    StoreClosedError,
    Transition,
    ValueWatcher,
    run_to_end,
)
from statestore.testing import StepLoop, assert_no_trace, inside
from support.loops import MODES, make_loop

OFFSETS: Final = range(-8, 9)
GAPS: Final = (0, 1, 2, 3, 5)


class App(Store):
    """What is supervised."""

    state = Key("start")
    number = Key(1)
    jobs = Family[str, str](default="new")


@pytest.fixture
def loop(loop: StepLoop) -> Iterator[StepLoop]:
    """Give a loop on which no task may be left."""
    yield loop
    assert set() == asyncio.all_tasks(loop)


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


def stop(loop: StepLoop, task: asyncio.Task[Any]) -> None:
    """Cancel *task*, and see that it ends."""
    task.cancel()
    loop.settle()
    assert task.cancelled()


class _FailureError(Exception):
    pass


# Whatever comes at whatever callback

EVENTS: Final = (
    *("l", "lq", "lql", "lrl", "rq", "rl", "lr", "lrq", "rlr", "llr", "lll", "x", "c", "s", "f"),
    *("lx", "xl", "lqx", "rx", "xr", "rqx", "rxq", "lxr", "rxx", "lc", "cl", "lqc", "rc", "rqc"),
    *("rcx", "lxc", "ls", "lqs", "rs", "rqs", "sx", "xs", "slr", "lf", "fl", "lrf", "fx", "xf"),
    *("ff", "lrs", "cx", "xc", "rfc"),
)
# Where work is cancelled, runs to its end, is not done, fails, and ends it all.
VALUES: Final = {"l": "long", "r": "to the end", "q": "quiet", "f": "failing", "s": "stop"}
WORKED: Final = {"start", "long", "to the end", "failing"}


@define
class Scenario:
    """One run: what happened, in order, and the task that lived through it."""

    loop: StepLoop
    app: App = field(factory=App)
    happened: list[str] = field(factory=list)
    # The visits that there were since it began to look, in order.
    visits: list[str] = field(factory=list)
    is_cancelled: bool = False
    task: asyncio.Task[None] | None = None

    def run(self, events: str, offset: int, gap: int) -> None:
        schedule: dict[int, list[str]] = {}
        for number, event in enumerate(events):
            schedule.setdefault(offset + number * gap, []).append(event)
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

    async def live(self) -> None:
        self.visits.append(self.app.state.value)
        works = {
            "start": self.last_long,
            "long": self.last_long,
            "to the end": run_to_end(self.last_short),
            "failing": self.fail,
        }
        await self.app.state.supervise(works, until="stop")

    async def last_long(self, visit: Transition[str]) -> None:
        await self.last(visit, 99)

    async def last_short(self, visit: Transition[str]) -> None:
        await self.last(visit, 3)

    async def last(self, visit: Transition[str], turns: int) -> None:
        is_late = self.app.state.revision != visit.revision
        self.happened.append(f"begin {visit.new}")
        try:
            for turn in range(turns):
                await asyncio.sleep(0 if turn < 3 else 1)
                if is_late:
                    self.happened.append("went on")
        except asyncio.CancelledError:
            self.happened.append(f"cut {visit.new}")
            raise
        self.happened.append(f"end {visit.new}")

    async def fail(self, visit: Transition[str]) -> None:
        await self.last(visit, 1)
        raise _FailureError

    def do(self, event: str) -> None:
        if event == "x":
            self.is_cancelled |= self.task is not None and self.task.cancel()
        elif event == "c":
            self.app.close()
        else:
            with contextlib.suppress(StoreClosedError):
                if self.app.state.set(VALUES[event]) is not None and self.visits:
                    self.visits.append(VALUES[event])

    def check(self, *, is_fifo: bool) -> None:
        """Assert that all is as it must be."""
        assert self.task is not None
        outcome = outcome_of(self.task)
        if self.is_cancelled:
            assert "cancelled" == outcome or ("failing" == outcome and self.has_failed())
            assert self.must_begin()[: len(self.begun())] == self.begun()
        else:
            assert self.expected() == outcome
            assert self.must_begin() == self.begun()
        self.check_order(is_pending=outcome == "pending")
        if is_fifo:
            self.check_late()

    def has_failed(self) -> bool:
        return "end failing" in self.happened

    def begun(self) -> list[str]:
        return [what.removeprefix("begin ") for what in self.happened if what.startswith("begin")]

    def counted(self) -> list[str]:
        """Give the visits up to the last one that has its turn."""
        ends = [number for number, state in enumerate(self.visits) if state == "stop"]
        if self.has_failed():
            ends.append(self.visits.index("failing"))
        return self.visits[: min(ends) + 1] if ends else self.visits

    def must_begin(self) -> list[str]:
        return [state for state in self.counted() if state in WORKED]

    def expected(self) -> str:
        if self.has_failed():
            return "failing"
        if "stop" in self.visits:
            return "done"
        return "closed" if self.app.is_closed else "pending"

    def check_order(self, *, is_pending: bool) -> None:
        """Assert that each work begins when the one before has ended, and ends as it must."""
        visits = [what for what in self.happened if what != "went on"]
        for begin, end in itertools.zip_longest(visits[::2], visits[1::2]):
            state = begin.removeprefix("begin ")
            if end is None:
                # It is where it is still.
                assert is_pending
                assert self.visits[-1] == state
                assert state in {"long", "start"}
            elif state == "to the end" and not self.is_cancelled:
                assert f"end {state}" == end
            else:
                assert end in {f"end {state}", f"cut {state}"}

    def check_late(self) -> None:
        """Assert that what was over before its turn came stopped where it suspended first."""
        for before, after in itertools.pairwise(self.happened):
            if after == "went on" and before.startswith("begin"):
                assert before in {"begin to the end", "begin failing"}


def outcome_of(task: asyncio.Task[None]) -> str:
    if not task.done():
        return "pending"
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    names: dict[type[BaseException] | None, str] = {
        None: "done",
        StoreClosedError: "closed",
        _FailureError: "failing",
    }
    return names[None if error is None else type(error)]


@pytest.mark.parametrize(("mode", "seed"), [("plain", None), ("plain", 7), (MODES[-1], None)])
def test_no_visit_is_skipped_whatever_comes_when(mode: str, seed: int | None) -> None:
    """
    Whatever comes at whatever callback, each visit has its turn, one after the other (P001 P012).

    Who cancels it is obeyed, after the work at hand has ended; nothing is left behind.
    """
    with make_loop(mode, seed) as loop:
        for events, offset in itertools.product(EVENTS, OFFSETS):
            for gap in GAPS[: 1 if len(events) == 1 else None]:
                run = Scenario(loop)
                run.run(events, offset, gap)
                assert run.task is not None
                note = (events, offset, gap, run.visits, run.happened)
                try:
                    run.check(is_fifo=seed is None)
                except AssertionError as error:
                    error.add_note(str(note))
                    raise

                run.task.cancel()
                loop.settle()
                assert set() == asyncio.all_tasks(loop), note
                assert_no_trace(run.app)
                assert [] == loop.ready()
                assert [] == loop.timers()
    assert [] == loop.failures


# One rule at a time


@define
class Log:
    """Work that tells what it does."""

    loop: StepLoop
    happened: list[str] = field(factory=list)

    def begun(self) -> list[str]:
        return [what for what in self.happened if not what.startswith(("cut", "end"))]

    async def long(self, visit: Transition[Any]) -> None:
        """Go on until it is cancelled."""
        self.happened.append(str(visit.new))
        try:
            await asyncio.Event().wait()
        finally:
            self.happened.append(f"cut {visit.new}")

    async def short(self, visit: Transition[Any]) -> None:
        """Take a second."""
        self.happened.append(str(visit.new))
        await asyncio.sleep(1)
        self.happened.append(f"end {visit.new}")

    async def stubborn(self, visit: Transition[Any]) -> None:
        """Take a second more when it is cancelled, and do not tell."""
        with contextlib.suppress(asyncio.CancelledError):
            await self.long(visit)
        await asyncio.sleep(1)
        self.happened.append(f"end {visit.new}")

    async def fail(self, visit: Transition[Any]) -> None:
        """Fail when it is cancelled."""
        try:
            await self.long(visit)
        finally:
            raise _FailureError


@pytest.fixture
def log(loop: StepLoop) -> Log:
    """Give work that tells what it does."""
    return Log(loop)


def test_work_is_done_for_each_visit(loop: StepLoop, app: App, log: Log) -> None:
    """The work for a state begins when it is entered and is cancelled when it is left."""
    task = start(loop, app.state.supervise({"start": log.long, "a": log.long, "b": log.long}))
    assert ["start"] == log.happened
    for state in ("a", "quiet", "b", "a"):
        app.state.value = state
        loop.settle()

    expected = ["start", "cut start", "a", "cut a", "b", "cut b", "a"]
    assert expected == log.happened
    stop(loop, task)
    assert [*expected, "cut a"] == log.happened


def test_work_is_given_what_began_the_visit(loop: StepLoop, app: App) -> None:
    """The first visit is that of the current value, which has no other before it."""
    seen: list[Transition[str]] = []

    async def note(visit: Transition[str]) -> None:
        seen.append(visit)

    task = start(loop, app.state.supervise({"start": note, "a": note}))
    app.state.value = "a"
    loop.settle()

    first = Transition(key="state", old="start", new="start", revision=0)
    assert [first, Transition(key="state", old="start", new="a", revision=1)] == seen
    stop(loop, task)


def test_a_short_visit_has_its_turn(loop: StepLoop, app: App) -> None:
    """What is over before its turn comes begins all the same, and gets to its first suspension."""
    seen: list[str] = []

    async def note(visit: Transition[str]) -> None:
        seen.append(visit.new)
        await asyncio.sleep(0)
        seen.append("too far")

    task = start(loop, app.state.supervise({"a": note, "b": note}))
    for state in ("a", "b", "a", "quiet"):
        app.state.value = state
    loop.settle()

    assert ["a", "b", "a"] == seen
    stop(loop, task)


def test_work_that_never_suspends_is_done(loop: StepLoop, app: App, log: Log) -> None:
    """There is nothing to cancel in work that is over at once."""

    async def note(visit: Transition[str]) -> None:
        log.happened.append(visit.new)

    task = start(loop, app.state.supervise({"a": note}))
    for state in ("a", "b", "a", "b"):
        app.state.value = state
    loop.settle()

    assert ["a", "a"] == log.happened
    stop(loop, task)


def test_what_is_to_run_to_its_end_does(loop: StepLoop, app: App, log: Log) -> None:
    """Draining on "closing" ends, though "closed" came in the same tick; what follows waits."""
    works = {"closing": run_to_end(log.short), "closed": log.long}
    task = start(loop, app.state.supervise(works))
    app.state.value = "closing"
    app.state.value = "closed"
    loop.settle()
    assert ["closing"] == log.happened
    loop.advance(1)

    assert ["closing", "end closing", "closed"] == log.happened
    stop(loop, task)


def test_work_that_is_slow_to_end_delays_what_follows(loop: StepLoop, app: App, log: Log) -> None:
    """Work that does not end when it is cancelled is waited for, and no visit is lost to it."""
    works = {"start": log.stubborn, "a": log.short, "b": log.long}
    task = start(loop, app.state.supervise(works))
    app.state.value = "a"
    loop.settle()
    app.state.value = "b"
    loop.settle()
    assert ["start", "cut start"] == log.happened
    loop.advance(1)

    assert ["start", "cut start", "end start", "a", "b"] == log.happened
    stop(loop, task)


def test_the_same_visit_goes_on_with_an_equal_value(loop: StepLoop, log: Log) -> None:
    """A transition to a value that equals the one before begins no visit, be work done or not."""
    watcher = ValueWatcher[Any](1)
    task = start(loop, watcher.supervise({1: log.long, 2: log.short}))
    watcher.value = True
    loop.settle()
    assert ["1"] == log.happened
    watcher.value = 2
    loop.advance(1)
    watcher.value = 2.0
    loop.advance(1)

    assert ["1", "cut 1", "2", "end 2"] == log.happened
    stop(loop, task)


def test_coming_back_is_another_visit(loop: StepLoop, app: App, log: Log) -> None:
    """A state that was left and entered again in one tick has its work done anew."""
    task = start(loop, app.state.supervise({"start": log.long}))
    app.state.value = "a"
    app.state.value = "start"
    loop.settle()

    assert ["start", "cut start", "start"] == log.happened
    stop(loop, task)


def test_what_is_derived_can_be_supervised(loop: StepLoop, app: App, log: Log) -> None:
    """A condition is a watcher of two states."""
    is_even = app.number.map(lambda number: number % 2 == 0)
    task = start(loop, is_even.supervise({True: log.long}))
    for number in (3, 2, 5, 4):
        app.number.value = number
    loop.settle()

    assert ["True", "cut True", "True"] == log.happened
    stop(loop, task)


def test_it_ends_with_a_state(loop: StepLoop, app: App, log: Log) -> None:
    """It returns when the work for the first visit of *until* has ended."""
    task = start(loop, app.state.supervise({"start": log.long, "b": log.short}, until="b"))
    app.state.value = "b"
    loop.settle()
    assert not task.done()
    loop.advance(1)

    assert task.result() is None
    assert ["start", "cut start", "b", "end b"] == log.happened


def test_it_ends_with_a_final_state(loop: StepLoop, log: Log) -> None:
    """With a lifecycle it ends when the work for a final state has ended."""
    lifecycle = Lifecycle({"up": {"down"}, "down": {"up", "off"}})
    state = Store().add("state", "up", lifecycle=lifecycle)
    task = start(loop, state.supervise({"up": log.long, "off": log.short}))
    for value in ("down", "up", "down", "off"):
        assert not task.done()
        state.value = value
        loop.settle()
    assert not task.done()
    loop.advance(1)

    assert task.result() is None
    assert ["up", "cut up", "up", "cut up", "off", "end off"] == log.happened


def test_nothing_is_done_behind_the_last_state(loop: StepLoop, app: App, log: Log) -> None:
    """Its work may be missing; it is cancelled like any; what follows has no turn."""
    works = {"start": log.long, "a": log.long}
    task = start(loop, app.state.supervise(works, until="b"))
    for state in ("a", "b", "a"):
        app.state.value = state
    loop.settle()
    assert task.done()
    assert ["start", "cut start", "a", "cut a"] == log.happened

    late = start(loop, app.state.supervise(works, until="a"))
    assert not late.done()
    app.state.value = "b"
    loop.settle()
    assert late.result() is None


def test_without_a_last_state_nothing_is_compared_with_one(loop: StepLoop, log: Log) -> None:
    """Values are compared with each other, and with nothing else (P057)."""
    compared: list[object] = []

    class Value:
        def __eq__(self, other: object) -> bool:
            compared.append(type(other))
            return self is other

        def __hash__(self) -> int:
            return 1

    watcher = ValueWatcher[Any](Value())
    task = start(loop, watcher.supervise({}))
    watcher.value = Value()
    loop.settle()

    assert {Value} == set(compared)
    stop(loop, task)


@pytest.mark.parametrize("is_cut", [False, True])
def test_an_error_ends_it(loop: StepLoop, app: App, log: Log, is_cut: bool) -> None:
    """What some work raises, cancelled or not, comes out as it is, and nothing begins after it."""

    async def fail(visit: Transition[str]) -> None:
        raise _FailureError

    works = {"a": log.fail if is_cut else fail, "b": log.long}
    task = start(loop, app.state.supervise(works))
    app.state.value = "a"
    app.state.value = "b"
    loop.settle()

    assert isinstance(task.exception(), _FailureError)
    assert "b" not in log.happened


def test_an_error_at_the_first_step_ends_it(loop: StepLoop, app: App, log: Log) -> None:
    """What is no coroutine function is called, and its error raised like any other."""

    def refuse(visit: Transition[str]) -> Any:
        raise _FailureError

    task = start(loop, app.state.supervise({"a": refuse, "b": log.long}))
    app.state.value = "a"
    app.state.value = "b"
    loop.settle()

    assert isinstance(task.exception(), _FailureError)
    assert [] == log.happened


def test_it_ends_with_the_store(loop: StepLoop, app: App, log: Log) -> None:
    """What was committed before has its turn; the work at hand is cancelled; the end is told."""
    task = start(loop, app.state.supervise({"start": log.long, "a": log.long, "b": log.long}))
    app.state.value = "a"
    app.state.value = "b"
    app.close()
    loop.settle()

    error = task.exception()
    assert isinstance(error, StoreClosedError)
    assert "App was closed while state was supervised" == str(error)
    assert ["start", "cut start", "a", "cut a", "b", "cut b"] == log.happened


def test_on_a_closed_store_the_current_state_has_its_turn(
    loop: StepLoop, app: App, log: Log
) -> None:
    """Also there, what is to run to its end does."""
    app.close()
    task = start(loop, app.state.supervise({"start": run_to_end(log.short)}))
    loop.advance(1)

    assert isinstance(task.exception(), StoreClosedError)
    assert ["start", "end start"] == log.happened


def test_it_ends_with_a_member(loop: StepLoop, app: App, log: Log) -> None:
    """When the member is removed, all that it was has its turn, then its end is told (P091)."""
    job = app.jobs.add("a")
    task = start(loop, job.supervise({"new": log.long, "busy": log.long}))
    job.value = "busy"
    del app.jobs["a"]
    loop.settle()

    assert isinstance(task.exception(), KeyRemovedError)
    assert ["new", "cut new", "busy", "cut busy"] == log.happened


def test_it_ends_when_there_is_no_value(loop: StepLoop, app: App, log: Log) -> None:
    """What cannot be computed ends the work at hand, and is told (P102)."""
    task = start(loop, app.number.map(lambda n: 10 // n).supervise({10: log.long, 5: log.long}))
    app.number.value = 2
    app.number.value = 0
    loop.settle()

    assert isinstance(task.exception(), DerivationError)
    assert ["10", "cut 10", "5", "cut 5"] == log.happened


async def test_visits_that_a_thread_makes_have_their_turn() -> None:
    """Whoever sets, and however fast, no visit is skipped, and each is in its place (P026)."""
    watcher = ValueWatcher[int](0)
    seen: list[int] = []

    async def note(visit: Transition[int]) -> None:
        seen.append(visit.new)
        await asyncio.Event().wait()

    def set_all() -> None:
        for number in range(1, 501):
            watcher.value = number

    setting = asyncio.create_task(asyncio.to_thread(set_all))
    await watcher.supervise(dict.fromkeys(range(500), note), until=500)
    await setting

    assert [*range(500)] == seen
    assert_no_trace(watcher)


# Cancelled


@pytest.mark.parametrize("kind", ["long", "run to end"])
def test_it_ends_with_its_work_when_it_is_cancelled(
    loop: StepLoop, app: App, log: Log, kind: str
) -> None:
    """Cancelled from elsewhere, it cancels the work at hand, also what is to run to its end."""
    work = log.long if kind == "long" else run_to_end(log.long)
    task = start(loop, app.state.supervise({"start": work}))
    app.state.value = "a"
    if kind == "long":
        app.state.value = "start"
    task.cancel()
    loop.settle()

    assert task.cancelled()
    assert ["start", "cut start"] == log.happened


def test_it_waits_for_its_work_when_it_is_cancelled(loop: StepLoop, app: App, log: Log) -> None:
    """However often it is cancelled, no task outlives it, and it ends cancelled."""
    task = start(loop, app.state.supervise({"start": log.stubborn}))
    task.cancel()
    loop.advance(0.5)
    assert not task.done()
    loop.advance(0.5)

    assert task.cancelled()
    assert ["start", "cut start", "end start"] == log.happened


def test_it_passes_on_each_cancellation(loop: StepLoop, app: App, log: Log) -> None:
    """Work that is slow to end is cancelled once more when it is."""
    task = start(loop, app.state.supervise({"start": log.stubborn}))
    task.cancel()
    loop.advance(0.5)
    task.cancel()
    loop.settle()

    assert task.cancelled()
    assert ["start", "cut start"] == log.happened


def test_an_error_of_cancelled_work_is_told(loop: StepLoop, app: App, log: Log) -> None:
    """As if the work had been awaited, what it raises while it is cancelled comes out."""
    task = start(loop, app.state.supervise({"start": log.fail}))
    task.cancel()
    loop.settle()

    assert isinstance(task.exception(), _FailureError)


def test_work_that_somebody_else_cancels_has_ended(loop: StepLoop, app: App, log: Log) -> None:
    """As in a task group, that a task was cancelled is no error; the next visit has its turn."""
    tasks: list[asyncio.Task[Any]] = []

    async def tell(visit: Transition[str]) -> None:
        current = asyncio.current_task()
        assert current is not None
        tasks.append(current)
        await asyncio.Event().wait()

    task = start(loop, app.state.supervise({"start": tell, "a": log.long}))
    tasks[0].cancel()
    app.state.value = "a"
    loop.settle()

    assert ["a"] == log.happened
    stop(loop, task)


def test_a_supervision_that_is_closed_leaves_no_task(loop: StepLoop, app: App, log: Log) -> None:
    """A coroutine that is closed instead of run to its end has its work cancelled."""
    coroutine: Any = app.state.supervise({"start": log.long})

    async def drive() -> None:
        waited = coroutine.send(None)
        assert waited is not None
        await asyncio.sleep(0)
        coroutine.close()

    start(loop, drive())

    assert ["start", "cut start"] == log.happened


# The rest


def test_each_work_is_a_task_of_its_own(loop: StepLoop, app: App) -> None:
    """It has a name that tells what it is for, and a context of its own."""
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[tuple[str, str]] = []

    async def note(visit: Transition[str]) -> None:
        current = asyncio.current_task()
        assert current is not None
        seen.append((current.get_name(), variable.get()))
        variable.set(visit.new)

    task = start(loop, app.state.supervise({"start": note, "a": note}))
    app.state.value = "a"
    loop.settle()

    assert [("state: 'start'", "unset"), ("state: 'a'", "unset")] == seen
    stop(loop, task)


def test_what_is_to_be_done_is_fixed_when_it_begins(loop: StepLoop, app: App, log: Log) -> None:
    """A mapping that changes afterwards changes nothing."""
    works: dict[str, Callable[[Transition[str]], Any]] = {}
    task = start(loop, app.state.supervise(works))
    works["a"] = log.long
    app.state.value = "a"
    loop.settle()

    assert [] == log.happened
    stop(loop, task)


def test_what_cannot_be_called_is_refused(loop: StepLoop, app: App) -> None:
    """Work is a function; a coroutine, or a name, is a mistake that is told at once."""
    works: Any = {"never": "serve"}
    error = start(loop, app.state.supervise(works)).exception()
    assert isinstance(error, TypeError)
    assert "must be a coroutine function, not 'serve'" in str(error)
    with pytest.raises(TypeError, match="must be a coroutine function, not None"):
        run_to_end(None)  # type: ignore[arg-type]


def test_a_value_that_cannot_be_looked_up_ends_it(loop: StepLoop, log: Log) -> None:
    """States are looked up as in any dict, so a value without a hash is an error."""
    watcher = ValueWatcher[Any]("start")
    task = start(loop, watcher.supervise({"start": log.long}))
    watcher.value = []
    loop.settle()

    assert isinstance(task.exception(), TypeError)
    assert ["start", "cut start"] == log.happened


async def test_a_function_marked_to_run_to_its_end_can_be_called() -> None:
    """`run_to_end` gives a frozen wrapper, which is called as the function itself."""
    seen: list[Transition[str]] = []

    async def note(visit: Transition[str]) -> None:
        seen.append(visit)

    marked = run_to_end(note)
    visit = Transition(key="state", old="a", new="b", revision=1)
    await marked(visit)

    assert [visit] == seen
    assert run_to_end(note) == marked
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        marked.function = note  # type: ignore[attr-defined]


def test_a_method_can_be_marked_to_run_to_its_end(loop: StepLoop, app: App) -> None:
    """The mark stays when a method is bound, and does no harm to a callable that has no method."""
    seen: list[object] = []

    class Callable_:  # noqa: N801 -- what it is
        async def __call__(self, visit: Transition[str]) -> None:
            await asyncio.sleep(1)
            seen.append(visit.new)

    class Client:
        other = run_to_end(Callable_())

        @run_to_end
        async def drain(self, visit: Transition[str]) -> None:
            await asyncio.sleep(1)
            seen.append((self, visit.new))

    client = Client()
    task = start(loop, app.state.supervise({"a": client.drain, "b": client.other}))
    for state in ("a", "b", "c"):
        app.state.value = state
    loop.advance(2)

    assert [(client, "a"), "b"] == seen
    stop(loop, task)


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
def test_its_error_is_no_cycle(app: App) -> None:
    """The error of some work goes without the collector (P023)."""
    made: list[weakref.ref[Any]] = []

    async def fail(_visit: Transition[str]) -> None:
        raise _FailureError

    async def main() -> None:
        try:
            await app.state.supervise({"start": fail})
        except _FailureError as error:
            made.append(weakref.ref(error))

    with StepLoop() as loop:
        task = start(loop, main())

        assert task.done()
        assert [None] == [error() for error in made]
