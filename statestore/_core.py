"""
Keep one total order of commits, without a lock.

The theory, on which every other module stands:

A **cell** is `[value, revision, next]`: one value of one key, and the link to the value that came
after it. The cells of a key form a chain that only ever grows at its end. The chain *is* every
consumer's queue: whoever holds a cell can reach all that came after it, and what nobody holds is
garbage.

An **entry** is what is appended to the store's order: a commit, a fence (no change: it only makes
whoever is about to commit look again), or the end. It is a tuple
`(revision, box, told, slot, before, after, slot, before, after, ...)` and says everything that
follows from it; *told* are the callbacks to call, or the one that a fence was made for. Its *box*
is an empty list, and the first entry that is appended to that list is the one that comes next.
`list.append` is one single operation: of all who append, be it threads or a signal handler that
interrupts one of them half way, exactly one is first. **That is the commit point.** Who was not
first looks at the new state and tries again.

All that comes after the commit point (linking the cells, noting the newest one, telling consumers,
moving `head`) writes only what the entry says. So it can be done twice, by anyone, and late. Who
finds a box that is not empty does it (`settle`) before going on. Hence:

- Whoever reads or commits does so in a state in which every earlier commit is wholly applied.
- `head` and a slot's `_cell` are hints: they may lag behind, never point to what is not so; the
  box and the link tell whether there is more.
- A thread that is stopped, interrupted, killed by an exception or forked away anywhere in here
  leaves nothing locked and nothing half done.

User code (`==`, conditions, update functions) runs before the commit point, callbacks and
predicates long after it, so there is nothing they could block.

Sources: the box is the consensus object of M. Herlihy's universal construction ("Wait-free
synchronization", 1991), helping comes from there too.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Final, Protocol, TypeAlias

from statestore._callbacks import Call, CallbackHandle, InlineMailbox
from statestore._records import ABSENT, Removed
from statestore.errors import StoreClosedError

Cell: TypeAlias = list[Any]
VALUE: Final = 0
REVISION: Final = 1
NEXT: Final = 2

Entry: TypeAlias = tuple[Any, ...]
Head: TypeAlias = tuple[int, list[Entry]]
BOX: Final = 1
TOLD: Final = 2
LINKS: Final = 3

END: Final[Entry] = ()
"""What the box of the last entry holds, so that nobody is ever the first to append to it."""

ROUNDS: Final = 32
"""How often an update may lose against others before it gets the right of way."""

PATIENCE: Final = 0.05
"""Seconds for which a commit lets one that has the right of way go first."""


class Notified(Protocol):
    """A port: the consumers of one slot in one mailbox."""

    def notify(self) -> None:
        """Wake the mailbox, so that it looks at the slot. May come from any thread, twice too."""


class Fed(Protocol):
    """A ring: the queue of a bounded subscription, which a setter keeps within its bound."""

    def pull(self) -> None:
        """Take in what is new."""


class Listeners:
    """
    Who cares about a slot. The dicts are ordered sets: adding and removing is one operation.

    A port is *armed* under a token of its own. Whoever notifies it removes the token afterwards, so
    a burst of commits wakes a mailbox once; the mailbox arms the port anew before it looks.
    """

    __slots__ = ("callbacks", "family", "groups", "is_shared", "ports", "rings")

    def __init__(self, *, is_shared: bool = False) -> None:
        # Whether it stands for the listeners of all slots of a family that have none of their own.
        self.is_shared: bool = is_shared
        self.callbacks: dict[CallbackHandle, None] = {}
        # The groups that list what happens to any member of the family, shared by all of them.
        self.family: dict[object, Group] = {}
        self.groups: dict[object, Group] = {}
        self.ports: dict[object, Notified] = {}
        self.rings: dict[Fed, None] = {}

    def notify(self) -> None:
        """Tell those who look for themselves that there is something new."""
        if self.rings:
            for ring in self.rings.copy():
                ring.pull()
        if self.ports:
            for token, port in self.ports.copy().items():
                port.notify()
                self.ports.pop(token, None)


class Slot:
    """The place of one key in the order: the newest cell of its chain, and who cares."""

    __slots__ = ("_cell", "_core", "_listeners", "_member", "_name")

    # Which moves are legal. Of a family it stands at the feed. Nothing here looks inside.
    _lifecycle: Any = None

    def __init__(self, core: Core, name: str, value: object, revision: int = 0) -> None:
        # The feed of the family, and the key in it.
        self._member: tuple[Any, Any] | None = None
        self._core = core
        self._name = name
        self._cell: Cell = [value, revision, None]
        self._listeners: Listeners | None = None

    def _latest(self) -> Cell:
        """Give the newest cell, with everything applied that was committed before."""
        if self._core.head[BOX]:
            self._core.settle()
        # `_tail()`, written out: each wait looks here.
        cell = self._cell
        while (after := cell[NEXT]) is not None:
            cell = after
        return cell

    def _is_ended(self, share: int | None = None) -> bool:  # noqa: ARG002 -- for what is derived
        """
        Apply what is committed; tell whether nothing can follow any more.

        What is derived is computed for at most *share* commits, so that a loop gets on.
        """
        core = self._core
        if core.head[BOX]:
            core.settle()
        return core.closed

    def _has_after(self, cell: Cell) -> bool:
        """Tell whether something follows *cell*, or may."""
        return cell[NEXT] is not None

    def _leave(self) -> None:
        """Hear that somebody for whom this was opened follows it no more."""

    def _retired(self) -> Slot:
        """Give what stands for this where nobody follows it any more."""
        return self

    def _tail(self) -> Cell:
        """Give the newest cell that is linked."""
        cell = self._cell
        while (after := cell[NEXT]) is not None:
            cell = after
        return cell


class Group(Slot):
    """
    A slot whose values are the changes of each commit that touches its keys.

    When nobody follows it any more, its newest cell is emptied: who comes later begins behind it.
    """

    __slots__ = ()

    is_journal: ClassVar[bool] = False
    """Whether its callbacks come before all others, and are not what sets off a round."""

    def _noted(self, changes: tuple[Any, ...], reason: str | None) -> tuple[Any, ...]:  # noqa: ARG002 -- for a journal
        """Give the value that lists *changes*, slot by slot: before, after."""
        return changes


NOTHING: Final[tuple[Any, ...]] = ()
"""What a cell of a group has that was emptied."""


Change: TypeAlias = tuple[Slot, Cell, Any]
"""A slot, its newest cell, and the value to come after it."""


class Turn:
    """
    The right of way of an update that lost too often, while it lasts.

    Others that commit let it go first, but for a bounded time: it runs user code, which may wait
    for just one of them.
    """

    __slots__ = ("_lock", "_thread")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._thread = threading.get_ident()

    def give_way(self) -> None:
        """Wait until the turn is over, but not for long."""
        if self._thread != threading.get_ident() and self._lock.acquire(timeout=PATIENCE):
            self._lock.release()

    def end(self) -> None:
        """Let the others go on."""
        self._lock.release()


class Core:
    """The order of commits of one store."""

    __slots__ = (
        "__weakref__",
        "attention",
        "closed",
        "derived",
        "ends",
        "epoch",
        "everything",
        "families",
        "head",
        "inline",
        "lines",
        "listeners",
        "mailboxes",
        "names",
        "recordings",
        "streams",
        "strict",
        "time_of",
        "title",
        "turns",
    )

    def __init__(self, inline: InlineMailbox, title: str, *, strict: bool) -> None:
        self.inline: InlineMailbox = inline
        self.title: str = title
        self.strict: bool = strict
        # The revision and the box of the newest entry. Nothing else of it: nobody shall keep an
        # old value for the store's sake.
        self.head: Head = (0, [])
        self.closed: bool = False
        # Raised in a forked child, whose inherited consumers are void.
        self.epoch: int = 0
        self.names: dict[str, Slot] = {}
        # The feeds of all families. Nothing here looks inside, but for whom to drop in a fork.
        self.families: list[Any] = []
        self.listeners: dict[Slot, Listeners] = {}
        # Who is told of the end, under a token of his own, without following anything.
        self.ends: dict[object, Notified] = {}
        # The commits of all keys, linked while somebody follows them.
        self.everything: Group = Group(self, title, ())
        # Weak references, by the id of their loop. Only the layer above looks inside.
        self.mailboxes: dict[int, Any] = {}
        # Weak references to the open subscriptions, by their id. Only the layer above looks inside.
        self.streams: dict[int, Any] = {}
        # Gives the `time.monotonic()` of a commit by its revision, if somebody keeps that.
        self.time_of: Callable[[int], float | None] | None = None
        # Why a set, whatever its key, cannot take the short way: under a token of his own, the
        # group of somebody who follows all keys; callbacks left to be run. Mostly empty.
        self.attention: dict[object, Group | None] = {}
        self.turns: dict[Turn, None] = {}
        # Where blocked threads stand that claim the same. Only the layer above looks inside.
        self.lines: dict[Any, Any] = {}
        # What computes derived watchers for callbacks. Only the layer above looks inside.
        self.derived: Any = None
        # Weak references to the open recordings, in order of opening. As above.
        self.recordings: dict[Any, None] = {}

    def settle(self) -> Head:
        """Apply whatever is committed and not applied yet; give the newest head."""
        head = self.head
        while (box := head[BOX]) and box[0] is not END:
            entry = box[0]
            self.apply(entry)
            head = (entry[0], entry[BOX])
        return head

    def settle_open(self) -> Head:
        """
        Give the newest head, to commit behind it.

        Raises:
            StoreClosedError: Nothing can come behind it any more.
        """
        head = self.settle()
        if self.closed:
            msg = f"{self.title} is closed: its values can be read, but not set; make a new one"
            raise StoreClosedError(msg)
        return head

    def publish(
        self, head: Head, changes: Iterable[Change], reason: str | None = None
    ) -> Entry | None:
        """
        Commit *changes* right behind *head*, or return None when something else came first.

        The caller runs the callbacks afterwards. *reason* is for who keeps a journal.
        """
        if self.turns:
            for turn in self.turns.copy():
                turn.give_way()
        entry = self.entry(head[0] + 1, changes, reason)
        return entry if self._append(head, entry) else None

    def take_turn(self) -> Turn:
        """Have the right of way from now until `end_turn()`."""
        turn = Turn()
        self.turns[turn] = None
        self.attention[turn] = None
        return turn

    def end_turn(self, turn: Turn) -> None:
        """Give the right of way back."""
        turn.end()
        self.attention.pop(turn, None)
        self.turns.pop(turn, None)

    def fence(self, handle: CallbackHandle | None = None) -> int:
        """
        Make all who are about to commit look again at who listens; give the revision.

        What was registered before the fence is told of every commit with a higher revision;
        *handle* knows from then on which that is.
        """
        while True:
            head = self.settle()
            if self.closed or self._append(head, (head[0], [], handle)):
                return head[0]

    def end(self) -> None:
        """Append the end, behind which nothing comes. Repeated, it does nothing."""
        while not self.closed:
            head = self.settle()
            self._append(head, (head[0], [END], None))

    def listen(self, slot: Slot) -> Listeners:
        """Give the listeners of *slot*, which stay its listeners from now on."""
        listeners = slot._listeners
        if listeners is None or listeners.is_shared:
            own = Listeners()
            if listeners is not None:
                own.family = listeners.family
            listeners = slot._listeners = self.listeners.setdefault(slot, own)
            # Afterwards: whoever removes it meanwhile has it forgotten, too.
            if type(slot._tail()[VALUE]) is Removed:
                self.forget(slot)
        return listeners

    def forget(self, slot: Slot) -> None:
        """Let go of *slot*, which was removed. Whoever follows it still does."""
        self.listeners.pop(slot, None)

    def run_callbacks(self) -> None:
        """Run the callbacks that commits have left to be run."""
        inline = self.inline
        # Not `in self.attention`: whoever ends a round may take it out after a commit put it in.
        if inline:
            try:
                inline.run()
            finally:
                # Also when an interrupt came out of a callback: all others were told first.
                if not inline:
                    self.attention.pop(inline, None)

    def forget_consumers(self) -> None:
        """Drop every consumer, as a forked child must: their threads and loops are not here."""
        self.epoch += 1
        self.mailboxes = {}
        self.streams = {}
        self.ends = {}
        self.attention = {}
        self.turns = {}
        self.lines = {}
        self.derived = None
        self.recordings = {}
        self.inline.reset()
        every = [*self.listeners.copy().values(), *(feed.shared for feed in self.families)]
        groups = [
            group for some in every for group in (*some.groups.values(), *some.family.values())
        ]
        registered = [group._listeners for group in groups if group._listeners is not None]
        for listeners in (*every, *registered):
            # Closed as well: a commit that is still to be applied may carry them.
            for handle in listeners.callbacks.copy():
                handle.close()
            listeners.family.clear()
            listeners.groups = {}
            listeners.ports = {}
            listeners.rings = {}

    def apply(self, entry: Entry) -> None:
        """Do what *entry* says. Harmless when repeated or late."""
        # By index, as nearly all have one slot or two.
        places = range(LINKS, len(entry), 3)
        for place in places:
            slot, before, after = entry[place], entry[place + 1], entry[place + 2]
            before[NEXT] = slot._cell = after
            if before[VALUE] is ABSENT and slot._member is None:
                self.names[slot._name] = slot
        told = entry[TOLD]
        if isinstance(told, CallbackHandle):
            told._since = entry[0]
        elif told is not None:
            self.attention[self.inline] = None
            self.inline.post(entry)
        for place in places:
            listeners = entry[place]._listeners
            if listeners is not None and (listeners.ports or listeners.rings):
                listeners.notify()
        if entry[BOX] and entry[BOX][0] is END:
            self.closed = True
            for listeners in self.listeners.copy().values():
                listeners.notify()
            for port in self.ends.copy().values():
                port.notify()
        self.head = (entry[0], entry[BOX])

    def _append(self, head: Head, entry: Entry) -> bool:
        box = head[BOX]
        box.append(entry)
        if box[0] is not entry:
            return False
        self.apply(entry)
        return True

    def entry(self, revision: int, changes: Iterable[Change], reason: str | None = None) -> Entry:
        """Make the entry that has *changes*, and what follows from them for who listens now."""
        links: list[Any] = []
        calls: list[Call] = []
        every = self.attention.copy().values() if self.attention else ()
        # Several may follow by the same one.
        groups: dict[Group, list[Any]] = {group: [] for group in every if group is not None}
        following = tuple(groups)
        for slot, before, value in changes:
            links += (slot, before, [value, revision, None])
            listeners = slot._listeners
            concerned: Iterable[Group] = following
            if listeners is not None:
                if listeners.callbacks and type(value) is not Removed:
                    told = listeners.callbacks.copy()
                    calls += [(handle, before[VALUE], value) for handle in told]
                if listeners.groups or listeners.family:
                    own = (*listeners.groups.copy().values(), *listeners.family.copy().values())
                    concerned = dict.fromkeys((*following, *own))
            for group in concerned:
                groups.setdefault(group, []).extend((slot, before[VALUE], value))
        return self._entry(revision, links, groups, calls, reason)

    def _entry(
        self,
        revision: int,
        links: list[Any],
        groups: dict[Group, list[Any]],
        calls: list[Call],
        reason: str | None,
    ) -> Entry:
        """Make the entry of *links* and *calls*, and of the *groups* that list what has changed."""
        first: list[Call] = []
        for group, listed in groups.items():
            made = group._noted(tuple(listed), reason)
            links += (group, group._tail(), [made, revision, None])
            if group._listeners is not None and group._listeners.callbacks:
                told = [(handle, (), made) for handle in group._listeners.callbacks.copy()]
                (first if group.is_journal else calls).extend(told)
        if not (first or calls):
            return (revision, [], None, *links)
        # A log hears of a cycle, but is no part of it.
        key = (calls or first)[0][0].key
        called = (contextvars.copy_context(), (*first, *calls), self.inline.next_round(key), key)
        return (revision, [], called, *links)


def by_three(links: tuple[Any, ...]) -> Iterator[tuple[Slot, Any, Any]]:
    """Give slot, before and after, of an entry's links or of the changes in a group."""
    parts = iter(links)
    return zip(parts, parts, parts, strict=True)
