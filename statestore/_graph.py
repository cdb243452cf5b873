"""
Know which formulas a network computes, and which of them depend on which.

What says so is the formulas themselves: the dependents of each origin, and which node computes a
part of a run, follow from the nodes that there are. So whatever an interrupt leaves half done can
be put in order again (`mend()`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import chain
from operator import attrgetter
from typing import Final, cast, final

from statestore._core import Slot
from statestore._formulas import Formula, Mapped, Source, closure_of
from statestore._nodes import Input, MapNode, Node, Origin, node_of


@final
class Graph:
    """The inputs and nodes of one network."""

    __slots__ = ("_version", "fused", "inputs", "nodes")

    def __init__(self) -> None:
        # Changes with what there is.
        self._version = 0
        self.inputs: dict[Slot, Input] = {}
        self.nodes: dict[Formula, Node] = {}
        # Formulas without a node of their own, and the node in which they are computed.
        self.fused: dict[Formula, MapNode] = {}

    def in_order(self) -> list[Node]:
        """List all nodes, each after its sources."""
        return sorted(self.nodes.values(), key=_depth)

    def plan(self, source: Input) -> list[Node]:
        """List all that depends on *source*, each after its sources."""
        if source.version != self._version:
            found: dict[Node, None] = {}
            ahead: list[Origin] = [source]
            while ahead:
                origin = ahead.pop()
                origin.audience = list(origin.dependents.items())
                for node in origin.dependents:
                    if node not in found:
                        found[node] = None
                        ahead.append(node)
            source.plan = sorted(found, key=_depth)
            source.version = self._version
        return source.plan

    def joint_plan(self, *plans: list[Node]) -> list[Node]:
        """List all that is in one of *plans*, each after its sources."""
        return sorted(dict.fromkeys(chain(*plans)), key=_depth)

    def prepare(
        self, formula: Formula, make_input: Callable[[Slot], Input]
    ) -> tuple[list[Formula], list[Input]]:
        """Give the formulas that need a node, to have one for *formula*, and the new inputs."""
        if self._has(formula):
            return [], []
        order, slots = closure_of(formula, self._has)
        new = {slot: make_input(slot) for slot in slots if slot not in self.inputs}
        self.inputs |= new
        return order, list(new.values())

    def grow(self, formula: Formula, order: list[Formula]) -> Node:
        """Make the nodes of *order*, whose inputs stand at one place; give that of *formula*."""
        self._version += 1
        for run in _runs(order):
            node = node_of(run[-1])
            if isinstance(node, MapNode):
                node.parts = cast("list[Mapped]", run)
                self.fused.update(dict.fromkeys(node.parts[:-1], node))
            node.sources = [self._origin(source) for source in node.needs]
            self.nodes[node.formula] = node
            node.attach()
            node.start()
        return self._find(formula)

    def remove(self, node: Node) -> None:
        """Forget *node* and all that only it needed, as far as nobody needs it."""
        self._version += 1
        ahead: list[Origin] = [node]
        while ahead:
            origin = ahead.pop()
            if isinstance(origin, Input) and not origin.dependents:
                origin.disarm()
                # Nothing that is left over refers to each other.
                origin.plan = []
                self.inputs.pop(origin.slot, None)
            elif isinstance(origin, Node) and not origin.is_needed:
                self.nodes.pop(origin.formula, None)
                if isinstance(origin, MapNode):
                    for part in origin.parts[:-1]:
                        self.fused.pop(part, None)
                sources, origin.sources = dict.fromkeys(origin.sources), []
                origin.audience = []
                for source in sources:
                    source.dependents.pop(origin, None)
                    source.audience = []
                    ahead.append(source)

    def mend(self) -> None:
        """Put in order what an interrupt left half done, and forget what nobody needs."""
        self._version += 1
        runs = [node for node in self.nodes.values() if isinstance(node, MapNode)]
        self.fused = {part: node for node in runs for part in node.parts[:-1]}
        for origin in (*self.inputs.values(), *self.nodes.values()):
            origin.dependents = {}
        for node in self.nodes.values():
            node.sources = [self._origin(source) for source in node.needs]
            node.attach()
        for node in reversed(self.in_order()):
            self.remove(node)
        for slot, source in self.inputs.copy().items():
            if not source.dependents:
                source.disarm()
                del self.inputs[slot]

    def _has(self, formula: Formula) -> bool:
        return formula in self.nodes or formula in self.fused

    def _origin(self, source: Source) -> Origin:
        return self.inputs[source] if isinstance(source, Slot) else self._find(source)

    def _find(self, formula: Formula) -> Node:
        host = self.fused.get(formula)
        return self.nodes[formula] if host is None else self._split(host, formula)

    def _split(self, host: MapNode, formula: Formula) -> Node:
        """Give *formula*, which is computed inside of *host*, a node of its own."""
        self._version += 1
        count = 1 + host.parts.index(cast("Mapped", formula))
        node = MapNode(host.parts[count - 1])
        node.parts, node.sources = host.parts[:count], host.sources
        node.start()
        self.nodes[formula] = node
        # From here on *host* is what is left of it.
        host.parts = host.parts[count:]
        for part in node.parts:
            self.fused[part] = node
        del self.fused[formula]
        for source in host.sources:
            source.dependents.pop(host, None)
        host.sources = [node]
        node.attach()
        host.attach()
        host.reset()
        return node


_depth: Final = attrgetter("depth")


def _runs(order: list[Formula]) -> list[list[Formula]]:
    """Give *order* in runs that can be one node each: maps of maps that nobody else needs."""
    uses = Counter(source for formula in order for source in formula.sources)
    runs: dict[Source, list[Formula]] = {}
    for formula in order:
        source = formula.sources[0]
        run: list[Formula] = []
        if type(formula) is Mapped and type(source) is Mapped and uses[source] == 1:
            run = runs.pop(source, run)
        runs[formula] = run
        run.append(formula)
    return list(runs.values())
