"""Show what was found, as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from suite.derived import THREADS_ARE_FINE
from suite.harness import Result
from suite.limit import Limit
from suite.ours import OURS

LIMIT: Final = Limit.name


class Best(NamedTuple):
    """The quickest of some contenders."""

    name: str
    median: float


def table(result: Result) -> str:
    """Give all that is in one result."""
    rows = [row for row in result["rows"] if row["curve"] is None]
    parts = [heading(result)]
    parts.extend(details(row, result) for row in rows)
    if result["threads"]:
        parts.append(threads(result))
    if curves := curves_of(result):
        parts.append(growth(curves))
    if rows:
        parts.append(summary(rows, result))
    return "\n\n".join(parts)


def heading(result: Result) -> str:
    """Say what it was measured with."""
    around = result["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in around["versions"].items())
    return (
        f"Python {around['python']}, {around['system']}, {around['loop']}{twin_in(result)}; "
        f"medians of {around['rounds']} rounds\n{versions or 'no peers are installed'}"
    )


def twin_in(result: Result) -> str:
    """Say whether it is the compiled twin that was measured."""
    return ", compiled" if result["environment"].get("compiled") else ""


def amount(value: float, unit: str) -> str:
    """Write a figure."""
    if unit == "B":
        return f"{value:,.1f} B" if value < 1_000 else f"{value / 1_000:,.2f} kB"
    for size, name in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if value >= size * 0.9995:
            return f"{value / size:,.2f} {name}"
    return f"{value:,.0f} ns"


def times(value: float, other: float | None) -> str:
    """Write a ratio."""
    if not other:
        return "-"
    ratio = value / other
    if ratio < 0.1:
        return f"{ratio:.1g}"
    return f"{ratio:,.2f}" if ratio < 100 else f"{ratio:,.0f}"


def details(row: dict[str, Any], result: Result) -> str:
    """Show one row with all contenders."""
    medians = {name: figures["median"] for name, figures in row["figures"].items()}
    limit = medians.get(LIMIT)
    ours = best(row, result["ours"])
    lines = [f"{row['name']:52}{'':>12}{'x limit':>10}{'x ours':>10}"]
    for name, median in medians.items():
        ratios = f"{times(median, limit):>10}{times(median, ours and ours.median):>10}"
        figure = amount(median, row["unit"])
        lines.append(f"  {name:50}{figure:>12}{ratios}  {said(name, row, result)}".rstrip())
    lines.extend(f"  {name:50}{'-':>12}  {reason}" for name, reason in row["dashes"].items())
    return "\n".join(lines)


def said(name: str, row: dict[str, Any], result: Result) -> str:
    """Say which promises are not kept, those that matter here."""
    figures = row["figures"][name]
    found = [gap for gap in result["gaps"].get(name, ()) if gap in row["promises"]]
    if figures["missed"]:
        found.append(f"missed {figures['missed']:,}")
    if figures["wrong"]:
        found.append(f"{figures['wrong']:,} that never were")
    threads = result["threads"].get(name, THREADS_ARE_FINE)
    if row["group"] == "W7" and "one listener" in row["name"] and threads != THREADS_ARE_FINE:
        found.append(f"threads: {threads}")
    return ", ".join(found)


def best(row: dict[str, Any], names: Iterable[str]) -> Best | None:
    """Give the quickest of those named that lost nothing."""
    figures = row["figures"]
    complete = [
        Best(name, figures[name]["median"])
        for name in names
        if name in figures and not (figures[name]["missed"] or figures[name]["wrong"])
    ]
    return min(complete, key=lambda each: each.median, default=None)


def peers_of(row: dict[str, Any], result: Result) -> list[str]:
    """Name all who are neither ours nor the limit."""
    others = {LIMIT, *result["ours"], *result["compared"]}
    return [name for name in row["figures"] if name not in others]


def threads(result: Result) -> str:
    """Show what arrived when threads set what something is derived from."""
    lines = [f"  {name:50}{said}" for name, said in result["threads"].items()]
    return "\n".join(["W7: what arrives when four threads set", *lines])


def curves_of(result: Result) -> dict[str, list[dict[str, Any]]]:
    """Give the rows of each curve."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in result["rows"]:
        if row["curve"] is not None:
            curves.setdefault(row["curve"], []).append(row)
    return curves


def growth(curves: dict[str, list[dict[str, Any]]]) -> str:
    """Show how cost grows, as a table of Markdown."""
    places = sorted({row["x"] for rows in curves.values() for row in rows})
    columns = ["each operation", *(f"{place:,}" for place in places), "last / first"]
    lines = []
    for name, rows in curves.items():
        at = {row["x"]: row["figures"] for row in rows}
        for contender in rows[0]["figures"]:
            medians = [at[x][contender]["median"] if x in at else None for x in places]
            known = [median for median in medians if median is not None]
            cells = ["" if median is None else amount(median, "ns") for median in medians]
            whose = "" if contender == OURS else f" ({contender})"
            lines.append([name + whose, *cells, times(known[-1], known[0])])
    return markdown(columns, lines)


COLUMNS: Final = (
    "workload",
    "limit",
    "ours",
    "x limit",
    "goal",
    "met",
    "quickest peer",
    "ours x that",
    "quickest with the same promises",
    "ours x that",
)


def summary(rows: Sequence[dict[str, Any]], result: Result) -> str:
    """Show ours beside the goals and the quickest peers, as a table of Markdown."""
    return markdown(COLUMNS, [line for row in rows if (line := verdict(row, result))])


def verdict(row: dict[str, Any], result: Result) -> list[str] | None:
    """Give the line of one row, if ours was measured."""
    ours = best(row, result["ours"])
    if ours is None:
        return None
    limit = row["figures"].get(LIMIT, {}).get("median")
    peers = peers_of(row, result)
    faithful = [name for name in peers if not said(name, row, result)]
    return [
        row["name"],
        "-" if limit is None else amount(limit, row["unit"]),
        amount(ours.median, row["unit"]),
        times(ours.median, limit),
        goal_of(row),
        met(row, ours.median, limit),
        *quickest(ours, best(row, peers), lambda name: said(name, row, result)),
        *quickest(ours, best(row, faithful), lambda _: ""),
    ]


def goal_of(row: dict[str, Any]) -> str:
    """Write the goal."""
    if row["goal"] is None:
        return "-"
    return amount(row["goal"], row["unit"]) if row["is_absolute"] else f"{row['goal']:g} x"


def met(row: dict[str, Any], median: float, limit: float | None) -> str:
    """Say whether the goal is met."""
    if row["goal"] is None or not (row["is_absolute"] or limit):
        return "-"
    return "yes" if median <= row["goal"] * (1 if row["is_absolute"] else limit or 0) else "no"


def quickest(ours: Best, peer: Best | None, gaps: Callable[[str], str]) -> tuple[str, str]:
    """Write the quickest peer, and ours as a multiple of it."""
    if peer is None:
        return "none does it", "-"
    why = gaps(peer.name)
    return peer.name + (f" ({why})" if why else ""), times(ours.median, peer.median)


def side_by_side(results: Sequence[Result]) -> str:
    """Show ours as a multiple of the limit, or by itself where there is none, in each result."""
    titles = [
        f"{each['environment']['python']}, {each['environment']['loop']}{twin_in(each)}"
        for each in results
    ]
    by_name = [{row["name"]: row for row in each["rows"]} for each in results]
    names = list(dict.fromkeys(name for rows in by_name for name in rows))
    lines = []
    for name in names:
        row = next(rows[name] for rows in by_name if name in rows)
        cells = [cell(rows.get(name), each) for rows, each in zip(by_name, results, strict=True)]
        lines.append([name, goal_of(row), *cells])
    return markdown(("workload", "goal", *titles), lines)


def cell(row: dict[str, Any] | None, result: Result) -> str:
    """Write what ours reached in one result."""
    ours = None if row is None else best(row, result["ours"])
    if row is None or ours is None:
        return "-"
    limit = row["figures"].get(LIMIT, {}).get("median")
    if row["is_absolute"] or limit is None:
        text = amount(ours.median, row["unit"])
    else:
        text = f"{times(ours.median, limit)} x"
    return text + (" (missed)" if met(row, ours.median, limit) == "no" else "")


def markdown(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Write a table of Markdown."""
    every = [columns, ["-" * 3] * len(columns), *lines]
    widths = [max(len(line[place]) for line in every) for place in range(len(columns))]
    return "\n".join(
        "| "
        + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        + " |"
        for line in every
    )
