"""
Tell whether what is waited for can still come, as far as lifecycles say.

Only our own tests are asked about values that never were: a predicate of the user is called with
those that are. What cannot be decided is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import not_
from typing import Any, Final, TypeAlias, final

from statestore._core import Slot
from statestore._formulas import (
    Combined,
    Counted,
    Formula,
    Mapped,
    Source,
    Unreachable,
    closure_of,
    good,
)
from statestore._lifecycle import Lifecycle
from statestore._mailbox import Test
from statestore._matching import Anything, EqualTo, NotNone, UnequalTo, Wrapping

Hope: TypeAlias = Callable[[Any], bool]
"""Tell whether some value that may come after this one would do."""

BOTH: Final = frozenset({True, False})

_OPPOSITES: Final[Mapping[type, type]] = {EqualTo: UnequalTo, UnequalTo: EqualTo}


def hope_for(lifecycle: Lifecycle[Any], test: Test) -> Hope | None:
    """Give what tells whether a value that *test* accepts may come; None if nobody can tell."""
    try:
        goals = _goals(lifecycle, test)
    except Exception:  # noqa: BLE001 -- a comparison that fails decides nothing
        return None
    if goals is None:
        return None
    # With `by`, another value of the same state may come.
    stays = lifecycle.by is not None

    def hope(value: Any) -> bool:
        state = lifecycle.state_of(value)
        return (stays and state in goals) or not goals.isdisjoint(lifecycle.reachable(state))

    return hope


def _goals(lifecycle: Lifecycle[Any], test: Test) -> frozenset[Any] | None:
    """Give the states in which *test* may accept a value."""
    if lifecycle.by is None:
        if not isinstance(test, (EqualTo, UnequalTo, NotNone, Anything)):
            return None
        return frozenset(state for state in lifecycle.moves if test(state))
    return frozenset({lifecycle.by(test.target)}) if isinstance(test, EqualTo) else None


@final
class Reaching(Wrapping):
    """The test of a wait on a key with a lifecycle: raises when no move leads there any more."""

    __slots__ = ("_hope", "_slot")

    def __init__(self, slot: Slot, test: Test, hope: Hope) -> None:
        self._slot = slot
        self._hope = hope
        self.test = test

    def __call__(self, value: object) -> bool:
        if self.test(value):
            return True
        self.look(value)
        return False

    def look(self, value: object) -> None:
        """
        See that there is hope, standing at *value*.

        Raises:
            UnreachableError: There is none.
        """
        if not self._hope(value):
            raise Unreachable(self._slot._name, self.test, value).again()


def begins_with(value: Any, test: Test, *, immediate: bool) -> bool:
    """
    Tell whether a wait that begins at *value*, which came out of a cell, is over there.

    Raises:
        DerivationError: There is no value to look at.
        UnreachableError: It is hopeless.
    """
    if immediate:
        return bool(test(good(value)))
    if isinstance(test, Reaching):
        test.look(good(value))
    return False


def reaching(slot: Slot, test: Test) -> Test:
    """Give the test of a wait on *slot*, which raises as soon as that is hopeless."""
    if slot._lifecycle is None:
        return test
    hope = hope_for(slot._lifecycle, test)
    return test if hope is None else Reaching(slot, test, hope)


def hoping(formula: Formula, test: Test) -> Formula:
    """Give the formula to wait on: it fails for good as soon as *test* can accept nothing more."""
    if not isinstance(test, (EqualTo, UnequalTo, NotNone, Anything)):
        return formula
    order, _ = closure_of(formula)
    leaves = {each: leaf for each in order if (leaf := _leaf_of(each)) is not None}
    if not leaves:
        return formula
    slots = list(dict.fromkeys(each.sources[0] for each in leaves))
    return Combined(formula.name, (formula, *slots), Hoping(test, order, leaves, slots))


@final
class Hoping:
    """What a wait follows in place of a condition: its value, as long as there is hope."""

    __slots__ = ("_leaves", "_order", "_slots", "_test")

    def __init__(
        self,
        test: Test,
        order: Sequence[Formula],
        leaves: Mapping[Formula, Leaf],
        slots: Sequence[Source],
    ) -> None:
        self._test = test
        self._order = order
        self._leaves = leaves
        self._slots = slots

    def __call__(self, value: Any, *states: Any) -> Any:
        if not self._test(value):
            values = dict(zip(self._slots, states, strict=True))
            possible = _possible(self._order, self._leaves, values)
            if possible is not None and not any(map(self._test, possible)):
                return Unreachable(self._order[-1].name, self._test, value)
        return value


Leaf: TypeAlias = Callable[[Any], frozenset[bool]]
"""Give what a condition on a key may be now or later, standing at a value of the key."""


def _leaf_of(formula: Formula) -> Leaf | None:
    """Give the leaf that *formula* is, if it is one that can be decided."""
    source = formula.sources[0]
    if not isinstance(formula, Mapped) or not isinstance(source, Slot):
        return None
    test, lifecycle = formula.function, source._lifecycle
    if lifecycle is None or not isinstance(test, (EqualTo, UnequalTo)):
        return None
    becomes = hope_for(lifecycle, test)
    ends = hope_for(lifecycle, _OPPOSITES[type(test)](test.target))

    def possible(value: Any) -> frozenset[bool]:
        holds = test(value)
        return frozenset(
            result
            for result, hope in ((True, becomes), (False, ends))
            if result is holds or hope is None or hope(value)
        )

    return possible


def _possible(
    order: Iterable[Formula], leaves: Mapping[Formula, Leaf], values: Mapping[Source, Any]
) -> frozenset[bool] | None:
    """Give what the last one of *order* may be, now or later; None if that may be anything."""
    known: dict[Source, frozenset[bool] | None] = {}
    last: frozenset[bool] | None = None
    for formula in order:
        source = formula.sources[0]
        if formula in leaves:
            last = leaves[formula](values[source])
        elif isinstance(formula, Counted):
            last = _possible_count(formula, [known[each] or BOTH for each in formula.sources])
        elif isinstance(formula, Mapped) and formula.function in (bool, not_):
            last = frozenset(map(formula.function, known.get(source) or BOTH))
        else:
            last = None
        known[formula] = last
    return last


def _possible_count(formula: Counted, parts: Iterable[frozenset[bool]]) -> frozenset[bool]:
    parts = list(parts)
    most = sum(True in part for part in parts)
    fewest = sum(False not in part for part in parts)
    can_hold, can_fail = most >= formula.least, fewest < formula.least
    return frozenset(
        result for result, is_possible in ((True, can_hold), (False, can_fail)) if is_possible
    )
