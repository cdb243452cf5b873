"""The benchmarks run, so that they are there when needed. What they measure is not judged."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parent / "benchmarks"


def result_of(script: str, tmp_path: Path) -> Any:
    """Give what a short run of *script* wrote, which has to end well."""
    file = tmp_path / "found.json"
    command = [sys.executable, str(BENCHMARKS / script), "--rounds", "1"]
    done = subprocess.run(  # noqa: S603 -- our own program
        [*command, "--json", str(file)], capture_output=True, text=True, timeout=120, check=False
    )

    assert (0, "") == (done.returncode, done.stderr)
    return json.loads(file.read_text(encoding="utf-8"))


def test_set_cost_measures_every_contender(tmp_path: Path) -> None:
    """A short run ends well and has a figure above nothing for each contender and workload."""
    medians = result_of("set_cost.py", tmp_path)

    assert {"set, nobody listening", "set, one waiting task"} == set(medians)
    for by_name in medians.values():
        assert {"limit", "statestore, alone", "statestore, in a store"} <= set(by_name)
        assert all(median > 0 for median in by_name.values())


def test_derived_cost_finds_that_ours_gives_exactly_what_follows(tmp_path: Path) -> None:
    """A short run has a figure for each workload; ours miss nothing and give nothing else."""
    found = result_of("derived_cost.py", tmp_path)

    shapes = ["chain of 10 maps", "combine of 10", "diamond", "all_of over 1,000"]
    workloads = [
        f"{shape}, {who}" for shape in shapes for who in ("one listener", "nobody listening")
    ]
    assert workloads == list(found["workloads"])
    ours = {"statestore, on_change", "statestore, subscribe", "statestore, values"}
    for rows in found["workloads"].values():
        assert ours | {"limit"} <= set(rows)
        assert all(row["nanoseconds"] > 0 for row in rows.values())
        assert [(0, 0)] * 3 == [(rows[name]["missed"], rows[name]["wrong"]) for name in ours]
    assert ["all, in order"] * 3 == [found["threads"][name] for name in ours]


def test_seeing_cost_measures_every_way_to_look(tmp_path: Path) -> None:
    """A short run has a figure for each workload, looked at or not."""
    medians = result_of("seeing_cost.py", tmp_path)

    assert 3 == len(medians)
    for by_name in medians.values():
        assert ["nobody looks", "logged to a null logger", "recorded"] == list(by_name)
        assert all(median > 0 for median in by_name.values())
