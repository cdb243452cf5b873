"""
Measure what a set costs when something is derived from it, beside other packages.

    python tests/benchmarks/derived_cost.py [--rounds N] [--json FILE]

The same four derivations by each contender in its own way, with one listener and with none: a chain
of ten maps; a combine of ten, one of which changes at each set; a diamond (one source, two maps,
one combine); whether all of 1,000 conditions hold, one of which flips at each set. A figure is the
time of one set with all that follows: the computation, and the listener's taking of the result.
Sets come in bursts of 1,000. A listener that is a task runs after each burst, any other within the
set.

The *limit* is the cheapest plain Python that could do the job: an attribute assigned under a
`threading.Lock`, nested calls of functions, a comparison, a call of the listener.

What a listener was given is compared, for the very sets that are timed, with what follows from
them: how many transitions it was not given (*missed*), and how many values that never followed
(*wrong*). What arrives when four threads set the sources, each its own or all the same one
(*threads*), is tried beforehand.

Contenders take turns within each round, so that a noisy machine is noisy to all of them alike; the
figures are medians over the rounds, and what counts is their ratios. The other packages come with
the extra `benchmarks`; those that are not installed are left out. Each is used in the quickest of
the ways that it documents:

- trio-util conflates for a task that has no turn between two sets, so it is measured once more
  with a turn after each set.
- reaktiv has its thread safety switched on, as by default.
- reactivex needs `distinct_until_changed` to keep equal results back. Differences that are merged
  and added up are quicker there than a `combine_latest` of 1,000.
- psygnal has signals, and nothing that is derived but the properties of an `EventedModel`, which
  are all computed before and after each set. So what is between the signals is written here, as a
  user would. `emit_fast()` is the quickest way to emit, `emit()` the one that takes locks.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import itertools
import json
import operator
import platform
import statistics
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from statestore import Store, all_of, combine

SETS_IN_A_BURST = 1_000
BURSTS = 2

MAPS = 10
CONDITIONS = 1_000

THREADS = 4
SETS_IN_A_THREAD = 500
TRIES = 50
SETS_IN_A_TRY = 10
THREADS_ARE_FINE = "all, in order"
LISTENER = "one listener"
NOBODY = "nobody listening"

Take = Callable[[Any], object]


def plus_one(number: int) -> int:
    return number + 1


def doubled(number: int) -> int:
    return number + number


def plus_one_with_a_pause(number: int) -> int:
    # Lets another thread go on.
    time.sleep(0)
    return number + 1


class Burst(NamedTuple):
    """Which sources are set to what, one after the other, and what follows."""

    places: Sequence[int]
    values: Sequence[Any]
    expected: Sequence[Any]


class Sample(NamedTuple):
    """How many nanoseconds all bursts took, and what the listener was given."""

    spent: int
    received: list[Any]


class Job(NamedTuple):
    """What one thread does: set the source at *place* to each of *values*."""

    place: int
    values: Sequence[int]


class Shape(NamedTuple):
    """
    Something to derive.

    *derive* makes it of sources, *set_at* says which source is set to what at which turn, *result*
    computes it from scratch, and *limit* gives the cheapest function to call after a set.
    """

    name: str
    initial: Sequence[Any]
    derive: Callable[[Peer, Sequence[Any]], Any]
    set_at: Callable[[int], tuple[int, Any]]
    result: Callable[[Sequence[Any]], Any]
    limit: Callable[[Take], Callable[[int, Any], None]]

    def bursts(self) -> list[Burst]:
        """Say what is set, and what follows."""
        state = list(self.initial)
        last = self.result(state)
        made: list[Burst] = []
        for first in range(0, BURSTS * SETS_IN_A_BURST, SETS_IN_A_BURST):
            sets = [self.set_at(turn) for turn in range(first, first + SETS_IN_A_BURST)]
            expected: list[Any] = []
            for place, value in sets:
                state[place] = value
                if (result := self.result(state)) != last:
                    expected.append(last := result)
            places, values = zip(*sets, strict=True)
            made.append(Burst(places, values, expected))
        return made


class Contender(ABC):
    """A way to derive values and to listen to them, within the set."""

    name: ClassVar[str]

    @abstractmethod
    def prepare(self, shape: Shape, take: Take | None) -> tuple[Sequence[Any], object]:
        """Make what *shape* says, heard by *take*; give the sources, and what is to be kept."""

    def push(self, sources: Iterable[Any], values: Iterable[Any]) -> None:
        """Set each of *sources* to the value at its place."""
        for source, value in zip(sources, values, strict=True):
            source.value = value

    def read(self, source: Any) -> Any:
        """Give what *source* was set to."""
        return source.value

    def run(self, shape: Shape, bursts: Sequence[Burst], *, heard: bool) -> Sample:
        """Set what *bursts* say, and time it."""
        received: list[Any] = []
        sources, kept = self.prepare(shape, received.append if heard else None)
        received.clear()
        spent = 0
        for burst in bursts:
            targets = [sources[place] for place in burst.places]
            start = time.perf_counter_ns()
            self.push(targets, burst.values)
            spent += time.perf_counter_ns() - start
        del kept
        return Sample(spent, received)

    def run_threads(self, shape: Shape, jobs: Sequence[Job]) -> tuple[list[Any], list[Any]]:
        """Do each of *jobs* in a thread; give what was heard, and the values in the end."""
        received: list[Any] = []
        sources, kept = self.prepare(shape, received.append)
        received.clear()
        self.push_from_threads(sources, jobs)
        del kept
        return received, [self.read(source) for source in sources]

    def push_from_threads(self, sources: Sequence[Any], jobs: Sequence[Job]) -> None:
        """Do each of *jobs* in a thread of its own; raise what came out of one of them."""
        failures: list[Exception] = []
        barrier = threading.Barrier(len(jobs))

        def work(job: Job) -> None:
            targets = [sources[job.place]] * len(job.values)
            barrier.wait()
            try:
                self.push(targets, job.values)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(job,), daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
            if thread.is_alive():
                raise TimeoutError
        if failures:
            raise failures[0]


class LockedAttribute:
    """The limit for a set that nobody hears of."""

    __slots__ = ("_lock", "_value")

    def __init__(self, value: Any) -> None:
        self._lock = threading.Lock()
        self._value = value

    def _set(self, value: Any) -> None:
        with self._lock:
            self._value = value

    value = property(lambda self: self._value, _set)


class HeardAttribute:
    """The limit for a set from which something follows."""

    __slots__ = ("_hear", "_lock", "_place", "_value")

    def __init__(self, value: Any, place: int, hear: Callable[[int, Any], None]) -> None:
        self._lock = threading.Lock()
        self._value = value
        self._place = place
        self._hear = hear

    def _set(self, value: Any) -> None:
        with self._lock:
            self._value = value
            self._hear(self._place, value)

    value = property(lambda self: self._value, _set)


class Limit(Contender):
    name = "limit"

    def prepare(self, shape: Shape, take: Take | None) -> tuple[Sequence[Any], object]:
        if take is None:
            return [LockedAttribute(value) for value in shape.initial], None
        hear = shape.limit(take)
        return [
            HeardAttribute(value, place, hear) for place, value in enumerate(shape.initial)
        ], None


def limit_of_chain(take: Take) -> Callable[[int, Any], None]:
    last = None
    f = plus_one

    def hear(_place: int, value: int) -> None:
        nonlocal last
        result = f(f(f(f(f(f(f(f(f(f(value))))))))))
        if result != last:
            last = result
            take(result)

    return hear


def limit_of_combine(take: Take) -> Callable[[int, Any], None]:
    values = [0] * 10
    last = tuple(values)

    def hear(place: int, value: int) -> None:
        nonlocal last
        values[place] = value
        result = tuple(values)
        if result != last:
            last = result
            take(result)

    return hear


def limit_of_diamond(take: Take) -> Callable[[int, Any], None]:
    last = None

    def hear(_place: int, value: int) -> None:
        nonlocal last
        result = (plus_one(value), doubled(value))
        if result != last:
            last = result
            take(result)

    return hear


def limit_of_all(take: Take) -> Callable[[int, Any], None]:
    holding = CONDITIONS
    last = True

    def hear(_place: int, value: bool) -> None:
        nonlocal holding, last
        holding += 1 if value else -1
        result = holding == CONDITIONS
        if result is not last:
            last = result
            take(result)

    return hear


class Peer(Contender):
    """A contender that derives values out of parts."""

    @abstractmethod
    def source(self, initial: Any) -> Any:
        """Make a value that can be set."""

    @abstractmethod
    def map(self, derived: Any, function: Callable[[Any], Any]) -> Any:
        """Derive a function of one value."""

    @abstractmethod
    def combine(self, derived: Sequence[Any]) -> Any:
        """Derive the tuple of several values."""

    @abstractmethod
    def all_of(self, flags: Sequence[Any]) -> Any:
        """Derive whether all of them are true."""

    @abstractmethod
    def listen(self, derived: Any, take: Take) -> object:
        """Have *take* called with each value."""

    def begin(self) -> None:
        """Get ready to make what is new."""

    def prepare(self, shape: Shape, take: Take | None) -> tuple[Sequence[Any], Any]:
        self.begin()
        sources = [self.source(value) for value in shape.initial]
        derived = shape.derive(self, sources)
        return sources, (derived, None if take is None else self.listen(derived, take))


class Statestore(Peer):
    name = "statestore, on_change"

    def begin(self) -> None:
        self.store = Store()

    def source(self, initial: Any) -> Any:
        return self.store.add(f"key{len(self.store)}", initial)

    def map(self, derived: Any, function: Callable[[Any], Any]) -> Any:
        return derived.map(function)

    def combine(self, derived: Sequence[Any]) -> Any:
        return combine(*derived)

    def all_of(self, flags: Sequence[Any]) -> Any:
        return all_of(*flags)

    def listen(self, derived: Any, take: Take) -> object:
        return derived.on_change(lambda _old, new: take(new))


class StatestoreSubscription(Statestore):
    """The same with a task that iterates a subscription."""

    name = "statestore, subscribe"

    def listen(self, derived: Any, take: Take) -> object:
        return Listener(derived.subscribe(), lambda transition: take(transition.new))

    def run(self, shape: Shape, bursts: Sequence[Burst], *, heard: bool) -> Sample:
        return asyncio.run(self._run(shape, bursts, heard=heard))

    async def _run(self, shape: Shape, bursts: Sequence[Burst], *, heard: bool) -> Sample:
        received: list[Any] = []
        sources, (_, listener) = self.prepare(shape, received.append if heard else None)
        spent = 0
        async with asyncio.timeout(60):
            for burst in bursts:
                targets = [sources[place] for place in burst.places]
                start = time.perf_counter_ns()
                self.push(targets, burst.values)
                if listener is not None:
                    await listener.take(len(burst.expected))
                spent += time.perf_counter_ns() - start
        return Sample(spent, received)

    def run_threads(self, shape: Shape, jobs: Sequence[Job]) -> tuple[list[Any], list[Any]]:
        return asyncio.run(self._run_threads(shape, jobs))

    async def _run_threads(self, shape: Shape, jobs: Sequence[Job]) -> tuple[list[Any], list[Any]]:
        received: list[Any] = []
        sources, (_, listener) = self.prepare(shape, received.append)
        setting = asyncio.to_thread(self.push_from_threads, sources, jobs)
        taking = listener.take(sum(len(job.values) for job in jobs))
        async with asyncio.timeout(60):
            await asyncio.gather(setting, taking)
        return received, [self.read(source) for source in sources]


class StatestoreValues(StatestoreSubscription):
    """The same with a task that iterates the values, without a record for each transition."""

    name = "statestore, values"

    def listen(self, derived: Any, take: Take) -> object:
        return Listener(derived.values(), take, skip=1)


class Listener:
    """A task's side of something to iterate."""

    def __init__(self, stream: Any, take: Take, skip: int = 0) -> None:
        self._stream = stream
        self._take = take
        # What is there already at the beginning.
        self._skip = skip

    def __del__(self) -> None:
        self._stream.close()

    async def take(self, number: int) -> None:
        """Take so many."""
        take = self._take
        while self._skip:
            self._skip -= 1
            await anext(self._stream)
        async for item in self._stream:
            take(item)
            number -= 1
            if not number:
                return


class TrioUtil(Peer):
    """A task that follows with `eventual_values()`."""

    name = "trio-util"

    def __init__(self) -> None:
        self._trio = importlib.import_module("trio")
        self._module = importlib.import_module("trio_util")
        self._opened = ExitStack()

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

    def listen(self, derived: Any, take: Take) -> object:
        async def follow() -> None:
            async for value in derived.eventual_values():
                take(value)

        return follow

    async def push_all(self, sources: Sequence[Any], values: Sequence[Any]) -> None:
        """Set all of them, then give the listener a turn."""
        self.push(sources, values)
        await self.give_turn()

    async def give_turn(self) -> None:
        # It is woken in the first, has looked once more in the second.
        await self._trio.lowlevel.checkpoint()
        await self._trio.lowlevel.checkpoint()

    def run(self, shape: Shape, bursts: Sequence[Burst], *, heard: bool) -> Sample:
        return self._trio.run(self._run, shape, bursts, heard)

    async def _run(self, shape: Shape, bursts: Sequence[Burst], heard: bool) -> Sample:
        received: list[Any] = []
        sources, (_, follow) = self.prepare(shape, received.append if heard else None)
        push = self.push_all if heard else self.push_unheard
        spent = 0
        async with self._trio.open_nursery() as nursery:
            if heard:
                nursery.start_soon(follow)
            await self.give_turn()
            received.clear()
            for burst in bursts:
                targets = [sources[place] for place in burst.places]
                start = time.perf_counter_ns()
                await push(targets, burst.values)
                spent += time.perf_counter_ns() - start
            nursery.cancel_scope.cancel()
        return Sample(spent, received)

    async def push_unheard(self, sources: Sequence[Any], values: Sequence[Any]) -> None:
        self.push(sources, values)

    def run_threads(self, shape: Shape, jobs: Sequence[Job]) -> tuple[list[Any], list[Any]]:
        return self._trio.run(self._run_threads, shape, jobs)

    async def _run_threads(self, shape: Shape, jobs: Sequence[Job]) -> tuple[list[Any], list[Any]]:
        received: list[Any] = []
        sources, (_, follow) = self.prepare(shape, received.append)
        failure: Exception | None = None
        async with self._trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await self.give_turn()
            received.clear()
            try:
                await self._trio.to_thread.run_sync(self.push_from_threads, sources, jobs)
            except Exception as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return received, [self.read(source) for source in sources]


class TrioUtilWithTurns(TrioUtil):
    name = "trio-util, with turns"

    async def push_all(self, sources: Sequence[Any], values: Sequence[Any]) -> None:
        for source, value in zip(sources, values, strict=True):
            source.value = value
            await self.give_turn()


class Reaktiv(Peer):
    name = "reaktiv"

    def __init__(self) -> None:
        self._module = importlib.import_module("reaktiv")

    def source(self, initial: Any) -> Any:
        return self._module.Signal(initial)

    def map(self, derived: Any, function: Callable[[Any], Any]) -> Any:
        return self._module.Computed(lambda: function(derived()))

    def combine(self, derived: Sequence[Any]) -> Any:
        return self._module.Computed(lambda: tuple([each() for each in derived]))

    def all_of(self, flags: Sequence[Any]) -> Any:
        # A list: that the first false one ends it would cost more, in sources that come and go.
        return self._module.Computed(lambda: all([flag() for flag in flags]))  # noqa: C419 -- see above

    def listen(self, derived: Any, take: Take) -> object:
        return self._module.Effect(lambda: take(derived()))

    def push(self, sources: Iterable[Any], values: Iterable[Any]) -> None:
        for source, value in zip(sources, values, strict=True):
            source.set(value)

    def read(self, source: Any) -> Any:
        return source()


class Reactivex(Peer):
    name = "reactivex"

    def __init__(self) -> None:
        self._rx = importlib.import_module("reactivex")
        self._ops = importlib.import_module("reactivex.operators")
        self._subject = importlib.import_module("reactivex.subject").BehaviorSubject

    def source(self, initial: Any) -> Any:
        return self._subject(initial)

    def map(self, derived: Any, function: Callable[[Any], Any]) -> Any:
        return derived.pipe(self._ops.map(function))

    def combine(self, derived: Sequence[Any]) -> Any:
        return self._rx.combine_latest(*derived)

    def all_of(self, flags: Sequence[Any]) -> Any:
        ops = self._ops
        differences = [
            flag.pipe(
                ops.distinct_until_changed(), ops.skip(1), ops.map(lambda value: 1 if value else -1)
            )
            for flag in flags
        ]
        holding = sum(flag.value for flag in flags)
        return self._rx.merge(*differences).pipe(
            ops.scan(operator.add, holding), ops.map(lambda number: number == len(flags))
        )

    def listen(self, derived: Any, take: Take) -> object:
        return derived.pipe(self._ops.distinct_until_changed()).subscribe(take)

    def push(self, sources: Iterable[Any], values: Iterable[Any]) -> None:
        for source, value in zip(sources, values, strict=True):
            source.on_next(value)


class Signalled:
    """A value with a signal of psygnal."""

    __slots__ = ("_emit", "_value", "changed")

    def __init__(self, value: Any, changed: Any, emit: str) -> None:
        self._value = value
        self.changed = changed
        self._emit = getattr(changed, emit)

    def become(self, value: Any) -> None:
        if value != self._value:
            self._value = value
            self._emit(value)

    value = property(lambda self: self._value, become)


class Psygnal(Peer):
    name = "psygnal, emit_fast"
    emit = "emit_fast"

    def __init__(self) -> None:
        self._module = importlib.import_module("psygnal")

    def source(self, initial: Any) -> Any:
        return Signalled(initial, self._module.SignalInstance((object,)), self.emit)

    def map(self, derived: Any, function: Callable[[Any], Any]) -> Any:
        mapped = self.source(function(derived.value))
        # A method that is called is quicker than a property that is set.
        become = mapped.become

        def follow(value: Any) -> None:
            become(function(value))

        derived.changed.connect(follow)
        return mapped

    def combine(self, derived: Sequence[Any]) -> Any:
        values = [each.value for each in derived]
        combined = self.source(tuple(values))
        become = combined.become

        def connect(place: int) -> None:
            def follow(value: Any) -> None:
                values[place] = value
                become(tuple(values))

            derived[place].changed.connect(follow)

        for place in range(len(derived)):
            connect(place)
        return combined

    def all_of(self, flags: Sequence[Any]) -> Any:
        holding = sum(flag.value for flag in flags)
        condition = self.source(holding == len(flags))
        become = condition.become

        def follow(value: bool) -> None:
            nonlocal holding
            holding += 1 if value else -1
            become(holding == len(flags))

        for flag in flags:
            flag.changed.connect(follow)
        return condition

    def listen(self, derived: Any, take: Take) -> object:
        return derived.changed.connect(take)


class PsygnalWithLocks(Psygnal):
    name = "psygnal, emit"
    emit = "emit"


def derive_chain(peer: Peer, sources: Sequence[Any]) -> Any:
    derived = sources[0]
    for _ in range(MAPS):
        derived = peer.map(derived, plus_one)
    return derived


def derive_diamond(peer: Peer, sources: Sequence[Any]) -> Any:
    return peer.combine([peer.map(sources[0], plus_one), peer.map(sources[0], doubled)])


CHAIN = Shape(
    name=f"chain of {MAPS} maps",
    initial=[0],
    derive=derive_chain,
    set_at=lambda turn: (0, turn + 1),
    result=lambda state: state[0] + MAPS,
    limit=limit_of_chain,
)
COMBINE = Shape(
    name="combine of 10",
    initial=[0] * 10,
    derive=lambda peer, sources: peer.combine(sources),
    set_at=lambda turn: (turn % 10, turn + 1),
    result=tuple,
    limit=limit_of_combine,
)
DIAMOND = Shape(
    name="diamond",
    initial=[0],
    derive=derive_diamond,
    set_at=lambda turn: (0, turn + 1),
    result=lambda state: (plus_one(state[0]), doubled(state[0])),
    limit=limit_of_diamond,
)
ALL_OF = Shape(
    name=f"all_of over {CONDITIONS:,}",
    initial=[True] * CONDITIONS,
    derive=lambda peer, sources: peer.all_of(sources),
    # Each one is false for a moment, and true again before the next one is not.
    set_at=lambda turn: (turn // 2 % CONDITIONS, turn % 2 == 1),
    result=all,
    limit=limit_of_all,
)
SHAPES = (CHAIN, COMBINE, DIAMOND, ALL_OF)

INTERRUPTED = CHAIN._replace(
    derive=lambda peer, sources: peer.map(sources[0], plus_one_with_a_pause),
    result=lambda state: state[0] + 1,
)

KINDS: Sequence[Callable[[], Contender]] = (
    Limit,
    Statestore,
    StatestoreSubscription,
    StatestoreValues,
    TrioUtil,
    TrioUtilWithTurns,
    Reaktiv,
    Reactivex,
    Psygnal,
    PsygnalWithLocks,
)


class Row(NamedTuple):
    """What was found of one contender: nanoseconds per set, and what its listener was given."""

    nanoseconds: float
    missed: int
    wrong: int


Table = dict[str, dict[str, Row]]
"""Rows by workload and contender."""


def contenders() -> list[Contender]:
    """Give those that are installed."""
    found: list[Contender] = []
    for kind in KINDS:
        try:
            found.append(kind())
        except ImportError as error:
            print(f"{kind.name} is left out: the package {error.name} is not installed")
    return found


def judge_threads(contender: Contender) -> str:
    """Say what arrives when several threads set the sources."""
    own = [Job(place, range(1, SETS_IN_A_THREAD + 1)) for place in range(THREADS)]
    firsts = range(1, THREADS * SETS_IN_A_TRY, SETS_IN_A_TRY)
    common = [Job(0, range(first, first + SETS_IN_A_TRY)) for first in firsts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        judged = {judge_steps(*contender.run_threads(COMBINE, own), own)}
        for _ in range(TRIES):
            judged.add(judge_end(*contender.run_threads(INTERRUPTED, common), common))
    except Exception as error:
        return type(error).__name__
    finally:
        sys.setswitchinterval(interval)
    return max(judged - {THREADS_ARE_FINE}, default=THREADS_ARE_FINE)


def judge_steps(received: Sequence[Any], end: Sequence[int], jobs: Sequence[Job]) -> str:
    """Judge tuples of numbers, one of which is the next one at each set."""
    if len(set(received)) < sum(len(job.values) for job in jobs):
        return "not all"
    sums = [sum(values) for values in received]
    in_order = received[-1] == tuple(end) and sums == list(range(1, len(sums) + 1))
    return THREADS_ARE_FINE if in_order else "out of order"


def judge_end(received: Sequence[Any], end: Sequence[int], jobs: Sequence[Job]) -> str:
    """Judge numbers of one source, the order of which is not known but for the last one."""
    if len(set(received)) < sum(len(job.values) for job in jobs):
        return "not all"
    return THREADS_ARE_FINE if received[-1] == end[0] + 1 else "out of order"


def run(everyone: Sequence[Contender], rounds: int) -> Table:
    """Measure everything."""
    samples: dict[str, dict[str, list[Row]]] = {}
    gc.disable()
    for _ in range(rounds):
        for shape, heard in itertools.product(SHAPES, (True, False)):
            workload = f"{shape.name}, {LISTENER if heard else NOBODY}"
            by_name = samples.setdefault(workload, {})
            bursts = shape.bursts()
            expected = Counter(value for burst in bursts for value in burst.expected if heard)
            for contender in everyone:
                sample = contender.run(shape, bursts, heard=heard)
                received = Counter(sample.received)
                missed, wrong = (expected - received).total(), (received - expected).total()
                row = Row(sample.spent / (BURSTS * SETS_IN_A_BURST), missed, wrong)
                by_name.setdefault(contender.name, []).append(row)
            gc.collect()
    gc.enable()
    return {
        workload: {name: middle(rows) for name, rows in by_name.items()}
        for workload, by_name in samples.items()
    }


def middle(rows: Sequence[Row]) -> Row:
    """Join what was found in all rounds: the median of the time, the worst of what was given."""
    times, missed, wrong = zip(*rows, strict=True)
    return Row(statistics.median(times), max(missed), max(wrong))


def fastest(rows: dict[str, Row], among: Iterable[str] | None = None, *, ours: bool) -> str | None:
    """
    Name the fastest, of ours or of the peers, that gives every transition, of those *among*.

    A value that never was is none of them.
    """
    complete = [
        name
        for name in rows.keys() - {Limit.name}
        if rows[name].missed == rows[name].wrong == 0
        and name.startswith("statestore") == ours
        and (among is None or name in among)
    ]
    return min(complete, key=lambda name: rows[name].nanoseconds, default=None)


def show(table: Table, threads: dict[str, str]) -> None:
    """Print the table."""
    sets = BURSTS * SETS_IN_A_BURST
    print(f"Python {platform.python_version()}, {sys.platform}; medians, ns per set")
    print(f"missed, wrong: of {sets:,} sets; threads: what arrives when {THREADS} of them set")
    for workload, rows in table.items():
        best = fastest(rows, ours=False)
        heading = "" if best is None else f"{f'x {best}':>25}"
        heading += "  missed   wrong  threads" if workload.endswith(LISTENER) else ""
        print(f"\n{workload:32}{'ns':>10}{'x limit':>10}{heading}")
        for name, row in rows.items():
            ratios = f"{row.nanoseconds / rows[Limit.name].nanoseconds:10.2f}"
            if best is not None:
                ratios += f"{row.nanoseconds / rows[best].nanoseconds:25.2f}"
            if workload.endswith(LISTENER):
                ratios += f"{row.missed:8}{row.wrong:8}  {threads.get(name, '')}"
            print(f"  {name:30}{row.nanoseconds:10.0f}{ratios}".rstrip())
    print()
    print("Ours is the fastest that gives every transition:", verdict(table))
    is_fine = {name for name, judged in threads.items() if judged == THREADS_ARE_FINE}
    print("... of those that do so from threads too:", verdict(table, is_fine))


def verdict(table: Table, among: Iterable[str] | None = None) -> str:
    """Say of each workload with a listener whether ours is the fastest, of the peers *among*."""
    said: list[str] = []
    for shape in SHAPES:
        rows = table[f"{shape.name}, {LISTENER}"]
        our = fastest(rows, ours=True) or ""
        peer = fastest(rows, among, ours=False)
        if peer is None:
            said.append(f"{shape.name}: yes (there is no other)")
        else:
            ratio = rows[our].nanoseconds / rows[peer].nanoseconds
            said.append(f"{shape.name}: {'yes' if ratio < 1 else 'no'} ({ratio:.2f} x {peer})")
    return "; ".join(said)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", help="write what was found to this file")
    arguments = parser.parse_args()
    everyone = contenders()
    peers = [contender for contender in everyone if isinstance(contender, Peer)]
    threads = {peer.name: judge_threads(peer) for peer in peers}
    table = run(everyone, arguments.rounds)
    show(table, threads)
    if arguments.json is not None:
        workloads = {
            workload: {name: row._asdict() for name, row in rows.items()}
            for workload, rows in table.items()
        }
        found = {"workloads": workloads, "threads": threads}
        Path(arguments.json).write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
