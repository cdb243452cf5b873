"""The examples do what they say, and would tell if they did not."""

import asyncio
import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, MutableMapping
from pathlib import Path
from types import ModuleType

import pytest
import structlog

from statestore import Condition, Store, Transaction, ValueWatcher

EXAMPLES = Path(__file__).parents[1] / "examples"


ENVIRONMENT = os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}

# What runs a program that Ctrl-C ends, also where tests are run in the background of a shell.
INTERRUPTIBLE = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv[:] = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an example as its reader would, with warnings as errors."""
    return subprocess.run(  # noqa: S603 -- our own program
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        env=ENVIRONMENT,
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


class Inattentive(list[object]):
    """The log of somebody who looks away when the first thing happens."""

    has_missed = False

    def append(self, item: object) -> None:
        if self.has_missed:
            super().append(item)
        self.has_missed = True


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


def test_worker_pool_misses_no_condition() -> None:
    """All jobs are done, all workers go, and every condition is seen as often as it was so."""
    done = run("worker_pool.py", "--seconds", "0.5")

    assert (0, "") == (done.returncode, done.stderr)
    _, jobs, workers, _, *conditions, verdict = done.stdout.splitlines()
    assert re.fullmatch(r"[1-9]\d* jobs done in [1-9]\d* commits, with \d+ pauses", jobs)
    assert re.fullmatch(r"\d+ workers came and went, at most [1-9]\d* were busy at once", workers)
    names = ["all idle, queue empty", "three idle, not paused", "any worker failed"]
    assert names == [re.sub(r"[ \d]+$", "", line) for line in conditions]
    for line in conditions:
        assert 1 == len(set(re.findall(r"\d+", line)))
    assert 1 <= int(conditions[0].split()[-1])
    assert verdict == "no condition missed, no job lost"


def test_worker_pool_tells_of_what_was_not_seen() -> None:
    """Whoever was given less, more or something else than what happened is named."""
    example = load("worker_pool")
    changes = {"a": [(3, True), (5, False)], "b": []}
    log = changes["a"]
    nothing = example.Seen()

    def faults(**given: object) -> list[str]:
        seen = {"in_task": log, "in_thread": log, "by_callback": [True, False]} | given
        return example.faults(changes, {"a": example.Seen(**seen), "b": nothing})

    assert [] == faults()
    assert ["a, by a task"] == faults(in_task=log[1:])
    assert ["a, by a task"] == faults(in_task=[(3, True), (6, False)])
    assert ["a, by a thread"] == faults(in_thread=[*log, (7, True)])
    assert ["a, by a callback"] == faults(by_callback=[True])
    assert ["a, by a task", "a, by a thread", "a, by a callback"] == example.faults(
        changes, {"a": nothing, "b": nothing}
    )


@pytest.mark.parametrize("who", ["in_task", "in_thread", "by_callback"])
async def test_worker_pool_fails_if_a_condition_is_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], who: str
) -> None:
    """With a follower that misses something, the example says who it was and fails."""
    example = load("worker_pool")
    attentive = example.Seen
    monkeypatch.setattr(example, "Seen", lambda: attentive(**{who: Inattentive()}))

    assert await example.main(0) == 1
    verdict = capsys.readouterr().out.splitlines()[-1].removeprefix("WRONG: ")
    by_whom = f", by a {who.split('_')[1]}"
    missed = [name.removesuffix(by_whom) for name in verdict.split("; ")]
    assert ["all idle, queue empty", "three idle, not paused"] == missed[:2]
    # Whether somebody fails at the first jobs already depends on who does them.
    assert missed[2:] in ([], ["any worker failed"])


async def test_worker_pool_fails_if_a_job_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With jobs that a worker puts down without having done them, the example says so and fails."""
    example = load("worker_pool")

    def lose(me: object, job: int, tx: MutableMapping[object, object]) -> None:
        tx[me] = example.Worker()

    monkeypatch.setattr(example, "finish", lose)

    assert await example.main(0) == 1
    assert capsys.readouterr().out.endswith("WRONG: jobs\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal to one process there")
def test_worker_pool_ends_on_ctrl_c() -> None:
    """Ctrl-C ends it at once, with all of its tasks and threads, and without a traceback."""
    example = str(EXAMPLES / "worker_pool.py")
    with subprocess.Popen(  # noqa: S603 -- our own program
        [sys.executable, "-W", "error", "-c", INTERRUPTIBLE, example, "--seconds", "80"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=60)

    assert ("interrupted\n", "", 130) == (out, err, program.returncode)


def without_times(text: str) -> str:
    """Replace whatever differs from run to run."""
    text = re.sub(r"\d\d:\d\d:\d\d\.\d+", "TIME", text)
    return re.sub(r"\d+\.\d+(e-\d+)?|\d+e-\d+", "N", text)


def test_debug_logging_prints_what_the_guide_shows() -> None:
    """It ends well, and its output is the one in the documentation, but for the times."""
    done = run("debug_logging.py")
    assert (0, "") == (done.returncode, done.stderr), done.stdout
    guide = EXAMPLES.parent / "docs" / "guides" / "logs-and-recordings.md"
    blocks = re.findall(r"```text\n(.*?)\n```", guide.read_text(encoding="utf-8"), re.DOTALL)
    (shown,) = [block for block in blocks if block.startswith("level=debug")]
    assert without_times(shown) == without_times(done.stdout.rstrip())


@pytest.mark.parametrize(("is_broken", "code"), [(False, 0), (True, 1)])
def test_debug_logging_fails_if_something_is_not_told(
    is_broken: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not logged makes it fail."""
    example = load("debug_logging")
    if is_broken:
        monkeypatch.setattr(example, "follow_load", lambda _service: None)
    try:
        assert code == asyncio.run(example.main())
    finally:
        structlog.reset_defaults()


def test_semaphore_gives_never_too_many() -> None:
    """The permits go to tasks on two loops and to threads, at most three at a time."""
    done = run("semaphore.py")

    assert (0, "") == (done.returncode, done.stderr)
    assert re.fullmatch(
        "1,200 permits taken by 24, at most [1-3] at a time\nnever too many, and none was lost\n",
        done.stdout,
    )


def test_semaphore_tells_if_there_were_too_many(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a wait and a change that are two steps, the example says so and fails."""
    example = load("semaphore")

    async def claim(
        self: ValueWatcher[int],
        condition: Callable[[int], bool],
        change: Callable[[int], int],
    ) -> None:
        await self.wait_until(condition)
        await asyncio.sleep(0)
        self.update(change)

    monkeypatch.setattr(ValueWatcher, "claim", claim)

    assert example.main() == 1
    assert capsys.readouterr().out.endswith("WRONG\n")


def test_leader_election_has_one_leader_at_a_time() -> None:
    """All candidates lead, one after the other."""
    done = run("leader_election.py")

    assert (0, "") == (done.returncode, done.stderr)
    assert (
        "27 terms, led in turn by node 1, node 2, node 3, …\n"
        "one leader at a time, and all had their turn\n" == done.stdout
    )


async def test_leader_election_tells_of_a_second_leader(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a wait and a change that are two steps, the example says so and fails."""
    example = load("leader_election")

    async def claim(
        self: Store, condition: Condition, function: Callable[[Transaction], object]
    ) -> None:
        await condition.wait()
        await asyncio.sleep(0)
        self.transact(function)

    monkeypatch.setattr(Store, "claim", claim)

    assert await example.main() == 1
    assert capsys.readouterr().out.endswith("WRONG: two leaders\n")
