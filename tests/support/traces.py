"""See that consumers which are gone left nothing behind."""

from __future__ import annotations

from typing import Any

from statestore import Store, ValueWatcher
from statestore._core import VALUE, Core, Slot
from statestore._records import Removed


def traces_of(thing: Store | ValueWatcher[Any]) -> list[str]:
    """Name every registration that *thing*, a store or a watcher, still holds of a consumer."""
    core: Core = thing._core
    slots: list[Slot] = [*core.names.values(), *core.listeners, *_of_families(core)]
    if isinstance(thing, Slot):
        slots.append(thing)
    return [
        *(trace for slot in dict.fromkeys(slots) for trace in _registered_with(slot)),
        *(f"attention: {token!r}" for token in core.attention.copy()),
        *(f"{feed._name}: {token!r}" for feed in core.families for token in feed.shared.family),
        *(f"{core.title} still knows {slot!r}" for slot in _forgotten(core)),
        *(f"mailbox: {trace}" for trace in _in_mailboxes(core)),
    ]


def assert_no_trace(thing: Store | ValueWatcher[Any]) -> None:
    """Assert that no consumer is registered with *thing*, a store or a watcher, in any place."""
    found = traces_of(thing)
    assert [] == found, found


def _registered_with(slot: Slot) -> list[str]:
    listeners = slot._listeners
    if listeners is None:
        return []
    kinds = ("callbacks", "groups", "ports", "rings")
    return [
        f"{kind} of {slot._name}: {consumer!r}"
        for kind in kinds
        for consumer in getattr(listeners, kind).copy()
    ]


def _forgotten(core: Core) -> list[Slot]:
    """Give the slots that were made for one subscription, or removed, and are kept nevertheless."""
    known = [*core.names.values(), core.everything, *_of_families(core)]
    others = [slot for slot in core.listeners if all(slot is not one for one in known)]
    # A watcher that stands alone, and a member of a family, is in no list of names.
    return [slot for slot in others if not isinstance(slot, ValueWatcher) or _is_removed(slot)]


def _is_removed(slot: Slot) -> bool:
    return type(slot._latest()[VALUE]) is Removed


def _of_families(core: Core) -> list[Slot]:
    return [slot for feed in core.families for slot in (feed, feed.members)]


def _in_mailboxes(core: Core) -> list[str]:
    found = []
    for reference in list(core.mailboxes.values()):
        mailbox = reference()
        if mailbox is not None:
            found += [f"port on {slot._name}" for slot in mailbox._ports.copy()]
            found += [f"dirty port {port!r}" for port in mailbox._dirty.copy()]
    return found
