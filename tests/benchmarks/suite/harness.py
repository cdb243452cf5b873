"""
Measure all workloads with all contenders, and keep what was found.

Contenders take turns within each round (A B C A B C, not always the same one first), so that a
noisy machine is noisy to all of them alike; the figures are medians over the rounds, and what
counts is their ratios. Nothing is collected while something is timed, whoever is measured; between
two samples everything is.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from suite import (
    asyncio_peers,
    callback_peers,
    derived,
    growth,
    latency,
    memory,
    queue_peers,
    streams,
    trio_peer,
    values,
    waits,
)
from suite.contender import Contender
from suite.limit import Limit
from suite.ours import Statestore, ours
from suite.revisions import package_at
from suite.workload import LostError, Row, Sizes, Workload

PEERS: Final[Sequence[Any]] = (
    *queue_peers.KINDS,
    *asyncio_peers.KINDS,
    *trio_peer.KINDS,
    *callback_peers.KINDS,
)

PACKAGES: Final = (
    "aiologic",
    "asyncio-multisubscriber-queue",
    "inngest",
    "param",
    "psygnal",
    "reactivex",
    "reaktiv",
    "traitlets",
    "trio",
    "trio-util",
    "uvloop",
)

Result = dict[str, Any]
"""What was found, as it stands in the JSON."""

GROUPS: Final = (
    *(f"W{number}" for number in range(1, 11)),
    "callback",
    "values",
    "latency",
    "growth",
)


def catalog(sizes: Sizes, only: Sequence[str] = ()) -> list[Workload]:
    """Give all workloads, or those of the groups *only*."""
    every = [
        *waits.WORKLOADS,
        *streams.WORKLOADS,
        *derived.WORKLOADS,
        *memory.WORKLOADS,
        *values.WORKLOADS,
        *latency.WORKLOADS,
        *growth.workloads(sizes),
    ]
    every.sort(key=lambda workload: GROUPS.index(workload.group))
    return [workload for workload in every if not only or workload.group in only]


def contenders(
    compared: Iterable[str] = (), *, with_peers: bool = True, say: Callable[[str], None] = print
) -> list[Contender]:
    """Give those that are installed."""
    found: list[Contender] = [Limit(), *ours(importlib.import_module("statestore"))]
    for revision in compared:
        found.extend(ours(package_at(revision), revision))
    for kind in PEERS if with_peers else ():
        try:
            found.append(kind())
        except ImportError as error:
            say(f"{kind.name} is left out: the package {error.name} is not installed")
    return found


def use_loop(name: str) -> None:
    """
    Have all run on another loop than asyncio's own. trio has its own.

    Raises:
        ImportError: The package is not installed.
    """
    if name != "asyncio":
        Contender.new_loop = importlib.import_module(name).new_event_loop


def run(
    chosen: Sequence[Workload], everyone: Sequence[Contender], sizes: Sizes, rounds: int
) -> Result:
    """Measure everything."""
    rows = {row.name: new_row(workload, row) for workload in chosen for row in workload.rows}
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for turn in range(rounds):
            for workload in chosen:
                if turn < (workload.rounds or rounds):
                    report(f"round {turn + 1} of {rounds}: {workload.group} {workload.name}")
                    measure(workload, everyone, sizes, turn, rows)
    finally:
        gc.enable()
        gc.unfreeze()
    for row in rows.values():
        for figures in row["figures"].values():
            figures["median"] = statistics.median(figures["samples"])
    return {"environment": environment(rounds), "rows": list(rows.values())} | about(
        everyone, chosen
    )


def measure(
    workload: Workload,
    everyone: Sequence[Contender],
    sizes: Sizes,
    turn: int,
    rows: dict[str, Any],
) -> None:
    """Have everyone do a workload once, and note what is found."""
    first = rows[workload.rows[0].name]
    takers = [each for each in everyone if takes_part(each, workload)]
    start = turn % len(takers) if takers else 0
    for contender in (*takers[start:], *takers[:start]):
        if contender.name in first["dashes"]:
            continue
        reason = next(filter(None, map(contender.why_not, workload.needs)), None)
        if reason is None:
            try:
                note(contender, workload, sizes, rows)
            except LostError as error:
                reason = str(error)
            except Exception as error:
                reason = f"it fails: {type(error).__name__}: {error}"
        if reason is not None:
            for row in workload.rows:
                rows[row.name]["dashes"][contender.name] = reason
                rows[row.name]["figures"].pop(contender.name, None)
        gc.collect()


def note(contender: Contender, workload: Workload, sizes: Sizes, rows: dict[str, Any]) -> None:
    """Take one sample."""
    for name, figure in workload.measure(contender, sizes).items():
        kept = rows[name]["figures"].setdefault(
            contender.name, {"samples": [], "missed": 0, "wrong": 0}
        )
        kept["samples"].append(figure.value)
        kept["missed"] = max(kept["missed"], figure.missed)
        kept["wrong"] = max(kept["wrong"], figure.wrong)


def takes_part(contender: Contender, workload: Workload) -> bool:
    """Tell whether a contender is to be measured."""
    if workload.ours_only:
        return type(contender) is Statestore
    first = workload.rows[0].name
    return contender.only is None or any(first.startswith(prefix) for prefix in contender.only)


def new_row(workload: Workload, row: Row) -> dict[str, Any]:
    """Give a row without figures."""
    return {
        "group": workload.group,
        **row._asdict(),
        "promises": sorted(workload.promises),
        "figures": {},
        "dashes": {},
    }


def about(everyone: Sequence[Contender], chosen: Sequence[Workload]) -> Result:
    """Say what the contenders promise; try what those that derive give to threads."""
    takers = {
        each.name: each
        for workload in chosen
        for each in everyone
        if workload.group == "W7" and takes_part(each, workload) and each.name != Limit.name
    }
    judged = {name: derived.judge_threads(each) for name, each in takers.items()}
    return {
        "gaps": {each.name: sorted(each.gaps) for each in everyone},
        "ours": [each.name for each in everyone if each.is_ours],
        "compared": [
            each.name for each in everyone if isinstance(each, Statestore) and not each.is_ours
        ],
        "threads": {name: said for name, said in judged.items() if said},
    }


def environment(rounds: int) -> Result:
    """Say what it was measured with."""
    new_loop = Contender.new_loop
    return {
        "python": platform.python_version(),
        "system": sys.platform,
        "loop": "asyncio" if new_loop is None else new_loop.__module__,
        "compiled": not str(importlib.import_module("statestore._core").__file__).endswith(".py"),
        "rounds": rounds,
        "versions": {name: version for name in PACKAGES if (version := version_of(name))},
    }


def version_of(name: str) -> str | None:
    """Give the version of a package that is installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def report(what: str) -> None:
    """Tell whoever looks what is being measured."""
    if sys.stderr.isatty():
        print(what, file=sys.stderr)
