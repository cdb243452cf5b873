"""
Derived watchers of every kind, and everybody who can listen to one.

What holds for all of them is written once: a test takes the kind and the listener as parameters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from statestore import (
    CallbackFailure,
    DerivationError,
    Key,
    Store,
    StoreClosedError,
    Transition,
    Watcher,
    at_least,
    combine,
)
from statestore.testing import BoomError, StepLoop

Error = TypeVar("Error", bound=BaseException)
Function: TypeAlias = Callable[[int], int]


class App(Store):
    """What is derived from."""

    n = Key(0)
    other = Key(0)


@attrs.frozen
class Kind:
    """
    A way to derive from `n`, by a function of it.

    Attributes:
        derive: Make the watcher, which calls the function once for each value of `n`.
        of: What it gives for what the function gives. It differs from each number to the next one.
    """

    derive: Callable[[App, Function], Watcher[Any]]
    of: Callable[[int], Any]


def _diamond(app: App, function: Function) -> Watcher[Any]:
    top = app.n.map(function)
    return combine(top.map(lambda r: r + 1), top.map(lambda r: r * 2))


def _nested(app: App, function: Function) -> Watcher[Any]:
    top = app.n.map(function)
    is_odd = combine(top, app.other).map(sum).matches(_is_odd)
    return combine(is_odd & app.other.is_(0), top)


def _is_odd(result: int) -> bool:
    return result % 2 == 1


KINDS: Final[dict[str, Kind]] = {
    "map": Kind(lambda app, f: app.n.map(f), lambda r: r),
    "combine using": Kind(
        lambda app, f: combine(app.n, app.other, using=lambda n, other: f(n) + other), lambda r: r
    ),
    "diamond": Kind(_diamond, lambda r: (r + 1, r * 2)),
    "matches": Kind(lambda app, f: app.n.matches(lambda n: f(n) % 2), _is_odd),
    "not": Kind(lambda app, f: ~app.n.matches(lambda n: f(n) % 2), lambda r: not _is_odd(r)),
    "and": Kind(lambda app, f: app.n.matches(lambda n: f(n) % 2) & app.other.is_(0), _is_odd),
    "at_least": Kind(
        lambda app, f: at_least(2, app.other.is_(0), app.n.matches(lambda n: f(n) % 2)), _is_odd
    ),
    "nested": Kind(_nested, lambda r: (_is_odd(r), r)),
}
"""All kinds but those that are made by a family."""


class Case:
    """
    A store, and a watcher that is derived of its `n`.

    Attributes:
        derived: The watcher. It fails for a negative `n`, and gives the same for *n* and *n* + 100.
        calls: The values of `n` for which it was computed.
        interrupts: The values of `n` whose next computation is interrupted.
        failures: What was reported of callbacks.
        hear: What it is reported to.
    """

    def __init__(self, kind: str) -> None:
        self._kind = KINDS[kind]
        self.failures: list[CallbackFailure] = []
        self.hear: Callable[[CallbackFailure], None] = self.failures.append
        self.app = App(on_error=self._report)
        self.calls: list[int] = []
        self.interrupts: list[int] = []
        self.derived = self._kind.derive(self.app, self.function)

    def _report(self, failure: CallbackFailure) -> None:
        # Its frames would keep what they listened to.
        failure.error.__traceback__ = None
        self.hear(failure)

    def function(self, n: int) -> int:
        """Give the last two digits."""
        self.calls.append(n)
        if n in self.interrupts:
            self.interrupts.remove(n)
            raise KeyboardInterrupt
        if n < 0:
            raise BoomError
        return n % 100

    def of(self, n: int) -> Any:
        """Give the value of the watcher when `n` is *n*."""
        return self._kind.of(n % 100)

    def set(self, *values: int) -> None:
        """Set `n`, one value after the other."""
        for value in values:
            self.app.n.value = value

    def called(self) -> list[int]:
        """Give for what it was computed since this was asked last."""
        calls, self.calls[:] = self.calls.copy(), []
        return calls


@attrs.frozen
class Failed:
    """What a listener notes of a transition to no value."""

    revision: int


News: TypeAlias = Callable[[], list[Any]]
"""Give what a listener was told since this was asked last: values, and what stands for failures."""

Listen: TypeAlias = Callable[[Case, StepLoop], AbstractContextManager[News]]


def drain(stream: Any) -> list[Any]:
    """Take all that is there: records or values, and what stands for failures."""
    taken: list[Any] = []
    while True:
        try:
            taken.append(stream.get_nowait())
        except (asyncio.QueueEmpty, StoreClosedError):
            return taken
        except DerivationError as error:
            taken.append(Failed(error.revision))


def new_of(record: Any) -> Any:
    """Give the value that a stream has led to with *record*."""
    return record.new if isinstance(record, Transition) else record


def raised(kind: type[Error], act: Callable[[], object]) -> Error:
    """
    Give the error of this *kind* that *act* raises.

    Without its traceback, whose frames would keep what they listened to.
    """
    try:
        act()
    except kind as error:
        return error.with_traceback(None)
    msg = f"no {kind.__name__}"
    raise AssertionError(msg)


async def call(function: Callable[[], Any]) -> Any:
    """Call *function* where a loop runs."""
    return function()


def _reading(open_stream: Callable[[Watcher[Any]], Any], *, skip: int = 0) -> Listen:
    """Have a task read a stream, all but the first *skip* items."""

    @contextmanager
    def listen(case: Case, loop: StepLoop) -> Iterator[News]:
        taken: list[Any] = []

        async def read() -> None:
            with open_stream(case.derived) as stream:
                while True:
                    try:
                        taken.append(new_of(await anext(stream)))
                    except DerivationError as error:
                        taken.append(Failed(error.revision))
                    except StopAsyncIteration:
                        return

        task = loop.create_task(read())
        loop.settle()
        del taken[:skip]
        yield lambda: _emptied(loop, taken)
        task.cancel()
        del task
        loop.settle()

    return listen


@contextmanager
def _waiting(case: Case, loop: StepLoop) -> Iterator[News]:
    """Have a task wait for one change after the other on a subscription."""
    taken: list[Any] = []

    async def wait() -> None:
        with case.derived.subscribe() as sub:
            while True:
                try:
                    taken.append(await sub.wait_for_change())
                except DerivationError as error:
                    taken.append(Failed(error.revision))
                except StoreClosedError:
                    return

    task = loop.create_task(wait())
    loop.settle()
    yield lambda: _emptied(loop, taken)
    task.cancel()
    del task
    loop.settle()


def _polling(open_stream: Callable[[Watcher[Any]], Any], *, on_loop: bool, skip: int = 0) -> Listen:
    """Look now and then."""

    @contextmanager
    def listen(case: Case, loop: StepLoop) -> Iterator[News]:
        def opened() -> Any:
            return open_stream(case.derived)

        with closing(loop.run(call(opened)) if on_loop else opened()) as stream:
            for _ in range(skip):
                _skip(stream)
            yield lambda: [new_of(record) for record in drain(stream)]
        # It was woken for what was taken without that.
        loop.settle()

    return listen


def _skip(stream: Any) -> None:
    with suppress(DerivationError):
        stream.get_nowait()


@contextmanager
def _called(case: Case, loop: StepLoop) -> Iterator[News]:
    """Have a callback called, and hear what is reported of it."""
    taken: list[Any] = []

    def hear(failure: CallbackFailure) -> None:
        assert isinstance(failure.error, DerivationError)
        taken.append(Failed(failure.error.revision))

    case.hear = hear
    with case.derived.on_change(lambda _old, new: taken.append(new)):
        yield lambda: _emptied(loop, taken)


def _emptied(loop: StepLoop, taken: list[Any]) -> list[Any]:
    loop.settle()
    news, taken[:] = taken.copy(), []
    return news


LISTENERS: Final[dict[str, Listen]] = {
    "subscription": _reading(lambda w: w.subscribe()),
    "bounded subscription": _reading(lambda w: w.subscribe(maxlen=1_000)),
    "values": _reading(lambda w: w.values(), skip=1),
    "waits": _waiting,
    "polled": _polling(lambda w: w.subscribe(), on_loop=True),
    "polled without a loop": _polling(lambda w: w.subscribe(), on_loop=False),
    "blocking": _polling(lambda w: w.blocking.values(), on_loop=False, skip=1),
    "callback": _called,
}
"""Everybody who is told of every transition."""
