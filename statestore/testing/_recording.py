"""Record the transitions of a watcher, and show them beside those that were expected."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar, final

from statestore._closing import Closable
from statestore._records import Transition
from statestore._streams import Stream
from statestore._subscription import BlockingSubscription, Subscription
from statestore._text import shorten
from statestore._watcher import Watcher
from statestore.errors import (
    DerivationError,
    KeyRemovedError,
    LaggedError,
    StateStoreError,
    StoreClosedError,
)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Told: TypeAlias = Transition[Any] | StateStoreError
"""What a stream gives: a transition, or the error that stands in place of some."""

WIDTH: Final = 60
"""How many characters of a value stand in the table."""

FULL: Final = 1000
"""How many stand below it where the table cannot tell two values apart."""

BEFORE: Final = 5
AFTER: Final = 15
"""How many rows are shown before and after the first difference."""

NOTHING: Final = "(nothing)"


@final
class RecordedTransitions(Closable, Generic[T_co]):
    """
    The transitions that a watcher made since this was opened, from [`recorded`][].

    Works with an event loop and without, and sees whatever was committed before it is asked.

    Thread safety:
        For one thread or task at a time. The transitions may come from anywhere.
    """

    __slots__ = ("_asserted", "_is_closed", "_stream", "_told")

    def __init__(self, watcher: Watcher[T_co]) -> None:
        self._told: list[Told] = []
        # How many of them were asserted.
        self._asserted = 0
        self._is_closed = False
        self._stream: BlockingSubscription[T_co] = watcher.blocking.subscribe()

    @property
    def transitions(self) -> tuple[Transition[T_co], ...]:
        """All transitions so far, asserted or not; not the failures of a derived watcher."""
        self._read()
        return tuple(told for told in self._told if isinstance(told, Transition))

    def assert_transitions(self, expected: Iterable[object]) -> None:
        """
        Assert that it made these transitions since the last assertion, and no others.

        Else as [`assert_transitions`][]; after a failure, all of them are still there.
        """
        __tracebackhide__ = True
        self._read()
        _compare(self._stream, list(expected), self._told[self._asserted :])
        self._asserted = len(self._told)

    def close(self) -> None:
        """Record no more; what was recorded stays. A second call does nothing."""
        self._read()
        self._is_closed = True
        self._stream.close()

    def _read(self) -> None:
        if not self._is_closed:
            self._told += _taken_from(self._stream)


def recorded(watcher: Watcher[T]) -> RecordedTransitions[T]:
    """
    Record the transitions of *watcher* from now on, until the `with` block is left.

        with recorded(app.conn) as seen:
            app.conn.value = Conn.CLOSING
            seen.assert_transitions([Conn.CLOSING])
            app.conn.value = Conn.CLOSED
        seen.assert_transitions([Conn.CLOSED])

    Cost:
        None to a setter. All transitions are kept until it is closed and dropped.
    """
    return RecordedTransitions(watcher)


def assert_transitions(
    seen: RecordedTransitions[Any] | Subscription[Any] | BlockingSubscription[Any],
    expected: Iterable[object],
) -> None:
    """
    Assert that these transitions were made, in this order, and that nothing is left over.

    Args:
        seen: What [`recorded`][] gave, or a subscription; all that is there is taken, also when
            the assertion fails.
        expected: The values that the watcher became, one after the other. They are compared by
            `expected == actual`, so `unittest.mock.ANY` will do. Where a derived watcher fails, or
            a bounded subscription has lost something, the class of the error stands.

    Raises:
        AssertionError: It was otherwise. The message shows the two lists side by side, and marks
            the first difference.
        TypeError: *seen* is neither: a watcher does not know what it was.
        SubscriptionError: The subscription is closed.
    """
    __tracebackhide__ = True
    if isinstance(seen, RecordedTransitions):
        seen.assert_transitions(expected)
    elif isinstance(seen, Stream):
        _compare(seen, list(expected), _taken_from(seen))
    else:
        msg = (  # type: ignore[unreachable]
            f"only what was recorded can be compared, not {shorten(seen)}; "
            "use `with recorded(watcher) as seen`, or a subscription"
        )
        raise TypeError(msg)


def _taken_from(stream: Stream[Any]) -> list[Told]:
    """Take all that is there."""
    taken: list[Told] = []
    while True:
        try:
            taken.append(stream.get_nowait())
        except (asyncio.QueueEmpty, KeyRemovedError, StoreClosedError):
            return taken
        except (DerivationError, LaggedError) as error:
            # Its frames would keep what comes.
            taken.append(error.with_traceback(None))


class _Row(NamedTuple):
    """One expected value and one transition, side by side."""

    expected: str
    told: str
    note: str


_MISSING: Final[Any] = object()


def _compare(stream: Stream[Any], expected: list[object], told: list[Told]) -> None:
    __tracebackhide__ = True
    pairs = list(zip_longest(expected, told, fillvalue=_MISSING))
    for place, (wanted, came) in enumerate(pairs):
        if not _is_met(wanted, came):
            raise AssertionError(_message(stream._slot._name, pairs, place))


def _is_met(expected: Any, told: Any) -> bool:
    if expected is _MISSING or told is _MISSING:
        return False
    if isinstance(told, StateStoreError):
        return isinstance(expected, type) and isinstance(told, expected)
    return expected is told.new or bool(expected == told.new)


def _message(name: str, pairs: Sequence[tuple[Any, Any]], place: int) -> str:
    """Tell what was expected and what came, above all at *place*."""
    wanted, came = pairs[place]
    first, last = max(place - BEFORE, 0), place + AFTER + 1
    rows = [_Row("expected", "made", ""), *(_row(*pair) for pair in pairs[first:last])]
    left, middle = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = [
        f"  {'>' if number == place - first + 1 else ' '} "
        f"{row.expected:<{left}}   {row.told:<{middle}}   {row.note}".rstrip()
        for number, row in enumerate(rows)
    ]
    if first:
        lines.insert(1, f"    ({first} more, as expected)")
    if last < len(pairs):
        lines.append(f"    ({len(pairs) - last} more)")
    headline = _headline(name, wanted, came, len(pairs) - place, place)
    return "\n".join([headline, *lines, *_in_full(wanted, came)])


def _in_full(wanted: Any, came: Told) -> list[str]:
    """Show two values at length that look the same in the table, or are cut off there."""
    if wanted is _MISSING or not isinstance(came, Transition):
        return []
    texts = (_text_of(wanted), _text_of(came.new))
    if texts[0] != texts[1] and not any("…" in text or "..." in text for text in texts):
        return []
    return [
        f"    {word}: {shorten(value, FULL)} ({type(value).__name__})"
        for word, value in (("expected", wanted), ("made", came.new))
    ]


def _headline(name: str, wanted: Any, came: Any, left: int, place: int) -> str:
    if came is _MISSING:
        return f"{name}: {left} of {place + left} expected transitions did not come"
    if wanted is _MISSING:
        return f"{name}: {left} left over, after {place} as expected"
    return f"transition {place + 1} of {name} is not the expected one"


def _row(expected: Any, told: Any) -> _Row:
    made, note = (NOTHING, "") if told is _MISSING else _text_and_note(told)
    return _Row(_text_of(expected), made, note)


def _text_of(value: Any) -> str:
    if value is _MISSING:
        return NOTHING
    if isinstance(value, type):
        return value.__name__
    return shorten(value, WIDTH).replace("\n", " ")


def _text_and_note(told: Told) -> tuple[str, str]:
    if isinstance(told, Transition):
        missed = f", and {told.missed} missed" if told.missed else ""
        return _text_of(told.new), f"revision {told.revision}{missed}"
    return type(told).__name__, shorten(str(told), WIDTH)
