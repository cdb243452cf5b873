"""
Change several keys in one commit.

A transaction remembers the cell of every key that it reads. It can be committed as long as each of
them is still the newest of its key: then all it saw is still so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Any, TypeAlias, TypeVar, cast, final

from statestore._core import BOX, ROUNDS, VALUE, Cell, Change, Core, Slot
from statestore._family import Members
from statestore._formulas import good
from statestore._keys import Key
from statestore._members import Feed
from statestore._records import ABSENT, Absent, Removed
from statestore._text import shorten
from statestore._value_watcher import ValueWatcher
from statestore._values import check_immutable, is_same
from statestore.errors import ConflictError, StateStoreError, UnknownKeyError

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
V = TypeVar("V")

Resolve: TypeAlias = Callable[[Any], Slot]
"""Give the slot of a key or watcher, or raise the error that says why there is none."""


@final
class Held:
    """
    A slot that a transaction looks at from outside, as at a key that it has read.

    It may be one of a derived watcher: what that is made of is looked at, too.
    """

    __slots__ = ("_name", "_slot")

    def __init__(self, slot: Slot) -> None:
        self._name = slot._name
        self._slot = slot

    def _tail(self) -> Cell:
        return self._slot._latest()


@final
class Transaction:
    """
    Reads and writes of several keys that happen as one, from `Store.transaction()`.

    Index it with a [`Key`][] or a watcher of the store. It reads its own writes, and all values of
    one revision. Nothing of it is visible outside until its `with` block is left; an exception
    that leaves the block undoes it.

    Thread safety:
        One transaction is for one task or thread. It may span an `await`: whoever commits a key
        meanwhile that it has read makes it fail with [`ConflictError`][]. Keys that it only writes
        do not conflict.

    Cost:
        Linear in the number of keys it touches.
    """

    __slots__ = ("_cells", "_core", "_reason", "_resolve", "_state", "_writes", "has_conflicted")

    has_conflicted: bool
    """Whether it found that a key it had read was committed by somebody else."""

    def __init__(self, core: Core, resolve: Resolve, reason: str | None = None) -> None:
        self._core = core
        self._reason = reason
        self._resolve = resolve
        self.has_conflicted = False
        self._cells: dict[Slot | Held, Cell] = {}
        self._writes: dict[Slot, Any] = {}
        self._state = "not begun; use it in a `with` block"

    def _holding(self, slot: Slot, cell: Cell) -> Transaction:
        """Have this one commit only while *cell* is the newest of *slot*."""
        self._cells[Held(slot)] = cell
        return self

    def __enter__(self) -> Transaction:
        if self._state != "not begun; use it in a `with` block":
            state = self._state or "under way"
            msg = f"this transaction is {state}; begin another one with `store.transaction()`"
            raise StateStoreError(msg)
        self._core.settle_open()
        self._state = ""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._state = "over"
        if kind is None:
            self._commit()

    def __getitem__(self, key: Key[T] | ValueWatcher[T]) -> T:
        """
        Read the value of *key*, as this transaction would leave it.

        Raises:
            ConflictError: A key that was read before has been committed by somebody else.
            KeyRemovedError: It is a member that was removed.
            UnknownKeyError: The store has no such key.
        """
        return cast("T", good(self._read(self._slot(key))))

    def __setitem__(self, key: Key[T] | ValueWatcher[T], value: T) -> None:
        """
        Write *value*, to be committed when the block is left. The last write of a key wins.

        Raises:
            MutableValueError: *value* can be changed in place.
            UnknownKeyError: The store has no such key.
        """
        slot = self._slot(key)
        if type(self._writes.get(slot)) is Removed:
            raise self._writes[slot].again()
        check_immutable(value, slot._name, slot._cell[VALUE])
        self._writes[slot] = value

    def add(self, members: Members[K, V], key: K, value: V | Absent = ABSENT) -> None:
        """
        Add a member to a family of the store. Else as `Members.add()`.

        Raises:
            ConflictError: As when reading: which members there are is read.
        """
        feed = self._feed(members)
        watcher, membership = members._plus(self._read(feed.members), key)
        self._writes[watcher] = members._first_value(watcher, value)
        self._writes[feed.members] = membership

    def remove(self, members: Members[K, V], key: K) -> None:
        """
        Remove a member of a family of the store. Else as `del members[key]`.

        Raises:
            ConflictError: As when reading: which members there are is read.
        """
        feed = self._feed(members)
        membership = self._read(feed.members)
        slot = members._slot_of(membership, key)
        self._writes[feed.members] = membership.minus(key)
        self._writes[slot] = Removed(slot._name)
        if slot._cell[VALUE] is ABSENT:
            # Added by this very transaction: it never was.
            del self._writes[slot]
            if not any(_is_move(feed, *write) for write in self._writes.items()):
                del self._writes[feed.members]

    def _feed(self, members: Members[Any, Any]) -> Feed:
        self._refuse_unless_open()
        if not isinstance(members, Members):
            msg = f"a family is what the store has under its name, not {shorten(members)}"  # type: ignore[unreachable]
            raise TypeError(msg)
        feed = members._feed
        if feed not in self._core.families:
            msg = f"{members.name!r} is a family of {feed._core.title}, another store than this one"
            raise UnknownKeyError(msg)
        return feed

    def _read(self, slot: Slot) -> Any:
        if slot in self._writes:
            return self._writes[slot]
        if slot not in self._cells:
            self._look(slot)
        return self._cells[slot][VALUE]

    def _refuse_unless_open(self) -> None:
        if self._state:
            msg = f"this transaction is {self._state}"
            raise StateStoreError(msg)

    def _slot(self, key: Key[Any] | ValueWatcher[Any]) -> Slot:
        self._refuse_unless_open()
        return self._resolve(key)

    def _look(self, slot: Slot) -> None:
        # All reads are of one revision: if anything was committed since the last one, what was
        # read before must not have moved.
        while True:
            head = self._core.settle()
            self._cells[slot] = slot._tail()
            self._check()
            if self._core.settle()[BOX] is head[BOX]:
                return

    def _check(self) -> None:
        for slot, cell in self._cells.items():
            if slot._tail() is not cell:
                self.has_conflicted = True
                msg = (
                    f"{slot._name!r} was committed by somebody else after this transaction had "
                    "read it; run it again, or use `store.transact()`, which does"
                )
                raise ConflictError(msg, key=slot._name)

    def _newest(self, slot: Slot) -> Cell:
        """
        Give the newest cell of *slot*.

        Raises:
            ConflictError: It was removed, and this transaction had read which members there are.
            KeyRemovedError: It was removed.
        """
        cell = slot._tail()
        if type(cell[VALUE]) is Removed:
            self._check()
            raise cell[VALUE].again()
        return cell

    def _changes(self, compared: dict[Slot, tuple[Cell, bool]]) -> list[Change]:
        """Give what there is to commit; *compared* keeps what was compared with which cell."""
        changes: list[Change] = []
        for slot, value in self._writes.items():
            cell = self._newest(slot)
            old, revision, _ = cell
            if slot not in compared or compared[slot][0] is not cell:
                compared[slot] = (cell, is_same(old, value))
            if type(value) is Removed:
                changes.append((slot, cell, value.after(old, revision)))
            elif not compared[slot][1]:
                if slot._lifecycle is not None and old is not ABSENT:
                    slot._lifecycle.refuse_move(old, value, slot._name, revision)
                changes.append((slot, cell, value))
        return changes

    def _commit(self) -> None:
        core = self._core
        compared: dict[Slot, tuple[Cell, bool]] = {}
        while self._writes:
            head = core.settle_open()
            self._check()
            changes = self._changes(compared)
            # Nothing to commit, and so nobody to say that what was read is not so any more.
            if not changes and core.settle()[BOX] is head[BOX]:
                return
            if changes and core.publish(head, changes, self._reason) is not None:
                for slot, _, value in changes:
                    if type(value) is Removed:
                        core.forget(slot)
                core.run_callbacks()
                return


def _is_move(feed: Feed, slot: Slot, value: Any) -> bool:
    """Tell whether *slot* is a member of *feed* that comes or goes when it becomes *value*."""
    if slot._member is None or slot._member[0] is not feed:
        return False
    return slot._cell[VALUE] is ABSENT or type(value) is Removed


def repeat(
    core: Core, begin: Callable[[], Transaction | None], function: Callable[[Transaction], T]
) -> tuple[T] | None:
    """
    Run *function* in a transaction that *begin* makes, and in another one if it conflicts.

    Gives what it returned, or None if *begin* makes none.
    """
    turn = None
    try:
        for rounds in itertools.count():
            if rounds == ROUNDS:
                turn = core.take_turn()
            transaction = begin()
            if transaction is None:
                return None
            try:
                with transaction as tx:
                    result = function(tx)
            except ConflictError:
                # It may be another one's, from inside of *function*.
                if not transaction.has_conflicted:
                    raise
            else:
                return (result,)
        raise AssertionError  # pragma: no cover -- count() has no end
    finally:
        if turn is not None:
            core.end_turn(turn)
