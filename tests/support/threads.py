"""Threads that a test waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")


class Job(Generic[T]):
    """A function that runs in a thread of its own; leaving its block ends the thread."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._result: T | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error

    def result(self) -> T:
        """Wait for the end of the thread; give or raise what came out of the function."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


def at_once(*functions: Callable[[], object]) -> None:
    """Run each function in a thread of its own, all at once; raise what one of them raises."""
    start = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> None:
        start.wait(30)
        function()

    jobs = [Job(partial(run, function)) for function in functions]
    errors: list[BaseException] = []
    for job in jobs:
        try:
            job.result()
        except BaseException as error:
            errors.append(error)
    if errors:
        raise errors[0]
