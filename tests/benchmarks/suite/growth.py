"""
How cost grows: one curve for each thing of which there can be many. Flat, where nothing is said.

Each figure is the cost of one operation, or of each of many at once: a wake-up for each waiter that
matches, a stage of a chain, a piece that is registered, cancelled, closed, added or removed. So
what is linear as a whole is flat here, and what rises is worse than linear.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from suite.contender import SET, Contender, now
from suite.derived import derive_chain
from suite.waits import Woken, park
from suite.workload import Figure, Found, Row, Sizes, Workload

SETS: Final = 1_000
GROUP: Final = "growth"

Grow = Callable[[Any, int], Awaitable[float]]


async def among_keys(contender: Any, number: int) -> float:
    """Set keys here and there in a store of so many."""
    keep = contender.make_keys([f"key{n}" for n in range(number)])
    targets = contender.keys_of(keep)
    chosen = [targets[n * number // 10] for n in range(10)] * (SETS // 10)
    start = now()
    contender.push_each(chosen, range(1, len(chosen) + 1))
    return (now() - start) / len(chosen)


async def among_waiters(contender: Any, number: int) -> float:
    """Set, and let the loop look, beside so many tasks that wait for other values."""
    target = contender.make()
    await park(contender, contender.waiter(target), range(-number, 0), Woken())
    start = now()
    for first in range(1, SETS + 1, 10):
        contender.push(target, range(first, first + 10))
        await contender.turn()
    return (now() - start) / SETS


async def among_subscriptions(contender: Any, number: int) -> float:
    """Set beside so many subscriptions."""
    target = contender.make()
    streams = [contender.open(target) for _ in range(number)]
    start = now()
    contender.push(target, range(1, SETS + 1))
    spent = now() - start
    del streams
    return spent / SETS


async def in_wide_conditions(contender: Any, number: int) -> float:
    """Set one of so many parts of a condition, and take what follows."""
    contender.begin()
    flags = [contender.source(True) for _ in range(number)]
    return await flip(contender, flags, contender.all_of(flags))


async def in_families(contender: Any, number: int) -> float:
    """Set one of so many members, and take what follows for all of them."""
    members = family(contender)
    flags = [members.add(n, True) for n in range(number)]
    return await flip(contender, flags, members.all(bool))


async def flip(contender: Any, flags: Sequence[Any], condition: Any) -> float:
    """Make one flag after the other false and true again, and take what follows."""
    stream = contender.open(condition)
    await contender.follow(stream, 0, bool)
    chosen = [flags[n * len(flags) // 10] for n in range(10) for _ in range(2)] * (SETS // 20)
    values = [False, True] * (len(chosen) // 2)
    start = now()
    contender.push_each(chosen, values)
    await contender.follow(stream, len(chosen), bool)
    return (now() - start) / len(chosen)


def family(contender: Any) -> Any:
    """Make a family without members."""
    package = contender.package
    return type("App", (package.Store,), {"members": package.Family()})().members


async def waking(contender: Any, number: int) -> float:
    """Wake so many waiters that match, each."""
    target = contender.make()
    woken = Woken()
    await park(contender, contender.waiter(target), [1] * number, woken)
    start = now()
    contender.putter(target)(1)
    while woken.number < number:
        await contender.turn()
    return (woken.at - start) / number


async def registering(contender: Any, number: int) -> float:
    """Park so many waiters, each."""
    target = contender.make()
    start = now()
    await park(contender, contender.waiter(target), range(1, number + 1), Woken())
    return (now() - start) / number


async def cancelling(contender: Any, number: int) -> float:
    """Cancel so many parked waiters, each."""
    target = contender.make()
    tasks = [contender.spawn(target.wait_for, -n) for n in range(1, number + 1)]
    await contender.turn()
    start = now()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return (now() - start) / number


async def closing(contender: Any, number: int) -> float:
    """Close the store under so many waiters, each."""
    contender.begin()
    target = contender.source(0)
    tasks = [contender.spawn(target.wait_for, -n) for n in range(1, number + 1)]
    await contender.turn()
    start = now()
    contender.store.close()
    await asyncio.wait(tasks)
    spent = now() - start
    for task in tasks:
        task.exception()
    return spent / number


async def opening_subscriptions(contender: Any, number: int) -> float:
    """Open so many subscriptions and close them, each."""
    target = contender.make()
    start = now()
    streams = [target.subscribe() for _ in range(number)]
    for stream in streams:
        stream.close()
    return (now() - start) / number


async def adding_keys(contender: Any, number: int) -> float:
    """Add so many keys, each."""
    names = [f"key{n}" for n in range(number)]
    start = now()
    keep = contender.make_keys(names)
    spent = now() - start
    del keep
    return spent / number


async def changing_families(contender: Any, number: int) -> float:
    """Add so many members and remove them, each, while a condition over all is followed."""
    members = family(contender)
    stream = contender.open(members.all(bool))
    await contender.follow(stream, 0, bool)
    start = now()
    for n in range(number):
        members.add(n, True)
    for n in range(number):
        del members[n]
    await contender.turn()
    spent = now() - start
    del stream
    return spent / number


async def in_chains(contender: Any, number: int) -> float:
    """Set the source of so many maps, and take what follows, each."""
    contender.begin()
    source = contender.source(0)
    stream = contender.open(derive_chain(number, contender, [source]))
    await contender.follow(stream, 0, bool)
    sets = max(2, SETS // number)
    start = now()
    contender.push(source, range(1, sets + 1))
    await contender.follow(stream, sets, bool)
    return (now() - start) / (sets * number)


def curve(name: str, grow: Grow, largest: int) -> Workload:
    """Give the workload of one curve."""
    places = [10**power for power in range(1, 7) if 10**power <= largest] or [largest]
    rows = [Row(f"{name} {x:,}", curve=name, x=x) for x in places]
    return Workload(
        GROUP, name, rows, partial(measure, grow, rows), [SET], rounds=3, ours_only=True
    )


def measure(grow: Grow, rows: Sequence[Row], contender: Contender, sizes: Sizes) -> Found:
    """Measure one curve."""
    return {row.name: Figure(contender.run(grow, row.x)) for row in rows}


def workloads(sizes: Sizes) -> list[Workload]:
    """Give all curves."""
    number, keys = sizes.growth, sizes.growth_keys
    return [
        curve("set, by keys", among_keys, keys),
        curve("set, by tasks that wait for other values", among_waiters, number),
        curve("set, by subscriptions", among_subscriptions, number),
        curve("set and take, by width of a condition", in_wide_conditions, number),
        curve("set and take, by members of a family", in_families, keys),
        curve("wake-up, each, by matching waiters", waking, number),
        curve("set and take, each map, by length of the chain", in_chains, min(number, 1_000)),
        curve("register a wait, by number", registering, number),
        curve("cancel a wait, by number", cancelling, number),
        curve("close the store, each wait, by number", closing, number),
        curve("open and close a subscription, by number", opening_subscriptions, number),
        curve("add a key, by number", adding_keys, keys),
        curve("add and remove a member, by number", changing_families, number),
    ]
