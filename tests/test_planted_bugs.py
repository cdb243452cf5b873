"""The planted bugs can be planted, and what finds them does not find what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from planted_bugs import BUGS, ROOT, Bug, is_found

TESTS = Path(__file__).parent


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_each_bug_has_one_place_and_tests(bug: Bug) -> None:
    """What a bug replaces stands once in its module, and the tests that shall find it exist."""
    source = (ROOT / "statestore" / f"{bug.module}.py").read_text(encoding="utf-8")

    assert 1 == source.count(bug.right)
    assert bug.right != bug.wrong
    assert all((TESTS / test.split("::")[0]).is_file() for test in bug.tests)


def test_names_are_unique() -> None:
    """A bug can be chosen by its name."""
    assert len(BUGS) == len({bug.name for bug in BUGS})


def test_a_bug_is_found_and_the_right_code_is_not() -> None:
    """The same tests are red with a bug and green without."""
    bug = next(bug for bug in BUGS if bug.tests == ("test_queues.py",))

    assert is_found(bug)
    assert not is_found(bug._replace(wrong=bug.right))


def test_tests_that_do_not_run_find_nothing() -> None:
    """A mistyped name of a test is no success."""
    assert not is_found(BUGS[0]._replace(tests=("test_queues.py::test_that_is_not_there",)))
