"""Callbacks on derived watchers: registered, called and closed while others are at it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from statestore import CallbackFailure, CallbackHandle, Key, Store, Watcher, combine

PATIENCE = 30.0
"""Seconds after which a thread that waits for another one gives up."""


class App(Store):
    a = Key(0)
    b = Key(0)
    other = Key(0)


@contextmanager
def callbacks_under_way(app: App) -> Iterator[threading.Thread]:
    """Have another thread call a callback of *app* from the beginning to the end of the block."""
    begun, end = threading.Event(), threading.Event()

    def hold(_old: int, _new: int) -> None:
        begun.set()
        assert end.wait(PATIENCE)

    with app.other.on_change(hold):
        thread = threading.Thread(target=app.other.set, args=(app.other.value + 1,))
        thread.start()
        assert begun.wait(PATIENCE)
        try:
            yield thread
        finally:
            end.set()
            thread.join(PATIENCE)
            assert not thread.is_alive()


def follow(watcher: Watcher[int], calls: list[tuple[int, int]]) -> CallbackHandle:
    return watcher.on_change(lambda old, new: calls.append((old, new)))


def consumers_of(app: App) -> int:
    """Count what the keys of *app* have of networks."""
    listeners = [slot._listeners for slot in app._core.names.values()]
    return sum(len(some.groups) + len(some.ports) for some in listeners if some is not None)


def test_registering_does_not_wait_for_another_thread() -> None:
    """While another thread calls callbacks, one is registered at once; that thread calls it."""
    app, calls, threads = App(), list[tuple[int, int]](), set[int | None]()
    doubled = app.a.map(lambda value: value * 2)

    def note(old: int, new: int) -> None:
        calls.append((old, new))
        threads.add(threading.get_ident())

    with callbacks_under_way(app) as thread:
        app.a.value = 1
        handle = doubled.on_change(note)
        app.a.value = 2
        app.a.value = 3
        assert [] == calls

    assert [(2, 4), (4, 6)] == calls
    assert {thread.ident} == threads
    app.a.value = 4
    assert (6, 8) == calls[-1]
    handle.close()
    app.a.value = 5
    assert 3 == len(calls)
    assert 0 == consumers_of(app)


@pytest.mark.parametrize("turn", [1, 2])
def test_what_comes_while_registering_came_before(turn: int) -> None:
    """What is committed while a network is being built is not told: it came before."""
    app, calls = App(), list[tuple[int, int]]()
    computed = list[int]()

    def double(value: int) -> int:
        computed.append(value)
        if len(computed) == turn:
            app.a.value += 1
        return value * 2

    with callbacks_under_way(app):
        handle = follow(app.a.map(double), calls)
        app.a.value = 7

    assert [(2, 14)] == calls
    handle.close()


def test_what_is_computed_ahead_is_told_in_its_turn() -> None:
    """A callback that commits and registers has others told of either commit in its turn."""
    app, events = App(), list[tuple[str, int]]()
    doubled = app.a.map(lambda value: value * 2)
    handles = list[CallbackHandle]()

    def again(_old: int, new: int) -> None:
        events.append(("a", new))
        if new == 1:
            app.a.value = 2
            handles.append(doubled.on_change(lambda _old, new: events.append(("late", new))))

    with doubled.on_change(lambda _old, new: events.append(("doubled", new))):
        with app.a.on_change(again):
            app.a.value = 1
        assert [("a", 1), ("doubled", 2), ("a", 2), ("doubled", 4)] == events
        app.a.value = 3
        assert [("doubled", 6), ("late", 6)] == events[4:]

    handles[0].close()


@pytest.mark.parametrize("before", [True, False])
def test_on_value_beside_another_thread(*, before: bool) -> None:
    """A callback for a value fires once, whether that is there or comes, also beside others."""
    app, fired = App(), list[int]()
    total = combine(app.a, app.b, using=lambda a, b: a + b)

    with callbacks_under_way(app):
        if before:
            app.a.value = 3
        handle = total.on_value(3, lambda: fired.append(app.revision))
        assert before == bool(fired)
        app.b.value = 1
        app.a.value = 2

    assert 1 == len(fired)
    assert handle.is_closed
    assert 0 == consumers_of(app)


def test_on_value_is_in_time_for_what_came_while_registering() -> None:
    """A value that was only there while the callback was being registered fires it, too."""
    app, fired = App(), list[None]()
    stirred = list[None]()

    def negative(value: int) -> int:
        if not stirred:
            stirred.append(None)
            app.a.value = 5
            app.a.value = 6
        return -value

    with callbacks_under_way(app):
        app.a.map(negative).on_value(-6, lambda: fired.append(None))

    assert [None] == fired


def test_closing_beside_another_thread_loses_nothing_of_others() -> None:
    """While another thread calls callbacks, closing one leaves the others of its network alone."""
    app, calls, closed = App(), list[tuple[int, int]](), list[tuple[int, int]]()
    handle = follow(app.a.map(lambda value: value + 10), calls)
    going = follow(app.a.map(lambda value: value + 20), closed)

    with callbacks_under_way(app):
        app.a.value = 1
        going.close()
        app.a.value = 2

    assert [(10, 11), (11, 12)] == calls
    assert [] == closed
    handle.close()
    assert 0 == consumers_of(app)


@pytest.mark.parametrize("close", [False, True])
def test_one_that_closes_another_one(*, close: bool) -> None:
    """A callback that closes one of the same commit keeps it from being called, and no other."""
    app, calls = App(), list[str]()
    positive = app.a.map(lambda value: value > 0)
    handles = list[CallbackHandle]()

    def first(_old: bool, _new: bool) -> None:
        calls.append("first")
        if close:
            handles[1].close()

    handles += [
        positive.on_change(first),
        positive.on_change(lambda _old, _new: calls.append("second")),
        positive.on_change(lambda _old, _new: calls.append("third")),
    ]
    app.a.value = 1

    assert ["first", *([] if close else ["second"]), "third"] == calls
    for handle in handles:
        handle.close()
    assert 0 == consumers_of(app)


def test_an_interrupt_of_one_callback_comes_after_all_others() -> None:
    """KeyboardInterrupt out of a callback reaches the setter when all others have been told."""
    app, calls = App(), list[tuple[int, int]]()

    def interrupt(_old: int, _new: int) -> None:
        raise KeyboardInterrupt

    doubled = app.a.map(lambda value: value * 2)
    with doubled.on_change(interrupt), follow(doubled, calls), follow(app.a, calls):
        with pytest.raises(KeyboardInterrupt):
            app.a.value = 1

        assert {(0, 2), (0, 1)} == set(calls)


def test_an_error_is_reported_with_its_place() -> None:
    """What a callback raises is reported with the name, the revision and the callback."""
    failures = list[CallbackFailure]()
    app = App(on_error=failures.append)

    def broken(_old: int, _new: int) -> None:
        raise LookupError

    app.b.value = 1
    with app.a.map(abs).on_change(broken):
        app.a.value = -2

    (failure,) = failures
    assert ("a.map(abs)", 2, broken) == (failure.key, failure.revision, failure.callback)
    assert isinstance(failure.error, LookupError)


@pytest.mark.parametrize("number", [1, 3])
def test_computed_once_for_all_callbacks(number: int) -> None:
    """However many callbacks follow a derived watcher, a commit has it computed once."""
    app, seen = App(), list[int]()
    derived: Watcher[int] = app.a.map(lambda value: seen.append(value) or value)  # type: ignore[func-returns-value]
    handles = [follow(derived, []) for _ in range(number)]
    seen.clear()

    app.a.value = 1
    app.b.value = 1
    app.a.value = 2

    assert [1, 2] == seen
    for handle in handles:
        handle.close()


def test_registered_by_a_callback() -> None:
    """One that is registered by a callback is told of what comes after the registration."""
    app, calls = App(), list[tuple[int, int]]()
    handles = list[CallbackHandle]()

    def register(_old: int, new: int) -> None:
        if new == 1:
            handles.append(follow(app.a.map(lambda value: value * 10), calls))
            app.a.value = 2

    with app.a.on_change(register):
        app.a.value = 1

    assert [(10, 20)] == calls
    handles[0].close()
    assert 0 == consumers_of(app)


@pytest.mark.parametrize("registered", [Watcher.on_change, Watcher.on_value])
def test_a_handle_can_be_closed_twice(registered: Callable[..., CallbackHandle]) -> None:
    """Closing one that is closed does nothing."""
    app = App()
    watcher = app.a.map(abs)
    args = (7,) if registered is Watcher.on_value else ()
    handle = registered(watcher, *args, lambda *_args: None)

    assert not handle.is_closed
    handle.close()
    handle.close()

    assert handle.is_closed
    assert 0 == consumers_of(app)


def test_one_that_is_closed_is_not_kept_by_another() -> None:
    """A callback that is closed goes, also when another one follows the same derived watcher."""
    app, calls = App(), list[tuple[int, int]]()
    doubled = app.a.map(lambda value: value * 2)

    def note(_old: int, _new: int) -> None: ...

    gone = weakref.ref(note)
    with follow(doubled, calls):
        doubled.on_change(note).close()
        del note

        assert gone() is None


def test_one_that_is_closed_while_another_is_called_goes_after_that() -> None:
    """What is closed while another thread calls what is derived is forgotten by that thread."""
    app = App()
    begun, end = threading.Event(), threading.Event()

    def hold(_old: int, _new: int) -> None:
        begun.set()
        assert end.wait(PATIENCE)

    with app.a.map(abs).on_change(hold):
        going = follow(app.b.map(abs), [])
        thread = threading.Thread(target=app.a.set, args=(1,))
        thread.start()
        assert begun.wait(PATIENCE)
        going.close()
        end.set()
        thread.join(PATIENCE)

        assert 1 == consumers_of(app)
    assert 0 == consumers_of(app)
