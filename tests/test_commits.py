"""Several keys as one: whole commits in one queue, and consistent snapshots."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from statestore import (
    ABSENT,
    BlockingError,
    Commit,
    CommitSubscription,
    Key,
    LaggedError,
    Snapshot,
    Store,
    StoreClosedError,
    SubscriptionError,
    Transition,
    UnknownKeyError,
    ValueWatcher,
    WaitTimeoutError,
)
from statestore._commits import join
from statestore._core import Core
from statestore.testing import StepLoop, assert_no_trace
from support.families import Pool, removed
from support.streams import drain


class App(Store):
    """Three numbers."""

    left = Key(0)
    right = Key(0)
    other = Key(0)


def move(app: App, amount: int) -> None:
    """Take *amount* from the left to the right, in one commit."""
    with app.transaction() as tx:
        tx[app.left] -= amount
        tx[app.right] += amount


def told(commit: Commit) -> dict[str, tuple[Any, Any]]:
    """Give old and new value of each key of *commit*."""
    return {t.key: (t.old, t.new) for t in commit.transitions}


def in_thread(function: Callable[[], object]) -> None:
    """Run *function* in another thread, to its end."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def is_unregistered(app: App) -> bool:
    """Tell whether nobody follows the commits of *app* any more."""
    every = app._core.listeners.values()
    idle = all(not (one.groups or one.ports or one.rings) for one in every)
    return idle and not app._core.attention


@pytest.fixture
def app() -> App:
    """Give a new store."""
    return App()


@pytest.fixture
def loop() -> Iterator[StepLoop]:
    """Give a loop that moves only when told to."""
    with StepLoop() as loop:
        yield loop


# -- whole commits ---------------------------------------------------------------------------------


async def test_each_commit_comes_whole(app: App) -> None:
    """Several keys set in one transaction are one record, with the transitions in order. P087."""
    with app.subscribe() as sub:
        app.left.value = 10
        move(app, 3)
        first, second = await anext(sub), await anext(sub)
    left = Transition(key="left", old=0, new=10, revision=1)
    assert Commit(revision=1, transitions=(left,)) == first
    assert 2 == second.revision
    assert [("left", 10, 7), ("right", 0, 3)] == [(t.key, t.old, t.new) for t in second.transitions]
    assert {2} == {t.revision for t in second.transitions}


async def test_a_commit_that_changes_nothing_does_not_come(app: App) -> None:
    """Only keys that changed are in a commit; if none did, there is none. P089."""
    with app.subscribe() as sub:
        app.left.value = 0
        with app.transaction() as tx:
            tx[app.left] = 0
            tx[app.right] = 1
        assert [{"right": (0, 1)}] == [told(commit) for commit in drain(sub)]


async def test_some_keys_leave_out_the_rest(app: App) -> None:
    """Over some keys, commits of others do not come, and their part of a shared one neither."""
    with app.subscribe(App.left, app.right) as sub:
        app.other.value = 1
        with app.transaction() as tx:
            tx[app.other] = 2
            tx[app.right] = 2
        app.left.value = 3
        taken = drain(sub)
    assert [(2, {"right": (0, 2)}), (3, {"left": (0, 3)})] == [(c.revision, told(c)) for c in taken]


async def test_a_key_named_twice_counts_once(app: App) -> None:
    """The same key as `Key` and as watcher is one key."""
    with app.subscribe(App.left, app.left) as sub:
        app.left.value = 1
        assert [{"left": (0, 1)}] == [told(commit) for commit in drain(sub)]


async def test_a_key_of_another_store_is_refused(app: App) -> None:
    """A subscription follows the keys of its own store only, and registers nothing otherwise."""
    with pytest.raises(UnknownKeyError):
        app.subscribe(app.left, App().right)
    assert is_unregistered(app)


async def test_several_subscriptions_each_get_everything(app: App) -> None:
    """Over all keys or some, each has a queue of its own from its own opening."""
    with app.subscribe() as everything, app.subscribe(app.left) as left:
        app.left.value = 1
        with app.subscribe() as late, app.subscribe(app.left, maxlen=5) as late_left:
            app.right.value = 2
            app.left.value = 3
            assert [1, 2, 3] == [c.revision for c in drain(everything)]
            assert [1, 3] == [c.revision for c in drain(left)]
            assert [2, 3] == [c.revision for c in drain(late)]
            assert [3] == [c.revision for c in drain(late_left)]


async def test_what_was_committed_before_the_opening_does_not_come(app: App) -> None:
    """Another subscription keeps the chain alive; a new one still begins at its opening."""
    with app.subscribe() as first:
        app.left.value = 1
        with app.subscribe() as second:
            assert 0 == second.pending
            assert 1 == first.pending


async def test_commits_of_threads_come_in_order_and_whole(app: App) -> None:
    """Whatever threads commit, the stream is every revision once, and sums are kept. P087."""
    barrier = threading.Barrier(3)

    def work() -> None:
        barrier.wait()
        for _ in range(200):
            app.transact(take_one)

    def take_one(tx: Any) -> None:
        tx[app.left] -= 1
        tx[app.right] += 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    with app.subscribe() as sub, app.subscribe(app.left, app.right) as some:
        for thread in threads:
            thread.start()
        taken = [await anext(sub) for _ in range(600)]
        for thread in threads:
            thread.join()
        assert taken == drain(some)
    assert list(range(1, 601)) == [commit.revision for commit in taken]
    assert all({"left": (-n, -n - 1), "right": (n, n + 1)} == told(c) for n, c in enumerate(taken))


# -- keys added later ------------------------------------------------------------------------------


async def test_a_key_added_later_is_followed_from_its_adding(app: App) -> None:
    """Adding a key is a commit with ABSENT as the old value; its sets come too."""
    with app.subscribe() as sub:
        port = app.add("port", 8080)
        port.value = 80
        taken = drain(sub)
    assert [(1, {"port": (ABSENT, 8080)}), (2, {"port": (8080, 80)})] == [
        (commit.revision, told(commit)) for commit in taken
    ]
    assert taken[0].transitions[0].old is ABSENT


async def test_a_key_added_later_is_in_the_snapshots_from_then_on(app: App) -> None:
    """A wait over snapshots sees the key when its place is behind the adding, not before."""
    with app.subscribe() as sub:
        app.left.value = 1
        app.add("port", 8080)
        seen: list[Snapshot] = []
        await sub.wait_until(lambda now: seen.append(now) or "port" in now)
    assert [False, False, True] == ["port" in now for now in seen]
    assert [0, 1, 2] == [now.revision for now in seen]


async def test_a_key_added_later_is_not_among_some_keys(app: App) -> None:
    """Who named keys follows just these."""
    with app.subscribe(app.left) as sub:
        app.add("port", 8080)
        assert [] == drain(sub)


# -- bounds ----------------------------------------------------------------------------------------


async def test_a_loss_is_told_with_a_snapshot(app: App) -> None:
    """`LaggedError.value` is all values at the newest revision: what to go on from."""
    with app.subscribe(maxlen=2) as sub:
        for value in range(1, 6):
            app.left.value = value
        with pytest.raises(LaggedError) as caught:
            await anext(sub)
        assert [4, 5] == [c.revision for c in drain(sub)]
    error = caught.value
    assert (3, 1, 3) == (error.missed, error.first_revision, error.last_revision)
    assert isinstance(error.value, Snapshot)
    assert ({"left": 5, "right": 0, "other": 0}, 5) == (dict(error.value), error.value.revision)


async def test_the_snapshot_of_a_loss_has_the_followed_keys(app: App) -> None:
    """Over some keys, the rest is left out there too."""
    with app.subscribe(app.left, maxlen=1) as sub:
        app.left.value = 1
        app.left.value = 2
        with pytest.raises(LaggedError) as caught:
            sub.get_nowait()
    assert {"left": 2} == dict(caught.value.value)


async def test_joined_commits_lead_from_the_first_old_to_the_last_new(app: App) -> None:
    """With `overflow="latest"`, a joined commit has one transition a key, and says how many."""
    with app.subscribe(maxlen=1, overflow="latest") as sub:
        app.left.value = 1
        app.right.value = 1
        app.left.value = 2
        (joined,) = drain(sub)
    assert (3, 2) == (joined.revision, joined.missed)
    assert {"left": (0, 2), "right": (0, 1)} == told(joined)


async def test_a_joined_commit_that_came_back_is_delivered(app: App) -> None:
    """A key that is back at its old value is in the joined commit all the same."""
    with app.subscribe(maxlen=1, overflow="latest") as sub:
        app.left.value = 1
        app.left.value = 0
        assert [{"left": (0, 0)}] == [told(commit) for commit in drain(sub)]


def test_join_keeps_the_order_in_which_keys_were_first_set(app: App) -> None:
    """Keys stand where they came first."""
    first = (app.left, 0, 1, app.right, 0, 1)
    second = (app.other, 5, 6, app.left, 1, 2)
    expected = (app.left, 0, 2, app.right, 0, 1, app.other, 5, 6)
    assert expected == join(first, second)


@pytest.mark.parametrize(("maxlen", "error"), [(0, ValueError), ("1", TypeError)])
@pytest.mark.parametrize("some", [False, True])
async def test_a_refused_bound_registers_nothing(
    app: App, maxlen: Any, error: type[Exception], some: bool
) -> None:
    """A subscription that could not be opened leaves no trace."""
    with pytest.raises(error, match="maxlen"):
        app.subscribe(*([app.left] if some else []), maxlen=maxlen)
    assert is_unregistered(app)


# -- waits over snapshots --------------------------------------------------------------------------


async def test_a_wait_looks_at_the_values_of_the_opening_first(app: App) -> None:
    """The current snapshot counts, with its revision, and nothing is taken for it."""
    app.left.value = 1
    with app.subscribe() as sub:
        app.right.value = 1
        found = await sub.wait_until(lambda now: now.left == 1)
        assert ({"left": 1, "right": 0, "other": 0}, 1) == (dict(found), found.revision)
        assert 1 == sub.pending


async def test_a_wait_sees_every_revision_once_and_in_order(app: App) -> None:
    """With a backlog, the predicate is called with what was at each revision, not what is now."""
    with app.subscribe() as sub:
        app.left.value = 1
        move(app, 1)
        app.left.value = 5
        seen: list[tuple[int, int, int]] = []
        await sub.wait_until(
            lambda now: seen.append((now.revision, now.left, now.right)) or now.left == 5
        )
    assert [(0, 0, 0), (1, 1, 0), (2, 0, 1), (3, 5, 1)] == seen


async def test_a_wait_finds_what_was_true_for_one_revision_only(app: App) -> None:
    """A combination that came and went is found, at its place. P018."""
    with app.subscribe() as sub:
        app.left.value = 1
        app.right.value = 1
        app.left.value = 0
        app.left.value = 7
        found = await sub.wait_until(lambda now: now.left == now.right == 1)
        assert (2, 2) == (found.revision, sub.pending)


async def test_a_wait_parks_until_the_combination_comes(app: App) -> None:
    """A wait that is asleep is woken by commits from a thread."""
    with app.subscribe(app.left, app.right) as sub:
        waiting = asyncio.ensure_future(
            sub.wait_until(lambda now: now.left == 1 and now.right == 1)
        )
        await asyncio.sleep(0)
        in_thread(lambda: app.left.set(1))
        in_thread(lambda: app.right.set(1))
        found = await waiting
    assert ({"left": 1, "right": 1}, 2) == (dict(found), found.revision)


async def test_waits_go_on_where_the_last_one_stopped(app: App) -> None:
    """Nothing is lost between two waits, and what is read in between counts. P016."""
    with app.subscribe() as sub:
        for value in range(1, 6):
            app.left.value = value
        assert 2 == (await sub.wait_until(lambda now: now.left == 2)).revision
        assert 3 == (await anext(sub)).revision
        found = await sub.wait_until(lambda now: True)
        assert (3, 3) == (found.revision, found.left)
        assert 5 == (await sub.wait_until(lambda now: now.left == 5)).revision


async def test_reading_before_the_first_wait_counts_too(app: App) -> None:
    """Values that nobody had asked for yet are those at the place all the same."""
    with app.subscribe() as sub:
        for value in range(1, 4):
            app.left.value = value
            app.right.value = value
        drained = [await anext(sub) for _ in range(3)]
        found = await sub.wait_until(lambda now: True)
    assert 3 == len(drained)
    assert (3, 2, 1) == (found.revision, found.left, found.right)


async def test_without_immediate_a_wait_needs_a_commit(app: App) -> None:
    """The values at its place do not count then."""
    with app.subscribe() as sub:
        app.left.value = 1
        found = await sub.wait_until(lambda now: True, immediate=False)
        assert (1, 1) == (found.revision, found.left)


async def test_a_wait_over_joined_commits_sees_their_end(app: App) -> None:
    """A joined commit is one step, to what all its keys were at its revision."""
    with app.subscribe(maxlen=1, overflow="latest") as sub:
        app.left.value = 1
        app.right.value = 2
        assert (0, 0) == ((await sub.wait_until(lambda now: True)).left, sub._at[1])
        found = await sub.wait_until(lambda now: now.left == 1)
        assert (2, 1, 2) == (found.revision, found.left, found.right)


async def test_a_wait_raises_the_loss_then_goes_on_behind_it(app: App) -> None:
    """The loss is told at its place; afterwards the snapshots are right again."""
    with app.subscribe(maxlen=2) as sub:
        assert 0 == (await sub.wait_until(lambda now: True)).revision
        for value in range(1, 5):
            app.left.value = value
            app.right.value = -value
        with pytest.raises(LaggedError):
            await sub.wait_until(lambda now: now.left == 4 and now.right == -4)
        seen: list[tuple[int, int, int]] = []
        await sub.wait_until(
            lambda now: seen.append((now.revision, now.left, now.right)) or now.right == -4
        )
    assert [(6, 3, -3), (7, 4, -3), (8, 4, -4)] == seen


async def test_a_first_wait_after_a_loss_does_not_look_behind_it(app: App) -> None:
    """A wait that nobody waited before raises the loss first, before what comes after it."""
    with app.subscribe(maxlen=1) as sub:
        app.left.value = 1
        app.right.value = 1
        with pytest.raises(LaggedError):
            await sub.wait_until(lambda now: now.left == 1)


async def test_a_predicate_that_raises_does_so_at_its_place(app: App) -> None:
    """The wait raises what it raised; the next read goes on behind that commit."""
    with app.subscribe() as sub:
        for value in (1, 2, 3):
            app.left.value = value
        with pytest.raises(ZeroDivisionError):
            await sub.wait_until(lambda now: 1 // (now.left - 2) and False)
        assert 3 == (await anext(sub)).revision


async def test_an_asynchronous_predicate_is_refused(app: App) -> None:
    """A coroutine is never true; it is refused with the fix."""

    async def predicate(now: Snapshot) -> bool:
        return True

    with app.subscribe() as sub, pytest.raises(TypeError, match="must be a plain function"):
        await sub.wait_until(predicate)


def test_a_wait_times_out_with_the_last_snapshot(app: App, loop: StepLoop) -> None:
    """The error tells what all values were."""
    with app.subscribe() as sub:
        waiting = loop.create_task(sub.wait_until(lambda now: False, timeout=5))
        loop.advance(1)
        app.left.value = 1
        loop.advance(4)
        error = waiting.exception()
    assert isinstance(error, WaitTimeoutError)
    assert ({"left": 1, "right": 0, "other": 0}, 1) == (dict(error.value), error.revision)


async def test_a_wait_ends_with_the_store(app: App) -> None:
    """What is buffered is looked at first, then the wait ends. P092."""
    with app.subscribe() as sub:
        app.left.value = 1
        app.close()
        assert 1 == (await sub.wait_until(lambda now: now.left == 1)).revision
        with pytest.raises(StoreClosedError):
            await sub.wait_until(lambda now: now.left == 2)
        assert [] == [commit async for commit in sub]


# -- snapshot() ------------------------------------------------------------------------------------


def test_a_snapshot_is_of_one_revision_while_others_commit(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the commits around the fence that decides its revision, the later ones are taken back."""
    fence = Core.fence

    def fence_and_commit(self: Core, *args: Any) -> int:
        app.other.value += 1
        revision = fence(self, *args)
        app.left.value += 1
        app.right.value += 1
        app.add(f"added{revision}", 1)
        return revision

    app.left.value = 5
    monkeypatch.setattr(Core, "fence", fence_and_commit)
    found = app.snapshot()
    assert ({"left": 5, "right": 0, "other": 1}, 2) == (dict(found), found.revision)


def test_a_snapshot_takes_back_what_comes_between_two_reads(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit of several keys that lands between the reads of two of them is not seen by half."""
    latest = ValueWatcher._latest
    amounts = iter(range(1, 100))

    def commit_then_read(self: ValueWatcher[Any]) -> Any:
        monkeypatch.setattr(ValueWatcher, "_latest", latest)
        move(app, next(amounts))
        monkeypatch.setattr(ValueWatcher, "_latest", commit_then_read)
        return latest(self)

    monkeypatch.setattr(ValueWatcher, "_latest", commit_then_read)
    for _ in range(3):
        before = app.revision
        found = app.snapshot()
        assert (before, 0) == (found.revision, found.left + found.right)
        assert app.revision == before + 3


def test_snapshots_are_consistent_while_threads_commit(app: App) -> None:
    """However many threads move amounts between keys, every snapshot has the sum. P087."""
    stop = threading.Event()
    barrier = threading.Barrier(3)

    def work(amount: int) -> None:
        barrier.wait()
        while not stop.is_set():
            app.transact(lambda tx: moved(tx, amount))

    def moved(tx: Any, amount: int) -> None:
        tx[app.left] -= amount
        tx[app.right] += amount

    threads = [threading.Thread(target=work, args=(amount,)) for amount in (1, 10)]
    for thread in threads:
        thread.start()
    barrier.wait()
    try:
        found = [app.snapshot() for _ in range(1_000)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {0} == {now.left + now.right for now in found}
    assert sorted(now.revision for now in found) == [now.revision for now in found]


def test_a_snapshot_leaves_nothing_registered(app: App) -> None:
    """What follows the commits meanwhile is gone afterwards."""
    app.snapshot()
    assert is_unregistered(app)


def test_a_snapshot_of_a_closed_store_is_its_end(app: App) -> None:
    """Values stay readable."""
    app.left.value = 3
    app.close()
    assert (3, 1) == (app.snapshot().left, app.snapshot().revision)


# -- the opening and the end -----------------------------------------------------------------------


@pytest.mark.parametrize("some", [False, True])
async def test_commits_during_the_opening_are_before_or_after_it(
    app: App, monkeypatch: pytest.MonkeyPatch, some: bool
) -> None:
    """What comes with a revision above that of the opening is in the queue, all else is not."""
    fence = Core.fence

    def commit_around_fence(self: Core, *args: Any) -> int:
        app.left.value += 1
        revision = fence(self, *args)
        app.left.value += 1
        return revision

    with monkeypatch.context() as patch:
        patch.setattr(Core, "fence", commit_around_fence)
        sub = app.subscribe(*([app.left] if some else []))
    with sub:
        assert [(2, {"left": (1, 2)})] == [(c.revision, told(c)) for c in drain(sub)]


@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("maxlen", [None, 1])
async def test_close_releases(app: App, some: bool, maxlen: int | None) -> None:
    """A closed subscription costs no set anything."""
    sub = app.subscribe(*([app.left, app.right] if some else []), maxlen=maxlen)
    assert not is_unregistered(app)
    sub.close()
    sub.close()
    assert is_unregistered(app)
    app.left.value = 1
    assert [] == [commit async for commit in sub]
    with pytest.raises(SubscriptionError):
        await sub.wait_until(lambda now: True)


@pytest.mark.parametrize("some", [False, True])
async def test_a_dropped_one_warns_and_releases(app: App, some: bool) -> None:
    """One that was never closed is a `ResourceWarning`, and is not fed any more. P093."""
    dropped = [app.subscribe(*([app.left] if some else []))]
    with pytest.warns(ResourceWarning, match="open CommitSubscription of 'App'> was never closed"):
        drop(dropped)
    assert is_unregistered(app)


def drop(things: list[CommitSubscription]) -> None:
    """Let go of *things*, and have them collected."""
    things.clear()
    gc.collect()


async def test_closing_one_of_several_leaves_the_others(app: App) -> None:
    """Each has a registration of its own."""
    with app.subscribe() as kept:
        app.subscribe().close()
        app.left.value = 1
        assert 1 == kept.pending


async def test_a_parked_reader_is_woken_by_close(app: App) -> None:
    """Iteration ends, as at the end of the store."""
    sub = app.subscribe()
    reader = asyncio.ensure_future(anext(sub, None))
    await asyncio.sleep(0)
    sub.close()
    assert None is await reader


# -- members that come and go ----------------------------------------------------------------------


def exchange(pool: Pool, key: str, value: int) -> None:
    """Remove a worker, and add another one under the same key, in one commit."""
    with pool.transaction() as tx:
        tx.remove(pool.workers, key)
        tx.add(pool.workers, key, value)


def swap(pool: Pool) -> None:
    """Have one worker go and another one come, and change a third and a key, in one commit."""
    with pool.transaction() as tx:
        tx.remove(pool.workers, "b")
        tx.add(pool.workers, "c", 30)
        tx[pool.workers["a"]] = 12
        tx[pool.n] = 1


# Each is one commit. At the beginning there are two workers, "a" and "b".
STEPS: list[Callable[[Pool], object]] = [
    lambda pool: pool.workers["a"].set(11),
    lambda pool: pool.workers.__delitem__("a"),
    lambda pool: pool.workers.add("a", 10),
    lambda pool: pool.things.add(1, "x"),
    swap,
    lambda pool: exchange(pool, "a", 13),
    lambda pool: pool.workers["a"].set(14),
    lambda pool: pool.n.set(2),
    lambda pool: pool.workers.__delitem__("a"),
    lambda pool: pool.workers.add("b", 21),
    lambda pool: pool.workers.__delitem__("b"),
    lambda pool: pool.workers.__delitem__("c"),
    lambda pool: pool.things.__delitem__(1),
]

State = dict[str, Any]


def state(snapshot: Snapshot) -> State:
    """Give what is in *snapshot*, and its revision."""
    return {"n": snapshot.n, "workers": dict(snapshot.workers), "things": dict(snapshot.things)} | {
        "revision": snapshot.revision
    }


@pytest.fixture
def pool() -> Pool:
    """Give a store with two workers."""
    pool = Pool()
    pool.workers.add("a", 10)
    pool.workers.add("b", 20)
    return pool


def go(pool: Pool) -> list[State]:
    """Do all steps; give what the store was before, and after each of them."""
    states = [state(pool.snapshot())]
    for step in STEPS:
        step(pool)
        states.append(state(pool.snapshot()))
    return states


async def seen_by(sub: CommitSubscription) -> list[State]:
    """Give all that a wait is shown, from its place to the end of the queue."""
    seen: list[State] = []
    with pytest.raises(WaitTimeoutError):
        await sub.wait_until(lambda now: seen.append(state(now)), timeout=0)
    return seen


def in_detail(commits: list[Commit]) -> list[list[tuple[str, Any, Any]]]:
    """Give key, old and new of each transition."""
    return [[(t.key, t.old, t.new) for t in commit.transitions] for commit in commits]


async def test_members_that_come_and_go_are_transitions(pool: Pool) -> None:
    """P091: ABSENT stands for a member that was not there yet, or is not there any more."""
    with pool.subscribe() as sub:
        go(pool)
        commits = drain(sub)
    a, b, c, one = "workers['a']", "workers['b']", "workers['c']", "things[1]"
    assert [
        [(a, 10, 11)],
        [(a, 11, ABSENT)],
        [(a, ABSENT, 10)],
        [(one, ABSENT, "x")],
        [(b, 20, ABSENT), (c, ABSENT, 30), (a, 10, 12), ("n", 0, 1)],
        [(a, 12, ABSENT), (a, ABSENT, 13)],
        [(a, 13, 14)],
        [("n", 1, 2)],
        [(a, 14, ABSENT)],
        [(b, ABSENT, 21)],
        [(b, 21, ABSENT)],
        [(c, 30, ABSENT)],
        [(one, "x", ABSENT)],
    ] == in_detail(commits)
    assert list(range(3, 16)) == [commit.revision for commit in commits]


@pytest.mark.parametrize("maxlen", [None, len(STEPS)])
@pytest.mark.parametrize("place", range(len(STEPS) + 1))
async def test_a_wait_sees_members_from_any_place_on(
    pool: Pool, place: int, maxlen: int | None
) -> None:
    """Wherever it stands in the queue, each snapshot has the members of its revision. P087."""
    with pool.subscribe(maxlen=maxlen) as sub:
        states = go(pool)
        for _ in range(place):
            sub.get_nowait()
        assert states[place:] == await seen_by(sub)


@pytest.mark.parametrize("place", range(len(STEPS)))
async def test_a_wait_sees_members_as_they_come(pool: Pool, place: int) -> None:
    """So it does if it was asked before, and the rest is committed, or read, only then."""
    states = [state(pool.snapshot())]
    with pool.subscribe() as sub:
        for step in STEPS[:place]:
            step(pool)
            states.append(state(pool.snapshot()))
        assert states == await seen_by(sub)
        for step in STEPS[place:]:
            step(pool)
            states.append(state(pool.snapshot()))
        sub.get_nowait()
        assert states[place + 1 :] == await seen_by(sub)


@pytest.mark.parametrize("maxlen", range(1, len(STEPS) + 1))
async def test_a_wait_over_joined_members_sees_their_end(pool: Pool, maxlen: int) -> None:
    """What was joined is one step, to what all members were at its revision. P094."""
    with pool.subscribe(maxlen=maxlen, overflow="latest") as sub:
        states = go(pool)
        assert [*states[:maxlen], states[-1]] == await seen_by(sub)


@pytest.mark.parametrize("maxlen", range(1, len(STEPS)))
async def test_a_wait_goes_on_behind_a_loss_of_members(pool: Pool, maxlen: int) -> None:
    """The loss tells what there is now; the snapshots behind it are right again. P094."""
    with pool.subscribe(maxlen=maxlen) as sub:
        states = go(pool)
        with pytest.raises(LaggedError) as caught:
            await sub.wait_until(lambda now: now.revision > 2)
        assert states[-1] == state(caught.value.value)
        assert states[-maxlen - 1 :] == await seen_by(sub)


async def test_a_joined_commit_leads_from_the_first_member_to_the_last(pool: Pool) -> None:
    """Each member has one transition, those that came and went meanwhile as well. P094."""
    with pool.subscribe(maxlen=1, overflow="latest") as sub:
        go(pool)
        (joined,) = drain(sub)
    assert (15, len(STEPS) - 1) == (joined.revision, joined.missed)
    told = [(t.key, t.old, t.new) for t in joined.transitions]
    a, b = "workers['a']", "workers['b']"
    assert [(a, 10, ABSENT), (a, ABSENT, ABSENT), (a, ABSENT, ABSENT)] == told_of(a, told)
    assert [(b, 20, ABSENT), (b, ABSENT, ABSENT)] == told_of(b, told)
    assert [("n", 0, 2)] == told_of("n", told)


def told_of(key: str, told: list[tuple[str, Any, Any]]) -> list[tuple[str, Any, Any]]:
    """Give what was told of one key."""
    return [transition for transition in told if transition[0] == key]


async def test_a_wait_parks_until_members_are_as_wanted(pool: Pool) -> None:
    """A wait that is asleep is woken by members that come and go in a thread."""
    with pool.subscribe() as sub:
        waiting = asyncio.ensure_future(
            sub.wait_until(lambda now: set(now.workers) == {"b", "c"} and now.workers["b"] == 0)
        )
        await asyncio.sleep(0)
        in_thread(lambda: pool.workers.add("c"))
        in_thread(lambda: pool.workers.__delitem__("a"))
        in_thread(lambda: pool.workers["b"].set(0))
        in_thread(lambda: pool.workers.__delitem__("b"))
        found = await waiting
    assert ({"b": 0, "c": 0}, 5) == (dict(found.workers), found.revision)


def test_a_thread_waits_over_snapshots_with_members(pool: Pool) -> None:
    """The blocking twin sees members at every revision, too."""
    with pool.blocking.subscribe() as sub:
        states = go(pool)
        seen: list[State] = []
        with pytest.raises(WaitTimeoutError):
            sub.wait_until(lambda now: seen.append(state(now)), timeout=0)
    assert states == seen


async def test_snapshots_of_a_wait_stay_as_they_are(pool: Pool) -> None:
    """A snapshot that was given out does not follow what comes later."""
    with pool.subscribe() as sub:
        found = await sub.wait_until(lambda now: True)
        go(pool)
        drain(sub)
        assert {"a": 10, "b": 20} == dict(found.workers)


async def test_over_some_keys_families_are_left_out(pool: Pool) -> None:
    """Who named keys follows just these; members that come and go are no concern of his."""
    with pool.subscribe(pool.n) as sub:
        go(pool)
        assert [[("n", 0, 1)], [("n", 1, 2)]] == in_detail(drain(sub))
        found = await sub.wait_until(lambda now: True)
        assert ({"n": 2}, 10) == (dict(found), found.revision)


MEMBER_STEPS = STEPS[:5]


@pytest.mark.parametrize("place", range(4))
async def test_a_member_can_be_followed_beside_a_key(pool: Pool, place: int) -> None:
    """A member that is named is told of up to its end, and is in no snapshot afterwards. P091."""
    name = "workers['a']"
    expected = [{"n": 0, name: 10}, {"n": 0, name: 11}, {"n": 0}, {"n": 1}]
    with pool.subscribe(pool.workers["a"], pool.n) as sub:
        for step in MEMBER_STEPS:
            step(pool)
        commits = [sub.get_nowait() for _ in range(place)]
        seen: list[dict[str, Any]] = []
        with pytest.raises(WaitTimeoutError):
            await sub.wait_until(lambda now: seen.append(dict(now)), timeout=0)
    assert expected[place:] == seen
    told = [[(name, 10, 11)], [(name, 11, ABSENT)], [("n", 0, 1)]]
    assert told[:place] == in_detail(commits)


async def test_a_member_that_was_removed_can_be_named_to_no_avail(pool: Pool) -> None:
    """It has no transitions any more, and is in no snapshot. P091."""
    gone = removed(pool)
    with pool.subscribe(gone) as sub:
        pool.workers.add("gone", 5)
        assert [] == drain(sub)
        assert {} == dict(await sub.wait_until(lambda now: True))
    assert_no_trace(pool)


def test_snapshots_of_members_are_consistent_while_threads_commit() -> None:
    """However threads exchange members, every snapshot has all of one commit. P087."""
    pool = Pool()
    stop = threading.Event()

    def work() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            with pool.transaction() as tx:
                for key in list(pool.workers):
                    tx.remove(pool.workers, key)
                tx.add(pool.workers, "a", turn)
                tx.add(pool.workers, str(turn), -turn)
                tx[pool.n] = turn

    thread = threading.Thread(target=work)
    thread.start()
    try:
        found = [pool.snapshot() for _ in range(500)]
    finally:
        stop.set()
        thread.join()
    for now in found:
        expected = {"a": now.n, str(now.n): -now.n} if now.n else {}
        assert expected == dict(now.workers)
    assert sorted(now.revision for now in found) == [now.revision for now in found]


# -- for threads -----------------------------------------------------------------------------------


def test_a_thread_reads_whole_commits(app: App) -> None:
    """The blocking twin gives the same records."""
    with app.blocking.subscribe() as sub:
        move(app, 1)
        app.close()
        assert [{"left": (0, -1), "right": (0, 1)}] == [told(commit) for commit in sub]


def test_a_thread_waits_over_snapshots(app: App) -> None:
    """The blocking twin's wait parks until another thread has made it true."""
    found = []
    with app.blocking.subscribe(app.left, app.right) as sub:

        def wait() -> None:
            found.append(sub.wait_until(lambda now: now.left == 1 and now.right == 1))

        thread = threading.Thread(target=wait)
        thread.start()
        app.left.value = 1
        app.right.value = 1
        thread.join()
    assert [({"left": 1, "right": 1}, 2)] == [(dict(now), now.revision) for now in found]


def test_a_threads_wait_times_out(app: App) -> None:
    """With nothing to come it ends with the last snapshot."""
    with app.blocking.subscribe(maxlen=2) as sub:
        app.left.value = 1
        with pytest.raises(WaitTimeoutError) as caught:
            sub.wait_until(lambda now: now.left == 2, timeout=0)
    assert 1 == caught.value.value.left


async def test_a_threads_subscription_does_not_block_a_loop(app: App) -> None:
    """On the thread of a running loop it is refused, before anything is taken. P025."""
    with closing(app.blocking.subscribe()) as sub:
        app.left.value = 1
        with pytest.raises(BlockingError):
            next(sub)
        with pytest.raises(BlockingError):
            sub.wait_until(lambda now: True)
        assert 1 == sub.pending
