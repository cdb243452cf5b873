"""The benchmark runs, so that it is there when needed. What it measures is not judged."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "tests" / "benchmarks"
NEEDS_GIT = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="there are no other commits")


def run(*arguments: object) -> str:
    """Give what a run printed, which has to end well."""
    command = [sys.executable, str(BENCHMARKS), *map(str, arguments)]
    done = subprocess.run(  # noqa: S603 -- our own program
        command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )

    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


def found_by(*arguments: object) -> Any:
    """Give what a short run wrote."""
    with TemporaryDirectory() as directory:
        file = Path(directory) / "found.json"
        run("--smoke", "--without-peers", "--rounds", 1, "--json", file, *arguments)
        return json.loads(file.read_text(encoding="utf-8"))


@cache
def smoke() -> Any:
    """Give what a short run of everything found."""
    return found_by()


def rows() -> list[dict[str, Any]]:
    """Give all rows of it."""
    found: list[dict[str, Any]] = smoke()["rows"]
    return found


def test_every_workload_of_the_table_is_measured() -> None:
    """A short run has rows of all groups, each with a figure of ours; none costs nothing."""
    groups = [f"W{number}" for number in range(1, 11)]
    ours = smoke()["ours"]

    assert [*groups, "callback", "values", "latency", "growth"] == list(
        dict.fromkeys(row["group"] for row in rows())
    )
    for row in rows():
        medians = {name: figures["median"] for name, figures in row["figures"].items()}
        assert set(ours) & set(medians), row["name"]
        # A check is a difference, which may be too small to be seen.
        assert all(median > 0 for median in medians.values()) or row["group"] == "values"


def test_every_ratio_has_its_limit() -> None:
    """Each row with a goal that is a ratio has a figure of the limit."""
    without = [
        row["name"]
        for row in rows()
        if row["goal"] is not None and not row["is_absolute"] and "limit" not in row["figures"]
    ]

    assert [] == without


def test_ours_can_do_everything() -> None:
    """Nothing of ours fails, and none of it has a dash."""
    assert {} == {row["name"]: row["dashes"] for row in rows() if row["dashes"]}


def test_ours_gives_exactly_what_follows() -> None:
    """What is derived misses nothing and gives nothing else, whoever sets."""
    derived = [figures for row in rows() for figures in row["figures"].values()]

    assert {(0, 0)} == {(figures["missed"], figures["wrong"]) for figures in derived}
    assert {"all, in order"} == set(smoke()["threads"].values())


@NEEDS_GIT
def test_another_commit_is_measured_beside_ours() -> None:
    """With `--compare`, each figure of ours has its counterpart of that commit."""
    found = found_by("--only", "W1", "--compare", "HEAD")

    (row,) = found["rows"]
    assert {f"{name} at HEAD" for name in found["ours"]} <= set(found["compared"])
    assert {"limit", "statestore", "statestore at HEAD"} <= set(row["figures"])


def test_results_are_shown_side_by_side_and_drawn(tmp_path: Path) -> None:
    """`--show` makes one column of each file, `--plot` two pictures."""
    file, picture = tmp_path / "found.json", tmp_path / "found.svg"
    file.write_text(json.dumps(smoke()), encoding="utf-8")

    shown = run("--show", file, file, "--plot", picture)

    columns = [cell.strip() for cell in shown.splitlines()[0].strip("|").split("|")]
    assert columns == ["workload", "goal", *columns[2:3] * 2]
    assert re.search(r"^\| W1 set, nobody listening +\| 2\.5 x +\| [\d.]+ x", shown, re.MULTILINE)
    assert {"found.json", "found.svg", "found-growth.svg"} == {
        path.name for path in tmp_path.iterdir()
    }
