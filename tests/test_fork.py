"""A forked child has the values, and none of the consumers."""

from __future__ import annotations

import asyncio
import os
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from statestore import Key, KeyRemovedError, Store, SubscriptionError, ValueWatcher
from statestore._core import BOX, VALUE
from statestore.testing import in_thread, traces_of
from support.families import Pool
from support.streams import drain

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no os.fork()"),
    # Said by CPython >= 3.12 about any process with threads. What holds in the child is tested.
    pytest.mark.filterwarnings(
        "ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"
    ),
]


class App(Store):
    """Two numbers."""

    left = Key(0)
    right = Key(0)


def in_child(function: Callable[[], object]) -> str:
    """Run *function* in a forked child; give the text of what it returned, or of its error."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        text = "the child did not come to its end"
        try:
            text = str(function())
        except BaseException:
            text = traceback.format_exc()
        finally:
            os.write(writer, text.encode()[:4000])
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    assert 0 == status
    return told


def commit_by_hand(app: App, value: int) -> None:
    """Append a commit and leave it unapplied, as a thread does that is in the middle of a set."""
    core = app._core
    head = core.settle()
    head[BOX].append(core.entry(head[0] + 1, [(app.left, app.left._tail(), value)]))


def test_the_child_has_the_values_and_the_revision() -> None:
    """P108: values, revisions and snapshot are those of the parent."""
    app = App()
    app.left.value = 3
    app.right.value = 4

    told = in_child(
        lambda: (app.left.value, app.right.revision, app.revision, dict(app.snapshot()))
    )

    assert str((3, 2, 2, {"left": 3, "right": 4})) == told


def test_the_child_is_on_its_own() -> None:
    """P108: what the child sets is not seen by the parent, nor the other way round."""
    app = App()

    told = in_child(lambda: (app.left.set(7), app.left.value)[1])

    assert "7" == told
    assert (0, 0) == (app.left.value, app.revision)


def test_the_child_has_no_callbacks() -> None:
    """P108: a callback that the parent registered is not called in the child."""
    app = App()
    called: list[int] = []
    handle = app.left.on_change(lambda _old, new: called.append(new))

    told = in_child(lambda: (app.left.set(1), called)[1])

    assert "[]" == told
    app.left.value = 2
    assert [2] == called
    handle.close()


def test_the_child_does_not_finish_the_callbacks_of_a_commit_of_the_parent() -> None:
    """P108: a commit that another thread was in the middle of tells nobody in the child."""
    app = App()
    called: list[int] = []
    app.left.on_change(lambda _old, new: called.append(new))
    commit_by_hand(app, 1)

    told = in_child(lambda: (app.left.set(2), app.right.set(3), called)[2])

    assert "[]" == told
    app.right.value = 1
    assert [1] == called


def test_a_child_forked_in_a_callback_goes_on_without_the_others() -> None:
    """P108: the round that the parent was telling ends in the child."""

    def fork_in_a_callback() -> list[int]:
        app = App()
        called: list[int] = []

        def fork(_old: int, _new: int) -> None:
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)

        app.left.on_change(fork)
        app.left.on_change(lambda _old, new: called.append(new))
        app.left.value = 1
        return called

    # Both tell what was called: first the inner child, then the one that waited for it.
    assert "[][1]" == in_child(fork_in_a_callback)


def test_an_inherited_subscription_says_so() -> None:
    """P108: reading it in the child raises and names the reason."""
    app = App()

    def read_all() -> list[str]:
        found = []
        for stream in streams:
            for read in (stream.get_nowait, lambda stream=stream: stream.pending):
                try:
                    read()
                except SubscriptionError as error:
                    found.append("fork" in str(error))
        return found

    with (
        app.left.subscribe() as plain,
        app.left.subscribe(maxlen=2) as bounded,
        app.subscribe() as commits,
        app.subscribe(App.left) as some,
        app.left.blocking.subscribe() as blocking,
    ):
        streams = [plain, bounded, commits, some, blocking]
        app.left.value = 1

        assert str([True] * 10) == in_child(read_all)
        assert [1] * 5 == [stream.pending for stream in streams]


def test_inherited_subscriptions_refuse_every_way_of_reading() -> None:
    """P108: iteration and waits raise as well, on a loop and in a thread."""
    app = App()

    def read_all() -> list[str]:
        found = []
        for read in (
            lambda: asyncio.run(plain.__anext__()),
            lambda: asyncio.run(plain.wait_for(1)),
            lambda: next(blocking),
            lambda: blocking.wait_for(1),
        ):
            try:
                read()
            except SubscriptionError as error:
                found.append("fork" in str(error))
        return found

    with app.left.subscribe() as plain, app.left.blocking.subscribe() as blocking:
        app.left.value = 1

        assert str([True] * 4) == in_child(read_all)


def test_inherited_subscriptions_can_be_closed() -> None:
    """P108: leaving their block in the child is no error, and costs the parent nothing."""
    app = App()
    with app.left.subscribe(maxlen=2) as bounded, app.subscribe() as commits:
        told = in_child(lambda: (bounded.close(), commits.close()))
        app.left.value = 1

        assert "(None, None)" == told
        assert (1, 1) == (bounded.get_nowait().new, commits.get_nowait().revision)


def test_the_child_can_subscribe_and_wait() -> None:
    """P108: consumers of the child's own are told of the child's commits."""
    app = App()
    app.left.value = 1

    async def use() -> list[int]:
        called: list[int] = []
        app.left.on_change(lambda _old, new: called.append(new))
        with app.left.subscribe() as plain, app.left.subscribe(maxlen=5) as bounded:
            waiting = asyncio.ensure_future(app.left.wait_for(3))
            await asyncio.sleep(0)
            app.left.value = 2
            app.left.value = 3
            seen = [stream.get_nowait().new for stream in (plain, bounded) for _ in range(2)]
            return [*called, *seen, await waiting]

    assert "[2, 3, 2, 3, 2, 3, 3]" == in_child(lambda: asyncio.run(use()))


def test_threads_of_the_child_can_wait() -> None:
    """P108: blocking waits work in the child."""
    app = App()

    def use() -> int:
        thread = threading.Thread(target=app.left.set, args=(5,))
        thread.start()
        found = app.left.blocking.wait_for(5)
        thread.join()
        return found

    assert "5" == in_child(use)


def test_a_commit_that_another_thread_was_in_the_middle_of_is_whole_in_the_child() -> None:
    """P108: the child finishes it; its thread is not needed."""
    app = App()
    app.left.value = 1
    commit_by_hand(app, 2)

    told = in_child(lambda: (app.left.value, app.revision, app.left.set(3).revision))  # type: ignore[union-attr]

    assert "(2, 2, 3)" == told
    assert (2, 2) == (app.left.value, app.revision)


def test_a_queue_that_another_thread_was_at_holds_up_nobody_in_the_child() -> None:
    """P108: nobody asks for the lock of a bounded queue that such a thread holds."""
    app = App()
    held, go_on = threading.Event(), threading.Event()
    with app.left.subscribe(maxlen=2) as bounded:

        def hold() -> None:
            with bounded._queue._lock:  # type: ignore[union-attr]
                held.set()
                assert go_on.wait(10)

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(10)
        commit = app._core.entry(1, [(app.left, app.left._tail(), 1)])
        app._core.settle()[BOX].append(commit)
        told = in_child(lambda: (app.left.set(2), app.left.value)[1])
        go_on.set()
        thread.join()

    assert "2" == told


def test_a_turn_that_another_thread_had_holds_up_nobody_in_the_child() -> None:
    """P108: an update that had the right of way in the parent does not have it in the child."""
    app = App()
    turn = app._core.take_turn()

    told = in_child(lambda: (app._core.turns, app._core.attention))
    app._core.end_turn(turn)

    assert "({}, {})" == told


def test_a_watcher_that_stands_alone_is_cared_for_too() -> None:
    """P108: not only stores are."""
    number = ValueWatcher(0)
    called: list[int] = []
    number.on_change(lambda _old, new: called.append(new))
    number.value = 1

    assert "(2, [1])" == in_child(lambda: (number.set(2), (number.value, called))[1])


def test_a_child_of_a_child_is_no_different() -> None:
    """P108: what the child opened is void in its own child."""
    app = App()

    def child() -> str:
        with app.left.subscribe() as stream:
            app.left.value = 1

            def grandchild() -> str:
                try:
                    stream.get_nowait()
                except SubscriptionError:
                    return f"refused at {app.left.value}"
                return "read"

            return f"{in_child(grandchild)}, {stream.get_nowait().new}"

    assert "refused at 1, 1" == in_child(child)


def in_order(members: Mapping[str, int]) -> list[tuple[str, int]]:
    """Give the items in an order that is always the same."""
    return sorted(members.items())


class TestMembers:
    """P108: members of families, and what is derived of them, in the child."""

    def test_are_those_of_the_parent(self) -> None:
        """P108: the child has the members and their values, and what follows from them."""
        pool = Pool()
        pool.workers.add("a", 1)
        pool.workers.add("b", 2)
        count = pool.workers.count(bool)

        told = in_child(lambda: (in_order(pool.snapshot().workers), count.value, len(pool.workers)))

        assert str(([("a", 1), ("b", 2)], 2, 2)) == told

    def test_come_and_go_in_the_child_alone(self) -> None:
        """P108: the parent sees nothing of what the child adds, sets and removes."""
        pool = Pool()
        gone, kept = pool.workers.add("a", 1), pool.workers.add("b", 2)

        def change() -> list[object]:
            del pool.workers["a"]
            pool.workers.add("c", 3)
            pool.workers["b"].value = 5
            with pool.transaction() as tx:
                tx.add(pool.workers, "a", 7)
            try:
                gone.value
            except KeyRemovedError:
                return [in_order(pool.workers.mapping.value), pool.revision]
            return []

        told = in_child(change)

        assert str([[("a", 7), ("b", 5), ("c", 3)], 6]) == told
        assert ({"a": 1, "b": 2}, 2) == (dict(pool.workers.mapping.value), pool.revision)
        assert (gone, kept) == (pool.workers["a"], pool.workers["b"])

    def test_call_no_callback_in_the_child(self) -> None:
        """P108: callbacks on what is derived of a family stay behind, and so does its computing."""
        pool = Pool()
        called: list[object] = []
        computed: list[int] = []
        handles = [
            pool.workers.mapping.on_change(lambda _old, new: called.append(dict(new))),
            pool.workers.all(computed.append).on_change(lambda _old, new: called.append(new)),
        ]

        def change() -> tuple[list[object], list[int], list[str]]:
            pool.workers.add("a", 1)
            pool.workers["a"].value = 2
            return called, computed, traces_of(pool)

        assert "([], [], [])" == in_child(change)
        pool.workers.add("a", 3)
        assert (sorted([False, {"a": 3}], key=str), [3]) == (sorted(called, key=str), computed)
        for handle in handles:
            handle.close()

    def test_are_not_followed_by_inherited_subscriptions(self) -> None:
        """P108: a subscription to what is derived of a family says that it was inherited."""
        pool = Pool()
        pool.workers.add("a", 1)

        def read_all() -> list[bool]:
            found = []
            pool.workers["a"].value = 3
            for stream in streams:
                try:
                    stream.get_nowait()
                except SubscriptionError as error:
                    found.append("fork" in str(error))
            return found

        async def main() -> None:
            with (
                pool.workers.mapping.subscribe() as mapping,
                pool.workers.count(bool).subscribe(maxlen=1) as count,
                pool.workers["a"].map(str).subscribe() as derived,
            ):
                streams.extend([mapping, count, derived])
                pool.workers["a"].value = 0
                assert str([True] * 3) == in_child(read_all)
                assert [1, 1, 1] == [len(drain(stream)) for stream in streams]

        streams: list[Any] = []
        asyncio.run(main())

    def test_are_not_listed_for_who_was_left_behind(self) -> None:
        """P108: the child is rid of those who follow the family on a loop of the parent."""
        pool = Pool()
        pool.workers.add("a")

        async def main() -> str:
            with pool.workers.mapping.subscribe(), pool.workers.all(bool).subscribe():
                assert [] != traces_of(pool)
                return in_child(lambda: traces_of(pool))

        assert "[]" == asyncio.run(main())

    def test_can_be_followed_anew(self) -> None:
        """P108: consumers that the child opens are told of what comes and goes there."""
        pool = Pool()
        pool.workers.add("a", 1)

        async def use() -> list[object]:
            called: list[object] = []
            pool.workers.count().on_change(lambda _old, new: called.append(new))
            with pool.workers.mapping.subscribe() as sub, pool.subscribe() as commits:
                waiting = asyncio.ensure_future(pool.workers.any(lambda n: n > 8).wait_for(True))
                await asyncio.sleep(0)
                pool.workers.add("b", 9)
                del pool.workers["a"]
                seen = [in_order(transition.new) for transition in drain(sub)]
                return [called, seen, len(drain(commits)), await waiting]

        async def main() -> str:
            # The parent follows all of it, too.
            called: list[object] = []
            pool.workers.count().on_change(lambda _old, new: called.append(new))
            with pool.workers.mapping.subscribe(), pool.workers.all(bool).subscribe():
                return in_child(lambda: in_thread(lambda: asyncio.run(use())))

        expected = [[2, 1], [[("a", 1), ("b", 9)], [("b", 9)]], 2, True]
        assert str(expected) == asyncio.run(main())

    def test_that_another_thread_was_in_the_middle_of_adding_are_whole(self) -> None:
        """P108: the child finishes a commit with a member in it, as any other."""
        pool = Pool()
        core, feed = pool._core, pool.workers._feed
        cell = feed.members._tail()
        watcher, membership = pool.workers._plus(cell[VALUE], "a")
        changes = [(feed.members, cell, membership), (watcher, watcher._cell, 5)]
        core.settle()[BOX].append(core.entry(1, changes))

        told = in_child(lambda: (pool.workers["a"].value, pool.workers.count().value))

        assert "(5, 1)" == told
