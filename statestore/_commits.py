"""Follow several keys as one: whole commits in one queue, all values at one revision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar, cast, final

from statestore._core import NEXT, NOTHING, REVISION, VALUE, Cell, Core, Group, Slot, by_three
from statestore._formulas import gather
from statestore._matching import Satisfying
from statestore._members import Feed, Membership
from statestore._queues import Item, Overflow, make_queue
from statestore._records import (
    ABSENT,
    Commit,
    Removed,
    Snapshot,
    make_commit,
    make_transition,
)
from statestore._streams import AsyncStream, BlockingStream, Stream

StreamT = TypeVar("StreamT", bound="_Commits")

Followed: TypeAlias = Callable[[], dict[str, Slot]]
"""Give the keys that are followed, by name."""


def join(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[Any, ...]:
    """Make one commit of two: for each slot from its first old value to its last new one."""
    joined = {slot: (old, new) for slot, old, new in by_three(first)}
    for slot, old, new in by_three(second):
        joined[slot] = (joined[slot][0] if slot in joined else old, new)
    return tuple(part for slot, (old, new) in joined.items() for part in (slot, old, new))


def look(core: Core, followed: Followed, families: Sequence[Feed] = ()) -> Snapshot:
    """
    Give the values of all keys at one revision, whoever commits meanwhile.

    Follows the commits while it reads, and takes back what came after the revision.
    """
    group = Group(core, core.title, ())
    first = group._cell
    token = object()
    core.attention[token] = group
    try:
        revision = core.fence()
        slots = followed()
        memberships = [feed.members for feed in families]
        values = {slot: slot._latest()[VALUE] for slot in (*slots.values(), *memberships)}
        for members in memberships:
            for slot in values[members].slots.values():
                values[slot] = slot._latest()[VALUE]
        core.settle()
        values |= _before(_later(first, revision))
        found = {name: values[slot] for name, slot in slots.items()}
        for members in memberships:
            there = values[members].slots.values()
            found[members._name] = gather({slot: values[slot] for slot in there})
        return Snapshot(_present(found), revision)
    finally:
        core.attention.pop(token, None)


def _later(cell: Cell, revision: int) -> Iterator[tuple[Any, ...]]:
    while (after := cell[NEXT]) is not None:
        cell = after
        if cell[REVISION] > revision:
            yield cell[VALUE]


def _before(commits: Iterable[tuple[Any, ...]]) -> dict[Slot, Any]:
    """Give what was there before *commits*."""
    before: dict[Slot, Any] = {}
    for changes in commits:
        for slot, old, _ in by_three(changes):
            before.setdefault(slot, old)
    return before


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not _is_gone(value)}


def _is_gone(value: Any) -> bool:
    return value is ABSENT or type(value) is Removed


def _put(state: dict[str, Any], slot: Slot, value: Any) -> None:
    """Have *slot* be *value* in *state*, which has the values of keys and of whole families."""
    if isinstance(value, Membership):
        return
    family, key = None, None
    if slot._member is not None and slot._member[0]._name in state:
        family, key = slot._member[0]._name, slot._member[1]
    put(state, slot._name, family, key, value)


def put(state: dict[str, Any], name: str, family: str | None, key: Any, value: Any) -> None:
    """Have the key *name*, or the member *key* of *family*, be *value* in *state*."""
    if family is None:
        if _is_gone(value):
            state.pop(name, None)
        else:
            state[name] = value
    elif not _is_gone(value):
        state[family] = state[family].set(key, value)
    elif key in state[family]:
        state[family] = state[family].delete(key)


def shown(value: Any) -> Any:
    """Give *value*, which came out of a cell, as consumers see it: an end is an absence."""
    return ABSENT if _is_gone(value) else value


class _Commits(Stream[Commit]):
    """What a subscription to a store gives."""

    # No slots: two bases that have some cannot be joined.

    _followed: Followed
    # The values at the place where it stands, once somebody asked for them.
    _state: dict[str, Any] | None

    def _opened(self) -> None:
        super()._opened()
        self._state = None

    def _takes_plainly(self) -> bool:
        return self._state is None

    def _record(self, old: Any, new: Any, revision: int, missed: int) -> Commit:  # noqa: ARG002 -- there is none before
        # `changes_of_keys()` and `shown()`, written out.
        transitions = [
            make_transition(
                slot._name, before, ABSENT if type(after) is Removed else after, revision, 0
            )
            for slot, before, after in by_three(new)
            if type(after) is not Membership
        ]
        return make_commit(revision, tuple(transitions), missed)

    def _newest(self) -> Snapshot:
        now = self._look()
        # What is kept does not follow what was taken before.
        self._state = self._rewound(now)
        return now

    def _take(self) -> Item | None:
        item = super()._take()
        if item is not None and self._state is not None:
            for slot, _, new in by_three(item.new):
                _put(self._state, slot, new)
        return item

    def _standing(self) -> Snapshot:
        if self._state is None:
            self._state = self._rewound(self._look())
        return Snapshot(dict(self._state), self._at[1])

    def _look(self) -> Snapshot:
        core = self._slot._core
        families = core.families if self._slot is core.everything else ()
        return look(core, self._followed, families)

    def _rewound(self, now: Snapshot) -> dict[str, Any]:
        """Take back what is in the queue."""
        state = dict(now)
        before = _before(item.new for item in self._queue)
        # The latest ones first: of two members of one key in turn, it is the first that was there.
        for slot, value in reversed(before.items()):
            _put(state, slot, value)
        return state


@final
class CommitSubscription(_Commits, AsyncStream[Commit]):
    """
    A task's own queue of the commits of a store, from `Store.subscribe()`.

    `async for` gives [`Commit`][] records; else as [`Subscription`][].
    """

    __slots__ = ()

    async def wait_until(
        self,
        predicate: Callable[[Snapshot], object],
        *,
        immediate: bool = True,
        timeout: float | None = None,
    ) -> Snapshot:
        """
        Take commits until *predicate* holds for all values together; return the snapshot.

        Args:
            predicate: Called with a [`Snapshot`][] of the followed keys, once for each commit in
                order. It must be a plain function.
            immediate: Whether the values at the place of the subscription are looked at first.
            timeout: Seconds to wait at most; None waits for ever.

        Raises:
            WaitTimeoutError: It did not become so in time.
            StoreClosedError: The store was closed.
            LaggedError: Commits were lost; go on waiting to look at the oldest kept.

        Cancellation:
            The commit that would have matched is not taken.

        Cost:
            Linear in the number of followed keys, for each commit.
        """
        return cast(
            "Snapshot",
            await self._scan(Satisfying(predicate), immediate=immediate, timeout=timeout),
        )


@final
class BlockingCommitSubscription(_Commits, BlockingStream[Commit]):
    """A thread's own queue of the commits of a store. Else as [`CommitSubscription`][]."""

    __slots__ = ()

    def wait_until(
        self,
        predicate: Callable[[Snapshot], object],
        *,
        immediate: bool = True,
        timeout: float | None = None,
    ) -> Snapshot:
        """Take commits until *predicate* holds for all values together. Blocks the thread."""
        return cast(
            "Snapshot",
            self._scan(Satisfying(predicate), immediate=immediate, timeout=timeout),
        )


def follow(
    kind: type[StreamT],
    core: Core,
    slots: tuple[Slot, ...],
    maxlen: int | None,
    overflow: Overflow,
) -> StreamT:
    """Open a subscription to the commits of *slots*, or of all keys if there are none."""
    token = object()
    followers: list[dict[object, Any]]
    if slots:
        group = Group(core, core.title, ())
        followers = [core.listen(slot).groups for slot in slots]
    else:
        group = core.everything
        followers = [core.attention]

    def release() -> None:
        tail = group._tail()
        for follower in followers:
            follower.pop(token, None)
        if slots:
            # The group is this subscription's own, and has listeners once somebody waited on it.
            core.listeners.pop(group, None)
        elif group not in core.attention.copy().values():
            tail[VALUE] = NOTHING

    cell = group._tail()
    for follower in followers:
        follower[token] = group
    try:
        revision = core.fence()
        # What was linked before the fence came before the opening.
        while (after := cell[NEXT]) is not None and after[REVISION] <= revision:
            cell = after
        stream = kind(group, cell, make_queue(group, cell, maxlen, overflow, join), release=release)
    except BaseException:
        release()
        raise
    stream._stood = ((), revision)
    stream._followed = core.names.copy if not slots else {s._name: s for s in slots}.copy
    if maxlen is not None:
        # Once the queue has lost something, it cannot be told from what is kept any more.
        stream._value()
    return stream
