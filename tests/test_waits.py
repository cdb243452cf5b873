"""Waits on an event loop: what they find, when they end, and that they leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import inspect
import math
import sys
import weakref
from collections.abc import Callable, Coroutine, Iterator
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any
from unittest import mock

import pytest
from attrs import field, frozen

from statestore import (
    Key,
    Store,
    StoreClosedError,
    SubscriptionError,
    ValueWatcher,
    WaitTimeoutError,
)
from statestore._matching import EqualTo
from statestore.testing import StepLoop, Stuck, assert_no_trace, traces_of


class Conn(StrEnum):
    """States that are strings as well."""

    OPEN = "open"
    CLOSING = "closing"


class Level(IntEnum):
    """States that are numbers as well."""

    LOW = 1
    HIGH = 2


class Color(Enum):
    """States that are only themselves."""

    RED = "red"
    BLUE = "blue"


class App(Store):
    """A store with one key to wait on."""

    state = Key("start")


@frozen
class Point:
    """A value that is equal by its content."""

    x: int


@frozen(eq=False)
class Opaque:
    """A value that only equals itself."""

    x: int


@pytest.fixture
def state() -> ValueWatcher[Any]:
    """Give a watcher that stands alone and takes any value."""
    return ValueWatcher("start", name="state")


def start(loop: StepLoop, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start *main* from inside the loop, and let it go as far as it gets."""
    made: list[asyncio.Task[Any]] = []
    loop.call_soon(lambda: made.append(loop.create_task(main)))
    loop.settle()
    return made[0]


WAYS: dict[str, Callable[[ValueWatcher[Any]], Coroutine[Any, Any, Any]]] = {
    "wait_for": lambda w: w.wait_for("goal"),
    "wait_for, not immediate": lambda w: w.wait_for("goal", immediate=False),
    "wait_for_not": lambda w: w.wait_for_not("start"),
    "wait_for_not_none": lambda w: w.wait_for_not_none(immediate=False),
    "wait_for_change": lambda w: w.wait_for_change(),
    "wait_until": lambda w: w.wait_until(lambda value: value == "goal"),
}
TIMED: dict[str, Callable[[ValueWatcher[Any], Any], Coroutine[Any, Any, Any]]] = {
    "wait_for": lambda w, t: w.wait_for("goal", timeout=t),
    "wait_for, not immediate": lambda w, t: w.wait_for("goal", immediate=False, timeout=t),
    "wait_for_not": lambda w, t: w.wait_for_not("start", timeout=t),
    "wait_for_not_none": lambda w, t: w.wait_for_not_none(immediate=False, timeout=t),
    "wait_for_change": lambda w, t: w.wait_for_change(timeout=t),
    "wait_until": lambda w, t: w.wait_until(lambda value: value == "goal", timeout=t),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
each_timed = pytest.mark.parametrize("way", TIMED.values(), ids=TIMED)


# What is found


@each_way
def test_a_wait_gives_the_value_that_matched(
    loop: StepLoop, state: ValueWatcher[Any], way: Callable[..., Any]
) -> None:
    """The result is the value that was accepted, not the current one, and nothing stays (P019)."""
    task = start(loop, way(state))
    state.value = "goal"
    state.value = "away"
    loop.settle()

    assert "goal" == task.result()
    assert_no_trace(state)
    assert [] == loop.timers()


@each_way
def test_a_wait_is_registered_before_it_suspends(
    loop: StepLoop, state: ValueWatcher[Any], way: Callable[..., Any]
) -> None:
    """One registration is there after the first step, and no timer without a timeout (P008)."""
    start(loop, way(state))

    assert 1 == len(state._core.listeners[state].ports)
    assert [] == loop.timers()


@each_timed
def test_a_timeout_does_not_delay_the_registration(
    loop: StepLoop, state: ValueWatcher[Any], way: Callable[..., Any]
) -> None:
    """With a timeout, too, the first step registers: what follows it is found (P003)."""
    task = loop.create_task(way(state, 5))
    loop.step()
    state.value = "goal"
    state.value = "away"
    loop.settle()

    assert "goal" == task.result()


def test_what_is_there_already_is_found_without_suspension(state: ValueWatcher[Any]) -> None:
    """A wait for what holds returns at its first step, on no loop at all (P017)."""
    for main in (
        state.wait_for("start"),
        state.wait_for_not("goal"),
        state.wait_for_not_none(),
        state.wait_until(lambda value: value == "start"),
    ):
        with pytest.raises(StopIteration) as caught:
            main.send(None)

        assert "start" == caught.value.value
    assert_no_trace(state)


def test_without_immediate_a_new_transition_is_needed(
    loop: StepLoop, state: ValueWatcher[Any]
) -> None:
    """What holds already does not count, the same value after going away and back does (P017)."""
    task = start(loop, state.wait_for("start", immediate=False))

    assert not task.done()

    state.value = "away"
    loop.settle()

    assert not task.done()

    state.value = "start"
    loop.settle()

    assert "start" == task.result()


def test_a_change_that_was_taken_back_is_seen(loop: StepLoop, state: ValueWatcher[Any]) -> None:
    """From A to B to A between two turns of the loop: the wait gives B (P018)."""
    change = start(loop, state.wait_for_change())
    back = start(loop, state.wait_for("start", immediate=False))
    state.value = "away"
    state.value = "start"
    loop.settle()

    assert "away" == change.result()
    assert "start" == back.result()


def test_a_subscription_misses_nothing_between_its_waits(
    loop: StepLoop, state: ValueWatcher[Any]
) -> None:
    """The second wait of a subscription goes on right behind the first match (P016)."""

    async def main() -> list[str]:
        with state.subscribe() as sub:
            for value in ("one", "two", "three"):
                state.value = value
            return [await sub.wait_for("one"), await sub.wait_for_change()]

    assert ["one", "two"] == loop.run(main())


def test_a_set_between_look_and_registration_is_found() -> None:
    """Another thread sets in the very gap between looking and registering: it is found."""

    class Racing(StepLoop):
        def create_future(self) -> asyncio.Future[Any]:
            # Called after the look and before the registration.
            state.value = "goal"
            return super().create_future()

    state = ValueWatcher("start")
    with Racing() as loop:
        task = loop.create_task(state.wait_for("goal"))
        loop.settle()

        assert "goal" == task.result()
    assert_no_trace(state)


def test_a_close_between_look_and_registration_is_found() -> None:
    """Another thread closes in that gap: the wait ends."""

    class Racing(StepLoop):
        def create_future(self) -> asyncio.Future[Any]:
            state.close()
            return super().create_future()

    state = ValueWatcher("start")
    with Racing() as loop:
        task = loop.create_task(state.wait_for("goal"))
        loop.settle()

        assert isinstance(task.exception(), StoreClosedError)
    assert_no_trace(state)


# Timeouts


@each_timed
@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, -1, -1e300, -math.inf])
def test_no_time_at_all_is_a_poll(
    state: ValueWatcher[Any], way: Callable[..., Any], timeout: float
) -> None:
    """A timeout of 0 or less only looks: no suspension, no registration (P006, P007)."""
    with pytest.raises(WaitTimeoutError):
        way(state, timeout).send(None)
    assert_no_trace(state)

    with pytest.raises(StopIteration) as caught:
        state.wait_for("start", timeout=timeout).send(None)

    assert "start" == caught.value.value


@each_timed
@pytest.mark.parametrize("timeout", [None, math.inf])
def test_endless_waits_have_no_timer(
    loop: StepLoop, state: ValueWatcher[Any], way: Callable[..., Any], timeout: float | None
) -> None:
    """Without a limit no timer is made (P008)."""
    task = start(loop, way(state, timeout))

    assert not task.done()
    assert [] == loop.timers()


@each_timed
@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        (math.nan, ValueError),
        (True, TypeError),
        (False, TypeError),
        ("1", TypeError),
        (Decimal(1), TypeError),
        ([], TypeError),
    ],
    ids=repr,
)
def test_what_is_no_length_of_time_is_refused(
    state: ValueWatcher[Any], way: Callable[..., Any], timeout: Any, error: type[Exception]
) -> None:
    """The first step refuses it, whether or not there is anything to wait for (P009)."""
    with pytest.raises(error, match="timeout"):
        way(state, timeout).send(None)
    with pytest.raises(error, match="timeout"):
        state.wait_for("start", timeout=timeout).send(None)
    assert_no_trace(state)


@each_timed
def test_a_wait_ends_when_its_time_is_up(
    loop: StepLoop, state: ValueWatcher[Any], way: Callable[..., Any]
) -> None:
    """It ends at its deadline, neither before nor after, and leaves no trace."""
    task = start(loop, way(state, 5))
    loop.advance(4.99)

    assert not task.done()

    loop.advance(0.01)

    assert isinstance(task.exception(), WaitTimeoutError)
    assert_no_trace(state)


@each_timed
def test_a_match_leaves_no_timer(
    loop: StepLoop, state: ValueWatcher[Any], way: Callable[..., Any]
) -> None:
    """A wait that ends long before its deadline takes its timer with it (P022)."""
    for _ in range(3):
        start(loop, way(state, 3600))
    state.value = "goal"
    loop.settle()

    assert [] == loop.timers()
    assert 0.0 == loop.time()


@each_timed
def test_a_late_loop_loses_no_match(
    loop: StepLoop, state: ValueWatcher[Any], way: Callable[..., Any]
) -> None:
    """Match and deadline become due in one turn: the commit came first, so it counts (P004)."""
    task = start(loop, way(state, 5))
    state.value = "goal"
    state.value = "away"
    loop.fall_behind(100)
    loop.settle()

    assert "goal" == task.result()


@each_timed
def test_a_late_loop_whose_timer_runs_first_loses_no_match(
    loop: StepLoop, state: ValueWatcher[Any], way: Callable[..., Any]
) -> None:
    """The deadline is seen to before the news is: it looks at the news itself (P004)."""
    task = start(loop, way(state, 5))
    (timer,) = loop.timers()
    state.value = "goal"
    loop.fall_behind(100)
    timer._run()
    timer.cancel()
    loop.settle()

    assert "goal" == task.result()


@each_timed
def test_a_match_behind_the_deadline_is_taken_if_it_is_there(
    loop: StepLoop, state: ValueWatcher[Any], way: Callable[..., Any]
) -> None:
    """No error claims that a value did not come which is there when the task goes on."""
    task = start(loop, way(state, 5))
    loop.fall_behind(5)
    loop.step()
    state.value = "goal"
    state._core.end()
    loop.settle()

    assert "goal" == task.result()


def test_a_timeout_explains_itself(loop: StepLoop) -> None:
    """The error tells key, aim, value, revision and time, in words and as attributes (P010)."""
    app = App()
    app.state.value = "half-way"
    task = start(loop, app.state.wait_for("goal", timeout=2.5))
    loop.advance(2.5)
    error = task.exception()

    assert isinstance(error, WaitTimeoutError)
    assert isinstance(error, TimeoutError)
    assert "waited 2.5 s in vain for state to be 'goal'; it is 'half-way' since revision 1" == str(
        error
    )
    assert ("state", "state to be 'goal'", "half-way", 1, 2.5) == (
        error.key,
        error.waited_for,
        error.value,
        error.revision,
        error.timeout,
    )


def test_each_wait_names_its_aim(state: ValueWatcher[Any]) -> None:
    """Every kind of wait says in its error what it waited for."""

    def is_odd(value: object) -> bool:
        return False

    for main, aim in (
        (state.wait_for_not("start", timeout=0), "state to be other than 'start'"),
        (state.wait_for_not_none(immediate=False, timeout=0), "state to be other than None"),
        (state.wait_for_change(timeout=0), "state to change"),
        (
            state.wait_until(is_odd, timeout=0),
            "state to satisfy test_each_wait_names_its_aim.<locals>.is_odd",
        ),
        (state.wait_until(lambda value: False, timeout=0), "the lambda at "),
        (state.wait_until(mock.Mock(return_value=0), timeout=0), "Mock"),
    ):
        with pytest.raises(WaitTimeoutError) as caught:
            main.send(None)

        assert aim in str(caught.value)
        assert aim in caught.value.waited_for


def test_the_value_in_the_error_is_the_last_one_looked_at(
    loop: StepLoop, state: ValueWatcher[Any]
) -> None:
    """A commit that the wait has looked at in vain is the one its error tells of."""
    task = start(loop, state.wait_for("goal", timeout=5))
    state.value = "other"
    loop.advance(5)
    error = task.exception()

    assert isinstance(error, WaitTimeoutError)
    assert ("other", 1) == (error.value, error.revision)


def test_an_outer_timeout_is_not_ours(loop: StepLoop, state: ValueWatcher[Any]) -> None:
    """`asyncio.timeout()` raises its own error, and cancellation is balanced (P011)."""

    async def main() -> int:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(1):
                await state.wait_for("goal", timeout=5)

        assert not isinstance(caught.value, WaitTimeoutError)
        assert_no_trace(state)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert 0 == loop.run(main())
    assert 1.0 == loop.time()


def test_an_outer_timeout_does_not_hide_what_is_there(
    loop: StepLoop, state: ValueWatcher[Any]
) -> None:
    """A wait that need not suspend succeeds even when no time is left."""

    async def main() -> Any:
        async with asyncio.timeout(0):
            return await state.wait_for("start")

    assert "start" == loop.run(main())


# Cancellation


@each_timed
def test_a_cancelled_wait_leaves_no_trace(
    loop: StepLoop, state: ValueWatcher[Any], way: Callable[..., Any]
) -> None:
    """A wait that is cancelled while it sleeps ends cancelled, and nothing is left."""
    task = start(loop, way(state, 5))

    assert task.cancel()

    loop.settle()

    assert task.cancelled()
    assert_no_trace(state)
    assert [] == loop.timers()


@each_timed
@pytest.mark.parametrize("match_first", [True, False])
@pytest.mark.parametrize("steps", range(3))
def test_a_cancellation_is_never_swallowed(
    loop: StepLoop,
    state: ValueWatcher[Any],
    way: Callable[..., Any],
    match_first: bool,
    steps: int,
) -> None:
    """Match and cancel in one tick, or a few steps apart: who could cancel did (P001, P002)."""
    task = start(loop, way(state, 5))
    if match_first:
        state.value = "goal"
        loop.steps(steps)
        accepted = task.cancel()
    else:
        accepted = task.cancel()
        loop.steps(steps)
        state.value = "goal"
    loop.settle()

    assert accepted == task.cancelled()
    assert accepted or task.result() == "goal"
    assert_no_trace(state)


@pytest.mark.parametrize("cancel_first", [True, False])
def test_a_cancellation_beats_the_deadline(
    loop: StepLoop, state: ValueWatcher[Any], cancel_first: bool
) -> None:
    """Cancelled in the turn of the deadline: CancelledError, and the count is right (P005)."""
    task = start(loop, state.wait_for("goal", timeout=5))
    if cancel_first:
        task.cancel()
        loop.fall_behind(5)
    else:
        loop.fall_behind(5)
        loop.step()
        task.cancel()
    loop.settle()

    assert task.cancelled()
    assert 1 == task.cancelling()
    assert_no_trace(state)


def test_a_sibling_that_fails_ends_the_wait(loop: StepLoop, state: ValueWatcher[Any]) -> None:
    """A task group raises the sibling's error although a match is queued (P012)."""
    seen: list[str] = []

    async def wait() -> None:
        try:
            await state.wait_for("goal")
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def fail() -> None:
        await asyncio.sleep(1)
        # Before the group hears of the error, but seen by the loop after that.
        loop.call_soon(state.set, "goal")
        raise ZeroDivisionError

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        loop.run(main())

    assert [ZeroDivisionError] == [type(error) for error in caught.value.exceptions]
    assert ["cancelled"] == seen
    assert_no_trace(state)


@pytest.mark.parametrize("goal", [True, False])
def test_a_shielded_wait_goes_on(loop: StepLoop, state: ValueWatcher[Any], goal: bool) -> None:
    """Cancelling the shield leaves the wait inside alone, and nobody complains (P013)."""
    inner: list[asyncio.Task[Any]] = []

    async def main() -> None:
        inner.append(asyncio.ensure_future(state.wait_for("goal", timeout=5)))
        await asyncio.shield(inner[0])

    outer = start(loop, main())
    outer.cancel()
    loop.settle()

    assert outer.cancelled()
    assert not inner[0].done()

    state.value = "goal" if goal else "other"
    loop.advance(5)

    assert isinstance(inner[0].exception(), type(None) if goal else WaitTimeoutError)
    assert_no_trace(state)


def test_a_wait_that_never_began_leaves_no_trace(state: ValueWatcher[Any]) -> None:
    """A task that is cancelled before its first step registers nothing (P014)."""
    with StepLoop() as loop:
        task = loop.create_task(state.wait_for("goal", timeout=5))
        task.cancel()
        loop.settle()

        assert task.cancelled()
        assert state._listeners is None
        assert [] == loop.timers()
        assert [] == loop.failures


def test_a_wait_that_is_cancelled_twice_ends_once(loop: StepLoop, state: ValueWatcher[Any]) -> None:
    """Its clean-up has no place where a second cancellation could come in (P015)."""
    task = start(loop, state.wait_for("goal", timeout=5))
    task.cancel()
    task.cancel()
    loop.step()

    assert task.done()

    loop.settle()

    assert task.cancelled()
    assert_no_trace(state)
    assert [] == loop.timers()


def test_a_coroutine_that_is_never_awaited_registers_nothing(state: ValueWatcher[Any]) -> None:
    """Making the coroutine does nothing but earn Python's own warning (P021)."""
    with pytest.warns(RuntimeWarning, match="never awaited") as caught:
        state.wait_for("goal", timeout=5)

    assert 1 == len(caught)
    assert state._listeners is None


def test_a_coroutine_that_is_closed_leaves_no_trace(state: ValueWatcher[Any]) -> None:
    """A wait that is thrown away half-way takes its registration and timer with it."""
    with StepLoop() as loop:
        main = state.wait_for("goal", timeout=5)
        loop.call_soon(main.send, None)
        loop.settle()

        assert [] != traces_of(state)

        main.close()

        assert_no_trace(state)
        assert [] == loop.timers()


# Memory


def test_a_waiting_task_is_kept_alive(loop: StepLoop, state: ValueWatcher[Any]) -> None:
    """A task that nobody refers to goes on waiting through a garbage collection (P020)."""
    seen: list[str] = []

    async def main() -> None:
        seen.append(await state.wait_for("goal"))

    task = weakref.ref(start(loop, main()))
    gc.collect()

    assert task() is not None

    state.value = "goal"
    loop.settle()

    assert ["goal"] == seen


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("timeout", [0, 5])
@pytest.mark.usefixtures("_no_collector")
def test_a_timeout_is_no_cycle(state: ValueWatcher[Any], timeout: float) -> None:
    """The error of a wait goes when its last name goes, without the collector (P023)."""

    async def main() -> weakref.ref[WaitTimeoutError]:
        try:
            await state.wait_for("goal", timeout=timeout)
        except WaitTimeoutError as error:
            return weakref.ref(error)
        raise AssertionError

    with StepLoop() as loop:
        assert loop.run(main())() is None


class _FailureError(Exception):
    pass


@pytest.mark.usefixtures("_no_collector")
def test_a_predicate_error_is_no_cycle(state: ValueWatcher[Any]) -> None:
    """What a predicate raised while the wait slept goes without the collector, too (P023)."""
    made: list[weakref.ref[BaseException]] = []

    def predicate(value: str) -> bool:
        if value != "goal":
            return False
        error = _FailureError()
        made.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    async def main() -> None:
        try:
            await state.wait_until(predicate)
        except _FailureError:
            return

    with StepLoop() as loop:
        task = loop.create_task(main())
        loop.settle()
        state.value = "goal"
        loop.settle()

        assert task.done()
        assert 1 == len(made)
        assert made[0]() is None


@each_timed
def test_a_timeout_that_is_kept_holds_no_value(
    loop: StepLoop, state: ValueWatcher[Any], way: Callable[..., Any]
) -> None:
    """Whoever keeps the error of a wait that timed out keeps none of the values that come later."""
    task = start(loop, way(state, 5))
    loop.advance(5)
    error = task.exception()
    state.value = Opaque(1)
    value = weakref.ref(state.value)
    state.value = "last"
    gc.collect()

    assert isinstance(error, WaitTimeoutError)
    assert value() is None


def test_a_value_that_equals_many_wakes_in_the_order_of_arrival(
    loop: StepLoop, state: ValueWatcher[Any]
) -> None:
    """Those for any of several values that one value equals go on as they came (P099)."""
    order: list[int] = []

    class Everything:
        __hash__ = None  # type: ignore[assignment] -- so that it is compared with each

        def __eq__(self, other: object) -> bool:
            return True

    async def one(number: int, target: int) -> None:
        await state.wait_for(target)
        order.append(number)

    for number, target in enumerate([7, 8, 7, 8]):
        start(loop, one(number, target))
    state.value = Everything()
    loop.settle()

    assert [0, 1, 2, 3] == order


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the mark came with Python 3.12")
async def test_a_predicate_that_is_marked_as_asynchronous_is_refused() -> None:
    """What the mark says counts, as it does for `inspect`."""

    @inspect.markcoroutinefunction  # type: ignore[attr-defined,unused-ignore] -- not in 3.11
    def marked(_value: object) -> Any:
        raise AssertionError

    with pytest.raises(TypeError, match="must be a plain function"):
        await ValueWatcher(0).wait_until(marked)


@pytest.mark.parametrize("way", WAYS)
def test_a_cancellation_that_is_kept_holds_no_value(
    loop: StepLoop, state: ValueWatcher[Any], way: str
) -> None:
    """Whoever keeps the error of a cancelled wait keeps none of the values that come later."""
    kept: list[BaseException] = []

    async def main() -> None:
        try:
            await WAYS[way](state)
        except asyncio.CancelledError as error:
            kept.append(error)

    task = start(loop, main())
    task.cancel()
    loop.settle()
    state.value = Opaque(1)
    value = weakref.ref(state.value)
    state.value = "last"
    gc.collect()

    assert 1 == len(kept)
    assert value() is None


def test_old_values_are_not_kept(loop: StepLoop) -> None:
    """A wait that sleeps holds the last three transitions it looked at, and none before."""
    state = ValueWatcher[Any](Opaque(1))
    first = weakref.ref(state.value)
    start(loop, state.wait_for("goal"))
    state.value = second = Opaque(2)
    kept = weakref.ref(second)
    del second
    for value in range(3):
        state.value = value
    loop.settle()
    gc.collect()

    assert first() is None
    assert kept() is not None

    state.value = "last"
    loop.settle()
    gc.collect()

    assert kept() is None


# Subscriptions are read by one at a time


@pytest.mark.parametrize("second", ["wait", "iterate"])
@pytest.mark.parametrize("first", ["wait", "iterate"])
def test_a_subscription_is_read_by_one_task_at_a_time(
    loop: StepLoop, state: ValueWatcher[Any], first: str, second: str
) -> None:
    """The second reader is refused at once, the first one loses nothing (P024)."""
    with state.subscribe() as sub:
        read: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "wait": sub.wait_for_change,
            "iterate": sub.__anext__,
        }
        reader = start(loop, read[first]())
        for _ in range(2):
            with pytest.raises(SubscriptionError, match="being read elsewhere"):
                loop.run(read[second]())
        state.value = "goal"
        loop.settle()

        assert "goal" == getattr(reader.result(), "new", reader.result())
        assert 0 == sub.pending


# Predicates


@pytest.mark.parametrize("error", [ValueError, TimeoutError, KeyError, asyncio.QueueEmpty])
@pytest.mark.parametrize("at_once", [True, False])
def test_the_error_of_a_predicate_comes_out_as_it_is(
    loop: StepLoop, state: ValueWatcher[Any], error: type[Exception], at_once: bool
) -> None:
    """It ends its own wait alone, be it a TimeoutError; setters never see it (P010, P056)."""
    raised = error("mine")

    def predicate(value: str) -> bool:
        if at_once or value == "goal":
            raise raised
        return False

    task = start(loop, state.wait_until(predicate, timeout=5))
    other = start(loop, state.wait_for("goal", timeout=5))
    state.value = "goal"
    loop.settle()

    assert raised is task.exception()
    assert "goal" == other.result()
    assert_no_trace(state)
    assert [] == loop.timers()


@pytest.mark.parametrize("at_once", [True, False])
def test_a_predicate_that_raises_stop_iteration_does_no_harm(
    loop: StepLoop, state: ValueWatcher[Any], at_once: bool
) -> None:
    """As everywhere in a coroutine it becomes a RuntimeError; the wait does not hang (P056)."""

    def predicate(value: str) -> bool:
        if at_once or value == "goal":
            raise StopIteration
        return False

    task = start(loop, state.wait_until(predicate))
    state.value = "goal"
    loop.settle()

    assert isinstance(task.exception(), RuntimeError)
    assert_no_trace(state)


def test_the_first_predicate_error_ends_the_wait(loop: StepLoop, state: ValueWatcher[Any]) -> None:
    """After an error the predicate is asked no more, though a match follows."""
    seen: list[str] = []

    def predicate(value: str) -> bool:
        seen.append(value)
        return bool(1 / (value != "bad")) and value == "goal"

    task = start(loop, state.wait_until(predicate))
    for value in ("fine", "bad", "goal"):
        state.value = value
    loop.settle()

    assert isinstance(task.exception(), ZeroDivisionError)
    assert ["start", "fine", "bad"] == seen


def test_a_predicate_may_read_and_set(loop: StepLoop) -> None:
    """What it sets is a later revision, which it is shown in turn (P057)."""
    app = App()

    def predicate(value: str) -> bool:
        assert value == app.state.value
        app.state.value = {"start": "one", "one": "two", "go": "three"}.get(value, value)
        return value == "three"

    task = start(loop, app.state.wait_until(predicate))

    assert "two" == app.state.value
    assert not task.done()

    app.state.value = "go"
    loop.settle()

    assert "three" == task.result()
    assert 4 == app.revision
    assert_no_trace(app)


def test_a_predicate_may_close_the_store(loop: StepLoop) -> None:
    """A predicate that closes the store ends its own wait with that."""
    app = App()

    def predicate(value: str) -> bool:
        if value == "goal":
            app.close()
        return False

    task = start(loop, app.state.wait_until(predicate))
    app.state.value = "goal"
    loop.settle()

    assert isinstance(task.exception(), StoreClosedError)


def test_a_predicate_runs_where_it_is_waited_for(loop: StepLoop, state: ValueWatcher[Any]) -> None:
    """The setter runs no predicate: those that wait do, on their loop (P058, P059)."""
    running: list[bool] = []

    def predicate(value: str) -> bool:
        running.append(loop.is_running())
        return value == "goal"

    task = start(loop, state.wait_until(predicate))
    state.value = "goal"

    assert [True] == running

    loop.settle()

    assert [True, True] == running
    assert "goal" == task.result()


class _HostileBool:
    def __bool__(self) -> bool:
        raise ZeroDivisionError


def test_what_a_predicate_returns_is_taken_for_true_or_false(
    loop: StepLoop, state: ValueWatcher[Any]
) -> None:
    """`bool()` is applied to it, and what that raises ends the wait (P060)."""
    answers: dict[str, Any] = {"start": None, "a": [], "b": _HostileBool(), "c": [0]}
    hostile = start(loop, state.wait_until(answers.__getitem__))
    fine = start(loop, state.wait_until(lambda value: [0] if value == "c" else None))
    for value in ("a", "b", "c"):
        state.value = value
    loop.settle()

    assert isinstance(hostile.exception(), ZeroDivisionError)
    assert "c" == fine.result()


@pytest.mark.parametrize("timeout", [None, 5])
def test_a_predicate_is_asked_once_for_each_value(
    loop: StepLoop, state: ValueWatcher[Any], timeout: float | None
) -> None:
    """Each value is shown once, in order, up to the match (P061)."""
    seen: list[str] = []

    def predicate(value: str) -> bool:
        seen.append(value)
        return value == "d"

    task = start(loop, state.wait_until(predicate, timeout=timeout))
    for value in "ab":
        state.value = value
    loop.settle()
    for value in "cde":
        state.value = value
    loop.fall_behind(10)
    loop.settle()

    assert "d" == task.result()
    assert ["start", "a", "b", "c", "d"] == seen


def test_a_predicate_is_asked_once_at_the_deadline(
    loop: StepLoop, state: ValueWatcher[Any]
) -> None:
    """The last look at the deadline repeats no question (P061)."""
    seen: list[str] = []
    task = start(loop, state.wait_until(seen.append, timeout=5))
    state.value = "a"
    loop.settle()
    state.value = "b"
    loop.advance(5)

    assert isinstance(task.exception(), WaitTimeoutError)
    assert ["start", "a", "b"] == seen


async def _coroutine_function(value: object) -> bool:
    return True


class _AsyncCall:
    async def __call__(self, value: object) -> bool:
        return True


@pytest.mark.parametrize("predicate", [_coroutine_function, _AsyncCall(), 5, None])
def test_a_predicate_must_be_a_plain_function(
    state: ValueWatcher[Any], predicate: Callable[[Any], Any]
) -> None:
    """A coroutine function, or what cannot be called, is refused, with the reason."""
    with pytest.raises(TypeError, match="predicate must be"):
        state.wait_until(predicate).send(None)
    assert_no_trace(state)


# Equality


_NAN = math.nan


class _Wide:
    """Equals whatever has the length of its name; hashes as it likes."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and len(other) == 4

    def __hash__(self) -> int:
        return 0


class _Text(str):
    """A string that hashes differently."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return 5


@pytest.mark.parametrize(
    ("value", "target"),
    [
        (Conn.CLOSING, "closing"),
        ("closing", Conn.CLOSING),
        (Conn.CLOSING, Conn.CLOSING),
        (Level.HIGH, 2),
        (2, Level.HIGH),
        (1, True),
        (True, 1),
        (1, 1.0),
        (1.0, Decimal(1)),
        (Decimal(1), 1),
        (0.0, -0.0),
        (complex(1, 0), 1),
        (1, complex(1, 0)),
        (None, None),
        (b"x", b"x"),
        (bytearray(b"x"), b"x"),
        (b"x", bytearray(b"x")),
        (Color.RED, Color.RED),
        (Point(1), Point(1)),
        ((1, 2), (1, 2)),
        ([1], [1]),
        ({"a": 1}, {"a": 1}),
        ({1, 2}, frozenset({1, 2})),
        (_NAN, _NAN),
        ("anything", mock.ANY),
        ("goal", _Wide()),
        (_Wide(), "goal"),
        ("GOAL", _Text("goal")),
        (_Text("GOAL"), "goal"),
        (10**30, 10**30),
    ],
    ids=repr,
)
@pytest.mark.parametrize("immediate", [True, False])
def test_waiting_for_a_value_means_plain_equality(
    loop: StepLoop, value: Any, target: Any, immediate: bool
) -> None:
    """What equals the target matches it, hashable or not, at once and later (P063)."""
    state = ValueWatcher[Any](value if immediate else Opaque(0))
    task = start(loop, state.wait_for(target, immediate=immediate))
    others = [start(loop, state.wait_for(other, immediate=immediate)) for other in (Point(9), -7)]
    state.value = value
    loop.settle()

    assert value is task.result()
    assert not any(other.done() for other in others if value != "anything")


@pytest.mark.parametrize(
    ("value", "target"),
    [
        (math.nan, float("nan")),
        (Opaque(1), Opaque(1)),
        (Color.BLUE, Color.RED),
        (Color.RED, "red"),
        (Conn.OPEN, "closing"),
        ("1", 1),
        ([1], [2]),
        ((1,), [1]),
        (Point(1), Point(2)),
    ],
    ids=repr,
)
def test_what_is_not_equal_does_not_match(loop: StepLoop, value: Any, target: Any) -> None:
    """NaN and things without an `==` of their own match by identity only (P066)."""
    state = ValueWatcher[Any]("start")
    found = start(loop, state.wait_for(target))
    other = start(loop, state.wait_for_not(target, immediate=False))
    state.value = value
    loop.settle()

    assert not found.done()
    assert value is other.result()


def test_one_and_true_are_two_values(loop: StepLoop) -> None:
    """From 1 to True is a transition, for which a wait for either wakes (P063)."""
    state = ValueWatcher[Any](1)
    tasks = [start(loop, state.wait_for(x, immediate=False)) for x in (1, True, 1.0)]
    state.value = True
    loop.settle()

    assert [True, True, True] == [task.result() for task in tasks]
    assert state.value is True


def test_the_same_nan_is_no_change(loop: StepLoop) -> None:
    """The same NaN makes no transition, another one does; each is found by identity (P066)."""
    one, two = float("nan"), float("nan")
    state = ValueWatcher[Any](one)
    first = start(loop, state.wait_for(one, immediate=False))
    second = start(loop, state.wait_for(two))
    state.value = one
    loop.settle()

    assert 0 == state.revision
    assert not first.done()

    state.value = two
    loop.settle()

    assert 1 == state.revision
    assert two is second.result()
    assert not first.done()

    state.value = one
    loop.settle()

    assert one is first.result()


@frozen
class _Hostile:
    """A value whose `==` raises when it is compared with a certain other type."""

    name: str = field(eq=False)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Point):
            raise ZeroDivisionError
        return NotImplemented

    def __hash__(self) -> int:
        return 1


def test_an_equality_that_raises_ends_the_waits_that_ask_it(
    loop: StepLoop, state: ValueWatcher[Any]
) -> None:
    """What `==` raises comes out of the wait whose target it was compared with (P056)."""
    task = start(loop, state.wait_for(Point(1)))
    other = start(loop, state.wait_for_not("start"))
    state.value = _Hostile("x")
    loop.settle()

    assert isinstance(task.exception(), ZeroDivisionError)
    assert state.value is other.result()
    assert_no_trace(state)


def test_not_equal_is_plain_inequality(loop: StepLoop) -> None:
    """`wait_for_not()` takes `!=`: True is not other than 1 (P071)."""
    state = ValueWatcher[Any](1)
    task = start(loop, state.wait_for_not(1.0))
    state.value = True
    loop.settle()

    assert not task.done()

    state.value = 2
    loop.settle()

    assert 2 == task.result()


class _EqualsNone:
    def __eq__(self, other: object) -> bool:
        return other is None

    def __hash__(self) -> int:
        return hash(None)


def test_none_is_told_by_identity(loop: StepLoop) -> None:
    """A value that claims to equal None is not None (P071)."""
    state = ValueWatcher[Any](None)
    task = start(loop, state.wait_for_not_none())

    assert not task.done()

    state.value = odd = _EqualsNone()
    loop.settle()

    assert odd is task.result()


@pytest.mark.parametrize("targets", [list(range(50)), [[n] for n in range(50)]], ids=["hash", "=="])
def test_a_set_wakes_those_who_wait_for_its_value(loop: StepLoop, targets: list[Any]) -> None:
    """Of many waits for different values only those for the new one end, whatever their kind."""
    state = ValueWatcher[Any](None)
    tasks = {n: start(loop, state.wait_for(target)) for n, target in enumerate(targets)}
    again = start(loop, state.wait_for(targets[7]))
    state.value = targets[7]
    state.value = targets[30]
    loop.settle()

    assert [7, 30] == [n for n, task in tasks.items() if task.done()]
    assert targets[7] is again.result()


@pytest.mark.parametrize(("target", "calls"), [("goal", 0), (7, 0), (Color.RED, 0), ((1,), 1)])
def test_an_indexed_wait_is_not_asked(
    loop: StepLoop, state: ValueWatcher[Any], target: Any, calls: int
) -> None:
    """A wait whose target can be found by hash is not touched by a set of another value."""
    start(loop, state.wait_for(target))
    with mock.patch.object(EqualTo, "__call__", return_value=False) as asked:
        state.value = "other"
        loop.settle()

    assert calls == asked.call_count


def test_waits_end_in_the_order_in_which_they_came(
    loop: StepLoop, state: ValueWatcher[Any]
) -> None:
    """Indexed or not, those that one commit wakes go on in the order of arrival (P099)."""
    order: list[int] = []

    async def one(number: int, main: Coroutine[Any, Any, Any]) -> None:
        await main
        order.append(number)

    for number, way in enumerate([*WAYS.values()] * 2):
        start(loop, one(number, way(state)))
    state.value = "goal"
    loop.step()

    # All in one turn of the loop; in debug mode it is to call each.
    assert 2 * len(WAYS) == (len(loop.ready()) if loop.get_debug() else len(order))

    loop.settle()

    assert list(range(2 * len(WAYS))) == order


# The end


@each_way
def test_closing_ends_every_wait(
    loop: StepLoop, state: ValueWatcher[Any], way: Callable[..., Any]
) -> None:
    """A wait ends with StoreClosedError, which says what it waited for, and leaves no trace."""
    task = start(loop, way(state))
    state.close()
    loop.settle()

    assert isinstance(task.exception(), StoreClosedError)
    assert "was closed during a wait for state to " in str(task.exception())
    assert_no_trace(state)

    with pytest.raises(StoreClosedError):
        state.wait_for("never").send(None)


@each_way
def test_what_came_before_the_end_is_found(
    loop: StepLoop, state: ValueWatcher[Any], way: Callable[..., Any]
) -> None:
    """A match that was committed before the store closed is returned."""
    task = start(loop, way(state))
    state.value = "goal"
    state.value = "away"
    state.close()
    loop.settle()

    assert "goal" == task.result()


def test_a_wait_without_an_end_is_stuck(state: ValueWatcher[Any]) -> None:
    """A wait that nothing can end keeps no timer or callback going."""
    with StepLoop() as loop, pytest.raises(Stuck):
        loop.run(state.wait_for("goal"))
