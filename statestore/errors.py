"""
Every error that statestore raises on purpose.

Each one is a [`StateStoreError`][] and also the built-in exception that it resembles, so code that
knows nothing of statestore still catches the right thing.
A message names the thing, the rule and the fix; the same facts are attributes.
All of them can be pickled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from statestore._text import portable

if TYPE_CHECKING:
    # Only to say what an error carries.
    from statestore._reports import WaitReport

__all__ = [
    "BlockingError",
    "CallbackLoopError",
    "ConflictError",
    "DerivationError",
    "DifferentStoresError",
    "DuplicateKeyError",
    "IllegalTransitionError",
    "KeyRemovedError",
    "LaggedError",
    "MutableValueError",
    "StateStoreError",
    "StoreClosedError",
    "SubscriptionError",
    "UnknownKeyError",
    "UnreachableError",
    "WaitTimeoutError",
]


class StateStoreError(Exception):
    """The base of every error that statestore raises on purpose."""

    def __str__(self) -> str:
        # KeyError would show the repr of the message.
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        # A value that cannot be pickled shall not keep the error from getting through.
        return (type(self), self.args, {name: portable(v) for name, v in vars(self).items()})


class MutableValueError(StateStoreError, TypeError):
    """
    The caller offered a value that can be changed in place.

    Attributes:
        path: Where the offending part sits, such as `config.servers[2].tags`.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class UnknownKeyError(StateStoreError, KeyError):
    """The caller asked a store for a key that it does not have."""


class DuplicateKeyError(StateStoreError, ValueError):
    """The caller gave a key a name that is taken."""


class KeyRemovedError(StateStoreError, KeyError):
    """
    The member of a family that a watcher stands for was removed.

    Attributes:
        key: The name of the member, such as `workers['w1']`.
        wait: What was waited for, and what there was, if it ended a wait.
    """

    def __init__(self, message: str, *, key: str = "", wait: WaitReport | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.wait = wait


class ConflictError(StateStoreError, RuntimeError):
    """
    A key that a transaction had read was committed by somebody else before it ended.

    Nobody is at fault and nothing was changed: run the transaction again, or let
    `Store.transact()` do so.

    Attributes:
        key: The name of the key that moved.
    """

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class DerivationError(StateStoreError, RuntimeError):
    """
    A derived watcher has no value: a function that it is computed with raised an error.

    The error that the function raised is the `__cause__`. The watcher has a value again with the
    next transition for which the function gives one.

    Attributes:
        function: The function.
        values: What it was called with.
        revision: The revision of these values.
        wait: What was waited for, and what there was, if it ended a wait.
    """

    def __init__(
        self,
        message: str,
        *,
        function: object = None,
        values: tuple[object, ...] = (),
        revision: int = 0,
        wait: WaitReport | None = None,
    ) -> None:
        super().__init__(message)
        self.function = function
        self.values = values
        self.revision = revision
        self.wait = wait


class DifferentStoresError(StateStoreError, ValueError):
    """The caller combined watchers that have no common order of commits: put them in one store."""


class StoreClosedError(StateStoreError, RuntimeError):
    """
    The store was closed: its values stay readable, but no longer change.

    Attributes:
        wait: What was waited for, and what there was, if it ended a wait.
    """

    def __init__(self, message: str = "", *, wait: WaitReport | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class WaitTimeoutError(StateStoreError, TimeoutError):
    """
    What a wait waited for was not committed before its timeout ran out.

    Attributes:
        key: The name of the key that was waited on.
        waited_for: What was waited for, in words.
        value: The last value that the wait looked at.
        revision: The revision of that value.
        timeout: How long the wait was allowed to take, in seconds.
        wait: All of this, the last transitions that the wait did see, and of what is derived, such
            as a combined condition, which parts held and which did not.
    """

    def __init__(  # noqa: PLR0913 -- what a wait can tell
        self,
        message: str,
        *,
        key: str = "",
        waited_for: str = "",
        value: object = None,
        revision: int = 0,
        timeout: float = 0.0,
        wait: WaitReport | None = None,
    ) -> None:
        super().__init__(message)
        self.key = key
        self.waited_for = waited_for
        self.value = value
        self.revision = revision
        self.timeout = timeout
        self.wait = wait


class IllegalTransitionError(StateStoreError, ValueError):
    """
    A key was to go where its lifecycle has no move to. Nothing is changed.

    Attributes:
        key: The name of the key.
        old: The value that was to be replaced; `ABSENT` if it was to be the first one.
        new: The value that was to be set.
        allowed: The states that may follow, or with which a key may begin.
        revision: The revision of the last transition of the key; 0 if there was none.
    """

    def __init__(  # noqa: PLR0913 -- what a refusal can tell
        self,
        message: str,
        *,
        key: str = "",
        old: Any = None,
        new: Any = None,
        allowed: frozenset[Any] = frozenset(),
        revision: int = 0,
    ) -> None:
        super().__init__(message)
        self.key = key
        self.old = old
        self.new = new
        self.allowed = allowed
        self.revision = revision


class UnreachableError(StateStoreError, RuntimeError):
    """
    What was waited for cannot come any more: no legal moves lead there.

    Attributes:
        key: The name of the watcher that was waited on.
        waited_for: What it was to become, in words.
        value: The value from which it cannot get there.
        wait: What is known of the wait.
    """

    def __init__(
        self,
        message: str,
        *,
        key: str = "",
        waited_for: str = "",
        value: Any = None,
        wait: WaitReport | None = None,
    ) -> None:
        super().__init__(message)
        self.key = key
        self.waited_for = waited_for
        self.value = value
        self.wait = wait


class LaggedError(StateStoreError, RuntimeError):
    """
    A bounded subscription was read too slowly and lost transitions.

    Raised once, at the place of the loss; the next read goes on at the oldest record kept.

    Attributes:
        missed: How many records were lost.
        first_revision: The revision of the first one lost.
        last_revision: The revision of the last one lost.
        value: The newest value at the time of the error: what to go on from.
    """

    def __init__(
        self,
        message: str,
        *,
        missed: int = 0,
        first_revision: int = 0,
        last_revision: int = 0,
        value: object = None,
    ) -> None:
        super().__init__(message)
        self.missed = missed
        self.first_revision = first_revision
        self.last_revision = last_revision
        self.value = value


class SubscriptionError(StateStoreError, RuntimeError):
    """
    The caller used a subscription in a way it cannot serve.

    After it was closed, from two tasks or threads at once, on another event loop than its own, or
    in a forked child process.
    """


class BlockingError(StateStoreError, RuntimeError):
    """The caller made a blocking call on a thread that is running an event loop."""


class CallbackLoopError(StateStoreError, RuntimeError):
    """Callbacks set each other off without end; the set that would have gone on was refused."""
