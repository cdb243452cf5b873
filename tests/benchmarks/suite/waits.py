"""W2a, W3, W4 and W9: tasks that wait for a value or a predicate."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from suite.contender import CROWD, INDEXED, ONE, TESTED, UNTIL, WAIT, Contender, Put, Wait, now
from suite.workload import Figure, Found, Row, Sizes, Workload

BUDGET: Final = 50_000_000
"""Nanoseconds after which an operation is repeated no more, if it is a slow one."""


# W2a, W9c


async def rally(contender: Contender, rallies: int, *, timed: bool) -> float:
    """Have two tasks wake each other in turn, each waiting anew; give the time of one wake-up."""
    there, back = contender.make(ONE), contender.make(ONE)
    wait_of = contender.timed if timed else contender.waiter
    values = range(1, rallies + 1)
    contender.spawn(answer, wait_of(there), contender.putter(back), values)
    await contender.turn()
    wait, put = wait_of(back), contender.putter(there)
    start = now()
    for value in values:
        put(value)
        await wait(value)
    return (now() - start) / (2 * rallies)


async def answer(wait: Wait, put: Put, values: Sequence[int]) -> None:
    for value in values:
        await wait(value)
        put(value)


def wake_waiter(contender: Contender, sizes: Sizes) -> Found:
    """Set, and have a parked wait run, registered anew each time."""
    return {W2A.name: Figure(contender.run(_rally, sizes.rallies, False))}


async def _rally(contender: Contender, rallies: int, timed: bool) -> float:
    return await rally(contender, rallies, timed=timed)


W2A: Final = Row("W2a set -> parked wait_for", 1.7)


# W3, W4


class Woken:
    """Counts the tasks that were woken, and notes when."""

    __slots__ = ("at", "number")

    def __init__(self) -> None:
        self.number = 0
        self.at = 0

    async def wait(self, wait: Wait, value: Any) -> None:
        await wait(value)
        self.number += 1
        self.at = now()


async def park(contender: Contender, wait: Wait, values: Sequence[Any], woken: Woken) -> None:
    """Let a task wait for each of *values*."""
    for value in values:
        contender.spawn(woken.wait, wait, value)
    for _ in range(3):
        await contender.turn()


def wake_all(contender: Contender, sizes: Sizes) -> Found:
    """Wake many waiters with one set."""
    setting, waking = contender.run(_wake_all, sizes.crowd)
    return {W3_SET.name: Figure(setting), W3.name: Figure(waking / sizes.crowd)}


async def _wake_all(contender: Contender, crowd: int) -> tuple[float, float]:
    target = contender.make(CROWD)
    put = contender.putter(target)
    woken = Woken()
    await park(contender, contender.waiter(target), [1] * crowd, woken)
    start = now()
    put(1)
    returned = now()
    while woken.number < crowd:
        await contender.turn()
    return returned - start, woken.at - start


W3: Final = Row("W3 one set wakes 10,000, per waiter", 1.0)
W3_SET: Final = Row("W3 ... until the set returns", 50_000, is_absolute=True)


def wake_one_of_many(contender: Contender, sizes: Sizes) -> Found:
    """Wake the one who waits for the value, among many for others."""
    figure = contender.run(_wake_one, sizes, INDEXED, contender.waiter, lambda value: value)
    return {W4A.name: Figure(figure)}


def find_by_predicate(contender: Contender, sizes: Sizes) -> Found:
    """Wake the one whose predicate holds, among many others."""
    figure = contender.run(
        _wake_one, sizes, TESTED, contender.until, lambda wanted: lambda value: value == wanted
    )
    return {W4B.name: Figure(figure)}


async def _wake_one(
    contender: Contender,
    sizes: Sizes,
    purpose: str,
    wait_of: Callable[[Any], Wait],
    wanted: Callable[[int], Any],
) -> float:
    target = contender.make(purpose)
    put = contender.putter(target)
    woken = Woken()
    values = range(1, sizes.crowd + 1)
    await park(contender, wait_of(target), [wanted(value) for value in values], woken)
    spent = number = 0
    for value in random.Random(4).sample(values, min(sizes.repeats, sizes.crowd)):
        start = now()
        put(value)
        while woken.number == number:
            await contender.turn()
        spent += woken.at - start
        number += 1
        await contender.turn()
        if spent > BUDGET:
            break
    return spent / number


W4A: Final = Row("W4a 10,000 wait for other values, one matches", 1.5)
W4B: Final = Row("W4b the same with 10,000 predicates", 1.3)


# W9


def match_at_once(contender: Contender, sizes: Sizes) -> Found:
    """Wait for what is so already."""
    return {
        row.name: Figure(contender.run(_match_at_once, sizes.waits, timed))
        for row, timed in ((W9A, False), (W9B, True))
    }


async def _match_at_once(contender: Contender, waits: int, timed: bool) -> float:
    target = contender.make(ONE)
    contender.putter(target)(1)
    await contender.turn()
    start = now()
    await contender.wait_at_once(target, waits, timed=timed)
    return (now() - start) / waits


def wait_with_timeout(contender: Contender, sizes: Sizes) -> Found:
    """As W2a, with a timeout that does not pass."""
    return {W9C.name: Figure(contender.run(_rally, sizes.rallies, True))}


def cancel_one_of_many(contender: Contender, sizes: Sizes) -> Found:
    """Park one waiter and cancel it, while many others are parked."""
    return {W9D.name: Figure(contender.run(_cancel_one, sizes))}


async def _cancel_one(contender: Contender, sizes: Sizes) -> float:
    target = contender.make(INDEXED)
    wait = contender.waiter(target)
    await park(contender, wait, range(1, sizes.parked + 1), Woken())
    repeats = sizes.repeats
    start = now()
    for number in range(repeats):
        await contender.park_and_cancel(wait, -1 - number)
    return (now() - start) / repeats


W9A: Final = Row("W9a wait that matches at once", 1.5)
W9B: Final = Row("W9b ... with a timeout", 2.0)
W9C: Final = Row("W9c wait with a timeout that parks", 1.5)
W9D: Final = Row("W9d park one and cancel it, 1,000 others", 1.2)


WORKLOADS: Final = (
    Workload("W2", "wake a waiter", [W2A], wake_waiter, [WAIT]),
    Workload("W3", "wake all", [W3, W3_SET], wake_all, [WAIT]),
    Workload("W4", "wake one", [W4A], wake_one_of_many, [WAIT]),
    Workload("W4", "wake one by predicate", [W4B], find_by_predicate, [UNTIL]),
    Workload("W9", "at once", [W9A, W9B], match_at_once, [WAIT]),
    Workload("W9", "timeout", [W9C], wait_with_timeout, [WAIT]),
    Workload("W9", "cancel", [W9D], cancel_one_of_many, [WAIT]),
)
