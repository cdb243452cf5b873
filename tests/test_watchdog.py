"""The watchdog: each stuck wait is told of once, and nothing else happens."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import CapturingLogger, capture_logs

from statestore import CallbackFailure, Key, StateStoreError, Store, ValueWatcher, warn_stuck
from statestore.testing import BoomError, StepLoop, inside
from support.threads import Job


class App(Store):
    """What is waited on."""

    n = Key(0)
    flag = Key(False)


@pytest.fixture
def app() -> Iterator[App]:
    """Give a store, closed in the end."""
    with App() as made:
        yield made
        assert {} == made._core.ends


@pytest.fixture
def loop() -> Iterator[StepLoop]:
    """Give a loop on which nothing complained, and no timer is left, in the end."""
    with StepLoop() as made:
        yield made
    assert [] == made.failures


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    """Capture what is logged."""
    with capture_logs() as captured:
        yield captured


def start(loop: StepLoop, main: Coroutine[Any, Any, Any], name: str = "t") -> asyncio.Task[Any]:
    """Start *main*, and let it go as far as it gets."""
    task = loop.create_task(main, name=name)
    loop.settle()
    return task


def watch(loop: StepLoop, store: Store | ValueWatcher[Any], **more: Any) -> Any:
    """Start a watchdog from inside the loop."""
    with inside(loop):
        return warn_stuck(store, **more)


def test_a_wait_that_lasts_is_told_of_once(app: App, loop: StepLoop, logs: list[Any]) -> None:
    """At its time, with all that its error would say."""
    start(loop, (app.n.is_(5) & app.flag.is_(True)).wait(timeout=100), "worker")
    with watch(loop, app, after=30):
        loop.advance(29)
        assert [] == logs
        loop.advance(60)
        (entry,) = logs

    assert {
        "event": "statestore.wait_stuck",
        "log_level": "warning",
        "waited_for": "all of 2: n NO (is 0), flag NO",
        "waited": 30.0,
        "waiter": "worker",
        "kind": "task",
        "left": 70.0,
        "key": "n is 5 and flag is True",
        "value": False,
        "revision": 0,
        "report": "all of 2: n NO (is 0), flag NO; not so since revision 0",
    } == entry


def test_waits_are_told_of_as_they_come(app: App, loop: StepLoop, logs: list[Any]) -> None:
    """Each one at its time, at the latest a tenth late; those that ended before are not."""
    with watch(loop, app, after=10):
        for number in range(6):
            start(loop, app.n.wait_for(number + 1), f"t{number}")
            loop.advance(1)
        app.n.value = 1
        loop.advance(3)
        assert [] == logs
        loop.advance(8)

    assert [f"t{number}" for number in range(1, 6)] == [entry["waiter"] for entry in logs]
    assert all(10 <= entry["waited"] <= 11.001 for entry in logs)


def test_a_new_wait_of_the_same_task_is_told_of_anew(
    app: App, loop: StepLoop, logs: list[Any]
) -> None:
    """Once each, and not once a task."""

    async def twice() -> None:
        await app.n.wait_for(1)
        await app.n.wait_for(2)

    start(loop, twice())
    with watch(loop, app, after=10):
        loop.advance(15)
        app.n.value = 1
        loop.advance(15)

    assert ["n to be 1", "n to be 2"] == [entry["waited_for"] for entry in logs]


def test_the_wait_of_a_subscription_is_one_wait(app: App, loop: StepLoop, logs: list[Any]) -> None:
    """Though it sleeps anew with each record that it takes."""
    with inside(loop):
        sub = app.n.subscribe()
    start(loop, sub.wait_for(-1))
    with watch(loop, app, after=10):
        for value in range(1, 40):
            app.n.value = value
            loop.advance(1)

    assert ["n to be -1"] == [entry["waited_for"] for entry in logs]
    sub.close()


def test_reading_a_subscription_is_no_wait(app: App, loop: StepLoop, logs: list[Any]) -> None:
    """Nothing may be to come."""
    with inside(loop):
        sub = app.n.subscribe()
    start(loop, sub.__anext__())  # type: ignore[arg-type]
    with watch(loop, app, after=10):
        loop.advance(50)

    assert [] == logs
    sub.close()


def test_a_watcher_that_stands_alone_can_be_watched(loop: StepLoop, logs: list[Any]) -> None:
    """It has an order of commits of its own; a key of a store has not."""
    state = ValueWatcher(0, name="state")
    start(loop, state.wait_for(1))
    with watch(loop, state, after=1):
        loop.advance(1)

    assert ["state to be 1"] == [entry["waited_for"] for entry in logs]
    with pytest.raises(StateStoreError, match="watch the store"):
        warn_stuck(App().n)


def test_the_logger_and_level_can_be_chosen(app: App, loop: StepLoop) -> None:
    """Also one that renders JSON."""
    target = CapturingLogger()
    logger = structlog.wrap_logger(target, processors=[structlog.processors.JSONRenderer()])
    start(loop, app.n.wait_for(1))
    with watch(loop, app, after=1, logger=logger, level="error"):
        loop.advance(1)
    (call,) = target.calls

    assert "error" == call.method_name
    assert "n to be 1" == json.loads(call.args[0])["waited_for"]


def test_a_logger_that_raises_is_reported(loop: StepLoop) -> None:
    """To `on_error`, once for each wait; the watchdog goes on."""
    failures: list[CallbackFailure] = []

    class Broken:
        def warning(self, *args: object, **more: object) -> None:
            raise BoomError

    with App(on_error=failures.append) as app, watch(loop, app, after=1, logger=Broken()):
        tasks = [start(loop, app.n.wait_for(1)), start(loop, app.flag.wait_for(True))]
        loop.advance(5)
        for task in tasks:
            task.cancel()
        loop.settle()
        assert [("n", 0, warn_stuck), ("flag", 0, warn_stuck)] == [
            (failure.key, failure.revision, failure.callback) for failure in failures
        ]
        assert {BoomError} == {type(failure.error) for failure in failures}


@pytest.mark.parametrize("after", ["30", None, True])
def test_a_time_that_is_no_number_is_refused(app: App, after: Any) -> None:
    """At once."""
    with pytest.raises(TypeError, match="after must be a number"):
        warn_stuck(app, after)


@pytest.mark.parametrize("after", [0, -1, float("nan"), float("inf")])
def test_a_time_that_never_comes_is_refused(app: App, after: Any) -> None:
    """At once."""
    with pytest.raises(ValueError, match="after must be more than 0"):
        warn_stuck(app, after)


def test_a_level_that_is_none_is_refused(app: App) -> None:
    """At once."""
    with pytest.raises(ValueError, match="level must be one of debug, info"):
        warn_stuck(app, level="loud")


# Its end


@pytest.mark.parametrize("where", ["on the loop", "in a thread"])
def test_closing_leaves_nothing(app: App, loop: StepLoop, where: str) -> None:
    """No timer, no registration; a second call does nothing."""
    watchdog = watch(loop, app)
    assert not watchdog.is_closed
    assert 1 == len(loop.timers())
    if where == "on the loop":
        with inside(loop):
            watchdog.close()
            watchdog.close()
    else:
        Job(watchdog.close).result()
        watchdog.close()
        loop.settle()

    assert watchdog.is_closed
    assert [] == loop.timers()
    assert {} == app._core.ends


@pytest.mark.parametrize("where", ["on the loop", "in a thread"])
def test_it_ends_with_the_store(loop: StepLoop, where: str) -> None:
    """At once, whoever closes it."""
    app = App()
    watchdog = watch(loop, app)
    if where == "on the loop":
        with inside(loop):
            app.close()
    else:
        Job(app.close).result()
        loop.settle()

    assert watchdog.is_closed
    assert [] == loop.timers()
    assert {} == app._core.ends


def test_a_store_that_is_closed_is_not_watched(loop: StepLoop) -> None:
    """There is nothing to come."""
    app = App()
    app.close()

    assert watch(loop, app).is_closed
    assert [] == loop.timers()


def test_it_holds_no_store(loop: StepLoop) -> None:
    """One that nobody has any more goes, and the watchdog with it."""
    app = App()
    reference = weakref.ref(app)
    watchdog = watch(loop, app)
    del app
    gc.collect()
    loop.settle()

    assert reference() is None
    assert watchdog.is_closed
    assert [] == loop.timers()


def test_it_is_kept_though_it_is_dropped(app: App, loop: StepLoop, logs: list[Any]) -> None:
    """The loop has it."""
    watch(loop, app, after=1)
    gc.collect()
    task = start(loop, app.n.wait_for(1))
    loop.advance(2)
    task.cancel()
    loop.settle()
    with inside(loop):
        app.close()

    assert 1 == len(logs)
    assert [] == loop.timers()


def test_a_loop_that_is_closed_takes_it_along(app: App) -> None:
    """Nothing is left with the store, nor held of the loop."""
    loop = StepLoop()
    reference = weakref.ref(loop)
    watchdog = watch(loop, app)
    loop.close()
    watchdog.close()
    assert watchdog.is_closed

    watch(other := StepLoop(), app)
    (end,) = app._core.ends.values()
    other.close()
    del watchdog, loop, other
    gc.collect()

    assert {} == app._core.ends
    assert reference() is None
    # A store that ends just then finds nobody.
    end.notify()


def test_one_that_never_began_goes_in_peace() -> None:
    """A constructor that was cut short has nothing to close."""
    watchdog_type = type(warn_stuck(app := App()))
    app.close()
    watchdog_type.__new__(watchdog_type)
    gc.collect()


# In a thread


def threads() -> list[threading.Thread]:
    """Give the threads of watchdogs."""
    return [thread for thread in threading.enumerate() if thread.name == "statestore warn_stuck"]


class Signalling:
    """A logger that tells when it was called."""

    def __init__(self) -> None:
        self.called = threading.Event()
        self.events: list[dict[str, Any]] = []

    def warning(self, event: str, **more: Any) -> None:
        """Note it."""
        self.events.append({"event": event, **more})
        self.called.set()


def test_without_a_loop_it_has_a_thread(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """One daemon, which sees blocked threads, and ends when it is closed."""
    parked = threading.Event()

    def begin() -> int:
        parked.set()
        return app.n.blocking.wait_for(1)

    job = Job(begin)
    parked.wait(30)
    while not app.inspect().waits:
        pass
    now = round(app.inspect().waits[0].since or 0) + 1
    monkeypatch.setattr("statestore._sleepers.monotonic", lambda: now + 3_600.0)
    logger = Signalling()
    with warn_stuck(app, after=3_600, logger=logger):
        (thread,) = threads()
        assert thread.daemon
        assert logger.called.wait(30)
    thread.join(30)
    app.n.value = 1
    job.result()
    (event,) = logger.events

    assert [] == threads()
    assert ("thread", "n to be 1") == (event["kind"], event["waited_for"])
    assert event["waited"] >= 3_600


@pytest.mark.parametrize("end", ["close", "drop"])
def test_its_thread_ends_with_the_store(end: str) -> None:
    """At once, though it would look again in a year only."""
    app = App()
    watchdog = warn_stuck(app, after=10**9)
    (thread,) = threads()
    if end == "close":
        app.close()
    del app
    gc.collect()
    thread.join(30)

    assert watchdog.is_closed
    assert not thread.is_alive()


def test_its_thread_sees_a_loop_that_is_stuck(app: App) -> None:
    """A timer of that loop could not."""
    logger = Signalling()
    with warn_stuck(app, after=0.001, logger=logger), StepLoop() as loop:
        loop._now = -1.0
        start(loop, app.n.wait_for(1), "stuck")
        loop._now = 1.0
        assert logger.called.wait(30)

    assert "stuck" == logger.events[0]["waiter"]
