"""
What mypy and pyright make of derived watchers and conditions. Never run.

A line that must fail says so, to each of the two: if it passed, the comment would be an error.
"""

from __future__ import annotations

from typing import Any, assert_type

from statestore import (
    BlockingSubscription,
    BlockingWatcher,
    Condition,
    During,
    Key,
    Store,
    Subscription,
    Transition,
    Values,
    ValueWatcher,
    Watcher,
    all_of,
    any_of,
    at_least,
    combine,
)


class App(Store):
    """One key of each of several types."""

    number = Key(0)
    text = Key("")
    real = Key(0.0)
    data = Key(b"")
    flag = Key(False)
    maybe = Key[int | None](None)


def length(text: str) -> int:
    """Give the length of a text."""
    return len(text)


def describe(value: object) -> str:
    """Give any value in words."""
    return str(value)


async def asynchronous(number: int) -> str:
    """Give a number in words, later."""
    return str(number)


def maps(app: App) -> None:
    """See that a map has the type of what its function returns."""
    assert_type(app.text.map(length), Watcher[int])
    assert_type(app.number.map(describe), Watcher[str])
    assert_type(app.number.map(lambda number: [number]), Watcher[list[int]])
    assert_type(app.maybe.map(lambda number: number is None), Watcher[bool])
    assert_type(app.text.map(length).map(describe), Watcher[str])
    assert_type(app.text.map(length).value, int)
    app.number.map(length)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.text.map(length).map(length)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.number.map(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.text.map(function=length)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def combinations(app: App) -> None:
    """See that two to eight watchers keep their types apart, in a tuple and in a function."""
    a, b, c, d = app.number, app.text, app.real, app.data
    assert_type(combine(a, b), Watcher[tuple[int, str]])
    assert_type(combine(a, b, c), Watcher[tuple[int, str, float]])
    assert_type(combine(a, b, c, d), Watcher[tuple[int, str, float, bytes]])
    assert_type(combine(a, b, c, d, a), Watcher[tuple[int, str, float, bytes, int]])
    assert_type(combine(a, b, c, d, a, b), Watcher[tuple[int, str, float, bytes, int, str]])
    assert_type(
        combine(a, b, c, d, a, b, c),
        Watcher[tuple[int, str, float, bytes, int, str, float]],
    )
    assert_type(
        combine(a, b, c, d, a, b, c, d),
        Watcher[tuple[int, str, float, bytes, int, str, float, bytes]],
    )
    assert_type(combine(a), Watcher[tuple[int, ...]])
    assert_type(combine(a, a, a, a, a, a, a, a, a), Watcher[tuple[int, ...]])
    assert_type(combine(*[a, a]), Watcher[tuple[int, ...]])
    combine(a, 1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    combine(a, b, max)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


def functions(app: App) -> None:
    """See that a function to combine with is given the types of the watchers, in order."""
    a, b, c, d = app.number, app.text, app.real, app.data
    assert_type(combine(a, b, using=lambda a, b: b * a), Watcher[str])
    assert_type(combine(a, b, c, using=lambda a, b, c: (b * a, c)), Watcher[tuple[str, float]])
    assert_type(combine(a, b, c, d, using=lambda a, b, c, d: d * a), Watcher[bytes])
    assert_type(combine(a, b, c, d, a, using=lambda a, b, c, d, e: d * e), Watcher[bytes])
    assert_type(combine(a, b, c, d, a, b, using=lambda a, b, c, d, e, f: f * e), Watcher[str])
    assert_type(
        combine(a, b, c, d, a, b, c, using=lambda a, b, c, d, e, f, g: f.upper()), Watcher[str]
    )
    assert_type(
        combine(a, b, c, d, a, b, c, d, using=lambda a, b, c, d, e, f, g, h: h.hex()),
        Watcher[str],
    )
    assert_type(combine(a, b, using=describe_both), Watcher[str])
    assert_type(combine(*[a, a], using=max), Watcher[Any])
    assert_type(combine(*[a, a], using=describe_all), Watcher[str])
    assert_type(combine(a, using=lambda a: [a]), Watcher[list[int]])
    assert_type(combine(a, b, c, d, a, b, c, d, a, using=describe_all), Watcher[str])
    combine(b, a, using=repeat)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    combine(a, b, using="max")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def repeat(number: int, text: str) -> str:
    """Give *text* so many times."""
    return text * number


def describe_both(one: object, other: object) -> str:
    """Give two values in words."""
    return f"{one} {other}"


def describe_all(*values: object) -> str:
    """Give any number of values in words."""
    return str(values)


def conditions(app: App) -> None:
    """See what makes a condition, and what a condition is made of."""
    assert_type(app.number.is_(1), Condition)
    assert_type(app.number.is_not(None), Condition)
    assert_type(app.text.matches(length), Condition)
    assert_type(app.text.map(length).is_(1), Condition)
    one, other = app.number.is_(1), app.text.is_("")
    assert_type(one & other, Condition)
    assert_type(one | app.flag, Condition)
    assert_type(app.flag & one, Condition)
    assert_type(app.flag | one, Condition)
    assert_type(~one, Condition)
    assert_type(all_of(one, other, app.flag), Condition)
    assert_type(any_of(one, app.text.map(bool)), Condition)
    assert_type(at_least(2, one, other, app.flag), Condition)
    assert_type(one.value, bool)
    assert_type(one.map(lambda holds: holds), Watcher[bool])
    app.number.matches(length)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    one & app.number  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    app.number | one  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    one & True  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    ~app.flag  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    all_of(one, app.number)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    any_of([one, other])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    at_least("2", one)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    at_least(one, other)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def waits(app: App) -> None:
    """See that a derived watcher has the waits of any watcher, which narrow as they do."""
    maybe = app.maybe.map(lambda number: number)
    assert_type(await maybe.wait_for(None), int | None)
    assert_type(await maybe.wait_for_not_none(), int)
    assert_type(await maybe.wait_for_change(timeout=1), int | None)
    assert_type(await combine(app.number, app.text).wait_until(bool), tuple[int, str])
    assert_type(maybe.blocking.wait_for_not_none(), int)
    await app.flag.is_(True).wait(timeout=1)
    await app.flag.is_(True).wait(held_for=1)
    async with app.flag.is_(True).during(timeout=1) as scope:
        assert_type(scope, During[bool])
    await app.flag.is_(True).wait(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await app.flag.wait()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


async def streams(app: App) -> None:
    """See that it has the streams and callbacks of any watcher."""
    both = combine(app.number, app.text)
    with both.subscribe(initial=True) as sub:
        assert_type(sub, Subscription[tuple[int, str]])
        async for transition in sub:
            assert_type(transition, Transition[tuple[int, str]])
    assert_type(app.flag.is_(True).values(), Values[bool])
    assert_type(both.blocking, BlockingWatcher[tuple[int, str]])
    assert_type(both.blocking.subscribe(), BlockingSubscription[tuple[int, str]])
    both.on_change(lambda old, new: (old[0] + new[0], old[1] + new[1]))
    app.number.map(describe).on_change(lambda old, new: old.upper() + new)
    both.on_change(repeat)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def look(watcher: Watcher[object]) -> object:
    """Read a watcher of anything."""
    return watcher.value


def readers(app: App) -> None:
    """See that what is derived is only read, and stands wherever a watcher is asked for."""
    look(combine(app.number, app.text))
    flag: Watcher[bool] = app.flag.is_(True)
    flag.value = True  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    app.number.map(describe).set("")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    state: ValueWatcher[int] = app.number.map(lambda number: number)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    assert_type(state, ValueWatcher[int])
    numbers: Watcher[str] = app.number.map(lambda number: number)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportAssignmentType]
    numbers.map(length)
