"""
Say what follows from other values.

A **formula** is a pure function of slots and of other formulas. It is immutable, belongs to nobody,
and holds nothing but what it is made of. What computes it for those who listen is a network
(`_network`); who only wants to know its value now has it evaluated here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeAlias, final

import immutables

from statestore._core import NEXT, REVISION, VALUE, Cell, Core, Slot
from statestore._matching import Satisfying
from statestore._members import Feed, FeedHold, key_of
from statestore._records import NoValue, Removed
from statestore._text import name_of, shorten
from statestore.errors import DerivationError, DifferentStoresError, UnreachableError

Source: TypeAlias = "Slot | Formula"
"""What a formula is made of."""


@final
class Failed(NoValue):
    """What stands in a cell for a value that could not be computed."""

    __slots__ = ("cause", "function", "values", "where")

    def __init__(self, function: object, values: tuple[Any, ...], cause: BaseException) -> None:
        super().__init__()
        self.function = function.predicate if isinstance(function, Satisfying) else function
        self.values = values
        # Without its traceback, which would keep the frames of whoever computed.
        self.where: list[str] = _lines_of(cause.__traceback__)
        self.cause: BaseException = cause.with_traceback(None)

    def again(self) -> DerivationError:
        """Make the error, a new one each time: one that was raised collects what it passes."""
        made = DerivationError(
            f"{name_of(self.function)} raised {shorten(self.cause)} at revision {self.revision} "
            f"for {', '.join(map(shorten, self.values))}; the watcher has a value again when it "
            "can be computed",
            function=self.function,
            values=self.values,
            revision=self.revision or 0,
        )
        made.__cause__ = self.cause
        made.add_note("\n".join(["The function was here:", *self.where]))
        return made


@final
class Unreachable(NoValue):
    """What stands in a cell once that which somebody waits for cannot come any more."""

    __slots__ = ("name", "test", "value")

    def __init__(self, name: str, test: object, value: Any) -> None:
        super().__init__()
        self.name = name
        self.test = test
        self.value = value

    def again(self) -> UnreachableError:
        """Make the error."""
        waited_for = f"{self.name} {self.test}"
        return UnreachableError(
            f"no legal moves lead any more to {waited_for}",
            key=self.name,
            waited_for=waited_for,
            value=self.value,
        )


NO_VALUE: Final = frozenset({Failed, Removed, Unreachable})
"""The types of what stands in a cell where there is no value."""


def _lines_of(traceback: TracebackType | None) -> list[str]:
    lines: list[str] = []
    # The first frame is the one that caught it.
    while traceback is not None and (traceback := traceback.tb_next) is not None:
        code = traceback.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {traceback.tb_lineno}, in {code.co_name}')
    return lines


def good(value: Any) -> Any:
    """
    Give *value*, which came out of a cell.

    Raises:
        DerivationError: It stands for one that could not be computed.
        KeyRemovedError: It stands for the end of a member.
    """
    if type(value) in NO_VALUE:
        raise value.again()
    return value


def last_good(value: Any) -> Any:
    """Give *value*, or what was there before it failed."""
    return value.last if type(value) in NO_VALUE else value


def no_value_of(values: Iterable[Any]) -> NoValue | None:
    """Give what stands for no value among *values*: the end of a member, or the first failure."""
    found: NoValue | None = None
    for value in values:
        if type(value) is Removed:
            return value
        if found is None and type(value) is Failed:
            found = value
    return found


def call(function: Callable[..., Any], *values: Any) -> Any:
    """Give what *function* makes of *values*, or the failure that stands for it."""
    try:
        return function(*values)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 -- P6: it hurts those who listen, nobody else
        return Failed(function, values, error)


def dated(value: Any, revision: int) -> Any:
    """Note in *value*, if it is a failure, at which revision it came up."""
    if type(value) in NO_VALUE and value.revision is None:
        value.revision = revision
    return value


class Formula(ABC):
    """A pure function of slots and of other formulas."""

    __slots__ = ("__weakref__", "cache", "core", "depth", "is_guarded", "name", "sources")

    def __init__(self, name: str, sources: Sequence[Source]) -> None:
        self.name: str = name
        self.sources: tuple[Source, ...] = tuple(sources)
        self.core: Core = _core_of(sources)
        self.depth: int = 1 + max(_depth_of(source) for source in sources)
        # Whether there is a lifecycle in it somewhere.
        self.is_guarded: bool = any(map(_is_guarded, sources))
        # The last answer to who asked without listening: revision of the store, value, revision of
        # the sources. No cell, which would hold what follows.
        self.cache: tuple[int, Any, int] | None = None

    @abstractmethod
    def apply(self, values: Sequence[Any]) -> Any:
        """Give the value for *values* of the sources, none of which has failed."""


def _core_of(sources: Sequence[Source]) -> Core:
    core: Core = owner_of(sources[0])
    for source in sources:
        if owner_of(source) is not core:
            msg = (
                f"{_label(sources[0])} of {core.title} and {_label(source)} of "
                f"{owner_of(source).title} have no common order of commits; put them in one store"
            )
            raise DifferentStoresError(msg)
    return core


def owner_of(source: Source) -> Core:
    """Give the order of commits that *source* belongs to."""
    return source._core if isinstance(source, Slot) else source.core


def _label(source: Source) -> str:
    return source._name if isinstance(source, Slot) else source.name


def _depth_of(source: Source) -> int:
    return 0 if isinstance(source, Slot) else source.depth


def _is_guarded(source: Source) -> bool:
    return source._lifecycle is not None if isinstance(source, Slot) else source.is_guarded


def label_of(sources: Iterable[Source], joint: str = ", ") -> str:
    """Name what a formula is made of: a name stays short, however deep it is nested."""
    names = [_label(source) for source in sources]
    if len(names) > _LISTED:
        names[_LISTED:] = [f"… {len(names)} in all"]
    listed = joint.join(names)
    return listed if len(listed) <= _LABEL else f"…{listed[-_LABEL:]}"


_LISTED: Final = 3
_LABEL: Final = 100


@final
class Mapped(Formula):
    """A function of one source."""

    __slots__ = ("function",)

    def __init__(self, name: str, source: Source, function: Callable[[Any], Any]) -> None:
        super().__init__(name, (source,))
        self.function = function

    def apply(self, values: Sequence[Any]) -> Any:
        """Call the function."""
        return call(self.function, *values)


@final
class Combined(Formula):
    """A function of several sources, or all of their values as a tuple."""

    __slots__ = ("using",)

    def __init__(
        self, name: str, sources: Sequence[Source], using: Callable[..., Any] | None
    ) -> None:
        super().__init__(name, sources)
        self.using = using

    def apply(self, values: Sequence[Any]) -> Any:
        """Call the function, if there is one."""
        return tuple(values) if self.using is None else call(self.using, *values)


@final
class Counted(Formula):
    """Whether at least so many of the sources, all of them conditions, hold."""

    __slots__ = ("least",)

    def __init__(self, name: str, sources: Sequence[Source], least: int) -> None:
        super().__init__(name, sources)
        self.least = least

    def apply(self, values: Sequence[Any]) -> Any:
        """Count."""
        return sum(values) >= self.least


@final
class Tally(Formula):
    """How many members of a family a test holds for, and how many there are."""

    __slots__ = ("test",)

    def __init__(self, name: str, feed: Feed, test: Callable[[Any], Any]) -> None:
        super().__init__(name, (feed.members, feed))
        self.test = test

    def apply(self, values: Sequence[Any]) -> Any:
        """Count."""
        results = [call(self.test, value) for value in values[1].values()]
        failed = next((result for result in results if type(result) is Failed), None)
        return (sum(results), len(results)) if failed is None else failed


@final
class Gathered(Formula):
    """The values of all members of a family, by their keys."""

    __slots__ = ()

    def __init__(self, name: str, feed: Feed) -> None:
        super().__init__(name, (feed.members, feed))

    def apply(self, values: Sequence[Any]) -> Any:
        """Gather them."""
        return gather(values[1])


def gather(values: Mapping[Slot, Any]) -> immutables.Map[Any, Any]:
    """Give the values of members by their keys."""
    return immutables.Map({key_of(slot): value for slot, value in values.items()})


def closure_of(
    formula: Formula, known: Callable[[Formula], bool] = lambda _formula: False
) -> tuple[list[Formula], list[Slot]]:
    """Give the formulas that *formula* needs, sources first, and the slots; without the *known*."""
    order: dict[Formula, None] = {}
    slots: dict[Slot, None] = {}
    trail: list[tuple[Formula, Iterator[Source]]] = [(formula, iter(formula.sources))]
    while trail:
        at, sources = trail[-1]
        for source in sources:
            if isinstance(source, Slot):
                slots[source] = None
            elif source not in order and not known(source):
                trail.append((source, iter(source.sources)))
                break
        else:
            order[at] = None
            trail.pop()
    return list(order), list(slots)


def walk_to(cell: Cell, revision: int) -> Cell:
    """Give the last cell from *cell* on that is not above *revision*."""
    while (after := cell[NEXT]) is not None and after[REVISION] <= revision:
        cell = after
    return cell


def read(slots: Iterable[Slot], settle: Callable[[], int]) -> tuple[int, dict[Slot, Cell]]:
    """
    Give a revision, as *settle* says, and the cells of *slots* at it.

    What is read first is not above the revision that is settled then, and can be walked up to it.
    """
    tails = {slot: slot._tail() for slot in slots}
    revision = settle()
    return revision, {slot: walk_to(cell, revision) for slot, cell in tails.items()}


def evaluate(formula: Formula) -> tuple[Any, int]:
    """
    Give value and revision of *formula* now, for somebody who does not listen.

    Computed from values of one revision, and not again before one of the sources has changed.
    """
    core = formula.core
    revision = core.settle()[0]
    cache = formula.cache
    if cache is not None and cache[0] == revision:
        return cache[1], cache[2]
    order, slots = closure_of(formula)
    revision, cells, values = _look_at(slots, core)
    since = max(cell[REVISION] for cell in cells.values())
    if cache is None or since > cache[0]:
        _compute(order, values)
        cache = (revision, dated(values[formula], since), since)
    formula.cache = cache = (revision, cache[1], since)
    return cache[1], cache[2]


def survey(formula: Formula) -> dict[Source, Any]:
    """Give the values of *formula* and of all that it is made of, now and at one revision."""
    order, slots = closure_of(formula)
    _, _, values = _look_at(slots, formula.core)
    _compute(order, values)
    return values


def _look_at(slots: list[Slot], core: Core) -> tuple[int, dict[Slot, Cell], dict[Source, Any]]:
    """Give a revision, the cells of *slots* and of members at it, and the values of *slots*."""
    feeds = [slot for slot in slots if isinstance(slot, Feed)]
    holds: list[FeedHold] = []
    try:
        holds += map(FeedHold, feeds)
        # Families are followed from a fence on.
        revision, cells = read(slots, core.fence if feeds else lambda: core.settle()[0])
        values: dict[Source, Any] = {slot: cell[VALUE] for slot, cell in cells.items()}
        for feed in feeds:
            members = feed.cells_at(cells[feed.members], cells[feed], revision)
            values[feed] = {slot: cell[VALUE] for slot, cell in members.items()}
            cells |= members
    finally:
        for hold in holds:
            hold.end()
    return revision, cells, values


def _compute(order: list[Formula], values: dict[Source, Any]) -> None:
    """Add to *values* those of *order*, each after its sources."""
    for each in order:
        values[each] = _apply(each, [values[source] for source in each.sources])


def _apply(formula: Formula, values: list[Any]) -> Any:
    failed = no_value_of(values)
    return formula.apply(values) if failed is None else failed
