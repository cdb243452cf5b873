"""
Find who sleeps on a store, and what is computed for whom, from any thread and while all runs.

Nothing registers for that but open subscriptions. All else is found where setters find it: in the
ports of slots, and in the mailboxes of event loops. What is looked at is copied first, in single
operations, and may be a moment old; nothing is changed, and nobody waits for this.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from statestore._claims import Claimant, ThreadLine
from statestore._core import Core, Group, Listeners, Slot
from statestore._explaining import Values, explain, surveyed, transitions_between
from statestore._formulas import Formula
from statestore._mailbox import Asked, Bell, LoopMailbox, ThreadPort, Waiter, running_loop
from statestore._matching import ANYTHING
from statestore._network import Network
from statestore._nodes import Input
from statestore._records import ABSENT, Transition
from statestore._reports import WaitReport
from statestore._streams import Stream

Parked: TypeAlias = "Waiter | Claimant"
"""One that sleeps on an event loop."""

READING = "to give its next record"
"""What a subscription waits for when it is read."""


class Sleeper(NamedTuple):
    """A task or thread that sleeps: on what, for what, since when and until when."""

    slot: Slot
    test: object
    kind: Literal["task", "thread"]
    name: str
    began: float
    waited: float
    deadline: float | None
    seen: list[Transition[Any]]
    reader: Stream[Any] | None
    # The same as long as it is the same wait, and of no other one.
    identity: tuple[object, float]

    def report(self, look: Callable[[Formula], Values | None] = surveyed) -> WaitReport:
        """Say what it waits for."""
        value, revision, _ = self.slot._tail()
        if isinstance(self.slot, Group):
            # What a commit changed says nothing of what there is.
            value = ABSENT
        return explain(
            self.slot,
            self.test,
            value,
            revision,
            self.seen,
            look=look,
            waiter=self.name,
            kind=self.kind,
            since=self.began,
            waited=self.waited,
            deadline=self.deadline,
        )


def sleepers_of(core: Core) -> list[Sleeper]:
    """List who waits for something of *core*, or reads a subscription."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return [
        *(sleeper for mailbox in mailboxes_of(core) for sleeper in _on_loop(mailbox)),
        *(
            sleeper
            for _, listeners in listened(core, networks_of(core))
            for port in listeners.ports.copy().values()
            for sleeper in _at(port, names)
        ),
        *(sleeper for line in core.lines.copy().values() for sleeper in _in_line(line, names)),
    ]


def mailboxes_of(core: Core) -> list[LoopMailbox]:
    """List the mailboxes of event loops that are not closed."""
    found = [reference() for reference in core.mailboxes.copy().values()]
    return [mailbox for mailbox in found if mailbox is not None and not mailbox.loop.is_closed()]


def networks_of(core: Core) -> list[Network]:
    """List where derived watchers are computed."""
    found: dict[Network, None] = {}
    for mailbox in mailboxes_of(core):
        network = mailbox.known_network()
        if network is not None:
            found[network] = None
    if core.derived is not None:
        found[core.derived] = None
    for listeners in [*core.listeners.copy().values(), *(f.shared for f in core.families)]:
        found |= dict.fromkeys(_networks_at(listeners))
    return list(found)


def _networks_at(listeners: Listeners) -> Iterator[Network]:
    for port in listeners.ports.copy().values():
        if isinstance(port, Input) and port.network is not None:
            yield port.network
    for group in (*listeners.groups.copy().values(), *listeners.family.copy().values()):
        yield from _feeding(group)


def _feeding(group: Group) -> Iterator[Network]:
    """Give the networks that hear of commits by *group*."""
    if group._listeners is not None:
        for handle in group._listeners.callbacks.copy():
            yield cast("Network", handle._registered)


def listened(core: Core, networks: list[Network]) -> list[tuple[Slot, Listeners]]:
    """List every slot that somebody may listen to, and who does."""
    outlets = [outlet for network in networks for outlet in network.outlets()]
    return [
        *core.listeners.copy().items(),
        *((outlet, core.listen(outlet)) for outlet in outlets),
    ]


def streams_of(core: Core) -> list[Stream[Any]]:
    """List the subscriptions that are open."""
    found = [reference() for reference in core.streams.copy().values()]
    return [stream for stream in found if stream is not None and not stream._closed]


def _at(port: object, names: dict[int | None, str]) -> Iterator[Sleeper]:
    if isinstance(port, Bell):
        waiter = port.waiter
        if not (waiter.future.done() or port.mailbox.loop.is_closed()):
            yield _task(port.slot, waiter, port.mailbox.loop, [])
    elif isinstance(port, ThreadPort):
        yield _thread(port, names)


def _on_loop(mailbox: LoopMailbox) -> Iterator[Sleeper]:
    for slot, port in mailbox.ports.copy().items():
        trail, last = port.trail(), port.seen
        for waiter in port.waiters():
            if not waiter.future.done():
                seen = transitions_between(slot, trail, last, waiter.since)
                yield _task(slot, waiter, mailbox.loop, seen)
    for line in mailbox.lines.copy().values():
        for slot, claimant in line.claimants():
            if not claimant.future.done():
                yield _task(slot, claimant, mailbox.loop, [])


def _in_line(line: ThreadLine, names: dict[int | None, str]) -> Iterator[Sleeper]:
    """Give the threads that wait for their turn to look; who has that is found at its port."""
    slot = line.slot
    for gate in line.gates.copy():
        if slot is not None and not gate.is_first:
            yield _blocked(slot, gate.thread, (line.claim.test, gate.began, gate.deadline), names)


def _task(
    slot: Slot, waiter: Parked, loop: asyncio.AbstractEventLoop, seen: list[Transition[Any]]
) -> Sleeper:
    reader: Any = getattr(waiter, "reader", None)
    test: object = READING if reader is not None else waiter.test or ANYTHING
    began, deadline = waiter.began, getattr(waiter, "deadline", None)
    asked: Asked | None = None if reader is None else reader._asked
    if asked is not None:
        test, began, deadline = asked
    return Sleeper(
        slot=slot,
        test=test,
        kind="task",
        name=_name_of_task(waiter),
        began=began,
        waited=max(0.0, _now(loop) - began),
        deadline=deadline,
        seen=seen,
        reader=reader,
        identity=(id(waiter if reader is None else reader), began),
    )


def _thread(port: ThreadPort, names: dict[int | None, str]) -> Sleeper:
    reader: Any = port.reader
    asked: Asked | None = port.asked if reader is None else reader._asked
    test, began, deadline = (READING, port.began, None) if asked is None else asked
    return _blocked(port.slot, port.thread, (test, began, deadline), names)._replace(reader=reader)


def _blocked(
    slot: Slot,
    thread: int,
    asked: tuple[object, float, float | None],
    names: dict[int | None, str],
) -> Sleeper:
    test, began, deadline = asked
    return Sleeper(
        slot=slot,
        test=test,
        kind="thread",
        name=names.get(thread, f"thread {thread}"),
        began=began,
        waited=max(0.0, monotonic() - began),
        deadline=deadline,
        seen=[],
        reader=None,
        identity=(thread, began),
    )


def _now(loop: asyncio.AbstractEventLoop) -> float:
    """Give the time on the clock of *loop*."""
    # The clock of other kinds of loops may not be asked from elsewhere: uvloop's stands still while
    # the loop is busy, and is not there once it is closed. It is that of `time.monotonic()`.
    if isinstance(loop, asyncio.BaseEventLoop) or running_loop() is loop:
        return loop.time()
    return monotonic()


def _name_of_task(waiter: Parked) -> str:
    """Name the task that will go on with *waiter*: whose method the future is to call."""
    callbacks: Any = getattr(waiter.future, "_callbacks", None) or ()
    owners: Any = (getattr(callback, "__self__", None) for callback, _ in callbacks)
    names = (str(owner.get_name()) for owner in owners if hasattr(owner, "get_name"))
    return next(names, "a coroutine")
