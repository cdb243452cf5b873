"""Choose keys and families of a store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from statestore._core import Slot
from statestore._family import Members
from statestore._keys import Family, Key
from statestore._store import Store
from statestore._text import shorten
from statestore._value_watcher import ValueWatcher
from statestore.errors import UnknownKeyError

Choice: TypeAlias = "Key[Any] | ValueWatcher[Any] | Family[Any, Any] | Members[Any, Any] | str"
"""A key or its watcher, a family or its members, or the name of a key or family."""


def select(store: Store | ValueWatcher[Any], choices: Iterable[Choice]) -> frozenset[Slot]:
    """
    Give the slots of *choices*; that of a family stands for all of its members.

    Raises:
        TypeError: They are not several, or one is none of these.
        UnknownKeyError: The store has no such key.
    """
    if isinstance(choices, str) or not isinstance(choices, Iterable):
        msg = f"give the keys as a list, not as {shorten(choices)}"
        raise TypeError(msg)
    return frozenset(_slot_of(store, choice) for choice in choices)


def is_selected(slot: Slot, selected: frozenset[Slot]) -> bool:
    """Tell whether *slot*, or the family that it is a member of, is among them."""
    return slot in selected or (slot._member is not None and slot._member[0] in selected)


def _slot_of(store: Store | ValueWatcher[Any], choice: object) -> Slot:
    core = store._core
    if isinstance(store, ValueWatcher):
        if choice is store or choice == store.name:
            return store
        msg = f"{shorten(choice)} is not {core.title}"
        raise UnknownKeyError(msg)
    feeds: dict[str, Slot] = {feed._name: feed for feed in core.families}
    if isinstance(choice, str) and choice in feeds:
        return feeds[choice]
    if isinstance(choice, Family) and choice in store._declared:
        return feeds[choice.name]
    if isinstance(choice, Members) and choice._feed in core.families:
        return choice._feed
    if isinstance(choice, (Family, Members)):
        msg = f"{choice!r} is not of {core.title}"
        raise UnknownKeyError(msg)
    return store._resolve(choice)
