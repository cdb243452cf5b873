"""
Check what happened against the order of commits.

As every commit bears a revision, and revisions are one total order, a history is checked by doing
it once more, one operation after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, final

import attrs

from statestore._records import ABSENT, Commit, Transition
from statestore._text import shorten


@final
@attrs.frozen(kw_only=True)
class Operation:
    """
    One operation of one thread or task, as that saw it.

    Attributes:
        thread: Who did it: any number.
        before: The store's revision at its start.
        after: The store's revision at its end.
        reads: What it saw, by the name of the key.
        writes: What it set, by the name of the key.
        revision: The revision that it committed, or read at, if it knows.
    """

    thread: int
    before: int
    after: int
    reads: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    writes: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    revision: int | None = None


@final
class Replay:
    """
    The values at each revision, from the commits of a store and nothing else.

        before = dict(app.snapshot())
        with app.blocking.subscribe() as log:
            ...  # threads set what they like
            replay = Replay(before, [log.get_nowait() for _ in range(log.pending)])
        assert replay.last == dict(app.snapshot())

    Args:
        initial: The values before, by the name of the key.
        commits: All commits that came then, none left out.
        revision: The revision of *initial*.

    Raises:
        AssertionError: A revision is missing, repeated or out of order, or what a transition calls
            old is not what was there before.
    """

    __slots__ = ("_at", "_first")

    def __init__(
        self, initial: Mapping[str, Any], commits: Iterable[Commit], *, revision: int = 0
    ) -> None:
        self._first = revision
        self._at = [dict(initial)]
        for commit in commits:
            self._apply(commit)

    @property
    def states(self) -> Sequence[dict[str, Any]]:
        """The values at each revision, that of the beginning first."""
        return self._at

    @property
    def last(self) -> dict[str, Any]:
        """The values at the end."""
        return self._at[-1]

    def check(self, history: Iterable[Operation]) -> None:
        """
        See that each operation is explained by one revision between its start and its end.

        The operations of one thread are in the order in which it did them; for no thread do
        revisions go back.

        Raises:
            AssertionError: One is not, or they do.
        """
        __tracebackhide__ = True
        threads: dict[int, list[Operation]] = {}
        for operation in history:
            threads.setdefault(operation.thread, []).append(operation)
            if not any(self._explains(operation, at) for at in _candidates(operation)):
                msg = f"no revision explains {operation}"
                raise AssertionError(msg)
        for operations in threads.values():
            for one, other in pairwise(operations):
                if one.after > other.before:
                    msg = f"a revision went back between {one} and {other}"
                    raise AssertionError(msg)

    def _apply(self, commit: Commit) -> None:
        due = self._first + len(self._at)
        if commit.revision != due:
            msg = f"revision {due} is due, but here is {commit.revision}: {shorten(commit)}"
            raise AssertionError(msg)
        values = dict(self._at[-1])
        for transition in commit.transitions:
            before = values.pop(transition.key, ABSENT)
            if transition.old != before:
                msg = f"it was {shorten(before)} before {shorten(transition)}"
                raise AssertionError(msg)
            # A member of a family that goes.
            if transition.new is not ABSENT:
                values[transition.key] = transition.new
        self._at.append(values)

    def _explains(self, operation: Operation, revision: int) -> bool:
        at = revision - self._first
        if not (operation.before <= revision <= operation.after and 0 <= at < len(self._at)):
            return False
        if not operation.writes:
            return operation.reads.items() <= self._at[at].items()
        return (
            at > 0
            and operation.reads.items() <= self._at[at - 1].items()
            and operation.writes.items() <= self._at[at].items()
        )


def _candidates(operation: Operation) -> Iterable[int]:
    if operation.revision is not None:
        return (operation.revision,)
    return range(operation.before, operation.after + 1)


def assert_chain(initial: object, transitions: Iterable[Transition[Any]]) -> None:
    """
    Assert that each transition begins where the one before ended, at a higher revision.

    Then none was lost, repeated or put out of order on the way.

    Args:
        initial: Where the first one begins.
        transitions: Those of one key, all of them.

    Raises:
        AssertionError: One does not; it shows which.
    """
    __tracebackhide__ = True
    last, revision = initial, 0
    for number, transition in enumerate(transitions, 1):
        if transition.old != last or transition.revision <= revision:
            msg = (
                f"transition {number} does not follow {shorten(last)} of revision {revision}: "
                f"{shorten(transition)}"
            )
            raise AssertionError(msg)
        last, revision = transition.new, transition.revision
