"""
trio-util, on trio.

It conflates for a task that has no turn between two sets, so what is derived is measured once more
with a turn after each set.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar

from suite.contender import (
    ALONE,
    KEYS,
    LOSES,
    NO_THREADS,
    STREAM,
    THREADS,
    TIMEOUT,
    Burst,
    Deriving,
    Job,
    Sample,
    Take,
    Test,
    Wait,
    now,
)


class TrioUtil(Deriving):
    """A task that follows with `eventual_values()`."""

    name = "trio-util"
    gaps = frozenset({LOSES, NO_THREADS})
    cannot: ClassVar = {
        STREAM: "it keeps the newest value only",
        THREADS: "trio is not for threads",
        KEYS: "it keeps the newest value only",
    }

    def __init__(self) -> None:
        self._trio = importlib.import_module("trio")
        self._module = importlib.import_module("trio_util")
        self._opened = ExitStack()
        self._nursery: Any = None

    # How it runs.

    def run(self, work: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        failure: Exception | None = None
        result = None

        async def main() -> None:
            nonlocal failure, result
            async with self._trio.open_nursery() as self._nursery:
                try:
                    result = await work(self, *args)
                except Exception as error:
                    # Raised outside, where trio makes no group of it.
                    failure = error
                self._nursery.cancel_scope.cancel()

        self._trio.run(main)
        if failure is not None:
            raise failure
        return result

    def spawn(self, work: Callable[..., Any], *args: Any) -> Any:
        self._nursery.start_soon(work, *args)

    async def turn(self) -> None:
        await self._trio.lowlevel.checkpoint()

    async def park_and_cancel(self, wait: Wait, value: Any) -> None:
        async with self._trio.open_nursery() as nursery:
            nursery.start_soon(wait, value)
            await self._trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    # What it sets, and how it waits.

    def make(self, purpose: str = ALONE) -> Any:
        return self.source(0)

    def waiter(self, target: Any) -> Wait:
        return target.wait_value

    def until(self, target: Any) -> Callable[[Test], Awaitable[object]]:
        return target.wait_value

    def timed(self, target: Any) -> Wait:
        async def timed(value: Any) -> None:
            with self._trio.fail_after(TIMEOUT):
                await target.wait_value(value)

        return timed

    # What is derived.

    def begin(self) -> None:
        self._opened.close()

    def source(self, initial: Any) -> Any:
        return self._module.AsyncValue(initial)

    def map(self, derived: Any, function: Callable[[Any], Any]) -> Any:
        return self._opened.enter_context(derived.open_transform(function))

    def combine(self, derived: Sequence[Any]) -> Any:
        named = {f"part{place}": each for place, each in enumerate(derived)}
        return self._opened.enter_context(self._module.compose_values(**named))

    def all_of(self, flags: Sequence[Any]) -> Any:
        named = {f"part{place}": each for place, each in enumerate(flags)}
        return self._opened.enter_context(self._module.compose_values(**named, _transform_=all))

    def listen(self, derived: Any, take: Take) -> Any:
        async def follow() -> None:
            async for value in derived.eventual_values():
                take(value)

        return follow

    async def push_heard(self, sources: Sequence[Any], values: Sequence[Any]) -> None:
        """Set all of them, then give the listener a turn."""
        self.push_each(sources, values)
        await self.give_turn()

    async def push_unheard(self, sources: Sequence[Any], values: Sequence[Any]) -> None:
        """Set all of them."""
        self.push_each(sources, values)

    async def give_turn(self) -> None:
        """Let the listener run: it is woken in the first turn, has looked again in the second."""
        await self.turn()
        await self.turn()

    def run_bursts(self, shape: Any, bursts: Sequence[Burst], *, heard: bool) -> Sample:
        return self.run(type(self)._run_bursts, shape, bursts, heard)

    async def _run_bursts(self, shape: Any, bursts: Sequence[Burst], heard: bool) -> Sample:
        received: list[Any] = []
        sources, (_, follow) = self.prepare(shape, received.append if heard else None)
        push = self.push_heard if heard else self.push_unheard
        spent = 0
        if heard:
            self.spawn(follow)
        await self.give_turn()
        received.clear()
        for burst in bursts:
            targets = [sources[place] for place in burst.places]
            start = now()
            await push(targets, burst.values)
            spent += now() - start
        return Sample(spent, received)

    def run_threads(self, shape: Any, jobs: Sequence[Job]) -> tuple[list[Any], list[Any]]:
        return self.run(type(self)._run_threads, shape, jobs)

    async def _run_threads(self, shape: Any, jobs: Sequence[Job]) -> tuple[list[Any], list[Any]]:
        received: list[Any] = []
        sources, (_, follow) = self.prepare(shape, received.append)
        self.spawn(follow)
        await self.give_turn()
        received.clear()
        await self._trio.to_thread.run_sync(self.push_from_threads, sources, jobs)
        return received, [self.read(source) for source in sources]


class TrioUtilWithTurns(TrioUtil):
    name = "trio-util, with turns"
    only = frozenset({"W7 "})

    async def push_heard(self, sources: Sequence[Any], values: Sequence[Any]) -> None:
        for source, value in zip(sources, values, strict=True):
            source.value = value
            await self.give_turn()


KINDS = (TrioUtil, TrioUtilWithTurns)
