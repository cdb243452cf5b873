"""Memberships, which never change, and feeds, by which all members are followed at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from statestore import ABSENT, ValueWatcher
from statestore._core import (
    BOX,
    LINKS,
    NEXT,
    REVISION,
    VALUE,
    Cell,
    Change,
    Core,
    Listeners,
    Slot,
    by_three,
)
from statestore._members import Feed, Membership, key_of
from statestore._records import Removed
from support.families import Pool
from support.streams import drain


@pytest.fixture
def pool() -> Pool:
    """Give a new store."""
    return Pool()


@pytest.fixture
def feed(pool: Pool) -> Feed:
    """Give the feed of its workers."""
    return pool.workers._feed


def slot(name: str) -> Slot:
    """Give a slot of no store in particular."""
    return Slot(Pool()._core, name, 0)


class TestMembership:
    """Which members there are at one revision."""

    def test_begins_without_members(self) -> None:
        """An empty one has neither slots nor a type of keys."""
        empty = Membership()

        assert ([], None, None) == (list(empty.slots), empty.kind, empty.get("a"))

    def test_gives_a_successor_and_stays(self) -> None:
        """One more, or one less, is another membership; the one before is as it was."""
        a, b = slot("a"), slot("b")
        empty = Membership()
        one = empty.plus("a", a)
        two = one.plus("b", b)
        less = two.minus("a")

        found = [{key: each.slots[key] for key in each.slots} for each in (empty, one, two, less)]
        assert [{}, {"a": a}, {"a": a, "b": b}, {"b": b}] == found

    def test_is_of_the_type_of_its_first_key(self) -> None:
        """P085: who asks with an equal key of another type is given nothing."""
        one = Membership().plus(1, slot("1"))

        assert int is one.kind
        assert one.get(1) is not None
        assert [None, None] == [one.get(True), one.get(1.0)]

    def test_forgets_the_type_with_the_last_one(self) -> None:
        """P085: an empty membership takes keys of any type again."""
        two = Membership().plus(1, slot("1")).plus(2, slot("2"))

        assert int is two.minus(1).kind
        assert two.minus(1).minus(2).kind is None

    def test_takes_any_question(self) -> None:
        """A key that is no key of it, or has no hash, is not there."""
        one = Membership().plus("a", slot("a"))

        assert [None, None, None] == [one.get(key) for key in ("b", [], None)]


def changes_in(cell: Cell) -> list[list[tuple[str, Any, Any]]]:
    """Give what is listed behind *cell*, commit by commit."""
    listed = []
    while (after := cell[NEXT]) is not None:
        cell = after
        listed.append([(each._name, old, new) for each, old, new in by_three(cell[VALUE])])
    return listed


def follow(feed: Feed) -> object:
    """Have commits listed from now on; give the token."""
    token = object()
    feed.follow(token)
    feed._core.fence()
    return token


def revise(pool: Pool, key: str, value: int) -> Change:
    """Give the change that sets a worker."""
    worker = pool.workers[key]
    return (worker, worker._tail(), value)


class TestFeed:
    """The chain of what happens to the members of one family."""

    def test_lists_nothing_for_nobody(self, pool: Pool, feed: Feed) -> None:
        """Without followers a commit is not listed, and a set of a member goes the short way."""
        first = feed._tail()

        pool.workers.add("a").value = 1

        assert ([], {}) == (changes_in(first), feed.shared.family)

    def test_lists_what_is_committed_while_it_is_followed(self, pool: Pool, feed: Feed) -> None:
        """Each commit that touches a member is one entry, with old and new values in order."""
        worker = pool.workers.add("before")
        first = feed._tail()
        token = follow(feed)

        worker.value = 1
        pool.n.value = 1
        pool.things.add("other", 1)
        with pool.transaction() as tx:
            tx[worker] = 2
            tx.add(pool.workers, "a", 5)
            tx[pool.n] = 2

        before, a = "workers['before']", "workers['a']"
        assert [[(before, 0, 1)], [(before, 1, 2), (a, ABSENT, 5)]] == changes_in(first)
        feed.unfollow(token)
        worker.value = 3
        assert [[(before, 0, 1)], []] == changes_in(first)

    def test_lists_the_end_of_a_member(self, pool: Pool, feed: Feed) -> None:
        """A removal is listed with what stands for it as the new value."""
        pool.workers.add("a", 5)
        first = feed._tail()
        follow(feed)

        del pool.workers["a"]

        (((name, old, new),),) = changes_in(first)
        assert ("workers['a']", 5, Removed) == (name, old, type(new))

    def test_is_followed_by_several(self, pool: Pool, feed: Feed) -> None:
        """As long as one follower is left, commits are listed, each once."""
        worker = pool.workers.add("a")
        first = feed._tail()
        one, other = follow(feed), follow(feed)

        worker.value = 1
        feed.unfollow(one)
        feed.unfollow(one)
        worker.value = 2

        assert [(0, 1), (1, 2)] == [(old, new) for ((_, old, new),) in changes_in(first)]
        feed.unfollow(other)
        worker.value = 3
        assert 2 == len(changes_in(first))

    def test_hears_of_members_that_have_listeners_of_their_own(
        self, pool: Pool, feed: Feed
    ) -> None:
        """A member that somebody follows by itself is listed all the same."""
        worker = pool.workers.add("a")
        first = feed._tail()
        with worker.on_change(lambda _old, _new: None), worker.subscribe(maxlen=1):
            follow(feed)
            worker.value = 1
        worker.value = 2

        assert [(0, 1), (1, 2)] == [(old, new) for ((_, old, new),) in changes_in(first)]

    def test_of_members_without_listeners_is_one_for_all(self, pool: Pool, feed: Feed) -> None:
        """Members that nobody follows by themselves share their listeners."""
        one, other = pool.workers.add("a"), pool.workers.add("b")

        assert feed.shared is one._listeners
        assert feed.shared is other._listeners
        one.on_change(lambda _old, _new: None)
        assert feed.shared is not one._listeners
        assert isinstance(one._listeners, Listeners)
        assert feed.shared.family is one._listeners.family

    def test_knows_the_key_of_a_member(self, pool: Pool, feed: Feed) -> None:
        """Each member knows its feed and its key; a key of the store has none."""
        worker = pool.workers.add("a")

        assert (feed, "a") == worker._member
        assert "a" == key_of(worker)
        assert key_of(pool.n) is None


class TestCellsAt:
    """The values of all members at one revision, whoever commits meanwhile."""

    def test_are_those_of_the_members_then(self, pool: Pool, feed: Feed) -> None:
        """Without commits they are the newest cells."""
        a, b = pool.workers.add("a", 1), pool.workers.add("b", 2)
        follow(feed)

        found = feed.cells_at(feed.members._tail(), feed._tail(), pool.revision)

        assert {a: a._cell, b: b._cell} == found

    def test_take_back_what_came_after(self, pool: Pool, feed: Feed) -> None:
        """Of a member that was set since, the value is the one before all that."""
        a, b = pool.workers.add("a", 1), pool.workers.add("b", 2)
        follow(feed)
        membership, cell, revision = feed.members._tail(), feed._tail(), pool.revision

        a.value = 5
        a.value = 6
        pool.workers.add("c", 7)

        found = feed.cells_at(membership, cell, revision)
        assert {a: 1, b: 2} == {slot: cell[VALUE] for slot, cell in found.items()}
        assert all(cell[REVISION] <= revision for cell in found.values())

    def test_take_back_a_removal(self, pool: Pool, feed: Feed) -> None:
        """A member that was removed since, and added again, has the value that it had."""
        a = pool.workers.add("a", 1)
        follow(feed)
        membership, cell, revision = feed.members._tail(), feed._tail(), pool.revision

        del pool.workers["a"]
        again = pool.workers.add("a", 9)

        found = feed.cells_at(membership, cell, revision)
        assert {a: 1} == {slot: cell[VALUE] for slot, cell in found.items()}
        assert again not in found

    def test_take_back_a_commit_that_lands_between_two_reads(
        self, pool: Pool, feed: Feed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """P087: a commit of two members that comes after one of them was read is not half seen."""
        a, b = pool.workers.add("a", 1), pool.workers.add("b", 2)
        follow(feed)
        latest = ValueWatcher._latest

        def read_then_commit(self: ValueWatcher[Any]) -> Cell:
            cell = latest(self)
            monkeypatch.setattr(ValueWatcher, "_latest", latest)
            with pool.transaction() as tx:
                tx[a] = tx[b] = 9
            return cell

        monkeypatch.setattr(ValueWatcher, "_latest", read_then_commit)
        found = feed.cells_at(feed.members._tail(), feed._tail(), pool.revision)

        assert {a: 1, b: 2} == {slot: cell[VALUE] for slot, cell in found.items()}

    def test_finish_what_is_applied_by_half(
        self, pool: Pool, feed: Feed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """P087: a commit is taken back though its thread has only linked the member so far."""
        a = pool.workers.add("a", 1)
        follow(feed)
        latest = ValueWatcher._latest
        membership, cell, revision = feed.members._tail(), feed._tail(), pool.revision

        def link_the_member_alone(self: ValueWatcher[Any]) -> Cell:
            before = latest(self)
            head = pool._core.settle()
            entry = pool._core.entry(head[0] + 1, [revise(pool, "a", 9)])
            head[BOX].append(entry)
            before[NEXT] = entry[LINKS + 2]
            monkeypatch.setattr(ValueWatcher, "_latest", latest)
            return self._tail()

        monkeypatch.setattr(ValueWatcher, "_latest", link_the_member_alone)
        found = feed.cells_at(membership, cell, revision)

        assert {a: 1} == {slot: cell[VALUE] for slot, cell in found.items()}
        assert 9 == a.value

    def test_apply_what_is_committed(
        self, pool: Pool, feed: Feed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A commit that its own thread has not applied yet is taken back as any other."""
        a = pool.workers.add("a", 1)
        follow(feed)
        latest = ValueWatcher._latest
        membership, cell, revision = feed.members._tail(), feed._tail(), pool.revision

        def leave_unapplied(self: ValueWatcher[Any]) -> Cell:
            monkeypatch.setattr(ValueWatcher, "_latest", latest)
            core: Core = pool._core
            head = core.settle()
            head[BOX].append(core.entry(head[0] + 1, [revise(pool, "a", 9)]))
            return latest(self)

        monkeypatch.setattr(ValueWatcher, "_latest", leave_unapplied)
        found = feed.cells_at(membership, cell, revision)

        assert {a: 1} == {slot: cell[VALUE] for slot, cell in found.items()}
        assert 9 == a.value


def come_and_go(pool: Pool, turn: int) -> None:
    """Remove all workers and add others, some of them under the same keys, in one commit."""
    with pool.transaction() as tx:
        for key in list(pool.workers):
            tx.remove(pool.workers, key)
        for key in ("a", "b", f"d{turn}"):
            tx.add(pool.workers, key, turn)


LIMIT = 20


class Restless:
    """What commits to a store again and again while somebody looks at it, up to a limit."""

    def __init__(self, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pool = pool
        self._monkeypatch = monkeypatch
        self.turns = 0

    def commit(self) -> None:
        """Exchange the workers."""
        self.turns += 1
        come_and_go(self._pool, self.turns)

    def around(self, kind: type, name: str) -> None:
        """Commit before and after each call of a method of the package."""
        real = getattr(kind, name)
        patch = self._monkeypatch.setattr

        def commit_and_call(thing: Any, *args: Any) -> Any:
            patch(kind, name, real)
            self.commit()
            result = real(thing, *args)
            self.commit()
            if self.turns < LIMIT:
                patch(kind, name, commit_and_call)
            return result

        patch(kind, name, commit_and_call)


each_moment = pytest.mark.parametrize(
    ("kind", "name"), [(Core, "fence"), (ValueWatcher, "_latest"), (Core, "settle")]
)


@each_moment
class TestOneRevision:
    """P087: whoever begins to look at all members does so at one revision, whoever commits."""

    @pytest.fixture
    def restless(
        self, pool: Pool, kind: type, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> Restless:
        """Have commits around each call of a method."""
        for key in ("a", "b", "c"):
            pool.workers.add(key, 0)
        restless = Restless(pool, monkeypatch)
        restless.around(kind, name)
        return restless

    def test_to_read(self, pool: Pool, restless: Restless) -> None:
        """A read gives the members of one commit, with its values."""
        found = dict(pool.workers.mapping.value)

        assert restless.turns > 1
        assert found in ({"a": 0, "b": 0, "c": 0}, *at_each(restless))

    def test_to_count(self, pool: Pool, restless: Restless) -> None:
        """So does a condition, of which the predicate is called for just these."""
        seen: list[int] = []

        assert 3 == pool.workers.count(lambda value: seen.append(value) is None).value
        assert 1 == len(set(seen))

    def test_to_snapshot(self, pool: Pool, restless: Restless) -> None:
        """So does a snapshot, at the revision that it tells."""
        found = pool.snapshot()

        # The first three commits added a worker each.
        turn = found.revision - 3
        expected = {"a": turn, "b": turn, f"d{turn}" if turn else "c": turn}
        assert expected == dict(found.workers)

    def test_to_listen(self, pool: Pool, restless: Restless, monkeypatch: Any) -> None:
        """So does a subscription, which then has every commit that follows, each one whole."""
        with pool.workers.mapping.subscribe(initial=True) as sub:
            monkeypatch.undo()
            restless.commit()
            first, *rest = drain(sub)

        turns = [first.new["a"], *(t.new["a"] for t in rest)]
        assert list(range(turns[0], restless.turns + 1)) == turns
        assert at_each(restless)[turns[1] - 1 :] == [dict(t.new) for t in rest]
        assert [first.new, *(t.new for t in rest[:-1])] == [t.old for t in rest]

    def test_to_be_called(self, pool: Pool, restless: Restless, monkeypatch: Any) -> None:
        """So does a callback, which is then told of every commit that follows."""
        told: list[tuple[Any, Any]] = []

        handle = pool.workers.mapping.on_change(lambda old, new: told.append((old, new)))
        monkeypatch.undo()
        restless.commit()
        handle.close()

        turns = [told[0][0]["a"], *(new["a"] for _, new in told)]
        assert list(range(turns[0], restless.turns + 1)) == turns
        assert at_each(restless)[turns[1] - 1 :] == [dict(new) for _, new in told]


def at_each(restless: Restless) -> list[dict[str, int]]:
    """Give what the workers were after each commit."""
    return [{"a": turn, "b": turn, f"d{turn}": turn} for turn in range(1, restless.turns + 1)]


COMMITS: dict[str, tuple[Callable[[Pool], object], dict[str, int]]] = {
    "add": (lambda pool: pool.workers.add("b", 2), {"a": 1, "b": 2}),
    "remove": (lambda pool: pool.workers.__delitem__("a"), {}),
    "update": (lambda pool: pool.workers["a"].update(lambda value: value + 1), {"a": 2}),
    "transact": (
        lambda pool: pool.transact(lambda tx: tx.add(pool.workers, "b")),
        {"a": 1, "b": 0},
    ),
}


@pytest.mark.parametrize(("commit", "expected"), COMMITS.values(), ids=COMMITS.keys())
class TestUnderWay:
    """Who begins to follow a family while a commit has looked already, but is not made yet."""

    @pytest.fixture
    def worker(self, pool: Pool) -> ValueWatcher[int]:
        """Have a worker."""
        return pool.workers.add("a", 1)

    def test_is_told_of_it_as_a_subscription(
        self, pool: Pool, worker: Any, monkeypatch: Any, commit: Any, expected: dict[str, int]
    ) -> None:
        """P026: the commit looks once more, so the subscription has it."""
        subs: list[Any] = []
        right_before(monkeypatch, lambda: subs.append(pool.workers.mapping.subscribe()))

        commit(pool)

        with subs[0] as sub:
            assert [expected] == [dict(transition.new) for transition in drain(sub)]

    def test_is_told_of_it_as_a_callback(
        self, pool: Pool, worker: Any, monkeypatch: Any, commit: Any, expected: dict[str, int]
    ) -> None:
        """P026: the commit looks once more, so the callback is called."""
        told: list[dict[str, int]] = []
        mapping = pool.workers.mapping
        right_before(
            monkeypatch, lambda: mapping.on_change(lambda _old, new: told.append(dict(new)))
        )

        commit(pool)

        assert [expected] == told

    def test_sees_it_wholly_or_not_at_all_as_a_reader(
        self, pool: Pool, worker: Any, monkeypatch: Any, commit: Any, expected: dict[str, int]
    ) -> None:
        """P087: a read that comes first sees nothing of it, one that comes later all of it."""
        seen: list[dict[str, int]] = []
        right_before(monkeypatch, lambda: seen.append(dict(pool.workers.mapping.value)))

        commit(pool)

        assert [{"a": 1}, expected] == [*seen, dict(pool.workers.mapping.value)]


def right_before(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have *act* come right before the next commit, which is prepared already."""
    append = Core._append

    def act_first(core: Core, *args: Any) -> bool:
        monkeypatch.setattr(Core, "_append", append)
        act()
        return append(core, *args)

    monkeypatch.setattr(Core, "_append", act_first)
