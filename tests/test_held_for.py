"""
Waits with `held_for=`: the match must hold without a break, judged on transitions.

A story is told at given times; the same one is lived through by a task on a loop with a clock of
its own, and by a thread that blocks on a clock of its own. What is *late* happens while nobody who
waits gets to run.
"""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple
from unittest import mock

import pytest
from attrs import define, frozen
from hypothesis import given
from hypothesis import strategies as st

from statestore import (
    DerivationError,
    Family,
    Key,
    KeyRemovedError,
    Store,
    StoreClosedError,
    ValueWatcher,
    WaitTimeoutError,
    _holding,
)
from statestore._mailbox import ThreadPort
from statestore._matching import EqualTo
from statestore.testing import StepLoop, assert_no_trace, inside

HELD: Final = 2.0
CLOSE: Final = object()


class Event(NamedTuple):
    """Something that happens: a value that is set, the end, or nothing but time."""

    at: float
    what: object = None
    is_late: bool = False


def late(at: float, what: object = None) -> Event:
    return Event(at, what, is_late=True)


class Outcome(NamedTuple):
    """What came of a wait, and when."""

    at: float
    what: object


Ask = Callable[[Any], Any]
"""Gives the coroutine of a wait, or waits, for a watcher or the blocking side of one."""


def do(state: ValueWatcher[Any], event: Event) -> None:
    if event.what is CLOSE:
        state.close()
    elif event.what is not None:
        state.value = event.what


def named(error: Exception) -> str:
    return {WaitTimeoutError: "timeout", StoreClosedError: "closed"}[type(error)]


def in_task(state: ValueWatcher[Any], ask: Ask, story: list[Event]) -> Outcome | None:
    """Live through *story* on an event loop; give what came of the wait, None if nothing did."""

    async def wait() -> Outcome:
        try:
            what = await ask(state)
        except (WaitTimeoutError, StoreClosedError) as error:
            what = named(error)
        return Outcome(loop.time(), what)

    with StepLoop() as loop:
        task = loop.create_task(wait())
        loop.settle()
        for event in story:
            (loop.fall_behind if event.is_late else loop.advance)(event.at - loop.time())
            do(state, event)
        loop.advance(100)
        outcome = task.result() if task.done() else None
        assert task.cancel() is (outcome is None)
        loop.settle()
        assert [] == loop.timers()
    assert [] == loop.failures
    assert_no_trace(state)
    return outcome


class Stuck(Exception):  # noqa: N818 -- nobody catches it but `in_thread()`
    """The thread would block for ever."""


@define
class Thread:
    """A thread that blocks, with a clock of its own: while it does, the story goes on."""

    state: ValueWatcher[Any]
    story: list[Event]
    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def park(self, _cell: object, seconds: float | None) -> None:
        end = math.inf if seconds is None else self.now + seconds
        if not self.story or (self.story[0].at >= end and not self.story[0].is_late):
            if seconds is None:
                raise Stuck
            self.now = end
            return
        self.tell()
        while self.story and self.story[0].is_late:
            self.tell()

    def tell(self) -> None:
        event = self.story.pop(0)
        self.now = event.at
        do(self.state, event)


def in_thread(state: ValueWatcher[Any], ask: Ask, story: list[Event]) -> Outcome | None:
    """Live through *story* as a thread that blocks."""
    thread = Thread(state, story.copy())
    with (
        mock.patch.object(_holding, "time", thread),
        mock.patch.object(ThreadPort, "park", lambda _port, cell, left: thread.park(cell, left)),
    ):
        try:
            what = ask(state.blocking)
        except (WaitTimeoutError, StoreClosedError) as error:
            what = named(error)
        except Stuck:
            return None
    assert_no_trace(state)
    return Outcome(thread.now, what)


Live = Callable[[ValueWatcher[Any], Ask, list[Event]], Outcome | None]

each_side = pytest.mark.parametrize("live", [in_task, in_thread])


def for_up(**arguments: Any) -> Ask:
    return lambda waits: waits.wait_for("up", held_for=HELD, **arguments)


UP: Final = [Event(1, "up"), Event(1)]
"""It is up, and those who wait have seen it."""

STORIES: Final[dict[str, tuple[str, Ask, list[Event], Outcome | None]]] = {
    "it holds": ("down", for_up(), [Event(1, "up")], Outcome(3, "up")),
    "it holds from the beginning": ("up", for_up(), [], Outcome(2, "up")),
    "it never comes": ("down", for_up(), [], None),
    "a break": (
        "down",
        for_up(),
        [Event(1, "up"), Event(2, "down"), Event(5, "up")],
        Outcome(7, "up"),
    ),
    "a break that takes no time": (
        "down",
        for_up(),
        [*UP, Event(2.5, "down"), late(2.5, "up")],
        Outcome(4.5, "up"),
    ),
    "a break that was over when it was seen": (
        "down",
        for_up(),
        [*UP, late(1.5, "down"), late(2, "up"), late(4)],
        Outcome(6, "up"),
    ),
    "a break at the last moment": (
        "down",
        for_up(),
        [*UP, late(2.5, "down"), late(3)],
        None,
    ),
    "a break of which nobody knows whether it came in time": (
        "down",
        for_up(),
        [*UP, late(9, "down"), Event(10, "up")],
        Outcome(12, "up"),
    ),
    "seen late to begin": (
        "down",
        for_up(),
        [late(1, "up"), late(5)],
        Outcome(7, "up"),
    ),
    "seen late to be full": ("down", for_up(), [*UP, late(9)], Outcome(9, "up")),
    "what is so already does not count": ("up", for_up(immediate=False), [], None),
    "away from it and back": (
        "up",
        for_up(immediate=False),
        [Event(1, "down"), late(1, "up")],
        Outcome(3, "up"),
    ),
    "in time": ("down", for_up(timeout=3.5), [Event(1, "up")], Outcome(3, "up")),
    "just in time": ("down", for_up(timeout=3), [Event(1, "up")], Outcome(3, "up")),
    "just in time from the beginning": ("up", for_up(timeout=2), [], Outcome(2, "up")),
    "not in time": ("down", for_up(timeout=2.5), [Event(1, "up")], Outcome(2.5, "timeout")),
    "not at all in time": ("down", for_up(timeout=2.5), [], Outcome(2.5, "timeout")),
    "in time, seen late": (
        "down",
        for_up(timeout=5),
        [*UP, late(99)],
        Outcome(99, "up"),
    ),
    "not in time, seen late": (
        "down",
        for_up(timeout=5),
        [Event(4, "up"), Event(4), late(99)],
        Outcome(99, "timeout"),
    ),
    "full behind the deadline, seen late": (
        "down",
        for_up(timeout=5),
        [Event(4, "up"), Event(4.5), late(99)],
        Outcome(99, "timeout"),
    ),
    "broken, and seen late": (
        "down",
        for_up(timeout=5),
        [*UP, late(2, "down"), late(2, "up"), late(99)],
        Outcome(99, "timeout"),
    ),
    "no time at all": ("up", for_up(timeout=0), [], Outcome(0, "timeout")),
    "an end": ("down", for_up(), [Event(1, "up"), Event(2, CLOSE)], Outcome(2, "closed")),
    "an end before": ("down", for_up(), [Event(1, CLOSE)], Outcome(1, "closed")),
    "an end that comes behind, seen late": (
        "down",
        for_up(),
        [*UP, late(9, CLOSE)],
        Outcome(9, "up"),
    ),
    "the newest value of the time is given": (
        "0",
        lambda waits: waits.wait_until(lambda n: n != "0", held_for=HELD),
        [Event(1, "1"), Event(2, "2"), Event(2.5, "0"), Event(4, "4"), Event(5, "5")],
        Outcome(6, "5"),
    ),
    "it is other": (
        "down",
        lambda waits: waits.wait_for_not("down", held_for=HELD),
        [Event(1, "up"), Event(2, "high")],
        Outcome(3, "high"),
    ),
    "it is not none": (
        "down",
        lambda waits: waits.wait_for_not_none(held_for=HELD),
        [Event(1, "up")],
        Outcome(2, "up"),
    ),
    "a change that nothing follows": (
        "down",
        lambda waits: waits.wait_for_change(held_for=HELD),
        [Event(1, "up"), Event(2, "high"), Event(3.5, "low"), late(3.5, "down")],
        Outcome(5.5, "down"),
    ),
    "changes that were over when they were seen": (
        "down",
        lambda waits: waits.wait_for_change(held_for=HELD),
        [*UP, late(2, "high"), late(9)],
        Outcome(11, "high"),
    ),
    "no time to hold": (
        "down",
        lambda waits: waits.wait_for("up", held_for=0),
        [Event(1, "up"), late(1, "down")],
        Outcome(1, "up"),
    ),
}


@each_side
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_what_comes_of_a_wait(
    live: Live, story: tuple[str, Ask, list[Event], Outcome | None]
) -> None:
    """A wait ends when a run of matches is full, with its newest value, and leaves no trace."""
    first, ask, events, expected = story

    assert expected == live(ValueWatcher(first), ask, events)


@each_side
def test_on_a_closed_store_nothing_holds(live: Live) -> None:
    """A wait that begins after the end is over at once: nobody would tell of a break."""
    state = ValueWatcher("up")
    state.close()

    assert Outcome(0, "closed") == live(state, for_up(), [])


def expected(  # noqa: C901 -- the whole rule in one place
    first: bool, story: list[Event], held: float, timeout: float
) -> Outcome | None:
    """Give what must come of a wait for True, by looking at what is seen when."""
    since = 0.0 if first else None
    pending: list[bool] = []
    seen_at = 0.0

    def due() -> float:
        return min(timeout, math.inf if since is None else since + held)

    def look(now: float) -> Outcome | None:
        nonlocal since
        if pending:
            since = since if since is not None and all(pending) else None
        if since is not None and since + held <= min(now, timeout):
            return Outcome(now, True)
        if now >= timeout:
            return Outcome(now, "timeout")
        if pending:
            since = (now if since is None else since) if pending[-1] else None
        pending.clear()
        return None

    value = first
    for event in [*story, Event(seen_at + 100)]:
        if not event.is_late:
            if (outcome := look(seen_at)) is not None:
                return outcome
            if due() <= event.at:
                return look(due())
        seen_at = event.at
        if event.what is not None and event.what != value:
            value = bool(event.what)
            pending.append(value)
    return look(seen_at)


@st.composite
def stories(draw: st.DrawFn) -> list[Event]:
    events = []
    at = 0.0
    for _ in range(draw(st.integers(0, 6))):
        at += draw(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0]))
        events.append(Event(at, draw(st.booleans()), draw(st.booleans())))
    return events


@each_side
@given(
    first=st.booleans(),
    story=stories(),
    held=st.sampled_from([0.5, 1.0, 2.0]),
    timeout=st.sampled_from([0.5, 2.0, 3.0, math.inf]),
)
def test_any_story_has_its_end(
    live: Live, first: bool, story: list[Event], held: float, timeout: float
) -> None:
    """Whatever happens, and whoever sees it late, a wait ends when it must and not before."""
    outcome = live(
        ValueWatcher(first),
        lambda waits: waits.wait_for(True, held_for=held, timeout=timeout),
        story,
    )

    assert expected(first, story, held, timeout) == outcome


# What a wait is told of, and what it leaves behind


class App(Store):
    """A store with something to derive from, and members that come and go."""

    left = Key(1)
    right = Key(1)
    jobs = Family[str, str](default="up")


@frozen(eq=False)
class Opaque:
    """A value that only equals itself, and can be followed by a weak reference."""

    x: int


@pytest.fixture
def state() -> ValueWatcher[Any]:
    """Give a watcher that stands alone and takes any value."""
    return ValueWatcher("down", name="state")


def start(loop: StepLoop, main: Any) -> asyncio.Task[Any]:
    """Start *main* from inside the loop, and let it go as far as it gets."""
    with inside(loop):
        task = loop.create_task(main)
    loop.settle()
    return task


def test_a_predicate_is_asked_once_for_each_value(loop: StepLoop, state: ValueWatcher[Any]) -> None:
    """Each value is judged once, in order, on whichever way it is seen (P061)."""
    asked: list[str] = []

    def is_up(value: str) -> bool:
        asked.append(value)
        return value.startswith("up")

    task = start(loop, state.wait_until(is_up, held_for=HELD, timeout=9))
    for burst in (["up 1"], ["up 2", "low", "up 3"], ["up 4"]):
        for value in burst:
            state.value = value
        loop.advance(0.5)
    loop.fall_behind(1)
    state.value = "up 5"
    loop.advance(HELD)

    assert "up 5" == task.result()
    assert ["down", "up 1", "up 2", "low", "up 3", "up 4", "up 5"] == asked


@pytest.mark.parametrize("bad", ["first", "second"])
def test_what_a_predicate_raises_ends_the_wait(
    loop: StepLoop, state: ValueWatcher[Any], bad: str
) -> None:
    """The error of a predicate comes out as it is, be the match awaited or held (P056)."""

    def check(value: str) -> bool:
        if value == bad:
            raise LookupError(value)
        return value == "first"

    task = start(loop, state.wait_until(check, held_for=HELD))
    state.value = "first"
    loop.settle()
    state.value = "second"
    loop.settle()

    assert isinstance(task.exception(), LookupError)
    assert_no_trace(state)
    assert [] == loop.timers()


@pytest.mark.parametrize("is_held", [False, True])
def test_a_cancelled_wait_leaves_no_trace(
    loop: StepLoop, state: ValueWatcher[Any], is_held: bool
) -> None:
    """Cancelled while it waits for a match or while that holds, a wait is gone at once."""
    task = start(loop, state.wait_for("up", held_for=HELD, timeout=9))
    if is_held:
        state.value = "up"
        loop.settle()
    task.cancel()
    loop.settle()

    assert task.cancelled()
    assert_no_trace(state)
    assert [] == loop.timers()


def test_the_removal_of_a_member_breaks_what_holds(loop: StepLoop) -> None:
    """A member that is removed holds nothing any more (P091)."""
    app = App()
    task = start(loop, app.jobs.add("a").wait_for("up", held_for=HELD))
    loop.advance(HELD / 2)
    loop.fall_behind(HELD)
    del app.jobs["a"]
    loop.settle()

    assert isinstance(task.exception(), KeyRemovedError)
    assert_no_trace(app)


def test_a_derived_value_that_fails_breaks_what_holds(loop: StepLoop) -> None:
    """A wait is not left to hope that what cannot be computed would still hold (P102)."""
    app = App()
    task = start(loop, app.left.map(lambda left: 1 // left).wait_for(1, held_for=HELD))
    loop.advance(HELD / 2)
    app.left.value = 0
    app.left.value = 1
    loop.settle()

    assert isinstance(task.exception(), DerivationError)
    assert_no_trace(app)


def test_a_condition_must_hold_without_a_break(loop: StepLoop) -> None:
    """`Condition.wait()` takes the time for which the condition must hold, and sees each break."""
    app = App()
    task = start(loop, (app.left.is_(1) & app.right.is_(1)).wait(held_for=HELD))
    loop.advance(HELD / 2)
    with app.transaction() as tx:
        tx[App.left] = 0
        tx[App.right] = 2
    app.left.value = app.right.value = 1
    loop.advance(HELD / 2)
    assert not task.done()
    loop.advance(HELD / 2)

    assert task.done()
    assert_no_trace(app)


def test_what_breaks_a_condition_is_computed_on_a_late_loop(loop: StepLoop) -> None:
    """A break that was committed, but not computed when the time is full, is seen (P002)."""
    app = App()
    task = start(loop, app.left.is_(1).wait(held_for=HELD))
    loop.fall_behind(HELD)
    app.left.value = 0
    loop.settle()

    assert not task.done()


@pytest.mark.parametrize("is_derived", [False, True])
def test_what_is_committed_before_the_task_runs_is_seen(loop: StepLoop, is_derived: bool) -> None:
    """A break between the timer and the step of the task, whose clock it is, counts."""
    app = App()
    watcher = app.left.map(int) if is_derived else app.left
    task = start(loop, watcher.wait_for(1, held_for=HELD))
    loop.fall_behind(HELD)
    loop.steps(1)
    assert [] == loop.timers()
    app.left.value = 0
    loop.settle()

    assert not task.done()


@pytest.mark.parametrize(("held_for", "error"), [
    (math.nan, ValueError), (math.inf, ValueError), (-1, ValueError), (True, TypeError),
    ("2", TypeError),
])  # fmt: skip
def test_what_is_no_length_of_time_is_refused(
    loop: StepLoop, state: ValueWatcher[Any], held_for: Any, error: type[Exception]
) -> None:
    """What cannot pass is refused at the call, before anything is registered (P009)."""
    with pytest.raises(error, match="held_for"):
        state.blocking.wait_for("up", held_for=held_for)

    assert isinstance(start(loop, state.wait_for("up", held_for=held_for)).exception(), error)


def test_subscriptions_cannot_tell_how_long_something_held(
    loop: StepLoop, state: ValueWatcher[Any]
) -> None:
    """The waits of a subscription read what is past, and say that they cannot judge it."""
    with state.subscribe() as sub:
        error = start(loop, sub.wait_for("up", held_for=HELD)).exception()
        assert isinstance(error, TypeError)
        assert "use held_for= on its watcher" in str(error)
    with (
        state.blocking.subscribe() as blocking,
        pytest.raises(TypeError, match="use held_for= on its watcher"),
    ):
        blocking.wait_for("up", held_for=HELD)


def test_a_timeout_explains_itself(loop: StepLoop, state: ValueWatcher[Any]) -> None:
    """The error says what should have been so, and for how long."""
    state.value = "up"
    error = start(loop, state.wait_for("up", held_for=HELD, timeout=0)).exception()

    assert isinstance(error, WaitTimeoutError)
    assert "state to be 'up' for 2 s" == error.waited_for
    assert ("waited 0 s in vain for state to be 'up' for 2 s; it is 'up' since revision 1") == str(
        error
    )


def test_a_wait_that_is_not_over_is_found_by_its_value(
    loop: StepLoop, state: ValueWatcher[Any]
) -> None:
    """As long as nothing matches, a wait is touched by no other value, as any wait."""
    start(loop, state.wait_for("up", held_for=HELD))
    with mock.patch.object(EqualTo, "__call__", return_value=False) as asked:
        state.value = "other"
        loop.settle()

    assert 0 == asked.call_count


@pytest.mark.parametrize("target", ["never", "held"])
def test_old_values_are_not_kept(loop: StepLoop, target: str) -> None:
    """A wait that sleeps, before the match or while it holds, keeps three transitions at most."""
    state = ValueWatcher[Any]("first")
    start(loop, state.wait_until(lambda value: target == "held", held_for=HELD))
    state.value = Opaque(1)
    loop.settle()
    kept = weakref.ref(state.value)
    for value in range(4):
        state.value = value
        loop.settle()
    gc.collect()

    assert kept() is None


class _FailureError(Exception):
    pass


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("way", ["timeout", "predicate"])
@pytest.mark.usefixtures("_no_collector")
def test_an_error_is_no_cycle(state: ValueWatcher[Any], way: str) -> None:
    """The error of a wait goes when its last name goes, without the collector (P023)."""
    made: list[weakref.ref[Exception]] = []

    def check(value: str) -> bool:
        if way == "predicate" and value == "bad":
            raise _FailureError
        return True

    async def main() -> None:
        try:
            await state.wait_until(check, held_for=HELD, timeout=1)
        except (_FailureError, WaitTimeoutError) as error:
            made.append(weakref.ref(error))

    with StepLoop() as loop:
        task = start(loop, main())
        state.value = "bad"
        loop.advance(1)

        assert task.done()
        assert [None] == [error() for error in made]


def test_a_timeout_keeps_nothing_of_what_follows(loop: StepLoop, state: ValueWatcher[Any]) -> None:
    """Whoever keeps the error of a wait keeps none of the values that come later (P022)."""
    task = start(loop, state.wait_for("up", held_for=HELD, timeout=1))
    loop.fall_behind(9)
    state.value = "up"
    loop.settle()
    state.value = Opaque(1)
    kept = weakref.ref(state.value)
    state.value = "last"
    gc.collect()

    assert isinstance(task.exception(), WaitTimeoutError)
    assert kept() is None


def test_a_thread_that_is_late_does_not_block() -> None:
    """What is due by the time at which a thread would block is looked at once more."""
    times = iter([0.0, 2.0, 3.0])
    parked: list[float | None] = []
    with (
        mock.patch.object(_holding, "time", mock.Mock(monotonic=lambda: next(times))),
        mock.patch.object(ThreadPort, "park", lambda _port, _cell, left: parked.append(left)),
        pytest.raises(WaitTimeoutError),
    ):
        ValueWatcher("down").blocking.wait_for("up", held_for=HELD, timeout=1)

    assert [0] == parked


def test_a_thread_waits_by_the_real_clock() -> None:
    """What holds for a moment is found by a thread that blocks for just that long."""
    assert "up" == ValueWatcher("up").blocking.wait_for("up", held_for=0.001, timeout=60)
