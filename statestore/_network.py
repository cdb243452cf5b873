"""
Compute what follows from other values: once a commit, from values of one revision.

A **network** is where formulas are computed for the consumers of one mailbox. It stands at one
revision. To advance it, the new cells of its inputs are taken in the order of their revisions; at
each of them the nodes that they touch are computed, in the order of their depth.

What a formula gives is linked into a chain of cells, as that of any slot: an **outlet**. Consumers
only ever see such a chain, so a wait or a subscription does not know what it follows.

Rules that make it exact, whoever commits meanwhile:

- `settle()` comes first. After it, every commit up to its revision is linked everywhere, and has
  marked the inputs it concerns; nothing above that revision is looked at. So a commit is seen
  whole, and only what it touched is looked at.
- An input is armed *before* its chain is walked, as with any port.
- One frame at a time advances a network: of all who append to the empty *right*, the first one.
  Whoever finds it taken goes on; the one who has it looks again when giving it back.
- What a function or `==` raises is a value of its own (`Failed`). An interrupt that cuts the work
  short has the revision at hand done again: what became new at it stays, all else that it touched
  is computed anew, from the inputs' cells.
- Runs of maps in which nobody listens half way are one node.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any, Final, TypeAlias, final

from statestore._core import NEXT, REVISION, VALUE, Cell, Core, Listeners, Slot
from statestore._formulas import (
    NO_VALUE,
    Failed,
    Formula,
    dated,
    read,
    walk_to,
)
from statestore._graph import Graph
from statestore._members import Feed
from statestore._nodes import FeedInput, Input, Node
from statestore._records import Removed
from statestore._values import is_same

Step: TypeAlias = tuple[int, Input, Cell]
"""A revision, an input that has a transition there, and the cell of that."""

_revision: Final = itemgetter(0)


@final
class Outlet(Slot):
    """The chain of what one formula gives, for the consumers of one network."""

    __slots__ = ("__weakref__", "_holds", "_network", "_reference")

    _reference: OutletReference
    """The one of the node."""

    def __init__(self, network: Network, node: Node) -> None:
        super().__init__(network.core, node.formula.name, node.value, node.revision)
        self._network = network
        # One for each who opened it and has not left.
        self._holds: list[None] = []
        # Its own: the store need not know of it.
        self._listeners = Listeners()

    def _latest(self) -> Cell:
        self._network.advance()
        return self._tail()

    def _is_ended(self, share: int | None = None) -> bool:
        # The end is looked at first: what was committed before it is computed then. No `super()`,
        # which a method that is declared for the twin does not have.
        ended = Slot._is_ended(self)
        return self._network.advance(share) and ended

    def _has_after(self, cell: Cell) -> bool:
        return cell[NEXT] is not None or bool(self._network.dirty)

    def _leave(self) -> None:
        # Said, and not left to the reference: frames that an error keeps have this, too.
        self._holds.pop()
        if not self._holds:
            self._network.drop(self._reference)

    def _retired(self) -> Slot:
        return Slot(self._core, self._name, None)

    def link(self, value: Any, revision: int) -> None:
        """Let *value* follow."""
        before = self._cell
        if type(value) in NO_VALUE:
            last = before[VALUE]
            if type(last) in NO_VALUE:
                value = value.after(last.last, last.last_revision)
            else:
                value = value.after(last, before[REVISION])
        before[NEXT] = self._cell = [value, revision, None]

    def tell(self) -> None:
        """Wake those who wait, and feed those who keep a queue of their own."""
        self._core.listen(self).notify()


class OutletReference(weakref.ref[Outlet]):
    """A node's hold on its outlet, which goes with the last consumer at the latest."""

    __slots__ = ("node",)

    node: Node


class Network:
    """
    The formulas that the consumers of one mailbox follow.

    This one has no mailbox: its consumers have it advance when they read.
    """

    __slots__ = (
        "__weakref__",
        "_dropped",
        "_fed",
        "_graph",
        "_is_broken",
        "_listened",
        "_right",
        "core",
        "dirty",
        "revision",
    )

    def __init__(self, core: Core) -> None:
        self.core: Core = core
        self._graph = Graph()
        # The nodes with an outlet.
        self._listened: dict[Node, None] = {}
        # References whose outlet is gone. Appended to from anywhere.
        self._dropped: list[OutletReference] = []
        # The outlets with something that consumers have not been told of.
        self._fed: dict[Outlet, None] = {}
        # The inputs with something new. Written by setters.
        self.dirty: dict[Input, None] = {}
        self._right: list[object] = []
        self._is_broken = False
        # The one that is being looked at, or was last.
        self.revision: int = 0

    def __bool__(self) -> bool:
        """Whether there is something to do."""
        return bool(self.dirty or self._dropped or self._is_broken or self._fed)

    @property
    def is_free(self) -> bool:
        """Whether no frame is at work in here."""
        return not self._right

    def mark(self, source: Input) -> None:
        """Note that *source* has something new. From any thread."""
        self.dirty[source] = None
        self._wake()

    def advance(self, share: int | None = None) -> bool:
        """
        Take in everything that is committed, or a share of it: that many steps of an input.

        Gives whether that was all, and no other frame was at it.
        """
        revision = self.core.settle()[0]
        if not self:
            return True
        is_done = self._if_free(self._advance, revision, share)
        return is_done and not (share is not None and self.dirty)

    def open(self, formula: Formula) -> Outlet:
        """Give the chain of *formula*, as of now."""
        opened: list[Outlet] = []
        if self._if_free(self._open, formula, opened):
            return opened[0]
        # From inside of a function that is being computed, or from another thread.
        return self._spare().open(formula)

    def outlets(self) -> list[Outlet]:
        """List what is followed."""
        found = [outlet_of(node) for node in self._listened.copy()]
        return [outlet for outlet in found if outlet is not None]

    def _wake(self) -> None:
        """Have `advance()` called soon. From any thread."""
        for outlet in self.outlets():
            outlet.tell()

    def _tell_all(self) -> None:
        """Let consumers know of what was linked."""
        for outlet in self._fed.copy():
            outlet.tell()
            self._fed.pop(outlet, None)

    def _make_input(self, slot: Slot) -> Input:
        return FeedInput(slot, self.mark) if isinstance(slot, Feed) else Input(slot, self.mark)

    def _read(self, slots: Iterable[Slot]) -> tuple[int, dict[Slot, Cell]]:
        """Give a revision above which all will be heard of, and the cells of *slots* at it."""
        # A setter looks before it commits whether a family is followed; a fence has it look again.
        slots = list(slots)
        is_fenced = any(isinstance(slot, Feed) for slot in slots)
        return read(slots, self.core.fence if is_fenced else lambda: self.core.settle()[0])

    def _spare(self) -> Network:
        """Give another network, for when this one is at work."""
        return Network(self.core)

    def _if_free(self, work: Callable[..., object], *arguments: Any) -> bool:
        token = object()
        right = self._right
        try:
            right.append(token)
            if right[0] is not token:
                return False
            work(*arguments)
            return True
        finally:
            if right and right[0] is token:
                self._right = []
                # Who came meanwhile found it taken; what is above the revision was left.
                if self:
                    self._wake()

    # Only for the frame that has the right.

    def _advance(self, revision: int, share: int | None = None) -> None:
        """Take in what is committed up to *revision*, or a share of it."""
        self._put_in_order()
        self._walk(revision, share)

    def _put_in_order(self) -> None:
        """Leave nothing half done, and nothing that nobody needs."""
        if self._is_broken:
            self._compute_anew()
        if self._dropped:
            self._prune()

    def _walk(self, revision: int, share: int | None = None) -> None:
        """Take in what is committed up to *revision*, or a share; the graph stays as it is."""
        marked = self.dirty.copy()
        self._is_broken = True
        # No loop in here: CPython does not guard all that belongs to one.
        try:
            inputs = self._arm(marked)
            if len(inputs) == 1:
                self._follow_one(inputs[0], revision, share)
            else:
                if share is not None:
                    revision = _within(share, inputs, revision)
                self._follow(sorted(self._steps(inputs, revision), key=_revision))
            self._is_broken = False
        except BaseException:
            self.dirty.update(marked)
            raise
        finally:
            if self._fed:
                self._tell_all()

    def _arm(self, marked: Iterable[Input]) -> list[Input]:
        """Hear of what comes next; give those of *marked* in which there is something to see."""
        inputs: list[Input] = []
        for source in marked:
            del self.dirty[source]
            # One that is not needed any more may have been marked before.
            if self._graph.inputs.get(source.slot) is source:
                source.arm()
                self._graph.plan(source)
                inputs.append(source)
        return inputs

    def _steps(self, inputs: Iterable[Input], revision: int) -> list[Step]:
        """List what there is to take in, input by input."""
        steps: list[Step] = []
        for source in inputs:
            cell = source.cell
            while (after := cell[NEXT]) is not None:
                cell = after
                if cell[REVISION] > revision:
                    self.dirty[source] = None
                    break
                steps.append((cell[REVISION], source, cell))
        return steps

    def _follow_one(self, source: Input, revision: int, share: int | None) -> None:
        """Take in what there is in one input: `_follow()`, without the order of several."""
        left = -1 if share is None else share
        while (cell := source.cell[NEXT]) is not None:
            if cell[REVISION] > revision or not left:
                self.dirty[source] = None
                break
            left -= 1
            self.revision = cell[REVISION]
            source.move_to(cell)
            self._compute(source.plan)

    def _follow(self, steps: Iterable[Step]) -> None:
        """Take in *steps*, commit by commit."""
        plan: list[Node] = []
        for revision, source, cell in steps:
            if revision != self.revision:
                self._compute(plan)
                self.revision, plan = revision, source.plan
            else:
                plan = self._graph.joint_plan(plan, source.plan)
            source.move_to(cell)
        self._compute(plan)

    def _compute(self, plan: list[Node]) -> None:
        """Have those of *plan* that were touched be what follows, each after its sources."""
        for node in plan:
            if not node.stale:
                continue
            node.stale = False
            before, value = node.value, node.compute()
            try:
                # Nothing follows the end of a member. The rest is `is_same()`, written out.
                if (
                    value is before
                    or type(before) is Removed
                    or (
                        type(value) is type(before)
                        and node.is_compared
                        and (value == before) is True
                    )
                ):
                    continue
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 -- as in call()
                value = Failed(is_same, (before, value), error)
            is_good = type(value) not in NO_VALUE
            if not is_good:
                dated(value, self.revision)
            node.value, node.revision = value, self.revision
            for dependent, places in node.audience:
                dependent.touch(places, before, value)
            if node.outlet is not None and (outlet := node.outlet()) is not None:
                if is_good:
                    # As `link()` would.
                    outlet._cell[NEXT] = outlet._cell = [value, self.revision, None]
                else:
                    outlet.link(value, self.revision)
                self._fed[outlet] = None

    def _link(self, node: Node) -> None:
        """Let what *node* has become at the revision at hand follow in its outlet. Repeatable."""
        outlet = outlet_of(node)
        if outlet is not None:
            if outlet._cell[REVISION] < self.revision:
                outlet.link(node.value, self.revision)
            self._fed[outlet] = None

    def _compute_anew(self) -> None:
        """Go on after an interrupt: do the revision at hand again."""
        self._graph.mend()
        for source in self._graph.inputs.values():
            source.stand_at(walk_to(source.cell, self.revision))
        for node in self._graph.in_order():
            node.stale = False
            node.reset()
            if node.revision == self.revision:
                self._link(node)
            elif node.revision < self.revision and any(
                source.revision == self.revision for source in node.sources
            ):
                node.stale = True
                self._compute([node])
        self._is_broken = False

    def _open(self, formula: Formula, opened: list[Outlet]) -> None:
        self._put_in_order()
        try:
            opened.append(self._outlet(self._build(formula)))
            self._is_broken = False
        except BaseException:
            # Among others, nodes that nobody listens to yet.
            self._is_broken = True
            self._graph.mend()
            raise

    def _build(self, formula: Formula) -> Node:
        """Give the node of *formula*; make it, and those that it needs, if it is not there."""
        order, inputs = self._graph.prepare(formula, self._make_input)
        for source in inputs:
            source.arm()
        revision, cells = self._read(source.slot for source in inputs)
        self._walk(revision)
        for source in inputs:
            source.stand_at(cells[source.slot])
        self._is_broken = True
        return self._graph.grow(formula, order)

    def _outlet(self, node: Node) -> Outlet:
        """Give the outlet of *node*; make it, if there is none."""
        outlet = outlet_of(node)
        if outlet is None:
            outlet = Outlet(self, node)
            outlet._reference = reference = OutletReference(outlet, self.drop)
            reference.node = node
            node.outlet = reference
            self._listened[node] = None
        outlet._holds.append(None)
        return outlet

    def drop(self, reference: OutletReference) -> None:
        """Hear that an outlet is gone, or that nobody follows it. From any thread, at any time."""
        # One that was left before has been dropped then.
        if reference.node.outlet is reference:
            self._dropped.append(reference)
            self._tidy()

    def _tidy(self) -> None:
        """Forget what nobody needs, now or soon."""
        try:
            self._if_free(self._put_in_order)
        except (KeyboardInterrupt, SystemExit):
            # It comes but once, and nobody else may ever look here again.
            self._if_free(self._put_in_order)
            raise

    def _prune(self) -> None:
        if self._is_broken:
            # Not from a graph that is not in order.
            return
        self._is_broken = True
        while self._dropped:
            reference = self._dropped[-1]
            node, outlet = reference.node, reference()
            if node.outlet is reference and not (outlet is not None and outlet._holds):
                node.outlet = None
                self._listened.pop(node, None)
                self._graph.remove(node)
            self._dropped.remove(reference)
        self._is_broken = False


def _within(share: int, inputs: Iterable[Input], revision: int) -> int:
    """Give a revision, at most *revision*, up to which no input has more steps than *share*."""
    for source in inputs:
        cell = source.cell
        for _ in range(share):
            after = cell[NEXT]
            if after is None or after[REVISION] >= revision:
                break
            cell = after
        else:
            revision = min(revision, cell[REVISION])
    return revision


def outlet_of(node: Node) -> Outlet | None:
    """Give the outlet of *node*, if somebody has it."""
    reference = node.outlet
    return None if reference is None else reference()
