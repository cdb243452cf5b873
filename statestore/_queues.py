"""
The queue of a subscription: where it stands in its slot's chain, and what it may lose.

Unbounded, it is nothing but a cell: the chain behind it is the queue, shared by all who read it and
kept only as long as one of them still has to. Bounded, it is a ring of its own, which every setter
keeps within its bound; that costs the setter a little for each bounded subscription.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast, final

from statestore._core import NEXT, REVISION, VALUE, Cell, Slot
from statestore._records import Removed
from statestore._text import shorten

Overflow: TypeAlias = Literal["raise", "latest"]


class Item(NamedTuple):
    """One record to be: *missed* tells how many more it stands for."""

    old: Any
    new: Any
    revision: int
    missed: int


# As `Item(...)`, in half the time.
_item: Final[Callable[[tuple[Any, Any, int, int]], Item]] = cast(
    "Any", partial(cast("Any", tuple).__new__, Item)
)


class Lag(NamedTuple):
    """What stands in a queue in place of the items that were lost."""

    missed: int
    first_revision: int
    last_revision: int


Join: TypeAlias = Callable[[Any, Any], Any]
"""Make the new value of a joined item of the new values of the two."""


@final
class ChainQueue:
    """The unbounded queue: the chain of cells itself."""

    __slots__ = ("cell",)

    lag: Final = None
    """Nothing is ever lost."""

    def __init__(self, cell: Cell) -> None:
        self.cell: Cell = cell

    def __len__(self) -> int:
        return sum(type(item.new) is not Removed for item in self)

    def __iter__(self) -> Iterator[Item]:
        """Show what is in the queue, and leave it there."""
        before = self.cell
        while (after := before[NEXT]) is not None:
            yield Item(before[VALUE], after[VALUE], after[REVISION], 0)
            before = after

    def take(self) -> Item | None:
        """Give the next item, or None if there is none now."""
        before = self.cell
        after: Cell | None = before[NEXT]
        if after is None:
            return None
        self.cell = after
        return _item((before[VALUE], after[VALUE], after[REVISION], 0))

    def close(self) -> None:
        """Have nothing to let go of."""


@final
class NewestQueue:
    """The queue that holds nothing: it knows what it gave last, and gives whatever is newer."""

    __slots__ = ("_revision", "_slot")

    def __init__(self, slot: Slot, cell: Cell | None = None) -> None:
        self._slot = slot
        # Below any revision, if it has given nothing yet.
        self._revision: int = -1 if cell is None else cell[REVISION]

    def __iter__(self) -> Iterator[Item]:
        return iter(())

    def __len__(self) -> int:
        return int(self._slot._latest()[REVISION] > self._revision)

    @property
    def cell(self) -> Cell:
        """Stand-in for the cell of what it gave last, which would hold all that follows."""
        newest = self._slot._tail()
        return newest if newest[REVISION] == self._revision else [None, self._revision, newest]

    def take(self) -> Item | None:
        """Give the newest value if it is newer than the last one given."""
        value, revision, _ = self._slot._latest()
        if type(value) is Removed and value.last_revision > self._revision:
            # What it was before it was removed comes first.
            value, revision = value.last, value.last_revision
        if revision == self._revision:
            return None
        self._revision = revision
        return Item(None, value, revision, 0)

    def close(self) -> None:
        """Have nothing to let go of."""


class Ring:
    """
    The bounded queue that keeps the newest items and tells of those it lost.

    Both its owner and any setter take in what is new, so it has a lock. No user code runs under it.
    A frame that interrupts another one of the same thread in here leaves the work to it.
    """

    __slots__ = ("_items", "_lag", "_lock", "_maxlen", "_pulling", "_rings", "_taken", "cell")

    def __init__(self, slot: Slot, cell: Cell, maxlen: int) -> None:
        self.cell: Cell = cell
        self._maxlen = maxlen
        self._items: deque[Item] = deque()
        self._lag: Lag | None = None
        self._taken = cell[REVISION]
        self._lock = threading.RLock()
        self._pulling = False
        self._rings = slot._core.listen(slot).rings

    def __len__(self) -> int:
        self.pull()
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        """Show what is in the queue, and leave it there."""
        self.pull()
        return iter(self._items.copy())

    @property
    def lag(self) -> Lag | None:
        """What was lost and not told of yet."""
        return self._lag

    def open(self) -> None:
        """Be fed by setters from now on. Before, only reading keeps the bound."""
        self._rings[self] = None

    def pull(self) -> None:
        """Take in what follows, and keep the bound."""
        with self._lock:
            if not self._pulling:
                self._pulling = True
                try:
                    self._pull_all()
                finally:
                    self._pulling = False

    def take(self) -> Item | Lag | None:
        """Give the next item, or the lag that stands before it, or None if there is none now."""
        self.pull()
        with self._lock:
            return self._pop()

    def close(self) -> None:
        """Stop being fed. The items stay: a setter may be in the middle of taking one in."""
        self._rings.pop(self, None)

    def _pull_all(self) -> None:
        # An exception may cut this short anywhere, and the next one who pulls does it once more. So
        # what was done is told by the items themselves, which hold their revision.
        before = self.cell
        while (after := before[NEXT]) is not None and type(after[VALUE]) is not Removed:
            newest = self._items[-1].revision if self._items else self._taken
            if after[REVISION] > newest:
                self._push(Item(before[VALUE], after[VALUE], after[REVISION], 0))
            self._trim()
            self.cell = before = after

    def _push(self, item: Item) -> None:
        self._items.append(item)

    def _trim(self) -> None:
        if len(self._items) > self._maxlen:
            lost = self._items[0].revision
            lag = self._lag
            if lag is None:
                self._lag = Lag(1, lost, lost)
            elif lag.last_revision < lost:
                self._lag = Lag(lag.missed + 1, lag.first_revision, lost)
            self._items.popleft()

    def _pop(self) -> Item | Lag | None:
        lag = self._lag
        if lag is not None:
            self._lag = None
            return lag
        if not self._items:
            return self._end()
        item = self._items[0]
        self._taken = item.revision
        self._items.popleft()
        return item

    def _end(self) -> Item | None:
        """Give what says that the slot was removed, which takes no place in the queue."""
        after = self.cell[NEXT]
        if after is None or type(after[VALUE]) is not Removed:
            return None
        return Item(self.cell[VALUE], after[VALUE], after[REVISION], 0)


@final
class JoiningRing(Ring):
    """The bounded queue that joins at its new end what does not fit."""

    __slots__ = ("_join",)

    def __init__(self, slot: Slot, cell: Cell, maxlen: int, join: Join) -> None:
        super().__init__(slot, cell, maxlen)
        self._join = join

    def _push(self, item: Item) -> None:
        if len(self._items) < self._maxlen:
            self._items.append(item)
        else:
            last = self._items[-1]
            new = self._join(last.new, item.new)
            self._items[-1] = Item(last.old, new, item.revision, last.missed + 1)


def make_queue(
    slot: Slot, cell: Cell, maxlen: int | None, overflow: Overflow, join: Join
) -> ChainQueue | Ring:
    """
    Make the queue of a subscription that starts behind *cell*.

    Raises:
        TypeError, ValueError: As `check_bound()`.
    """
    check_bound(maxlen, overflow)
    if maxlen is None:
        return ChainQueue(cell)
    if overflow == "raise":
        return Ring(slot, cell, maxlen)
    return JoiningRing(slot, cell, maxlen, join)


def check_bound(maxlen: int | None, overflow: Overflow) -> None:
    """
    Refuse what is no bound of a queue.

    Raises:
        TypeError: *maxlen* is no whole number.
        ValueError: It is less than 1, or *overflow* is not one of the two.
    """
    if overflow not in ("raise", "latest"):
        msg = f"overflow must be 'raise' or 'latest', not {shorten(overflow)}"
        raise ValueError(msg)
    if maxlen is None:
        return
    if isinstance(maxlen, bool) or not isinstance(maxlen, int):
        msg = f"maxlen must be a whole number or None, not {shorten(maxlen)}"
        raise TypeError(msg)
    if maxlen < 1:
        msg = f"maxlen must be at least 1, not {maxlen}; leave it out for a queue without a bound"
        raise ValueError(msg)
