"""What asyncio itself offers: its primitives, put together by hand with an attribute."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, ClassVar

from suite.contender import (
    ALONE,
    KEYS,
    LOSES,
    NO_THREADS,
    NO_VALUES,
    STREAM,
    THREADS,
    UNTIL,
    WAIT,
    Contender,
    Drain,
    Put,
    Take,
    Test,
    Wait,
)


class Box:
    """An attribute, and what tells of it."""

    __slots__ = ("tell", "value")

    def __init__(self, tell: Any) -> None:
        self.value: Any = 0
        self.tell = tell


class Event(Contender):
    """Who is woken looks at the attribute."""

    name = "asyncio.Event"
    gaps = frozenset({NO_VALUES, LOSES, NO_THREADS})
    cannot: ClassVar = {
        STREAM: "an event keeps nothing",
        THREADS: "an event is not for threads",
        KEYS: "an event keeps nothing",
        UNTIL: "as for a value, with every waiter awake",
    }

    def make(self, purpose: str = ALONE) -> Any:
        return Box(asyncio.Event())

    def push(self, target: Any, values: Iterable[Any]) -> None:
        set_event = target.tell.set
        for value in values:
            if value != target.value:
                target.value = value
                set_event()

    def putter(self, target: Any) -> Put:
        def put(value: Any) -> None:
            target.value = value
            target.tell.set()

        return put

    def waiter(self, target: Any) -> Wait:
        event = target.tell

        async def wait(value: Any) -> None:
            while target.value != value:
                event.clear()
                await event.wait()

        return wait


class Condition(Contender):
    """As documented: set and notify under its lock, which is free whenever it is set here."""

    name = "asyncio.Condition"
    gaps = frozenset({LOSES, NO_THREADS})
    cannot: ClassVar = {
        STREAM: "a condition keeps nothing",
        THREADS: "a condition is not for threads",
        KEYS: "a condition keeps nothing",
    }

    def make(self, purpose: str = ALONE) -> Any:
        return Box(asyncio.Condition())

    def push(self, target: Any, values: Iterable[Any]) -> None:
        finish(self._push(target, values))

    async def _push(self, target: Any, values: Iterable[Any]) -> None:
        condition = target.tell
        for value in values:
            async with condition:
                target.value = value
                condition.notify_all()

    def putter(self, target: Any) -> Put:
        condition = target.tell

        async def put(value: Any) -> None:
            async with condition:
                target.value = value
                condition.notify_all()

        return lambda value: finish(put(value))

    def waiter(self, target: Any) -> Wait:
        until = self.until(target)
        return lambda value: until(lambda now: now == value)

    def until(self, target: Any) -> Callable[[Test], Awaitable[object]]:
        condition = target.tell

        async def wait(test: Test) -> None:
            async with condition:
                await condition.wait_for(lambda: test(target.value))

        return wait


def finish(work: Any) -> None:
    """Run a coroutine that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration:
        return
    msg = "it waits"
    raise RuntimeError(msg)


class Queues:
    """An attribute, and a queue for each consumer."""

    __slots__ = ("queues", "value")

    def __init__(self) -> None:
        self.value: Any = 0
        self.queues: list[asyncio.Queue[Any]] = []

    def put(self, value: Any) -> None:
        if value != self.value:
            self.value = value
            for queue in self.queues:
                queue.put_nowait(value)


class LockedQueues:
    """The same for threads: each put goes through the loop, in the order of the lock."""

    __slots__ = ("_lock", "_loop", "queues", "value")

    def __init__(self) -> None:
        self.value: Any = 0
        self.queues: list[asyncio.Queue[Any]] = []
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()

    def put(self, value: Any) -> None:
        with self._lock:
            if value != self.value:
                self.value = value
                for queue in self.queues:
                    self._loop.call_soon_threadsafe(queue.put_nowait, value)


class QueueByHand(Contender):
    name = "asyncio.Queue"
    gaps = frozenset({NO_THREADS})
    cannot: ClassVar = {
        WAIT: "a queue is followed, not waited on",
        UNTIL: "a queue is followed, not waited on",
        THREADS: "a queue is not for threads",
    }
    kind: Callable[[], Any] = Queues

    def make(self, purpose: str = ALONE) -> Any:
        return type(self).kind()

    def push(self, target: Any, values: Iterable[Any]) -> None:
        put = target.put
        for value in values:
            put(value)

    def putter(self, target: Any) -> Put:
        return target.put

    def push_each(self, targets: Iterable[Any], values: Iterable[Any]) -> None:
        for target, value in zip(targets, values, strict=True):
            target.put(value)

    def open(self, target: Any) -> Any:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        target.queues.append(queue)
        return queue

    def open_all(self, keep: Any, take: Take) -> Drain:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        for target in self.keys_of(keep):
            target.queues.append(queue)
        return partial(self._drain, queue, take)

    async def _drain(self, queue: Any, take: Take, number: int) -> None:
        await self.follow(queue, number, take)


class LockedQueueByHand(QueueByHand):
    name = "asyncio.Queue, with a lock"
    gaps = frozenset()
    cannot: ClassVar = {
        WAIT: "a queue is followed, not waited on",
        UNTIL: "a queue is followed, not waited on",
    }
    kind = LockedQueues
    shares: ClassVar = {"W5 many": 0.1}


KINDS = (Event, Condition, QueueByHand, LockedQueueByHand)
