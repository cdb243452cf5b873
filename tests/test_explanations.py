"""What a wait that failed says of itself: what for, what there was, what it saw. P14."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import re
import threading
from collections.abc import Callable, Coroutine, Iterator
from enum import Enum, Flag
from typing import Any

import pytest
from attrs import frozen

from statestore import (
    ABSENT,
    Condition,
    DerivationError,
    Family,
    Key,
    KeyRemovedError,
    LaggedError,
    Part,
    Ref,
    Store,
    StoreClosedError,
    Transition,
    ValueWatcher,
    WaitReport,
    WaitTimeoutError,
    all_of,
    any_of,
    at_least,
    combine,
)
from statestore._explaining import DEPTH, LISTED, MANY
from statestore._mailbox import trimmed
from statestore._text import spell
from statestore.testing import Hostile, StepLoop


class Conn(Enum):
    """States with names."""

    OPEN = "open"
    CLOSED = "closed"


class Temp(Enum):
    """More of them."""

    COLD = 1
    HOT = 2


@frozen
class Worker:
    """What a family has."""

    busy: bool = False


class App(Store):
    """One key of each kind."""

    conn = Key(Conn.OPEN)
    ready = Key(True)
    warm = Key(Temp.COLD)
    idle = Key(True)
    n = Key(0)
    value = Key[Any](None)
    workers = Family[str, Worker]()


@pytest.fixture
def app() -> App:
    """Give a store."""
    return App()


@pytest.fixture
def loop() -> Iterator[StepLoop]:
    """Give a loop on which nothing complained in the end."""
    with StepLoop() as made:
        yield made
    assert [] == made.failures


def failure(main: Coroutine[Any, Any, Any]) -> Any:
    """Give the error of a wait that fails at its first step, or what it gave."""
    try:
        main.send(None)
    except StopIteration as done:
        return done.value
    except Exception as error:
        return error
    main.close()
    raise AssertionError("it sleeps")


def outcome(task: asyncio.Task[Any]) -> Any:
    """Give the error of a task that is done."""
    assert task.done()
    return task.exception()


def start(loop: StepLoop, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start *main*, and let it go as far as it gets."""
    task = loop.create_task(main)
    loop.settle()
    return task


def words(condition: Condition) -> str:
    """Give what a wait for *condition*, which does not hold, says that it waits for."""
    error = failure(condition.wait(timeout=0))
    assert isinstance(error, WaitTimeoutError)
    return error.waited_for


# What for


def is_odd(value: object) -> bool:
    """Hold never."""
    return False


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (lambda w: w.wait_for(Conn.CLOSED, timeout=0), "conn to be CLOSED"),
        (lambda w: w.wait_for_not(Conn.OPEN, timeout=0), "conn to be other than OPEN"),
        (
            lambda w: w.wait_for_not_none(immediate=False, timeout=0),
            "conn to be other than None",
        ),
        (lambda w: w.wait_for_change(timeout=0), "conn to change"),
        (lambda w: w.wait_until(is_odd, timeout=0), "conn to satisfy is_odd"),
    ],
)
def test_a_wait_says_in_words_what_it_waits_for(
    app: App, wait: Callable[..., Any], expected: str
) -> None:
    """The same in the message, on the error and in its report."""
    error = failure(wait(app.conn))

    assert expected == error.waited_for == error.wait.waited_for
    assert f"waited 0 s in vain for {expected}; it is OPEN since revision 0" == str(error)


def test_a_lambda_is_named_by_file_and_line(app: App) -> None:
    """So one finds the very wait."""
    error = failure(app.conn.wait_until(lambda conn: conn is None, timeout=0))
    pattern = rf"conn to satisfy the lambda at {re.escape(__file__)}:\d+"

    assert re.fullmatch(pattern, error.waited_for)


def test_an_enum_member_is_called_by_its_name() -> None:
    """Whatever else it is; one without a name, or with a long one, is shown in short."""

    class Bit(Flag):
        A = 1
        B = 2

    long = Enum("long", {"x" * 100: 1})

    assert "CLOSED" == spell(Conn.CLOSED)
    assert "'closed'" == spell("closed")
    assert repr(Bit(0)) == spell(Bit(0))
    assert "x" * 9 + "…" == spell(next(iter(long)), 10)


def test_an_enum_that_does_not_let_itself_be_asked_is_shown_all_the_same() -> None:
    """An error in there hides nothing."""

    class Odd(Enum):
        A = 1

        def __getattribute__(self, name: str) -> Any:
            if name == "_name_":
                raise ValueError(name)
            return super().__getattribute__(name)

    assert "Odd" in spell(Odd.A)


def test_the_name_of_a_condition_spells_members_too(app: App) -> None:
    """They stand in names of derived watchers, and from there in reports."""
    assert "conn is CLOSED" == app.conn.is_(Conn.CLOSED).name
    assert "conn is not CLOSED" == app.conn.is_not(Conn.CLOSED).name


# What it saw


def test_a_timeout_tells_the_last_three_transitions(app: App, loop: StepLoop) -> None:
    """In words and as records; what came before those, or before the wait, is not told."""
    app.n.value = 1
    task = start(loop, app.n.wait_for(0, timeout=5))
    for value in range(2, 7):
        app.n.value = value
        if value != 4:
            loop.settle()
    loop.advance(5)
    error = outcome(task)

    expected = [
        Transition(key="n", old=3, new=4, revision=4),
        Transition(key="n", old=4, new=5, revision=5),
        Transition(key="n", old=5, new=6, revision=6),
    ]
    assert expected == list(error.wait.transitions)
    assert str(error).endswith(
        "; it saw 3 -> 4 at revision 4, 4 -> 5 at revision 5, 5 -> 6 at revision 6"
    )


def test_a_later_wait_is_not_told_of_what_came_before_it(app: App, loop: StepLoop) -> None:
    """Though both share what the loop keeps."""
    early = start(loop, app.n.wait_for(-1, timeout=5))
    app.n.value = 1
    loop.settle()
    late = start(loop, app.n.wait_for(-1, timeout=5))
    app.n.value = 2
    loop.advance(5)

    assert [1, 2] == [t.new for t in outcome(early).wait.transitions]
    assert [2] == [t.new for t in outcome(late).wait.transitions]


def test_what_comes_after_the_deadline_in_the_same_tick_is_told_too(
    app: App, loop: StepLoop
) -> None:
    """A wait looks once more before it fails; what it finds then it has seen."""
    task = start(loop, app.n.wait_for(-1, timeout=5))
    loop.call_at(5, setattr, app.n, "value", 1)
    loop.advance(5)

    assert (1, 1, [1]) == (
        outcome(task).value,
        outcome(task).revision,
        [t.new for t in outcome(task).wait.transitions],
    )


def test_a_wait_that_fails_at_its_first_step_saw_nothing(app: App) -> None:
    """A poll tells of the value alone."""
    app.n.value = 1

    assert () == failure(app.n.wait_for(5, timeout=0)).wait.transitions


@pytest.mark.parametrize("end", ["time", "close"])
def test_a_blocking_wait_tells_the_same(app: App, end: str) -> None:
    """A thread has seen what came while it looked."""

    def look(value: int) -> bool:
        if value < 5:
            app.n.value = value + 1
        elif end == "close":
            app.close()
        return False

    with pytest.raises((WaitTimeoutError, StoreClosedError)) as caught:
        app.n.blocking.wait_until(look, timeout=0.001)
    report = caught.value.wait

    assert report is not None
    assert [(2, 3), (3, 4), (4, 5)] == [(t.old, t.new) for t in report.transitions]
    assert (5, 5) == (report.value, report.revision)


@pytest.mark.parametrize("maxlen", [None, 10])
def test_the_wait_of_a_subscription_tells_what_it_took(
    app: App, loop: StepLoop, maxlen: int | None
) -> None:
    """Also what it took before it slept."""
    with app.n.subscribe(maxlen=maxlen) as sub:
        app.n.value = 1
        task = start(loop, sub.wait_for(-1, timeout=5))
        app.n.value = 2
        loop.advance(5)
        error = outcome(task)

    assert "n to be -1" == error.waited_for
    assert [(0, 1), (1, 2)] == [(t.old, t.new) for t in error.wait.transitions]
    assert (2, 2) == (error.value, error.revision)


def test_a_wait_for_commits_tells_what_they_changed(app: App, loop: StepLoop) -> None:
    """Each transition is one of its key; the value is the snapshot that was looked at last."""
    with app.subscribe(app.n, app.ready) as sub:
        task = start(loop, sub.wait_until(is_odd, timeout=5))
        with app.transaction() as tx:
            tx[app.n] = 1
            tx[app.ready] = False
        loop.advance(5)
        error = outcome(task)

    assert "App to satisfy is_odd" == error.waited_for
    assert [("n", 1), ("ready", False)] == [(t.key, t.new) for t in error.wait.transitions]
    assert {"n": 1, "ready": False} == dict(error.value)


def test_a_blocking_wait_for_commits_tells_the_same(app: App) -> None:
    """From a thread as from a task."""
    with app.blocking.subscribe() as sub:
        app.n.value = 1
        with pytest.raises(WaitTimeoutError) as caught:
            sub.wait_until(is_odd, timeout=0)

    assert [("n", 1)] == [(t.key, t.new) for t in caught.value.wait.transitions]  # type: ignore[union-attr]


def test_a_trail_ends_where_it_is_told_to() -> None:
    """It is never more than three cells long, nor moved when it is shorter."""
    cells: list[list[Any]] = [[n, n, None] for n in range(6)]
    for before, after in itertools.pairwise(cells):
        before[2] = after

    assert [0, 0, 0, 0, 1, 2] == [trimmed(cells[0], last)[0] for last in cells]


# Since when


def test_the_age_is_told_if_somebody_keeps_the_times(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hook of the core gives the time of a commit; without it nothing is said."""
    assert failure(app.n.wait_for(1, timeout=0)).wait.age is None

    monkeypatch.setattr("statestore._explaining.time.monotonic", lambda: 100.0)
    app._core.time_of = {0: 97.5}.get
    error = failure(app.n.wait_for(1, timeout=0))

    assert 2.5 == error.wait.age
    assert str(error).endswith("it is 0 since revision 0, 2.5 s ago")

    app.n.value = 5

    assert failure(app.n.wait_for(1, timeout=0)).wait.age is None


# Conditions: which parts held


def test_a_combined_condition_tells_which_parts_hold(app: App) -> None:
    """In the words of the promise."""
    three = all_of(app.ready, app.warm.is_(Temp.HOT), app.idle)
    error = failure(three.wait(timeout=0))

    assert "all of 3: ready yes, warm NO (is COLD), idle yes" == error.waited_for
    assert (
        "waited 0 s in vain for all of 3: ready yes, warm NO (is COLD), idle yes; "
        "not so since revision 0" == str(error)
    )
    assert [("ready", True, True), ("warm", False, Temp.COLD), ("idle", True, True)] == [
        (part.name, part.holds, part.value) for part in error.wait.parts
    ]
    assert "warm NO (is COLD)" == str(error.wait.parts[1])
    assert 3 == error.wait.part_count


def test_parts_that_would_have_one_name_are_told_apart(app: App) -> None:
    """By the whole name of the condition."""
    either = app.conn.is_(Conn.CLOSED) | app.conn.is_(None)

    assert "all of 1: n NO (is 0)" == words(all_of(app.n.is_(1)))
    assert "any of 2: conn is CLOSED NO (is OPEN), conn is None NO (is OPEN)" == words(either)


def test_a_part_with_a_predicate_is_named_by_it(app: App) -> None:
    """What is not said by the value alone."""
    both = at_least(2, app.n.matches(is_odd), app.n.is_not(0), app.ready)

    assert "at least 2 of 3: n matches is_odd NO (is 0), n is not 0 NO (is 0), ready yes" == words(
        both
    )


def test_conditions_of_one_kind_in_each_other_are_told_as_one(app: App) -> None:
    """`(a & b) & c` is three parts, and what both sides share is one."""
    a, b, c = app.n.is_(1), app.warm.is_(Temp.HOT), app.conn.is_(Conn.CLOSED)
    shared = a & b

    assert "all of 3: n NO (is 0), warm NO (is COLD), conn NO (is OPEN)" == words((a & b) & c)
    assert "any of 3: n NO (is 0), warm NO (is COLD), conn NO (is OPEN)" == words(a | (b | c))
    assert "all of 2: n NO (is 0), warm NO (is COLD)" == words(shared & shared)


def test_conditions_of_another_kind_are_told_inside(app: App) -> None:
    """What does not hold says why, level by level."""
    a, b = app.n.is_(1), app.warm.is_(Temp.HOT)
    both = all_of(any_of(a, b), app.ready)

    assert (
        "all of 2: any of (n is 1, warm is HOT) NO (n NO (is 0), warm NO (is COLD)), ready yes"
        == words(both)
    )


def test_a_negation_tells_why_what_it_negates_holds(app: App) -> None:
    """One level deeper."""
    inside = any_of(app.ready, app.idle)

    assert "not (n is 0) NO (is 0)" == words(~app.n.is_(0))
    assert "not (any of (ready, idle)) NO (ready yes, idle yes)" == words(~inside)


def test_it_does_not_go_deeper_than_people_read(app: App) -> None:
    """Of conditions in conditions, the first levels are told."""
    deep: Condition = app.n.is_(1)
    other: Condition = ~app.n.is_(0)
    for level in range(2 * DEPTH + 2):
        deep = all_of(deep, app.n.is_(2)) if level % 2 else any_of(deep, app.n.is_(3))
        other = ~other
    error = failure((deep & other).wait(timeout=0))

    assert "n is 1 NO" not in error.waited_for
    assert len(error.waited_for) < 1_000


def test_a_condition_of_one_value_tells_the_value(app: App) -> None:
    """It waits for the value to become so, and shows what it is."""
    error = failure(app.conn.is_(Conn.CLOSED).wait(timeout=0))

    assert "conn to be CLOSED" == error.waited_for
    assert str(error).endswith("conn to be CLOSED; not so since revision 0; conn NO (is OPEN)")


def test_a_part_without_a_value_says_why(app: App) -> None:
    """An error and the end of a member are told in its place."""
    app.workers.add("w1", Worker())
    member = app.workers["w1"]
    broken = app.n.map(lambda n: 1 / n).is_(2)
    del app.workers["w1"]
    error = failure(all_of(broken, app.ready).wait(timeout=0))
    gone = failure((member.is_(Worker(True)) & app.ready).wait(timeout=0))

    assert isinstance(error, DerivationError)
    assert isinstance(gone, KeyRemovedError)
    assert error.wait is not None
    assert gone.wait is not None
    assert [None, True] == [part.holds for part in error.wait.parts]
    assert "in error (ZeroDivisionError('division by zero')), ready yes" in error.wait.waited_for
    assert "all of 2: workers['w1'] removed, ready yes" == gone.wait.waited_for


def test_of_many_parts_those_are_told_that_do_not_hold(app: App) -> None:
    """Their number, and the first few."""
    for number in range(LISTED + 8):
        app.add(f"k{number}", number % 2 == 0)
    many = all_of(*(app[f"k{number}"] for number in range(LISTED + 8)))
    error = failure(many.wait(timeout=0))

    assert "all of 20: 10 yes, 10 not: k1 NO, k3 NO, k5 NO, k7 NO, … 6 more" == error.waited_for
    assert 20 == len(error.wait.parts) == error.wait.part_count


def test_of_very_many_parts_only_those_few_are_there() -> None:
    """The report stays small however wide the condition is; an alternative has nothing to list."""
    store = Store()
    keys = [store.add(f"k{number}", number != 7) for number in range(MANY + 1)]
    error = failure(all_of(*keys).wait(timeout=0))
    goal = failure(any_of(*keys).wait_for(False, timeout=0))

    assert "all of 1,001: 1,000 yes, 1 not: k7 NO" == error.waited_for
    assert (["k7"], 1_001) == ([part.name for part in error.wait.parts], error.wait.part_count)
    assert goal.waited_for.endswith(" to be False")
    assert "1,000 yes, 1 not: k7 NO" == goal.wait.detail

    store["k7"].set(True)

    assert "1,001 yes, 0 not" == failure(all_of(*keys).wait_for(None, timeout=0)).wait.detail


def test_a_family_tells_how_many_hold_and_who_does_not(app: App) -> None:
    """Members are named with their values, the first few."""
    for number in range(10):
        app.workers.add(f"w{number}", Worker(busy=number > 2))
    idle = app.workers.all(lambda worker: not worker.busy)
    told = words(idle)

    assert re.match(
        r"all of workers match the lambda at .* NO \(3 of 10; workers\['w\d'\] is", told
    )
    assert 4 == told.count("Worker(busy=True)")
    assert "(3 of 10; " in words(idle & app.ready)


def test_a_family_that_nobody_is_in_names_nobody(app: App) -> None:
    """Then there is but the number."""
    told = words(app.workers.any(is_odd))

    assert "any of workers match is_odd NO (0 of 0)" == told


def test_all_parts_are_of_one_revision(app: App, loop: StepLoop) -> None:
    """Two keys that change together are told together, at the end too."""
    both = app.n.is_(1) & app.warm.is_(Temp.HOT)
    task = start(loop, both.wait())
    with app.transaction() as tx:
        tx[app.n] = 1
        tx[app.conn] = Conn.CLOSED
    app.close()
    loop.settle()
    error = outcome(task)

    assert isinstance(error, StoreClosedError)
    assert (
        "App was closed during a wait for all of 2: n yes, warm NO (is COLD); "
        "not so since revision 0" == str(error)
    )


# Other derived watchers


def test_a_derived_watcher_tells_what_it_is_made_of(app: App) -> None:
    """The values of its sources stand beside its own."""
    error = failure(combine(app.n, app.ready).wait_for((1, True), timeout=0))
    mapped = failure(app.n.map(lambda n: n + 1).wait_for(3, timeout=0))

    assert str(error).endswith("it is (0, True) since revision 0; n is 0, ready is True")
    assert [("n", None, 0)] == [(p.name, p.holds, p.value) for p in mapped.wait.parts]


def test_something_derived_that_shall_be_true_is_not_taken_for_a_condition(app: App) -> None:
    """What becomes true in the end may be anything before."""
    assert "n.map(str) to be True" == failure(app.n.map(str).wait_for(True, timeout=0)).waited_for


def test_of_many_sources_the_first_are_told(app: App) -> None:
    """And how many there are."""
    error = failure(combine(*[app.n] * 20).wait_for(1, timeout=0))

    assert error.wait.detail.endswith("n is 0, … 20 in all")
    assert 20 == error.wait.part_count


def test_what_a_family_gives_is_its_own_explanation(app: App) -> None:
    """A count or a mapping has no parts."""
    app.workers.add("w1", Worker())
    counted = failure(app.workers.count().wait_for(5, timeout=0))
    mapped = failure(app.workers.mapping.wait_for(None, timeout=0))

    assert (1, ()) == (counted.value, counted.wait.parts)
    assert ((), "") == (mapped.wait.parts, mapped.wait.detail)


def test_a_source_in_error_says_so(app: App) -> None:
    """The first of a chain that fails is seen."""
    broken = app.n.map(lambda n: 1 / n)
    error = failure(combine(broken, app.n).wait_for("x", timeout=0))

    assert error.wait.detail.endswith(" in error (ZeroDivisionError('division by zero')), n is 0")


def test_what_failed_is_told_without_calling_anything_again(app: App, loop: StepLoop) -> None:
    """The loop has computed it; half way through a run of functions, what went in is told."""
    calls: list[object] = []

    def note(value: object) -> bool:
        calls.append(value)
        return False

    for number in range(3):
        app.workers.add(f"w{number}", Worker())
    idle = app.workers.all(note) & app.n.map(note).is_(True) & app.warm.matches(note)
    task = start(loop, idle.wait(timeout=5))
    made = calls.copy()
    loop.advance(5)
    told = outcome(task).waited_for

    assert made == calls
    assert "(0 of 3; workers['w" in told
    assert "NO (n is 0), warm matches" in told


# The other ends of a wait


def removed(app: App, wait: Callable[[ValueWatcher[Worker]], Any], loop: StepLoop) -> Any:
    """Give the error of a wait on a member that is removed while it sleeps."""
    app.workers.add("w1", Worker())
    task = start(loop, wait(app.workers["w1"]))
    app.workers["w1"].value = Worker(busy=True)
    del app.workers["w1"]
    loop.settle()
    return outcome(task)


def test_the_end_of_a_member_explains_itself(app: App, loop: StepLoop) -> None:
    """The wait, the last value, and what came before the end."""
    error = removed(app, lambda member: member.wait_for(None), loop)

    assert isinstance(error, KeyRemovedError)
    assert error.wait is not None
    assert "workers['w1']" == error.key
    assert "this ended a wait for workers['w1'] to be None; it was Worker(busy=True) until" in str(
        error
    )
    assert [Worker(busy=True), ABSENT] == [t.new for t in error.wait.transitions]


def test_the_end_of_a_member_explains_the_wait_of_a_subscription(app: App, loop: StepLoop) -> None:
    """There it is one of the queue's records."""

    async def read(member: ValueWatcher[Worker]) -> None:
        with member.subscribe() as sub:
            await sub.wait_for(None)

    error = removed(app, read, loop)

    assert "ended a wait for workers['w1'] to be None" in str(error)
    assert [Worker(busy=True)] == [t.new for t in error.wait.transitions]


def test_a_member_that_is_gone_explains_a_wait_that_begins(app: App) -> None:
    """Nothing was seen, but what it was is known; for a thread too."""
    member = app.workers.add("w1", Worker())
    del app.workers["w1"]
    error = failure(member.wait_for(None))

    assert "it was Worker(busy=False) until revision 2" in str(error)
    with pytest.raises(KeyRemovedError, match="ended a wait for"):
        member.blocking.wait_for(None)


def test_an_error_of_a_derived_watcher_explains_itself(app: App, loop: StepLoop) -> None:
    """The wait that it ended, and what was seen before."""
    derived = app.n.map(lambda n: 1 // (n - 3))
    task = start(loop, derived.wait_for(-5))
    for value in (2, 3):
        app.n.value = value
    loop.settle()
    error = outcome(task)

    assert isinstance(error, DerivationError)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert error.wait is not None
    assert "to be -5; it is in error since revision 2; n is 3; it saw -1 -> Zero" in str(error)
    assert [(-1, error.__cause__)] == [(t.old, t.new) for t in error.wait.transitions]


@pytest.mark.parametrize("immediate", [True, False])
def test_a_subscription_in_error_explains_its_waits(app: App, immediate: bool) -> None:
    """Be it at its place, or the next record."""
    derived = app.n.map(lambda n: 1 // n)
    app.n.value = 1
    with derived.blocking.subscribe() as sub:
        app.n.value = 0
        for _ in range(2):
            with pytest.raises(DerivationError) as caught:
                sub.wait_for(5, immediate=immediate, timeout=0)
            if not immediate:
                app.n.value += 1
                app.n.value = 0

    assert caught.value.wait is not None
    assert caught.value.wait.waited_for.endswith(" to be 5")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_predicate_that_reads_what_has_no_value_is_not_explained(
    app: App, loop: StepLoop
) -> None:
    """What a predicate raises comes out as it is: it is no end of this wait's watcher."""
    broken = app.n.map(lambda n: 1 // n)

    def look(_value: object) -> bool:
        return bool(broken.value)

    parked = start(loop, app.ready.wait_until(look, immediate=False))
    app.ready.value = False
    loop.settle()
    for error in (failure(app.ready.wait_until(look)), outcome(parked)):
        assert isinstance(error, DerivationError)
        assert error.wait is None


def test_lost_records_are_told_as_ever(app: App) -> None:
    """A wait that meets a loss can go on; it has not failed."""
    with app.n.blocking.subscribe(maxlen=1) as sub:
        app.n.value = 1
        app.n.value = 2
        with pytest.raises(LaggedError):
            sub.wait_for(2, timeout=0)
        assert 2 == sub.wait_for(2, timeout=0)


# Values that print badly


@pytest.mark.parametrize("on_repr", [None, lambda: "x" * 10**6])
def test_a_value_that_prints_badly_hides_nothing(app: App, on_repr: Any) -> None:
    """A repr that raises, or has no end, is cut short wherever it would stand."""
    bad = Hostile() if on_repr is None else Hostile(on_repr=Ref(on_repr))
    app.value.value = bad
    parts = app.value.matches(is_odd) & app.ready
    for main in (app.value.wait_until(is_odd, timeout=0), parts.wait(timeout=0)):
        error = failure(main)

        assert isinstance(error, WaitTimeoutError)
        assert ("broken repr" if on_repr is None else "xxx…") in str(error)
        assert len(str(error)) < 1_000


# Reports


def test_a_report_can_be_pickled_with_the_rest() -> None:
    """What cannot is replaced by its text; all else is as it was."""
    lock = threading.Lock()
    moved = Transition[Any](key="k", old=lock, new=2, revision=2)
    part = Part(name="k", holds=None, value=lock, text="k is 2")
    report = WaitReport(
        waited_for="k to change",
        key="k",
        value=(lock, 1),
        revision=2,
        transitions=(moved,),
        parts=(part,),
    )
    twin = pickle.loads(pickle.dumps(report))

    assert (repr(lock), 1) == twin.value
    assert [(repr(lock), 2)] == [(t.old, t.new) for t in twin.transitions]
    assert [repr(lock)] == [p.value for p in twin.parts]
    assert str(report).partition(";")[0] == str(twin).partition(";")[0]
    assert ("k to change", 2, None) == (twin.waited_for, twin.revision, twin.age)


def test_a_report_tells_the_time_that_is_left() -> None:
    """If there is a deadline, and it still waits."""
    report = WaitReport(
        waited_for="", key="", value=0, revision=0, since=10.0, waited=3.0, deadline=15.0
    )

    assert 2.0 == report.left
    assert WaitReport(waited_for="", key="", value=0, revision=0).left is None
