"""
Make stores usable in a forked child: the same values and revision, and no consumers.

No lock of a store can be held by a thread that the child does not have; there only are consumers
whose threads and event loops stayed behind.
"""

from __future__ import annotations

import os
import weakref
from typing import Final

from statestore._core import Core

_cores: Final[weakref.WeakSet[Core]] = weakref.WeakSet()
_registered: Final[list[None]] = []


def adopt(core: Core) -> None:
    """Have *core* cared for after a fork, as long as it lives."""
    if not _registered and hasattr(os, "register_at_fork"):
        _registered.append(None)
        os.register_at_fork(after_in_child=_in_child)
    _cores.add(core)


def _in_child() -> None:
    for core in list(_cores):
        core.forget_consumers()
