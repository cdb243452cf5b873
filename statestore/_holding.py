"""
Wait until something has been so for a while.

A **run** is a time in which every value was accepted. It begins with the first value that is, and
any value that is not ends it, however short it stood: runs are judged on transitions.

Nobody notes when a commit was made, so a run counts from when it is seen, which is never too early.
A run is full if, at a time when it would be, nothing that was committed before that time ends it:
the clock is read first, and the chain is walked then. Of a break that came up to that time nobody
can say whether it came before the run was full; it counts.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any, final

from statestore._core import NEXT, REVISION, VALUE, Cell, Slot
from statestore._explaining import closed_while_waiting, timed_out, transitions_between
from statestore._formulas import walk_to
from statestore._mailbox import UNSET, Test, ThreadPort, Waiter, trimmed
from statestore._matching import ANYTHING, EqualTo, Wrapping
from statestore._records import Transition
from statestore._text import shorten
from statestore._waits import accepts, begins, check_timeout, error_of, park


def make_hold(test: Test, held_for: float) -> Hold | None:
    """
    Give what judges whether *test* holds for *held_for* seconds; None if no time is enough.

    Raises:
        TypeError: *held_for* is not a number.
        ValueError: It is not a length of time that can pass.
    """
    if isinstance(held_for, bool) or not isinstance(held_for, (int, float)):
        msg = f"held_for must be a number of seconds or None, not {shorten(held_for)}"
        raise TypeError(msg)
    # The negation of it, so that NaN is among them.
    if not 0 <= held_for < math.inf:
        msg = f"held_for must be 0 or more seconds, and not infinite, not {held_for}"
        raise ValueError(msg)
    return Hold(test, held_for) if held_for else None


@final
class Hold(Wrapping):
    """
    The run at hand, if one is on. It is also the test for what is in it.

    When it begins is told in two steps, as the clock must be read after the chain was walked.
    """

    __slots__ = ("_is_on", "_since", "held_for")

    def __init__(self, test: Test, held_for: float) -> None:
        self.test = test
        self.held_for = held_for
        self._is_on = False
        self._since: float | None = None

    def judge(self, *, is_accepted: bool) -> None:
        """Take a value into account: the run goes on, begins or ends."""
        # Of a change nothing can be so for a while but that it was the last one.
        if not is_accepted or self.test is ANYTHING:
            self._since = None
        self._is_on = is_accepted

    def follow(self, slot: Slot, cell: Cell, trail: Cell) -> Cell:
        """Take what follows *cell* into account; give the last cell."""
        while (after := cell[NEXT]) is not None:
            cell = after
            self.judge(is_accepted=accepts(slot, trail, cell, self))
        return cell

    def is_full(self, now: float) -> bool:
        """Tell whether a run that was on at *now* has lasted long enough."""
        return self._since is not None and self._since + self.held_for <= now

    def seen(self, now: float) -> None:
        """Have a run that has begun count from *now*."""
        if self._is_on and self._since is None:
            self._since = now

    def next_look(self, deadline: float) -> float:
        """Give the time at which to look again, if nothing happens before."""
        return deadline if self._since is None else min(deadline, self._since + self.held_for)

    def waiter(self, cell: Cell) -> Waiter:
        """Make what waits behind *cell* for the run to begin or to end."""
        loop = asyncio.get_running_loop()
        if self.test is ANYTHING:
            return Waiter(loop, cell, None, UNSET)
        if self._is_on:
            return Waiter(loop, cell, Break(self), UNSET)
        target = self.test.target if isinstance(self.test, EqualTo) else UNSET
        return Waiter(loop, cell, self.test, target)

    @property
    def suffix(self) -> str:
        """For how long."""
        return f" for {self.held_for:g} s"

    def __call__(self, value: object) -> Any:
        return self.test(value)


@final
class Break(Wrapping):
    """The test for what ends a run."""

    __slots__ = ()

    def __init__(self, hold: Hold) -> None:
        self.test = hold

    def __call__(self, value: object) -> bool:
        return not self.test(value)


async def wait_held(slot: Slot, hold: Hold, *, immediate: bool, timeout: float | None) -> Any:
    """Wait until a run of values of *slot* is full; give the newest value of it."""
    seconds = check_timeout(timeout)
    loop = asyncio.get_running_loop()
    cell = trail = slot._latest()
    since = cell[REVISION]
    if begins(slot, cell, hold.test, immediate=immediate):
        hold.judge(is_accepted=True)
    now = loop.time()
    deadline = math.inf if seconds is None else now + seconds
    hold.seen(now)
    while True:
        # What was derived from something that was committed before is computed now.
        ended = slot._core.closed and slot._is_ended()
        slot._latest()
        cell = hold.follow(slot, cell, trail)
        if hold.is_full(min(now, deadline)):
            return cell[VALUE]
        if ended or now >= deadline:
            try:
                at = (cell[VALUE], cell[REVISION])
                seen = transitions_between(slot, trail, cell, since)
                raise _end_of_wait(slot, hold, at, seen, seconds=None if ended else seconds)
            finally:
                # As in `last_look()`.
                del cell, trail
        now = loop.time()
        hold.seen(now)
        left = hold.next_look(deadline) - now
        waiter = hold.waiter(cell)
        # No frame that sleeps may hold a cell.
        del cell, trail
        await park(slot, waiter, None if left == math.inf else left)
        # As in `last_look()`.
        cell, trail = walk_to(waiter.port.seen, waiter.since), waiter.port.trail()
        if waiter.error is not None:
            try:
                raise error_of(waiter, slot, hold, trail)
            finally:
                # The traceback holds this frame; neither shall hold the error, or what follows.
                waiter.cell = waiter.error = None
                del waiter, cell, trail
        if waiter.cell is not None:
            cell = waiter.cell
            hold.judge(is_accepted=not isinstance(waiter.test, Break))
        # It would keep all that follows.
        del waiter
        now = loop.time()


def wait_held_blocking(slot: Slot, hold: Hold, *, immediate: bool, seconds: float | None) -> Any:
    """Block until a run of values of *slot* is full; give the newest value of it."""
    cell = trail = slot._latest()
    since = cell[REVISION]
    if begins(slot, cell, hold.test, immediate=immediate):
        hold.judge(is_accepted=True)
    now = began = time.monotonic()
    deadline = math.inf if seconds is None else now + seconds
    hold.seen(now)
    while True:
        # Asked before the chain is walked: what was committed before the end is in the chain.
        ended = slot._is_ended()
        cell = hold.follow(slot, cell, trail)
        trail = trimmed(trail, cell)
        if hold.is_full(min(now, deadline)):
            return cell[VALUE]
        if ended or now >= deadline:
            try:
                at = (cell[VALUE], cell[REVISION])
                seen = transitions_between(slot, trail, cell, since)
                raise _end_of_wait(slot, hold, at, seen, seconds=None if ended else seconds)
            finally:
                # As in `last_look()`.
                del cell, trail
        now = time.monotonic()
        hold.seen(now)
        left = max(0.0, hold.next_look(deadline) - now)
        asked = (hold, began, None if seconds is None else deadline)
        ThreadPort(slot, asked).park(cell, None if left == math.inf else left)
        now = time.monotonic()


def _end_of_wait(
    slot: Slot,
    hold: Hold,
    at: tuple[Any, int],
    seen: Sequence[Transition[Any]],
    *,
    seconds: float | None,
) -> Exception:
    """Make the error of a wait that ends at *at*: of its deadline, or of the end of the store."""
    if seconds is None:
        return closed_while_waiting(slot, at, hold, seen)
    return timed_out(slot, at, hold, seconds, seen)
