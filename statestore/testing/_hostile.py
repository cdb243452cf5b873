"""
Objects that behave as badly as user code can, and a probe for locks that are held meanwhile.

Nothing in here waits for ever: what does not come in time is an `AssertionError`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, NoReturn, TypeVar, TypeVarTuple, final

import attrs

from statestore._classes import Ref
from statestore.testing._loop import StepLoop

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@final
class BoomError(Exception):
    """What hostile code raises."""


@final
class Panic(BaseException):
    """What hostile code raises to get through `except Exception`."""


def boom(*_args: object) -> NoReturn:
    """
    Raise an error: a predicate, map function, callback or whatever else is called.

    Raises:
        BoomError: Always.
    """
    raise BoomError


def in_thread(act: Callable[[], T], *, timeout: float = 20) -> T:
    """
    Call *act* in another thread, wait for it, and give what it returns or raise what it raises.

    Args:
        act: What to call.
        timeout: Seconds after which this counts as a deadlock.

    Raises:
        AssertionError: It did not come to an end in time. The thread is a daemon, and is left.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def main() -> None:
        try:
            results.append(act())
        except BaseException as error:  # noqa: BLE001 -- raised below, whatever it is
            errors.append(error)

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        msg = f"another thread did not get through within {timeout:g} s: a deadlock"
        raise AssertionError(msg)
    if errors:
        raise errors[0]
    return results[0]


@final
class Probe:
    """
    User code during which another thread does something, and which is not left before that is done.

    Use it as a predicate, a map function, a callback or an `==`: should a lock be held while that
    is called, this finds the deadlock.

        probe = Probe(lambda: app.inflight.set(7))
        app.conn.on_change(probe)
        app.conn.value = "open"
        assert probe.calls == 1
        assert app.inflight.value == 7

    Args:
        act: What the other thread does. Only the first call does it.

    Attributes:
        calls: How often the probe was called.

    Raises (when called):
        AssertionError: The other thread did not get through.
    """

    __slots__ = ("_act", "calls")

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self.calls: int = 0

    def __call__(self, *_args: object) -> None:
        self.calls += 1
        if self.calls == 1:
            in_thread(self._act)


RAISES: Final = Ref[Any](boom)


@final
@attrs.frozen(eq=False, repr=False, kw_only=True)
class Hostile:
    """
    A value, immutable by the letter, whose methods do what they are told.

    A store takes it. What is not told raises `BoomError`.

        value = Hostile(on_repr=Ref(lambda: "x" * 10**6), on_eq=Ref(lambda other: True))

    Attributes:
        on_eq: What `==` and `!=` call with the other object, and give the result of.
        on_hash: What `hash()` calls, and gives the result of.
        on_repr: What `repr()` calls, and gives the result of.
    """

    on_eq: Ref[Callable[[object], Any]] = RAISES
    on_hash: Ref[Callable[[], Any]] = RAISES
    on_repr: Ref[Callable[[], Any]] = RAISES

    def __eq__(self, other: object) -> Any:
        return self.on_eq.target(other)

    def __ne__(self, other: object) -> Any:
        return self.on_eq.target(other)

    def __hash__(self) -> Any:
        return self.on_hash.target()

    def __repr__(self) -> Any:
        return self.on_repr.target()


def equal_by(act: Callable[[object], Any]) -> Hostile:
    """Give a value whose `==` and `!=` are *act*, which is called with the other object."""
    return Hostile(on_eq=Ref(act))


@final
class Undecided:
    """An object that is neither true nor false: an answer that a predicate should not give."""

    __slots__ = ()

    def __bool__(self) -> bool:
        raise BoomError


@final
class BrokenLoop(StepLoop):
    """
    An event loop that other threads cannot wake: it raises an *error* instead, a new one each time.

    Attributes:
        refusals: How often it did so.
    """

    refusals: int

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self._error: type[BaseException] | None = error
        self.refusals = 0

    def mend(self) -> None:
        """Be a good loop from now on."""
        self._error = None

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Raise the error."""
        if self._error is not None:
            self.refusals += 1
            raise self._error
        return super().call_soon_threadsafe(callback, *args, context=context)
