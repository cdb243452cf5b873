"""
What it costs to have values checked to be immutable.

A figure is how much longer a set takes where values are checked than where any are accepted. Both
take turns within one sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Any, Final

import attrs

from suite.contender import SET, now
from suite.workload import SETTING, Figure, Found, Row, Sizes, Workload

GROUP: Final = "values"
TURNS: Final = 10


class Color(Enum):
    RED = 1
    GREEN = 2


@attrs.frozen
class Server:
    number: int
    name: str
    port: int
    is_up: bool
    load: float


def servers(number: int) -> list[Any]:
    return [Server(n, "server", 8080, True, 0.5) for n in range(number)]


def measure(row: Row, make: Callable[[int], Sequence[Any]], contender: Any, sizes: Sizes) -> Found:
    """Set the same values where they are checked, and where they are not."""
    watcher = contender.package.ValueWatcher
    values = make(max(2, sizes.sets // TURNS))
    checked: list[int] = []
    free: list[int] = []
    for _ in range(TURNS):
        for spent, immutable in ((checked, True), (free, False)):
            target = watcher(None, immutable=immutable)
            start = now()
            contender.push(target, values)
            spent.append(now() - start)
    # The least, for a difference of two noisy figures is noisier than both.
    return {row.name: Figure(max(0.0, (min(checked) - min(free)) / len(values)))}


def workload(name: str, goal: float, make: Callable[[int], Sequence[Any]]) -> Workload:
    """Give the workload of one kind of value."""
    row = Row(f"check of {name}", goal, is_absolute=True)
    return Workload(GROUP, name, [row], partial(measure, row, make), [SET], SETTING, ours_only=True)


WORKLOADS: Final = (
    workload("an int", 60, range),
    workload("a str", 60, lambda number: [f"value {n}" for n in range(number)]),
    workload("an enum member", 60, lambda number: list(Color) * (number // 2)),
    workload("a frozen attrs instance of five fields", 500, servers),
)
