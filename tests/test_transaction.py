"""Transactions: several keys that change as one, at one revision, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from statestore import (
    ABSENT,
    ConflictError,
    DuplicateKeyError,
    Family,
    Key,
    KeyRemovedError,
    MutableValueError,
    StateStoreError,
    Store,
    StoreClosedError,
    Transaction,
    Transition,
    UnknownKeyError,
    ValueWatcher,
)
from statestore._core import Core, Head
from statestore.testing import assert_no_trace
from support.streams import drain, drain_to_error


class App(Store):
    """A store of the kind that programs declare."""

    left = Key(0)
    right = Key(0)
    name = Key("app")
    workers = Family[str, int](default=0)
    things = Family[Any, Any]()


def changes(app: App, act: Callable[[], object]) -> list[list[tuple[str, Any, Any]]]:
    """Call *act*; give what the commits were that it made, each as key, old and new."""
    with app.subscribe() as sub:
        act()
        commits = drain(sub)
    return [[(t.key, t.old, t.new) for t in commit.transitions] for commit in commits]


def in_thread(function: Callable[[], object]) -> None:
    """Call *function* in another thread, and wait for that to end."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


class TestReads:
    """What a transaction sees."""

    def test_are_of_the_values_there(self) -> None:
        """A key, and the watcher of a key, index the value that it has."""
        app = App()
        app.left.value = 1

        with app.transaction() as tx:
            assert (1, 0, "app") == (tx[App.left], tx[app.right], tx[app.name])

    def test_see_the_own_writes(self) -> None:
        """A key that was written reads as written, before anybody else can see it."""
        app = App()

        with app.transaction() as tx:
            tx[App.left] = 1
            tx[App.left] = tx[App.left] + 1
            tx[app.left] += 1
            assert (3, 0) == (tx[App.left], app.left.value)

        assert 3 == app.left.value

    def test_can_be_repeated(self) -> None:
        """A key that is read twice gives the same value."""
        app = App()

        with app.transaction() as tx:
            assert tx[App.name] is tx[App.name]

    def test_refuse_a_torn_view(self) -> None:
        """P087: after a commit to a key that was read, the next read of another one raises."""
        app = App()
        seen: list[int] = []

        with pytest.raises(ConflictError) as caught, app.transaction() as tx:
            seen.append(tx[App.left])
            with app.transaction() as other:
                other[App.left] = 1
                other[App.right] = 1
            seen.append(tx[App.right])

        assert [0] == seen
        assert "left" == caught.value.key

    def test_go_on_after_a_commit_to_what_was_not_read(self) -> None:
        """A commit to keys that the transaction has not read yet disturbs none of its reads."""
        app = App()

        with app.transaction() as tx:
            assert 0 == tx[App.left]
            app.right.value = 5
            assert 5 == tx[App.right]
            tx[App.left] = 1

        assert (1, 5) == (app.left.value, app.right.value)

    def test_overtaken_by_a_commit_look_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A commit that comes between looking and noting is seen whole, not torn."""
        app = App()
        settle = Core.settle
        overtakes = [1]

        def settle_and_be_overtaken(core: Core) -> Head:
            head = settle(core)
            if overtakes:
                value = overtakes.pop()
                with app.transaction() as other:
                    other[App.left] = other[App.right] = value
            return head

        with app.transaction() as tx:
            monkeypatch.setattr(Core, "settle", settle_and_be_overtaken)
            assert (1, 1) == (tx[App.left], tx[App.right])

    def test_make_no_revision(self) -> None:
        """A transaction that only reads commits nothing."""
        app = App()

        with app.transaction() as tx:
            assert 0 == tx[App.left]

        assert 0 == app.revision

    def test_in_threads_never_see_half(self) -> None:
        """P087: readers in threads and consumers see both keys of a commit, or neither."""
        app = App()
        done = threading.Event()
        torn: list[object] = []

        def read() -> None:
            while not done.is_set():
                one = app.transact(lambda tx: (tx[App.left], tx[App.right]))
                snapshot = app.snapshot()
                two = (snapshot["left"], snapshot["right"])
                torn.extend(pair for pair in (one, two) if pair[0] != pair[1])

        def write(tx: Transaction) -> None:
            tx[App.left] += 1
            tx[App.right] += 1

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            for _ in range(300):
                app.transact(write)
        finally:
            done.set()
            for reader in readers:
                reader.join()

        assert [] == torn
        assert (300, 300) == (app.left.value, app.revision)


class TestCommits:
    """What leaving the block does."""

    def test_are_whole_and_at_one_revision(self) -> None:
        """P087: all keys change in one commit, in the order in which they were first written."""
        app = App()

        with app.subscribe() as sub:
            with app.transaction() as tx:
                tx[App.right] = 2
                tx[App.left] = 1
            commit = sub.get_nowait()
            assert 0 == sub.pending

        assert 1 == commit.revision
        assert (
            Transition(key="right", old=0, new=2, revision=1),
            Transition(key="left", old=0, new=1, revision=1),
        ) == commit.transitions
        assert (1, 1, 1) == (app.revision, app.left.revision, app.right.revision)

    def test_show_nothing_before(self) -> None:
        """Until the block is left nobody else sees a write."""
        app = App()

        with app.left.subscribe() as sub, app.transaction() as tx:
            tx[App.left] = 1
            assert (0, 0, 0) == (app.left.value, app.revision, sub.pending)

    def test_take_the_last_write_of_a_key(self) -> None:
        """P088: a key that is written twice makes one transition, to what was written last."""
        app = App()

        with app.left.subscribe() as sub:
            with app.transaction() as tx:
                tx[App.left] = 1
                tx[App.left] = 2
            assert Transition(key="left", old=0, new=2, revision=1) == sub.get_nowait()
            assert 0 == sub.pending

    def test_are_undone_by_an_exception(self) -> None:
        """P088: an exception that leaves the block undoes everything and goes on as it is."""
        app = App()
        error = ZeroDivisionError()

        with pytest.raises(ZeroDivisionError) as caught, app.transaction() as tx:
            tx[App.left] = 1
            tx[App.right] = 1
            raise error

        assert error is caught.value
        assert (0, 0, 0) == (app.left.value, app.right.value, app.revision)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
    def test_are_undone_by_any_exception(self, error: type[BaseException]) -> None:
        """P088: what is no Exception undoes everything too."""
        app = App()

        with pytest.raises(error), app.transaction() as tx:
            tx[App.left] = 1
            raise error

        assert (0, 0) == (app.left.value, app.revision)

    def test_that_change_nothing_make_no_revision(self) -> None:
        """P089: writing equal values, or away and back, commits nothing and tells nobody."""
        app = App()
        calls: list[object] = []
        app.left.on_change(lambda *change: calls.append(change))

        with app.transaction() as tx:
            tx[App.left] = 0
            tx[App.name] = "other"
            tx[App.name] = "app"
        with app.transaction():
            pass

        assert (0, []) == (app.revision, calls)

    def test_notify_only_the_keys_that_changed(self) -> None:
        """P089: of the keys that were written, only those with a new value have a transition."""
        app = App()

        with app.subscribe() as commits, app.right.subscribe() as unchanged:
            with app.transaction() as tx:
                tx[App.left] = 1
                tx[App.right] = 0
            assert ["left"] == [t.key for t in commits.get_nowait().transitions]
            assert 0 == unchanged.pending

        assert (1, 0) == (app.left.revision, app.right.revision)

    def test_keep_the_old_object_of_an_equal_value(self) -> None:
        """A write of an equal value leaves the object that is there."""
        app = App()
        old = app.name.value
        equal = str(b"app", "ascii")

        with app.transaction() as tx:
            tx[App.name] = equal
            tx[App.left] = 1

        assert equal is not old
        assert old is app.name.value

    def test_run_the_callbacks_once_all_is_in_place(self) -> None:
        """Callbacks run after the commit, in the order of the writes, and see all of it."""
        app = App()
        seen: list[object] = []
        for watcher in (app.left, app.right):
            watcher.on_change(
                lambda old, new: seen.append((old, new, app.left.value, app.right.value))
            )

        with app.transaction() as tx:
            tx[App.right] = 2
            tx[App.left] = 1
            assert [] == seen

        assert [(0, 2, 1, 2), (0, 1, 1, 2)] == seen

    async def test_wake_a_wait(self) -> None:
        """A wait finds a value that a transaction committed."""
        app = App()
        task = asyncio.create_task(app.left.wait_for(1))
        await asyncio.sleep(0)

        with app.transaction() as tx:
            tx[App.left] = 1

        assert 1 == await task

    def test_may_be_made_by_a_callback(self) -> None:
        """A transaction in a callback commits at once; its callbacks run after the round."""
        app = App()
        seen: list[str] = []

        def move(_old: int, new: int) -> None:
            with app.transaction() as tx:
                tx[App.right] = new
            seen.append(f"committed {app.right.value}")

        app.left.on_change(move)
        app.right.on_change(lambda _old, new: seen.append(f"told {new}"))

        app.left.value = 1

        assert ["committed 1", "told 1"] == seen


class TestConflicts:
    """Who commits a key that the transaction has read makes it fail."""

    def test_with_another_thread(self) -> None:
        """A commit of another thread to a key that was read raises ConflictError on leaving."""
        app = App()

        refused = pytest.raises(ConflictError, match="'left' was committed by somebody else")
        with refused as caught, app.transaction() as tx:
            tx[App.right] = tx[App.left] + 1
            in_thread(lambda: app.left.set(5))

        assert "left" == caught.value.key
        assert (5, 0, 1) == (app.left.value, app.right.value, app.revision)

    async def test_with_another_task(self) -> None:
        """A commit of another task, over an `await` in the block, does the same."""
        app = App()

        async def other() -> None:
            app.left.value = 5

        with pytest.raises(ConflictError), app.transaction() as tx:
            tx[App.left] += 1
            await asyncio.create_task(other())

        assert (5, 1) == (app.left.value, app.revision)

    def test_with_a_plain_set_inside_the_block(self) -> None:
        """A set of a key that the block has read, beside the transaction, is somebody else's."""
        app = App()

        with pytest.raises(ConflictError), app.transaction() as tx:
            tx[App.left] += 1
            app.left.value = 5

        assert (5, 1) == (app.left.value, app.revision)

    def test_with_a_change_away_and_back(self) -> None:
        """A key is judged by its revision: one that came back to its value conflicts too."""
        app = App()

        with pytest.raises(ConflictError), app.transaction() as tx:
            tx[App.right] = tx[App.left] + 1
            app.left.value = 5
            app.left.value = 0

        assert 0 == app.right.value

    def test_undo_the_whole_transaction(self) -> None:
        """After a conflict no key has been changed, also none that did not conflict."""
        app = App()

        with pytest.raises(ConflictError), app.transaction() as tx:
            tx[App.name] = "new"
            tx[App.right] = tx[App.left]
            app.left.value = 5

        assert ("app", 0) == (app.name.value, app.right.value)

    def test_spare_keys_that_are_only_written(self) -> None:
        """A key that was written and not read before does not conflict; the later commit wins."""
        app = App()

        with app.left.subscribe() as sub:
            with app.transaction() as tx:
                tx[App.left] = 1
                app.left.value = 5
                assert 1 == tx[App.left]
            transitions = [sub.get_nowait() for _ in range(sub.pending)]

        assert [(0, 5), (5, 1)] == [(t.old, t.new) for t in transitions]

    def test_spare_keys_that_were_not_touched(self) -> None:
        """Commits of other keys disturb nothing."""
        app = App()

        with app.transaction() as tx:
            tx[App.left] += 1
            app.right.value = 5
            app.add("more", 1)

        assert (1, 5) == (app.left.value, app.right.value)

    def test_spare_a_set_to_an_equal_value(self) -> None:
        """A set that changes nothing is no commit, hence no conflict."""
        app = App()

        with app.transaction() as tx:
            tx[App.left] += 1
            app.left.value = 0

        assert 1 == app.left.value

    def test_cannot_be_hidden_by_the_block(self) -> None:
        """A block that catches the error of a read cannot commit what it saw."""
        app = App()

        with pytest.raises(ConflictError), app.transaction() as tx:
            tx[App.name] = str(tx[App.left])
            app.left.value = 1
            with pytest.raises(ConflictError):
                tx[App.right]

        assert "app" == app.name.value

    def test_are_told_by_the_transaction(self) -> None:
        """`has_conflicted` tells whether it was this transaction that conflicted."""
        app = App()
        transaction = app.transaction()

        with pytest.raises(ConflictError), transaction as tx:
            tx[App.left] += 1
            assert not transaction.has_conflicted
            app.left.value = 5

        assert transaction.has_conflicted

    def test_caused_by_an_equality_are_found(self) -> None:
        """An `==` that commits, while the block is left, a key that was read makes it conflict."""
        app = App()
        calls: list[None] = []

        @attrs.frozen(eq=False)
        class Hostile:
            number: int

            def __eq__(self, other: object) -> bool:
                if not calls:
                    calls.append(None)
                    app.left.value = 5
                return False

            __hash__ = object.__hash__

        value = app.add("value", Hostile(0))
        with pytest.raises(ConflictError), app.transaction() as tx:
            tx[value] = Hostile(tx[App.left])

        assert (5, 0) == (app.left.value, value.value.number)


class TestTransact:
    """`store.transact()` runs a function until it commits."""

    def test_returns_what_the_function_returned(self) -> None:
        """The result of the run that was committed is given back."""
        app = App()

        def move(tx: Transaction) -> str:
            tx[App.left] = 1
            return "moved"

        assert "moved" == app.transact(move)
        assert (1, 1) == (app.left.value, app.revision)

    def test_runs_again_after_a_conflict(self) -> None:
        """A run that conflicts is undone and made again, with a new transaction."""
        app = App()
        runs: list[Transaction] = []

        def move(tx: Transaction) -> int:
            runs.append(tx)
            left = tx[App.left]
            if len(runs) < 3:
                app.left.value = 10 * len(runs)
            tx[App.right] = left
            return left

        assert 20 == app.transact(move)
        assert (20, 3) == (app.right.value, app.revision)
        assert 3 == len(set(map(id, runs)))

    def test_runs_again_after_a_conflict_at_a_read(self) -> None:
        """A conflict that a read found makes it run again too."""
        app = App()
        runs: list[None] = []

        def look(tx: Transaction) -> tuple[int, int]:
            runs.append(None)
            left = tx[App.left]
            if len(runs) == 1:
                app.left.value = 7
            return left, tx[App.right]

        assert (7, 0) == app.transact(look)
        assert 2 == len(runs)

    def test_runs_again_when_the_function_hides_the_conflict(self) -> None:
        """A function that catches the error of a read, and ends, has conflicted all the same."""
        app = App()
        runs: list[None] = []

        def move(tx: Transaction) -> None:
            runs.append(None)
            tx[App.name] = str(tx[App.left])
            if len(runs) == 1:
                app.left.value = 7
                with contextlib.suppress(ConflictError):
                    tx[App.right]

        app.transact(move)

        assert ("7", 2) == (app.name.value, len(runs))

    def test_passes_an_error_on(self) -> None:
        """An error of the function comes out as it is, after one run, and nothing is changed."""
        app = App()
        runs: list[None] = []

        def fail(tx: Transaction) -> None:
            assert [] == runs
            runs.append(None)
            tx[App.left] = 1
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            app.transact(fail)

        assert (0, 1) == (app.left.value, len(runs))

    def test_passes_the_conflict_of_another_transaction_on(self) -> None:
        """A ConflictError that is not its own is an error like any other: no second run."""
        app, other = App(), App()
        runs: list[None] = []

        def fail(tx: Transaction) -> None:
            assert [] == runs
            runs.append(None)
            tx[App.left] = 1
            with other.transaction() as inner:
                inner[App.right] = inner[App.left]
                other.left.value += 1

        with pytest.raises(ConflictError):
            app.transact(fail)

        assert (0, 1) == (app.left.value, len(runs))

    def test_passes_an_invented_conflict_on(self) -> None:
        """A ConflictError that the function made itself causes no second run."""
        app = App()
        runs: list[None] = []

        def fail(tx: Transaction) -> None:
            assert [] == runs
            runs.append(None)
            raise ConflictError("mine")

        with pytest.raises(ConflictError, match="mine"):
            app.transact(fail)

        assert 1 == len(runs)

    def test_refuses_an_asynchronous_function(self) -> None:
        """A coroutine function is refused before it is called."""
        app = App()

        async def move(tx: Transaction) -> None:
            tx[App.left] = 1

        with pytest.raises(TypeError, match="a transaction function must be a plain function"):
            app.transact(move)

        assert 0 == app.revision

    def test_refuses_what_cannot_be_called(self) -> None:
        """What is no function is refused."""
        with pytest.raises(TypeError, match="a transaction function must be callable"):
            App().transact(None)

    def test_loses_no_update_to_a_rival_that_sets_the_same(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """P090: a rival's commit of the very value, right before ours, does not stand for ours."""
        app = App()
        check = Transaction._check
        rivals = iter([1])
        calls = 0

        def check_then_lose(transaction: Transaction) -> None:
            nonlocal calls
            calls += 1
            check(transaction)
            if calls == 2:
                # The first was that of the read, this one is that of the commit.
                app.left.value = next(rivals)

        def move(tx: Transaction) -> None:
            tx[App.left] += 1

        monkeypatch.setattr(Transaction, "_check", check_then_lose)
        app.transact(move)

        assert 2 == app.left.value

    def test_loses_no_update_between_threads(self) -> None:
        """P090: increments of two keys by several threads all count, and the keys stay equal."""
        app = App()

        def move(tx: Transaction) -> None:
            tx[App.left] += 1
            tx[App.right] = tx[App.left]

        def work() -> None:
            for _ in range(100):
                app.transact(move)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert (300, 300, 300) == (app.left.value, app.right.value, app.revision)

    def test_gets_the_right_of_way_in_the_end(self) -> None:
        """P062: who loses every round to a rival gets the right of way after 32, and so ends."""
        app = App()
        wanted, made = threading.Semaphore(0), threading.Semaphore(0)
        runs: list[None] = []
        over = False

        def rival() -> None:
            while wanted.acquire() and not over:
                app.left.value += 1
                made.release()

        def move(tx: Transaction) -> None:
            runs.append(None)
            left = tx[App.left]
            assert len(runs) < 200
            wanted.release()
            # With the right of way taken the rival cannot commit, so this gives up on it.
            made.acquire(timeout=None if len(runs) <= 32 else 0.01)
            tx[App.right] = left

        thread = threading.Thread(target=rival)
        thread.start()
        try:
            app.transact(move)
        finally:
            over = True
            wanted.release()
            thread.join()

        assert len(runs) > 32
        assert 32 <= app.right.value


class TestMisuse:
    """What a transaction refuses."""

    def test_a_read_or_write_before_it_begins(self) -> None:
        """A transaction is used inside its `with` block."""
        app = App()
        tx = app.transaction()

        with pytest.raises(StateStoreError, match="not begun; use it in a `with` block"):
            tx[App.left]
        with pytest.raises(StateStoreError, match="not begun; use it in a `with` block"):
            tx[App.left] = 1

    def test_a_read_or_write_after_it_ended(self) -> None:
        """A transaction that is over gives and takes nothing."""
        app = App()
        with app.transaction() as tx:
            tx[App.left] = 1

        with pytest.raises(StateStoreError, match="is over"):
            tx[App.left]
        with pytest.raises(StateStoreError, match="is over"):
            tx[App.left] = 2

        assert (1, 1) == (app.left.value, app.revision)

    def test_a_second_use(self) -> None:
        """A transaction that is over cannot be begun again, however it ended."""
        app = App()
        committed, failed = app.transaction(), app.transaction()
        with committed:
            pass
        with pytest.raises(ZeroDivisionError), failed:
            raise ZeroDivisionError

        for transaction in (committed, failed):
            with pytest.raises(StateStoreError, match=r"is over; begin another one"), transaction:
                pass

    def test_a_nested_use(self) -> None:
        """A transaction that is under way cannot be entered once more."""
        app = App()

        with app.transaction() as tx:
            tx[App.left] = 1
            with pytest.raises(StateStoreError, match="is under way; begin another one"), tx:
                pass
            tx[App.right] = 1

        assert (1, 1) == (app.left.value, app.right.value)

    def test_keys_of_another_store(self) -> None:
        """A watcher or key of another store, or one that stands alone, is unknown."""

        class Other(Store):
            left = Key(0)

        app, other, alone = App(), Other(), ValueWatcher(0)

        with app.transaction() as tx:
            for foreign in (other.left, Other.left, alone, App().left):
                with pytest.raises(UnknownKeyError):
                    tx[foreign]
                with pytest.raises(UnknownKeyError):
                    tx[foreign] = 1

        assert 0 == app.revision

    def test_what_is_no_key(self) -> None:
        """What is neither key nor watcher is a TypeError."""
        with App().transaction() as tx, pytest.raises(TypeError):
            tx[1]

    def test_a_mutable_value(self) -> None:
        """A mutable value is refused where it is written, and the rest can still be committed."""
        app = App()
        value = app.add("value", (1,))
        line: Any = (1, [2])

        with app.transaction() as tx:
            tx[App.left] = 1
            with pytest.raises(MutableValueError, match=r"value\[1\]: list"):
                tx[value] = line
            assert (1,) == tx[value]

        assert (1, (1,)) == (app.left.value, value.value)

    def test_to_begin_on_a_closed_store(self) -> None:
        """No transaction begins on a store that is closed."""
        app = App()
        app.close()

        with pytest.raises(StoreClosedError, match="App is closed"), app.transaction():
            pytest.fail("the block ran")

    def test_to_commit_on_a_store_that_was_closed_meanwhile(self) -> None:
        """A store that is closed while the block runs refuses its commit, and keeps its values."""
        app = App()

        with pytest.raises(StoreClosedError), app.transaction() as tx:
            tx[App.left] = 1
            app.close()

        assert (0, 0) == (app.left.value, app.revision)

    def test_other_attributes(self) -> None:
        """A misspelt attribute of a transaction raises."""
        with App().transaction() as tx, pytest.raises(AttributeError):
            tx.left = 1


@pytest.fixture
def staffed() -> App:
    """Give a store with two workers."""
    app = App()
    app.workers.add("a", 1)
    app.workers.add("b", 2)
    return app


class TestMembers:
    """Members of families that come and go in a transaction."""

    def test_come_when_the_block_is_left(self, staffed: App) -> None:
        """An added member is there for everybody else at the commit, and not before."""
        with staffed.transaction() as tx:
            assert tx.add(staffed.workers, "c", 5) is None
            assert ("c" in staffed.workers, len(staffed.workers)) == (False, 2)

        assert (5, 3) == (staffed.workers["c"].value, staffed.workers["c"].revision)
        assert "workers['c']" == staffed.workers["c"].name

    def test_go_when_the_block_is_left(self, staffed: App) -> None:
        """A removed member is there for everybody else up to the commit, and then ends."""
        worker = staffed.workers["a"]

        with worker.subscribe(maxlen=1) as sub:
            with staffed.transaction() as tx:
                tx.remove(staffed.workers, "a")
                assert (1, 0) == (worker.value, sub.pending)
            assert ([], KeyRemovedError) == drain_to_error(sub)

        assert ["b"] == list(staffed.workers)
        assert_no_trace(staffed)

    def test_come_with_the_default(self) -> None:
        """Without a value the family's default is taken; where there is none, that is an error."""
        app = App()

        with app.transaction() as tx:
            tx.add(app.workers, "a")
            with pytest.raises(TypeError, match="needs a value"):
                tx.add(app.things, "a")

        assert (0, 0) == (app.workers["a"].value, len(app.things))

    def test_change_together_with_keys_in_one_commit(self, staffed: App) -> None:
        """P087: all is one commit, in the order in which it was first written, ABSENT for none."""

        def act() -> None:
            with staffed.transaction() as tx:
                tx[App.left] = 7
                tx.add(staffed.workers, "c", 3)
                tx[staffed.workers["a"]] = 5
                tx.remove(staffed.workers, "b")
                tx.add(staffed.things, 1, "x")

        expected = [
            ("left", 0, 7),
            ("workers['c']", ABSENT, 3),
            ("workers['a']", 1, 5),
            ("workers['b']", 2, ABSENT),
            ("things[1]", ABSENT, "x"),
        ]
        assert [expected] == changes(staffed, act)
        assert 3 == staffed.revision

    def test_are_told_to_callbacks_once_all_is_in_place(self, staffed: App) -> None:
        """Callbacks run after the commit, and see all of it; a removed member has none."""
        seen: list[object] = []
        staffed.workers["a"].on_change(lambda *change: seen.append(change))
        staffed.left.on_change(lambda _old, _new: seen.append(sorted(staffed.workers)))

        with staffed.transaction() as tx:
            tx[App.left] = 1
            tx.remove(staffed.workers, "a")
            tx.add(staffed.workers, "c")

        assert [["b", "c"]] == seen

    def test_are_undone_by_an_exception(self, staffed: App) -> None:
        """P088: neither an addition nor a removal outlives a block that raises."""
        worker = staffed.workers["a"]

        with pytest.raises(ZeroDivisionError), staffed.transaction() as tx:
            tx.add(staffed.workers, "c")
            tx.remove(staffed.workers, "a")
            raise ZeroDivisionError

        assert ["a", "b"] == sorted(staffed.workers)
        assert (worker, 1, 2) == (staffed.workers["a"], worker.value, staffed.revision)
        worker.value = 5
        assert 5 == staffed.workers["a"].value

    def test_that_were_added_are_seen_by_the_same_transaction(self, staffed: App) -> None:
        """It reads its own writes: a key that it added is taken, one that it removed is not."""
        with staffed.transaction() as tx:
            tx.add(staffed.workers, "c")
            with pytest.raises(DuplicateKeyError, match=r"workers\['c'\] is there already"):
                tx.add(staffed.workers, "c", 1)
            tx.remove(staffed.workers, "a")
            with pytest.raises(UnknownKeyError, match="workers has no member 'a'"):
                tx.remove(staffed.workers, "a")
            tx.add(staffed.workers, "a", 9)

        assert {"a": 9, "b": 2, "c": 0} == dict(staffed.workers.mapping.value)

    def test_that_were_added_have_no_watcher_yet(self, staffed: App) -> None:
        """A member that is added has its value in the addition: there is nothing to index with."""
        with staffed.transaction() as tx:
            tx.add(staffed.workers, "c", 1)
            with pytest.raises(UnknownKeyError):
                tx[staffed.workers["c"]] = 2
            tx.remove(staffed.workers, "c")
            tx.add(staffed.workers, "c", 2)

        assert 2 == staffed.workers["c"].value

    def test_that_come_and_go_again_never_were(self, staffed: App) -> None:
        """P089: a member that is added and removed leaves no trace, nor a revision."""

        def act() -> None:
            with staffed.transaction() as tx:
                tx.add(staffed.workers, "c")
                tx.remove(staffed.workers, "c")
                tx.add(staffed.things, 1, "x")
                tx.remove(staffed.things, 1)

        with staffed.workers.mapping.subscribe() as sub:
            assert [] == changes(staffed, act)
            assert [] == drain(sub)
        assert (2, 2) == (staffed.revision, len(staffed.workers))
        # An empty family takes keys of any type.
        assert "x" == staffed.things.add("x", "x").value

    @pytest.mark.parametrize("value", [1, 5])
    def test_that_come_and_go_again_are_no_change_beside_others(
        self, staffed: App, value: int
    ) -> None:
        """P089: what else the transaction wrote is committed if it is a change; if not, nothing."""

        def act() -> None:
            with staffed.transaction() as tx:
                tx[staffed.workers["a"]] = value
                tx.add(staffed.workers, "c")
                tx.remove(staffed.workers, "c")

        expected = [[("workers['a']", 1, 5)]] if value == 5 else []
        assert expected == changes(staffed, act)
        assert 2 + len(expected) == staffed.revision

    def test_that_go_and_come_again_are_others(self, staffed: App) -> None:
        """P091: a key that is removed and added in one transaction has a new watcher."""
        old = staffed.workers["a"]

        def act() -> None:
            with staffed.transaction() as tx:
                tx.remove(staffed.workers, "a")
                tx.add(staffed.workers, "a", 1)

        expected = [("workers['a']", 1, ABSENT), ("workers['a']", ABSENT, 1)]
        assert [expected] == changes(staffed, act)
        assert old is not staffed.workers["a"]
        assert 1 == staffed.workers["a"].value
        with pytest.raises(KeyRemovedError):
            old.value

    def test_may_come_and_go_again_and_again(self, staffed: App) -> None:
        """P088: of all that happens to one key, only what it was and what it is are told."""

        def act() -> None:
            with staffed.transaction() as tx:
                tx[staffed.workers["a"]] = 5
                for value in range(3):
                    tx.remove(staffed.workers, "a")
                    tx.add(staffed.workers, "a", value)

        expected = [("workers['a']", 1, ABSENT), ("workers['a']", ABSENT, 2)]
        assert [expected] == changes(staffed, act)

    def test_that_were_removed_cannot_be_read_or_written(self, staffed: App) -> None:
        """A member that the block has removed is gone for the block."""
        worker = staffed.workers["a"]

        with staffed.transaction() as tx:
            tx[worker] = 5
            tx.remove(staffed.workers, "a")
            with pytest.raises(KeyRemovedError, match=r"workers\['a'\] was removed"):
                tx[worker]
            with pytest.raises(KeyRemovedError):
                tx[worker] = 6

        assert ["b"] == list(staffed.workers)

    def test_that_are_gone_already_cannot_be_read_or_written(self, staffed: App) -> None:
        """A member that was removed before the block began raises, and nothing is committed."""
        worker = staffed.workers["a"]
        del staffed.workers["a"]

        with pytest.raises(KeyRemovedError), staffed.transaction() as tx:
            tx[worker]
        with pytest.raises(KeyRemovedError), staffed.transaction() as tx:
            tx[App.left] = 1
            tx[worker] = 1

        assert (0, 3) == (staffed.left.value, staffed.revision)

    def test_take_what_a_plain_addition_takes(self, staffed: App) -> None:
        """Keys and values are judged alike, where they are written; the rest can be committed."""
        with staffed.transaction() as tx:
            tx.add(staffed.things, 1, "x")
            with pytest.raises(TypeError, match="are of type int, so"):
                tx.add(staffed.things, True, "y")
            with pytest.raises(MutableValueError, match=r"the key things\[\[\]\]"):
                tx.add(staffed.things, [], "y")
            with pytest.raises(MutableValueError, match=r"things\[2\]: list"):
                tx.add(staffed.things, 2, [])
            with pytest.raises(UnknownKeyError, match="did you mean"):
                tx.remove(staffed.workers, "aa")

        assert [1] == list(staffed.things)
        assert (["a", "b"], 3) == (sorted(staffed.workers), staffed.revision)

    def test_of_another_store_are_refused(self, staffed: App) -> None:
        """A family belongs to one store, as its members do."""
        other = App()
        foreign = other.workers.add("a")

        with staffed.transaction() as tx:
            for act in (
                lambda: tx.add(other.workers, "c"),
                lambda: tx.remove(other.workers, "a"),
            ):
                with pytest.raises(UnknownKeyError, match="'workers' is a family of App, another"):
                    act()
            with pytest.raises(UnknownKeyError):
                tx[foreign] = 1

        assert (2, 1) == (staffed.revision, other.revision)

    @pytest.mark.parametrize("family", [App.workers, "workers", App.left, None])
    def test_are_not_reached_by_anything_but_their_family(self, staffed: App, family: Any) -> None:
        """What is given is `app.workers`, not its declaration or name."""
        with staffed.transaction() as tx:
            with pytest.raises(TypeError, match="a family is what the store has under its name"):
                tx.add(family, "c")
            with pytest.raises(TypeError, match="a family is what the store has under its name"):
                tx.remove(family, "a")

    def test_come_and_go_inside_the_block_only(self, staffed: App) -> None:
        """A transaction that is not begun, or over, takes neither."""
        tx = staffed.transaction()
        with pytest.raises(StateStoreError, match="not begun"):
            tx.add(staffed.workers, "c")
        with tx:
            pass
        with pytest.raises(StateStoreError, match="is over"):
            tx.remove(staffed.workers, "a")

        assert 2 == staffed.revision

    def test_do_not_come_to_a_store_that_was_closed_meanwhile(self, staffed: App) -> None:
        """A store that is closed while the block runs keeps its members."""
        with pytest.raises(StoreClosedError), staffed.transaction() as tx:
            tx.add(staffed.workers, "c")
            tx.remove(staffed.workers, "a")
            staffed.close()

        assert ["a", "b"] == sorted(staffed.workers)


def set_b(app: App) -> object:
    """Set a worker."""
    return app.workers["b"].set(9)


def add_z(app: App) -> object:
    """Add a worker."""
    return app.workers.add("z")


def remove_b(app: App) -> object:
    """Remove a worker."""
    return app.workers.__delitem__("b")


class TestMembersInConflict:
    """Who comes between a transaction and the members that it has to do with."""

    @pytest.mark.parametrize("rival", [add_z, remove_b])
    @pytest.mark.parametrize(
        "act",
        [
            pytest.param(lambda app, tx: tx.add(app.workers, "c"), id="add"),
            pytest.param(lambda app, tx: tx.remove(app.workers, "a"), id="remove"),
        ],
    )
    def test_whoever_adds_or_removes_another_one(
        self, staffed: App, act: Callable[[App, Transaction], None], rival: Callable[[App], object]
    ) -> None:
        """To add or to remove is to read which members there are: a change of that conflicts."""
        refused = pytest.raises(ConflictError, match="'workers' was committed by somebody else")
        with refused as caught, staffed.transaction() as tx:
            act(staffed, tx)
            in_thread(lambda: rival(staffed))

        assert "workers" == caught.value.key
        assert ("c" in staffed.workers, "a" in staffed.workers) == (False, True)

    def test_nobody_who_sets_one(self, staffed: App) -> None:
        """Values of members that the block has not read do not count."""
        with staffed.transaction() as tx:
            tx.add(staffed.workers, "c")
            tx.remove(staffed.workers, "a")
            set_b(staffed)
            staffed.things.add(1, 1)

        assert {"b": 9, "c": 0} == dict(staffed.workers.mapping.value)

    def test_nobody_who_adds_one_while_others_are_set(self, staffed: App) -> None:
        """To set or read a member is to do with that member alone."""
        with staffed.transaction() as tx:
            tx[staffed.workers["a"]] += 4
            add_z(staffed)
            remove_b(staffed)

        assert {"a": 5, "z": 0} == dict(staffed.workers.mapping.value)

    def test_whoever_sets_one_that_was_read(self, staffed: App) -> None:
        """A member is read as a key is."""
        with pytest.raises(ConflictError) as caught, staffed.transaction() as tx:
            tx[App.left] = tx[staffed.workers["b"]]
            set_b(staffed)

        assert ("workers['b']", 0) == (caught.value.key, staffed.left.value)

    def test_whoever_removes_one_that_was_read(self, staffed: App) -> None:
        """P091: its removal is a change of the member; another read finds it, too."""
        with pytest.raises(ConflictError), staffed.transaction() as tx:
            tx[App.left] = tx[staffed.workers["b"]]
            remove_b(staffed)
        assert 0 == staffed.left.value

        with pytest.raises(ConflictError), staffed.transaction() as tx:
            tx[staffed.workers["a"]]
            del staffed.workers["a"]
            tx[App.right]

    def test_whoever_removes_one_that_is_only_written(self, staffed: App) -> None:
        """P091: a member that goes meanwhile cannot be set: KeyRemovedError, nothing is changed."""
        with pytest.raises(KeyRemovedError), staffed.transaction() as tx:
            tx[App.left] = 1
            tx[staffed.workers["b"]] = 5
            in_thread(lambda: remove_b(staffed))

        assert (0, ["a"]) == (staffed.left.value, list(staffed.workers))

    def test_nor_does_its_coming_back_help(self, staffed: App) -> None:
        """P091: a member that was removed and added again meanwhile is another one."""
        with pytest.raises(KeyRemovedError), staffed.transaction() as tx:
            tx[staffed.workers["b"]] = 5
            remove_b(staffed)
            staffed.workers.add("b", 7)

        assert 7 == staffed.workers["b"].value

    def test_whoever_removes_the_same_one(self, staffed: App) -> None:
        """P091: of two who remove a member one does, and the other is told of the conflict."""
        with pytest.raises(ConflictError), staffed.transaction() as tx:
            tx.remove(staffed.workers, "b")
            remove_b(staffed)

        assert (["a"], 3) == (list(staffed.workers), staffed.revision)

    def test_nobody_who_sets_one_that_is_removed(self, staffed: App) -> None:
        """A member that is set meanwhile goes behind that set, with the newest value as the old."""

        def act() -> None:
            with staffed.transaction() as tx:
                tx.remove(staffed.workers, "b")
                set_b(staffed)

        assert [[("workers['b']", 2, 9)], [("workers['b']", 9, ABSENT)]] == changes(staffed, act)

    def test_are_run_again_by_transact(self, staffed: App) -> None:
        """`transact` adds and removes as of the members that are there when it commits."""
        rivals = iter([add_z, remove_b])
        runs: list[list[str]] = []

        def move(tx: Transaction) -> None:
            runs.append(sorted(staffed.workers))
            for key in runs[-1]:
                tx.remove(staffed.workers, key)
            tx.add(staffed.workers, str(len(runs)))
            for rival in rivals:
                rival(staffed)
                break

        staffed.transact(move)

        assert [["a", "b"], ["a", "b", "z"], ["a", "z"]] == runs
        assert (["3"], 5) == (list(staffed.workers), staffed.revision)

    def test_between_threads_lose_nothing(self) -> None:
        """P087: threads that move one member about leave one, and readers always see one."""
        app = App()
        app.workers.add("0")
        done = threading.Event()
        torn: list[object] = []

        def read() -> None:
            while not done.is_set():
                found = [len(app.snapshot().workers), app.workers.count().value]
                torn.extend(number for number in found if number != 1)

        def move(tx: Transaction) -> None:
            (key,) = app.workers
            tx.remove(app.workers, key)
            tx.add(app.workers, str(int(key) + 1))

        def work() -> None:
            for _ in range(50):
                moved = False
                while not moved:
                    # Raised if the member has moved on since it was looked up.
                    with contextlib.suppress(UnknownKeyError):
                        app.transact(move)
                        moved = True

        reader = threading.Thread(target=read)
        writers = [threading.Thread(target=work) for _ in range(3)]
        reader.start()
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        done.set()
        reader.join()

        assert ([], ["150"], 151) == (torn, list(app.workers), app.revision)
