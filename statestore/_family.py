"""Keys that come and go as the program runs."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Generic, TypeVar, cast, final

from statestore._core import REVISION, VALUE, Change, Core, Slot
from statestore._formulas import Gathered, Mapped, Tally
from statestore._lifecycle import Lifecycle, check_start
from statestore._matching import Satisfying
from statestore._members import Feed, Membership, member_name
from statestore._records import ABSENT, Absent, Removed
from statestore._text import name_of, shorten
from statestore._value_watcher import ValueWatcher
from statestore._values import check_immutable
from statestore._watcher import Condition, Derived, Watcher
from statestore.errors import DuplicateKeyError, UnknownKeyError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MANY = 1_000
"""From how many members on an unknown key is not compared with all of them."""


@final
class Members(Generic[K, V]):
    """
    The members of one family in one store: what a [`Family`][] gives.

        app.workers.add("w1", Worker())
        app.workers["w1"].value = Worker(busy=True)
        idle = app.workers.all(lambda worker: not worker.busy)
        del app.workers["w1"]

    Each member is a [`ValueWatcher`][]. `in`, `len()` and iteration over the keys tell which there
    are now, in no particular order. To add or to remove one is a commit of its own, or part of a
    transaction (`Transaction.add()`, `Transaction.remove()`).

    What is derived of all members follows them as they come and go. It costs the same per
    transition however many members there are.

    Thread safety:
        All of it may be used from any thread, callback, signal handler or finalizer.
    """

    __slots__ = ("_default", "_feed", "_name")

    def __init__(
        self, core: Core, name: str, default: V | Absent, lifecycle: Lifecycle[Any] | None
    ) -> None:
        self._name = name
        self._default = default
        self._feed = Feed(core, name, lifecycle)

    @property
    def name(self) -> str:
        """The name of the family."""
        return self._name

    def add(self, key: K, value: V | Absent = ABSENT) -> ValueWatcher[V]:
        """
        Add a member; give its watcher.

        Args:
            key: Immutable and hashable, and of the same type as the other keys.
            value: What it begins with; the family's default if it is left out.

        Raises:
            DuplicateKeyError: There is a member of that key.
            IllegalTransitionError: *value* is in no state of the family's lifecycle.
            MutableValueError: *key* or *value* can be changed in place.
            StoreClosedError: The store is closed.
            TypeError: *key* cannot be a key, or there is neither a value nor a default.

        Cost:
            Grows with the logarithm of the number of members.
        """
        core = self._feed._core
        while True:
            head = core.settle_open()
            cell = self._feed.members._tail()
            watcher, membership = self._plus(cell[VALUE], key)
            first = self._first_value(watcher, value)
            changes: tuple[Change, ...] = (
                (self._feed.members, cell, membership),
                (watcher, watcher._cell, first),
            )
            if core.publish(head, changes) is not None:
                core.run_callbacks()
                return watcher

    def __getitem__(self, key: K) -> ValueWatcher[V]:
        """
        Give the watcher of a member.

        Raises:
            UnknownKeyError: There is no such member now.
        """
        return cast("ValueWatcher[V]", self._slot_of(self._now(), key))

    def __delitem__(self, key: K) -> None:
        """
        Remove a member: who waits for it, or reads its transitions, is told at that place.

        Raises:
            UnknownKeyError: There is no such member now.
            StoreClosedError: The store is closed.
        """
        core = self._feed._core
        while True:
            head = core.settle_open()
            cell = self._feed.members._tail()
            slot = self._slot_of(cell[VALUE], key)
            last = slot._tail()
            changes: tuple[Change, ...] = (
                (self._feed.members, cell, cell[VALUE].minus(key)),
                (slot, last, Removed(slot._name).after(last[VALUE], last[REVISION])),
            )
            if core.publish(head, changes) is not None:
                core.forget(slot)
                core.run_callbacks()
                return

    def get(self, key: K) -> ValueWatcher[V] | None:
        """Give the watcher of a member, or None if there is none now."""
        return cast("ValueWatcher[V] | None", self._now().get(key))

    def __contains__(self, key: object) -> bool:
        return self._now().get(key) is not None

    def __iter__(self) -> Iterator[K]:
        return iter(self._now().slots)

    def __len__(self) -> int:
        return len(self._now().slots)

    def __bool__(self) -> bool:
        return True

    def all(self, predicate: Callable[[V], object], /) -> Condition:
        """
        Derive the condition that *predicate* holds for all members, or that there are none.

        Raises:
            TypeError: *predicate* cannot be called, or is asynchronous.

        Cost:
            While somebody listens, one call for each transition of a member. Without listeners,
            reading the value costs one call for each member.
        """
        tally = self._tally(predicate)
        return Condition(Mapped(f"all {tally.name}", tally, _is_all))

    def any(self, predicate: Callable[[V], object], /) -> Condition:
        """Derive the condition that *predicate* holds for a member. Else as `all()`."""
        tally = self._tally(predicate)
        return Condition(Mapped(f"any {tally.name}", tally, _is_any))

    def at_least(self, number: int, predicate: Callable[[V], object], /) -> Condition:
        """
        Derive the condition that *predicate* holds for at least *number* members. Else as `all()`.

        Raises:
            ValueError: *number* is less than 1.
        """
        if isinstance(number, bool) or not isinstance(number, int):
            msg = f"how many shall hold is a whole number, not {shorten(number)}"
            raise TypeError(msg)
        if number < 1:
            msg = f"at least {number} members: choose a number from 1 on"
            raise ValueError(msg)
        tally = self._tally(predicate)
        name = f"at least {number} {tally.name}"
        return Condition(Mapped(name, tally, lambda counts: counts[0] >= number))

    def count(self, predicate: Callable[[V], object] | None = None, /) -> Watcher[int]:
        """Derive for how many members *predicate* holds, or how many there are. Else as `all()`."""
        if predicate is None:
            tally = Tally(self._name, self._feed, bool)
            return Derived(Mapped(f"number of {self._name}", tally, _total))
        tally = self._tally(predicate)
        return Derived(Mapped(f"number {tally.name}", tally, _holding))

    @property
    def mapping(self) -> Watcher[Mapping[K, V]]:
        """
        Derive the mapping of the keys to the values, an immutable one.

        Cost:
            While somebody listens, each transition of a member makes a mapping that shares nearly
            everything with the one before. Without listeners, reading costs as many steps as there
            are members.
        """
        return Derived(Gathered(f"{self._name}.mapping", self._feed))

    def __repr__(self) -> str:
        return f"<{len(self)} members of {self._name!r}>"

    def _now(self) -> Membership:
        return cast("Membership", self._feed.members._latest()[VALUE])

    def _tally(self, predicate: Callable[[V], object]) -> Tally:
        test = Satisfying(predicate)
        return Tally(f"of {self._name} match {name_of(predicate)}", self._feed, test)

    # For the transaction, too.

    def _plus(self, membership: Membership, key: K) -> tuple[ValueWatcher[V], Membership]:
        """Make the watcher of *key*, and the membership that has it, without a commit."""
        name = member_name(self._name, key)
        check_immutable(key, f"the key {name}")
        kind = membership.kind
        if kind is not None and type(key) is not kind:
            msg = f"the keys of {self._name} are of type {kind.__name__}, so {name} cannot be one"
            raise TypeError(msg)
        if key in membership.slots:
            msg = f"{name} is there already; set its value, or remove it first"
            raise DuplicateKeyError(msg)
        feed = self._feed
        watcher = ValueWatcher[V]._in_store(feed._core, name, ABSENT, feed._lifecycle)
        watcher._member = (feed, key)
        watcher._listeners = feed.shared
        return watcher, membership.plus(key, watcher)

    def _first_value(self, watcher: Slot, value: V | Absent) -> V:
        """Give what a new member begins with."""
        if value is ABSENT:
            value = self._default
        if value is ABSENT:
            msg = f"{watcher._name} needs a value: give one, or the family a default"
            raise TypeError(msg)
        check_immutable(value, watcher._name)
        check_start(value, watcher._name, watcher._lifecycle)
        return value

    def _slot_of(self, membership: Membership, key: object) -> Slot:
        """
        Give the slot of a member.

        Raises:
            UnknownKeyError: There is no such member.
        """
        slot = membership.get(key)
        if slot is None:
            hint = ""
            if isinstance(key, str) and membership.kind is str and len(membership.slots) < MANY:
                near = difflib.get_close_matches(key, membership.slots, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
            msg = f"{self._name} has no member {shorten(key)}{hint or '; add() makes one'}"
            raise UnknownKeyError(msg)
        return slot


def _is_all(counts: tuple[int, int]) -> bool:
    return counts[0] == counts[1]


def _is_any(counts: tuple[int, int]) -> bool:
    return counts[0] > 0


def _holding(counts: tuple[int, int]) -> int:
    return counts[0]


def _total(counts: tuple[int, int]) -> int:
    return counts[1]
