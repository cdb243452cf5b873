"""Every known pitfall has a test, and the scanner that says so can be believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitfall_rows import NOT_BUILT, ROWS, rows_in_source, rows_in_text, rows_in_tree

COVERED = rows_in_tree(Path(__file__).parent)

SAMPLE = '''
"""P001 of a module counts for nothing."""

import pytest


def test_p002_in_a_name_p003():
    """Lower case does in a name, p004 does not elsewhere."""


async def test_docstring():
    """P005, P006-P008 and P010."""
    # P011 in a comment
    text = "P012 in a string"


class Machine:
    """P013."""

    @pytest.mark.parametrize("x", [pytest.param(1, id="P014 one"), 2], ids=["P015", "two"])
    def test_method(self, x):
        """No row."""
'''


def test_every_row_has_a_test() -> None:
    """No row of a part that is built is without a test."""
    missing = {f"P{row:03}": ROWS[row] for row in ROWS.keys() - NOT_BUILT.keys() - COVERED}
    assert {} == dict(sorted(missing.items()))


def test_every_marker_names_a_row() -> None:
    """A mistyped marker is found."""
    assert set() == COVERED - ROWS.keys()


def test_nothing_not_built_has_a_test() -> None:
    """A row leaves the table of what is not built with its first test."""
    assert set() == COVERED & NOT_BUILT.keys()


def test_rows_are_numbered_without_a_gap() -> None:
    """The table holds each row once, in order."""
    assert list(range(1, 123)) == list(ROWS)


def test_scanner_reads_names_docstrings_and_ids() -> None:
    """Nothing else is a claim: no comment, no string, no module's docstring."""
    assert {2, 3, 5, 6, 7, 8, 10, 13, 14, 15} == rows_in_source(SAMPLE)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("P016", {16}),
        ("(P016)", {16}),
        ("P026-P029", {26, 27, 28, 29}),
        ("P026 - P028", {26, 27, 28}),
        ("P026\u2013P027", {26, 27}),
        ("P6", set()),
        ("P0166", set()),
        ("HTTP016", set()),
        ("", set()),
    ],
)
def test_marker_has_three_digits(text: str, rows: set[int]) -> None:
    """A marker is P and exactly three digits, or two of these with a dash between."""
    assert rows == rows_in_text(text)


def test_scanner_reads_subdirectories(tmp_path: Path) -> None:
    """A test counts wherever below the directory it stands."""
    below = tmp_path / "races"
    below.mkdir()
    (below / "test_x.py").write_text("def test_p026(): ...\n", encoding="utf-8")
    assert {26} == rows_in_tree(tmp_path)
