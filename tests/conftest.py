"""What tests of several modules share."""

import sys
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest


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
