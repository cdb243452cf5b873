"""
Every waiting operation against every event, callback by callback.

A scenario is an operation, a few events and a distance in callbacks: the first event comes that
many callbacks before or after the task of the operation is created, the others follow after a gap.
What must come out is computed from the order of what happened, by the rule in `_expected()`, which
knows nothing of loops.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import pytest
from attrs import define, field

from statestore import Commit, Key, Store, StoreClosedError, WaitTimeoutError
from statestore.testing import StepLoop, assert_no_trace

OFFSETS: Final = range(-8, 9)
# A gap longer than it takes a wait to end changes nothing: the later event finds it ended.
GAPS: Final = (0, 1, 2, 3, 4)
TIMEOUT: Final = 5.0

EVENTS: Final = {
    "match": "m",
    "other value": "o",
    "close": "c",
    "cancel": "x",
    "time": "t",
    "other, then match": "om",
    "match, then away": "ma",
    "match, away, match": "mam",
    "match, then cancel": "mx",
    "cancel, then match": "xm",
    "match, then time": "mt",
    "time, then match": "tm",
    "cancel, then time": "xt",
    "time, then cancel": "tx",
    "match, then close": "mc",
    "close, then cancel": "cx",
    "close, then time": "ct",
    "time, then close": "tc",
    "time, then match, then close": "tmc",
    "other, then cancel, then match": "oxm",
    "cancel twice": "xx",
}
VALUES: Final = {"m": "goal", "o": "other", "a": "away"}


Read: TypeAlias = Callable[[], Coroutine[Any, Any, str]]
"""What runs in the task."""


class App(Store):
    """What is waited on."""

    state = Key("start")
    beside = Key(0)


class Operation(NamedTuple):
    """One way to wait, and what the rule has to know of it."""

    # Opens what is read, if anything; then gives the coroutine function that waits.
    begin: Callable[[App], tuple[Any, Read]]
    matches: Callable[[str], bool]
    # Whether what is true at the beginning counts.
    immediate: bool = True
    # Whether it stands at the place where it was opened, before all events.
    is_queued: bool = False
    times_out: bool = True


def _is_goal(value: str) -> bool:
    return value == "goal"


def _is_any(_value: str) -> bool:
    return True


def _wait_for(app: App) -> tuple[None, Read]:
    return None, lambda: app.state.wait_for("goal", timeout=TIMEOUT)


def _wait_for_again(app: App) -> tuple[None, Read]:
    return None, lambda: app.state.wait_for("goal", immediate=False, timeout=TIMEOUT)


def _wait_until(app: App) -> tuple[None, Read]:
    return None, lambda: app.state.wait_until(_is_goal, timeout=TIMEOUT)


def _wait_for_change(app: App) -> tuple[None, Read]:
    return None, lambda: app.state.wait_for_change(timeout=TIMEOUT)


def _next_of(stream: Any, new_of: Callable[[Any], str]) -> Read:
    async def read() -> str:
        try:
            return new_of(await anext(stream))
        except StopAsyncIteration:
            raise StoreClosedError from None

    return read


def _iterate(app: App) -> tuple[Any, Read]:
    stream = app.state.subscribe()
    return stream, _next_of(stream, lambda transition: transition.new)


def _iterate_values(app: App) -> tuple[Any, Read]:
    stream = app.state.values()
    assert "start" == stream.get_nowait()
    return stream, _next_of(stream, str)


def _iterate_bounded(app: App) -> tuple[Any, Read]:
    stream = app.state.subscribe(maxlen=100)
    return stream, _next_of(stream, lambda transition: transition.new)


def _wait_in_queue(app: App) -> tuple[Any, Read]:
    stream = app.state.subscribe()
    return stream, lambda: stream.wait_for("goal", timeout=TIMEOUT)


def _wait_in_commits(of_keys: bool) -> Callable[[App], tuple[Any, Read]]:
    def begin(app: App) -> tuple[Any, Read]:
        stream = app.subscribe(app.state, app.beside) if of_keys else app.subscribe()

        async def read() -> str:
            found = await stream.wait_until(lambda now: now["state"] == "goal", timeout=TIMEOUT)
            return str(found["state"])

        return stream, read

    return begin


OPERATIONS: Final = {
    "wait_for": Operation(_wait_for, _is_goal),
    "wait_for, not immediate": Operation(_wait_for_again, _is_goal, immediate=False),
    "wait_until": Operation(_wait_until, _is_goal),
    "wait_for_change": Operation(_wait_for_change, _is_any, immediate=False),
    "iteration": Operation(_iterate, _is_any, immediate=False, is_queued=True, times_out=False),
    "iteration, bounded": Operation(
        _iterate_bounded, _is_any, immediate=False, is_queued=True, times_out=False
    ),
    "values": Operation(_iterate_values, _is_any, immediate=False, is_queued=True, times_out=False),
    "subscription.wait_for": Operation(_wait_in_queue, _is_goal, is_queued=True),
    "store subscription": Operation(_wait_in_commits(of_keys=False), _is_goal, is_queued=True),
    "subscription to keys": Operation(_wait_in_commits(of_keys=True), _is_goal, is_queued=True),
}


@define
class Scenario:
    """One run: what happened, in order, and the task that lived through it."""

    loop: StepLoop
    operation: Operation
    app: App = field(factory=App)
    # What happened while the task was not done: new values, "start", "close" and "time".
    happened: list[str] = field(factory=list)
    committed: list[str] = field(factory=list)
    is_cancelled: bool = False
    task: asyncio.Task[str] | None = None
    stream: Any = None

    def run(self, events: str, offset: int, gap: int) -> None:
        """Let *events* happen, *offset* callbacks after the task is made, *gap* ones apart."""
        schedule: dict[int, list[str]] = {}
        for number, event in enumerate(events):
            schedule.setdefault(offset + number * gap, []).append(event)
        self.stream, read = self.operation.begin(self.app)
        for position in range(OFFSETS[0], max(schedule) + 1):
            if position == 0:
                self.task = self.loop.create_task(self._wait(read))
            for event in schedule.get(position, ()):
                self._do(event)
            # There is always something else to run.
            self.loop.call_soon(int)
            self.loop.steps(1)
        if self.task is None:
            self.task = self.loop.create_task(self._wait(read))
        self.loop.settle()

    async def _wait(self, read: Read) -> str:
        self.happened.append("start")
        return await read()

    def _do(self, event: str) -> None:
        if event == "x":
            # The one that does nothing any more says so.
            self.is_cancelled |= self.task is not None and self.task.cancel()
        elif event in VALUES:
            with contextlib.suppress(StoreClosedError):
                self.app.state.value = VALUES[event]
                self.committed.append(VALUES[event])
                self._note(VALUES[event])
        elif event == "c":
            self.app.close()
            self._note("close")
        else:
            self.loop.fall_behind(2 * TIMEOUT)
            self._note("time")

    def _note(self, happened: str) -> None:
        if self.task is None or not self.task.done():
            self.happened.append(happened)


def _expected(run: Scenario) -> set[str]:  # noqa: C901 -- the whole rule in one place
    """
    Give what may have come of it.

    A wait that was cancelled ends cancelled. Else it gives the first match of all that it has to
    look at, and without one it ends when the store closes or its time is up. Only what happens
    after the time is up and before the task takes its next step may make a difference or not.
    """
    if run.is_cancelled:
        return {"cancelled"}
    operation = run.operation
    begun = closed = late = False
    value = "start"
    to_look_at: list[str] = []
    found = set()
    for event in run.happened:
        if event == "start":
            begun = True
            if operation.immediate:
                to_look_at.append(value)
        elif event == "close":
            closed = True
        elif event == "time":
            late = late or (begun and operation.times_out)
        else:
            value = event
            if begun or operation.is_queued:
                to_look_at.append(value)
        if begun:
            match = next(filter(operation.matches, to_look_at), None)
            if match is not None:
                return {*found, match}
            if closed:
                return {*found, "closed"}
            if late:
                found.add("timeout")
    return found or {"pending"}


def _outcome(task: asyncio.Task[str]) -> str:
    if not task.done():
        return "pending"
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    if isinstance(error, StoreClosedError):
        return "closed"
    if isinstance(error, WaitTimeoutError):
        return "timeout"
    assert error is None
    return task.result()


def _left_in(stream: Any) -> Iterator[str]:
    with contextlib.suppress(asyncio.QueueEmpty, StoreClosedError):
        while True:
            record = stream.get_nowait()
            if isinstance(record, Commit):
                (record,) = record.transitions
            yield record if isinstance(record, str) else record.new


def _check_queue(run: Scenario, outcome: str) -> None:
    """Assert that what was not given is still there, that nothing is lost and nothing doubled."""
    left = list(_left_in(run.stream))
    taken = run.committed[: len(run.committed) - len(left)]
    matching = [value for value in taken if run.operation.matches(value)]

    assert run.committed == taken + left
    assert ([outcome] if outcome in VALUES.values() else []) == matching
    assert taken[-1:] == matching or not matching


@pytest.fixture(scope="module", autouse=True)
def _no_garbage_complains() -> Iterator[None]:
    """Whatever a scenario left behind has its say while this module is still to blame."""
    yield
    gc.collect()


def _sweep(
    operation: Operation, events: str, *, offsets: range, seed: int | None, beside: bool
) -> None:
    with StepLoop(seed) as loop:
        for offset, gap in itertools.product(offsets, GAPS[: 1 if len(events) == 1 else None]):
            run = Scenario(loop, operation)
            other = loop.create_task(run.app.state.wait_for("never")) if beside else None
            loop.settle()
            run.run(events, offset, gap)
            assert run.task is not None
            outcome = _outcome(run.task)

            assert outcome in _expected(run), (offset, gap, run.happened)

            if not run.task.done():
                run.task.cancel()
            if other is not None and not other.cancel():
                assert isinstance(other.exception(), StoreClosedError)
            loop.settle()
            if run.stream is not None:
                _check_queue(run, outcome)
                run.stream.close()

            assert_no_trace(run.app)
            assert [] == loop.ready()
            assert [] == loop.timers()
    assert [] == loop.failures


@pytest.mark.parametrize("events", EVENTS.values(), ids=EVENTS)
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_every_outcome_is_right_and_leaves_no_trace(operation: Operation, events: str) -> None:
    """Whatever comes at whatever callback, P001 P002 P004 P005 P016 P018 hold."""
    _sweep(operation, events, offsets=OFFSETS, seed=None, beside=False)


@pytest.mark.parametrize("events", EVENTS.values(), ids=EVENTS)
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_others_and_their_order_make_no_difference(operation: Operation, events: str) -> None:
    """The same beside another wait, with callbacks that run in any order."""
    _sweep(operation, events, offsets=OFFSETS[::2], seed=7, beside=True)
