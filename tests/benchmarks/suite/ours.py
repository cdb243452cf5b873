"""This library, as it is or as it was at another commit, in each of the ways to follow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

from suite.contender import (
    ALONE,
    Burst,
    Deriving,
    Drain,
    Job,
    Sample,
    Take,
    Test,
    Timed,
    now,
)

OURS = "statestore"


class Statestore(Timed, Deriving):
    """In a store; a task follows with `values()`."""

    name = OURS
    variant = ""
    is_ours = True

    def __init__(self, package: ModuleType, revision: str | None = None) -> None:
        self.package = package
        self.revision = revision
        # Another commit is none of ours, for the table.
        self.is_ours = type(self).is_ours and revision is None
        # Of this one object, for it may be that of another commit.
        self.name = OURS + self.variant + ("" if revision is None else f" at {revision}")  # type: ignore[misc]

    def make(self, purpose: str = ALONE) -> Any:
        return self.package.Store().add("key", 0)

    def make_keys(self, names: Sequence[str]) -> Any:
        store = self.package.Store()
        for name in names:
            store.add(name, 0)
        return store

    def keys_of(self, keep: Any) -> Sequence[Any]:
        return [keep[name] for name in keep]

    def until(self, target: Any) -> Callable[[Test], Awaitable[object]]:
        return target.wait_until

    def connect(self, target: Any, call: Take) -> Callable[[], object]:
        return target.on_change(lambda _old, new: call(new)).close

    def open(self, target: Any) -> Any:
        return Stream(target.values(), skip=1)

    async def follow(self, stream: Any, number: int, take: Take) -> None:
        await stream.take(number, take)

    def open_all(self, keep: Any, take: Take) -> Drain:
        commits = keep.subscribe()

        async def drain(number: int) -> None:
            async for commit in commits:
                take(commit)
                number -= 1
                if not number:
                    return

        return drain

    # What is derived.

    def begin(self) -> None:
        self.store = self.package.Store()

    def source(self, initial: Any) -> Any:
        return self.store.add(f"key{len(self.store)}", initial)

    def map(self, derived: Any, function: Callable[[Any], Any]) -> Any:
        return derived.map(function)

    def combine(self, derived: Sequence[Any]) -> Any:
        return self.package.combine(*derived)

    def all_of(self, flags: Sequence[Any]) -> Any:
        return self.package.all_of(*flags)

    def listen(self, derived: Any, take: Take) -> Any:
        return self.open(derived)

    def run_bursts(self, shape: Any, bursts: Sequence[Burst], *, heard: bool) -> Sample:
        return self.run(type(self)._run_bursts, shape, bursts, heard)

    async def _run_bursts(self, shape: Any, bursts: Sequence[Burst], heard: bool) -> Sample:
        received: list[Any] = []
        sources, (_, stream) = self.prepare(shape, received.append if heard else None)
        spent = 0
        for burst in bursts:
            targets = [sources[place] for place in burst.places]
            start = now()
            self.push_each(targets, burst.values)
            if stream is not None:
                await self.follow(stream, len(burst.expected), received.append)
            spent += now() - start
        return Sample(spent, received)

    def run_threads(self, shape: Any, jobs: Sequence[Job]) -> tuple[list[Any], list[Any]]:
        return self.run(type(self)._run_threads, shape, jobs)

    async def _run_threads(self, shape: Any, jobs: Sequence[Job]) -> tuple[list[Any], list[Any]]:
        received: list[Any] = []
        sources, (_, stream) = self.prepare(shape, received.append)
        setting = asyncio.to_thread(self.push_from_threads, sources, jobs)
        taking = self.follow(stream, sum(len(job.values) for job in jobs), received.append)
        async with asyncio.timeout(60):
            await asyncio.gather(setting, taking)
        return received, [self.read(source) for source in sources]


class StatestoreRecords(Statestore):
    """A task follows with `subscribe()`, and is given a record of each transition."""

    variant = ", subscribe"
    only = frozenset({"W2b ", "W5 ", "W6 ", "W7 "})

    def open(self, target: Any) -> Any:
        return Records(target.subscribe())


class StatestoreCallbacks(Statestore):
    """A callback is told within the set, by `on_change()`."""

    variant = ", on_change"
    only = frozenset({"W7 "})

    def listen(self, derived: Any, take: Take) -> Any:
        return self.connect(derived, take)

    run_bursts = Deriving.run_bursts
    run_threads = Deriving.run_threads


class StatestoreAlone(Statestore):
    """A watcher without a store."""

    variant = ", alone"
    only = frozenset({"W1 "})

    def make(self, purpose: str = ALONE) -> Any:
        return self.package.ValueWatcher(0)


class StatestoreLogged(Statestore):
    """Every transition is logged, to a logger that drops it."""

    variant = ", logged"
    only = frozenset({"W1 ", "W2a ", "callback "})
    is_ours = False

    def make(self, purpose: str = ALONE) -> Any:
        store = self.package.Store()
        self.package.log_transitions(store, Null())
        return store.add("key", 0)


class StatestoreRecorded(Statestore):
    """Every commit is recorded."""

    variant = ", recorded"
    only = frozenset({"W1 ", "W2a ", "callback "})
    is_ours = False

    def make(self, purpose: str = ALONE) -> Any:
        store = self.package.Store()
        # Kept, for it ends when nobody holds it.
        self._recording = store.record()
        return store.add("key", 0)


class Null:
    """A logger that drops everything."""

    def debug(self, event: str, **fields: Any) -> None:
        """Drop it."""


class Stream:
    """A task's side of something to iterate."""

    def __init__(self, stream: Any, skip: int = 0) -> None:
        self.stream = stream
        # What is there already at the beginning.
        self._skip = skip

    def __del__(self) -> None:
        self.stream.close()

    async def take(self, number: int, take: Take) -> None:
        """Take so many, one by one."""
        while self._skip:
            self._skip -= 1
            await anext(self.stream)
        if number:
            await self._take(number, take)

    async def _take(self, number: int, take: Take) -> None:
        async for value in self.stream:
            take(value)
            number -= 1
            if not number:
                return


class Records(Stream):
    """The same for records."""

    async def _take(self, number: int, take: Take) -> None:
        async for transition in self.stream:
            take(transition.new)
            number -= 1
            if not number:
                return


def ours(package: ModuleType, revision: str | None = None) -> Iterable[Statestore]:
    """Give all of them, of one commit."""
    kinds = (
        Statestore,
        StatestoreAlone,
        StatestoreRecords,
        StatestoreCallbacks,
        StatestoreLogged,
        StatestoreRecorded,
    )
    return [kind(package, revision) for kind in kinds]
