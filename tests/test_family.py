"""Families: keys that come and go, and what is derived of all that are there."""

from __future__ import annotations

import asyncio
import enum
import gc
import math
import sys
import threading
import tracemalloc
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import attrs
import immutables
import pytest

from statestore import (
    ABSENT,
    Commit,
    Condition,
    DerivationError,
    DuplicateKeyError,
    MutableValueError,
    Ref,
    StoreClosedError,
    Transition,
    UnknownKeyError,
    ValueWatcher,
    Watcher,
)
from statestore._core import Core
from statestore._family import MANY
from statestore.testing import BoomError, Hostile, assert_no_trace, boom, in_thread
from support.families import ASKED, Asked, Pool, fill
from support.streams import drain


@attrs.frozen
class Point:
    """A frozen value that compares by its fields."""

    x: object = 0
    y: object = 0


@attrs.frozen(hash=False)
class Unhashable:
    """A frozen value without a hash."""

    x: int = 0


class Color(enum.Enum):
    """Two enum members."""

    RED = 1
    BLUE = 2


class Word(enum.StrEnum):
    """An enum member that equals a string."""

    A = "a"


class Pair(NamedTuple):
    """A named tuple, which equals a plain one."""

    x: object = 0
    y: object = 0


class Name(str):
    """A string by another name."""

    __slots__ = ()


@pytest.fixture
def pool() -> Pool:
    """Give a new store."""
    return Pool()


def positive(value: int) -> bool:
    """Tell whether *value* is above zero."""
    return value > 0


def in_threads(count: int, act: Callable[[int], object]) -> list[object]:
    """Call *act* in so many threads at once; give what each returned, or the error it raised."""
    barrier = threading.Barrier(count)
    outcomes: list[object] = []

    def work(number: int) -> None:
        barrier.wait()
        try:
            outcomes.append(act(number))
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def overtake(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have *act* come right before the next commit."""
    publish = Core.publish

    def lose_once(core: Core, head: Any, changes: Any) -> Any:
        monkeypatch.setattr(Core, "publish", publish)
        act()
        return publish(core, head, changes)

    monkeypatch.setattr(Core, "publish", lose_once)


class TestAdd:
    """`add()`, with which a member comes."""

    def test_gives_the_watcher_of_the_new_member(self, pool: Pool) -> None:
        """`add` returns a value watcher, the same one that the family then gives for the key."""
        worker = pool.workers.add("w1", 5)

        assert isinstance(worker, ValueWatcher)
        assert ("workers['w1']", 5, 1) == (worker.name, worker.value, worker.revision)
        assert worker is pool.workers["w1"]
        assert worker is pool.workers.get("w1")

    def test_begins_with_the_default(self, pool: Pool) -> None:
        """Without a value the member has the default of the family; a value goes before it."""
        assert 0 == pool.workers.add("w1").value
        assert 7 == pool.workers.add("w2", 7).value

    def test_accepts_none_as_the_value(self, pool: Pool) -> None:
        """A member may begin with None, which is not ABSENT."""
        assert pool.things.add("w1", None).value is None

    @pytest.mark.parametrize("value", [(), (ABSENT,)])
    def test_needs_a_value_where_there_is_no_default(self, pool: Pool, value: Any) -> None:
        """Neither a value nor a default is an error that says so, and nothing is added."""
        with pytest.raises(TypeError, match=r"things\['w1'\] needs a value: give one, or the fam"):
            pool.things.add("w1", *value)

        assert (0, 0) == (len(pool.things), pool.revision)

    def test_refuses_a_key_that_is_there(self, pool: Pool) -> None:
        """A second member of one key is refused, and the first one stays as it is."""
        worker = pool.workers.add("w1", 1)

        with pytest.raises(DuplicateKeyError, match=r"workers\['w1'\] is there already; set its"):
            pool.workers.add("w1", 2)

        assert (worker, 1, 1) == (pool.workers["w1"], worker.value, pool.revision)

    def test_refuses_a_mutable_value(self, pool: Pool) -> None:
        """A value that can be changed in place is refused by name, and nothing is added."""
        with pytest.raises(MutableValueError, match=r"things\['w1'\]\[1\]: list") as caught:
            pool.things.add("w1", (1, [2]))

        assert "things['w1'][1]" == caught.value.path
        assert (0, 0) == (len(pool.things), pool.revision)

    def test_is_a_commit_from_absent(self, pool: Pool) -> None:
        """Adding a member is a commit of its own with ABSENT as the old value."""
        with pool.subscribe() as sub:
            pool.workers.add("w1", 5)
            transition = Transition(key="workers['w1']", old=ABSENT, new=5, revision=1)
            assert [Commit(revision=1, transitions=(transition,))] == drain(sub)

    def test_refuses_on_a_closed_store(self, pool: Pool) -> None:
        """Nothing is added to a store that is closed."""
        pool.close()

        with pytest.raises(StoreClosedError, match="Pool is closed"):
            pool.workers.add("w1")

        assert "w1" not in pool.workers

    def test_touches_no_other_family_and_no_other_instance(self, pool: Pool) -> None:
        """A member is of one family in one store."""
        other = Pool()

        pool.workers.add("w1")

        assert (1, 0, 0) == (len(pool.workers), len(pool.things), len(other.workers))

    def test_is_won_by_one_of_many_threads(self, pool: Pool) -> None:
        """P090: of threads that add the same key at once, one succeeds, the others are refused."""
        outcomes = in_threads(4, lambda number: pool.workers.add("w1", number))

        won = [outcome for outcome in outcomes if isinstance(outcome, ValueWatcher)]
        lost = [outcome for outcome in outcomes if isinstance(outcome, DuplicateKeyError)]
        assert ([pool.workers["w1"]], 3, 1) == (won, len(lost), pool.revision)

    def test_tries_again_when_another_commit_is_first(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A member that is added while somebody adds another comes right behind that, beside it."""
        overtake(monkeypatch, lambda: pool.workers.add("w2"))

        assert 2 == pool.workers.add("w1").revision
        assert {"w1", "w2"} == set(pool.workers)

    def test_may_be_made_by_a_callback(self, pool: Pool) -> None:
        """A callback may add a member; callbacks are told of that after the round."""
        seen: list[object] = []
        pool.n.on_change(lambda _old, new: seen.append(pool.workers.add(str(new)).value))
        pool.workers.count().on_change(lambda old, new: seen.append((old, new)))

        pool.n.value = 1

        assert [0, (0, 1)] == seen

    def test_shortens_a_long_key_in_the_name(self, pool: Pool) -> None:
        """The name of a member stays readable, whatever its key is."""
        long = pool.things.add("x" * 1_000, 0)

        assert len(long.name) < 80
        assert long is pool.things["x" * 1_000]


class TestKeys:
    """What can be the key of a member."""

    @pytest.mark.parametrize(
        "key",
        [
            *("w", "", 1, True, 1.0, None, b"w", int, math.nan),
            *((), (1, ("a", None)), frozenset({1}), Pair(), Point(), Color.RED, Word.A),
            pytest.param(Ref([]), id="Ref"),
        ],
    )
    def test_is_anything_immutable_and_hashable(self, pool: Pool, key: Any) -> None:
        """Each key finds its member again, and iteration gives the key itself."""
        member = pool.things.add(key, 0)

        assert key in pool.things
        assert member is pool.things[key]
        assert [True] == [key is one for one in pool.things]
        del pool.things[key]
        assert key not in pool.things

    def test_finds_its_member_by_equality(self, pool: Pool) -> None:
        """An equal key of the same type is the same key."""
        member = pool.things.add(Point(1, (2, "x")), 0)

        assert member is pool.things[Point(1, (2, "x"))]
        assert pool.things.get(Point(1, (2, "y"))) is None

    @pytest.mark.parametrize(
        ("first", "other"),
        [
            *((1, True), (1, 1.0), (0, False), (1.0, 1), (True, 1), (False, 0.0)),
            *(("a", Name("a")), (Name("a"), "a"), ("a", Word.A), (Word.A, "a")),
            *(((0, 0), Pair()), (Pair(), (0, 0)), ("1", 1), (1, None), (Color.RED, 1)),
        ],
    )
    def test_is_of_one_type_in_one_family(self, pool: Pool, first: Any, other: Any) -> None:
        """P085: a key of another type than those there is refused, and finds none of them."""
        pool.things.add(first, "first")

        with pytest.raises(TypeError, match=f"are of type {type(first).__name__}, so"):
            pool.things.add(other, "other")
        with pytest.raises(UnknownKeyError):
            pool.things[other]
        with pytest.raises(UnknownKeyError):
            del pool.things[other]
        assert (False, None) == (other in pool.things, pool.things.get(other))
        assert ("first", 1) == (pool.things[first].value, pool.revision)

    def test_may_be_of_another_type_in_another_family(self, pool: Pool) -> None:
        """P085: each family has a type of its own."""
        pool.things.add(1, 0)

        assert "1" == pool.workers.add("1").name[9:-2]

    def test_may_be_of_another_type_once_all_are_gone(self, pool: Pool) -> None:
        """P085: the first member of an empty family decides, each time."""
        pool.things.add(1, 0)
        with pytest.raises(TypeError):
            pool.things.add(True, 0)
        del pool.things[1]

        pool.things.add(True, 0)

        assert [True] == [key is True for key in pool.things]
        assert 1 not in pool.things

    def test_is_not_looked_into_for_types(self, pool: Pool) -> None:
        """P085: `(1,)` and `(True,)` are equal tuples, so one key, as they are one value."""
        member = pool.things.add((1,), 0)

        assert member is pool.things[(True,)]

    @pytest.mark.parametrize(
        ("key", "path"),
        [
            ([], "things[[]]"),
            ({1}, "things[{1}]"),
            ((1, [2]), "things[(1, [2])][1]"),
            (Point(x=[1]), "things[Point(x=[1], y=0)].x"),
            (ABSENT, "things[ABSENT]"),
        ],
    )
    def test_is_refused_if_it_can_be_changed(self, pool: Pool, key: Any, path: str) -> None:
        """A mutable key, at any depth, is refused with the path to what is mutable."""
        with pytest.raises(MutableValueError) as caught:
            pool.things.add(key, 0)

        assert f"the key {path}" == caught.value.path
        assert (0, 0) == (len(pool.things), pool.revision)

    def test_is_refused_without_a_hash(self, pool: Pool) -> None:
        """An immutable object that has no hash is a TypeError, as in a dict."""
        with pytest.raises(TypeError, match="unhashable"):
            pool.things.add(Unhashable(), 0)

        assert (0, 0) == (len(pool.things), pool.revision)

    @pytest.mark.parametrize("key", [Hostile(), Hostile(on_hash=Ref(lambda: 1))])
    def test_may_raise(self, pool: Pool, key: Any) -> None:
        """What the hash or the `==` of a key raises comes out as it is, and nothing is changed."""
        pool.things.add(Hostile(on_hash=Ref(lambda: 1), on_eq=Ref(lambda _: False)), 0)

        with pytest.raises(BoomError):
            pool.things.add(key, 0)
        with pytest.raises(BoomError):
            pool.things[key]
        with pytest.raises(BoomError):
            del pool.things[key]

        assert (1, 1) == (len(pool.things), pool.revision)

    def test_may_use_the_store(self, pool: Pool) -> None:
        """P069: the `==` of a key may commit, here and in another thread; nothing is lost."""
        calls: list[None] = []

        def use(_other: object) -> bool:
            calls.append(None)
            if len(calls) == 1:
                in_thread(lambda: pool.workers.add("a"))
                pool.things.add(Hostile(on_hash=Ref(lambda: 2)), "inner")
            return False

        for value in ("first", "second"):
            pool.things.add(Hostile(on_hash=Ref(lambda: 1), on_eq=Ref(use)), value)

        assert ["a"] == list(pool.workers)
        found = pool.things.mapping.value.values()
        assert ["first", "inner", "second"] == sorted(found)

    def test_is_shown_whatever_its_repr_does(self, pool: Pool) -> None:
        """P083: a key with a broken repr has a name all the same."""
        member = pool.things.add(Hostile(on_hash=Ref(lambda: 1)), 0)

        assert "things[<Hostile with a broken repr>]" == member.name

    def test_is_not_normalized(self, pool: Pool) -> None:
        """P086: keys with different code points are different, also if they look alike."""
        composed, decomposed = "caf\u00e9", "cafe\u0301"

        pool.workers.add(composed, 1)
        pool.workers.add(decomposed, 2)

        assert (1, 2) == (pool.workers[composed].value, pool.workers[decomposed].value)
        assert 2 == len(pool.workers)

    @pytest.mark.parametrize("key", ["\ud800", "\0", "\U0001f600", " ", "'"])
    def test_may_be_an_odd_string(self, pool: Pool, key: str) -> None:
        """P086: any string is a key, one that no encoding takes as well."""
        worker = pool.workers.add(key, 1)

        assert worker is pool.workers[key]
        assert repr(worker).startswith("<ValueWatcher")

    def test_of_a_str_subclass_does_not_mix_with_strings(self, pool: Pool) -> None:
        """P086: a str subclass, whose `==` and hash may be anything, is a type of its own."""
        pool.workers.add("a")

        with pytest.raises(TypeError, match="are of type str, so"):
            pool.workers.add(Name("b"))
        assert Name("a") not in pool.workers
        with pytest.raises(UnknownKeyError):
            pool.workers[Name("a")]


class TestLookUp:
    """Which members there are."""

    def test_gives_the_same_watcher_each_time(self, pool: Pool) -> None:
        """`[]` gives the watcher of the member, one object as long as it is there."""
        pool.workers.add("w1")
        first = pool.workers["w1"]
        first.value = 5

        assert first is pool.workers["w1"]
        assert 5 == pool.workers["w1"].value

    def test_raises_for_an_unknown_key(self, pool: Pool) -> None:
        """A key without a member raises UnknownKeyError, a KeyError, that says what to do."""
        with pytest.raises(UnknownKeyError, match=r"workers has no member 'w1'; add\(\) makes one"):
            pool.workers["w1"]
        assert issubclass(UnknownKeyError, KeyError)

    def test_names_the_nearest_of_a_hundred_members(self, pool: Pool) -> None:
        """A misspelt key is answered with the one that is nearest, if any is near."""
        for number in range(100):
            pool.workers.add(f"worker-{number}")

        with pytest.raises(UnknownKeyError, match=r"no member 'wroker-42'; did you mean 'worker-4"):
            pool.workers["wroker-42"]
        with pytest.raises(UnknownKeyError, match=r"no member 'zzz'; add\(\) makes one"):
            pool.workers["zzz"]
        with pytest.raises(UnknownKeyError, match="did you mean 'worker-7'"):
            del pool.workers["worker7"]

    def test_names_none_among_very_many(self, pool: Pool) -> None:
        """An unknown key is not compared with all members of a large family."""
        with pool.transaction() as tx:
            for number in range(MANY):
                tx.add(pool.workers, f"worker-{number}")

        with pytest.raises(UnknownKeyError, match=r"no member 'wroker-42'; add\(\) makes one"):
            pool.workers["wroker-42"]

    def test_guesses_among_strings_only(self, pool: Pool) -> None:
        """Where the keys are no strings, or the unknown one is none, there is no guess."""
        pool.things.add(10, 0)
        pool.workers.add("10")

        with pytest.raises(UnknownKeyError, match=r"no member 1; add\(\) makes one"):
            pool.things[1]
        with pytest.raises(UnknownKeyError, match=r"no member '1'; add\(\) makes one"):
            pool.things["1"]
        with pytest.raises(UnknownKeyError, match=r"no member 1; add\(\) makes one"):
            pool.workers[1]  # type: ignore[index]

    def test_get_gives_none_for_an_unknown_key(self, pool: Pool) -> None:
        """`get` gives None where indexing raises."""
        worker = pool.workers.add("w1")

        assert worker is pool.workers.get("w1")
        assert pool.workers.get("w2") is None

    def test_contains_the_keys_that_are_there(self, pool: Pool) -> None:
        """`in` takes a key, and says no to all else."""
        worker = pool.workers.add("w1")

        assert "w1" in pool.workers
        assert "w2" not in pool.workers
        assert worker not in pool.workers
        assert [] not in pool.workers

    def test_counts_and_iterates(self, pool: Pool) -> None:
        """`len()` is the number of members, and iteration gives each key once."""
        assert (0, []) == (len(pool.workers), list(pool.workers))
        for key in ("b", "a", "c"):
            pool.workers.add(key)
        del pool.workers["a"]

        assert (2, ["b", "c"]) == (len(pool.workers), sorted(pool.workers))

    def test_iterates_over_what_was_there_at_the_beginning(self, pool: Pool) -> None:
        """Members may come and go during an iteration, which neither breaks nor sees it."""
        for key in ("a", "b", "c"):
            pool.workers.add(key)
        seen = []

        for key in pool.workers:
            seen.append(key)
            pool.workers.add(key * 2)
            del pool.workers[key]

        assert ["a", "b", "c"] == sorted(seen)
        assert ["aa", "bb", "cc"] == sorted(pool.workers)

    def test_is_true_even_when_empty(self, pool: Pool) -> None:
        """`if app.workers:` does not ask whether there are members."""
        assert bool(pool.workers)

    def test_has_the_name_of_the_family(self, pool: Pool) -> None:
        """The members know of which family they are, and show how many there are."""
        pool.workers.add("w1")

        assert "workers" == pool.workers.name
        assert "<1 members of 'workers'>" == repr(pool.workers)

    def test_gives_one_object_for_a_family(self, pool: Pool) -> None:
        """`app.workers` is the same object each time."""
        assert pool.workers is pool.workers

    def test_takes_no_assignment(self, pool: Pool) -> None:
        """A member is set by its value, and added by `add()`; a misspelt attribute raises."""
        pool.workers.add("w1")

        with pytest.raises((TypeError, AttributeError)):
            pool.workers["w1"] = 5  # type: ignore[index]
        with pytest.raises(AttributeError):
            pool.workers.al = positive  # type: ignore[attr-defined]

        assert 0 == pool.workers["w1"].value

    def test_works_from_any_thread(self, pool: Pool) -> None:
        """Another thread adds, sets, looks and removes, and this one sees it at once."""
        worker = in_thread(lambda: pool.workers.add("w1"))
        in_thread(lambda: worker.set(5))

        assert (["w1"], 5) == (list(pool.workers), pool.workers["w1"].value)
        in_thread(lambda: pool.workers.__delitem__("w1"))
        assert 0 == len(pool.workers)

    def test_works_on_a_closed_store(self, pool: Pool) -> None:
        """After the end members can still be read, in every way."""
        worker = pool.workers.add("w1", 5)
        pool.close()

        assert (1, ["w1"], worker, 5) == (
            len(pool.workers),
            list(pool.workers),
            pool.workers["w1"],
            worker.value,
        )
        assert {"w1": 5} == dict(pool.workers.mapping.value)
        assert (True, 1) == (pool.workers.all(positive).value, pool.workers.count().value)


class TestDelete:
    """`del`, with which a member goes."""

    def test_takes_the_member_out(self, pool: Pool) -> None:
        """A removed key is unknown, and the other members stay as they are."""
        pool.workers.add("w1", 1)
        kept = pool.workers.add("w2", 2)

        del pool.workers["w1"]

        assert ["w2"] == list(pool.workers)
        assert ("w1" in pool.workers, pool.workers.get("w1")) == (False, None)
        with pytest.raises(UnknownKeyError, match="no member 'w1'"):
            pool.workers["w1"]
        assert (kept, 2) == (pool.workers["w2"], kept.value)

    def test_is_a_commit_to_absent(self, pool: Pool) -> None:
        """Removing a member is a commit of its own with ABSENT as the new value."""
        pool.workers.add("w1", 5)

        with pool.subscribe() as sub:
            del pool.workers["w1"]
            transition = Transition(key="workers['w1']", old=5, new=ABSENT, revision=2)
            assert [Commit(revision=2, transitions=(transition,))] == drain(sub)

    def test_refuses_an_unknown_key(self, pool: Pool) -> None:
        """A member that is not there, or not any more, cannot be removed."""
        pool.workers.add("w1")
        del pool.workers["w1"]

        with pytest.raises(UnknownKeyError):
            del pool.workers["w1"]

        assert 2 == pool.revision

    def test_refuses_on_a_closed_store(self, pool: Pool) -> None:
        """Nothing is removed from a store that is closed."""
        worker = pool.workers.add("w1", 5)
        pool.close()

        with pytest.raises(StoreClosedError, match="Pool is closed"):
            del pool.workers["w1"]

        assert (worker, 5) == (pool.workers["w1"], worker.value)

    def test_is_won_by_one_of_many_threads(self, pool: Pool) -> None:
        """P090: of threads that remove one member at once, one succeeds, the others are refused."""
        pool.workers.add("w1")

        outcomes = in_threads(4, lambda _: pool.workers.__delitem__("w1"))

        refused = [outcome for outcome in outcomes if isinstance(outcome, UnknownKeyError)]
        assert (1, 3, 2) == (outcomes.count(None), len(refused), pool.revision)

    def test_tries_again_when_another_commit_is_first(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A member that is set meanwhile is removed right behind that set."""
        worker = pool.workers.add("w1")
        overtake(monkeypatch, lambda: worker.set(5))

        with pool.subscribe() as sub:
            del pool.workers["w1"]
            told = [(t.old, t.new) for commit in drain(sub) for t in commit.transitions]

        assert [(0, 5), (5, ABSENT)] == told

    def test_looks_again_when_the_member_was_removed_meanwhile(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who comes second, however near, is told that there is no such member."""
        pool.workers.add("w1")
        overtake(monkeypatch, lambda: pool.workers.__delitem__("w1"))

        with pytest.raises(UnknownKeyError):
            del pool.workers["w1"]

        assert 2 == pool.revision

    def test_and_adding_again_makes_a_new_watcher(self, pool: Pool) -> None:
        """P091: a member that is added again has nothing of the one before."""
        old = pool.workers.add("w1", 5)
        del pool.workers["w1"]

        new = pool.workers.add("w1")

        assert new is not old
        assert (new, 0, 3) == (pool.workers["w1"], new.value, new.revision)
        assert "removed at revision 2" in repr(old)


def add_all(pool: Pool, **values: int) -> None:
    """Add a worker for each of *values*, in one commit."""
    with pool.transaction() as tx:
        for key, value in values.items():
            tx.add(pool.workers, key, value)


STEPS: list[tuple[str, Callable[[Pool], object], tuple[int, int]]] = [
    # What happens, and then: how many are positive, and how many there are.
    ("add one at zero", lambda pool: pool.workers.add("a"), (0, 1)),
    ("set it to one", lambda pool: pool.workers["a"].set(1), (1, 1)),
    ("set it to two", lambda pool: pool.workers["a"].set(2), (1, 1)),
    ("set another key", lambda pool: pool.n.set(1), (1, 1)),
    ("add one at one", lambda pool: pool.workers.add("b", 1), (2, 2)),
    ("add one at zero", lambda pool: pool.workers.add("c"), (2, 3)),
    ("remove a positive one", lambda pool: pool.workers.__delitem__("a"), (1, 2)),
    ("remove one at zero", lambda pool: pool.workers.__delitem__("c"), (1, 1)),
    ("remove the last one", lambda pool: pool.workers.__delitem__("b"), (0, 0)),
    ("add two at once", lambda pool: add_all(pool, a=1, b=0), (1, 2)),
]

Predicate = Callable[[int], object]

KINDS: dict[str, tuple[Callable[[Pool, Predicate], Watcher[Any]], Callable[[int, int], Any]]] = {
    # What makes it, and its value if so many members hold of so many.
    "all": (lambda pool, p: pool.workers.all(p), lambda holding, there: holding == there),
    "any": (lambda pool, p: pool.workers.any(p), lambda holding, _: holding > 0),
    "at_least 1": (lambda pool, p: pool.workers.at_least(1, p), lambda holding, _: holding >= 1),
    "at_least 2": (lambda pool, p: pool.workers.at_least(2, p), lambda holding, _: holding >= 2),
    "count": (lambda pool, p: pool.workers.count(p), lambda holding, _: holding),
    "number": (lambda pool, _: pool.workers.count(), lambda _, there: there),
}

each_kind = pytest.mark.parametrize("kind", KINDS)
each_asking = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "number"])


class TestTallies:
    """`all()`, `any()`, `at_least()` and `count()`."""

    @each_kind
    def test_of_no_members(self, pool: Pool, kind: str) -> None:
        """Of none all hold, none holds, and their number is zero."""
        make, expected = KINDS[kind]

        found = make(pool, positive).value
        assert (expected(0, 0), type(expected(0, 0))) == (found, type(found))

    @each_kind
    def test_read_what_is_there(self, pool: Pool, kind: str) -> None:
        """Without listeners the value is right after every step, and so is the revision."""
        make, expected = KINDS[kind]
        derived = make(pool, positive)

        for what, step, counts in STEPS:
            before = pool.revision
            step(pool)
            assert expected(*counts) == derived.value, what
            assert derived.revision == (before if what == "set another key" else pool.revision)
        assert_no_trace(pool)

    @each_kind
    def test_tell_each_change_of_the_result(self, pool: Pool, kind: str) -> None:
        """A subscription gets a transition for each step that changes the result, and no other."""
        make, expected = KINDS[kind]
        told: list[tuple[Any, Any, int]] = []
        last = expected(0, 0)

        with make(pool, positive).subscribe() as sub:
            for _, step, counts in STEPS:
                step(pool)
                now = expected(*counts)
                if now != last:
                    told.append((last, now, pool.revision))
                last = now
            assert told == [(t.old, t.new, t.revision) for t in drain(sub)]
        assert_no_trace(pool)

    @each_kind
    def test_opened_half_way_begin_with_what_is_there(self, pool: Pool, kind: str) -> None:
        """Whoever listens after any step begins at its result, and gets the rest."""
        make, expected = KINDS[kind]

        for listened, (_, _, counts) in enumerate(STEPS):
            fresh = Pool()
            for _, step, _ in STEPS[: listened + 1]:
                step(fresh)
            with make(fresh, positive).subscribe(initial=True) as sub:
                for _, step, _ in STEPS[listened + 1 :]:
                    step(fresh)
                first, *rest = drain(sub)
                assert expected(*counts) == first.new
                assert expected(*STEPS[-1][2]) == (rest or [first])[-1].new

    @each_kind
    def test_tell_since_when_their_value_holds(self, pool: Pool, kind: str) -> None:
        """The initial record has the revision of the last change of a member, heard of or not."""
        derived = KINDS[kind][0](pool, positive)
        pool.workers.add("a")
        pool.workers["a"].value = 1
        pool.n.value = 1

        with derived.subscribe(initial=True) as sub:
            assert (2, 2) == (sub.get_nowait().revision, derived.revision)

    def test_see_members_that_change_together_as_one(self, pool: Pool) -> None:
        """P087: what one transaction does to several members is one step, seen whole."""
        add_all(pool, a=1, b=0)

        with pool.workers.count(positive).subscribe() as sub:
            with pool.transaction() as tx:
                tx[pool.workers["a"]] = 0
                tx[pool.workers["b"]] = 1
            assert [] == drain(sub)
            with pool.transaction() as tx:
                tx[pool.workers["a"]] = 1
                tx.remove(pool.workers, "b")
                tx.add(pool.workers, "c", 1)
            assert [(1, 2)] == [(t.old, t.new) for t in drain(sub)]

    def test_take_the_answer_of_a_predicate_as_true_or_false(self, pool: Pool) -> None:
        """A predicate may give anything that is true or false."""
        add_all(pool, a=0, b=3, c=5)

        assert 2 == pool.workers.count(lambda value: value).value
        assert 1 == pool.workers.count(lambda value: "x" * value if value > 3 else None).value
        with pool.workers.any(lambda value: [0] if value == 7 else []).subscribe() as sub:
            pool.workers["a"].value = 7
            assert [True] == [t.new for t in drain(sub)]

    @each_kind
    async def test_can_be_waited_for(self, pool: Pool, kind: str) -> None:
        """A wait is woken by the step that makes it so."""
        make, expected = KINDS[kind]
        add_all(pool, a=0)
        task = asyncio.create_task(make(pool, positive).wait_for(expected(2, 2), immediate=False))
        await asyncio.sleep(0)
        assert not task.done()

        add_all(pool, b=1, c=1)
        del pool.workers["a"]

        assert expected(2, 2) == await task

    async def test_make_conditions(self, pool: Pool) -> None:
        """`all`, `any` and `at_least` are combined with other conditions, and awaited."""
        add_all(pool, a=1, b=1)
        idle = ~pool.workers.any(positive) & pool.n.is_(0)
        assert isinstance(idle, Condition)
        task = asyncio.create_task(idle.wait())
        await asyncio.sleep(0)

        pool.n.value = 1
        pool.workers["a"].value = 0
        del pool.workers["b"]
        await asyncio.sleep(0)
        assert (False, False) == (idle.value, task.done())
        pool.n.value = 0

        assert await task is None

    @pytest.mark.parametrize("number", [True, 1.0, "1", None])
    def test_at_least_needs_a_whole_number(self, pool: Pool, number: Any) -> None:
        """How many shall hold is an int, and no bool."""
        with pytest.raises(TypeError, match="how many shall hold is a whole number, not"):
            pool.workers.at_least(number, positive)

    @pytest.mark.parametrize("number", [0, -1])
    def test_at_least_needs_one_or_more(self, pool: Pool, number: int) -> None:
        """A condition that always holds is refused."""
        with pytest.raises(ValueError, match=f"at least {number} members: choose a number from 1"):
            pool.workers.at_least(number, positive)

    def test_at_least_may_ask_for_more_than_there_are(self, pool: Pool) -> None:
        """Members come and go, so any number may be reached one day."""
        many = pool.workers.at_least(1_000, positive)

        assert many.value is False

    @each_asking
    def test_refuse_what_is_no_plain_predicate(self, pool: Pool, kind: str) -> None:
        """What cannot be called, or is asynchronous, is refused at once."""

        async def predicate(_value: int) -> bool:
            return True

        with pytest.raises(TypeError, match="a predicate must be a plain function"):
            KINDS[kind][0](pool, predicate)
        with pytest.raises(TypeError, match="a predicate must be callable"):
            KINDS[kind][0](pool, 5)  # type: ignore[arg-type]

    def test_say_in_words_what_they_are(self, pool: Pool) -> None:
        """Their names tell the family, and the predicate if there is one."""
        assert "all of workers match positive" == pool.workers.all(positive).name
        assert "any of workers match positive" == pool.workers.any(positive).name
        assert "at least 2 of workers match positive" == pool.workers.at_least(2, positive).name
        assert "number of workers match positive" == pool.workers.count(positive).name
        assert "number of workers" == pool.workers.count().name


class TestPredicates:
    """How often a predicate is called, and what if it fails."""

    @each_asking
    def test_are_called_once_for_each_transition(self, pool: Pool, kind: str) -> None:
        """P061: at the opening once a member, then once for each that changes or comes."""
        calls: list[int] = []
        add_all(pool, a=1, b=2)

        with KINDS[kind][0](pool, calls.append).subscribe() as sub:
            assert [1, 2] == sorted(calls)
            del calls[:]
            pool.workers["a"].value = 3
            pool.workers.add("c", 4)
            pool.n.value = 1
            del pool.workers["b"]
            pool.workers["c"].value = 4
            drain(sub)
            assert [3, 4] == calls
            with pool.transaction() as tx:
                tx[pool.workers["a"]] = 5
                tx[pool.workers["a"]] = 6
                tx[pool.workers["c"]] = 7
            drain(sub)
            assert [3, 4, 6, 7] == calls

    def test_are_called_once_for_all_listeners_of_one_loop(self, pool: Pool) -> None:
        """Whatever number of consumers listens in one place, a transition is looked at once."""
        calls: list[int] = []
        add_all(pool, a=1)

        async def main() -> None:
            watched = pool.workers.all(calls.append)
            with watched.subscribe() as one, watched.subscribe() as other:
                pool.workers["a"].value = 2
                drain(one)
                drain(other)

        asyncio.run(main())

        assert [1, 2] == calls

    def test_are_called_by_a_read_once_a_member(self, pool: Pool) -> None:
        """Without listeners a read looks at each member, and not again before one has changed."""
        calls: list[int] = []
        add_all(pool, a=1, b=2)
        watched = pool.workers.count(calls.append)

        assert [0, 0, 0] == [watched.value for _ in range(3)]
        pool.n.value = 1
        pool.things.add("a", 0)
        assert 0 == watched.value
        assert [1, 2] == sorted(calls)
        pool.workers["a"].value = 3
        watched.value
        assert [1, 2, 2, 3] == sorted(calls)

    def test_are_not_called_while_nobody_listens(self, pool: Pool) -> None:
        """Nothing is computed for nobody, nor after the last listener has gone."""
        calls: list[int] = []
        watched = pool.workers.all(calls.append)
        add_all(pool, a=1)
        assert [] == calls

        with watched.subscribe():
            pass
        pool.workers["a"].value = 2

        assert [1] == calls

    @each_asking
    def test_that_raise_put_it_in_error(self, pool: Pool, kind: str) -> None:
        """P102: reads raise DerivationError with the cause, the value and the revision."""
        add_all(pool, a=1, b=2)

        with pytest.raises(DerivationError, match="boom raised BoomError") as caught:
            KINDS[kind][0](pool, boom).value

        error = caught.value
        assert isinstance(error.__cause__, BoomError)
        assert (boom, 1) == (error.function, error.revision)
        assert error.values in [(1,), (2,)]

    def test_that_raise_are_told_in_the_stream_and_heal(self, pool: Pool) -> None:
        """P102: a subscription raises it at its place; the next good transition leads on."""
        add_all(pool, a=1, b=0)
        inverse = pool.workers.count(lambda value: 1 / (value - 5) < 0)

        with inverse.subscribe() as sub:
            pool.workers["a"].value = 5
            pool.workers["b"].value = 9
            pool.workers["a"].value = 1
            with pytest.raises(DerivationError) as caught:
                sub.get_nowait()
            assert (5,) == caught.value.values
            assert [(2, 1, 4)] == [(t.old, t.new, t.revision) for t in drain(sub)]

    def test_that_raise_are_healed_by_the_end_of_the_member(self, pool: Pool) -> None:
        """P102: the condition has a value again when the member that fails is removed."""
        add_all(pool, a=1, b=0)
        watched = pool.workers.all(lambda value: 1 / value > 0)

        with watched.subscribe() as sub:
            with pytest.raises(DerivationError):
                sub._value()
            del pool.workers["b"]
            assert [True] == [t.new for t in drain(sub)]
        assert watched.value is True

    def test_that_raise_for_several_heal_with_the_last_one(self, pool: Pool) -> None:
        """P102: as long as one member fails there is no value."""
        add_all(pool, a=0, b=0)
        watched = pool.workers.all(lambda value: 1 / value > 0)

        for key in ("a", "b"):
            with pytest.raises(DerivationError):
                watched.value
            pool.workers[key].value = 1

        assert watched.value is True

    def test_that_raise_disturb_no_other(self, pool: Pool) -> None:
        """P102: what else is derived of the same members has its values."""
        add_all(pool, a=1)

        with (
            pool.workers.all(boom).subscribe(),
            pool.workers.all(positive).subscribe() as sub,
            pool.workers.mapping.subscribe() as mapping,
        ):
            pool.workers["a"].value = 0
            assert [False] == [t.new for t in drain(sub)]
            assert [{"a": 0}] == [dict(t.new) for t in drain(mapping)]


class TestMapping:
    """`mapping`, all members as one value."""

    def test_is_an_immutable_map_of_the_values(self, pool: Pool) -> None:
        """Its value is a map that nobody can change, so it can be hashed and kept."""
        add_all(pool, a=1, b=2)

        found = pool.workers.mapping.value

        assert isinstance(found, immutables.Map)
        assert isinstance(found, Mapping)
        assert {"a": 1, "b": 2} == dict(found)
        assert hash(found) == hash(immutables.Map(a=1, b=2))
        assert "workers.mapping" == pool.workers.mapping.name

    def test_follows_every_step(self, pool: Pool) -> None:
        """Without listeners, and with, it has the members and their values after each step."""
        expected: list[dict[str, int]] = []

        with pool.workers.mapping.subscribe() as sub:
            for what, step, _ in STEPS:
                step(pool)
                now = {key: pool.workers[key].value for key in pool.workers}
                assert now == dict(pool.workers.mapping.value), what
                if what != "set another key":
                    expected.append(now)
            transitions = drain(sub)

        assert expected == [dict(t.new) for t in transitions]
        assert [{}, *expected[:-1]] == [dict(t.old) for t in transitions]

    def test_leaves_old_ones_as_they_were(self, pool: Pool) -> None:
        """A mapping that was given out never changes."""
        add_all(pool, a=1, b=2)

        with pool.workers.mapping.subscribe(initial=True) as sub:
            first = sub.get_nowait().new
            pool.workers["a"].value = 5
            del pool.workers["b"]
            pool.workers.add("c", 3)
            given = [first, *(t.new for t in drain(sub))]

        expected = [{"a": 1, "b": 2}, {"a": 5, "b": 2}, {"a": 5}, {"a": 5, "c": 3}]
        assert expected == [dict(one) for one in given]

    def test_is_the_same_object_until_a_member_changes(self, pool: Pool) -> None:
        """Other keys and families, and sets to equal values, make no new mapping."""
        add_all(pool, a=1)
        mapping = pool.workers.mapping
        before = mapping.value

        pool.n.value = 1
        pool.things.add("x", 1)
        pool.workers["a"].value = 1
        pool.workers.count().value

        assert before is mapping.value
        assert 1 == mapping.revision

    def test_tells_a_way_there_and_back(self, pool: Pool) -> None:
        """Each commit that touches a member is told, also if all is as it was before."""
        add_all(pool, a=1)

        with pool.workers.mapping.subscribe() as sub:
            pool.workers["a"].value = 2
            pool.workers["a"].value = 1
            del pool.workers["a"]
            pool.workers.add("a", 1)
            assert [{"a": 2}, {"a": 1}, {}, {"a": 1}] == [dict(t.new) for t in drain(sub)]

    def test_tells_one_transaction_as_one(self, pool: Pool) -> None:
        """P087: members that are set, come and go in one commit are one transition."""
        add_all(pool, a=1, b=2, c=3)

        with pool.workers.mapping.subscribe() as sub:
            with pool.transaction() as tx:
                tx[pool.workers["a"]] = 5
                tx.remove(pool.workers, "b")
                tx.remove(pool.workers, "c")
                tx.add(pool.workers, "c", 7)
                tx.add(pool.workers, "d", 8)
            (told,) = drain(sub)

        assert {"a": 5, "c": 7, "d": 8} == dict(told.new)
        assert {"a": 1, "b": 2, "c": 3} == dict(told.old)

    def test_can_be_derived_from(self, pool: Pool) -> None:
        """It is a watcher as any other."""
        add_all(pool, a=1, b=2)
        total = pool.workers.mapping.map(lambda members: sum(members.values()))

        with total.subscribe() as sub:
            pool.workers["a"].value = 5
            del pool.workers["b"]
            assert [(3, 7), (7, 5)] == [(t.old, t.new) for t in drain(sub)]


class TestConsumers:
    """Whatever is derived of a family can be consumed in every way."""

    def test_callbacks_are_told_in_the_order_of_commits(self, pool: Pool) -> None:
        """`on_change` and `on_value` follow members that come, change and go."""
        told: dict[str, list[object]] = {"count": [], "mapping": [], "any": []}
        pool.workers.count(positive).on_change(lambda *change: told["count"].append(change))
        pool.workers.mapping.on_change(lambda _old, new: told["mapping"].append(dict(new)))
        pool.workers.any(positive).on_value(True, lambda: told["any"].append(pool.revision))

        pool.workers.add("a")
        pool.workers["a"].value = 1
        del pool.workers["a"]
        pool.workers.add("a", 1)

        assert [{"a": 0}, {"a": 1}, {}, {"a": 1}] == told["mapping"]
        assert ([(0, 1), (1, 0), (0, 1)], [2]) == (told["count"], told["any"])

    def test_threads_wait_and_iterate(self, pool: Pool) -> None:
        """The blocking twins follow members that another thread adds and removes."""
        for step in (
            lambda: pool.workers.add("a", 1),
            lambda: pool.workers["a"].set(0),
            lambda: pool.workers.__delitem__("a"),
        ):
            with pool.workers.mapping.blocking.subscribe() as sub:
                thread = threading.Thread(target=step)
                thread.start()
                assert dict(next(sub).new) == dict(pool.workers.mapping.value)
                thread.join()
        thread = threading.Thread(target=lambda: pool.workers.add("b", 1))
        thread.start()
        assert pool.workers.any(positive).blocking.wait_for(True) is True
        thread.join()

    async def test_values_begin_with_what_is_there(self, pool: Pool) -> None:
        """`values()` gives the number of members now, then each new one."""
        add_all(pool, a=1)
        values = pool.workers.count().values()

        pool.workers.add("b")
        del pool.workers["a"]

        assert [1, 2, 1] == [await anext(values) for _ in range(3)]

    async def test_a_bounded_subscription_keeps_the_newest(self, pool: Pool) -> None:
        """`maxlen` joins what is too much, as for any watcher."""
        with pool.workers.count().subscribe(maxlen=1, overflow="latest") as sub:
            for key in "abc":
                pool.workers.add(key)
                await asyncio.sleep(0)
            (joined,) = drain(sub)

        assert (0, 3, 2) == (joined.old, joined.new, joined.missed)

    async def test_the_end_of_the_store_comes_last(self, pool: Pool) -> None:
        """P092: what was committed before is delivered, then it ends as any watcher does."""
        counting = pool.workers.count()
        task = asyncio.create_task(counting.wait_for(5))
        with counting.subscribe() as sub:
            await asyncio.sleep(0)
            pool.workers.add("a")
            pool.close()
            assert [1] == [t.new async for t in sub]
        with pytest.raises(StoreClosedError):
            await task


LARGE = 100_000

SPREAD = 100
"""By how many steps two counts may differ: keys are compared only where hashes begin alike."""


@pytest.fixture(scope="module")
def large() -> Pool:
    """Give a store with very many members, which each test leaves as it was."""
    pool = Pool()
    fill(pool, LARGE)
    return pool


@pytest.fixture
def small() -> Pool:
    """Give a store with some members."""
    pool = Pool()
    fill(pool, 10)
    return pool


def steps_of(function: Callable[[], object]) -> int:
    """Count the lines that *function* runs, and the calls that it makes, to C as well."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> Any:
        nonlocal count
        count += event in {"call", "line", "c_call"}
        return note

    gc.disable()
    before = sys.gettrace(), sys.getprofile()
    sys.settrace(note)
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
        gc.enable()
    return count


def memory_of(function: Callable[[], object]) -> int:
    """Give how many bytes more than before were in use at the height of *function*."""
    gc.disable()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        function()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    return peak - before


def come_and_go(pool: Pool) -> None:
    """Add a member, set it, and remove it."""
    pool.things.add(Asked(-2), 0)
    pool.things[Asked(-2)].value = 1
    del pool.things[Asked(-2)]


def derived_of(pool: Pool) -> list[Watcher[Any]]:
    """Give one of each kind that can be derived of all things."""
    things = pool.things
    holding = [things.all(positive), things.any(positive), things.at_least(2, positive)]
    return [*holding, things.count(positive), things.count(), things.mapping]


class TestCost:
    """One among 100,000 members costs what one among ten does."""

    def test_of_a_member_that_nobody_follows(self, small: Pool, large: Pool) -> None:
        """Adding, setting and removing take as many steps, and ask no more keys."""
        # The very first time costs more.
        come_and_go(small)
        few, many = (steps_of(lambda pool=pool: come_and_go(pool)) for pool in (small, large))
        assert pytest.approx(few, abs=SPREAD) == many

        asked = []
        for pool in (small, large):
            ASKED.clear()
            come_and_go(pool)
            asked.append(ASKED.copy())
        assert asked[0]["hash"] == asked[1]["hash"]
        assert asked[1]["eq"] <= 10

    def test_of_a_member_that_is_followed(self, small: Pool, large: Pool) -> None:
        """The same holds for all that is derived of the members while somebody listens."""
        steps: list[list[int]] = []
        for pool in (small, large):
            with ExitStack() as stack:
                subs = [stack.enter_context(one.subscribe()) for one in derived_of(pool)]
                steps.append([steps_of(lambda pool=pool: come_and_go(pool))])
                steps[-1] += [steps_of(lambda sub=sub: drain(sub)) for sub in subs]
        assert [pytest.approx(few, abs=SPREAD) for few in steps[0]] == steps[1]

    def test_of_a_callback(self, small: Pool, large: Pool) -> None:
        """Callbacks on what is derived of the members cost the same as well."""
        steps = []
        for pool in (small, large):
            with ExitStack() as stack:
                for one in derived_of(pool):
                    stack.enter_context(one.on_change(lambda _old, _new: None))
                steps.append(steps_of(lambda pool=pool: come_and_go(pool)))
        assert pytest.approx(steps[0], abs=SPREAD) == steps[1]

    def test_in_memory(self, large: Pool) -> None:
        """A change among so many copies nothing: old and new share nearly everything."""
        with ExitStack() as stack:
            subs = [stack.enter_context(one.subscribe()) for one in derived_of(large)]

            def change() -> None:
                come_and_go(large)
                for sub in subs:
                    drain(sub)

            change()
            # A pointer for each member would be 800 kB.
            assert memory_of(change) < 40_000

    def test_of_a_predicate(self, large: Pool) -> None:
        """P061: among so many, the predicate is called for the one that has changed."""
        calls: list[int] = []

        with large.things.any(lambda value: calls.append(value) is None).subscribe() as sub:
            assert LARGE == len(calls)
            del calls[:]
            come_and_go(large)
            drain(sub)

        assert [0, 1] == calls
