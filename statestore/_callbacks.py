"""
Run callbacks: in revision order, one at a time, never nested.

This is the *inline* mailbox.
A commit posts its entry here, maybe more than once; then whoever holds the *right* runs what is
posted, in its own thread, and everybody else goes on at once.
Rules that make it exact, whatever interrupts it:

- The right is a box: of all who append to the empty list, the first one holds it.
  Giving it back is one attribute store.
- An entry is taken up by one attribute store as well (`_current`), which also says up to which
  revision callbacks have been told; what is posted again is dropped by that.
- The calls that are left are an iterator. An exception that cuts the round short leaves it at the
  next callback, where the next operation of the store goes on.
"""

from __future__ import annotations

import contextvars
import operator
from collections import deque
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import Any, Final, Protocol, TypeAlias, final

from statestore._closing import Closable
from statestore._records import CallbackFailure
from statestore.errors import CallbackLoopError

ROUNDS: Final = 1_000
"""How many rounds of callbacks one commit may set off through sets made in callbacks."""

Call: TypeAlias = "tuple[CallbackHandle, Any, Any]"
Told: TypeAlias = tuple[contextvars.Context, tuple[Call, ...], int, str]
"""The context to call in, the calls, in which round, and the key that stands for all of them."""


class Registry(Protocol):
    """Where a callback is registered: a dict, or what does more when one goes."""

    def pop(self, handle: CallbackHandle, default: None, /) -> object:
        """Forget *handle*."""
        ...


@final
class CallbackHandle(Closable):
    """
    What keeps a callback registered: close it, or leave its `with` block, to end that.

    Thread safety:
        `close()` may be called from anywhere, also from the callback itself. It returns at once;
        afterwards no new call starts, though one in another thread may still be running.
    """

    __slots__ = ("_closed", "_function", "_registered", "_since", "callback", "key")

    def __init__(
        self,
        key: str,
        callback: Callable[..., object],
        function: Callable[[Any, Any], object],
        registered: Registry,
    ) -> None:
        self.key: str = key
        self.callback: Callable[..., object] = callback
        self._function = function
        self._registered = registered
        self._closed = False
        # The revision at which it was registered, once that is known.
        self._since: int | None = None

    @property
    def is_closed(self) -> bool:
        """Whether the callback will not be called any more."""
        return self._closed

    def close(self) -> None:
        """End the registration. A second call does nothing."""
        self._closed = True
        self._registered.pop(self, None)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<{state} callback {self.callback!r} on {self.key!r}>"


@final
class InlineMailbox:
    """Where the callbacks of one store run."""

    __slots__ = ("_current", "_pending", "_report", "_right", "_round", "_thread", "_trail")

    def __init__(self, report: Callable[[CallbackFailure], None]) -> None:
        self._report = report
        self._pending: deque[tuple[Any, ...]] = deque()
        self._current: tuple[int, Iterator[Call], contextvars.Context] = (
            0,
            iter(()),
            contextvars.Context(),
        )
        self._right: list[object] = []
        self._thread: int | None = None
        self._round = 0
        self._trail: deque[str] = deque(maxlen=8)

    def report_to(self, report: Callable[[CallbackFailure], None]) -> None:
        """Report errors of callbacks to *report* from now on."""
        self._report = report

    @property
    def revision(self) -> int:
        """The revision whose callbacks are called, or were called last."""
        return self._current[0]

    @property
    def cause(self) -> int | None:
        """The revision whose callbacks this very thread is calling, if it is."""
        return self.revision if self._thread == get_ident() else None

    def __bool__(self) -> bool:
        """Whether callbacks are left to be called."""
        return bool(self._pending) or operator.length_hint(self._current[1]) > 0

    def post(self, entry: tuple[Any, ...]) -> None:
        """Leave *entry*, which carries calls, to be run. Harmless when repeated."""
        self._pending.append(entry)

    def next_round(self, key: str) -> int:
        """
        Say in which round the callbacks of a commit run that is about to be made.

        Raises:
            CallbackLoopError: It would be one too many.
        """
        if self._thread != get_ident():
            return 0
        if self._round >= ROUNDS:
            cycle = " -> ".join(dict.fromkeys((*self._trail, key)))
            msg = (
                f"callbacks set each other off without end: {ROUNDS:,} rounds over {cycle}; "
                "let one of them look at the value before it sets"
            )
            raise CallbackLoopError(msg)
        return self._round + 1

    def run(self) -> None:
        """
        Run what is posted, unless a frame of this or another thread is at it already.

        Raises:
            KeyboardInterrupt, SystemExit: A callback raised it; all others were told first.
        """
        # `bool(self)`, written out.
        while (self._pending or operator.length_hint(self._current[1])) and not self._right:
            token = object()
            right = self._right
            try:
                right.append(token)
                if right[0] is token:
                    self._thread = get_ident()
                    self._run_all()
            finally:
                if right and right[0] is token:
                    self._thread = None
                    self._right = []

    def exclusively(self, work: Callable[[], object]) -> bool:
        """
        Do *work* while nobody calls callbacks, but for this thread itself.

        Gives False, and does nothing, if another thread does. The caller runs what is left.
        """
        if self._thread == get_ident():
            work()
            return True
        token = object()
        right = self._right
        try:
            right.append(token)
            if right[0] is not token:
                return False
            work()
            return True
        finally:
            if right and right[0] is token:
                self._right = []

    def call_now(
        self, handle: CallbackHandle, revision: int, function: Callable[[], object]
    ) -> None:
        """Call *function* for *handle* outside any round, with the same care for its errors."""
        try:
            function()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 -- as in a round
            self.report(handle, revision, error)

    def reset(self) -> None:
        """Forget everything, as a forked child must."""
        self._pending = deque()
        self._current = (self._current[0], iter(()), contextvars.Context())
        self._thread = None
        self._right = []

    def _run_all(self) -> None:
        stop: BaseException | None = None
        while True:
            revision, calls, context = self._current
            for handle, old, new in calls:
                # No call between taking the handle and running it: an interrupt would lose it.
                since = handle._since
                if handle._closed or since is None or since >= revision:
                    continue
                try:
                    context.run(handle._function, old, new)
                except (KeyboardInterrupt, SystemExit) as error:
                    stop = stop or error
                except BaseException as error:  # noqa: BLE001 -- P6: never thrown at the setter
                    self.report(handle, revision, error)
            if not self._pending:
                break
            self._take_up(self._pending[0], revision)
        if stop is not None:
            raise stop

    def _take_up(self, entry: tuple[Any, ...], told: int) -> None:
        if entry[0] > told:
            context, calls, self._round, key = entry[2]
            self._trail.append(key)
            self._current = (entry[0], iter(calls), context)
        self._pending.popleft()

    def report(self, handle: CallbackHandle, revision: int, error: BaseException) -> None:
        """Report what came out of a callback."""
        self.tell(
            CallbackFailure(
                key=handle.key, revision=revision, callback=handle.callback, error=error
            )
        )

    def tell(self, failure: CallbackFailure) -> None:
        """Tell who is to be told of *failure*."""
        self._report(failure)
