"""Stores: a mapping of names to watchers, one order of commits, keys at run time, a clear end."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import structlog.testing

from statestore import (
    ABSENT,
    CallbackFailure,
    Commit,
    DerivationError,
    DuplicateKeyError,
    Key,
    MutableValueError,
    Store,
    StoreClosedError,
    Transition,
    UnknownKeyError,
    ValueWatcher,
)
from statestore._core import Core
from support.families import Pool
from support.streams import drain


class App(Store):
    """A store of the kind that programs declare."""

    conn = Key("disconnected")
    inflight = Key(0)


def in_thread(function: Callable[[], Any]) -> Any:
    """Call *function* in another thread, and give what it returned."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    (result,) = results
    return result


class TestAdd:
    """Keys that come at run time."""

    def test_gives_the_watcher_of_the_new_key(self) -> None:
        """`add` returns a value watcher, the same one that the store then gives for the name."""
        store = Store()

        port = store.add("port", 8080)

        assert isinstance(port, ValueWatcher)
        assert ("port", 8080, 1) == (port.name, port.value, port.revision)
        assert port is store["port"]
        assert port is store.get("port")

    def test_comes_after_the_declared_keys(self) -> None:
        """A subclass takes further keys at run time, behind those that it declared."""
        app = App()

        app.add("port", 8080)

        assert ["conn", "inflight", "port"] == list(app)

    def test_touches_no_other_instance(self) -> None:
        """What is added to one store is not in another one of the same class."""
        App().add("port", 8080)

        assert "port" not in App()

    def test_is_a_commit_from_absent(self) -> None:
        """Adding a key is a commit of its own with ABSENT as the old value."""
        app = App()

        with app.subscribe() as sub:
            app.add("port", 8080)
            transition = Transition(key="port", old=ABSENT, new=8080, revision=1)
            assert Commit(revision=1, transitions=(transition,)) == sub.get_nowait()
            assert 0 == sub.pending

    def test_accepts_none_as_the_value(self) -> None:
        """A key may begin with None, which is not ABSENT."""
        store = Store()

        assert None is store.add("config", None).value
        assert {"config": None} == dict(store.snapshot())

    @pytest.mark.parametrize("name", ["conn", "port", "close", "subscribe", "__init__"])
    def test_refuses_a_name_that_is_taken(self, name: str) -> None:
        """A name of a key, declared or added, or of a method is refused, and nothing is added."""
        app = App()
        app.add("port", 1)

        with pytest.raises(DuplicateKeyError, match=f"App has '{name}' already"):
            app.add(name, 2)

        assert (["conn", "inflight", "port"], 1) == (list(app), app.revision)
        assert 1 == app["port"].value

    @pytest.mark.parametrize("name", [1, True, 1.0, None, b"port", ("port",), Key(1)])
    def test_refuses_a_name_that_is_no_str(self, name: object) -> None:
        """P085: only a str names a key, so `1`, `True` and `1.0` cannot fall together."""
        store = Store()

        with pytest.raises(TypeError, match="the name of a key must be a str, not"):
            store.add(name, 1)

        assert 0 == len(store)

    def test_refuses_a_subclass_of_str(self) -> None:
        """P086: a str subclass, whose `==` and hash may be anything, names no key."""

        class Name(str):
            __slots__ = ()

        store = Store()
        store.add("port", 1)

        with pytest.raises(TypeError, match="must be a str"):
            store.add(Name("other"), 1)
        assert Name("port") not in store
        with pytest.raises(UnknownKeyError):
            store[Name("port")]

    def test_normalizes_no_name(self) -> None:
        """P086: names with different code points are different keys, also if they look alike."""
        composed, decomposed = "caf\u00e9", "cafe\u0301"
        store = Store()

        store.add(composed, 1)
        store.add(decomposed, 2)

        assert [composed, decomposed] == list(store)
        assert (1, 2) == (store[composed].value, store[decomposed].value)

    def test_refuses_a_mutable_value(self) -> None:
        """A value that can be changed in place is refused by name, and nothing is added."""
        store = Store()

        with pytest.raises(MutableValueError, match=r"ports\[1\]: list"):
            store.add("ports", (1, [2]))

        assert (0, 0) == (len(store), store.revision)

    def test_refuses_on_a_closed_store(self) -> None:
        """Nothing is added to a store that is closed."""
        app = App()
        app.close()

        with pytest.raises(StoreClosedError, match="App is closed"):
            app.add("port", 1)

        assert "port" not in app

    def test_is_won_by_one_of_many_threads(self) -> None:
        """Of threads that add the same name at once, one succeeds, the others are refused."""
        store = Store()
        barrier = threading.Barrier(4)
        outcomes: list[object] = []

        def add(value: int) -> None:
            barrier.wait()
            try:
                outcomes.append(store.add("port", value))
            except DuplicateKeyError:
                outcomes.append(None)

        threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [store["port"]] == [watcher for watcher in outcomes if watcher is not None]
        assert (4, 1) == (len(outcomes), store.revision)


class TestMapping:
    """A store is a read-only mapping of names to watchers."""

    def test_contains_names_and_keys(self) -> None:
        """`in` takes names and keys, and says no to all else."""
        app = App()

        assert "conn" in app
        assert App.conn in app
        assert "close" not in app
        assert Key(0) not in app
        assert app.conn not in app

    def test_counts_its_keys(self) -> None:
        """`len()` is the number of keys."""
        app = App()

        assert 2 == len(app)
        app.add("port", 1)
        assert 3 == len(app)
        assert 0 == len(Store())

    def test_iterates_over_the_names_in_order(self) -> None:
        """Iteration gives the names, in the order in which the keys were declared and added."""
        app = App()
        app.add("b", 1)
        app.add("a", 1)

        assert ["conn", "inflight", "b", "a"] == list(app)

    def test_can_get_keys_while_it_is_iterated(self) -> None:
        """A key that is added during an iteration does not break it."""
        app = App()

        seen = [app.add(f"{name}_copy", app[name].value).name for name in app]

        assert ["conn_copy", "inflight_copy"] == seen

    def test_get_gives_none_for_an_unknown_key(self) -> None:
        """`get` gives None where indexing raises."""
        app = App()

        assert app.conn is app.get("conn")
        assert app.get("cnn") is None
        assert app.get(Key(0)) is None

    def test_is_read_only(self) -> None:
        """Items can be neither assigned nor deleted."""
        app = App()

        with pytest.raises(TypeError):
            app["conn"] = 1
        with pytest.raises(TypeError):
            del app["conn"]

    def test_is_true_even_when_empty(self) -> None:
        """A store without keys is true: `if store:` does not ask for its length."""
        assert Store()
        assert App()

    def test_shows_its_keys_and_its_state(self) -> None:
        """The repr tells class, number of keys and revision, and that a store is closed."""
        app = App()
        app.inflight.value = 1

        assert "<App of 2 keys, revision 1>" == repr(app)
        app.close()
        assert "<App of 2 keys, closed, revision 1>" == repr(app)


class TestSubclass:
    """What a subclass may do."""

    def test_may_forget_the_init_of_the_store(self) -> None:
        """A subclass whose `__init__` does not call `super().__init__()` works all the same."""

        class Forgetful(App):
            def __init__(self, conn: str) -> None:
                self.conn.value = conn

        app = Forgetful("connected")

        assert ("connected", 1) == (app.conn.value, app.revision)

    def test_may_have_an_init_of_its_own(self) -> None:
        """A subclass may take arguments of its own and hand `on_error` on."""
        failures: list[CallbackFailure] = []

        class Named(App):
            def __init__(self, title: str) -> None:
                super().__init__(on_error=failures.append)
                self.title = title

        app = Named("main")
        with app.inflight.on_change(lambda _old, _new: 1 / 0):
            app.inflight.value = 1

        assert "main" == app.title
        assert ["inflight"] == [failure.key for failure in failures]

    def test_may_have_attributes_of_its_own(self) -> None:
        """Other attributes can be set, changed and deleted as on any object."""
        app = App()

        app.label = "a"
        app.label = "b"
        assert "b" == app.label
        del app.label
        assert not hasattr(app, "label")

    def test_may_have_a_declared_attribute_that_resembles_a_key(self) -> None:
        """An attribute that the class declares is no misspelt key, however near it is."""

        class Close(App):
            conns = 0

        app = Close()
        app.conns = 3

        assert 3 == app.conns

    def test_may_have_a_private_attribute_that_resembles_a_key(self) -> None:
        """An attribute with a leading underscore is no misspelt key."""
        app = App()

        app._conn = "socket"

        assert "socket" == app._conn


class TestRevision:
    """The one counter of all commits."""

    def test_begins_at_zero(self) -> None:
        """A new store has had no commit."""
        assert (0, 0) == (App().revision, Store().revision)

    def test_counts_each_commit_of_any_key(self) -> None:
        """Each commit has the next number, whatever its key; each key tells its own last one."""
        app = App()
        revisions = []

        app.inflight.value = 1
        revisions.append(app.revision)
        app.conn.set("connected")
        revisions.append(app.revision)
        app.inflight.update(lambda n: n + 1)
        revisions.append(app.revision)
        app.add("port", 1)
        revisions.append(app.revision)

        assert [1, 2, 3, 4] == revisions
        assert (3, 2, 4) == (app.inflight.revision, app.conn.revision, app["port"].revision)

    def test_stays_when_nothing_changes(self) -> None:
        """Sets to an equal value, listeners, readers and subscriptions make no revision."""
        app = App()
        app.inflight.value = 1

        app.inflight.value = 1
        app.inflight.update(lambda n: n)
        app.inflight.set_if(2, lambda _: False)
        app.transact(lambda tx: tx[App.inflight])
        app.snapshot()
        with app.subscribe(), app.inflight.subscribe(), app.inflight.on_change(print):
            pass

        assert 1 == app.revision
        app.inflight.value = 2
        assert 2 == app.revision

    def test_is_dense_across_threads(self) -> None:
        """Commits of many threads are numbered without a gap and without a double."""
        app = App()

        def work() -> None:
            for _ in range(200):
                app.inflight.update(lambda n: n + 1)

        with app.subscribe() as sub:
            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            commits = [sub.get_nowait() for _ in range(sub.pending)]

        assert list(range(1, 601)) == [commit.revision for commit in commits]
        assert list(range(1, 601)) == [commit.transitions[0].new for commit in commits]
        assert (600, 600) == (app.inflight.value, app.revision)

    def test_cannot_be_set(self) -> None:
        """The revision is the store's own."""
        with pytest.raises(AttributeError):
            App().revision = 5


class TestClose:
    """P13: a clear end."""

    def test_is_told(self) -> None:
        """`is_closed` is false until the store is closed."""
        app = App()

        assert not app.is_closed
        app.close()
        assert app.is_closed

    def test_leaves_all_values_readable(self) -> None:
        """P092: after the end values, revision, keys and snapshots can be read as before."""
        app = App()
        app.inflight.value = 3
        app.close()

        assert 3 == app.inflight.value
        assert 3 == app[App.inflight].value
        assert (1, 1, 2) == (app.revision, app.inflight.revision, len(app))
        assert {"conn": "disconnected", "inflight": 3} == dict(app.snapshot())

    def test_can_be_repeated(self) -> None:
        """P092: a second close does nothing, from another thread neither."""
        app = App()

        app.close()
        app.close()
        in_thread(app.close)

        assert app.is_closed

    def test_makes_no_revision(self) -> None:
        """The end is no commit."""
        app = App()
        app.inflight.value = 1

        app.close()

        assert 1 == app.revision

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda app: setattr(app.conn, "value", "x"), id="value"),
            pytest.param(lambda app: app.conn.set("x"), id="set"),
            pytest.param(lambda app: app.conn.set_if("x", lambda _: True), id="set_if"),
            pytest.param(lambda app: app.conn.compare_and_set("disconnected", "x"), id="cas"),
            pytest.param(lambda app: app.conn.update(lambda v: v + "x"), id="update"),
            pytest.param(lambda app: app.add("port", 1), id="add"),
            pytest.param(lambda app: app.transact(lambda tx: tx[App.conn]), id="transact"),
            pytest.param(lambda app: app.transaction().__enter__(), id="transaction"),
        ],
    )
    def test_refuses_every_change(self, change: Callable[[App], object]) -> None:
        """P092: whatever would change the store raises StoreClosedError, which names the store."""
        app = App()
        app.close()

        with pytest.raises(StoreClosedError, match="App is closed"):
            change(app)

        assert ("disconnected", 0) == (app.conn.value, app.revision)

    def test_of_one_store_ends_no_other(self) -> None:
        """Another instance goes on."""
        one, other = App(), App()

        one.close()
        other.conn.value = "connected"

        assert not other.is_closed

    async def test_ends_a_wait(self) -> None:
        """P092: a wait that nothing can fulfil any more raises StoreClosedError."""
        app = App()
        task = asyncio.create_task(app.conn.wait_for("connected"))
        await asyncio.sleep(0)

        app.close()

        with pytest.raises(StoreClosedError, match="App was closed during a wait for conn to be"):
            await task

    async def test_lets_a_wait_have_what_came_before(self) -> None:
        """P092: a wait whose match was committed before the end returns it."""
        app = App()
        task = asyncio.create_task(app.conn.wait_for("connected"))
        await asyncio.sleep(0)

        app.conn.value = "connected"
        app.conn.value = "closed"
        app.close()

        assert "connected" == await task

    async def test_ends_a_wait_that_begins_later(self) -> None:
        """P092: a wait on a closed store returns the value that holds already, or else raises."""
        app = App()
        app.close()

        assert "disconnected" == await app.conn.wait_for("disconnected")
        with pytest.raises(StoreClosedError):
            await app.conn.wait_for("connected")

    async def test_lets_subscriptions_deliver_what_they_hold(self) -> None:
        """P092: a subscription gives what it holds, and then ends, exactly once and last."""
        app = App()
        with app.conn.subscribe() as sub, app.subscribe() as commits:
            app.conn.value = "connected"
            app.close()

            assert ["connected"] == [transition.new async for transition in sub]
            assert [1] == [commit.revision async for commit in commits]
            for ended in (sub, commits):
                with pytest.raises(StopAsyncIteration):
                    await ended.__anext__()
                with pytest.raises(StoreClosedError):
                    ended.get_nowait()

    async def test_wakes_a_subscription_that_sleeps(self) -> None:
        """An iteration that waits for more ends when the store does."""
        app = App()

        async def read() -> list[str]:
            with app.conn.subscribe() as sub:
                return [transition.new async for transition in sub]

        task = asyncio.create_task(read())
        await asyncio.sleep(0)
        app.close()

        assert [] == await task

    def test_in_a_callback_comes_after_the_running_batch(self) -> None:
        """P092: a callback may close the store; the others are still told of their transition."""
        app = App()
        seen: list[tuple[str, int]] = []

        def close(_old: int, new: int) -> None:
            app.close()
            seen.append(("closed", new))

        app.inflight.on_change(close)
        app.inflight.on_change(lambda _old, new: seen.append(("told", new)))

        app.inflight.value = 1

        assert [("closed", 1), ("told", 1)] == seen
        with pytest.raises(StoreClosedError):
            app.inflight.value = 2
        assert 2 == len(seen)

    def test_from_another_thread_wakes_a_blocked_one(self) -> None:
        """P092: a thread that blocks in a wait is told of an end that another thread makes."""
        app = App()
        started = threading.Event()
        errors: list[BaseException] = []

        def predicate(_value: str) -> bool:
            started.set()
            return False

        def wait() -> None:
            try:
                app.conn.blocking.wait_until(predicate)
            except StoreClosedError as error:
                errors.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        started.wait()
        app.close()
        thread.join()

        assert 1 == len(errors)

    def test_is_done_by_a_with_block(self) -> None:
        """`with store` gives the store, and closes it on leaving, also by an exception."""
        app = App()
        with app as same:
            assert app is same
            assert not app.is_closed
        assert app.is_closed

        other = App()
        with pytest.raises(ZeroDivisionError), other:
            raise ZeroDivisionError
        assert other.is_closed

    async def test_is_done_by_an_async_with_block(self) -> None:
        """`async with store` does the same."""
        app = App()
        async with app as same:
            assert app is same
            assert not app.is_closed
        assert app.is_closed

        other = App()
        with pytest.raises(ZeroDivisionError):
            async with other:
                raise ZeroDivisionError
        assert other.is_closed

    def test_refuses_no_listener(self) -> None:
        """Callbacks and subscriptions can be opened on a closed store, which ends them at once."""
        app = App()
        app.close()

        with app.conn.on_change(print), app.conn.subscribe() as sub:
            assert 0 == sub.pending
            with pytest.raises(StoreClosedError):
                sub.get_nowait()

    def test_is_not_needed(self) -> None:
        """A store that is dropped without being closed is collected, and its values with it."""
        app = App()
        app.add("more", 1)
        with app.subscribe(), app.inflight.on_change(print):
            app.inflight.set_if(0, lambda _: False)
        reference = weakref.ref(app)

        del app
        gc.collect()

        assert reference() is None


class TestOnError:
    """P6: an error in a callback is reported, never swallowed, never thrown at the setter."""

    def test_is_called_with_the_failure(self) -> None:
        """`on_error` is given key, revision, callback and error."""
        failures: list[CallbackFailure] = []
        app = App(on_error=failures.append)
        error = ZeroDivisionError()

        def fail(_old: int, _new: int) -> None:
            raise error

        app.inflight.on_change(fail)
        app.conn.value = "connected"
        app.inflight.value = 1

        expected = CallbackFailure(key="inflight", revision=2, callback=fail, error=error)
        assert [expected] == failures

    def test_defaults_to_the_log(self) -> None:
        """Without `on_error` the failure is logged with key, revision and callback."""
        app = App()
        app.inflight.on_change(lambda _old, _new: 1 / 0)

        with structlog.testing.capture_logs() as logs:
            app.inflight.value = 1

        (entry,) = logs
        assert ("statestore.callback_failed", "error") == (entry["event"], entry["log_level"])
        assert ("inflight", 1) == (entry["key"], entry["revision"])
        assert "test_defaults_to_the_log" in entry["callback"]
        assert isinstance(entry["exc_info"], ZeroDivisionError)

    def test_may_fail_itself(self) -> None:
        """What `on_error` raises is logged with the failure, and reaches no setter."""

        def on_error(_failure: CallbackFailure) -> None:
            raise ValueError("no report")

        app = App(on_error=on_error)
        app.inflight.on_change(lambda _old, _new: 1 / 0)

        with structlog.testing.capture_logs() as logs:
            app.inflight.value = 1

        (entry,) = logs
        assert "inflight" == entry["key"]
        assert "no report" in entry["on_error_raised"]
        assert isinstance(entry["exc_info"], ZeroDivisionError)
        assert 1 == app.inflight.value

    def test_is_of_one_instance(self) -> None:
        """Each store reports to its own `on_error`."""
        one: list[CallbackFailure] = []
        other: list[CallbackFailure] = []
        first, second = App(on_error=one.append), App(on_error=other.append)
        for app in (first, second):
            app.inflight.on_change(lambda _old, _new: 1 / 0)

        second.inflight.value = 1

        assert (0, 1) == (len(one), len(other))


class TestFamilies:
    """A store that has families as well."""

    def test_counts_keys_and_no_members(self) -> None:
        """Length, iteration and repr tell of the keys; a family tells of its members itself."""
        pool = Pool()
        pool.workers.add("a")
        pool.add("more", 1)

        assert (2, ["n", "more"]) == (len(pool), list(pool))
        assert "<Pool of 2 keys, revision 2>" == repr(pool)

    def test_has_one_revision_for_keys_and_members(self) -> None:
        """Adding, setting and removing a member is a commit in the one order of the store."""
        pool = Pool()
        revisions = []

        for change in (
            lambda: pool.workers.add("a"),
            lambda: pool.n.set(1),
            lambda: pool.workers["a"].set(1),
            lambda: pool.workers["a"].set(1),
            lambda: pool.workers.__delitem__("a"),
            lambda: pool.add("more", 1),
        ):
            change()
            revisions.append(pool.revision)

        assert [1, 2, 3, 3, 4, 5] == revisions

    def test_shows_all_families_in_a_snapshot(self) -> None:
        """A snapshot has each family, also an empty one, under its name, at one revision."""
        pool = Pool()
        pool.workers.add("a", 1)
        pool.n.value = 2

        found = pool.snapshot()

        assert ["n", "workers", "things"] == list(found)
        assert (2, {"a": 1}, {}, 2) == (
            found.n,
            dict(found.workers),
            dict(found.things),
            found.revision,
        )

    def test_reads_nothing_twice_for_equal_snapshots(self) -> None:
        """Snapshots of one revision are equal, those with other members are not."""
        pool = Pool()
        pool.workers.add("a", 1)
        first = dict(pool.snapshot())

        assert first == dict(pool.snapshot())
        del pool.workers["a"]
        assert first != dict(pool.snapshot())

    def test_refuses_every_change_of_members_once_closed(self) -> None:
        """P092: no member comes, goes or is set on a store that is closed."""
        pool = Pool()
        worker = pool.workers.add("a", 1)
        pool.close()

        for change in (
            lambda: pool.workers.add("b"),
            lambda: pool.workers.add("a"),
            lambda: pool.workers.__delitem__("a"),
            lambda: pool.workers.__delitem__("b"),
            lambda: worker.set(2),
            lambda: pool.transact(lambda tx: tx.add(pool.workers, "b")),
            lambda: pool.transact(lambda tx: tx.remove(pool.workers, "a")),
        ):
            with pytest.raises(StoreClosedError, match="Pool is closed"):
                change()

        assert ({"a": 1}, 1) == (dict(pool.snapshot().workers), pool.revision)

    async def test_ends_who_follows_members_when_it_is_closed(self) -> None:
        """P092: waits on members, and on what is derived of them, end; streams deliver first."""
        pool = Pool()
        worker = pool.workers.add("a")
        followed = [worker, pool.workers.mapping, pool.workers.count(bool), worker.map(str)]
        tasks = [asyncio.create_task(one.wait_for("never")) for one in followed]
        subs = [one.subscribe() for one in followed]
        await asyncio.sleep(0)

        worker.value = 1
        pool.close()

        for task in tasks:
            with pytest.raises(StoreClosedError):
                await task
        for sub in subs:
            assert [2] == [transition.revision async for transition in sub]
            with pytest.raises(StoreClosedError):
                sub.get_nowait()
            sub.close()

    def test_reports_a_failing_predicate_of_a_callback(self) -> None:
        """P102: `on_error` is told what a callback on a family cannot be called for."""
        failures: list[CallbackFailure] = []
        pool = Pool(on_error=failures.append)
        pool.workers.add("a", 1)
        seen: list[object] = []
        watched = pool.workers.all(lambda value: 1 / value > 0)
        watched.on_change(lambda old, new: seen.append((old, new)))

        pool.workers["a"].value = 0
        pool.workers["a"].value = -1

        (failure,) = failures
        assert (watched.name, 2) == (failure.key, failure.revision)
        assert isinstance(failure.error, DerivationError)
        assert isinstance(failure.error.__cause__, ZeroDivisionError)
        assert [(True, False)] == seen

    def test_may_declare_an_attribute_that_resembles_a_family(self) -> None:
        """An attribute that the class declares is no misspelt family."""

        class Named(Pool):
            worker = 0

        pool = Named()
        pool.worker = 3

        assert 3 == pool.worker

    def test_follows_members_from_any_subclass(self) -> None:
        """A subclass may add members in an `__init__` of its own, before it is anything else."""

        class Staffed(Pool):
            def __init__(self) -> None:
                self.workers.add("a", 1)

        pool = Staffed()
        with pool.subscribe() as sub:
            del pool.workers["a"]
            assert [2] == [commit.revision for commit in drain(sub)]


def test_add_tries_again_when_another_commit_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is added while somebody else commits comes right behind that commit."""
    store = Store()
    other = store.add("other", 0)
    publish = Core.publish

    def lose_once(core: Core, head: Any, changes: Any) -> Any:
        monkeypatch.setattr(Core, "publish", publish)
        other.value = 1
        return publish(core, head, changes)

    monkeypatch.setattr(Core, "publish", lose_once)
    port = store.add("port", 8080)

    assert (3, 8080) == (port.revision, port.value)
