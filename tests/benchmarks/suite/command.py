"""The command line."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from suite.harness import GROUPS, Result, catalog, contenders, run, use_loop
from suite.plots import draw
from suite.tables import side_by_side, table
from suite.workload import LARGE, SIZES, SMOKE


def main(given: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    arguments = parser().parse_args(given)
    if arguments.show:
        results = [json.loads(Path(name).read_text(encoding="utf-8")) for name in arguments.show]
        print(side_by_side(results) if len(results) > 1 else table(results[0]))
    else:
        results = [measured(arguments)]
        print(table(results[0]))
    if arguments.json is not None:
        Path(arguments.json).write_text(json.dumps(results[0], indent=1), encoding="utf-8")
    if arguments.plot is not None:
        draw(results[0], Path(arguments.plot))


def parser() -> argparse.ArgumentParser:
    """Say what can be asked for."""
    made = argparse.ArgumentParser(
        prog="python tests/benchmarks",
        description="Measure this library beside its peers, and beside the cheapest code.",
    )
    made.add_argument("--rounds", type=int, default=7)
    made.add_argument("--only", type=groups, default=(), help="some of: " + ",".join(GROUPS))
    made.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    made.add_argument(
        "--compare", metavar="REVISION", action="append", default=[], help="measure it beside ours"
    )
    made.add_argument("--without-peers", action="store_true", help="only the limit and ours")
    size = made.add_mutually_exclusive_group()
    size.add_argument("--large", action="store_true", help="growth to 1,000,000 keys")
    size.add_argument("--smoke", action="store_true", help="do next to nothing: does it run?")
    made.add_argument("--json", metavar="FILE", help="write what was found")
    made.add_argument("--plot", metavar="FILE", help="draw it; its form by the ending")
    made.add_argument("--show", metavar="FILE", nargs="+", help="show what was found before")
    return made


def groups(text: str) -> list[str]:
    """
    Read names of groups.

    Raises:
        argparse.ArgumentTypeError: There is no such group.
    """
    names = text.split(",")
    for name in names:
        if name not in GROUPS:
            msg = f"there is no {name!r}; there are {', '.join(GROUPS)}"
            raise argparse.ArgumentTypeError(msg)
    return names


def measured(arguments: argparse.Namespace) -> Result:
    """Measure what is asked for."""
    use_loop(arguments.loop)
    sizes = LARGE if arguments.large else SMOKE if arguments.smoke else SIZES
    everyone = contenders(arguments.compare, with_peers=not arguments.without_peers)
    return run(catalog(sizes, arguments.only), everyone, sizes, arguments.rounds)
