"""Watch for waits that have waited for long, and log them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import weakref
from typing import Any, Final, final

from statestore._closing import Closable
from statestore._core import Core
from statestore._logging import log_stuck
from statestore._mailbox import running_loop
from statestore._records import CallbackFailure
from statestore._sleepers import READING, Sleeper, sleepers_of
from statestore._store import Store
from statestore._text import shorten
from statestore._value_watcher import ValueWatcher
from statestore.errors import StateStoreError

LEVELS: Final = ("debug", "info", "warning", "error", "critical")

FRACTION: Final = 0.1
"""Part of the time after which a wait counts as stuck, by which it may be told of late."""


@final
class _End:
    """What tells a watchdog of the end of a store, and keeps it not alive."""

    __slots__ = ("_watchdog",)

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = weakref.ref(watchdog)

    def notify(self) -> None:
        """Let the watchdog end."""
        watchdog = self._watchdog()
        if watchdog is not None:
            watchdog.close()


@final
class Watchdog(Closable):
    """
    What `warn_stuck()` gives: close it, or leave its `with` block, to end it.

    It ends with the store too. It is kept until then, also if this is dropped.

    Thread safety:
        `close()` may be called from anywhere.
    """

    __slots__ = (
        "__weakref__",
        "_after",
        "_closed",
        "_core",
        "_end",
        "_ends",
        "_gate",
        "_level",
        "_logger",
        "_loop",
        "_timer",
        "_told",
    )

    def __init__(self, core: Core, after: float, logger: Any, level: str) -> None:
        self._after = after
        self._logger = logger
        self._level = level
        # The waits that were told of, as long as they last.
        self._told: set[object] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = running_loop()
        self._gate = threading.Lock()
        self._gate.acquire()
        self._end = end = _End(self)
        self._core = weakref.ref(core, lambda _core: end.notify())
        # Itself, as a reference to the core may be dead when the collector ends this.
        self._ends = core.ends
        self._closed = False
        self._ends[end] = end
        if self._loop is None:
            threading.Thread(target=self._run, name="statestore warn_stuck", daemon=True).start()
        else:
            self._tick()

    @property
    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self._closed

    def close(self) -> None:
        """End it. A second call does nothing."""
        self._closed = True
        self._ends.pop(self._end, None)
        with contextlib.suppress(RuntimeError):
            # Raised when it is open already.
            self._gate.release()
        timer, loop = self._timer, self._loop
        if timer is not None and loop is not None:
            self._timer = None
            if running_loop() is loop:
                timer.cancel()
            else:
                # Raised by a loop that is closed, which has dropped its timers.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(timer.cancel)

    def __del__(self) -> None:
        # Its loop was closed.
        if not getattr(self, "_closed", True):
            self.close()

    def _tick(self) -> None:
        """Look, as a callback of the loop."""
        pause = self._look()
        if self._loop is not None and not self._closed:
            self._timer = self._loop.call_later(pause, self._tick)

    def _run(self) -> None:
        """Look again and again, in a thread."""
        while not self._closed:
            self._gate.acquire(timeout=min(self._look(), threading.TIMEOUT_MAX))

    def _look(self) -> float:
        """Tell of what is stuck; give the seconds after which to look again."""
        core = self._core()
        if core is None or core.closed:
            self.close()
            return 0
        pause = self._after
        told, self._told = self._told, set()
        for sleeper in sleepers_of(core):
            left = self._after - sleeper.waited
            if sleeper.test is READING:
                continue
            if sleeper.identity in told:
                self._told.add(sleeper.identity)
            elif left <= self._after * 1e-6:
                self._told.add(sleeper.identity)
                self._tell(core, sleeper)
            else:
                pause = min(pause, left)
        return max(pause, self._after * FRACTION)

    def _tell(self, core: Core, sleeper: Sleeper) -> None:
        report = sleeper.report()
        try:
            log_stuck(self._logger, self._level, report)
        except Exception as error:  # noqa: BLE001 -- a logger that raises harms nobody
            core.inline.tell(
                CallbackFailure(
                    key=report.key,
                    revision=report.revision,
                    callback=warn_stuck,
                    error=error,
                )
            )


def warn_stuck(
    store: Store | ValueWatcher[Any],
    /,
    after: float = 30,
    *,
    logger: Any = None,
    level: str = "warning",
) -> Watchdog:
    """
    Log each wait that has waited for *after* seconds or more, once, with its report.

        with warn_stuck(app, after=30):
            await main()

    The event is `statestore.wait_stuck`. A wait is told of at the latest a tenth of *after* after
    its time. Reading a subscription with `async for` or `for` is no wait: nothing may be to come.

    Where an event loop is running, it looks from there, by a timer. Elsewhere it has a daemon
    thread, which also sees what waits on a loop that is stuck itself.

    Args:
        store: A store, or a watcher that stands alone.
        after: Seconds, more than 0.
        logger: Any structlog logger; by default the one called `statestore`. What it raises goes to
            the `on_error` of the store.
        level: The name of the logger's method.

    Returns:
        What ends it.

    Raises:
        TypeError, ValueError: *after* or *level* is none of these.

    Cost:
        Nothing to who waits. Each look is linear in the number of those who sleep; there are at
        most ten while *after* seconds pass.
    """
    if isinstance(after, bool) or not isinstance(after, (int, float)):
        msg = f"after must be a number of seconds, not {shorten(after)}"
        raise TypeError(msg)
    if not 0 < after < math.inf:
        msg = f"after must be more than 0 seconds, and not for ever, not {after}"
        raise ValueError(msg)
    if level not in LEVELS:
        msg = f"level must be one of {', '.join(LEVELS)}, not {shorten(level)}"
        raise ValueError(msg)
    if isinstance(store, ValueWatcher) and store._core.names:
        msg = f"{store.name!r} is a key of {store._core.title}; watch the store"
        raise StateStoreError(msg)
    return Watchdog(store._core, after, logger, level)
