"""
Every schedule of two threads, as far as there are few enough, and many of the others.

Each pair of public operations runs in two threads that take turns line by line, in every order with
at most two preemptions, or in as many as the bound allows; all consumers must agree with the log.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import pytest

from statestore import (
    CallbackHandle,
    ConflictError,
    Key,
    LaggedError,
    Store,
    ValueWatcher,
)
from statestore.testing import assert_chain
from support.schedules import both, explore, interleave


class App(Store):
    """Two numbers, whose sum a transaction leaves alone."""

    left = Key(0)
    right = Key(0)


class Port:
    """The waits of an event loop, as a setter sees them: woken once, armed again by hand."""

    def __init__(self, app: App) -> None:
        self._ports = app._core.listen(app.left).ports
        self._cell = app.left._cell
        self.woken = 0
        self._ports[object()] = self

    def notify(self) -> None:
        """Count."""
        self.woken += 1


class World:
    """A store with consumers of every kind."""

    def __init__(self) -> None:
        self.app = app = App()
        self.told: list[tuple[str, int, int]] = []
        self.handles = [
            app[name].on_change(lambda old, new, name=name: self.told.append((name, old, new)))
            for name in app
        ]
        self.log = app.blocking.subscribe()
        self.plain = app.left.blocking.subscribe()
        self.ring = app.left.blocking.subscribe(maxlen=1)
        self.some = app.blocking.subscribe(App.left, maxlen=8)
        self.port = Port(app)
        # What operations leave to be checked at the end.
        self.winners: list[int] = []
        self.late: list[tuple[CallbackHandle, list[int]]] = []
        self.fired: list[list[int]] = []

    def check(self) -> None:
        """All consumers agree with the log, and the log with the values."""
        commits = [self.log.get_nowait() for _ in range(self.log.pending)]
        transitions = [t for commit in commits for t in commit.transitions]
        left = [t for t in transitions if t.key == "left"]
        right = [t for t in transitions if t.key == "right"]
        assert [*range(1, self.app.revision + 1)] == [commit.revision for commit in commits]
        assert_chain(0, left)
        assert_chain(0, right)
        assert [(t.key, t.old, t.new) for t in transitions] == self.told
        assert left == [self.plain.get_nowait() for _ in range(self.plain.pending)]
        assert [t.revision for t in left] == [
            self.some.get_nowait().revision for _ in range(self.some.pending)
        ]
        if len(left) > 1:
            with contextlib.suppress(LaggedError):
                self.ring.get_nowait()
        assert left[-1:] == [self.ring.get_nowait() for _ in range(self.ring.pending)]
        assert bool(left) <= bool(self.port.woken)
        assert len(self.winners) <= 1
        for handle, told in self.late:
            since = handle._since
            assert told == [t.new for t in right if since is not None and t.revision > since]
        for fired in self.fired:
            assert len(fired) == 1 or (self.app.is_closed and not fired)
        snapshot = self.app.snapshot()
        assert (left[-1].new if left else 0) == snapshot["left"] == self.app.left.value
        assert (right[-1].new if right else 0) == snapshot["right"] == self.app.right.value
        assert {} == self.app._core.turns
        for stream in (self.log, self.plain, self.ring, self.some):
            stream.close()


Operation: TypeAlias = Callable[[World, int], Any]


def do_set(world: World, mark: int) -> None:
    """Set a value, twice."""
    for value in (mark, mark + 10):
        made = world.app.left.set(value)
        assert made is not None
        assert value == made.new


def do_update(world: World, mark: int) -> None:
    """Make a value of the one before."""
    made = world.app.left.update(lambda old: old + 100)
    assert made is not None
    assert made.old + 100 == made.new


def do_compare_and_set(world: World, mark: int) -> None:
    """Be the one who turns the first value into another."""
    if world.app.left.compare_and_set(0, 1000 + mark):
        world.winners.append(mark)


def do_set_if(world: World, mark: int) -> None:
    """Set a value on a condition, which holds."""
    assert world.app.left.set_if(mark + 20, lambda old: old != mark + 20)


def do_transact(world: World, mark: int) -> None:
    """Move something from one key to the other."""

    def move(tx: Any) -> None:
        left, right = tx[App.left], tx[App.right]
        tx[App.left], tx[App.right] = left - mark, right + mark

    world.app.transact(move)


def do_on_change(world: World, mark: int) -> None:
    """Register a callback, which must be told of all that comes after."""
    told: list[int] = []
    handle = world.app.right.on_change(lambda _old, new: told.append(new))
    world.late.append((handle, told))
    world.app.right.value = mark + 30


def do_on_value(world: World, mark: int) -> None:
    """Be called once for a value that is there, or comes."""
    fired: list[int] = []
    world.fired.append(fired)
    world.app.left.on_value(0, lambda: fired.append(mark))
    world.app.left.value = 5
    world.app.left.value = 0


def do_subscribe(world: World, mark: int) -> None:
    """Open a queue, and take what was set since."""
    with world.app.right.blocking.subscribe() as sub:
        made = world.app.right.set(mark + 40)
        taken = [sub.get_nowait() for _ in range(sub.pending)]
        assert made in taken
        assert all(a.new == b.old for a, b in itertools.pairwise(taken))


def do_subscribe_bounded(world: World, mark: int) -> None:
    """Open a queue with a bound, and take what was set since."""
    with world.app.right.blocking.subscribe(maxlen=1, overflow="latest") as sub:
        made = world.app.right.set(mark + 50)
        assert made is not None
        assert sub.get_nowait().revision >= made.revision


def do_follow(world: World, mark: int) -> None:
    """Follow all commits, and take what was set since."""
    with world.app.blocking.subscribe() as sub:
        made = world.app.right.set(mark + 60)
        assert made is not None
        revisions = [sub.get_nowait().revision for _ in range(sub.pending)]
        assert made.revision in revisions
        assert [*range(revisions[0], revisions[-1] + 1)] == revisions


def do_snapshot(world: World, mark: int) -> None:
    """Look at both keys at once, and then again."""
    first, second = world.app.snapshot(), world.app.snapshot()
    assert first.revision <= second.revision
    assert (first.revision == second.revision) <= (first == second)


def do_close(world: World, mark: int) -> None:
    """Close the store."""
    world.app.close()
    assert world.app.is_closed


OPERATIONS: Final = [
    do_set,
    do_update,
    do_compare_and_set,
    do_set_if,
    do_transact,
    do_on_change,
    do_on_value,
    do_subscribe,
    do_subscribe_bounded,
    do_follow,
    do_snapshot,
    do_close,
]


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.combinations_with_replacement(OPERATIONS, 2))
)
def test_two_operations_at_once(first: Operation, second: Operation) -> None:
    """P026, P027, P090: whichever comes first, all consumers are told the same."""

    def model() -> None:
        with interleave.no_interleave():
            world = World()
        both(lambda: first(world, 1), lambda: second(world, 2))
        with interleave.no_interleave():
            world.check()

    explore(model)


def test_nobody_sees_half_a_transaction() -> None:
    """P087: a reader of two keys sees both before or both after."""

    def model() -> None:
        with interleave.no_interleave():
            app = App()
        sums: list[int] = []

        def move() -> None:
            with app.transaction() as tx:
                tx[App.left], tx[App.right] = -1, 1

        def look() -> None:
            sums.append(sum(app.snapshot().values()))
            with contextlib.suppress(ConflictError), app.transaction() as tx:
                sums.append(tx[App.left] + tx[App.right])

        both(move, look)
        assert {0} == set(sums)
        assert (-1, 1, 1) == (app.left.value, app.right.value, app.revision)

    explore(model, 200)


def test_no_wake_up_of_a_blocked_thread_is_lost() -> None:
    """P027: it parks before or after the set, and is woken in every schedule."""

    def model() -> None:
        with interleave.no_interleave():
            watcher = ValueWatcher(0)
        both(lambda: watcher.blocking.wait_for(1), lambda: watcher.set(1))
        listeners = watcher._listeners
        assert listeners is None or {} == listeners.ports

    explore(model, 200)


def test_closing_wakes_a_blocked_reader() -> None:
    """P092: a reader parks before or after the end of the store, and gets to know of it."""

    def model() -> None:
        with interleave.no_interleave():
            watcher = ValueWatcher(0)
            blocking = watcher.blocking.subscribe()
        got: list[int] = []

        def read() -> None:
            got.extend(transition.new for transition in blocking)

        def end() -> None:
            watcher.value = 1
            watcher.close()

        both(read, end)
        assert [1] == got
        blocking.close()

    explore(model, 150)


def test_a_bounded_queue_counts_right_whoever_feeds_it() -> None:
    """P094: setter and reader both take in what is new; nothing is counted twice."""

    def model() -> None:
        with interleave.no_interleave():
            watcher = ValueWatcher(0)
            sub = watcher.blocking.subscribe(maxlen=1)
        got: list[int] = []
        missed = 0

        def read() -> None:
            nonlocal missed
            while sub.pending:
                try:
                    got.append(sub.get_nowait().new)
                except LaggedError as error:
                    missed += error.missed

        both(lambda: [watcher.set(value) for value in (1, 2, 3)], read)
        read()
        assert 3 == len(got) + missed
        assert sorted(got) == got
        assert 3 == got[-1]
        sub.close()

    explore(model, 150)


def test_the_short_way_of_a_set_loses_nothing() -> None:
    """P026: where nobody has to be told, two setters come one after the other as well."""

    def model() -> None:
        with interleave.no_interleave():
            app = App()
            plain = app.left.blocking.subscribe()
        both(lambda: app.left.set(1), lambda: (app.left.set(2), app.right.set(3)))
        got = [plain.get_nowait() for _ in range(plain.pending)]
        assert_chain(0, got)
        assert [1, 2] == sorted(transition.new for transition in got)
        assert (3, 3, got[-1].new) == (app.revision, app.right.value, app.left.value)
        plain.close()

    explore(model, 150)


def test_a_set_that_is_followed_loses_nothing() -> None:
    """P026: the same where a callback and a subscription to all keys are told."""

    def model() -> None:
        with interleave.no_interleave():
            app = App()
            log = app.blocking.subscribe()
            told: list[tuple[int, int]] = []
            app.left.on_change(lambda old, new: told.append((old, new)))
        both(lambda: app.left.set(1), lambda: app.left.set(2))
        got = [log.get_nowait() for _ in range(log.pending)]
        made = [(t.old, t.new) for commit in got for t in commit.transitions]
        assert [1, 2] == sorted(new for _, new in made)
        assert [0, made[0][1]] == [old for old, _ in made]
        assert told == made
        log.close()

    explore(model, 150)
