"""
Measure what it costs to have transitions logged or recorded, and that it costs nothing not to.

    python tests/benchmarks/seeing_cost.py [--rounds N] [--before REVISION] [--json FILE]

Three workloads: a set with nobody listening; a set that wakes a task which waits for that very
value, with the wake; a set of a key with a callback. Each in a store that nobody looks at, in one
that is logged to a logger which drops everything, and in one that is recorded.

With `--before`, the package as it was at that revision of git is measured in the same run, so that
it shows whether a store that nobody looks at has become slower.

Contenders take turns within each round, so that a noisy machine is noisy to all of them alike; the
figures are medians over the rounds, and what counts is their ratios to the store nobody looks at.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import io
import json
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent.parent

SETS: Final = 2_000
WAKES: Final = 300

UNSEEN: Final = "nobody looks"


class Null:
    """A logger that drops everything."""

    def debug(self, event: str, **fields: Any) -> None:
        """Drop it."""


class Contender(NamedTuple):
    """A package, and how the store is looked at."""

    name: str
    package: ModuleType
    look: Callable[[Any], AbstractContextManager[object]]


def package_in(directory: str) -> ModuleType:
    """Import the package that is in *directory*, beside any other of the same name."""
    ours = {name: module for name, module in sys.modules.items() if is_ours(name)}
    for name in ours:
        del sys.modules[name]
    sys.path.insert(0, directory)
    try:
        return importlib.import_module("statestore")
    finally:
        sys.path.remove(directory)
        for name in [name for name in sys.modules if is_ours(name)]:
            del sys.modules[name]
        sys.modules.update(ours)


def is_ours(name: str) -> bool:
    """Tell whether a module is one of the package."""
    return name.partition(".")[0] == "statestore"


def package_at(revision: str) -> ModuleType:
    """Import the package as it was at a revision of git."""
    command = ["git", "-C", str(ROOT), "archive", revision, "statestore"]
    archive = subprocess.run(command, check=True, capture_output=True).stdout  # noqa: S603 -- as the user says
    with (
        tempfile.TemporaryDirectory() as directory,
        tarfile.open(fileobj=io.BytesIO(archive)) as files,
    ):
        files.extractall(directory, filter="data")
        return package_in(directory)


def contenders(before: str | None) -> list[Contender]:
    """Give all that is measured."""
    now = importlib.import_module("statestore")
    found = [
        Contender(UNSEEN, now, nullcontext),
        Contender("logged to a null logger", now, lambda store: now.log_transitions(store, Null())),
        Contender("recorded", now, lambda store: store.record()),
    ]
    if before is not None:
        found.append(Contender(f"nobody looks, at {before}", package_at(before), nullcontext))
    return found


def store_of(package: ModuleType) -> Any:
    """Make a store with one key."""
    return type("App", (package.Store,), {"key": package.Key(0)})()


async def set_unheard(store: Any) -> float:
    """Set, nobody listening."""
    key = store.key
    start = time.perf_counter_ns()
    for value in range(1, SETS + 1):
        key.value = value
    return (time.perf_counter_ns() - start) / SETS


async def set_called(store: Any) -> float:
    """Set a key with a callback."""
    with store.key.on_change(lambda _old, _new: None):
        return await set_unheard(store)


async def set_and_wake(store: Any) -> float:
    """Set, and have a waiting task woken."""
    key = store.key

    async def follow() -> None:
        for value in range(1, WAKES + 1):
            await key.wait_for(value)

    task = asyncio.create_task(follow())
    await asyncio.sleep(0)
    spent = 0
    for value in range(1, WAKES + 1):
        start = time.perf_counter_ns()
        key.value = value
        # One turn to look at what is new, one for the task.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        spent += time.perf_counter_ns() - start
    await task
    return spent / WAKES


WORKLOADS: Final[dict[str, Callable[[Any], Awaitable[float]]]] = {
    "set, nobody listening": set_unheard,
    "set, and wake a task": set_and_wake,
    "set, one callback": set_called,
}


async def run(everyone: list[Contender], rounds: int) -> dict[str, dict[str, float]]:
    """Measure everything; give the median nanoseconds by workload and contender."""
    samples: dict[str, dict[str, list[float]]] = {}
    gc.disable()
    for turn in range(rounds):
        # Not always the same one first.
        ordered = everyone[turn % len(everyone) :] + everyone[: turn % len(everyone)]
        for workload, measure in WORKLOADS.items():
            for contender in ordered:
                store = store_of(contender.package)
                with contender.look(store):
                    taken = await measure(store)
                samples.setdefault(workload, {}).setdefault(contender.name, []).append(taken)
        gc.collect()
    gc.enable()
    return {
        workload: {
            contender.name: statistics.median(by_name[contender.name]) for contender in everyone
        }
        for workload, by_name in samples.items()
    }


def show(result: dict[str, dict[str, float]]) -> None:
    """Print the table."""
    print(f"Python {platform.python_version()}, {sys.platform}; medians, ns")
    for workload, medians in result.items():
        print(f"\n{workload}")
        for name, median in medians.items():
            print(f"  {name:30}{median:9.0f}{median / medians[UNSEEN]:7.2f} x {UNSEEN}")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--before", metavar="REVISION", help="measure that revision beside it")
    parser.add_argument("--json", help="write the medians to this file")
    arguments = parser.parse_args()
    result = asyncio.run(run(contenders(arguments.before), arguments.rounds))
    show(result)
    if arguments.json is not None:
        Path(arguments.json).write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
