"""
Objects that behave as badly as user code can, and a probe for locks that are held meanwhile.

Nothing in here waits for ever: what does not come in time is an `AssertionError`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

import attrs

from statestore import Key, Ref, Store
from support.loop import StepLoop

T = TypeVar("T")

PATIENCE: Final = 20.0
"""Seconds after which something counts as a deadlock."""


class BoomError(Exception):
    """What hostile code raises."""


class Panic(BaseException):
    """What hostile code raises to get through `except Exception`."""


def boom(*_args: object) -> NoReturn:
    """
    Raise an error.

    Raises:
        BoomError: Always.
    """
    raise BoomError


def in_thread(act: Callable[[], T]) -> T:
    """
    Give what *act* returns in another thread, or raise what it raises.

    Raises:
        AssertionError: It did not come to an end: something is locked.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def main() -> None:
        try:
            results.append(act())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "another thread could not use the store: a deadlock"
    if errors:
        raise errors[0]
    return results[0]


class Arena(Store):
    """Where it happens."""

    state = Key[Any](0)
    beside = Key(0)


class Probe:
    """
    User code in which another thread uses the store, and which is not left before that is done.

    Only the first call does so; it counts them all.
    """

    def __init__(self, store: Arena) -> None:
        self._store = store
        self.calls = 0

    def __call__(self, *_args: object) -> None:
        """Let another thread read, set, register and look at everything."""
        self.calls += 1
        if self.calls == 1:
            in_thread(self._use)

    def _use(self) -> None:
        store = self._store
        revision = store.revision
        store.state.value
        store.beside.update(lambda now: now + 1)
        with store.state.subscribe(maxlen=1), store.subscribe(store.state), store.subscribe():
            store.beside.value += 1
        store.state.on_change(lambda _old, _new: None).close()
        with store.transaction() as tx:
            tx[store.beside] = tx[store.beside] + 1
        assert store.snapshot().revision >= revision + 3


RAISES: Final = Ref[Any](boom)


@attrs.frozen(eq=False, repr=False)
class Hostile:
    """
    A value, immutable by the letter, whose methods do what they are told.

    Attributes:
        on_eq: What `==` calls with the other object, and gives the result of.
        on_hash: The same for `hash()`.
        on_repr: The same for `repr()`.
    """

    on_eq: Ref[Callable[[object], Any]] = RAISES
    on_hash: Ref[Callable[[], Any]] = RAISES
    on_repr: Ref[Callable[[], Any]] = RAISES

    def __eq__(self, other: object) -> Any:
        return self.on_eq.target(other)

    def __ne__(self, other: object) -> Any:
        return self.on_eq.target(other)

    def __hash__(self) -> Any:
        return self.on_hash.target()

    def __repr__(self) -> Any:
        return self.on_repr.target()


def equal_by(act: Callable[[object], Any]) -> Hostile:
    """Give a value whose `==` is *act*."""
    return Hostile(on_eq=Ref(act))


class Undecided:
    """An object that is neither true nor false."""

    def __bool__(self) -> bool:
        raise BoomError


class BrokenLoop(StepLoop):
    """An event loop that cannot be woken: it raises an *error* instead, a new one each time."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self._error: type[BaseException] | None = error
        self.refusals = 0

    def mend(self) -> None:
        """Be a good loop from now on."""
        self._error = None

    def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> Any:
        """Raise the error."""
        if self._error is not None:
            self.refusals += 1
            raise self._error("not now")
        return super().call_soon_threadsafe(*args, **kwargs)
