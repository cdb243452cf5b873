"""
Change several keys in one commit.

A transaction remembers the cell of every key that it reads. It can be committed as long as each of
them is still the newest of its key: then all it saw is still so.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeAlias, TypeVar, cast, final

from statestore._core import BOX, VALUE, Cell, Change, Core, Slot
from statestore._keys import Key
from statestore._values import check_immutable, is_same
from statestore._watcher import ValueWatcher
from statestore.errors import ConflictError, StateStoreError

T = TypeVar("T")

Resolve: TypeAlias = Callable[[Any], Slot]
"""Give the slot of a key or watcher, or raise the error that says why there is none."""


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

    __slots__ = ("_cells", "_core", "_resolve", "_state", "_writes", "has_conflicted")

    has_conflicted: bool
    """Whether it found that a key it had read was committed by somebody else."""

    def __init__(self, core: Core, resolve: Resolve) -> None:
        self._core = core
        self._resolve = resolve
        self.has_conflicted = False
        self._cells: dict[Slot, Cell] = {}
        self._writes: dict[Slot, Any] = {}
        self._state = "not begun; use it in a `with` block"

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
            UnknownKeyError: The store has no such key.
        """
        slot = self._slot(key)
        if slot in self._writes:
            return cast("T", self._writes[slot])
        if slot not in self._cells:
            self._look(slot)
        return cast("T", self._cells[slot][VALUE])

    def __setitem__(self, key: Key[T] | ValueWatcher[T], value: T) -> None:
        """
        Write *value*, to be committed when the block is left. The last write of a key wins.

        Raises:
            MutableValueError: *value* can be changed in place.
            UnknownKeyError: The store has no such key.
        """
        slot = self._slot(key)
        check_immutable(value, slot._name, slot._cell[VALUE])
        self._writes[slot] = value

    def _slot(self, key: Key[Any] | ValueWatcher[Any]) -> Slot:
        if self._state:
            msg = f"this transaction is {self._state}"
            raise StateStoreError(msg)
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

    def _commit(self) -> None:
        core = self._core
        compared: dict[Slot, tuple[Cell, bool]] = {}
        while self._writes:
            head = core.settle_open()
            self._check()
            changes: list[Change] = []
            for slot, value in self._writes.items():
                cell = slot._tail()
                if slot not in compared or compared[slot][0] is not cell:
                    compared[slot] = (cell, is_same(cell[VALUE], value))
                if not compared[slot][1]:
                    changes.append((slot, cell, value))
            # Nothing to commit, and so nobody to say that what was read is not so any more.
            if not changes and core.settle()[BOX] is head[BOX]:
                return
            if changes and core.publish(head, changes) is not None:
                core.run_callbacks()
                return
