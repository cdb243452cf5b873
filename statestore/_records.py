"""
The records that consumers are given: what changed, from what, to what, at which revision.

All of them are frozen, so any number of consumers in any thread can share one.
"""

from __future__ import annotations

import copy
import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Generic, Self, final

import attrs
from typing_extensions import TypeVar

from statestore._classes import refuse
from statestore.errors import KeyRemovedError, StateStoreError

__all__ = ["ABSENT", "Absent", "CallbackFailure", "Commit", "Snapshot", "Transition"]

T_co = TypeVar("T_co", covariant=True, default=Any)


class Absent(enum.Enum):
    """The type of [`ABSENT`][]."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return "ABSENT"


# An enum member, so it would pass as a value.
refuse(
    Absent, "ABSENT stands for a key that is not there", "use None or an enum member of your own"
)

ABSENT: Final = Absent.ABSENT
"""What stands for the value of a key before it was added and after it was removed."""


class NoValue(ABC):
    """What stands in a cell where there is no value: consumers are given its error instead."""

    __slots__ = ("last", "last_revision", "revision")

    def __init__(self) -> None:
        # The value before, from which the next transition leads, and its revision.
        self.last: Any = ABSENT
        self.last_revision: int = -1
        # Where it came up, once that is known.
        self.revision: int | None = None

    @abstractmethod
    def again(self) -> StateStoreError:
        """Make the error, a new one each time: one that was raised collects what it passes."""

    def after(self, last: Any, revision: int) -> Self:
        """Give the same where *last* was the value before, since *revision*."""
        made = copy.copy(self)
        made.last, made.last_revision = last, revision
        return made


@final
class Removed(NoValue):
    """What stands in the last cell of a member that was removed from its family."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def again(self) -> KeyRemovedError:
        """Make the error."""
        msg = f"{self.name} was removed; if it is added again, that makes a new watcher"
        return KeyRemovedError(msg, key=self.name)


@final
@attrs.frozen(kw_only=True)
class Transition(Generic[T_co]):
    """
    One change of one key.

    Attributes:
        key: The name of the key.
        old: The value before. The same object as *new* in the first record of a subscription that
            was opened with `initial=True`.
        new: The value after.
        revision: The revision of the commit that made the change. It rises from transition to
            transition, but is not dense: other keys have theirs in between.
        missed: How many transitions were joined into this one and are not delivered one by one:
            0, but for a subscription with `overflow="latest"`.
    """

    key: str
    old: T_co
    new: T_co
    revision: int
    missed: int = 0


_new: Final[Callable[[Any], Any]] = object.__new__
_set_key, _set_old, _set_new, _set_revision, _set_missed = (
    getattr(Transition, field.name).__set__ for field in attrs.fields(Transition)
)


def make_transition(key: str, old: Any, new: Any, revision: int, missed: int) -> Transition[Any]:
    """Do as `Transition(...)`, in half the time: a stream makes one for each that is taken."""
    made: Transition[Any] = _new(Transition)
    _set_key(made, key)
    _set_old(made, old)
    _set_new(made, new)
    _set_revision(made, revision)
    _set_missed(made, missed)
    return made


@final
@attrs.frozen(kw_only=True)
class Commit:
    """
    All transitions of one revision.

    Attributes:
        revision: The revision.
        transitions: One for each key that changed, in the order in which they were set.
        missed: How many commits were joined into this one and are not delivered one by one.
    """

    revision: int
    transitions: tuple[Transition[Any], ...]
    missed: int = 0


_set_number, _set_transitions, _set_joined = (
    getattr(Commit, field.name).__set__ for field in attrs.fields(Commit)
)


def make_commit(revision: int, transitions: tuple[Transition[Any], ...], missed: int) -> Commit:
    """Do as `Commit(...)`, in half the time, as `make_transition()`."""
    made: Commit = _new(Commit)
    _set_number(made, revision)
    _set_transitions(made, transitions)
    _set_joined(made, missed)
    return made


@final
@attrs.frozen(kw_only=True)
class CallbackFailure:
    """
    An error that came out of a callback: what a store's `on_error` is called with.

    Attributes:
        key: The name of the key that the callback listens to.
        revision: The revision whose transition the callback was told of.
        callback: The callback.
        error: What it raised.
    """

    key: str
    revision: int
    callback: Callable[..., object]
    error: BaseException


@final
class Snapshot(Mapping[str, Any]):
    """
    The values of a store's keys at one revision, as a read-only mapping.

    Reads take a key's name; names that are valid identifiers are attributes too.

    Thread safety:
        Immutable.
    """

    __slots__ = ("_values", "revision")

    _values: dict[str, Any]
    revision: int
    """The revision at which all of these values were current together."""

    def __init__(self, values: dict[str, Any], revision: int) -> None:
        object.__setattr__(self, "_values", values)
        object.__setattr__(self, "revision", revision)

    def __setattr__(self, name: str, value: object) -> None:
        msg = f"cannot set {name!r}: a snapshot is what the store was, set the store's key instead"
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> None:
        msg = f"cannot delete {name!r}: a snapshot is what the store was"
        raise AttributeError(msg)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            msg = f"the snapshot has no key {name!r}; it has {', '.join(self._values) or 'none'}"
            raise AttributeError(msg) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Snapshot, (self._values, self.revision))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self._values.items())
        return f"<Snapshot of revision {self.revision}: {values}>"
