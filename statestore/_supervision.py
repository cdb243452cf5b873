"""
Work for every state that is visited, one visit after the other.

A **visit** is one unbroken run of values that equal each other. Visits are read from a queue, so
none is skipped, however short. The work for each runs in a task of its own, which is waited for
before the next visit has its turn. In that task a guard cancels it when the visit is over. A visit
that is over before its turn comes is no special case: its work is cancelled where it suspends
first, for that is where the cancellation finds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeAlias, TypeVar, cast, final

import attrs

from statestore._core import Cell, Slot
from statestore._during import Guard, current_task
from statestore._mailbox import Test
from statestore._matching import EqualTo
from statestore._records import Transition
from statestore._subscription import Subscription
from statestore._text import shorten, spell
from statestore.errors import StoreClosedError

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, object]])

Work: TypeAlias = Callable[[Transition[T]], Coroutine[Any, Any, object]]


@final
@attrs.frozen
class RunToEnd:
    """A coroutine function that is not to be cancelled when its state is left; a method, too."""

    function: Callable[..., Coroutine[Any, Any, object]]

    def __call__(self, *arguments: object) -> Coroutine[Any, Any, object]:
        return self.function(*arguments)

    def __get__(self, instance: object, owner: type | None = None) -> RunToEnd:
        bind = getattr(self.function, "__get__", None)
        return self if bind is None else RunToEnd(bind(instance, owner))


def run_to_end(function: F, /) -> F:
    """
    Have `Watcher.supervise()` let the work of *function* end, though its state is left meanwhile.

        await app.conn.supervise({Conn.CONNECTED: serve, Conn.CLOSING: run_to_end(drain)})

    The visits that follow wait for it. It is cancelled only if `supervise()` is. It may also be
    used as a decorator, of methods too.

    Returns:
        A frozen wrapper, which is called as *function* itself.

    Raises:
        TypeError: *function* cannot be called.
    """
    return cast("F", RunToEnd(_checked(function)))


def check_works(works: Mapping[Any, Work[T]]) -> dict[Any, Work[T]]:
    """
    Copy what there is to do in each state.

    Raises:
        TypeError: Something of it cannot be called.
    """
    return {state: _checked(function) for state, function in works.items()}


def _checked(function: F) -> F:
    if not callable(function):
        msg = f"the work for a state must be a coroutine function, not {shorten(function)}"  # type: ignore[unreachable]
        raise TypeError(msg)
    return function


async def supervise(
    visits: Subscription[T], works: Mapping[Any, Work[T]], is_last: Test | None
) -> None:
    """
    Do the work of *works* for each of *visits*, up to the first one that *is_last* accepts, if any.

    Raises:
        StoreClosedError: There will be no other visit.
    """
    slot = visits._slot
    is_within: EqualTo | None = None
    async for visit in visits:
        if is_within is None or not is_within(visit.new):
            is_within = EqualTo(visit.new)
            work = works.get(visit.new)
            if work is not None:
                doing = _do(work, visit, slot, visits._queue.cell, is_within)
                await _outlast(asyncio.create_task(doing))
            if is_last is not None and is_last(visit.new):
                return
    msg = f"{slot._core.title} was closed while {slot._name} was supervised"
    raise StoreClosedError(msg)


async def _do(work: Work[T], visit: Transition[T], slot: Slot, cell: Cell, is_within: Test) -> None:
    # Not when it is made: an eager task runs before it is given its name.
    current_task().set_name(f"{visit.key}: {spell(visit.new)}")
    if isinstance(work, RunToEnd):
        await work(visit)
        return
    # If an error ends the visit, whoever reads on meets it.
    with Guard(slot, cell, is_within):
        await work(visit)


async def _outlast(task: asyncio.Task[None]) -> None:
    """
    Wait until *task* is done; be cancelled only then, and have it cancelled before.

    Raises:
        BaseException: What the task raised; as in a `TaskGroup`, that it was cancelled is no error.
    """
    cancelled: asyncio.CancelledError | None = None
    try:
        while not task.done():
            try:
                await _end_of(task)
            except asyncio.CancelledError as error:
                cancelled = error
                task.cancel()
        failed = None if task.cancelled() else task.exception()
        if failed is not None:
            raise failed
        if cancelled is not None:
            raise cancelled
    finally:
        # Only a coroutine that is closed instead of run to its end leaves it behind.
        task.cancel()
        # The tracebacks hold this frame; this shall not hold the errors, or what has them.
        del task
        cancelled = failed = None


async def _end_of(task: asyncio.Task[None]) -> None:
    """Sleep until *task* is done; cancelled, leave it alone."""
    done: asyncio.Future[None] = task.get_loop().create_future()

    def tell(_task: object) -> None:
        # The loop may have taken this call before it was taken back.
        if not done.done():
            done.set_result(None)

    task.add_done_callback(tell)
    try:
        await done
    finally:
        task.remove_done_callback(tell)
