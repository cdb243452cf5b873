"""
The connection of the article that this package grew out of, and everything its class can do.

A connection moves through five states while handlers wait for some of them.
What is asked of `ValueWatcher` here is what the article's class of that name offers: the same
names, arguments and meanings. What it could not do is tested elsewhere.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from enum import Enum
from typing import Any

import pytest
import structlog.testing

from statestore import ValueWatcher
from statestore.testing import StepLoop


class Conn(Enum):
    """The states of a connection."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSING = "closing"
    CLOSED = "closed"


class Socket:
    """What a connection is made of: neither immutable nor comparable."""


@pytest.fixture
def conn() -> ValueWatcher[Conn]:
    """Give a connection that was not opened yet."""
    return ValueWatcher(Conn.DISCONNECTED)


class TestScenarios:
    """The stories that the article tells."""

    async def test_a_state_that_is_gone_in_the_same_tick_is_seen(
        self, conn: ValueWatcher[Conn]
    ) -> None:
        """The headline: who drains on CLOSING does so, though CLOSED follows before it can run."""
        drained: list[Conn] = []

        async def drain() -> None:
            drained.append(await conn.wait_for(Conn.CLOSING))

        task = asyncio.create_task(drain())
        await asyncio.sleep(0)
        conn.value = Conn.CLOSING
        conn.value = Conn.CLOSED
        await task

        assert [Conn.CLOSING] == drained
        assert Conn.CLOSED is conn.value

    async def test_each_handler_waits_for_a_state_of_its_own(
        self, conn: ValueWatcher[Conn]
    ) -> None:
        """One watcher serves all handlers, with no flag for each state; a burst wakes them all."""
        tasks = [asyncio.create_task(conn.wait_for(state)) for state in Conn]
        away = asyncio.create_task(conn.wait_for_not(Conn.DISCONNECTED))
        await asyncio.sleep(0)

        for state in Conn:
            conn.value = state

        assert list(Conn) == await asyncio.gather(*tasks)
        assert Conn.CONNECTING is await away

    def test_nobody_polls(self, conn: ValueWatcher[Conn]) -> None:
        """A handler that waits does nothing: no timer is set, and nothing is ready to run."""
        with StepLoop() as loop:
            loop.create_task(conn.wait_for(Conn.CLOSING))
            loop.settle()

            assert ([], []) == (loop.ready(), loop.timers())

    def test_a_thread_sets_and_a_task_sees_it(self, conn: ValueWatcher[Conn]) -> None:
        """Any thread may set the value; waits on an event loop end by it."""

        async def drain() -> Conn:
            task = asyncio.create_task(conn.wait_for(Conn.CLOSING))
            await asyncio.sleep(0)
            thread = threading.Thread(target=close)
            thread.start()
            state = await task
            thread.join()
            return state

        def close() -> None:
            conn.value = Conn.CLOSING
            conn.value = Conn.CLOSED

        assert Conn.CLOSING is asyncio.run(drain())

    def test_loops_in_several_threads_see_every_state(self, conn: ValueWatcher[Conn]) -> None:
        """Handlers on the loops of several threads are all served, as if each were alone."""
        ready = threading.Barrier(4)
        seen: list[list[Conn]] = []

        async def follow() -> None:
            waits = [asyncio.ensure_future(conn.wait_for(state)) for state in Conn]
            await asyncio.sleep(0)
            ready.wait()
            seen.append(await asyncio.gather(*waits))

        threads = [threading.Thread(target=lambda: asyncio.run(follow())) for _ in range(3)]
        for thread in threads:
            thread.start()
        ready.wait()
        for state in Conn:
            conn.value = state
        for thread in threads:
            thread.join()

        assert [list(Conn)] * 3 == seen

    async def test_a_handler_that_is_cancelled_leaves_the_others_alone(
        self, conn: ValueWatcher[Conn]
    ) -> None:
        """A wait that is cancelled ends as cancelled; the next one gets its state."""
        given_up = asyncio.create_task(conn.wait_for(Conn.CLOSING))
        patient = asyncio.create_task(conn.wait_for(Conn.CLOSING))
        await asyncio.sleep(0)
        given_up.cancel()
        conn.value = Conn.CLOSING

        assert Conn.CLOSING is await patient
        assert given_up.cancelled()

    async def test_the_first_of_several_waits_decides(self, conn: ValueWatcher[Conn]) -> None:
        """Waits on several watchers can be raced with `asyncio.wait()`, the losers cancelled."""
        failure = ValueWatcher[Exception | None](None)
        connected = asyncio.create_task(conn.wait_for(Conn.CONNECTED))
        failed = asyncio.create_task(failure.wait_for_not_none())
        await asyncio.sleep(0)

        failure.value = error = ConnectionError()
        done, pending = await asyncio.wait((connected, failed), return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.wait(pending)

        assert {failed} == done
        assert error is failed.result()
        assert connected.cancelled()

    async def test_requests_in_flight_are_counted(self) -> None:
        """A count that goes up and down with `+=` and `-=` can be waited down to zero."""
        pending = ValueWatcher(0)
        pending.value += 1
        pending.value += 1
        idle = asyncio.create_task(pending.wait_for(0))
        await asyncio.sleep(0)

        pending.value -= 1
        pending.value -= 1
        pending.value += 1

        assert 0 == await idle
        assert 1 == pending.value

    async def test_a_wait_can_stand_inside_other_tools(self, conn: ValueWatcher[Conn]) -> None:
        """Waits work in `asyncio.gather()` under `asyncio.wait_for()`, as any coroutine does."""
        pending = ValueWatcher(0)

        results = await asyncio.wait_for(
            asyncio.gather(pending.wait_for(0), conn.wait_for(Conn.DISCONNECTED)), timeout=60
        )

        assert [0, Conn.DISCONNECTED] == results


class TestWaitFor:
    """`wait_for(value, immediate=, timeout=)`."""

    async def test_returns_at_once_what_is_there(self, conn: ValueWatcher[Conn]) -> None:
        """A value that is there already is returned without a pause."""
        assert Conn.DISCONNECTED is await conn.wait_for(Conn.DISCONNECTED)

    async def test_can_insist_on_a_transition(self) -> None:
        """With `immediate=False` the value must be set anew: away and back."""
        watcher = ValueWatcher(1)
        task = asyncio.create_task(watcher.wait_for(1, immediate=False))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()

        watcher.value = 0
        watcher.value = 1

        assert 1 == await task

    async def test_is_not_woken_by_the_same_value(self) -> None:
        """Setting the value that is there again wakes nobody."""
        watcher = ValueWatcher(0)
        task = asyncio.create_task(watcher.wait_for_change())
        await asyncio.sleep(0)

        watcher.value = 0
        watcher.value = 0
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()

        watcher.value = 1
        assert 1 == await task

    async def test_can_wait_for_none(self) -> None:
        """None is a value like any other, also as what comes next."""
        watcher = ValueWatcher[str | None](None)

        assert await watcher.wait_for(None) is None
        task = asyncio.create_task(watcher.wait_for(None, immediate=False))
        await asyncio.sleep(0)
        watcher.value = "url"
        watcher.value = None
        assert await task is None


class TestOtherWaits:
    """`wait_for_not`, `wait_for_not_none` and `wait_for_change`."""

    async def test_wait_for_not_returns_at_once_what_differs(self) -> None:
        """A value that differs already is returned."""
        assert 0 == await ValueWatcher(0).wait_for_not(1)

    async def test_wait_for_not_returns_the_value_that_differs(self) -> None:
        """Otherwise it returns the first value that differs."""
        watcher = ValueWatcher(0)
        task = asyncio.create_task(watcher.wait_for_not(0))
        insists = asyncio.create_task(watcher.wait_for_not(5, immediate=False))
        await asyncio.sleep(0)

        watcher.value = 1
        watcher.value = 0

        assert (1, 1) == (await task, await insists)

    async def test_wait_for_not_none_returns_what_is_there(self) -> None:
        """A value that is not None is returned at once, be it false."""
        assert "" == await ValueWatcher[str | None]("").wait_for_not_none()

    async def test_wait_for_not_none_returns_the_first_value(self) -> None:
        """Otherwise it returns the first value that is not None, also if it is gone by then."""
        watcher = ValueWatcher[Socket | None](None)
        task = asyncio.create_task(watcher.wait_for_not_none())
        await asyncio.sleep(0)

        watcher.value = socket = Socket()
        watcher.value = None

        assert socket is await task

    async def test_wait_for_not_none_can_insist_on_a_transition(self) -> None:
        """With `immediate=False` the value that is there does not count."""
        watcher = ValueWatcher[int | None](1)
        task = asyncio.create_task(watcher.wait_for_not_none(immediate=False))
        await asyncio.sleep(0)

        watcher.value = None
        watcher.value = 2

        assert 2 == await task

    async def test_wait_for_change_returns_the_next_value(self, conn: ValueWatcher[Conn]) -> None:
        """Any transition will do, and the first one counts."""
        task = asyncio.create_task(conn.wait_for_change())
        await asyncio.sleep(0)

        conn.value = Conn.CONNECTING
        conn.value = Conn.CONNECTED

        assert Conn.CONNECTING is await task


class TestTimeout:
    """Every wait takes `timeout=`, in seconds."""

    @pytest.mark.parametrize(
        "wait",
        [
            pytest.param(lambda w: w.wait_for(1, timeout=0.5), id="wait_for"),
            pytest.param(lambda w: w.wait_for(None, immediate=False, timeout=0.5), id="immediate"),
            pytest.param(lambda w: w.wait_for_not(None, timeout=0.5), id="wait_for_not"),
            pytest.param(lambda w: w.wait_for_not_none(timeout=0.5), id="wait_for_not_none"),
            pytest.param(lambda w: w.wait_for_change(timeout=0.5), id="wait_for_change"),
        ],
    )
    def test_ends_in_asyncio_timeout_error(self, wait: Any) -> None:
        """When the time is up, and not before, the wait raises `asyncio.TimeoutError`."""
        watcher = ValueWatcher[int | None](None)
        with StepLoop() as loop:
            task = loop.create_task(wait(watcher))
            loop.advance(0.25)
            assert not task.done()

            loop.advance(0.25)
            assert isinstance(task.exception(), asyncio.TimeoutError)

    def test_is_none_for_ever(self) -> None:
        """`timeout=None` waits for as long as it takes."""
        watcher = ValueWatcher(0)
        with StepLoop() as loop:
            task = loop.create_task(watcher.wait_for(1, timeout=None))
            loop.advance(1_000_000)
            assert not task.done()

            watcher.value = 1
            loop.settle()
            assert 1 == task.result()


class TestSetIf:
    """`set_if(new_value, condition)`."""

    def test_closes_once(self, conn: ValueWatcher[Conn]) -> None:
        """A state machine goes to CLOSING from any state but those after it, once."""

        def close() -> bool:
            return conn.set_if(Conn.CLOSING, lambda state: state not in (Conn.CLOSING, Conn.CLOSED))

        assert [True, False, False] == [close(), close(), close()]
        assert Conn.CLOSING is conn.value

    def test_takes_its_arguments_by_name(self, conn: ValueWatcher[Conn]) -> None:
        """Both arguments may be named."""
        assert conn.set_if(new_value=Conn.CLOSED, condition=lambda _: True) is True
        assert Conn.CLOSED is conn.value

    def test_is_true_when_the_value_is_there_already(self, conn: ValueWatcher[Conn]) -> None:
        """It says whether the condition held; an equal value is no transition."""
        changes: list[Conn] = []
        conn.on_change(lambda _old, new: changes.append(new))

        assert conn.set_if(Conn.DISCONNECTED, lambda _: True) is True
        assert [] == changes

    async def test_wakes_waits_and_callbacks(self, conn: ValueWatcher[Conn]) -> None:
        """What it sets is told as any other set is."""
        changes: list[tuple[Conn, Conn]] = []
        conn.on_change(lambda old, new: changes.append((old, new)))
        task = asyncio.create_task(conn.wait_for(Conn.CLOSED))
        await asyncio.sleep(0)

        conn.set_if(Conn.CLOSED, lambda state: state is not Conn.CLOSED)

        assert Conn.CLOSED is await task
        assert [(Conn.DISCONNECTED, Conn.CLOSED)] == changes


class TestCallbacks:
    """`on_change` and `on_value`, for code that cannot wait."""

    def test_one_may_be_given_at_the_start(self) -> None:
        """`ValueWatcher(initial_value, on_change=...)` logs every transition."""
        log: list[tuple[Conn, Conn]] = []
        conn = ValueWatcher(Conn.DISCONNECTED, on_change=lambda old, new: log.append((old, new)))

        conn.value = Conn.CONNECTING
        conn.value = Conn.CONNECTING
        conn.value = Conn.CONNECTED

        assert [
            (Conn.DISCONNECTED, Conn.CONNECTING),
            (Conn.CONNECTING, Conn.CONNECTED),
        ] == log

    def test_more_may_be_added(self, conn: ValueWatcher[Conn]) -> None:
        """`on_change(callback)` adds one, which is told from then on, after those before it."""
        log: list[str] = []
        conn.on_change(lambda _old, new: log.append(f"first {new.value}"))
        conn.value = Conn.CONNECTING
        conn.on_change(lambda _old, new: log.append(f"second {new.value}"))
        conn.value = Conn.CONNECTED

        assert ["first connecting", "first connected", "second connected"] == log

    def test_one_that_fails_hurts_nobody(self) -> None:
        """The setter and the other callbacks go on; but the error is logged, not swallowed."""
        told: list[int] = []
        watcher = ValueWatcher(0, on_change=lambda _old, _new: 1 / 0)
        watcher.on_change(lambda _old, new: told.append(new))

        with structlog.testing.capture_logs() as logs:
            watcher.value = 1

        assert ([1], 1) == (told, watcher.value)
        assert isinstance(logs[0]["exc_info"], ZeroDivisionError)

    async def test_on_value_fires_once(self) -> None:
        """`on_value(value, callback)` calls with no argument when the value comes, once."""
        watcher = ValueWatcher(0)
        connected = asyncio.Event()
        calls: list[None] = []
        watcher.on_value(1, connected.set)
        watcher.on_value(1, lambda: calls.append(None))

        watcher.value = 1
        watcher.value = 0
        watcher.value = 1

        await connected.wait()
        assert [None] == calls

    def test_on_value_fires_for_the_value_that_is_there(self) -> None:
        """A value that is there already fires too; unlike the article's this needs no loop."""
        calls: list[None] = []

        ValueWatcher(0).on_value(0, lambda: calls.append(None))

        assert [None] == calls

    def test_on_value_sees_a_state_that_is_gone(self, conn: ValueWatcher[Conn]) -> None:
        """A state that holds for no time at all fires."""
        seen: list[Conn] = []
        conn.on_value(Conn.CLOSING, lambda: seen.append(conn.value))

        conn.value = Conn.CLOSING
        conn.value = Conn.CLOSED

        assert [Conn.CLOSING] == seen


class TestRobustness:
    """A set disturbs nobody and is disturbed by nobody."""

    def test_a_closed_loop_is_no_concern_of_the_setter(self) -> None:
        """A wait whose event loop was closed under it is dropped; sets go on."""
        watcher = ValueWatcher(0)
        wait = watcher.wait_for(1)

        async def begin() -> None:
            wait.send(None)

        asyncio.run(begin())
        watcher.value = 1
        watcher.value = 2
        wait.close()

        assert 2 == watcher.value

    async def test_a_mutable_value_is_accepted(self) -> None:
        """Alone, a watcher takes any object, with the article's warning: in place is not seen."""
        gateways = ValueWatcher[list[str]]([])
        changes: list[list[str]] = []
        gateways.on_change(lambda _old, new: changes.append(new))

        gateways.value.append("a")
        gateways.value = gateways.value
        gateways.value = [*gateways.value, "b"]

        assert [["a", "b"]] == changes
        assert ["a", "b"] == await gateways.wait_for(["a", "b"])

    async def test_equal_strings_numbers_and_enums_make_no_transition(self) -> None:
        """A set of an equal value tells nobody."""
        for value, equal in (("abc", str(b"abc", "ascii")), (10**20, 10**20), (Conn.CLOSED,) * 2):
            watcher = ValueWatcher[Any](value)
            changes: list[object] = []
            watcher.on_change(lambda *change: changes.append(change))  # noqa: B023 -- used at once
            watcher.value = equal
            assert [] == changes


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("__init__", {"initial_value": "positional", "on_change": None}),
        ("set_if", {"new_value": "positional", "condition": "positional"}),
        ("on_change", {"callback": "positional"}),
        ("on_value", {"value": "positional", "callback": "positional"}),
        ("wait_for", {"value": "positional", "immediate": True, "timeout": None}),
        ("wait_for_not", {"value": "positional", "immediate": True, "timeout": None}),
        ("wait_for_not_none", {"immediate": True, "timeout": None}),
        ("wait_for_change", {"timeout": None}),
    ],
)
def test_the_interface_has_the_same_names(method: str, parameters: dict[str, object]) -> None:
    """Each method has the parameters of the article's: positional ones, or by name a default."""
    signature = inspect.signature(getattr(ValueWatcher, method))

    found = dict(list(signature.parameters.items())[1:])
    given = list(found)[: len(parameters)] if method != "__init__" else list(parameters)
    assert list(parameters) == given
    for name, expected in parameters.items():
        if expected == "positional":
            assert inspect.Parameter.POSITIONAL_OR_KEYWORD == found[name].kind
            assert inspect.Parameter.empty is found[name].default
        else:
            assert inspect.Parameter.KEYWORD_ONLY == found[name].kind
            assert expected is found[name].default
    assert all(
        found[name].default is not inspect.Parameter.empty
        for name in found
        if name not in parameters
    )


def test_the_waits_are_coroutines() -> None:
    """Each wait is a coroutine function, so `create_task()` and `run()` take what it gives."""
    for name in ("wait_for", "wait_for_not", "wait_for_not_none", "wait_for_change"):
        assert inspect.iscoroutinefunction(getattr(ValueWatcher, name))
