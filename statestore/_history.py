"""What a recording knows: the commits that it kept, and the state that they led to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import immutables

from statestore._commits import put, shown
from statestore._journal import Origin
from statestore._lifecycle import Lifecycle
from statestore._members import changes_of_keys, member_name
from statestore._records import ABSENT, Snapshot
from statestore._text import shorten
from statestore.errors import UnknownKeyError


class Move(NamedTuple):
    """One transition."""

    name: str
    # If it is one of a member.
    family: str | None
    key: Any
    old: Any
    new: Any


class Kept(NamedTuple):
    """One commit."""

    revision: int
    origin: Origin
    moves: tuple[Move, ...]


def moves_of(changes: tuple[Any, ...]) -> Iterator[Move]:
    """Give the changes of a commit without the slots, so that it can be kept."""
    for slot, old, new in changes_of_keys(changes):
        feed, key = slot._member or (None, None)
        yield Move(slot._name, None if feed is None else feed._name, key, old, shown(new))


class History(NamedTuple):
    """All that was kept."""

    title: str
    # What came before this revision is not known.
    since: int
    commits: tuple[Kept, ...]
    # What they led to.
    end: Snapshot
    # Of keys and of families, by name.
    lifecycles: Mapping[str, Lifecycle[Any]] = {}

    @property
    def moves(self) -> Iterator[Move]:
        """All transitions, in order."""
        return (move for commit in self.commits for move in commit.moves)

    def state_at(self, revision: int) -> dict[str, Any]:
        """
        Give the values of all keys and families at *revision*.

        Raises:
            ValueError: That is not known.
        """
        if not self.since <= revision <= self.end.revision:
            msg = (
                f"the recording of {self.title} has revisions {self.since} to "
                f"{self.end.revision}, not {shorten(revision)}; a larger maxlen keeps more"
            )
            raise ValueError(msg)
        state = dict(self.end)
        for commit in reversed(self.commits):
            if commit.revision <= revision:
                break
            for move in reversed(commit.moves):
                put(state, move.name, move.family, move.key, move.old)
        return state

    def first_values(self, names: Iterable[str]) -> dict[str, Any]:
        """Give what the keys of these names were before the first commit."""
        state = _by_name(self.state_at(self.since))
        return {name: state.get(name, ABSENT) for name in names}

    def lifecycle_of(self, name: str) -> Lifecycle[Any] | None:
        """Give the lifecycle of the key *name*, or of the family that it is a member of."""
        families = [move.family for move in self.moves if move.name == name]
        return self.lifecycles.get((families or [None])[-1] or name)

    def name_of(self, key: object) -> str:
        """
        Give the name of *key*, which is a key, its watcher or its name.

        Raises:
            UnknownKeyError: There was no such key.
        """
        return next(iter(self.names_of(key, allow_family=False)))

    def names_of(self, key: object, *, allow_family: bool = True) -> list[str]:
        """Give the names of what *key* stands for: for a family, all members that have changed."""
        name = key if isinstance(key, str) else getattr(key, "name", None)
        if not isinstance(name, str):
            msg = f"a key is a Key, a watcher or a name, not {shorten(key)}"
            raise TypeError(msg)
        if allow_family and isinstance(self.end.get(name), immutables.Map):
            return list(dict.fromkeys(move.name for move in self.moves if move.family == name))
        if name in _by_name(self.end) or any(move.name == name for move in self.moves):
            return [name]
        msg = f"the recording of {self.title} knows no key {name!r}"
        raise UnknownKeyError(msg)


def _by_name(state: Mapping[str, Any]) -> dict[str, Any]:
    """Give the values of all keys, members among them."""
    named: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, immutables.Map):
            members = cast("Mapping[Any, Any]", value)
            named |= {member_name(name, key): each for key, each in members.items()}
        else:
            named[name] = value
    return named
