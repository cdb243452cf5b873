"""
What a contender is: one adapter that does each kind of work in its package's own quickest way.

A loop over many sets or many takes stands in the adapter, so that the harness adds nothing to a
figure of some dozens of nanoseconds. All that waits is called once for many operations, or is given
as the very function that a user would call.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple

now: Final = time.perf_counter_ns

Take = Callable[[Any], object]
Wait = Callable[[Any], Awaitable[object]]
Put = Callable[[Any], object]
Test = Callable[[Any], bool]
Drain = Callable[[int], Awaitable[None]]

# What a contender may not be able to do.
SET: Final = "set"
WAIT: Final = "wait"
UNTIL: Final = "until"
STREAM: Final = "stream"
THREADS: Final = "threads"
KEYS: Final = "keys"
DERIVE: Final = "derive"
CALLBACK: Final = "callback"

# What a target is made for. Only the limit makes a difference.
ALONE: Final = "alone"
ONE: Final = "one waiter"
CROWD: Final = "many waiters for one value"
INDEXED: Final = "many waiters for different values"
TESTED: Final = "many predicates"
QUEUE: Final = "one consumer"
SHARED: Final = "many consumers"
FOREIGN: Final = "set by threads"
CALLED: Final = "one callback"

# Promises that a contender may not keep.
NO_VALUES: Final = "no values"
LOSES: Final = "loses"
NO_THREADS: Final = "no threads"
UNORDERED: Final = "no order"

PATIENCE: Final = 120.0
"""Seconds after which a contender is given up in one workload."""

TIMEOUT: Final = 60.0
"""Seconds for a wait with a timeout that does not pass."""


class Burst(NamedTuple):
    """Which sources are set to what, one after the other, and what follows."""

    places: Sequence[int]
    values: Sequence[Any]
    expected: Sequence[Any]


class Contender:
    """A way to hold values, to wait for them and to follow them, on asyncio."""

    name: ClassVar[str]

    gaps: ClassVar[frozenset[str]] = frozenset()
    """The promises that it does not keep."""

    cannot: ClassVar[Mapping[str, str]] = {}
    """What it has no way to do, with the reason."""

    shares: ClassVar[Mapping[str, float]] = {}
    """The part of a workload's operations that it is given, where it is very slow."""

    only: ClassVar[frozenset[str] | None] = None
    """What the rows begin with in which it takes part, where it is a variant of another one."""

    is_ours: ClassVar[bool] = False
    """Whether the goals are for it."""

    new_loop: ClassVar[Callable[[], asyncio.AbstractEventLoop] | None] = None
    """What makes the event loop, if not asyncio's own."""

    def why_not(self, ability: str) -> str | None:
        """Say why it cannot do something; None if it can."""
        if ability == DERIVE and not isinstance(self, Deriving):
            return "it derives nothing"
        if ability == CALLBACK and type(self).connect is Contender.connect:
            return "it calls nobody back"
        return self.cannot.get(ability)

    # How it runs.

    def run(self, work: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Run `work(self, *args)` to its end on a loop of its own; cancel what is left there."""
        with asyncio.Runner(loop_factory=type(self).new_loop) as runner:

            async def main() -> Any:
                async with asyncio.timeout(PATIENCE):
                    return await work(self, *args)

            return runner.run(main())

    def spawn(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run a coroutine function in a task of its own."""
        return asyncio.create_task(work(*args))

    async def turn(self) -> None:
        """Let the loop see to all others once."""
        await asyncio.sleep(0)

    async def park_and_cancel(self, wait: Wait, value: Any) -> None:
        """Let a task wait for *value*; when it has parked, cancel it and see it end."""
        task = asyncio.create_task(wait(value))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        # No context manager, which would cost as much again.
        try:  # noqa: SIM105 -- see above
            await task
        except asyncio.CancelledError:
            pass

    # What it sets.

    def make(self, purpose: str = ALONE) -> Any:
        """Make something that can be set; it begins with 0."""
        raise NotImplementedError

    def push(self, target: Any, values: Iterable[Any]) -> None:
        """Set *target* to each of *values*."""
        for value in values:
            target.value = value

    def putter(self, target: Any) -> Put:
        """Give a function that sets *target*."""

        def put(value: Any) -> None:
            target.value = value

        return put

    def make_keys(self, names: Sequence[str]) -> Any:
        """Make many things that can be set, and whatever holds them."""
        return {name: self.make() for name in names}

    def keys_of(self, keep: Any) -> Sequence[Any]:
        """Give what `make_keys()` made, in its order."""
        return list(keep.values())

    def push_each(self, targets: Iterable[Any], values: Iterable[Any]) -> None:
        """Set each of *targets* to the value at its place."""
        for target, value in zip(targets, values, strict=True):
            target.value = value

    # How it waits.

    def waiter(self, target: Any) -> Wait:
        """Give a function that waits for a value."""
        raise NotImplementedError

    def timed(self, target: Any) -> Wait:
        """Give the same with a timeout."""
        wait = self.waiter(target)

        async def timed(value: Any) -> None:
            async with asyncio.timeout(TIMEOUT):
                await wait(value)

        return timed

    async def wait_at_once(self, target: Any, times: int, *, timed: bool) -> None:
        """Wait so many times for 1, which it is already."""
        wait = self.timed(target) if timed else self.waiter(target)
        for _ in range(times):
            await wait(1)

    def until(self, target: Any) -> Callable[[Test], Awaitable[object]]:
        """Give a function that waits until a predicate holds."""
        raise NotImplementedError

    # How it follows.

    def connect(self, target: Any, call: Take) -> Callable[[], object]:
        """Have *call* called with each new value, within the set; give what ends that."""
        raise NotImplementedError

    def open(self, target: Any) -> Any:
        """Open a queue of all values from now on."""
        raise NotImplementedError

    async def follow(self, stream: Any, number: int, take: Take) -> None:
        """Take so many values, one by one."""
        get = stream.get
        for _ in range(number):
            take(await get())

    def open_all(self, keep: Any, take: Take) -> Drain:
        """Have one listener on all keys; give what lets it take so many."""
        raise NotImplementedError


def told(connections: Sequence[object]) -> Drain:
    """Give what takes nothing, for what is told within the set; keep the *connections*."""
    return partial(_take_nothing, connections)


async def _take_nothing(_connections: object, _number: int) -> None:
    """Take nothing."""


class Timed(Contender):
    """A contender whose `wait_for()` takes a timeout."""

    def waiter(self, target: Any) -> Wait:
        return target.wait_for

    def timed(self, target: Any) -> Wait:
        return partial(target.wait_for, timeout=TIMEOUT)

    async def wait_at_once(self, target: Any, times: int, *, timed: bool) -> None:
        if timed:
            for _ in range(times):
                await target.wait_for(1, timeout=TIMEOUT)
        else:
            for _ in range(times):
                await target.wait_for(1)


class Deriving(Contender):
    """A contender that derives values out of parts."""

    def begin(self) -> None:
        """Get ready to make what is new."""

    def source(self, initial: Any) -> Any:
        """Make a value that can be set."""
        raise NotImplementedError

    def read(self, source: Any) -> Any:
        """Give what *source* was set to."""
        return source.value

    def map(self, derived: Any, function: Callable[[Any], Any]) -> Any:
        """Derive a function of one value."""
        raise NotImplementedError

    def combine(self, derived: Sequence[Any]) -> Any:
        """Derive the tuple of several values."""
        raise NotImplementedError

    def all_of(self, flags: Sequence[Any]) -> Any:
        """Derive whether all of them are true."""
        raise NotImplementedError

    def listen(self, derived: Any, take: Take) -> Any:
        """Have *take* called with each value."""
        raise NotImplementedError

    def prepare(self, shape: Any, take: Take | None) -> tuple[Sequence[Any], Any]:
        """Make what *shape* says, heard by *take*; give the sources, and what is to be kept."""
        self.begin()
        sources = [self.source(value) for value in shape.initial]
        derived = shape.derive(self, sources)
        return sources, (derived, None if take is None else self.listen(derived, take))

    def run_bursts(self, shape: Any, bursts: Sequence[Burst], *, heard: bool) -> Sample:
        """Set what *bursts* say, and time it."""
        received: list[Any] = []
        sources, kept = self.prepare(shape, received.append if heard else None)
        received.clear()
        spent = 0
        for burst in bursts:
            targets = [sources[place] for place in burst.places]
            start = now()
            self.push_each(targets, burst.values)
            spent += now() - start
        del kept
        return Sample(spent, received)

    def run_threads(self, shape: Any, jobs: Sequence[Job]) -> tuple[list[Any], list[Any]]:
        """Do each of *jobs* in a thread; give what was heard, and the values in the end."""
        received: list[Any] = []
        sources, kept = self.prepare(shape, received.append)
        received.clear()
        self.push_from_threads(sources, jobs)
        del kept
        return received, [self.read(source) for source in sources]

    def push_from_threads(self, sources: Sequence[Any], jobs: Sequence[Job]) -> None:
        """Do each of *jobs* in a thread of its own; raise what came out of one of them."""
        works = [([sources[job.place]] * len(job.values), job.values) for job in jobs]
        run_in_threads(self.push_each, works)


class Sample(NamedTuple):
    """How many nanoseconds all bursts took, and what the listener was given."""

    spent: int
    received: list[Any]


class Job(NamedTuple):
    """What one thread does: set the source at *place* to each of *values*."""

    place: int
    values: Sequence[int]


def run_in_threads(work: Callable[..., object], each: Sequence[tuple[Any, ...]]) -> None:
    """Call *work* with each of the arguments in a thread of its own; raise what one raised."""
    failures: list[Exception] = []
    barrier = threading.Barrier(len(each))

    def call(args: tuple[Any, ...]) -> None:
        barrier.wait()
        try:
            work(*args)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=call, args=(args,), daemon=True) for args in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        if thread.is_alive():
            raise TimeoutError
    if failures:
        raise failures[0]
