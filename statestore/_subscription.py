"""Subscriptions and values of one watcher: one consumer's own queue, for a task or a thread."""

from __future__ import annotations

from typing import Any, TypeVar, final

from statestore._blocking import BlockingWaits
from statestore._formulas import NO_VALUE, last_good
from statestore._mailbox import Test
from statestore._records import Transition, make_transition
from statestore._streams import AsyncStream, BlockingStream, Stream
from statestore._waits import Waits

T_co = TypeVar("T_co", covariant=True)


class _Transitions(Stream[Transition[T_co]]):
    """What a subscription to one watcher gives."""

    __slots__ = ()

    def _record(self, old: Any, new: Any, revision: int, missed: int) -> Transition[T_co]:
        if type(old) in NO_VALUE:
            old = last_good(old)
        return make_transition(self._slot._name, old, new, revision, missed)


def _refuse_hold(held_for: float | None) -> None:
    """
    Refuse to judge how long something held by a queue of what is past.

    Raises:
        TypeError: Somebody wants to.
    """
    if held_for is not None:
        msg = "a subscription cannot tell how long a value held; use held_for= on its watcher"
        raise TypeError(msg)


@final
class Subscription(_Transitions[T_co], AsyncStream[Transition[T_co]], Waits[T_co]):
    """
    A task's own queue of the transitions of one watcher, from `Watcher.subscribe()`.

    Iterate it with `async for`, wait on it, or take with `get_nowait()`: all read the same queue,
    so nothing is missed between one and the next. A wait stands at the subscription's place:
    it looks first at the value last taken (or that of the opening), unless `immediate=False`, then
    takes transitions until one matches. The ones it passed over are taken.

    It ends when it is closed, when its `with` block is left, or after the last transition of a
    store that was closed. One that is dropped without that ends too, with a `ResourceWarning`.

    Thread safety:
        Belongs to the event loop on which it was opened, or first read; one task reads at a time.
        `close()` may come from anywhere.

    Cancellation:
        A read that is cancelled takes nothing of what it would have returned.
    """

    __slots__ = ()

    async def _wait(
        self, test: Test, *, immediate: bool, timeout: float | None, held_for: float | None
    ) -> Any:
        _refuse_hold(held_for)
        return await self._scan(test, immediate=immediate, timeout=timeout)


@final
class BlockingSubscription(
    _Transitions[T_co], BlockingStream[Transition[T_co]], BlockingWaits[T_co]
):
    """
    A thread's own queue of the transitions of one watcher, from `Watcher.blocking`.

    As [`Subscription`][], but iterated with a plain `for`, and its waits block the thread.
    """

    __slots__ = ()

    def _wait(
        self, test: Test, *, immediate: bool, timeout: float | None, held_for: float | None
    ) -> Any:
        _refuse_hold(held_for)
        return self._scan(test, immediate=immediate, timeout=timeout)


@final
class Values(AsyncStream[T_co]):
    """
    The values of one watcher, from `Watcher.values()`: the current one, then each new one.

    Iterate it with `async for`. It may be dropped at any time; `close()` and `with` are there too.
    """

    __slots__ = ()

    _warns = False
    _is_bare = True

    def _record(self, old: Any, new: Any, revision: int, missed: int) -> Any:  # noqa: ARG002 -- no more than the value
        return new


@final
class BlockingValues(BlockingStream[T_co]):
    """The values of one watcher for a thread, from `Watcher.blocking`. Else as [`Values`][]."""

    __slots__ = ()

    _warns = False

    def _record(self, old: Any, new: Any, revision: int, missed: int) -> Any:  # noqa: ARG002 -- no more than the value
        return new
