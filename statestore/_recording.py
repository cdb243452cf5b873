"""Keep the last commits, to look back at: what the state was, who changed it, and why."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, final

import attrs

from statestore import _timeline
from statestore._closing import Closable
from statestore._commits import look
from statestore._core import NEXT, REVISION, VALUE, Core
from statestore._history import History, Kept, moves_of
from statestore._journal import Journal, Origin
from statestore._keys import Named
from statestore._lifecycle import Lifecycle
from statestore._queues import ChainQueue, Ring, make_queue
from statestore._recording_file import lines_of, parse
from statestore._records import Snapshot, Transition
from statestore.errors import StateStoreError

KeyOrName: TypeAlias = "Named | str"
"""A key, its watcher, or its name."""


@final
@attrs.frozen(kw_only=True)
class RecordedCommit:
    """
    A commit, and where it came from.

    Attributes:
        revision: The revision.
        transitions: One for each key that changed, in the order in which they were set.
        time: When it was made, in seconds since the epoch.
        clock: The same in seconds of `time.monotonic()`, of which only differences mean something.
        setter: The name of the task that made it, or else of the thread.
        reason: What was given to `set()` as the reason.
        caused_by: The revision whose callback made it, if one did.
        context: What was bound with structlog's contextvars where it was made.
    """

    revision: int
    transitions: tuple[Transition[Any], ...]
    time: float
    clock: float
    setter: str
    reason: str | None
    caused_by: int | None
    context: Mapping[str, Any]


@final
class Recording(Closable):
    """
    The last commits of a store, from `Store.record()`, or from a file.

        with app.record() as recording:
            ...
        print(recording.timeline("conn", "inflight"))
        print(recording.why("conn"))

    It goes on until it is closed, or nobody holds it any more. Closed, it can still be read.

    Thread safety:
        May be read and closed from any thread, while others set.

    Cost:
        While it is open, each commit of the store pays for the origin that is noted and for the
        long way of a set. It holds references to the values, no copies.
    """

    __slots__ = (
        "__weakref__",
        "_begun",
        "_core",
        "_epoch",
        "_history",
        "_journal",
        "_maxlen",
        "_queue",
        "_reference",
    )

    _begun: int
    _core: Core
    _epoch: int
    _journal: Journal
    _maxlen: int | None
    _queue: ChainQueue | Ring
    _reference: weakref.ref[Recording]

    def __init__(self) -> None:
        # What is in it, once it does not grow any more.
        self._history: History | None = None

    @classmethod
    def _of(cls, core: Core, maxlen: int | None) -> Recording:
        recording = cls()
        journal = recording._journal = Journal(core)
        cell = journal._cell
        # Before anything is registered, as it may refuse.
        queue = recording._queue = make_queue(journal, cell, maxlen, "raise", lambda _, new: new)
        recording._core, recording._epoch, recording._maxlen = core, core.epoch, maxlen
        recording._reference = weakref.ref(recording, lambda ref: core.recordings.pop(ref, None))
        journal.begin()
        recording._begun = core.fence()
        while (after := queue.cell[NEXT]) is not None and after[REVISION] <= recording._begun:
            queue.cell = after
        if isinstance(queue, Ring):
            queue.open()
        core.recordings[recording._reference] = None
        core.time_of = partial(_time_of, core)
        return recording

    @property
    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self._history is not None

    @property
    def commits(self) -> tuple[RecordedCommit, ...]:
        """The commits, the oldest first."""
        return tuple(map(_shown_to_users, self._now().commits))

    @property
    def first_revision(self) -> int:
        """The first revision whose state can be rebuilt."""
        return self._now().since

    @property
    def last_revision(self) -> int:
        """The last revision whose state can be rebuilt."""
        return self._now().end.revision

    def at(self, revision: int) -> Snapshot:
        """
        Give the values of all keys at *revision*.

        Raises:
            ValueError: It is before the first commit that was kept, or after the last.

        Cost:
            Linear in the number of keys, and of commits since then.
        """
        return Snapshot(self._now().state_at(revision), revision)

    def why(self, key: KeyOrName, revision: int | None = None) -> str:
        """
        Say how *key* came to be what it is, or was at *revision*: back to the origin of that.

        One line for the commit that last changed it, and one more for each commit whose callback
        made the one before.

        Raises:
            UnknownKeyError: There was no such key.
            ValueError: As `at()`.
        """
        history = self._now()
        name = history.name_of(key)
        until = history.end.revision if revision is None else revision
        history.state_at(until)
        kept = {commit.revision: commit for commit in history.commits}
        touching = [
            commit.revision
            for commit in history.commits
            if commit.revision <= until and any(move.name == name for move in commit.moves)
        ]
        if not touching:
            return f"{name} has not changed since revision {history.since}"
        cause: int | None = touching[-1]
        lines: list[str] = []
        while cause is not None:
            lead = f"{'  ' * len(lines)}{'caused by ' if lines else ''}"
            if cause not in kept:
                lines.append(f"{lead}revision {cause}, which is not in this recording")
                break
            commit = kept[cause]
            moves = [move for move in commit.moves if lines or move.name == name]
            lines.append(lead + _timeline.line_of(commit.revision, commit.origin, moves))
            cause = commit.origin.caused_by
        return "\n".join(lines)

    def timeline(self, *keys: KeyOrName) -> str:
        """
        Show who was in which state when, as text: a lane for each key, a line for each commit.

        Args:
            keys: The keys to show; by default all that have changed.

        Raises:
            UnknownKeyError: There was no such key.
        """
        history = self._now()
        names = self._lanes(history, keys)
        return _timeline.as_text(history, names, history.first_values(names))

    def draw_timeline(self, path: str | os.PathLike[str], *keys: KeyOrName) -> None:
        """
        Draw who was in which state when: a lane for each key, along the time.

        Needs the extra `plots`.

        Args:
            path: The file to write; its ending, such as `.svg` or `.png`, says in which form.
            keys: As in `timeline()`.

        Raises:
            ModuleNotFoundError: The extra is not installed.
            UnknownKeyError: There was no such key.
        """
        history = self._now()
        names = self._lanes(history, keys)
        _timeline.draw(history, names, history.first_values(names), path)

    def to_mermaid(self, key: KeyOrName) -> str:
        """
        Draw the moves that *key* has really made, as a Mermaid state diagram.

        Each says how often it was made, and how long the state before it lasted on average.

        Raises:
            UnknownKeyError: There was no such key.
        """
        history = self._now()
        name = history.name_of(key)
        return _timeline.as_mermaid(history, name, history.first_values([name])[name])

    def save(self, path: str | os.PathLike[str]) -> None:
        """
        Write it to a file of JSON lines: the state before the first commit, then each commit.

        Numbers, strings, booleans and None are kept, all other values as words.
        """
        history = self._now()
        with Path(path).open("w", encoding="utf-8") as file:
            file.writelines(lines_of(history))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recording:
        """
        Read what `save()` wrote.

        What was saved as words is a [`SavedValue`][].

        Raises:
            ValueError: The file is no such recording, or a part of one.
        """
        recording = cls()
        with Path(path).open(encoding="utf-8") as file:
            recording._history = parse(file, os.fspath(path))
        return recording

    def close(self) -> None:
        """End it, and keep what is in it. A second call does nothing."""
        if self._history is None:
            self._history = self._now()
            self._end()

    def __del__(self) -> None:
        # An exception may have cut the opening short.
        if hasattr(self, "_queue"):
            self._end()

    def __repr__(self) -> str:
        if self._history is None:
            return f"<open recording of {self._core.title}>"
        history = self._history
        return f"<recording of {history.title}, {len(history.commits)} commits>"

    def _end(self) -> None:
        self._core.recordings.pop(self._reference, None)
        self._journal.end()
        self._queue.close()

    def _now(self) -> History:
        if self._history is not None:
            return self._history
        core = self._core
        if self._epoch != core.epoch:
            msg = f"{self!r} was begun before this process was forked; begin one in the child"
            raise StateStoreError(msg)
        # Whoever holds a cell has all that follows, however much the queue loses meanwhile.
        cell = self._queue.cell
        items = [(item.revision, item.new) for item in self._queue]
        lag, end = self._queue.lag, look(core, core.names.copy, core.families)
        found = [item for item in items if item[0] <= cell[REVISION]]
        since = self._begun if lag is None else min(lag.last_revision, cell[REVISION])
        while (cell := cell[NEXT]) is not None and cell[REVISION] <= end.revision:
            found.append((cell[REVISION], cell[VALUE]))
        if self._maxlen is not None and len(found) > self._maxlen:
            since = found[-self._maxlen - 1][0]
            del found[: -self._maxlen]
        commits = [
            Kept(revision, origin, tuple(moves_of(changes)))
            for revision, (origin, changes) in found
        ]
        return History(core.title, since, tuple(commits), end, _lifecycles(core))

    def _lanes(self, history: History, keys: tuple[KeyOrName, ...]) -> list[str]:
        chosen = [name for key in keys for name in history.names_of(key)]
        return list(dict.fromkeys(chosen if keys else (move.name for move in history.moves)))


def _time_of(core: Core, revision: int) -> float | None:
    """Give when *revision* was committed, in seconds of `time.monotonic()`, if it is recorded."""
    for reference in reversed(core.recordings.copy()):
        recording: Recording | None = reference()
        for item in () if recording is None else recording._queue:
            if item.revision == revision:
                origin: Origin = item.new[0]
                return origin.clock
    return None


def _lifecycles(core: Core) -> dict[str, Lifecycle[Any]]:
    named = {**core.names, **{feed._name: feed for feed in core.families}}
    return {name: slot._lifecycle for name, slot in named.items() if slot._lifecycle is not None}


def _shown_to_users(commit: Kept) -> RecordedCommit:
    origin = commit.origin
    return RecordedCommit(
        revision=commit.revision,
        transitions=tuple(
            Transition(key=move.name, old=move.old, new=move.new, revision=commit.revision)
            for move in commit.moves
        ),
        **attrs.asdict(origin, recurse=False),
    )
