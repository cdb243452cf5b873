"""
A claim against every event, callback by callback.

As in `test_tick_sweep.py`: the events of a scenario come a distance in callbacks before or after
the task of a claim is made. What must come out of it is told by a rule that knows the log of
commits and nothing of loops or lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, TypeAlias

import pytest
from attrs import define, field

from statestore import Key, Store, StoreClosedError, Transaction, WaitTimeoutError
from statestore.testing import StepLoop, assert_no_trace

OFFSETS: Final = range(-8, 9)
# A gap longer than it takes a claim to end changes nothing: the later event finds it ended.
GAPS: Final = (0, 1, 2, 3, 4)
TIMEOUT: Final = 5.0

EVENTS: Final = {
    "state": "m",
    "other state": "o",
    "close": "c",
    "cancel": "x",
    "time": "t",
    "state, then away": "ma",
    "state, away, state": "mam",
    "state, then another takes it": "ms",
    "state, taken, state": "msm",
    "state, then cancel": "mx",
    "cancel, then state": "xm",
    "state, cancel, state": "mxm",
    "state, then time": "mt",
    "time, then state": "tm",
    "state, time, state": "mtm",
    "cancel, then time": "xt",
    "time, then cancel": "tx",
    "state, then close": "mc",
    "close, then state": "cm",
    "close, then cancel": "cx",
    "cancel, then close": "xc",
    "close, then time": "ct",
    "time, then close": "tc",
    "taken, then time": "mst",
    "away, then time": "mat",
    "time, state, close": "tmc",
    "other, cancel, state": "oxm",
    "cancel twice": "xx",
    "two states": "mm",
    "first in line is cancelled": "my",
    "first in line is cancelled, then time": "myt",
    "first in line is cancelled before": "ym",
}
VALUES: Final = {"m": "goal", "o": "other", "a": "away"}

Claim: TypeAlias = Callable[["App", str, "float | None"], Coroutine[Any, Any, object]]
"""Give the coroutine that claims the goal for somebody."""


class App(Store):
    """What is claimed."""

    state = Key("start")
    beside = Key(0)


def is_goal(state: str) -> bool:
    """Tell whether it is there."""
    return state == "goal"


def _of_watcher(app: App, who: str, timeout: float | None) -> Coroutine[Any, Any, object]:
    return app.state.claim(is_goal, lambda _goal: who, timeout=timeout)


def _under_its_own_condition(
    app: App, who: str, timeout: float | None
) -> Coroutine[Any, Any, object]:
    return app.state.claim(
        lambda state: is_goal(state) and bool(who), lambda _: who, timeout=timeout
    )


def _of_store(app: App, who: str, timeout: float | None) -> Coroutine[Any, Any, object]:
    def put(tx: Transaction) -> None:
        tx[App.state] = who

    condition = app.state.is_("goal") & app.beside.is_(0)
    return app.claim(condition, put, timeout=timeout)


CLAIMS: Final[dict[str, Claim]] = {
    "watcher": _of_watcher,
    "watcher, own condition": _under_its_own_condition,
    "store": _of_store,
}

BESIDE: Final = {"alone": (), "behind another": ("first",), "between others": ("first", "last")}


@define
class Scenario:
    """One run: the claims, in the order in which they came, and all commits."""

    loop: StepLoop
    claim: Claim
    beside: tuple[str, ...]
    app: App = field(factory=App)
    tasks: dict[str, asyncio.Task[object]] = field(factory=dict)
    arrived: list[str] = field(factory=list)
    cancelled: set[str] = field(factory=set)
    log: Any = None
    # The state and the length of the log when its time was up, if it had come by then.
    at_deadline: tuple[str, int] | None = None

    def run(self, events: str, offset: int, gap: int) -> None:
        """Let *events* happen, *offset* callbacks after the task is made, *gap* ones apart."""
        schedule: dict[int, list[str]] = {}
        for number, event in enumerate(events):
            schedule.setdefault(offset + number * gap, []).append(event)
        self.log = self.app.state.subscribe()
        if "first" in self.beside:
            self._begin("first")
            self.loop.settle()
        for position in range(OFFSETS[0], max(0, *schedule) + 1):
            if position == 0:
                self._begin("it", TIMEOUT)
                if "last" in self.beside:
                    self._begin("last")
            for event in schedule.get(position, ()):
                self._do(event)
            # There is always something else to run.
            self.loop.call_soon(int)
            self.loop.steps(1)
        self.loop.settle()

    def _begin(self, who: str, timeout: float | None = None) -> None:
        async def claim() -> object:
            self.arrived.append(who)
            return await self.claim(self.app, who, timeout)

        self.tasks[who] = self.loop.create_task(claim())

    def _do(self, event: str) -> None:
        if event in "xy":
            who = "it" if event == "x" else "first"
            # The one that does nothing any more says so.
            if who in self.tasks and self.tasks[who].cancel():
                self.cancelled.add(who)
        elif event == "t":
            self.loop.fall_behind(2 * TIMEOUT)
            if "it" in self.arrived and self.at_deadline is None:
                self.at_deadline = self.app.state.value, self.log.pending
        elif event == "c":
            self.app.close()
        else:
            with contextlib.suppress(StoreClosedError):
                if event == "s":
                    self.app.state.compare_and_set("goal", "stolen")
                else:
                    self.app.state.value = VALUES[event]


def _outcome(task: asyncio.Task[object]) -> str:
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
    return "claimed"


def _check(run: Scenario) -> None:
    transitions = [run.log.get_nowait() for _ in range(run.log.pending)]
    app, outcomes = run.app, {who: _outcome(task) for who, task in run.tasks.items()}
    winners = [made.new for made in transitions if made.new in run.tasks]

    # It has claimed if and only if it made a transition, and that from the goal.
    assert {who for who in outcomes if outcomes[who] == "claimed"} == set(winners)
    assert len(set(winners)) == len(winners)
    assert all(made.old == "goal" for made in transitions if made.new in winners)
    # No cancellation is swallowed, and none is made up.
    assert run.cancelled == {who for who in outcomes if outcomes[who] == "cancelled"}
    # In order of arrival: nobody gets it while one that came before waits on.
    for before, after in itertools.combinations(run.arrived, 2):
        if outcomes[before] == "pending":
            assert outcomes[after] != "claimed"
        if {"claimed"} == {outcomes[before], outcomes[after]}:
            assert winners.index(before) < winners.index(after)
    # Nobody waits for what is there, or cannot come any more.
    if "pending" in outcomes.values():
        assert app.state.value != "goal"
        assert not app.is_closed
    assert app.is_closed or "closed" not in outcomes.values()
    # Its time is its own, and what came before the deadline is found.
    assert outcomes["it"] != "pending" or run.at_deadline is None
    if outcomes["it"] == "timeout":
        assert run.at_deadline is not None
        state, length = run.at_deadline
        assert not (state == "goal" and length == len(transitions))


def _sweep(claim: Claim, events: str, *, offsets: range, seed: int | None, who: str) -> None:
    with StepLoop(seed) as loop:
        for offset, gap in itertools.product(offsets, GAPS[: 1 if len(events) == 1 else None]):
            run = Scenario(loop, claim, BESIDE[who])
            run.run(events, offset, gap)
            try:
                _check(run)
            except AssertionError as error:
                error.add_note(f"offset {offset}, gap {gap}")
                raise
            for task in run.tasks.values():
                task.cancel()
            loop.settle()
            run.log.close()

            assert_no_trace(run.app)
            assert [] == loop.ready()
            assert [] == loop.timers()
    assert [] == loop.failures


@pytest.fixture(scope="module", autouse=True)
def _no_garbage_complains() -> Iterator[None]:
    """Whatever a scenario left behind has its say while this module is still to blame."""
    yield
    gc.collect()


@pytest.mark.parametrize("events", EVENTS.values(), ids=EVENTS)
@pytest.mark.parametrize("who", BESIDE)
@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_every_outcome_is_right_and_leaves_no_trace(claim: Claim, who: str, events: str) -> None:
    """Whatever comes at whatever callback, P001 P002 P004 P005 P018 hold."""
    _sweep(claim, events, offsets=OFFSETS, seed=None, who=who)


@pytest.mark.parametrize("events", EVENTS.values(), ids=EVENTS)
@pytest.mark.parametrize("who", BESIDE)
@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_the_order_of_callbacks_makes_no_difference(claim: Claim, who: str, events: str) -> None:
    """The same with callbacks that run in any order."""
    _sweep(claim, events, offsets=OFFSETS[::2], seed=7, who=who)
