"""Claims: a state is waited for and changed as one, by one claimant, in order of arrival."""

from __future__ import annotations

import asyncio
import functools
import gc
import operator
import sys
import threading
import types
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

import pytest

from statestore import (
    BlockingError,
    ConflictError,
    DerivationError,
    DifferentStoresError,
    Family,
    IllegalTransitionError,
    Key,
    KeyRemovedError,
    Lifecycle,
    MutableValueError,
    Store,
    StoreClosedError,
    Transaction,
    Transition,
    UnknownKeyError,
    UnreachableError,
    ValueWatcher,
    WaitTimeoutError,
)
from statestore._claims import ThreadLine, _Gate, _Line, identity_of
from statestore._core import ROUNDS
from statestore._mailbox import ThreadPort
from statestore.testing import BoomError, Panic, StepLoop, assert_no_trace, boom, inside
from support.threads import Job, at_once

TIMEOUT: Final = 5.0

# A task that makes its first step at once, where there are such tasks.
EAGERLY: Final[dict[str, Any]] = {"eager_start": True} if sys.version_info >= (3, 12) else {}

Claiming = Coroutine[Any, Any, Transition[int] | None]


class App(Store):
    """What is claimed."""

    free = Key(0)
    owner = Key[str | None](None)
    is_open = Key(True)
    workers = Family[str, int](default=0)


@pytest.fixture
def app() -> Iterator[App]:
    """Give a store to which nobody listens any more afterwards."""
    app = App()
    yield app
    try:
        assert_no_trace(app)
    finally:
        # Threads that a test which failed has left behind come to an end.
        app.close()


@pytest.fixture
def loop(loop: StepLoop) -> Iterator[StepLoop]:
    """Give a loop on which no timer may be left."""
    yield loop
    assert [] == loop.timers()


def is_some(number: int) -> bool:
    """Tell whether there is something to take."""
    return number > 0


def one_less(number: int) -> int:
    """Take one."""
    return number - 1


def one_more(number: int) -> int:
    """Give one back."""
    return number + 1


def take(app: App, **options: Any) -> Claiming:
    """Claim one of what is free."""
    return app.free.claim(is_some, one_less, **options)


def take_many(app: App, number: int, **options: Any) -> Claiming:
    """Claim several at once, under a condition of its own."""
    return app.free.claim(lambda free: free >= number, lambda free: free - number, **options)


def made_of(task: asyncio.Task[Any]) -> Any:
    """Give what a task has claimed, None if it has not yet."""
    return task.result() if task.done() else None


def errors_of(*tasks: asyncio.Task[Any]) -> list[type[BaseException]]:
    """Give what the tasks that have failed have raised."""
    return [type(task.exception()) for task in tasks if task.done() and task.exception()]


# -- one claim -------------------------------------------------------------------------------------


def test_takes_at_once_what_is_there(app: App) -> None:
    """The condition holds: the change is made, and the transition given, without suspension."""
    app.free.value = 2

    with StepLoop() as loop, inside(loop), pytest.raises(StopIteration) as ended:
        take(app).send(None)

    assert Transition(key="free", old=2, new=1, revision=2) == ended.value.value
    assert 1 == app.free.value


def test_waits_for_the_condition_and_changes_what_it_held_for(app: App, loop: StepLoop) -> None:
    """The change is made of the value that the condition was asked about."""
    task = loop.create_task(take(app))
    loop.settle()
    assert not task.done()
    app.free.value = 5
    loop.settle()

    assert Transition(key="free", old=5, new=4, revision=2) == task.result()


def test_a_change_to_an_equal_value_counts_and_makes_no_commit(app: App, loop: StepLoop) -> None:
    """It was claimed; there is no transition to give."""
    app.free.value = 1

    assert loop.run(app.free.claim(is_some, lambda free: free)) is None
    assert 1 == app.revision


def test_decides_again_if_the_value_is_replaced_meanwhile(app: App, loop: StepLoop) -> None:
    """P069: condition and change are about the very value that the claim replaces."""
    app.free.value = 1
    seen: list[int] = []

    def condition(free: int) -> bool:
        seen.append(free)
        if len(seen) == 1:
            app.free.value = 7
        return is_some(free)

    made = loop.run(app.free.claim(condition, one_less))

    assert [1, 7] == seen
    assert Transition(key="free", old=7, new=6, revision=3) == made


def test_does_not_change_a_value_that_the_condition_does_not_hold_for(
    app: App, loop: StepLoop
) -> None:
    """It held for a value that was replaced: the claim waits on."""
    app.free.value = 1

    def condition(free: int) -> bool:
        if free == 1:
            app.free.value = 0
        return is_some(free)

    task = loop.create_task(app.free.claim(condition, one_less))
    loop.settle()
    assert (False, 0, 2) == (task.done(), app.free.value, app.revision)
    app.free.value = 9
    loop.settle()

    assert 8 == task.result().new  # type: ignore[union-attr]


def test_a_value_that_came_and_went_cannot_be_had(app: App, loop: StepLoop) -> None:
    """A claim looks at the newest state, which alone can be changed."""
    task = loop.create_task(take(app))
    loop.settle()
    app.free.value = 1
    app.free.value = 0
    loop.settle()

    assert not task.done()
    task.cancel()


def test_callbacks_run_right_after(app: App, loop: StepLoop) -> None:
    """P050: they are told before the claim returns."""
    app.free.value = 1
    told: list[tuple[int, int]] = []
    with app.free.on_change(lambda old, new: told.append((old, new))):
        loop.run(take(app))
        assert [(1, 0)] == told


@pytest.mark.parametrize("how", ["watcher", "store", "watcher, blocking", "store, blocking"])
def test_says_why(app: App, loop: StepLoop, how: str) -> None:
    """The reason is for those who record."""
    app.free.value = 1
    condition = app.free.matches(is_some)

    def function(tx: Transaction) -> None:
        tx[App.free] = 0

    with app.record() as recording:
        if how == "watcher":
            loop.run(take(app, reason="to work"))
        elif how == "store":
            loop.run(app.claim(condition, function, reason="to work"))
        elif how == "watcher, blocking":
            app.free.blocking.claim(is_some, one_less, reason="to work")
        else:
            app.blocking.claim(condition, function, reason="to work")
        assert ["to work"] == [commit.reason for commit in recording.commits]


def test_works_on_a_watcher_that_stands_alone(loop: StepLoop) -> None:
    """It needs no store."""
    free = ValueWatcher(0)
    task = loop.create_task(free.claim(is_some, one_less))
    loop.settle()
    free.value = 1
    loop.settle()

    assert Transition(key="value", old=1, new=0, revision=2) == task.result()
    assert_no_trace(free)


def test_works_on_a_member(app: App, loop: StepLoop) -> None:
    """A member of a family is claimed like any key."""
    worker = app.workers.add("w1", 1)

    assert 0 == loop.run(worker.claim(is_some, one_less)).new  # type: ignore[union-attr]


async def _nothing(_value: object) -> None:
    """Be asynchronous."""


def test_functions_must_be_plain(app: App, loop: StepLoop) -> None:
    """P053: a coroutine function is refused, not never awaited."""
    with pytest.raises(TypeError, match="a predicate must be a plain function"):
        loop.run(app.free.claim(_nothing, one_less))
    with pytest.raises(TypeError, match="a change must be a plain function"):
        loop.run(app.free.claim(is_some, _nothing))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a transaction function must be a plain function"):
        loop.run(app.claim(app.is_open, _nothing))
    with pytest.raises(TypeError, match="a change must be callable"):
        loop.run(app.free.claim(is_some, 3))  # type: ignore[arg-type]


# -- who gets it -----------------------------------------------------------------------------------


def test_exactly_one_gets_each_state(app: App, loop: StepLoop) -> None:
    """P098: of many who wait, as many get something as there is."""
    tasks = [loop.create_task(take(app)) for _ in range(10)]
    loop.settle()
    app.free.value = 3
    loop.settle()

    assert [True] * 3 + [False] * 7 == [task.done() for task in tasks]
    assert (0, 4) == (app.free.value, app.revision)
    for task in tasks:
        task.cancel()


def test_in_order_of_arrival(app: App, loop: StepLoop) -> None:
    """P099: who came first is served first, state by state."""
    tasks = [loop.create_task(take(app)) for _ in range(4)]
    loop.settle()
    for served in range(1, 5):
        app.free.value = 1
        loop.settle()

        assert [True] * served + [False] * (4 - served) == [task.done() for task in tasks]


def test_who_comes_later_does_not_overtake(app: App, loop: StepLoop) -> None:
    """P099: a claim that comes between the set and the turn of the first one stands behind it."""
    first = loop.create_task(take(app))
    loop.settle()
    app.free.value = 1
    same = loop.create_task(take(app))
    other = loop.create_task(take_many(app, 1))
    loop.settle()

    assert [True, False, False] == [task.done() for task in (first, same, other)]
    app.free.value = 1
    loop.settle()
    assert [True, False] == [task.done() for task in (same, other)]
    other.cancel()


def test_who_comes_while_the_first_one_is_about_to_try_does_not_overtake(
    app: App, loop: StepLoop
) -> None:
    """P099: the first one has been woken and has not run; the newcomer runs before it."""
    first = loop.create_task(take(app))
    loop.settle()
    app.free.value = 1
    loop.steps(1)  # it is chosen
    with inside(loop):
        newcomer = take(app)
        newcomer.send(None)
    loop.settle()

    assert first.done()
    newcomer.close()


def test_a_claim_that_cannot_be_met_holds_up_nobody(app: App, loop: StepLoop) -> None:
    """Each state goes to the first whose condition holds."""
    many = loop.create_task(take_many(app, 5))
    few = loop.create_task(take_many(app, 2))
    loop.settle()
    app.free.value = 3
    loop.settle()
    assert [False, True] == [many.done(), few.done()]
    app.free.value = 5
    loop.settle()

    assert [1, 0] == [made_of(few).new, made_of(many).new]


def test_of_those_whose_condition_holds_the_first_gets_it(app: App, loop: StepLoop) -> None:
    """Order of arrival holds between different conditions, too."""
    tasks = [loop.create_task(take_many(app, number)) for number in (4, 1, 3)]
    loop.settle()
    app.free.value = 4
    loop.settle()
    assert [True, False, False] == [task.done() for task in tasks]
    app.free.value = 4
    loop.settle()

    assert [3, 0] == [made_of(task).new for task in tasks[1:]]


def test_the_order_is_that_of_the_claims_not_of_their_conditions(app: App, loop: StepLoop) -> None:
    """P099: a condition that was there first does not draw others before those between."""
    tasks = [loop.create_task(claim) for claim in (take(app), take_many(app, 1), take(app))]
    loop.settle()
    for served in range(1, 4):
        app.free.value = 1
        loop.settle()

        assert [True] * served + [False] * (3 - served) == [task.done() for task in tasks]


def test_one_that_lost_waits_for_the_next_transition(app: App, loop: StepLoop) -> None:
    """P061: it does not try again before something has changed, and keeps its place."""
    asked: list[int] = []

    def condition(free: int) -> bool:
        asked.append(free)
        return is_some(free)

    first = loop.create_task(app.free.claim(condition, one_less))
    second = loop.create_task(take(app))
    loop.settle()
    app.free.value = 1
    loop.steps(1)  # the first one is chosen
    assert app.free.compare_and_set(1, 0)
    loop.settle()
    del asked[:]
    loop.settle()
    assert [] == asked
    app.free.value = 1
    loop.settle()

    assert [1, 1] == asked
    assert [True, False] == [first.done(), second.done()]
    second.cancel()


def test_a_state_wakes_one_and_asks_once(app: App, loop: StepLoop) -> None:
    """P098: what a state costs does not grow with the number of those who wait."""
    asked: list[int] = []

    def condition(free: int) -> bool:
        asked.append(free)
        return is_some(free)

    def cost(number: int) -> tuple[int, int]:
        tasks = [loop.create_task(app.free.claim(condition, one_less)) for _ in range(number)]
        loop.settle()
        del asked[:]
        app.free.value = 1
        steps = 0
        while loop.ready():
            loop.steps(1)
            steps += 1
        for task in tasks:
            task.cancel()
        loop.settle()
        return steps, len(asked)

    assert cost(3) == cost(300)


@pytest.mark.parametrize("of_store", [False, True])
def test_a_claim_in_a_task_that_nobody_knows_goes_on(
    app: App, loop: StepLoop, of_store: bool
) -> None:
    """P020: its registration keeps it alive."""
    claiming = app.claim(app.free.matches(is_some), enter) if of_store else take(app)
    known = weakref.ref(loop.create_task(claiming))  # type: ignore[arg-type]
    del claiming
    loop.settle()
    gc.collect()
    assert known() is not None
    app.free.value = 1
    loop.settle()

    assert 0 == app.free.value


def test_a_loop_that_stands_still_holds_up_nobody(app: App) -> None:
    """P030: each loop has a line of its own, whoever came first."""
    with StepLoop() as asleep, StepLoop() as awake:
        first = asleep.create_task(take(app))
        second = awake.create_task(take(app))
        asleep.settle()
        awake.settle()
        app.free.value = 1
        awake.settle()
        assert [False, True] == [first.done(), second.done()]
        first.cancel()
        second.cancel()


def test_a_dead_loop_costs_nothing() -> None:
    """P031: claims that wait on a loop which was closed go with the next commit."""
    app = App()
    loop = StepLoop()
    task = loop.create_task(take(app))
    loop.settle()
    loop.close()
    app.free.value = 1
    app.free.value = 2
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task, loop
    gc.collect()

    assert 2 == app.free.value
    assert_no_trace(app)


# -- the end of a claim ----------------------------------------------------------------------------


@pytest.mark.parametrize("is_waiting", [False, True])
def test_a_condition_that_raises_ends_its_claim_alone(
    app: App, loop: StepLoop, is_waiting: bool
) -> None:
    """P056: nothing is changed, and the others go on."""
    app.free.value = 0 if is_waiting else 1

    def condition(free: int) -> bool:
        return is_some(free) and boom()

    bad = [loop.create_task(app.free.claim(condition, one_less)) for _ in range(2)]
    good = loop.create_task(take(app))
    loop.settle()
    app.free.value = 1
    loop.settle()

    assert [BoomError, BoomError] == errors_of(*bad)
    assert 0 == made_of(good).new


def test_whatever_a_condition_raises_ends_its_claim_alone(app: App, loop: StepLoop) -> None:
    """P056: also what is no `Exception` comes out of the claim, not out of the loop."""

    def condition(free: int) -> bool:
        if is_some(free):
            raise Panic
        return False

    async def claim() -> None:
        with pytest.raises(Panic):
            await app.free.claim(condition, one_less)

    bad, good = loop.create_task(claim()), loop.create_task(take(app))
    loop.settle()
    app.free.value = 1
    loop.settle()

    assert bad.done()
    assert 0 == made_of(good).new


@pytest.mark.parametrize("is_waiting", [False, True])
def test_a_change_that_raises_ends_its_claim_alone(
    app: App, loop: StepLoop, is_waiting: bool
) -> None:
    """P056: nothing is changed, and the next one in line is tried."""
    app.free.value = 0 if is_waiting else 1
    bad = loop.create_task(app.free.claim(is_some, boom))
    good = loop.create_task(take(app))
    loop.settle()
    app.free.value = 1
    loop.settle()

    assert [BoomError] == errors_of(bad)
    assert 0 == made_of(good).new


def test_a_change_to_what_can_be_changed_in_place_ends_its_claim(app: App, loop: StepLoop) -> None:
    """P072: the claim ends with the error, nothing is changed, and the next one is tried."""
    bad = loop.create_task(app.free.claim(is_some, lambda free: [free]))  # type: ignore[arg-type,return-value]
    good = loop.create_task(take(app))
    loop.settle()
    app.free.value = 1
    loop.settle()

    assert [MutableValueError] == errors_of(bad)
    assert 0 == made_of(good).new


@pytest.mark.parametrize("timeout", [0, 0.0, -1, float("-inf")])
def test_a_poll_only_looks(app: App, timeout: float) -> None:
    """P006, P007: it takes what is there or fails, without suspension and without a trace."""
    with StepLoop() as loop, inside(loop):
        with pytest.raises(WaitTimeoutError):
            take(app, timeout=timeout).send(None)
        app.free.value = 1
        with pytest.raises(StopIteration) as ended:
            take(app, timeout=timeout).send(None)

    assert 0 == ended.value.value.new


def test_a_poll_does_not_stand_in_line(app: App, loop: StepLoop) -> None:
    """It takes what is there, as anybody who sets could."""
    first = loop.create_task(take(app))
    loop.settle()
    app.free.value = 1

    assert 0 == loop.run(take(app, timeout=0)).new  # type: ignore[union-attr]
    assert not first.done()
    first.cancel()


def test_times_out(app: App, loop: StepLoop) -> None:
    """The error says what was waited for, and what the value is. P010."""
    app.free.value = -1
    with pytest.raises(WaitTimeoutError) as caught:
        loop.run(take(app, timeout=1.5))

    assert "waited 1.5 s in vain for free to satisfy is_some; it is -1 since revision 1" == str(
        caught.value
    )
    assert ("free", -1, 1, 1.5) == (
        caught.value.key,
        caught.value.value,
        caught.value.revision,
        caught.value.timeout,
    )


@pytest.mark.parametrize("wrong", ["1", True, float("nan")])
def test_a_timeout_is_a_number_of_seconds(app: App, loop: StepLoop, wrong: Any) -> None:
    """P009: what is none is refused before anything is done."""
    app.free.value = 1
    with pytest.raises((TypeError, ValueError)):
        loop.run(take(app, timeout=wrong))
    with pytest.raises((TypeError, ValueError)):
        app.free.blocking.claim(is_some, one_less, timeout=wrong)
    assert 1 == app.free.value


def test_what_came_before_the_deadline_is_taken(app: App, loop: StepLoop) -> None:
    """P004: the loop is late, and finds the transition and the deadline at once."""
    task = loop.create_task(take(app, timeout=TIMEOUT))
    loop.settle()
    app.free.value = 1
    loop.fall_behind(2 * TIMEOUT)
    loop.settle()

    assert 0 == task.result().new  # type: ignore[union-attr]


def test_at_the_deadline_who_came_first_is_still_first(app: App, loop: StepLoop) -> None:
    """One whose time is up looks a last time when it is its turn."""
    for number in (1, 2):
        app.free.value = 0
        first = loop.create_task(take(app))
        second = loop.create_task(take(app, timeout=TIMEOUT))
        loop.settle()
        loop.fall_behind(2 * TIMEOUT)
        app.free.value = number
        loop.settle()

        assert 0 + number - 1 == made_of(first).new
        if number == 1:
            assert [WaitTimeoutError] == errors_of(second)
        else:
            assert 0 == made_of(second).new


def test_a_claim_times_out_though_others_before_it_wait_on(app: App, loop: StepLoop) -> None:
    """Its time is its own."""
    first = loop.create_task(take(app))
    second = loop.create_task(take(app, timeout=TIMEOUT))
    third = loop.create_task(take(app))
    loop.settle()
    loop.advance(TIMEOUT)
    assert [False, True, False] == [task.done() for task in (first, second, third)]
    assert [WaitTimeoutError] == errors_of(second)
    app.free.value = 2
    loop.settle()

    assert [1, 0] == [made_of(task).new for task in (first, third)]


def test_one_whose_time_is_up_while_it_is_about_to_try_tries(app: App, loop: StepLoop) -> None:
    """It was chosen before; what it finds gone then ends it."""
    for is_lost in (False, True):
        app.free.value = 0
        task = loop.create_task(take(app, timeout=TIMEOUT))
        loop.settle()
        app.free.value = 1
        loop.steps(1)  # it is chosen
        loop.fall_behind(2 * TIMEOUT)
        with inside(loop):
            (timer,) = loop.timers()
            timer._run()
        if is_lost:
            app.free.value = 0
        loop.settle()

        assert is_lost == ([WaitTimeoutError] == errors_of(task))
        assert is_lost == (task.exception() is not None)


def test_a_wait_without_end_makes_no_timer(app: App, loop: StepLoop) -> None:
    """P008: None and infinity wait for ever."""
    for timeout in (None, float("inf")):
        task = loop.create_task(take(app, timeout=timeout))
        loop.settle()
        assert [] == loop.timers()
        task.cancel()


def test_closing_ends_all_claims(loop: StepLoop) -> None:
    """P092: those who wait, be it a state is there, and those who come later."""
    app = App()
    tasks = [loop.create_task(take(app)) for _ in range(3)]
    tasks.append(loop.create_task(app.claim(app.free.is_(1), len)))  # type: ignore[arg-type]
    loop.settle()
    app.free.value = 1
    app.close()
    tasks.append(loop.create_task(take(app)))
    loop.settle()

    assert [StoreClosedError] * 5 == errors_of(*tasks)
    told = "App was closed during a wait for free to satisfy is_some; it is 1 since revision 1"
    assert told == str(tasks[0].exception())
    with pytest.raises(StoreClosedError):
        app.blocking.claim(app.is_open, len)  # type: ignore[arg-type]
    assert_no_trace(app)


def test_one_that_comes_when_the_others_have_been_told_of_the_end_ends(loop: StepLoop) -> None:
    """P092: it joins those who have been woken and have not run."""
    app = App()
    first = loop.create_task(take(app))
    loop.settle()
    app.close()
    loop.steps(1)  # the line is told
    with inside(loop):
        second = asyncio.Task(take(app), loop=loop, **EAGERLY)
    loop.settle()

    assert [StoreClosedError] * 2 == errors_of(first, second)
    assert_no_trace(app)


def test_one_that_comes_as_the_store_closes_ends(loop: StepLoop) -> None:
    """P092: it has looked, and registers right after the end."""
    app = App()

    def condition(free: int) -> bool:
        if not app.is_closed:
            app.close()
        return False

    with pytest.raises(StoreClosedError):
        loop.run(app.free.claim(condition, one_less))
    assert_no_trace(app)


def test_removal_ends_all_claims_on_a_member(app: App, loop: StepLoop) -> None:
    """P091: those who wait, and those who come later."""
    worker = app.workers.add("w1")
    tasks = [loop.create_task(worker.claim(is_some, one_less)) for _ in range(3)]
    loop.settle()
    del app.workers["w1"]
    tasks.append(loop.create_task(worker.claim(is_some, one_less)))
    loop.settle()

    assert [KeyRemovedError] * 4 == errors_of(*tasks)


# -- cancellation ----------------------------------------------------------------------------------


def test_cancelled_before_its_first_step_it_did_nothing(app: App) -> None:
    """P014: there is nothing to undo."""
    app.free.value = 1
    with StepLoop() as loop:
        task = loop.create_task(take(app))
        task.cancel()
        loop.settle()

    assert (True, 1) == (task.cancelled(), app.free.value)


def test_cancelled_while_it_waits_it_did_nothing(app: App, loop: StepLoop) -> None:
    """P001: the state goes to the next one."""
    first, second = loop.create_task(take(app)), loop.create_task(take(app))
    loop.settle()
    first.cancel()
    app.free.value = 1
    loop.settle()

    assert first.cancelled()
    assert 0 == made_of(second).new


def test_cancelled_when_it_is_about_to_try_it_did_nothing(app: App, loop: StepLoop) -> None:
    """P001: it was chosen and has not run; the next one is tried at once."""
    first, second = loop.create_task(take(app)), loop.create_task(take(app))
    loop.settle()
    app.free.value = 1
    loop.steps(1)  # the first one is chosen
    assert not first.done()
    assert first.cancel()
    loop.settle()

    assert first.cancelled()
    assert Transition(key="free", old=1, new=0, revision=2) == made_of(second)


def test_cancelled_after_the_commit_it_returns_and_is_cancelled_then(
    app: App, loop: StepLoop
) -> None:
    """P001: a callback of the commit cancels the task, which gets the result nevertheless."""
    seen: list[object] = []

    async def claim() -> None:
        seen.append(await take(app))
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task = loop.create_task(claim())
    loop.settle()

    def cancel(_old: int, new: int) -> None:
        if new == 0:
            task.cancel()

    with app.free.on_change(cancel):
        app.free.value = 1
        loop.settle()

    assert [Transition(key="free", old=1, new=0, revision=2), "cancelled"] == seen
    assert task.cancelled()


def test_an_outer_timeout_is_kept_apart(app: App, loop: StepLoop) -> None:
    """P011: `asyncio.timeout()` raises its own error, and the count of cancellations is even."""

    async def claim() -> tuple[str, int]:
        task = asyncio.current_task()
        assert task is not None
        try:
            async with asyncio.timeout(1):
                await take(app, timeout=TIMEOUT)
        except WaitTimeoutError:
            return "ours", task.cancelling()
        except TimeoutError:
            return "its own", task.cancelling()
        return "none", task.cancelling()

    assert ("its own", 0) == loop.run(claim())
    app.free.value = 1
    assert ("none", 0) == loop.run(claim())


def test_an_outer_timeout_that_comes_with_the_state(app: App, loop: StepLoop) -> None:
    """P011: the state is taken if and only if the claim returns, whichever is first."""
    for state_first, expected in ((True, ["none", "its own"]), (False, ["its own"])):
        app.free.value = 0

        async def claim() -> str:
            try:
                async with asyncio.timeout(1):
                    await take(app)
            except TimeoutError:
                return "its own"
            return "none"

        task = loop.create_task(claim())
        loop.settle()
        if state_first:
            app.free.value = 1
            loop.fall_behind(1)
        else:
            loop.fall_behind(1)
            app.free.value = 1
        loop.settle()
        assert task.result() in expected
        assert app.free.value == (0 if task.result() == "none" else 1)


def test_shielded_from_cancellation_it_goes_on(app: App, loop: StepLoop) -> None:
    """P013: only who waits for it is cancelled."""
    inner = loop.create_task(take(app))

    async def wait() -> None:
        await asyncio.shield(inner)

    outer = loop.create_task(wait())
    loop.settle()
    outer.cancel()
    app.free.value = 1
    loop.settle()

    assert outer.cancelled()
    assert 0 == made_of(inner).new


def test_a_claim_that_is_dropped_lets_the_next_one_try(app: App, loop: StepLoop) -> None:
    """P095: its coroutine is closed when it is chosen."""
    with inside(loop):
        dropped = take(app)
        dropped.send(None)
    task = loop.create_task(take(app))
    loop.settle()
    app.free.value = 1
    loop.steps(1)  # the first one is chosen
    dropped.close()
    loop.settle()

    assert 0 == made_of(task).new


# -- what goes wrong on the way --------------------------------------------------------------------


def test_an_interrupt_while_it_registers_leaves_no_trace(
    app: App, loop: StepLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P104: it never stood in line."""
    monkeypatch.setattr(_Line, "join", boom)
    with pytest.raises(BoomError):
        loop.run(take(app, timeout=TIMEOUT))


def test_an_interrupt_while_a_line_looks_loses_nothing(
    app: App, loop: StepLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P104: the line looks once more."""
    task = loop.create_task(take(app))
    loop.settle()
    choose = _Line._choose
    monkeypatch.setattr(_Line, "_choose", boom)
    app.free.value = 1
    loop.steps(1)
    monkeypatch.setattr(_Line, "_choose", choose)
    loop.settle()

    assert 0 == made_of(task).new
    assert 1 == len(loop.failures)
    loop.failures.clear()


def test_an_interrupt_in_the_middle_of_joining_leaves_no_trace(
    app: App, loop: StepLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P104: the place that was made for it goes with it, and no other one."""
    other = loop.create_task(app.claim(app.free.is_(9), enter))
    loop.settle()
    monkeypatch.setattr(_Line, "_enter", boom)
    with pytest.raises(BoomError):
        loop.run(app.claim(app.free.matches(is_some), enter))
    with pytest.raises(BoomError):
        loop.run(take(app))

    assert [app._core] == [key for line in lines_of(app) for key in [line._key]]
    assert [1] == [len(line._places) for line in lines_of(app)]
    other.cancel()


def lines_of(app: App) -> list[_Line]:
    """Give the lines of all loops."""
    mailboxes = [reference() for reference in app._core.mailboxes.values()]
    return [line for mailbox in mailboxes for line in mailbox.lines.values()]


def test_an_interrupt_at_the_deadline_ends_the_claim_nevertheless(
    app: App, loop: StepLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P104: without the last look."""
    task = loop.create_task(take(app, timeout=TIMEOUT))
    loop.settle()
    with monkeypatch.context() as patch:
        patch.setattr(_Line, "drain", boom)
        loop.advance(TIMEOUT)

    assert [WaitTimeoutError] == errors_of(task)
    assert 1 == len(loop.failures)
    loop.failures.clear()


def interrupted_once(
    patch: pytest.MonkeyPatch, owner: type, name: str, *, first: bool
) -> list[str]:
    """Have a method interrupted before or after its work, the first time that it is called."""
    method, calls = getattr(owner, name), list[str]()

    def run(*arguments: Any) -> Any:
        calls.append(name)
        if first or len(calls) > 1:
            if len(calls) == 1:
                raise BoomError
            return method(*arguments)
        method(*arguments)
        raise BoomError

    patch.setattr(owner, name, run)
    return calls


@pytest.mark.parametrize("first", [False, True])
def test_an_interrupt_while_it_leaves_lets_the_next_one_try(
    app: App, loop: StepLoop, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """P104: on a loop: it has it, and the next one gets the next one."""
    bad, good = loop.create_task(take(app)), loop.create_task(take(app))
    loop.settle()
    with monkeypatch.context() as patch:
        interrupted_once(patch, _Line, "leave", first=first)
        app.free.value = 2
        loop.settle()

    assert [BoomError] == errors_of(bad)
    assert 0 == made_of(good).new


@pytest.mark.parametrize("first", [False, True])
def test_an_interrupt_while_it_leaves_lets_the_next_thread_try(
    app: App, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """P104: in threads, too."""
    bad = Job(lambda: app.free.blocking.claim(is_some, one_less))
    wait_for(lambda: any(ports_of(app)))
    good = Job(lambda: app.free.blocking.claim(is_some, one_less))
    wait_for(lambda: len(gates_of(app)) == 2)
    with monkeypatch.context() as patch:
        interrupted_once(patch, ThreadLine, "leave", first=first)
        app.free.value = 2
        with pytest.raises(BoomError):
            bad.result()

    assert 0 == good.result().new  # type: ignore[union-attr]


def test_a_timer_that_comes_too_late_does_nothing(app: App, loop: StepLoop) -> None:
    """P022: the claim has ended."""
    lines: list[tuple[_Line, Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        join = _Line.join

        def noting(self: _Line, claimant: Any, *rest: Any) -> None:
            lines.append((self, claimant))
            join(self, claimant, *rest)

        patch.setattr(_Line, "join", noting)
        task = loop.create_task(take(app, timeout=TIMEOUT))
        loop.settle()
    task.cancel()
    loop.settle()
    ((line, claimant),) = lines
    line.expire(claimant)

    assert {} == line._places


def test_a_place_that_is_notified_when_nobody_stands_there_stays_away(
    app: App, loop: StepLoop
) -> None:
    """P027: the last claimant left between the set and the look."""
    task = loop.create_task(take(app))
    other = loop.create_task(take(app))
    loop.settle()
    app.free.value = 1
    with inside(loop):
        task.cancel()
        other.cancel()
    loop.settle()

    assert task.cancelled()
    assert other.cancelled()
    assert {} == app._core.listen(app.free).ports


def test_a_forked_child_stands_in_no_line(app: App) -> None:
    """P108: the threads that block are not there."""
    app._core.lines[0] = "of the parent"
    app._core.forget_consumers()

    assert {} == app._core.lines


# -- several keys ----------------------------------------------------------------------------------


def enter(tx: Transaction) -> int:
    """Take one of what is free, and note it."""
    tx[App.free] -= 1
    tx[App.owner] = "me"
    return tx[App.free]


def test_a_store_claim_returns_what_its_function_returned(app: App, loop: StepLoop) -> None:
    """All keys are changed in one commit."""
    app.free.value = 2

    assert 1 == loop.run(app.claim(app.free.matches(is_some), enter))
    assert (1, "me", 2) == (app.free.value, app.owner.value, app.revision)


def test_a_store_claim_waits_for_a_condition_over_several_keys(app: App, loop: StepLoop) -> None:
    """One after the other, in order of arrival."""
    may = app.free.matches(is_some) & app.owner.is_(None)
    tasks = [loop.create_task(app.claim(may, enter)) for _ in range(3)]
    loop.settle()
    app.free.value = 2
    loop.settle()
    assert [True, False, False] == [task.done() for task in tasks]
    app.owner.value = None
    loop.settle()

    assert [1, 0, None] == [made_of(task) for task in tasks]
    tasks[2].cancel()


def test_store_claims_with_different_conditions_stand_in_one_line(app: App, loop: StepLoop) -> None:
    """P099: in order of arrival, and one that cannot be met holds up nobody."""

    def claim(number: int) -> Coroutine[Any, Any, int]:
        return app.claim(app.free.matches(lambda free: free >= number), enter)

    tasks = [loop.create_task(claim(number)) for number in (9, 1, 1, 1)]
    loop.settle()
    for served in range(1, 4):
        app.free.value = 1
        loop.settle()
        assert [False] + [True] * served + [False] * (3 - served) == [t.done() for t in tasks]
    tasks[0].cancel()


def test_a_condition_may_be_any_watcher_of_bool(app: App, loop: StepLoop) -> None:
    """A key of type bool is a condition of its own."""
    app.is_open.value = False

    def close(tx: Transaction) -> bool:
        tx[App.is_open] = False
        return tx[App.is_open]

    tasks = [loop.create_task(app.claim(app.is_open, close)) for _ in range(2)]
    loop.settle()
    app.is_open.value = True
    loop.settle()

    assert [True, False] == [task.done() for task in tasks]
    tasks[1].cancel()


def test_the_function_sees_only_states_for_which_the_condition_holds(
    app: App, loop: StepLoop
) -> None:
    """P087: a read that would show another state begins anew; so it cannot fail because of it."""
    app.free.value = 1
    seen: list[int] = []
    runs: list[None] = []

    def function(tx: Transaction) -> int:
        runs.append(None)
        if len(runs) == 1:
            app.is_open.value = False
            app.free.value = 0
        seen.append(tx[App.free])
        return 1 // seen[-1]

    task = loop.create_task(app.claim(app.is_open.is_(True), function))
    loop.settle()
    assert (False, []) == (task.done(), seen)
    app.free.value = 1
    app.is_open.value = True
    loop.settle()

    assert 1 == task.result()


def test_nothing_is_committed_once_the_condition_holds_no_more(app: App, loop: StepLoop) -> None:
    """P087: also if the function has read nothing of what the condition is made of."""
    app.free.value = 1
    runs: list[None] = []

    def function(tx: Transaction) -> None:
        runs.append(None)
        if len(runs) == 1:
            app.free.value = 0
        tx[App.owner] = "me"

    task = loop.create_task(app.claim(app.free.matches(is_some), function))
    loop.settle()
    assert (False, None, 1) == (task.done(), app.owner.value, len(runs))
    app.free.value = 1
    loop.settle()

    assert (True, "me", 2) == (task.done(), app.owner.value, len(runs))


def test_it_is_committed_if_the_condition_still_holds(app: App, loop: StepLoop) -> None:
    """What the condition is made of may change meanwhile: the function need not run again."""
    app.free.value = 1
    runs: list[None] = []

    def function(tx: Transaction) -> None:
        runs.append(None)
        app.free.value = 2
        tx[App.owner] = "me"

    loop.run(app.claim(app.free.matches(is_some), function))

    assert (2, "me", 1) == (app.free.value, app.owner.value, len(runs))


def test_a_conflict_with_what_was_read_runs_it_again(app: App, loop: StepLoop) -> None:
    """P090: as `transact()` does, while the condition holds."""
    runs: list[None] = []

    def function(tx: Transaction) -> None:
        runs.append(None)
        free = tx[App.free]
        if len(runs) <= ROUNDS + 1:
            app.free.value = len(runs)
        tx[App.free] = free + 100

    loop.run(app.claim(app.is_open, function))

    assert (ROUNDS + 101, ROUNDS + 2) == (app.free.value, len(runs))
    assert {} == app._core.turns


def test_the_conflict_of_another_transaction_comes_out(app: App, loop: StepLoop) -> None:
    """It is not this claim's."""

    def function(tx: Transaction) -> None:
        raise ConflictError("another one's")

    with pytest.raises(ConflictError, match="another one's"):
        loop.run(app.claim(app.is_open, function))


def test_a_function_that_writes_nothing_has_claimed(app: App, loop: StepLoop) -> None:
    """Its result is given, there is no commit."""
    assert 0 == loop.run(app.claim(app.is_open, lambda tx: tx[App.free]))
    assert 0 == app.revision


def test_a_function_that_raises_ends_its_claim_alone(app: App, loop: StepLoop) -> None:
    """P088: nothing is changed, and the next one in line is tried."""

    def function(tx: Transaction) -> None:
        tx[App.owner] = "me"
        boom()

    app.is_open.value = False
    bad = loop.create_task(app.claim(app.is_open, function))
    good = loop.create_task(app.claim(app.is_open, enter))
    loop.settle()
    app.is_open.value = True
    loop.settle()

    assert [BoomError] == errors_of(bad)
    assert (-1, "me", 3) == (made_of(good), app.owner.value, app.revision)


@pytest.mark.parametrize("is_waiting", [False, True])
def test_a_condition_that_cannot_be_computed_ends_its_claim(
    app: App, loop: StepLoop, is_waiting: bool
) -> None:
    """P102: with the error, and nothing is changed."""
    condition = app.free.matches(lambda free: 1 // free > 5)
    app.free.value = 1 if is_waiting else 0
    task = loop.create_task(app.claim(condition, enter))
    loop.settle()
    app.free.value = 0
    loop.settle()

    assert [DerivationError] == errors_of(task)
    assert app.owner.value is None


def test_conditions_over_families(app: App, loop: StepLoop) -> None:
    """P098: an idle worker is claimed, whichever it is, by one of those who want it."""

    def hire(tx: Transaction) -> str:
        key = next(key for key in app.workers if tx[app.workers[key]] == 0)
        tx[app.workers[key]] = 1
        return key

    is_idle = app.workers.any(lambda jobs: jobs == 0)
    tasks = [loop.create_task(app.claim(is_idle, hire)) for _ in range(3)]
    loop.settle()
    app.workers.add("w1")
    loop.settle()
    assert ["w1", None, None] == [made_of(task) for task in tasks]
    app.workers.add("w2")
    app.workers["w1"].value = 0
    loop.settle()

    assert ["w1", "w1", "w2"] == sorted(task.result() for task in tasks)


def test_what_is_derived_is_computed_at_the_deadline(app: App, loop: StepLoop) -> None:
    """P004: the loop is late, and its derived watchers have not been computed yet."""
    task = loop.create_task(app.claim(app.free.matches(is_some), enter, timeout=TIMEOUT))
    loop.settle()
    app.free.value = 1
    loop.fall_behind(2 * TIMEOUT)
    with inside(loop):
        (timer,) = loop.timers()
        timer._run()
    loop.settle()

    assert 0 == task.result()


def test_a_store_claim_times_out(app: App, loop: StepLoop) -> None:
    """The error names the condition."""
    with pytest.raises(
        WaitTimeoutError,
        match=r"waited 1 s in vain for free to be 1; not so since revision 0; free NO",
    ):
        loop.run(app.claim(app.free.is_(1), enter, timeout=1))
    with pytest.raises(WaitTimeoutError):
        loop.run(app.claim(app.free.is_(1), enter, timeout=0))


def test_an_illegal_move_ends_the_claim_alone(loop: StepLoop) -> None:
    """P016: what a claim would change is judged as any move; the next one in line is tried."""
    light = Store().add("light", "red", lifecycle=Lifecycle({"red": {"green"}, "green": {"red"}}))
    wrong = loop.create_task(light.claim(lambda now: now == "green", lambda _now: "blue"))
    right = loop.create_task(light.claim(lambda now: now == "green", lambda _now: "red"))
    loop.settle()
    light.value = "green"
    loop.settle()
    with pytest.raises(IllegalTransitionError, match="only 'red' may follow 'green'"):
        wrong.result()
    made = right.result()
    assert made is not None
    assert ("green", "red", 3) == (made.old, made.new, made.revision)


def test_a_hopeless_claim_ends(loop: StepLoop) -> None:
    """P016: a store's claim on a condition that cannot hold any more raises, as a wait does."""
    store = Store()
    door = store.add("door", "open", lifecycle=Lifecycle({"open": {"shut"}}))
    door.value = "shut"
    with pytest.raises(UnreachableError, match="no legal moves lead any more to door to be 'open'"):
        loop.run(store.claim(door.is_("open"), lambda _tx: None))


def test_what_has_no_value_ends_a_claim_that_tells_of_itself(app: App, loop: StepLoop) -> None:
    """P014: the error says which claim it ended; one out of the user's code says its own."""
    failing = app.free.map(lambda free: 1 // free > 0)
    with pytest.raises(DerivationError, match="this ended a wait for") as info:
        loop.run(app.claim(failing, enter))
    assert info.value.wait is not None
    with pytest.raises(DerivationError) as info:
        loop.run(app.free.claim(lambda _free: failing.value, one_less))
    assert info.value.wait is None


def test_the_condition_is_of_this_store(app: App, loop: StepLoop) -> None:
    """One of another store has another order of commits."""
    with pytest.raises(DifferentStoresError, match="another order of commits"):
        loop.run(app.claim(App().is_open, enter))
    with pytest.raises(TypeError, match="a condition is a watcher of bool"):
        loop.run(app.claim(is_some, enter))  # type: ignore[arg-type]
    with pytest.raises(UnknownKeyError):
        loop.run(app.claim(app.is_open, lambda tx: tx[App().free]))


# -- threads ---------------------------------------------------------------------------------------


def test_a_thread_takes_at_once_what_is_there(app: App) -> None:
    """P025: nothing blocks."""
    app.free.value = 2

    made = app.free.blocking.claim(is_some, one_less)
    assert Transition(key="free", old=2, new=1, revision=2) == made
    assert 0 == app.blocking.claim(app.free.matches(is_some), enter)


def test_a_thread_blocks_until_it_has_it(app: App, parked: threading.Event) -> None:
    """P025: another thread sets, the claim is made."""
    job = Job(lambda: app.free.blocking.claim(is_some, one_less))
    assert parked.wait(30)
    app.free.value = 1

    assert Transition(key="free", old=1, new=0, revision=2) == job.result()


def test_a_thread_claims_several_keys(app: App, parked: threading.Event) -> None:
    """P025: its condition is computed in the thread itself."""
    job = Job(lambda: app.blocking.claim(app.free.matches(is_some), enter))
    assert parked.wait(30)
    app.free.value = 1

    assert 0 == job.result()
    assert "me" == app.owner.value


@pytest.mark.parametrize("of_store", [False, True])
def test_threads_stand_in_line(app: App, monkeypatch: pytest.MonkeyPatch, of_store: bool) -> None:
    """P098: in order of arrival; only the first one listens, so a state wakes one thread."""
    condition = app.free.matches(is_some)
    woken: list[int] = []
    notify = ThreadPort.notify
    monkeypatch.setattr(ThreadPort, "notify", lambda self: (woken.append(1), notify(self)))
    served: list[int] = []

    def claim(me: int) -> None:
        if of_store:
            app.blocking.claim(condition, lambda tx: tx.__setitem__(App.free, tx[App.free] - 1))
        else:
            app.free.blocking.claim(lambda free: free > 0, lambda free: free - 1)
        served.append(me)

    jobs: list[Job[None]] = []
    for me in range(5):
        jobs.append(Job(functools.partial(claim, me)))
        wait_for(lambda: len(gates_of(app)) == len(jobs))
    wait_for(lambda: any(ports_of(app)))
    assert 1 == len(ports_of(app))
    app.free.value = 1
    wait_for(lambda: len(gates_of(app)) == 4 and any(ports_of(app)))
    assert [0] == served
    assert len(woken) <= 2  # the set, and the claim itself
    app.free.value = 4
    for job in jobs:
        job.result()

    assert [0, 1, 2, 3, 4] == sorted(served)
    assert 0 == app.free.value


def gates_of(app: App) -> list[_Gate]:
    """Give the threads that stand in line."""
    return [gate for line in app._core.lines.copy().values() for gate in line.gates.copy()]


def ports_of(app: App) -> list[object]:
    """Give what listens to the key."""
    listeners = app.free._listeners
    return [] if listeners is None else [*listeners.ports.copy()]


def wait_for(is_so: Callable[[], bool]) -> None:
    """Let other threads run until something is so."""
    deadline = threading.Event()
    for _ in range(30_000):
        if is_so():
            return
        deadline.wait(0.001)
    raise AssertionError


def test_a_thread_times_out(app: App) -> None:
    """The first of a line, and one behind it."""
    with pytest.raises(WaitTimeoutError, match="waited 0 s in vain for free to satisfy is_some"):
        app.free.blocking.claim(is_some, one_less, timeout=0)
    with pytest.raises(WaitTimeoutError):
        app.free.blocking.claim(is_some, one_less, timeout=0.001)
    first = Job(lambda: app.free.blocking.claim(is_some, one_less))
    wait_for(lambda: any(ports_of(app)))
    with pytest.raises(WaitTimeoutError):
        app.free.blocking.claim(is_some, one_less, timeout=0.001)
    app.free.value = 1

    assert 0 == first.result().new  # type: ignore[union-attr]


def test_a_poll_of_a_thread_does_not_stand_in_line(app: App) -> None:
    """P006: it takes what is there."""
    line = ThreadLine(app.free._claim(is_some, one_less, None))
    line.gates[_Gate()] = None
    next(iter(line.gates)).thread = 0
    app._core.lines[app.free, identity_of(is_some)] = line
    app.free.value = 1

    assert 0 == app.free.blocking.claim(is_some, one_less, timeout=-1).new  # type: ignore[union-attr]
    app._core.lines.clear()


def test_closing_ends_the_claims_of_threads(parked: threading.Event) -> None:
    """P092: the first of a line, and all behind it."""
    app = App()

    def claim() -> str:
        with pytest.raises(StoreClosedError) as caught:
            app.free.blocking.claim(is_some, one_less)
        return str(caught.value)

    jobs = [Job(claim) for _ in range(3)]
    wait_for(lambda: len(gates_of(app)) == 3 and any(ports_of(app)))
    app.close()

    told = {job.result() for job in jobs}
    assert (
        "App was closed during a wait for free to satisfy is_some; it is 0 since revision 0" in told
    )
    assert_no_trace(app)


def test_removal_ends_the_claims_of_threads(app: App) -> None:
    """P091: the first of a line, and the one behind it."""
    worker = app.workers.add("w1")

    def claim() -> None:
        with pytest.raises(KeyRemovedError):
            worker.blocking.claim(is_some, one_less)

    jobs = [Job(claim) for _ in range(2)]
    wait_for(lambda: len(gates_of(app)) == 2)
    del app.workers["w1"]
    for job in jobs:
        job.result()


def test_an_error_in_a_thread_lets_the_next_one_try(app: App) -> None:
    """P056: it ends that claim alone."""

    def claim(change: Callable[[int], int]) -> Any:
        return app.free.blocking.claim(is_some, change)

    bad = Job(functools.partial(claim, boom))
    wait_for(lambda: any(ports_of(app)))
    good = Job(functools.partial(claim, one_less))
    wait_for(lambda: len(gates_of(app)) == 2)
    app.free.value = 1

    with pytest.raises(BoomError):
        bad.result()
    assert 0 == good.result().new


def test_a_claim_inside_of_a_claim_does_not_wait_for_itself(app: App) -> None:
    """P106: a frame of the same thread that stands before it can never go on before it has."""
    app.free.value = 2
    inner: list[Transition[int] | None] = []

    def change(free: int) -> int:
        if not inner:
            inner.append(app.free.blocking.claim(is_some, one_less))
        return free - 1

    outer = app.free.blocking.claim(is_some, change)

    assert [Transition(key="free", old=2, new=1, revision=2)] == inner
    assert Transition(key="free", old=1, new=0, revision=3) == outer


def test_an_error_keeps_nothing_that_follows(loop: StepLoop) -> None:
    """P023: whoever keeps it keeps the frames it came through, but not the values."""

    class Value:
        """Something that can be seen to be gone."""

    watcher = ValueWatcher[object](None)
    tasks = [loop.create_task(watcher.claim(bool, str, timeout=after)) for after in (0, TIMEOUT)]
    loop.settle()
    with pytest.raises(WaitTimeoutError) as caught:
        watcher.blocking.claim(bool, str, timeout=0)
    loop.advance(TIMEOUT)
    watcher.value = value = Value()
    gone = weakref.ref(value)
    del value
    watcher.value = None
    gc.collect()

    assert gone() is None
    assert [WaitTimeoutError] * 3 == [type(caught.value), *errors_of(*tasks)]


def test_a_gate_may_be_opened_twice() -> None:
    """P027: two who leave open it for one who has not looked yet."""
    gate = _Gate()
    gate.open()
    gate.open()
    gate.wait(None)


def test_a_line_of_threads_is_forgotten_once(app: App) -> None:
    """P027: a thread that came as the last one left has made another line meanwhile."""
    claim = app.free._claim(is_some, one_less, None)
    old, new = ThreadLine(claim), ThreadLine(claim)
    app._core.lines[claim.key] = new
    old.leave(_Gate())
    assert {claim.key: new} == app._core.lines
    new.leave(_Gate())

    assert {} == app._core.lines


async def test_blocking_is_refused_where_a_loop_runs(app: App) -> None:
    """P025: it would stop the loop."""
    app.free.value = 1
    with pytest.raises(BlockingError):
        app.free.blocking.claim(is_some, one_less)
    with pytest.raises(BlockingError):
        app.blocking.claim(app.is_open, enter)
    assert 1 == app.free.value


def test_loops_and_threads_share_what_there_is(app: App) -> None:
    """Between them, who commits first has it; nothing is given twice."""
    app.free.value = 3
    got: list[int] = []

    def on_loop() -> None:
        async def claim() -> None:
            got.extend([(await take(app)).new for _ in range(2)])  # type: ignore[union-attr]

        asyncio.run(claim())

    def in_thread() -> None:
        made = [app.free.blocking.claim(is_some, one_less) for _ in range(2)]
        got.extend(transition.new for transition in made if transition is not None)

    def give() -> None:
        app.free.update(one_more)

    at_once(on_loop, in_thread, give)

    assert (0, 4) == (app.free.value, len(got))
    assert app.revision == 1 + 1 + 4


# -- which conditions are the same -----------------------------------------------------------------


def test_functions_of_one_line_are_the_same_if_they_captured_the_same() -> None:
    """A condition is asked once for all of them; others are asked on their own."""

    def make(captured: object) -> list[Callable[[int], bool]]:
        return [lambda free: free is captured for _ in range(2)]

    def make_plain() -> Callable[[int], bool]:
        return lambda free: free > 0

    def with_default(default: object) -> Callable[..., bool]:
        return lambda free, default=default: free is default

    def with_name(default: object) -> Callable[..., bool]:
        return lambda free, *, default=default: free is default

    one, two = object(), object()
    first, second = make(one)
    (third, _) = make(one)
    text = "text"
    assert identity_of(first) == identity_of(second)
    assert identity_of(first) != identity_of(third)
    assert identity_of(make_plain()) == identity_of(make_plain())
    assert identity_of(lambda free: free > 0) != identity_of(lambda free: free > 0)
    for make_one in (with_default, with_name):
        a, b, c = make_one(one), make_one(one), make_one(two)
        assert identity_of(a) == identity_of(b)
        assert identity_of(a) != identity_of(c)
    assert identity_of(text.startswith) != identity_of(is_some)
    assert identity_of(bool) == identity_of(bool)
    assert identity_of(functools.partial(is_some)) != identity_of(functools.partial(is_some))


def test_methods_are_the_same_if_their_object_is() -> None:
    """A bound method is a new object each time, too."""

    class Limit:
        def is_met(self, free: int) -> bool:
            return free > 0

    one, two = Limit(), Limit()
    assert identity_of(one.is_met) == identity_of(one.is_met)
    assert identity_of(one.is_met) != identity_of(two.is_met)
    bound = types.MethodType(operator.gt, 3)
    assert identity_of(bound) == identity_of(types.MethodType(operator.gt, 3))
