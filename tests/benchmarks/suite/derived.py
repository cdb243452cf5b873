"""
W7: what a set costs when something is derived from it.

The same derivations by each contender in its own way, with one listener and with none: chains of
maps; combines, one part of which changes at each set; a diamond (one source, two maps, one
combine); whether all of 1,000 conditions hold, one of which flips at each set. A figure is the
time of one set with all that follows: the computation, and the listener's taking of the result.
Sets come in bursts. A listener that is a task runs after each burst, any other within the set.

What a listener was given is compared, for the very sets that are timed, with what follows from
them: how many transitions it was not given (*missed*), and how many values that never followed
(*wrong*). What arrives when four threads set the sources, each its own or all the same one, is
tried beforehand.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from suite.contender import DERIVE, NO_THREADS, SET, Burst, Contender, Deriving, Job, Take
from suite.workload import Figure, Found, Row, Sizes, Workload

CONDITIONS: Final = 1_000

THREADS: Final = 4
SETS_IN_A_THREAD: Final = 500
TRIES: Final = 50
SETS_IN_A_TRY: Final = 10
THREADS_ARE_FINE: Final = "all, in order"


def plus_one(number: int) -> int:
    return number + 1


def doubled(number: int) -> int:
    return number + number


def plus_one_with_a_pause(number: int) -> int:
    # Lets another thread go on.
    time.sleep(0)
    return number + 1


class Shape(NamedTuple):
    """
    Something to derive.

    *derive* makes it of sources, *set_at* says which source is set to what at which turn, *result*
    computes it from scratch, and *limit* gives the cheapest function to call after a set.
    """

    name: str
    initial: Sequence[Any]
    derive: Callable[[Deriving, Sequence[Any]], Any]
    set_at: Callable[[int], tuple[int, Any]]
    result: Callable[[Sequence[Any]], Any]
    limit: Callable[[Take], Callable[[int, Any], None]]
    sets: int = 1_000
    """In a burst."""

    def bursts(self, sizes: Sizes) -> list[Burst]:
        """Say what is set, and what follows."""
        state = list(self.initial)
        last = self.result(state)
        made: list[Burst] = []
        length = max(2, round(self.sets * sizes.derived_part))
        for first in range(0, sizes.derived_bursts * length, length):
            sets = [self.set_at(turn) for turn in range(first, first + length)]
            expected: list[Any] = []
            for place, value in sets:
                state[place] = value
                if (result := self.result(state)) != last:
                    expected.append(last := result)
            places, values = zip(*sets, strict=True)
            made.append(Burst(places, values, expected))
        return made


def nest(times: int) -> Callable[[int], int]:
    """Write out so many calls of `plus_one`, nested."""
    code = "plus_one(" * times + "number" + ")" * times
    return eval(f"lambda number: {code}", {"plus_one": plus_one})  # type: ignore[no-any-return] # noqa: S307 -- written here


def limit_of(function: Callable[[Any], Any], take: Take) -> Callable[[int, Any], None]:
    """Give the limit for a function of the value that was set."""
    last = None

    def hear(_place: int, value: Any) -> None:
        nonlocal last
        result = function(value)
        if result != last:
            last = result
            take(result)

    return hear


def limit_of_combine(width: int, take: Take) -> Callable[[int, Any], None]:
    """Give the limit for the tuple of all values."""
    values = [0] * width
    last = tuple(values)

    def hear(place: int, value: int) -> None:
        nonlocal last
        values[place] = value
        result = tuple(values)
        if result != last:
            last = result
            take(result)

    return hear


def limit_of_all(take: Take) -> Callable[[int, Any], None]:
    """Give the limit for a condition: a count."""
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


def derive_chain(maps: int, contender: Deriving, sources: Sequence[Any]) -> Any:
    derived = sources[0]
    for _ in range(maps):
        derived = contender.map(derived, plus_one)
    return derived


def derive_diamond(contender: Deriving, sources: Sequence[Any]) -> Any:
    return contender.combine(
        [contender.map(sources[0], plus_one), contender.map(sources[0], doubled)]
    )


def chain(maps: int, sets: int = 1_000) -> Shape:
    """Give a chain of maps."""
    return Shape(
        name="chain of 1 map" if maps == 1 else f"chain of {maps} maps",
        initial=[0],
        derive=partial(derive_chain, maps),
        set_at=lambda turn: (0, turn + 1),
        result=lambda state: state[0] + maps,
        limit=partial(limit_of, nest(maps)),
        sets=sets,
    )


def combination(width: int) -> Shape:
    """Give a tuple of several values."""
    return Shape(
        name=f"combine of {width}",
        initial=[0] * width,
        derive=lambda contender, sources: contender.combine(sources),
        set_at=lambda turn: (turn % width, turn + 1),
        result=tuple,
        limit=partial(limit_of_combine, width),
        sets=1_000 if width <= 10 else 300,
    )


CHAIN: Final = chain(10)
COMBINE: Final = combination(10)
DIAMOND: Final = Shape(
    name="diamond",
    initial=[0],
    derive=derive_diamond,
    set_at=lambda turn: (0, turn + 1),
    result=lambda state: (plus_one(state[0]), doubled(state[0])),
    limit=partial(limit_of, lambda value: (plus_one(value), doubled(value))),
)
ALL_OF: Final = Shape(
    name=f"all_of over {CONDITIONS:,}",
    initial=[True] * CONDITIONS,
    derive=lambda contender, sources: contender.all_of(sources),
    # Each one is false for a moment, and true again before the next one is not.
    set_at=lambda turn: (turn // 2 % CONDITIONS, turn % 2 == 1),
    result=all,
    limit=limit_of_all,
)
HEARD: Final = (
    chain(1),
    CHAIN,
    chain(100, sets=200),
    combination(2),
    COMBINE,
    combination(100),
    DIAMOND,
    ALL_OF,
)
UNHEARD: Final = (CHAIN, COMBINE, DIAMOND, ALL_OF)

INTERRUPTED: Final = CHAIN._replace(
    derive=lambda contender, sources: contender.map(sources[0], plus_one_with_a_pause),
    result=lambda state: state[0] + 1,
)


def measure(shape: Shape, row: Row, heard: bool, contender: Deriving, sizes: Sizes) -> Found:
    """Set, and have derived what follows."""
    bursts = shape.bursts(sizes)
    expected = Counter(value for burst in bursts for value in burst.expected if heard)
    sample = contender.run_bursts(shape, bursts, heard=heard)
    received = Counter(sample.received)
    sets = sum(len(burst.values) for burst in bursts)
    missed, wrong = (expected - received).total(), (received - expected).total()
    return {row.name: Figure(sample.spent / sets, missed, wrong)}


def workload(shape: Shape, *, heard: bool) -> Workload:
    """Give the workload of a shape, with one listener or with none."""
    who = "one listener" if heard else "nobody listening"
    row = Row(f"W7 {shape.name}, {who}", 2.5)
    promises = frozenset() if heard else frozenset({NO_THREADS})
    needs = [DERIVE, SET]
    return Workload("W7", shape.name, [row], partial(measure, shape, row, heard), needs, promises)


WORKLOADS: Final = (
    *(workload(shape, heard=True) for shape in HEARD),
    *(workload(shape, heard=False) for shape in UNHEARD),
)


def judge_threads(contender: Contender) -> str:
    """Say what arrives when several threads set the sources."""
    if not isinstance(contender, Deriving):
        return ""
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
