"""
Wait on an event loop for something to become so.

A wait looks at the newest cell, then at whatever is linked behind it, and parks on the last one. So
there is no gap between looking and registering: both happen at the same cell.
"""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, Generic, TypeGuard, TypeVar, cast, overload

from typing_extensions import TypeIs

from statestore._core import NEXT, REVISION, VALUE, Cell, Slot
from statestore._explaining import (
    closed_while_waiting,
    hopeless,
    timed_out,
    transitions_between,
    unanswered,
)
from statestore._formulas import NO_VALUE, walk_to
from statestore._mailbox import UNSET, Bell, Test, Waiter, loop_mailbox
from statestore._matching import ANYTHING, NOT_NONE, EqualTo, Satisfying, UnequalTo
from statestore._reach import begins_with
from statestore._records import NoValue, Removed
from statestore._text import shorten
from statestore.errors import UnreachableError

S = TypeVar("S")
T_co = TypeVar("T_co", covariant=True)

LONGEST: Final = sys.float_info.max
"""Seconds that a wait can be limited to; more is for ever."""


def check_timeout(timeout: float | None) -> float | None:
    """
    Give the number of seconds to wait, None for ever.

    Raises:
        TypeError: *timeout* is not a number.
        ValueError: It is not a number that says how long.
    """
    if timeout is None:
        return None
    kind = type(timeout)
    if (kind is float or kind is int) and 0.0 <= timeout <= LONGEST:
        # The common case. NaN is not among it.
        return timeout
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        msg = f"timeout must be a number of seconds or None, not {shorten(timeout)}"
        raise TypeError(msg)
    if timeout != timeout:  # noqa: PLR0124 -- isnan() fails for an int that no float can hold
        msg = "timeout is NaN, which is no length of time; use None to wait for ever"
        raise ValueError(msg)
    if timeout > LONGEST:
        return None
    return float(max(timeout, 0))


def begins(slot: Slot, cell: Cell, test: Test, *, immediate: bool) -> bool:
    """
    Tell whether a wait that begins at *cell*, the newest one, is over there.

    Raises:
        DerivationError: There is no value to look at.
        KeyRemovedError, UnreachableError: Nothing can come any more.
    """
    value = cell[VALUE]
    if type(value) in NO_VALUE and (immediate or type(value) is Removed):
        raise unanswered(slot, (value, cell[REVISION]), test, ())
    try:
        # The common case of it, written out.
        return bool(test(value)) if immediate else begins_with(value, test, immediate=False)
    except UnreachableError as error:
        raise hopeless(error, slot, (value, cell[REVISION]), test, ()) from None


def advance(slot: Slot, cell: Cell, test: Test) -> tuple[Cell, bool]:
    """
    Look at what follows *cell* until *test* accepts it; give the last cell looked at.

    Raises:
        DerivationError, KeyRemovedError: There is no value to look at.
    """
    first = cell
    while (after := cell[NEXT]) is not None:
        cell = after
        if accepts(slot, first, cell, test):
            return cell, True
    return cell, False


def accepts(slot: Slot, first: Cell, cell: Cell, test: Test) -> bool:
    """
    Ask *test* about *cell*, which came up in a wait that began at *first*.

    Raises:
        DerivationError, KeyRemovedError: There is no value to look at.
        UnreachableError: It is hopeless.
    """
    value, revision, _ = cell
    if type(value) in NO_VALUE:
        seen = transitions_between(slot, first, cell, first[REVISION])
        raise unanswered(slot, (value, revision), test, seen)
    try:
        return bool(test(value))
    except UnreachableError as error:
        seen = transitions_between(slot, first, cell, first[REVISION])
        raise hopeless(error, slot, (value, revision), test, seen) from None


class Waits(ABC, Generic[T_co]):
    """The waits that a watcher and a subscription have in common."""

    __slots__ = ()

    @abstractmethod
    async def _wait(
        self, test: Test, *, immediate: bool, timeout: float | None, held_for: float | None
    ) -> Any:
        """Wait until *test* accepts a value, or has done so for *held_for* s, and return that."""

    async def wait_for(
        self,
        value: object,
        *,
        immediate: bool = True,
        timeout: float | None = None,
        held_for: float | None = None,
    ) -> T_co:
        """
        Wait until the value is, or equals (`==`), *value*; return the value that did.

        Args:
            value: What to wait for.
            immediate: Whether the current value counts. If not, the wait needs a transition to
                *value*, be it away from it and back.
            timeout: Seconds to wait at most; 0 or less only looks. None waits for ever.
            held_for: Seconds for which the value must be so without a break; the newest value of
                that time is returned. They count from when this wait has seen it: the time before
                the call is not known. Every transition counts, so a break that was over before
                this task got to run starts the time anew. Not for subscriptions, which read the
                past.

        Raises:
            WaitTimeoutError: It was not committed in time. What was committed before the deadline
                is found, however late this task gets to run. With *held_for*, the whole time must
                fit in before the deadline.
            StoreClosedError: The store was closed.
            UnreachableError: The key has a lifecycle, and no moves lead there any more.
            TypeError, ValueError: *timeout* or *held_for* is no number of seconds.

        Cancellation:
            Leaves no trace: nothing is consumed, the waiter is gone.

        Cost:
            A set finds those who wait for its value by hash, and touches no others, as long as
            *value* is a number, a string, bytes, an enum member or an object that is only equal to
            itself. Other values are compared one by one.
        """
        test = EqualTo(value)
        return cast(
            "T_co",
            await self._wait(test, immediate=immediate, timeout=timeout, held_for=held_for),
        )

    async def wait_for_not(
        self,
        value: object,
        *,
        immediate: bool = True,
        timeout: float | None = None,
        held_for: float | None = None,
    ) -> T_co:
        """
        Wait until the value differs (`!=`) from *value*; return the value that did.

        Else as `wait_for()`.
        """
        test = UnequalTo(value)
        return cast(
            "T_co",
            await self._wait(test, immediate=immediate, timeout=timeout, held_for=held_for),
        )

    async def wait_for_not_none(
        self: Waits[S | None],
        *,
        immediate: bool = True,
        timeout: float | None = None,
        held_for: float | None = None,
    ) -> S:
        """
        Wait until the value is not None; return it, typed without the None.

        Else as `wait_for()`.
        """
        return cast(
            "S",
            await self._wait(NOT_NONE, immediate=immediate, timeout=timeout, held_for=held_for),
        )

    async def wait_for_change(
        self, *, timeout: float | None = None, held_for: float | None = None
    ) -> T_co:
        """
        Wait for the next transition, whatever it is; return the new value.

        With *held_for*, wait until none has followed it for that long. Else as `wait_for()`.
        """
        return cast(
            "T_co",
            await self._wait(ANYTHING, immediate=False, timeout=timeout, held_for=held_for),
        )

    @overload
    async def wait_until(
        self,
        predicate: Callable[[Any], TypeIs[S]],
        *,
        immediate: bool = True,
        timeout: float | None = None,
        held_for: float | None = None,
    ) -> S: ...

    @overload
    async def wait_until(
        self,
        predicate: Callable[[Any], TypeGuard[S]],
        *,
        immediate: bool = True,
        timeout: float | None = None,
        held_for: float | None = None,
    ) -> S: ...

    @overload
    async def wait_until(
        self,
        predicate: Callable[[T_co], object],
        *,
        immediate: bool = True,
        timeout: float | None = None,
        held_for: float | None = None,
    ) -> T_co: ...

    async def wait_until(
        self,
        predicate: Callable[[Any], object],
        *,
        immediate: bool = True,
        timeout: float | None = None,
        held_for: float | None = None,
    ) -> Any:
        """
        Wait until *predicate* holds; return the value that it held for.

        The watcher may have moved on by the time you read the result.
        A predicate that is a `TypeIs` or `TypeGuard` narrows the type of the result.

        Args:
            predicate: Called once with each value, in order, on this side of the store: it may be
                slow or raise without harm to any other. It must be a plain function.
            immediate: As in `wait_for()`.
            timeout: As in `wait_for()`.
            held_for: As in `wait_for()`. *predicate* must hold for every value of that time.

        Raises:
            Exception: What *predicate* raised, as it is.
            WaitTimeoutError: As in `wait_for()`.
            StoreClosedError: As in `wait_for()`.
            TypeError: *predicate* is asynchronous.

        Cancellation:
            As in `wait_for()`.
        """
        test = Satisfying(predicate)
        return await self._wait(test, immediate=immediate, timeout=timeout, held_for=held_for)


def look(slot: Slot, cell: Cell, test: Test, trail: Cell, since: int) -> tuple[Cell, bool]:
    """
    Look at what follows *cell*, as `advance()`.

    Raises:
        StoreClosedError: *test* accepted none of it, and nothing can come any more.
    """
    # Read before the chain is walked: what was committed before the end is in the chain.
    ended = slot._core.closed and slot._is_ended()
    cell, found = advance(slot, cell, test)
    if ended and not found:
        seen = transitions_between(slot, trail, cell, since)
        raise closed_while_waiting(slot, (cell[VALUE], cell[REVISION]), test, seen)
    return cell, found


async def wait(
    slot: Slot, test: Test, *, immediate: bool, timeout: float | None, gives_cell: bool = False
) -> Any:
    """
    Wait until *test* accepts a value of *slot*, and return it, or the cell that has it.

    Raises:
        WaitTimeoutError: *timeout* seconds have passed.
        StoreClosedError: The store was closed.
    """
    seconds = None if timeout is None else check_timeout(timeout)
    found = begin(slot, test, seconds, immediate=immediate)
    if type(found) is Waiter:
        # `park()`, written out: each coroutine on the way makes it longer.
        try:
            found.port.add(found, seconds)
            await found.future
        except BaseException:
            found.port.abandon(found)
            raise
        found.port.discard(found)
        if found.error is not None or found.cell is None:
            found = last_look(found, slot, test, seconds)
        else:
            found = found.cell
    return found if gives_cell else found[VALUE]


def begin(slot: Slot, test: Test, seconds: float | None, *, immediate: bool) -> Any:
    """
    Look whether a wait is over at once; give the cell that ends it, or what is to be slept on.

    Raises:
        WaitTimeoutError: It is not, and *seconds* are none.
        StoreClosedError: It is not, and the store was closed.
        DerivationError, KeyRemovedError, UnreachableError: It never will be.
    """
    first = cell = slot._latest()
    found = begins(slot, cell, test, immediate=immediate)
    if not found and (cell[NEXT] is not None or slot._core.closed):
        cell, found = look(slot, cell, test, first, first[REVISION])
    if found:
        return cell
    if seconds is None or seconds > 0:
        target = test.target if isinstance(test, EqualTo) else UNSET
        loop = asyncio.get_running_loop()
        waiter = Waiter(loop, cell, None if test is ANYTHING else test, target)
        waiter.port = loop_mailbox(slot._core, loop).port(slot, cell)
        return waiter
    seen = transitions_between(slot, first, cell, first[REVISION])
    try:
        raise timed_out(slot, (cell[VALUE], cell[REVISION]), test, 0.0, seen)
    finally:
        # Whoever keeps the error keeps this frame, but shall not keep all that follows.
        del first, cell


def last_look(waiter: Waiter, slot: Slot, test: Test, seconds: float | None) -> Cell:
    """
    Give the cell that ends a wait, which was woken, but not by a match: there may be one by now.

    Raises:
        WaitTimeoutError: *seconds* have passed.
        StoreClosedError: The store was closed.
        BaseException: *test* raised it.
    """
    # Others of the port may be shown yet what was there before this one began.
    since = waiter.since
    cell, trail = walk_to(waiter.port.seen, since), waiter.port.trail()
    try:
        if waiter.error is not None:
            raise error_of(waiter, slot, test, trail)
        # Neither a match nor an error: the time is up, or the store closed. Either may be followed
        # by more before this task gets to run; what is derived has that computed now.
        slot._latest()
        cell, found = look(slot, cell, test, trail, since)
        if found:
            return cell
        seen = transitions_between(slot, trail, cell, since)
        raise timed_out(slot, (cell[VALUE], cell[REVISION]), test, seconds or 0.0, seen)
    finally:
        # The traceback holds this frame, and that of the caller: neither shall hold an error, or a
        # cell.
        waiter.cell = waiter.error = None
        del waiter.port, cell, trail


def error_of(waiter: Waiter, slot: Slot, test: Test, trail: Cell) -> BaseException:
    """Give the error that ended a wait."""
    error, cell = waiter.error, waiter.cell
    if cell is None or not isinstance(error, (NoValue, UnreachableError)):
        return cast("BaseException", error)
    seen = transitions_between(slot, trail, cell, waiter.since)
    if isinstance(error, NoValue):
        return unanswered(slot, (error, cell[REVISION]), test, seen)
    return hopeless(error, slot, (cell[VALUE], cell[REVISION]), test, seen)


async def doze(
    slot: Slot, is_fed: Callable[[], object], waiter: Waiter, seconds: float | None
) -> None:
    """Sleep until *waiter* is woken by whatever comes, and hold nothing of the chain meanwhile."""
    loop = asyncio.get_running_loop()
    ports = slot._core.listen(slot).ports
    token = object()
    timer = None
    waiter.cell = None
    try:
        ports[token] = Bell(slot, loop_mailbox(slot._core, loop), waiter)
        # Looked at once more: from now on a setter finds the bell.
        slot._latest()
        if not is_fed() and not slot._core.closed:
            if seconds is not None:
                waiter.deadline = waiter.began + seconds
                timer = loop.call_at(waiter.deadline, waiter.wake)
            await waiter.future
    finally:
        ports.pop(token, None)
        if timer is not None:
            timer.cancel()


async def park(slot: Slot, waiter: Waiter, seconds: float | None) -> None:
    """
    Sleep until *waiter* is woken.

    Its port knows the last cell that was looked at on its behalf.
    """
    core, loop = slot._core, waiter.future.get_loop()
    waiter.port = loop_mailbox(core, loop).port(slot, cast("Cell", waiter.cell))
    try:
        waiter.port.add(waiter, seconds)
        await waiter.future
    except BaseException:
        waiter.port.abandon(waiter)
        raise
    waiter.port.discard(waiter)
