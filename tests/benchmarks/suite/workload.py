"""
What a workload is: a function of a contender and of how much is to be done.

It gives a figure for each of its rows: nanoseconds for one operation, or bytes for one thing that
is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from suite.contender import LOSES, NO_THREADS, NO_VALUES, UNORDERED, Contender

NANOSECONDS: Final = "ns"
BYTES: Final = "B"


class Sizes(NamedTuple):
    """How much is done in one round."""

    sets: int = 5_000
    rallies: int = 500
    crowd: int = 10_000
    repeats: int = 200
    burst: int = 100_000
    lagging: int = 100
    lagging_burst: int = 5_000
    thread_sets: int = 20_000
    waits: int = 2_000
    parked: int = 1_000
    keys: int = 100_000
    key_bursts: int = 5
    key_burst: int = 2_000
    memory_waiters: int = 2_000
    memory_burst: int = 20_000
    backlog: int = 300_000
    growth: int = 10_000
    growth_keys: int = 100_000
    derived_bursts: int = 2
    derived_part: float = 1.0


SIZES: Final = Sizes()
SMOKE: Final = Sizes(*(max(2, size // 200) for size in SIZES[:-1]), derived_part=0.02)
LARGE: Final = SIZES._replace(growth=100_000, growth_keys=1_000_000)


class Row(NamedTuple):
    """
    One line of the table.

    *goal* is how many times the limit ours may take, or, with *is_absolute*, how much in *unit*.
    """

    name: str
    goal: float | None = None
    unit: str = NANOSECONDS
    is_absolute: bool = False
    curve: str | None = None
    x: int = 0


class Figure(NamedTuple):
    """What one round found: the figure, and what a listener was not given or should not have."""

    value: float
    missed: int = 0
    wrong: int = 0


class LostError(Exception):
    """A contender did not give all, so it has no figure."""


Found = Mapping[str, Figure]
Measure = Callable[[Any, Sizes], Found]

SETTING: Final = frozenset({NO_THREADS})
WAITING: Final = frozenset({NO_VALUES, LOSES, NO_THREADS})
FOLLOWING: Final = frozenset({LOSES, NO_THREADS, UNORDERED})


class Workload(NamedTuple):
    """Rows that are measured in one go; what a contender must be able to do, and promise."""

    group: str
    name: str
    rows: Sequence[Row]
    measure: Measure
    needs: Sequence[str]
    promises: frozenset[str] = WAITING
    rounds: int | None = None
    ours_only: bool = False


def share_of(contender: Contender, name: str, number: int) -> int:
    """Give the part of *number* operations that a contender is given."""
    return max(1, round(number * contender.shares.get(name, 1)))
