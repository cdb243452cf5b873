"""W1, W2b, W5, W6 and W10: sets, and consumers that are given each of them."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from suite.contender import (
    ALONE,
    CALLBACK,
    CALLED,
    FOREIGN,
    KEYS,
    QUEUE,
    SET,
    SHARED,
    STREAM,
    THREADS,
    Contender,
    now,
    run_in_threads,
)
from suite.workload import (
    FOLLOWING,
    SETTING,
    Figure,
    Found,
    LostError,
    Row,
    Sizes,
    Workload,
    share_of,
)

# W1


def set_alone(contender: Contender, sizes: Sizes) -> Found:
    """Set, nobody listening."""
    return {W1.name: Figure(contender.run(_set_alone, sizes))}


async def _set_alone(contender: Contender, sizes: Sizes) -> float:
    target = contender.make(ALONE)
    values = range(1, sizes.sets + 1)
    start = now()
    contender.push(target, values)
    return (now() - start) / sizes.sets


W1: Final = Row("W1 set, nobody listening", 2.5)


# W2b


def wake_consumer(contender: Contender, sizes: Sizes) -> Found:
    """Set, and have a parked consumer of a stream run."""
    return {W2B.name: Figure(contender.run(_wake_consumer, sizes.rallies))}


async def _wake_consumer(contender: Contender, rallies: int) -> float:
    there, back = contender.make(QUEUE), contender.make(QUEUE)
    put_there, put_back = contender.putter(there), contender.putter(back)
    answering, serving = contender.open(there), contender.open(back)
    contender.spawn(contender.follow, answering, rallies, put_back)
    serve = contender.follow(serving, rallies, lambda value: put_there(value + 1))
    await contender.turn()
    start = now()
    put_there(1)
    await serve
    return (now() - start) / (2 * rallies)


W2B: Final = Row("W2b set -> parked stream consumer", 1.5)


# W5


def burst(contender: Contender, sizes: Sizes) -> Found:
    """Set many times before the one consumer takes anything."""
    number = share_of(contender, "W5 one", sizes.burst)
    setting, taking = contender.run(_burst, number, 1)
    return {W5_SET.name: Figure(setting / number), W5_TAKE.name: Figure(taking / number)}


def burst_for_many(contender: Contender, sizes: Sizes) -> Found:
    """Set many times before any of many consumers takes anything."""
    number = share_of(contender, "W5 many", sizes.lagging_burst)
    setting, taking = contender.run(_burst, number, sizes.lagging)
    taken = number * sizes.lagging
    return {W5_MANY.name: Figure(setting / number), W5_MANY_TAKE.name: Figure(taking / taken)}


async def _burst(contender: Contender, number: int, consumers: int) -> tuple[float, float]:
    target = contender.make(QUEUE if consumers == 1 else SHARED)
    streams = [contender.open(target) for _ in range(consumers)]
    values = range(1, number + 1)
    start = now()
    contender.push(target, values)
    setting = now() - start
    await contender.turn()
    taken: deque[Any] = deque(maxlen=1)
    start = now()
    for stream in streams:
        await contender.follow(stream, number, taken.append)
    return setting, now() - start


W5_SET: Final = Row("W5 burst, one consumer: set side", 2.0)
W5_TAKE: Final = Row("W5 ... take side", 1.4)
W5_MANY: Final = Row("W5 burst, 100 lagging consumers: set side", 2.0)
W5_MANY_TAKE: Final = Row("W5 ... take side, each")


# W6


def set_by_one_thread(contender: Contender, sizes: Sizes) -> Found:
    """Set in a thread, and take on a loop."""
    return {W6_ONE.name: Figure(contender.run(_set_by_threads, sizes.thread_sets, 1))}


def set_by_four_threads(contender: Contender, sizes: Sizes) -> Found:
    """Set in four threads, and take on a loop."""
    return {W6_FOUR.name: Figure(contender.run(_set_by_threads, sizes.thread_sets, 4))}


async def _set_by_threads(contender: Contender, number: int, threads: int) -> float:
    target = contender.make(FOREIGN)
    stream = contender.open(target)
    each = number // threads
    total = each * threads
    taken: list[Any] = []
    jobs = [(target, range(1 + n * each, 1 + (n + 1) * each)) for n in range(threads)]
    taking = asyncio.create_task(contender.follow(stream, total, taken.append))  # type: ignore[arg-type]
    await contender.turn()
    begun: list[int] = []

    def push(target: Any, values: Sequence[int]) -> None:
        begun.append(now())
        contender.push(target, values)

    setter = threading.Thread(target=run_in_threads, args=(push, jobs), daemon=True)
    setter.start()
    _, late = await asyncio.wait({taking}, timeout=0.5 + number / 5_000)
    ended = now()
    if late:
        msg = f"gave {len(taken):,} of {total:,}"
        raise LostError(msg)
    if sorted(taken) != list(range(1, total + 1)):
        msg = f"gave {len(set(taken)):,} of {total:,}, and some twice"
        raise LostError(msg)
    return (ended - min(begun)) / total


W6_ONE: Final = Row("W6 setter thread -> loop, 1 thread", 6.0)
W6_FOUR: Final = Row("W6 setter threads -> loop, 4 threads", 6.0)


# W10


def follow_all_keys(contender: Contender, sizes: Sizes) -> Found:
    """Set keys at random, with one listener on all of them."""
    return {W10.name: Figure(contender.run(_follow_all_keys, sizes))}


async def _follow_all_keys(contender: Contender, sizes: Sizes) -> float:
    keep = contender.make_keys([f"key{number}" for number in range(sizes.keys)])
    targets = contender.keys_of(keep)
    taken: deque[Any] = deque(maxlen=1)
    drain = contender.open_all(keep, taken.append)
    chance = random.Random(10)
    spent = 0
    for turn in range(sizes.key_bursts):
        chosen = [targets[chance.randrange(sizes.keys)] for _ in range(sizes.key_burst)]
        first = 1 + turn * sizes.key_burst
        start = now()
        contender.push_each(chosen, range(first, first + sizes.key_burst))
        await drain(sizes.key_burst)
        spent += now() - start
    return spent / (sizes.key_bursts * sizes.key_burst)


W10: Final = Row("W10 random sets in 100,000 keys, one listener", 2.0)


# What it costs to be called back, and to be seen.


def call_back(contender: Contender, sizes: Sizes) -> Found:
    """Set with one callback."""
    return {CALL.name: Figure(contender.run(_call_back, sizes.sets))}


async def _call_back(contender: Contender, sets: int) -> float:
    target = contender.make(CALLED)
    # Kept: some call no more when this is gone.
    connected = contender.connect(target, deque(maxlen=1).append)
    start = now()
    contender.push(target, range(1, sets + 1))
    spent = now() - start
    del connected
    return spent / sets


CALL: Final = Row("callback by a set")


WORKLOADS: Final = (
    Workload("W1", "set", [W1], set_alone, [SET], SETTING),
    Workload("W2", "wake a consumer", [W2B], wake_consumer, [STREAM], FOLLOWING),
    Workload("W5", "burst", [W5_SET, W5_TAKE], burst, [STREAM], FOLLOWING),
    Workload("W5", "burst, 100", [W5_MANY, W5_MANY_TAKE], burst_for_many, [STREAM], FOLLOWING),
    Workload("W6", "one thread", [W6_ONE], set_by_one_thread, [STREAM, THREADS], FOLLOWING),
    Workload("W6", "four threads", [W6_FOUR], set_by_four_threads, [STREAM, THREADS], FOLLOWING),
    Workload("W10", "all keys", [W10], follow_all_keys, [KEYS], FOLLOWING),
    Workload("callback", "callback", [CALL], call_back, [CALLBACK, SET], FOLLOWING),
)
