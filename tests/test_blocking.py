"""Waiting in a thread: the same promises, for those who have no event loop."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from statestore import (
    BlockingError,
    BlockingSubscription,
    BlockingValues,
    LaggedError,
    StoreClosedError,
    SubscriptionError,
    Transition,
    ValueWatcher,
    WaitTimeoutError,
)
from statestore._mailbox import ThreadPort
from statestore._queues import ChainQueue
from support.threads import Job


@pytest.fixture
def state() -> Iterator[ValueWatcher[int]]:
    """Give a watcher to which nobody listens any more afterwards."""
    state = ValueWatcher(0)
    yield state
    listeners = state._core.listen(state)
    assert ({}, {}) == (listeners.ports, listeners.rings)


def drain(sub: BlockingSubscription[Any] | BlockingValues[Any]) -> list[Any]:
    """Take all that is there."""
    taken = []
    while True:
        try:
            taken.append(sub.get_nowait())
        except asyncio.QueueEmpty:
            return taken


# -- waits on a watcher ----------------------------------------------------------------------------


def test_a_wait_returns_at_once_if_the_value_is_there(state: ValueWatcher[int]) -> None:
    """With `immediate` the current value counts, and nothing blocks. P025."""
    assert 0 == state.blocking.wait_for(0)


def test_a_wait_blocks_until_another_thread_sets(
    state: ValueWatcher[int], parked: threading.Event
) -> None:
    """The thread sleeps until the value comes, and goes on for no other. P025."""
    job = Job(lambda: state.blocking.wait_for(3))
    parked.wait()
    for value in range(1, 6):
        state.value = value
    assert 3 == job.result()


def test_a_wait_returns_the_value_that_matched(
    state: ValueWatcher[int], parked: threading.Event
) -> None:
    """The value is the one that the predicate accepted, though the watcher has moved on. P019."""
    job = Job(lambda: state.blocking.wait_until(lambda value: value >= 2))
    parked.wait()
    for value in range(1, 6):
        state.value = value
    assert 2 == job.result()


def test_each_kind_of_wait_has_its_twin() -> None:
    """What a task can wait for, a thread can."""
    state = ValueWatcher[int | None](None)
    waits = state.blocking
    results = []

    def set_when_looked_at(value: int | None) -> Callable[[object], bool]:
        def look(current: object) -> bool:
            state.value = value
            return current == value

        return look

    assert None is waits.wait_for_not(1)
    results.append(waits.wait_until(set_when_looked_at(1)))
    results.append(waits.wait_for_not_none())
    results.append(waits.wait_for_not(None))
    results.append(waits.wait_for(1))
    assert [1, 1, 1, 1] == results


def test_wait_for_change_needs_a_transition(
    state: ValueWatcher[int], parked: threading.Event
) -> None:
    """The current value does not count; the next one does, whatever it is."""
    job = Job(state.blocking.wait_for_change)
    parked.wait()
    state.value = 7
    assert 7 == job.result()


def test_without_immediate_a_wait_needs_a_new_transition(
    state: ValueWatcher[int], parked: threading.Event
) -> None:
    """Away from the value and back again fulfils it. P017."""
    job = Job(lambda: state.blocking.wait_for(0, immediate=False))
    parked.wait()
    state.value = 1
    state.value = 0
    state.value = 2
    assert 0 == job.result()


@pytest.mark.parametrize("timeout", [0, 0.0, -1, float("-inf")])
@pytest.mark.parametrize("immediate", [True, False])
def test_a_wait_without_time_only_looks(
    state: ValueWatcher[int], timeout: float, immediate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timeout of 0 or less is a poll: it never blocks. P006 P007."""
    monkeypatch.delattr(ThreadPort, "park")
    with pytest.raises(WaitTimeoutError, match="in vain for value to be 1;"):
        state.blocking.wait_for(1, immediate=immediate, timeout=timeout)
    assert 0 == state.blocking.wait_for(0, timeout=timeout)


def test_a_wait_times_out(state: ValueWatcher[int]) -> None:
    """The error tells what was waited for and what the value was."""
    state.value = 5
    with pytest.raises(WaitTimeoutError) as caught:
        state.blocking.wait_for(1, timeout=0.001)
    error = caught.value
    assert ("value", "value to be 1", 5, 1, 0.001) == (
        error.key,
        error.waited_for,
        error.value,
        error.revision,
        error.timeout,
    )


def test_a_match_before_the_deadline_is_found_however_late(
    state: ValueWatcher[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was committed before the thread looks once more is returned, not timed out. P004."""

    def sleep_too_long(self: ThreadPort, cell: object, seconds: float | None) -> None:
        state.value = 1
        state.value = 2
        monkeypatch.setattr("time.monotonic", lambda: float("inf"))

    monkeypatch.setattr(ThreadPort, "park", sleep_too_long)
    assert 1 == state.blocking.wait_for(1, timeout=10)


@pytest.mark.parametrize("timeout", [None, float("inf"), 2 * threading.TIMEOUT_MAX, 1e300, 10**12])
def test_a_wait_may_take_very_long(
    state: ValueWatcher[int], parked: threading.Event, timeout: float | None
) -> None:
    """No length of time is too long, though the system's locks have a limit. P008."""
    job = Job(lambda: state.blocking.wait_for(1, timeout=timeout))
    parked.wait()
    state.value = 1
    assert 1 == job.result()


@pytest.mark.parametrize(
    ("timeout", "error"), [(float("nan"), ValueError), ("1", TypeError), (True, TypeError)]
)
def test_a_timeout_that_is_none_is_refused(
    state: ValueWatcher[int], timeout: Any, error: type[Exception]
) -> None:
    """It is refused before anything is registered, on the value that would match too. P009."""
    with pytest.raises(error, match="timeout"):
        state.blocking.wait_for(0, timeout=timeout)


def test_a_predicate_that_raises_ends_its_own_wait(
    state: ValueWatcher[int], parked: threading.Event
) -> None:
    """The wait raises it as it is; the setter never sees it. P056."""
    job = Job(lambda: state.blocking.wait_until(lambda value: value == 1 and 1 // 0))
    parked.wait()
    state.value = 1
    with pytest.raises(ZeroDivisionError):
        job.result()


def test_an_asynchronous_predicate_is_refused(state: ValueWatcher[int]) -> None:
    """A coroutine is never true."""

    async def predicate(value: int) -> bool:
        return True

    with pytest.raises(TypeError, match="must be a plain function"):
        state.blocking.wait_until(predicate)


def test_the_end_of_the_store_wakes_the_thread(
    state: ValueWatcher[int], parked: threading.Event
) -> None:
    """A thread that blocks is told that nothing comes any more. P092."""
    job = Job(lambda: state.blocking.wait_for(1))
    parked.wait()
    state.close()
    with pytest.raises(StoreClosedError, match="was closed during a wait for value to be 1"):
        job.result()


def test_what_came_before_the_end_is_found(
    state: ValueWatcher[int], parked: threading.Event
) -> None:
    """A match that is buffered when the store is closed is returned. P092."""
    job = Job(lambda: state.blocking.wait_for(1))
    parked.wait()
    state.value = 1
    state.value = 2
    state.close()
    assert 1 == job.result()


def test_a_wait_on_a_closed_store_ends_at_once(state: ValueWatcher[int]) -> None:
    """The current value still counts; nothing else can come."""
    state.close()
    assert 0 == state.blocking.wait_for(0)
    with pytest.raises(StoreClosedError):
        state.blocking.wait_for(1)


class NoGate:
    """What stands for a lock that nobody would ever release."""

    def acquire(self, timeout: float) -> bool:
        """Fail."""
        raise AssertionError("would sleep for ever")

    def release(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("event", ["set", "close"])
def test_what_comes_right_before_the_thread_parks_is_not_missed(
    state: ValueWatcher[int], monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    """A port is armed first; then the thread looks once more before it sleeps."""
    park = ThreadPort.park

    def act_then_park(self: ThreadPort, cell: list[Any], seconds: float | None) -> None:
        if event == "set":
            state.value = 1
        else:
            state.close()
        self._gate = NoGate()  # type: ignore[assignment]
        park(self, cell, seconds)

    monkeypatch.setattr(ThreadPort, "park", act_then_park)
    if event == "set":
        assert 1 == state.blocking.wait_for(1)
    else:
        with pytest.raises(StoreClosedError):
            state.blocking.wait_for(1)


def test_many_threads_wait_for_one_value(state: ValueWatcher[int]) -> None:
    """A set wakes all who wait for it."""
    jobs = [Job(lambda: state.blocking.wait_for(1)) for _ in range(8)]
    state.value = 1
    assert [1] * 8 == [job.result() for job in jobs]


def test_threads_hand_over_turn_by_turn(state: ValueWatcher[int]) -> None:
    """Two threads that wait for each other's sets never miss one."""

    def even() -> None:
        for turn in range(0, 200, 2):
            state.blocking.wait_for(turn)
            state.value = turn + 1

    def odd() -> None:
        for turn in range(1, 200, 2):
            state.blocking.wait_for(turn)
            state.value = turn + 1

    jobs = [Job(even), Job(odd)]
    for job in jobs:
        job.result()
    assert 200 == state.value


# -- on the thread of a loop -----------------------------------------------------------------------


async def test_every_wait_is_refused_on_the_thread_of_a_loop(state: ValueWatcher[int]) -> None:
    """It would stop the loop, even if the value is there already. P025."""
    waits = state.blocking
    for wait in (
        lambda: waits.wait_for(0),
        lambda: waits.wait_for_not(1),
        lambda: waits.wait_until(lambda value: True),
        waits.wait_for_change,
        waits.wait_for_not_none,
    ):
        with pytest.raises(BlockingError, match="would stop the event loop"):
            wait()


async def test_reading_is_refused_on_the_thread_of_a_loop(state: ValueWatcher[int]) -> None:
    """A refused read takes nothing, and `get_nowait()` is allowed: it does not block. P025."""
    with state.blocking.subscribe() as sub:
        state.value = 1
        with pytest.raises(BlockingError):
            next(sub)
        with pytest.raises(BlockingError):
            sub.wait_for(1)
        assert 1 == sub.get_nowait().new


async def test_a_thread_beside_the_loop_may_wait(state: ValueWatcher[int]) -> None:
    """`asyncio.to_thread()` is the way out. P025."""
    waiting = asyncio.create_task(asyncio.to_thread(state.blocking.wait_for, 1))
    state.value = 1
    assert 1 == await waiting


# -- subscriptions and values ----------------------------------------------------------------------


def test_a_thread_reads_every_transition(state: ValueWatcher[int]) -> None:
    """A plain `for` gives all records in order, and ends with the store."""
    with state.blocking.subscribe() as sub:
        job = Job(lambda: [t.new for t in sub])
        for value in range(1, 501):
            state.value = value
        state.close()
        assert list(range(1, 501)) == job.result()


def test_a_thread_that_reads_is_woken_for_each_burst(
    state: ValueWatcher[int], parked: threading.Event
) -> None:
    """It sleeps when there is nothing, and goes on when there is."""
    with state.blocking.subscribe() as sub:
        for value in range(1, 4):
            parked.clear()
            job = Job(lambda: next(sub))
            parked.wait()
            state.value = value
            assert Transition(key="value", old=value - 1, new=value, revision=value) == job.result()


def test_initial_and_pending_are_there(state: ValueWatcher[int]) -> None:
    """The blocking subscription takes the same arguments."""
    with state.blocking.subscribe(initial=True) as sub:
        state.value = 1
        assert 2 == sub.pending
        assert [(0, 0), (0, 1)] == [(t.old, t.new) for t in (next(sub), next(sub))]


def test_waits_of_a_subscription_take_from_its_queue(state: ValueWatcher[int]) -> None:
    """Nothing is lost between two waits, nor between a wait and a read. P016."""
    with state.blocking.subscribe() as sub:
        for value in (1, 2, 1, 3):
            state.value = value
        assert 0 == sub.wait_for(0)
        assert 1 == sub.wait_for(1)
        assert 1 == sub.wait_for(1, immediate=False)
        assert [3] == [t.new for t in drain(sub)]


def test_a_wait_of_a_subscription_blocks(state: ValueWatcher[int], parked: threading.Event) -> None:
    """It parks when the queue is empty, and takes what comes until it matches."""
    with state.blocking.subscribe() as sub:
        job = Job(lambda: sub.wait_until(lambda value: value >= 3, timeout=1e9))
        parked.wait()
        for value in range(1, 5):
            state.value = value
        assert 3 == job.result()
        assert [4] == [t.new for t in drain(sub)]


@pytest.mark.parametrize("timeout", [0, -1, 0.001])
def test_a_wait_of_a_subscription_times_out(state: ValueWatcher[int], timeout: float) -> None:
    """It has then looked at all there was, and taken it."""
    with state.blocking.subscribe() as sub:
        state.value = 1
        with pytest.raises(WaitTimeoutError) as caught:
            sub.wait_for(9, timeout=timeout)
        assert (1, 1) == (caught.value.value, caught.value.revision)
        assert 0 == sub.pending


def test_bounds_are_the_same(state: ValueWatcher[int]) -> None:
    """A loss is told at its place; joined records say how many they stand for. P094."""
    with (
        state.blocking.subscribe(maxlen=2) as sub,
        state.blocking.subscribe(maxlen=1, overflow="latest") as joined,
    ):
        for value in range(1, 6):
            state.value = value
        with pytest.raises(LaggedError) as caught:
            next(sub)
        assert (3, 1, 3, 5) == (
            caught.value.missed,
            caught.value.first_revision,
            caught.value.last_revision,
            caught.value.value,
        )
        assert [4, 5] == [t.new for t in drain(sub)]
        assert [(0, 5, 4)] == [(t.old, t.new, t.missed) for t in drain(joined)]


def test_a_second_thread_is_refused(state: ValueWatcher[int], parked: threading.Event) -> None:
    """One thread reads at a time; the second is told, the first loses nothing. P024."""
    with state.blocking.subscribe() as sub:
        job = Job(lambda: next(sub))
        parked.wait()
        with pytest.raises(SubscriptionError, match="is being read elsewhere"):
            next(sub)
        with pytest.raises(SubscriptionError, match="is being read elsewhere"):
            sub.wait_for(1)
        state.value = 1
        assert 1 == job.result().new


def test_a_subscription_may_move_from_thread_to_thread(state: ValueWatcher[int]) -> None:
    """Threads may read one after the other."""
    with state.blocking.subscribe() as sub:
        state.value = 1
        state.value = 2
        assert [1, 2] == [Job(lambda: next(sub)).result().new for _ in range(2)]


def test_close_wakes_a_thread_that_iterates(
    state: ValueWatcher[int], parked: threading.Event
) -> None:
    """A thread that sleeps in `for` goes on as at the end."""
    sub = state.blocking.subscribe()
    job = Job(lambda: list(sub))
    parked.wait()
    sub.close()
    assert [] == job.result()


def test_close_wakes_a_thread_that_waits(state: ValueWatcher[int], parked: threading.Event) -> None:
    """A thread that sleeps in a wait is told that the subscription was closed."""
    sub = state.blocking.subscribe(maxlen=1)
    job = Job(lambda: sub.wait_for(1))
    parked.wait()
    sub.close()
    with pytest.raises(SubscriptionError, match="gives nothing any more"):
        job.result()


def test_close_right_before_the_thread_parks_is_not_missed(
    state: ValueWatcher[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A close that comes after the thread looked, and before it sleeps, ends it all the same."""
    sub = state.blocking.subscribe()

    class LatePort:
        def __init__(self, *_args: object) -> None:
            sub.close()

        def park(self, cell: object, seconds: float | None) -> None:
            raise AssertionError("would sleep for ever")

    monkeypatch.setattr("statestore._streams.ThreadPort", LatePort)
    assert [] == list(sub)


def test_the_end_of_the_store_wakes_a_thread_that_reads(
    state: ValueWatcher[int], parked: threading.Event
) -> None:
    """Iteration ends, a wait says why."""
    with state.blocking.subscribe() as sub:
        job = Job(lambda: list(sub))
        parked.wait()
        state.close()
        assert [] == job.result()
        with pytest.raises(StoreClosedError):
            sub.wait_for(1)


@pytest.mark.parametrize("read", [next, lambda sub: sub.wait_for(1)])
def test_what_comes_right_before_the_end_is_delivered(
    state: ValueWatcher[int],
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[BlockingSubscription[int]], Any],
) -> None:
    """A transition and the end that come after a look at the queue are seen in order. P092."""
    take = ChainQueue.take

    def take_then_end(self: ChainQueue) -> Any:
        taken = take(self)
        if taken is None and not state._core.closed:
            state.value = 1
            state.close()
        return taken

    monkeypatch.setattr(ChainQueue, "take", take_then_end)
    with state.blocking.subscribe() as sub:
        assert read(sub) in (1, Transition(key="value", old=0, new=1, revision=1))
        assert [] == list(sub)


def test_values_give_the_current_one_then_each_new_one(state: ValueWatcher[int]) -> None:
    """Iterating over the values misses none."""
    with state.blocking.values() as values:
        for value in range(1, 4):
            state.value = value
        state.close()
        assert [0, 1, 2, 3] == list(values)


def test_latest_values_skip_to_the_newest(
    state: ValueWatcher[int], parked: threading.Event
) -> None:
    """With *latest* a thread that is slow gets the newest only, and is woken for it."""
    with state.blocking.values(latest=True) as values:
        assert 0 == next(values)
        for value in range(1, 4):
            state.value = value
        assert 3 == next(values)
        job = Job(lambda: next(values))
        parked.wait()
        state.value = 4
        assert 4 == job.result()


def test_values_may_be_dropped(state: ValueWatcher[int]) -> None:
    """Leaving the iteration is enough; nothing has to be closed."""
    for value in state.blocking.values():
        assert 0 == value
        break


# -- interrupts ------------------------------------------------------------------------------------


@pytest.fixture
def interrupt(
    parked: threading.Event, untraced: None
) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Give a function that has its argument run by a signal handler once this thread blocks."""
    if not hasattr(signal, "pthread_kill"):
        pytest.skip("needs a signal that can be sent to a thread")
    jobs: list[Job[None]] = []

    thread = threading.get_ident()
    ran = threading.Event()

    def send() -> None:
        parked.wait()
        # Again until it has run: CPython overlooks a signal that comes right before it blocks.
        while not ran.wait(0.02):
            # To the very thread: a signal that another one gets does not wake this.
            signal.pthread_kill(thread, signal.SIGUSR1)

    def arrange(function: Callable[[], None]) -> None:
        def handle(*_: object) -> None:
            if not ran.is_set():
                ran.set()
                function()

        signal.signal(signal.SIGUSR1, handle)
        jobs.append(Job(send))

    before = signal.getsignal(signal.SIGUSR1)
    yield arrange
    for job in jobs:
        job.result()
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_handler_that_sets_ends_the_wait(
    state: ValueWatcher[int], interrupt: Callable[[Callable[[], None]], None]
) -> None:
    """A handler runs in the very thread that blocks, and its set wakes that. P106."""
    interrupt(lambda: state.set(1) and None)
    assert 1 == state.blocking.wait_for(1)


def test_a_signal_handler_that_sets_ends_a_read(
    state: ValueWatcher[int], interrupt: Callable[[Callable[[], None]], None]
) -> None:
    """The same holds for a subscription. P106."""
    interrupt(lambda: state.set(1) and None)
    with state.blocking.subscribe(maxlen=1) as sub:
        assert 1 == next(sub).new


def test_a_signal_handler_that_closes_ends_the_wait(
    state: ValueWatcher[int], interrupt: Callable[[Callable[[], None]], None]
) -> None:
    """A handler may end the store, too. P106."""
    interrupt(state.close)
    with pytest.raises(StoreClosedError):
        state.blocking.wait_for(1)


def test_a_signal_handler_that_raises_ends_the_wait_without_a_trace(
    state: ValueWatcher[int], interrupt: Callable[[Callable[[], None]], None]
) -> None:
    """A KeyboardInterrupt comes out of the wait; the fixture sees that nothing is left."""

    def stop() -> None:
        raise KeyboardInterrupt

    interrupt(stop)
    with pytest.raises(KeyboardInterrupt):
        state.blocking.wait_for(1)


def test_a_read_that_was_interrupted_can_be_repeated(
    state: ValueWatcher[int], interrupt: Callable[[Callable[[], None]], None]
) -> None:
    """An interrupted reader does not count as one any more, and took nothing."""

    def stop() -> None:
        raise KeyboardInterrupt

    interrupt(stop)
    with closing(state.blocking.subscribe()) as sub:
        with pytest.raises(KeyboardInterrupt):
            next(sub)
        state.value = 1
        assert 1 == next(sub).new
