"""
Where consumers run: on an event loop, or in a thread that blocks.

The only module, beside its subclasses of consumers, that knows asyncio and threads.

A **port** is the meeting point of one slot and one mailbox. It walks the slot's chain of cells on
the mailbox's side, so its state needs no lock, and a setter only has to say `notify()`.

No wake-up is lost: a setter links the cell *first* and looks for armed ports *then*; a port is
armed *first* and looks for a linked cell *then*. Both may find the other; one surely does.

No wake-up is repeated: a loop is woken once for all that became dirty since it last looked. Who is
to go on does so in that same turn, when all ports have been looked at.

Nothing pins a dead loop: an armed port is held by its slot, a notified one by the loop's own queue,
and the store knows its mailboxes only weakly. So what waits on a loop that was closed goes with the
next commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any, Final, Protocol, TypeAlias, final

from statestore._core import NEXT, REVISION, VALUE, Cell, Core, Slot
from statestore._formulas import NO_VALUE
from statestore._logging import report_loop_failure
from statestore._matching import Satisfying
from statestore._network import Network
from statestore._records import NoValue
from statestore._stepping import step, wake

Test: TypeAlias = Callable[[Any], Any]

Asked: TypeAlias = tuple[Test, float, float | None]
"""The test of a wait, when it began, and its deadline."""

UNSET: Final = object()

ALWAYS: Final[Test] = id
"""What is asked for a wait that ends with any value: the quickest function that is never false."""

SHARE: Final = 256
"""After how many transitions a loop sees to others before it goes on."""

SHOWN: Final = 3
"""How many of the transitions that a wait has seen last it can tell of."""

# Pairs of `==` and `hash` for which equal objects surely hash alike. Targets and values of all
# other types are compared one by one.
_CONSISTENT: Final = {(kind.__eq__, kind.__hash__) for kind in (object, int, str, bytes, float)} | {
    (object.__eq__, Enum.__hash__)
}
_LEAVES: Final = frozenset({int, str, bytes, float, bool, type(None)})


def is_indexable(value: object) -> bool:
    """Tell whether whatever equals *value* can be found by its hash."""
    kind = type(value)
    return kind in _LEAVES or (kind.__eq__, kind.__hash__) in _CONSISTENT


@final
class Waiter:
    """One wait that has parked: what it waits for, since when, and what came of it."""

    __slots__ = (
        "ask",
        "began",
        "cell",
        "deadline",
        "error",
        "future",
        "order",
        "port",
        "reader",
        "since",
        "target",
        "test",
        "timer",
    )

    # Not there, to save the time, where there is none.
    deadline: float
    order: int
    port: LoopPort
    """Where it is registered, or is about to be."""
    reader: object
    """The subscription that sleeps."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, since: Cell, test: Test | None, target: object
    ) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        # By the clock of the loop, as is the deadline.
        self.began: float = loop.time()
        self.test = test
        # What is really called: the user's own function, if it is one.
        self.ask: Test = test.predicate if isinstance(test, Satisfying) else test or ALWAYS
        kind = type(target)
        self.target = target if kind in _LEAVES or is_indexable(target) else UNSET
        self.since: int = since[REVISION]
        self.timer: asyncio.TimerHandle | None = None
        # Up to which it has looked itself; once it is registered, the one that ends it.
        self.cell: Cell | None = since
        # Or what stands in place of the value.
        self.error: BaseException | NoValue | None = None

    def wake(self) -> None:
        """Let the task go on soon, with what `cell` and `error` say by now."""
        wake(self.future)


def trimmed(trail: Cell, last: Cell) -> Cell:
    """Give the cell that is `SHOWN` transitions before *last*, or *trail* if that is nearer."""
    ahead = trail
    for _ in range(SHOWN):
        if ahead is last:
            return trail
        ahead = ahead[NEXT]
    while ahead is not last:
        ahead, trail = ahead[NEXT], trail[NEXT]
    return trail


_order_of = operator.attrgetter("order")


@final
class LoopPort:
    """The waits of one event loop on one slot."""

    __slots__ = (
        "_mailbox",
        "_ports",
        "_recent",
        "_since",
        "_slot",
        "_start",
        "_targets",
        "_tests",
        "_token",
        "_turn",
        "seen",
    )

    def __init__(self, slot: Slot, mailbox: LoopMailbox, seen: Cell) -> None:
        self._slot = slot
        self._mailbox = mailbox
        # The last cell that was shown to those who wait.
        self.seen = seen
        # Where it began, and then the cells that were shown last: to tell of them. A list of them
        # is only made for who still waits after something was shown.
        self._start: Cell | None = seen
        self._recent: deque[Cell] | None = None
        self._ports = slot._core.listen(slot).ports
        self._token = object()
        # Waits for a value that can be found by its hash, and all others; both in order of arrival.
        # Most often one waits for a value: it has no dict of its own.
        self._targets: dict[Any, Waiter | dict[Waiter, None]] = {}
        self._tests: dict[Waiter, None] = {}
        # The highest revision that any of them has looked at itself.
        self._since = -1
        self._turn = 0

    def notify(self) -> None:
        """Have the loop drain this port soon."""
        # `LoopMailbox.notify()`, written out.
        mailbox = self._mailbox
        mailbox.dirty[self] = None
        if not mailbox.is_scheduled:
            mailbox.schedule()

    def add(self, waiter: Waiter, seconds: float | None = None) -> None:
        """
        Register *waiter*, which has itself looked at every cell up to the one that it has.

        It is woken after *seconds* at the latest. Nobody who sleeps may hold a cell: it would keep
        all that follows.
        """
        cell: Any = waiter.cell
        waiter.cell = None
        self._turn += 1
        waiter.order = self._turn
        if waiter.since > self._since:  # noqa: PLR1730 -- ten times as quick as max()
            self._since = waiter.since
        target = waiter.target
        if target is UNSET:
            self._tests[waiter] = None
        else:
            same = self._targets.setdefault(target, waiter)
            if type(same) is not Waiter:
                same[waiter] = None
            elif same is not waiter:
                self._targets[target] = {same: None, waiter: None}
        if self._token not in self._ports:
            self._ports[self._token] = self
            if self._slot._has_after(cell) or self._slot._core.closed:
                self.notify()
        if seconds is not None:
            waiter.deadline = waiter.began + seconds
            # What was committed before is looked at by the wait itself.
            waiter.timer = self._mailbox._loop.call_at(waiter.deadline, waiter.wake)

    def discard(self, waiter: Waiter) -> None:
        """Forget *waiter*, if it is still there; with the last one goes the port."""
        if waiter.timer is not None:
            waiter.timer.cancel()
        if self._tests or self._targets:
            self._forget(waiter)
        if not (self._tests or self._targets):
            ports = self._mailbox.ports
            # Many may go at once, of which the first one takes the port along.
            if ports.get(self._slot) is self:
                self._ports.pop(self._token, None)
                del ports[self._slot]

    def abandon(self, waiter: Waiter) -> None:
        """Forget *waiter*, which was cancelled: what it raises may be kept, and keeps it."""
        self.discard(waiter)
        del waiter.port

    def drain(self) -> None:
        """Show every new transition to those who wait, and wake those whose wait is over."""
        # It is not armed before anybody is known to wait on.
        if (self._tests or self._targets) and not self._show_all():
            # A new token: a setter that is still notifying this port removes the old one.
            self._ports.pop(self._token, None)
            self._token = object()
            self._ports[self._token] = self
            # Once more: who came in between has found nobody to notify.
            if self.seen[NEXT] is not None or self._slot._core.closed:
                self._show_all()

    def _show_all(self) -> bool:
        """Show what is new, or a share of it; tell whether there is no need to be armed."""
        # Asked before the chain is walked: what was committed before the end is in the chain.
        ended = self._slot._is_ended(SHARE)
        recent = self._recent
        for _ in range(SHARE):
            cell = self.seen[NEXT]
            if cell is None:
                break
            self._show(cell)
            # Afterwards: an exception that cuts it short has the cell shown once more.
            self.seen = cell
            if not (self._tests or self._targets):
                return True
            if recent is not None:
                recent.append(cell)
        if recent is None:
            self._begin_list()
        if self.seen[NEXT] is not None:
            self.notify()
            return True
        if ended:
            self._mailbox.due += [waiter.future for waiter in self.waiters()]
        return ended

    def trail(self) -> Cell:
        """Give a cell a few transitions behind the last one that was shown. From any thread."""
        recent = self._recent
        return (self._start or self.seen) if recent is None else recent[0]

    def _begin_list(self) -> None:
        cell = trimmed(self._start or self.seen, self.seen)
        recent = deque([cell], SHOWN + 1)
        while cell is not self.seen:
            cell = cell[NEXT]
            recent.append(cell)
        self._recent = recent
        # Afterwards: there is always one of the two.
        self._start = None

    def _show(self, cell: Cell) -> None:
        value, revision, _ = cell
        if type(value) in NO_VALUE:
            self._fail(cell)
            return
        found = self._find(value, revision) if self._targets else []
        by_hash = len(found)
        some_began_later = self._since >= revision
        for waiter in list(self._tests) if self._tests else ():
            # `_accepts()`, written out: there may be many.
            if some_began_later and waiter.since >= revision:
                continue
            try:
                if waiter.ask(value):
                    found.append(waiter)
            except BaseException as error:  # noqa: BLE001 -- as there
                waiter.error = error
                found.append(waiter)
        if 0 < by_hash < len(found):
            # Each kind is in order of arrival.
            found.sort(key=_order_of)
        due = self._mailbox.due
        for waiter in found:
            waiter.cell = cell
            due.append(waiter.future)
            self._forget(waiter)

    def waiters(self) -> list[Waiter]:
        """List all waits. From any thread."""
        found = list(self._tests.copy())
        for same in self._targets.copy().values():
            found += (same,) if type(same) is Waiter else same.copy()
        return found

    def _fail(self, cell: Cell) -> None:
        """End all waits: there is no value to look at."""
        for waiter in sorted(self.waiters(), key=_order_of):
            if waiter.since < cell[REVISION]:
                waiter.cell, waiter.error = cell, cell[VALUE]
                self._mailbox.due.append(waiter.future)
                self._forget(waiter)

    def _find(self, value: object, revision: int) -> list[Waiter]:
        """Give those who wait for the very value, found by its hash."""
        if type(value) in _LEAVES or is_indexable(value):
            same = self._targets.get(value)
            if same is None:
                return []
            if type(same) is Waiter:
                return [same] if same.since < revision else []
            return [waiter for waiter in same if waiter.since < revision]
        found = [
            waiter
            for waiter in self.waiters()
            if waiter.target is not UNSET and waiter.since < revision and _accepts(waiter, value)
        ]
        return sorted(found, key=_order_of)

    def _forget(self, waiter: Waiter) -> None:
        if waiter.target is UNSET:
            self._tests.pop(waiter, None)
            return
        same = self._targets.get(waiter.target)
        if same is waiter:
            del self._targets[waiter.target]
        elif type(same) is dict:
            same.pop(waiter, None)
            if not same:
                del self._targets[waiter.target]


def _accepts(waiter: Waiter, value: object) -> bool:
    """Ask the user's test; what it raises ends this wait alone."""
    try:
        return bool(waiter.ask(value))
    except BaseException as error:  # noqa: BLE001 -- the wait raises it, whatever it is
        waiter.error = error
        return True


@final
class Bell:
    """
    One parked task that looks itself at what is new: a port without a place in the chain.

    For who shall keep nothing of the chain alive while the loop is busy.
    """

    __slots__ = ("mailbox", "slot", "waiter")

    def __init__(self, slot: Slot, mailbox: LoopMailbox, waiter: Waiter) -> None:
        self.slot = slot
        self.mailbox = mailbox
        self.waiter = waiter

    def notify(self) -> None:
        """Have the loop wake the task soon."""
        self.mailbox.notify(self)

    def drain(self) -> None:
        """Wake the task."""
        self.mailbox.due.append(self.waiter.future)


class Drained(Protocol):
    """What a mailbox has to look at what is new."""

    def drain(self) -> None:
        """Look."""


@final
class LoopMailbox:
    """All ports of one store on one event loop, which share one wake-up."""

    __slots__ = (
        "__weakref__",
        "_loop",
        "_network",
        "dirty",
        "due",
        "is_scheduled",
        "lines",
        "ports",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # What is waited on here.
        self.ports: dict[Slot, LoopPort] = {}
        self.dirty: dict[Drained, None] = {}
        self.is_scheduled = False
        # What is waited for by those who go on at the end of this turn, in this order.
        self.due: deque[asyncio.Future[None]] = deque()
        # Where tasks stand that claim. Only the layer above looks inside.
        self.lines: dict[Any, Any] = {}
        # Weak, for the network has this.
        self._network: weakref.ref[LoopNetwork] | None = None

    def network(self, core: Core) -> LoopNetwork:
        """Give what computes derived watchers of *core* on this loop."""
        network = self.known_network()
        if network is None:
            network = LoopNetwork(core, self)
            self._network = weakref.ref(network)
        return network

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""
        return self._loop

    def known_network(self) -> LoopNetwork | None:
        """Give what computes derived watchers on this loop, if there is something."""
        return None if self._network is None else self._network()

    def is_of(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Tell whether this is the mailbox of *loop*, not of one that had the same id before."""
        return self._loop is loop

    def is_elsewhere(self) -> bool:
        """Tell whether another thread than this one is running the loop."""
        return self._loop.is_running() and running_loop() is not self._loop

    def port(self, slot: Slot, cell: Cell) -> LoopPort:
        """Give the port for *slot*; a new one starts at *cell*."""
        port = self.ports.get(slot)
        if port is None:
            port = self.ports[slot] = LoopPort(slot, self, cell)
        return port

    def notify(self, port: Drained) -> None:
        """Have *port* drained soon. From any thread; fails for nobody, be the loop dead."""
        self.dirty[port] = None
        if not self.is_scheduled:
            self.schedule()

    def schedule(self) -> None:
        """Have the loop see to what is dirty. From any thread."""
        self.is_scheduled = True
        loop = self._loop
        try:
            # Only inside a task of the loop is it sure to look at its queue again before it sleeps.
            # A signal handler runs in the loop's thread as well, but maybe while the loop sleeps.
            if is_in_task(loop):
                loop.call_soon(self._drain)
            else:
                loop.call_soon_threadsafe(self._drain)
        except RuntimeError:
            # The loop is closed, or the interpreter is going down: nobody waits there any more.
            self.is_scheduled = False
        except MemoryError:
            # The loop is not to blame: the next operation tells it once more.
            self.is_scheduled = False
            raise
        except Exception as error:  # noqa: BLE001 -- a broken loop is no concern of the setter
            self.is_scheduled = False
            report_loop_failure(self._loop, error)
        except BaseException:
            # An interrupt may have come before the loop took the call. A second one does no harm,
            # and if another interrupt comes before that one, the next operation makes a third.
            self.is_scheduled = False
            self._loop.call_soon_threadsafe(self._drain)
            raise

    def _drain(self) -> None:
        self.is_scheduled = False
        try:
            # `known_network()`, written out: it is asked at each wake-up.
            network = None if self._network is None else self._network()
            if network is not None and network in self.dirty:
                # First, as it tells ports in turn.
                self._drain_one(network)
            for port in self.dirty.copy():
                self._drain_one(port)
                # An error that a task ends with has this frame.
                del port
            due = self.due
            if self._loop.get_debug():
                # It tells which of its callbacks are slow: each shall be one by itself then.
                while due:
                    wake(due[0])
                    due.popleft()
            step(due)
        except BaseException:
            # What is left is not armed: nobody else would have it drained.
            if (self.dirty or self.due) and not self.is_scheduled:
                self.schedule()
            raise

    def _drain_one(self, port: Drained) -> None:
        del self.dirty[port]
        try:
            port.drain()
        except BaseException:
            self.notify(port)
            raise


@final
class LoopNetwork(Network):
    """The derived watchers that are followed on one event loop."""

    __slots__ = ("_mailbox",)

    def __init__(self, core: Core, mailbox: LoopMailbox) -> None:
        super().__init__(core)
        self._mailbox = mailbox

    def drain(self) -> None:
        """Compute what is new, or a share; at the end of the store have all outlets looked at."""
        # What is left has it notified again.
        if self.advance(SHARE) and self.core.closed:
            for outlet in self.outlets():
                outlet.tell()

    def _wake(self) -> None:
        self._mailbox.notify(self)

    def _tidy(self) -> None:
        if self._mailbox.is_elsewhere():
            # The loop must find this free: it would miss what was committed before it looks.
            self._wake()
        else:
            super()._tidy()


def is_in_task(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether this runs in a task of *loop*."""
    try:
        return asyncio.get_running_loop() is loop and asyncio.current_task(loop) is not None
    except RuntimeError:
        return False


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Give the event loop that this thread is running, if any."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def loop_mailbox(core: Core, loop: asyncio.AbstractEventLoop) -> LoopMailbox:
    """Give the mailbox of *core* on the running *loop*, made when it is first needed."""
    reference: weakref.ref[LoopMailbox] | None = core.mailboxes.get(id(loop))
    mailbox = None if reference is None else reference()
    # `is_of()`, written out.
    if mailbox is None or mailbox._loop is not loop:
        mailbox = LoopMailbox(loop)
        # `pop` is called with the dead reference, which serves as its default.
        forget = partial(core.mailboxes.pop, id(loop))
        core.mailboxes[id(loop)] = weakref.ref(mailbox, forget)
    return mailbox


@final
class ThreadPort:
    """One blocked thread, which looks at the slot itself when it is woken."""

    __slots__ = ("_gate", "asked", "began", "reader", "slot", "thread")

    def __init__(self, slot: Slot, asked: Asked | None = None, reader: object = None) -> None:
        self.slot = slot
        self.asked = asked
        # The subscription that sleeps, if it is one.
        self.reader = reader
        self.began = time.monotonic()
        self.thread = threading.get_ident()
        # A lock is the one primitive that a signal handler can open while its own thread waits.
        self._gate = threading.Lock()
        self._gate.acquire()

    def notify(self) -> None:
        """Wake the thread."""
        with contextlib.suppress(RuntimeError):
            # Raised when it is open already.
            self._gate.release()

    def park(self, cell: Cell, seconds: float | None) -> None:
        """Block until something follows *cell*, the store ends, or *seconds* have passed."""
        core = self.slot._core
        ports = core.listen(self.slot).ports
        token = object()
        try:
            ports[token] = self
            if not (self.slot._has_after(cell) or core.closed):
                limit = -1 if seconds is None else min(seconds, threading.TIMEOUT_MAX)
                self._gate.acquire(timeout=limit)
        finally:
            ports.pop(token, None)
