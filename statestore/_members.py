"""
The members of a family: which there are, and how all of them are followed at once.

Which members there are is a value like any other: a slot of its own holds a `Membership`, which
never changes, and to add or remove a member is to commit its successor together with the member's
own first or last value. So it is atomic, ordered and undone like any other change.

All members share one dict of groups, so to follow 100,000 of them is to enter one line there; a
commit that touches a member is then listed in the family's **feed**.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, final

import immutables

from statestore._core import NEXT, NOTHING, VALUE, Cell, Core, Group, Listeners, Slot, by_three
from statestore._text import shorten

EMPTY: Final[immutables.Map[Any, Slot]] = immutables.Map()


@final
class Membership:
    """Which members a family has at one revision, and of which type their keys are."""

    __slots__ = ("kind", "slots")

    def __init__(self, slots: immutables.Map[Any, Slot] = EMPTY, kind: type | None = None) -> None:
        self.slots = slots
        # 1, True and 1.0 would be one key: the first one decides what the others are.
        self.kind = kind

    def get(self, key: object) -> Slot | None:
        """Give the slot of *key*, if there is one."""
        return self.slots.get(key) if type(key) is self.kind else None

    def plus(self, key: object, slot: Slot) -> Membership:
        """Give the membership with one more."""
        return Membership(self.slots.set(key, slot), type(key))

    def minus(self, key: object) -> Membership:
        """Give the membership with one less."""
        left = self.slots.delete(key)
        return Membership(left, self.kind if left else None)


@final
class Feed(Group):
    """The chain of all that happens to the members of one family, while somebody follows it."""

    __slots__ = ("_lifecycle", "members", "shared")

    def __init__(self, core: Core, name: str, lifecycle: Any = None) -> None:
        super().__init__(core, name, ())
        self._lifecycle = lifecycle
        # Its value is the membership.
        self.members = Slot(core, name, Membership())
        # What stands for the listeners of a member that has none of its own.
        self.shared = Listeners(is_shared=True)

    def follow(self, token: object) -> None:
        """Have commits listed from the next fence on."""
        self.shared.family[token] = self

    def unfollow(self, token: object) -> None:
        """Need it no more."""
        tail = self._tail()
        self.shared.family.pop(token, None)
        if not self.shared.family:
            tail[VALUE] = NOTHING

    def cells_at(self, membership: Cell, cell: Cell, revision: int) -> dict[Slot, Cell]:
        """
        Give the cells of all members at *revision*: that of *cell* of this feed, which is followed.

        The one before a cell that came meanwhile is made up: when it came is not known any more.
        """
        cells = {slot: slot._latest() for slot in membership[VALUE].slots.values()}
        self._core.settle()
        before: dict[Slot, Any] = {}
        for slot, old, _ in _changes_after(cell):
            before.setdefault(slot, [old, revision, None])
        return {slot: before.get(slot, newest) for slot, newest in cells.items()}


@final
class FeedHold:
    """
    That somebody follows a family.

    Ends when it is let go of, at the latest: one that an interrupt, or a loop that was closed, has
    left behind is not held by the family.
    """

    __slots__ = ("_feed", "_token")

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._token = object()
        feed.follow(self._token)

    def end(self) -> None:
        """Need it no more."""
        self._feed.unfollow(self._token)

    def __del__(self) -> None:
        self.end()


def _changes_after(cell: Cell) -> Iterator[tuple[Slot, Any, Any]]:
    while (after := cell[NEXT]) is not None:
        cell = after
        yield from by_three(cell[VALUE])


def changes_of_keys(changes: tuple[Any, ...]) -> Iterator[tuple[Slot, Any, Any]]:
    """Give slot, before and after, of those that are keys: which members there are is none."""
    for slot, old, new in by_three(changes):
        if not isinstance(new, Membership):
            yield slot, old, new


def member_name(family: str, key: object) -> str:
    """Name the member *key* of *family*."""
    return f"{family}[{shorten(key, 60)}]"


def key_of(slot: Slot) -> Any:
    """Give the key of a member."""
    return None if slot._member is None else slot._member[1]
