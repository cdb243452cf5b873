"""Tasks go on in the turn of the loop in which the mailbox finds out that they are to."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import logging
import weakref
from collections import deque
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from statestore import Key, Store, ValueWatcher, WaitTimeoutError
from statestore._stepping import step, wake
from statestore.testing import StepLoop, assert_no_trace


class App(Store):
    """What is waited for."""

    left = Key(0)
    right = Key(0)


@pytest.fixture
def app() -> Iterator[App]:
    """Give a store that has nobody left at the end."""
    app = App()
    yield app
    assert_no_trace(app)


@pytest.fixture
def loop() -> Iterator[StepLoop]:
    """Give a loop that moves when it is told to."""
    with StepLoop() as loop:
        yield loop


def park(loop: StepLoop, *mains: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]:
    """Start *mains*, and let them run up to where they sleep."""
    tasks = [loop.create_task(main) for main in mains]
    loop.settle()
    return tasks


def test_all_go_on_in_the_turn_in_which_they_are_found(app: App, loop: StepLoop) -> None:
    """One callback of the loop runs all of them, in the order in which they came (P099)."""
    order: list[str] = []

    async def wait(name: str) -> None:
        await app.left.wait_for(1)
        order.append(name)

    park(loop, *(wait(name) for name in "abc"))
    app.left.value = 1
    loop.step()

    assert ["a", "b", "c"] == order
    assert [] == loop.ready()


def test_what_one_sets_is_for_the_next_turn(app: App, loop: StepLoop) -> None:
    """Two tasks that wake each other have no turn more than anybody else (P097)."""
    turns: list[int] = []

    async def answer() -> None:
        for number in range(1, 100):
            await app.left.wait_for(number)
            app.right.value = number

    async def ask() -> None:
        for number in range(1, 100):
            app.left.value = number
            await app.right.wait_for(number)

    async def beat() -> None:
        while True:
            turns.append(app.revision)
            await asyncio.sleep(0)

    answering, asking = loop.create_task(answer()), loop.create_task(ask())
    beating = loop.create_task(beat())
    while not (answering.done() and asking.done()):
        loop.step()
    beating.cancel()
    loop.settle()

    # Each turn of the other is two commits apart at most.
    assert 198 == app.revision
    assert max(after - before for before, after in itertools.pairwise(turns)) <= 2


def test_one_that_goes_on_first_may_cancel_another(app: App, loop: StepLoop) -> None:
    """Found, but not run yet: whose `cancel()` says True ends cancelled (P001)."""
    answers: list[bool] = []

    async def cancel() -> None:
        await app.left.wait_for(1)
        answers.append(second.cancel())

    async def wait() -> None:
        await app.left.wait_for(1)

    _, second = park(loop, cancel(), wait())
    app.left.value = 1
    loop.settle()

    assert [True] == answers
    assert second.cancelled()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_loop_loses_none_of_the_others(
    app: App, loop: StepLoop, error: type[BaseException]
) -> None:
    """It comes out of the loop, as from any task; all others go on afterwards (P104)."""

    async def end() -> None:
        await app.left.wait_for(1)
        raise error

    first, ending, last = park(loop, app.left.wait_for(1), end(), app.left.wait_for(1))  # type: ignore[arg-type] -- a coroutine, to mypy an awaitable
    app.left.value = 1
    with pytest.raises(error):
        loop.step()
    assert first.done()
    assert ending.done()
    assert not last.done()
    loop.settle()

    assert 1 == last.result()
    assert error is type(ending.exception())


def test_a_task_that_raises_harms_no_other(app: App, loop: StepLoop) -> None:
    """Its error is its own (P069)."""

    async def fail() -> None:
        await app.left.wait_for(1)
        raise ZeroDivisionError

    failing, waiting = park(loop, fail(), app.left.wait_for(1))  # type: ignore[arg-type] -- as above
    app.left.value = 1
    loop.settle()

    assert isinstance(failing.exception(), ZeroDivisionError)
    assert 1 == waiting.result()
    assert [] == loop.failures


def test_a_task_goes_on_in_its_own_context(app: App, loop: StepLoop) -> None:
    """Neither in that of the setter nor in that of another task (P070)."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[tuple[str, str]] = []

    async def wait(name: str) -> None:
        variable.set(name)
        await app.left.wait_for(1)
        current = asyncio.current_task()
        assert current is not None
        seen.append((variable.get(), current.get_name()))
        variable.set("changed")

    for name in "ab":
        loop.create_task(wait(name), name=name)
    loop.settle()
    contextvars.copy_context().run(lambda: (variable.set("setter"), app.left.set(1)))
    loop.settle()

    assert [("a", "a"), ("b", "b")] == seen
    assert "none" == variable.get()


def test_a_loop_in_debug_mode_calls_each_by_itself(app: App, loop: StepLoop) -> None:
    """It tells which of its callbacks are slow, so each has one of its own."""
    loop.set_debug(True)
    tasks = park(loop, *(app.left.wait_for(1) for _ in range(3)))  # type: ignore[arg-type] -- as above
    app.left.value = 1
    loop.step()
    assert 3 == len(loop.ready())
    loop.settle()

    assert [1, 1, 1] == [task.result() for task in tasks]


def test_a_slow_task_is_named_in_debug_mode(caplog: pytest.LogCaptureFixture) -> None:
    """What asyncio warns of is the task, not what woke it."""
    state = ValueWatcher(0)

    async def be_slow() -> None:
        await state.wait_for(1)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(be_slow())
        await asyncio.sleep(0)
        # From here on everything is too slow.
        loop.slow_callback_duration = 0.0
        with caplog.at_level(logging.WARNING, "asyncio"):
            state.value = 1
            await task

    asyncio.run(main(), debug=True)

    assert any("be_slow" in record.getMessage() for record in caplog.records)


def test_tasks_written_in_python_go_on_too(app: App, loop: StepLoop) -> None:
    """The protocol is the same for the tasks of asyncio that are not written in C."""
    kind: Any = asyncio.tasks._PyTask  # type: ignore[attr-defined] -- shown by no stub
    waiting = kind(app.left.wait_for(1), loop=loop)
    cancelled = kind(app.left.wait_for(1), loop=loop)
    loop.settle()
    cancelled.cancel()
    app.left.value = 1
    loop.settle()

    assert 1 == waiting.result()
    assert cancelled.cancelled()


@pytest.mark.parametrize("kind", ["_CFuture", "_PyFuture"])
def test_a_future_that_nobody_or_many_wait_for_is_left_to_the_loop(
    loop: StepLoop, kind: str
) -> None:
    """Only what waits alone is called at once; nobody is called twice."""
    seen: list[str] = []
    make: Any = getattr(asyncio.futures, kind, asyncio.Future)
    nobody, one, many = (make(loop=loop) for _ in range(3))
    one.add_done_callback(lambda _: seen.append("one"))
    many.add_done_callback(lambda _: seen.append("first"))
    many.add_done_callback(lambda _: seen.append("second"))
    step(deque([many, one, nobody, many, one, nobody]))
    for future in (many, one, nobody):
        wake(future)
    assert ["one"] == seen
    loop.settle()

    assert ["one", "first", "second"] == seen
    assert nobody.done()


@pytest.mark.parametrize("where", ["before it is done", "after it is done"])
def test_an_interrupt_leaves_a_task_to_be_let_go_on(loop: StepLoop, where: str) -> None:
    """One that lands when it was taken off its future, and has not gone on (P104)."""
    seen: list[str] = []
    python_future: Any = asyncio.futures._PyFuture  # type: ignore[attr-defined] -- as above

    class Interrupted(python_future):  # type: ignore[misc] -- its type is not known
        interrupts = 1

        def set_result(self, result: None) -> None:
            if where == "after it is done":
                super().set_result(result)
            if self.interrupts:
                self.interrupts = 0
                raise KeyboardInterrupt
            if where == "before it is done":
                super().set_result(result)

    async def wait(future: Any) -> None:
        await future
        seen.append("gone on")

    future: Any = Interrupted(loop=loop)
    (task,) = park(loop, wait(future))
    due = deque([future])
    with pytest.raises(KeyboardInterrupt):
        step(due)
    assert [] == seen
    step(due)
    loop.settle()

    assert ["gone on"] == seen
    assert task.done()


def test_an_error_of_what_is_no_task_comes_out_once(loop: StepLoop) -> None:
    """A plain callback that raises was called: it is not called again."""
    seen: list[str] = []
    future = loop.create_future()

    def fail(_future: object) -> None:
        seen.append("called")
        raise ZeroDivisionError

    future.add_done_callback(fail)
    due = deque([future])
    with pytest.raises(ZeroDivisionError):
        step(due)
    step(due)
    loop.settle()

    assert ["called"] == seen


def test_an_error_that_is_kept_holds_no_task(loop: StepLoop, app: App) -> None:
    """The frames of an error lead to whoever let its task go on; they hold nothing (P023)."""

    async def fail() -> None:
        # A derived watcher raises where it is woken.
        await app.left.map(lambda left: 1 // (1 - left)).wait_for(5)

    (task,) = park(loop, fail())
    app.left.value = 1
    loop.settle()
    error = task.exception()
    gone = weakref.ref(task)
    gc.collect()
    gc.disable()
    try:
        del task
        assert error is not None
        assert gone() is None
    finally:
        gc.enable()


def test_a_wait_that_times_out_late_is_told_of_the_match(app: App, loop: StepLoop) -> None:
    """The timer and the match come in one turn: what was committed before the deadline counts."""
    (task,) = park(loop, app.left.wait_for(1, timeout=5))  # type: ignore[arg-type] -- as above
    loop.fall_behind(4)
    app.left.value = 1
    loop.fall_behind(4)
    loop.settle()
    assert 1 == task.result()

    (late,) = park(loop, app.left.wait_for(2, timeout=5))  # type: ignore[arg-type] -- as above
    loop.advance(5)
    app.left.value = 2
    assert isinstance(late.exception(), WaitTimeoutError)
