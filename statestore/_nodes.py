"""
Compute one formula, again and again, from what was heard of its sources.

An **input** is one slot as a network sees it, a **node** one formula, or a run of them. Both have a
value; who depends on it is told of each transition, and computes when the network says so.
"""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final, cast, final

import immutables

from statestore._core import REVISION, VALUE, Cell, Slot, by_three
from statestore._formulas import (
    NO_VALUE,
    Combined,
    Counted,
    Failed,
    Formula,
    Gathered,
    Mapped,
    Source,
    Tally,
    call,
    dated,
    gather,
    no_value_of,
)
from statestore._members import Feed, FeedHold, key_of
from statestore._records import ABSENT, Removed
from statestore._values import is_same


class Origin:
    """Anything in a network that has a value: an input or a node."""

    __slots__ = ("audience", "dependents", "revision", "value")

    def __init__(self) -> None:
        self.value: Any = None
        # That of the last transition.
        self.revision: int = 0
        # Whom to tell of a transition, and as which of their sources.
        self.dependents: dict[Node, tuple[int, ...]] = {}
        # The same, as of the last plan: a list is quicker to go through.
        self.audience: list[tuple[Node, tuple[int, ...]]] = []


class Input(Origin):
    """One slot, as seen by a network: a port of the slot that knows its place in the chain."""

    __slots__ = ("_mark", "_token", "cell", "plan", "slot", "version")

    def __init__(self, slot: Slot, mark: Callable[[Input], None]) -> None:
        super().__init__()
        self.slot = slot
        self._mark = mark
        self._token: object = object()
        self.cell: Cell = slot._cell
        # The nodes to look at after a transition, in order, as of a version of the network.
        self.plan: list[Node] = []
        self.version = -1

    @property
    def network(self) -> Any:
        """The network that is told, if it is told of each commit."""
        return getattr(self._mark, "__self__", None)

    def notify(self) -> None:
        """Have the network look at the slot."""
        self._mark(self)

    def arm(self) -> None:
        """Be told of the next commit. A new token: a setter that is still at it removes the old."""
        ports = self.slot._core.listen(self.slot).ports
        ports.pop(self._token, None)
        self._token = object()
        ports[self._token] = self

    def disarm(self) -> None:
        """Be told of nothing any more."""
        self.slot._core.listen(self.slot).ports.pop(self._token, None)

    def move_to(self, cell: Cell) -> None:
        """Take the place of *cell*, and tell those who depend on it."""
        self.cell = cell
        before = self.value
        self.value, self.revision, _ = cell
        for node, places in self.audience:
            node.touch(places, before, self.value)

    def stand_at(self, cell: Cell) -> None:
        """Take the place of *cell*, and tell nobody."""
        self.cell = cell
        self.value = cell[VALUE]
        self.revision = cell[REVISION]


@final
class FeedInput(Input):
    """All members of a family, as seen by a network."""

    __slots__ = ("_hold",)

    def __init__(self, feed: Feed, mark: Callable[[Input], None]) -> None:
        super().__init__(feed, mark)
        self._hold = FeedHold(feed)

    def disarm(self) -> None:
        """Be told of nothing any more, and have nothing listed."""
        super().disarm()
        self._hold.end()


class Node(Origin):
    """One formula, computed in a network."""

    __slots__ = ("depth", "formula", "is_compared", "outlet", "sources", "stale")

    def __init__(self, formula: Formula) -> None:
        super().__init__()
        self.formula = formula
        self.depth: int = formula.depth
        self.sources: list[Origin] = []
        self.stale = False
        # Whether a value that equals the one before is no new one, or only the same object.
        self.is_compared = True
        # It lives as long as a consumer has it.
        self.outlet: weakref.ref[Any] | None = None

    @property
    def is_needed(self) -> bool:
        """Whether somebody listens."""
        return bool(self.dependents) or self.outlet is not None

    @property
    def needs(self) -> tuple[Source, ...]:
        """What it is computed of."""
        return self.formula.sources

    @abstractmethod
    def touch(self, places: tuple[int, ...], before: Any, after: Any) -> None:
        """Hear that the sources at *places* have a new value."""

    @abstractmethod
    def compute(self) -> Any:
        """Give the value that follows from those of the sources."""

    @abstractmethod
    def reset(self) -> None:
        """Forget what was heard, and look at the sources instead."""

    def attach(self) -> None:
        """Begin to hear from the sources."""
        places: dict[Origin, tuple[int, ...]] = {}
        for index, source in enumerate(self.sources):
            places[source] = (*places.get(source, ()), index)
        for source, where in places.items():
            source.dependents[self] = where

    def start(self) -> None:
        """Have a first value, when the sources have theirs."""
        self.reset()
        self.revision = self._newest()
        self.value = dated(self.compute(), self.revision)

    def _newest(self) -> int:
        """Give the revision of the last transition of the sources, which were looked at."""
        return max(source.revision for source in self.sources)


@final
class MapNode(Node):
    """A run of functions, each of the result of the one before."""

    __slots__ = ("_argument", "_functions", "parts")

    def __init__(self, formula: Mapped) -> None:
        super().__init__(formula)
        # The formulas that are computed here, and their functions.
        self.parts: list[Mapped] = [formula]
        self._functions: list[Callable[[Any], Any]] = []
        self._argument: Any = None

    def touch(self, places: tuple[int, ...], before: Any, after: Any) -> None:  # noqa: ARG002 -- there is one
        """Note the new argument."""
        self.stale = True
        self._argument = after

    def compute(self) -> Any:
        """Call one function after the other."""
        value = self._argument
        if type(value) in NO_VALUE:
            return value
        function = self._functions[0]
        try:
            for function in self._functions:
                value = function(value)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 -- as in call()
            failed = Failed(function, (value,), error)
            # Nodes apart would not compute it anew for a value half way that is no new one.
            return self.value if self._is_again(failed) else failed
        return value

    def _is_again(self, failed: Failed) -> bool:
        before = self.value
        return (
            failed.function is not self._functions[0]
            and type(before) is Failed
            and before.function is failed.function
            and len(before.values) == 1
            and call(is_same, before.values[0], failed.values[0]) is True
        )

    @property
    def needs(self) -> tuple[Source, ...]:
        """The source of the first one."""
        return self.parts[0].sources

    def reset(self) -> None:
        """Look at the source, and at the parts."""
        self._functions = [part.function for part in self.parts]
        self._argument = self.sources[0].value


@final
class CombineNode(Node):
    """The values of several sources, and what a function makes of them."""

    __slots__ = ("_has_failed", "_using", "_values")

    def __init__(self, formula: Combined) -> None:
        super().__init__(formula)
        self._using = formula.using
        self._values: list[Any] = []
        # Whether one of them may have.
        self._has_failed = False

    def touch(self, places: tuple[int, ...], before: Any, after: Any) -> None:  # noqa: ARG002 -- what it was before is in there
        """Note the new values."""
        self.stale = True
        if type(after) in NO_VALUE:
            self._has_failed = True
        for place in places:
            self._values[place] = after

    def compute(self) -> Any:
        """Make the tuple, or call the function."""
        values = self._values
        if self._has_failed:
            failed = no_value_of(values)
            if failed is not None:
                return failed
            self._has_failed = False
        return tuple(values) if self._using is None else call(self._using, *values)

    def reset(self) -> None:
        """Look at all of them."""
        self._values = [source.value for source in self.sources]
        self._has_failed = True


@final
class CountNode(Node):
    """How many of the sources hold: kept up to date in constant time."""

    __slots__ = ("_failed", "_holding", "_least")

    def __init__(self, formula: Counted) -> None:
        super().__init__(formula)
        self._least = formula.least
        self._holding = 0
        # In order of failure.
        self._failed: dict[int, Any] = {}

    def touch(self, places: tuple[int, ...], before: Any, after: Any) -> None:
        """Count the difference."""
        self.stale = True
        self._holding += len(places) * ((after is True) - (before is True))
        if type(after) in NO_VALUE:
            self._failed.update(dict.fromkeys(places, after))
        elif self._failed:
            for place in places:
                self._failed.pop(place, None)

    def compute(self) -> Any:
        """Compare the count."""
        if self._failed:
            return no_value_of(self._failed.values())
        return self._holding >= self._least

    def reset(self) -> None:
        """Count them all."""
        values = [source.value for source in self.sources]
        self._holding = sum(value is True for value in values)
        self._failed = {i: value for i, value in enumerate(values) if type(value) in NO_VALUE}


class MembersNode(Node):
    """What follows from all members of a family, kept up to date member by member."""

    __slots__ = ("_looked_at",)

    # The revision of the last transition of members, when it was looked at them.
    _looked_at: int

    def touch(self, places: tuple[int, ...], before: Any, after: Any) -> None:  # noqa: ARG002 -- what it was before is kept here
        """Note what has happened to members. That there are others now is told there, too."""
        if 1 in places:
            self.stale = True
            for slot, old, new in by_three(after):
                self._note(slot, old, new)

    def reset(self) -> None:
        """Look at all members."""
        members, source = (cast("Input", source) for source in self.sources)
        revision = max(members.revision, source.revision)
        cells = cast("Feed", source.slot).cells_at(members.cell, source.cell, revision)
        newest = max([cell[REVISION] for cell in cells.values()], default=revision)
        self._looked_at = max(revision, newest)
        self._begin({slot: cell[VALUE] for slot, cell in cells.items()})

    def _newest(self) -> int:
        return self._looked_at

    @abstractmethod
    def _note(self, slot: Slot, old: Any, new: Any) -> None:
        """Take in that one member has another value, or has come or gone."""

    @abstractmethod
    def _begin(self, values: dict[Slot, Any]) -> None:
        """Begin with these."""


@final
class TallyNode(MembersNode):
    """How many members a test holds for."""

    __slots__ = ("_failed", "_number", "_test", "holding")

    def __init__(self, formula: Tally) -> None:
        super().__init__(formula)
        self._test = formula.test
        self._number = 0
        self.holding: set[Slot] = set()
        # In order of failure.
        self._failed: dict[Slot, Failed] = {}

    def compute(self) -> Any:
        """Give both numbers."""
        if self._failed:
            return next(iter(self._failed.values()))
        return (len(self.holding), self._number)

    def _note(self, slot: Slot, old: Any, new: Any) -> None:
        self._number += (old is ABSENT) - (type(new) is Removed)
        self._failed.pop(slot, None)
        result = False if type(new) is Removed else call(self._test, new)
        if type(result) is Failed:
            # Dated now: it may be told of later, when another one is gone.
            self._failed[slot] = dated(result, max(self._looked_at, self.sources[1].revision))
        if result is True:
            self.holding.add(slot)
        else:
            self.holding.discard(slot)

    def _begin(self, values: dict[Slot, Any]) -> None:
        self._number, self.holding, self._failed = 0, set(), {}
        for slot, value in values.items():
            self._note(slot, ABSENT, value)


@final
class GatheredNode(MembersNode):
    """The values of all members."""

    __slots__ = ("_values",)

    def __init__(self, formula: Gathered) -> None:
        super().__init__(formula)
        self._values: immutables.Map[Any, Any] = immutables.Map()
        # To compare 100,000 members is not worth the while: a commit has changed one of them.
        self.is_compared = False

    def compute(self) -> Any:
        """Give the mapping, which shares nearly all with the one before."""
        return self._values

    def _note(self, slot: Slot, old: Any, new: Any) -> None:  # noqa: ARG002 -- it is in there
        if type(new) is Removed:
            self._values = self._values.delete(key_of(slot))
        else:
            self._values = self._values.set(key_of(slot), new)

    def _begin(self, values: dict[Slot, Any]) -> None:
        self._values = gather(values)


_KINDS: Final[dict[type[Formula], Callable[[Any], Node]]] = {
    Mapped: MapNode,
    Combined: CombineNode,
    Counted: CountNode,
    Tally: TallyNode,
    Gathered: GatheredNode,
}


def node_of(formula: Formula) -> Node:
    """Make what computes *formula*."""
    return _KINDS[type(formula)](formula)
