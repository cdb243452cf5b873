"""
What mypy and pyright make of watchers: waits that narrow, streams, variance. Never run.

A line that must fail says so, to each of the two: if it passed, the comment would be an error.
"""

from __future__ import annotations

from typing import TypeGuard, assert_type

from typing_extensions import TypeIs

from statestore import (
    BlockingSubscription,
    BlockingValues,
    BlockingValueWatcher,
    BlockingWatcher,
    CallbackHandle,
    During,
    Ref,
    Subscription,
    Transition,
    Values,
    ValueWatcher,
    Watcher,
    register_immutable,
    run_to_end,
)


class Animal:
    """Something with a subclass."""


class Cat(Animal):
    """A subclass of something."""


def is_cat(animal: Animal) -> TypeIs[Cat]:
    """Tell whether *animal* is a cat, so that a type checker knows in both cases."""
    return isinstance(animal, Cat)


def is_surely_cat(animal: Animal) -> TypeGuard[Cat]:
    """Tell whether *animal* is a cat, so that a type checker knows if it is."""
    return isinstance(animal, Cat)


def is_text(value: object) -> TypeIs[str]:
    """Tell whether *value* is a string."""
    return isinstance(value, str)


def construction() -> None:
    """Make watchers that stand alone, of the type of the value or of the one that is given."""
    assert_type(ValueWatcher(0), ValueWatcher[int])
    assert_type(ValueWatcher[Cat | None](None), ValueWatcher[Cat | None])
    ValueWatcher("", on_change=lambda old, new: (old.upper(), new.upper()))
    ValueWatcher[int]("")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ValueWatcher(0, print)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def waits(watcher: ValueWatcher[Animal | None]) -> None:
    """Wait: the result has the type of the value, or less if the wait knows more."""
    assert_type(await watcher.wait_for(None), Animal | None)
    assert_type(await watcher.wait_for_not(None), Animal | None)
    assert_type(await watcher.wait_for_change(), Animal | None)
    assert_type(await watcher.wait_for_not_none(), Animal)
    assert_type(await watcher.wait_until(lambda value: value is None), Animal | None)
    assert_type(await watcher.wait_until(callable), Animal | None)  # type: ignore[assert-type]  # pyright: ignore[reportAssertTypeFailure]
    watcher.wait_for(None, True)  # type: ignore[call-arg, unused-coroutine]  # pyright: ignore[reportCallIssue]
    await watcher.wait_for(None, timeout="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def works(watcher: Watcher[Animal | None]) -> None:
    """Bind work to a state: what ended or began it has the type of the value."""
    assert_type(await watcher.wait_for(None, held_for=2), Animal | None)
    assert_type(await watcher.wait_until(lambda value: value is None, held_for=2), Animal | None)
    assert_type(watcher.blocking.wait_for_not_none(held_for=2), Animal)
    await watcher.wait_for(None, held_for="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async with watcher.during(None, timeout=1) as scope:
        assert_type(scope, During[Animal | None])
    assert_type(scope.ended, Transition[Animal | None] | None)

    async def serve(visit: Transition[Animal | None]) -> None:
        assert_type(visit.new, Animal | None)

    async def rest(_visit: object) -> int:
        return 1

    async def count(visit: Transition[int]) -> None:
        pass

    def plain(visit: Transition[Animal | None]) -> None:
        pass

    await watcher.supervise({None: serve, 1: rest, 2: run_to_end(serve)}, until=None)
    await watcher.supervise({None: count})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    await watcher.supervise({None: plain})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    run_to_end(plain)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


async def narrowing(watcher: ValueWatcher[Animal], either: ValueWatcher[int | str]) -> None:
    """Narrow what a wait returns by a predicate that is a TypeIs or a TypeGuard."""
    assert_type(await watcher.wait_until(is_cat), Cat)
    assert_type(await watcher.wait_until(is_surely_cat), Cat)
    assert_type(await either.wait_until(is_text), str)
    with watcher.subscribe() as sub:
        assert_type(await sub.wait_until(is_cat), Cat)
        assert_type(await sub.wait_until(is_surely_cat, timeout=1), Cat)
    assert_type(watcher.blocking.wait_until(is_cat), Cat)
    assert_type(watcher.blocking.wait_until(is_surely_cat), Cat)


async def subscriptions(watcher: ValueWatcher[Cat | None]) -> None:
    """Take transitions of the watcher's type from a subscription, which has the same waits."""
    with watcher.subscribe(initial=True, maxlen=3, overflow="latest") as sub:
        assert_type(sub, Subscription[Cat | None])
        async for transition in sub:
            assert_type(transition, Transition[Cat | None])
            assert_type(transition.old, Cat | None)
        assert_type(sub.get_nowait(), Transition[Cat | None])
        assert_type(sub.pending, int)
        assert_type(await sub.wait_for(None), Cat | None)
        assert_type(await sub.wait_for_not_none(), Cat)
        assert_type(await sub.wait_for_change(), Cat | None)
        for _ in sub:  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
            pass
    watcher.subscribe(overflow="drop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def values(watcher: ValueWatcher[Cat]) -> None:
    """`values` gives the values themselves."""
    assert_type(watcher.values(), Values[Cat])
    async for value in watcher.values(latest=True):
        assert_type(value, Cat)


def blocking(watcher: ValueWatcher[Cat | None]) -> None:
    """See that the blocking side has the same types without `await`."""
    side = watcher.blocking
    assert_type(side, BlockingValueWatcher[Cat | None])
    assert_type(side.wait_for(None), Cat | None)
    assert_type(side.wait_for_not(None, timeout=1), Cat | None)
    assert_type(side.wait_for_not_none(), Cat)
    assert_type(side.wait_for_change(), Cat | None)
    assert_type(side.values(), BlockingValues[Cat | None])
    with side.subscribe() as sub:
        assert_type(sub, BlockingSubscription[Cat | None])
        for transition in sub:
            assert_type(transition, Transition[Cat | None])
        assert_type(sub.wait_for_not_none(), Cat)
    for value in side.values():
        assert_type(value, Cat | None)


async def claims(watcher: ValueWatcher[Cat | None]) -> None:
    """Claim by functions of the value: that gives the transition that it made."""

    def is_free(owner: Animal | None) -> bool:
        """Take anything wider."""
        return owner is None

    made = await watcher.claim(is_free, lambda _owner: Cat(), timeout=1)
    assert_type(made, Transition[Cat | None] | None)
    made = watcher.blocking.claim(is_free, lambda owner: owner)
    assert_type(made, Transition[Cat | None] | None)
    await watcher.claim(is_free, lambda _owner: 1)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    await watcher.claim(len, lambda owner: owner)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    watcher.map(is_free).claim(is_free, is_free)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def callbacks(watcher: ValueWatcher[Cat]) -> None:
    """Callbacks take what the watcher holds, or anything wider."""

    def on_change(old: Animal, new: Animal) -> None:
        """Take anything wider."""

    def on_other(old: int, new: int) -> None:
        """Take something else."""

    with watcher.on_change(on_change) as handle:
        assert_type(handle, CallbackHandle)
    assert_type(watcher.on_value(None, lambda: None), CallbackHandle)
    watcher.on_change(on_other)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    watcher.on_value(None, on_change)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def look(watcher: Watcher[Animal]) -> Animal:
    """Read a watcher of any animal."""
    return watcher.value


def put(watcher: ValueWatcher[Animal]) -> None:
    """Put any animal into a watcher."""
    watcher.value = Animal()


def variance(cats: ValueWatcher[Cat], animals: ValueWatcher[Animal]) -> None:
    """See that a watcher is covariant, as it is only read, and a value watcher is not."""
    look(cats)
    look(animals)
    put(animals)
    put(cats)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    records: Transition[Animal] = Transition[Cat](key="", old=Cat(), new=Cat(), revision=1)
    look(ValueWatcher(records.new))
    stream: Subscription[Animal] = cats.subscribe()
    side: BlockingWatcher[Animal] = cats.blocking
    stream.close()
    side.wait_for(None)


def readers(watcher: Watcher[int]) -> None:
    """Who has only a Watcher can set nothing."""
    assert_type(watcher.value, int)
    watcher.value = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    watcher.set(1)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    watcher.revision = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def helpers() -> None:
    """`Ref` keeps the type of its target, `register_immutable` the class that it is given."""
    assert_type(Ref(Cat()).target, Cat)
    wider: Ref[Animal] = Ref(Cat())
    look(ValueWatcher(wider.target))
    assert_type(register_immutable(Cat), type[Cat])
    register_immutable(Cat())  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
