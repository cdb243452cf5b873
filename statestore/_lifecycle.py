"""Declare which moves a state may make."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar, final

from statestore._diagrams import state_diagram
from statestore._matching import refuse_async
from statestore._records import ABSENT
from statestore._text import shorten, spell
from statestore.errors import IllegalTransitionError

S = TypeVar("S", bound=Hashable)


@final
class Lifecycle(Generic[S]):
    """
    The states that a key can be in, and the moves between them that are legal.

        CONN = Lifecycle({
            Conn.IDLE: {Conn.OPEN},
            Conn.OPEN: {Conn.IDLE, Conn.CLOSED},
        })

        class App(Store):
            conn = Key(Conn.IDLE, lifecycle=CONN)

    A state without moves of its own is *final*; here it is `Conn.CLOSED`. To stay in a state is
    always legal: as no change at all, or, with *by*, as another value in the same state.

    Args:
        moves: For each state the states that may follow. Of an enum, every member has to be there,
            as a state or among those that follow.
        by: What takes the state out of a richer value, such as `lambda conn: conn.state`. It is
            called with each value that is to be set, and must do nothing but compute.

    Raises:
        TypeError: *moves* is no mapping of states to sets of states, or *by* is asynchronous.
        ValueError: A member of an enum is missing, or there is no state at all.

    Thread safety:
        Immutable.
    """

    __slots__ = ("_reachable", "by", "moves")

    moves: Mapping[S, frozenset[S]]
    """For each state those that may follow; of a final one, none."""
    by: Callable[[Any], S] | None
    """What takes the state out of a value, if the value is not the state itself."""

    def __init__(
        self, moves: Mapping[S, Collection[S]], *, by: Callable[[Any], S] | None = None
    ) -> None:
        if by is not None:
            refuse_async(by, "what takes the state out of a value")
        self.by = by
        self.moves = MappingProxyType(_completed(moves))
        _refuse_gaps(self.moves)
        # The states that can be reached in one move or more, once somebody asked.
        self._reachable: dict[S, frozenset[S]] = {}

    @property
    def final(self) -> frozenset[S]:
        """The states without moves."""
        return frozenset(state for state, after in self.moves.items() if not after)

    def state_of(self, value: Any) -> S:
        """Give the state of *value*."""
        state: S = value if self.by is None else self.by(value)
        return state

    def allows(self, old: S, new: S) -> bool:
        """
        Tell whether a key may go from state *old* to state *new*, or stay there.

        Raises:
            KeyError: *old* is no state of this.
        """
        return new in self.moves[old] or new == old

    def reachable(self, state: S) -> frozenset[S]:
        """
        Give the states that can be reached from *state* in one move or more.

        Raises:
            KeyError: It is no state of this.
        """
        found = self._reachable.get(state)
        if found is None:
            seen: dict[S, None] = {}
            ahead = [state]
            while ahead:
                for after in self.moves[ahead.pop()]:
                    if after not in seen:
                        seen[after] = None
                        ahead.append(after)
            found = self._reachable[state] = frozenset(seen)
        return found

    def to_mermaid(self) -> str:
        """Draw it, as a Mermaid state diagram."""
        moves = {(old, new): "" for old, after in self.moves.items() for new in _ordered(after)}
        states = {state: spell(state, 30) for state in self.moves}
        return state_diagram(states, moves, first=next(iter(states)), final=self.final)

    def __repr__(self) -> str:
        return f"<Lifecycle of {len(self.moves)} states>"

    def refuse_start(self, value: Any, name: str) -> None:
        """
        Refuse *value* as the first one of the key *name*.

        Raises:
            IllegalTransitionError: It is in none of the states.
        """
        state = self.state_of(value)
        if not self._has(state):
            msg = (
                f"{name} cannot begin as {shorten(value)}: "
                f"{spell(state)} is no state of its lifecycle, {self._listed(self.moves)} are"
            )
            raise IllegalTransitionError(msg, key=name, new=value, allowed=frozenset(self.moves))

    def refuse_move(self, old: Any, new: Any, name: str, revision: int) -> None:
        """
        Refuse to have *new* follow *old*, the value of the key *name* since *revision*.

        Raises:
            IllegalTransitionError: There is no such move.
        """
        here, there = self.state_of(old), self.state_of(new)
        if self._has(there) and self.allows(here, there):
            return
        allowed = self.moves[here]
        what = "nothing may follow" if not allowed else f"only {self._listed(allowed)} may follow"
        msg = (
            f"{name} cannot go from {spell(here)} to {spell(there)}; "
            f"{what} {spell(here)}, which it is since revision {revision}"
        )
        raise IllegalTransitionError(
            msg, key=name, old=old, new=new, allowed=allowed, revision=revision
        )

    def _has(self, state: Any) -> bool:
        try:
            return state in self.moves
        except TypeError:
            # It has no hash.
            return False

    def _listed(self, states: Collection[S]) -> str:
        return ", ".join(spell(state) for state in _ordered(states))


def check_start(value: Any, name: str, lifecycle: Lifecycle[Any] | None) -> None:
    """
    Refuse *value*, if there is one, as the first one of the key *name*.

    Raises:
        IllegalTransitionError: It is in no state of *lifecycle*.
        TypeError: *lifecycle* is none.
    """
    if lifecycle is None:
        return
    if not isinstance(lifecycle, Lifecycle):
        msg = f"lifecycle must be a Lifecycle, not {shorten(lifecycle)}"  # type: ignore[unreachable]
        raise TypeError(msg)
    if value is not ABSENT:
        lifecycle.refuse_start(value, name)


def _completed(moves: Mapping[S, Collection[S]]) -> dict[S, frozenset[S]]:
    """Give *moves* with the final states, in order of appearance."""
    if not isinstance(moves, Mapping):
        msg = f"a lifecycle is made of a mapping of states to sets of states, not {shorten(moves)}"  # type: ignore[unreachable]
        raise TypeError(msg)
    completed: dict[S, frozenset[S]] = {}
    for state, after in moves.items():
        if isinstance(after, (str, bytes)) or not isinstance(after, Collection):
            msg = f"what may follow {spell(state)} is a set of states, not {shorten(after)}"
            raise TypeError(msg)
        completed[state] = frozenset(after)
    if not completed:
        msg = "a lifecycle needs a state"
        raise ValueError(msg)
    for after in list(completed.values()):
        for state in _ordered(after):
            completed.setdefault(state, frozenset())
    return completed


def _refuse_gaps(moves: Mapping[Any, object]) -> None:
    for kind in _enums_of(moves):
        missing = [spell(member) for member in kind if member not in moves]
        if missing:
            msg = (
                f"the lifecycle has no {', '.join(missing)}; every member of "
                f"{kind.__name__} has to be there, as a state or as one that may follow"
            )
            raise ValueError(msg)


def _enums_of(states: Iterable[object]) -> list[type[enum.Enum]]:
    """Give the enums that *states* are of."""
    kinds = {type(state): None for state in states if isinstance(state, enum.Enum)}
    return list(kinds)


def _ordered(states: Collection[S]) -> list[S]:
    """Give *states* in an order that does not change from run to run: as in an enum, or by name."""
    places: dict[Any, int] = {}
    for kind in _enums_of(states):
        places |= {member: place for place, member in enumerate(kind)}
    return sorted(states, key=lambda state: (places.get(state, 0), spell(state)))
