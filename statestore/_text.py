"""Show values to people, whatever their classes do."""

from __future__ import annotations

import enum
import reprlib

__all__ = ["describe", "name_of", "shorten"]


def shorten(value: object, limit: int = 200) -> str:
    """Return the repr of *value*, at most *limit* characters of it, whatever its class does."""
    try:
        text = _Brief(limit).repr(value)
    except Exception:  # noqa: BLE001 - a broken repr must not hide what is being reported
        text = f"<{type(value).__name__} with a broken repr>"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def describe(value: object, limit: int = 200) -> str:
    """Give *value* in words: a member of an enum as code names it, all else by its repr."""
    kind = type(value)
    if issubclass(kind, enum.Enum) and kind.__repr__ is enum.Enum.__repr__:
        return f"{kind.__name__}.{value._name_}"[:limit]  # type: ignore[attr-defined]
    return shorten(value, limit)


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
