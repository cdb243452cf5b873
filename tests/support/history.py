"""
Check a recorded history of operations against the order of commits.

Threads note each operation with its result. As every commit bears a revision, and revisions are one
total order, a history is checked by doing it once more, one operation after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from statestore import Commit, Transition
from statestore._records import ABSENT


@dataclass(frozen=True)
class Did:
    """
    One operation of one thread.

    *before* and *after* are the store's revision at its start and at its end; *reads* and *writes*
    are what it saw and set, by key; *revision* is the one it committed, or read at, if it knows.
    """

    thread: int
    before: int
    after: int
    reads: dict[str, Any] = field(default_factory=dict)
    writes: dict[str, Any] = field(default_factory=dict)
    revision: int | None = None


class Replay:
    """The values at each revision, from the commits of a store."""

    def __init__(self, initial: dict[str, Any], commits: Iterable[Commit]) -> None:
        self._at = [dict(initial)]
        for commit in commits:
            assert commit.revision == len(self._at), "revisions are dense and rise by one"
            values = dict(self._at[-1])
            for transition in commit.transitions:
                before = values.pop(transition.key, ABSENT)
                assert transition.old == before, "old is what was there before"
                # A member of a family that goes.
                if transition.new is not ABSENT:
                    values[transition.key] = transition.new
            self._at.append(values)

    @property
    def states(self) -> Sequence[dict[str, Any]]:
        """The values at each revision."""
        return self._at

    @property
    def last(self) -> dict[str, Any]:
        """The values at the end."""
        return self._at[-1]

    def check(self, history: Sequence[Did]) -> None:
        """Each operation must be explained by one revision between its start and its end."""
        for did in history:
            assert any(self._explains(did, at) for at in self._candidates(did)), did
        for mine in _by_thread(history).values():
            for one, other in pairwise(mine):
                assert one.after <= other.before, "revisions never go back for a thread"

    def _candidates(self, did: Did) -> Iterable[int]:
        if did.revision is not None:
            return (did.revision,)
        return range(did.before, did.after + 1)

    def _explains(self, did: Did, at: int) -> bool:
        if not did.before <= at <= did.after:
            return False
        if not did.writes:
            return did.reads.items() <= self._at[at].items()
        return (
            at > 0
            and did.reads.items() <= self._at[at - 1].items()
            and did.writes.items() <= self._at[at].items()
        )


def _by_thread(history: Sequence[Did]) -> dict[int, list[Did]]:
    threads: dict[int, list[Did]] = {}
    for did in history:
        threads.setdefault(did.thread, []).append(did)
    return threads


def check_chain(initial: object, transitions: Sequence[Transition[Any]]) -> None:
    """Each transition begins where the one before ended, at a higher revision."""
    last, revision = initial, 0
    for transition in transitions:
        assert transition.old == last
        assert transition.revision > revision
        last, revision = transition.new, transition.revision
