"""Deterministic event loops of each kind."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from statestore.testing import StepLoop

MODES: Final = ["plain", "debug", *(["eager"] if sys.version_info >= (3, 12) else [])]
"""As asyncio is, in debug mode, and with tasks that make their first step at once."""


def make_loop(mode: str, seed: int | None = None) -> StepLoop:
    """Give a loop of the kind *mode*."""
    loop = StepLoop(seed)
    if mode == "debug":
        loop.set_debug(True)
    if mode == "eager":
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop
