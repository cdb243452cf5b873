"""
Wait for a state and change it, as one.

How a claim commits is nothing new: it decides on the very cell that it replaces, or on what its
transaction has read. What stands here is who tries, and when.

- A claim looks at the newest state only: one that came and went cannot be had. So a claimant
  keeps no place in a chain.
- The claimants of one event loop stand in **lines**, in order of arrival: one line for each
  watcher, and one for all claims of the store. Who comes to a line goes to its end; who finds none
  tries at once.
- Of a line one at a time is **chosen**: the first whose condition holds. It alone is woken, and
  tries in its own step; then the line looks again. So a state costs a loop one wake-up, not one for
  each who waits.
- Claimants with one condition are a **group**: it is asked once for all of them.
- Blocked threads with one condition stand in a line too. The first one listens, all others sleep
  until they are the first.
- Lines of different loops, and of threads, know nothing of each other: a loop that has stopped must
  not hold up the others. Between them the commit point decides.

No wake-up is lost: a place is armed *first* and looked at *then*, as every port.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Hashable
from itertools import takewhile
from operator import attrgetter
from types import FunctionType, MethodType
from typing import Any, Final, final

from statestore._core import REVISION, VALUE, Core, Slot
from statestore._explaining import closed_while_waiting, explain, timed_out, with_report
from statestore._formulas import NO_VALUE, good
from statestore._mailbox import LoopMailbox, Test, ThreadPort, loop_mailbox
from statestore._waits import check_timeout
from statestore.errors import DerivationError, KeyRemovedError, UnreachableError

MISSED: Final = object()
"""What an attempt gives whose condition does not hold."""


@final
class Claim:
    """
    What is to be claimed.

    Args:
        core: The order of commits that it belongs to.
        open_slot: Gives the slot that is looked at, in the task or thread that claims.
        test: The condition, of the value of that slot.
        attempt: Commits the change if the condition holds; gives the result, or `MISSED`.
        line: What it is a claim on: those with an equal one stand in one line.
        same: What it shares with all claims of the line that have the same condition.
    """

    __slots__ = ("attempt", "core", "line", "open_slot", "same", "test")

    def __init__(  # noqa: PLR0913 -- all that a claim is made of
        self,
        core: Core,
        open_slot: Callable[[], Slot],
        test: Test,
        attempt: Callable[[Slot], Any],
        *,
        line: Hashable,
        same: Hashable,
    ) -> None:
        self.core = core
        self.open_slot = open_slot
        self.test = test
        self.attempt = attempt
        self.line = line
        self.same = same

    @property
    def key(self) -> Hashable:
        """What it shares with all claims of one condition in one line."""
        return (self.line, self.same)


def identity_of(function: object) -> Hashable:
    """
    Give what is the same for functions that do the same, while one of them is alive.

    A lambda is a new function each time that its line is run. Of two with the same code, globals
    and captured objects one can stand for the other.
    """
    if isinstance(function, MethodType):
        return (id(function.__self__), identity_of(function.__func__))
    if not isinstance(function, FunctionType):
        return id(function)
    named = function.__kwdefaults__ or {}
    return (
        id(function.__code__),
        id(function.__globals__),
        tuple(map(id, function.__closure__ or ())),
        tuple(map(id, function.__defaults__ or ())),
        tuple((name, id(value)) for name, value in named.items()),
    )


@final
class Claimant:
    """One claim that has parked on an event loop."""

    __slots__ = ("began", "claim", "deadline", "error", "future", "group", "has_expired", "order")

    def __init__(self, claim: Claim, seconds: float | None) -> None:
        self.claim = claim
        # By the clock of the loop.
        self.began: float = asyncio.get_running_loop().time()
        self.deadline: float | None = None if seconds is None else self.began + seconds
        self.group: _Group | None = None
        self.order = 0
        self.has_expired = False
        self.error: BaseException | None = None
        self.sleep()

    @property
    def test(self) -> Test:
        """What it waits for."""
        return self.claim.test

    def sleep(self) -> None:
        """Have something to wait for."""
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        """Let the task go on."""
        if not self.future.done():
            self.future.set_result(None)


@final
class _Group:
    """The claimants of a line with one condition, in order of arrival; never empty for long."""

    __slots__ = ("claimants", "key", "place")

    def __init__(self, place: _Place, key: Hashable) -> None:
        self.place = place
        self.key = key
        self.claimants: dict[Claimant, None] = {}

    @property
    def first(self) -> Claimant:
        """The one that is tried first."""
        return next(iter(self.claimants))

    @property
    def order(self) -> int:
        """When the first one came."""
        return self.first.order


_order_of: Final = attrgetter("order")


@final
class _Place:
    """The port of a line on one slot."""

    __slots__ = ("_line", "_ports", "_token", "groups", "slot")

    def __init__(self, line: _Line, slot: Slot) -> None:
        self._line = line
        self._ports = slot._core.listen(slot).ports
        self._token = object()
        self.slot = slot
        self.groups: dict[Hashable, _Group] = {}

    def notify(self) -> None:
        """Have the line look at the slot soon. From any thread."""
        self._line.touch(self)

    def arm(self) -> None:
        """Hear of what comes from now on."""
        # A new token: a setter that is still notifying this place removes the old one.
        token = object()
        self._ports[token] = self
        old, self._token = self._token, token
        self._ports.pop(old, None)

    def disarm(self) -> None:
        """Hear of nothing any more."""
        self._ports.pop(self._token, None)


@final
class _Line:
    """Claimants of one event loop, in order of arrival."""

    __slots__ = ("_arrived", "_chosen", "_core", "_due", "_key", "_mailbox", "_places", "_touched")

    def __init__(self, core: Core, mailbox: LoopMailbox, key: Hashable) -> None:
        self._core = core
        self._mailbox = mailbox
        self._key = key
        self._arrived = 0
        self._places: dict[Slot, _Place] = {}
        # Where there is something new. Written by setters.
        self._touched: dict[_Place, None] = {}
        # Groups that have not been asked about the newest state, or have said that it is theirs.
        self._due: dict[_Group, None] = {}
        self._chosen: Claimant | None = None

    def touch(self, place: _Place) -> None:
        """Have *place* looked at soon. From any thread."""
        self._touched[place] = None
        self._mailbox.notify(self)

    def join(self, claimant: Claimant, slot: Slot, seen: int | None) -> None:
        """Put *claimant*, which has looked up to the revision *seen* if at all, at the end."""
        self._mailbox.lines[self._key] = self
        self._arrived += 1
        claimant.order = self._arrived
        place = self._places.get(slot)
        if place is None:
            place = self._places[slot] = _Place(self, slot)
            place.arm()
        is_first = claimant.claim.same not in place.groups
        self._enter(claimant, place, claimant.claim.same)
        # The others of its group know of the newest state, or will. All may know of the end.
        if (is_first and seen != slot._latest()[REVISION]) or self._core.closed:
            self.touch(place)

    def claimants(self) -> list[tuple[Slot, Claimant]]:
        """List who stands in it, and what each looks at. From any thread."""
        return [
            (place.slot, claimant)
            for place in self._places.copy().values()
            for group in place.groups.copy().values()
            for claimant in group.claimants.copy()
        ]

    def is_chosen(self, claimant: Claimant) -> bool:
        """Tell whether it is the turn of *claimant* to try."""
        return self._chosen is claimant

    def stay(self, claimant: Claimant) -> None:
        """Have *claimant*, which got nothing, wait on at its place."""
        claimant.sleep()
        self._release(claimant)

    def leave(self, claimant: Claimant) -> None:
        """Forget *claimant*, and let the next one try."""
        self._drop(claimant)
        if not self._places and self._mailbox.lines.get(self._key) is self:
            del self._mailbox.lines[self._key]
        self._release(claimant)

    def expire(self, claimant: Claimant) -> None:
        """End *claimant*, whose time is up; but let it look once more when it is its turn."""
        claimant.has_expired = True
        if claimant.future.done() or claimant.group is None:
            return
        try:
            place = claimant.group.place
            # What is derived is computed now: it may have come before the deadline.
            place.slot._latest()
            self._drop(claimant)
            self._places[place.slot] = place
            place.arm()
            self._due[self._enter(claimant, place, claimant)] = None
            self.drain()
        except BaseException:
            claimant.wake()
            raise

    def drain(self) -> None:
        """Look at what is new, and choose who tries."""
        touched = self._touched.copy()
        try:
            for place in touched:
                self._touched.pop(place, None)
                if self._places.get(place.slot) is place:
                    place.arm()
                    self._due.update(dict.fromkeys(place.groups.values()))
            self._core.settle()
            if self._core.closed:
                self._end()
            elif self._chosen is None:
                self._choose()
        except BaseException:
            self._touched.update(touched)
            raise

    def _end(self) -> None:
        for _, claimant in self.claimants():
            claimant.wake()

    def _choose(self) -> None:
        # An interrupt may have left a group that is empty.
        for group in sorted((g for g in self._due if g.claimants), key=_order_of):
            while group.claimants and self._chosen is None:
                claimant = group.first
                holds = self._ask(claimant, group.place.slot)
                # It is woken first: one that is chosen and sleeps on would stop the line.
                if holds:
                    claimant.wake()
                    self._chosen = claimant
                elif holds is None or claimant.has_expired:
                    claimant.wake()
                    self._drop(claimant)
                else:
                    self._due.pop(group, None)
                    break
            if self._chosen is not None:
                break

    def _ask(self, claimant: Claimant, slot: Slot) -> bool | None:
        """Ask its condition about the newest state; None if that raised, which ends the claim."""
        try:
            return bool(claimant.claim.test(good(slot._latest()[VALUE])))
        except BaseException as error:  # noqa: BLE001 -- the claim raises it, whatever it is
            claimant.error = error
            return None

    def _enter(self, claimant: Claimant, place: _Place, key: Hashable) -> _Group:
        group = place.groups.get(key)
        if group is None:
            group = place.groups[key] = _Group(place, key)
        claimant.group = group
        group.claimants[claimant] = None
        return group

    def _drop(self, claimant: Claimant) -> None:
        # Repeatable, and so is `_release()`.
        group = claimant.group
        if group is None:
            # An interrupt came while it joined.
            for place in [*self._places.values()]:
                self._tidy(place)
            return
        group.claimants.pop(claimant, None)
        if not group.claimants:
            self._due.pop(group, None)
            if group.place.groups.get(group.key) is group:
                del group.place.groups[group.key]
            self._tidy(group.place)

    def _tidy(self, place: _Place) -> None:
        if not place.groups:
            place.disarm()
            if self._places.get(place.slot) is place:
                del self._places[place.slot]

    def _release(self, claimant: Claimant) -> None:
        if self._chosen is claimant:
            self._mailbox.notify(self)
            self._chosen = None


async def claim(claim: Claim, timeout: float | None) -> Any:
    """
    Wait until the condition of *claim* holds, and change the state in the same commit.

    Raises:
        WaitTimeoutError: *timeout* seconds have passed.
        StoreClosedError: The store was closed.
    """
    seconds = check_timeout(timeout)
    slot = claim.open_slot()
    try:
        mailbox = loop_mailbox(claim.core, asyncio.get_running_loop())
        seen = None
        if seconds == 0 or claim.line not in mailbox.lines:
            seen = slot._latest()[REVISION]
            result = claim.attempt(slot)
            if result is not MISSED:
                return result
        if seconds == 0:
            raise timed_out(slot, _now(slot), claim.test, 0, ())
        return await _stand(claim, mailbox, slot, seen, seconds)
    except (DerivationError, KeyRemovedError, UnreachableError) as error:
        raise _told_of(error, claim, slot) from error.__cause__
    finally:
        slot._leave()


def _now(slot: Slot) -> tuple[Any, int]:
    """Give the value that there is, and its revision."""
    value, revision, _ = slot._latest()
    return value, revision


def _told_of(
    error: DerivationError | KeyRemovedError | UnreachableError, claim: Claim, slot: Slot
) -> Exception:
    """Have *error* tell of the claim that it ended, if it is that there is no value."""
    at = _now(slot)
    if error.wait is not None or type(at[0]) not in NO_VALUE:
        return error
    return with_report(error, explain(slot, claim.test, *at))


async def _stand(
    claim: Claim, mailbox: LoopMailbox, slot: Slot, seen: int | None, seconds: float | None
) -> Any:
    """Stand in line until *claim*, looked at up to the revision *seen*, has got what it wants."""
    loop = asyncio.get_running_loop()
    line = mailbox.lines.get(claim.line) or _Line(claim.core, mailbox, claim.line)
    claimant, timer = Claimant(claim, seconds), None
    try:
        line.join(claimant, slot, seen)
        if claimant.deadline is not None:
            timer = loop.call_at(claimant.deadline, line.expire, claimant)
        while True:
            await claimant.future
            if claimant.error is not None:
                raise claimant.error
            if claim.core.closed:
                raise closed_while_waiting(slot, _now(slot), claim.test, ())
            # From here to the end of the attempt nothing is awaited: no cancellation comes between
            # the commit and its result.
            if line.is_chosen(claimant):
                result = claim.attempt(slot)
                if result is not MISSED:
                    return result
            if claimant.has_expired:
                raise timed_out(slot, _now(slot), claim.test, seconds or 0, ())
            line.stay(claimant)
    finally:
        # The traceback of an error holds this frame; the frame shall not hold the error.
        claimant.error = None
        try:
            line.leave(claimant)
        except BaseException:
            # An interrupt comes but once: nobody else would let the next one try.
            line.leave(claimant)
            raise
        finally:
            if timer is not None:
                timer.cancel()


@final
class ThreadLine:
    """Blocked threads that claim the same under one condition, in order of arrival."""

    __slots__ = ("claim", "gates", "slot")

    def __init__(self, claim: Claim) -> None:
        # Also holds what identifies the condition: it is not to be taken for another one.
        self.claim = claim
        self.gates: dict[_Gate, None] = {}
        # What the first one looks at, once it does.
        self.slot: Slot | None = None

    def is_first(self, gate: _Gate) -> bool:
        """Tell whether the thread of *gate* has nobody before it that could let it go on."""
        ahead = list(takewhile(lambda other: other is not gate, self.gates.copy()))
        # A frame of the same thread, which a signal handler has interrupted, never would.
        return not ahead or any(other.thread == gate.thread for other in ahead)

    def leave(self, gate: _Gate) -> None:
        """Forget *gate*, and have the next thread look. Repeatable."""
        self.gates.pop(gate, None)
        for other in self.gates.copy():
            other.open()
            return
        lines, key = self.claim.core.lines, self.claim.key
        if lines.get(key) is self:
            lines.pop(key, None)


@final
class _Gate:
    """Where a blocked thread waits to be the first of its line."""

    __slots__ = ("_lock", "began", "deadline", "is_first", "thread")

    def __init__(self, seconds: float | None = None) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.thread = threading.get_ident()
        # By `time.monotonic()`.
        self.began: float = time.monotonic()
        self.deadline: float | None = None if seconds is None else self.began + seconds
        # Whether it has had its turn to look.
        self.is_first = False

    def open(self) -> None:
        """Let the thread look."""
        with contextlib.suppress(RuntimeError):
            # Raised when it is open already.
            self._lock.release()

    def wait(self, seconds: float | None) -> None:
        """Block until the gate is opened, or *seconds* have passed."""
        self._lock.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))


def claim_blocking(claim: Claim, timeout: float | None) -> Any:
    """Do as `claim()`, and block the thread meanwhile."""
    seconds = check_timeout(timeout)
    line: ThreadLine = claim.core.lines.setdefault(claim.key, ThreadLine(claim))
    gate = _Gate(seconds)
    try:
        line.gates[gate] = None
        if seconds != 0:
            _wait_for_turn(line, gate, gate.deadline)
        gate.is_first = True
        return _listen(claim, line, gate, seconds)
    finally:
        try:
            line.leave(gate)
        except BaseException:
            # As in `_stand()`.
            line.leave(gate)
            raise


def _wait_for_turn(line: ThreadLine, gate: _Gate, deadline: float | None) -> None:
    """Sleep until *gate* is the first of *line*, or it is too late."""
    while not line.is_first(gate):
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return
        gate.wait(left)


def _listen(claim: Claim, line: ThreadLine, gate: _Gate, seconds: float | None) -> Any:
    """Try at each state, until the claim has got it or it is too late."""
    slot = line.slot = claim.open_slot()
    deadline, seen = gate.deadline, None
    try:
        while True:
            seen = slot._latest()
            result = claim.attempt(slot)
            if result is not MISSED:
                return result
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise timed_out(slot, _now(slot), claim.test, seconds or 0, ())
            ThreadPort(slot, (claim.test, gate.began, deadline)).park(seen, left)
            if slot._is_ended():
                raise closed_while_waiting(slot, _now(slot), claim.test, ())
    except (DerivationError, KeyRemovedError, UnreachableError) as error:
        raise _told_of(error, claim, slot) from error.__cause__
    finally:
        # Whoever keeps an error keeps this frame, but shall not keep all that follows.
        seen = None
        slot._leave()
