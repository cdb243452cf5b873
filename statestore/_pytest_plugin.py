"""
Fixtures for pytest, which are there as soon as the package is installed.

Nothing of `statestore.testing` is imported before a test asks for one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from statestore.testing import StepLoop, StoreMaker, TransitionRecorder


@pytest.fixture
def make_store(request: pytest.FixtureRequest) -> Iterator[StoreMaker]:
    """
    Make stores that are closed after the test, and must have no consumer left by then.

    `make_store(App)` gives an `App`; `make_store.adopt(app)` looks after one that is there. What
    runs on the loop of a test is cancelled before. Nothing is checked after a failed test.
    """
    from statestore.testing import StoreMaker  # noqa: PLC0415 -- only for those who use it

    failed = request.session.testsfailed
    maker = StoreMaker()
    yield maker
    maker.close(check=failed == request.session.testsfailed)


@pytest.fixture
def record_transitions(make_store: StoreMaker) -> Iterator[TransitionRecorder]:
    """
    Record the transitions of watchers until the end of the test.

    `seen = record_transitions(app.conn)` begins, `seen.assert_transitions([...])` compares.
    """
    from statestore.testing import TransitionRecorder  # noqa: PLC0415 -- see make_store()

    del make_store  # only asked for so that its check comes afterwards
    with TransitionRecorder() as recorder:
        yield recorder


@pytest.fixture
def step_loop(make_store: StoreMaker) -> Iterator[StepLoop]:
    """
    Give an event loop with virtual time, which moves only when told to.

    Tasks that are left after the test are cancelled, and end.
    """
    from statestore.testing import StepLoop  # noqa: PLC0415 -- see make_store()

    del make_store  # only asked for so that its check comes afterwards
    with StepLoop() as loop:
        yield loop
