"""
Look at a store from outside, and make the report of what there is.

From any thread, while all runs: what can change meanwhile is copied first, in single operations.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from itertools import islice
from operator import attrgetter
from threading import get_ident
from typing import Any, Final, Literal, cast, final

from statestore._callbacks import CallbackHandle
from statestore._core import REVISION, VALUE, Core, Slot
from statestore._explaining import Values, age_of, surveyed
from statestore._formulas import NO_VALUE, Formula, last_good, read
from statestore._inline import InlineNetwork
from statestore._inspection import (
    CallbackReport,
    FamilyReport,
    KeyReport,
    NetworkReport,
    NodeReport,
    StoreReport,
    SubscriptionReport,
)
from statestore._mailbox import LoopNetwork
from statestore._members import Feed, Membership
from statestore._network import Network, outlet_of
from statestore._nodes import Input, Node, Origin
from statestore._queues import ChainQueue, JoiningRing, NewestQueue
from statestore._records import ABSENT, Removed
from statestore._sleepers import Sleeper, listened, networks_of, sleepers_of, streams_of
from statestore._streams import Stream
from statestore._text import name_of, shorten

MEMBERS: Final = 100
"""How many members of a family are given one by one."""

_depth: Final = attrgetter("depth")

_computing: Final[dict[int, None]] = {}
"""The threads that compute what is waited on, for a report."""


def inspect(core: Core) -> StoreReport:
    """Make the report on *core*."""
    networks = networks_of(core)
    sleepers = sorted(sleepers_of(core), key=_waited, reverse=True)
    streams = streams_of(core)
    handles = _handles(core, networks)
    listeners = _Audience(sleepers, streams, handles)
    revision, keys, families = _values(core)
    thread = get_ident()
    # Not out of what is computed for a report: that would have no end.
    is_inside = thread in _computing
    look: Callable[[Formula], Values | None] = _nothing if is_inside else functools.cache(surveyed)
    _computing[thread] = None
    try:
        waits = tuple(sleeper.report(look) for sleeper in sleepers)
    finally:
        if not is_inside:
            _computing.pop(thread, None)
    return StoreReport(
        name=core.title,
        revision=revision,
        is_closed=core.closed,
        keys=tuple(keys),
        families=tuple(families),
        waits=waits,
        subscriptions=tuple(_subscription(stream, sleepers) for stream in streams),
        callbacks=tuple(
            CallbackReport(key=h.key, callback=name_of(h.callback), since=h._since)
            for _, h in handles
        ),
        networks=tuple(_networks(networks, listeners)),
    )


def _nothing(_formula: Formula) -> None:
    """Know nothing."""


def _waited(sleeper: Sleeper) -> float:
    return sleeper.waited


def _values(core: Core) -> tuple[int, list[KeyReport], list[FamilyReport]]:
    """Give the keys and families, all at one revision."""
    core.settle()
    keys = list(core.names.copy().values())
    feeds: list[Feed] = list(core.families)
    members: dict[Feed, list[Slot]] = {
        feed: list(islice(feed.members._tail()[VALUE].slots.values(), MEMBERS)) for feed in feeds
    }
    every: list[Slot] = [*keys]
    for feed in feeds:
        every += (feed.members, *members[feed])
    revision, cells = read(every, lambda: core.settle()[0])

    def report(slot: Slot) -> KeyReport:
        value, since, _ = cells[slot]
        return KeyReport(name=slot._name, value=value, revision=since, age=age_of(core, since))

    def is_there(slot: Slot) -> bool:
        value = cells[slot][VALUE]
        return value is not ABSENT and type(value) is not Removed

    return (
        revision,
        [report(slot) for slot in keys if is_there(slot)],
        [
            FamilyReport(
                name=feed._name,
                size=len(cells[feed.members][VALUE].slots),
                members=tuple(report(slot) for slot in members[feed] if is_there(slot)),
                revision=cells[feed.members][REVISION],
            )
            for feed in feeds
        ],
    )


def _subscription(stream: Stream[Any], sleepers: list[Sleeper]) -> SubscriptionReport:
    queue = stream._queue
    policy: Literal["unbounded", "raise", "latest", "newest"] = "unbounded"
    pending, maxlen = 0, None
    if isinstance(queue, ChainQueue):
        pending = len(queue)
    elif isinstance(queue, NewestQueue):
        policy = "newest"
        pending = int(queue._revision != stream._slot._tail()[REVISION])
    else:
        policy = "latest" if isinstance(queue, JoiningRing) else "raise"
        pending, maxlen = len(queue._items), queue._maxlen
    return SubscriptionReport(
        key=stream._slot._name,
        kind=type(stream).__name__,
        policy=policy,
        maxlen=maxlen,
        pending=pending + (stream._first is not None),
        revision=stream._at[REVISION],
        reader=", ".join(s.name for s in sleepers if s.reader is stream),
    )


def _handles(core: Core, networks: list[Network]) -> list[tuple[Slot, CallbackHandle]]:
    """List the callbacks, each with the slot it is registered on."""
    found: list[tuple[Slot, CallbackHandle]] = []
    for slot, listeners in listened(core, networks):
        found += [(slot, handle) for handle in listeners.callbacks.copy()]
    return found


@final
class _Audience:
    """Who listens to a slot, in words."""

    def __init__(
        self,
        sleepers: list[Sleeper],
        streams: list[Stream[Any]],
        handles: list[tuple[Slot, CallbackHandle]],
    ) -> None:
        self._found: dict[Slot, list[str]] = {}
        for sleeper in sleepers:
            if sleeper.reader is None:
                self._add(sleeper.slot, f"{sleeper.kind} {sleeper.name}")
        for stream in streams:
            self._add(stream._slot, type(stream).__name__)
        for slot, handle in handles:
            self._add(slot, f"callback {name_of(handle.callback)}")

    def _add(self, slot: Slot, listener: str) -> None:
        self._found.setdefault(slot, []).append(listener)

    def of(self, slot: Slot | None) -> tuple[str, ...]:
        return () if slot is None else tuple(self._found.get(slot, ()))


def _networks(networks: list[Network], audience: _Audience) -> Iterator[NetworkReport]:
    count = 0
    for network in networks:
        inputs = list(network._graph.inputs.copy().values())
        nodes = sorted(network._graph.nodes.copy().values(), key=_depth)
        ids: dict[Origin, str] = {}
        for origin in (*inputs, *nodes):
            # What happens to members of a family has no value that says something to people.
            if not (isinstance(origin, Input) and isinstance(origin.slot, Feed)):
                ids[origin] = f"n{count}"
                count += 1
        if nodes:
            kind: Literal["event loop", "thread", "callbacks"] = "thread"
            if isinstance(network, LoopNetwork):
                kind = "event loop"
            elif isinstance(network, InlineNetwork):
                kind = "callbacks"
            reports = tuple(_node(origin, ids, audience) for origin in ids)
            yield NetworkReport(kind=kind, nodes=reports)


def _node(origin: Origin, ids: dict[Origin, str], audience: _Audience) -> NodeReport:
    value: Any = origin.value
    revision = origin.revision
    sources: tuple[str, ...] = ()
    name, outlet = "", None
    if isinstance(origin, Input):
        name = origin.slot._name
    else:
        node = cast("Node", origin)
        name, outlet = node.formula.name, outlet_of(node)
        sources = tuple(ids[source] for source in dict.fromkeys(node.sources) if source in ids)
    if outlet is not None:
        # Both at once, though its loop may be computing.
        value, revision, _ = outlet._tail()
    if isinstance(value, Membership):
        name, value = f"number of {name}", len(value.slots)
    return NodeReport(
        id=ids[origin],
        name=name,
        value=last_good(value),
        error=shorten(value.again(), 100) if type(value) in NO_VALUE else "",
        revision=revision,
        sources=sources,
        listeners=audience.of(outlet),
    )
