"""Members that are removed: who follows one gets what came before, and is then told of the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Literal

import pytest

from statestore import (
    ABSENT,
    CallbackFailure,
    KeyRemovedError,
    LaggedError,
    StateStoreError,
    StoreClosedError,
    ValueWatcher,
    WaitTimeoutError,
    Watcher,
    _streams,
    all_of,
    any_of,
    at_least,
    combine,
)
from statestore._mailbox import LoopPort
from statestore.testing import StepLoop, assert_no_trace, in_thread
from support.families import Pool, removed
from support.streams import drain, drain_to_error

Overflow = Literal["raise", "latest"]
Wait = Callable[[Any], Coroutine[Any, Any, Any]]


@pytest.fixture
def pool() -> Pool:
    """Give a new store."""
    return Pool()


@pytest.fixture
def worker(pool: Pool) -> ValueWatcher[int]:
    """Give a member that is zero."""
    return pool.workers.add("a")


@pytest.fixture
def loop() -> Iterator[StepLoop]:
    """Give a loop that moves only when told to."""
    with StepLoop() as loop:
        yield loop


def remove(pool: Pool) -> None:
    """Remove the member."""
    del pool.workers["a"]


def overtake(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, pool: Pool) -> None:
    """Have the member removed right before a function of a module of the package is called."""
    real = getattr(module, name)

    def remove_and_call(*args: Any) -> Any:
        if "a" in pool.workers:
            remove(pool)
        return real(*args)

    monkeypatch.setattr(module, name, remove_and_call)


# All of them wait for one, each in a way of its own.
WAITS: dict[str, Wait] = {
    "for": lambda w: w.wait_for(1),
    "for not": lambda w: w.wait_for_not(0),
    "for change": lambda w: w.wait_for_change(),
    "until": lambda w: w.wait_until(lambda value: value == 1),
    "for what has no index": lambda w: w.wait_for(1 + 0j),
    "with a timeout": lambda w: w.wait_for(1, timeout=10),
    "not immediately": lambda w: w.wait_for(1, immediate=False),
}

each_wait = pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())


class TestWaits:
    """A wait on a member that is removed."""

    @each_wait
    def test_ends_with_an_error(
        self, pool: Pool, worker: ValueWatcher[int], loop: StepLoop, wait: Wait
    ) -> None:
        """P091: a wait that is parked raises KeyRemovedError, and leaves nothing behind."""
        task = loop.create_task(wait(worker))
        loop.settle()

        remove(pool)
        loop.settle()

        error = task.exception()
        assert isinstance(error, KeyRemovedError)
        assert isinstance(error, KeyError)
        assert ("workers['a']", []) == (error.key, loop.timers())
        assert "workers['a'] was removed; if it is added again, that makes a new" in str(error)
        assert_no_trace(pool)

    @each_wait
    def test_has_what_was_committed_before(
        self, pool: Pool, worker: ValueWatcher[int], loop: StepLoop, wait: Wait
    ) -> None:
        """P091: a match that is buffered when the member is removed is returned."""
        task = loop.create_task(wait(worker))
        loop.settle()

        worker.value = 1
        worker.value = 2
        remove(pool)
        loop.settle()

        assert 1 == task.result()

    @each_wait
    def test_that_begins_later_ends_at_once(self, pool: Pool, loop: StepLoop, wait: Wait) -> None:
        """P091: there is nothing to wait for on a member that was removed, whatever is asked."""
        gone = removed(pool)

        task = loop.create_task(wait(gone))
        loop.step()

        assert isinstance(task.exception(), KeyRemovedError)
        assert_no_trace(pool)

    @pytest.mark.parametrize("immediate", [True, False])
    @pytest.mark.parametrize("timeout", [0, -1, 5, None])
    async def test_that_begins_later_does_not_time_out(
        self, pool: Pool, immediate: bool, timeout: float | None
    ) -> None:
        """P091: nor does it return the value that the member had last."""
        gone = removed(pool)

        with pytest.raises(KeyRemovedError):
            await gone.wait_for(1, immediate=immediate, timeout=timeout)

    @each_wait
    def test_sees_a_removal_before_its_first_step(
        self, pool: Pool, worker: ValueWatcher[int], loop: StepLoop, wait: Wait
    ) -> None:
        """P091: a wait registers at its first step, and looks at what is there then."""
        task = loop.create_task(wait(worker))
        worker.value = 1
        remove(pool)
        loop.settle()

        assert isinstance(task.exception(), KeyRemovedError)

    @each_wait
    def test_is_not_fulfilled_by_the_key_being_added_again(
        self, pool: Pool, worker: ValueWatcher[int], loop: StepLoop, wait: Wait
    ) -> None:
        """P091: the new member is another watcher, even if it comes in the same commit."""
        task = loop.create_task(wait(worker))
        loop.settle()

        with pool.transaction() as tx:
            tx.remove(pool.workers, "a")
            tx.add(pool.workers, "a", 1)
        loop.settle()

        assert isinstance(task.exception(), KeyRemovedError)

    @each_wait
    def test_sees_a_removal_while_it_goes_to_sleep(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch, loop: StepLoop, wait: Wait
    ) -> None:
        """P027: a member that goes right before the wait can be woken is found all the same."""
        overtake(monkeypatch, LoopPort, "add", pool)

        task = loop.create_task(wait(pool.workers.add("a")))
        loop.settle()

        assert isinstance(task.exception(), KeyRemovedError)

    def test_has_a_removal_that_came_in_time_on_a_late_loop(
        self, pool: Pool, worker: ValueWatcher[int], loop: StepLoop
    ) -> None:
        """P004: an end before the deadline is no timeout, however late the loop is."""
        task = loop.create_task(worker.wait_for(1, timeout=1))
        loop.settle()

        remove(pool)
        loop.fall_behind(5)
        loop.settle()

        assert isinstance(task.exception(), KeyRemovedError)

    def test_that_timed_out_before_is_not_changed(
        self, pool: Pool, worker: ValueWatcher[int], loop: StepLoop
    ) -> None:
        """A timeout that came first is what the wait ends with."""
        task = loop.create_task(worker.wait_for(1, timeout=1))
        loop.settle()

        loop.advance(1)
        remove(pool)
        loop.settle()

        assert isinstance(task.exception(), WaitTimeoutError)

    def test_that_was_cancelled_stays_cancelled(
        self, pool: Pool, worker: ValueWatcher[int], loop: StepLoop
    ) -> None:
        """P001: a cancellation in the tick of the removal is not swallowed."""
        task = loop.create_task(worker.wait_for(1))
        loop.settle()

        remove(pool)
        task.cancel()
        loop.settle()

        assert task.cancelled()
        assert_no_trace(pool)

    def test_ends_after_the_store_was_closed(
        self, pool: Pool, worker: ValueWatcher[int], loop: StepLoop
    ) -> None:
        """P091: a removal that came before the end of the store is what the wait is told of."""
        tasks = [loop.create_task(wait(worker)) for wait in WAITS.values()]
        loop.settle()

        remove(pool)
        pool.close()
        tasks += [loop.create_task(wait(worker)) for wait in WAITS.values()]
        loop.settle()

        assert [KeyRemovedError] * len(tasks) == [type(task.exception()) for task in tasks]

    def test_on_another_member_goes_on(
        self, pool: Pool, worker: ValueWatcher[int], loop: StepLoop
    ) -> None:
        """A removal concerns nobody who waits for another member."""
        other = pool.workers.add("b")
        task = loop.create_task(other.wait_for(1))
        loop.settle()

        remove(pool)
        loop.settle()
        assert not task.done()
        other.value = 1
        loop.settle()

        assert 1 == task.result()


BOUNDS: list[tuple[int | None, Overflow]] = [(None, "raise"), (2, "raise"), (2, "latest")]

each_bound = pytest.mark.parametrize(
    ("maxlen", "overflow"), BOUNDS, ids=["unbounded", "bounded", "joining"]
)


class TestSubscriptions:
    """A subscription to a member that is removed."""

    @each_bound
    async def test_gives_what_it_holds_when_iterated(
        self, pool: Pool, worker: ValueWatcher[int], maxlen: int | None, overflow: Overflow
    ) -> None:
        """P091: iteration gives every transition, and then raises KeyRemovedError."""
        taken: list[int] = []
        with worker.subscribe(maxlen=maxlen, overflow=overflow) as sub:
            worker.value = 1
            worker.value = 2
            remove(pool)
            with pytest.raises(KeyRemovedError, match=r"workers\['a'\] was removed"):
                async for transition in sub:
                    taken.append(transition.new)  # noqa: PERF401 -- kept when it raises

        assert [1, 2] == taken

    @each_bound
    def test_gives_what_it_holds_without_waiting(
        self, pool: Pool, worker: ValueWatcher[int], maxlen: int | None, overflow: Overflow
    ) -> None:
        """P091: `get_nowait` gives every transition, and then raises KeyRemovedError."""
        with worker.subscribe(maxlen=maxlen, overflow=overflow) as sub:
            worker.value = 1
            worker.value = 2
            remove(pool)
            taken, error = drain_to_error(sub)

        assert ([(0, 1), (1, 2)], KeyRemovedError) == ([(t.old, t.new) for t in taken], error)

    @each_bound
    async def test_gives_what_it_holds_to_its_waits(
        self, pool: Pool, worker: ValueWatcher[int], maxlen: int | None, overflow: Overflow
    ) -> None:
        """P091: a wait finds a match that is buffered; the next one is told of the end."""
        with worker.subscribe(maxlen=maxlen, overflow=overflow) as sub:
            worker.value = 1
            worker.value = 2
            remove(pool)
            assert 1 == await sub.wait_for(1)
            assert 2 == await sub.wait_for_change()
            assert 2 == await sub.wait_for(2)
            with pytest.raises(KeyRemovedError):
                await sub.wait_for(2, immediate=False)

    @each_bound
    @each_wait
    async def test_ends_its_waits_where_nothing_matches(
        self, pool: Pool, maxlen: int | None, overflow: Overflow, wait: Wait
    ) -> None:
        """P091: each kind of wait raises KeyRemovedError, again and again."""
        worker = pool.workers.add("a")
        with worker.subscribe(maxlen=maxlen, overflow=overflow) as sub:
            remove(pool)
            for _ in range(3):
                with pytest.raises(KeyRemovedError):
                    await wait(sub)

    @each_bound
    async def test_stays_at_its_end(
        self, pool: Pool, worker: ValueWatcher[int], maxlen: int | None, overflow: Overflow
    ) -> None:
        """P091: every further read says the same, also after the key was added again."""
        with worker.subscribe(maxlen=maxlen, overflow=overflow) as sub:
            worker.value = 1
            remove(pool)
            assert 1 == sub.get_nowait().new
            pool.workers.add("a").value = 7
            for _ in range(2):
                assert ([], KeyRemovedError) == drain_to_error(sub)
                with pytest.raises(KeyRemovedError):
                    await anext(sub)
            assert 0 == sub.pending

    @each_bound
    def test_counts_no_record_for_the_end(
        self, pool: Pool, worker: ValueWatcher[int], maxlen: int | None, overflow: Overflow
    ) -> None:
        """What `pending` tells can be taken."""
        with worker.subscribe(maxlen=maxlen, overflow=overflow) as sub:
            worker.value = 1
            remove(pool)
            assert [1] == [sub.get_nowait().new for _ in range(sub.pending)]

    @each_bound
    @each_wait
    def test_wakes_its_reader(
        self, pool: Pool, loop: StepLoop, maxlen: int | None, overflow: Overflow, wait: Wait
    ) -> None:
        """P091: a reader that sleeps is told, be it a wait or an iteration, with the same error."""
        worker = pool.workers.add("a")
        with (
            worker.subscribe(maxlen=maxlen, overflow=overflow) as waited,
            worker.subscribe(maxlen=maxlen, overflow=overflow) as iterated,
        ):
            tasks = [loop.create_task(wait(waited)), loop.create_task(anext(iterated))]
            loop.settle()
            assert [False, False] == [task.done() for task in tasks]
            remove(pool)
            loop.settle()
            assert [KeyRemovedError] * 2 == [type(task.exception()) for task in tasks]
        assert [] == loop.timers()
        assert_no_trace(pool)

    @each_bound
    def test_sees_a_removal_while_its_reader_goes_to_sleep(
        self, pool: Pool, monkeypatch: Any, loop: StepLoop, maxlen: int | None, overflow: Overflow
    ) -> None:
        """P027: a member that goes right before the reader can be woken is found all the same."""
        overtake(monkeypatch, LoopPort, "add", pool)
        overtake(monkeypatch, _streams, "doze", pool)

        with pool.workers.add("a").subscribe(maxlen=maxlen, overflow=overflow) as sub:
            task = loop.create_task(anext(sub))
            loop.settle()
            assert isinstance(task.exception(), KeyRemovedError)

    @each_bound
    @pytest.mark.parametrize("initial", [True, False])
    async def test_opened_later_is_at_its_end(
        self, pool: Pool, maxlen: int | None, overflow: Overflow, initial: bool
    ) -> None:
        """P091: a subscription to a member that was removed holds nothing, no initial record."""
        gone = removed(pool)

        with gone.subscribe(initial=initial, maxlen=maxlen, overflow=overflow) as sub:
            with pytest.raises(KeyRemovedError):
                await anext(sub)
            assert ([], KeyRemovedError) == drain_to_error(sub)
        assert_no_trace(pool)

    def test_that_is_full_loses_nothing_to_the_end(
        self, pool: Pool, worker: ValueWatcher[int]
    ) -> None:
        """P091: the end takes no place among the records that a bound allows."""
        with (
            worker.subscribe(maxlen=1) as bounded,
            worker.subscribe(maxlen=1, overflow="latest") as joining,
        ):
            worker.value = 1
            remove(pool)
            for sub in (bounded, joining):
                taken, error = drain_to_error(sub)
                assert ([(0, 1, 0)], KeyRemovedError) == (
                    [(t.old, t.new, t.missed) for t in taken],
                    error,
                )

    def test_that_lagged_tells_of_the_loss_first(
        self, pool: Pool, worker: ValueWatcher[int]
    ) -> None:
        """P094: the loss, then what was kept, then the end."""
        with worker.subscribe(maxlen=2) as sub:
            for value in range(1, 6):
                worker.value = value
            remove(pool)
            with pytest.raises(LaggedError) as caught:
                sub.get_nowait()
            assert (3, 5) == (caught.value.missed, caught.value.value)
            taken, error = drain_to_error(sub)
            assert ([4, 5], KeyRemovedError) == ([t.new for t in taken], error)

    def test_that_joins_gives_the_newest_before_the_end(
        self, pool: Pool, worker: ValueWatcher[int]
    ) -> None:
        """P094: what was joined leads to the last value that the member had."""
        with worker.subscribe(maxlen=2, overflow="latest") as sub:
            for value in range(1, 6):
                worker.value = value
            remove(pool)
            taken, error = drain_to_error(sub)
        assert [(0, 1, 0), (1, 5, 3)] == [(t.old, t.new, t.missed) for t in taken]
        assert error is KeyRemovedError

    def test_can_be_closed_afterwards(self, pool: Pool, worker: ValueWatcher[int]) -> None:
        """Closing is as ever, and one that is dropped open still warns."""
        closed, dropped = worker.subscribe(), [worker.subscribe()]
        remove(pool)
        closed.close()
        with pytest.warns(ResourceWarning, match="was never closed"):
            dropped.clear()
        assert_no_trace(pool)

    async def test_of_values_gives_them_first(self, pool: Pool, worker: ValueWatcher[int]) -> None:
        """P091: `values()` gives the current value and each new one, and then raises."""
        values, newest = worker.values(), worker.values(latest=True)
        assert 0 == await anext(newest)
        worker.value = 1
        worker.value = 2
        remove(pool)

        assert ([0, 1, 2], KeyRemovedError) == drain_to_error(values)
        assert ([2], KeyRemovedError) == drain_to_error(newest)
        for stream in (values, newest):
            with pytest.raises(KeyRemovedError):
                await anext(stream)

    @pytest.mark.parametrize("latest", [False, True])
    async def test_of_values_opened_later_is_at_its_end(self, pool: Pool, latest: bool) -> None:
        """P091: a member that was removed has no value to begin with."""
        gone = removed(pool)

        with pytest.raises(KeyRemovedError):
            await anext(gone.values(latest=latest))

    @pytest.mark.parametrize("latest", [False, True])
    def test_of_values_wakes_its_reader(
        self, pool: Pool, worker: ValueWatcher[int], loop: StepLoop, latest: bool
    ) -> None:
        """P091: who sleeps until the next value is told that there will be none."""
        values = worker.values(latest=latest)
        assert 0 == values.get_nowait()
        task = loop.create_task(values.__anext__())
        loop.settle()

        remove(pool)
        loop.settle()

        assert isinstance(task.exception(), KeyRemovedError)


def error_of(act: Callable[[], object], beside: Callable[[], object]) -> BaseException | None:
    """Run *act* in a thread and *beside* in this one; give what *act* raised."""
    raised: list[BaseException] = []

    def main() -> None:
        try:
            act()
        except StateStoreError as error:
            raised.append(error)

    thread = threading.Thread(target=main)
    thread.start()
    beside()
    thread.join()
    return raised[0] if raised else None


def first_of(stream: Any) -> Any:
    """Give the first record of *stream*, and close that."""
    with stream:
        return next(stream)


class TestThreads:
    """A thread that blocks on a member that is removed."""

    @pytest.mark.parametrize(
        "act",
        [
            pytest.param(lambda w: w.blocking.wait_for(9), id="wait_for"),
            pytest.param(lambda w: w.blocking.wait_for(9, timeout=60), id="timeout"),
            pytest.param(lambda w: w.blocking.wait_until(lambda value: value == 9), id="until"),
            pytest.param(lambda w: w.blocking.wait_for(0, immediate=False), id="not immediate"),
            pytest.param(lambda w: first_of(w.blocking.subscribe()), id="subscribe"),
            pytest.param(lambda w: first_of(w.blocking.subscribe(maxlen=1)), id="bounded"),
            pytest.param(lambda w: list(w.blocking.values()), id="values"),
            pytest.param(lambda w: list(w.blocking.values(latest=True)), id="newest"),
        ],
    )
    def test_is_woken(
        self, pool: Pool, worker: ValueWatcher[int], act: Callable[[Any], object]
    ) -> None:
        """P091: whatever it blocks in raises KeyRemovedError, whether it came before or after."""
        assert isinstance(error_of(lambda: act(worker), lambda: remove(pool)), KeyRemovedError)
        with pytest.raises(KeyRemovedError):
            act(worker)

    def test_has_what_was_committed_before(self, pool: Pool, worker: ValueWatcher[int]) -> None:
        """P091: a thread that reads gets every transition that another one made, then the end."""
        taken: list[int] = []

        def write() -> None:
            for value in range(1, 101):
                worker.value = value
            remove(pool)

        with worker.blocking.subscribe() as sub:
            error = error_of(lambda: taken.extend(t.new for t in sub), write)

        assert (list(range(1, 101)), KeyRemovedError) == (taken, type(error))

    @pytest.mark.parametrize("immediate", [True, False])
    def test_that_comes_later_is_told_at_once(self, pool: Pool, immediate: bool) -> None:
        """P091: a blocking wait on a member that was removed neither blocks nor times out."""
        gone = removed(pool)

        for timeout in (0, 5, None):
            with pytest.raises(KeyRemovedError):
                gone.blocking.wait_for(1, immediate=immediate, timeout=timeout)

    def test_may_remove_what_a_loop_waits_for(self, pool: Pool, worker: ValueWatcher[int]) -> None:
        """P091: a task is woken by a removal in another thread."""

        async def main() -> None:
            task = asyncio.create_task(worker.wait_for(1))
            await asyncio.sleep(0)
            in_thread(lambda: remove(pool))
            with pytest.raises(KeyRemovedError):
                await task

        asyncio.run(main())


class TestCallbacks:
    """A callback on a member that is removed."""

    def test_is_called_no_more(self, pool: Pool, worker: ValueWatcher[int]) -> None:
        """P091: it is told of every transition before, not of the removal, nor of a new member."""
        seen: list[object] = []
        handle = worker.on_change(lambda old, new: seen.append((old, new)))
        worker.on_value(5, lambda: seen.append("five"))
        worker.value = 1

        remove(pool)
        pool.workers.add("a").value = 5

        assert [(0, 1)] == seen
        assert not handle.is_closed
        handle.close()
        assert handle.is_closed

    def test_may_remove_its_own_member(self, pool: Pool, worker: ValueWatcher[int]) -> None:
        """P055: the others are still told of the transition that came before the removal."""
        seen: list[object] = []
        worker.on_change(lambda _old, _new: remove(pool))
        worker.on_change(lambda old, new: seen.append((old, new)))

        worker.value = 1

        assert [(0, 1)] == seen
        assert "a" not in pool.workers

    def test_can_be_registered_later(self, pool: Pool) -> None:
        """A callback on a member that was removed is simply never called."""
        seen: list[object] = []
        gone = removed(pool)

        with gone.on_change(lambda old, new: seen.append((old, new))):
            pool.workers.add("gone").value = 7

        assert [] == seen

    def test_for_a_value_needs_one(self, pool: Pool) -> None:
        """P091: `on_value` looks at the value, which is not there any more; it leaves nothing."""
        gone = removed(pool)

        with pytest.raises(KeyRemovedError):
            gone.on_value(1, lambda: None)

        assert_no_trace(pool)

    def test_on_the_store_or_the_family_goes_on(
        self, pool: Pool, worker: ValueWatcher[int]
    ) -> None:
        """What follows the family is told of the removal as of any other change."""
        seen: list[object] = []
        pool.workers.mapping.on_change(lambda _old, new: seen.append(dict(new)))

        remove(pool)
        pool.workers.add("a", 3)

        assert [{}, {"a": 3}] == seen


CHANGES: dict[str, Callable[[ValueWatcher[int]], object]] = {
    "value": lambda w: setattr(w, "value", 5),
    "set": lambda w: w.set(5),
    "set the same": lambda w: w.set(1),
    "set_if": lambda w: w.set_if(5, pytest.fail),
    "compare_and_set": lambda w: w.compare_and_set(1, 5),
    "update": lambda w: w.update(pytest.fail),
}


class TestChanges:
    """Reading and setting a member that was removed."""

    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
    def test_is_refused(self, pool: Pool, change: Callable[[ValueWatcher[int]], object]) -> None:
        """P091: every way to set it raises KeyRemovedError, and calls no function of the user's."""
        gone = removed(pool)

        with pytest.raises(KeyRemovedError, match=r"workers\['gone'\] was removed"):
            change(gone)

        assert ([], 2) == (list(pool.workers), pool.revision)

    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
    def test_leaves_the_new_member_alone(
        self, pool: Pool, change: Callable[[ValueWatcher[int]], object]
    ) -> None:
        """P091: the watcher of before is not one of the member that was added again."""
        gone = removed(pool)
        again = pool.workers.add("gone", 1)

        with pytest.raises(KeyRemovedError):
            change(gone)

        assert 1 == again.value

    def test_of_its_value_raises(self, pool: Pool) -> None:
        """P091: there is no value to read; the name and the revision of the end are there."""
        gone = removed(pool)

        with pytest.raises(KeyRemovedError) as caught:
            gone.value

        assert "workers['gone']" == caught.value.key
        assert ("workers['gone']", 2) == (gone.name, gone.revision)
        assert "<ValueWatcher \"workers['gone']\", removed at revision 2>" == repr(gone)

    def test_raises_a_new_error_each_time(self, pool: Pool) -> None:
        """P023: no error is shared, so none collects the frames of others."""
        gone = removed(pool)
        errors = []
        for _ in range(2):
            with pytest.raises(KeyRemovedError) as caught:
                gone.value
            errors.append(caught.value)

        assert errors[0] is not errors[1]

    @pytest.mark.parametrize("name", ["update", "set_if"])
    def test_by_a_function_that_removes_it(
        self, pool: Pool, worker: ValueWatcher[int], name: str
    ) -> None:
        """P091: a member that goes while its new value is computed is not set."""

        def take(value: int) -> int:
            remove(pool)
            return value + 1

        change = worker.update if name == "update" else lambda act: worker.set_if(5, act)
        with pytest.raises(KeyRemovedError):
            change(take)

        assert ([], 2) == (list(pool.workers), pool.revision)

    def test_on_a_closed_store_is_refused_as_ever(self, pool: Pool) -> None:
        """P092: the end of the store is told before that of the member."""
        gone = removed(pool)
        pool.close()

        with pytest.raises(StoreClosedError):
            gone.value = 5
        with pytest.raises(KeyRemovedError):
            gone.value


DERIVED: dict[str, Callable[[Pool, ValueWatcher[int]], Watcher[Any]]] = {
    # Each has another value when the member is one than when it is zero, and n is zero.
    "map": lambda _, w: w.map(str),
    "map of a map": lambda _, w: w.map(str).map(int),
    "is_": lambda _, w: w.is_(1),
    "is_not": lambda _, w: w.is_not(1),
    "matches": lambda _, w: w.matches(bool),
    "combine": lambda pool, w: combine(w, pool.n),
    "combine using": lambda pool, w: combine(pool.n, w, using=max),
    "all_of": lambda pool, w: all_of(pool.n.is_(0), w.is_(1)),
    "any_of": lambda pool, w: any_of(pool.n.is_(9), w.is_(1)),
    "at_least": lambda pool, w: at_least(2, pool.n.is_(0), w.is_(1), w.is_(9)),
    "and": lambda pool, w: w.is_(1) & pool.n.is_(0),
    "or": lambda pool, w: pool.n.is_(9) | w.is_(1),
    "not": lambda _, w: ~w.is_(1),
}

each_derived = pytest.mark.parametrize("make", DERIVED.values(), ids=DERIVED.keys())
Make = Callable[[Pool, ValueWatcher[int]], Watcher[Any]]


class TestDerived:
    """What is derived of a member that is removed."""

    @each_derived
    def test_has_no_value(self, pool: Pool, worker: ValueWatcher[int], make: Make) -> None:
        """P091: it is in error with KeyRemovedError, whether it was read before or not."""
        read, unread = make(pool, worker), make(pool, worker)
        read.value
        remove(pool)
        made_later = make(pool, worker)

        for derived in (read, unread, made_later):
            with pytest.raises(KeyRemovedError, match=r"workers\['a'\] was removed"):
                derived.value
            assert 2 == derived.revision

    @each_derived
    def test_gives_what_came_before(
        self, pool: Pool, worker: ValueWatcher[int], make: Make
    ) -> None:
        """P091: its subscriptions deliver what they hold, and then raise as those of the member."""
        derived = make(pool, worker)
        first = derived.value
        with (
            derived.subscribe() as sub,
            derived.subscribe(maxlen=1) as bounded,
            derived.subscribe(maxlen=1, overflow="latest") as joining,
        ):
            worker.value = 1
            second = derived.value
            remove(pool)
            pool.n.value = 5
            for stream in (sub, bounded, joining):
                taken, error = drain_to_error(stream)
                assert [(first, second, 2)] == [(t.old, t.new, t.revision) for t in taken]
                assert error is KeyRemovedError
                assert ([], KeyRemovedError) == drain_to_error(stream)
        assert first != second

    @each_derived
    def test_ends_its_waits(
        self, pool: Pool, worker: ValueWatcher[int], loop: StepLoop, make: Make
    ) -> None:
        """P091: parked waits and readers are woken, and those that come later end at once."""
        derived = make(pool, worker)
        with derived.subscribe() as sub, derived.subscribe(maxlen=1) as bounded:
            reads = [derived.wait_for("never"), anext(sub), bounded.wait_for("never")]
            tasks = [loop.create_task(read) for read in reads]
            loop.settle()
            assert not any(task.done() for task in tasks)

            remove(pool)
            loop.settle()
            later = [derived.wait_for(0), derived.wait_for_change(), derived.wait_for(0, timeout=0)]
            tasks += [loop.create_task(read) for read in later]
            loop.settle()

            assert [KeyRemovedError] * 6 == [type(task.exception()) for task in tasks]

    @each_derived
    def test_has_its_match_that_came_before(
        self, pool: Pool, worker: ValueWatcher[int], loop: StepLoop, make: Make
    ) -> None:
        """P091: a wait finds what was committed before the removal."""
        derived = make(pool, worker)
        task = loop.create_task(derived.wait_for_change())
        loop.settle()

        worker.value = 1
        expected = derived.value
        remove(pool)
        loop.settle()

        assert expected == task.result()

    @each_derived
    def test_ends_for_threads(self, pool: Pool, worker: ValueWatcher[int], make: Make) -> None:
        """P091: a thread that blocks is told, and so is one that comes later."""
        derived = make(pool, worker)

        error = error_of(lambda: derived.blocking.wait_for("never"), lambda: remove(pool))

        assert isinstance(error, KeyRemovedError)
        with pytest.raises(KeyRemovedError):
            derived.blocking.wait_for("never")
        with pytest.raises(KeyRemovedError):
            derived.blocking.wait_for_change()

    @each_derived
    def test_reports_it_once_to_who_hears_of_callbacks(self, make: Make) -> None:
        """P091: a callback cannot be called; `on_error` is told so, and of nothing later."""
        failures: list[CallbackFailure] = []
        pool = Pool(on_error=failures.append)
        worker = pool.workers.add("a")
        seen: list[object] = []
        derived = make(pool, worker)
        with derived.on_change(lambda old, new: seen.append((old, new))):
            first = derived.value
            worker.value = 1
            second = derived.value
            remove(pool)
            pool.n.value = 5
            pool.workers.add("a").value = 3

        assert [(first, second)] == seen
        (failure,) = failures
        assert (3, derived.name) == (failure.revision, failure.key)
        assert isinstance(failure.error, KeyRemovedError)

    def test_gives_its_newest_value_once(self, pool: Pool, worker: ValueWatcher[int]) -> None:
        """P091: what skips to the newest gives no value again that it gave before an error."""
        values = worker.map(lambda value: 1 // (1 - value)).values(latest=True)
        assert 1 == values.get_nowait()

        worker.value = 1
        remove(pool)

        assert ([], KeyRemovedError) == drain_to_error(values)

    def test_of_other_members_goes_on(self, pool: Pool, worker: ValueWatcher[int]) -> None:
        """P102: what has not to do with the removed member is not disturbed."""
        other = pool.workers.add("b")

        with (
            combine(worker, other).subscribe() as broken,
            combine(pool.n, other).subscribe() as sub,
            pool.workers.count().subscribe() as number,
        ):
            remove(pool)
            other.value = 1
            assert ([], KeyRemovedError) == drain_to_error(broken)
            assert [(0, 1)] == [t.new for t in drain(sub)]
            assert [1] == [t.new for t in drain(number)]

    def test_does_not_come_back_with_the_key(self, pool: Pool, worker: ValueWatcher[int]) -> None:
        """P091: a derived watcher follows the watcher that it was made of, not the key."""
        derived = worker.map(str)
        remove(pool)

        again = pool.workers.add("a", 3)

        with pytest.raises(KeyRemovedError):
            derived.value
        assert "3" == again.map(str).value


class TestAgain:
    """A key that is added again."""

    def test_has_nothing_of_the_member_before(self, pool: Pool, worker: ValueWatcher[int]) -> None:
        """P091: the new watcher begins anew, with its own value, revision and consumers."""
        with worker.subscribe() as old:
            worker.value = 1
            remove(pool)
            again = pool.workers.add("a", 5)
            with again.subscribe() as new:
                again.value = 6
                assert [(5, 6)] == [(t.old, t.new) for t in drain(new)]
            taken, error = drain_to_error(old)
            assert ([1], KeyRemovedError) == ([t.new for t in taken], error)

    def test_is_a_new_watcher_in_one_transaction(
        self, pool: Pool, worker: ValueWatcher[int]
    ) -> None:
        """P091: removed and added at one revision, the two are told apart all the same."""
        with worker.subscribe() as old, pool.subscribe() as commits:
            with pool.transaction() as tx:
                tx.remove(pool.workers, "a")
                tx.add(pool.workers, "a", 5)
            assert ([], KeyRemovedError) == drain_to_error(old)
            (commit,) = drain(commits)
        assert [(0, ABSENT), (ABSENT, 5)] == [(t.old, t.new) for t in commit.transitions]
        assert {"workers['a']"} == {t.key for t in commit.transitions}
        assert (5, 2) == (pool.workers["a"].value, pool.workers["a"].revision)

    def test_ends_every_one_of_its_members(self, pool: Pool, loop: StepLoop) -> None:
        """P091: however often the key comes and goes, each consumer follows one member."""
        tasks = []
        for value in range(5):
            member = pool.workers.add("a", value)
            tasks.append(loop.create_task(member.wait_for(-1)))
            loop.settle()
            remove(pool)
        loop.settle()

        assert [KeyRemovedError] * 5 == [type(task.exception()) for task in tasks]

    def test_in_threads_leaves_each_reader_with_an_end(self, pool: Pool) -> None:
        """P091: readers that come and go with the members get all of one, and its end."""
        results: list[tuple[list[int], type[Exception]]] = []
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                member = pool.workers.get("a")
                if member is not None:
                    with member.blocking.subscribe() as sub:
                        taken: list[int] = []
                        with suppress(KeyRemovedError):
                            taken.extend(transition.new for transition in sub)
                        results.append((taken, drain_to_error(sub)[1]))

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            for _ in range(100):
                member = pool.workers.add("a")
                for value in range(1, 5):
                    member.value = value
                remove(pool)
        finally:
            done.set()
            for reader in readers:
                reader.join()

        for taken, error in results:
            assert (list(range(5 - len(taken), 5)), KeyRemovedError) == (taken, error)
