"""
What mypy and pyright make of declared keys, stores and transactions. Never run.

A line that must fail says so, to each of the two: if it passed, the comment would be an error.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, assert_type

import attrs

from statestore import (
    BlockingCommitSubscription,
    Commit,
    CommitSubscription,
    Key,
    Snapshot,
    Store,
    Transaction,
    Transition,
    ValueWatcher,
)


class Conn(Enum):
    """The states of a connection."""

    OPEN = "open"
    CLOSED = "closed"


@attrs.frozen
class Config:
    """A frozen value."""

    port: int = 8080


class App(Store):
    """A store with a key of each kind."""

    conn = Key(Conn.CLOSED)
    n = Key(0)
    config = Key[Config | None](None)


class SubApp(App):
    """A store with one key more."""

    label = Key("")


def descriptors(app: App, sub: SubApp) -> None:
    """`App.conn` is the key, `app.conn` its watcher."""
    assert_type(App.conn, Key[Conn])
    assert_type(App.config, Key[Config | None])
    assert_type(App.conn.default, Conn)
    assert_type(app.conn, ValueWatcher[Conn])
    assert_type(app.n, ValueWatcher[int])
    assert_type(app.config, ValueWatcher[Config | None])
    assert_type(sub.conn, ValueWatcher[Conn])
    assert_type(sub.label, ValueWatcher[str])
    assert_type(SubApp.conn, Key[Conn])


def values(app: App) -> None:
    """`value` is read and set with the type of the key."""
    assert_type(app.conn.value, Conn)
    assert_type(app.config.value, Config | None)
    app.conn.value = Conn.OPEN
    app.n.value += 1
    app.config.value = None
    app.conn.value = "open"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    app.n.value = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    app.n.set("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.n.vlaue = 1  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def setters(app: App) -> None:
    """See what the setters take and give."""
    assert_type(app.n.set(1), Transition[int] | None)
    assert_type(app.n.set_if(1, lambda n: n > 0), bool)
    assert_type(app.n.compare_and_set(0, 1), bool)
    assert_type(app.n.update(lambda n: n + 1), Transition[int] | None)
    app.n.update(str)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.n.set_if("1", bool)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.conn.compare_and_set(Conn.OPEN, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def look_up(app: App) -> None:
    """Indexing with a key is typed, with a name it is not."""
    assert_type(app[App.conn], ValueWatcher[Conn])
    assert_type(app["conn"], ValueWatcher[Any])
    assert_type(app.get(App.conn), ValueWatcher[Conn] | None)
    assert_type(app.get("conn"), ValueWatcher[Any] | None)
    app["conn"] = 1  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    app[1]  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


def keys_at_run_time(store: Store) -> None:
    """`add` gives a watcher of the value's type."""
    assert_type(store.add("port", 8080), ValueWatcher[int])
    wider: ValueWatcher[int | None] = store.add("port", None)
    assert_type(wider.value, int | None)
    store.add(1, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def transactions(app: App) -> None:
    """Index a transaction by key or watcher, with its type."""
    with app.transaction() as tx:
        assert_type(tx, Transaction)
        assert_type(tx[App.n], int)
        assert_type(tx[app.conn], Conn)
        assert_type(tx[App.config], Config | None)
        tx[App.n] += 1
        tx[app.config] = Config()
        tx[App.n] = "1"  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
        tx[app.conn] = None  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
        tx["n"]  # type: ignore[index]  # pyright: ignore[reportArgumentType]


def transact(app: App) -> None:
    """`transact` returns what its function does."""

    def take(tx: Transaction) -> int:
        tx[App.n] -= 1
        return tx[App.n]

    assert_type(app.transact(take), int)
    assert_type(app.transact(lambda tx: tx[app.conn]), Conn)
    app.transact(lambda: 1)  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]


async def claim(app: App) -> None:
    """`claim` takes a condition and returns what its function does."""

    def take(tx: Transaction) -> int:
        tx[App.n] -= 1
        return tx[App.n]

    assert_type(await app.claim(app.n.is_not(0) & app.conn.is_not(None), take), int)
    assert_type(await app.claim(app.n.map(bool), lambda tx: tx[app.conn], timeout=1), Conn)
    assert_type(app.blocking.claim(app.n.is_(1), take), int)
    await app.claim(app.n, take)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.claim(take, take)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.blocking.claim(app.n.is_(1), lambda: 1)  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]


async def commits(app: App) -> None:
    """Take commits from a subscription to the store, and wait for snapshots."""
    with app.subscribe() as sub:
        assert_type(sub, CommitSubscription)
        async for commit in sub:
            assert_type(commit, Commit)
            assert_type(commit.transitions, tuple[Transition[Any], ...])
        assert_type(sub.get_nowait(), Commit)
        assert_type(await sub.wait_until(lambda now: now["n"] == 1), Snapshot)
    app.subscribe(App.n, app.conn, maxlen=5, overflow="latest").close()
    app.subscribe(overflow="drop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(app.snapshot(), Snapshot)
    with app.blocking.subscribe() as blocking:
        assert_type(blocking, BlockingCommitSubscription)
        assert_type(next(blocking), Commit)
        assert_type(blocking.wait_until(lambda now: now["n"] == 1), Snapshot)


async def ends(app: App) -> None:
    """`with` gives the store with its own type."""
    with app as same:
        assert_type(same, App)
    async with app as again:
        assert_type(again, App)


def assignment(app: App) -> None:
    """Assign a key, which fails: its value is what can be set."""
    app.conn = Conn.OPEN  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]


def misspelt(app: App) -> None:
    """Misspell a key, which fails, to read and to set."""
    app.cnn.value = Conn.OPEN  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    app.cnn = 1  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def records(app: App) -> None:
    """See that records are frozen."""
    made = app.n.set(1)
    if made is not None:
        assert_type(made.old, int)
        made.new = 2  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
