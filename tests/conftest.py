"""What tests of several modules share."""

import sys
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from statestore._mailbox import ThreadPort
from statestore.testing import StepLoop
from support.loops import MODES, make_loop
from support.twin import out_of_reach


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    """See `out_of_reach()`."""
    with out_of_reach():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """See `out_of_reach()`."""
    with out_of_reach():
        return (yield)


@pytest.fixture(params=MODES)
def loop(request: pytest.FixtureRequest) -> Iterator[StepLoop]:
    """Give a loop of each kind; nothing may have complained on it in the end."""
    with make_loop(request.param) as made:
        yield made
    assert [] == made.failures


@pytest.fixture
def untraced() -> Iterator[None]:
    """
    Have no trace function while a test is interrupted by real signals.

    A tool that measures coverage has locks of its own, which an interrupt may leave locked. Also
    for tests whose threads have so much to do that they would take minutes.
    """
    here, in_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(cast("Any", None))
    yield
    threading.settrace(cast("Any", in_threads))
    sys.settrace(here)


@pytest.fixture
def parked(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Give an event that is set as soon as a thread is about to block."""
    event = threading.Event()
    park = ThreadPort.park

    def park_and_tell(self: ThreadPort, cell: list[Any], seconds: float | None) -> None:
        event.set()
        park(self, cell, seconds)

    monkeypatch.setattr(ThreadPort, "park", park_and_tell)
    return event


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Have the threads take turns often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    yield
    sys.setswitchinterval(before)
