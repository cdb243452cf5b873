"""Claims against sets, claims and the end, in every schedule of two threads or in many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from statestore import Key, Store, Transaction, WaitTimeoutError
from statestore.testing import StepLoop, assert_no_trace
from support.schedules import both, explore, interleave


class App(Store):
    """What is claimed."""

    free = Key(0)
    is_open = Key(True)


def is_some(number: int) -> bool:
    """Tell whether there is something to take."""
    return number > 0


def one_less(number: int) -> int:
    """Take one."""
    return number - 1


def one_more(number: int) -> int:
    """Give one back."""
    return number + 1


def take_one(tx: Transaction) -> None:
    """Take one in a transaction."""
    tx[App.free] -= 1


def of_watcher(app: App) -> object:
    """Claim one."""
    return app.free.blocking.claim(is_some, one_less)


def of_watcher_apart(app: App) -> object:
    """Claim one under a condition of its own."""
    return app.free.blocking.claim(lambda free: free > 0, one_less)


def of_store(app: App) -> object:
    """Claim one as several keys."""
    return app.blocking.claim(app.free.matches(is_some), take_one)


CLAIMS = [of_watcher, of_watcher_apart, of_store]

Claim = Callable[[App], object]


def opened(free: int = 0) -> App:
    """Give a store that has so many."""
    with interleave.no_interleave():
        app = App()
        app.free.value = free
    return app


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_and_a_set(claim: Claim) -> None:
    """P027: the thread parks before or after the set, and gets what it claims in every schedule."""

    def model() -> None:
        app = opened()
        both(lambda: claim(app), lambda: app.free.set(1))
        with interleave.no_interleave():
            assert (0, 2) == (app.free.value, app.revision)
            assert_no_trace(app)

    explore(model, 100)


@pytest.mark.parametrize("second", CLAIMS)
@pytest.mark.parametrize("first", CLAIMS)
def test_two_claims(first: Claim, second: Claim) -> None:
    """P090: each takes one of two, whoever is first."""

    def model() -> None:
        app = opened(2)
        both(lambda: first(app), lambda: second(app))
        with interleave.no_interleave():
            assert (0, 3) == (app.free.value, app.revision)
            assert_no_trace(app)

    explore(model, 20)


@pytest.mark.parametrize("second", CLAIMS)
@pytest.mark.parametrize("first", CLAIMS)
def test_two_claims_of_one_thing(first: Claim, second: Claim) -> None:
    """P027: there is one, which is given back: the other is waiting for it, or comes later."""

    def model() -> None:
        app = opened(1)

        def use(claim: Claim) -> Callable[[], None]:
            def run() -> None:
                claim(app)
                app.free.update(one_more)

            return run

        both(use(first), use(second))
        with interleave.no_interleave():
            assert (1, 5) == (app.free.value, app.revision)
            assert_no_trace(app)

    explore(model, 20)


def test_two_who_look_once() -> None:
    """P090: exactly one has it."""

    def model() -> None:
        app = opened(1)
        made: list[Any] = []

        def look() -> None:
            try:
                made.append(app.free.blocking.claim(is_some, one_less, timeout=0))
            except WaitTimeoutError:
                made.append(None)

        both(look, look)
        with interleave.no_interleave():
            assert [0, None] == sorted((m and m.new for m in made), key=str)
            assert (0, 2) == (app.free.value, app.revision)

    explore(model, 100)


def test_a_claim_of_several_keys_and_the_end_of_its_condition() -> None:
    """P087: nothing is taken once the condition holds no more."""

    def model() -> None:
        app = opened(1)
        order: list[int] = []

        def claim() -> None:
            try:
                app.blocking.claim(app.is_open, take_one, timeout=0)
            except WaitTimeoutError:
                return
            order.append(app.free.revision)

        both(claim, lambda: app.is_open.set(False))
        with interleave.no_interleave():
            assert all(revision < app.is_open.revision for revision in order)
            assert app.free.value == 1 - len(order)

    explore(model, 100)


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_and_the_end_of_the_store(claim: Claim) -> None:
    """P092: it ends in every schedule."""

    def model() -> None:
        app = opened()
        both(lambda: claim(app), app.close)
        with interleave.no_interleave():
            assert 0 == app.free.value
            assert_no_trace(app)

    explore(model, 100)


@pytest.mark.parametrize("of_loop", [of_watcher, of_store])
def test_a_claim_on_a_loop_and_a_set(of_loop: Claim) -> None:
    """P027: a loop is told of what another thread sets while a claim joins its line."""

    def model() -> None:
        app = opened()
        with interleave.no_interleave():
            loop = StepLoop()
            condition = app.free.matches(is_some)
            if of_loop is of_watcher:
                claims = [app.free.claim(is_some, one_less) for _ in range(2)]
            else:
                claims = [app.claim(condition, take_one) for _ in range(2)]  # type: ignore[misc]
            tasks = [loop.create_task(claim) for claim in claims]
        both(loop.settle, lambda: (app.free.set(1), app.free.update(one_more)))
        with interleave.no_interleave():
            loop.settle()
            assert [True, True] == [task.done() for task in tasks]
            assert 0 == app.free.value
            loop.close()
            assert_no_trace(app)

    explore(model, 100)


@pytest.mark.parametrize("in_thread", CLAIMS)
def test_a_claim_on_a_loop_and_one_in_a_thread(in_thread: Claim) -> None:
    """P090: each takes one of two."""

    def model() -> None:
        app = opened(2)
        with interleave.no_interleave():
            loop = StepLoop()
            task = loop.create_task(app.free.claim(is_some, one_less))
        both(loop.settle, lambda: in_thread(app))
        with interleave.no_interleave():
            loop.settle()
            assert task.done()
            assert (0, 3) == (app.free.value, app.revision)
            loop.close()

    explore(model, 60)
