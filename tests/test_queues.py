"""The queues of subscriptions: the chain itself, the newest value alone, and the bounded rings."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from statestore import ValueWatcher
from statestore._queues import (
    ChainQueue,
    Item,
    JoiningRing,
    Lag,
    NewestQueue,
    Ring,
    make_queue,
)


class CutShortError(Exception):
    """What an interrupted pull raises."""


class CutRing(Ring):
    """A ring whose next push is cut short by an exception, right after it was done."""

    __slots__ = ("cuts",)

    def _push(self, item: Item) -> None:
        super()._push(item)
        if self.cuts:
            self.cuts -= 1
            raise CutShortError


def newest(old: object, new: object) -> object:
    """Join two values as the subscription of a watcher does."""
    return new


def both(old: Any, new: Any) -> Any:
    """Join two values so that both can be seen."""
    return (*old, *new)


def take_all(queue: ChainQueue | NewestQueue | Ring) -> list[Item | Lag]:
    """Take until there is nothing."""
    taken = []
    while (item := queue.take()) is not None:
        taken.append(item)
    return taken


# -- ChainQueue ------------------------------------------------------------------------------------


def test_a_chain_queue_gives_what_follows_its_cell() -> None:
    """Each cell behind the first is one item, from the value before to its own."""
    state = ValueWatcher(0)
    queue = ChainQueue(state._latest())
    state.value = 1
    state.value = 2
    assert [Item(0, 1, 1, 0), Item(1, 2, 2, 0)] == take_all(queue)
    assert None is queue.take()


def test_a_chain_queue_shows_without_taking() -> None:
    """Iteration and length leave everything where it is."""
    state = ValueWatcher(0)
    queue = ChainQueue(state._latest())
    state.value = 1
    state.value = 2
    assert 2 == len(queue)
    assert [1, 2] == [item.new for item in queue]
    assert 2 == len(queue)


def test_a_chain_queue_lets_go_of_what_was_taken() -> None:
    """The queue stands on the cell that it gave last, and holds none before it."""
    state = ValueWatcher(0)
    queue = ChainQueue(state._latest())
    state.value = 1
    queue.take()
    assert state._latest() is queue.cell


def test_closing_a_chain_queue_is_harmless() -> None:
    """There is nothing that a chain queue is registered with."""
    queue = ChainQueue(ValueWatcher(0)._latest())
    queue.close()
    assert None is queue.take()


# -- NewestQueue -----------------------------------------------------------------------------------


def test_a_newest_queue_skips_to_the_newest() -> None:
    """Of all that is new only the last is given, once."""
    state = ValueWatcher(0)
    queue = NewestQueue(state, state._latest())
    assert None is queue.take()
    assert 0 == len(queue)
    state.value = 1
    state.value = 2
    assert 1 == len(queue)
    assert [Item(None, 2, 2, 0)] == take_all(queue)
    assert 0 == len(queue)


def test_a_newest_queue_gives_its_own_cell_while_nothing_is_new() -> None:
    """A reader parks on the newest cell."""
    state = ValueWatcher(0)
    queue = NewestQueue(state, state._latest())
    assert state._latest() is queue.cell


def test_a_newest_queue_stands_before_what_is_new() -> None:
    """When something is new the stand-in for its cell says so, so nobody parks past it."""
    state = ValueWatcher(0)
    queue = NewestQueue(state, state._latest())
    state.value = 1
    _, revision, after = queue.cell
    assert (0, state._latest()) == (revision, after)


def test_a_newest_queue_shows_nothing() -> None:
    """It holds no items that could be shown; closing it is harmless."""
    state = ValueWatcher(0)
    queue = NewestQueue(state, state._latest())
    state.value = 1
    assert [] == list(queue)
    queue.close()


# -- Ring ------------------------------------------------------------------------------------------


def test_a_ring_takes_in_each_set() -> None:
    """A setter feeds the ring; nobody has to read for that."""
    state = ValueWatcher(0)
    ring = Ring(state, state._latest(), 3)
    ring.open()
    state.value = 1
    assert state._latest() is ring.cell
    assert [Item(0, 1, 1, 0)] == take_all(ring)
    ring.close()


def test_a_ring_keeps_the_newest_and_tells_what_it_lost() -> None:
    """The lag stands before the oldest kept, with its exact count and revisions."""
    state = ValueWatcher(0)
    ring = Ring(state, state._latest(), 2)
    for value in range(1, 6):
        state.value = value
    assert 2 == len(ring)
    assert [Item(3, 4, 4, 0), Item(4, 5, 5, 0)] == list(ring)
    assert [Lag(3, 1, 3), Item(3, 4, 4, 0), Item(4, 5, 5, 0)] == take_all(ring)
    ring.close()


def test_a_loss_of_one_begins_and_ends_with_it() -> None:
    """A lag of one has the same first and last revision."""
    state = ValueWatcher(0)
    ring = Ring(state, state._latest(), 1)
    state.value = 1
    state.value = 2
    assert [Lag(1, 1, 1), Item(1, 2, 2, 0)] == take_all(ring)
    ring.close()


def test_a_ring_pulls_what_was_linked_before_it_was_registered() -> None:
    """What came between the look at the cell and the registration is taken in by the next pull."""
    state = ValueWatcher(0)
    cell = state._latest()
    state.value = 1
    ring = Ring(state, cell, 1)
    assert [Item(0, 1, 1, 0)] == take_all(ring)
    ring.close()


def test_a_closed_ring_is_not_fed() -> None:
    """After `close()` setters do not know the ring."""
    state = ValueWatcher(0)
    ring = Ring(state, state._latest(), 1)
    ring.close()
    cell = ring.cell
    state.value = 1
    assert ring.cell is cell
    assert {} == state._core.listen(state).rings


def test_a_pull_within_a_pull_is_left_to_the_outer_one() -> None:
    """A frame that interrupts a pull in its own thread takes in nothing twice."""
    state = ValueWatcher(0)

    class Nested(Ring):
        __slots__ = ()

        def _push(self, item: Item) -> None:
            if item.new == 1:
                state.value = 2
                self.pull()
            super()._push(item)

    ring = Nested(state, state._latest(), 5)
    state.value = 1
    assert [Item(0, 1, 1, 0), Item(1, 2, 2, 0)] == take_all(ring)
    ring.close()


def test_a_pull_cut_short_is_not_repeated() -> None:
    """What was pushed before an exception is not pushed again, and the rest still comes."""
    state = ValueWatcher(0)
    cell = state._latest()
    for value in range(1, 4):
        state.value = value
    ring = CutRing(state, cell, 5)
    ring.cuts = 1
    # The one place where the push is done and not yet noted.
    with pytest.raises(CutShortError):
        ring.pull()
    assert [1, 2, 3] == [item.new for item in ring]
    ring.close()


def test_a_loss_that_was_noted_is_not_counted_again() -> None:
    """Cut short between noting a loss and dropping the item, the ring only drops it."""
    state = ValueWatcher(0)
    ring = Ring(state, state._latest(), 2)
    ring.open()
    state.value = 1
    state.value = 2
    cell = ring.cell
    state.value = 3
    # As it was one step before the end of the last pull.
    ring.cell = cell
    ring._items.appendleft(Item(0, 1, 1, 0))
    assert [Lag(1, 1, 1), Item(1, 2, 2, 0), Item(2, 3, 3, 0)] == take_all(ring)
    ring.close()


def test_after_a_pull_cut_short_the_next_one_works() -> None:
    """An exception does not leave the ring in the state of being pulled."""
    state = ValueWatcher(0)
    cell = state._latest()
    state.value = 1
    ring = CutRing(state, cell, 5)
    ring.cuts = 1
    with pytest.raises(CutShortError):
        ring.take()
    state.value = 2
    assert 2 == list(ring)[-1].new
    ring.close()


def test_a_bounded_ring_holds_no_chain() -> None:
    """However much is set, the cells of the past are free."""
    state = ValueWatcher(0)
    ring = Ring(state, state._latest(), 2)
    ring.open()
    for value in range(1, 1_000):
        state.value = value
    held = [cell for cell in gc.get_referents(ring) if isinstance(cell, list)]
    assert [state._latest()] == held
    ring.close()


# -- JoiningRing -----------------------------------------------------------------------------------


def test_a_joining_ring_joins_at_its_new_end() -> None:
    """What does not fit goes into the last item, which counts it."""
    state = ValueWatcher((0,))
    ring = JoiningRing(state, state._latest(), 2, both)
    for value in range(1, 5):
        state.value = (value,)
    assert [Item((0,), (1,), 1, 0), Item((1,), (2, 3, 4), 4, 2)] == take_all(ring)
    ring.close()


def test_a_joining_ring_never_lags() -> None:
    """Nothing is lost without being told in an item."""
    state = ValueWatcher(0)
    ring = JoiningRing(state, state._latest(), 1, newest)
    for value in range(1, 101):
        state.value = value
    assert [Item(0, 100, 100, 99)] == take_all(ring)
    ring.close()


def test_a_joining_ring_that_was_read_starts_a_new_item() -> None:
    """What was taken is not joined to any more."""
    state = ValueWatcher(0)
    ring = JoiningRing(state, state._latest(), 1, newest)
    state.value = 1
    assert Item(0, 1, 1, 0) == ring.take()
    state.value = 2
    assert Item(1, 2, 2, 0) == ring.take()
    ring.close()


# -- make_queue() ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("maxlen", "overflow", "kind"),
    [
        (None, "raise", ChainQueue),
        (None, "latest", ChainQueue),
        (1, "raise", Ring),
        (1, "latest", JoiningRing),
    ],
)
def test_bound_and_overflow_decide_the_kind(maxlen: int | None, overflow: Any, kind: type) -> None:
    """Without a bound it is the chain, whatever is said of overflows."""
    state = ValueWatcher(0)
    queue = make_queue(state, state._latest(), maxlen, overflow, newest)
    assert kind is type(queue)
    queue.close()
