"""Draw with Mermaid."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

S = TypeVar("S", bound=Hashable)


def state_diagram(
    states: Mapping[S, str],
    moves: Mapping[tuple[S, S], str],
    *,
    first: S,
    final: Collection[S] = (),
) -> str:
    """
    Draw a state diagram.

    Args:
        states: The states in order, and what to write in each.
        moves: From which state to which, and what to write beside that.
        first: The state to begin with.
        final: The states that are an end.
    """
    names = {state: f"s{number}" for number, state in enumerate(states)}
    lines = ["stateDiagram-v2"]
    lines += [f"    {names[state]}: {_escaped(text)}" for state, text in states.items()]
    lines.append(f"    [*] --> {names[first]}")
    for (old, new), label in moves.items():
        move = f"    {names[old]} --> {names[new]}"
        lines.append(f"{move}: {label}" if label else move)
    lines += [f"    {name} --> [*]" for state, name in names.items() if state in final]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Give *text* without what means something to Mermaid."""
    return "".join(c if c.isalnum() or c in " _.-'" else f"#{ord(c)};" for c in text)
