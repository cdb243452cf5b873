"""Draw what was found: ours and the peers beside the limit, and a curve for each kind of growth."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from suite.harness import Result
from suite.tables import LIMIT, best, curves_of, peers_of


def draw(result: Result, path: Path) -> None:
    """
    Write the ratios to *path*, and the growth to a file beside it with `-growth` in its name.

    Raises:
        ModuleNotFoundError: The extra `plots` is not installed.
    """
    try:
        figure = importlib.import_module("matplotlib.figure").Figure
        context = importlib.import_module("matplotlib").rc_context
    except ModuleNotFoundError as error:
        msg = "plots need matplotlib: install the extra 'plots'"
        raise ModuleNotFoundError(msg, name=error.name) from error
    rows = [row for row in result["rows"] if LIMIT in row["figures"] and row["curve"] is None]
    # Letters as text, which is a tenth of their outlines.
    with context({"svg.fonttype": "none"}):
        if rows:
            draw_ratios(figure, rows, result, path)
        if curves := curves_of(result):
            draw_growth(figure, curves, path.with_stem(f"{path.stem}-growth"))


def draw_ratios(figure: Any, rows: list[dict[str, Any]], result: Result, path: Path) -> None:
    """Draw a line for each row: ours, the goal and all peers, as multiples of the limit."""
    page = figure(figsize=(10, 1 + len(rows) * 0.32), layout="constrained")
    axes = page.add_subplot()
    for height, row in enumerate(rows):
        limit = row["figures"][LIMIT]["median"]
        others = [row["figures"][name]["median"] / limit for name in peers_of(row, result)]
        axes.plot(others, [height] * len(others), "o", color="0.7", label=once("peers", height))
        if row["goal"] is not None:
            goal = row["goal"] / (limit if row["is_absolute"] else 1)
            axes.plot([goal], [height], "|", color="tab:red", ms=14, label=once("goal", height))
        if (ours := best(row, result["ours"])) is not None:
            label = once("statestore", height)
            axes.plot([ours.median / limit], [height], "D", color="tab:blue", label=label)
    axes.axvline(1, color="0.3", lw=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("times the limit")
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.invert_yaxis()
    axes.legend(loc="upper right")
    page.savefig(path, dpi=120)


def once(label: str, height: int) -> str | None:
    """Give the label for the legend, which shows each but once."""
    return None if height else label


def draw_growth(figure: Any, curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw each curve in a field of its own."""
    columns = 3
    lines = -(-len(curves) // columns)
    page = figure(figsize=(4.5 * columns, 2.8 * lines), layout="constrained")
    for place, (name, rows) in enumerate(curves.items(), 1):
        axes = page.add_subplot(lines, columns, place)
        for contender in rows[0]["figures"]:
            medians = [row["figures"][contender]["median"] / 1_000 for row in rows]
            axes.plot([row["x"] for row in rows], medians, "o-", label=contender)
        axes.set(xscale="log", yscale="log", title=name, ylabel="µs each")
        axes.minorticks_off()
        axes.title.set_fontsize(9)
        low, high = axes.get_ylim()
        # A decade at least, so that noise does not look like growth.
        axes.set_ylim(min(low, high / 30), max(high, low * 30))
    page.savefig(path, dpi=120)
