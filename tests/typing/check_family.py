"""
What mypy and pyright make of families, their members and what is derived of them. Never run.

A line that must fail says so, to each of the two: if it passed, the comment would be an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, assert_type

import attrs

from statestore import (
    CallbackHandle,
    Condition,
    Family,
    Key,
    Members,
    Snapshot,
    Store,
    Subscription,
    Transaction,
    Transition,
    ValueWatcher,
    Watcher,
)


@attrs.frozen
class Worker:
    """A frozen value."""

    busy: bool = False


@attrs.frozen
class Robot(Worker):
    """One of its subclasses."""

    model: str = ""


class Color(Enum):
    """Keys of another kind."""

    RED = 1


class App(Store):
    """A store with families of several kinds."""

    n = Key(0)
    workers = Family[str, Worker]()
    attempts = Family[int, int](default=0)
    lights = Family[Color, bool](default=False)
    pairs = Family[tuple[str, int], Worker | None](default=None)


class SubApp(App):
    """A store with one family more."""

    labels = Family[str, str](default="")


def is_busy(worker: Worker) -> bool:
    """Tell whether *worker* is busy."""
    return worker.busy


def is_model(robot: Robot) -> bool:
    """Tell something that only a robot knows."""
    return robot.model == ""


def declarations() -> None:
    """Declare families: keys can be hashed, and a default is a value."""
    Family[str, Worker](default=Worker())
    Family[str, Worker](default=Robot())
    Family[str, Worker](default=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Family[str, Worker](Worker())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Family[str, Worker](default=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Family[list[str], Worker]()  # type: ignore[type-var]  # pyright: ignore[reportInvalidTypeArguments]
    Family[str]()  # type: ignore[misc]  # pyright: ignore[reportInvalidTypeArguments]


def descriptors(app: App, sub: SubApp) -> None:
    """`App.workers` is the family, `app.workers` its members."""
    assert_type(App.workers, Family[str, Worker])
    assert_type(app.workers, Members[str, Worker])
    assert_type(app.attempts, Members[int, int])
    assert_type(app.pairs, Members[tuple[str, int], Worker | None])
    assert_type(sub.workers, Members[str, Worker])
    assert_type(sub.labels, Members[str, str])
    assert_type(SubApp.workers, Family[str, Worker])
    App.workers.add("w1")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def adding(app: App) -> None:
    """See that `add` takes the family's types, and gives a watcher of them."""
    assert_type(app.workers.add("w1", Worker()), ValueWatcher[Worker])
    assert_type(app.workers.add("w1", Robot()), ValueWatcher[Worker])
    assert_type(app.attempts.add(1), ValueWatcher[int])
    assert_type(app.attempts.add(1, value=2), ValueWatcher[int])
    assert_type(app.lights.add(Color.RED), ValueWatcher[bool])
    assert_type(app.pairs.add(("a", 1), None), ValueWatcher[Worker | None])
    app.workers.add(1, Worker())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.workers.add("w1", None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.attempts.add(1, "2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.attempts.add("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.pairs.add(("a", "1"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.workers.add()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def look_up(app: App) -> None:
    """Look a member up by a key of the family's type, which gives a typed watcher."""
    assert_type(app.workers["w1"], ValueWatcher[Worker])
    assert_type(app.workers["w1"].value, Worker)
    assert_type(app.workers["w1"].value.busy, bool)
    assert_type(app.workers.get("w1"), ValueWatcher[Worker] | None)
    assert_type(app.pairs["a", 1].value, Worker | None)
    assert_type(list(app.workers), list[str])
    assert_type(iter(app.attempts), Iterator[int])
    assert_type("w1" in app.workers, bool)
    assert_type(1 in app.workers, bool)
    assert_type(len(app.workers), int)
    assert_type(app.workers.name, str)
    app.workers[1]  # type: ignore[index]  # pyright: ignore[reportArgumentType]
    app.workers.get(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.workers["w1"].value.idle  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    app.workers.get("w1").value  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    app.workers.name = "x"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def removing(app: App) -> None:
    """Remove a member by a key of the family's type."""
    del app.workers["w1"]
    del app.workers[1]  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def setting(app: App) -> None:
    """Set a member as any value watcher; assigning it, or the family, fails."""
    app.workers["w1"].value = Worker(busy=True)
    assert_type(app.attempts[1].update(lambda n: n + 1), Transition[int] | None)
    app.workers["w1"].value = 1  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    app.workers["w1"] = Worker()  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    app.workers = {}  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]


async def conditions(app: App) -> None:
    """Derive conditions of predicates that take the members' values, or anything wider."""
    assert_type(app.workers.all(is_busy), Condition)
    assert_type(app.workers.any(lambda worker: worker.busy), Condition)
    assert_type(app.workers.at_least(2, is_busy), Condition)
    assert_type(app.workers.all(bool) & ~app.workers.any(is_busy) | app.n.is_(0), Condition)
    assert_type(app.workers.all(is_busy).value, bool)
    await app.workers.all(lambda worker: not worker.busy).wait(timeout=30)
    app.attempts.all(is_busy)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.workers.any(is_model)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.workers.any(lambda: True)  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]
    app.workers.all(lambda worker: worker.idle)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownLambdaType, reportUnknownMemberType]
    app.workers.at_least(is_busy)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    app.workers.at_least("2", is_busy)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.workers.all()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def numbers(app: App) -> None:
    """Count members: all, or those for which a predicate holds."""
    assert_type(app.workers.count(), Watcher[int])
    assert_type(app.workers.count(is_busy), Watcher[int])
    assert_type(app.workers.count(is_busy).value, int)
    assert_type(await app.workers.count().wait_for(3), int)
    assert_type(app.workers.count().map(str), Watcher[str])
    assert_type(app.workers.count().on_change(lambda old, new: new - old), CallbackHandle)
    app.attempts.count(is_busy)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.workers.count().value = 3  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    app.n.is_(0) & app.workers.count()  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]


async def mappings(app: App) -> None:
    """Derive all members as one mapping, which is only read."""
    mapping = app.workers.mapping
    assert_type(mapping, Watcher[Mapping[str, Worker]])
    assert_type(mapping.value["w1"], Worker)
    assert_type(app.pairs.mapping.value.get(("a", 1)), Worker | None)
    assert_type(mapping.map(len), Watcher[int])
    assert_type(await mapping.wait_until(lambda workers: "w1" in workers), Mapping[str, Worker])
    with mapping.subscribe() as sub:
        assert_type(sub, Subscription[Mapping[str, Worker]])
        assert_type((await anext(sub)).new, Mapping[str, Worker])
    mapping.value["w1"] = Worker()  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    mapping.value[1]  # type: ignore[index]  # pyright: ignore[reportArgumentType]
    mapping.map(is_busy)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.workers.mapping = mapping  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def transactions(app: App) -> None:
    """Add, set and remove members in a transaction, with their types."""
    with app.transaction() as tx:
        assert_type(tx[app.workers["w1"]], Worker)
        assert_type(tx[app.pairs["a", 1]], Worker | None)
        tx[app.workers["w1"]] = Robot()
        tx[app.attempts[1]] += 1
        tx.add(app.workers, "w2", Worker())
        tx.add(app.attempts, 2)
        tx.remove(app.workers, "w2")
        tx[app.workers["w1"]] = 1  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
        tx.add(app.workers, 2, Worker())  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
        tx.add(app.attempts, 2, "x")  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
        tx.add(App.workers, "w2", Worker())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        tx.add("workers", "w2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        tx.remove(app.attempts, "2")  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
        tx[app.workers]  # type: ignore[index]  # pyright: ignore[reportArgumentType]


def transact(app: App) -> None:
    """`transact` gives a transaction to which members belong as well."""

    def move(tx: Transaction) -> str:
        tx.remove(app.workers, "w1")
        tx.add(app.workers, "w2", Worker())
        return "w2"

    assert_type(app.transact(move), str)


async def stores(app: App) -> None:
    """Families are no keys of a store; its snapshots hold them untyped, as all values."""
    app[App.workers]  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    app.subscribe(app.workers)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.subscribe(app.workers["w1"], app.n).close()
    assert_type(app.snapshot()["workers"], Any)
    with app.subscribe() as sub:
        assert_type(await sub.wait_until(lambda now: not now.workers), Snapshot)


def every_worker(members: Members[str, Worker]) -> list[Worker]:
    """Take members of any store."""
    return [members[key].value for key in members]


def parameters(app: App) -> None:
    """Members are handed on with both of their types, neither wider nor narrower."""
    assert_type(every_worker(app.workers), list[Worker])
    every_worker(app.attempts)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    every_worker(app.pairs)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
