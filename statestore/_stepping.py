"""
Let a task go on in the very turn of its loop in which it is found to be woken.

When a future is done, the loop calls what waits for it in its next turn. A mailbox looks at what is
new in a turn of its own, so that would be two for each wake-up: a fourth of what it costs. Here
what waits for the future, a method of the task, is taken away from it and called at once, in the
context that came with it, as the loop would have done.

It must not be called inside a task. Who lets several tasks go on finds all of them first; so what
they set in turn is for the next turn of the loop, as ever, and none of them holds it for longer
than by its own step.

An interrupt that comes in between leaves the task where it was, or to be called by the loop. What
waits for a future and is no task must bear to be called once more then.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from typing import Any


def wake(future: asyncio.Future[None]) -> None:
    """Have *future* done, if it is not, and the loop call what waits for it."""
    if not future.done():
        future.set_result(None)


def step(due: deque[asyncio.Future[None]]) -> None:
    """
    Have all of *due* done, one after the other, and call what waits for each. It is empty then.

    Raises:
        KeyboardInterrupt, SystemExit: What was called raised it. To be called again after that.
    """
    while due:
        # Stubs do not show what waits for it.
        future: Any = due[0]
        called = future._callbacks
        if called is None or len(called) != 1:
            # That is nobody any more, or more than the one task.
            wake(future)
            due.popleft()
            continue
        callback, context = called[0]
        try:
            future.remove_done_callback(callback)
            future.set_result(None)
            context.run(callback, future)
        except BaseException as error:
            if not isinstance(error, Exception):
                _leave_to_the_loop(future, callback, context)
            raise
        finally:
            # An error that the task ends with has this frame: it shall not hold the task.
            del called, callback, context
        due.popleft()


def _leave_to_the_loop(
    future: asyncio.Future[None], callback: Any, context: contextvars.Context
) -> None:
    """Have *callback* called all the same, but not if it is of a task that has gone on."""
    if getattr(getattr(callback, "__self__", None), "_fut_waiter", future) is future:
        if future.done():
            future.get_loop().call_soon(callback, future, context=context)
        else:
            future.add_done_callback(callback, context=context)
