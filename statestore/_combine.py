"""Derive one watcher of several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from statestore._formulas import Combined, label_of
from statestore._matching import refuse_async
from statestore._text import name_of, shorten
from statestore._watcher import Condition, Derived, Watcher, count_of

__all__ = ["all_of", "any_of", "at_least", "combine"]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")
R = TypeVar("R")


@overload
def combine(
    a: Watcher[A],
    b: Watcher[B],
    /,
) -> Watcher[tuple[A, B]]: ...


@overload
def combine(
    a: Watcher[A],
    b: Watcher[B],
    /,
    *,
    using: Callable[[A, B], R],
) -> Watcher[R]: ...


@overload
def combine(
    a: Watcher[A],
    b: Watcher[B],
    c: Watcher[C],
    /,
) -> Watcher[tuple[A, B, C]]: ...


@overload
def combine(
    a: Watcher[A],
    b: Watcher[B],
    c: Watcher[C],
    /,
    *,
    using: Callable[[A, B, C], R],
) -> Watcher[R]: ...


@overload
def combine(
    a: Watcher[A],
    b: Watcher[B],
    c: Watcher[C],
    d: Watcher[D],
    /,
) -> Watcher[tuple[A, B, C, D]]: ...


@overload
def combine(
    a: Watcher[A],
    b: Watcher[B],
    c: Watcher[C],
    d: Watcher[D],
    /,
    *,
    using: Callable[[A, B, C, D], R],
) -> Watcher[R]: ...


@overload
def combine(
    a: Watcher[A],
    b: Watcher[B],
    c: Watcher[C],
    d: Watcher[D],
    e: Watcher[E],
    /,
) -> Watcher[tuple[A, B, C, D, E]]: ...


@overload
def combine(
    a: Watcher[A],
    b: Watcher[B],
    c: Watcher[C],
    d: Watcher[D],
    e: Watcher[E],
    /,
    *,
    using: Callable[[A, B, C, D, E], R],
) -> Watcher[R]: ...


@overload
def combine(
    a: Watcher[A],
    b: Watcher[B],
    c: Watcher[C],
    d: Watcher[D],
    e: Watcher[E],
    f: Watcher[F],
    /,
) -> Watcher[tuple[A, B, C, D, E, F]]: ...


@overload
def combine(
    a: Watcher[A],
    b: Watcher[B],
    c: Watcher[C],
    d: Watcher[D],
    e: Watcher[E],
    f: Watcher[F],
    /,
    *,
    using: Callable[[A, B, C, D, E, F], R],
) -> Watcher[R]: ...


@overload
def combine(
    a: Watcher[A],
    b: Watcher[B],
    c: Watcher[C],
    d: Watcher[D],
    e: Watcher[E],
    f: Watcher[F],
    g: Watcher[G],
    /,
) -> Watcher[tuple[A, B, C, D, E, F, G]]: ...


@overload
def combine(
    a: Watcher[A],
    b: Watcher[B],
    c: Watcher[C],
    d: Watcher[D],
    e: Watcher[E],
    f: Watcher[F],
    g: Watcher[G],
    /,
    *,
    using: Callable[[A, B, C, D, E, F, G], R],
) -> Watcher[R]: ...


@overload
def combine(
    a: Watcher[A],
    b: Watcher[B],
    c: Watcher[C],
    d: Watcher[D],
    e: Watcher[E],
    f: Watcher[F],
    g: Watcher[G],
    h: Watcher[H],
    /,
) -> Watcher[tuple[A, B, C, D, E, F, G, H]]: ...


@overload
def combine(
    a: Watcher[A],
    b: Watcher[B],
    c: Watcher[C],
    d: Watcher[D],
    e: Watcher[E],
    f: Watcher[F],
    g: Watcher[G],
    h: Watcher[H],
    /,
    *,
    using: Callable[[A, B, C, D, E, F, G, H], R],
) -> Watcher[R]: ...


@overload
def combine(a: Watcher[A], /, *, using: Callable[[A], R]) -> Watcher[R]: ...


@overload
def combine(*watchers: Watcher[A]) -> Watcher[tuple[A, ...]]: ...


# From nine on: it would take what the others refuse.
@overload
def combine(
    a: Watcher[Any],
    b: Watcher[Any],
    c: Watcher[Any],
    d: Watcher[Any],
    e: Watcher[Any],
    f: Watcher[Any],
    g: Watcher[Any],
    h: Watcher[Any],
    i: Watcher[Any],
    /,
    *more: Watcher[Any],
    using: Callable[..., R],
) -> Watcher[R]: ...


def combine(*watchers: Watcher[Any], using: Callable[..., Any] | None = None) -> Watcher[Any]:
    """
    Derive a watcher of the values of several watchers together.

        load = combine(app.queued, app.workers, using=lambda queued, workers: queued / workers)

    Its values are always of one revision: a commit that changes several of the sources makes one
    transition. Any number of watchers can be combined; up to eight have their types kept apart.

    Args:
        watchers: Of one store, value watchers and derived ones.
        using: A pure function of their values; without it, the values come as a tuple. What it
            raises puts the derived watcher in error, as with `Watcher.map()`.

    Raises:
        TypeError: There are none, or something is no watcher; *using* cannot be called.
        DifferentStoresError: They are not of one store.

    Cost:
        While somebody listens, one call for each commit that changes a source, and the tuple.
    """
    if using is not None:
        refuse_async(using, "a function to combine with")
    _check(watchers)
    sources = [watcher._source for watcher in watchers]
    function = "combine" if using is None else f"combine, using {name_of(using)}"
    return Derived(Combined(f"{function} ({label_of(sources)})", sources, using))


def all_of(*conditions: Watcher[bool]) -> Condition:
    """
    Derive the condition that all of *conditions* hold.

    Args:
        conditions: Conditions, or watchers of `bool`, of one store.

    Raises:
        TypeError: There are none, or something is no watcher.
        DifferentStoresError: They are not of one store.

    Cost:
        While somebody listens, constant for each transition of one of them, whatever their number.
    """
    _check(conditions)
    return count_of(conditions, len(conditions))


def any_of(*conditions: Watcher[bool]) -> Condition:
    """Derive the condition that at least one of *conditions* holds. Else as `all_of()`."""
    _check(conditions)
    return count_of(conditions, 1)


def at_least(number: int, /, *conditions: Watcher[bool]) -> Condition:
    """
    Derive the condition that at least *number* of *conditions* hold. Else as `all_of()`.

    Raises:
        ValueError: *number* is less than 1, or more than there are.
    """
    if isinstance(number, bool) or not isinstance(number, int):
        msg = f"how many shall hold is a whole number, not {shorten(number)}"
        raise TypeError(msg)
    _check(conditions)
    if not 1 <= number <= len(conditions):
        msg = f"at least {number} of {len(conditions)} conditions: choose a number from 1 to that"
        raise ValueError(msg)
    return count_of(conditions, number)


def _check(watchers: tuple[Watcher[Any], ...]) -> None:
    if not watchers:
        msg = "there is nothing to derive from; give at least one watcher"
        raise TypeError(msg)
    for watcher in watchers:
        if not isinstance(watcher, Watcher):
            msg = f"what is combined is a watcher, not {shorten(watcher)}"  # type: ignore[unreachable]
            raise TypeError(msg)
