"""Show values to people, whatever their classes do."""

from __future__ import annotations

import contextlib
import enum
import pickle
import reprlib
from typing import Any, Final, cast

__all__ = ["name_of", "plain", "portable", "shorten", "spell"]

_BITS: Final = 64
_CHARACTERS: Final = 200


def shorten(value: object, limit: int = 200) -> str:
    """Return the repr of *value*, at most *limit* characters of it, whatever its class does."""
    try:
        text = _Brief(limit).repr(value)
    except Exception:  # noqa: BLE001 - a broken repr must not hide what is being reported
        text = f"<{type(value).__name__} with a broken repr>"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def spell(value: object, limit: int = 60) -> str:
    """Return how people call *value*: an enum member by its name alone, all else as `shorten()`."""
    if issubclass(type(value), enum.Enum):
        with contextlib.suppress(Exception):
            name: object = cast("enum.Enum", value)._name_
            if type(name) is str:
                return name if len(name) <= limit else name[: limit - 1] + "…"
    return shorten(value, limit)


def plain(value: Any) -> Any:
    """Give *value* if any log can hold it as it is, or else a text."""
    is_short = type(value) is str and len(value) <= _CHARACTERS
    is_small = type(value) is int and value.bit_length() <= _BITS
    if is_short or is_small or type(value) in (bool, float, type(None)):
        return value
    return spell(value, _CHARACTERS)


def portable(value: object) -> object:
    """Return *value* if it can be pickled, or else its text."""
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 -- whatever keeps it from being pickled
        return shorten(value)
    return value


def name_of(function: object) -> str:
    """Name a function for people: a lambda by the line it stands in."""
    name = getattr(function, "__qualname__", None)
    code = getattr(function, "__code__", None)
    if code is not None and name is not None and name.endswith("<lambda>"):
        return f"the lambda at {code.co_filename}:{code.co_firstlineno}"
    return name if isinstance(name, str) else shorten(function)


class _Brief(reprlib.Repr):
    """A repr that stops early, in depth and in width: neither can cost more than it shows."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.maxlevel = 5
        self.maxtuple = self.maxlist = self.maxdict = self.maxset = self.maxfrozenset = 12
        self.maxstring = self.maxlong = self.maxother = limit

    def repr_instance(self, x: object, level: int) -> str:  # noqa: ARG002 - reprlib's signature
        return repr(x)
