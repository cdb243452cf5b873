"""
Run a model in many schedules of its threads.

Who imports this is skipped where the package that takes turns line by line is not installed.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

import statestore
from statestore import StoreClosedError, testing

interleave: Any = pytest.importorskip(
    "interleave_test", reason="interleave-test is not installed; it needs Python 3.12"
)

SCHEDULES: Final = 12
"""How many schedules of each pair are run, if there are more."""


def explore(model: Callable[[], None], schedules: int = SCHEDULES) -> bool:
    """Run *model* in all schedules with two preemptions, or else in some; tell whether in all."""
    options = {
        "granularity": "line",
        "include": [str(Path(statestore.__file__).parent)],
        # What helps to test it is no part of what is tested.
        "exclude": [str(Path(testing.__file__).parent)],
    }
    # A finalizer would be scheduled as well, in the middle of the scheduler itself.
    gc.collect()
    gc.disable()
    try:
        found = interleave.explore(
            model, strategy="dfs", max_preemptions=2, iterations=schedules, **options
        )
        if not found.exhausted:
            interleave.explore(model, strategy="random", seed=1, iterations=schedules, **options)
    finally:
        gc.enable()
    return bool(found.exhausted)


def both(first: Callable[[], object], second: Callable[[], object]) -> None:
    """Run two functions in two threads that are scheduled."""

    def run(function: Callable[[], object]) -> None:
        with contextlib.suppress(StoreClosedError):
            function()

    tasks = [interleave.spawn(run, first), interleave.spawn(run, second)]
    for task in tasks:
        task.join()
