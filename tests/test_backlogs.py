"""A loop that has much to look at sees to others in between, and nobody loses anything by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from statestore import Key, Store, StoreClosedError, WaitTimeoutError, Watcher, combine
from statestore._mailbox import SHARE
from statestore.testing import StepLoop, inside

MANY = 3 * SHARE + 5


class App(Store):
    """Two numbers."""

    a = Key(0)
    b = Key(0)


@pytest.fixture
def app() -> App:
    """Give a store."""
    return App()


@pytest.fixture
def loop() -> Iterator[StepLoop]:
    """Give a loop that moves when told to."""
    with StepLoop() as loop:
        yield loop


WATCHERS: dict[str, Callable[[App], Watcher[int]]] = {
    "key": lambda app: app.a,
    "derived": lambda app: app.a.map(lambda a: a),
    "of two": lambda app: combine(app.a, app.b, using=lambda a, b: a + b),
}

each_watcher = pytest.mark.parametrize("derive", WATCHERS.values(), ids=WATCHERS)


def fill(app: App, until: int = MANY) -> None:
    """Make that many transitions, in one tick."""
    for value in range(1, until + 1):
        app.a.value = value


def start(loop: StepLoop, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start *main*, and let it go as far as it gets."""
    task = loop.create_task(main)
    loop.settle()
    return task


@each_watcher
def test_a_parked_wait_is_shown_a_share_at_a_time(
    app: App, loop: StepLoop, derive: Callable[[App], Watcher[int]]
) -> None:
    """P097: others of the loop have their turn after 256 transitions; all of them are shown."""
    seen: list[int] = []

    def look(value: int) -> bool:
        seen.append(value)
        return value == MANY

    task = start(loop, derive(app).wait_until(look))
    with inside(loop):
        fill(app)
    turns = 0
    before = len(seen)
    while not task.done():
        loop.call_soon(lambda: None)
        loop.step()
        assert len(seen) - before <= SHARE
        turns += len(seen) > before
        before = len(seen)

    assert list(range(MANY + 1)) == seen
    assert 4 == turns


@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize("read", ["iterate", "wait"])
def test_what_is_derived_is_computed_a_share_at_a_time(
    app: App, loop: StepLoop, read: str, sources: int
) -> None:
    """P097: a stream of something derived does not have all computed at once."""
    computed: list[int] = []

    def note(value: int) -> int:
        computed.append(value)
        return value

    def note_first(value: int, _other: int) -> int:
        return note(value)

    async def main() -> list[int]:
        derived = app.a.map(note) if sources == 1 else combine(app.a, app.b, using=note_first)
        with derived.subscribe() as sub:
            if read == "wait":
                return [await sub.wait_for(MANY)]
            return [(await anext(sub)).new for _ in range(MANY)]

    task = start(loop, main())
    with inside(loop):
        app.b.value = 1
        fill(app)
    computed.clear()
    largest = before = 0
    while not task.done():
        loop.step()
        largest, before = max(largest, len(computed) - before), len(computed)

    assert list(range(2 - sources, MANY + 1)) == computed
    assert (list(range(1, MANY + 1)) if read == "iterate" else [MANY]) == task.result()
    # By the network, by the port and by the stream, at most; and the one step of the other source.
    assert largest <= 3 * SHARE + sources - 1


@each_watcher
def test_at_its_deadline_a_wait_looks_at_all(
    app: App, loop: StepLoop, derive: Callable[[App], Watcher[int]]
) -> None:
    """P004: what was committed before the deadline is found, behind any backlog."""
    task = start(loop, derive(app).wait_for(MANY, timeout=1))
    with inside(loop):
        fill(app)
    loop.fall_behind(5)
    loop.settle()

    assert MANY == task.result()


@pytest.mark.parametrize("held_for", [None, 0.001])
@each_watcher
def test_a_wait_that_begins_behind_a_backlog_is_told_of_none_of_it(
    app: App,
    loop: StepLoop,
    derive: Callable[[App], Watcher[int]],
    held_for: float | None,
) -> None:
    """P002: it wants what comes after its own beginning, be others shown older things still."""
    watcher = derive(app)
    first = start(loop, watcher.wait_for(-1))
    with inside(loop):
        fill(app, 20 * SHARE)
    late = loop.create_task(watcher.wait_for(15 * SHARE, timeout=1, held_for=held_for))
    loop.steps(2)
    loop.fall_behind(1)
    while not late.done():
        loop.step()

    assert isinstance(late.exception(), WaitTimeoutError)
    assert not first.done()


@each_watcher
def test_the_end_comes_behind_the_backlog(
    app: App, loop: StepLoop, derive: Callable[[App], Watcher[int]]
) -> None:
    """P092: a wait finds what came before the end, and ends with it only then."""
    found = start(loop, derive(app).wait_for(MANY))
    never = start(loop, derive(app).wait_for(-1))
    with inside(loop):
        fill(app)
        app.close()
    loop.settle()

    assert MANY == found.result()
    assert isinstance(never.exception(), StoreClosedError)


def test_a_stream_of_two_sources_keeps_their_order(app: App, loop: StepLoop) -> None:
    """P087: a share ends with a whole commit, whichever source has how much of it."""
    pairs = combine(app.a, app.b)

    async def main() -> list[tuple[int, int]]:
        with pairs.subscribe() as sub:
            return [transition.new async for transition in sub]

    task = start(loop, main())
    expected = []
    with inside(loop):
        for number in range(1, MANY):
            app.a.value = number
            expected.append((number, number // 7))
            if (number + 1) % 7 == 0:
                with app.transaction() as tx:
                    tx[app.b] = (number + 1) // 7
                    tx[app.a] = -number
                expected.append((-number, (number + 1) // 7))
        app.close()
    loop.settle()

    assert expected == task.result()


def test_who_asks_is_told_of_all(app: App, loop: StepLoop) -> None:
    """P010: `pending` and `get_nowait()` see all that was committed before the call."""
    with inside(loop):
        sub = app.a.map(lambda a: a).subscribe()
        fill(app)
        assert MANY == sub.pending
        assert list(range(1, MANY + 1)) == [sub.get_nowait().new for _ in range(MANY)]
        sub.close()
