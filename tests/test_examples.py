"""The examples do what they say, and would tell if they did not."""

import asyncio
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str) -> subprocess.CompletedProcess[str]:
    """Run an example as its reader would, with warnings as errors."""
    return subprocess.run(  # noqa: S603 -- our own program
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        env=os.environ | {"PYTHONPATH": str(EXAMPLES.parent)},
        timeout=90,
        capture_output=True,
        text=True,
        check=False,
    )


def load(name: str) -> ModuleType:
    """Import an example, which does not run it."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Forgetful:
    """A watcher as many are: whoever waits looks at the value at the time it gets to run."""

    def __init__(self, value: object) -> None:
        self.value = value

    async def wait_for(self, value: object, *, timeout: float) -> None:
        """Wait as long as the value is another one."""
        async with asyncio.timeout(timeout):
            while self.value != value:  # noqa: ASYNC110 -- the very fault
                await asyncio.sleep(0)


def test_connection_lifecycle_loses_nothing() -> None:
    """The connection goes through its life twice, with every transition shown and seen."""
    done = run("connection_lifecycle.py")

    assert (0, "") == (done.returncode, done.stderr)
    *shown, counts, verdict = done.stdout.splitlines()
    life = ["connecting", "connected", "closing", "closed"] * 2
    assert life == [line.split()[-1] for line in shown]
    numbers = re.fullmatch(
        r"(\d+) requests answered, (\d+) of them sent again; (\d+) heartbeats", counts
    )
    assert numbers is not None
    assert int(numbers[1]) >= load("connection_lifecycle").ENOUGH
    assert int(numbers[2]) >= 1
    assert verdict == "no request lost, no transition missed"


def test_connection_lifecycle_tells_of_a_lost_request() -> None:
    """A request that nobody answered, or that was counted wrong, is named."""
    example = load("connection_lifecycle")
    app = example.App()
    app.served.value = 3

    assert [] == example.faults(app, [2, 0, 1], example.LIFE, 2)
    assert ["requests"] == example.faults(app, [0, 1], example.LIFE, 2)
    assert ["requests"] == example.faults(app, [0, 1, 1], example.LIFE, 2)
    app.inflight.value = 1
    assert ["requests"] == example.faults(app, [0, 1, 2], example.LIFE, 2)


def test_connection_lifecycle_tells_of_a_missed_transition() -> None:
    """A transition that was not shown, or that the drain did not see, is named."""
    example = load("connection_lifecycle")
    app = example.App()
    life = example.LIFE

    assert ["transitions"] == example.faults(app, [], life[:2] + life[3:], 2)
    assert ["drain"] == example.faults(app, [], life, 1)


def test_lost_update_shows_the_difference() -> None:
    """The condition hangs and statestore does not, and the example says so."""
    done = run("lost_update.py")

    assert (0, "") == (done.returncode, done.stderr)
    condition, statestore = done.stdout.splitlines()
    assert re.fullmatch(r"asyncio\.Condition +hung: no 'closing' seen within 0\.5 s", condition)
    assert re.fullmatch(r"statestore +saw 'closing'", statestore)


async def test_lost_update_would_tell_if_statestore_lost_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a watcher that forgets, the example says that it hung and fails."""
    example = load("lost_update")
    monkeypatch.setattr(example, "PATIENCE", 0.05)
    monkeypatch.setattr(example, "WaitTimeoutError", TimeoutError)
    monkeypatch.setattr(example, "ValueWatcher", Forgetful)

    assert await example.main() == 1
    assert re.search(r"statestore +hung", capsys.readouterr().out)
