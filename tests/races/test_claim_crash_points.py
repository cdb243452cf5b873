"""Claims cut short at each point where an interrupt can land: nothing is lost, nobody is stuck."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from statestore import Key, Store, Transaction
from statestore.testing import StepLoop, assert_no_trace
from support.interruptions import each_point, interrupt, is_ours

# In what is called when an object dies, an interrupt goes no further.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Operation = Callable[["World"], Any]


class App(Store):
    """What is claimed."""

    free = Key(0)


def is_some(number: int) -> bool:
    """Tell whether there is something to take."""
    return number > 0


def one_less(number: int) -> int:
    """Take one."""
    return number - 1


def one_more(number: int) -> int:
    """Give one back."""
    return number + 1


def take_one(tx: Transaction) -> None:
    """Take one in a transaction."""
    tx[App.free] -= 1


class World:
    """A store, and three who wait on a loop: two in one line, one in another."""

    def __init__(self) -> None:
        self.app = App()
        self.loop = StepLoop()
        self.given = 0
        self.tasks = [
            self.loop.create_task(self.app.free.claim(is_some, one_less, timeout=1000)),
            self.loop.create_task(self.app.free.claim(lambda free: free > 0, one_less)),
            self.loop.create_task(self.app.claim(self.app.free.matches(is_some), take_one)),  # type: ignore[arg-type]
        ]
        self.loop.settle()

    def give(self) -> None:
        """Have one more to take."""
        self.app.free.update(one_more)
        self.given += 1

    def taken(self) -> int:
        """Give how many were taken, by the log."""
        return self.given - self.app.free.value

    def check(self) -> None:
        """Let all go on: whoever was not cut short gets one."""
        core = self.app._core
        assert [] == [gate for line in core.lines.values() for gate in line.gates]
        for _ in range(5):
            self.loop.settle()
            self.give()
        self.loop.settle()
        assert [True] * 3 == [task.done() for task in self.tasks]
        assert self.app.revision == self.given + self.taken()
        got = [task for task in self.tasks if not task.cancelled() and task.exception() is None]
        # One that was cut short may have got it before, and so may one in the thread.
        assert len(got) <= self.taken() <= len(self.tasks) + 1
        assert {} == core.turns

    def close(self) -> None:
        """Leave nothing behind."""
        self.app.close()
        self.loop.settle()
        for task in self.tasks:
            if task.done() and not task.cancelled():
                task.exception()
        self.loop.__exit__(None, None, None)


def given() -> World:
    """Give a world in which there is one to take, and the loop has not looked."""
    world = World()
    world.give()
    return world


def do_claim(world: World) -> Any:
    """Take what there is."""
    return world.app.free.blocking.claim(is_some, one_less, timeout=0)


def do_claim_of_store(world: World) -> Any:
    """Take what there is in a transaction."""
    return world.app.blocking.claim(world.app.free.matches(is_some), take_one, timeout=0)


def do_drain(world: World) -> Any:
    """Have the loop look, and those try whose turn it is."""
    world.loop.settle()


def do_expire(world: World) -> Any:
    """Have the time of one be up."""
    world.loop.advance(1000)


def do_cancel(world: World) -> Any:
    """Cancel one that has its turn."""
    world.loop.steps(1)
    world.tasks[0].cancel()
    world.loop.settle()


def innermost(error: Any) -> str:
    """Name the function of the package in which *error* came up; nothing without an error."""
    if not isinstance(error, BaseException):
        return ""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return [frame.f_code.co_name for frame in frames if is_ours(frame)][-1]


@pytest.mark.parametrize("operation", [do_claim, do_claim_of_store])
def test_an_interrupted_claim_is_wholly_done_or_not_at_all(operation: Operation) -> None:
    """P104: it has taken one or none, and stands in no line."""
    for world, result in each_point(given, operation, lambda _: interrupt, everywhere=False):
        taken = world.taken()
        assert taken in (0, 1)
        assert taken == 1 or isinstance(result, KeyboardInterrupt)
        world.check()


@pytest.mark.parametrize(
    ("make", "operation"),
    [
        (given, do_drain),
        pytest.param(
            given,
            do_cancel,
            marks=pytest.mark.skipif(
                sys.version_info < (3, 12),
                reason="its trace function cuts a coroutine short outside of its blocks",
            ),
        ),
        (World, do_expire),
    ],
)
def test_an_interrupted_line_goes_on(make: Callable[[], World], operation: Operation) -> None:
    """P104: whatever is cut short, those who wait get what comes."""
    for world, error in each_point(make, operation, lambda _: interrupt, everywhere=False):
        # What lands before the first line of what the loop calls has the loop lose the call.
        if innermost(error) not in {"_drain", "expire"}:
            world.check()


@pytest.mark.parametrize("operation", [do_claim, do_claim_of_store])
def test_a_set_in_the_middle_of_a_claim_is_exact(operation: Operation) -> None:
    """P106: what comes in between is as if it had come just before or just after."""
    for world, _result in each_point(
        given, operation, lambda world: world.give, everywhere=True, step=3
    ):
        assert (2, 1) == (world.given, world.taken())
        world.check()
        assert_no_trace(world.app)
