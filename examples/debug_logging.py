"""
Show who changed what, and what a stuck program waits for.

A small service handles requests. Each binds a request id, which appears in the log of everything
that the request changes, also where a callback changes something because of it. A task waits for a
condition that cannot come: the watchdog tells which part is missing. Another one gives up, and its
error says why. At the end the store says how its state came about.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import MutableMapping
from enum import Enum
from typing import Any

import structlog

from statestore import Key, Store, WaitTimeoutError, all_of, log_transitions, warn_stuck

REQUESTS = 2
STUCK_AFTER = 0.1
"""Seconds."""

TOLD: list[MutableMapping[str, Any]] = []
"""What was logged."""


class State(Enum):
    """What the service is doing."""

    IDLE = "idle"
    BUSY = "busy"
    DRAINED = "drained"


class Service(Store):
    """The state of the service."""

    state = Key(State.IDLE)
    inflight = Key(0)
    served = Key(0)
    gate = Key("open")
    session = Key("none")


def configure_log() -> None:
    """Have each event printed as one line of words, and kept."""
    keys = ["level", "event", "key", "old", "new"]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            remember,
            structlog.processors.LogfmtRenderer(key_order=keys, drop_missing=True),
        ]
    )


def remember(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Any:
    """Keep what is logged, so that `main()` can tell whether all of it was there."""
    TOLD.append(dict(event))
    return event


def follow_load(service: Service) -> None:
    """Have the service be busy as long as something is in flight: one change causes another."""
    service.inflight.on_change(
        lambda _old, new: service.state.set(State.BUSY if new else State.IDLE, reason="the load")
    )


async def handle(service: Service, number: int) -> None:
    """Handle a request."""
    with structlog.contextvars.bound_contextvars(request_id=f"r{number}"):
        service.inflight.update(lambda count: count + 1, reason="a request came in")
        await asyncio.sleep(0)  # the work
        service.session.value = f"token-{number}"
        with service.transaction(reason="it was answered") as tx:
            tx[service.inflight] = tx[service.inflight] - 1
            tx[service.served] = tx[service.served] + 1


async def main() -> int:
    """Run the service; tell whether everything was told."""
    configure_log()
    service = Service()
    follow_load(service)
    with (
        service.record() as recording,
        log_transitions(service, redact=[Service.session]),
        warn_stuck(service, after=STUCK_AFTER),
    ):
        for number in range(REQUESTS):
            await handle(service, number)

        # Too little was served for that, and nobody serves any more.
        may_stop = all_of(
            service.state.is_(State.IDLE), service.gate.is_("open"), service.served.is_(3)
        )
        stuck = asyncio.create_task(may_stop.wait(), name="stopper")
        try:
            await service.state.wait_for(State.DRAINED, timeout=3 * STUCK_AFTER)
        except WaitTimeoutError as error:
            print(f"\n{error}")
        stuck.cancel()

        print(f"\n{recording.why('state')}\n")
        print(recording.timeline("state", "inflight", "served"))

    missing = "all of 3: state yes, gate yes, served NO (is 2)"
    caused = [event for event in TOLD if "caused_by" in event]
    is_told = (
        missing in [event.get("waited_for") for event in TOLD]
        and len(caused) == 2 * REQUESTS
        and all("request_id" in event for event in caused)
    )
    print("\nAll was told." if is_told else f"\nSomething was not told: {TOLD}")
    return 0 if is_told else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
