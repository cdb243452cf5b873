"""Transitions in the log: one event each, in order, with who made them and why."""

from __future__ import annotations

import asyncio
import enum
import io
import json
import logging
import threading
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from statestore import (
    CallbackFailure,
    Family,
    Key,
    Store,
    TransitionLog,
    UnknownKeyError,
    ValueWatcher,
    log_transitions,
)
from statestore.testing import Hostile, StepLoop, assert_no_trace
from support.threads import Job


class Conn(enum.Enum):
    """A few states."""

    CLOSED = "closed"
    OPEN = "open"


class App(Store):
    """Keys of several kinds."""

    conn = Key(Conn.CLOSED)
    count = Key(0)
    thing = Key[Any](None)
    token = Key("secret")
    workers = Family[str, int](default=0)


Entry = MutableMapping[str, Any]


@pytest.fixture
def logs() -> Iterator[list[Entry]]:
    """Capture what is logged."""
    with capture_logs() as captured:
        yield captured


@pytest.fixture
def context() -> Iterator[None]:
    """Leave nothing bound."""
    yield
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def configured() -> Iterator[io.StringIO]:
    """Give what a test's own configuration of structlog prints to."""
    yield io.StringIO()
    structlog.reset_defaults()


def values_in(logs: list[Entry]) -> list[tuple[str, object, object]]:
    """Give what is said of each transition."""
    return [(entry["key"], entry["old"], entry["new"]) for entry in logs]


def test_a_transition_is_one_event(logs: list[Entry]) -> None:
    """The event has a dotted name and flat fields; what is not known is left out."""
    app = App()
    with log_transitions(app):
        app.conn.value = Conn.OPEN
    assert [
        {
            "event": "statestore.transition",
            "log_level": "debug",
            "key": "conn",
            "old": "CLOSED",
            "new": "OPEN",
            "revision": 1,
            "setter": threading.current_thread().name,
        }
    ] == logs


def test_nothing_is_logged_before_and_after(logs: list[Entry]) -> None:
    """A log begins when it is opened, ends when it is closed, and leaves nothing behind."""
    app = App()
    app.count.value = 1
    log = log_transitions(app)
    app.count.value = 2
    assert not log.is_closed
    log.close()
    log.close()
    app.count.value = 3
    assert [("count", 1, 2)] == values_in(logs)
    assert log.is_closed
    assert "<closed log of the transitions of App>" == repr(log)
    assert_no_trace(app)


def test_a_log_that_is_dropped_goes_on(logs: list[Entry]) -> None:
    """Nobody has to hold it."""
    app = App()
    log_transitions(app)
    app.count.value = 1
    assert [("count", 0, 1)] == values_in(logs)


def test_the_order_is_that_of_the_commits(logs: list[Entry]) -> None:
    """A transaction is told key by key, and what a callback sets comes behind, with its cause."""
    app = App()
    app.count.on_change(lambda _old, new: app.thing.set(new, reason="copied"))
    with log_transitions(app), app.transaction(reason="both") as tx:
        tx[app.conn] = Conn.OPEN
        tx[app.count] = 7
    assert [
        ("conn", 1, "both", None),
        ("count", 1, "both", None),
        ("thing", 2, "copied", 1),
    ] == [(e["key"], e["revision"], e.get("reason"), e.get("caused_by")) for e in logs]


def test_a_transition_is_logged_before_what_it_sets_off(logs: list[Entry]) -> None:
    """A line of a callback comes behind the line of the transition that it was called for."""
    app = App()
    app.count.on_change(lambda _old, _new: structlog.get_logger().info("called"))
    with log_transitions(app):
        app.count.value = 1
    assert ["statestore.transition", "called"] == [entry["event"] for entry in logs]


@pytest.mark.parametrize("change", ["set", "set_if", "compare_and_set", "update", "transact"])
def test_every_way_to_set_takes_a_reason(change: str, logs: list[Entry]) -> None:
    """The reason is logged as it was given."""
    app = App()
    ways = {
        "set": lambda: app.count.set(1, reason="why"),
        "set_if": lambda: app.count.set_if(1, lambda _old: True, reason="why"),
        "compare_and_set": lambda: app.count.compare_and_set(0, 1, reason="why"),
        "update": lambda: app.count.update(lambda old: old + 1, reason="why"),
        "transact": lambda: app.transact(lambda tx: tx.__setitem__(app.count, 1), reason="why"),
    }
    with log_transitions(app):
        ways[change]()
    assert ["why"] == [entry["reason"] for entry in logs]
    assert 1 == app.count.value


def test_a_reason_is_no_change() -> None:
    """Without anybody who logs, a reason changes nothing: an equal value makes no transition."""
    app = App()
    assert app.count.set(0, reason="again") is None
    made = app.count.set(1, reason="new")
    assert made is not None
    assert (0, 1, 1) == (made.old, made.new, made.revision)


def test_members_that_come_and_go(logs: list[Entry]) -> None:
    """A member is a key; coming and going are told as from and to `ABSENT`."""
    app = App()
    with log_transitions(app):
        app.workers.add("a")
        app.workers["a"].value = 1
        del app.workers["a"]
        app.add("late", 5)
    assert [
        ("workers['a']", "ABSENT", 0),
        ("workers['a']", 0, 1),
        ("workers['a']", 1, "ABSENT"),
        ("late", "ABSENT", 5),
    ] == values_in(logs)


def test_how_long_the_old_value_lasted(logs: list[Entry], monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are told from the second transition on that was seen, and never below zero."""
    times = iter([10.0, 12.5, 99.0, 12.25])
    monkeypatch.setattr("statestore._journal.time.monotonic", lambda: next(times))
    app = App()
    with log_transitions(app):
        app.count.value = 1
        app.count.value = 2
        app.conn.value = Conn.OPEN
        app.count.value = 3
    assert [None, 2.5, None, 0.0] == [entry.get("seconds") for entry in logs]


def test_the_setter_is_the_task_or_else_the_thread(logs: list[Entry]) -> None:
    """In a task it is the task's name, in a plain callback of a loop and elsewhere the thread's."""
    app = App()
    with log_transitions(app), StepLoop() as loop:

        async def main() -> None:
            app.count.value = 1

        loop.create_task(main(), name="reader")
        loop.settle()
        loop.call_soon(lambda: app.count.set(2))
        loop.settle()
        thread = threading.Thread(target=lambda: app.count.set(3), name="worker-7")
        thread.start()
        thread.join()
    here = threading.current_thread().name
    assert ["reader", here, "worker-7"] == [entry["setter"] for entry in logs]


@pytest.mark.usefixtures("context")
def test_what_the_setter_has_bound_is_logged(logs: list[Entry]) -> None:
    """Context that is bound with structlog appears; a name that is taken gets a prefix."""
    app = App()
    with log_transitions(app):
        structlog.contextvars.bind_contextvars(request_id="r1", key="k", event="e", self="s")
        app.count.value = 1
        structlog.contextvars.unbind_contextvars("request_id")
        app.count.value = 2
    expected = {"context_key": "k", "context_event": "e", "context_self": "s", "key": "count"}
    assert expected.items() <= logs[0].items()
    assert ["r1", None] == [entry.get("request_id") for entry in logs]


@pytest.mark.usefixtures("context")
def test_the_context_is_the_setters_also_elsewhere(logs: list[Entry]) -> None:
    """What one thread sets while another one calls callbacks is logged with its own context."""
    app = App()
    entered, left = threading.Event(), threading.Event()

    def hold(_old: int, new: int) -> None:
        if new == 1:
            entered.set()
            left.wait(20)

    def set_with(request: str, value: int) -> None:
        with structlog.contextvars.bound_contextvars(request_id=request):
            app.count.value = value

    app.count.on_change(hold)
    with log_transitions(app):
        first = Job(lambda: set_with("first", 1))
        assert entered.wait(20)
        set_with("second", 2)
        assert 1 == len(logs)
        left.set()
        first.result()
    assert [("first", 1), ("second", 2)] == [(e["request_id"], e["new"]) for e in logs]
    assert logs[0]["setter"] != logs[1]["setter"]


class TestValues:
    """How values look."""

    @pytest.mark.parametrize("value", [7, 2.5, True, "text", "x" * 200])
    def test_plain_ones_are_as_they_are(self, value: object, logs: list[Entry]) -> None:
        """What JSON knows keeps its type."""
        app = App()
        with log_transitions(app):
            app.thing.value = value
        assert value == logs[0]["new"]
        assert type(value) is type(logs[0]["new"])

    @pytest.mark.parametrize(
        ("value", "beginning"),
        [
            (Conn.OPEN, "OPEN"),
            (("a", 1), "('a', 1)"),
            ("x" * 201, "'xxxxx"),
            (1 << 70, "1180591620717411303424"),
            (1 << 70_000, "<"),
            (Hostile(), "<Hostile with a broken repr>"),
            (tuple(range(100_000)), "(0, 1, 2, "),
        ],
        ids=["enum", "tuple", "long text", "large", "giant", "hostile", "long tuple"],
    )
    def test_others_are_short_texts(self, value: object, beginning: str, logs: list[Entry]) -> None:
        """P083: broken and giant reprs are no harm: it is a text of 200 characters at most."""
        app = App()
        with log_transitions(app):
            app.thing.value = value
        text = logs[0]["new"]
        assert isinstance(text, str)
        assert text.startswith(beginning)
        assert len(text) <= 200

    def test_redacted_keys(self, logs: list[Entry]) -> None:
        """The values of redacted keys and families are not seen, but that they change is."""
        app = App()
        with log_transitions(app, redact=[App.token, "workers"]):
            app.token.value = "other"
            app.workers.add("a", 5)
            app.count.value = 1
        assert [
            ("token", "[redacted]", "[redacted]"),
            ("workers['a']", "ABSENT", "[redacted]"),
            ("count", 0, 1),
        ] == values_in(logs)

    def test_redacted_by_a_function(self, logs: list[Entry]) -> None:
        """A function says what is seen in place of a value."""
        app = App()
        with log_transitions(app, redact=lambda key, value: f"{key} {len(str(value))}"):
            app.token.value = "other"
            app.add("late", 10)
        assert [("token", "token 6", "token 5"), ("late", "ABSENT", "late 2")] == values_in(logs)


class TestChoice:
    """Which keys are logged."""

    def test_only_some(self, logs: list[Entry]) -> None:
        """Keys, watchers, names, families and members choose what is logged."""
        app = App()
        app.workers.add("a")
        with (
            log_transitions(app, only=[App.count, app.thing, "token"]),
            app.transaction() as tx,
        ):
            tx[app.conn] = Conn.OPEN
            tx[app.count] = 1
            tx[app.thing] = 2
            tx[app.token] = "x"
            tx[app.workers["a"]] = 3
        assert ["count", "thing", "token"] == [entry["key"] for entry in logs]

    @pytest.mark.parametrize("choice", ["name", "family", "members"])
    def test_families(self, choice: str, logs: list[Entry]) -> None:
        """A family stands for all members that it ever has."""
        app = App()
        chosen: dict[str, Any] = {"name": "workers", "family": App.workers, "members": app.workers}
        with log_transitions(app, only=[chosen[choice]]):
            app.count.value = 1
            app.workers.add("a")
        assert ["workers['a']"] == [entry["key"] for entry in logs]

    def test_a_watcher_alone(self, logs: list[Entry]) -> None:
        """A watcher that stands alone is logged like a store of one key."""
        watcher = ValueWatcher(0, name="depth")
        with log_transitions(watcher, only=["depth", watcher]):
            watcher.value = 1
        assert [("depth", 0, 1)] == values_in(logs)

    @pytest.mark.parametrize(
        ("only", "error", "message"),
        [
            ("conn", TypeError, "as a list, not as 'conn'"),
            (App.conn, TypeError, "as a list"),
            (["cnn"], UnknownKeyError, "did you mean 'conn'"),
            ([Family()], UnknownKeyError, "is not of App"),
            ([3], TypeError, "a key of App is a Key, a watcher or a name, not 3"),
        ],
    )
    def test_bad_choices(self, only: Any, error: type[Exception], message: str) -> None:
        """What chooses no key is refused, and nothing is left registered."""
        app = App()
        with pytest.raises(error, match=message):
            log_transitions(app, only=only)
        with pytest.raises(error, match=message):
            log_transitions(app, redact=only)
        assert_no_trace(app)

    def test_another_watcher_than_the_one_alone(self) -> None:
        """A watcher alone has no other keys."""
        watcher = ValueWatcher(0)
        with pytest.raises(UnknownKeyError, match="'other' is not the watcher 'value'"):
            log_transitions(watcher, only=["other"])

    def test_families_of_another_store(self) -> None:
        """Members of another store are not of this one."""
        with pytest.raises(UnknownKeyError, match="members of 'workers'> is not of App"):
            log_transitions(App(), only=[App().workers])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"store": 3}, TypeError, "a store, or a watcher alone, not 3"),
        ({"level": "loud"}, ValueError, "one of debug, info, warning, error, critical, not 'loud'"),
        ({"logger": 3}, TypeError, r"3 is no logger: it has no debug\(\)"),
        ({"logger": logging.getLogger("x")}, TypeError, r"takes no fields; give structlog"),
        ({"redact": lambda: None}, None, ""),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: Any, message: str) -> None:
    """What is no store, level or logger is refused by name, and nothing is left registered."""
    app = App()
    if error is None:
        log_transitions(app, **arguments).close()
    else:
        with pytest.raises(error, match=message):
            log_transitions(arguments.pop("store", app), **arguments)
    assert_no_trace(app)


def test_an_asynchronous_redaction_is_refused() -> None:
    """What redacts is called, not awaited."""

    async def redact(_key: str, value: object) -> object:
        return value

    with pytest.raises(TypeError, match="what redacts"):
        log_transitions(App(), redact=redact)


class Failing:
    """A logger that raises for one key."""

    def __init__(self) -> None:
        self.logged: list[str] = []

    def debug(self, event: str, **fields: Any) -> None:
        """Fail for `count`."""
        assert "statestore.transition" == event
        if fields["key"] == "count":
            raise OSError("the disk is full")
        self.logged.append(fields["key"])


def test_a_logger_that_raises_harms_nobody() -> None:
    """The setter goes on, the other transitions are logged, and `on_error` is told."""
    failures: list[CallbackFailure] = []
    app = App(on_error=failures.append)
    called: list[int] = []
    app.count.on_change(lambda _old, new: called.append(new))
    logger = Failing()
    with log_transitions(app, logger), app.transaction() as tx:
        tx[app.count] = 1
        tx[app.conn] = Conn.OPEN
    assert ["conn"] == logger.logged
    assert [1] == called
    (failure,) = failures
    assert ("App", 1, logger.debug) == (failure.key, failure.revision, failure.callback)
    assert isinstance(failure.error, OSError)


def test_a_redaction_that_raises_shows_nothing(logs: list[Entry]) -> None:
    """What cannot be redacted is not logged at all."""
    failures: list[CallbackFailure] = []
    app = App(on_error=failures.append)
    with log_transitions(app, redact=lambda _key, _value: 1 // 0):
        app.token.value = "other"
    assert [] == logs
    assert isinstance(failures[0].error, ZeroDivisionError)


def test_two_logs_at_once(logs: list[Entry]) -> None:
    """Logs know nothing of each other."""
    app = App()
    with log_transitions(app, level="info"), log_transitions(app, level="warning"):
        app.count.value = 1
    assert ["info", "warning"] == [entry["log_level"] for entry in logs]


def test_a_cycle_of_callbacks_is_told_without_the_log() -> None:
    """P6: the error that ends a cycle names the keys in it, not the log that heard of them."""
    failures: list[CallbackFailure] = []
    app = App(on_error=failures.append)
    app.count.on_change(lambda _old, new: app.count.set(new + 1))
    with log_transitions(app, Quiet()):
        app.count.value = 1
    assert "rounds over count;" in str(failures[0].error)


class Quiet:
    """A logger that says nothing."""

    def debug(self, event: str, **fields: Any) -> None:
        """Do nothing."""


async def test_waits_and_subscriptions_do_not_mind(logs: list[Entry]) -> None:
    """Who waits and who reads is told the same, logged or not."""
    app = App()
    with log_transitions(app), app.count.subscribe() as sub:
        waiting = asyncio.create_task(app.count.wait_for(2))
        await asyncio.sleep(0)
        app.count.value = 1
        app.count.value = 2
        app.count.value = 3
        assert 2 == await waiting
        assert [1, 2, 3] == [(await anext(sub)).new for _ in range(3)]
    assert 3 == len(logs)


def test_json(configured: io.StringIO) -> None:
    """With structlog's JSON renderer each transition is a line of JSON, whatever the value."""
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(configured),
    )
    app = App()
    with log_transitions(app, level="info"):
        app.conn.value = Conn.OPEN
        app.thing.value = Hostile()
    lines = [json.loads(line) for line in configured.getvalue().splitlines()]
    assert ["OPEN", "<Hostile with a broken repr>"] == [line["new"] for line in lines]
    assert "info" == lines[0]["level"]


def test_stdlib_logging(configured: io.StringIO) -> None:
    """Through the standard library's logging the fields come with the message."""
    handler = logging.StreamHandler(configured)
    logger = logging.getLogger("statestore.tests")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    structlog.configure(
        processors=[structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s %(key)s %(new)s"))
    app = App()
    try:
        with log_transitions(app, structlog.get_logger("statestore.tests"), level="info"):
            app.count.value = 1
    finally:
        logger.removeHandler(handler)
    assert "INFO statestore.transition count 1\n" == configured.getvalue()


def test_it_is_a_handle() -> None:
    """What is returned is a `TransitionLog`, open until it is closed."""
    log = log_transitions(App())
    assert isinstance(log, TransitionLog)
    assert "<open log of the transitions of App>" == repr(log)
    log.close()
