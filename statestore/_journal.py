"""
Note of each commit who made it, when and why, for as long as somebody logs or records.

A **journal** is the chain of all commits, as `subscribe()` of a store follows it, with an `Origin`
beside the changes. It makes every set of the store take the long way, and costs nothing without.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import Any, ClassVar, final

import attrs

from statestore._core import Core, Group
from statestore._logging import bound_context
from statestore._mailbox import running_loop


@final
@attrs.frozen
class Origin:
    """Where a commit came from."""

    time: float
    """Seconds since the epoch."""
    clock: float
    """Seconds of `time.monotonic()`."""
    setter: str
    """The name of the task that made it, or else of the thread."""
    caused_by: int | None
    """The revision whose callback made it, if one did."""
    reason: str | None
    context: Mapping[str, Any]
    """What was bound with structlog's contextvars."""


def origin_now(core: Core, reason: str | None) -> Origin:
    """Say where a commit comes from that is made here and now."""
    return Origin(
        time.time(), time.monotonic(), setter_now(), core.inline.cause, reason, bound_context()
    )


def setter_now() -> str:
    """Name who is at work here: a task, or else a thread."""
    task = None if running_loop() is None else asyncio.current_task()
    return threading.current_thread().name if task is None else task.get_name()


@final
class Journal(Group):
    """The commits of all keys, each as its origin and its changes."""

    __slots__ = ("_token",)

    is_journal: ClassVar[bool] = True

    def __init__(self, core: Core) -> None:
        super().__init__(core, core.title, ())
        self._token = object()

    def begin(self) -> None:
        """Have commits listed from the next fence on."""
        self._core.attention[self._token] = self

    def end(self) -> None:
        """Have nothing listed any more. A second call does nothing."""
        self._core.attention.pop(self._token, None)
        self._core.forget(self)

    def _noted(self, changes: tuple[Any, ...], reason: str | None) -> tuple[Any, ...]:
        return (origin_now(self._core, reason), changes)
