"""Log every transition through structlog."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias, final

from statestore._callbacks import CallbackHandle
from statestore._closing import Closable
from statestore._commits import shown
from statestore._core import Slot
from statestore._journal import Journal, Origin
from statestore._logging import default_logger
from statestore._matching import refuse_async
from statestore._members import changes_of_keys
from statestore._records import ABSENT
from statestore._selection import Choice, is_selected, select
from statestore._store import Store
from statestore._text import plain, shorten
from statestore._value_watcher import ValueWatcher

Redact: TypeAlias = Iterable[Choice] | Callable[[str, Any], object]
"""What is not to be seen, or what gives that which is seen in its place."""

EVENT: Final = "statestore.transition"

LEVELS: Final = ("debug", "info", "warning", "error", "critical")

REDACTED: Final = "[redacted]"

# Fields that are logged also when they are None.
_ALL: Final = frozenset({"old", "new"})
# Names of parameters of structlog's methods.
_TAKEN: Final = frozenset({"self", "event"})


def log_transitions(
    store: Store | ValueWatcher[Any],
    logger: Any = None,
    level: str = "debug",
    *,
    only: Iterable[Choice] | None = None,
    redact: Redact = (),
) -> TransitionLog:
    """
    Log each transition from now on, one event each, in the order of the commits.

        with log_transitions(app, level="info", redact=[App.token]):
            ...

    The event is `statestore.transition`. Its fields are `key`, `old`, `new`, `revision` and
    `setter` (the name of the task, or else of the thread, that made the commit), and, where they
    are known: `seconds` spent in the old value, the `reason` that the setter gave, and `caused_by`,
    the revision whose callback made this commit. Beside them stands what the setter had bound with
    structlog's contextvars, such as a request id; if that bears the name of a field, it is logged
    as `context_` and the name.

    Numbers, None and short strings are logged as they are, other values as text of 200 characters
    at most, so neither a broken nor a giant repr can hurt.

    Args:
        store: The store, or a watcher that stands alone.
        logger: Anything with structlog's methods; `structlog.get_logger("statestore")` by default.
        level: The name of the method to call: debug, info, warning, error or critical.
        only: The keys and families to log; all of them by default.
        redact: Keys and families whose values are not to be seen, or a function that is given the
            name of a key and a value and returns what to log in its place.

    Returns:
        What ends it. It goes on until then, also if this is dropped.

    Raises:
        TypeError: One of the arguments is not what it should be.
        UnknownKeyError: The store has no such key.
        ValueError: There is no such *level*.

    Thread safety:
        May be called from anywhere. The logger is called right after the commit and before the
        callbacks, one event at a time, in the thread that set the value, or the one that is
        calling callbacks just then. What it raises goes to the store's `on_error` and harms nobody.

    Cost:
        While it is open, each commit of the store pays for the origin that is noted, for the event
        and for the long way of a set. Closed, nothing.
    """
    return TransitionLog(store, logger, level, only, redact)


@final
class TransitionLog(Closable):
    """What keeps transitions logged, from `log_transitions()`: close it to end that."""

    __slots__ = ("_changed", "_chosen", "_handle", "_journal", "_level", "_logger", "_show")

    def __init__(
        self,
        store: Store | ValueWatcher[Any],
        logger: Any,
        level: str,
        only: Iterable[Choice] | None,
        redact: Redact,
    ) -> None:
        if not isinstance(store, (Store, ValueWatcher)):
            msg = f"what is logged is a store, or a watcher alone, not {shorten(store)}"  # type: ignore[unreachable]
            raise TypeError(msg)
        if level not in LEVELS:
            msg = f"level must be one of {', '.join(LEVELS)}, not {shorten(level)}"
            raise ValueError(msg)
        core = store._core
        self._logger = default_logger() if logger is None else _checked(logger, level)
        self._level = level
        # The slots of keys and families; all of them without.
        self._chosen = None if only is None else select(store, only)
        self._show = _redaction(store, redact)
        # When each key that was seen to change did so last. Removed members are forgotten.
        self._changed: dict[Slot, float] = {}
        self._journal = Journal(core)
        callbacks = core.listen(self._journal).callbacks
        self._handle = CallbackHandle(
            core.title, getattr(self._logger, level), self._hear, callbacks
        )
        callbacks[self._handle] = None
        self._journal.begin()
        core.fence(self._handle)

    @property
    def is_closed(self) -> bool:
        """Whether nothing is logged any more."""
        return self._handle.is_closed

    def close(self) -> None:
        """End it. A second call does nothing."""
        self._handle.close()
        self._journal.end()

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "open"
        return f"<{state} log of the transitions of {self._journal._name}>"

    def _hear(self, _before: object, commit: tuple[Origin, tuple[Any, ...]]) -> None:
        origin, changes = commit
        inline = self._journal._core.inline
        for slot, old, new in changes_of_keys(changes):
            if self._chosen is None or is_selected(slot, self._chosen):
                try:
                    self._tell(slot, old, shown(new), inline.revision, origin)
                except Exception as error:  # noqa: BLE001 -- the other transitions are logged
                    inline.report(self._handle, inline.revision, error)

    def _tell(self, slot: Slot, old: Any, new: Any, revision: int, origin: Origin) -> None:
        before = self._changed.pop(slot, None)
        if new is not ABSENT:
            self._changed[slot] = origin.clock
        fields: dict[str, Any] = {
            "key": slot._name,
            "old": self._show(slot, old),
            "new": self._show(slot, new),
            "revision": revision,
            "seconds": None if before is None else round(max(0.0, origin.clock - before), 6),
            "setter": origin.setter,
            "reason": origin.reason,
            "caused_by": origin.caused_by,
        }
        context = {
            f"context_{name}" if name in fields or name in _TAKEN else name: value
            for name, value in origin.context.items()
        }
        known = {name: value for name, value in fields.items() if value is not None or name in _ALL}
        getattr(self._logger, self._level)(EVENT, **context, **known)


def _checked(logger: Any, level: str) -> Any:
    if isinstance(logger, logging.Logger):
        msg = f"{logger!r} takes no fields; give structlog.wrap_logger() of it"
        raise TypeError(msg)
    if not callable(getattr(logger, level, None)):
        msg = f"{shorten(logger)} is no logger: it has no {level}()"
        raise TypeError(msg)
    return logger


Show: TypeAlias = Callable[[Slot, Any], Any]
"""Give what is logged for a value of a slot."""


def _redaction(store: Store | ValueWatcher[Any], redact: Redact) -> Show:
    """Say how values are shown."""
    if callable(redact):
        refuse_async(redact, "what redacts")
        replace = redact
        return lambda slot, value: plain(value if value is ABSENT else replace(slot._name, value))
    hidden = select(store, redact)
    return lambda slot, value: (
        REDACTED if value is not ABSENT and is_selected(slot, hidden) else plain(value)
    )
