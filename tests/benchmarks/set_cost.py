"""
Measure what a set costs: alone, and beside a task that waits.

    python tests/benchmarks/set_cost.py [--json FILE]

Contenders take turns within each round, so that a noisy machine is noisy to all of them alike; the
figures are medians over the rounds, and what counts is their ratios. The *limit* is the cheapest
plain Python that could do the job: an attribute assigned under a `threading.Lock`, and, with a
waiting task, one append to a deque beside it. The *article's class* is the one that the inngest SDK
ships (extra `benchmarks`); without it, it is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import platform
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from statestore import Key, Store, ValueWatcher

ALONE = "set, nobody listening"
WAITED_ON = "set, one waiting task"

SETS_ALONE = 5_000
SETS_IN_A_BURST = 200
BURSTS = 20


class Settable(Protocol):
    """Anything with a value to set."""

    value: Any


class LockedAttribute:
    """The limit for a set that nobody hears of."""

    __slots__ = ("_lock", "_value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value = 0

    def _set(self, value: int) -> None:
        with self._lock:
            self._value = value

    value = property(lambda self: self._value, _set)


class LockedAttributeAndQueue:
    """The limit for a set that one task shall hear of: one append, one wake-up a burst."""

    __slots__ = ("_lock", "_loop", "_queue", "_value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value = 0
        self._queue: deque[int] = deque()
        self._loop = asyncio.get_running_loop()

    def _set(self, value: int) -> None:
        with self._lock:
            self._value = value
            if not self._queue:
                self._loop.call_soon(self._queue.clear)
            self._queue.append(value)

    value = property(lambda self: self._value, _set)


class Contender(NamedTuple):
    """A way to hold a value, with and without a task that waits on it."""

    name: str
    alone: Callable[[], Settable]
    waited_on: Callable[[], Settable]


class App(Store):
    """A store with one key."""

    key = Key(0)


def contenders() -> list[Contender]:
    """Give those that are installed."""
    found = [
        Contender("limit", LockedAttribute, LockedAttributeAndQueue),
        Contender("statestore, alone", lambda: ValueWatcher(0), lambda: ValueWatcher(0)),
        Contender("statestore, in a store", lambda: App().key, lambda: App().key),
    ]
    try:
        module = importlib.import_module("inngest.connect._internal.value_watcher")
    except ImportError:
        print("the article's class is left out: the package inngest is not installed")
    else:
        watcher = module.ValueWatcher
        found.append(Contender("the article's class", lambda: watcher(0), lambda: watcher(0)))
    return found


def measure_alone(target: Settable, first: int) -> float:
    """Give the nanoseconds of one set, nobody listening."""
    values = range(first, first + SETS_ALONE)
    start = time.perf_counter_ns()
    for value in values:
        target.value = value
    return (time.perf_counter_ns() - start) / SETS_ALONE


async def measure_waited_on(target: Settable, first: int) -> float:
    """Give the nanoseconds of one set, with a task parked for a value that does not come."""
    wait_for = getattr(target, "wait_for", None)
    task = None if wait_for is None else asyncio.ensure_future(wait_for(-1))
    spent = 0
    for burst in range(BURSTS):
        # Let the task park, and hear of the burst before.
        for _ in range(3):
            await asyncio.sleep(0)
        values = range(first + burst * SETS_IN_A_BURST, first + (burst + 1) * SETS_IN_A_BURST)
        start = time.perf_counter_ns()
        for value in values:
            target.value = value
        spent += time.perf_counter_ns() - start
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return spent / (BURSTS * SETS_IN_A_BURST)


async def run(rounds: int) -> dict[str, dict[str, float]]:
    """Measure everything; give the median nanoseconds by workload and contender."""
    samples: dict[str, dict[str, list[float]]] = {ALONE: {}, WAITED_ON: {}}
    everyone = contenders()
    gc.disable()
    for turn in range(rounds):
        first = 1 + turn * SETS_ALONE
        for contender in everyone:
            alone = measure_alone(contender.alone(), first)
            samples[ALONE].setdefault(contender.name, []).append(alone)
        for contender in everyone:
            waited_on = await measure_waited_on(contender.waited_on(), first)
            samples[WAITED_ON].setdefault(contender.name, []).append(waited_on)
        gc.collect()
    gc.enable()
    return {
        workload: {name: statistics.median(taken) for name, taken in by_name.items()}
        for workload, by_name in samples.items()
    }


def show(result: dict[str, dict[str, float]]) -> None:
    """Print the table."""
    print(f"Python {platform.python_version()}, {sys.platform}; medians, ns per set")
    for workload, medians in result.items():
        print(f"\n{workload}")
        limit = medians["limit"]
        article = medians.get("the article's class")
        for name, median in medians.items():
            ratios = f"{median / limit:7.2f} x the limit"
            if article is not None:
                ratios += f"{median / article:7.2f} x the article's"
            print(f"  {name:24}{median:9.0f}{ratios}")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--json", help="write the medians to this file")
    arguments = parser.parse_args()
    result = asyncio.run(run(arguments.rounds))
    show(result)
    if arguments.json is not None:
        Path(arguments.json).write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
