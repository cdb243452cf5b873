"""
Work out from scratch what derived watchers give, from nothing but the states of their store.

A `Past` is the list of these states, one for each revision. A `Plan` tells once more, in plain
Python, what a watcher is made of, and what it was at each revision. From that follows what a
consumer has to be told, which a `Follower` compares with what it was told.

Where several conditions that are counted have failed at once, it is left open which of the errors
is told; else all is exact.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import immutables
from attrs import define, field, frozen

from statestore import ABSENT, DerivationError, KeyRemovedError, LaggedError, Transition


class Mark(enum.Enum):
    """What stands in a state for the value of a member that was removed."""

    GONE = "gone"


GONE: Final = Mark.GONE


class Member(NamedTuple):
    """One life of one member of a family."""

    family: str
    key: str
    number: int


Leaf: TypeAlias = str | Member
"""What a state has: keys, members, and each family, whose value is the tuple of its members."""


class Held(NamedTuple):
    """A value, and the revision at which it came."""

    value: Any
    since: int


def is_same(old: Any, new: Any) -> bool:
    """Tell whether *new* is no other value than *old*."""
    return type(old) is type(new) and bool(old == new)


@define(eq=False)
class Past:
    """All states that a store has had."""

    states: list[dict[Leaf, Held]]
    # What each revision changed; a family, if any of its members did.
    touched: list[set[Leaf]] = field(factory=lambda: [set()])

    @property
    def now(self) -> int:
        """The revision of the newest state."""
        return len(self.states) - 1

    def commit(self, wanted: Mapping[Leaf, Any]) -> None:
        """Add the state after a commit, if that changes anything."""
        before = self.states[-1]
        changed = {
            leaf: value
            for leaf, value in wanted.items()
            if leaf not in before or not is_same(before[leaf].value, value)
        }
        if not changed:
            return
        revision = len(self.states)
        after = before | {leaf: Held(value, revision) for leaf, value in changed.items()}
        families = {leaf.family for leaf in changed if isinstance(leaf, Member)}
        for family in families:
            after[family] = Held(_members(after, family), revision)
        self.states.append(after)
        self.touched.append({*changed, *families})


def _members(state: Mapping[Leaf, Held], family: str) -> tuple[Member, ...]:
    return tuple(
        leaf
        for leaf, held in state.items()
        if isinstance(leaf, Member) and leaf.family == family and held.value is not GONE
    )


@frozen(eq=False)
class Flaw:
    """Why a watcher has no value: a function that raised, or a member that is not there."""

    plan: Plan
    function: object
    values: tuple[Any, ...]
    # That at which it came up.
    revision: int


@frozen(eq=False)
class Result:
    """What a watcher is from one transition to the next: a value, or one of several flaws."""

    value: Any = None
    flaws: frozenset[Flaw] = frozenset()


@define(eq=False, repr=False)
class Plan(ABC):
    """What a watcher is made of."""

    past: Past
    sources: tuple[Plan, ...]
    # What is called with the values, noting the calls; None if that is no user's function.
    function: object = None
    watcher: Any = None
    leaves: frozenset[Leaf] = field(init=False)
    # The plan itself, and all that it needs.
    closure: frozenset[Plan] = field(init=False)
    _results: list[Result] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        self.leaves = frozenset().union(*(source.leaves for source in self.sources))
        self.closure = frozenset([self]).union(*(source.closure for source in self.sources))

    def at(self, revision: int) -> Result:
        """Give what it is at *revision*: the same object as before, unless that is a transition."""
        results = self._results
        while len(results) <= revision:
            results.append(self._after(len(results)))
        return results[revision]

    def latest(self, revision: int) -> int:
        """Give the revision of the last transition of what it is made of."""
        state = self.past.states[revision]
        return max(state[leaf].since for leaf in self.leaves)

    def is_touched(self, revision: int) -> bool:
        """Whether *revision* changes anything that it is made of."""
        return not self.leaves.isdisjoint(self.past.touched[revision])

    def came(self, revision: int) -> int:
        """Give the revision of the transition to what it is at *revision*."""
        result = self.at(revision)
        while revision and self.at(revision - 1) is result:
            revision -= 1
        return revision

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {sorted(map(str, self.leaves))}>"

    @abstractmethod
    def occasions(self, revision: int, *, afresh: bool) -> list[tuple[Any, ...]]:
        """Give what its function may be called with for *revision*, or by who begins there."""

    @abstractmethod
    def _work_out(self, revision: int) -> Result:
        """Give what it is, without regard to what it was."""

    def _after(self, revision: int) -> Result:
        before = self._results[-1] if self._results else None
        if before is None:
            return self._work_out(revision)
        if not self._hears(revision):
            return before
        result = self._work_out(revision)
        return before if self._is_unchanged(before, result) else result

    def _hears(self, revision: int) -> bool:
        """Whether something that it is made of has a transition at *revision*."""
        return any(source.at(revision) is not source.at(revision - 1) for source in self.sources)

    def _is_unchanged(self, before: Result, after: Result) -> bool:
        if before.flaws or after.flaws:
            # Of several, another one may be told than before.
            return before.flaws == after.flaws and len(after.flaws) == 1
        return is_same(before.value, after.value)

    def _flaw(self, values: tuple[Any, ...], revision: int) -> Flaw:
        return Flaw(self, self.function, values, revision)


@define(eq=False, repr=False)
class Given(Plan):
    """A key or a member."""

    leaf: Leaf = ""

    def __attrs_post_init__(self) -> None:
        self.leaves = frozenset([self.leaf])
        self.closure = frozenset([self])

    @property
    def name(self) -> str:
        """The name of the key."""
        leaf = self.leaf
        return leaf if isinstance(leaf, str) else f"{leaf.family}[{leaf.key!r}]"

    def occasions(self, revision: int, *, afresh: bool) -> list[tuple[Any, ...]]:
        return []

    def _hears(self, revision: int) -> bool:
        return self.is_touched(revision)

    def _work_out(self, revision: int) -> Result:
        held = self.past.states[revision].get(self.leaf)
        if held is None:
            # Nobody knows it yet: any value will do.
            return Result(0)
        if held.value is GONE:
            return Result(flaws=frozenset([Flaw(self, None, (self.name,), revision)]))
        return Result(held.value)


def _flaws_of(results: Sequence[Result]) -> frozenset[Flaw]:
    """Give those of the first that has any; but the end of a member comes before all."""
    every = [result.flaws for result in results if result.flaws]
    ends = [flaws for flaws in every if is_end(flaws)]
    return frozenset().union(*(ends or every[:1]))


def is_end(flaws: frozenset[Flaw]) -> bool:
    """Whether this can never have a value again."""
    return any(flaw.function is None for flaw in flaws)


@define(eq=False, repr=False)
class Applied(Plan):
    """A function of the values of all sources."""

    pure: Callable[..., Any] = lambda *values: values

    def occasions(self, revision: int, *, afresh: bool) -> list[tuple[Any, ...]]:
        results = [source.at(revision) for source in self.sources]
        if any(result.flaws for result in results) or not (afresh or self.is_touched(revision)):
            return []
        return [tuple(result.value for result in results)]

    def _work_out(self, revision: int) -> Result:
        results = [source.at(revision) for source in self.sources]
        flaws = _flaws_of(results)
        if flaws:
            return Result(flaws=flaws)
        values = tuple(result.value for result in results)
        try:
            return Result(self.pure(*values))
        except ArithmeticError:
            return Result(flaws=frozenset([self._flaw(values, revision)]))


@define(eq=False, repr=False)
class Counting(Plan):
    """Whether at least so many of the sources hold."""

    least: int = 1

    def occasions(self, revision: int, *, afresh: bool) -> list[tuple[Any, ...]]:
        return []

    def _work_out(self, revision: int) -> Result:
        results = [source.at(revision) for source in self.sources]
        flaws = frozenset[Flaw]().union(*(result.flaws for result in results))
        if is_end(flaws):
            flaws = _flaws_of(results)
        return Result(sum(bool(result.value) for result in results) >= self.least, flaws)


@define(eq=False, repr=False)
class OfMembers(Plan):
    """What follows from all members of a family."""

    family: str = ""

    def __attrs_post_init__(self) -> None:
        self.leaves = frozenset([self.family])
        self.closure = frozenset([self])

    def _hears(self, revision: int) -> bool:
        return self.is_touched(revision)

    def _members(self, revision: int) -> dict[Member, Held]:
        state = self.past.states[revision]
        return {member: state[member] for member in state[self.family].value}


@define(eq=False, repr=False)
class Tallying(OfMembers):
    """What follows from the number of members that a test holds for, and the number of all."""

    pure: Callable[[Any], object] = bool
    finish: Callable[[int, int], Any] = lambda holding, _number: holding
    _known: dict[tuple[Member, int], Flaw] = field(init=False, factory=dict)

    def occasions(self, revision: int, *, afresh: bool) -> list[tuple[Any, ...]]:
        return [
            (held.value,)
            for held in self._members(revision).values()
            if afresh or held.since == revision
        ]

    def _work_out(self, revision: int) -> Result:
        holding = number = 0
        flaws: set[Flaw] = set()
        for member, held in self._members(revision).items():
            number += 1
            try:
                holding += bool(self.pure(held.value))
            except ArithmeticError:
                known = (member, held.since)
                if known not in self._known:
                    self._known[known] = self._flaw((held.value,), held.since)
                flaws.add(self._known[known])
        return Result(self.finish(holding, number), frozenset(flaws))


@define(eq=False, repr=False)
class Gathering(OfMembers):
    """The values by the keys, a new one at each transition of a member."""

    def occasions(self, revision: int, *, afresh: bool) -> list[tuple[Any, ...]]:
        return []

    def _work_out(self, revision: int) -> Result:
        values = {member.key: held.value for member, held in self._members(revision).items()}
        return Result(immutables.Map(values))

    def _is_unchanged(self, before: Result, after: Result) -> bool:
        return False


class Failure(NamedTuple):
    """What is compared of a `DerivationError`. An error itself would hold what it passed."""

    function: object
    values: tuple[Any, ...]
    revision: int


class Removal(NamedTuple):
    """What is compared of a `KeyRemovedError`."""

    key: str


class Call(NamedTuple):
    """What a callback is told, which is not told of which revision that is."""

    old: Any
    new: Any


class Report(NamedTuple):
    """What is reported of a callback in place of a call."""

    revision: int
    error: object


class Lost(NamedTuple):
    """What is compared of a `LaggedError`."""

    missed: int
    first: int
    last: int
    value: Any


def told(error: BaseException) -> object:
    """Give what is compared of *error*: for most, the type."""
    if isinstance(error, DerivationError):
        assert isinstance(error.__cause__, ArithmeticError)
        return Failure(error.function, error.values, error.revision)
    if isinstance(error, KeyRemovedError):
        return Removal(error.key)
    if isinstance(error, LaggedError):
        return Lost(error.missed, error.first_revision, error.last_revision, error.value)
    return type(error)


class Step(NamedTuple):
    """One transition, as a consumer has to be told of it."""

    revision: int
    # What the value before may be.
    olds: tuple[Any, ...]
    result: Result
    # Whether it is told at all: not sure if it only may be another of several flaws.
    is_certain: bool = True
    missed: int = 0


def flaws_told(result: Result, actual: object, latest: Callable[[Flaw], int]) -> frozenset[Flaw]:
    """Give those flaws of *result* that *actual* may tell of, as of a revision up to *latest*."""
    if isinstance(actual, Removal):
        return frozenset(flaw for flaw in result.flaws if flaw.values == tuple(actual))
    if not isinstance(actual, Failure):
        return frozenset()
    return frozenset(
        flaw
        for flaw in result.flaws
        if flaw.function is actual.function
        and flaw.values == actual.values
        and flaw.revision <= actual.revision <= max(flaw.revision, latest(flaw))
    )


NOTHING: Final = "nothing"
"""What a consumer is told when there is nothing more."""


@define(eq=False)
class Follower:
    """What one consumer has to be told of a watcher after one revision."""

    plan: Plan
    since: int
    # Whether it may share a chain with others, who know a value from before *since*.
    is_shared: bool
    at: int = field(init=False)
    # What the last value may be, and the last flaw.
    olds: tuple[Any, ...] = field(init=False)
    standing: frozenset[Flaw] = field(init=False)
    # Whether a member that was removed has ended it.
    is_over: bool = False

    def __attrs_post_init__(self) -> None:
        self.at = self.since
        result = self.plan.at(self.since)
        self.olds = (ABSENT,) if result.flaws else (result.value,)
        if self.is_shared and result.flaws:
            every = [self.plan.at(revision) for revision in range(self.since)]
            self.olds += tuple(result.value for result in every if not result.flaws)[-1:]
        self._stand(result.flaws)

    def peek(self) -> Step | None:
        """Give the next transition."""
        while self.at < self.plan.past.now and not self.is_over:
            result = self.plan.at(self.at + 1)
            if result is not self.plan.at(self.at):
                kept = self.standing & result.flaws
                if not kept or len(result.flaws) > 1 or kept != self.standing:
                    return Step(self.at + 1, self.olds, result, not kept)
            self.at += 1
        return None

    def take(self, step: Step, flaws: frozenset[Flaw]) -> None:
        """Note that *step* was told, perhaps as one of *flaws*."""
        self.at = step.revision
        if not flaws:
            self.olds = (step.result.value,)
        self._stand(flaws)

    def meet(self, actual: object) -> None:
        """See that *actual* is what has to be told next."""
        while (step := self.peek()) is not None:
            flaws = self.match(step, actual)
            if flaws is not None:
                self.take(step, flaws)
                return
            assert not step.is_certain, (step, actual)
            self.pass_over(step)
        assert actual is NOTHING, actual

    def pass_over(self, step: Step) -> None:
        """Note that *step*, which is not certain, was not told, or nobody knows."""
        self.take(step, self.standing & step.result.flaws)

    def match(self, step: Step, actual: object) -> frozenset[Flaw] | None:
        """If *actual* is how a consumer is told of *step*, give the flaws that this may tell of."""
        if isinstance(actual, Report):
            return self.match(step, actual.error) if actual.revision == step.revision else None
        if step.result.flaws:
            return self.flaws_told(step.result, actual) or None
        if isinstance(actual, Transition):
            is_so = (step.revision, step.missed) == (actual.revision, actual.missed)
        else:
            is_so = isinstance(actual, Call)
        is_so = is_so and is_same(step.result.value, actual.new)
        return frozenset() if is_so and any(is_same(old, actual.old) for old in step.olds) else None

    def flaws_told(self, result: Result, actual: object) -> frozenset[Flaw]:
        """Give those flaws of *result* that *actual* may tell of."""
        # Who begins with a flaw may know no more than when the sources had their last transition.
        return flaws_told(result, actual, lambda flaw: flaw.plan.latest(self.since))

    def _stand(self, flaws: frozenset[Flaw]) -> None:
        self.standing = flaws
        self.is_over = is_end(flaws)
