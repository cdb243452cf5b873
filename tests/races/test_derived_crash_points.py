"""
What cuts an operation on derived watchers short (P104, P109), or comes in between (P106, P107).

Afterwards each consumer must have been told just what the same functions give for the values at
each revision: at the latest with the next operation of the store, whatever that is.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final, TypeAlias

import pytest

from statestore import Commit, Watcher
from statestore.testing import Replay, StepLoop, assert_no_trace, traces_of
from support.derivations import (
    DERIVATIONS,
    App,
    Derivation,
    Step,
    Told,
    double,
    note_failure,
    plain,
    take_all,
)
from support.interruptions import each_point, interrupt, is_ours

ALL: Final = {
    **DERIVATIONS,
    # What is computed in one go with the map before it.
    "text": Derivation(
        lambda app: app.left.map(double).map(str),
        lambda state: (state["left"],),
        lambda left: str(2 * left),
    ),
}

ELSEWHERE: Final = frozenset(
    {
        *("_callbacks", "_classes", "_commits", "_core", "_logging", "_matching", "_queues"),
        *("_records", "_store", "_streams", "_text", "_transaction", "_value_watcher", "_values"),
        "_waits",
    }
)
"""Modules in which operations are cut short by other tests."""


class World:
    """A store whose derived watchers, those of *names*, have consumers of one kind."""

    def __init__(self, kind: str, names: Sequence[str]) -> None:
        self.app = App(on_error=note_failure)
        self.loop = StepLoop()
        self.stack = ExitStack()
        self._log = self.stack.enter_context(self.app.blocking.subscribe())
        self._commits: list[Commit] = []
        self.app.workers.add("a", 0)
        self.app.workers.add("b", 0)
        self.watchers = {name: ALL[name].derive(self.app) for name in names}
        self.base = self.app.left.map(double)
        if "text" in names:
            self.watchers["text"] = self.base.map(str)
        self._kind = kind
        # What each stream is of, since when it is open, and what was taken from it.
        self.streams: list[tuple[str, int, Any, list[Step]]] = []
        self._callbacks: list[tuple[str, int, Told]] = []
        self._waits: list[tuple[str, asyncio.Task[Any], list[Any]]] = []
        self._follow()
        if kind == "loop":
            # Whoever sets this one wakes the loop.
            self._wait("extra", self.app.extra)
            for name, watcher in self.watchers.items():
                if name != "share":
                    self._wait(name, watcher)
            self.loop.settle()

    def _follow(self) -> None:
        """Have one more consumer of each derived watcher."""
        for name, watcher in self.watchers.items():
            since = self.app.revision
            if self._kind == "callbacks":
                told = Told(watcher)
                self.stack.enter_context(told.handle)
                self._callbacks.append((name, since, told))
                continue
            if self._kind == "threads":
                stream: Any = watcher.blocking.subscribe()
            else:
                stream = open_on_loop(self.loop, watcher)
            self.stack.enter_context(stream)
            self.streams.append((name, since, stream, []))

    def _wait(self, name: str, watcher: Watcher[Any]) -> None:
        shown: list[Any] = []

        def look(value: object) -> bool:
            shown.append(plain(value))
            return False

        wait = watcher.wait_until(look, immediate=False)
        self._waits.append((name, self.loop.create_task(wait), shown))

    def check(self, *, at_once: bool) -> None:
        """See that all agree with the commits, *at_once* or later, and go on from here."""
        app = self.app
        if not app.is_closed:
            # All that was left to be told is told with the next operation, whatever that is.
            app.extra.value = 1
        self.loop.settle()
        if at_once:
            self._compare()
        if not app.is_closed:
            # Who begins in the middle of a failure may know of a value before it, or not.
            app.left.value = 6
            self._follow()
            app.left.value = 7
            app.workers.add("c", 7)
            app.right.value = 7
            app.workers["c"].value = 8
            app.left.value = 8
            del app.workers["c"]
            self.loop.settle()
            self._compare()

    def end(self) -> None:
        """Have no consumers any more."""
        self.stack.close()
        # Not kept: the error of a task keeps the frames of its wait.
        while self._waits:
            _, wait, _ = self._waits.pop()
            if not wait.cancel() and not wait.cancelled():
                wait.exception()
            self.loop.settle()

    def _compare(self) -> None:
        self._commits += [self._log.get_nowait() for _ in range(self._log.pending)]
        replay = Replay({"left": 0, "right": 0, "extra": 0}, self._commits)
        for name, since, stream, taken in self.streams:
            taken.extend(take_all(stream))
            assert ALL[name].steps(replay, since) == taken, name
        for name, since, told in self._callbacks:
            told.check(ALL[name].steps(replay, since))
        for name, wait, shown in self._waits:
            if name == "extra":
                continue
            if wait.done() and isinstance(wait.exception(), KeyboardInterrupt):
                # It landed in the test of the wait, which is as if the test had raised it.
                continue
            assert self.app.is_closed == wait.done()
            # One that cuts the showing short has the same value shown again.
            once = [value for value, _ in itertools.groupby(shown)]
            assert [step.new for step in ALL[name].steps(replay, 2)] == once, name

    def close(self) -> None:
        """Leave nothing behind."""
        self.end()
        self.loop.__exit__(None, None, None)


def open_on_loop(loop: StepLoop, watcher: Watcher[Any]) -> Any:
    """Open a queue in a callback of the loop: a task would keep the frames of an interrupt."""
    opened: list[Any] = []
    loop.call_soon(lambda: opened.append(watcher.subscribe()))
    loop.settle()
    return opened.pop()


Operation: TypeAlias = Callable[[World], Any]


def do_move(world: World) -> None:
    """Change keys and members in one commit."""

    def move(tx: Any) -> None:
        tx[App.left], tx[App.right] = 3, 1
        tx[world.app.workers["a"]] = 1
        tx.add(world.app.workers, "d", 4)
        tx.remove(world.app.workers, "b")

    world.app.transact(move)


def do_compute(world: World) -> None:
    """Change a key twice, and have what follows computed."""
    world.app.left.value = 1
    world.app.left.value = 3
    compute(world)


def do_compute_members(world: World) -> None:
    """Change keys and members, and have what follows computed."""
    do_move(world)
    world.app.workers["a"].value = 0
    compute(world)


def compute(world: World) -> None:
    """Let the loop run, or threads look."""
    world.loop.settle()
    for _, _, stream, _ in world.streams:
        assert stream.pending >= 0


def do_read(world: World) -> None:
    """Read values that nobody computes."""
    for watcher in world.watchers.values():
        assert watcher.value is not None


def do_open(world: World) -> None:
    """Open queues of what is followed, and of what is not, and close them."""
    for watcher in some_watchers(world):
        with watcher.blocking.subscribe() as stream:
            assert stream.pending == 0


def do_open_on_loop(world: World) -> None:
    """Do the same on the loop."""
    for watcher in some_watchers(world):
        open_on_loop(world.loop, watcher).close()


def do_register(world: World) -> None:
    """Register callbacks on what is followed, and on what is not, and close them."""
    for watcher in some_watchers(world):
        world.stack.enter_context(watcher.on_change(lambda _old, _new: None)).close()


def some_watchers(world: World) -> list[Watcher[Any]]:
    """Give those of the world, another one, and a part of what is computed in one go."""
    return [*world.watchers.values(), world.app.workers.count(), world.base]


def do_fire(world: World) -> None:
    """Register a callback for a value that is there."""
    world.stack.enter_context(world.app.left.map(double).on_value(0, lambda: None))


def do_close(world: World) -> None:
    """Close the store."""
    world.app.close()


def case(kind: str, operation: Operation, *names: str) -> Any:
    """Give what is cut short, and who listens meanwhile, a readable name."""
    return pytest.param(kind, operation, names, id=f"{kind}-{operation.__name__}")


CASES: Final = [
    case("threads", do_move, "pair", "idle"),
    case("threads", do_compute, "pair"),
    case("threads", do_compute_members, "idle"),
    case("threads", do_read, "pair", "idle", "mapping"),
    case("threads", do_open, "text"),
    case("threads", do_close, "pair", "idle"),
    case("loop", do_move, "pair", "idle"),
    case("loop", do_compute, "pair", "share"),
    case("loop", do_compute_members, "idle", "mapping"),
    case("loop", do_open_on_loop, "text", "mapping"),
    case("loop", do_close, "pair", "idle"),
    case("callbacks", do_compute, "pair", "share"),
    case("callbacks", do_compute_members, "idle", "mapping"),
    case("callbacks", do_register, "mapping"),
    case("callbacks", do_fire, "pair"),
]


# What an exception cuts off from its `with` block is closed by its finalizer, which says so.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.* was never closed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def each_interrupt(
    kind: str, operation: Operation, names: Sequence[str]
) -> Iterator[tuple[World, str]]:
    """Cut *operation* short at each point in turn; give the world, and in which function it was."""
    for world, error in each_point(
        functools.partial(World, kind, names),
        operation,
        lambda _: interrupt,
        everywhere=False,
        passing_over=ELSEWHERE,
    ):
        # In what is called when an object dies, it goes no further.
        place = ""
        if error is not None:
            assert isinstance(error, KeyboardInterrupt)
            place = innermost(error)
            # Its frames would keep alive what was being opened.
            error.__traceback__ = None
        yield world, place


def innermost(error: BaseException) -> str:
    """Name the function of the package in which *error* came up."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__) if is_ours(frame))
    *_, name = (frame.f_code.co_name for frame in frames)
    return name


@pytest.mark.parametrize(("kind", "operation", "names"), CASES)
def test_an_interrupted_operation_leaves_every_consumer_right(
    kind: str, operation: Operation, names: Sequence[str]
) -> None:
    """P104, P109: wherever an exception lands, each is told exactly what followed from what."""
    for world, place in each_interrupt(kind, operation, names):
        # Before the first line of what the loop called, there the loop has lost it; of what the
        # core called, there the core has.
        if place != "_drain":
            world.check(at_once=place != "_feed")


@pytest.mark.parametrize(
    ("kind", "operation", "names"),
    [
        case("threads", do_read, "mapping"),
        case("threads", do_open, "text"),
        case("loop", do_open_on_loop, "text", "mapping"),
    ],
)
def test_an_interrupted_opening_leaves_no_trace(
    kind: str, operation: Operation, names: Sequence[str]
) -> None:
    """P104: what was to be opened, or only read, is not followed for nobody."""
    for world, _ in each_interrupt(kind, operation, names):
        world.end()
        if traces_of(world.app):
            # Wherever it landed, what is left may be in a cycle.
            gc.collect()
        assert_no_trace(world.app)
