"""The benchmarks run, so that they are there when needed. What they measure is not judged."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent / "benchmarks"


def test_set_cost_measures_every_contender(tmp_path: Path) -> None:
    """A short run ends well and has a figure above nothing for each contender and workload."""
    file = tmp_path / "medians.json"
    command = [sys.executable, str(BENCHMARKS / "set_cost.py"), "--rounds", "1"]
    done = subprocess.run(  # noqa: S603 -- our own program
        [*command, "--json", str(file)], capture_output=True, text=True, timeout=120, check=False
    )

    assert (0, "") == (done.returncode, done.stderr)
    medians = json.loads(file.read_text(encoding="utf-8"))
    assert {"set, nobody listening", "set, one waiting task"} == set(medians)
    for by_name in medians.values():
        assert {"limit", "statestore, alone", "statestore, in a store"} <= set(by_name)
        assert all(median > 0 for median in by_name.values())
