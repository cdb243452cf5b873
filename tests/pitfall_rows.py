"""
List the rows of the pitfall table that no test covers.

A pitfall is a known way for such a store to go wrong. A test that covers row 16 says `P016` in its
name, its docstring or the id of its parameters; `P026-P029` stands for four rows. Run as a script,
this prints the rows that are missing.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

ROWS: Final[Mapping[int, str]] = {
    # A. Waits, timeouts, cancellation
    1: "cancelled in the tick of the match",
    2: "cancellation swallowed on 3.11",
    3: "late registration when there is a timeout",
    4: "deadline and match both due on a late loop",
    5: "deadline and cancellation both due",
    6: "timeout of zero",
    7: "negative timeout",
    8: "endless timeout",
    9: "timeout that is no number",
    10: "TimeoutError of the predicate itself",
    11: "asyncio.timeout() around a wait",
    12: "failing sibling in a TaskGroup",
    13: "shielded wait cancelled",
    14: "cancelled before the first step",
    15: "cancelled again while cleaning up",
    16: "gap between two waits",
    17: "value already there",
    18: "away and back between two looks",
    19: "returned value is not the matching one",
    20: "waiting task that nobody holds",
    21: "wait never awaited",
    22: "timer outlives its wait",
    23: "error that holds on to frames",
    24: "two tasks await one subscription",
    25: "waiting in a plain thread",
    # B. Loops and threads
    26: "published out of order by many setters",
    27: "wake-up lost while re-arming",
    28: "waking a closed loop",
    29: "loop closes while it is being woken",
    30: "wake-ups pile up on a stopped loop",
    31: "subscriptions of a closed loop linger",
    32: "a wake-up for every transition",
    33: "future completed off its loop",
    34: "setting on the loop's own thread",
    35: "setting where there is no loop",
    36: "store outlives loops, subscription moves loops",
    37: "subscription handed to another task",
    38: "many loops, one store",
    39: "setting while the interpreter ends",
    40: "waking raises something unforeseen",
    41: "leaning on a loop's private parts",
    42: "lock held for too long",
    # C. Callbacks and re-entrancy
    43: "set inside a callback",
    44: "callbacks that set each other off for ever",
    45: "callback raises",
    46: "callback is interrupted",
    47: "callbacks added and removed during a round",
    48: "handle closed while its callback runs",
    49: "slow callback",
    50: "thread and context of a callback",
    51: "one callback registered twice",
    52: "callback keeps its object alive",
    53: "coroutine function as a callback",
    54: "on_value() fires twice or never",
    55: "close, delete, subscribe inside a callback",
    # D. Predicates and equality
    56: "predicate raises",
    57: "predicate uses the store",
    58: "predicate takes a foreign lock",
    59: "slow predicate",
    60: "predicate returns no bool",
    61: "predicate called too often",
    62: "update() starves",
    63: "equal values of different types",
    64: "equal containers of different types inside",
    65: "zero and minus zero",
    66: "NaN",
    67: "equality raises",
    68: "equality answers with no bool",
    69: "equality uses the store",
    70: "equal value replaces the object",
    71: "waiting for anything else, or for not None",
    # E. Values
    72: "mutable inside a frozen class",
    73: "frozen class without equality",
    74: "hashable but not a value",
    75: "arrays and data frames",
    76: "mutable subclass of something immutable",
    77: "object.__setattr__()",
    78: "nested container kept outside and changed",
    79: "very deep value",
    80: "value that contains itself",
    81: "very wide value, set again and again",
    82: "lazily computed attributes",
    83: "repr that raises or never ends",
    84: "value comes back from pickle or a fork",
    # F. Keys, commits, compare-and-set
    85: "keys that equal each other across types",
    86: "unusual strings as keys",
    87: "half of a commit seen",
    88: "commit that fails, or sets a key twice",
    89: "commit that changes nothing",
    90: "compare and set apart from each other",
    91: "member removed while waited for",
    92: "store closed while waited on",
    # G. Subscriptions and slow consumers
    93: "subscription never read",
    94: "queue overflows",
    95: "iteration abandoned",
    96: "consumer collected during a commit",
    97: "backlog starves the loop",
    98: "herd of waiters",
    99: "unfair order of waiters",
    # H. Derived watchers
    100: "derived from a mix of revisions",
    101: "deep chain or cycle of derived watchers",
    102: "map function raises",
    103: "impure, slow or unheard map function",
    # I. Process, signals, memory, variants
    104: "interrupted by Ctrl-C",
    105: "out of memory",
    106: "store used in a signal handler",
    107: "store used in a finalizer",
    108: "forked with the lock held",
    109: "exception from another thread, or a tracer",
    110: "asyncio debug mode",
    111: "eager tasks",
    112: "no global interpreter lock",
    113: "no reference counts, other platforms",
    114: "clock jumps",
    115: "side effects of the import",
    # J. Distributed engine
    116: "events lost while disconnected",
    117: "history compacted away",
    118: "write of unknown outcome",
    119: "read ahead of the watch",
    120: "stale answer",
    121: "event repeated or out of order",
    122: "stream held up by another",
}

_ENGINE: Final = "distributed engines are not built yet"

NOT_BUILT: Final[Mapping[int, str]] = {
    **dict.fromkeys(range(116, 123), _ENGINE),
}

_MARKER: Final = re.compile(r"(?<![A-Za-z0-9])P(\d{3})(?:\s*[-\u2013]\s*P(\d{3}))?(?!\d)")


def rows_in_text(text: str) -> set[int]:
    """Return the rows whose markers stand in *text*."""
    rows = set[int]()
    for first, last in _MARKER.findall(text):
        rows.update(range(int(first), int(last or first) + 1))
    return rows


def rows_in_source(source: str, filename: str = "<sample>") -> set[int]:
    """Return the rows that the tests in *source* say they cover."""
    return {row for text in _claims(ast.parse(source, filename)) for row in rows_in_text(text)}


def rows_in_tree(directory: Path) -> set[int]:
    """Return the rows that the tests below *directory* say they cover."""
    rows = set[int]()
    for path in directory.rglob("*.py"):
        rows |= rows_in_source(path.read_text(encoding="utf-8"), str(path))
    return rows


def _claims(tree: ast.AST) -> Iterator[str]:
    # A module's docstring is no claim: what it says of all its tests, no test need do.
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name.replace("_p", "_P")
                yield ast.get_docstring(node) or ""
            case ast.keyword(arg="id" | "ids", value=value):
                yield from _strings(value)
            case _:
                pass


def _strings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str() as text):
                yield text
            case _:
                pass


def main() -> int:
    """Print the rows without a test; succeed if every one of them waits for its part."""
    covered = rows_in_tree(Path(__file__).parent)
    missing = ROWS.keys() - NOT_BUILT.keys() - covered
    for row in sorted(missing):
        print(f"P{row:03} {ROWS[row]}")
    for row in sorted(NOT_BUILT.keys() - covered):
        print(f"P{row:03} {ROWS[row]} ({NOT_BUILT[row]})")
    for row in sorted(covered - ROWS.keys()):
        print(f"P{row:03} is no row")
    print(f"{len(ROWS)} rows: {len(ROWS.keys() & covered)} covered, {len(missing)} missing")
    return 1 if missing or covered - ROWS.keys() else 0


if __name__ == "__main__":
    sys.exit(main())
