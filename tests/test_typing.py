"""The types that users see: `typing/` holds lines that must pass and lines that must fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_mypy_agrees() -> None:
    """Mypy finds every type as `typing/` says, and an error wherever that says there is one."""
    pytest.importorskip("mypy", reason="mypy comes with the `checks` extra")

    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "tests/typing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "" == run.stderr
    assert 0 == run.returncode, run.stdout


def test_the_package_says_that_it_is_typed() -> None:
    """The marker that tells type checkers to believe the annotations is there."""
    assert (ROOT / "statestore" / "py.typed").is_file()
