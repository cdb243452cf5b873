"""A deterministic event loop: virtual time, one callback at a time."""

from __future__ import annotations

import asyncio
import heapq
import random
import threading
from asyncio import events
from collections import deque
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, final

T = TypeVar("T")


@final
class Stuck(Exception):  # noqa: N818 -- reads better, and nobody catches it
    """What a test waits for can never come."""


class StepLoop(asyncio.BaseEventLoop):
    """
    An event loop that moves only when told to, with a time of its own.

    A test decides after each single callback what happens next, sees every order that it asks for,
    and never sleeps for real.

        with StepLoop() as loop:
            task = loop.create_task(app.conn.wait_for("open"))
            loop.step()  # the first step of the task, and nothing else
            app.conn.value = "open"
            loop.settle()
            assert task.result() == "open"

    Time is virtual: it begins at 0 and jumps to the next timer when nothing is ready. There is no
    selector, so nothing but callbacks and timers works here: no sockets, pipes or signals, and no
    waiting for a thread. Leaving its `with` block cancels the tasks that are left, lets them end,
    and closes the loop; `close()` closes it and drops them, as asyncio does.

    All tasks that one commit wakes go on in one callback, unless the loop is in debug mode
    (`set_debug(True)`): then each has one of its own.

    Args:
        seed: None for the order of asyncio, first come, first served. Else the next callback is
            chosen at random among those that are ready, in an order that this number determines,
            and the loop is in debug mode, so that there are more orders.

    Attributes:
        failures: What the loop was told of through its exception handler, as text: among others
            what callbacks raised.

    Thread safety:
        Callbacks may be added from any thread; all else is for one thread.
    """

    failures: list[str]

    # Parts of asyncio's own loop, which the stubs do not show.
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool
    _thread_id: int | None
    _timer_cancelled_count: int

    if TYPE_CHECKING:

        def _check_running(self) -> None: ...

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        self._now = 0.0
        # Seeded, not secret.
        self._random = None if seed is None else random.Random(seed)  # noqa: S311
        if seed is not None:
            self.set_debug(True)
        self.failures = []
        self.set_exception_handler(_note)

    def time(self) -> float:
        """Give the virtual time, in seconds."""
        return self._now

    def step(self) -> bool:
        """
        Run one callback; tell whether there was one.

        If none is ready, time jumps to the next timer.
        """
        return self._step(jump=True)

    def steps(self, number: int) -> None:
        """Run *number* callbacks, or as many as are ready; time stands still."""
        for _ in range(number):
            if not self._step(jump=False):
                break

    def settle(self) -> None:
        """Run callbacks until none is ready; time stands still."""
        while self._step(jump=False):
            pass

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass, and everything happen that is due by then."""
        end = self._now + seconds
        self.settle()
        while (timers := self.timers()) and timers[0].when() <= end:
            self._now = max(self._now, timers[0].when())
            self.settle()
        self._now = end

    def fall_behind(self, seconds: float) -> None:
        """Let *seconds* pass and nothing happen, as on a loop that is late."""
        self._now += seconds

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """
        Run *main* to its end and give its result.

        Raises:
            Stuck: It can never end.
        """
        return self.run_until_complete(main)

    def ready(self) -> list[asyncio.Handle]:
        """Give the callbacks that are ready to run, in order."""
        return [handle for handle in self._ready if not handle.cancelled()]

    def timers(self) -> list[asyncio.TimerHandle]:
        """Give the timers that are set, in order."""
        return sorted(timer for timer in self._scheduled if not timer.cancelled())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            while not self.is_closed() and (tasks := asyncio.all_tasks(self)):
                for task in tasks:
                    task.cancel()
                self.settle()
        finally:
            self.close()

    def _next(self, *, jump: bool) -> asyncio.Handle | None:
        """Take the callback to run next; without one, *jump* to the next timer if allowed."""
        while True:
            self._collect()
            if not self._ready:
                if not jump or not self._scheduled:
                    return None
                self._now = self._scheduled[0].when()
                continue
            chosen = 0 if self._random is None else self._random.randrange(len(self._ready))
            handle = self._ready[chosen]
            del self._ready[chosen]
            if not handle.cancelled():
                return handle

    def _collect(self) -> None:
        """Make the timers ready that are due, and drop those that are cancelled."""
        timers = self._scheduled
        while timers and (timers[0].cancelled() or timers[0].when() <= self._now):
            timer = heapq.heappop(timers)
            cast("Any", timer)._scheduled = False
            if timer.cancelled():
                self._timer_cancelled_count -= 1
            else:
                self._ready.append(timer)

    def _step(self, *, jump: bool) -> bool:
        # What `run_forever()` sets up, for one callback.
        handle = self._next(jump=jump)
        if handle is None:
            return False
        self._check_running()
        self._thread_id = threading.get_ident()
        events._set_running_loop(self)
        try:
            handle._run()
        finally:
            # As in asyncio's own loop: an error knows this frame, and may be known to the task.
            del handle
            events._set_running_loop(None)
            self._thread_id = None
        return True

    def _run_once(self) -> None:
        # What `run_forever()` calls over and over.
        handle = self._next(jump=True)
        if handle is not None:
            handle._run()
            del handle
        elif not self._stopping:
            msg = "nothing is ready and no timer is set"
            raise Stuck(msg)

    def _process_events(self, event_list: object) -> None:
        """Do nothing: there are no events but callbacks and timers."""

    def _write_to_self(self) -> None:
        """Do nothing: there is no selector that would have to be woken."""


def _note(loop: Any, context: dict[str, Any]) -> None:
    # Held by the loop, so no bound method: that would be a cycle.
    loop.failures.append(f"{context['message']}: {context.get('exception')!r}")


@contextmanager
def inside(loop: StepLoop) -> Generator[None]:
    """
    Do what stands in the block as a callback of *loop*, ahead of all that is ready.

    Inside, it is the running loop; but there is no current task, and nothing can be awaited.
    """
    events._set_running_loop(loop)
    try:
        yield
    finally:
        events._set_running_loop(None)
