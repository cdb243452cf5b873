"""Whether the package under test is the compiled twin, and what can be shown of that one."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from statestore import _core

IS_COMPILED: Final = not str(_core.__file__).endswith(".py")

POINTER: Final = 8 if IS_COMPILED else 0
"""Bytes by which an object of a compiled class is larger: it points to its C functions."""

_REFUSALS: Final = ("of immutable type 'statestore.", "Expected dict, got ActingDict")


@contextmanager
def out_of_reach() -> Iterator[None]:
    """Skip a test of the twin that stops at a class or attribute which nobody can replace there."""
    try:
        yield
    except TypeError as error:
        told = str(error)
        if not IS_COMPILED or not any(refusal in told for refusal in _REFUSALS):
            raise
        # What the test has left open ends here, and complains to nobody.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            traceback.clear_frames(error.__traceback__)
    else:
        return
    pytest.skip("it puts something in the place of what is compiled")
