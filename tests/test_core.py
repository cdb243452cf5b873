"""The order of commits: what one step does, and who finishes it when it was left half done."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from statestore import ABSENT, Key, Store, StoreClosedError, ValueWatcher, WaitTimeoutError
from statestore._callbacks import CallbackHandle, InlineMailbox
from statestore._core import (
    BOX,
    END,
    NEXT,
    PATIENCE,
    REVISION,
    ROUNDS,
    VALUE,
    Change,
    Core,
    Entry,
    Head,
    Listeners,
    Slot,
)
from statestore.testing import StepLoop

if TYPE_CHECKING:
    from collections.abc import Callable


class App(Store):
    """Two numbers."""

    left = Key(0)
    right = Key(0)


class CountingPort:
    """A port that counts how often it was notified."""

    def __init__(self) -> None:
        self.notified = 0

    def notify(self) -> None:
        """Count."""
        self.notified += 1


class Overtaken(Core):
    """An order in which somebody else commits right after a head was found, once."""

    __slots__ = ("overtakes",)

    overtakes: list[Change]

    def settle(self) -> Head:
        """Find the newest head, and have it overtaken."""
        head = super().settle()
        changes, self.overtakes = self.overtakes, []
        if changes:
            assert self.publish(head, changes) is not None
        return head


def commit_by_hand(core: Core, *changes: tuple[Any, Any]) -> Entry:
    """Append a commit to the newest box and leave it at that, as a thread that stops there."""
    head = core.settle()
    entry = core.entry(head[0] + 1, [(slot, slot._tail(), value) for slot, value in changes])
    head[BOX].append(entry)
    return entry


def behind(core: Core, commit: Callable[[], object]) -> Entry:
    """Give the entry that *commit* appends."""
    box = core.settle()[BOX]
    commit()
    entry: Entry = box[0]
    return entry


def chain_of(watcher: ValueWatcher[Any], start: list[Any]) -> list[tuple[Any, int]]:
    """List values and revisions of what is linked behind the cell *start*."""
    found = []
    while (start := start[NEXT]) is not None:
        found.append((start[VALUE], start[REVISION]))
    assert watcher._tail()[NEXT] is None
    return found


def in_thread(function: Callable[[], object]) -> None:
    """Run *function* in another thread, to its end."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


class TestSettle:
    """`settle()` applies what is committed and not applied yet."""

    def test_gives_the_head_when_nothing_is_left_to_apply(self) -> None:
        """Nothing behind the head means that the head is the newest."""
        core = App()._core

        assert core.head is core.settle()

    def test_applies_every_entry_that_was_left(self) -> None:
        """Several entries in a row are applied in their order."""
        app = App()
        start = app.left._cell
        commit_by_hand(app._core, (app.left, 1))
        app._core.settle()
        first = app._core.head
        second = (2, [], None, app.left, app.left._tail(), [2, 2, None])
        third = (3, [], None, app.left, second[-1], [3, 3, None])
        first[BOX].append(second)
        second[BOX].append(third)

        assert third[0] == app._core.settle()[0]
        assert [(1, 1), (2, 2), (3, 3)] == chain_of(app.left, start)

    def test_takes_only_the_first_of_a_box(self) -> None:
        """Whoever is appended second has lost and is never applied."""
        app = App()
        head = app._core.settle()
        cell = app.left._tail()
        first = (1, [], None, app.left, cell, [1, 1, None])
        head[BOX].extend([first, (1, [], None, app.left, cell, [2, 1, None])])

        assert first[0] == app._core.settle()[0]
        assert 1 == app.left.value

    @pytest.mark.parametrize(
        "look",
        [
            lambda app: app.left.value,
            lambda app: app.snapshot()["left"],
            lambda app: app["left"]._latest()[VALUE],
            lambda app: app.transact(lambda tx: tx[App.left]),
        ],
        ids=["value", "snapshot", "latest", "transaction"],
    )
    def test_every_reader_finishes_what_was_left(self, look: Callable[[App], int]) -> None:
        """A commit that its thread did not apply is seen by whoever reads next."""
        app = App()
        commit_by_hand(app._core, (app.left, 7))

        assert 7 == look(app)

    def test_the_revision_counts_what_was_left(self) -> None:
        """A commit that its thread did not apply counts."""
        app = App()
        commit_by_hand(app._core, (app.left, 7))

        assert 1 == app.revision
        assert 1 == app.left.revision

    def test_every_writer_commits_behind_what_was_left(self) -> None:
        """A set finds the commit that was left and comes after it."""
        app = App()
        start = app.left._cell
        commit_by_hand(app._core, (app.left, 7))
        made = app.left.set(8)

        assert made is not None
        assert (7, 8, 2) == (made.old, made.new, made.revision)
        assert [(7, 1), (8, 2)] == chain_of(app.left, start)

    def test_a_fence_finishes_what_was_left(self) -> None:
        """A fence is of the newest revision, applied or not."""
        app = App()
        commit_by_hand(app._core, (app.left, 7))

        assert 1 == app._core.fence()

    def test_whoever_comes_next_tells_the_consumers(self) -> None:
        """Ports, rings, groups and callbacks are told of a commit by the one who finishes it."""
        app = App()
        told: list[tuple[int, int]] = []
        port = CountingPort()
        with app.left.subscribe(maxlen=5) as bounded, app.subscribe() as commits:
            app.left.on_change(lambda old, new: told.append((old, new)))
            app._core.listen(app.left).ports["token"] = port
            commit_by_hand(app._core, (app.left, 7))
            assert [] == told
            app.right.value = 1

            assert [(0, 7)] == told
            assert 1 == port.notified
            assert [7] == [item.new for item in bounded._queue]  # type: ignore[union-attr]
            assert [1, 2] == [commits.get_nowait().revision for _ in range(2)]

    def test_a_key_that_was_left_half_added_is_there(self) -> None:
        """The commit that adds a key is finished by whoever looks for the name."""
        app = App()
        third = ValueWatcher[Any]._in_store(app._core, "third", ABSENT)
        commit_by_hand(app._core, (third, 3))

        assert "third" in app
        assert app["third"] is third
        assert 3 == app["third"].value


class TestApply:
    """`apply()` writes only what the entry says."""

    def test_repeated_it_changes_nothing(self) -> None:
        """Values, revisions, queues and callbacks are the same after a second time."""
        app = App()
        told: list[int] = []
        app.left.on_change(lambda _old, new: told.append(new))
        with app.left.subscribe() as plain, app.left.subscribe(maxlen=9) as bounded:
            entry = behind(app._core, lambda: app.left.set(1))
            app._core.apply(entry)
            app._core.run_callbacks()

            assert (1, 1) == (app.left.value, app.revision)
            assert (1, 1) == (plain.pending, bounded.pending)
            assert [1] == told

    def test_late_it_changes_nothing(self) -> None:
        """An entry that is applied once more after others came is drowned by those."""
        app = App()
        told: list[int] = []
        app.left.on_change(lambda _old, new: told.append(new))
        with app.left.subscribe() as plain, app.left.subscribe(maxlen=9) as bounded:
            late = behind(app._core, lambda: app.left.set(1))
            app.left.value = 2
            app.right.value = 3
            app._core.apply(late)
            app._core.run_callbacks()

            assert (2, 3, 3) == (app.left.value, app.right.value, app.revision)
            assert (2, 2) == (plain.pending, bounded.pending)
            assert [1, 2] == told
            app.left.value = 4
            assert [1, 2, 4] == [plain.get_nowait().new for _ in range(3)]
            assert [1, 2, 4] == [bounded.get_nowait().new for _ in range(3)]
            assert [1, 2, 4] == told

    def test_late_and_cut_short_it_hides_nothing(self) -> None:
        """A thread that stopped right after noting its old cell once more hides no newer value."""
        app = App()
        late = behind(app._core, lambda: app.left.set(1))
        app.left.value = 2
        app.left._cell = late[-1]

        assert (2, 2) == (app.left.value, app.left.revision)
        assert {"left": 2, "right": 0} == dict(app.snapshot())
        app.left._cell = late[-1]
        made = app.left.set(3)
        assert made is not None
        assert (2, 3, 3) == (made.old, made.new, made.revision)

    def test_calls_are_run_though_another_round_ends_just_then(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who ends a round found nothing left, and says so after this commit has left its calls."""
        app = App()
        told: list[int] = []
        app.left.on_change(lambda _old, new: told.append(new))
        post = InlineMailbox.post

        def post_and_end_another(inline: InlineMailbox, entry: Entry) -> None:
            post(inline, entry)
            app._core.attention.pop(inline, None)

        monkeypatch.setattr(InlineMailbox, "post", post_and_end_another)
        app.left.value = 1

        assert [1] == told

    def test_what_is_left_to_be_applied_is_found_by_a_wait(self) -> None:
        """A value that was replaced is not there any more, be the commit not applied yet."""
        app = App()
        commit_by_hand(app._core, (app.left, 1))
        with StepLoop() as loop, pytest.raises(WaitTimeoutError):
            loop.run(app.left.wait_for(0, timeout=0))

    def test_late_and_cut_short_it_is_not_taken_for_the_newest_by_a_wait(self) -> None:
        """The same where the old cell was noted once more."""
        app = App()
        late = behind(app._core, lambda: app.left.set(1))
        app.left.value = 2
        app.left._cell = late[-1]
        with StepLoop() as loop, pytest.raises(WaitTimeoutError):
            loop.run(app.left.wait_for(1, timeout=0))

    def test_late_it_does_not_undo_a_key(self) -> None:
        """The commit that added a key, applied late, leaves its newer value alone."""
        app = App()
        late = behind(app._core, lambda: app.add("port", 1))
        app["port"].value = 2
        app._core.apply(late)

        assert 2 == app["port"].value
        assert 2 == app.snapshot()["port"]


class TestPublish:
    """`publish()` commits right behind a head, or not at all."""

    def test_commits_all_changes_at_one_revision(self) -> None:
        """Several slots change with one entry."""
        app = App()
        core = app._core
        changes = [(app.left, app.left._tail(), 1), (app.right, app.right._tail(), 2)]

        entry = core.publish(core.settle(), changes)

        assert entry is not None
        assert (1, 1) == (entry[0], core.settle()[0])
        assert {"left": 1, "right": 2} == dict(app.snapshot())
        assert (1, 1) == (app.left.revision, app.right.revision)

    def test_behind_a_head_with_a_successor_it_does_nothing(self) -> None:
        """Whoever comes second at a head gets None, and nothing of it is seen."""
        app = App()
        core = app._core
        head = core.settle()
        app.right.value = 5

        assert None is core.publish(head, [(app.left, app.left._tail(), 1)])
        assert (0, 1) == (app.left.value, app.revision)

    def test_behind_the_end_it_does_nothing(self) -> None:
        """Nothing can be appended behind the end."""
        app = App()
        app.close()

        assert None is app._core.publish(app._core.head, [(app.left, app.left._tail(), 1)])
        assert 0 == app.left.value

    def test_of_two_at_one_head_one_wins(self) -> None:
        """A commit that is made while another one is prepared comes first."""
        app = App()

        def meanwhile(old: int) -> int:
            if old == 0:
                app.left.value = 10
            return old + 1

        made = app.left.update(meanwhile)

        assert made is not None
        assert (10, 11, 2) == (made.old, made.new, made.revision)


class TestFence:
    """`fence()` makes whoever is about to commit look again."""

    def test_is_no_revision(self) -> None:
        """A fence changes nothing and counts nothing."""
        app = App()
        app.left.value = 1

        assert 1 == app._core.fence()
        assert 1 == app.revision

    def test_defeats_a_commit_that_has_looked_before(self) -> None:
        """Who found its head before the fence has to find a new one."""
        app = App()
        head = app._core.settle()
        app._core.fence()

        assert None is app._core.publish(head, [(app.left, app.left._tail(), 1)])

    def test_overtaken_by_a_commit_it_comes_behind_it(self) -> None:
        """A fence that found its head before another commit looks again, and is of its revision."""
        state = ValueWatcher(0)
        core = Overtaken(state._core.inline, "overtaken", strict=False)
        slot = Slot(core, "slot", 0)
        core.overtakes = [(slot, slot._tail(), 1)]

        assert 1 == core.fence()
        assert 1 == core.settle()[0]
        assert 1 == slot._latest()[VALUE]

    def test_divides_what_a_callback_is_told_of(self) -> None:
        """A commit that found a callback before its fence does not tell it; those after it do."""
        app = App()
        told: list[int] = []
        handle = CallbackHandle(
            "left",
            told.append,
            lambda _old, new: told.append(new),
            app._core.listen(app.left).callbacks,
        )
        handle._registered[handle] = None
        app.left.value = 1
        before = commit_by_hand(app._core, (app.left, 2))
        app._core.fence(handle)
        app._core.inline.post(before)
        app.left.value = 3

        assert [3] == told
        handle.close()

    def test_after_the_end_it_gives_the_last_revision(self) -> None:
        """A fence behind the end returns at once."""
        app = App()
        app.left.value = 1
        app.close()

        assert 1 == app._core.fence()


class TestEnd:
    """`end()` appends what nothing comes behind."""

    def test_refuses_what_comes_after(self) -> None:
        """To commit behind the end is an error."""
        core = App()._core
        core.end()

        with pytest.raises(StoreClosedError, match="App is closed"):
            core.settle_open()

    def test_repeated_does_nothing(self) -> None:
        """A second end leaves the first one in place."""
        core = App()._core
        core.end()
        head = core.head
        core.end()

        assert head is core.head

    def test_is_no_revision(self) -> None:
        """The end changes no value and counts nothing."""
        app = App()
        app.left.value = 1
        app._core.end()

        assert (1, 1) == (app.left.value, app.revision)

    def test_tells_every_slot_that_is_listened_to(self) -> None:
        """All ports are notified, whatever their key."""
        app = App()
        ports = [CountingPort(), CountingPort()]
        app._core.listen(app.left).ports["token"] = ports[0]
        app._core.listen(app.right).ports["token"] = ports[1]
        app._core.end()

        assert [1, 1] == [port.notified for port in ports]

    def test_that_was_left_is_finished_by_the_next(self) -> None:
        """An end whose thread stopped after appending it ends the store all the same."""
        app = App()
        head = app._core.settle()
        head[BOX].append((head[0], [END], None))

        assert app.is_closed
        with pytest.raises(StoreClosedError):
            app.left.value = 1


class TestListen:
    """`listen()` gives the one place where the consumers of a slot are."""

    def test_gives_the_same_listeners_always(self) -> None:
        """A second call finds those of the first."""
        app = App()

        assert app._core.listen(app.left) is app._core.listen(app.left)

    def test_one_that_was_cut_short_is_found_again(self) -> None:
        """The listeners of a slot are found even if the slot itself did not note them."""
        app = App()
        listeners = app._core.listen(app.left)
        app.left._listeners = None

        assert listeners is app._core.listen(app.left)

    def test_a_port_is_told_once_until_it_is_armed_anew(self) -> None:
        """A burst of commits notifies a port once."""
        app = App()
        port = CountingPort()
        ports = app._core.listen(app.left).ports
        ports["first"] = port
        for value in (1, 2, 3):
            app.left.value = value
        assert 1 == port.notified
        ports["second"] = port
        app.left.value = 4

        assert 2 == port.notified

    def test_a_port_that_is_armed_while_it_is_told_stays_armed(self) -> None:
        """The token that was told goes, a new one stays."""
        listeners = Listeners()

        class Rearming:
            def notify(self) -> None:
                listeners.ports["new"] = self

        listeners.ports["old"] = Rearming()
        listeners.notify()

        assert ["new"] == list(listeners.ports)


class TestTurns:
    """An update that loses too often gets the right of way."""

    def test_an_update_that_always_loses_ends(self) -> None:
        """P062: others, who set whenever it is about to commit, let it go first in the end."""
        counter = ValueWatcher(0)
        rounds = 0
        others: list[threading.Thread] = []

        def losing(old: int) -> int:
            nonlocal rounds
            rounds += 1
            thread = threading.Thread(target=counter.set, args=(old + 1,))
            others.append(thread)
            thread.start()
            if rounds <= ROUNDS:
                thread.join()
            return old + 1000

        made = counter.update(losing)
        for thread in others:
            thread.join()

        assert ROUNDS < rounds <= ROUNDS + 2
        assert made is not None
        assert made.old + 1000 == made.new

    def test_a_transaction_that_always_loses_ends(self) -> None:
        """P062: a transaction is given the right of way as well."""
        app = App()
        rounds = 0
        others: list[threading.Thread] = []

        def losing(tx: Any) -> int:
            nonlocal rounds
            rounds += 1
            value: int = tx[App.left]
            thread = threading.Thread(target=app.left.set, args=(value + 1,))
            others.append(thread)
            thread.start()
            if rounds <= ROUNDS:
                thread.join()
            tx[App.left] = value + 1000
            return value

        before = app.transact(losing)
        for thread in others:
            thread.join()

        assert ROUNDS < rounds <= ROUNDS + 2
        assert before >= ROUNDS

    def test_the_turn_is_given_back(self) -> None:
        """After the update nobody gives way any more, be it that it raised."""
        counter = ValueWatcher(0)
        rounds = 0

        def losing(old: int) -> int:
            nonlocal rounds
            rounds += 1
            if rounds > ROUNDS:
                msg = "enough"
                raise ValueError(msg)
            counter.value = old + 1
            return old - 1

        with pytest.raises(ValueError, match="enough"):
            counter.update(losing)

        assert {} == counter._core.turns
        assert {} == counter._core.attention

    def test_one_does_not_give_way_to_oneself(self) -> None:
        """An update function that sets its own key in each round loses, but does not block."""
        counter = ValueWatcher(0)
        rounds = 0

        def losing(old: int) -> int:
            nonlocal rounds
            rounds += 1
            if rounds <= ROUNDS + 10:
                counter.value = old + 1
            return old + 1000

        made = counter.update(losing)

        assert ROUNDS + 11 == rounds
        assert made is not None
        assert (rounds - 1, rounds - 1 + 1000) == (made.old, made.new)

    def test_others_give_way_until_the_turn_is_over(self) -> None:
        """A commit of another thread comes after the end of the turn."""
        app = App()
        core = app._core
        turn = core.take_turn()
        order: list[str] = []
        thread = threading.Thread(target=lambda: (app.left.set(1), order.append("set")))
        thread.start()
        order.append("turn")
        core.end_turn(turn)
        thread.join()

        assert ["turn", "set"] == order
        assert 1 == app.left.value

    def test_others_do_not_give_way_for_ever(self) -> None:
        """A turn whose update waits for another commit does not stop that."""
        app = App()
        turn = app._core.take_turn()
        in_thread(lambda: app.left.set(1))
        app._core.end_turn(turn)

        assert 1 == app.left.value
        assert 0 < PATIENCE < 1

    def test_an_update_may_wait_for_another_thread(self) -> None:
        """P062: the right of way does no harm if the update function waits for a set."""
        app = App()
        rounds = 0

        def losing(old: int) -> int:
            nonlocal rounds
            rounds += 1
            if rounds <= ROUNDS:
                app.left.value = old + 1
            else:
                in_thread(lambda: app.right.set(1))
            return old + 1000

        assert app.left.update(losing) is not None
        assert 1 == app.right.value
