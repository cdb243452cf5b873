"""What holds on every platform and in every mode: costs that do not grow, clocks, debug mode."""

from __future__ import annotations

import ast
import asyncio
import datetime as dt
import gc
import logging
import pickle
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import attrs
import pytest

import statestore
from statestore import Key, Store, Transition, ValueWatcher, WaitTimeoutError
from statestore.testing import StepLoop

PACKAGE = sorted(Path(statestore.__file__).parent.glob("*.py"))
SHARED = {"attention", "callbacks", "groups", "listeners", "names", "ports", "rings", "turns"}


class Color(Enum):
    RED = "red"


@attrs.frozen
class Point:
    x: int = 1
    tags: tuple[str, ...] = ("a",)


def steps_of(call: Callable[[], object]) -> int:
    """Count the lines of Python that *call* runs."""
    count = 0

    def trace(_frame: Any, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def park(loop: StepLoop, state: ValueWatcher[int], count: int) -> list[asyncio.Task[int]]:
    """Have *count* tasks wait for different values above 0."""
    tasks = [loop.create_task(state.wait_for(target)) for target in range(1, count + 1)]
    loop.settle()
    return tasks


@pytest.mark.parametrize("immediate_wake", [False, True])
def test_the_steps_of_a_set_do_not_grow_with_the_waits(immediate_wake: bool) -> None:
    """P042: a set runs as many lines beside a thousand waits as beside ten."""
    counts = []
    for waiting in (10, 1_000):
        with StepLoop() as loop:
            state = ValueWatcher(0)
            park(loop, state, waiting)
            target = 1 if immediate_wake else -1
            counts.append(steps_of(lambda state=state, target=target: state.set(target)))

    assert counts[0] == counts[1]


def test_the_steps_of_leaving_do_not_grow_with_the_waits() -> None:
    """P098: a wait that is cancelled leaves in as many lines beside a thousand others."""
    counts = []
    for waiting in (10, 1_000):
        with StepLoop() as loop:
            tasks = park(loop, ValueWatcher(0), waiting)
            tasks[waiting // 2].cancel()
            counts.append(steps_of(loop.settle))

    assert counts[0] == counts[1]


def test_a_herd_is_woken_by_one_call_of_the_loop() -> None:
    """P098: ten thousand waits for one value cost the loop one call, in which each has its step."""
    with StepLoop() as loop:
        state = ValueWatcher(0)
        tasks = [loop.create_task(state.wait_for(1)) for _ in range(10_000)]
        loop.settle()
        state.value = 1

        assert 1 == len(loop.ready())
        loop.step()
        assert {1} == {task.result() for task in tasks}


@pytest.mark.parametrize(
    "value",
    [
        Color.RED,
        Point(),
        Decimal("1.10"),
        dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        uuid.UUID(int=7),
        (1, True, 1.0, frozenset({"a"})),
        range(3),
        None,
    ],
    ids=repr,
)
def test_a_value_comes_back_from_pickle_as_it_was(value: object) -> None:
    """P084: a transition that was pickled has equal values of the same types."""
    made = ValueWatcher[object]("before", immutable=True).set(value)
    back = pickle.loads(pickle.dumps(made))

    assert isinstance(back, Transition)
    assert made == back
    assert type(value) is type(back.new)
    assert repr(value) == repr(back.new)


def test_debug_mode_has_nothing_to_complain_of(caplog: pytest.LogCaptureFixture) -> None:
    """P110: on a loop in debug mode nothing is logged, from other threads too."""

    class App(Store):
        state = Key(0)
        other = Key(0)

    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = 3_600
        with App() as app, app.state.subscribe() as transitions, app.subscribe() as commits:
            waits = [asyncio.ensure_future(app.state.wait_for(n, timeout=60)) for n in range(5)]
            await asyncio.sleep(0)
            for value in range(5):
                await asyncio.to_thread(app.state.set, value)
            assert [*range(5)] == await asyncio.gather(*waits)
            assert 1 == (await anext(transitions)).new
            assert 1 == (await anext(commits)).revision

    with caplog.at_level(logging.DEBUG, "asyncio"):
        asyncio.run(main(), debug=True)

    assert [] == [record for record in caplog.records if record.levelno > logging.DEBUG]


def loops_over_shared_state(tree: ast.AST) -> Iterator[str]:
    """Find what a `for` goes through: shared dicts, not copied first."""
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.comprehension):
            target = node.iter
            if isinstance(target, ast.Call) and isinstance(target.func, ast.Attribute):
                target = None if target.func.attr == "copy" else target.func.value
            if isinstance(target, ast.Attribute) and target.attr in SHARED:
                yield ast.unparse(node.iter)


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.stem)
def test_no_loop_goes_through_a_dict_that_others_change(path: Path) -> None:
    """P112: what threads share is copied, in one operation, before anybody goes through it."""
    assert [] == list(loops_over_shared_state(ast.parse(path.read_text(encoding="utf-8"))))


def test_the_scan_for_loops_finds_one() -> None:
    """The scan above sees a loop over a shared dict, and lets one over a copy pass."""
    source = "for x in a.ports: pass\n[y for y in a.ports.items()]\nfor z in a.ports.copy(): pass"

    assert ["a.ports", "a.ports.items()"] == list(loops_over_shared_state(ast.parse(source)))


def test_closing_does_not_wait_for_the_garbage_collector() -> None:
    """P113: what is closed is gone from the store at once, though it is still referred to."""
    state = ValueWatcher(0)
    gc.disable()
    try:
        bounded = state.subscribe(maxlen=3)
        handle = state.on_change(lambda _old, _new: None)
        listeners = state._core.listen(state)
        assert (1, 1) == (len(listeners.rings), len(listeners.callbacks))
        bounded.close()
        handle.close()

        assert (0, 0) == (len(listeners.rings), len(listeners.callbacks))
    finally:
        gc.enable()


def test_a_jump_of_the_wall_clock_ends_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """P114: deadlines are told by monotonic clocks; the wall clock is not even looked at."""
    monkeypatch.setattr(time, "time", lambda: pytest.fail("looked at the wall clock"))
    state = ValueWatcher(0)
    with StepLoop() as loop:
        waiting = loop.create_task(state.wait_for(1, timeout=5))
        loop.advance(4.9)
        assert not waiting.done()
        loop.advance(0.2)
        assert isinstance(waiting.exception(), WaitTimeoutError)
    with pytest.raises(WaitTimeoutError):
        state.blocking.wait_for(1, timeout=0.001)
