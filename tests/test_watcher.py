"""Value watchers: reading, setting, what counts as a change, and life without a store."""

from __future__ import annotations

import decimal
import enum
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from statestore import (
    CallbackFailure,
    ConflictError,
    Key,
    MutableValueError,
    Ref,
    StateStoreError,
    Store,
    StoreClosedError,
    Transition,
    ValueWatcher,
    Watcher,
)


class App(Store):
    """A store of the kind that programs declare."""

    n = Key(0)
    other = Key(0)
    anything = Key[Any](None)


@attrs.frozen
class Point:
    """A frozen value that compares by its fields."""

    x: float
    y: float = 0


@attrs.frozen(eq=False)
class Odd:
    """A value whose `==` gives whatever *answer* makes of the two."""

    answer: Ref[Callable[[Odd, object], Any]] = attrs.field(converter=Ref)
    label: str = ""

    def __eq__(self, other: object) -> Any:
        return self.answer.target(self, other)

    def __hash__(self) -> int:
        return 0


class Huge:
    """A value with a gigantic repr."""

    def __repr__(self) -> str:
        return "x" * 10_000


class Broken:
    """A value with a broken repr."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


@pytest.fixture(params=["store", "alone"])
def watcher(request: pytest.FixtureRequest) -> Iterator[ValueWatcher[Any]]:
    """Give a watcher of 0, in a store and alone."""
    if request.param == "store":
        with App() as app:
            yield app.add("value", 0)
    else:
        alone = ValueWatcher[Any](0)
        yield alone
        alone.close()


def news(watcher: Watcher[Any], change: Callable[[], object]) -> list[tuple[Any, Any]]:
    """Call *change*, and give the transitions that it makes of *watcher*."""
    with watcher.subscribe() as sub:
        change()
        taken = [sub.get_nowait() for _ in range(sub.pending)]
    return [(transition.old, transition.new) for transition in taken]


class TestValue:
    """Reading and assigning `value`."""

    def test_can_be_read_and_set(self, watcher: ValueWatcher[Any]) -> None:
        """What was assigned is what is read, at once."""
        watcher.value = 1

        assert 1 == watcher.value

    def test_takes_augmented_assignment(self, watcher: ValueWatcher[Any]) -> None:
        """`w.value += 1` reads and sets."""
        watcher.value += 2
        watcher.value -= 1

        assert 1 == watcher.value

    def test_makes_one_transition_for_each_set(self, watcher: ValueWatcher[Any]) -> None:
        """Each set to another value is one transition, one revision above the last."""
        before = watcher.revision

        def change() -> None:
            watcher.value = 1
            watcher.value = 2

        assert [(0, 1), (1, 2)] == news(watcher, change)
        assert before + 2 == watcher.revision

    def test_cannot_be_deleted(self, watcher: ValueWatcher[Any]) -> None:
        """A watcher always has a value."""
        with pytest.raises(AttributeError):
            del watcher.value

        assert 0 == watcher.value


class TestSet:
    """`set()`, which tells what it did."""

    def test_gives_the_transition(self) -> None:
        """`set` returns the transition that it made."""
        app = App()
        app.other.value = 1

        assert Transition(key="n", old=0, new=5, revision=2) == app.n.set(5)

    def test_gives_none_when_nothing_changed(self, watcher: ValueWatcher[Any]) -> None:
        """`set` to an equal value returns None."""
        assert watcher.set(0) is None
        assert [] == news(watcher, lambda: watcher.set(0))

    def test_gives_its_own_transition_when_a_callback_sets_on(self) -> None:
        """`set` returns what it made itself, also if a callback has set the next value by then."""
        app = App()
        app.n.on_change(lambda _old, new: app.n.set(min(new + 1, 3)))

        made = app.n.set(1)

        assert Transition(key="n", old=0, new=1, revision=1) == made
        assert 3 == app.n.value


class TestSetIf:
    """`set_if()` and `compare_and_set()`."""

    def test_sets_when_the_condition_holds(self, watcher: ValueWatcher[Any]) -> None:
        """The condition is called with the current value; if it holds, the value is set."""
        seen: list[int] = []

        assert watcher.set_if(1, lambda value: seen.append(value) is None) is True
        assert ([0], 1) == (seen, watcher.value)

    def test_does_nothing_when_it_does_not(self, watcher: ValueWatcher[Any]) -> None:
        """If the condition does not hold, nothing is set."""
        assert watcher.set_if(1, lambda value: value == 7) is False
        assert 0 == watcher.value

    def test_says_that_the_condition_held(self, watcher: ValueWatcher[Any]) -> None:
        """P090: setting an equal value makes no transition, and is true all the same."""
        results: list[bool] = []

        assert [] == news(watcher, lambda: results.append(watcher.set_if(0, lambda _: True)))
        assert [] == news(watcher, lambda: results.append(watcher.compare_and_set(0, 0)))
        assert [True, True] == results

    def test_takes_whatever_is_true(self, watcher: ValueWatcher[Any]) -> None:
        """The answer of a condition is taken as true or false; the result is a bool."""
        assert watcher.set_if(1, lambda _: [0]) is True
        assert watcher.set_if(2, lambda _: None) is False
        assert 1 == watcher.value

    def test_passes_an_error_of_the_condition_on(self, watcher: ValueWatcher[Any]) -> None:
        """What the condition raises comes out, and nothing is set."""
        with pytest.raises(ZeroDivisionError):
            watcher.set_if(1, lambda _: 1 / 0)

        assert 0 == watcher.value

    def test_refuses_an_asynchronous_condition(self, watcher: ValueWatcher[Any]) -> None:
        """A coroutine function, whose result would always be true, is refused."""

        async def condition(_value: int) -> bool:
            return False

        with pytest.raises(TypeError, match="a condition must be a plain function"):
            watcher.set_if(1, condition)
        with pytest.raises(TypeError, match="a condition must be callable"):
            watcher.set_if(1, 5)

        assert 0 == watcher.value

    def test_looks_again_when_somebody_came_between(self, watcher: ValueWatcher[Any]) -> None:
        """P090: a condition that held for a value that is gone is asked again for the new one."""
        seen: list[int] = []

        def condition(value: int) -> bool:
            seen.append(value)
            if len(seen) == 1:
                watcher.value = 5
            return value == 0

        assert watcher.set_if(1, condition) is False
        assert ([0, 5], 5) == (seen, watcher.value)

    def test_compares_with_what_is_expected(self, watcher: ValueWatcher[Any]) -> None:
        """`compare_and_set` sets if the value is, or equals, the expected one, and tells."""
        assert watcher.compare_and_set(1, 2) is False
        assert watcher.compare_and_set(False, 2) is True
        assert watcher.compare_and_set(0, 3) is False
        assert 2 == watcher.value

    def test_compares_by_identity_too(self, watcher: ValueWatcher[Any]) -> None:
        """`compare_and_set` takes the very object, also if it is not equal to itself."""
        watcher.value = math.nan

        assert watcher.compare_and_set(float("nan"), 1) is False
        assert watcher.compare_and_set(math.nan, 1) is True

    def test_is_won_by_one_of_many(self, watcher: ValueWatcher[Any]) -> None:
        """P090: of threads that expect the same value, one sets it."""
        barrier = threading.Barrier(4)
        won: list[int] = []

        def work(number: int) -> None:
            barrier.wait()
            if watcher.compare_and_set(0, number):
                won.append(number)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [watcher.value] == won


class TestUpdate:
    """`update()`, the atomic read-modify-write."""

    def test_sets_what_the_function_makes_of_the_value(self) -> None:
        """`update` calls the function with the value, sets the result, gives the transition."""
        app = App()

        assert Transition(key="n", old=0, new=1, revision=1) == app.n.update(lambda n: n + 1)

    def test_gives_none_when_nothing_changed(self, watcher: ValueWatcher[Any]) -> None:
        """`update` to an equal value returns None and makes no transition."""
        assert watcher.update(lambda n: n) is None
        assert [] == news(watcher, lambda: watcher.update(lambda n: n + 0))

    def test_passes_an_error_on(self, watcher: ValueWatcher[Any]) -> None:
        """What the function raises comes out, and nothing is set."""
        with pytest.raises(ZeroDivisionError):
            watcher.update(lambda n: 1 // n)

        assert 0 == watcher.value

    def test_refuses_an_asynchronous_function(self, watcher: ValueWatcher[Any]) -> None:
        """A coroutine function is refused, not stored as a coroutine."""

        async def function(value: int) -> int:
            return value

        with pytest.raises(TypeError, match="an update function must be a plain function"):
            watcher.update(function)

        assert 0 == watcher.value

    def test_runs_again_when_somebody_came_between(self, watcher: ValueWatcher[Any]) -> None:
        """P107: a set made inside the function counts, and the function sees its value next."""
        seen: list[int] = []

        def function(value: int) -> int:
            seen.append(value)
            if len(seen) == 1:
                watcher.value = 10
            return value + 1

        def change() -> None:
            watcher.update(function)

        assert [(0, 10), (10, 11)] == news(watcher, change)
        assert [0, 10] == seen

    def test_is_not_disturbed_by_other_keys(self) -> None:
        """A commit of another key makes the function run once only."""
        app = App()
        seen: list[int] = []

        def function(value: int) -> int:
            seen.append(value)
            app.other.value += 1
            return value + 1

        app.n.update(function)

        assert ([0], 1, 1) == (seen, app.n.value, app.other.value)

    def test_can_be_nested(self, watcher: ValueWatcher[Any]) -> None:
        """P106: every operation may be used inside the function of another: each one is exact."""
        results: list[object] = []

        def outer(value: int) -> int:
            if not results:
                results.append(watcher.compare_and_set(0, 5))
                results.append(watcher.value)
                results.append(watcher.set_if(6, lambda v: v == 5))
                results.append(watcher.value)
            return value * 10 + 1

        watcher.update(outer)

        assert [True, 5, True, 6] == results
        assert 61 == watcher.value

    def test_loses_no_increment_between_threads(self, watcher: ValueWatcher[Any]) -> None:
        """P090: increments by several threads all count."""

        def work() -> None:
            for _ in range(500):
                watcher.update(lambda n: n + 1)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert 1500 == watcher.value


class Color(enum.IntEnum):
    """An enum whose members equal numbers."""

    RED = 1


class Mood(enum.StrEnum):
    """An enum whose members equal strings."""

    CLOSING = "closing"


SAME: list[tuple[Any, Any]] = [
    (1, 1),
    ("closing", str(b"closing", "ascii")),
    (10**30, 10**30 + 0),
    ((1, 2), (1, 2)),
    (Point(1), Point(1)),
    (Mood.CLOSING, Mood("closing")),
]
DIFFERENT: list[tuple[Any, Any]] = [
    (1, True),
    (True, 1),
    (1, 1.0),
    (0, False),
    (1, Color.RED),
    (Color.RED, 1),
    ("closing", Mood.CLOSING),
    (Mood.CLOSING, "closing"),
    (decimal.Decimal(1), 1),
    ((), frozenset()),
    (None, False),
    (Point(1), Point(2)),
]


class TestSameness:
    """P11: equal means unchanged."""

    @pytest.mark.parametrize(("old", "new"), SAME)
    def test_an_equal_value_of_the_same_type_is_no_change(
        self, watcher: ValueWatcher[Any], old: object, new: object
    ) -> None:
        """P070: an equal value makes no transition, and the old object stays the value."""
        watcher.value = old
        revision = watcher.revision

        watcher.value = new
        assert watcher.set(new) is None
        assert watcher.update(lambda _: new) is None
        assert watcher.set_if(new, lambda _: True) is True

        assert old is watcher.value
        assert revision == watcher.revision

    @pytest.mark.parametrize(("old", "new"), DIFFERENT)
    def test_another_type_is_a_change(
        self, watcher: ValueWatcher[Any], old: object, new: object
    ) -> None:
        """P063: a value of another type is a transition, also if the two are equal."""
        for change in (
            lambda: setattr(watcher, "value", new),
            lambda: watcher.set(new),
            lambda: watcher.update(lambda _: new),
            lambda: watcher.set_if(new, lambda _: True),
        ):
            watcher.value = old
            assert [(old, new)] == news(watcher, change)
            assert type(new) is type(watcher.value)

    @pytest.mark.parametrize(
        ("value", "target"),
        [
            (1, True),
            (True, 1.0),
            (Color.RED, 1),
            (Mood.CLOSING, "closing"),
            (1, decimal.Decimal(1)),
        ],
    )
    async def test_waiting_and_comparing_use_plain_equality(
        self, watcher: ValueWatcher[Any], value: object, target: object
    ) -> None:
        """P063: `wait_for` and `compare_and_set` match whatever `==` does, across types."""
        watcher.value = value

        assert value is await watcher.wait_for(target, timeout=0)
        assert watcher.compare_and_set(target, None) is True

    @pytest.mark.parametrize(("old", "new"), [((1,), (True,)), (Point(1), Point(True))])
    def test_types_inside_are_not_compared(
        self, watcher: ValueWatcher[Any], old: object, new: object
    ) -> None:
        """P064: only the outer type counts; equal values with other types inside are the same."""
        watcher.value = old

        assert [] == news(watcher, lambda: watcher.set(new))
        assert old is watcher.value

    def test_the_zeros_are_the_same(self, watcher: ValueWatcher[Any]) -> None:
        """P065: `0.0` and `-0.0` are equal, so the one that was there is kept."""
        watcher.value = 0.0

        assert watcher.set(-0.0) is None
        assert 1.0 == math.copysign(1, watcher.value)

    def test_the_same_nan_is_no_change_and_another_one_is(self, watcher: ValueWatcher[Any]) -> None:
        """P066: a NaN is the same as itself only."""
        nan = float("nan")
        watcher.value = nan

        assert [] == news(watcher, lambda: watcher.set(nan))
        assert 1 == len(news(watcher, lambda: watcher.set(float("nan"))))

    async def test_a_nan_is_waited_for_by_identity(self, watcher: ValueWatcher[Any]) -> None:
        """P066: `wait_for(nan)` matches that very NaN."""
        nan = float("nan")
        watcher.value = nan

        assert nan is await watcher.wait_for(nan, timeout=0)
        with pytest.raises(TimeoutError):
            await watcher.wait_for(float("nan"), timeout=0)

    def test_an_equality_that_raises_changes_nothing(self, watcher: ValueWatcher[Any]) -> None:
        """P067: what `==` raises comes out of the set, and nothing is committed."""
        old, new = Odd(lambda *_: 1 / 0), Odd(lambda *_: 1 / 0)
        watcher.value = old
        revision = watcher.revision

        for change in (
            lambda: setattr(watcher, "value", new),
            lambda: watcher.set(new),
            lambda: watcher.update(lambda _: new),
            lambda: watcher.set_if(new, lambda _: True),
        ):
            with pytest.raises(ZeroDivisionError):
                change()

        assert (revision, True) == (watcher.revision, old is watcher.value)

    @pytest.mark.parametrize("answer", [NotImplemented, 1, "yes", [True], None, 0, Broken()])
    def test_only_true_itself_counts_as_equal(
        self, watcher: ValueWatcher[Any], answer: object
    ) -> None:
        """P068: an `==` that gives anything but True says that the value is another one."""
        watcher.value = Odd(lambda *_: answer, "old")

        assert 1 == len(news(watcher, lambda: watcher.set(Odd(lambda *_: answer, "new"))))
        assert "new" == watcher.value.label

    def test_an_equality_may_use_the_store(self, watcher: ValueWatcher[Any]) -> None:
        """P069: an `==` that sets is run again for what it finds then; both sets are exact."""
        calls: list[str] = []

        def answer(one: Odd, _other: object) -> bool:
            calls.append(one.label)
            if len(calls) == 1:
                watcher.value = between
            return False

        old, between, new = (Odd(answer, label) for label in ("old", "between", "new"))
        watcher.value = old

        changes = news(watcher, lambda: setattr(watcher, "value", new))

        assert [("old", "between"), ("between", "new")] == [(o.label, n.label) for o, n in changes]
        assert new is watcher.value

    def test_an_update_compares_with_what_it_replaces(self, watcher: ValueWatcher[Any]) -> None:
        """P069: an update whose `==` sets starts over with the value that came between."""
        calls: list[str] = []
        seen: list[str] = []

        def answer(one: Odd, _other: object) -> bool:
            calls.append(one.label)
            if len(calls) == 1:
                watcher.value = between
            return False

        def function(value: Odd) -> Odd:
            seen.append(value.label)
            return Odd(answer, value.label + "!")

        old, between = Odd(answer, "old"), Odd(answer, "between")
        watcher.value = old

        changes = news(watcher, lambda: watcher.update(function))

        assert ["old", "between"] == seen
        assert [("old", "between"), ("between", "between!")] == [
            (o.label, n.label) for o, n in changes
        ]

    def test_an_equality_may_wait_for_another_thread(self, watcher: ValueWatcher[Any]) -> None:
        """P069: while an `==` runs, other threads get through with reads and sets."""
        reads: list[object] = []

        def answer(_one: object, _other: object) -> bool:
            if not reads:
                thread = threading.Thread(target=use)
                thread.start()
                thread.join()
            return False

        def use() -> None:
            reads.append(watcher.value)
            watcher.value = 7

        old, new = Odd(answer, "old"), Odd(answer, "new")
        watcher.value = old

        changes = news(watcher, lambda: watcher.set(new))

        assert [old] == reads
        assert [(old, 7), (7, new)] == [(o, n) for o, n in changes]

    async def test_waiting_for_another_value_uses_inequality(
        self, watcher: ValueWatcher[Any]
    ) -> None:
        """P071: `wait_for_not` matches by `!=`, and `wait_for_not_none` by identity."""

        class Unequal:
            def __ne__(self, other: object) -> bool:
                return True

            def __eq__(self, other: object) -> bool:
                return True

            __hash__ = None

        class LikeNone:
            def __eq__(self, other: object) -> bool:
                return other is None

            __hash__ = None

        alone = ValueWatcher[Any](Unequal())
        assert alone.value is await alone.wait_for_not(0, timeout=0)
        alone.value = LikeNone()
        assert alone.value is await alone.wait_for_not_none(timeout=0)

        watcher.value = 1
        with pytest.raises(TimeoutError):
            await watcher.wait_for_not(True, timeout=0)
        watcher.value = None
        with pytest.raises(TimeoutError):
            await watcher.wait_for_not_none(timeout=0)


class TestImmutability:
    """P10: a store keeps immutable values, a watcher alone whatever it is given."""

    def test_a_store_refuses_a_mutable_value_by_any_way(self) -> None:
        """Each way to set raises with the path to the mutable part, and commits nothing."""
        app = App()
        bad = Point((1, [2]))

        for change in (
            lambda: setattr(app.anything, "value", bad),
            lambda: app.anything.set(bad),
            lambda: app.anything.set_if(bad, lambda _: True),
            lambda: app.anything.compare_and_set(None, bad),
            lambda: app.anything.update(lambda _: bad),
        ):
            with pytest.raises(MutableValueError, match=r"anything\.x\[1\]: list"):
                change()

        assert (None, 0) == (app.anything.value, app.revision)

    def test_each_value_is_looked_into(self) -> None:
        """That its class is known by now says nothing of what it holds."""
        app = App()
        app.anything.value = Point((1, 2))
        with pytest.raises(MutableValueError, match=r"anything\.x\[1\]: list"):
            app.anything.value = Point((1, [2]))

        assert Point((1, 2)) == app.anything.value

    def test_alone_any_object_is_accepted(self) -> None:
        """A watcher that stands alone takes mutable values, as long as it is not told otherwise."""
        items = [1]
        watcher = ValueWatcher[Any](items)

        assert items is watcher.value
        watcher.value = {"a": 1}
        watcher.value = [2]
        assert [2] == watcher.value

    def test_alone_a_value_changed_in_place_makes_no_transition(self) -> None:
        """Setting the same list again is no change, whatever is in it by now."""
        items = [1]
        watcher = ValueWatcher(items)
        items.append(2)

        assert watcher.set(items) is None

    def test_alone_it_can_be_as_strict_as_a_store(self) -> None:
        """`immutable=True` refuses mutable values, the first one included, by the given name."""
        with pytest.raises(MutableValueError, match=r"ports\[0\]: list"):
            ValueWatcher(([1],), immutable=True, name="ports")

        watcher = ValueWatcher[Any]((1,), immutable=True, name="ports")
        with pytest.raises(MutableValueError, match=r"ports: list"):
            watcher.value = [1]
        with pytest.raises(MutableValueError, match=r"ports: list"):
            watcher.update(lambda _: [1])
        watcher.value = (2,)

        assert (2,) == watcher.value


class TestAlone:
    """A watcher without a store."""

    def test_has_a_name_for_its_records(self) -> None:
        """`name` is `"value"` by default, and the key of its transitions."""
        named = ValueWatcher(0, name="conn")

        assert ("value", "conn") == (ValueWatcher(0).name, named.name)
        assert Transition(key="conn", old=0, new=1, revision=1) == named.set(1)

    def test_counts_its_own_revisions(self) -> None:
        """Each one has its own order, which begins at 0."""
        one, other = ValueWatcher(0), ValueWatcher(0)

        one.value = 1
        one.value = 2

        assert (2, 0) == (one.revision, other.revision)

    def test_closes(self) -> None:
        """`close` ends it as a store is ended: it can be read, not set; a second one is nothing."""
        watcher = ValueWatcher(0, name="conn")
        watcher.value = 1
        watcher.close()
        watcher.close()

        assert (1, 1) == (watcher.value, watcher.revision)
        with pytest.raises(StoreClosedError, match="the watcher 'conn' is closed"):
            watcher.value = 2
        with pytest.raises(StoreClosedError):
            watcher.update(lambda n: n + 1)
        assert 1 == watcher.value

    def test_closes_not_in_a_store(self) -> None:
        """A watcher that is a key of a store is not closed by itself, also if it was added."""
        app = App()
        added = app.add("port", 1)

        for watcher in (app.n, added):
            with pytest.raises(StateStoreError, match="is a key of App; close the store"):
                watcher.close()
            watcher.value += 1

        assert (1, 2) == (app.n.value, added.value)

    def test_has_a_first_callback(self) -> None:
        """`on_change=` is told of every transition, not of the initial value."""
        seen: list[tuple[int, int]] = []
        watcher = ValueWatcher(0, on_change=lambda old, new: seen.append((old, new)))

        watcher.value = 1
        watcher.value = 2

        assert [(0, 1), (1, 2)] == seen

    def test_refuses_an_asynchronous_first_callback(self) -> None:
        """P053: a coroutine function is refused as a callback."""

        async def callback(_old: int, _new: int) -> None: ...

        with pytest.raises(TypeError, match="a callback must be a plain function"):
            ValueWatcher(0, on_change=callback)

    def test_reports_to_its_on_error(self) -> None:
        """`on_error=` is given the failures of callbacks."""
        failures: list[CallbackFailure] = []
        watcher = ValueWatcher(
            0, on_change=lambda _old, _new: 1 / 0, on_error=failures.append, name="conn"
        )

        watcher.value = 1

        assert [("conn", 1)] == [(failure.key, failure.revision) for failure in failures]
        assert isinstance(failures[0].error, ZeroDivisionError)

    def test_takes_its_options_by_name_only(self) -> None:
        """Only the initial value may be positional."""
        with pytest.raises(TypeError):
            ValueWatcher(0, print)

    def test_can_be_parametrized(self) -> None:
        """`ValueWatcher[T](...)` makes the same as `ValueWatcher(...)`."""
        watcher = ValueWatcher[int | None](None)

        assert type(watcher) is ValueWatcher
        assert watcher.value is None

    def test_is_no_part_of_a_transaction(self) -> None:
        """A watcher that stands alone belongs to no store's transaction."""
        app = App()

        with app.transaction() as tx, pytest.raises(StateStoreError):
            tx[ValueWatcher(0)] = 1


class TestTraps:
    """What is refused, so that a slip is seen."""

    def test_a_watcher_is_neither_true_nor_false(self, watcher: ValueWatcher[Any]) -> None:
        """`if watcher:` raises, and asks whether its value was meant."""
        with pytest.raises(TypeError, match="neither true nor false; did you mean its `value`"):
            bool(watcher)

    def test_a_misspelt_attribute_cannot_be_set(self, watcher: ValueWatcher[Any]) -> None:
        """`w.vlaue = 1` raises, and changes nothing."""
        with pytest.raises(AttributeError, match="vlaue"):
            watcher.vlaue = 1

        assert 0 == watcher.value

    @pytest.mark.parametrize("name", ["name", "revision", "blocking"])
    def test_what_is_only_to_be_read_cannot_be_set(
        self, watcher: ValueWatcher[Any], name: str
    ) -> None:
        """Name, revision and blocking side are read-only."""
        with pytest.raises(AttributeError):
            setattr(watcher, name, 1)

    def test_watchers_compare_by_identity(self) -> None:
        """Two watchers of equal values are not equal: their values were meant."""
        assert ValueWatcher(0) != ValueWatcher(0)
        assert ValueWatcher(0) != 0

    def test_the_repr_shows_name_value_and_revision(self) -> None:
        """The repr tells what one wants to know at a glance."""
        app = App()
        app.n.value = 5

        assert "<ValueWatcher 'n': 5 at revision 1>" == repr(app.n)

    @pytest.mark.parametrize("value", [Broken(), Huge(), (Huge(),) * 50, "x" * 10_000])
    def test_the_repr_survives_its_value(self, value: object) -> None:
        """P083: a value with a broken or a gigantic repr makes a short repr of the watcher."""
        text = repr(ValueWatcher(value))

        assert text.startswith("<ValueWatcher 'value': ")
        assert len(text) < 300

    async def test_an_error_survives_its_value(self) -> None:
        """P083: so do errors that show the value."""
        for value in (Broken(), Huge()):
            with pytest.raises(TimeoutError) as caught:
                await ValueWatcher[Any](value).wait_for(Broken(), timeout=0)
            assert len(str(caught.value)) < 600


def test_a_revision_is_of_the_last_transition() -> None:
    """`revision` of a watcher is that of its last transition; 0 if there was none."""
    app = App()

    app.other.value = 1
    app.n.value = 1
    app.other.value = 2
    app.n.value = 1

    assert (2, 3) == (app.n.revision, app.other.revision)


def test_a_set_in_a_transaction_block_is_outside_of_it() -> None:
    """A plain set commits at once, also while a transaction of the same thread is under way."""
    app = App()

    with pytest.raises(ConflictError), app.transaction() as tx:
        assert 0 == tx[App.n]
        assert 1 == app.n.set(1).revision
        tx[App.other] = 5

    assert (1, 0) == (app.n.value, app.other.value)


def test_a_hint_that_lags_behind_gives_the_newest_value() -> None:
    """A thread that was stopped in a commit may write an old hint later: reads look behind it."""
    watcher = ValueWatcher(0)
    first = watcher._cell
    watcher.value = 1
    watcher.value = 2
    watcher._cell = first

    assert 2 == watcher.value
    watcher.value = 3
    assert (3, 3) == (watcher.value, watcher.revision)
