"""Let an event loop turn until a store has nothing left to deliver on it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from statestore._core import Core
from statestore._formulas import owner_of
from statestore._store import Store
from statestore._watcher import Watcher
from statestore.testing._loop import StepLoop, Stuck

TURNS: Final = 10_000
"""How often the loop may turn before this gives up."""

QUIET_TURNS: Final = 4
"""How many turns in a row must be quiet: `gather()` and its like need some to pass things on."""

_settling: Final[set[asyncio.Task[Any]]] = set()
"""The tasks that are in here: they wait for nobody but the others."""


async def settle(thing: Store | Watcher[Any]) -> None:
    """
    Let the running loop turn until nothing of *thing* is left to be delivered on it.

        task = asyncio.create_task(app.conn.wait_for("open"))
        await settle(app)  # the task waits by now
        app.conn.value = "open"
        await settle(app)
        assert task.done()

    Everything that was committed before was then shown to whoever waits or reads on this loop, and
    every task of the loop has run on until it waits for something that has not come. No time is
    spent: what needs a timer, another thread or a network to go on is not waited for. On a
    [`StepLoop`][], `loop.settle()` does the same from outside.

    Args:
        thing: A store, or a watcher, which stands for its store.

    Raises:
        Stuck: A task goes on and on without ever waiting, and the message names it; or the loop
            does not do what it was told.
        RuntimeError: It is not called from a task.

    Thread safety:
        Other loops are left alone; call it on each.

    Cost:
        Some turns of the loop, and a look at each of its tasks in every one.
    """
    core = thing._core if isinstance(thing, Store) else owner_of(thing._source)
    loop = asyncio.get_running_loop()
    me = asyncio.current_task()
    if me is None:
        msg = "settle() was called outside of a task; call loop.settle() of a StepLoop instead"
        raise RuntimeError(msg)
    _settling.add(me)
    try:
        await _settle(core, loop)
    finally:
        _settling.discard(me)


async def _settle(core: Core, loop: asyncio.AbstractEventLoop) -> None:
    quiet = 0
    for _ in range(TURNS):
        await asyncio.sleep(0)
        quiet = quiet + 1 if _is_quiet(core, loop) else 0
        if quiet == QUIET_TURNS:
            return
    busy = ", ".join(sorted(task.get_name() for task in _running(loop))) or "callbacks"
    msg = f"after {TURNS:,} turns the loop is still busy, with {busy}"
    raise Stuck(msg)


def _is_quiet(core: Core, loop: asyncio.AbstractEventLoop) -> bool:
    reference = core.mailboxes.get(id(loop))
    mailbox = None if reference is None else reference()
    if mailbox is not None and mailbox.is_of(loop) and mailbox.dirty:
        return False
    if isinstance(loop, StepLoop) and len(loop.ready()) > _others_in_here(loop):
        return False
    return not _running(loop)


def _others_in_here(loop: StepLoop) -> int:
    return sum(task.get_loop() is loop for task in _settling.copy()) - 1


def _running(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    """List the tasks that will go on by themselves."""
    return [task for task in asyncio.all_tasks(loop) - _settling if not _is_waiting(task)]


def _is_waiting(task: asyncio.Task[Any]) -> bool:
    # Private, but the only way to know, and there in every Python; anyio relies on it as well.
    waited_for: asyncio.Future[Any] | None = getattr(task, "_fut_waiter", None)
    return waited_for is not None and not waited_for.done()
