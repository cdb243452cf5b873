"""
Say what derived watchers must give, from the commits of a store and nothing else.

The functions are applied to the values at each revision, as if there were no watchers at all.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from statestore import (
    BlockingSubscription,
    CallbackFailure,
    CallbackHandle,
    Condition,
    DerivationError,
    Family,
    Key,
    Store,
    StoreClosedError,
    Subscription,
    Transition,
    Watcher,
    all_of,
    combine,
)
from statestore._records import ABSENT
from statestore.testing import Replay

FAILED: Final = "failed"
"""What stands for a value that could not be computed."""

State: TypeAlias = Mapping[str, Any]


class Step(NamedTuple):
    """One transition, or one failure, whose *old* does not count."""

    revision: int
    old: Any
    new: Any


class App(Store):
    """Three numbers, and some that come and go."""

    left = Key(0)
    right = Key(0)
    extra = Key(0)
    workers = Family[str, int](default=0)


class Derivation(NamedTuple):
    """A derived watcher, what it looks at, and what it makes of that."""

    derive: Callable[[Any], Watcher[Any]]
    look: Callable[[State], tuple[Any, ...]]
    function: Callable[..., Any]

    def steps(self, replay: Replay, since: int = 0) -> list[Step]:
        """Give all that one is told who begins to listen at the revision *since*."""
        found: list[Step] = []
        seen = self.look(replay.states[since])
        value = self._apply(seen)
        # Whoever begins in the middle of a failure knows of no value before it.
        good = ABSENT if value == FAILED else value
        for revision, state in enumerate(replay.states[since + 1 :], since + 1):
            before, seen = seen, self.look(state)
            if before == seen:
                continue
            old, value = value, self._apply(seen)
            if value == FAILED:
                found.append(Step(revision, None, FAILED))
            elif value != old:
                found.append(Step(revision, good, value))
                good = value
        return found

    def value(self, state: State) -> Any:
        """Give what it is in *state*."""
        return self._apply(self.look(state))

    def _apply(self, values: tuple[Any, ...]) -> Any:
        try:
            return self.function(*values)
        except ArithmeticError:
            return FAILED


def members_in(state: State) -> dict[str, int]:
    """Give the members of the family, and their values."""
    prefix = "workers["
    return {
        ast.literal_eval(name.removeprefix(prefix)[:-1]): value
        for name, value in state.items()
        if name.startswith(prefix)
    }


def double(value: int) -> int:
    return 2 * value


def is_odd(value: int) -> bool:
    return value % 2 == 1


def is_busy(value: int) -> bool:
    return value > 0


def share(value: int) -> int:
    """Fail for 1."""
    return 100 // (value - 1)


def _pair(app: App) -> Watcher[Any]:
    return combine(app.left.map(double), app.left, app.right)


def _chain(app: App) -> Watcher[Any]:
    return app.left.map(double).map(str).map(len)


def _both_odd(app: App) -> Condition:
    return all_of(app.left.matches(is_odd), ~app.right.matches(is_odd).map(bool).is_(False))


def _idle(app: App) -> Condition:
    return app.workers.all(lambda value: not is_busy(value)) & app.left.matches(is_odd)


DERIVATIONS: Final[Mapping[str, Derivation]] = {
    "pair": Derivation(
        _pair,
        lambda state: (state["left"], state["right"]),
        lambda left, right: (2 * left, left, right),
    ),
    "chain": Derivation(_chain, lambda state: (state["left"],), lambda left: len(str(2 * left))),
    "both odd": Derivation(
        _both_odd,
        lambda state: (state["left"], state["right"]),
        lambda left, right: is_odd(left) and is_odd(right),
    ),
    "share": Derivation(
        lambda app: combine(app.left.map(share), app.left),
        lambda state: (state["left"],),
        lambda left: (share(left), left),
    ),
    "busy": Derivation(
        lambda app: app.workers.count(is_busy),
        lambda state: (members_in(state),),
        lambda members: sum(map(is_busy, members.values())),
    ),
    "idle": Derivation(
        _idle,
        lambda state: (members_in(state), state["left"]),
        lambda members, left: is_odd(left) and not any(map(is_busy, members.values())),
    ),
    "mapping": Derivation(
        lambda app: app.workers.mapping, lambda state: (members_in(state),), dict
    ),
}


def plain(value: Any) -> Any:
    """Give *value* so that it can be compared with what the functions give."""
    return dict(value) if isinstance(value, Mapping) else value


def _step_of(made: Transition[Any]) -> Step:
    return Step(made.revision, plain(made.old), plain(made.new))


def _step_of_failure(error: DerivationError) -> Step:
    return Step(error.revision, None, FAILED)


def take_all(stream: Any) -> list[Step]:
    """Take all that is in the queue of a subscription to a derived watcher."""
    found: list[Step] = []
    with contextlib.suppress(asyncio.QueueEmpty, StoreClosedError):
        while True:
            try:
                found.append(_step_of(stream.get_nowait()))
            except DerivationError as error:
                found.append(_step_of_failure(error))
    return found


def read_to_the_end(stream: BlockingSubscription[Any], found: list[Step]) -> None:
    """Note what *stream* gives until the store is closed."""
    with contextlib.suppress(StopIteration):
        while True:
            try:
                found.append(_step_of(next(stream)))
            except DerivationError as error:
                found.append(_step_of_failure(error))


async def read_to_the_end_on_a_loop(stream: Subscription[Any], found: list[Step]) -> None:
    """Do the same in a task."""
    with contextlib.suppress(StopAsyncIteration):
        while True:
            try:
                found.append(_step_of(await anext(stream)))
            except DerivationError as error:
                found.append(_step_of_failure(error))


class Told:
    """What a callback was told, and that no call began inside of another one."""

    def __init__(self, watcher: Watcher[Any]) -> None:
        self.steps: list[Any] = []
        self.is_nested = False
        self._is_inside = False
        self.handle: CallbackHandle = watcher.on_change(self.note)

    def note(self, old: Any, new: Any) -> None:
        """Be the callback."""
        self.is_nested |= self._is_inside
        self._is_inside = True
        self.steps.append((plain(old), plain(new)))
        self._is_inside = False

    def check(self, steps: Sequence[Step]) -> None:
        """Compare with what it should have been told."""
        assert told_of(steps) == self.steps
        assert not self.is_nested


def told_of(steps: Sequence[Step]) -> list[Any]:
    """Give what a callback is told of *steps*."""
    return [FAILED if new == FAILED else (old, new) for _, old, new in steps]


def note_failure(failure: CallbackFailure) -> None:
    """Note that a callback was told of a failure: the *on_error* of a store with such callbacks."""
    told = getattr(failure.callback, "__self__", None)
    assert isinstance(told, Told), failure
    assert isinstance(failure.error, DerivationError), failure.error
    told.steps.append(FAILED)
