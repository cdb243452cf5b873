"""What a wait waits for: tests of a value that say in words what they want."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final, final

from statestore._text import name_of, shorten, spell


@final
class EqualTo:
    """The test of `wait_for()`: the very object, or one that equals it."""

    __slots__ = ("target",)

    def __init__(self, target: object) -> None:
        self.target = target

    def __call__(self, value: object) -> bool:
        return value is self.target or bool(value == self.target)

    def __str__(self) -> str:
        return f"to be {spell(self.target, 200)}"

    def __repr__(self) -> str:
        return f"the comparison with {shorten(self.target)}"


@final
class UnequalTo:
    """The test of `wait_for_not()`."""

    __slots__ = ("target",)

    def __init__(self, target: object) -> None:
        self.target = target

    def __call__(self, value: object) -> bool:
        return value is not self.target and bool(value != self.target)

    def __str__(self) -> str:
        return f"to be other than {spell(self.target, 200)}"

    def __repr__(self) -> str:
        return f"the comparison with {shorten(self.target)}"


@final
class Satisfying:
    """The test of `wait_until()`."""

    __slots__ = ("predicate",)

    def __init__(self, predicate: Callable[[Any], object]) -> None:
        refuse_async(predicate, "a predicate")
        self.predicate = predicate

    def __call__(self, value: object) -> bool:
        return bool(self.predicate(value))

    def __str__(self) -> str:
        return f"to satisfy {name_of(self.predicate)}"


@final
class Anything:
    """The test of `wait_for_change()`."""

    __slots__ = ()

    def __call__(self, _value: object) -> bool:
        return True

    def __str__(self) -> str:
        return "to change"


@final
class NotNone:
    """The test of `wait_for_not_none()`."""

    __slots__ = ()

    def __call__(self, value: object) -> bool:
        return value is not None

    def __str__(self) -> str:
        return "to be other than None"


class Wrapping:
    """A test made of another one, which says what is waited for."""

    __slots__ = ("test",)

    test: Callable[[Any], Any]

    @property
    def suffix(self) -> str:
        """What to say behind the words of the other one."""
        return ""


ANYTHING: Final = Anything()
NOT_NONE: Final = NotNone()


def refuse_async(function: object, what: str) -> None:
    """
    Refuse a coroutine function where its result is needed at once.

    Raises:
        TypeError: *function* is none that can be called, or an asynchronous one.
    """
    if (
        type(function) is FunctionType
        and not function.__code__.co_flags & inspect.CO_COROUTINE
        and not function.__dict__
    ):
        # Nearly all. What is marked as asynchronous, or wraps something, has attributes.
        return
    if not callable(function):
        msg = f"{what} must be callable, not {shorten(function)}"
        raise TypeError(msg)
    call = getattr(type(function), "__call__", None)  # noqa: B004 -- whether it is asynchronous
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
        msg = (
            f"{what} must be a plain function, {name_of(function)} is asynchronous; "
            "wait in a task and call it there"
        )
        raise TypeError(msg)
