"""
W8: what is kept, in bytes, as `tracemalloc` counts them.

The values themselves, and the names of keys, are made beforehand and not counted.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from suite.contender import CROWD, INDEXED, QUEUE, SET, SHARED, STREAM, WAIT, Contender
from suite.workload import (
    BYTES,
    FOLLOWING,
    SETTING,
    WAITING,
    Figure,
    Found,
    Row,
    Sizes,
    Workload,
)


class Traced:
    """Counts the bytes that were taken since it was made."""

    def __init__(self) -> None:
        gc.collect()
        tracemalloc.start()
        self._before = tracemalloc.get_traced_memory()[0]

    def stop(self) -> int:
        """Give the number."""
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - self._before
        tracemalloc.stop()
        return taken


def idle_key(contender: Contender, sizes: Sizes) -> Found:
    """Keep many keys."""
    return {KEY.name: Figure(contender.run(_idle_key, sizes.keys))}


async def _idle_key(contender: Contender, number: int) -> float:
    names = [f"key{n}" for n in range(number)]
    traced = Traced()
    keep = contender.make_keys(names)
    taken = traced.stop()
    del keep
    return taken / number


def parked_waiter(
    row: Row,
    purpose: str,
    values: Callable[[int], Sequence[int]],
    contender: Contender,
    sizes: Sizes,
) -> Found:
    """Keep many tasks that wait."""
    number = sizes.memory_waiters
    return {row.name: Figure(contender.run(_parked, purpose, values(number)) / number)}


async def _parked(contender: Contender, purpose: str, values: Sequence[int]) -> float:
    target = contender.make(purpose)
    wait = contender.waiter(target)
    traced = Traced()
    kept = [contender.spawn(wait, value) for value in values]
    for _ in range(3):
        await contender.turn()
    taken = traced.stop()
    del kept
    return taken


def buffered(row: Row, consumers: int, contender: Contender, sizes: Sizes) -> Found:
    """Keep transitions that nobody took yet."""
    number = max(1, sizes.memory_burst if consumers == 1 else sizes.memory_burst // 10)
    if consumers > 1:
        number = max(1, round(number * min(1, contender.shares.get("W5 many", 1) * 10)))
    return {row.name: Figure(contender.run(_buffered, number, consumers) / number)}


async def _buffered(contender: Contender, number: int, consumers: int) -> float:
    target = contender.make(QUEUE if consumers == 1 else SHARED)
    streams = [contender.open(target) for _ in range(consumers)]
    # Another number than each small one, which is there already.
    values = [1_000 + n for n in range(number)]
    traced = Traced()
    contender.push(target, values)
    # Where a set goes through the loop.
    await contender.turn()
    taken = traced.stop()
    del streams
    return taken


def in_bytes(name: str, goal: float) -> Row:
    """Make a row with a goal in bytes."""
    return Row(name, goal, BYTES, is_absolute=True)


KEY: Final = in_bytes("W8 idle key in a store of 100,000", 250)
ALIKE: Final = in_bytes("W8 parked waiter with its task, all for one value", 1_300)
APART: Final = in_bytes("W8 ... each for another value", 1_300)
HELD: Final = in_bytes("W8 buffered transition, 1 lagging consumer", 130)
HELD_BY_MANY: Final = in_bytes("W8 ... 100 lagging consumers", 130)


def waiting(row: Row, purpose: str, values: Callable[[int], Sequence[int]]) -> Workload:
    """Give the workload of parked waiters."""
    measure: Any = partial(parked_waiter, row, purpose, values)
    return Workload("W8", "waiters", [row], measure, [WAIT], WAITING, rounds=1)


def holding(row: Row, consumers: int) -> Workload:
    """Give the workload of buffered transitions."""
    measure: Any = partial(buffered, row, consumers)
    return Workload("W8", "buffered", [row], measure, [STREAM], FOLLOWING, rounds=1)


WORKLOADS: Final = (
    Workload("W8", "keys", [KEY], idle_key, [SET], SETTING, rounds=1),
    waiting(ALIKE, CROWD, lambda number: [1] * number),
    waiting(APART, INDEXED, lambda number: range(1, number + 1)),
    holding(HELD, 1),
    holding(HELD_BY_MANY, 100),
)
