"""Follow several keys as one: whole commits in one queue, all values at one revision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar, cast, final

from statestore._core import NEXT, REVISION, VALUE, Cell, Core, Group, Slot
from statestore._matching import Satisfying
from statestore._queues import Item, Overflow, make_queue
from statestore._records import ABSENT, Commit, Snapshot, Transition
from statestore._streams import AsyncStream, BlockingStream, Stream

StreamT = TypeVar("StreamT", bound="_Commits")

Followed: TypeAlias = Callable[[], dict[str, Slot]]
"""Give the keys that are followed, by name."""


def changes_of(flat: tuple[Any, ...]) -> Iterator[tuple[Slot, Any, Any]]:
    """Give slot, old and new value of each change of a commit."""
    return zip(flat[::3], flat[1::3], flat[2::3], strict=True)


def join(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[Any, ...]:
    """Make one commit of two: for each slot from its first old value to its last new one."""
    joined = {slot: (old, new) for slot, old, new in changes_of(first)}
    for slot, old, new in changes_of(second):
        joined[slot] = (joined[slot][0] if slot in joined else old, new)
    return tuple(part for slot, (old, new) in joined.items() for part in (slot, old, new))


def look(core: Core, followed: Followed) -> Snapshot:
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
        values = {name: slot._latest()[VALUE] for name, slot in followed().items()}
        core.settle()
        return Snapshot(_rewind(values, _later(first, revision)), revision)
    finally:
        core.attention.pop(token, None)


def _later(cell: Cell, revision: int) -> Iterator[tuple[Any, ...]]:
    while (after := cell[NEXT]) is not None:
        cell = after
        if cell[REVISION] > revision:
            yield cell[VALUE]


def _rewind(values: dict[str, Any], commits: Iterator[tuple[Any, ...]]) -> dict[str, Any]:
    """Take *commits* back, whether or not *values* were read after them."""
    before: dict[str, Any] = {}
    for changes in commits:
        for slot, old, _ in changes_of(changes):
            before.setdefault(slot._name, old)
    current = {name: before.get(name, value) for name, value in values.items()}
    return {name: value for name, value in current.items() if value is not ABSENT}


class _Commits(Stream[Commit]):
    """What a subscription to a store gives."""

    # No slots: two bases that have some cannot be joined.

    _followed: Followed
    # The values at the place where it stands, once somebody asked for them.
    _state: dict[str, Any] | None

    def _opened(self) -> None:
        super()._opened()
        self._state = None

    def _record(self, item: Item) -> Commit:
        transitions = tuple(
            Transition(key=slot._name, old=old, new=new, revision=item.revision)
            for slot, old, new in changes_of(item.new)
        )
        return Commit(revision=item.revision, transitions=transitions, missed=item.missed)

    def _newest(self) -> Snapshot:
        now = look(self._slot._core, self._followed)
        # What is kept does not follow what was taken before.
        self._state = self._rewound(now)
        return now

    def _take(self) -> Item | None:
        item = super()._take()
        if item is not None and self._state is not None:
            for slot, _, new in changes_of(item.new):
                self._state[slot._name] = new
        return item

    def _value(self) -> Snapshot:
        if self._state is None:
            self._state = self._rewound(look(self._slot._core, self._followed))
        return Snapshot(dict(self._state), self._at[1])

    def _rewound(self, now: Snapshot) -> dict[str, Any]:
        """Take back what is in the queue."""
        return _rewind(dict(now), (item.new for item in self._queue))


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
        for follower in followers:
            follower.pop(token, None)
        if slots:
            # The group is this subscription's own, and has listeners once somebody waited on it.
            core.listeners.pop(group, None)

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
    stream._at = ((), revision)
    stream._followed = core.names.copy if not slots else {s._name: s for s in slots}.copy
    if maxlen is not None:
        # Once the queue has lost something, it cannot be told from what is kept any more.
        stream._value()
    return stream
