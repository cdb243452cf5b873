"""Callbacks: who is called, when, in which order, in which context, and what errors do."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from statestore import (
    CallbackFailure,
    CallbackLoopError,
    Key,
    Store,
    StoreClosedError,
    Transition,
    ValueWatcher,
)
from statestore._callbacks import ROUNDS, CallbackHandle
from statestore._core import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


class App(Store):
    """Two numbers."""

    left = Key(0)
    right = Key(0)


class Recorder:
    """A callback that notes what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def __call__(self, old: int, new: int) -> None:
        """Note it."""
        self.told.append((old, new))


def in_thread(function: Callable[[], object]) -> None:
    """Run *function* in another thread, to its end."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def fail(_old: int, _new: int) -> None:
    """Raise an error, as a callback."""
    msg = "no"
    raise ValueError(msg)


class TestOrder:
    """P7: after the commit, in revision order, one at a time, never nested."""

    def test_a_callback_is_told_of_every_transition(self) -> None:
        """Old and new value of each one, in order, before the set returns."""
        number = ValueWatcher(0)
        recorder = Recorder()
        number.on_change(recorder)
        number.value = 1
        assert [(0, 1)] == recorder.told
        number.value = 5

        assert [(0, 1), (1, 5)] == recorder.told

    def test_an_equal_value_is_no_transition(self) -> None:
        """Nobody is told that nothing changed."""
        number = ValueWatcher(7)
        recorder = Recorder()
        number.on_change(recorder)
        number.value = 7

        assert [] == recorder.told

    def test_what_was_before_is_not_told(self) -> None:
        """A callback starts with the next transition."""
        number = ValueWatcher(0)
        number.value = 1
        recorder = Recorder()
        number.on_change(recorder)

        assert [] == recorder.told

    def test_callbacks_run_in_the_order_of_their_registration(self) -> None:
        """First come, first told."""
        number = ValueWatcher(0)
        order: list[str] = []
        for name in ("first", "second", "third"):
            number.on_change(lambda _old, _new, name=name: order.append(name))
        number.value = 1

        assert ["first", "second", "third"] == order

    def test_the_value_is_committed_when_callbacks_run(self) -> None:
        """A callback that reads sees at least what it is told of."""
        app = App()
        seen: list[tuple[int, int]] = []
        app.left.on_change(lambda _old, _new: seen.append((app.left.value, app.revision)))
        app.left.value = 3

        assert [(3, 1)] == seen

    def test_a_set_in_a_callback_commits_at_once_and_is_told_afterwards(self) -> None:
        """P043: the inner value is there at once; its callbacks run after the current round."""
        app = App()
        told: list[str] = []

        def first(_old: int, new: int) -> None:
            told.append(f"first {new}")
            if new == 1:
                app.left.value = 2
                told.append(f"reads {app.left.value}")

        app.left.on_change(first)
        app.left.on_change(lambda _old, new: told.append(f"second {new}"))
        app.left.value = 1

        assert ["first 1", "reads 2", "second 1", "first 2", "second 2"] == told

    def test_a_set_of_another_key_in_a_callback_is_told_afterwards(self) -> None:
        """P043: the order of revisions holds across keys."""
        app = App()
        told: list[str] = []

        def first(_old: int, new: int) -> None:
            app.right.value = new * 10

        app.left.on_change(first)
        app.right.on_change(lambda _old, new: told.append(f"right {new}"))
        app.left.on_change(lambda _old, new: told.append(f"left {new}"))
        app.left.value = 1
        app.left.value = 2

        assert ["left 1", "right 10", "left 2", "right 20"] == told

    def test_callbacks_of_one_commit_are_called_in_the_order_of_its_keys(self) -> None:
        """A transaction's callbacks run key by key, as they were set."""
        app = App()
        told: list[str] = []
        app.left.on_change(lambda _old, new: told.append(f"left {new}"))
        app.right.on_change(lambda _old, new: told.append(f"right {new} {app.left.value}"))
        with app.transaction() as tx:
            tx[App.right] = 2
            tx[App.left] = 1

        assert ["right 2 1", "left 1"] == told

    def test_a_callback_never_runs_inside_of_itself(self) -> None:
        """However often it sets, the depth is one."""
        number = ValueWatcher(0)
        depth, deepest = 0, 0

        def again(_old: int, new: int) -> None:
            nonlocal depth, deepest
            depth += 1
            deepest = max(deepest, depth)
            if new < 100:
                number.value = new + 1
            depth -= 1

        number.on_change(again)
        number.value = 1

        assert (100, 1) == (number.value, deepest)


class TestLoops:
    """P044: callbacks that set each other off without end are stopped."""

    def test_a_ping_pong_is_reported_and_names_the_cycle(self) -> None:
        """P044: after so many rounds the set that would go on is refused, without recursion."""
        failures: list[CallbackFailure] = []
        app = App(on_error=failures.append)
        app.left.on_change(lambda _old, new: app.right.set(new))
        app.right.on_change(lambda _old, new: app.left.set(new + 1))
        app.left.value = 1

        (failure,) = failures
        assert isinstance(failure.error, CallbackLoopError)
        assert "left -> right" in str(failure.error) or "right -> left" in str(failure.error)
        assert f"{ROUNDS:,}" in str(failure.error)
        assert ROUNDS + 1 == app.revision

    def test_the_store_is_usable_after_a_ping_pong(self) -> None:
        """P044: what was refused is not committed; everything goes on."""
        failures: list[CallbackFailure] = []
        app = App(on_error=failures.append)
        handle = app.left.on_change(lambda _old, new: app.right.set(new))
        app.right.on_change(lambda _old, new: app.left.set(new + 1))
        app.left.value = 1
        handle.close()
        recorder = Recorder()
        app.left.on_change(recorder)
        app.left.value = -1

        assert 1 == len(failures)
        assert -1 == app.left.value
        assert -1 == recorder.told[0][1]

    def test_as_many_rounds_as_are_allowed_are_made(self) -> None:
        """P044: a long chain that ends is no error."""
        failures: list[CallbackFailure] = []
        number = ValueWatcher(0, on_error=failures.append)
        number.on_change(lambda _old, new: new <= ROUNDS and number.set(new + 1))
        number.value = 1

        assert [] == failures
        assert ROUNDS + 1 == number.value

    def test_the_count_begins_anew_with_each_set_from_outside(self) -> None:
        """P044: many sets, each of which sets off a few, are no loop."""
        failures: list[CallbackFailure] = []
        app = App(on_error=failures.append)
        app.left.on_change(lambda _old, new: app.right.set(new))
        for value in range(1, ROUNDS + 10):
            app.left.value = value

        assert [] == failures
        assert app.left.value == app.right.value


class TestErrors:
    """P6: what a callback raises is reported, and hurts nobody else."""

    def test_the_error_is_reported_with_key_revision_and_callback(self) -> None:
        """P045: on_error is told what failed, and where."""
        failures: list[CallbackFailure] = []
        app = App(on_error=failures.append)
        app.right.value = 1
        app.left.on_change(fail)
        app.left.value = 1

        (failure,) = failures
        assert ("left", 2, fail) == (failure.key, failure.revision, failure.callback)
        assert isinstance(failure.error, ValueError)

    def test_the_others_are_told_and_the_setter_goes_on(self) -> None:
        """P045: an error stops neither the callbacks after it nor the set."""
        failures: list[CallbackFailure] = []
        number = ValueWatcher(0, on_error=failures.append)
        recorder = Recorder()
        number.on_change(fail)
        number.on_change(recorder)
        made = number.set(1)

        assert isinstance(made, Transition)
        assert [(0, 1)] == recorder.told
        assert 1 == len(failures)

    def test_a_callback_that_failed_is_called_again(self) -> None:
        """P045: an error does not end the registration."""
        failures: list[CallbackFailure] = []
        number = ValueWatcher(0, on_error=failures.append)
        number.on_change(fail)
        number.value = 1
        number.value = 2

        assert [1, 2] == [failure.revision for failure in failures]

    def test_by_default_it_is_logged_through_structlog(self) -> None:
        """P045: one event with key, revision, callback and the error."""
        app = App()
        app.left.on_change(fail)
        with capture_logs() as logs:
            app.left.value = 1

        (event,) = logs
        assert "statestore.callback_failed" == event["event"]
        assert "error" == event["log_level"]
        assert ("left", 1) == (event["key"], event["revision"])
        assert "fail" in event["callback"]
        assert isinstance(event["exc_info"], ValueError)

    def test_an_on_error_that_raises_is_logged_with_the_failure(self) -> None:
        """P045: there is always a last resort, and the setter never sees any of it."""

        def refuse(_failure: CallbackFailure) -> None:
            msg = "on_error failed too"
            raise RuntimeError(msg)

        app = App(on_error=refuse)
        recorder = Recorder()
        app.left.on_change(fail)
        app.left.on_change(recorder)
        with capture_logs() as logs:
            app.left.value = 1

        (event,) = logs
        assert "left" == event["key"]
        assert "on_error failed too" in event["on_error_raised"]
        assert [(0, 1)] == recorder.told

    def test_a_cancelled_error_is_an_error_like_any_other(self) -> None:
        """P045: a callback cannot cancel the task that sets."""
        failures: list[CallbackFailure] = []
        number = ValueWatcher(0, on_error=failures.append)

        def cancel(_old: int, _new: int) -> None:
            raise asyncio.CancelledError

        number.on_change(cancel)
        number.value = 1

        assert isinstance(failures[0].error, asyncio.CancelledError)

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_an_interrupt_is_told_to_all_others_and_propagates(
        self, kind: type[BaseException]
    ) -> None:
        """P046: the setter gets it, after the remaining callbacks were told."""
        failures: list[CallbackFailure] = []
        number = ValueWatcher(0, on_error=failures.append)
        recorder = Recorder()

        def interrupt(_old: int, _new: int) -> None:
            raise kind

        number.on_change(interrupt)
        number.on_change(recorder)
        with pytest.raises(kind):
            number.value = 1

        assert [(0, 1)] == recorder.told
        assert [] == failures
        assert 1 == number.value

    def test_after_an_interrupt_later_rounds_are_told_too(self) -> None:
        """P046: what callbacks had set meanwhile is told before the interrupt propagates."""
        number = ValueWatcher(0)
        recorder = Recorder()

        def interrupt(_old: int, new: int) -> None:
            if new == 1:
                number.value = 2
                raise KeyboardInterrupt

        number.on_change(interrupt)
        number.on_change(recorder)
        with pytest.raises(KeyboardInterrupt):
            number.value = 1

        assert [(0, 1), (1, 2)] == recorder.told

    def test_of_two_interrupts_the_first_propagates(self) -> None:
        """P046: one of them it has to be."""
        number = ValueWatcher(0)

        def interrupt(_old: int, _new: int) -> None:
            raise KeyboardInterrupt

        def leave(_old: int, _new: int) -> None:
            raise SystemExit

        number.on_change(interrupt)
        number.on_change(leave)
        with pytest.raises(KeyboardInterrupt):
            number.value = 1

    def test_callbacks_go_on_after_an_interrupt(self) -> None:
        """P046: the store is as good as before."""
        number = ValueWatcher(0)
        recorder = Recorder()

        def interrupt(_old: int, new: int) -> None:
            if new == 1:
                raise KeyboardInterrupt

        number.on_change(interrupt)
        number.on_change(recorder)
        with pytest.raises(KeyboardInterrupt):
            number.value = 1
        number.value = 2

        assert [(0, 1), (1, 2)] == recorder.told


class TestRegistration:
    """What is registered is told, and what is not is not."""

    def test_a_callback_may_end_itself(self) -> None:
        """P047: it is not called again, and the others are."""
        number = ValueWatcher(0)
        told: list[int] = []

        def once(_old: int, new: int) -> None:
            told.append(new)
            handle.close()

        handle = number.on_change(once)
        recorder = Recorder()
        number.on_change(recorder)
        number.value = 1
        number.value = 2

        assert [1] == told
        assert [(0, 1), (1, 2)] == recorder.told
        assert handle.is_closed

    def test_one_that_is_ended_before_its_turn_is_not_called(self) -> None:
        """P047: a callback that another one ends in the same round does not run any more."""
        number = ValueWatcher(0)
        recorder = Recorder()
        number.on_change(lambda _old, _new: handle.close())
        handle = number.on_change(recorder)
        number.value = 1

        assert [] == recorder.told

    def test_one_that_is_added_in_a_callback_starts_with_the_next_revision(self) -> None:
        """P047: it is not told of the commit that is being told."""
        number = ValueWatcher(0)
        recorder = Recorder()
        added: list[CallbackHandle] = []

        def add(_old: int, _new: int) -> None:
            if not added:
                added.append(number.on_change(recorder))

        number.on_change(add)
        number.value = 1
        assert [] == recorder.told
        number.value = 2

        assert [(1, 2)] == recorder.told

    def test_one_that_is_added_after_an_inner_set_is_not_told_of_that(self) -> None:
        """P047: it starts with the revision after its registration, though rounds are pending."""
        number = ValueWatcher(0)
        recorder = Recorder()

        def add(_old: int, new: int) -> None:
            if new == 1:
                number.value = 2
                number.on_change(recorder)
                number.value = 3

        number.on_change(add)
        number.value = 1

        assert [(2, 3)] == recorder.told

    def test_closing_from_another_thread_does_not_wait(self) -> None:
        """P048: close() returns while the callback runs, and no new call starts."""
        number = ValueWatcher(0)
        running, go_on = threading.Event(), threading.Event()
        told: list[int] = []

        def slow(_old: int, new: int) -> None:
            told.append(new)
            running.set()
            assert go_on.wait(10)

        handle = number.on_change(slow)
        setter = threading.Thread(target=number.set, args=(1,))
        setter.start()
        assert running.wait(10)
        handle.close()
        number.value = 2
        go_on.set()
        setter.join()
        number.value = 3

        assert [1] == told

    def test_a_slow_callback_holds_up_neither_reader_nor_setter(self) -> None:
        """P049: another thread reads, sets and subscribes while a callback runs."""
        number = ValueWatcher(0)
        recorder = Recorder()
        done: list[int] = []

        def slow(_old: int, new: int) -> None:
            if new == 1:
                in_thread(others)

        def others() -> None:
            number.value = 2
            with number.blocking.subscribe() as stream:
                number.value = 3
                done.append(stream.get_nowait().new)
            done.append(number.value)

        number.on_change(slow)
        number.on_change(recorder)
        number.value = 1

        assert [3, 3] == done
        assert [(0, 1), (1, 2), (2, 3)] == recorder.told

    def test_the_same_callback_twice_is_called_twice(self) -> None:
        """P051: two registrations have two handles."""
        number = ValueWatcher(0)
        recorder = Recorder()
        first = number.on_change(recorder)
        second = number.on_change(recorder)
        number.value = 1
        assert [(0, 1), (0, 1)] == recorder.told
        first.close()
        number.value = 2

        assert [(0, 1), (0, 1), (1, 2)] == recorder.told
        assert first is not second

    def test_a_callback_is_kept_until_its_handle_is_closed(self) -> None:
        """P052: a bound method keeps its object alive, and close() lets go of it."""
        number = ValueWatcher(0)

        class Owner:
            told = 0

            def note(self, _old: int, _new: int) -> None:
                type(self).told += 1

        owner = Owner()
        alive = weakref.ref(owner)
        handle = number.on_change(owner.note)
        del owner
        gc.collect()
        number.value = 1
        assert 1 == Owner.told
        handle.close()
        del handle
        number.value = 2
        gc.collect()

        assert None is alive()

    def test_leaving_the_block_of_a_handle_ends_it(self) -> None:
        """A handle is a context manager, and can be closed twice."""
        number = ValueWatcher(0)
        recorder = Recorder()
        with number.on_change(recorder) as handle:
            number.value = 1
            assert not handle.is_closed
        number.value = 2
        handle.close()

        assert [(0, 1)] == recorder.told
        assert "closed callback" in repr(handle)

    def test_a_coroutine_function_is_refused(self) -> None:
        """P053: it would never be awaited; the error says what to do."""

        async def later(_old: int, _new: int) -> None:
            pass

        class Later:
            async def __call__(self, _old: int, _new: int) -> None:
                pass

        number = ValueWatcher(0)
        for callback in (later, Later()):
            with pytest.raises(TypeError, match="must be a plain function"):
                number.on_change(callback)
        with pytest.raises(TypeError, match="must be a plain function"):
            number.on_value(1, later)  # type: ignore[arg-type]

    def test_what_cannot_be_called_is_refused(self) -> None:
        """P053: at registration, not at the first transition."""
        number = ValueWatcher(0)

        with pytest.raises(TypeError, match="must be callable"):
            number.on_change(3)  # type: ignore[arg-type]

    def test_the_callback_given_at_construction_is_called(self) -> None:
        """`ValueWatcher(initial, on_change=...)` registers it."""
        recorder = Recorder()
        number = ValueWatcher(0, on_change=recorder)
        number.value = 1

        assert [(0, 1)] == recorder.told


class TestReentry:
    """P055: a callback may do with the store what anybody may."""

    def test_the_store_may_be_closed_in_a_callback(self) -> None:
        """P055: the callbacks of the commit are told to the end; later sets are refused."""
        app = App()
        recorder = Recorder()
        app.left.on_change(lambda _old, _new: app.close())
        app.left.on_change(recorder)
        app.left.value = 1

        assert [(0, 1)] == recorder.told
        with pytest.raises(StoreClosedError):
            app.left.value = 2

    def test_a_set_after_closing_in_a_callback_is_reported(self) -> None:
        """P055: the refusal is an error of that callback."""
        failures: list[CallbackFailure] = []
        app = App(on_error=failures.append)

        def close_and_set(_old: int, _new: int) -> None:
            app.close()
            app.right.value = 1

        app.left.on_change(close_and_set)
        app.left.value = 1

        assert [StoreClosedError] == [type(failure.error) for failure in failures]
        assert 0 == app.right.value

    def test_a_subscription_opened_in_a_callback_starts_there(self) -> None:
        """P055: it gets what is committed after its opening."""
        app = App()
        opened: list[Any] = []
        app.left.on_change(lambda _old, _new: opened or opened.append(app.left.subscribe()))
        app.left.value = 1
        app.left.value = 2
        with opened[0] as subscription:
            assert 1 == subscription.pending
            assert 2 == subscription.get_nowait().new

    def test_a_transaction_may_be_made_in_a_callback(self) -> None:
        """P055: it commits at once, and is told afterwards."""
        app = App()
        told: list[str] = []
        app.right.on_change(lambda old, new: told.append(f"right {old} {new}"))

        def add(_old: int, new: int) -> None:
            app.transact(lambda tx: tx.__setitem__(App.right, tx[App.right] + new))
            told.append(f"reads {app.right.value}")

        app.left.on_change(add)
        app.left.value = 3

        assert ["reads 3", "right 0 3"] == told

    def test_a_key_may_be_added_in_a_callback(self) -> None:
        """P055: it is there at once."""
        app = App()
        app.left.on_change(lambda _old, new: app.add(f"key {new}", new))
        app.left.value = 1

        assert 1 == app["key 1"].value


class TestContext:
    """P050: the setter's thread or the one that runs callbacks; the setter's context."""

    def test_callbacks_run_in_the_thread_that_sets(self) -> None:
        """P050: where nobody is running callbacks, the setter does."""
        number = ValueWatcher(0)
        threads: list[int] = []
        number.on_change(lambda _old, _new: threads.append(threading.get_ident()))
        expected: list[int] = []
        in_thread(lambda: (expected.append(threading.get_ident()), number.set(1)))
        number.value = 2

        assert [*expected, threading.get_ident()] == threads

    def test_a_commit_that_comes_meanwhile_is_told_by_the_thread_at_work(self) -> None:
        """P050: another setter returns at once; one thread runs the callbacks of both."""
        number = ValueWatcher(0)
        threads: list[int] = []

        def note(_old: int, new: int) -> None:
            threads.append(threading.get_ident())
            if new == 1:
                in_thread(lambda: number.set(2))
                assert 1 == len(threads)

        number.on_change(note)
        number.value = 1

        assert [threading.get_ident()] * 2 == threads

    def test_the_context_is_the_setters(self) -> None:
        """P050: context variables are those of the set, in whichever thread the callback runs."""
        number = ValueWatcher(0)
        seen: list[str] = []

        def set_in_thread() -> None:
            who.set("thread")
            number.value = 2
            who.set("thread, later")

        def note(_old: int, new: int) -> None:
            seen.append(who.get())
            if new == 1:
                in_thread(set_in_thread)

        number.on_change(note)
        context = contextvars.copy_context()
        context.run(who.set, "main")
        context.run(number.set, 1)

        assert ["main", "thread"] == seen

    def test_the_context_is_captured_at_the_commit(self) -> None:
        """P050: what a callback sets in its context is not seen by the setter."""
        number = ValueWatcher(0)
        number.on_change(lambda _old, _new: who.set("callback"))
        number.value = 1

        assert "nobody" == who.get()

    def test_a_set_in_a_callback_has_the_context_of_the_callback(self) -> None:
        """P050: the chain of sets carries the context on."""
        app = App()
        seen: list[str] = []
        app.left.on_change(lambda _old, new: app.right.set(new))
        app.right.on_change(lambda _old, _new: seen.append(who.get()))
        context = contextvars.copy_context()
        context.run(who.set, "outside")
        context.run(app.left.set, 1)

        assert ["outside"] == seen


class TestOnValue:
    """P054: `on_value()` calls once, when the value is there."""

    def test_it_fires_when_the_value_comes(self) -> None:
        """P054: not before, and only once."""
        number = ValueWatcher(0)
        fired: list[int] = []
        handle = number.on_value(2, lambda: fired.append(number.value))
        number.value = 1
        assert [] == fired
        number.value = 2
        number.value = 1
        number.value = 2

        assert [2] == fired
        assert handle.is_closed

    def test_it_fires_at_once_if_the_value_is_there(self) -> None:
        """P054: before on_value() returns, and never again."""
        number = ValueWatcher(2)
        fired: list[int] = []
        handle = number.on_value(2, lambda: fired.append(1))
        assert [1] == fired
        number.value = 1
        number.value = 2

        assert [1] == fired
        assert handle.is_closed

    def test_it_fires_once_in_a_burst(self) -> None:
        """P054: sets made by callbacks in the same round do not fire it again."""
        number = ValueWatcher(0)
        fired: list[int] = []
        burst = iter([2, 1, 2, 1])
        number.on_change(lambda _old, _new: number.set(next(burst, number.value)))
        number.on_value(1, lambda: fired.append(number.value))
        number.value = 1

        assert 1 == len(fired)

    def test_it_fires_for_a_value_that_is_gone_already(self) -> None:
        """P054: it was there once, which is what was asked."""
        number = ValueWatcher(0)
        fired: list[int] = []
        number.on_change(lambda _old, new: new == 1 and number.set(2))
        number.on_value(1, lambda: fired.append(number.value))
        number.value = 1

        assert [2] == fired

    def test_it_needs_no_loop(self) -> None:
        """P054: a plain thread can use it."""
        number = ValueWatcher(0)
        fired: list[int] = []

        def use() -> None:
            number.on_value(1, lambda: fired.append(threading.get_ident()))
            number.value = 1

        in_thread(use)

        assert 1 == len(fired)

    def test_closed_before_it_does_not_fire(self) -> None:
        """P054: the handle ends it."""
        number = ValueWatcher(0)
        fired: list[int] = []
        number.on_value(1, lambda: fired.append(1)).close()
        number.value = 1

        assert [] == fired

    def test_its_error_is_reported(self) -> None:
        """P045: be it at once or later."""
        failures: list[CallbackFailure] = []
        number = ValueWatcher(0, on_error=failures.append)

        def refuse() -> None:
            msg = "no"
            raise ValueError(msg)

        number.on_value(0, refuse)
        number.on_value(1, refuse)
        number.value = 1

        assert [(0, refuse), (1, refuse)] == [(f.revision, f.callback) for f in failures]

    def test_an_interrupt_at_once_propagates(self) -> None:
        """P046: out of on_value() itself."""
        number = ValueWatcher(0)

        def interrupt() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            number.on_value(0, interrupt)

    def test_one_among_threads_that_set_it_fires_once(self) -> None:
        """P054: registration and sets in any order give exactly one call."""

        def race() -> list[int]:
            number = ValueWatcher(0)
            fired: list[int] = []
            threads = [
                threading.Thread(target=number.set, args=(1,)),
                threading.Thread(target=number.on_value, args=(1, lambda: fired.append(1))),
                threading.Thread(target=number.set, args=(1,)),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return fired

        assert [[1]] * 50 == [race() for _ in range(50)]


class _TakenAtTheLastMoment(list[object]):
    """The box of the right to run callbacks: another one appends just before us."""

    def append(self, token: object) -> None:
        super().append("another one's")
        super().append(token)


def test_who_is_second_to_take_the_right_leaves_the_calls_to_the_first() -> None:
    """Of two that want to run callbacks at once one does, and the calls are not lost."""
    watcher = ValueWatcher(0)
    told: list[int] = []
    watcher.on_change(lambda _old, new: told.append(new))
    inline = watcher._core.inline
    inline._right = _TakenAtTheLastMoment()
    watcher.value = 1
    assert [] == told

    # The first is done, and looks once more for what was left to it.
    inline._right = []
    inline.run()
    assert [1] == told


def test_on_value_finds_what_came_while_it_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A match between the look at the value and the registration is found, and fires once."""
    watcher = ValueWatcher(0)
    fired: list[str] = []
    look = Slot._latest

    def look_then_lose(slot: Slot) -> list[Any]:
        cell = look(slot)
        monkeypatch.setattr(Slot, "_latest", look)
        watcher.value = 1
        watcher.value = 2
        return cell

    monkeypatch.setattr(Slot, "_latest", look_then_lose)
    handle = watcher.on_value(1, lambda: fired.append("match"))
    watcher.value = 1

    assert ["match"] == fired
    assert handle.is_closed


def test_on_value_that_cannot_compare_leaves_nothing() -> None:
    """An `==` that raises comes out of `on_value()`, and nothing stays registered."""

    class Odd:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            raise ZeroDivisionError

    watcher = ValueWatcher[object](0)
    with pytest.raises(ZeroDivisionError):
        watcher.on_value(Odd(), lambda: None)

    assert {} == watcher._core.listen(watcher).callbacks


def test_on_value_fires_once_whoever_comes_first() -> None:
    """The look of `on_value()` and a commit may find the match both; one of them fires."""
    watcher = ValueWatcher(0)
    fired: list[str] = []
    handle = watcher.on_value(1, lambda: fired.append("match"))
    handle._function(0, 1)
    handle._function(0, 1)

    assert ["match"] == fired
