"""The deterministic loop itself: whoever tests with it relies on these rules."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading

import pytest

from statestore import ValueWatcher
from statestore.testing import StepLoop, Stuck

EAGER = sys.version_info >= (3, 12)


def test_a_step_runs_one_callback() -> None:
    """A step runs exactly one callback, and says whether there was one."""
    seen: list[int] = []
    with StepLoop() as loop:
        loop.call_soon(seen.append, 1)
        loop.call_soon(seen.append, 2)

        assert loop.step()
        assert [1] == seen
        assert loop.step()
        assert [1, 2] == seen
        assert not loop.step()


def test_steps_stop_where_nothing_is_ready() -> None:
    """Several steps end early when nothing is ready, and leave timers alone."""
    seen: list[int] = []
    with StepLoop() as loop:
        loop.call_later(1, seen.append, 3)
        loop.call_soon(seen.append, 1)
        loop.call_soon(seen.append, 2)
        loop.steps(1)

        assert [1] == seen

        loop.steps(10)

        assert [1, 2] == seen
        assert 0.0 == loop.time()


def test_a_cancelled_callback_is_no_step() -> None:
    """What was cancelled is skipped and does not count as a step."""
    seen: list[int] = []
    with StepLoop() as loop:
        loop.call_soon(seen.append, 1).cancel()
        loop.call_soon(seen.append, 2)

        assert loop.step()
        assert [2] == seen


def test_callbacks_run_in_the_order_of_asyncio() -> None:
    """Without a seed the first to come is the first to run, a due timer included."""
    seen: list[int] = []
    with StepLoop() as loop:
        loop.call_soon(seen.append, 1)
        loop.call_later(0, seen.append, 3)
        loop.call_soon(seen.append, 2)
        loop.settle()

    assert [1, 2, 3] == seen


def _order_with(seed: int) -> list[int]:
    seen: list[int] = []
    with StepLoop(seed) as loop:
        for number in range(8):
            loop.call_soon(seen.append, number)
        loop.settle()
    return seen


def _woken_with(seed: int | None) -> list[int]:
    """Give the order in which tasks go on that one commit wakes."""
    order: list[int] = []
    state = ValueWatcher(0)

    async def wait(number: int) -> None:
        await state.wait_for(1)
        order.append(number)

    with StepLoop(seed) as loop:
        for number in range(4):
            loop.create_task(wait(number))
        loop.settle()
        state.value = 1
        loop.settle()
    return order


def test_a_seed_orders_those_that_one_commit_wakes() -> None:
    """Without one they go on as they came; with one in any order."""
    assert [0, 1, 2, 3] == _woken_with(None)
    assert len({tuple(_woken_with(seed)) for seed in range(20)}) > 1


def test_a_seed_determines_the_order() -> None:
    """A seed chooses among the ready callbacks, always in the same way."""
    orders = {tuple(_order_with(seed)) for seed in range(20)}

    assert _order_with(3) == _order_with(3)
    assert len(orders) > 10
    assert all(list(range(8)) == sorted(order) for order in orders)


def test_time_jumps_to_the_next_timer() -> None:
    """Time stands still while something is ready and jumps when nothing is."""
    with StepLoop() as loop:
        assert 0.0 == loop.time()

        loop.call_later(7, int)
        loop.call_soon(int)

        assert loop.step()
        assert 0.0 == loop.time()
        assert loop.step()
        assert 7.0 == loop.time()


def test_settling_leaves_timers_alone() -> None:
    """Settling runs what is ready, and what that makes ready, at one moment."""
    seen: list[str] = []
    with StepLoop() as loop:
        loop.call_later(1, seen.append, "late")
        loop.call_soon(loop.call_soon, seen.append, "soon")
        loop.settle()

        assert ["soon"] == seen
        assert 0.0 == loop.time()


def test_advancing_runs_timers_at_their_time() -> None:
    """Each timer that is due runs at its own time, in order, and no other does."""
    seen: list[tuple[str, float]] = []
    with StepLoop() as loop:
        for name, delay in (("c", 3), ("a", 1), ("b", 2)):
            loop.call_later(delay, lambda n=name: seen.append((n, loop.time())))
        loop.advance(2.5)

        assert [("a", 1.0), ("b", 2.0)] == seen
        assert 2.5 == loop.time()
        assert [3.0] == [timer.when() for timer in loop.timers()]


def test_a_loop_can_fall_behind() -> None:
    """Time passes and nothing happens, so that several timers are due at once."""
    seen: list[tuple[str, float]] = []
    with StepLoop() as loop:
        loop.call_later(2, lambda: seen.append(("b", loop.time())))
        loop.call_later(1, lambda: seen.append(("a", loop.time())))
        loop.fall_behind(5)

        assert [] == seen

        loop.settle()

        assert [("a", 5.0), ("b", 5.0)] == seen


def test_a_cancelled_timer_is_gone() -> None:
    """A cancelled timer neither runs nor moves time."""
    with StepLoop() as loop:
        loop.call_later(5, int).cancel()

        assert [] == loop.timers()
        assert not loop.step()
        assert 0.0 == loop.time()


def test_it_runs_a_coroutine_to_its_end() -> None:
    """Tasks, groups, timeouts and the current task are those of asyncio."""

    async def main() -> str:
        assert asyncio.current_task() is not None
        async with asyncio.TaskGroup() as group:
            first = group.create_task(asyncio.sleep(3, "a"))
            second = group.create_task(asyncio.sleep(2, "b"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.sleep(100)
        return first.result() + second.result()

    with StepLoop() as loop:
        assert "ab" == loop.run(main())
        assert 13.0 == loop.time()


def test_what_can_never_end_is_stuck() -> None:
    """It raises at once when nothing is ready and no timer is set."""

    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    with StepLoop() as loop, pytest.raises(Stuck):
        loop.run(forever())


def test_a_loop_that_is_stopped_is_not_stuck() -> None:
    """Stopped before it runs, it goes round once and has nothing to do, as that of asyncio."""
    with StepLoop() as loop:
        loop.stop()
        loop.run_forever()


def test_callbacks_come_from_any_thread() -> None:
    """A callback from another thread is ready like any other."""
    seen: list[int] = []
    with StepLoop() as loop:
        loop.set_debug(True)
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(seen.append, 1))
        thread.start()
        thread.join()
        loop.settle()

    assert [1] == seen


def test_a_callback_sees_its_loop_running() -> None:
    """Inside a step this is the running loop, outside there is none."""
    seen: list[object] = []
    with StepLoop() as loop:
        loop.call_soon(lambda: seen.append(asyncio.get_running_loop()))
        loop.settle()

        assert [loop] == seen
        assert not loop.is_running()
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()


def test_a_step_inside_a_running_loop_is_refused() -> None:
    """Loops do not nest, as in asyncio."""
    with StepLoop() as loop:
        loop.call_soon(loop.call_soon, int)
        loop.call_soon(loop.settle)
        loop.settle()

        assert 1 == len(loop.failures)
        assert "already running" in loop.failures[0]


@pytest.mark.skipif(not EAGER, reason="eager tasks came with Python 3.12")
def test_eager_tasks_start_at_once() -> None:
    """With the eager factory a task takes its first step where it is created."""
    seen: list[str] = []

    async def child() -> None:
        seen.append("child")

    async def main() -> None:
        task = asyncio.create_task(child())
        seen.append("main")
        await task

    with StepLoop() as loop:
        loop.set_task_factory(asyncio.eager_task_factory)
        loop.run(main())

    assert ["child", "main"] == seen


def test_it_keeps_what_asyncio_would_log() -> None:
    """An error in a callback is kept as text, and the loop goes on."""
    seen: list[int] = []
    with StepLoop() as loop:
        loop.call_soon(int, "x")
        loop.call_soon(seen.append, 1)
        loop.settle()

        assert [1] == seen
        assert 1 == len(loop.failures)
        assert "ValueError" in loop.failures[0]


def test_leaving_the_block_ends_the_tasks() -> None:
    """Tasks that are left are cancelled and end, and nothing complains."""
    seen: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            seen.append("ended")

    with StepLoop() as loop:
        loop.create_task(forever())
        loop.settle()
    gc.collect()

    assert ["ended"] == seen
    assert loop.is_closed()
    assert [] == loop.failures


def test_closing_drops_the_tasks() -> None:
    """A plain close runs nothing any more, as that of asyncio."""
    loop = StepLoop()
    loop.call_soon(int, "x")
    loop.close()

    assert [] == loop.failures
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon_threadsafe(int)


@pytest.mark.parametrize("debug", [False, True])
def test_a_runner_takes_it(debug: bool) -> None:
    """`asyncio.Runner` works with it, with and without debug mode."""
    with asyncio.Runner(loop_factory=StepLoop, debug=debug) as runner:
        assert "x" == runner.run(asyncio.sleep(5, "x"))
