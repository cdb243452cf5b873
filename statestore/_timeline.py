"""Show a recording to people: lines of text, a picture, a diagram."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, Final, NamedTuple

from statestore._diagrams import state_diagram
from statestore._history import History, Move
from statestore._journal import Origin
from statestore._lifecycle import Lifecycle
from statestore._records import ABSENT
from statestore._text import spell

WIDTH: Final = 30
"""How many characters of a value are shown."""


class Visit(NamedTuple):
    """A value that a key had, from a second of the clock to another; None if that is not known."""

    value: Any
    begin: float | None
    end: float | None


def line_of(revision: int, origin: Origin, moves: Iterable[Move]) -> str:
    """Say in one line what a commit changed, who made it, and why."""
    changes = ", ".join(
        f"{move.name}: {spell(move.old, WIDTH)} -> {spell(move.new, WIDTH)}" for move in moves
    )
    parts = [f"revision {revision}: {changes}; {_clock_time(origin.time)} by {origin.setter}"]
    if origin.reason is not None:
        parts.append(f"because {origin.reason}")
    parts += [f"{name}={spell(value, WIDTH)}" for name, value in origin.context.items()]
    return ", ".join(parts)


def _clock_time(seconds: float) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{int(seconds % 1 * 1000):03}"


def as_text(history: History, names: Sequence[str], first: Mapping[str, Any]) -> str:
    """Give a lane for each of *names*, and a line for each commit that changes one of them."""
    rows = [["revision", "seconds", *names, "by"]]
    rows.append([str(history.since), "", *(spell(first[name], WIDTH) for name in names), ""])
    start = history.commits[0].origin.clock if history.commits else 0.0
    for commit in history.commits:
        new = {move.name: spell(move.new, WIDTH) for move in commit.moves}
        if new.keys() & set(names):
            seconds = f"{commit.origin.clock - start:.3f}"
            lanes = [new.get(name, "|") for name in names]
            rows.append([str(commit.revision), seconds, *lanes, commit.origin.setter])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _visits(history: History, name: str, first: Any) -> list[Visit]:
    """Give all values that a key had, in order."""
    values, times = [first], list[float]()
    for commit in history.commits:
        for move in commit.moves:
            if move.name == name:
                values.append(move.new)
                times.append(commit.origin.clock)
    return [Visit(*three) for three in zip(values, [None, *times], [*times, None], strict=True)]


def as_mermaid(history: History, name: str, first: Any) -> str:
    """Give a state diagram of the moves that a key has made, over those that it may make."""
    lifecycle = history.lifecycle_of(name)
    runs = _runs(_visits(history, name, first), lifecycle)
    moves: dict[tuple[str, str], list[float | None]] = {}
    for (old, begin), (new, end) in pairwise(runs):
        lasted = None if begin is None or end is None else end - begin
        moves.setdefault((old, new), []).append(lasted)
    made = {move: _how_often(times) for move, times in moves.items()}
    states, declared, final = _declared(lifecycle)
    states = list(dict.fromkeys((*states, *(text for text, _ in runs))))
    return state_diagram(
        dict(zip(states, states, strict=True)),
        dict.fromkeys(declared, "never") | made,
        first=runs[0][0],
        final=final,
    )


def _runs(
    visits: Iterable[Visit], lifecycle: Lifecycle[Any] | None
) -> list[tuple[str, float | None]]:
    """Give the states that *visits* went through, in words, and when each began."""
    runs: list[tuple[str, float | None]] = []
    for value, begin, _ in visits:
        state = value if lifecycle is None or value is ABSENT else lifecycle.state_of(value)
        text = spell(state, WIDTH)
        # With `by`, several values in a row may be in one state.
        if lifecycle is None or not runs or runs[-1][0] != text:
            runs.append((text, begin))
    return runs


def _declared(
    lifecycle: Lifecycle[Any] | None,
) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """Give the states, moves and final states of *lifecycle*, in words."""
    if lifecycle is None:
        return [], [], []
    texts = {state: spell(state, WIDTH) for state in lifecycle.moves}
    moves = [(texts[old], texts[new]) for old, after in lifecycle.moves.items() for new in after]
    return list(texts.values()), sorted(moves), [texts[state] for state in lifecycle.final]


def _how_often(times: Sequence[float | None]) -> str:
    known = [seconds for seconds in times if seconds is not None]
    often = "once" if len(times) == 1 else f"{len(times)} times"
    return f"{often}, after {fmean(known):.3f} s" if known else often


def draw(
    history: History,
    names: Sequence[str],
    first: Mapping[str, Any],
    path: str | os.PathLike[str],
) -> None:
    """Draw a lane for each of *names* into a file."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 -- comes with an extra
    except ModuleNotFoundError as error:
        msg = "a picture needs matplotlib: pip install 'statestore[plots]'"
        raise ModuleNotFoundError(msg) from error
    clocks = [commit.origin.clock for commit in history.commits] or [0.0]
    start, end = clocks[0], clocks[-1]
    margin = (end - start) / 20 or 1.0
    # What matplotlib says of its types is not all that a strict checker wants to know.
    figure: Any = Figure(figsize=(10, 1 + 0.6 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    for lane, name in enumerate(names):
        colors: dict[str, str] = {}
        for value, begin, until in _visits(history, name, first[name]):
            if value is ABSENT:
                continue
            left = (start - margin if begin is None else begin) - start
            right = (end + margin if until is None else until) - start
            text = spell(value, WIDTH)
            color = colors.setdefault(text, f"C{len(colors) % 10}")
            axes.broken_barh([(left, right - left)], (lane - 0.4, 0.8), facecolors=color, alpha=0.6)
            axes.text(left, lane, f" {text}", va="center", fontsize="small", clip_on=True)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("seconds since the first commit")
    axes.set_title(history.title)
    figure.savefig(path)
