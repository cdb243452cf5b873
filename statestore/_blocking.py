"""Wait in a thread, by blocking it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeGuard, TypeVar, cast, overload

from typing_extensions import TypeIs

from statestore._core import REVISION, VALUE, Slot
from statestore._explaining import closed_while_waiting, timed_out, transitions_between
from statestore._mailbox import Test, ThreadPort, running_loop, trimmed
from statestore._matching import ANYTHING, NOT_NONE, EqualTo, Satisfying, UnequalTo
from statestore._waits import advance, begins
from statestore.errors import BlockingError

S = TypeVar("S")
T_co = TypeVar("T_co", covariant=True)


def refuse_on_loop() -> None:
    """
    Refuse to block a thread that is running an event loop.

    Raises:
        BlockingError: It is.
    """
    if running_loop() is not None:
        msg = (
            "a blocking call would stop the event loop that this thread is running; "
            "use the asynchronous twin, or a thread (asyncio.to_thread)"
        )
        raise BlockingError(msg)


class BlockingWaits(ABC, Generic[T_co]):
    """The same waits for a thread: they block it, and are refused where an event loop runs."""

    __slots__ = ()

    @abstractmethod
    def _wait(
        self, test: Test, *, immediate: bool, timeout: float | None, held_for: float | None
    ) -> Any:
        """Wait until *test* accepts a value, or has done so for *held_for* s, and return that."""

    def wait_for(
        self,
        value: object,
        *,
        immediate: bool = True,
        timeout: float | None = None,
        held_for: float | None = None,
    ) -> T_co:
        """
        Block until the value is, or equals, *value*; return the value that did.

        As `Watcher.wait_for()`, but for a thread.

        Raises:
            BlockingError: This thread is running an event loop.
            WaitTimeoutError: It was not committed within *timeout* seconds.
            StoreClosedError: The store was closed.
        """
        test = EqualTo(value)
        return cast(
            "T_co", self._wait(test, immediate=immediate, timeout=timeout, held_for=held_for)
        )

    def wait_for_not(
        self,
        value: object,
        *,
        immediate: bool = True,
        timeout: float | None = None,
        held_for: float | None = None,
    ) -> T_co:
        """Block until the value differs from *value*; return it. Else as `wait_for()`."""
        test = UnequalTo(value)
        return cast(
            "T_co", self._wait(test, immediate=immediate, timeout=timeout, held_for=held_for)
        )

    def wait_for_not_none(
        self: BlockingWaits[S | None],
        *,
        immediate: bool = True,
        timeout: float | None = None,
        held_for: float | None = None,
    ) -> S:
        """Block until the value is not None; return it, typed without. Else as `wait_for()`."""
        return cast(
            "S", self._wait(NOT_NONE, immediate=immediate, timeout=timeout, held_for=held_for)
        )

    def wait_for_change(
        self, *, timeout: float | None = None, held_for: float | None = None
    ) -> T_co:
        """
        Block until the next transition; return the new value.

        As `Watcher.wait_for_change()`, but for a thread.
        """
        return cast(
            "T_co", self._wait(ANYTHING, immediate=False, timeout=timeout, held_for=held_for)
        )

    @overload
    def wait_until(
        self,
        predicate: Callable[[Any], TypeIs[S]],
        *,
        immediate: bool = True,
        timeout: float | None = None,
        held_for: float | None = None,
    ) -> S: ...

    @overload
    def wait_until(
        self,
        predicate: Callable[[Any], TypeGuard[S]],
        *,
        immediate: bool = True,
        timeout: float | None = None,
        held_for: float | None = None,
    ) -> S: ...

    @overload
    def wait_until(
        self,
        predicate: Callable[[T_co], object],
        *,
        immediate: bool = True,
        timeout: float | None = None,
        held_for: float | None = None,
    ) -> T_co: ...

    def wait_until(
        self,
        predicate: Callable[[Any], object],
        *,
        immediate: bool = True,
        timeout: float | None = None,
        held_for: float | None = None,
    ) -> Any:
        """Block until *predicate* holds; return the value it held for. Else as `wait_for()`."""
        test = Satisfying(predicate)
        return self._wait(test, immediate=immediate, timeout=timeout, held_for=held_for)


def wait_blocking(slot: Slot, test: Test, *, immediate: bool, seconds: float | None) -> Any:
    """Block until *test* accepts a value of *slot*, and return it."""
    cell = trail = slot._latest()
    if begins(slot, cell, test, immediate=immediate):
        return cell[VALUE]
    since = cell[REVISION]
    began = time.monotonic()
    deadline = None if seconds is None else began + seconds
    while True:
        # Asked before the chain is walked: what was committed before the end is in the chain.
        ended = slot._is_ended()
        cell, found = advance(slot, cell, test)
        if found:
            return cell[VALUE]
        trail = trimmed(trail, cell)
        left = None if deadline is None else deadline - time.monotonic()
        if ended or (left is not None and left <= 0):
            try:
                at = (cell[VALUE], cell[REVISION])
                seen = transitions_between(slot, trail, cell, since)
                if ended:
                    raise closed_while_waiting(slot, at, test, seen)
                raise timed_out(slot, at, test, seconds or 0, seen)
            finally:
                # As in `wait()`.
                del cell, trail
        ThreadPort(slot, (test, began, deadline)).park(cell, left)
