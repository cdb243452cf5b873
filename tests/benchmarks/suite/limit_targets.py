"""What the limit sets: one small class for each way to be waited for or followed."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from suite.contender import Take, Test


class Locked:
    """Nobody listens: an attribute, and a lock."""

    __slots__ = ("lock", "value")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: Any = 0

    def push(self, values: Iterable[Any]) -> None:
        # Not `with`, which is slower on some Pythons.
        acquire, release = self.lock.acquire, self.lock.release
        for value in values:
            acquire()
            try:
                self.value = value
            finally:
                release()


class OneWaiter:
    """One task waits at a time: a bare future."""

    __slots__ = ("future", "value")

    def __init__(self) -> None:
        self.value: Any = 0
        self.future: asyncio.Future[Any] | None = None

    def put(self, value: Any) -> None:
        self.value = value
        future = self.future
        if future is not None:
            self.future = None
            future.set_result(value)

    async def wait(self, value: Any) -> Any:
        if self.value == value:
            return value
        self.future = future = asyncio.get_running_loop().create_future()
        return await future

    async def timed(self, value: Any, timeout: float) -> Any:
        if self.value == value:
            return value
        loop = asyncio.get_running_loop()
        self.future = future = loop.create_future()
        timer = loop.call_later(timeout, future.cancel)
        try:
            return await future
        finally:
            timer.cancel()


class Crowd:
    """All wait for the same: an event."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def put(self, _value: Any) -> None:
        self._event.set()

    def wait(self, _value: Any) -> Awaitable[object]:
        return self._event.wait()


class Indexed:
    """Each waits for another value: a dict of futures."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[Any, asyncio.Future[Any]] = {}

    def put(self, value: Any) -> None:
        future = self._waiting.pop(value, None)
        if future is not None:
            future.set_result(value)

    async def wait(self, value: Any) -> Any:
        self._waiting[value] = future = asyncio.get_running_loop().create_future()
        try:
            return await future
        finally:
            self._waiting.pop(value, None)


class Tested:
    """Each waits for another predicate to hold: they are called one after the other."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[tuple[Test, asyncio.Future[Any]]] = []

    def put(self, value: Any) -> None:
        for test, future in self._waiting:
            if test(value):
                future.set_result(value)

    async def until(self, test: Test) -> Any:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((test, future))
        return await future


class OneConsumer:
    """One task follows: a deque, and one wake-up when the task is parked."""

    __slots__ = ("_future", "_items", "lock", "value")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: Any = 0
        self._items: deque[Any] = deque()
        self._future: asyncio.Future[None] | None = None

    def push(self, values: Iterable[Any]) -> None:
        acquire, release, append = self.lock.acquire, self.lock.release, self._items.append
        for value in values:
            acquire()
            try:
                self.value = value
                append(value)
                if self._future is not None:
                    self.wake()
            finally:
                release()

    def put(self, value: Any) -> None:
        self.value = value
        self._items.append(value)
        if self._future is not None:
            self.wake()

    def wake(self) -> None:
        future, self._future = self._future, None
        if future is not None:
            future.set_result(None)

    def __aiter__(self) -> OneConsumer:
        return self

    async def __anext__(self) -> Any:
        if not self._items:
            self._future = asyncio.get_running_loop().create_future()
            await self._future
        return self._items.popleft()


class Log(Locked):
    """Many tasks follow: one list, in which each has its place."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        super().__init__()
        self.items: list[Any] = []

    def push(self, values: Iterable[Any]) -> None:
        acquire, release, append = self.lock.acquire, self.lock.release, self.items.append
        for value in values:
            acquire()
            try:
                self.value = value
                append(value)
            finally:
                release()


class Place:
    """Where one consumer of a log is."""

    __slots__ = ("_items", "_taken")

    def __init__(self, items: list[Any]) -> None:
        self._items = items
        self._taken = 0

    def __aiter__(self) -> Place:
        return self

    async def __anext__(self) -> Any:
        taken = self._taken
        self._taken = taken + 1
        return self._items[taken]


class Foreign:
    """Threads set: a deque, and one wake-up for all that came since the last one."""

    __slots__ = ("_future", "_is_scheduled", "_items", "_loop", "value")

    def __init__(self) -> None:
        self.value: Any = 0
        self._loop = asyncio.get_running_loop()
        self._items: deque[Any] = deque()
        self._is_scheduled = False
        self._future: asyncio.Future[None] | None = None

    def push(self, values: Iterable[Any]) -> None:
        append = self._items.append
        for value in values:
            self.value = value
            append(value)
            if not self._is_scheduled:
                self._is_scheduled = True
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._is_scheduled = False
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def follow(self, number: int, take: Take) -> None:
        items = self._items
        while number:
            if not items:
                self._future = self._loop.create_future()
                await self._future
            for _ in range(len(items)):
                take(items.popleft())
                number -= 1


class Called(Locked):
    """One callback: a function is called after the lock."""

    __slots__ = ("call",)

    def push(self, values: Iterable[Any]) -> None:
        acquire, release, call = self.lock.acquire, self.lock.release, self.call
        for value in values:
            acquire()
            try:
                self.value = value
            finally:
                release()
            call(value)


class Heard:
    """Something follows from a set: a function is called under the lock."""

    __slots__ = ("_hear", "_lock", "_place", "_value")

    def __init__(self, value: Any, place: int, hear: Callable[[int, Any], None]) -> None:
        self._lock = threading.Lock()
        self._value = value
        self._place = place
        self._hear = hear

    def _set(self, value: Any) -> None:
        self._lock.acquire()
        try:
            self._value = value
            self._hear(self._place, value)
        finally:
            self._lock.release()

    value = property(lambda self: self._value, _set)
