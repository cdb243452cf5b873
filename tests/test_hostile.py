"""Hostile user code: it raises, lies, blocks and calls back, and hurts nobody but itself."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

from statestore import (
    CallbackFailure,
    MutableValueError,
    Ref,
    StoreClosedError,
    Transition,
    ValueWatcher,
    WaitTimeoutError,
    register_immutable,
)
from statestore.testing import (
    BoomError,
    BrokenLoop,
    Hostile,
    Panic,
    StepLoop,
    Undecided,
    assert_no_trace,
    boom,
    equal_by,
    in_thread,
)
from support.hostile import Arena, probing


@pytest.fixture
def store() -> Iterator[Arena]:
    """Give a store on which nobody may be left registered."""
    with Arena() as arena:
        yield arena
    # What waited on a loop that refuses to be woken goes with the garbage.
    gc.collect()
    assert_no_trace(arena)


@pytest.fixture
def loop() -> Iterator[StepLoop]:
    """Give an event loop that moves when it is told to."""
    with StepLoop() as step_loop:
        yield step_loop


def truly(act: Callable[..., object]) -> Callable[..., bool]:
    """Give a predicate that calls *act* and accepts."""

    def predicate(*args: object) -> bool:
        act(*args)
        return True

    return predicate


class TestNothingIsHeldMeanwhile:
    """P5: while user code runs, another thread gets through to everything."""

    def test_while_a_predicate_runs_at_once(self, store: Arena, loop: StepLoop) -> None:
        """In the first look of a wait (P057)."""
        probe = probing(store)

        assert 0 == loop.run(store.state.wait_until(truly(probe)))
        assert 1 == probe.calls

    def test_while_a_predicate_runs_in_the_loop(self, store: Arena, loop: StepLoop) -> None:
        """In the drain of the loop's mailbox, and the setter has long gone on (P057, P059)."""
        probe = probing(store)
        wait = store.state.wait_until(truly(probe), immediate=False)
        task = loop.create_task(wait)
        loop.settle()
        store.state.value = 1
        assert 0 == probe.calls
        loop.settle()

        assert 1 == task.result()
        assert 1 == probe.calls

    def test_while_a_predicate_of_a_subscription_runs(self, store: Arena, loop: StepLoop) -> None:
        """In a wait that reads a queue, the one of a key and the one of the store."""
        probe, other = probing(store), probing(store)
        with store.state.subscribe(maxlen=1) as one, store.subscribe(store.state) as all_of_them:
            store.state.value = 1
            found = loop.run(one.wait_until(truly(probe), immediate=False))
            snapshot = loop.run(all_of_them.wait_until(truly(other), immediate=False))

        assert [1, 1] == [found, snapshot.state]
        assert [1, 1] == [probe.calls, other.calls]

    def test_while_a_predicate_of_a_blocked_thread_runs(self, store: Arena) -> None:
        """In the thread that waits."""
        probe = probing(store)

        assert 0 == store.state.blocking.wait_until(truly(probe), timeout=20)
        assert 1 == probe.calls

    @pytest.mark.parametrize("change", ["set_if", "update", "transact", "transaction"])
    def test_while_a_condition_or_update_runs(self, store: Arena, change: str) -> None:
        """In what decides about a change, and the change is made all the same."""
        probe = probing(store)

        def replace(_old: object) -> int:
            probe()
            return 7

        def assign(tx: Any) -> None:
            probe()
            tx[store.state] = 7

        if change == "set_if":
            assert store.state.set_if(7, truly(probe))
        elif change == "update":
            assert store.state.update(replace) is not None
        elif change == "transact":
            store.transact(assign)
        else:
            with store.transaction() as tx:
                assign(tx)

        assert 7 == store.state.value
        assert 1 <= probe.calls

    @pytest.mark.parametrize("has_listeners", [False, True])
    def test_while_equality_is_asked(self, store: Arena, has_listeners: bool) -> None:
        """In the `==` of a set, on the short way and on the long one (P069)."""
        probe = probing(store)
        store.state.value = equal_by(lambda _other: False)
        handle = store.state.on_change(lambda _old, _new: None)
        if not has_listeners:
            handle.close()
        value = equal_by(probe)
        store.state.value = value
        handle.close()

        assert value is store.state.value
        assert 1 <= probe.calls

    def test_while_equality_is_asked_for_a_transaction(self, store: Arena) -> None:
        """In the `==` at the end of a transaction (P069)."""
        probe = probing(store)
        store.state.value = equal_by(boom)
        value = equal_by(probe)
        with store.transaction() as tx:
            tx[store.state] = value

        assert value is store.state.value
        assert 1 == probe.calls

    def test_while_a_target_is_compared(self, store: Arena, loop: StepLoop) -> None:
        """In the `==` of what a wait is for, and of what is expected."""
        probe = probing(store)
        target = equal_by(truly(probe))
        task = loop.create_task(store.state.wait_for(target, immediate=False))
        loop.settle()
        store.state.value = 1
        loop.settle()
        assert 1 == task.result()
        assert 1 == probe.calls

        other = probing(store)
        assert store.state.compare_and_set(equal_by(truly(other)), 2)
        assert 1 == other.calls

    def test_while_a_callback_runs(self, store: Arena) -> None:
        """In a callback, and in the one of `on_value()` that fires at once."""
        probe, other = probing(store), probing(store)
        with store.state.on_change(probe), store.state.on_value(0, other):
            store.state.value = 1

        assert [1, 1] == [probe.calls, other.calls]

    def test_while_an_error_is_reported(self) -> None:
        """In `on_error`."""
        failures: list[CallbackFailure] = []

        def report(failure: CallbackFailure) -> None:
            probe(failure)
            failures.append(failure)

        store = Arena(on_error=report)
        probe = probing(store)
        with store, store.state.on_change(boom):
            store.state.value = 1

        assert 1 == probe.calls
        assert [boom] == [failure.callback for failure in failures]

    def test_while_the_parts_of_a_value_are_asked_for(self, store: Arena) -> None:
        """In the function that tells what an instance of a registered class holds."""
        probe = probing(store)

        class Opaque:
            """A class from elsewhere."""

        def parts(_value: Opaque) -> tuple[object, ...]:
            probe()
            return ()

        register_immutable(Opaque, parts=parts)
        value = Opaque()
        store.state.value = value

        assert value is store.state.value
        assert 1 <= probe.calls

    def test_two_locks_in_two_orders(self, store: Arena, loop: StepLoop) -> None:
        """A predicate takes a lock that a thread holds which sets: no deadlock (P058)."""
        lock = threading.Lock()
        holds = threading.Event()
        may_set = threading.Event()

        def holder() -> None:
            with lock:
                holds.set()
                assert may_set.wait(20)
                store.state.value = 2

        def predicate(value: object) -> bool:
            may_set.set()
            assert lock.acquire(timeout=20)
            lock.release()
            return value == 2

        thread = threading.Thread(target=holder, daemon=True)
        thread.start()
        assert holds.wait(20)
        task = loop.create_task(store.state.wait_until(predicate))
        loop.settle()
        thread.join(20)
        loop.settle()

        assert not thread.is_alive()
        assert 2 == task.result()


class TestValues:
    """Values whose methods raise or lie."""

    def test_equality_that_raises_makes_no_commit(self, store: Arena) -> None:
        """A set raises what `==` raised, and nothing has happened (P067)."""
        first = equal_by(boom)
        store.state.value = first
        revision = store.revision
        with pytest.raises(BoomError):
            store.state.value = equal_by(boom)

        def write_both(tx: Any) -> None:
            tx[store.state] = equal_by(boom)
            tx[store.beside] = 1

        with pytest.raises(BoomError):
            store.transact(write_both)

        assert first is store.state.value
        assert revision == store.revision
        assert 0 == store.beside.value

    @pytest.mark.parametrize("answer", [1, "yes", None, NotImplemented, Undecided(), [True]])
    def test_equality_that_lies_is_no_equality(self, store: Arena, answer: object) -> None:
        """Only `True` itself says that nothing changed (P068)."""
        store.state.value = equal_by(lambda _other: answer)
        value = equal_by(lambda _other: answer)
        made = store.state.set(value)

        assert made is not None
        assert value is store.state.value

    def test_equality_that_sets_the_same_key(self, store: Arena) -> None:
        """The inner set is true at once; the outer one comes behind it (P069)."""
        first = equal_by(boom)
        store.state.value = first

        def set_within(_other: object) -> bool:
            store.state.value = "within"
            return False

        value = equal_by(set_within)
        with store.state.subscribe() as sub:
            store.state.value = value
            steps = [sub.get_nowait() for _ in range(sub.pending)]

        assert ["within", value] == [
            step.new if isinstance(step.new, str) else value for step in steps
        ]
        assert value is steps[1].new
        assert "within" == steps[1].old

    def test_no_hash_is_taken_of_a_strange_value(self, store: Arena, loop: StepLoop) -> None:
        """`hash()` of a value that may raise or lie is never called."""
        task = loop.create_task(store.state.wait_for("never"))
        change = loop.create_task(store.state.wait_for_change())
        loop.settle()
        value = equal_by(lambda _other: False)
        with store.subscribe() as commits, store.state.subscribe(maxlen=1):
            store.state.value = value
            loop.settle()
            assert value is commits.get_nowait().transitions[0].new

        assert value is change.result()
        assert not task.done()
        task.cancel()
        loop.settle()

    def test_repr_that_raises_hides_no_error(self, store: Arena, loop: StepLoop) -> None:
        """Errors name the class of a value whose `repr()` is broken (P083)."""
        store.state.value = equal_by(lambda _other: False)
        with pytest.raises(WaitTimeoutError, match="Hostile with a broken repr"):
            loop.run(store.state.wait_for("never", timeout=0))
        with pytest.raises(WaitTimeoutError, match="Hostile with a broken repr"):
            loop.run(store.state.wait_for(equal_by(lambda _other: False), timeout=0))

        assert "broken repr" in repr(store.state)

    def test_repr_that_is_endless_is_cut(self, store: Arena, loop: StepLoop) -> None:
        """An error shows at most 200 characters of a value (P083)."""
        store.state.value = Hostile(
            on_repr=Ref(lambda: "x" * 1_000_000), on_eq=Ref(lambda _: False)
        )
        with pytest.raises(WaitTimeoutError) as caught:
            loop.run(store.state.wait_for("never", timeout=0))

        assert len(str(caught.value)) < 500

    def test_a_target_that_raises_ends_its_wait_alone(self, store: Arena, loop: StepLoop) -> None:
        """`==` of a target raises: its wait does too, another one and the setter do not (P067)."""
        bad = loop.create_task(store.state.wait_for(equal_by(boom), immediate=False))
        good = loop.create_task(store.state.wait_for(1))
        loop.settle()
        store.state.value = 1
        loop.settle()

        assert isinstance(bad.exception(), BoomError)
        assert 1 == good.result()

    def test_a_mutable_value_in_disguise_is_refused(self, store: Arena) -> None:
        """Every way to a list is found, whatever `==` and `hash()` say."""
        with pytest.raises(MutableValueError, match=r"state\.on_eq|list"):
            store.state.value = Hostile(on_eq=[])  # type: ignore[arg-type]

        assert 0 == store.revision


class TestPredicates:
    """Predicates that raise, lie, or use the store."""

    @pytest.mark.parametrize("error", [BoomError(), TimeoutError(), Panic(), StopIteration()])
    def test_what_a_predicate_raises_ends_its_wait_alone(
        self, store: Arena, loop: StepLoop, error: BaseException
    ) -> None:
        """The wait raises it; the setter and the others go on."""
        caught: list[BaseException] = []

        def predicate(value: object) -> bool:
            raise error

        async def wait() -> None:
            try:
                await store.state.wait_until(predicate, immediate=False)
            except BaseException as raised:
                caught.append(raised)

        bad, good = loop.create_task(wait()), loop.create_task(store.state.wait_for(1))
        loop.settle()
        store.state.value = 1
        loop.settle()

        assert bad.done()
        # A coroutine cannot let StopIteration out; Python itself makes a RuntimeError of it.
        assert [error] == [e.__cause__ if isinstance(e, RuntimeError) else e for e in caught]
        assert 1 == good.result()

    def test_an_answer_that_is_neither_true_nor_false(self, store: Arena, loop: StepLoop) -> None:
        """The error of `bool()` comes out of the wait (P060)."""
        task = loop.create_task(store.state.wait_until(lambda _now: Undecided(), immediate=False))
        loop.settle()
        store.state.value = 1
        loop.settle()

        assert isinstance(task.exception(), BoomError)

    def test_none_is_no_match(self, store: Arena, loop: StepLoop) -> None:
        """A predicate that returns nothing never matches (P060)."""
        with pytest.raises(WaitTimeoutError):
            loop.run(store.state.wait_until(lambda _now: None, timeout=1))

    def test_a_predicate_that_sets_is_called_again(self, store: Arena, loop: StepLoop) -> None:
        """What it sets is a later transition, which it is shown too (P057)."""

        def count_up(now: int) -> bool:
            if now < 5:
                store.state.value = now + 1
            return now == 5

        assert 5 == loop.run(store.state.wait_until(count_up))
        assert 5 == store.revision

    def test_a_predicate_that_closes_the_store(self, store: Arena, loop: StepLoop) -> None:
        """Its own match still counts; the other waits end with the store."""

        def close(_now: object) -> bool:
            store.close()
            return True

        task = loop.create_task(store.state.wait_until(close, immediate=False))
        other = loop.create_task(store.beside.wait_for(9))
        loop.settle()
        store.state.value = 1
        loop.settle()

        assert 1 == task.result()
        assert isinstance(other.exception(), StoreClosedError)

    def test_a_predicate_that_adds_a_key(self, store: Arena, loop: StepLoop) -> None:
        """The key is there when the predicate returns."""

        def add(_now: object) -> bool:
            return store.add("more", 1).value == 1

        task = loop.create_task(store.state.wait_until(add, immediate=False))
        loop.settle()
        store.state.value = 1
        loop.settle()

        assert 1 == task.result()
        assert 1 == store["more"].value

    def test_a_predicate_that_cancels_its_own_task(self, store: Arena, loop: StepLoop) -> None:
        """The cancellation wins over the match: the task ends cancelled."""
        tasks: list[asyncio.Task[Any]] = []
        wait = store.state.wait_until(truly(lambda _now: tasks[0].cancel()), immediate=False)
        tasks.append(loop.create_task(wait))
        loop.settle()
        store.state.value = 1
        loop.settle()

        assert tasks[0].cancelled()

    def test_a_predicate_that_starts_another_wait(self, store: Arena, loop: StepLoop) -> None:
        """A wait that begins while the others are shown a transition starts behind it."""
        tasks: list[asyncio.Task[Any]] = []

        def start(_now: object) -> bool:
            tasks.append(loop.create_task(store.state.wait_for_change()))
            return True

        task = loop.create_task(store.state.wait_until(start, immediate=False))
        loop.settle()
        store.state.value = 1
        loop.settle()
        assert 1 == task.result()
        assert not tasks[0].done()
        store.state.value = 2
        loop.settle()

        assert 2 == tasks[0].result()

    def test_a_condition_that_sets_the_same_key(self, store: Arena) -> None:
        """It is asked again, as the value that it was asked about is gone (P057)."""
        asked: list[int] = []

        def condition(now: int) -> bool:
            asked.append(now)
            if now < 3:
                store.state.value = now + 1
            return True

        assert store.state.set_if(9, condition)
        assert [0, 1, 2, 3] == asked
        assert 9 == store.state.value

    def test_an_update_that_raises_changes_nothing(self, store: Arena) -> None:
        """What the function raised comes out of `update()`, and nothing has happened."""
        with pytest.raises(BoomError):
            store.state.update(boom)
        with pytest.raises(BoomError):
            store.transact(boom)

        assert 0 == store.revision


class TestCallbacks:
    """Callbacks that raise, or turn on the store."""

    def test_a_callback_that_closes_the_store(self, store: Arena) -> None:
        """The others of the round are still told; then nothing can be set."""
        told: list[tuple[int, int]] = []
        with (
            store.state.on_change(lambda _old, _new: store.close()),
            store.state.on_change(lambda old, new: told.append((old, new))),
        ):
            store.state.value = 1
            with pytest.raises(StoreClosedError):
                store.state.value = 2

        assert [(0, 1)] == told

    def test_a_callback_that_adds_a_key_and_registers(self, store: Arena) -> None:
        """Both hold from the next revision on."""
        told: list[int] = []
        handles: list[Any] = []

        def add(_old: object, new: int) -> None:
            store.add(f"more{new}", new)
            handles.append(store.state.on_change(lambda _old, new: told.append(new)))

        with store.state.on_change(add):
            store.state.value = 1
            assert [] == told
            store.state.value = 2
        for handle in handles:
            handle.close()

        assert [2] == told
        assert [1, 2] == [store["more1"].value, store["more2"].value]

    def test_a_callback_that_cancels_a_waiting_task(self, store: Arena, loop: StepLoop) -> None:
        """The task ends cancelled, although the same commit is what it waited for."""
        task = loop.create_task(store.state.wait_for(1))
        loop.settle()
        with store.state.on_change(lambda _old, _new: task.cancel()):
            store.state.value = 1
        loop.settle()

        assert task.cancelled()

    @pytest.mark.parametrize("error", [BoomError(), Panic(), asyncio.CancelledError()])
    def test_a_callback_and_on_error_that_both_raise(self, error: BaseException) -> None:
        """The log is told; the setter and the other callbacks are not broken."""
        told: list[int] = []

        def fail(_old: object, _new: object) -> None:
            raise error

        watcher = ValueWatcher(0, on_error=boom)
        with (
            capture_logs() as logs,
            watcher.on_change(fail),
            watcher.on_change(lambda _old, new: told.append(new)),
        ):
            watcher.value = 1

        assert [1] == told
        assert ["statestore.callback_failed"] == [log["event"] for log in logs]

    def test_a_callback_that_reads_in_another_thread(self, store: Arena) -> None:
        """Another thread sees the commit whose callbacks are still running."""
        seen: list[Any] = []
        with store.state.on_change(
            lambda _old, _new: seen.append(in_thread(lambda: store.state.value))
        ):
            store.state.value = 1

        assert [1] == seen

    def test_a_set_in_another_thread_is_told_after_this_round(self, store: Arena) -> None:
        """The thread's set returns at once; its callbacks run here, behind this round."""
        told: list[Transition[Any] | int] = []

        def relay(_old: object, new: int) -> None:
            told.append(new)
            if new == 1:
                in_thread(lambda: store.state.set(2))

        with store.state.on_change(relay), store.state.on_change(lambda _, new: told.append(-new)):
            store.state.value = 1

        assert [1, -1, 2, -2] == told


class TestLoops:
    """Event loops that cannot be woken."""

    @pytest.mark.parametrize("error", [RuntimeError, BoomError])
    def test_a_loop_that_raises_is_no_concern_of_the_setter(
        self, store: Arena, error: type[Exception]
    ) -> None:
        """The set is done, others are woken, and the loop that recovers misses nothing."""
        broken = BrokenLoop(error)
        with broken, StepLoop() as good:
            lost = broken.create_task(store.state.wait_for(1))
            kept = good.create_task(store.state.wait_for(1))
            broken.settle()
            good.settle()
            with capture_logs() as logs:
                store.state.value = 1
            good.settle()

            assert 1 == kept.result()
            assert not lost.done()
            assert 1 == broken.refusals
            assert (error is BoomError) is bool(logs)
            broken.mend()

    def test_a_loop_that_panics_is_not_hidden(self, store: Arena) -> None:
        """What nobody should catch comes out of the set, which is done nevertheless."""
        broken = BrokenLoop(Panic)
        with broken:
            task = broken.create_task(store.state.wait_for(1))
            broken.settle()
            with pytest.raises(Panic):
                store.state.value = 1
            broken.mend()
            # The commit was made; whoever comes next tells the loop of it.
            assert 1 == store.state.value
            broken.settle()

            assert 1 == task.result()


def test_a_frozen_class_that_compares_by_a_probe_is_a_value() -> None:
    """The hostile values of these tests pass for immutable ones: else they would test nothing."""
    value = equal_by(boom)
    store = Arena()
    store.state.value = value

    assert value is store.state.value
    assert attrs.has(Hostile)
