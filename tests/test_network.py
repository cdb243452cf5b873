"""Networks that compute what is derived: overtaken, interrupted, and left by another thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from statestore import CallbackHandle, DerivationError, Key, Store, Watcher, combine
from statestore._core import VALUE, Core, Head
from statestore._graph import Graph
from statestore._nodes import Node
from statestore.testing import assert_no_trace


class App(Store):
    a = Key(0)
    b = Key(0)


class Interrupting:
    """A function, or what `==` calls, that is interrupted once, when *at* comes."""

    def __init__(self, at: int) -> None:
        self._at: int | None = at

    def __call__(self, value: int) -> int:
        if value == self._at:
            self._at = None
            raise KeyboardInterrupt
        return value * 10


class Result:
    """A result whose comparison is interrupted."""

    def __init__(self, value: int, interrupt: Callable[[int], int]) -> None:
        self.value = value
        self._interrupt = interrupt

    def __eq__(self, other: object) -> bool:
        self._interrupt(self.value)
        return isinstance(other, Result) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]


def in_function(app: App, interrupt: Interrupting) -> Watcher[int]:
    return app.a.map(interrupt)


def half_way(app: App, interrupt: Interrupting) -> Watcher[int]:
    """Derive in nodes of which one is computed before the interrupt, and one after."""
    source = app.a.map(lambda value: value)
    return source.map(interrupt).map(lambda value: value)


def in_comparison(app: App, interrupt: Interrupting) -> Watcher[int]:
    return app.a.map(lambda value: Result(value, interrupt)).map(lambda result: result.value * 10)


@pytest.mark.parametrize(("name", "total"), [("a", 10), ("b", 11)])
def test_what_is_committed_while_looking_is_left_for_later(
    name: str, total: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P087: a network takes in what was settled when it began to look, and nothing after that."""
    app = App()
    added = combine(app.a, app.b, using=lambda a, b: a + b)
    settle = Core.settle
    with added.blocking.subscribe() as sub:
        app.a.value = 1

        def overtaken(core: Core) -> Head:
            head = settle(core)
            monkeypatch.undo()
            app[name].value = 10
            return head

        monkeypatch.setattr(Core, "settle", overtaken)
        assert 1 == sub._slot._latest()[VALUE]
        assert [1, total] == [sub.get_nowait().new for _ in range(2)]


EACH = pytest.mark.parametrize("derive", [in_function, half_way, in_comparison])


@EACH
def test_an_interrupt_while_computing_loses_nothing(
    derive: Callable[[App, Interrupting], Watcher[int]],
) -> None:
    """P104: Ctrl-C in a function or in `==` reaches who reads; the next read has everything."""
    app = App()
    watcher = derive(app, Interrupting(2))
    half = watcher.map(lambda value: -value)
    with half.blocking.subscribe() as negative, watcher.blocking.subscribe() as stream:
        for value in (1, 2, 3):
            app.a.value = value
        if derive is not in_comparison:
            # One network of two, the first of which is interrupted.
            with pytest.raises(KeyboardInterrupt):
                negative.pending
        found = [(stream.get_nowait().new, stream.pending) for _ in range(3)]
        assert [(10, 2), (20, 1), (30, 0)] == found
        assert [-10, -20, -30] == [negative.get_nowait().new for _ in range(3)]
    assert_no_trace(app)


async def test_an_interrupt_between_two_listeners_loses_nothing() -> None:
    """P104: who listens to a part that was computed before the interrupt has it once."""
    app = App()
    first = app.a.map(lambda value: value + 1)
    second = first.map(Interrupting(3))
    with first.subscribe() as one, second.subscribe() as other:
        for value in (1, 2, 3):
            app.a.value = value
        with pytest.raises(KeyboardInterrupt):
            other.pending
        assert [2, 3, 4] == [one.get_nowait().new for _ in range(3)]
        assert [20, 30, 40] == [other.get_nowait().new for _ in range(3)]
        assert (0, 0) == (one.pending, other.pending)
    await asyncio.sleep(0)
    assert_no_trace(app)


async def test_an_interrupt_of_a_comparison_between_two_nodes() -> None:
    """P104: Ctrl-C in the `==` of a result that somebody listens to loses nothing."""
    app = App()
    interrupt = Interrupting(2)
    results = app.a.map(lambda value: Result(value, interrupt))
    with results.subscribe() as one:
        for value in (1, 2, 3):
            app.a.value = value
        with pytest.raises(KeyboardInterrupt):
            one.pending
        assert [1, 2, 3] == [one.get_nowait().new.value for _ in range(3)]
    await asyncio.sleep(0)
    assert_no_trace(app)


def test_an_interrupted_opening_leaves_nothing() -> None:
    """P104: Ctrl-C while the first value is being computed leaves nobody who listens."""
    app = App()
    watcher = in_function(app, Interrupting(0))

    with pytest.raises(KeyboardInterrupt):
        watcher.blocking.subscribe()

    assert_no_trace(app)
    assert 0 == watcher.value


def test_an_interrupt_for_a_callback_is_made_good() -> None:
    """P104: Ctrl-C in a function that callbacks follow reaches the setter when they were called."""
    app, calls = App(), list[tuple[int, int]]()
    watcher = in_function(app, Interrupting(1))
    handle: CallbackHandle = watcher.on_change(lambda old, new: calls.append((old, new)))

    with pytest.raises(KeyboardInterrupt):
        app.a.value = 1
    assert [(0, 10)] == calls
    app.a.value = 2
    assert [(0, 10), (10, 20)] == calls

    handle.close()
    assert_no_trace(app)


async def test_closed_by_another_thread() -> None:
    """P103: what another thread closes is computed no more once the loop has looked."""
    app, seen = App(), list[int]()

    def note(value: int) -> int:
        seen.append(value)
        return value

    sub = app.a.map(note).subscribe()
    await asyncio.to_thread(sub.close)
    await asyncio.sleep(0)

    app.a.value = 1
    await asyncio.sleep(0)
    assert [0] == seen
    assert_no_trace(app)


def test_an_interrupt_while_closing_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """P104: Ctrl-C while what nobody needs is forgotten has it forgotten all the same."""
    app, hits = App(), list[Node]()
    remove = Graph.remove

    def interrupted(graph: Graph, node: Node) -> None:
        hits.append(node)
        if len(hits) == 1:
            raise KeyboardInterrupt
        remove(graph, node)

    sub = app.a.map(str).blocking.subscribe()
    monkeypatch.setattr(Graph, "remove", interrupted)

    with pytest.raises(KeyboardInterrupt):
        sub.close()
    assert_no_trace(app)


def test_closed_after_two_interrupts() -> None:
    """P104: a callback closed while its network is in disorder goes with the next commit."""
    app, left = App(), [None, None]

    def interrupted(value: int) -> int:
        if value == 1 and left:
            left.pop()
            raise KeyboardInterrupt
        return value

    handle = app.a.map(interrupted).on_change(lambda _old, _new: None)
    with pytest.raises(KeyboardInterrupt):
        app.a.value = 1
    handle.close()

    app.a.value = 2
    assert_no_trace(app)


async def test_a_wait_that_begins_at_a_failure_is_not_told_of_it() -> None:
    """P102: one that began before is; one that wants a change has to wait for the next."""
    app = App()
    watcher = app.a.map(lambda value: 1 // (value - 1))
    before = asyncio.create_task(watcher.wait_for(1))
    await asyncio.sleep(0)

    app.a.value = 1
    asyncio.get_running_loop().call_soon(app.a.set, 2)

    # In the same step as the set, so before the loop has shown it to the other one.
    assert 1 == await watcher.wait_for_change()
    with pytest.raises(DerivationError):
        await before
