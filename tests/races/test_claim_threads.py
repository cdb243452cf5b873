"""Claims from many real threads and event loops at once; what came of it is read in one log."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

import pytest

from statestore import Key, Store, Transaction
from statestore.testing import assert_no_trace
from support.threads import at_once

LIMIT: Final = 3
LOOPS: Final = 4
THREADS: Final = 8
CLAIMANTS: Final = 64
TASKS: Final = (CLAIMANTS - THREADS) // LOOPS


class App(Store):
    """Who has a permit, and how many were given."""

    holders = Key[frozenset[int]](frozenset())
    given = Key(0)


pytestmark = pytest.mark.usefixtures("untraced", "frequent_switches")


def has_room(holders: frozenset[int]) -> bool:
    """Tell whether there is a permit."""
    return len(holders) < LIMIT


def run_all(
    in_task: Callable[[int], Coroutine[Any, Any, None]], in_thread: Callable[[int], None]
) -> None:
    """Run 56 claimants as tasks on 4 event loops, and 8 in threads that block."""
    names = itertools.count()

    def on_loop(mine: list[int]) -> None:
        async def main() -> None:
            await asyncio.gather(*map(in_task, mine))

        asyncio.run(main())

    acts: list[Callable[[], None]] = [partial(in_thread, next(names)) for _ in range(THREADS)]
    acts += [partial(on_loop, [*itertools.islice(names, TASKS)]) for _ in range(LOOPS)]
    at_once(*acts)


def check(log: Any, permits: int) -> None:
    """Assert that there were never too many at a revision, none was lost, and all were served."""
    served: Counter[int] = Counter()
    holders: frozenset[int] = frozenset()
    for _ in range(log.pending):
        commit = log.get_nowait()
        for transition in commit.transitions:
            if transition.key != "holders":
                continue
            assert transition.old == holders
            holders = transition.new
            assert len(holders) <= LIMIT, transition
            joined = holders - transition.old
            assert len(joined) + len(transition.old - holders) == 1
            served.update(joined)
    assert frozenset() == holders
    assert dict.fromkeys(range(CLAIMANTS), permits) == dict(served)


def test_many_claimants_share_permits() -> None:
    """Promise P15: of 100,000 permits there are never too many, none is lost, all are served."""
    app = App()
    permits = 100_000 // CLAIMANTS + 1

    async def in_task(me: int) -> None:
        for _ in range(permits):
            await app.holders.claim(has_room, lambda holders: holders | {me})
            await asyncio.sleep(0)
            app.holders.update(lambda holders: holders - {me})

    def in_thread(me: int) -> None:
        for _ in range(permits):
            app.holders.blocking.claim(has_room, lambda holders: holders | {me})
            time.sleep(0)
            app.holders.update(lambda holders: holders - {me})

    with app.blocking.subscribe() as log:
        run_all(in_task, in_thread)
        assert 2 * permits * CLAIMANTS == app.revision
        check(log, permits)
    assert_no_trace(app)


def test_many_claimants_share_permits_under_a_condition() -> None:
    """Promise P15: the same with a claim of several keys, under a condition."""
    app = App()
    permits = 100

    def enter(me: int, tx: Transaction) -> int:
        tx[App.holders] |= {me}
        tx[App.given] += 1
        return tx[App.given]

    may = app.holders.matches(has_room) & app.given.is_not(-1)
    numbers: list[int] = []

    async def in_task(me: int) -> None:
        for _ in range(permits):
            numbers.append(await app.claim(may, partial(enter, me)))
            await asyncio.sleep(0)
            app.holders.update(lambda holders: holders - {me})

    def in_thread(me: int) -> None:
        for _ in range(permits):
            numbers.append(app.blocking.claim(may, partial(enter, me)))
            time.sleep(0)
            app.holders.update(lambda holders: holders - {me})

    with app.blocking.subscribe() as log:
        run_all(in_task, in_thread)
        check(log, permits)
    assert [*range(1, permits * CLAIMANTS + 1)] == sorted(numbers)
    assert_no_trace(app)
