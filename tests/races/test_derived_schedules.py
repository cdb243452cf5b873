"""
Schedules of two threads, at least one of which has to do with derived watchers.

What a consumer was told is compared with what the same functions give for the values at each
revision, so it is seen whether a transition is lost or told twice, and whether one was computed
from values of two revisions.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from statestore import DerivationError, Watcher
from statestore._mailbox import LoopMailbox, running_loop
from statestore.testing import Replay, StepLoop, assert_no_trace
from support.derivations import (
    DERIVATIONS,
    FAILED,
    App,
    Step,
    Told,
    note_failure,
    plain,
    read_to_the_end,
    read_to_the_end_on_a_loop,
    take_all,
    told_of,
)
from support.schedules import both, explore, interleave

EACH: Final = pytest.mark.parametrize("name", DERIVATIONS)
SOME: Final = pytest.mark.parametrize("name", ["pair", "idle"])
"""A diamond, and a condition of a family."""


class World:
    """A store, one derived watcher of it, and what was committed."""

    def __init__(self, name: str) -> None:
        self.app = App(on_error=note_failure)
        self.derivation = DERIVATIONS[name]
        self.watcher: Watcher[Any] = self.derivation.derive(self.app)
        self._log = self.app.blocking.subscribe()
        self.app.workers.add("a", 0)
        self.start = self.app.revision

    def change(self, mark: int = 1) -> None:
        """Make four commits; every derived watcher has to do with some of them."""
        app = self.app
        app.left.value = mark
        app.workers["a"].value = mark
        app.workers.add(f"b{mark}", mark)

        def move(tx: Any) -> None:
            tx[app.left] = tx[app.left] + 10
            tx[app.right] = mark
            tx[app.workers["a"]] = 0
            tx.remove(app.workers, f"b{mark}")

        app.transact(move)

    def replay(self) -> Replay:
        """Give the values at each revision; this is to be asked once."""
        commits = [self._log.get_nowait() for _ in range(self._log.pending)]
        self._log.close()
        return Replay({"left": 0, "right": 0, "extra": 0}, commits)

    def expected(self, replay: Replay) -> list[Step]:
        """Give what all are told who listen from the beginning."""
        return self.derivation.steps(replay, self.start)

    def begins_between(self, replay: Replay, first: int, last: int, found: object) -> bool:
        """Tell whether *found* is what one is told who began to listen at a revision between."""
        steps = [self.derivation.steps(replay, since) for since in range(first, last + 1)]
        return found in steps or found in [told_of(some) for some in steps]


class Loop(StepLoop):
    """An event loop on which a queue is open, and a task reads another one as it fills."""

    def __init__(self, watcher: Watcher[Any]) -> None:
        super().__init__()
        self.told: list[Step] = []
        self.run(self._open(watcher))
        self.settle()

    async def _open(self, watcher: Watcher[Any]) -> None:
        self.queue = watcher.subscribe()
        self._read = watcher.subscribe()
        self.create_task(read_to_the_end_on_a_loop(self._read, self.told))

    def end(self) -> tuple[list[Step], list[Step]]:
        """Give what both were told in all."""
        self.settle()
        queued = take_all(self.queue)
        self.queue.close()
        self._read.close()
        self.settle()
        self.__exit__(None, None, None)
        return queued, self.told


# --- Begin to listen while others set


@EACH
def test_a_thread_that_opens_misses_and_repeats_nothing(name: str) -> None:
    """P100: it is told all that comes after one revision, that of its opening, and no more."""

    def model() -> None:
        with interleave.no_interleave():
            world = World(name)
        opened: list[Any] = []

        def open_() -> None:
            opened.append(world.app.revision)
            opened.append(world.watcher.blocking.subscribe())
            opened.append(world.app.revision)

        both(world.change, open_)
        with interleave.no_interleave():
            first, stream, last = opened
            found = take_all(stream)
            stream.close()
            assert world.begins_between(world.replay(), first, last, found)
            assert_no_trace(world.app)

    explore(model)


@EACH
def test_a_loop_that_opens_misses_and_repeats_nothing(name: str) -> None:
    """P100: the same for two queues that share what is computed on an event loop."""

    def model() -> None:
        with interleave.no_interleave():
            world = World(name)
        opened: list[Any] = []

        def open_() -> None:
            opened.append(world.app.revision)
            opened.append(Loop(world.watcher))
            opened.append(world.app.revision)

        both(world.change, open_)
        with interleave.no_interleave():
            first, loop, last = opened
            queued, told = loop.end()
            replay = world.replay()
            assert world.begins_between(replay, first, last, queued)
            assert world.begins_between(replay, first, last, told)

    explore(model)


@EACH
def test_the_first_value_is_followed_by_what_comes_after_it(name: str) -> None:
    """P100: a thread is given a value of one revision, and then each later one."""

    def model() -> None:
        with interleave.no_interleave():
            world = World(name)
        got: list[Any] = []

        def read() -> None:
            with world.watcher.blocking.values() as values:
                got.extend((world.app.revision, plain(values.get_nowait())))
                world.app.extra.value = 1
                while values.pending:
                    try:
                        got.append(plain(values.get_nowait()))
                    except DerivationError:
                        got.append(FAILED)

        both(lambda: world.app.left.set(2), read)
        with interleave.no_interleave():
            replay = world.replay()
            last, first, *later = got
            assert first in [world.derivation.value(state) for state in replay.states[: last + 1]]
            assert later == [step.new for step in world.expected(replay)][-len(later) :] or (
                later == []
            )

    if name != "share":
        explore(model)


# --- Listen while several set


@EACH
def test_two_setters_cause_each_transition_once_and_in_order(name: str) -> None:
    """P026, P100: whoever commits, whoever listens is told the same, never of half a commit."""

    def model() -> None:
        with interleave.no_interleave():
            world = World(name)
            stream = world.watcher.blocking.subscribe()
            bounded = world.watcher.blocking.subscribe(maxlen=100)
            told = Told(world.watcher)
            loop = Loop(world.watcher)
        both(lambda: world.change(1), lambda: world.change(2))
        with interleave.no_interleave():
            expected = world.expected(world.replay())
            assert expected == take_all(stream)
            assert expected == take_all(bounded)
            assert (expected, expected) == loop.end()
            told.check(expected)
            for one in (stream, bounded, told.handle):
                one.close()
            assert_no_trace(world.app)

    explore(model)


@SOME
def test_a_value_is_of_one_revision(name: str) -> None:
    """P087, P100: who reads without listening is given what one revision gives, a current one."""

    def model() -> None:
        with interleave.no_interleave():
            world = World(name)
        reads: list[tuple[int, Any, int]] = []

        def read() -> None:
            for _ in range(3):
                first = world.app.revision
                reads.append((first, world.watcher.value, world.app.revision))

        both(world.change, read)
        with interleave.no_interleave():
            states = world.replay().states
            for first, value, last in reads:
                values = [world.derivation.value(state) for state in states[first : last + 1]]
                assert value in values

    explore(model, 40)


# --- Mark what is new while it is computed


@EACH
def test_no_wake_up_of_a_loop_is_lost(name: str) -> None:
    """P027: what is marked while the loop computes is computed, then or later."""

    def model() -> None:
        with interleave.no_interleave():
            world = World(name)
            loop = Loop(world.watcher)

        def run() -> None:
            for _ in range(3):
                loop.settle()

        both(world.change, run)
        with interleave.no_interleave():
            expected = world.expected(world.replay())
            assert (expected, expected) == loop.end()

    explore(model)


@EACH
def test_nothing_is_lost_to_a_thread_that_reads_meanwhile(name: str) -> None:
    """P027: a queue that is read while others set gives all there is in the end."""

    def model() -> None:
        with interleave.no_interleave():
            world = World(name)
            stream = world.watcher.blocking.subscribe()
        found: list[Step] = []

        def read() -> None:
            for _ in range(3):
                found.extend(take_all(stream))

        both(world.change, read)
        with interleave.no_interleave():
            found += take_all(stream)
            stream.close()
            assert world.expected(world.replay()) == found

    explore(model)


@SOME
def test_a_blocked_thread_that_waits_for_a_condition_is_woken(name: str) -> None:
    """P027: it parks before or after the commit, and goes on in every schedule."""

    def model() -> None:
        with interleave.no_interleave():
            world = World(name)
        got: list[Any] = []

        def wait() -> None:
            condition = world.watcher.matches(lambda value: value is True or value == (2, 1, 1))
            got.append(condition.blocking.wait_for(True))

        def change() -> None:
            with world.app.transaction() as tx:
                tx[world.app.workers["a"]] = 2
                tx[world.app.left] = 1
            with world.app.transaction() as tx:
                tx[world.app.workers["a"]] = 0
                tx[world.app.right] = 1

        both(wait, change)
        assert [True] == got
        with interleave.no_interleave():
            world.replay()
            assert_no_trace(world.app)

    explore(model, 40)


@SOME
def test_a_moment_is_not_missed_by_a_blocked_thread(name: str) -> None:
    """P018: what held between two commits is found by a queue that was opened before."""

    def model() -> None:
        with interleave.no_interleave():
            world = World(name)
            stream = world.watcher.blocking.subscribe()
        both(stream.wait_for_change, lambda: world.change(1))
        with interleave.no_interleave():
            # The wait has taken the first one.
            assert world.expected(world.replay())[1:] == take_all(stream)
            stream.close()
            assert_no_trace(world.app)

    explore(model, 40)


@EACH
def test_the_end_of_the_store_comes_after_all_that_was_before(name: str) -> None:
    """P092: a blocked reader is given every transition, and then the end."""

    def model() -> None:
        with interleave.no_interleave():
            world = World(name)
            stream = world.watcher.blocking.subscribe()
        found: list[Step] = []

        def change() -> None:
            world.change(1)
            world.app.close()

        both(lambda: read_to_the_end(stream, found), change)
        with interleave.no_interleave():
            stream.close()
            assert world.expected(world.replay()) == found

    explore(model)


@SOME
def test_two_loops_follow_one_derived_watcher(name: str) -> None:
    """P038, P100: each computes for itself, and both are told the same."""

    def model() -> None:
        with interleave.no_interleave():
            world = World(name)
            loops = Loop(world.watcher), Loop(world.watcher)

        def change_and_run() -> None:
            world.app.left.value = 1
            loops[0].settle()
            world.app.workers["a"].value = 1

        def run() -> None:
            world.app.right.value = 1
            for _ in range(2):
                loops[1].settle()

        both(change_and_run, run)
        with interleave.no_interleave():
            expected = world.expected(world.replay())
            assert [(expected, expected)] * 2 == [loop.end() for loop in loops]

    explore(model)


# --- Callbacks


@EACH
def test_a_callback_that_is_registered_meanwhile_is_told_of_all_that_follows(name: str) -> None:
    """P100: it is told from one revision on, that of its registration, whoever calls it."""

    def model() -> None:
        with interleave.no_interleave():
            world = World(name)
            other = world.app.left.on_change(lambda _old, _new: None)
        registered: list[Any] = []

        def register() -> None:
            registered.append(world.app.revision)
            registered.append(Told(world.watcher))
            registered.append(world.app.revision)

        both(world.change, register)
        with interleave.no_interleave():
            first, told, last = registered
            world.change(2)
            told.handle.close()
            other.close()
            assert world.begins_between(world.replay(), first, last, told.steps)
            assert not told.is_nested
            assert_no_trace(world.app)

    explore(model, 40)


@SOME
def test_two_callbacks_that_are_registered_at_once_are_both_told(name: str) -> None:
    """P100: each is told of all that follows, also if they are the first ones of the store."""

    def model() -> None:
        with interleave.no_interleave():
            world = World(name)
        registered: list[Told] = []

        def register() -> None:
            registered.append(Told(world.watcher))

        both(register, register)
        with interleave.no_interleave():
            world.change(1)
            expected = world.expected(world.replay())
            for told in registered:
                told.check(expected)
                told.handle.close()
            assert_no_trace(world.app)

    explore(model, 40)


@SOME
def test_closing_one_callback_leaves_the_others_their_transitions(name: str) -> None:
    """P055: a closed one has been told of the first of them, the others of all."""

    def model() -> None:
        with interleave.no_interleave():
            world = World(name)
            first, second = Told(world.watcher), Told(world.watcher)
            other = Told(world.app.left.map(lambda value: value))
        both(lambda: world.change(1), lambda: (first.handle.close(), other.handle.close()))
        with interleave.no_interleave():
            told = len(first.steps)
            world.change(2)
            expected = world.expected(world.replay())
            second.check(expected)
            first.check(expected[:told])
            second.handle.close()
            assert_no_trace(world.app)

    explore(model)


# --- Drop what others do not follow


@SOME
def test_a_queue_that_is_dropped_meanwhile_takes_nothing_from_the_others(name: str) -> None:
    """P103: what a thread no longer follows goes, and no other consumer notices."""

    def model() -> None:
        with interleave.no_interleave():
            world = World(name)
            dropped = world.watcher.blocking.subscribe()
            stream = world.watcher.blocking.subscribe()
            loop = Loop(world.watcher)
            of_loop = loop.run(_open(world.watcher.map(str)))
        both(lambda: world.change(1), lambda: (dropped.close(), of_loop.close()))
        with interleave.no_interleave():
            expected = world.expected(world.replay())
            assert expected == take_all(stream)
            assert (expected, expected) == loop.end()
            stream.close()
            assert_no_trace(world.app)

    explore(model)


async def _open(watcher: Watcher[Any]) -> Any:
    return watcher.subscribe()


@pytest.fixture
def loops_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each loop count as running where it does not run, though its thread takes turns."""
    monkeypatch.setattr(LoopMailbox, "is_elsewhere", lambda box: running_loop() is not box._loop)


def test_a_queue_that_another_thread_closes_hides_nothing(loops_run: None) -> None:
    """P103: a loop sees its own commit at once, whatever of it is closed elsewhere meanwhile."""

    def model() -> None:
        with interleave.no_interleave():
            world = World("pair")
            loop = Loop(world.watcher)
            other = loop.run(_open(world.app.left.map(str)))
            seen: list[int] = []
            loop.call_soon(lambda: seen.append(loop.queue.pending))
            world.app.left.value = 1
        both(lambda: loop.steps(1), other.close)
        with interleave.no_interleave():
            assert [1] == seen
            expected = world.expected(world.replay())
            assert (expected, expected) == loop.end()

    explore(model, 100)


def test_a_queue_that_another_thread_closes_takes_nothing_from_the_end(loops_run: None) -> None:
    """P092: what came before the end of the store is delivered, whatever is closed meanwhile."""

    def model() -> None:
        with interleave.no_interleave():
            world = World("pair")
            loop = Loop(world.watcher)
            other = loop.run(_open(world.app.left.map(str)))
            world.app.left.value = 1
            world.app.close()
        both(other.close, loop.settle)
        with interleave.no_interleave():
            expected = world.expected(world.replay())
            assert (expected, expected) == loop.end()

    explore(model, 100)
