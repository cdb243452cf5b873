"""Real threads and loops, all at once, that follow derived watchers; one log says what is right."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Mapping
from functools import partial
from random import Random
from typing import Any, Final

import pytest

from statestore import (
    Condition,
    DuplicateKeyError,
    KeyRemovedError,
    Store,
    UnknownKeyError,
    ValueWatcher,
    all_of,
    any_of,
    at_least,
)
from statestore.testing import Replay
from support.derivations import (
    DERIVATIONS,
    App,
    Derivation,
    Step,
    Told,
    note_failure,
    plain,
    read_to_the_end,
    read_to_the_end_on_a_loop,
    take_all,
    told_of,
)
from support.threads import Job, at_once

pytestmark = pytest.mark.usefixtures("frequent_switches", "untraced")

PATIENCE: Final = 60
"""Seconds after which somebody who does not come is not waited for any more."""


class Log:
    """All commits of a store from now on."""

    def __init__(self, store: Store) -> None:
        self._initial = {name: store[name].value for name in store}
        self._stream = store.blocking.subscribe()

    def replay(self) -> Replay:
        """Give the values at each revision; this is to be asked once."""
        with self._stream as stream:
            return Replay(self._initial, [stream.get_nowait() for _ in range(stream.pending)])


class Followers:
    """
    Threads, loops and callbacks that follow the same derived watchers from the beginning on.

    They end when the store is closed.
    """

    def __init__(self, store: Store, derivations: Mapping[str, Derivation], *, loops: int) -> None:
        self._derivations = derivations
        self._watchers = {name: made.derive(store) for name, made in derivations.items()}
        self._since = store.revision
        self._opened = threading.Barrier(1 + loops + len(derivations))
        self._told = {name: Told(watcher) for name, watcher in self._watchers.items()}
        self._found: list[tuple[str, list[Step]]] = []
        self._jobs = [Job(lambda: asyncio.run(self._follow_on_a_loop())) for _ in range(loops)]
        self._jobs += [Job(partial(self._follow_in_a_thread, name)) for name in self._watchers]
        self._opened.wait(PATIENCE)

    def _follow_in_a_thread(self, name: str) -> None:
        with self._watchers[name].blocking.subscribe() as stream:
            self._opened.wait(PATIENCE)
            read_to_the_end(stream, self._note(name))

    async def _follow_on_a_loop(self) -> None:
        with contextlib.ExitStack() as stack:
            streams = {
                name: stack.enter_context(watcher.subscribe())
                for name, watcher in self._watchers.items()
            }
            await asyncio.to_thread(self._opened.wait, PATIENCE)
            await asyncio.gather(
                *(
                    read_to_the_end_on_a_loop(stream, self._note(name))
                    for name, stream in streams.items()
                )
            )

    def _note(self, name: str) -> list[Step]:
        found: list[Step] = []
        self._found.append((name, found))
        return found

    def check(self, replay: Replay) -> None:
        """Wait for all, and compare what each of them found."""
        for job in self._jobs:
            job.result()
        expected = {
            name: made.steps(replay, self._since) for name, made in self._derivations.items()
        }
        for name, found in self._found:
            assert expected[name] == found, name
        for name, told in self._told.items():
            told.check(expected[name])
            told.handle.close()


def change(app: App, seed: int, rounds: int) -> None:
    """Make commits of all kinds."""
    random = Random(seed)
    for _ in range(rounds):
        value, key = random.randrange(4), random.choice("abcdef")
        with contextlib.suppress(KeyRemovedError, UnknownKeyError, DuplicateKeyError):
            match random.randrange(9):
                case 0:
                    app.left.value = value
                case 1:
                    app.right.update(lambda old: (old + 1) % 4)
                case 2:
                    app.extra.value = value
                case 3 | 4:
                    app.workers[key].value = value
                case 5:
                    app.workers.add(key, value)
                case 6:
                    del app.workers[key]
                case 7:
                    app.transact(partial(_swap, app))
                case _:
                    app.transact(partial(_replace, app, key, value))


def _swap(app: App, tx: Any) -> None:
    tx[app.left], tx[app.right] = tx[app.right], (tx[app.left] + 1) % 4


def _replace(app: App, key: str, value: int, tx: Any) -> None:
    tx[app.left] = value
    if key in app.workers:
        # Another value, for an equal mapping would be told as well: it is another object.
        value = tx[app.workers[key]] + 1
        tx.remove(app.workers, key)
    tx.add(app.workers, key, value)


def test_everybody_is_told_every_transition_of_every_derived_watcher() -> None:
    """P026, P038, P100: threads, loops and callbacks are told just what follows from the log."""
    app = App(on_error=note_failure)
    log = Log(app)
    followers = Followers(app, DERIVATIONS, loops=2)
    at_once(*(partial(change, app, seed, 600) for seed in range(3)))
    app.close()
    followers.check(log.replay())


WIDTH: Final = 60


def _flags_in(state: Mapping[str, Any]) -> tuple[bool, ...]:
    return tuple(state[f"flag {number}"] for number in range(WIDTH))


def test_conditions_over_many_keys_are_exact() -> None:
    """P026: `all_of()` and its like miss no moment, however many keys and threads there are."""
    store = Store(on_error=note_failure)
    log = Log(store)
    flags: list[ValueWatcher[bool]] = [store.add(f"flag {n}", value=True) for n in range(WIDTH)]
    conditions = {
        "all": Derivation(lambda _: all_of(*flags), _flags_in, lambda *held: all(held)),
        "any": Derivation(
            lambda _: any_of(*(flag.is_(False) for flag in flags)),
            _flags_in,
            lambda *held: not all(held),
        ),
        "most": Derivation(
            lambda _: at_least(WIDTH - 2, *flags), _flags_in, lambda *held: sum(held) >= WIDTH - 2
        ),
    }
    followers = Followers(store, conditions, loops=2)

    def blink(seed: int) -> None:
        random = Random(seed)
        for _ in range(150):
            flag = random.choice(flags)
            flag.update(lambda held: not held)
            flag.update(lambda held: not held)

    at_once(*(partial(blink, seed) for seed in range(3)))
    store.close()
    followers.check(log.replay())


def test_whoever_comes_and_goes_is_told_what_came_meanwhile() -> None:
    """P100: opened at one revision and closed at another, each consumer has all in between."""
    app = App(on_error=note_failure)
    log = Log(app)
    watchers = {name: made.derive(app) for name, made in DERIVATIONS.items() if name != "share"}
    found: list[tuple[str, int, int, list[Any]]] = []
    is_over = threading.Event()

    def come_and_go() -> None:
        for name in itertools.cycle(watchers):
            if is_over.is_set():
                break
            first = app.revision
            with watchers[name].blocking.subscribe() as stream:
                last = app.revision
                app.extra.update(lambda old: old + 1)
                found.append((name, first, last, take_all(stream)))

    def register_and_close() -> None:
        for name in itertools.cycle(watchers):
            if is_over.is_set():
                break
            first = app.revision
            told = Told(watchers[name])
            last = app.revision
            app.extra.update(lambda old: old + 1)
            told.handle.close()
            assert not told.is_nested
            # Another thread may still be in the middle of telling it.
            found.append((name, first, last, told.steps))

    def change_all() -> None:
        try:
            at_once(*(partial(change, app, seed, 400) for seed in range(2)))
        finally:
            is_over.set()

    at_once(change_all, come_and_go, register_and_close)
    replay = log.replay()
    assert len(found) > 4
    for name, first, last, steps in found:
        assert any(
            steps == some[: len(steps)]
            for since in range(first, last + 1)
            for expected in [DERIVATIONS[name].steps(replay, since)]
            for some in (expected, told_of(expected))
        ), name


def test_a_value_is_explained_by_one_revision() -> None:
    """P087: whoever reads without listening is given what follows from one recent revision."""
    app = App()
    log = Log(app)
    watchers = {name: made.derive(app) for name, made in DERIVATIONS.items() if name != "share"}
    reads: list[tuple[str, int, Any, int]] = []
    is_over = threading.Event()

    def read() -> None:
        for name in itertools.cycle(watchers):
            if is_over.is_set():
                break
            first = app.revision
            value = plain(watchers[name].value)
            reads.append((name, first, value, app.revision))

    def change_all() -> None:
        try:
            at_once(*(partial(change, app, seed, 400) for seed in range(2)))
        finally:
            is_over.set()

    at_once(change_all, read, read)
    states = log.replay().states
    assert len(reads) > 4
    for name, first, value, last in reads:
        assert value in [DERIVATIONS[name].value(state) for state in states[first : last + 1]]


def test_threads_and_loops_play_ping_pong_with_conditions() -> None:
    """P027: no wake-up is lost, of a blocked thread or a loop that waits for a condition."""
    ball = ValueWatcher(0)
    hits, players = 600, 4

    def is_mine(mine: int) -> Condition:
        return ball.map(lambda n: n % players).is_(mine)

    def play(mine: int) -> None:
        for _ in range(hits):
            is_mine(mine).blocking.wait_for(True)
            ball.value += 1

    async def play_on_a_loop(mine: int) -> None:
        for _ in range(hits):
            await is_mine(mine).wait()
            ball.value += 1

    async def play_for_two() -> None:
        await asyncio.gather(play_on_a_loop(1), play_on_a_loop(3))

    at_once(lambda: play(0), lambda: play(2), lambda: asyncio.run(play_for_two()))

    assert hits * players == ball.value


def test_nobody_misses_that_all_were_idle() -> None:
    """P018: workers join, work and leave in threads; each moment of rest is seen by all."""
    app = App(on_error=note_failure)
    log = Log(app)
    followers = Followers(app, {name: DERIVATIONS[name] for name in FAMILY}, loops=2)

    def work(number: int) -> None:
        key = f"w{number}"
        for _ in range(150):
            watcher = app.workers.add(key)
            for jobs in (1, 2, 0):
                watcher.value = jobs
                app.left.update(lambda old: old + 1)
            del app.workers[key]

    at_once(*(partial(work, number) for number in range(3)))
    app.close()
    followers.check(log.replay())


FAMILY: Final = ("busy", "idle", "mapping")
