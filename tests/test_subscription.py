"""Subscriptions: one queue of one's own, complete, in order, and honest about what it loses."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Literal

import pytest

from statestore import (
    Key,
    LaggedError,
    Store,
    StoreClosedError,
    Subscription,
    SubscriptionError,
    Transition,
    Values,
    ValueWatcher,
    WaitTimeoutError,
)
from statestore._queues import ChainQueue, Ring
from statestore._streams import YIELD_EVERY
from statestore.testing import StepLoop

Overflow = Literal["raise", "latest"]


def record(old: object, new: object, revision: int, missed: int = 0) -> Transition[Any]:
    """Make the record that a subscription to a watcher with the default name gives."""
    return Transition(key="value", old=old, new=new, revision=revision, missed=missed)


def drain(subscription: Subscription[Any] | Values[Any]) -> list[Any]:
    """Take all that is there."""
    taken = []
    while True:
        try:
            taken.append(subscription.get_nowait())
        except asyncio.QueueEmpty:
            return taken


def set_all(watcher: ValueWatcher[int], values: range) -> None:
    """Set *values*, one after the other."""
    for value in values:
        watcher.value = value


def objects_kept_by(function: Callable[[], object]) -> int:
    """Count the containers that are there after *function* and were not before."""
    gc.collect()
    before = len(gc.get_objects())
    function()
    gc.collect()
    return len(gc.get_objects()) - before


def in_thread(function: Callable[[], object]) -> None:
    """Run *function* in another thread, to its end."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def drop(things: list[Any]) -> None:
    """Let go of *things*, and have them collected."""
    things.clear()
    gc.collect()


@pytest.fixture
def loop() -> Iterator[StepLoop]:
    """Give a loop that moves only when told to."""
    with StepLoop() as loop:
        yield loop


# -- order and completeness ------------------------------------------------------------------------


async def test_iteration_gives_every_transition_in_order() -> None:
    """Each transition since the opening comes once, with its old value and its revision."""
    state = ValueWatcher(0)
    state.value = 1
    with state.subscribe() as sub:
        set_all(state, range(2, 5))
        taken = [await anext(sub) for _ in range(3)]
    assert [record(1, 2, 2), record(2, 3, 3), record(3, 4, 4)] == taken


async def test_no_transition_is_joined_with_its_way_back() -> None:
    """Away from a value and back are two transitions, also within one tick. P018."""
    state = ValueWatcher("a")
    with state.subscribe() as sub:
        state.value = "b"
        state.value = "a"
        assert [record("a", "b", 1), record("b", "a", 2)] == drain(sub)


async def test_setting_an_equal_value_gives_no_record() -> None:
    """What is no transition is not in the queue."""
    state = ValueWatcher("a")
    with state.subscribe() as sub:
        state.value = "a"
        assert [] == drain(sub)


async def test_revisions_of_other_keys_lie_in_between() -> None:
    """The revisions of one key rise, but are those of the whole store."""

    class App(Store):
        left = Key(0)
        right = Key(0)

    app = App()
    with app.left.subscribe() as sub:
        app.left.value = 1
        app.right.value = 1
        app.left.value = 2
        assert [("left", 1), ("left", 3)] == [(t.key, t.revision) for t in drain(sub)]


@pytest.mark.parametrize("count", [1, 4])
async def test_sets_from_threads_come_in_the_order_of_revisions(count: int) -> None:
    """Whatever threads set, the stream is one chain: each record begins where the last ended."""
    state = ValueWatcher[object](0)
    barrier = threading.Barrier(count)

    def work(number: int) -> None:
        barrier.wait()
        for turn in range(500):
            state.value = (number, turn)

    with state.subscribe() as sub:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        taken = [await anext(sub) for _ in range(500 * count)]
        for thread in threads:
            thread.join()
        assert [] == drain(sub)
    assert list(range(1, 500 * count + 1)) == [t.revision for t in taken]
    assert [0, *(t.new for t in taken[:-1])] == [t.old for t in taken]


async def test_each_subscription_has_a_queue_of_its_own() -> None:
    """What one takes is still there for the others, and each begins at its own opening."""
    state = ValueWatcher(0)
    with state.subscribe() as first:
        state.value = 1
        with state.subscribe() as second:
            state.value = 2
            assert [1, 2] == [t.new for t in drain(first)]
            assert [2] == [t.new for t in drain(second)]


async def test_a_parked_reader_is_woken_by_a_set_from_a_thread() -> None:
    """The reader sleeps until there is something, wherever it comes from."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        reader = asyncio.ensure_future(anext(sub))
        await asyncio.sleep(0)
        assert not reader.done()
        in_thread(lambda: state.set(1))
        assert record(0, 1, 1) == await reader


# -- initial ---------------------------------------------------------------------------------------


async def test_initial_puts_the_current_value_in_front() -> None:
    """With *initial*, the first record has the current value as old and new, and its revision."""
    state = ValueWatcher("a")
    state.value = "b"
    with state.subscribe(initial=True) as sub:
        state.value = "c"
        assert 2 == sub.pending
        first = await anext(sub)
        assert record("b", "b", 1) == first
        assert first.old is first.new
        assert record("b", "c", 2) == await anext(sub)


async def test_initial_is_given_by_get_nowait_too() -> None:
    """The initial record is in the queue as any other."""
    with ValueWatcher("a").subscribe(initial=True) as sub:
        assert [record("a", "a", 0)] == drain(sub)


# -- waits on the same queue -----------------------------------------------------------------------


async def test_waits_take_from_the_queue_so_nothing_is_lost_between_them() -> None:
    """The second wait starts right behind the match of the first one. P016."""
    state = ValueWatcher("off")
    with state.subscribe() as sub:
        for value in ("on", "busy", "on", "off"):
            state.value = value
        assert "busy" == await sub.wait_for("busy")
        assert "on" == await sub.wait_for("on")
        assert [record("on", "off", 4)] == drain(sub)


async def test_two_waits_on_the_watcher_miss_what_a_subscription_finds() -> None:
    """Waits on the watcher itself start anew each time; what came in between is gone. P016."""
    state = ValueWatcher("off")
    with state.subscribe() as sub:
        state.value = "on"
        state.value = "off"
        with pytest.raises(WaitTimeoutError):
            await state.wait_for("on", timeout=0)
        assert "on" == await sub.wait_for("on", timeout=0)


async def test_a_wait_returns_the_value_that_matched_not_the_current_one() -> None:
    """The value is the one that the predicate accepted, though the watcher has moved on. P019."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        set_all(state, range(1, 6))
        assert 3 == await sub.wait_until(lambda value: value >= 3)
        assert 5 == state.value


async def test_a_parked_wait_returns_the_value_that_matched() -> None:
    """The same holds for a wait that was asleep while the values came. P019."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        waiting = asyncio.ensure_future(sub.wait_until(lambda value: value >= 3))
        await asyncio.sleep(0)
        set_all(state, range(1, 6))
        assert 3 == await waiting
        assert [4, 5] == [t.new for t in drain(sub)]


async def test_immediate_looks_at_the_value_of_the_opening() -> None:
    """Before anything is taken, a wait looks at the value of the opening, not the current one."""
    state = ValueWatcher("a")
    with state.subscribe() as sub:
        state.value = "b"
        assert "a" == await sub.wait_for("a", timeout=0)
        assert 1 == sub.pending


async def test_immediate_looks_at_the_value_last_taken() -> None:
    """A wait stands where the last record that was taken led to."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        set_all(state, range(1, 4))
        await anext(sub)
        assert 1 == await sub.wait_for(1, timeout=0)
        assert 2 == sub.pending


async def test_without_immediate_a_wait_needs_a_transition() -> None:
    """With `immediate=False` the value at the place of the subscription does not count."""
    state = ValueWatcher("a")
    with state.subscribe() as sub:
        state.value = "b"
        state.value = "a"
        state.value = "c"
        assert "a" == await sub.wait_for("a", immediate=False)
        assert [record("a", "c", 3)] == drain(sub)


async def test_each_kind_of_wait_reads_the_queue() -> None:
    """All waits of a watcher are there, and each goes on where the one before it stopped."""
    state = ValueWatcher[int | None](None)
    with state.subscribe() as sub:
        for value in (1, 2, 3, None, 4):
            state.value = value
        assert 1 == await sub.wait_for_not_none()
        assert 2 == await sub.wait_for_not(1)
        assert 3 == await sub.wait_for_change()
        assert None is await sub.wait_for(None)
        assert 4 == await sub.wait_until(lambda value: value == 4)


async def test_a_wait_passes_over_the_initial_record() -> None:
    """The initial record is taken by a wait that goes past it."""
    state = ValueWatcher(0)
    with state.subscribe(initial=True) as sub:
        state.value = 1
        assert 1 == await sub.wait_for(1)
        assert [] == drain(sub)


async def test_a_predicate_that_raises_does_so_at_its_place() -> None:
    """The wait raises what the predicate raised; the next read goes on behind that record."""
    state = ValueWatcher(1)

    def is_large(value: int) -> bool:
        return 10 / value > 5

    with state.subscribe() as sub:
        for value in (2, 0, 5, 1):
            state.value = value
        with pytest.raises(ZeroDivisionError):
            await sub.wait_until(is_large, immediate=False)
        assert record(0, 5, 3) == await anext(sub)
        assert 1 == await sub.wait_until(is_large, immediate=False)


async def test_a_wait_can_go_on_after_a_predicate_that_raised() -> None:
    """The failed wait does not count as a reader any more."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        with pytest.raises(ZeroDivisionError):
            await sub.wait_until(lambda value: 1 / value)
        state.value = 1
        assert 1 == await sub.wait_for(1)


async def test_a_timeout_takes_what_it_passed_over() -> None:
    """A wait that timed out has looked at all records, and tells which value it saw last."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        set_all(state, range(1, 4))
        with pytest.raises(WaitTimeoutError) as caught:
            await sub.wait_for(9, timeout=0)
        assert [] == drain(sub)
    assert ("value", 3, 3) == (caught.value.key, caught.value.value, caught.value.revision)


def test_a_wait_times_out_when_its_time_is_over(loop: StepLoop) -> None:
    """The deadline counts from the call, whatever other values come in between."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        waiting = loop.create_task(sub.wait_for(9, timeout=10))
        loop.advance(9)
        state.value = 1
        loop.advance(0.5)
        assert not waiting.done()
        loop.advance(0.5)
        with pytest.raises(WaitTimeoutError):
            waiting.result()
    assert [] == loop.timers()


def test_a_match_before_the_deadline_is_found_on_a_late_loop(loop: StepLoop) -> None:
    """A value committed before the deadline is returned, however late the loop gets to it."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        waiting = loop.create_task(sub.wait_for(1, timeout=10))
        loop.settle()
        state.value = 1
        loop.fall_behind(60)
        loop.settle()
        assert 1 == waiting.result()


@pytest.mark.parametrize("timeout", [0, -1, float("-inf")])
def test_a_wait_without_time_only_looks(loop: StepLoop, timeout: float) -> None:
    """A timeout of 0 or less does not suspend: the wait is over in its first step."""
    with ValueWatcher(0).subscribe() as sub:
        for _ in range(2 * YIELD_EVERY):
            waiting = loop.create_task(sub.wait_for(1, timeout=timeout))
            loop.step()
            assert isinstance(waiting.exception(), WaitTimeoutError)


async def test_a_wait_refuses_a_timeout_that_is_no_number() -> None:
    """A bad timeout is refused before anything is taken."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        state.value = 1
        with pytest.raises(ValueError, match="NaN"):
            await sub.wait_for(9, timeout=float("nan"))
        with pytest.raises(TypeError, match="timeout must be a number"):
            await sub.wait_for(9, timeout="1")  # type: ignore[arg-type]
        assert 1 == sub.pending


# -- get_nowait and pending ------------------------------------------------------------------------


async def test_get_nowait_sees_the_same_tick() -> None:
    """What was committed before the call is there, without a turn of the loop."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        state.value = 1
        assert record(0, 1, 1) == sub.get_nowait()


async def test_get_nowait_raises_when_nothing_is_there() -> None:
    """An empty queue is `asyncio.QueueEmpty`, as of asyncio's own queues."""
    with ValueWatcher(0).subscribe() as sub, pytest.raises(asyncio.QueueEmpty):
        sub.get_nowait()


@pytest.mark.parametrize("maxlen", [None, 5])
async def test_get_nowait_refuses_a_closed_subscription(maxlen: int | None) -> None:
    """What a closed subscription held is gone, and nothing new comes in."""
    state = ValueWatcher(0)
    sub = state.subscribe(maxlen=maxlen)
    state.value = 1
    sub.close()
    state.value = 2
    assert 0 == sub.pending
    with pytest.raises(SubscriptionError, match="gives nothing any more"):
        sub.get_nowait()


async def test_get_nowait_gives_the_rest_of_a_closed_store() -> None:
    """After the end of the store, what was held comes first, then the error."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        state.value = 1
        state.close()
        assert record(0, 1, 1) == sub.get_nowait()
        with pytest.raises(StoreClosedError, match="everything before that was delivered"):
            sub.get_nowait()


async def test_get_nowait_works_beside_a_parked_reader() -> None:
    """What it takes, the parked reader does not get; that one sleeps on."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        reader = asyncio.ensure_future(anext(sub))
        await asyncio.sleep(0)
        state.value = 1
        assert record(0, 1, 1) == sub.get_nowait()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not reader.done()
        state.value = 2
        assert record(1, 2, 2) == await reader


async def test_pending_counts_what_can_be_taken() -> None:
    """`pending` is the number of records that wait, initial one included."""
    state = ValueWatcher(0)
    with state.subscribe(initial=True) as sub:
        assert 1 == sub.pending
        set_all(state, range(1, 4))
        assert 4 == sub.pending
        sub.get_nowait()
        sub.get_nowait()
        assert 2 == sub.pending
    assert 0 == sub.pending


# -- bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("maxlen", [0, -1])
async def test_a_bound_is_at_least_one(maxlen: int) -> None:
    """A queue that could hold nothing is refused."""
    with pytest.raises(ValueError, match="maxlen must be at least 1"):
        ValueWatcher(0).subscribe(maxlen=maxlen)


@pytest.mark.parametrize("maxlen", [1.5, "3", True])
async def test_a_bound_is_a_whole_number(maxlen: Any) -> None:
    """What is no number is refused, and a bool is none."""
    with pytest.raises(TypeError, match="maxlen must be a whole number or None"):
        ValueWatcher(0).subscribe(maxlen=maxlen)


@pytest.mark.parametrize("maxlen", [None, 3])
@pytest.mark.parametrize("overflow", ["drop", None, 1])
async def test_an_unknown_overflow_is_refused(maxlen: int | None, overflow: Any) -> None:
    """*overflow* is one of two words, also where it would not matter."""
    with pytest.raises(ValueError, match="overflow must be 'raise' or 'latest'"):
        ValueWatcher(0).subscribe(maxlen=maxlen, overflow=overflow)


async def test_a_refused_bound_leaves_nothing_behind() -> None:
    """A subscription that was refused is not fed."""
    state = ValueWatcher(0)
    with pytest.raises(ValueError, match="maxlen"):
        state.subscribe(maxlen=0)
    assert state._listeners is None


@pytest.mark.parametrize("overflow", ["raise", "latest"])
async def test_a_queue_that_never_overflows_loses_nothing(overflow: Overflow) -> None:
    """Up to its bound a bounded queue is like any other."""
    state = ValueWatcher(0)
    with state.subscribe(maxlen=3, overflow=overflow) as sub:
        for start in (1, 4, 7):
            set_all(state, range(start, start + 3))
            assert 3 == sub.pending
            assert [record(v - 1, v, v) for v in range(start, start + 3)] == drain(sub)


async def test_a_loss_is_told_once_at_its_place_then_the_oldest_kept() -> None:
    """`LaggedError` says how many were lost, and which; the next read goes on. P094."""
    state = ValueWatcher(0)
    with state.subscribe(maxlen=3) as sub:
        set_all(state, range(1, 11))
        with pytest.raises(LaggedError) as caught:
            await anext(sub)
        assert [record(v - 1, v, v) for v in (8, 9, 10)] == drain(sub)
    error = caught.value
    assert (7, 1, 7, 10) == (error.missed, error.first_revision, error.last_revision, error.value)
    assert "lost 7 of its records, revisions 1 to 7" in str(error)


async def test_what_was_delivered_does_not_count_as_missed() -> None:
    """Only what was not taken before is lost, and a second loss is told anew. P094."""
    state = ValueWatcher(0)
    told = []
    with state.subscribe(maxlen=2) as sub:
        for start in (1, 11):
            state.value = start
            assert start == (await anext(sub)).new
            set_all(state, range(start + 1, start + 6))
            with pytest.raises(LaggedError) as caught:
                sub.get_nowait()
            told.append((caught.value.missed, caught.value.first_revision))
            assert [start + 4, start + 5] == [t.new for t in drain(sub)]
    assert [(3, 2), (3, 8)] == told


async def test_a_loss_comes_before_what_is_kept_also_for_the_store_end() -> None:
    """A store that was closed delivers the loss, then what is held, then ends."""
    state = ValueWatcher(0)
    with state.subscribe(maxlen=1) as sub:
        set_all(state, range(1, 4))
        state.close()
        with pytest.raises(LaggedError):
            await anext(sub)
        assert [3] == [t.new async for t in sub]


async def test_the_value_of_a_loss_is_the_newest() -> None:
    """What to go on from is the value at the time of the error, not that of the loss."""
    state = ValueWatcher(0)
    with state.subscribe(maxlen=1) as sub:
        set_all(state, range(1, 3))
        state.value = 7
        with pytest.raises(LaggedError) as caught:
            sub.get_nowait()
        assert 7 == caught.value.value


async def test_a_wait_raises_the_loss_at_its_place_and_can_go_on() -> None:
    """A wait does not skip a loss in silence; the next one looks on behind it."""
    state = ValueWatcher(0)
    with state.subscribe(maxlen=2) as sub:
        set_all(state, range(1, 6))
        with pytest.raises(LaggedError):
            await sub.wait_for(5)
        assert 5 == await sub.wait_for(5, timeout=0)


async def test_after_a_loss_a_wait_stands_right_before_the_oldest_kept() -> None:
    """With `immediate`, a wait looks at the value from which the oldest kept record starts."""
    state = ValueWatcher(0)
    with state.subscribe(maxlen=2) as sub:
        set_all(state, range(1, 6))
        with pytest.raises(LaggedError):
            sub.get_nowait()
        assert 3 == await sub.wait_for(3, timeout=0)
        assert 2 == sub.pending


async def test_latest_joins_at_the_new_end() -> None:
    """What does not fit is one record from the last value kept to the newest. P094."""
    state = ValueWatcher(0)
    with state.subscribe(maxlen=2, overflow="latest") as sub:
        set_all(state, range(1, 6))
        assert 2 == sub.pending
        assert [record(0, 1, 1), record(1, 5, 5, missed=3)] == drain(sub)


async def test_latest_of_one_leads_from_the_value_last_delivered() -> None:
    """With room for one, the record goes from the value last taken to the newest."""
    state = ValueWatcher(0)
    with state.subscribe(maxlen=1, overflow="latest") as sub:
        set_all(state, range(1, 4))
        assert record(0, 3, 3, missed=2) == sub.get_nowait()
        set_all(state, range(4, 6))
        assert record(3, 5, 5, missed=1) == sub.get_nowait()


async def test_a_joined_record_that_came_back_is_delivered() -> None:
    """A joined record whose new value is its old one says that something happened."""
    state = ValueWatcher("a")
    with state.subscribe(maxlen=1, overflow="latest") as sub:
        state.value = "b"
        state.value = "a"
        assert record("a", "a", 2, missed=1) == await anext(sub)


async def test_a_bounded_queue_never_blocks_the_setter_and_stays_small() -> None:
    """A burst in one tick keeps no more cells alive than the bound. P094."""
    state = ValueWatcher(0)
    with state.subscribe(maxlen=10) as sub, state.subscribe(maxlen=10, overflow="latest") as joined:
        made = objects_kept_by(lambda: set_all(state, range(1, 100_001)))
        assert 10 == sub.pending == joined.pending
        assert made < 200
        with pytest.raises(LaggedError) as caught:
            sub.get_nowait()
        assert 99_990 == caught.value.missed
        assert 99_990 == drain(joined)[-1].missed


@pytest.mark.parametrize(
    "open_one",
    [
        lambda state: state.subscribe(maxlen=10),
        lambda state: state.subscribe(maxlen=10, overflow="latest"),
        lambda state: state.values(latest=True),
    ],
)
async def test_a_bounded_queue_stays_small_behind_a_parked_reader(
    open_one: Callable[[ValueWatcher[int]], Subscription[int] | Values[int]],
) -> None:
    """A reader that sleeps while the burst comes keeps no more alive than the bound."""
    state = ValueWatcher(0)
    with open_one(state) as sub:
        drain(sub)
        reader = asyncio.ensure_future(anext(sub))
        await asyncio.sleep(0)
        made = objects_kept_by(lambda: set_all(state, range(1, 20_001)))
        await asyncio.wait([reader])
        assert not reader.cancelled()
        assert reader.exception() is None or isinstance(reader.exception(), LaggedError)
    assert made < 200


# -- values() --------------------------------------------------------------------------------------


async def test_values_gives_the_current_value_then_each_new_one() -> None:
    """Iterating over the values misses none."""
    state = ValueWatcher(0)
    with state.values() as values:
        set_all(state, range(1, 4))
        assert [0, 1, 2, 3] == [await anext(values) for _ in range(4)]


async def test_values_begins_when_it_is_called() -> None:
    """What is set between the call and the first read is not missed."""
    state = ValueWatcher(0)
    values = state.values()
    state.value = 1
    assert [0, 1] == drain(values)


async def test_latest_values_skip_to_the_newest() -> None:
    """With *latest*, of several new values only the newest is given. P094."""
    state = ValueWatcher(0)
    with state.values(latest=True) as values:
        assert 0 == await anext(values)
        set_all(state, range(1, 4))
        assert 1 == values.pending
        assert 3 == await anext(values)
        assert 0 == values.pending
        with pytest.raises(asyncio.QueueEmpty):
            values.get_nowait()
        state.value = 4
        assert 4 == values.get_nowait()


async def test_latest_values_wake_a_parked_reader() -> None:
    """A reader that has the newest value sleeps until there is a newer one."""
    state = ValueWatcher(0)
    with state.values(latest=True) as values:
        assert 0 == await anext(values)
        reader = asyncio.ensure_future(anext(values))
        await asyncio.sleep(0)
        assert not reader.done()
        set_all(state, range(1, 4))
        assert 3 == await reader


@pytest.mark.parametrize("latest", [False, True])
async def test_values_end_with_the_store(latest: bool) -> None:
    """After the last value of a store that was closed, the iteration is over."""
    state = ValueWatcher(0)
    values = state.values(latest=latest)
    assert 0 == await anext(values)
    state.value = 1
    state.close()
    assert [1] == [value async for value in values]


async def test_latest_values_hold_nothing_of_the_chain() -> None:
    """What was skipped is not kept alive for a reader that does not come."""
    state = ValueWatcher(0)
    with state.values(latest=True) as values:
        await anext(values)
        made = objects_kept_by(lambda: set_all(state, range(1, 20_001)))
        assert 20_000 == values.get_nowait()
    assert made < 200


@pytest.mark.parametrize("latest", [False, True])
async def test_values_may_be_dropped_without_a_warning(latest: bool) -> None:
    """An iteration over values ends when it is left; there is nothing to forget."""
    state = ValueWatcher(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async for value in state.values(latest=latest):
            assert 0 == value
            break
        gc.collect()
    assert [] == caught


async def test_closed_values_end() -> None:
    """Values that were closed give nothing more, whatever is set afterwards."""
    state = ValueWatcher(0)
    values = state.values(latest=True)
    values.close()
    state.value = 1
    assert [] == [value async for value in values]


# -- who may read ----------------------------------------------------------------------------------


async def test_a_second_reader_is_refused_at_once() -> None:
    """Two tasks cannot read one subscription; the second is told, the first loses nothing. P024."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        reader = asyncio.ensure_future(anext(sub))
        await asyncio.sleep(0)
        with pytest.raises(SubscriptionError, match="is being read elsewhere"):
            await anext(sub)
        with pytest.raises(SubscriptionError, match="is being read elsewhere"):
            await sub.wait_for(1)
        state.value = 1
        assert record(0, 1, 1) == await reader


async def test_a_subscription_may_move_from_task_to_task() -> None:
    """Tasks of one loop may read one after the other. P037."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        set_all(state, range(1, 3))
        first = await asyncio.create_task(sub.wait_for(1))
        second = await asyncio.create_task(sub.wait_for(2))
        assert [1, 2] == [first, second]


def test_another_loop_is_refused() -> None:
    """A subscription belongs to the loop on which it was opened. P036."""
    state = ValueWatcher(0)
    opened: list[Subscription[int]] = []

    async def open_one() -> None:
        opened.append(state.subscribe())

    async def read_it() -> None:
        for read in (anext(opened[0]), opened[0].wait_for(1)):
            with pytest.raises(SubscriptionError, match="belongs to another event loop"):
                await read
        # A refused read is none: the next one is refused for the same reason.
        with pytest.raises(SubscriptionError, match="belongs to another event loop"):
            await anext(opened[0])

    asyncio.run(open_one())
    state.value = 1
    asyncio.run(read_it())
    assert record(0, 1, 1) == opened[0].get_nowait()
    opened[0].close()


def test_a_store_serves_one_loop_after_the_other() -> None:
    """A store belongs to no loop: made in one, it goes on in the next. P036."""
    states: list[ValueWatcher[int]] = []

    async def make() -> None:
        states.append(ValueWatcher(0))
        assert 0 == await states[0].wait_for(0)

    async def use(value: int) -> int:
        with states[0].subscribe() as sub:
            states[0].value = value
            return await sub.wait_for(value)

    asyncio.run(make())
    assert [1, 2] == [asyncio.run(use(1)), asyncio.run(use(2))]


def test_opened_without_a_loop_it_belongs_to_the_first_that_reads() -> None:
    """A subscription from a plain thread is adopted by the loop that reads it first. P036."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        set_all(state, range(1, 3))

        async def read() -> int:
            return (await anext(sub)).new

        assert 1 == asyncio.run(read())
        with pytest.raises(SubscriptionError, match="belongs to another event loop"):
            asyncio.run(read())


async def test_a_subscription_is_neither_true_nor_false() -> None:
    """`if sub:` is a slip, and says so."""
    with (
        ValueWatcher(0).subscribe() as sub,
        pytest.raises(TypeError, match="did you mean its `pending`"),
    ):
        bool(sub)


async def test_the_repr_tells_kind_state_and_key() -> None:
    """The repr names what it is, of what, and whether it is open."""
    sub = ValueWatcher(0, name="port").subscribe()
    assert "<open Subscription of 'port'>" == repr(sub)
    sub.close()
    assert "<closed Subscription of 'port'>" == repr(sub)


# -- cancellation and fairness ---------------------------------------------------------------------


def test_a_second_reader_is_refused_after_quick_reads(loop: StepLoop) -> None:
    """That a record could be taken at once lets nobody in while another task sleeps."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        state.value = 1
        assert record(0, 1, 1) == loop.run(sub.__anext__())
        first = loop.create_task(sub.__anext__())
        loop.settle()
        second = loop.create_task(sub.__anext__())
        loop.settle()
        assert isinstance(second.exception(), SubscriptionError)
        state.value = 2
        loop.settle()
        assert record(1, 2, 2) == first.result()


def test_a_cancelled_read_takes_nothing(loop: StepLoop) -> None:
    """A read that is cancelled while its record is there leaves it at the head. P001."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        reader = loop.create_task(anext(sub))  # type: ignore[arg-type]
        loop.settle()
        state.value = 1
        assert reader.cancel()
        loop.settle()
        assert reader.cancelled()
        assert [record(0, 1, 1)] == drain(sub)


def test_a_cancelled_wait_leaves_the_match(loop: StepLoop) -> None:
    """A wait that is cancelled does not take what it would have returned. P001."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        waiting = loop.create_task(sub.wait_for(1))
        loop.settle()
        state.value = 1
        assert waiting.cancel()
        loop.settle()
        assert waiting.cancelled()
        assert [record(0, 1, 1)] == drain(sub)


def test_a_read_cancelled_while_it_yields_takes_nothing(loop: StepLoop) -> None:
    """Where a read lets the others go first, it has not taken anything yet."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        set_all(state, range(1, YIELD_EVERY + 2))
        for _ in range(YIELD_EVERY):
            loop.run(anext(sub))  # type: ignore[arg-type]
        reader = loop.create_task(anext(sub))  # type: ignore[arg-type]
        loop.step()
        assert not reader.done()
        reader.cancel()
        loop.settle()
        assert reader.cancelled()
        assert [YIELD_EVERY + 1] == [t.new for t in drain(sub)]


async def test_a_wait_stands_where_iteration_has_read_to() -> None:
    """It looks first at the value that was taken last, however that was read. P001."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        set_all(state, range(1, 5))
        for value in range(1, 4):
            assert value == (await anext(sub)).new
            assert value == await sub.wait_for(value, timeout=0)
        assert 4 == (await anext(sub)).new
        sub.close()
        assert 4 == sub._at[0]


async def test_a_cancelled_reader_makes_room_for_another() -> None:
    """After a cancelled read the subscription can be read again."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        reader = asyncio.ensure_future(anext(sub))
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.wait([reader])
        state.value = 1
        assert record(0, 1, 1) == await anext(sub)


def beats_while(loop: StepLoop, main: Any) -> int:
    """Count the turns that another task gets until *main* is over."""
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while not task.done():
            beats += 1
            await asyncio.sleep(0)

    task = loop.create_task(main)
    loop.run(beat())
    task.result()
    return beats


def test_iteration_over_a_backlog_yields_to_the_loop(loop: StepLoop) -> None:
    """At least every 64 records, the others get a turn. P097."""
    state = ValueWatcher(0)

    async def read() -> None:
        for _ in range(1_000):
            await anext(sub)

    with state.subscribe() as sub:
        set_all(state, range(1, 1_001))
        assert beats_while(loop, read()) >= 1_000 // 64


def test_one_wait_over_a_backlog_yields_to_the_loop(loop: StepLoop) -> None:
    """A wait that passes over many records lets the others in between. P097."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        set_all(state, range(1, 1_001))
        assert beats_while(loop, sub.wait_for(1_000)) >= 1_000 // 64


def test_many_waits_over_a_backlog_yield_to_the_loop(loop: StepLoop) -> None:
    """Waits that each find their match at once do not starve the others either. P097."""
    state = ValueWatcher(0)

    async def read() -> None:
        for _ in range(1_000):
            await sub.wait_for_change()

    with state.subscribe() as sub:
        set_all(state, range(1, 1_001))
        assert beats_while(loop, read()) >= 1_000 // 64


# -- the end ---------------------------------------------------------------------------------------


async def test_leaving_the_with_block_closes() -> None:
    """After its block a subscription gives nothing any more."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        state.value = 1
    assert [] == [t async for t in sub]
    with pytest.raises(SubscriptionError, match="open a new one"):
        await sub.wait_for(1)


async def test_a_second_close_does_nothing() -> None:
    """Closing twice is as closing once."""
    sub = ValueWatcher(0).subscribe(maxlen=1)
    sub.close()
    sub.close()
    assert "<closed Subscription of 'value'>" == repr(sub)


@pytest.mark.parametrize("overflow", ["raise", "latest"])
async def test_a_closed_bounded_subscription_is_not_fed(overflow: Overflow) -> None:
    """With the last bounded subscription goes what it costs the setter."""
    state = ValueWatcher(0)
    sub = state.subscribe(maxlen=1, overflow=overflow)
    assert 1 == len(state._core.listen(state).rings)
    sub.close()
    assert {} == state._core.listen(state).rings


async def test_close_wakes_a_parked_iteration() -> None:
    """A task that sleeps in `async for` goes on as at the end."""
    sub = ValueWatcher(0).subscribe()

    async def read() -> list[Transition[int]]:
        return [t async for t in sub]

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    sub.close()
    assert [] == await reader


async def test_close_wakes_a_parked_wait() -> None:
    """A task that sleeps in a wait is told that the subscription was closed."""
    sub = ValueWatcher(0).subscribe()
    waiting = asyncio.create_task(sub.wait_for(1))
    await asyncio.sleep(0)
    sub.close()
    with pytest.raises(SubscriptionError, match="gives nothing any more"):
        await waiting


async def test_close_from_a_thread_wakes_the_reader() -> None:
    """`close()` may come from another thread than the loop's."""
    sub = ValueWatcher(0).subscribe()
    waiting = asyncio.create_task(sub.wait_for(1))
    await asyncio.sleep(0)
    in_thread(sub.close)
    with pytest.raises(SubscriptionError):
        await waiting


def test_close_right_before_the_reader_parks_is_not_missed(loop: StepLoop) -> None:
    """A close that comes after the reader looked, and before it sleeps, ends it all the same."""
    sub = ValueWatcher(0).subscribe()
    create = loop.create_future

    def create_future() -> asyncio.Future[Any]:
        in_thread(sub.close)
        return create()

    waiting = loop.create_task(sub.wait_for(1))
    loop.create_future = create_future  # type: ignore[method-assign]
    loop.settle()
    assert isinstance(waiting.exception(), SubscriptionError)


@pytest.mark.parametrize("maxlen", [None, 1])
@pytest.mark.parametrize("event", ["set", "close"])
def test_what_comes_right_before_the_reader_parks_is_not_missed(
    loop: StepLoop, maxlen: int | None, event: str
) -> None:
    """A set or the end that comes after the reader looked, and before it sleeps, wakes it."""
    state = ValueWatcher(0)
    create = loop.create_future

    def create_future() -> asyncio.Future[Any]:
        in_thread(state.close if event == "close" else lambda: state.set(1))
        return create()

    with state.subscribe(maxlen=maxlen) as sub:
        reader = loop.create_task(anext(sub, None))  # type: ignore[arg-type]
        loop.create_future = create_future  # type: ignore[method-assign]
        loop.settle()
        assert (None if event == "close" else record(0, 1, 1)) == reader.result()


def test_close_after_the_loop_was_closed() -> None:
    """A reader that was left on a loop that is closed is no obstacle to `close()`. P095."""
    state = ValueWatcher(0)
    loop = StepLoop()
    sub = state.subscribe()
    reader = loop.create_task(anext(sub))  # type: ignore[arg-type]
    loop.settle()
    loop.close()
    sub.close()
    state.value = 1
    assert {} == state._core.listen(state).ports
    # Nobody will run it any more; asyncio would report that at its end.
    reader._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine = reader.get_coro()
    assert coroutine is not None
    coroutine.close()


async def test_close_while_a_loss_is_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A close from a thread in the middle of a read that finds a loss does not spoil its error."""
    state = ValueWatcher(0)
    sub = state.subscribe(maxlen=1)
    set_all(state, range(1, 4))
    take = Ring.take

    def take_then_close(self: Ring) -> Any:
        taken = take(self)
        in_thread(sub.close)
        return taken

    monkeypatch.setattr(Ring, "take", take_then_close)
    with pytest.raises(LaggedError) as caught:
        sub.get_nowait()
    assert (2, 3) == (caught.value.missed, caught.value.value)


def test_what_a_forked_child_inherits_is_refused(loop: StepLoop) -> None:
    """Every use of a subscription from before the fork says so; closing it is allowed."""
    state = ValueWatcher(0)
    sub = state.subscribe()
    state.value = 1
    # What happens in the child.
    state._core.forget_consumers()
    with pytest.raises(SubscriptionError, match="opened before this process was forked"):
        sub.get_nowait()
    with pytest.raises(SubscriptionError, match="opened before this process was forked"):
        sub.pending
    with pytest.raises(SubscriptionError, match="opened before this process was forked"):
        loop.run(anext(sub))  # type: ignore[arg-type]
    sub.close()


async def test_a_closed_store_delivers_what_is_held_then_ends() -> None:
    """Iteration gives every transition before the end, and is over then."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        set_all(state, range(1, 4))
        state.close()
        assert [1, 2, 3] == [t.new async for t in sub]
        assert [] == [t async for t in sub]


async def test_a_closed_store_ends_a_parked_iteration() -> None:
    """A reader that sleeps when the store is closed goes on as at the end."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        reader = asyncio.ensure_future(anext(sub, None))
        await asyncio.sleep(0)
        state.close()
        assert None is await reader


async def test_a_wait_finds_a_match_from_before_the_end() -> None:
    """What is buffered is looked at first; only then comes the error."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        set_all(state, range(1, 4))
        state.close()
        assert 2 == await sub.wait_for(2)
        with pytest.raises(StoreClosedError, match="was closed during a wait for value to be 2"):
            await sub.wait_for(2, immediate=False)


@pytest.fixture
def set_and_close_after_take(monkeypatch: pytest.MonkeyPatch) -> ValueWatcher[int]:
    """Give a watcher that is set to 1 and closed right after a reader found nothing."""
    state = ValueWatcher(0)
    take = ChainQueue.take

    def take_then_end(self: ChainQueue) -> Any:
        taken = take(self)
        if taken is None and not state._core.closed:
            state.value = 1
            state.close()
        return taken

    monkeypatch.setattr(ChainQueue, "take", take_then_end)
    return state


@pytest.mark.parametrize(
    "read",
    [
        anext,
        lambda sub: sub.wait_for(1),
        lambda sub: sub.wait_for(1, timeout=1_000),
    ],
)
async def test_what_comes_right_before_the_end_is_delivered(
    set_and_close_after_take: ValueWatcher[int], read: Callable[[Subscription[int]], Any]
) -> None:
    """A transition and the end that come after a look at the queue are seen in order. P092."""
    with set_and_close_after_take.subscribe() as sub:
        assert await read(sub) in (1, record(0, 1, 1))
        assert [] == [t async for t in sub]


async def test_get_nowait_does_not_end_before_the_last_record(
    set_and_close_after_take: ValueWatcher[int],
) -> None:
    """What comes between its look at the queue and the end is there the next time. P092."""
    with set_and_close_after_take.subscribe() as sub:
        with pytest.raises(asyncio.QueueEmpty):
            sub.get_nowait()
        assert record(0, 1, 1) == sub.get_nowait()


# -- dropped without being closed ------------------------------------------------------------------


async def test_a_dropped_subscription_warns() -> None:
    """One that is collected without having been closed is a `ResourceWarning`. P093."""
    state = ValueWatcher(0)
    dropped = [state.subscribe()]
    with pytest.warns(ResourceWarning, match="of 'value'> was never closed"):
        drop(dropped)


async def test_a_dropped_subscription_is_not_fed_any_more() -> None:
    """With it goes its registration. P093."""
    state = ValueWatcher(0)
    dropped = [state.subscribe(maxlen=1)]
    with pytest.warns(ResourceWarning, match="never closed"):
        drop(dropped)
    assert {} == state._core.listen(state).rings


async def test_leaving_the_loop_by_break_deregisters() -> None:
    """`break` out of `async for` in a `with` block leaves nothing. P095."""
    state = ValueWatcher(0)
    with state.subscribe(maxlen=5) as sub:
        state.value = 1
        async for transition in sub:
            assert 1 == transition.new
            break
    assert ({}, {}) == (state._core.listen(state).rings, state._core.listen(state).ports)


async def test_a_broken_off_iteration_can_be_taken_up_again() -> None:
    """The subscription is no generator: after `break` the next read goes on. P095."""
    state = ValueWatcher(0)
    with state.subscribe() as sub:
        set_all(state, range(1, 3))
        async for _ in sub:
            break
        assert [2] == [t.new for t in drain(sub)]


def test_dropped_on_a_closed_loop_it_leaves_nothing() -> None:
    """Left open on a loop that ended, it warns and goes as soon as it is collected. P095."""
    state = ValueWatcher(0)

    dropped: list[object] = []

    async def leave_open() -> None:
        sub = state.subscribe(maxlen=1)
        dropped.append(sub)
        state.value = 1
        async for _ in sub:
            break

    asyncio.run(leave_open())
    with pytest.warns(ResourceWarning, match="never closed"):
        drop(dropped)
    assert ({}, {}) == (state._core.listen(state).rings, state._core.listen(state).ports)


async def test_no_warning_after_the_store_was_closed() -> None:
    """A subscription to a store that has ended has nothing left to forget."""
    state = ValueWatcher(0)
    dropped = [state.subscribe()]
    state.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        drop(dropped)
    assert [] == caught


@pytest.mark.parametrize("overflow", ["raise", "latest"])
def test_collected_within_a_commit_it_harms_nobody(overflow: Overflow) -> None:
    """A subscription that is collected while a setter feeds it breaks neither of them. P096."""
    state = ValueWatcher[object](0)
    taken = []

    class Closer:
        """A value whose end comes when the full queue drops it, and closes the subscription."""

        def __del__(self) -> None:
            sub.close()

    with state.subscribe() as other, closing(state.subscribe(maxlen=1, overflow=overflow)) as sub:
        state.value = Closer()
        other.get_nowait()
        for value in range(1, 4):
            state.value = value
            taken.append(other.get_nowait().new)
    assert [1, 2, 3] == taken


def test_closed_within_a_setters_pull_it_harms_nobody() -> None:
    """A close in the middle of a setter that feeds the queue does not break the setter. P096."""
    state = ValueWatcher(0)
    sub = state.subscribe(maxlen=1, overflow="latest")
    queue: Any = sub._queue

    def join(old: int, new: int) -> int:
        in_thread(sub.close)
        return new

    queue._join = join
    set_all(state, range(1, 4))
    assert 3 == state.value
    assert {} == state._core.listen(state).rings


def test_a_wait_ends_though_the_setter_never_does() -> None:
    """After its deadline a wait takes what was committed before it, and no more."""
    state = ValueWatcher(0)
    asked = 0

    def sets_again(value: int) -> bool:
        nonlocal asked
        asked += 1
        assert asked < 100
        state.value = value + 1
        return False

    async def main() -> None:
        with state.subscribe() as sub:
            state.value = 1
            with pytest.raises(WaitTimeoutError):
                await sub.wait_until(sets_again, immediate=False, timeout=0)

    asyncio.run(main())
    with state.blocking.subscribe() as sub:
        state.value = -1
        with pytest.raises(WaitTimeoutError):
            sub.wait_until(sets_again, immediate=False, timeout=0)

    assert 2 == asked


def test_the_opening_record_is_no_transition() -> None:
    """A wait passes over the record of `initial=True`: it waits for a change, and finds that."""

    async def main() -> None:
        state = ValueWatcher(0)
        with state.subscribe(initial=True) as sub:
            with pytest.raises(WaitTimeoutError):
                await sub.wait_for_change(timeout=0)
            state.value = 1
            assert 1 == await sub.wait_for_change()

    asyncio.run(main())


def test_latest_values_begin_with_the_newest() -> None:
    """`values(latest=True)` skips from the first on: to the value there is when it is read."""
    state = ValueWatcher(0)

    async def main() -> None:
        values = state.values(latest=True)
        state.value = 1
        assert 1 == values.pending
        assert 1 == await anext(values)
        assert 0 == values.pending

    asyncio.run(main())
    blocking = state.blocking.values(latest=True)
    state.value = 2
    assert 2 == next(blocking)


def test_an_opening_cut_short_leaves_nothing_to_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in the middle of opening a bounded subscription leaves no queue behind."""
    state = ValueWatcher(0)

    def cut_short(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("statestore._streams.AsyncStream._opened", cut_short)
    with pytest.raises(KeyboardInterrupt):
        state.subscribe(maxlen=1)

    assert {} == state._core.listen(state).rings


def test_a_close_cut_short_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in the middle of closing leaves it open, to be closed once more."""
    state = ValueWatcher(0)
    sub = state.subscribe(maxlen=1)
    close = Ring.close

    def cut_short(ring: Ring) -> None:
        monkeypatch.setattr(Ring, "close", close)
        raise KeyboardInterrupt

    monkeypatch.setattr(Ring, "close", cut_short)
    with pytest.raises(KeyboardInterrupt):
        sub.close()
    assert 1 == len(state._core.listen(state).rings)
    sub.close()

    assert {} == state._core.listen(state).rings
