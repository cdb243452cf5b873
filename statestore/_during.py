"""
Work that is bound to a state: cancelled when the state ends.

What is right is what `asyncio.timeout()` does, with the end of a state in place of a deadline:

- A task is cancelled by a callback of its loop, never by itself. So it is suspended then, and the
  cancellation comes out of the very place where it is suspended, or where it suspends next.
- Each request to cancel is taken back once (`Task.uncancel()`). If there are more of them than
  when the work began, somebody else wants the task to end as well, and his cancellation goes on.
- Nothing but that cancellation is held back. What the work raises goes through.

A state is one unbroken run of values that equal it. Its end is looked for from the cell at which it
was found, so there is no gap, and coming back is another visit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast, final

from statestore._core import REVISION, VALUE, Cell, Slot
from statestore._explaining import closed_while_waiting
from statestore._formulas import walk_to
from statestore._mailbox import UNSET, LoopPort, Test, Waiter, loop_mailbox
from statestore._reach import reaching
from statestore._records import Transition, make_transition
from statestore._text import spell
from statestore._waits import advance, error_of, wait
from statestore.errors import StateStoreError

T_co = TypeVar("T_co", covariant=True)


@final
class _End:
    """The test for what ends a state; it knows the newest value that did not."""

    __slots__ = ("_is_within", "value")

    def __init__(self, is_within: Test, value: object) -> None:
        self._is_within = is_within
        self.value = value

    def __call__(self, value: object) -> bool:
        if self._is_within(value):
            self.value = value
            return False
        return True

    def __str__(self) -> str:
        return f"to leave {spell(self.value)}"


@final
class Guard:
    """
    What cancels the task that made it as soon as a state ends, for as long as its block lasts.

    Args:
        slot: What has the state.
        cell: Where the state begins, or any later cell of the same visit.
        is_within: Whether a value still is the state.

    Attributes:
        ended: The transition that ended the state, once that is known.
        error: Why the task was cancelled, if it is no transition.
    """

    __slots__ = (
        "_end",
        "_has_cancelled",
        "_is_over",
        "_port",
        "_requests",
        "_task",
        "_waiter",
        "ended",
        "error",
        "slot",
    )

    def __init__(self, slot: Slot, cell: Cell, is_within: Test) -> None:
        self.slot = slot
        self._task = current_task()
        # To cancel the task, made before this and still open.
        self._requests = self._task.cancelling()
        self._end = _End(is_within, cell[VALUE])
        self.error: BaseException | None = None
        # Whether the end was seen, or is not looked for any more.
        self._is_over = False
        self._has_cancelled = False
        self._port: LoopPort | None = None
        self.ended: Transition[Any] | None = None
        self._waiter = self._watch(cell)
        self._waiter.future.add_done_callback(self._cancel)

    def _watch(self, cell: Cell) -> Waiter:
        """Have the future of a waiter done when the state ends, or very soon if it has."""
        # Asked before the chain is walked: what was committed before the end is in the chain.
        is_closed = self.slot._core.closed and self.slot._is_ended()
        error: Exception | None = None
        is_found = False
        try:
            cell, is_found = advance(self.slot, cell, self._end)
        except Exception as raised:  # noqa: BLE001 -- it ends the state, as one that comes later
            error = raised
        waiter = Waiter(asyncio.get_running_loop(), cell, self._end, UNSET)
        if is_found or is_closed or error is not None:
            waiter.cell, waiter.error = cell if is_found else None, error
            waiter.wake()
            # The traceback holds this frame; this shall not hold the error.
            error = None
        else:
            mailbox = loop_mailbox(self.slot._core, waiter.future.get_loop())
            self._port = mailbox.port(self.slot, cell)
            self._port.add(waiter)
        return waiter

    def _cancel(self, _woken: object) -> None:
        # The loop may have taken this call before the block was left. After an interrupt it comes
        # once more.
        if not self._is_over:
            self.error = self._error()
            if not self._has_cancelled:
                self._has_cancelled = True
                self._task.cancel()
            self._let_go()

    def _error(self) -> BaseException | None:
        """Give the error that ended the state, if one did."""
        waiter, port = self._waiter, self._port
        at = (self._end.value, waiter.since)
        if waiter.error is not None:
            trail = waiter.cell if port is None else port.trail()
            return error_of(waiter, self.slot, self._end, trail or [*at, None])
        if waiter.cell is None:
            return closed_while_waiting(self.slot, at, self._end, ())
        return None

    def _look(self) -> None:
        """See whether the state has ended by now, though nobody was told in time."""
        waiter, port = self._waiter, self._port
        if port is not None and not waiter.future.done():
            self.slot._latest()
            # An error does not count any more: the work is done.
            with suppress(Exception):
                start = walk_to(port.seen, waiter.since)
                cell, is_found = advance(self.slot, start, self._end)
                waiter.cell = cell if is_found else None
        waiter.future.remove_done_callback(self._cancel)
        self._let_go()

    def _let_go(self) -> None:
        """Note what ended the state, and keep nothing of the chain."""
        waiter, cell = self._waiter, self._waiter.cell
        if self._port is not None:
            self._port.discard(waiter)
        if cell is not None and waiter.error is None:
            name = self.slot._name
            self.ended = make_transition(name, self._end.value, cell[VALUE], cell[REVISION], 0)
        # Last: what an interrupt cuts short before is done once more.
        self._is_over = True
        self._port = waiter.cell = waiter.error = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not self._is_over:
            self._look()
        if not self._has_cancelled or self._task.uncancel() > self._requests:
            return False
        return kind is not None and issubclass(kind, asyncio.CancelledError)


def current_task() -> asyncio.Task[Any]:
    """
    Give the task that is running.

    Raises:
        StateStoreError: There is none that could be cancelled.
    """
    task = asyncio.current_task()
    if task is None:
        msg = "work can be bound to a state only in a task; start one with asyncio.create_task()"
        raise StateStoreError(msg)
    return task


@final
class During(Generic[T_co]):
    """
    A block of work that lasts as long as a state, from `Watcher.during()`.

        async with app.conn.during(Conn.CONNECTED) as scope:
            await serve()  # cancelled when the connection is no longer connected
        print(scope.ended)

    It is entered once; each block needs one of its own.
    """

    __slots__ = ("_guard", "_is_entered", "_is_within", "_open", "_timeout")

    def __init__(self, open_: Callable[[], Slot], is_within: Test, timeout: float | None) -> None:
        self._open = open_
        self._is_within = is_within
        self._timeout = timeout
        self._is_entered = False
        self._guard: Guard | None = None

    @property
    def ended(self) -> Transition[T_co] | None:
        """
        The transition that ended the state, from when the block is cancelled or over.

        None says that the state still held when the block was over, or that an error ended it.
        """
        return None if self._guard is None else self._guard.ended

    async def __aenter__(self) -> Self:
        """
        Wait for the state. Raises and is cancelled as `Watcher.wait_for()`.

        Raises:
            StateStoreError: This was entered before, or by no task.
        """
        current_task()
        if self._is_entered:
            msg = "a block of during() is entered once; call during() again for another one"
            raise StateStoreError(msg)
        self._is_entered = True
        slot = self._open()
        try:
            test = reaching(slot, self._is_within)
            cell = await wait(slot, test, immediate=True, timeout=self._timeout, gives_cell=True)
            self._guard = Guard(slot, cell, self._is_within)
        except BaseException:
            slot._leave()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        guard = cast("Guard", self._guard)
        try:
            is_ours = guard.__exit__(kind, error, traceback)
            if is_ours and guard.error is not None:
                raise guard.error
            return is_ours
        finally:
            # The traceback of the error holds this frame; this shall not hold the error.
            guard.error = None
            guard.slot._leave()
