"""See that consumers which are gone left nothing behind."""

from __future__ import annotations

from typing import Any, Final

from statestore._callbacks import InlineMailbox
from statestore._core import VALUE, Core, Group, Slot, Turn
from statestore._mailbox import Bell, LoopPort, ThreadPort
from statestore._network import Network
from statestore._nodes import Input
from statestore._queues import Ring
from statestore._records import Removed
from statestore._store import Store
from statestore._text import shorten
from statestore._value_watcher import ValueWatcher

_IN_WORDS: Final[tuple[tuple[type, str], ...]] = (
    (LoopPort, "tasks that wait"),
    (Bell, "a task that reads a bounded subscription"),
    (ThreadPort, "a thread that is blocked"),
    (Ring, "a bounded subscription"),
    (Group, "whoever follows several keys"),
    (Input, "whoever follows what is derived"),
    (Network, "whoever follows what is derived"),
    (InlineMailbox, "callbacks that are still to be called"),
    (Turn, "an update that has the right of way"),
)


def traces_of(thing: Store | ValueWatcher[Any]) -> list[str]:
    """
    Name every registration that *thing* still holds of a consumer, a line for each.

    A subscription without a bound that nobody is waiting on is registered nowhere. What waited on
    a loop that was closed may be here until the garbage is collected.

    Args:
        thing: A store, or a watcher that stands alone.

    Thread safety:
        What other threads register or end meanwhile may be in the list or not.
    """
    core: Core = thing._core
    slots: list[Slot] = [*core.names.copy().values(), *core.listeners.copy(), *_of_families(core)]
    if isinstance(thing, Slot):
        slots.append(thing)
    return [
        *(trace for slot in dict.fromkeys(slots) for trace in _registered_with(slot)),
        *(f"all keys: {_told(one)}" for one in _consumers_in(core.attention.copy())),
        *(
            f"family of {feed._name}: {_told(group)}"
            for feed in core.families
            for group in feed.shared.family.copy().values()
        ),
        *(f"{core.title} still knows {slot._name}" for slot in _forgotten(core)),
        *(f"line of threads: {key!r}" for key in core.lines.copy()),
        *(f"mailbox: {trace}" for trace in _in_mailboxes(core)),
    ]


def assert_no_trace(thing: Store | ValueWatcher[Any]) -> None:
    """
    Assert that no consumer is registered with *thing* in any place.

        async with asyncio.timeout(1):
            await app.conn.wait_for("open")
        assert_no_trace(app)

    Args:
        thing: A store, or a watcher that stands alone.

    Raises:
        AssertionError: Some are. It lists what [`traces_of`][] gives.
    """
    __tracebackhide__ = True
    found = traces_of(thing)
    if found:
        consumers = "".join(f"\n    {trace}" for trace in found)
        msg = f"{thing._core.title} still has consumers; end their waits, or close them:{consumers}"
        raise AssertionError(msg)


def _told(consumer: object) -> str:
    for kind, words in _IN_WORDS:
        if isinstance(consumer, kind):
            return words
    return shorten(consumer)


def _registered_with(slot: Slot) -> list[str]:
    listeners = slot._listeners
    if listeners is None:
        return []
    kinds = ("callbacks", "groups", "ports", "rings")
    return [
        f"{kind} of {slot._name}: {_told(consumer)}"
        for kind in kinds
        for consumer in _consumers_in(getattr(listeners, kind).copy())
    ]


def _consumers_in(registered: dict[Any, Any]) -> list[Any]:
    """Give those who registered: what stands under a token, or else the key itself."""
    return [key if value is None else value for key, value in registered.items()]


def _forgotten(core: Core) -> list[Slot]:
    """Give the slots that were made for one subscription, or removed, and are kept nevertheless."""
    known = [*core.names.values(), core.everything, *_of_families(core)]
    others = [slot for slot in core.listeners if all(slot is not one for one in known)]
    # A watcher that stands alone, and a member of a family, is in no list of names.
    return [slot for slot in others if _is_removed(slot) or not isinstance(slot, ValueWatcher)]


def _is_removed(slot: Slot) -> bool:
    return type(slot._latest()[VALUE]) is Removed


def _of_families(core: Core) -> list[Slot]:
    return [slot for feed in core.families for slot in (feed, feed.members)]


def _in_mailboxes(core: Core) -> list[str]:
    found: list[str] = []
    references = core.mailboxes.copy().values()
    for mailbox in [mailbox for reference in references if (mailbox := reference()) is not None]:
        found += [f"tasks that wait for {slot._name}" for slot in mailbox.ports.copy()]
        # A loop that was closed before it got to tell somebody never will.
        if not mailbox.loop.is_closed():
            found += [f"{_told(port)}, not told yet" for port in mailbox.dirty.copy()]
        found += [f"claims that stand in line for {key!r}" for key in mailbox.lines.copy()]
    return found
