"""What is derived of several watchers: one transition a commit, and never a mix of revisions."""

from __future__ import annotations

import asyncio
import enum
import itertools
import math
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from statestore import (
    Condition,
    DerivationError,
    DifferentStoresError,
    Key,
    Store,
    StoreClosedError,
    Transition,
    ValueWatcher,
    WaitTimeoutError,
    Watcher,
    all_of,
    any_of,
    at_least,
    combine,
)
from statestore._core import Core
from statestore.testing import StepLoop, assert_no_trace
from support.derived import LISTENERS, Case, Failed, Listen, drain, new_of, raised
from support.threads import Job

every_listener = pytest.mark.parametrize("listen", LISTENERS.values(), ids=LISTENERS.keys())


class App(Store):
    """A little of everything."""

    a = Key(0)
    b = Key(0)
    text = Key("")
    flag = Key(False)


@pytest.fixture
def app() -> Iterator[App]:
    """Give a store to which nobody listens any more afterwards."""
    with App() as app:
        yield app
        assert_no_trace(app)


@pytest.fixture
def case() -> Iterator[Case]:
    """Give what the listeners listen to: a store, and a watcher that is set by the test."""
    case = Case("map")
    yield case
    assert_no_trace(case.app)
    case.app.close()


@pytest.fixture
def loop(request: pytest.FixtureRequest) -> Iterator[StepLoop]:
    """Give a loop that moves only when told to, and ends before it is looked what is left."""
    for name in {"app", "case"} & set(request.fixturenames):
        request.getfixturevalue(name)
    with StepLoop() as loop:
        yield loop
    assert [] == loop.failures


@pytest.fixture
def short_turns() -> Iterator[None]:
    """Have threads take turns after a few steps."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def set_both(case: Case, n: int, other: int) -> None:
    """Set both keys in one commit."""
    with case.app.transaction() as tx:
        tx[case.app.n] = n
        tx[case.app.other] = other


# -- combine ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3, 8, 9, 40])
def test_any_number_of_watchers_makes_a_tuple(number: int) -> None:
    """Their values come in the order in which they were given."""
    store = Store()
    keys = [store.add(f"key{i}", i) for i in range(number)]
    combined = combine(*keys)
    assert tuple(range(number)) == combined.value
    with combined.subscribe() as sub:
        keys[-1].value = 100
        assert (*range(number - 1), 100) == sub.get_nowait().new


@pytest.mark.parametrize("number", [1, 2, 8, 40])
def test_a_function_makes_something_of_the_values(number: int) -> None:
    """With *using*, the values are its arguments, and what it returns is the value."""
    store = Store()
    keys = [store.add(f"key{i}", i) for i in range(number)]
    total = combine(*keys, using=lambda *values: sum(values))
    assert sum(range(number)) == total.value


def test_one_watcher_may_be_given_twice(case: Case) -> None:
    """Each place has its value; one change of it makes one transition."""
    twice = combine(case.app.n, case.app.other, case.app.n)
    with twice.subscribe() as sub:
        case.set(1)
        assert [(1, 0, 1)] == [new_of(record) for record in drain(sub)]


@every_listener
def test_each_commit_of_a_source_makes_a_transition(
    case: Case, loop: StepLoop, listen: Listen
) -> None:
    """Sources that change one after the other are told one after the other, in that order."""
    case.derived = combine(case.app.n, case.app.other)
    with listen(case, loop) as news:
        case.set(1)
        case.app.other.value = 1
        case.set(2, 3)
        case.app.other.value = 2
        assert [(1, 0), (1, 1), (2, 1), (3, 1), (3, 2)] == news()


@every_listener
def test_a_commit_that_changes_several_sources_makes_one(
    case: Case, loop: StepLoop, listen: Listen
) -> None:
    """What changes together is told together: never half of it. P087 P100."""
    calls: list[tuple[int, int]] = []

    def note(n: int, other: int) -> tuple[int, int]:
        calls.append((n, other))
        return n, other

    case.derived = combine(case.app.n, case.app.other, using=note)
    with listen(case, loop) as news:
        set_both(case, 1, 1)
        case.set(2)
        set_both(case, 3, 3)
        assert [(1, 1), (2, 1), (3, 3)] == news()
    assert [(0, 0), (1, 1), (2, 1), (3, 3)] == calls


@every_listener
def test_a_commit_that_leaves_the_result_makes_none(
    case: Case, loop: StepLoop, listen: Listen
) -> None:
    """A sum whose parts are moved in a transaction never changes. P089 P100."""
    case.derived = combine(case.app.n, case.app.other, using=lambda n, other: n + other)
    with listen(case, loop) as news:
        for n in range(1, 5):
            set_both(case, n, -n)
        assert [] == news()
        set_both(case, 5, 0)
        assert [5] == news()


def test_an_equal_result_goes_no_further(case: Case) -> None:
    """What is derived of a result that did not change is not computed. P103."""
    calls: list[tuple[int, int]] = []

    def note(n: int, other: int) -> int:
        calls.append((n, other))
        return n

    with combine(case.derived, case.app.other, using=note).map(str).subscribe() as sub:
        case.set(1, 101, 201, 2)
        assert ["1", "2"] == [new_of(record) for record in drain(sub)]
    assert [(0, 0), (1, 0), (2, 0)] == calls
    assert [0, 1, 101, 201, 2] == case.called()


def test_a_record_has_the_revision_of_its_commit(app: App) -> None:
    """Revisions are those of the commits that changed a source, whichever."""
    with combine(app.a, app.b).subscribe() as sub:
        app.a.value = 1
        app.text.value = "between"
        app.b.value = 1
        assert [
            Transition(key="combine (a, b)", old=(0, 0), new=(1, 0), revision=1),
            Transition(key="combine (a, b)", old=(1, 0), new=(1, 1), revision=3),
        ] == drain(sub)
    assert 3 == combine(app.text, app.b).revision


# -- one revision ----------------------------------------------------------------------------------


@every_listener
def test_a_diamond_has_no_glitch(case: Case, loop: StepLoop, listen: Listen) -> None:
    """Two ways from one source meet in one transition, computed from one revision. P100."""
    mixes: list[tuple[int, int]] = []

    def check(double: int, negative: int) -> int:
        if double != -2 * negative:
            mixes.append((double, negative))
        return double

    long_way = case.app.n.map(lambda n: n + 1).map(lambda n: n - 1).map(lambda n: 2 * n)
    case.derived = combine(long_way, case.app.n.map(lambda n: -n), using=check)
    with listen(case, loop) as news:
        case.set(1, 2, 3)
        assert [2, 4, 6] == news()
    assert [] == mixes


@every_listener
def test_diamonds_over_several_keys_have_no_glitch(
    case: Case, loop: StepLoop, listen: Listen
) -> None:
    """A condition that holds at every revision is never computed to fail. P100."""
    n, other = case.app.n, case.app.other
    is_whole = [
        combine(n, other, using=lambda n, other: n + other).is_(0),
        combine(n.map(lambda n: -n), other).matches(lambda both: both[0] == both[1]),
        n.is_(0) & other.is_(0) | n.is_not(0) & other.is_not(0),
        ~(combine(n, other).map(sum).matches(bool)),
    ]
    case.derived = combine(all_of(*is_whole), n)
    with listen(case, loop) as news:
        for value in (1, 2, 0, 3, 4):
            set_both(case, value, -value)
        assert [(True, value) for value in (1, 2, 0, 3, 4)] == news()


@pytest.mark.parametrize("on_loop", [True, False])
def test_who_joins_others_that_lag_sees_no_mix(case: Case, loop: StepLoop, on_loop: bool) -> None:
    """What others have not computed yet is, before something new is derived of it. P100."""
    calls: list[tuple[int, int]] = []

    def note(n: int, other: int) -> tuple[int, int]:
        calls.append((n, other))
        return n, other

    combined = combine(case.derived, case.app.other, using=note)

    async def join() -> None:
        # On one loop, without a turn of it in between.
        with case.derived.subscribe():
            set_both(case, 1, 1)
            combined.subscribe().close()

    if on_loop:
        loop.run(join())
        loop.settle()
    else:
        with case.derived.on_change(lambda _old, _new: set_both(case, 2, 2)):
            set_both(case, 1, 1)
            combined.on_change(print).close()
    assert calls in ([(1, 1)], [(2, 2)])


@pytest.mark.parametrize("at", range(1, 7))
def test_a_commit_in_the_middle_of_a_read_is_seen_whole(
    case: Case, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """A read that is overtaken gives one revision or the next, and the next read the next. P100."""
    combined = combine(case.app.n, case.app.other.map(lambda value: value))
    assert (0, 0) == combined.value
    settle = Core.settle
    calls = 0

    def overtaken(self: Core) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            set_both(case, 1, 1)
        return settle(self)

    monkeypatch.setattr(Core, "settle", overtaken)
    case.set(0)
    case.app.add("third", 0)
    assert combined.value in ((0, 0), (1, 1))
    monkeypatch.undo()
    set_both(case, 1, 1)
    assert (1, 1) == combined.value


def test_what_is_deep_on_one_side_is_computed_once(app: App) -> None:
    """However different the ways are in length, nothing is computed before its sources. P100."""
    calls: list[tuple[int, ...]] = []

    def note(*values: int) -> int:
        calls.append(values)
        return values[-1]

    ways: list[Watcher[int]] = [app.a]
    for _ in range(6):
        ways.append(combine(*ways, using=note))
    with ways[-1].subscribe() as sub:
        calls.clear()
        app.a.value = 1
        assert [1] == [new_of(record) for record in drain(sub)]
    assert [(1,) * length for length in range(1, 7)] == calls


def read_in_a_task(derived: Watcher[int], store: Store, begun: threading.Event) -> None:
    """Take each transition on a loop."""

    async def read() -> None:
        with derived.subscribe() as sub:
            begun.set()
            async for _ in sub:
                pass

    asyncio.run(read())


def read_in_a_thread(derived: Watcher[int], store: Store, begun: threading.Event) -> None:
    """Take each transition, and block."""
    with derived.blocking.subscribe() as sub:
        begun.set()
        for _ in sub:
            pass


def be_called(derived: Watcher[int], store: Store, begun: threading.Event) -> None:
    """Have a callback called in the threads that set."""
    with derived.on_change(lambda _old, _new: None), store.blocking.subscribe() as sub:
        begun.set()
        for _ in sub:
            pass


def read_values(derived: Watcher[int], store: Store, begun: threading.Event) -> None:
    """Read the value over and over."""
    while not store.is_closed:
        derived.value
        begun.set()


@pytest.mark.parametrize("read", [read_in_a_task, read_in_a_thread, be_called, read_values])
def test_no_thread_can_make_a_mix(read: Callable[..., None], short_turns: None) -> None:
    """While threads move amounts between keys, every computation sees the whole. P087 P100."""
    store = Store()
    keys = [store.add(f"key{i}", 100) for i in range(4)]
    sums: set[int] = set()
    begun = threading.Event()

    def check(*values: int) -> int:
        sums.add(sum(values))
        return values[0]

    def move(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(150):
            source, target = chance.sample(keys, 2)

            def shift(tx: Any, source: Any = source, target: Any = target) -> None:
                tx[source] -= 1
                tx[target] += 1

            store.transact(shift)

    halves = [combine(*two, using=lambda one, other: one + other) for two in (keys[:2], keys[2:])]
    derived = combine(*halves, using=check).map(lambda first: first)
    reader = Job(lambda: read(derived, store, begun))
    with store:
        begun.wait(20)
        for mover in [Job(lambda seed=seed: move(seed)) for seed in range(2)]:
            mover.result()
    reader.result()
    assert derived.value == keys[0].value + keys[1].value
    assert {400} == sums


# -- conditions ------------------------------------------------------------------------------------


class Text(enum.StrEnum):
    """A string with a name."""

    CLOSING = "closing"


@pytest.mark.parametrize(
    ("value", "target", "equals"),
    [
        (1, 1, True),
        (1, True, True),
        (1, 1.0, True),
        ("closing", Text.CLOSING, True),
        (Text.CLOSING, "closing", True),
        (None, 0, False),
        ((1, 2), (1, 2), True),
        (math.nan, math.nan, True),
        (math.nan, float("nan"), False),
    ],
)
def test_a_condition_compares_as_a_wait_does(value: object, target: object, equals: bool) -> None:
    """`is_` takes the same object or plain `==`, and `is_not` is its opposite. P063 P066."""
    state = ValueWatcher[object](value)
    assert (equals, not equals) == (state.is_(target).value, state.is_not(target).value)


def test_a_condition_is_a_bool(app: App) -> None:
    """Whatever a predicate answers, the value is True or False, and changes only with that."""
    condition = app.a.matches(lambda n: "x" * n)
    with condition.subscribe() as sub:
        app.a.value = 1
        app.a.value = 2
        app.a.value = 0
        assert [(False, True), (True, False)] == [(t.old, t.new) for t in drain(sub)]


def truth(number: int) -> list[tuple[bool, ...]]:
    """Give every combination of so many truth values."""
    return list(itertools.product([False, True], repeat=number))


COUNTS: dict[str, tuple[Callable[..., Condition], Callable[[int], bool]]] = {
    "all_of": (all_of, lambda holding: holding == 3),
    "any_of": (any_of, lambda holding: holding >= 1),
    "at_least(1)": (lambda *each: at_least(1, *each), lambda holding: holding >= 1),
    "at_least(2)": (lambda *each: at_least(2, *each), lambda holding: holding >= 2),
    "at_least(3)": (lambda *each: at_least(3, *each), lambda holding: holding == 3),
    "and": (lambda a, b, c: a & b & c, lambda holding: holding == 3),
    "or": (lambda a, b, c: a | b | c, lambda holding: holding >= 1),
    "not and": (lambda a, b, c: ~(a & b & c), lambda holding: holding < 3),
    "and not": (lambda a, b, c: ~a & ~b & ~c, lambda holding: holding == 0),
    "not": (lambda a, b, c: ~any_of(a, b, c), lambda holding: holding == 0),
    "mixed": (lambda a, b, c: at_least(2, a, b, c) & any_of(a, b), lambda holding: holding >= 2),
}

every_count = pytest.mark.parametrize(("make", "expected"), COUNTS.values(), ids=COUNTS.keys())


@pytest.fixture
def flags() -> Iterator[list[ValueWatcher[bool]]]:
    """Give three keys of one store that are true or false."""
    with Store() as store:
        yield [store.add(name, False) for name in "abc"]
        assert_no_trace(store)


@every_count
def test_a_count_holds_for_every_combination(
    flags: list[ValueWatcher[bool]],
    make: Callable[..., Condition],
    expected: Callable[[int], bool],
) -> None:
    """The condition is what the number of those that hold says, read or listened to."""
    condition = make(*(flag.is_(True) for flag in flags))
    assert isinstance(condition, Condition)
    with condition.subscribe() as sub:
        last = condition.value
        for before, after in itertools.permutations(truth(3), 2):
            for values in (before, after):
                for flag, value in zip(flags, values, strict=True):
                    flag.value = value
                    now = expected(sum(one.value for one in flags))
                    assert now is condition.value
                    assert ([now] if now is not last else []) == [
                        new_of(record) for record in drain(sub)
                    ]
                    last = now


@every_count
@every_listener
def test_a_count_is_told_of_what_changes_together(
    case: Case,
    loop: StepLoop,
    listen: Listen,
    make: Callable[..., Condition],
    expected: Callable[[int], bool],
) -> None:
    """Conditions that change in one commit are counted together. P100."""
    n = case.app.n
    case.derived = make(n.matches(lambda n: n & 1), n.matches(lambda n: n & 2), n.is_(7))
    held = [expected((n & 1) + (n >> 1 & 1) + (n == 7)) for n in range(8)]
    with listen(case, loop) as news:
        case.set(*range(1, 8))
        assert [now for now, before in zip(held[1:], held, strict=False) if now != before] == news()


def test_a_condition_given_twice_counts_twice(app: App) -> None:
    """Each place counts for itself."""
    condition = app.a.is_(1)
    twice = at_least(2, condition, condition, app.flag)
    with twice.subscribe() as sub:
        app.a.value = 1
        app.a.value = 0
        assert [True, False] == [new_of(record) for record in drain(sub)]


def test_any_watcher_of_bool_is_a_condition(app: App) -> None:
    """A key, or a derived watcher, may stand in the place of a condition, on either side."""
    positive = app.a.map(lambda n: n > 0)
    conditions = [
        app.flag & app.a.is_(1),
        app.a.is_(1) & app.flag,
        positive & app.a.is_(1),
        all_of(app.flag, positive),
        at_least(2, app.flag, positive),
        app.a.is_(1) & positive,
    ]
    either = [app.flag | app.a.is_(1), app.a.is_(1) | app.flag, any_of(app.flag, positive)]
    app.a.value = 1
    assert [False, False, True, False, False, True] == [each.value for each in conditions]
    assert [True] * 3 == [each.value for each in either]
    app.flag.value = True
    assert [True] * 6 == [each.value for each in conditions]
    assert all(isinstance(each, Condition) for each in (*conditions, *either))


def test_what_is_true_counts_as_such(app: App) -> None:
    """A watcher of something else is asked for its truth, and fails if it has none."""
    condition = any_of(app.a.map(lambda n: [n] * n))
    with condition.subscribe() as sub:
        app.a.value = 2
        app.a.value = 3
        app.a.value = 0
        assert [True, False] == [new_of(record) for record in drain(sub)]


@every_listener
def test_a_part_that_fails_has_the_whole_fail(case: Case, loop: StepLoop, listen: Listen) -> None:
    """Without each part there is no count, whatever the others say; it heals with it. P102."""
    case.derived = any_of(case.app.other.is_(0), case.app.n.map(case.function).is_(1))
    with listen(case, loop) as news:
        case.set(-1, 1, -1)
        case.app.other.value = 1
        assert [Failed(1), True, Failed(3)] == news()
        case.set(0)
        assert [False] == news()


def test_of_several_that_fail_one_is_told(case: Case) -> None:
    """As long as one part fails there is no value, and the error is that of one of them. P102."""
    n, other = case.app.n, case.app.other
    parts = [n.map(case.function), other.map(lambda value: 1 // value)]
    watchers = {
        combine(*parts): (1, 1),
        combine(*parts, using=max): 1,
        all_of(*(part.is_(1) for part in parts)): True,
    }
    case.app.other.value = 1
    subs = [watcher.subscribe() for watcher in watchers]
    set_both(case, -1, 0)
    case.set(1)
    case.app.other.value = 1
    for sub, (watcher, expected) in zip(subs, watchers.items(), strict=True):
        first, *others, last = drain(sub)
        assert Failed(2) == first
        assert all(isinstance(other, Failed) for other in others)
        assert expected == last.new == watcher.value
        sub.close()


def test_a_part_that_fails_in_two_places_heals_in_both(case: Case) -> None:
    """Each place of a source that fails has no value until that heals. P102."""
    part = case.app.n.map(case.function)
    watchers: list[Watcher[Any]] = [
        combine(part, part),
        at_least(2, *[part.is_(1)] * 2),
        combine(part, part, using=max),
    ]
    case.set(-1)
    subs = [watcher.subscribe() for watcher in watchers]
    case.set(1, -1, 1)
    assert [
        [(1, 1), Failed(3), (1, 1)],
        [True, Failed(3), True],
        [1, Failed(3), 1],
    ] == [[item if isinstance(item, Failed) else item.new for item in drain(sub)] for sub in subs]
    for sub in subs:
        sub.close()


# -- Condition.wait --------------------------------------------------------------------------------


def test_wait_is_over_when_it_holds(app: App, loop: StepLoop) -> None:
    """It returns nothing, at once or when it comes to hold, however short that was. P017."""
    ready = app.a.is_(1) & ~app.flag.is_(True)
    task = loop.create_task(ready.wait())
    loop.settle()
    assert not task.done()
    with app.transaction() as tx:
        tx[app.a] = 1
        tx[app.flag] = True
    loop.settle()
    assert not task.done()
    app.flag.value = False
    app.a.value = 2
    loop.settle()
    assert task.result() is None
    app.a.value = 1
    task = loop.create_task(ready.wait(timeout=0))
    loop.step()
    assert task.done()


def test_wait_times_out(app: App, loop: StepLoop) -> None:
    """The error names the condition."""
    task = loop.create_task((app.a.is_(1) & app.flag).wait(timeout=5))
    loop.advance(5)
    error = raised(WaitTimeoutError, task.result)
    assert ("a is 1 and flag", False, 5) == (error.key, error.value, error.timeout)
    assert "waited 5 s in vain for all of 2: " in str(error)


def test_wait_ends_with_the_store(app: App, loop: StepLoop) -> None:
    """With the store closed it cannot come to hold. P092."""
    task = loop.create_task(app.a.is_(1).wait())
    loop.settle()
    app.close()
    loop.settle()
    assert "a to be 1" in str(raised(StoreClosedError, task.result))


def test_wait_raises_what_makes_it_fail(app: App, loop: StepLoop) -> None:
    """A part that has no value ends the wait. P102."""
    task = loop.create_task((app.a.matches(lambda n: 1 // (1 - n)) & app.flag).wait())
    loop.settle()
    app.a.value = 1
    loop.settle()
    error = raised(DerivationError, task.result)
    assert isinstance(error.__cause__, ZeroDivisionError)


# -- width -----------------------------------------------------------------------------------------

WIDTH = 1_000


@pytest.fixture
def wide() -> Iterator[list[ValueWatcher[int]]]:
    """Give 1,000 keys of one store."""
    with Store() as store:
        yield [store.add(f"key{i}", 0) for i in range(WIDTH)]
        assert_no_trace(store)


@pytest.mark.parametrize("name", ["polled", "callback"])
def test_a_thousand_watchers_can_be_combined(case: Case, loop: StepLoop, name: str) -> None:
    """Each of them may change the result."""
    keys = [case.app.add(f"key{i}", 0) for i in range(WIDTH)]
    case.derived = combine(*keys, using=lambda *values: sum(values))
    with LISTENERS[name](case, loop) as news:
        for key in keys[::100]:
            key.value = 1
        assert [*range(1, 11)] == news()
        with case.app.transaction() as tx:
            for key in keys:
                tx[key] = 2
        assert [2 * WIDTH] == news()
    assert 2 * WIDTH == case.derived.value


@pytest.mark.parametrize("name", ["polled", "callback"])
def test_a_thousand_conditions_can_be_counted(case: Case, loop: StepLoop, name: str) -> None:
    """The last one that comes to hold decides, and the first that ceases to."""
    keys = [case.app.add(f"key{i}", 0) for i in range(WIDTH)]
    case.derived = all_of(*(key.is_(1) for key in keys))
    with LISTENERS[name](case, loop) as news:
        for key in keys[1:]:
            key.value = 1
        assert [] == news()
        keys[0].value = 1
        keys[500].value = 0
        assert [True, False] == news()


def calls_of(act: Callable[[], object]) -> int:
    """Count the calls that *act* makes, those of built-in functions too."""
    calls = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize("make", [all_of, any_of, lambda *each: at_least(5, *each)])
@pytest.mark.parametrize("listens", ["subscription", "callback"])
def test_a_transition_costs_the_same_at_any_width(
    wide: list[ValueWatcher[int]], make: Callable[..., Condition], listens: str
) -> None:
    """One of 1,000 conditions that changes makes as many steps as one of 10."""
    costs: list[int] = []
    for width in (10, WIDTH):
        condition = make(*(key.is_(1) for key in wide[:width]))
        with ExitStack() as stack:
            if listens == "callback":
                stack.enter_context(condition.on_change(lambda _old, _new: None))
                take: Callable[[], object] = int
            else:
                take = partial(drain, stack.enter_context(condition.subscribe()))
            # The first one after the opening lays out what depends on the key.
            for value in (1, 0, 1):
                cost = calls_of(partial(setattr, wide[0], "value", value)) + calls_of(take)
            costs.append(cost)
        wide[0].value = 0
    assert costs[0] == costs[1] > 0


# -- different stores ------------------------------------------------------------------------------


class Other(Store):
    """Another store."""

    b = Key(False)


PAIRS: dict[str, Callable[[Any, Any], object]] = {
    "combine": combine,
    "combine using": lambda a, b: combine(a, b, using=max),
    "all_of": all_of,
    "any_of": any_of,
    "at_least": lambda a, b: at_least(1, a, b),
    "and": lambda a, b: a.is_(1) & b,
    "or": lambda a, b: a.is_(1) | b.is_(1),
    "reversed and": lambda a, b: b & a.is_(1),
    "reversed or": lambda a, b: b | a.is_(1),
    "nested": lambda a, b: combine(combine(a.map(bool)), ~b.is_(1)),
}

every_pair = pytest.mark.parametrize("derive", PAIRS.values(), ids=PAIRS.keys())


@every_pair
def test_watchers_of_different_stores_have_nothing_in_common(
    app: App, derive: Callable[[Any, Any], object]
) -> None:
    """The error names both, with their stores, and what to do."""
    with pytest.raises(DifferentStoresError) as caught:
        derive(app.flag, Other().b)
    message = str(caught.value)
    for part in ("flag", " of App", "b", " of Other", "put them in one store"):
        assert part in message
    assert isinstance(caught.value, ValueError)


@every_pair
def test_two_watchers_alone_have_nothing_in_common(derive: Callable[[Any, Any], object]) -> None:
    """Each watcher that stands alone has an order of its own."""
    with pytest.raises(DifferentStoresError, match=r"of the watcher '(one|two)' and"):
        derive(ValueWatcher(False, name="one"), ValueWatcher(False, name="two"))


@every_pair
def test_two_stores_of_one_class_are_different(derive: Callable[[Any, Any], object]) -> None:
    """What counts is the store, not what it is called."""
    with pytest.raises(DifferentStoresError):
        derive(Other().b, Other().b)


# -- wrong arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize("derive", [combine, all_of, any_of, lambda: at_least(1)])
def test_there_must_be_something_to_derive_from(derive: Callable[[], object]) -> None:
    """Nothing has no store, and no value."""
    with pytest.raises(TypeError, match="nothing to derive from; give at least one watcher"):
        derive()


@pytest.mark.parametrize("derive", [combine, all_of, any_of, lambda *each: at_least(1, *each)])
@pytest.mark.parametrize("wrong", [None, 1, True, "flag", App.flag, Store, [], lambda: True])
def test_only_watchers_can_be_combined(
    app: App, derive: Callable[..., object], wrong: object
) -> None:
    """A value, a key or a function is no watcher, in whatever place."""
    with pytest.raises(TypeError, match="what is combined is a watcher, not"):
        derive(wrong)
    with pytest.raises(TypeError, match="what is combined is a watcher, not"):
        derive(app.flag, wrong)


@pytest.mark.parametrize("wrong", [None, 1, True, "flag"])
def test_only_watchers_can_be_joined(app: App, wrong: Any) -> None:
    """The same for the operators, from either side."""
    condition = app.flag.is_(True)
    for join in (
        lambda: condition & wrong,
        lambda: condition | wrong,
        lambda: wrong & condition,
        lambda: wrong | condition,
    ):
        with pytest.raises(TypeError, match="a condition is a watcher of bool, not"):
            join()


@pytest.mark.parametrize("wrong", [True, "1", 1.0, None])
def test_a_number_must_be_whole(app: App, wrong: Any) -> None:
    """How many shall hold is an int, and no bool: that would be a forgotten argument."""
    with pytest.raises(TypeError, match="how many shall hold is a whole number, not"):
        at_least(wrong, app.flag)


@pytest.mark.parametrize("wrong", [-1, 0, 3])
def test_a_number_must_be_possible(app: App, wrong: int) -> None:
    """What always or never holds is a mistake."""
    with pytest.raises(ValueError, match=f"at least {wrong} of 2 conditions: choose a number from"):
        at_least(wrong, app.flag, app.a.is_(1))


@pytest.mark.parametrize("wrong", [1, "max", []])
def test_what_combines_must_be_callable(app: App, wrong: Any) -> None:
    """*using* is a function."""
    with pytest.raises(TypeError, match="a function to combine with must be callable, not"):
        combine(app.a, app.b, using=wrong)


def test_what_combines_must_not_be_asynchronous(app: App) -> None:
    """A coroutine is no result. P053."""

    async def function(_a: int, _b: int) -> int:
        return 0

    with pytest.raises(TypeError, match="a function to combine with must be a plain function"):
        combine(app.a, app.b, using=function)


def test_a_function_that_takes_too_few_fails_when_it_is_called(app: App) -> None:
    """Deriving calls nothing; the error comes with the value. P102."""
    error = raised(DerivationError, lambda: combine(app.a, app.b, using=lambda a: a).value)
    assert isinstance(error.__cause__, TypeError)


def test_a_condition_is_neither_true_nor_false(app: App) -> None:
    """`if condition:` and `a and b` raise: they look like they asked for the value."""
    one, other = app.a.is_(1), app.flag.is_(True)
    for use in (lambda: bool(one), lambda: one and other, lambda: one or other, lambda: not one):
        with pytest.raises(TypeError, match="neither true nor false; did you mean its `value`"):
            use()


def test_what_is_derived_is_no_key(app: App) -> None:
    """A store and a transaction know keys: what is derived is not set, and not in a commit."""
    derived: Any = combine(app.a, app.b)
    assert derived not in app
    for use in (lambda: app[derived], lambda: app.subscribe(derived)):
        with pytest.raises(TypeError):
            use()
    with app.transaction() as tx:
        with pytest.raises(TypeError):
            tx[derived]
        with pytest.raises(TypeError):
            tx[derived] = 1


# -- names -----------------------------------------------------------------------------------------


def larger(a: int, b: int) -> int:
    """Give the larger of the two."""
    return max(a, b)


@pytest.mark.parametrize(
    ("derive", "name"),
    [
        (lambda app: combine(app.a, app.b), "combine (a, b)"),
        (lambda app: combine(app.a, app.b, using=larger), "combine, using larger (a, b)"),
        (lambda app: combine(app.a, app.b).map(sum), "combine (a, b).map(sum)"),
        (lambda app: combine(*[app.a] * 9), "combine (a, a, a, … 9 in all)"),
        (lambda app: app.a.is_(1) & app.flag, "a is 1 and flag"),
        (lambda app: app.flag | app.a.is_(1), "flag or a is 1"),
        (lambda app: ~(app.a.is_(1) & app.flag), "not (a is 1 and flag)"),
        (lambda app: all_of(app.flag, app.a.is_(1)), "all of (flag, a is 1)"),
        (lambda app: any_of(app.flag, app.a.is_(1)), "any of (flag, a is 1)"),
        (lambda app: at_least(2, *[app.flag] * 3), "at least 2 of (flag, flag, flag)"),
    ],
)
def test_a_name_tells_what_it_is_derived_from(
    app: App, derive: Callable[[App], Watcher[Any]], name: str
) -> None:
    """It is made of the names of the sources, and shown by the repr."""
    derived = derive(app)
    assert name == derived.name
    kind = "Condition" if isinstance(derived, Condition) else "Derived"
    assert f"<{kind} {name}>" == repr(derived)


def test_a_name_stays_short_however_wide_and_deep(app: App) -> None:
    """Of many sources some are named, and of a long name its end."""
    condition = app.flag.is_(True)
    for _ in range(200):
        condition = all_of(*[condition & condition] * 10) | ~condition
    assert len(condition.name) < 300
    assert len(combine(*[condition] * 500).name) < 300


def test_errors_and_records_bear_the_name(app: App) -> None:
    """Whatever tells of a derived watcher calls it by its name."""
    combined = combine(app.a, app.b)
    with combined.subscribe() as sub:
        app.a.value = 1
        assert combined.name == sub.get_nowait().key
        assert combined.name in repr(sub)
    error = raised(WaitTimeoutError, lambda: combined.blocking.wait_for(None, timeout=0))
    assert combined.name == error.key


# -- what is kept ----------------------------------------------------------------------------------


def test_a_source_that_nobody_needs_is_let_go(app: App) -> None:
    """With the listener to a part of what others share, only what he alone needed goes."""
    both, alone = combine(app.a, app.b), app.a.map(lambda n: n)
    with alone.subscribe() as sub:
        with both.subscribe(), both.on_change(lambda _old, _new: None):
            app.b.value = 1
        assert {} == app._core.listen(app.b).ports == app._core.listen(app.b).groups
        app.a.value = 1
        assert [1] == [new_of(record) for record in drain(sub)]


@pytest.mark.parametrize("name", LISTENERS)
def test_listeners_of_overlapping_watchers_come_and_go(
    case: Case, loop: StepLoop, name: str
) -> None:
    """Whoever is there is told of all, whatever others begin or end to listen to meanwhile."""
    chance = random.Random(name)
    n, other = case.app.n, case.app.other
    base = n.map(lambda n: n + 1)
    watchers = {
        base: lambda: n.value + 1,
        base.map(lambda n: 2 * n): lambda: 2 * (n.value + 1),
        base.map(lambda n: 2 * n).map(str): lambda: str(2 * (n.value + 1)),
        combine(base, other): lambda: (n.value + 1, other.value),
        combine(base, base.map(lambda n: -n), other): lambda: (
            n.value + 1,
            -n.value - 1,
            other.value,
        ),
        other.map(lambda value: value): lambda: other.value,
    }
    open_listeners: list[tuple[ExitStack, Callable[[], list[Any]], Callable[[], Any], list[Any]]]
    open_listeners = []
    for _ in range(60):
        if len(open_listeners) < 5 or chance.random() < 0.3:
            case.derived, compute = chance.choice(list(watchers.items()))
            stack = ExitStack()
            news = stack.enter_context(LISTENERS[name](case, loop))
            open_listeners.append((stack, news, compute, [compute()]))
        elif chance.random() < 0.5:
            stack, news, _, expected = open_listeners.pop(chance.randrange(len(open_listeners)))
            assert expected[1:] == news()
            stack.close()
        for _ in range(chance.randrange(3)):
            key = chance.choice([n, other])
            key.value += chance.choice([1, 1, 2])
            for _, _, compute, expected in open_listeners:
                if (value := compute()) != expected[-1]:
                    expected.append(value)
    for stack, news, _, expected in open_listeners:
        assert expected[1:] == news()
        stack.close()
