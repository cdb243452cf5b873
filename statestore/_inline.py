"""
Compute derived watchers for callbacks, in the inline mailbox.

The network follows its slots by a *group*: each commit that touches one of them links its changes
into the group's chain and calls the network once, among the other callbacks of that commit and in
their order. It then advances to the very revision, and calls those who follow what has changed.

Only frames that hold the inline mailbox's right use such a network; so it is never found at work,
and no commit is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, final

from statestore._callbacks import CallbackHandle
from statestore._core import NEXT, NOTHING, REVISION, VALUE, Cell, Core, Group, Listeners, Slot
from statestore._formulas import NO_VALUE, Formula, last_good, read
from statestore._members import Feed
from statestore._network import Network, Outlet
from statestore._nodes import Input


@final
class GroupInput(Input):
    """One slot, of whose transitions the network hears by a group."""

    __slots__ = ("_group", "_is_armed")

    def __init__(self, slot: Slot, group: Group) -> None:
        super().__init__(slot, lambda _source: None)
        self._group = group
        self._is_armed = False

    def arm(self) -> None:
        """Have the slot's transitions listed in the group. Done once, it is done for good."""
        if self._is_armed:
            return
        slot = self.slot
        if isinstance(slot, Feed):
            slot.follow(self)
            slot.shared.family[self._token] = self._group
        else:
            slot._core.listen(slot).groups[self] = self._group
        self._is_armed = True

    def disarm(self) -> None:
        """Leave the group."""
        self._is_armed = False
        slot = self.slot
        if isinstance(slot, Feed):
            slot.shared.family.pop(self._token, None)
            # The last one: with it goes what was listed last.
            slot.unfollow(self)
        else:
            slot._core.listen(slot).groups.pop(self, None)


@final
class InlineNetwork(Network):
    """The derived watchers that callbacks follow."""

    __slots__ = ("_feeder", "_followers", "_group", "_heard")

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._group = Group(core, core.title, ())
        self._group._listeners = listeners = Listeners()
        # The cell of the group up to which changes were marked.
        self._heard: Cell = self._group._cell
        # Called for nothing before it was registered by a fence.
        self._feeder = CallbackHandle(core.title, self._feed, self._feed, self)
        listeners.callbacks[self._feeder] = None
        # What each callback follows, and how far it was told. Held here alone.
        self._followers: dict[CallbackHandle, list[Any]] = {}

    def follow(self, formula: Formula, handle: CallbackHandle) -> Cell:
        """Have *handle* told of what *formula* gives from now on; give the cell before that."""
        outlet = self.open(formula)
        cell = outlet._tail()
        handle._since = cell[REVISION]
        handle._registered = self
        self._followers[handle] = [outlet, cell]
        self.core.listen(outlet).callbacks[handle] = None
        return cell

    def begin(self) -> int:
        """Hear of commits from now on; give the revision."""
        return self.core.fence(self._feeder)

    def pop(self, handle: CallbackHandle, _default: None, /) -> None:
        """Forget *handle*, which was closed, and what only it needed."""
        if handle is self._feeder:
            for other in self._followers.copy():
                other.close()
        follower = self._followers.pop(handle, None)
        if follower is not None:
            outlet: Outlet = follower[0]
            self.core.listen(outlet).callbacks.pop(handle, None)
            outlet._leave()
        self.core.inline.exclusively(self._clear)
        self.core.run_callbacks()

    def _feed(self, _old: object, _changes: object) -> None:
        """Hear of a commit."""
        revision = self.core.inline.revision
        try:
            self._tell_of(revision)
        except (KeyboardInterrupt, SystemExit):
            # What it has cut off would have to wait for the next commit.
            self._tell_of(revision)
            raise

    def _tell_of(self, revision: int) -> None:
        self._hear(revision)
        self._if_free(self._advance, revision)
        try:
            self._deliver_all(revision)
        finally:
            if self._dropped:
                self._clear()

    def _deliver_all(self, revision: int) -> None:
        stop: BaseException | None = None
        for outlet in self._fed.copy():
            for handle in self.core.listen(outlet).callbacks.copy():
                try:
                    self._deliver(handle, revision)
                except (KeyboardInterrupt, SystemExit) as error:
                    stop = stop or error
            # After an interrupt all are gone through once more.
            if stop is None and outlet._cell[REVISION] <= revision:
                self._fed.pop(outlet, None)
        if stop is not None:
            raise stop

    def _deliver(self, handle: CallbackHandle, revision: int) -> None:
        """Call *handle* for all that came up to *revision*."""
        since = (self._feeder if handle._since is None else handle)._since or 0
        # There is no follower any more once it was closed, which it may do itself.
        while (follower := self._followers.get(handle)) is not None:
            old, _, after = follower[1]
            if after is None or after[REVISION] > revision:
                return
            new = after[VALUE]
            failure = new.again() if type(new) in NO_VALUE else None
            old = last_good(old)
            if after[REVISION] <= since:
                follower[1] = after
                continue
            try:
                # No call between passing on and calling it: an interrupt would lose it.
                follower[1] = after
                if failure is not None:
                    raise failure  # noqa: TRY301 -- as if the callback had
                handle._function(old, new)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 -- as in any round of callbacks
                self.core.inline.report(handle, after[REVISION], error)

    def _hear(self, revision: int) -> None:
        """Mark all that commits up to *revision* have changed. Setters mark nothing here."""
        while (after := self._heard[NEXT]) is not None and after[REVISION] <= revision:
            self._mark_all(after[VALUE][::3])
            self._heard = after
            # Nobody else reads it here.
            after[VALUE] = NOTHING

    def _mark_all(self, slots: Iterable[Slot]) -> None:
        inputs = self._graph.inputs
        for slot in slots:
            if slot in inputs:
                self.dirty[inputs[slot]] = None
            # A member is heard of through the feed of its family.
            if slot._member is not None and slot._member[0] in inputs:
                self.dirty[inputs[slot._member[0]]] = None

    def _read(self, slots: Iterable[Slot]) -> tuple[int, dict[Slot, Cell]]:
        revision, cells = read(slots, self.core.fence)
        self._hear(revision)
        return revision, cells

    def _make_input(self, slot: Slot) -> Input:
        return GroupInput(slot, self._group)

    def _wake(self) -> None:
        """Do nothing: each commit comes by itself."""

    def _tell_all(self) -> None:
        """Do nothing: callbacks are called afterwards."""

    def _tidy(self) -> None:
        """Wait: this may be any thread, and the one that feeds this must find it free."""

    def _clear(self) -> None:
        self._if_free(self._prune)


def follow(core: Core, formula: Formula, handle: CallbackHandle) -> tuple[Cell, int]:
    """
    Have *handle* told of what *formula* gives from now on.

    Gives a cell before that, and the revision above which it is told.
    """
    found: list[tuple[Cell, int]] = []

    def join() -> None:
        if core.derived is None:
            core.derived = InlineNetwork(core)
            core.derived.begin()
        # It is at work if this comes out of a function that it computes.
        if core.derived.is_free:
            cell = core.derived.follow(formula, handle)
            found.append((cell, handle._since or 0))

    core.run_callbacks()
    if not (core.inline.exclusively(join) and found):
        return _follow_apart(core, formula, handle)
    core.run_callbacks()
    return found[0]


def _follow_apart(core: Core, formula: Formula, handle: CallbackHandle) -> tuple[Cell, int]:
    """
    Do as `follow()` while another thread is calling callbacks, which may take long.

    That thread would find the network at work. So this is one of its own, which it is told of when
    it is complete. The same out of a function that the network is computing.
    """
    outlet = Network(core).open(formula)
    try:
        cell = outlet._tail()
        network = InlineNetwork(core)
        network.follow(formula, handle)
        # What comes up to this is passed over: it came before.
        handle._since = None
        handle._since = since = network.begin()
        outlet._latest()
        return cell, since
    finally:
        outlet._leave()
