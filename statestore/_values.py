"""
What a store may hold: immutable values, and when two of them count as the same.

A value is immutable when its class lets nobody change it and the same goes for all that it holds:

| Admitted | What is looked at inside |
|---|---|
| numbers, `str`, `bytes`, dates, paths, patterns, addresses, `UUID`, `range`, [`Ref`][] | nothing |
| classes, enum members, functions found under their module and name | nothing: they are names |
| `tuple`, named tuples, `frozenset`, `slice`, a `datetime` or `time` | items, its time zone |
| frozen attrs classes, dataclasses, pydantic models and msgspec structs | their fields |
| `immutables.Map` and pyrsistent's collections | keys, values, items |
| what [`register_immutable`][] admits | what its *parts* gives |

The walk asks nothing of the value itself: no `hash`, `==` or `repr`, which it may not survive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, final

import attrs

from statestore._classes import PLAIN, RULES, RefusedError, Rule, rule_of

__all__ = ["check_immutable", "is_same"]

MAX_DEPTH: Final = 1000
"""How deep a value may be nested: `hash`, `==` and `repr` of deeper ones can end the process."""


def is_same(old: object, new: object) -> bool:
    """
    Tell whether setting *new* over *old* changes nothing.

    It is the same object, or one of the same type for which `new == old` is `True` itself.
    Types inside are not compared: `(1,)` and `(True,)` are the same.
    """
    return old is new or (type(old) is type(new) and (new == old) is True)


def check_immutable(value: object, name: str, known: object = None) -> None:
    """
    Raise unless *value* is immutable, all the way down.

    Args:
        value: What is looked at. Its `hash`, `==` and `repr` are not called.
        name: What the path in the error begins with.
        known: A value that passed before, such as the one to be replaced. The two are walked side
            by side, and what they share is passed over.

    Raises:
        MutableValueError: Some part can be changed in place, contains itself, or is nested more
            than 1,000 deep.

    Cost:
        One look-up for a plain value; otherwise linear in the parts that *known* does not share,
        each of them looked at once.
    """
    try:
        rule = RULES[type(value)]
    except KeyError:
        rule = rule_of(type(value))
    if rule is None or value is known:
        return
    try:
        parts = rule.parts(value)
    except RefusedError as refused:
        raise refused.as_error(name) from None
    for part in parts:
        if type(part) not in PLAIN:
            break
    else:
        return
    _Walk(name).run(value, rule, parts, known)


@final
@attrs.define(eq=False)
class _Frame:
    """One container on the way from the value down to the part at hand."""

    value: object
    rule: Rule
    parts: Sequence[object]
    old: Sequence[object]
    pending: Iterator[int]
    index: int = 0
    height: int = 1
    is_whole: bool = True


@final
class _Walk:
    """
    A walk in depth over one value, on a stack of its own.

    `trail` is the way down to the part at hand, `active` the ids on it: to meet one again is a
    cycle. `done` has each container left behind, kept alive so that its id stays its own, with its
    height, so that a shared part met again deeper down still counts with its full depth. Where
    *known* let something be skipped the height is not known (0), and a second visit looks at all.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.trail: list[_Frame] = []
        self.active: set[int] = set()
        self.done: dict[int, tuple[object, int]] = {}

    def run(self, value: object, rule: Rule, parts: Sequence[object], known: object) -> None:
        try:
            self.enter(value, rule, parts, known)
            while self.trail:
                self.go_on(self.trail[-1])
        except RefusedError as refused:
            raise refused.as_error(self.path()) from None

    def go_on(self, frame: _Frame) -> None:
        """Look at the parts of *frame* up to the first that holds parts itself, and enter that."""
        for index in frame.pending:
            frame.index = index
            part = frame.parts[index]
            rule = rule_of(type(part))
            if rule is None or self.is_done(part, frame):
                continue
            parts = rule.parts(part)
            if PLAIN.issuperset(map(type, parts)):
                self.done[id(part)] = (part, 1)
                continue
            old = frame.old[index] if index < len(frame.old) else None
            self.enter(part, rule, parts, None if id(part) in self.done else old)
            return
        self.leave(frame)

    def enter(self, value: object, rule: Rule, parts: Sequence[object], known: object) -> None:
        pending = [index for index, part in enumerate(parts) if type(part) not in PLAIN]
        old: Sequence[object] = ()
        is_whole = True
        if pending and type(known) is type(value):
            old = rule.parts(known)
            kept = set(map(id, old))
            count = len(pending)
            pending = [index for index in pending if id(parts[index]) not in kept]
            is_whole = len(pending) == count
        self.trail.append(_Frame(value, rule, parts, old, iter(pending), is_whole=is_whole))
        self.active.add(id(value))

    def leave(self, frame: _Frame) -> None:
        self.trail.pop()
        self.active.remove(id(frame.value))
        self.done[id(frame.value)] = (frame.value, frame.height if frame.is_whole else 0)
        if self.trail:
            parent = self.trail[-1]
            parent.height = max(parent.height, frame.height + 1)
            parent.is_whole &= frame.is_whole

    def is_done(self, part: object, frame: _Frame) -> bool:
        """Tell whether *part* was walked as a whole before; refuse a cycle and too deep a nest."""
        if id(part) in self.active:
            what = "cycle: it contains itself"
            raise RefusedError(what, "break the cycle with a key or an id")
        height = self.done[id(part)][1] if id(part) in self.done else 0
        if len(self.trail) + max(height, 1) > MAX_DEPTH:
            what = f"nested more than {MAX_DEPTH:,} deep"
            raise RefusedError(what, "flatten it, into a tuple of items for example")
        frame.height = max(frame.height, height + 1)
        return height > 0

    def path(self) -> str:
        # The last frame of the trail points at the part that was refused.
        steps = [frame.rule.label(frame.value, frame.index) for frame in self.trail]
        if len(steps) > 20:  # noqa: PLR2004 - more than anybody would read
            steps[10:-10] = ["…"]
        return self.name + "".join(steps)
