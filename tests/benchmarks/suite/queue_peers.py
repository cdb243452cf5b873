"""
The article's class, and packages of queues, put together by hand with an attribute.

The article's class follows by `_watch()`, which is private: it has no other way.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar

from suite.asyncio_peers import finish
from suite.contender import (
    ALONE,
    KEYS,
    NO_THREADS,
    SET,
    THREADS,
    UNORDERED,
    UNTIL,
    WAIT,
    Contender,
    Drain,
    Put,
    Take,
    Test,
    Timed,
    told,
)


class Multisubscriber(Contender):
    name = "asyncio-multisubscriber-queue"
    gaps = frozenset({NO_THREADS})
    cannot: ClassVar = {
        SET: "it has no value",
        WAIT: "a queue is followed, not waited on",
        UNTIL: "a queue is followed, not waited on",
        THREADS: "it is not for threads",
        KEYS: "it has no value",
    }

    def __init__(self) -> None:
        self._kind = importlib.import_module("asyncio_multisubscriber_queue").MultisubscriberQueue

    def make(self, purpose: str = ALONE) -> Any:
        return self._kind()

    def push(self, target: Any, values: Iterable[Any]) -> None:
        finish(self._push(target, values))

    async def _push(self, target: Any, values: Iterable[Any]) -> None:
        for value in values:
            await target.put(value)

    def putter(self, target: Any) -> Put:
        return lambda value: finish(target.put(value))

    def open(self, target: Any) -> Any:
        return target.add()


class Aiologic(Contender):
    """Its simple queue and its event, of which both are for threads as well."""

    name = "aiologic"
    gaps = frozenset()
    cannot: ClassVar = {
        WAIT: "it has no values; its events and queues can be waited on",
        UNTIL: "it has no values",
        "set": "it has no values",
        "keys": "it has no values",
    }

    def __init__(self) -> None:
        self._module = importlib.import_module("aiologic")

    def make(self, purpose: str = ALONE) -> Any:
        return AiologicQueues(self._module.SimpleQueue)

    def push(self, target: Any, values: Iterable[Any]) -> None:
        put = target.put
        for value in values:
            put(value)

    def putter(self, target: Any) -> Put:
        return target.put

    def open(self, target: Any) -> Any:
        return target.open()

    async def follow(self, stream: Any, number: int, take: Take) -> None:
        get = stream.async_get
        for _ in range(number):
            take(await get())


class AiologicQueues:
    """An attribute, and a queue for each consumer."""

    __slots__ = ("_kind", "_lock", "_queues", "value")

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._lock = threading.Lock()
        self._queues: list[Any] = []
        self.value: Any = 0

    def open(self) -> Any:
        queue = self._kind()
        self._queues.append(queue)
        return queue

    def put(self, value: Any) -> None:
        with self._lock:
            if value != self.value:
                self.value = value
                for queue in self._queues:
                    queue.put(value)


class Article(Timed):
    """The class that the inngest SDK ships."""

    name = "the article's class"
    gaps = frozenset({UNORDERED})
    shares: ClassVar = {"W5 one": 0.1, "W5 many": 0.01}

    def __init__(self) -> None:
        module = importlib.import_module("inngest.connect._internal.value_watcher")
        self._kind = module.ValueWatcher

    def make(self, purpose: str = ALONE) -> Any:
        return self._kind(0)

    def until(self, target: Any) -> Callable[[Test], Awaitable[object]]:
        return target._wait_for_condition

    def connect(self, target: Any, call: Take) -> Callable[[], object]:
        target.on_change(lambda _old, new: call(new))
        return lambda: None

    def open(self, target: Any) -> Any:
        return target._watch()

    async def follow(self, stream: Any, number: int, take: Take) -> None:
        with stream as queue:
            for _ in range(number):
                take((await queue.get())[1])

    def open_all(self, keep: Any, take: Take) -> Drain:
        return told([self.connect(target, take) for target in self.keys_of(keep)])


KINDS = (Article, Aiologic, Multisubscriber)
