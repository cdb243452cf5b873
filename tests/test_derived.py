"""Derived watchers: computed once, from values of one revision, and watchers like any other."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import math
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import pytest

from statestore import (
    ABSENT,
    BlockingError,
    Condition,
    DerivationError,
    LaggedError,
    StoreClosedError,
    Subscription,
    SubscriptionError,
    Transition,
    ValueWatcher,
    WaitTimeoutError,
    Watcher,
    combine,
)
from statestore._mailbox import ThreadPort
from statestore._network import Network
from statestore.testing import (
    BoomError,
    Hostile,
    Panic,
    StepLoop,
    Undecided,
    assert_chain,
    assert_no_trace,
    boom,
    equal_by,
    in_thread,
)
from support.derived import (
    KINDS,
    LISTENERS,
    App,
    Case,
    Failed,
    Listen,
    call,
    drain,
    new_of,
    raised,
)
from support.hostile import Arena, probing
from support.threads import Job

every_listener = pytest.mark.parametrize("listen", LISTENERS.values(), ids=LISTENERS.keys())


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    """Give a derived watcher of each kind, to which nobody may listen any more afterwards."""
    yield from one_case(request.param)


@pytest.fixture
def mapped() -> Iterator[Case]:
    """Give a derived watcher of the simplest kind, to which nobody listens any more afterwards."""
    yield from one_case("map")


def one_case(kind: str) -> Iterator[Case]:
    """Make a case, and look at what is left of it."""
    case = Case(kind)
    yield case
    assert_no_trace(case.app)
    assert [] == case.failures
    case.app.close()


@pytest.fixture
def loop(request: pytest.FixtureRequest) -> Iterator[StepLoop]:
    """Give a loop that moves only when told to, and ends before it is looked what is left."""
    for name in {"case", "mapped"} & set(request.fixturenames):
        request.getfixturevalue(name)
    with StepLoop() as loop:
        yield loop
    assert [] == loop.failures


# -- what is delivered -----------------------------------------------------------------------------


@every_listener
def test_every_transition_is_delivered_in_order(case: Case, loop: StepLoop, listen: Listen) -> None:
    """Whatever comes between two looks, each transition of the source makes one of its own."""
    with listen(case, loop) as news:
        case.set(1, 2, 3, 2, 1)
        assert [case.of(n) for n in (1, 2, 3, 2, 1)] == news()
        case.set(2)
        assert [case.of(2)] == news()
        assert [] == news()


@every_listener
def test_away_and_back_are_two_transitions(case: Case, loop: StepLoop, listen: Listen) -> None:
    """A result that goes back to what it was is not joined with its way there. P018."""
    with listen(case, loop) as news:
        case.set(1, 0)
        assert [case.of(1), case.of(0)] == news()


@every_listener
def test_equal_results_make_no_transition(case: Case, loop: StepLoop, listen: Listen) -> None:
    """A source that changes, and not the result, tells nobody. P103."""
    with listen(case, loop) as news:
        case.set(100, 200, 201, 301, 302)
        assert [case.of(1), case.of(2)] == news()


@every_listener
def test_sets_from_threads_come_in_the_order_of_revisions(
    case: Case, loop: StepLoop, listen: Listen
) -> None:
    """Whatever threads set, the listener is told of all of it, in the one order there is."""
    start = threading.Barrier(3)
    order: list[int] = []

    def count() -> None:
        start.wait()
        for _ in range(50):
            case.app.n.update(lambda n: n + 1)

    with case.app.n.on_change(lambda _old, new: order.append(new)), listen(case, loop) as news:
        threads = [threading.Thread(target=count) for _ in range(3)]
        for thread in threads:
            thread.start()
        taken = news()
        for thread in threads:
            thread.join()
        taken += news()

    assert [*range(1, 151)] == order
    assert [case.of(n) for n in order] == taken


@pytest.mark.parametrize("first", LISTENERS.values(), ids=LISTENERS.keys())
@pytest.mark.parametrize("second", LISTENERS.values(), ids=LISTENERS.keys())
def test_who_joins_later_sees_what_follows(
    mapped: Case, loop: StepLoop, first: Listen, second: Listen
) -> None:
    """Each listener is told of what follows its own opening, be it computed by then or not."""
    mapped.set(1)
    with first(mapped, loop) as news:
        mapped.set(2, 3)
        with second(mapped, loop) as later_news:
            mapped.set(4, 5)
            assert [4, 5] == later_news()
        mapped.set(6)
        assert [2, 3, 4, 5, 6] == news()


@pytest.mark.parametrize("on_loop", [True, False])
def test_what_comes_while_it_is_first_computed_is_not_missed(
    mapped: Case, loop: StepLoop, on_loop: bool
) -> None:
    """Look and registration are one, also if the function commits meanwhile. P002 P103."""

    def set_two(n: int) -> int:
        if n == 1:
            mapped.set(2)
        return n

    mapped.set(1)
    derived = mapped.app.n.map(set_two)

    def opened() -> Subscription[int]:
        return derived.subscribe(initial=True)

    with loop.run(call(opened)) if on_loop else opened() as sub:
        mapped.set(3)
        first, *others = drain(sub)
        assert_chain(first.new, others)
    assert first.revision in (1, 2)
    assert 3 == others[-1].new
    loop.settle()


def test_a_callback_is_told_of_what_comes_while_it_is_registered(mapped: Case) -> None:
    """A commit that the function makes at the registration is the first one to be told. P103."""
    changes: list[tuple[int, int]] = []

    def set_two(n: int) -> int:
        if n == 1:
            mapped.set(2)
        return n

    mapped.set(1)
    with mapped.app.n.map(set_two).on_change(lambda old, new: changes.append((old, new))):
        mapped.set(3)
    assert [(1, 2), (2, 3)] == changes


@pytest.mark.parametrize(
    ("before", "after", "is_transition"),
    [
        ("x" * 50, "x" * 50, False),
        ((1, "a"), (1, "a"), False),
        ([1], [1], False),
        ([1], [2], True),
        (1, True, True),
        (1, 1.0, True),
        (0.0, -0.0, False),
        (None, 0, True),
        (math.nan, math.nan, False),
        (math.nan, float("nan"), True),
    ],
)
def test_equal_is_what_equals_and_is_of_one_type(
    mapped: Case, before: Any, after: Any, is_transition: bool
) -> None:
    """A result is unchanged if it is the same object, or equal and of the same type. P063."""
    derived = mapped.app.n.map(lambda n: after if n % 2 else before)
    with derived.subscribe() as sub:
        mapped.set(1, 3)
        assert is_transition == bool(sub.pending)
        drain(sub)
        assert after == derived.value or after is derived.value


def test_an_equal_result_leaves_the_old_object(mapped: Case) -> None:
    """What is delivered next has the object as its old value that was delivered last. P070."""
    derived = mapped.app.n.map(lambda n: [n % 100])
    with derived.subscribe() as sub:
        mapped.set(1, 101, 2)
        first, second = drain(sub)
    assert first.new is second.old


def test_a_result_may_be_mutable(mapped: Case) -> None:
    """What is derived is not checked, as nobody can set it."""
    with mapped.app.n.map(lambda n: [n]).subscribe() as sub:
        mapped.set(1)
        assert [1] == sub.get_nowait().new


def test_records_tell_old_new_and_revision(case: Case) -> None:
    """A record has the watcher's name as key, and the revision of the commit that made it."""
    with case.derived.subscribe() as sub:
        case.set(1, 101, 2)
        case.app.add("third", 0)
        case.set(3)
        records = drain(sub)
    assert [
        Transition(
            key=case.derived.name, old=case.of(old), new=case.of(new), revision=revision, missed=0
        )
        for old, new, revision in [(0, 1, 1), (1, 2, 3), (2, 3, 5)]
    ] == records


def test_commits_to_other_keys_tell_nobody(case: Case, loop: StepLoop) -> None:
    """What it is not derived from changes nothing, and wakes nobody."""
    other = case.app.add("third", 0)
    with case.derived.subscribe() as sub:
        case.called()
        other.value = 1
        assert [] == drain(sub)
    assert [] == case.called()
    assert [] == loop.ready()


# -- how often it is computed ----------------------------------------------------------------------


def test_all_listeners_of_a_loop_share_one_computation(case: Case, loop: StepLoop) -> None:
    """It is computed once for each commit, however many listen there, and in whatever form."""
    listen = [LISTENERS[name] for name in ("subscription", "values", "waits", "polled")]
    with ExitStack() as stack:
        every = [stack.enter_context(one(case, loop)) for one in (*listen, *listen)]
        assert [0] == case.called()
        case.set(1, 2, 102, 3)
        for news in every:
            assert [case.of(1), case.of(2), case.of(3)] == news()
        assert [1, 2, 102, 3] == case.called()
        case.set(4)
        loop.settle()
        assert [4] == case.called()


def test_all_callbacks_share_one_computation(case: Case, loop: StepLoop) -> None:
    """Callbacks are one mailbox: it is computed once for all of them."""
    seen: list[Any] = []
    handles = [case.derived.on_change(lambda _old, new: seen.append(new)) for _ in range(3)]
    assert [0] == case.called()
    case.set(1, 2)
    assert [1, 2] == case.called()
    assert [case.of(1)] * 3 + [case.of(2)] * 3 == seen
    for handle in handles:
        handle.close()


def test_each_loop_computes_for_itself(case: Case, loop: StepLoop) -> None:
    """Of two loops, each computes every commit once."""
    listen = LISTENERS["subscription"]
    with StepLoop() as another, listen(case, loop) as news, listen(case, another) as other_news:
        case.called()
        case.set(1, 2)
        assert [case.of(1), case.of(2)] == news()
        assert [1, 2] == case.called()
        assert [case.of(1), case.of(2)] == other_news()
        assert [1, 2] == case.called()


def test_nothing_is_computed_for_nobody(case: Case) -> None:
    """Without listeners, setting the sources calls no function. P103."""
    case.set(1, 2, 3)
    assert [] == case.called()


@every_listener
def test_nothing_is_computed_for_those_who_have_left(
    case: Case, loop: StepLoop, listen: Listen
) -> None:
    """With the last listener goes the work for it. P103."""
    with listen(case, loop) as news:
        case.set(1)
        news()
    case.called()
    case.set(2)
    loop.settle()
    assert [] == case.called()


def test_nothing_is_computed_in_the_setter_for_a_loop(case: Case, loop: StepLoop) -> None:
    """What a task listens to is computed on its loop, later: a slow function delays no setter."""
    with LISTENERS["subscription"](case, loop) as news:
        case.called()
        case.set(1, 2)
        assert [] == case.called()
        news()
        assert [1, 2] == case.called()


def test_an_inner_watcher_is_computed_once_for_all_outer_ones(case: Case, loop: StepLoop) -> None:
    """Two watchers derived of one share its result, also when each has listeners of its own."""
    outer = [case.derived.map(lambda value: (value,)), combine(case.derived)]
    with ExitStack() as stack:
        subs = [
            stack.enter_context(loop.run(call(watcher.subscribe)))
            for watcher in (*outer, case.derived)
        ]
        case.called()
        case.set(1, 2)
        assert [[(case.of(1),), (case.of(2),)]] * 2 == [
            [new_of(record) for record in drain(sub)] for sub in subs[:2]
        ]
        assert [case.of(1), case.of(2)] == [new_of(record) for record in drain(subs[2])]
        assert [1, 2] == case.called()
        loop.settle()


# -- reading the value -----------------------------------------------------------------------------


def test_a_value_is_computed_when_it_is_read(case: Case) -> None:
    """Without listeners the value is computed on demand, however much was committed. P103."""
    assert case.of(0) == case.derived.value
    case.set(1, 2, 3)
    case.called()
    assert case.of(3) == case.derived.value
    assert [3] == case.called()


def test_a_value_is_computed_once_for_a_revision(case: Case) -> None:
    """It is kept for whoever reads it next, at this revision and as long as no source changes."""
    other = case.app.add("third", 0)
    case.set(1)
    first = case.derived.value
    assert [1] == case.called()
    assert first is case.derived.value
    other.value = 1
    assert first is case.derived.value
    assert first is in_thread(lambda: case.derived.value)
    assert [] == case.called()


def test_a_value_is_current_before_a_loop_has_computed_it(case: Case, loop: StepLoop) -> None:
    """A read sees every commit before it, whatever the listeners have been told by then."""
    with LISTENERS["subscription"](case, loop) as news:
        case.set(1)
        assert case.of(1) == case.derived.value
        assert [case.of(1)] == news()


def test_a_callback_reads_its_own_revision_or_later(case: Case) -> None:
    """In a callback the value is at least as new as what it is told of."""
    seen: list[tuple[Any, Any]] = []
    with case.derived.on_change(lambda _old, new: seen.append((new, case.derived.value))):
        case.set(1, 2)
    assert [(case.of(1), case.of(1)), (case.of(2), case.of(2))] == seen


def test_a_revision_is_that_of_the_sources(case: Case) -> None:
    """`revision` tells when anything that it is derived from changed last."""
    other = case.app.add("third", 0)
    first = case.derived.revision
    case.set(1)
    other.value = 1
    assert (0, 2) == (first, case.derived.revision)


@pytest.mark.parametrize("name", ["value", "revision", "name", "blocking", "vlaue"])
def test_nothing_of_it_can_be_set(case: Case, name: str) -> None:
    """A derived watcher is only read."""
    with pytest.raises(AttributeError):
        setattr(case.derived, name, 1)


# -- waits -----------------------------------------------------------------------------------------

Wait = Callable[..., Any]

WAITS: dict[str, Callable[[Case, Any], Wait]] = {
    "wait_for": lambda case, side: partial(side.wait_for, case.of(1)),
    "wait_for_not": lambda case, side: partial(side.wait_for_not, case.of(0)),
    "wait_until": lambda case, side: partial(side.wait_until, lambda value: value == case.of(1)),
}
"""Waits that `n` fulfils when it is 1, not when it is 0."""

every_wait = pytest.mark.parametrize("wait_of", WAITS.values(), ids=WAITS.keys())


@every_wait
def test_a_wait_is_fulfilled_by_what_is_there(
    case: Case, loop: StepLoop, wait_of: Callable[..., Wait]
) -> None:
    """The current value counts, and the wait does not suspend. P017."""
    case.set(1)
    task = loop.create_task(wait_of(case, case.derived)())
    loop.step()
    assert case.of(1) == task.result()


@every_wait
def test_a_wait_is_fulfilled_by_what_comes(
    case: Case, loop: StepLoop, wait_of: Callable[..., Wait]
) -> None:
    """The value that matched is returned, though the watcher has moved on meanwhile. P019."""
    task = loop.create_task(wait_of(case, case.derived)())
    loop.settle()
    assert not task.done()
    case.set(100, 1, 0)
    loop.settle()
    assert case.of(1) == task.result()


@every_wait
def test_a_wait_that_is_not_immediate_needs_a_transition(
    case: Case, loop: StepLoop, wait_of: Callable[..., Wait]
) -> None:
    """With `immediate=False` only what comes counts, away from the value and back too. P017."""
    case.set(1)
    task = loop.create_task(wait_of(case, case.derived)(immediate=False))
    loop.settle()
    case.set(101)
    loop.settle()
    assert not task.done()
    case.set(0, 1, 0)
    loop.settle()
    assert case.of(1) == task.result()


@every_wait
def test_a_wait_without_time_only_looks(
    case: Case, loop: StepLoop, wait_of: Callable[..., Wait]
) -> None:
    """A timeout of 0 does not suspend, whatever comes of it. P006."""
    for n in (0, 1):
        case.set(n)
        task = loop.create_task(wait_of(case, case.derived)(timeout=0))
        loop.step()
        assert task.done()
        if n:
            assert case.of(1) == task.result()
        else:
            error = raised(WaitTimeoutError, task.result)
            assert (case.derived.name, case.of(0)) == (error.key, error.value)


@every_wait
def test_a_wait_times_out(case: Case, loop: StepLoop, wait_of: Callable[..., Wait]) -> None:
    """When its time is over, the error tells the watcher and what it was. P010."""
    task = loop.create_task(wait_of(case, case.derived)(timeout=10))
    loop.settle()
    case.set(100, 200)
    loop.advance(9)
    assert not task.done()
    loop.advance(1)
    error = raised(WaitTimeoutError, task.result)
    assert (case.derived.name, case.of(0), 10) == (error.key, error.value, error.timeout)
    assert str(error).startswith(f"waited 10 s in vain for {error.waited_for}; ")
    assert (error.waited_for, error.value) == (error.wait.waited_for, error.wait.value)
    assert [] == loop.timers()


@every_wait
def test_a_match_before_the_deadline_is_found_on_a_late_loop(
    case: Case, loop: StepLoop, wait_of: Callable[..., Wait]
) -> None:
    """What was committed in time is computed and found, however late the loop is. P004."""
    task = loop.create_task(wait_of(case, case.derived)(timeout=10))
    loop.settle()
    case.set(1, 0)
    loop.fall_behind(60)
    loop.settle()
    assert case.of(1) == task.result()


@every_wait
def test_a_timeout_computes_what_was_committed_before(
    case: Case, loop: StepLoop, wait_of: Callable[..., Wait]
) -> None:
    """The timer that comes before the wake-up does not pass over a match. P004."""
    task = loop.create_task(wait_of(case, case.derived)(timeout=10))
    loop.settle()
    loop.call_at(9, case.set, 1, 0)
    loop.fall_behind(10)
    loop.settle()
    assert case.of(1) == task.result()


@every_wait
def test_a_match_behind_the_deadline_is_found_as_of_a_key(
    case: Case, loop: StepLoop, wait_of: Callable[..., Wait]
) -> None:
    """What is committed before the task gets to run is found, be its time up already."""
    task = loop.create_task(wait_of(case, case.derived)(timeout=10))
    loop.settle()
    loop.fall_behind(10)
    loop.step()
    case.set(1, 0)
    assert not task.done()
    loop.settle()
    assert case.of(1) == task.result()


@every_wait
def test_a_cancelled_wait_leaves_no_trace(
    case: Case, loop: StepLoop, wait_of: Callable[..., Wait]
) -> None:
    """Once it is cancelled, nothing is registered, and nothing is computed. P022."""
    task = loop.create_task(wait_of(case, case.derived)(timeout=10))
    loop.settle()
    task.cancel()
    loop.settle()
    assert task.cancelled()
    del task
    case.called()
    case.set(1)
    loop.settle()
    assert ([], [], []) == (case.called(), loop.timers(), loop.ready())


def test_a_wait_for_a_change_needs_a_transition(case: Case, loop: StepLoop) -> None:
    """A source that changes without changing the result does not fulfil it."""
    task = loop.create_task(case.derived.wait_for_change())
    loop.settle()
    case.set(100, 200)
    loop.settle()
    assert not task.done()
    case.set(1, 2)
    loop.settle()
    assert case.of(1) == task.result()


@pytest.mark.parametrize("blocking", [False, True])
def test_a_wait_for_anything_but_none(mapped: Case, loop: StepLoop, blocking: bool) -> None:
    """`wait_for_not_none` is fulfilled by the first value that is not None, be it false."""
    derived = mapped.app.n.map(lambda n: None if n < 3 else n - 3)
    if blocking:
        with derived.blocking.subscribe() as sub:
            mapped.set(1, 2, 3, 4)
            assert 0 == sub.wait_for_not_none()
            assert 1 == derived.blocking.wait_for_not_none()
    else:
        task = loop.create_task(derived.wait_for_not_none())
        loop.settle()
        mapped.set(1, 2, 3, 4)
        loop.settle()
        assert 0 == task.result()


def test_each_wait_matches_the_first_that_fits(mapped: Case, loop: StepLoop) -> None:
    """Waits of one watcher are fulfilled by different values of one burst, each by its own."""
    waits = [
        mapped.derived.wait_for(3),
        mapped.derived.wait_for(4.0),
        mapped.derived.wait_until(lambda value: value > 1),
        mapped.derived.wait_for_not(0),
    ]
    tasks = [loop.create_task(wait) for wait in waits]
    loop.settle()
    mapped.set(1, 2, 3, 4)
    loop.settle()
    assert [3, 4, 2, 1] == [task.result() for task in tasks]


def test_a_predicate_that_raises_ends_its_own_wait(mapped: Case, loop: StepLoop) -> None:
    """The wait raises what its predicate raised, as it is; another one goes on. P056."""
    other = loop.create_task(mapped.derived.wait_for(2))
    failing = loop.create_task(mapped.derived.wait_until(lambda value: value == 1 and 1 / 0))
    loop.settle()
    mapped.set(1)
    loop.settle()
    raised(ZeroDivisionError, failing.result)
    assert not other.done()
    mapped.set(2)
    loop.settle()
    assert 2 == other.result()


@pytest.mark.parametrize(
    ("timeout", "error"), [(math.nan, ValueError), ("1", TypeError), (True, TypeError)]
)
@pytest.mark.parametrize("blocking", [False, True])
def test_a_timeout_that_is_none_is_refused(
    case: Case, loop: StepLoop, timeout: Any, error: type[Exception], blocking: bool
) -> None:
    """What is no length of time is refused, also if the value is there. P009."""

    def wait() -> object:
        if blocking:
            return case.derived.blocking.wait_for(case.of(0), timeout=timeout)
        return loop.run(case.derived.wait_for(case.of(0), timeout=timeout))

    assert "timeout" in str(raised(error, wait))


def test_two_waits_in_a_row_may_miss_what_a_subscription_finds(
    mapped: Case, loop: StepLoop
) -> None:
    """A second wait starts anew; a subscription goes on where it stood. P016."""

    async def main() -> None:
        with mapped.derived.subscribe() as sub:
            mapped.set(1, 2, 3)
            assert 2 == await sub.wait_for(2)
            assert 3 == await sub.wait_for(3)
            with pytest.raises(WaitTimeoutError):
                await mapped.derived.wait_for(2, timeout=0)

    loop.run(main())


# -- subscriptions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("blocking", [False, True])
def test_initial_puts_the_current_value_in_front(case: Case, blocking: bool) -> None:
    """With *initial* the first record has the value at the opening as old and as new."""
    case.set(1)
    watcher = case.derived.blocking if blocking else case.derived
    with watcher.subscribe(initial=True) as sub:
        case.set(2)
        assert 2 == sub.pending
        first, second = drain(sub)
    assert first.old is first.new
    assert (case.of(1), case.app.n.revision - 1) == (first.new, first.revision)
    assert (case.of(1), case.of(2)) == (second.old, second.new)


def test_pending_and_get_nowait_see_the_same_tick(case: Case, loop: StepLoop) -> None:
    """What was committed before the call is there, without a turn of the loop."""

    async def main() -> None:
        with case.derived.subscribe() as sub:
            with pytest.raises(asyncio.QueueEmpty):
                sub.get_nowait()
            case.set(1, 2)
            assert 2 == sub.pending
            assert case.of(1) == sub.get_nowait().new
            assert 1 == sub.pending

    loop.run(main())
    loop.settle()


@every_wait
@pytest.mark.parametrize("blocking", [False, True])
def test_waits_of_a_subscription_read_its_queue(
    case: Case, loop: StepLoop, wait_of: Callable[..., Wait], blocking: bool
) -> None:
    """They take what they pass over, and go on behind the last match. P016."""
    watcher = case.derived.blocking if blocking else case.derived
    with watcher.subscribe() as sub:
        case.set(1, 0, 101, 2)
        wait = wait_of(case, sub)
        for _ in range(2):
            found = wait(immediate=False)
            assert case.of(1) == (found if blocking else loop.run(found))
        assert [case.of(2)] == [new_of(record) for record in drain(sub)]
        loop.settle()


@every_wait
@pytest.mark.parametrize("in_time", [True, False])
def test_a_wait_of_a_subscription_has_a_deadline(
    case: Case, loop: StepLoop, wait_of: Callable[..., Wait], in_time: bool
) -> None:
    """What was committed before it is found on a late loop; else the wait times out. P004."""

    async def wait() -> Any:
        with case.derived.subscribe() as sub:
            return await wait_of(case, sub)(timeout=10)

    task = loop.create_task(wait())
    loop.settle()
    case.set(100)
    if in_time:
        case.set(1, 0)
        loop.fall_behind(60)
        loop.settle()
        assert case.of(1) == task.result()
    else:
        loop.advance(10)
        assert case.of(0) == raised(WaitTimeoutError, task.result).value
    assert [] == loop.timers()


def test_a_read_that_is_cancelled_takes_nothing(case: Case, loop: StepLoop) -> None:
    """What came in the tick of the cancellation is the next record still. P001."""
    with loop.run(call(case.derived.subscribe)) as sub:
        reader = loop.create_task(next_of(sub))
        loop.settle()
        case.set(1)
        reader.cancel()
        loop.settle()
        assert reader.cancelled()
        assert case.of(1) == loop.run(next_of(sub)).new


def test_a_subscription_that_stands_at_a_match_returns_it(case: Case, loop: StepLoop) -> None:
    """With `immediate`, a wait looks first at the value to which the queue was read."""
    with case.derived.subscribe() as sub:
        case.set(1, 2)
        sub.get_nowait()
        assert case.of(1) == loop.run(sub.wait_for(case.of(1), timeout=0))
        assert 1 == sub.pending


def test_a_subscription_opened_where_no_loop_runs_is_read_on_one(
    case: Case, loop: StepLoop
) -> None:
    """It belongs to the loop on which it is first read, which is woken for it."""
    with case.derived.subscribe() as sub:
        case.set(1)

        async def read() -> list[Any]:
            return [(await anext(sub)).new for _ in range(3)]

        task = loop.create_task(read())
        loop.settle()
        case.set(2)
        loop.settle()
        in_thread(lambda: case.set(3))
        loop.settle()
        assert [case.of(1), case.of(2), case.of(3)] == task.result()


def test_a_bound_that_is_exceeded_is_told_once(case: Case, loop: StepLoop) -> None:
    """The oldest are lost, with their number and revisions; what is kept comes next. P094."""
    with loop.run(call(lambda: case.derived.subscribe(maxlen=2))) as sub:
        case.set(1, 2, 102, 3, 4, 5)
        loop.settle()
        with pytest.raises(LaggedError) as caught:
            sub.get_nowait()
        assert [case.of(4), case.of(5)] == [new_of(record) for record in drain(sub)]
    error = caught.value
    assert (3, 1, 4, case.of(5)) == (
        error.missed,
        error.first_revision,
        error.last_revision,
        error.value,
    )


def test_what_does_not_fit_is_joined(case: Case, loop: StepLoop) -> None:
    """With `overflow="latest"` the newest record stands for all that found the queue full. P094."""
    opened = call(lambda: case.derived.subscribe(maxlen=2, overflow="latest"))
    with loop.run(opened) as sub:
        case.set(1, 2, 102, 3, 4, 5)
        loop.settle()
        assert [
            (case.of(0), case.of(1), 1, 0),
            (case.of(1), case.of(5), 6, 3),
        ] == [(t.old, t.new, t.revision, t.missed) for t in drain(sub)]


def test_a_bound_holds_while_nobody_reads(mapped: Case, loop: StepLoop) -> None:
    """The loop keeps the queue within its bound each time it has computed."""
    with loop.run(call(lambda: mapped.derived.subscribe(maxlen=2))) as sub:
        for n in range(1, 10):
            mapped.set(n)
            loop.settle()
        assert 2 == len(sub._queue._items)
        with pytest.raises(LaggedError, match="lost 7 of its records"):
            sub.get_nowait()


@pytest.mark.parametrize("wrong", [{"maxlen": 0}, {"maxlen": True}, {"overflow": "drop"}])
def test_a_wrong_bound_leaves_nothing_behind(case: Case, wrong: dict[str, Any]) -> None:
    """A subscription that is refused is not computed for."""
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        case.derived.subscribe(**wrong)
    case.called()
    case.set(1)
    assert [] == case.called()


@pytest.mark.parametrize("blocking", [False, True])
def test_values_begin_with_the_current_one(case: Case, blocking: bool) -> None:
    """`values` gives the value at the call, then each new one."""
    case.set(1)
    watcher = case.derived.blocking if blocking else case.derived
    with closing(watcher.values()) as values:
        case.set(2, 102, 3)
        assert [case.of(1), case.of(2), case.of(3)] == drain(values)


@pytest.mark.parametrize("blocking", [False, True])
def test_latest_values_skip_to_the_newest(case: Case, blocking: bool) -> None:
    """`values(latest=True)` gives the newest value each time it is read, and none twice."""
    watcher = case.derived.blocking if blocking else case.derived
    with closing(watcher.values(latest=True)) as values:
        case.set(1, 2)
        assert [case.of(2)] == drain(values)
        case.set(3, 103)
        assert [case.of(3)] == drain(values)
        case.set(203)
        assert [] == drain(values)


def test_latest_values_wake_a_task(case: Case, loop: StepLoop) -> None:
    """A task that reads the newest value sleeps until there is another one."""

    async def read() -> list[Any]:
        return [value async for value in case.derived.values(latest=True)]

    task = loop.create_task(read())
    loop.settle()
    case.set(100, 1, 2)
    loop.settle()
    case.set(102, 3)
    loop.settle()
    case.app.close()
    loop.settle()
    assert [case.of(0), case.of(2), case.of(3)] == task.result()


def test_leaving_the_block_ends_a_subscription(case: Case, loop: StepLoop) -> None:
    """A closed subscription gives nothing any more, and says so."""
    with case.derived.subscribe() as sub:
        case.set(1)
    with pytest.raises(SubscriptionError, match="gives nothing any more"):
        sub.get_nowait()
    with pytest.raises(SubscriptionError):
        loop.run(sub.wait_for(case.of(1), immediate=False))


def test_a_subscription_that_is_dropped_warns(case: Case) -> None:
    """One that nobody closed is a `ResourceWarning`, and is computed for no more. P093."""
    dropped = [case.derived.subscribe()]
    with pytest.warns(ResourceWarning, match="was never closed"):
        dropped.clear()
    case.called()
    case.set(1)
    assert [] == case.called()


def test_values_may_be_dropped(case: Case) -> None:
    """`values` is an iterator like any other: it goes without a word."""
    values = case.derived.values()
    case.set(1)
    assert case.of(0) == values.get_nowait()
    del values


# -- callbacks -------------------------------------------------------------------------------------


def test_a_callback_is_told_old_and_new_before_the_set_returns(case: Case) -> None:
    """It is called once for each transition, right after the commit."""
    seen: list[tuple[Any, Any]] = []
    with case.derived.on_change(lambda old, new: seen.append((old, new))):
        case.set(1)
        assert [(case.of(0), case.of(1))] == seen
        case.set(101, 2)
        assert [(case.of(0), case.of(1)), (case.of(1), case.of(2))] == seen


def test_a_closed_handle_ends_a_callback(case: Case) -> None:
    """After `close()`, also from within the callback, it is not called."""
    seen: list[Any] = []

    def once(_old: Any, new: Any) -> None:
        seen.append(new)
        handle.close()

    handle = case.derived.on_change(once)
    case.set(1, 2)
    assert [case.of(1)] == seen
    assert handle.is_closed


def test_callbacks_on_several_watchers_are_called_in_revision_order(mapped: Case) -> None:
    """All that one commit changes is told before anything of the next one. P043."""
    seen: list[tuple[str, int]] = []
    watchers = {
        "source": mapped.app.n,
        "double": mapped.derived.map(lambda n: 2 * n),
        "derived": mapped.derived,
    }
    with ExitStack() as stack:
        for name, watcher in watchers.items():

            def note(_old: int, new: int, name: str = name) -> None:
                seen.append((name, new))
                if new == 1:
                    mapped.set(5)
                    assert 5 == mapped.derived.value

            stack.enter_context(watcher.on_change(note))
        mapped.set(1)

    assert [("derived", 1), ("double", 2), ("source", 1)] == sorted(seen[:3])
    assert [("derived", 5), ("double", 10), ("source", 5)] == sorted(seen[3:])


def test_a_callback_runs_in_the_context_of_the_setter(case: Case) -> None:
    """What the setter has bound can be read, as by any callback. P050."""
    who = contextvars.ContextVar("who", default="nobody")
    seen: list[str] = []
    with case.derived.on_change(lambda _old, _new: seen.append(who.get())):
        context = contextvars.copy_context()
        context.run(who.set, "setter")
        context.run(case.set, 1)
        case.set(2)
    assert ["setter", "nobody"] == seen


@pytest.mark.parametrize("error", [BoomError, Panic, asyncio.CancelledError])
def test_a_callback_that_raises_is_reported(mapped: Case, error: type[BaseException]) -> None:
    """Its error goes to `on_error`, with the watcher's name; others are told. P045."""
    seen: list[int] = []

    def fail(_old: int, _new: int) -> None:
        raise error

    with mapped.derived.on_change(fail), mapped.derived.on_change(lambda _, new: seen.append(new)):
        mapped.app.other.value = 1
        mapped.set(1)
        failure = mapped.failures.pop()
        failure.error.__traceback__ = None
    assert (mapped.derived.name, 2, fail, error) == (
        failure.key,
        failure.revision,
        failure.callback,
        type(failure.error),
    )
    assert [1] == seen


def test_an_interrupt_in_a_callback_comes_out_after_all_were_told(mapped: Case) -> None:
    """A KeyboardInterrupt goes on to the setter, when every other callback was called. P046."""
    seen: list[int] = []

    def interrupt(_old: int, _new: int) -> None:
        raise KeyboardInterrupt

    with (
        mapped.derived.on_change(interrupt),
        mapped.derived.on_change(lambda _old, new: seen.append(new)),
        mapped.app.n.on_change(lambda _old, new: seen.append(-new)),
    ):
        raised(KeyboardInterrupt, lambda: mapped.set(1))
    assert [-1, 1] == sorted(seen)


def test_a_callback_may_listen_to_what_it_is_told_of(mapped: Case) -> None:
    """A callback that registers another one, or subscribes, does so from this revision on. P055."""
    told: list[tuple[str, int]] = []

    with ExitStack() as stack:

        def join(_old: int, new: int) -> None:
            told.append(("first", new))
            if new == 1:
                later = mapped.derived.on_change(lambda _old, new: told.append(("later", new)))
                stack.enter_context(later)
                subs.append(stack.enter_context(mapped.derived.subscribe()))

        subs: list[Subscription[int]] = []
        stack.enter_context(mapped.derived.on_change(join))
        mapped.set(1, 2)
        assert [2] == [new_of(record) for record in drain(subs[0])]

    assert [("first", 1), ("first", 2), ("later", 2)] == told


def test_an_asynchronous_callback_is_refused(case: Case) -> None:
    """A coroutine function would never run; nothing stays registered. P053."""

    async def callback(*_args: Any) -> None: ...

    with pytest.raises(TypeError, match="must be a plain function"):
        case.derived.on_change(callback)
    with pytest.raises(TypeError, match="must be a plain function"):
        case.derived.on_value(case.of(1), callback)


def test_on_value_fires_once(case: Case) -> None:
    """It is called for the first match, and for no other. P054."""
    fired: list[int] = []
    handle = case.derived.on_value(case.of(1), lambda: fired.append(case.app.n.value))
    case.set(100)
    assert [] == fired
    case.set(1, 0, 1)
    assert [1] == fired
    assert handle.is_closed


def test_on_value_fires_at_once_if_it_is_there(case: Case) -> None:
    """What holds already counts. P054."""
    fired: list[int] = []
    case.set(1)
    handle = case.derived.on_value(case.of(1), lambda: fired.append(1))
    assert [1] == fired
    assert handle.is_closed
    case.set(0, 1)
    assert [1] == fired


def test_on_value_that_is_closed_does_not_fire(case: Case) -> None:
    """The handle ends it before it is over."""
    fired: list[int] = []
    with case.derived.on_value(case.of(1), lambda: fired.append(1)):
        case.set(100)
    case.set(1)
    assert [] == fired


def test_on_value_sees_what_comes_while_it_is_registered(mapped: Case) -> None:
    """A match that the first computation sets off is found, and told once. P054."""
    fired: list[int] = []

    def set_two(n: int) -> int:
        if n == 1:
            mapped.set(2, 3)
        return n

    mapped.set(1)
    handle = mapped.app.n.map(set_two).on_value(2, lambda: fired.append(2))
    assert [2] == fired
    assert handle.is_closed


# -- blocking --------------------------------------------------------------------------------------


@every_wait
def test_a_blocking_wait_is_fulfilled_by_what_is_there(
    case: Case, wait_of: Callable[..., Wait]
) -> None:
    """The current value counts; without time it is only looked at. P025."""
    wait = wait_of(case, case.derived.blocking)
    error = raised(WaitTimeoutError, lambda: wait(timeout=0))
    assert (case.derived.name, case.of(0)) == (error.key, error.value)
    case.set(1)
    assert case.of(1) == wait()
    raised(WaitTimeoutError, lambda: wait(immediate=False, timeout=0))


@every_wait
def test_a_blocked_thread_is_woken_by_a_match(
    case: Case, parked: threading.Event, wait_of: Callable[..., Wait]
) -> None:
    """It sleeps over what does not match, and gives the value that did. P019 P025."""
    job = Job(wait_of(case, case.derived.blocking))
    parked.wait()
    case.set(100, 200)
    case.set(1, 0)
    assert case.of(1) == job.result()


def test_a_blocked_thread_waits_for_a_change(case: Case, parked: threading.Event) -> None:
    """`wait_for_change` needs a transition of the result."""
    job = Job(case.derived.blocking.wait_for_change)
    parked.wait()
    case.set(100, 1, 2)
    assert case.of(1) == job.result()


def test_a_thread_reads_a_subscription(case: Case, parked: threading.Event) -> None:
    """A `for` loop in a thread is given every transition, and ends with the store."""

    def read() -> list[Any]:
        with case.derived.blocking.subscribe() as sub:
            return [transition.new for transition in sub]

    job = Job(read)
    parked.wait()
    case.set(1, 2, 102, 3)
    case.app.close()
    assert [case.of(1), case.of(2), case.of(3)] == job.result()


def test_a_thread_reads_values(case: Case, parked: threading.Event) -> None:
    """The same for the values themselves, which begin with the current one."""
    job = Job(lambda: list(case.derived.blocking.values()))
    parked.wait()
    case.set(1, 2)
    case.app.close()
    assert [case.of(0), case.of(1), case.of(2)] == job.result()


def test_blocking_where_a_loop_runs_is_refused(case: Case, loop: StepLoop) -> None:
    """It would stop the loop, so it raises instead. P025."""
    with pytest.raises(BlockingError):
        loop.run(call(lambda: case.derived.blocking.wait_for(case.of(0))))


# -- further derivation ----------------------------------------------------------------------------


@every_listener
def test_what_is_derived_can_be_derived_from(case: Case, loop: StepLoop, listen: Listen) -> None:
    """A watcher derived of a derived one is a watcher like any other."""
    first, case.derived = (
        case.derived,
        combine(
            case.derived.map(lambda value: (value,)),
            case.derived.is_(case.of(1)) & case.app.other.is_(0),
        ),
    )
    with listen(case, loop) as news:
        case.set(1, 101, 2)
        assert [((case.of(1),), True), ((case.of(2),), case.of(1) == case.of(2))] == news()
    assert first.value == case.derived.value[0][0]


def test_a_condition_of_a_derived_watcher(mapped: Case) -> None:
    """`is_`, `is_not` and `matches` work on results, also on mutable ones."""
    listed = mapped.app.n.map(lambda n: [n])
    conditions = [listed.is_([1]), listed.is_not([1]), listed.matches(len)]
    mapped.set(1)
    assert [True, False, True] == [condition.value for condition in conditions]
    assert all(isinstance(condition, Condition) for condition in conditions)


def test_a_standalone_watcher_can_be_derived_from() -> None:
    """No store is needed, as long as there is one watcher at the bottom of it all."""
    state = ValueWatcher(0)
    derived = combine(state.map(lambda n: n + 1), state)
    with derived.subscribe() as sub:
        state.value = 1
        assert [(2, 1)] == [new_of(record) for record in drain(sub)]
    assert_no_trace(state)


# -- errors ----------------------------------------------------------------------------------------


@every_listener
def test_each_failure_is_delivered_and_so_is_the_next_value(
    case: Case, loop: StepLoop, listen: Listen
) -> None:
    """A failure stands at its place; the next value is a transition, be it as before. P102."""
    with listen(case, loop) as news:
        case.set(1, -1, -2, 2, -3, 102, 202, 3)
        expected = [
            case.of(1),
            Failed(2),
            Failed(3),
            case.of(2),
            Failed(5),
            case.of(2),
            case.of(3),
        ]
        assert expected == news()


@every_listener
def test_a_listener_may_join_where_there_is_no_value(
    case: Case, loop: StepLoop, listen: Listen
) -> None:
    """It is told of the next failure and the next value like any other. P102."""
    case.set(-1)
    with listen(case, loop) as news:
        case.set(-2, 0)
        assert [Failed(2), case.of(0)] == news()


@every_listener
def test_a_failure_is_of_no_concern_to_others(case: Case, loop: StepLoop, listen: Listen) -> None:
    """Neither the setter nor a watcher derived of the same sources notices. P102."""
    failing, case.derived = case.derived, combine(case.app.n, case.app.other)
    with failing.subscribe() as sub, listen(case, loop) as news:
        case.set(-1, 1)
        assert [(-1, 0), (1, 0)] == news()
        assert [Failed(1)] == drain(sub)[:1]


def test_what_follows_a_failure_leads_from_the_last_value(case: Case) -> None:
    """`old` of the next record is what was there before it failed. P102."""
    changes: list[tuple[Any, Any]] = []
    with case.derived.subscribe() as sub, case.derived.on_change(lambda *c: changes.append(c)):
        case.hear = lambda failure: changes.append((failure.key, failure.revision))
        case.set(1, -1, -2, 1)
        first, *failures, last = drain(sub)
    assert [Failed(2), Failed(3)] == failures
    assert (first.new, case.of(1), 4) == (last.old, last.new, last.revision)
    assert [
        (case.of(0), case.of(1)),
        (case.derived.name, 2),
        (case.derived.name, 3),
        (case.of(1), case.of(1)),
    ] == changes


def test_what_follows_a_failure_from_the_start_leads_from_nothing(case: Case) -> None:
    """Where there never was a value, `old` is ABSENT. P102."""
    case.set(-1)
    changes: list[tuple[Any, Any]] = []
    with case.derived.subscribe() as sub, case.derived.on_change(lambda *c: changes.append(c)):
        case.set(1)
        assert [(ABSENT, case.of(1))] == [(t.old, t.new) for t in drain(sub)]
    assert [(ABSENT, case.of(1))] == changes


def test_the_error_tells_function_values_and_revision(mapped: Case) -> None:
    """What was called with what, at which revision, stands in it, and the cause behind it. P102."""
    app = mapped.app
    watchers: dict[Watcher[Any], tuple[Any, tuple[Any, ...]]] = {
        mapped.derived: (mapped.function, (-1,)),
        app.n.matches(mapped.function): (mapped.function, (-1,)),
        combine(app.n, app.other, using=boom): (boom, (-1, 0)),
        # The error is the one of the watcher that has no value, not of those that derive from it.
        combine(app.other, mapped.derived).map(str): (mapped.function, (-1,)),
        app.n.map(lambda n: n - 1).map(mapped.function).map(str): (mapped.function, (-2,)),
    }
    app.other.on_change(lambda _old, _new: None).close()
    mapped.set(1, -1)
    app.add("third", 0)
    for watcher, (function, values) in watchers.items():
        error = raised(DerivationError, lambda watcher=watcher: watcher.value)
        assert (function, values, 2) == (error.function, error.values, error.revision)
        assert isinstance(error.__cause__, BoomError)
        assert f"{function.__qualname__} raised BoomError() at revision 2 for -" in str(error)


def test_the_error_shows_where_the_function_was(mapped: Case) -> None:
    """A note lists the lines, as the cause has no traceback. P102."""
    mapped.set(-1)
    error = raised(DerivationError, lambda: mapped.derived.value)
    note = "\n".join(error.__notes__)
    assert "The function was here:" in note
    assert f'File "{Case.function.__code__.co_filename}", line ' in note
    assert "in function" in note
    assert error.__cause__ is not None
    assert error.__cause__.__traceback__ is None


def test_a_failure_keeps_no_frames(mapped: Case) -> None:
    """What the function held when it raised is let go. P102."""

    class Thing:
        """Something with a weak reference."""

    things: list[weakref.ref[Thing]] = []

    def function(n: int) -> int:
        thing = Thing()
        things.append(weakref.ref(thing))
        return 1 // n

    derived = mapped.app.n.map(function)
    with derived.subscribe(), derived.on_change(print):
        raised(DerivationError, lambda: derived.value)
        assert len(things) == 3
        assert [None] * 3 == [thing() for thing in things]


def test_each_reader_is_given_an_error_of_its_own(mapped: Case) -> None:
    """An error that was raised collects what it passes; the next one begins anew. P102."""
    mapped.set(-1)
    errors = [raised(DerivationError, lambda: mapped.derived.value) for _ in range(2)]
    assert errors[0] is not errors[1]
    assert errors[0].__cause__ is errors[1].__cause__
    assert [-1] == mapped.called()


def test_a_value_can_be_read_again_when_it_heals(case: Case) -> None:
    """Reading raises as long as it fails; its revision can be read all the while. P102."""
    case.set(-1)
    raised(DerivationError, lambda: case.derived.value)
    assert 1 == case.derived.revision
    case.set(1)
    assert case.of(1) == case.derived.value


@every_wait
def test_a_wait_raises_where_there_is_no_value(
    case: Case, loop: StepLoop, wait_of: Callable[..., Wait]
) -> None:
    """A wait that looks at the current value finds none, in a task and in a thread. P102."""
    case.set(-1)
    raised(DerivationError, lambda: loop.run(wait_of(case, case.derived)()))
    raised(DerivationError, wait_of(case, case.derived.blocking))
    with case.derived.subscribe() as sub, case.derived.blocking.subscribe() as blocking:
        raised(DerivationError, lambda: loop.run(wait_of(case, sub)()))
        raised(DerivationError, wait_of(case, blocking))


@every_wait
def test_a_wait_raises_when_it_fails(
    case: Case, loop: StepLoop, wait_of: Callable[..., Wait]
) -> None:
    """A failure ends all waits that are under way, at its revision. P102."""
    tasks = [
        loop.create_task(wait_of(case, case.derived)(timeout=timeout)) for timeout in (None, 5)
    ]
    loop.settle()
    case.set(100, -1, 1)
    loop.settle()
    assert [2, 2] == [raised(DerivationError, tasks.pop().result).revision for _ in range(2)]
    assert [] == loop.timers()


@every_wait
def test_a_wait_that_is_not_immediate_begins_where_there_is_no_value(
    case: Case, loop: StepLoop, wait_of: Callable[..., Wait]
) -> None:
    """With `immediate=False` only what comes is looked at, so it waits until it heals. P102."""
    case.set(-1)
    task = loop.create_task(wait_of(case, case.derived)(immediate=False))
    loop.settle()
    case.set(1)
    loop.settle()
    assert case.of(1) == task.result()


def test_a_match_before_a_failure_is_found(case: Case, loop: StepLoop) -> None:
    """What came first decides, be it computed in one go. P102."""
    task = loop.create_task(case.derived.wait_for(case.of(1)))
    loop.settle()
    case.set(1, -1)
    loop.settle()
    assert case.of(1) == task.result()


def test_a_blocked_thread_is_told_of_a_failure(case: Case, parked: threading.Event) -> None:
    """A thread that waits raises it too. P102."""
    job = Job(lambda: raised(DerivationError, lambda: case.derived.blocking.wait_for(case.of(1))))
    parked.wait()
    case.set(-1)
    assert 1 == job.result().revision


def test_a_wait_of_a_subscription_goes_on_after_a_failure(case: Case, loop: StepLoop) -> None:
    """It raises the failure at its place; the next one goes on behind it. P102."""
    with case.derived.subscribe() as sub:
        case.set(-1, 0, 1, 0)
        raised(DerivationError, lambda: loop.run(sub.wait_for(case.of(1))))
        assert case.of(1) == loop.run(sub.wait_for(case.of(1), immediate=False))
        assert 1 == sub.pending


def test_an_iteration_can_be_taken_up_after_a_failure(case: Case, loop: StepLoop) -> None:
    """`async for` ends with the error; the next one gives what comes behind it. P102."""

    async def read() -> list[Any]:
        with case.derived.subscribe() as sub:
            case.set(1, -1, 2)
            case.app.close()
            with pytest.raises(DerivationError):
                [transition async for transition in sub]
            return [transition.new async for transition in sub]

    assert [case.of(2)] == loop.run(read())
    loop.settle()


@pytest.mark.parametrize("open_stream", [lambda w: w.subscribe(initial=True), lambda w: w.values()])
@pytest.mark.parametrize("blocking", [False, True])
def test_a_stream_that_begins_where_there_is_no_value(
    case: Case, open_stream: Callable[[Any], Any], blocking: bool
) -> None:
    """The failure comes first, in the place of the current value. P102."""
    case.set(-1)
    watcher = case.derived.blocking if blocking else case.derived
    with closing(open_stream(watcher)) as stream:
        case.set(1)
        assert [Failed(1), case.of(1)] == [new_of(record) for record in drain(stream)]


def test_latest_values_skip_failures_that_are_past(case: Case) -> None:
    """The newest is what counts: a failure is raised once, if it is that. P102."""
    with closing(case.derived.values(latest=True)) as values:
        case.set(-1, 1)
        assert [case.of(1)] == drain(values)
        case.set(2, -1)
        assert [Failed(4)] == drain(values)
        case.set(2)
        assert [case.of(2)] == drain(values)


def test_a_loss_tells_the_last_value_there_was(case: Case) -> None:
    """With no newest value, `LaggedError` has the one before the failure. P102."""
    with case.derived.subscribe(maxlen=1) as sub:
        case.set(1, 2, -1)
        assert case.of(2) == raised(LaggedError, sub.get_nowait).value
        assert [Failed(3)] == drain(sub)


def test_a_failure_is_reported_of_each_callback(case: Case) -> None:
    """`on_error` is told the watcher, the revision and the callback. P102."""

    def callback(_old: object, _new: object) -> None:
        """Do nothing."""

    with case.derived.on_change(callback), case.derived.on_change(callback):
        case.set(1, -1, 2)
    failures = case.failures.copy()
    case.failures.clear()
    assert [(case.derived.name, 2, callback)] * 2 == [
        (failure.key, failure.revision, failure.callback) for failure in failures
    ]
    for failure in failures:
        assert isinstance(failure.error, DerivationError)
        assert isinstance(failure.error.__cause__, BoomError)


def test_on_value_goes_on_after_a_failure(case: Case) -> None:
    """What fails is reported; the match that comes later is told. P102."""
    fired: list[int] = []
    with case.derived.on_value(case.of(1), lambda: fired.append(case.app.n.value)):
        case.set(-1, 0, 1)
    assert [1] == fired
    assert [1] == [failure.revision for failure in case.failures]
    case.failures.clear()


def test_on_value_raises_where_there_is_no_value(case: Case) -> None:
    """It looks at the current value, as a wait does, and leaves nothing behind. P102."""
    case.set(-1)
    raised(DerivationError, lambda: case.derived.on_value(case.of(1), print))


@pytest.mark.parametrize(
    "error", [Panic, asyncio.CancelledError, GeneratorExit, StopIteration, RecursionError]
)
@every_listener
def test_whatever_a_function_raises_is_a_failure(
    mapped: Case, loop: StepLoop, listen: Listen, error: type[BaseException]
) -> None:
    """Also what is no `Exception`: a task that listens is not cancelled by a map function. P102."""

    def function(n: int) -> int:
        if n == 1:
            raise error
        return n

    mapped.derived = mapped.app.n.map(function)
    with listen(mapped, loop) as news:
        mapped.set(1, 2)
        assert [Failed(1), 2] == news()
    mapped.set(1)
    assert error is type(raised(DerivationError, lambda: mapped.derived.value).__cause__)


@every_listener
def test_results_that_cannot_be_compared_are_a_failure(
    mapped: Case, loop: StepLoop, listen: Listen
) -> None:
    """What the `==` of two results raises is a failure like any other, and heals. P102."""
    mapped.derived = mapped.app.n.map(lambda n: equal_by(boom) if n in (1, 2) else n)
    with listen(mapped, loop) as news:
        mapped.set(1, 2, 3)
        first, *others = news()
        assert isinstance(first, Hostile)
        assert [Failed(2), 3] == others


def test_the_error_of_a_comparison_tells_both_results(mapped: Case) -> None:
    """Function and values of the error are those of the comparison. P102."""
    results = [equal_by(boom), equal_by(boom)]
    with mapped.app.n.map(results.__getitem__).subscribe() as sub:
        mapped.set(1)
        error = raised(DerivationError, sub.get_nowait)
    assert [id(result) for result in results] == [id(value) for value in error.values]
    assert "is_same raised BoomError()" in str(error)


@pytest.mark.parametrize("name", ["is_", "is_not"])
def test_a_target_that_cannot_be_compared_is_a_failure(mapped: Case, name: str) -> None:
    """What `==` with the target of a condition raises is a failure of that condition. P102."""
    condition = getattr(mapped.app.n, name)(equal_by(boom))
    error = raised(DerivationError, lambda: condition.value)
    assert isinstance(error.__cause__, BoomError)
    assert "the comparison with" in str(error)


def test_an_answer_that_is_neither_true_nor_false_is_a_failure(mapped: Case) -> None:
    """A predicate's answer is asked for its truth; what that raises is a failure. P060 P102."""
    condition = mapped.app.n.matches(lambda _n: Undecided())
    assert isinstance(raised(DerivationError, lambda: condition.value).__cause__, BoomError)


# -- interrupts ------------------------------------------------------------------------------------


def after_interrupt(news: Callable[[], list[Any]]) -> list[Any]:
    """Give the news that one is told once an interrupt has come through."""
    raised(KeyboardInterrupt, news)
    return news()


@every_listener
def test_an_interrupt_comes_through_and_loses_nothing(
    case: Case, loop: StepLoop, listen: Listen
) -> None:
    """A KeyboardInterrupt in a function is no failure: it is raised, and the work done again."""
    with listen(case, loop) as news:
        case.interrupts.append(2)
        if listen is LISTENERS["callback"]:
            raised(KeyboardInterrupt, lambda: case.set(1, 2))
            case.set(3, 4)
            taken = news()
        else:
            case.set(1, 2, 3, 4)
            taken = after_interrupt(news)
    assert [case.of(n) for n in (1, 2, 3, 4)] == taken


def test_a_callback_that_closes_itself_is_not_told_of_what_was_held_up(case: Case) -> None:
    """What an interrupt has put off is told one by one, and no more to who has closed."""
    seen: list[Any] = []

    def once(_old: Any, new: Any) -> None:
        seen.append(new)
        handle.close()

    case.interrupts.append(1)
    handle = case.derived.on_change(once)
    raised(KeyboardInterrupt, lambda: case.set(1))
    case.set(2)
    assert [case.of(1)] == seen


def test_an_interrupt_of_a_read_comes_through(case: Case) -> None:
    """Reading raises it; the next read gives the value."""
    case.interrupts.append(1)
    case.set(1)
    raised(KeyboardInterrupt, lambda: case.derived.value)
    assert case.of(1) == case.derived.value


@pytest.mark.parametrize(
    "join",
    [
        lambda watcher: watcher.subscribe(),
        lambda watcher: watcher.subscribe(maxlen=1),
        lambda watcher: watcher.values(),
        lambda watcher: watcher.blocking.subscribe(),
        lambda watcher: watcher.blocking.wait_for(None),
        lambda watcher: watcher.on_change(print),
        lambda watcher: watcher.on_value(None, print),
    ],
)
def test_an_interrupt_of_an_opening_leaves_nothing(
    case: Case, join: Callable[[Watcher[Any]], Any]
) -> None:
    """Who is interrupted while it is first computed is not registered."""
    case.interrupts.append(0)
    raised(KeyboardInterrupt, lambda: join(case.derived))
    assert_no_trace(case.app)
    with case.derived.subscribe() as sub:
        case.set(1)
        assert [case.of(1)] == [new_of(record) for record in drain(sub)]


# -- functions that do what they should not --------------------------------------------------------


@every_listener
def test_a_function_may_set_the_store(mapped: Case, loop: StepLoop, listen: Listen) -> None:
    """What it sets is a later commit, computed in its turn. P057 P103."""
    app = mapped.app

    def function(n: int) -> int:
        app.other.value = n
        return n

    mapped.derived = combine(app.n.map(function), app.other)
    with listen(mapped, loop) as news:
        mapped.set(1)
        taken = [*news(), *news()]
        assert [(1, 0), (1, 1)] == taken
        mapped.set(2)
        assert [(2, 1), (2, 2)] == [*news(), *news()]


@every_listener
def test_a_function_may_set_its_own_source(mapped: Case, loop: StepLoop, listen: Listen) -> None:
    """It is called again for what it has set, until it sets no more. P057 P103."""

    def count_up(n: int) -> int:
        if 0 < n < 5:
            mapped.app.n.value = n + 1
        return n

    mapped.derived = mapped.app.n.map(count_up)
    with listen(mapped, loop) as news:
        mapped.set(1)
        taken = [value for _ in range(5) for value in news()]
    assert [1, 2, 3, 4, 5] == taken


@every_listener
def test_a_function_may_read_what_is_derived(mapped: Case, loop: StepLoop, listen: Listen) -> None:
    """It can read the store and other derived watchers, also one that listens as well. P103."""
    double = mapped.app.n.map(lambda n: 2 * n)
    other = mapped.derived

    def function(n: int) -> tuple[int, bool]:
        return n, double.value == 2 * other.value == 2 * mapped.app.n.value

    mapped.derived = mapped.app.n.map(function)
    with listen(mapped, loop) as news, other.subscribe() as sub:
        mapped.set(1)
        assert [(1, True)] == news()
        assert [1] == [new_of(record) for record in drain(sub)]


@every_listener
def test_a_function_may_subscribe(mapped: Case, loop: StepLoop, listen: Listen) -> None:
    """It can open subscriptions while it is being computed, also on itself. P103."""
    other, itself = mapped.derived, mapped.app.n.map(lambda n: subscribe(n))  # noqa: PLW0108 -- later
    watchers: list[Watcher[int]] = [other, itself, mapped.app.n]
    subs: list[Subscription[int]] = []

    def subscribe(n: int) -> int:
        while n == 1 and watchers:
            subs.append(watchers.pop().subscribe())
        return n

    mapped.derived = itself
    with listen(mapped, loop) as news:
        mapped.set(1, 2)
        taken = news()
        mapped.set(3)
        taken += news()
        assert [1, 2, 3] == taken
        for sub in subs:
            following = [new_of(record) for record in drain(sub)]
            assert following in ([2, 3], [3])
            sub.close()
        loop.settle()


@every_listener
def test_a_function_may_read_a_subscription(mapped: Case, loop: StepLoop, listen: Listen) -> None:
    """What it reads there is complete and in order, though it is computed at the time. P103."""
    taken: list[int] = []

    def read(n: int) -> int:
        if n == 1:
            mapped.set(2)
        taken.extend(new_of(record) for record in drain(sub))
        return n

    sub = loop.run(call(mapped.derived.subscribe))
    itself = mapped.app.n.map(read)
    mapped.derived = combine(mapped.derived, itself, mapped.derived.map(str))
    with sub, listen(mapped, loop) as news:
        mapped.set(1, 3)
        # A callback is computed at the end of the first commit, all others after both.
        order = [1, 2, 3] if listen is LISTENERS["callback"] else [1, 3, 2]
        assert [(n, n, str(n)) for n in order] == [*news(), *news()]
        taken.extend(new_of(record) for record in drain(sub))
        loop.settle()
    assert order == taken


@every_listener
def test_a_function_may_register_callbacks(mapped: Case, loop: StepLoop, listen: Listen) -> None:
    """It can register callbacks while it is being computed, also on itself. P103."""
    other, itself = mapped.derived, mapped.app.n.map(lambda n: register(n))  # noqa: PLW0108 -- later
    told: list[int] = []

    with ExitStack() as stack:

        def register(n: int) -> int:
            if n == 2 and not told:
                told.append(0)
                for watcher in (other, itself):
                    handle = watcher.on_change(lambda _old, new: told.append(new))
                    stack.enter_context(handle)
            return n

        mapped.derived = itself
        with listen(mapped, loop) as news:
            mapped.set(1, 2)
            taken = news()
            mapped.set(3, 4)
            taken += news()
            assert [1, 2, 3, 4] == taken
        assert [0, 3, 3, 4, 4] == told
    mapped.set(5)


def test_a_function_may_close_its_own_subscription(case: Case, loop: StepLoop) -> None:
    """A subscription that is closed while it is computed for gives nothing any more. P103."""
    app = case.app
    subs: list[Subscription[Any]] = []

    def close(value: Any) -> Any:
        if app.n.value == 1:
            subs.pop().close()
        return value

    derived = case.derived.map(close)
    subs.append(derived.subscribe())
    sub = subs[0]
    case.set(1)
    raised(SubscriptionError, sub.get_nowait)
    assert_no_trace(app)


@pytest.mark.parametrize("how", ["loop", "callback", "value", "blocking", "opening"])
def test_a_slow_function_holds_up_nobody(how: str) -> None:
    """While it runs, other threads use the store, and watchers derived of it. P058 P103."""
    store = Arena()
    probe = probing(store)
    others = [store.state.map(hash), store.state.map(lambda n: n + 1)]

    def function(n: int) -> int:
        if n == 1 or how == "opening":
            probe()
            in_thread(use)
        return n

    def use() -> None:
        assert (1, 2) == (others[0].value, others[1].value)
        with slow.subscribe() if n_read else others[0].subscribe() as sub:
            assert 0 == sub.pending
        for watcher in others:
            watcher.on_change(lambda _old, _new: None).close()
            assert watcher.value == watcher.blocking.wait_for(watcher.value)

    n_read = False
    slow = store.state.map(function)
    with StepLoop() as loop:
        match how:
            case "loop":
                task = loop.create_task(slow.wait_for(1))
                loop.settle()
                store.state.value = 1
                loop.settle()
                assert 1 == task.result()
            case "callback":
                seen: list[int] = []
                with slow.on_change(lambda _old, new: seen.append(new)):
                    store.state.value = 1
                assert [1] == seen
                # What another thread has closed meanwhile goes with the next commit.
                store.state.value = 2
            case "value":
                store.state.value = 1
                assert 1 == slow.value
            case "blocking":
                with slow.blocking.subscribe() as sub:
                    store.state.value = 1
                    assert 1 == next(sub).new
            case _:
                store.state.value = 1
                with slow.subscribe():
                    pass
    assert probe.calls
    assert_no_trace(store)


@every_listener
def test_an_impure_function_is_believed(mapped: Case, loop: StepLoop, listen: Listen) -> None:
    """What it gave when it was called is the value, for all who listen in one place. P103."""
    results = iter(range(100))
    mapped.derived = mapped.app.n.map(lambda _n: next(results))
    with listen(mapped, loop) as news, listen(mapped, loop) as other_news:
        mapped.set(1, 2, 3)
        taken = news()
        assert sorted(taken) == taken
        assert 3 == len(taken)
        if listen in (LISTENERS["subscription"], LISTENERS["callback"], LISTENERS["polled"]):
            assert taken == other_news()


# -- depth -----------------------------------------------------------------------------------------

DEPTH = 10_000


def maps(app: App) -> list[Watcher[int]]:
    """Make a chain of maps, each one more."""
    chain: list[Watcher[int]] = [app.n]
    for _ in range(DEPTH):
        chain.append(chain[-1].map(lambda n: n + 1))
    return chain


def alternating(app: App) -> list[Watcher[int]]:
    """Make a chain of maps and combinations with another key."""
    chain: list[Watcher[int]] = [app.n]
    for _ in range(DEPTH // 2):
        chain.append(combine(chain[-1], app.other, using=lambda n, other: n + 1 + other))
        chain.append(chain[-1].map(lambda n: n + 1))
    return chain


every_chain = pytest.mark.parametrize("make", [maps, alternating])


@every_chain
@pytest.mark.parametrize("name", ["subscription", "polled without a loop", "callback"])
def test_a_deep_chain_can_be_listened_to(
    mapped: Case, loop: StepLoop, name: str, make: Callable[[App], list[Watcher[int]]]
) -> None:
    """A chain 10,000 deep is computed without recursion, and so it goes. P101."""
    mapped.derived = make(mapped.app)[-1]
    with LISTENERS[name](mapped, loop) as news:
        mapped.set(1, 2)
        assert [DEPTH + 1, DEPTH + 2] == news()


@every_chain
def test_a_deep_chain_can_be_read(mapped: Case, make: Callable[[App], list[Watcher[int]]]) -> None:
    """`.value` of a chain 10,000 deep needs no recursion, and its name is short. P101."""
    last = make(mapped.app)[-1]
    mapped.set(1)
    assert DEPTH + 1 == last.value
    assert len(last.name) < 300
    assert len(repr(last)) < 320


@every_chain
@pytest.mark.parametrize("order", ["end first", "middle first"])
@pytest.mark.parametrize("ends", ["end", "middle", "neither"])
def test_a_deep_chain_can_be_heard_half_way(
    mapped: Case, make: Callable[[App], list[Watcher[int]]], order: str, ends: str
) -> None:
    """Listeners in the middle and at the end may come and go in any order. P101."""
    chain = make(mapped.app)
    taken: dict[int, list[int]] = {DEPTH // 2: [], DEPTH: []}
    places = sorted(taken, reverse=order == "end first")
    handles = {
        place: chain[place].on_change(lambda _old, new, place=place: taken[place].append(new))
        for place in places
    }
    del chain
    mapped.set(1)
    if ends != "neither":
        handles.pop(DEPTH if ends == "end" else DEPTH // 2).close()
    mapped.set(2)
    for handle in handles.values():
        handle.close()
    mapped.set(3)
    expected = {
        place: [place + 1, place + 2] if place in handles else [place + 1] for place in places
    }
    assert expected == taken


def test_who_listens_half_way_changes_nothing_for_others(mapped: Case) -> None:
    """With a listener at each place of a chain, each function is called once a commit. P101."""
    calls: list[tuple[int, int]] = []
    chain: list[Watcher[int]] = [mapped.app.n]
    for place in range(5):

        def function(n: int, place: int = place) -> int:
            calls.append((place, n))
            return n + 1

        chain.append(chain[-1].map(function))
    with ExitStack() as stack:
        for place in (5, 2, 4, 1, 3):
            seen: list[int] = []
            mapped.set(mapped.app.n.value + 1)
            stack.enter_context(
                chain[place].on_change(lambda _old, new, seen=seen: seen.append(new))
            )
            calls.clear()
            mapped.set(mapped.app.n.value + 1)
            n = mapped.app.n.value
            assert [n + place] == seen
            assert [(at, n + at) for at in range(5)] == sorted(calls)


@pytest.mark.parametrize("name", ["subscription", "callback"])
def test_a_thousand_watchers_of_one_key_are_computed_once_each(
    mapped: Case, loop: StepLoop, name: str
) -> None:
    """However many are derived of one key, a commit computes each of them once. P101."""
    with ExitStack() as stack:
        every: list[Callable[[], list[int]]] = []
        for place in range(1_000):
            mapped.derived = mapped.app.n.map(mapped.function).map(place.__add__)
            every.append(stack.enter_context(LISTENERS[name](mapped, loop)))
        mapped.called()
        mapped.set(1, 2)
        for place, news in enumerate(every):
            assert [place + 1, place + 2] == news()
        assert {1: 1_000, 2: 1_000} == Counter(mapped.called())


# -- what is kept ----------------------------------------------------------------------------------


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Have nothing collected but what nobody refers to any more."""
    gc.disable()
    yield
    gc.enable()


def listen_and_leave(case: Case) -> None:
    """Use the watcher in every way, and be done with it."""
    case.derived.value
    with StepLoop() as loop:
        for listen in LISTENERS.values():
            with listen(case, loop) as news:
                case.set(1, -1, 2)
                news()


@pytest.mark.parametrize("use", [lambda case: None, listen_and_leave])
def test_what_nobody_holds_is_gone(
    case: Case, no_collector: None, use: Callable[[Case], None]
) -> None:
    """A derived watcher goes with its last reference: nothing is to be closed. P103."""
    use(case)
    formula = weakref.ref(case.derived._source)
    watcher = weakref.ref(case.derived)
    del case.derived
    assert (None, None) == (watcher(), formula())


@every_listener
def test_a_listener_needs_nobody_to_hold_the_watcher(
    mapped: Case, loop: StepLoop, no_collector: None, listen: Listen
) -> None:
    """Whoever listens keeps what is listened to, until he is done."""
    mapped.derived = mapped.app.n.map(lambda n: n + 1).map(lambda n: 2 * n)
    formula = weakref.ref(mapped.derived._source)
    with listen(mapped, loop) as news:
        del mapped.derived
        mapped.set(1, 2)
        assert [4, 6] == news()
        assert formula() is not None
    assert formula() is None


@every_listener
def test_a_mailbox_goes_with_its_last_listener(
    mapped: Case, loop: StepLoop, no_collector: None, listen: Listen
) -> None:
    """A loop on which nobody listens any more is not known to the store."""
    with listen(mapped, loop) as news:
        mapped.set(1)
        news()
    assert {} == mapped.app._core.mailboxes


def test_results_are_freed_when_they_are_replaced(
    mapped: Case, loop: StepLoop, no_collector: None
) -> None:
    """Only the newest result is kept, and what somebody has still to read."""

    class Thing:
        """A result that can be referred to weakly."""

    things: list[weakref.ref[Thing]] = []

    def function(_n: int) -> Thing:
        thing = Thing()
        things.append(weakref.ref(thing))
        return thing

    derived = mapped.app.n.map(function)

    def alive() -> list[bool]:
        return [thing() is not None for thing in things]

    with closing(loop.run(call(derived.subscribe))) as sub:
        mapped.set(1, 2, 3)
        assert 3 == sub.pending
        assert [True, True, True, True] == alive()
        sub.get_nowait()
        sub.get_nowait()
        assert [False, False, True, True] == alive()
        sub.get_nowait()
        assert [False, False, False, True] == alive()
        loop.settle()
    del sub
    assert [False, False, False, False] == alive()


def test_a_network_goes_with_its_last_listener(case: Case, no_collector: None) -> None:
    """What computes for a plain thread is its own, and is gone with it."""
    with case.derived.blocking.subscribe() as sub:
        network = weakref.ref(sub._slot._network)
        assert network() is not None
    assert network() is None


def test_a_deep_chain_can_be_dropped_while_it_is_heard(mapped: Case, no_collector: None) -> None:
    """A chain goes with its listener, from the end to the source. P101."""
    chain = maps(mapped.app)
    formulas = [weakref.ref(watcher._source) for watcher in chain[1:]]
    sub = chain[-1].subscribe()
    del chain
    mapped.set(1)
    assert DEPTH + 1 == sub.get_nowait().new
    sub.close()
    del sub
    assert [] == [formula for formula in formulas if formula() is not None]


async def time_out(watcher: Watcher[Any]) -> None:
    """Wait for what does not come."""
    await watcher.wait_for(None, timeout=1)


async def time_out_on_a_subscription(watcher: Watcher[Any]) -> None:
    """Wait for what does not come, on a subscription."""
    with watcher.subscribe() as sub:
        await sub.wait_for(None, timeout=1)


async def time_out_at_once(watcher: Watcher[Any]) -> None:
    """Look for what is not there."""
    await watcher.wait_for(None, timeout=0)


async def fail_at_once(watcher: Watcher[Any]) -> None:
    """Wait with a predicate that raises for the value that is there."""
    await watcher.wait_until(boom)


async def fail_later(watcher: Watcher[Any]) -> None:
    """Wait with a predicate that raises for the value that comes."""
    await watcher.wait_until(boom, immediate=False)


@pytest.mark.parametrize(
    "wait", [time_out, time_out_on_a_subscription, time_out_at_once, fail_at_once, fail_later]
)
@pytest.mark.parametrize("end", ["error", "cancel"])
def test_what_is_kept_of_a_wait_keeps_nothing_computed(
    mapped: Case, loop: StepLoop, wait: Callable[[Watcher[Any]], Any], end: str
) -> None:
    """Whoever keeps a task that is done, or its error, keeps no registration with it. P022 P023."""
    task = loop.create_task(wait(mapped.derived))
    loop.settle()
    if end == "cancel":
        task.cancel()
    mapped.set(1)
    loop.advance(1)
    assert task.done()
    mapped.called()
    mapped.set(2)
    loop.settle()
    assert [] == mapped.called()
    assert_no_trace(mapped.app)
    assert task.cancelled() or task.exception() is not None


@pytest.mark.parametrize(
    "wait",
    [
        lambda side: side.wait_for(None, timeout=0),
        lambda side: side.wait_until(boom),
        lambda side: side.wait_until(boom, immediate=False, timeout=0),
    ],
)
def test_what_is_kept_of_a_blocking_wait_keeps_nothing_computed(
    mapped: Case, wait: Callable[[Any], Any]
) -> None:
    """The same for the error of a wait that blocks. P023."""
    kept: list[BaseException] = []
    try:
        wait(mapped.derived.blocking)
    except (BoomError, WaitTimeoutError) as error:
        kept.append(error)
    assert_no_trace(mapped.app)
    kept.clear()


def test_what_is_kept_of_a_callback_keeps_nothing_computed(mapped: Case) -> None:
    """Whoever keeps the error of a callback keeps no registration with it. P023."""
    kept: list[BaseException] = []
    app = App(on_error=lambda failure: kept.append(failure.error))
    calls: list[int] = []

    with app.n.map(calls.append).map(lambda _: len(calls)).on_change(boom):
        app.n.value = 1
    assert [BoomError] == [type(error) for error in kept]
    calls.clear()
    app.n.value = 2
    assert [] == calls
    assert_no_trace(app)


# -- the end of the store --------------------------------------------------------------------------


@every_wait
def test_the_end_of_the_store_ends_waits(
    case: Case, loop: StepLoop, wait_of: Callable[..., Wait]
) -> None:
    """What came before the end is looked at first; then there is nothing to wait for. P092."""
    matched = loop.create_task(wait_of(case, case.derived)())
    loop.settle()
    case.set(1, 0)
    missed = loop.create_task(wait_of(case, case.derived)())
    loop.step()
    case.set(100)
    case.app.close()
    loop.settle()
    assert case.of(1) == matched.result()
    del matched
    assert case.derived.name == raised(StoreClosedError, missed.result).wait.key


@every_wait
def test_a_wait_on_a_closed_store_only_looks(
    case: Case, loop: StepLoop, wait_of: Callable[..., Wait]
) -> None:
    """The value that it has for ever may match; nothing else can. P092."""
    case.set(1)
    case.app.close()
    assert case.of(1) == loop.run(wait_of(case, case.derived)())
    assert case.of(1) == wait_of(case, case.derived.blocking)()
    raised(StoreClosedError, lambda: loop.run(wait_of(case, case.derived)(immediate=False)))
    raised(StoreClosedError, lambda: wait_of(case, case.derived.blocking)(immediate=False))


@every_listener
def test_the_end_of_the_store_comes_after_all_that_was_committed(
    case: Case, loop: StepLoop, listen: Listen
) -> None:
    """Whatever was not computed yet is delivered first. P092."""
    with listen(case, loop) as news:
        case.set(1, -1, 2)
        case.app.close()
        assert [case.of(1), Failed(2), case.of(2)] == news()
        assert [] == news()


async def iterate(case: Case, arm: Callable[[], None]) -> list[Any]:
    """Read a subscription to its end."""
    with case.derived.subscribe() as sub:
        arm()
        return [transition.new async for transition in sub]


async def wait_on_a_subscription(case: Case, arm: Callable[[], None]) -> list[Any]:
    """Wait for the value that comes last."""
    with case.derived.subscribe() as sub:
        arm()
        return [await sub.wait_for(case.of(1))]


async def iterate_blocking(case: Case, arm: Callable[[], None]) -> list[Any]:
    """Read a subscription to its end, in a thread."""

    def read() -> list[Any]:
        with case.derived.blocking.subscribe() as sub:
            arm()
            return [transition.new for transition in sub]

    return in_thread(read)


async def wait_blocking(case: Case, arm: Callable[[], None]) -> list[Any]:
    """Wait for the value that comes last, in a thread."""

    def wait() -> Any:
        arm()
        return case.derived.blocking.wait_for(case.of(1))

    return [in_thread(wait)]


@pytest.mark.parametrize(
    ("read", "at"),
    [
        (iterate, 1),
        (wait_on_a_subscription, 1),
        (iterate_blocking, 1),
        (wait_blocking, 1),
        (wait_blocking, 2),
    ],
)
def test_what_comes_right_before_the_end_is_delivered(
    case: Case, loop: StepLoop, monkeypatch: pytest.MonkeyPatch, read: Any, at: int
) -> None:
    """A commit and the end that come right after a look at the sources are seen in order. P092."""
    advance = Network.advance
    looks = 0

    def advance_then_end(self: Network, *share: Any) -> bool:
        nonlocal looks
        is_done = advance(self, *share)
        looks += 1
        if looks == at:
            case.set(1)
            case.app.close()
        return is_done

    task = loop.create_task(
        read(case, lambda: monkeypatch.setattr(Network, "advance", advance_then_end))
    )
    loop.settle()
    assert [case.of(1)] == task.result()


@pytest.mark.parametrize("event", ["set", "close"])
def test_what_comes_right_before_a_thread_blocks_is_not_missed(
    case: Case, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    """What is committed between the last look and the sleep has the thread look again. P027."""
    park = ThreadPort.park

    def set_and_park(self: ThreadPort, cell: list[Any], seconds: float | None) -> None:
        monkeypatch.undo()
        if event == "set":
            case.set(1)
            # It would sleep for ever, if it did not see this.
            assert self.slot._has_after(cell)
        else:
            case.app.close()
        park(self, cell, seconds)

    monkeypatch.setattr(ThreadPort, "park", set_and_park)
    with case.derived.blocking.subscribe() as sub:
        assert (case.of(1) if event == "set" else None) == new_of(next(sub, None))


@pytest.mark.parametrize("event", ["set", "close"])
def test_what_comes_right_before_a_task_sleeps_is_not_missed(
    case: Case, loop: StepLoop, event: str
) -> None:
    """The same for a task: what comes from a thread before it is registered wakes it. P027."""
    create = loop.create_future

    def create_future() -> asyncio.Future[Any]:
        in_thread(case.app.close if event == "close" else lambda: case.set(1))
        return create()

    with loop.run(call(case.derived.subscribe)) as sub:
        reader = loop.create_task(anext(sub, None))  # type: ignore[arg-type]
        loop.create_future = create_future  # type: ignore[method-assign]
        loop.settle()
        assert (case.of(1) if event == "set" else None) == new_of(reader.result())


def test_a_subscription_ends_with_the_store(case: Case, loop: StepLoop) -> None:
    """Iteration ends, and a poll or a wait says why. P092."""

    async def main() -> None:
        with case.derived.subscribe() as sub:
            case.set(1)
            case.app.close()
            assert [case.of(1)] == [transition.new async for transition in sub]
            with pytest.raises(StoreClosedError):
                sub.get_nowait()
            with pytest.raises(StoreClosedError):
                await sub.wait_for(case.of(0))

    loop.run(main())
    loop.settle()


def test_a_closed_store_can_be_derived_from(case: Case) -> None:
    """Values stay readable, new ones can be derived, and listeners are told that it is over."""
    case.set(1)
    case.app.close()
    later = case.derived.map(lambda value: [value])
    assert (case.of(1), 1) == (case.derived.value, case.derived.revision)
    assert [case.of(1)] == later.value
    with later.blocking.subscribe(initial=True) as sub:
        assert [[case.of(1)]] == [new_of(record) for record in sub]
    fired: list[int] = []
    with case.derived.on_change(print):
        case.derived.on_value(case.of(1), lambda: fired.append(1))
    assert [1] == fired


# -- loops -----------------------------------------------------------------------------------------


def test_what_is_left_on_a_closed_loop_goes_with_the_next_commit(
    case: Case, loop: StepLoop
) -> None:
    """A loop that was closed costs the setter nothing, and others are told as ever. P028 P031."""
    dead = StepLoop()
    tasks = [dead.create_task(case.derived.wait_for(None)) for _ in range(2)]
    dead.settle()
    dead.close()
    with LISTENERS["subscription"](case, loop) as news:
        case.set(1, 2)
        assert [case.of(1), case.of(2)] == news()
    for task in tasks:
        # Nobody will run it any more; asyncio would report that at its end.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine = task.get_coro()
        assert coroutine is not None
        coroutine.close()
    del tasks, task, coroutine
    gc.collect()


@pytest.mark.parametrize("debug", [False, True])
def test_several_loops_share_one_store(mapped: Case, debug: bool) -> None:
    """In each thread with a loop of its own, a task sees every transition, in order. P038."""
    ready = threading.Barrier(4)

    async def read() -> list[int]:
        with mapped.derived.subscribe() as sub:
            ready.wait()
            return [(await anext(sub)).new for _ in range(99)]

    jobs = [Job(lambda: asyncio.run(read(), debug=debug)) for _ in range(3)]
    ready.wait()
    mapped.set(*range(1, 100))
    assert [[*range(1, 100)]] * 3 == [job.result() for job in jobs]
    # A loop that was closed before it was told all is garbage, but may refer to itself.
    gc.collect()


def test_a_watcher_belongs_to_no_loop(case: Case) -> None:
    """One derived watcher serves one loop after the other. P036."""

    async def main(n: int) -> Any:
        task = asyncio.create_task(case.derived.wait_for(case.of(n), immediate=False))
        await asyncio.sleep(0)
        case.set(n)
        return await task

    assert [case.of(n) for n in (1, 2, 3)] == [asyncio.run(main(n)) for n in (1, 2, 3)]


def test_a_subscription_belongs_to_its_loop(case: Case, loop: StepLoop) -> None:
    """Reading it on another one is refused. P036."""
    with loop.run(call(case.derived.subscribe)) as sub, StepLoop() as another:
        case.set(1)
        assert "another event loop" in str(
            raised(SubscriptionError, lambda: another.run(next_of(sub)))
        )
        assert case.of(1) == loop.run(next_of(sub)).new
    loop.settle()


async def next_of(sub: Subscription[Any]) -> Any:
    """Give the next record."""
    return await anext(sub)


def test_a_forked_child_begins_anew(case: Case) -> None:
    """It can derive and listen; what it inherited is void. P108."""
    inherited = case.derived.subscribe()
    told: list[Any] = []
    case.derived.on_change(lambda _old, new: told.append(new))
    # What happens in the child.
    case.app._core.forget_consumers()
    case.set(1)
    assert case.of(1) == case.derived.value
    assert [] == told
    raised(SubscriptionError, inherited.get_nowait)
    with (
        case.derived.subscribe() as sub,
        case.derived.on_change(lambda _old, new: told.append(new)),
    ):
        case.set(2)
        assert [case.of(2)] == [new_of(record) for record in drain(sub)] == told
    inherited.close()


# -- traps -----------------------------------------------------------------------------------------


def test_a_derived_watcher_is_neither_true_nor_false(case: Case) -> None:
    """`if condition:` raises, and asks whether its value was meant."""
    with pytest.raises(TypeError, match="neither true nor false; did you mean its `value`"):
        bool(case.derived)
    with pytest.raises(TypeError, match="neither true nor false"):
        case.derived and case.app.n


@pytest.mark.parametrize("wrong", [None, 1, "n"])
def test_what_cannot_be_called_is_refused(case: Case, wrong: Any) -> None:
    """A map function or a predicate that is none is refused at once."""
    with pytest.raises(TypeError, match="a map function must be callable, not"):
        case.derived.map(wrong)
    with pytest.raises(TypeError, match="a predicate must be callable, not"):
        case.derived.matches(wrong)


async def asynchronous(_value: object) -> None:
    """Do nothing, asynchronously."""


class AsynchronousCall:
    """Something whose call is asynchronous."""

    async def __call__(self, _value: object) -> None:
        """Do nothing."""


@pytest.mark.parametrize("wrong", [asynchronous, AsynchronousCall()])
def test_what_is_asynchronous_is_refused(case: Case, wrong: Any) -> None:
    """A coroutine is no result. P053."""
    with pytest.raises(TypeError, match="a map function must be a plain function"):
        case.derived.map(wrong)
    with pytest.raises(TypeError, match="a predicate must be a plain function"):
        case.derived.matches(wrong)


def double(n: int) -> int:
    """Give twice as much."""
    return 2 * n


@pytest.mark.parametrize(
    ("derive", "name"),
    [
        (lambda n: n.map(double), "n.map(double)"),
        (lambda n: n.map(double).map(double), "n.map(double).map(double)"),
        (lambda n: n.is_(3), "n is 3"),
        (lambda n: n.is_not("x"), "n is not 'x'"),
        (lambda n: n.matches(double), "n matches double"),
        (lambda n: n.map(double).is_(3), "n.map(double) is 3"),
        (lambda n: ~n.is_(3), "not (n is 3)"),
    ],
)
def test_a_name_tells_what_it_is_derived_from(
    mapped: Case, derive: Callable[[Any], Watcher[Any]], name: str
) -> None:
    """It is made of the names of the sources and of the function."""
    derived = derive(mapped.app.n)
    assert name == derived.name
    kind = "Condition" if isinstance(derived, Condition) else "Derived"
    assert f"<{kind} {name}>" == repr(derived)


def test_a_lambda_is_named_by_its_line(mapped: Case) -> None:
    """So it can be found, as it has no name."""
    line = __file__, test_a_lambda_is_named_by_its_line.__code__.co_firstlineno + 3
    assert f"n.map(the lambda at {line[0]}:{line[1]})" == mapped.app.n.map(lambda n: n).name


@pytest.mark.parametrize("target", ["x" * 10_000, tuple(range(10_000)), equal_by(boom)])
def test_a_name_stays_short(mapped: Case, target: object) -> None:
    """A target with a long or a broken repr makes no long name. P083."""
    assert len(mapped.app.n.is_(target).name) < 100
