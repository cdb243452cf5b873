"""What is between a callback and a task, and between values of which one is set by the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from suite.contender import (
    ALONE,
    FOREIGN,
    NO_THREADS,
    UNORDERED,
    Deriving,
    Drain,
    Put,
    Take,
    Test,
    Wait,
    told,
)


class Fed(asyncio.Queue[Any]):
    """A queue, and what ends that it is fed: some are fed no more when that is gone."""

    disconnect: Callable[[], object]


class CallingBack(Deriving):
    """What is between a callback and a task, by hand."""

    def make(self, purpose: str = ALONE) -> Any:
        target = self.source(0)
        if purpose == FOREIGN:
            self._foreign = target
        return target

    _foreign: Any = None

    def waiter(self, target: Any) -> Wait:
        until = self.until(target)
        return lambda value: until(lambda now: now == value)

    def until(self, target: Any) -> Callable[[Test], Awaitable[object]]:
        connect, read = self.connect, self.read

        async def wait(test: Test) -> Any:
            value = read(target)
            if test(value):
                return value
            future = asyncio.get_running_loop().create_future()

            def hear(value: Any) -> None:
                if test(value) and not future.done():
                    future.set_result(value)

            disconnect = connect(target, hear)
            try:
                return await future
            finally:
                disconnect()

        return wait

    def open(self, target: Any) -> Any:
        queue = Fed()
        put = queue.put_nowait
        if target is self._foreign:
            call_soon = asyncio.get_running_loop().call_soon_threadsafe
            queue.disconnect = self.connect(target, lambda value: call_soon(put, value))
        else:
            queue.disconnect = self.connect(target, put)
        return queue

    def open_all(self, keep: Any, take: Take) -> Drain:
        return told([self.connect(target, take) for target in self.keys_of(keep)])

    def listen(self, derived: Any, take: Take) -> Any:
        return self.connect(derived, take)


class Wired(CallingBack):
    """What is derived, by hand: values that are set when others are."""

    gaps = frozenset({NO_THREADS, UNORDERED})

    def setter(self, target: Any) -> Put:
        """Give the quickest function that sets *target*."""
        return self.putter(target)

    def map(self, derived: Any, function: Callable[[Any], Any]) -> Any:
        mapped = self.source(function(self.read(derived)))
        become = self.setter(mapped)
        self.connect(derived, lambda value: become(function(value)))
        return mapped

    def combine(self, derived: Sequence[Any]) -> Any:
        values = [self.read(each) for each in derived]
        combined = self.source(tuple(values))
        become = self.setter(combined)

        def connect(place: int) -> None:
            def follow(value: Any) -> None:
                values[place] = value
                become(tuple(values))

            self.connect(derived[place], follow)

        for place in range(len(derived)):
            connect(place)
        return combined

    def all_of(self, flags: Sequence[Any]) -> Any:
        holding = sum(self.read(flag) for flag in flags)
        condition = self.source(holding == len(flags))
        become = self.setter(condition)

        def follow(value: bool) -> None:
            nonlocal holding
            holding += 1 if value else -1
            become(holding == len(flags))

        for flag in flags:
            self.connect(flag, follow)
        return condition
