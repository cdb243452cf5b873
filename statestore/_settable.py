"""
A key as its setters see it: compare, commit, and look again if another one was first.

Apart from all that waits: this may be compiled, and a coroutine is quicker when it is not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

from statestore._classes import PLAIN
from statestore._core import BOX, NEXT, REVISION, ROUNDS, VALUE, Cell, Entry, Slot
from statestore._formulas import good
from statestore._records import Removed, Transition, make_transition
from statestore._values import check_immutable, is_same


class Settable(Slot):
    """A slot whose value anybody may set."""

    __slots__ = ()

    def _get(self) -> Any:
        if self._core.head[BOX]:
            self._core.settle()
        cell = self._cell
        while (after := cell[NEXT]) is not None:
            cell = after
        value: Any = cell[VALUE]
        if type(value) is Removed:
            raise value.again()
        return value

    def _put(self, new: object) -> Cell | None:
        """
        Set the value; give the cell of the old one, behind which the new one is linked.

        This is `_change()` written out for the common cases: nothing is left to be applied, nobody
        has the right of way or commits meanwhile, and most often the listeners look for themselves.
        """
        core = self._core
        revision, box = core.head
        if not box:
            kind = type(new)
            if kind not in PLAIN and core.strict:
                check_immutable(new, self._name, self._cell[VALUE])
            old, _, after = cell = self._cell
            if after is None and type(old) is not Removed:
                # `is_same()`, written out.
                if new is old or (type(old) is kind and (new == old) is True):
                    return None
                listeners = self._listeners
                if not (
                    core.attention
                    or (
                        listeners is not None
                        and (listeners.callbacks or listeners.groups or listeners.family)
                    )
                ):
                    revision += 1
                    after = [new, revision, None]
                    following: list[Entry] = []
                    entry = (revision, following, None, self, cell, after)
                    box.append(entry)
                    if box[0] is entry:
                        cell[NEXT] = self._cell = after
                        listeners = self._listeners
                        if listeners is not None and (listeners.ports or listeners.rings):
                            listeners.notify()
                        core.head = (revision, following)
                        return cell
                elif not core.turns:
                    entry = core.entry(revision + 1, ((self, cell, new),))
                    box.append(entry)
                    if box[0] is entry:
                        core.apply(entry)
                        core.run_callbacks()
                        return cell
        return self._change_to(new)

    def _change_to(self, new: object, reason: str | None = None) -> Cell | None:
        """Do as `_put()`, the long way."""
        # Not in there: a captured variable is slower, and that function is the hot one.
        return self._change(lambda _old: (new,), reason) or None

    def _change(
        self, decide: Callable[[Any], tuple[Any] | None], reason: str | None = None
    ) -> Cell | Literal[False] | None:
        """
        Change the value as *decide* says of the very value that is replaced.

        Gives the cell of the old value, behind which the new one is linked; None if that would
        have been the same; False if *decide* says no.
        """
        core = self._core
        turn = None
        try:
            for rounds in itertools.count():
                if rounds == ROUNDS:
                    turn = core.take_turn()
                head = core.settle_open()
                cell = self._tail()
                decision = decide(good(cell[VALUE]))
                if decision is None:
                    return False
                (new,) = decision
                if core.strict and type(new) not in PLAIN:
                    check_immutable(new, self._name, cell[VALUE])
                if is_same(cell[VALUE], new):
                    return None
                while self._tail() is cell:
                    if self._lifecycle is not None:
                        self._lifecycle.refuse_move(cell[VALUE], new, self._name, cell[REVISION])
                    if core.publish(head, ((self, cell, new),), reason) is not None:
                        core.run_callbacks()
                        return cell
                    head = core.settle_open()
            raise AssertionError  # pragma: no cover -- count() has no end
        finally:
            if turn is not None:
                core.end_turn(turn)

    def _made(self, before: Cell | Literal[False] | None) -> Transition[Any] | None:
        if not before:
            return None
        value, revision, _ = before[NEXT]
        return make_transition(self._name, before[VALUE], value, revision, 0)
