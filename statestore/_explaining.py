"""
Say in words what a wait waits for, what there is instead, and why.

All of it is made when a wait has failed, or when somebody asks; a wait that sleeps makes none of
it. Of what is derived, a wait that failed tells what its network has computed, and calls nobody's
functions again. Whoever asks from outside has it computed once more, from values of one revision.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import not_
from typing import Any, Final, NamedTuple, TypeAlias, cast, final

from statestore._core import NEXT, REVISION, VALUE, Cell, Core, Slot
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
    label_of,
    last_good,
    survey,
)
from statestore._mailbox import SHOWN
from statestore._matching import EqualTo, Satisfying, UnequalTo, Wrapping
from statestore._network import Outlet
from statestore._nodes import Input, Node, Origin, TallyNode
from statestore._reach import Hoping
from statestore._records import ABSENT, NoValue, Removed, Transition
from statestore._reports import Part, WaitReport
from statestore._text import shorten, spell
from statestore.errors import (
    DerivationError,
    KeyRemovedError,
    StoreClosedError,
    UnreachableError,
    WaitTimeoutError,
)

UNKNOWN: Final = object()
"""What stands for a value half way through a run of functions, which nobody keeps."""

MANY: Final = 1_000
"""From more parts than that only the first few that do not hold are given."""

LISTED: Final = 12
"""From more parts than that only their number and the first few that do not hold are told."""

FEW: Final = 4

DEPTH: Final = 3
"""How many levels of conditions in conditions are told."""

_TESTS: Final = (EqualTo, UnequalTo, Satisfying)


def formula_of(slot: Slot) -> Formula | None:
    """Give what *slot* is the outlet of, if it is one."""
    return _asked_for(slot._reference.node.formula) if isinstance(slot, Outlet) else None


def _asked_for(formula: Formula) -> Formula:
    """Give the formula that a wait was asked for, which may follow another in its place."""
    if isinstance(formula, Combined) and isinstance(formula.using, Hoping):
        return cast("Formula", formula.sources[0])
    return formula


def age_of(core: Core, revision: int) -> float | None:
    """Give how many seconds ago *revision* was committed, if somebody keeps that."""
    made = None if core.time_of is None else core.time_of(revision)
    return None if made is None else max(0.0, time.monotonic() - made)


class Values(ABC):
    """The values of a formula and of what it is made of, at one revision."""

    __slots__ = ("_found",)

    def __init__(self, found: dict[Source, Any]) -> None:
        self._found = found

    def of(self, source: Source) -> Any:
        """Give the value of *source*, or `UNKNOWN`."""
        return self._found.get(source, UNKNOWN)

    @abstractmethod
    def missing(self, tally: Tally) -> Iterator[tuple[Slot, Any]]:
        """Give the members for which the test of *tally* does not hold, with their values."""


@final
class Surveyed(Values):
    """What was computed to be told."""

    __slots__ = ()

    def missing(self, tally: Tally) -> Iterator[tuple[Slot, Any]]:
        """Give the members for which the test of *tally* does not hold, with their values."""
        members: dict[Slot, Any] = self._found[tally.sources[1]]
        return ((slot, v) for slot, v in members.items() if not call(tally.test, v))


@final
class Standing(Values):
    """What a network has computed, as of where it stands. Only for who may advance it."""

    __slots__ = ("_tallies",)

    def __init__(self, node: Node) -> None:
        super().__init__({})
        self._tallies: dict[Formula, TallyNode] = {}
        ahead: list[Origin] = [node]
        while ahead:
            origin = ahead.pop()
            if isinstance(origin, Input):
                self._found[origin.slot] = origin.value
            elif isinstance(origin, Node) and origin.formula not in self._found:
                self._found[origin.formula] = origin.value
                ahead += origin.sources
                if isinstance(origin, TallyNode):
                    self._tallies[origin.formula] = origin

    def missing(self, tally: Tally) -> Iterator[tuple[Slot, Any]]:
        """Give the members for which the test of *tally* does not hold, with their values."""
        members = self._found[tally.sources[0]].slots.values()
        holding = self._tallies[tally].holding
        return ((slot, last_good(slot._tail()[VALUE])) for slot in members if slot not in holding)


def surveyed(formula: Formula) -> Values:
    """Compute *formula* and all that it is made of, from values of one revision."""
    return Surveyed(survey(formula))


class Told(NamedTuple):
    """What is told of a formula: a title, its parts and their number, and those in words."""

    title: str
    parts: list[Part]
    number: int
    detail: str
    is_condition: bool


def explain(  # noqa: PLR0913 -- what is known of a wait
    slot: Slot,
    test: object,
    value: Any,
    revision: int,
    transitions: Iterable[Transition[Any]] = (),
    *,
    look: Callable[[Formula], Values | None] | None = None,
    **more: Any,
) -> WaitReport:
    """Give the report on a wait of *slot* for *test*, which looked last at *value*."""
    told = None
    if isinstance(slot, Outlet):
        node = slot._reference.node
        formula = _asked_for(node.formula)
        values = Standing(node) if look is None else look(formula)
        told = None if values is None else tell(formula, values)
    return WaitReport(
        waited_for=_words(slot, test, told),
        key=slot._name,
        value=last_good(value),
        revision=revision,
        age=age_of(slot._core, revision),
        error=_error_of(value),
        transitions=tuple(transitions)[-SHOWN:],
        parts=() if told is None else tuple(told.parts),
        part_count=0 if told is None else told.number,
        detail="" if told is None else told.detail,
        **more,
    )


def _words(slot: Slot, test: object, told: Told | None) -> str:
    suffix = ""
    while isinstance(test, Wrapping):
        suffix = test.suffix + suffix
        test = test.test
    return _plain_words(slot, test, told) + suffix


def _plain_words(slot: Slot, test: object, told: Told | None) -> str:
    formula = formula_of(slot)
    if told is not None and isinstance(test, EqualTo) and test.target is True:
        if isinstance(formula, Counted):
            return f"{told.title}: {told.detail}"
        if isinstance(formula, Mapped) and isinstance(formula.function, _TESTS):
            return f"{label_of(formula.sources)} {formula.function}"
        if told.is_condition:
            return told.detail
    return f"{slot._name} {test}"


def _error_of(value: Any) -> str:
    if type(value) is Removed:
        return f"was {spell(value.last, 200)} until"
    return "is in error since" if type(value) is Failed else ""


def tell(formula: Formula, values: Values) -> Told:
    """Say what *formula* is made of, and which conditions among that hold."""
    if isinstance(formula, Counted):
        conditions, kind = _flattened(formula)
        return Told(
            f"{kind} of {len(conditions):,}",
            _parts(conditions, values),
            len(conditions),
            _listing(conditions, values),
            is_condition=True,
        )
    is_condition = _is_condition(formula, values)
    if is_condition:
        parts = _parts([formula], values)
    else:
        parts = [_source(source, values) for source in _plain_sources(formula)]
    texts = [part.text for part in parts]
    if len(texts) > LISTED:
        texts[LISTED:] = [f"… {len(texts):,} in all"]
    return Told(formula.name, parts, len(parts), ", ".join(texts), is_condition)


def _is_condition(formula: Formula, values: Values) -> bool:
    return isinstance(formula, Mapped) and (
        isinstance(formula.function, _TESTS)
        or formula.function is not_
        or (isinstance(formula.sources[0], Tally) and isinstance(values.of(formula), bool))
    )


def _plain_sources(formula: Formula) -> list[Source]:
    """Give the sources that have a value which says something to people."""
    if isinstance(formula, Gathered):
        return []
    return [source for source in formula.sources if not isinstance(source, Tally)]


def _flattened(formula: Counted) -> tuple[list[Formula], str]:
    """Give the conditions that are counted, those of `(a & b) & c` as three, and how."""
    count = len(formula.sources)
    kind = {1: "any", count: "all"}.get(formula.least, f"at least {formula.least}")
    if kind not in ("any", "all"):
        return cast("list[Formula]", list(formula.sources)), kind
    found: dict[Formula, None] = {}
    met: dict[Formula, None] = {formula: None}
    ahead = list(reversed(cast("list[Formula]", formula.sources)))
    while ahead:
        condition = ahead.pop()
        if not isinstance(condition, Counted) or not _is_alike(condition, kind):
            found[condition] = None
        elif condition not in met:
            met[condition] = None
            ahead += reversed(cast("list[Formula]", condition.sources))
    return list(found), kind


def _is_alike(formula: Counted, kind: str) -> bool:
    return formula.least == (1 if kind == "any" else len(formula.sources))


def _named(formulas: Sequence[Formula]) -> list[tuple[Formula, str]]:
    names = [_short(formula) for formula in formulas]
    often = Counter(names)
    return [
        (formula, name if often[name] == 1 else formula.name)
        for formula, name in zip(formulas, names, strict=True)
    ]


def _parts(formulas: Sequence[Formula], values: Values) -> list[Part]:
    """Give the conditions of a wait, or the first few of very many that do not hold."""
    named = _named(formulas)
    if len(named) > MANY:
        named = _missing(named, values)[:FEW]
    depth = 0 if len(named) <= LISTED else DEPTH
    return [_part(formula, name, values, depth) for formula, name in named]


def _missing(named: list[tuple[Formula, str]], values: Values) -> list[tuple[Formula, str]]:
    return [(formula, name) for formula, name in named if values.of(formula) is not True]


def _listing(formulas: Sequence[Formula], values: Values, depth: int = 0) -> str:
    """Say of each of the conditions whether it holds, or how many do and which ones do not."""
    named = _named(formulas)
    if len(named) <= (FEW if depth else LISTED):
        return ", ".join(_part(formula, name, values, depth).text for formula, name in named)
    missing = _missing(named, values)
    listed = [_part(formula, name, values, depth).text for formula, name in missing[:FEW]]
    if len(missing) > FEW:
        listed.append(f"… {len(missing) - FEW:,} more")
    head = f"{len(named) - len(missing):,} yes, {len(missing):,} not"
    return f"{head}: {', '.join(listed)}" if listed else head


def _short(formula: Formula) -> str:
    """Name a condition by what it is a condition of, where its words say the rest."""
    if isinstance(formula, Mapped) and (
        isinstance(formula.function, EqualTo) or formula.function is bool
    ):
        return label_of(formula.sources)
    return formula.name


def _part(formula: Formula, name: str, values: Values, depth: int) -> Part:
    own = value = values.of(formula)
    if isinstance(formula, Mapped) and isinstance(formula.function, _TESTS):
        value = values.of(formula.sources[0])
        value = own if value is UNKNOWN else value
    if type(own) in NO_VALUE:
        return Part(name=name, holds=None, value=last_good(value), text=f"{name} {_gone(own)}")
    holds = own is True
    text = f"{name} yes" if holds else f"{name} NO{_why(formula, values, depth)}"
    return Part(name=name, holds=holds, value=value, text=text)


def _gone(value: NoValue) -> str:
    """Say why there is no value."""
    return f"in error ({shorten(value.cause, 80)})" if type(value) is Failed else "removed"


def _why(formula: Formula, values: Values, depth: int) -> str:
    """Say why a condition does not hold."""
    if isinstance(formula, Counted):
        if depth >= DEPTH:
            return ""
        return f" ({_listing(_flattened(formula)[0], values, depth + 1)})"
    (source,) = formula.sources
    if cast("Mapped", formula).function is not_:
        return "" if depth >= DEPTH else _why(cast("Formula", source), values, depth + 1)
    if isinstance(source, Tally):
        return _why_tally(source, values)
    value = values.of(source)
    if isinstance(value, bool):
        return ""
    return f" (is {spell(value)})" if value is not UNKNOWN else f" ({_source(source, values)})"


def _why_tally(tally: Tally, values: Values) -> str:
    """Say for how many members a test holds, and name the first few for which it does not."""
    holding, count = values.of(tally)
    found = (f"{slot._name} is {spell(value)}" for slot, value in values.missing(tally))
    missing = ", ".join(islice(found, FEW))
    return f" ({holding:,} of {count:,}{missing and f'; {missing}'})"


def _source(source: Source, values: Values) -> Part:
    """Tell of *source*, or of what the run of functions begins with of which it is a part."""
    while values.of(source) is UNKNOWN:
        (source,) = cast("Formula", source).sources
    name, value = label_of((source,)), values.of(source)
    text = f"{name} {_gone(value) if type(value) in NO_VALUE else f'is {spell(value)}'}"
    return Part(name=name, holds=None, value=last_good(value), text=text)


def transitions_between(slot: Slot, trail: Cell, last: Cell, since: int) -> list[Transition[Any]]:
    """Give the last transitions from *trail* to *last* that came after *since*."""
    found = [
        Transition(
            key=slot._name,
            old=last_good(before[VALUE]),
            new=_shown(after[VALUE]),
            revision=after[REVISION],
        )
        for before, after in _steps(trail, last)
        if since < after[REVISION] <= last[REVISION]
    ]
    return found[-SHOWN:]


def _steps(trail: Cell, last: Cell) -> Iterator[tuple[Cell, Cell]]:
    while trail is not last and (after := trail[NEXT]) is not None:
        yield trail, after
        trail = after


def _shown(value: Any) -> Any:
    if type(value) is Failed:
        return value.cause
    return ABSENT if type(value) is Removed else value


# The errors of waits that failed. *at* is the value that was looked at last, and its revision.

At: TypeAlias = tuple[Any, int]
Seen: TypeAlias = Sequence[Transition[Any]]


def timed_out(slot: Slot, at: At, test: object, timeout: float, seen: Seen) -> WaitTimeoutError:
    """Make the error of a wait whose time is up."""
    report = explain(slot, test, *at, seen)
    return WaitTimeoutError(
        f"waited {timeout:g} s in vain for {report}",
        key=report.key,
        waited_for=report.waited_for,
        value=report.value,
        revision=report.revision,
        timeout=timeout,
        wait=report,
    )


def closed_while_waiting(slot: Slot, at: At, test: object, seen: Seen) -> StoreClosedError:
    """Make the error of a wait that nothing can fulfil any more."""
    report = explain(slot, test, *at, seen)
    return StoreClosedError(
        f"{slot._core.title} was closed during a wait for {report}", wait=report
    )


def unanswered(slot: Slot, at: At, test: object, seen: Seen) -> Exception:
    """Make the error of a wait that met what stands for no value."""
    error = cast("KeyRemovedError | DerivationError | UnreachableError", at[0].again())
    return with_report(error, explain(slot, test, *at, seen))


def hopeless(error: UnreachableError, slot: Slot, at: At, test: object, seen: Seen) -> Exception:
    """Have *error*, which came out of the test of a wait, tell of that wait."""
    # One that came out of the user's own predicate tells of another wait already.
    return error if error.wait else with_report(error, explain(slot, test, *at, seen))


def with_report(
    error: KeyRemovedError | DerivationError | UnreachableError, report: WaitReport
) -> Exception:
    """Have *error* tell which wait it ended."""
    if isinstance(error, UnreachableError):
        error.args = (f"no legal moves lead any more to {report}",)
        error.waited_for = report.waited_for
    else:
        error.args = (f"{error}; this ended a wait for {report}",)
    error.wait = report
    return error
