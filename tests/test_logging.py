"""What goes to the log: errors that nobody else could be told of."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from statestore import CallbackFailure, Key, Store, ValueWatcher
from statestore._logging import make_reporter, report_loop_failure
from statestore.testing import StepLoop


class Unprintable:
    """A callback with a broken repr."""

    def __call__(self, old: object, new: object) -> None:
        """Fail."""
        raise KeyError(new)

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def explode(old: object, new: object) -> None:
    """Fail as a callback."""
    raise KeyError(new)


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """Capture what is logged."""
    with capture_logs() as captured:
        yield captured


def test_a_failed_callback_is_logged(logs: list[MutableMapping[str, Any]]) -> None:
    """By default the error goes to the log, with key, revision and callback."""

    class App(Store):
        port = Key(0)

    app = App()
    app.port.on_change(explode)
    app.port.value = 1
    (entry,) = logs
    error = entry.pop("exc_info")
    assert {
        "event": "statestore.callback_failed",
        "log_level": "error",
        "key": "port",
        "revision": 1,
        "callback": repr(explode),
    } == entry
    assert isinstance(error, KeyError)


def test_a_watcher_that_stands_alone_logs_too(logs: list[MutableMapping[str, Any]]) -> None:
    """Its key is the name that it was given."""
    ValueWatcher(0, on_change=explode, name="state").value = 1
    assert ["state"] == [entry["key"] for entry in logs]


def test_on_error_is_told_instead_of_the_log(logs: list[MutableMapping[str, Any]]) -> None:
    """Who has an *on_error* is given the failure, and nothing is logged."""
    told: list[CallbackFailure] = []
    ValueWatcher(0, on_change=explode, on_error=told.append).value = 1
    assert [("value", 1, explode)] == [(f.key, f.revision, f.callback) for f in told]
    assert isinstance(told[0].error, KeyError)
    assert [] == logs


def test_an_on_error_that_raises_is_logged_with_the_failure(
    logs: list[MutableMapping[str, Any]],
) -> None:
    """If even *on_error* fails, the log has both errors, and the setter none."""

    def on_error(failure: CallbackFailure) -> None:
        raise ValueError("on_error is broken")

    state = ValueWatcher(0, on_change=explode, on_error=on_error)
    state.value = 1
    (entry,) = logs
    assert ("statestore.callback_failed", 1) == (entry["event"], entry["revision"])
    assert "ValueError('on_error is broken')" == entry["on_error_raised"]
    assert isinstance(entry["exc_info"], KeyError)


def test_a_callback_with_a_broken_repr_is_logged(logs: list[MutableMapping[str, Any]]) -> None:
    """A repr that raises does not hide the error that is reported."""
    ValueWatcher(0, on_change=Unprintable()).value = 1
    assert ["<Unprintable with a broken repr>"] == [entry["callback"] for entry in logs]


def test_a_log_that_raises_does_not_reach_the_setter(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a broken log there is nobody left to tell; the set is done all the same."""
    calls = []

    def get_logger(name: str) -> None:
        calls.append(name)
        raise OSError("the log is full")

    monkeypatch.setattr("structlog.get_logger", get_logger)
    state = ValueWatcher(0, on_change=explode)
    state.value = 1
    assert 1 == state.value
    # Once for the failure, once more to tell that telling failed.
    assert ["statestore", "statestore"] == calls


def test_a_reporter_lets_interrupts_through() -> None:
    """What is no `Exception` is not held up by the reporter."""

    def on_error(failure: CallbackFailure) -> None:
        raise KeyboardInterrupt

    failure = CallbackFailure(key="a", revision=1, callback=explode, error=ValueError())
    with pytest.raises(KeyboardInterrupt):
        make_reporter(on_error)(failure)


def test_a_loop_that_cannot_be_woken_is_logged(logs: list[MutableMapping[str, Any]]) -> None:
    """A loop that refuses its wake-up is named once, with its error; the setter goes on. P040."""

    class BrokenLoop(StepLoop):
        is_broken = False

        def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> asyncio.Handle:
            if self.is_broken:
                raise OSError("cannot be woken")
            return super().call_soon_threadsafe(*args, **kwargs)

        def __repr__(self) -> str:
            return "<BrokenLoop>"

    state = ValueWatcher(0)
    with BrokenLoop() as loop:
        loop.create_task(state.wait_for(1))
        loop.settle()
        loop.is_broken = True
        state.value = 1
        state.value = 2
        loop.is_broken = False
    (entry,) = logs
    assert ("statestore.loop_failed", "error") == (entry["event"], entry["log_level"])
    assert "<BrokenLoop>" == entry["loop"]
    assert isinstance(entry["exc_info"], OSError)
    assert 2 == state.value


def test_a_loop_with_a_broken_repr_is_logged(logs: list[MutableMapping[str, Any]]) -> None:
    """The report does not depend on what the loop's class does."""
    report_loop_failure(Unprintable(), OSError())
    assert ["<Unprintable with a broken repr>"] == [entry["loop"] for entry in logs]
