"""
The limit: for each workload the cheapest plain Python that could do the job at all.

An attribute assigned under a `threading.Lock`, in the very loop that sets; a bare future; one
append to a deque and one wake-up; nested calls of functions. It keeps one promise at a time: what
waits for one value cannot also be followed, and so on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

from suite.contender import (
    ALONE,
    CALLED,
    CROWD,
    FOREIGN,
    INDEXED,
    ONE,
    QUEUE,
    SHARED,
    TESTED,
    TIMEOUT,
    Deriving,
    Drain,
    Put,
    Take,
    Test,
    Wait,
)
from suite.limit_targets import (
    Called,
    Crowd,
    Foreign,
    Heard,
    Indexed,
    Locked,
    Log,
    OneConsumer,
    OneWaiter,
    Place,
    Tested,
)

KINDS: dict[str, Callable[[], Any]] = {
    ALONE: Locked,
    ONE: OneWaiter,
    CROWD: Crowd,
    INDEXED: Indexed,
    TESTED: Tested,
    QUEUE: OneConsumer,
    SHARED: Log,
    CALLED: Called,
    FOREIGN: Foreign,
}


class Limit(Deriving):
    name = "limit"

    def __init__(self) -> None:
        # Where all that is set goes, if anybody listens.
        self._log: deque[Any] | None = None

    def make(self, purpose: str = ALONE) -> Any:
        return KINDS[purpose]()

    def push(self, target: Any, values: Iterable[Any]) -> None:
        target.push(values)

    def putter(self, target: Any) -> Put:
        return target.put

    def waiter(self, target: Any) -> Wait:
        return target.wait

    def timed(self, target: Any) -> Wait:
        return partial(target.timed, timeout=TIMEOUT)

    async def wait_at_once(self, target: Any, times: int, *, timed: bool) -> None:
        if timed:
            for _ in range(times):
                await target.timed(1, timeout=TIMEOUT)
        else:
            for _ in range(times):
                await target.wait(1)

    def until(self, target: Any) -> Callable[[Test], Awaitable[object]]:
        return target.until

    def connect(self, target: Any, call: Take) -> Callable[[], object]:
        target.call = call
        return lambda: None

    def open(self, target: Any) -> Any:
        return Place(target.items) if isinstance(target, Log) else target

    async def follow(self, stream: Any, number: int, take: Take) -> None:
        if isinstance(stream, Foreign):
            await stream.follow(number, take)
            return
        async for value in stream:
            take(value)
            number -= 1
            if not number:
                return

    def open_all(self, keep: Any, take: Take) -> Drain:
        self._log = log = deque()

        async def drain(number: int) -> None:
            for _ in range(number):
                take(log.popleft())

        return drain

    def push_each(self, targets: Sequence[Any], values: Iterable[Any]) -> None:
        if type(targets[0]) is Heard:
            super().push_each(targets, values)
        elif self._log is None:
            for target, value in zip(targets, values, strict=True):
                target.lock.acquire()
                try:
                    target.value = value
                finally:
                    target.lock.release()
        else:
            append = self._log.append
            for target, value in zip(targets, values, strict=True):
                target.lock.acquire()
                try:
                    target.value = value
                    append(value)
                finally:
                    target.lock.release()

    def prepare(self, shape: Any, take: Take | None) -> tuple[Sequence[Any], Any]:
        self._log = None
        if take is None:
            return [Locked() for _ in shape.initial], None
        hear = shape.limit(take)
        return [Heard(value, place, hear) for place, value in enumerate(shape.initial)], None
