"""
Latency under load: for how long a loop sees to nobody else while a backlog is drained.

A task that does nothing but take its turn notes the longest time between two of them. The backlog
is there before it begins to count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from suite.contender import QUEUE, SET, STREAM, Contender, now
from suite.workload import FOLLOWING, Figure, Found, Row, Sizes, Workload

GROUP: Final = "latency"
LONGEST: Final = 5_000_000


class Heartbeat:
    """Notes the longest time between two turns of the loop."""

    def __init__(self, contender: Contender) -> None:
        self._turn = contender.turn
        self._is_over = False
        self.longest = 0
        self.last = now()

    async def beat(self) -> None:
        while not self._is_over:
            await self._turn()
            self.look()

    def look(self) -> None:
        """Note how long it took."""
        at = now()
        self.longest = max(self.longest, at - self.last)
        self.last = at

    def begin(self) -> None:
        """Count from now on."""
        self.longest = 0
        self.last = now()

    def end(self) -> int:
        """Count no more; give what was the longest."""
        self.look()
        self._is_over = True
        return self.longest


async def drain(contender: Any, number: int, prepare: Callable[..., Any]) -> float:
    """Make a backlog, then let it be drained."""
    target = contender.make(QUEUE)
    work = await prepare(contender, target, number)
    heart = Heartbeat(contender)
    contender.spawn(heart.beat)
    await contender.turn()
    contender.push(target, range(1, number + 1))
    heart.begin()
    await work
    return heart.end()


async def by_stream(contender: Any, target: Any, number: int) -> Awaitable[None]:
    stream = contender.open(target)
    return contender.follow(stream, number, deque(maxlen=1).append)


async def by_derived_stream(contender: Any, target: Any, number: int) -> Awaitable[None]:
    stream = contender.open(contender.map(target, lambda value: value + 1))
    return contender.follow(stream, number, deque(maxlen=1).append)


async def by_waits_of_a_subscription(contender: Any, target: Any, number: int) -> Awaitable[None]:
    commits = target.subscribe()

    async def work() -> None:
        with commits:
            await commits.wait_until(lambda value: value == number)

    return work()


async def by_parked_predicate(contender: Any, target: Any, number: int) -> Awaitable[None]:
    return await parked(contender, target.wait_until, lambda value: value == number)


async def by_parked_value(contender: Any, target: Any, number: int) -> Awaitable[None]:
    return await parked(contender, target.wait_for, number)


async def parked(contender: Any, wait: Callable[[Any], Any], wanted: Any) -> Awaitable[None]:
    """Let a task wait, and give what waits for that task."""
    task = contender.spawn(wait, wanted)
    await contender.turn()
    return task


def measure(row: Row, prepare: Callable[..., Any], contender: Contender, sizes: Sizes) -> Found:
    """Measure one way to drain."""
    return {row.name: Figure(contender.run(drain, sizes.backlog, prepare))}


def workload(name: str, prepare: Callable[..., Any], *, ours_only: bool = True) -> Workload:
    """Give the workload of one way to drain."""
    row = Row(f"longest gap, 300,000 drained by {name}", LONGEST, is_absolute=True)
    needs = [SET if ours_only else STREAM]
    return Workload(
        GROUP, name, [row], partial(measure, row, prepare), needs, FOLLOWING, 3, ours_only
    )


WORKLOADS: Final = (
    workload("a stream", by_stream, ours_only=False),
    workload("a stream of what is derived", by_derived_stream),
    workload("a wait of a subscription", by_waits_of_a_subscription),
    workload("a parked wait_until", by_parked_predicate),
    workload("a parked wait_for", by_parked_value),
)
