"""Real threads and real event loops, all at once; what came of it is compared with one log."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from random import Random
from typing import Any, Final

import pytest

from statestore import ConflictError, Key, Store, Subscription, ValueWatcher
from statestore.testing import Operation, Replay, assert_chain
from support.threads import at_once


class App(Store):
    """Three numbers."""

    left = Key(0)
    right = Key(0)
    third = Key(0)


pytestmark = pytest.mark.usefixtures("frequent_switches")

Pair = tuple[int, int]
LAST: Final[Pair] = (-2, -2)


async def read_to_the_last(sub: Subscription[Pair], got: list[Pair]) -> None:
    """Note each value of *sub*, whose transitions must follow upon each other without a gap."""
    old, revision = (-1, -1), 0
    async for transition in sub:
        revision += 1
        assert transition.old is old or revision == 1
        assert revision == transition.revision
        old = transition.new
        got.append(old)
        if old == LAST:
            break


def follow_on_a_loop(
    state: ValueWatcher[Pair], streams: list[list[Pair]], opened: threading.Barrier
) -> None:
    """Run an event loop on which each of *streams* is filled by a subscriber of its own."""

    async def main() -> None:
        subs = [state.subscribe() for _ in streams]
        await asyncio.to_thread(opened.wait, 30)
        await asyncio.gather(*map(read_to_the_last, subs, streams))
        for sub in subs:
            sub.close()

    asyncio.run(main())


def test_every_subscriber_on_every_loop_gets_every_transition_in_order(untraced: None) -> None:
    """P026, P038: 4 threads set 25,000 values each, 20 subscribers on 3 loops get all of them."""
    state: ValueWatcher[Pair] = ValueWatcher((-1, -1))
    streams: list[list[Pair]] = [[] for _ in range(20)]
    opened = threading.Barrier(4)

    def set_all(thread: int) -> None:
        for n in range(25_000):
            state.value = (thread, n)

    def set_in_four_threads() -> None:
        opened.wait(30)
        at_once(*(lambda thread=thread: set_all(thread) for thread in range(4)))
        state.value = LAST

    with state.blocking.subscribe() as log:
        at_once(
            set_in_four_threads,
            lambda: follow_on_a_loop(state, streams[:7], opened),
            lambda: follow_on_a_loop(state, streams[7:14], opened),
            lambda: follow_on_a_loop(state, streams[14:], opened),
        )
        expected = [log.get_nowait().new for _ in range(log.pending)]

    assert 100_001 == len(expected)
    for thread in range(4):
        assert [*range(25_000)] == [n for setter, n in expected if setter == thread]
    for got in streams:
        assert expected == got


def test_updates_from_many_threads_lose_nothing() -> None:
    """8 threads count together; each transition is one step."""
    counter = ValueWatcher(0)

    def count() -> None:
        for _ in range(1_000):
            counter.update(lambda old: old + 1)

    with counter.blocking.subscribe() as log:
        at_once(*[count] * 8)

        assert 8_000 == counter.value
        assert [*range(1, 8_001)] == [log.get_nowait().new for _ in range(8_000)]


def test_callbacks_are_told_in_order_by_one_thread_at_a_time() -> None:
    """P026, P043: whatever threads set, callbacks see one chain and never overlap."""
    app = App()
    told: list[tuple[int, int]] = []
    inside = Counter[int]()

    def note(old: int, new: int) -> None:
        inside[0] += 1
        assert 1 == inside[0]
        told.append((old, new))
        inside[0] -= 1

    app.left.on_change(note)

    def set_all(thread: int) -> None:
        for n in range(1_000):
            app.left.value = thread * 1_000 + n + 1
            app.right.value = n

    with app.left.blocking.subscribe() as log:
        at_once(*(lambda thread=thread: set_all(thread) for thread in range(4)))
        # Whoever ran callbacks last has told all of them before its own set returned.
        expected = [log.get_nowait() for _ in range(log.pending)]

    assert 4_000 == len(expected)
    assert [(transition.old, transition.new) for transition in expected] == told


def test_transfers_keep_the_sum_at_every_commit() -> None:
    """P087: whoever looks, at whatever time, sees the same sum."""
    app = App()
    done = threading.Event()
    sums: list[int] = []
    app.left.value = 1_000

    def transfer(seed: int) -> None:
        random = Random(seed)
        keys = [App.left, App.right, App.third]

        def move(tx: Any) -> None:
            source, target = random.sample(keys, 2)
            amount = random.randrange(1, 5)
            tx[source] -= amount
            tx[target] += amount

        for _ in range(300):
            app.transact(move)

    def look() -> None:
        with app.blocking.subscribe() as commits:
            while not done.is_set():
                sums.append(sum(app.snapshot().values()))
                with app.transaction() as tx, contextlib.suppress(ConflictError):
                    sums.append(tx[App.left] + tx[App.right] + tx[App.third])
            sums.append(sum(commits.wait_until(lambda _: True).values()))

    def transfer_all() -> None:
        try:
            at_once(*(lambda seed=seed: transfer(seed) for seed in range(4)))
        finally:
            done.set()

    with app.blocking.subscribe() as log:
        at_once(transfer_all, look, look)
        replay = {"left": 1_000, "right": 0, "third": 0}
        while log.pending:
            for transition in log.get_nowait().transitions:
                assert replay[transition.key] == transition.old
                replay[transition.key] = transition.new
            assert 1_000 == sum(replay.values())

    assert {1_000} == set(sums)
    assert replay == dict(app.snapshot())
    assert 1_201 == app.revision


def test_every_operation_is_explained_by_one_revision() -> None:
    """P026, P090: a recorded history of all kinds of operations is that of one after the other."""
    app = App()
    histories: list[list[Operation]] = [[] for _ in range(4)]

    def act(thread: int) -> None:
        random = Random(thread)
        for _ in range(400):
            histories[thread].append(_act(app, thread, random))

    with app.blocking.subscribe() as log:
        at_once(*(lambda thread=thread: act(thread) for thread in range(4)))
        commits = [log.get_nowait() for _ in range(log.pending)]

    replay = Replay({"left": 0, "right": 0, "third": 0}, commits)
    replay.check([did for history in histories for did in history])
    assert replay.last == dict(app.snapshot())


def _act(app: App, thread: int, random: Random) -> Operation:
    key = random.choice([App.left, App.right, App.third])
    watcher, name, value = app[key], key.name, random.randrange(4)
    before = app.revision
    reads: dict[str, Any] = {}
    writes: dict[str, Any] = {}
    revision: int | None = None
    match random.randrange(6):
        case 0:
            made = watcher.set(value)
            if made is not None:
                reads, writes, revision = {name: made.old}, {name: value}, made.revision
            else:
                reads = {name: value}
        case 1:
            made = watcher.update(lambda old: old + 1)
            assert made is not None
            assert made.old + 1 == made.new
            reads, writes, revision = {name: made.old}, {name: made.new}, made.revision
        case 2:
            if watcher.compare_and_set(value, value):
                reads = {name: value}
        case 3:
            snapshot = app.snapshot()
            reads, revision = dict(snapshot), snapshot.revision
        case 4:
            reads = {name: watcher.value}
        case _:

            def swap(tx: Any) -> tuple[int, int]:
                left, right = tx[App.left], tx[App.right]
                tx[App.left], tx[App.right] = right, left
                return left, right

            left, right = app.transact(swap)
            reads = {"left": left, "right": right}
            writes = {"left": right, "right": left} if left != right else {}
    return Operation(
        thread=thread,
        before=before,
        after=app.revision,
        reads=reads,
        writes=writes,
        revision=revision,
    )


def test_two_threads_play_ping_pong_with_blocking_waits() -> None:
    """P025, P027: no wake-up of a blocked thread is lost."""
    ball = ValueWatcher(0)
    hits = 2_000

    def play(mine: int) -> None:
        with ball.blocking.subscribe(initial=True) as sub:
            for n in range(mine, hits, 2):
                sub.wait_for(n)
                ball.value = n + 1

    at_once(lambda: play(0), lambda: play(1))

    assert hits == ball.value


def test_a_thread_and_a_loop_play_ping_pong() -> None:
    """P027: no wake-up of a loop is lost, whoever sets."""
    ball = ValueWatcher(0)
    hits = 1_000

    async def play() -> None:
        for n in range(1, hits, 2):
            await ball.wait_for(n)
            ball.value = n + 1

    def play_back() -> None:
        for n in range(0, hits, 2):
            ball.blocking.wait_for(n)
            ball.value = n + 1

    at_once(lambda: asyncio.run(play()), play_back)

    assert hits == ball.value


def test_of_all_who_compare_and_set_one_gets_each_state() -> None:
    """P090: each ticket is taken once."""
    ticket = ValueWatcher(0)
    taken: list[list[int]] = [[] for _ in range(4)]

    def take(mine: list[int]) -> None:
        while (n := ticket.value) < 2_000:
            with ticket.blocking.subscribe() as sub:
                if ticket.compare_and_set(n, n + 1):
                    assert n + 1 == sub.get_nowait().new
                    mine.append(n)

    at_once(*(lambda mine=mine: take(mine) for mine in taken))

    assert [*range(2_000)] == sorted(n for mine in taken for n in mine)


def test_bounded_queues_count_what_they_lose() -> None:
    """P094: kept and lost together are what was set, whatever threads set it."""
    state = ValueWatcher((-1, -1))

    def set_all(thread: int) -> None:
        for n in range(2_000):
            state.value = (thread, n)

    with (
        state.blocking.subscribe() as log,
        state.blocking.subscribe(maxlen=10) as ring,
        state.blocking.subscribe(maxlen=10, overflow="latest") as joining,
    ):
        at_once(*(lambda thread=thread: set_all(thread) for thread in range(4)))
        expected = [log.get_nowait() for _ in range(log.pending)]
        joined = [joining.get_nowait() for _ in range(joining.pending)]
        with pytest.raises(Exception, match="lost 7990 of its records") as caught:
            ring.get_nowait()
        kept = [ring.get_nowait() for _ in range(ring.pending)]

    assert_chain((-1, -1), expected)
    assert expected[-10:] == kept
    assert (7_990, expected[7_989].revision) == (caught.value.missed, caught.value.last_revision)
    assert expected[:9] == joined[:9]
    assert (expected[8].new, expected[-1].new, 7_990) == (
        joined[9].old,
        joined[9].new,
        joined[9].missed,
    )
