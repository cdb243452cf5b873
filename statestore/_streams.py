"""
What a subscription gives, decided without waiting, and how a task or a thread sleeps until more.

`Stream` knows the queue, the place and the end; its two subclasses know how to sleep.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import warnings
from abc import ABC, abstractmethod
from asyncio import get_running_loop
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, Generic, Self, TypeAlias, TypeVar
from weakref import ref

from statestore._blocking import refuse_on_loop
from statestore._closing import Closable
from statestore._core import NEXT, REVISION, VALUE, Cell, Slot
from statestore._explaining import (
    closed_while_waiting,
    explain,
    hopeless,
    timed_out,
    with_report,
)
from statestore._formulas import NO_VALUE, good, last_good
from statestore._mailbox import (
    SHARE,
    UNSET,
    Asked,
    Test,
    ThreadPort,
    Waiter,
    loop_mailbox,
    running_loop,
)
from statestore._queues import ChainQueue, Item, Lag, NewestQueue, Ring
from statestore._reach import begins_with, reaching
from statestore._records import Commit, Removed, Transition
from statestore._waits import check_timeout, doze
from statestore.errors import (
    DerivationError,
    KeyRemovedError,
    LaggedError,
    StoreClosedError,
    SubscriptionError,
    UnreachableError,
)

T_co = TypeVar("T_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)

Queue: TypeAlias = ChainQueue | NewestQueue | Ring

Seen: TypeAlias = tuple[Item | None, Item | None, Item | None]
"""The last items that a wait has taken."""

YIELD_EVERY: Final = 64
"""After how many records taken in a row a task lets the loop see to others."""


class Stream(Closable, ABC, Generic[R_co]):
    """A queue of records, and what happens at its end. Knows nothing of waiting."""

    _warns: ClassVar[bool] = True

    __slots__ = (
        "__weakref__",
        "_asked",
        "_closed",
        "_epoch",
        "_first",
        "_in_use",
        "_parked",
        "_queue",
        "_release",
        "_slot",
        "_stood",
    )

    def __init__(
        self,
        slot: Slot,
        cell: Cell,
        queue: Queue,
        *,
        initial: bool = False,
        release: Callable[[], object] | None = None,
    ) -> None:
        self._release = release
        self._slot = slot
        self._queue = queue
        value, revision, _ = cell
        # The value and revision at which this subscription stood when one was last noted.
        self._stood: tuple[Any, int] = (value, revision)
        self._first = Item(value, value, revision, 0) if initial else None
        self._epoch = slot._core.epoch
        self._in_use = False
        self._parked: Waiter | ThreadPort | None = None
        # While a wait sleeps: what it waits for, since when, and until when.
        self._asked: Asked | None = None
        self._opened()
        self._closed = False
        slot._core.streams[id(self)] = ref(self)
        # Last: an exception that cuts the opening short leaves nothing that setters would feed.
        if isinstance(queue, Ring):
            queue.open()

    def _opened(self) -> None:
        """Note what a subclass has to note at the opening."""

    def _takes_plainly(self) -> bool:
        """Tell whether `_take()` does nothing besides."""
        return True

    @abstractmethod
    def _record(self, old: Any, new: Any, revision: int, missed: int) -> R_co:
        """Make the record that is delivered."""

    @abstractmethod
    def _wake(self) -> None:
        """Let the parked reader see that the subscription was closed."""

    @property
    def _at(self) -> Sequence[Any]:
        """The value and revision at which this subscription stands, or the very cell."""
        # A quick read moves nothing but the queue.
        stood, queue = self._stood, self._queue
        if type(queue) is ChainQueue and queue.cell[REVISION] > stood[REVISION]:
            return queue.cell
        return stood

    def _standing(self) -> Any:
        """Give what the records taken so far have led to."""
        return self._at[VALUE]

    def _value(self) -> Any:
        """Give the value to which the records taken so far have led, or raise its failure."""
        return good(self._standing())

    def _newest(self) -> Any:
        """Give the newest value, to go on from after a loss."""
        return last_good(self._slot._latest()[VALUE])

    @property
    def pending(self) -> int:
        """
        How many records are waiting to be taken.

        Cost:
            Linear in the answer for a subscription without a bound.
        """
        self._refuse_inherited()
        self._slot._latest()
        return len(self._queue) + (self._first is not None)

    def get_nowait(self) -> R_co:
        """
        Take the next record if there is one.

        Sees everything that was committed before the call, in this tick too.

        Raises:
            asyncio.QueueEmpty: There is none now.
            LaggedError: Records were lost before the next one.
            StoreClosedError: There is none, and the store is closed.
            SubscriptionError: The subscription is closed, or was opened before a fork.
        """
        ended = self._is_ended()
        item = self._take()
        if item is not None:
            return self._record(*item)
        if self._closed:
            raise self._closed_error()
        if ended:
            msg = f"{self._slot._core.title} is closed, and everything before that was delivered"
            raise StoreClosedError(msg)
        raise asyncio.QueueEmpty

    def close(self) -> None:
        """
        End the subscription: what it still held is gone. A second call does nothing.

        Thread safety:
            May be called from anywhere; a reader that is parked goes on as at the end.
        """
        if not self._closed:
            # First, and may be repeated: an exception may cut this short.
            self._slot._core.streams.pop(id(self), None)
            if self._release is not None:
                self._release()
            self._queue.close()
            self._closed = True
            # Nothing is ever linked to this cell, so there is nothing to take or to hold.
            value, revision, *_ = self._at
            self._stood = (value, revision)
            self._queue = ChainQueue([None, revision, None])
            slot, self._slot = self._slot, self._slot._retired()
            slot._leave()
            self._first = None
            self._wake()

    def __del__(self) -> None:
        # An exception may have cut the opening short.
        if not getattr(self, "_closed", True):
            core = self._slot._core
            message = f"{self!r} was never closed; use it in a `with` block, or call close()"
            self.close()
            if self._warns and not core.closed and self._epoch == core.epoch:
                warnings.warn(message, ResourceWarning, stacklevel=2, source=self)

    def __bool__(self) -> bool:
        msg = "a subscription is neither true nor false; did you mean its `pending`?"
        raise TypeError(msg)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<{state} {type(self).__name__} of {self._slot._name!r}>"

    def _is_ended(self, share: int | None = None) -> bool:
        # To be read before a take: what was committed before the end is then in the queue.
        self._refuse_inherited()
        return self._slot._is_ended(share) or self._closed

    def _take(self) -> Item | None:
        item = self._first
        if item is not None:
            self._first = None
            good(item.new)
            return item
        if type(self._at[VALUE]) is Removed:
            raise self._at[VALUE].again()
        taken = self._queue.take()
        if isinstance(taken, Lag):
            raise self._lagged(taken)
        if taken is not None:
            self._stood = (taken.new, taken.revision)
            if type(taken.new) in NO_VALUE:
                raise taken.new.again()
        return taken

    def _lagged(self, lag: Lag) -> LaggedError:
        for following in self._queue:
            self._stood = (following.old, lag.last_revision)
            break
        msg = (
            f"the subscription to {self._slot._name} lost {lag.missed} of its records, "
            f"revisions {lag.first_revision} to {lag.last_revision}, for want of reading; "
            "read faster, give it a larger maxlen, or use overflow='latest'"
        )
        return LaggedError(msg, **lag._asdict(), value=self._newest())

    def _begin(self) -> None:
        """Refuse whoever reads while another one does."""
        self._refuse_inherited()
        if self._in_use:
            msg = (
                f"{self!r} is being read elsewhere; each task or thread needs a subscription of "
                "its own"
            )
            raise SubscriptionError(msg)

    def _refuse_inherited(self) -> None:
        if self._epoch != self._slot._core.epoch:
            msg = f"{self!r} was opened before this process was forked; open one in the child"
            raise SubscriptionError(msg)

    def _is_before(self, last: int | None) -> bool:
        """Tell whether to take more: after its deadline, a wait takes what came before, no more."""
        return last is None or self._at[REVISION] < last

    def _closed_error(self) -> SubscriptionError:
        return SubscriptionError(f"{self!r} gives nothing any more; open a new one")

    def _looks(self, *, immediate: bool) -> bool:
        """Tell whether a wait looks at the value where it begins."""
        # The opening record is no transition; what it tells is looked at here.
        self._first = None
        return (immediate or self._slot._lifecycle is not None) and not self._closed

    def _scan_start(self, test: Test) -> Any:
        """Give the value at which a wait begins."""
        try:
            return self._value()
        except (DerivationError, KeyRemovedError) as error:
            raise self._ended_by(error, test, (None, None, None)) from error.__cause__

    def _accepts(
        self, value: Any, test: Test, seen: Seen = (None, None, None), *, immediate: bool = True
    ) -> bool:
        """Ask *test*, or only whether there is hope."""
        try:
            return begins_with(value, test, immediate=immediate)
        except UnreachableError as error:
            at = (self._at[VALUE], self._at[REVISION])
            raise hopeless(error, self._slot, at, test, self._told(seen)) from None

    def _ended_by(
        self, error: DerivationError | KeyRemovedError, test: Test, seen: Seen
    ) -> Exception:
        """Have *error*, which ends a wait, tell of it."""
        at = (self._at[VALUE], self._at[REVISION])
        return with_report(error, explain(self._slot, test, *at, self._told(seen)))

    def _end_of_wait(self, test: Test, seen: Seen) -> Exception:
        if self._closed:
            return self._closed_error()
        at = (self._standing(), self._at[REVISION])
        return closed_while_waiting(self._slot, at, test, self._told(seen))

    def _timeout(self, test: Test, seconds: float, seen: Seen) -> Exception:
        at = (self._standing(), self._at[REVISION])
        return timed_out(self._slot, at, test, seconds, self._told(seen))

    def _told(self, items: Seen) -> list[Transition[Any]]:
        """Give the transitions that *items* stand for."""
        records = [self._record(*item) for item in items if item is not None]
        return [
            transition
            for record in records
            for transition in (record.transitions if isinstance(record, Commit) else (record,))
            if isinstance(transition, Transition)
        ]


class AsyncStream(Stream[R_co]):
    """A stream that a task reads."""

    _is_bare: ClassVar[bool] = False
    """Whether a record is nothing but the new value."""

    __slots__ = ("_in_a_row", "_loop", "_quick")

    _in_a_row: int
    _loop: asyncio.AbstractEventLoop | None
    # The loop on which a record may be taken without further ado; None while somebody reads.
    _quick: asyncio.AbstractEventLoop | None

    def _opened(self) -> None:
        self._in_a_row = 0
        # Opened where no loop runs, it belongs to the one on which it is first read.
        self._loop = running_loop()
        self._quick = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R_co:
        """
        Give the next record.

        Raises:
            LaggedError: Records were lost before it; go on reading to get it.
            SubscriptionError: Another task is reading, or this is another loop.

        Cancellation:
            Takes nothing: the record is the next one still.
        """
        # The common case first: something is there and can be taken at once, so nobody can come in
        # between. All in one coroutine: each on the way makes it longer.
        is_quick = self._quick is get_running_loop()
        if is_quick and (in_a_row := self._in_a_row) < YIELD_EVERY:
            queue: Any = self._queue
            before = queue.cell
            after = before[NEXT]
            if after is not None:
                new = after[VALUE]
                if type(new) not in NO_VALUE:
                    self._in_a_row = in_a_row + 1
                    queue.cell = after
                    if self._is_bare:
                        value: R_co = new
                        return value
                    return self._record(before[VALUE], new, after[REVISION], 0)
        if is_quick:
            self._in_use, self._quick = True, None
        else:
            self._begin()
        try:
            self._in_a_row += 1
            if self._in_a_row > YIELD_EVERY:
                await self._pause()
            # If it is quick, there was nothing a moment ago.
            item = None if is_quick else self._take()
            while item is None:
                ended = self._is_ended(SHARE)
                item = self._take()
                if item is None:
                    if ended:
                        raise StopAsyncIteration
                    self._in_a_row = 0
                    await self._sleep(None)
                    item = self._take()
            return self._record(*item)
        finally:
            self._end()

    def _begin(self) -> None:
        super()._begin()
        loop = get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                msg = f"{self!r} belongs to another event loop; open one on the loop that reads it"
                raise SubscriptionError(msg)
            self._loop = loop
        self._in_use = True
        self._quick = None

    def _end(self) -> None:
        self._in_use = False
        if self._takes_plainly() and type(self._queue) is ChainQueue:
            self._quick = self._loop

    async def _scan(self, test: Test, *, immediate: bool, timeout: float | None) -> Any:
        """Take records until *test* accepts what they lead to, and give that."""
        seconds = check_timeout(timeout)
        test = reaching(self._slot, test)
        self._begin()
        try:
            if self._looks(immediate=immediate):
                value = self._scan_start(test)
                if self._accepts(value, test, immediate=immediate):
                    return value
            return await self._scan_on(test, seconds)
        finally:
            self._end()
            self._asked = None

    async def _scan_on(self, test: Test, seconds: float | None) -> Any:
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = math.inf if seconds is None else began + seconds
        last = None
        # The last three. Values, and no cells: it may sleep.
        first: Item | None = None
        second: Item | None = None
        third: Item | None = None
        while True:
            self._in_a_row += 1
            if self._in_a_row > YIELD_EVERY:
                await self._pause()
            left = deadline - loop.time()
            if left <= 0 and last is None:
                last = self._slot._latest()[REVISION]
            ended = False
            try:
                item = self._take() if self._is_before(last) else None
                if item is None:
                    # Only now: it has a share of what is derived computed.
                    ended = self._is_ended(SHARE)
                    item = self._take() if self._is_before(last) else None
            except (DerivationError, KeyRemovedError) as error:
                raise self._ended_by(error, test, (first, second, third)) from error.__cause__
            if item is not None:
                first, second, third = second, third, item
                value = self._value()
                if self._accepts(value, test, (first, second, third)):
                    return value
            elif ended:
                raise self._end_of_wait(test, (first, second, third))
            elif last is not None:
                self._in_a_row = 0
                raise self._timeout(test, seconds or 0, (first, second, third))
            else:
                self._in_a_row = 0
                self._asked = (test, began, None if seconds is None else deadline)
                await self._sleep(None if seconds is None else left)

    async def _pause(self) -> None:
        """Let the loop see to others after many records in a row."""
        self._in_a_row = 0
        await asyncio.sleep(0)

    async def _sleep(self, seconds: float | None) -> None:
        queue = self._queue
        loop = get_running_loop()
        self._parked = waiter = Waiter(loop, queue.cell, None, UNSET)
        waiter.reader = self
        try:
            # Looked at once more: from now on `close()` wakes the reader.
            if not self._closed:
                if isinstance(queue, ChainQueue):
                    # `park()`, written out: each coroutine on the way makes it longer.
                    port = loop_mailbox(self._slot._core, loop).port(self._slot, queue.cell)
                    try:
                        port.add(waiter, seconds)
                        await waiter.future
                    finally:
                        port.discard(waiter)
                else:
                    # The end of a member takes no place in the queue.
                    await doze(self._slot, lambda: len(queue) or queue.cell[NEXT], waiter, seconds)
        finally:
            self._parked = None

    def _wake(self) -> None:
        waiter = self._parked
        if isinstance(waiter, Waiter) and self._loop is not None:
            # Raised by a loop that is closed, where nobody reads any more.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(waiter.wake)


class BlockingStream(Stream[R_co]):
    """A stream that a thread reads."""

    __slots__ = ()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R_co:
        """
        Give the next record.

        Raises:
            BlockingError: This thread is running an event loop.
            LaggedError: Records were lost before it; go on reading to get it.
            SubscriptionError: Another thread is reading.
        """
        self._begin()
        try:
            while True:
                ended = self._is_ended()
                item = self._take()
                if item is not None:
                    return self._record(*item)
                if ended:
                    raise StopIteration
                self._sleep(None)
        finally:
            self._in_use = False

    def _begin(self) -> None:
        refuse_on_loop()
        super()._begin()
        self._in_use = True

    def _scan(self, test: Test, *, immediate: bool, timeout: float | None) -> Any:
        """Take records until *test* accepts what they lead to, and give that."""
        seconds = check_timeout(timeout)
        test = reaching(self._slot, test)
        self._begin()
        try:
            if self._looks(immediate=immediate):
                value = self._scan_start(test)
                if self._accepts(value, test, immediate=immediate):
                    return value
            return self._scan_on(test, seconds)
        finally:
            self._in_use = False
            self._asked = None

    def _scan_on(self, test: Test, seconds: float | None) -> Any:
        began = time.monotonic()
        deadline = math.inf if seconds is None else began + seconds
        last = None
        first: Item | None = None
        second: Item | None = None
        third: Item | None = None
        while True:
            ended = self._is_ended()
            left = deadline - time.monotonic()
            if left <= 0 and last is None:
                last = self._slot._latest()[REVISION]
            try:
                item = self._take() if self._is_before(last) else None
            except (DerivationError, KeyRemovedError) as error:
                raise self._ended_by(error, test, (first, second, third)) from error.__cause__
            if item is not None:
                first, second, third = second, third, item
                value = self._value()
                if self._accepts(value, test, (first, second, third)):
                    return value
            elif ended:
                raise self._end_of_wait(test, (first, second, third))
            elif last is not None:
                raise self._timeout(test, seconds or 0, (first, second, third))
            else:
                self._asked = (test, began, None if seconds is None else deadline)
                self._sleep(None if seconds is None else left)

    def _sleep(self, seconds: float | None) -> None:
        self._parked = port = ThreadPort(self._slot, None, self)
        try:
            if not self._closed:
                port.park(self._queue.cell, seconds)
        finally:
            self._parked = None

    def _wake(self) -> None:
        port = self._parked
        if isinstance(port, ThreadPort):
            port.notify()
