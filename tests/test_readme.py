"""The README's programs run, and its commands are the ones that are checked."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Give the blocks of one language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run a block as a program of its own, with warnings as errors."""
    return subprocess.run(  # noqa: S603 -- our own program
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("program", blocks("python"), ids=lambda program: program.split("\n", 1)[0])
def test_python_block_runs_on_its_own(program: str) -> None:
    """Each Python block is a whole program, which ends without an error or a warning."""
    done = run(program)

    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize(("text", "program"), [(0, 0), (1, 2)])
def test_a_block_says_what_it_prints(text: int, program: int) -> None:
    """What a program prints is the text of the block that follows it."""
    assert blocks("text")[text] == run(blocks("python")[program]).stdout


def test_commands_are_the_checked_ones() -> None:
    """The two commands stand in `.ci/run` word for word, each in a block and a line of its own."""
    commands = blocks("sh")
    checked = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert [1, 1] == [command.count("\n") for command in commands]
    assert [] == [command for command in commands if command.strip() not in checked]


def test_links_lead_somewhere() -> None:
    """Each relative link of the README is a file."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README)

    assert [] == [link for link in links if not (ROOT / link).exists()]
