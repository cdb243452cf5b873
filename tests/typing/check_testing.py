"""
What mypy and pyright make of the helpers for tests. Never run.

A line that must fail says so, to each of the two: if it passed, the comment would be an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_type

from statestore import Key, Store, Subscription, Transition, ValueWatcher
from statestore.testing import (
    Operation,
    Probe,
    RecordedTransitions,
    Replay,
    StepLoop,
    StoreMaker,
    TransitionRecorder,
    assert_chain,
    assert_no_trace,
    assert_transitions,
    in_thread,
    recorded,
    settle,
    traces_of,
)


class App(Store):
    """A store with a key."""

    n = Key(0)


def recording(app: App, record: TransitionRecorder, opened: Subscription[int]) -> None:
    """Know the type of what is recorded; expect whatever equals it."""
    seen = recorded(app.n)
    assert_type(seen, RecordedTransitions[int])
    assert_type(record(app.n.map(str)), RecordedTransitions[str])
    assert_type(seen.transitions, tuple[Transition[int], ...])
    seen.assert_transitions([1, object()])
    assert_transitions(opened, (1, 2))
    assert_transitions(app.n, [])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    wide: RecordedTransitions[object] = seen
    assert_chain(0, wide.transitions)


def making(make_store: StoreMaker, act: Callable[[], str]) -> None:
    """Give what the class or function gives, with its own arguments."""
    assert_type(make_store(App), App)
    assert_type(make_store(App, on_error=print), App)
    assert_type(make_store(ValueWatcher[int], 0), ValueWatcher[int])
    assert_type(make_store.adopt(App()), App)
    make_store(App, n=0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    make_store(act)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


async def looping(app: App, act: Callable[[], str]) -> None:
    """Know what comes out of a loop or a thread."""
    with StepLoop(seed=1) as loop:
        assert_type(loop.run(app.n.wait_for(1)), int)
    assert_type(in_thread(act), str)
    await settle(app)
    await settle(app.n.is_(1))
    await settle(0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.n.on_change(Probe(act))


def promises(app: App) -> None:
    """Look at stores, and at watchers that one can set."""
    assert_no_trace(app)
    assert_type(traces_of(app.n), list[str])
    assert_no_trace(app.n.map(str))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    replay = Replay(app.snapshot(), [], revision=app.revision)
    assert_type(replay.last, dict[str, Any])
    replay.check([Operation(thread=1, before=0, after=1, reads={"n": 0})])
    Operation(1, 0, 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
