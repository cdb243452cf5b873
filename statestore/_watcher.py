"""Watchers: what has a current value and can be waited for, and the kind that can be set."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, cast, final

from statestore._blocking import BlockingWaits, refuse_on_loop, wait_blocking
from statestore._callbacks import CallbackHandle, InlineMailbox
from statestore._classes import PLAIN
from statestore._core import BOX, NEXT, REVISION, ROUNDS, VALUE, Cell, Core, Entry, Slot
from statestore._fork import adopt
from statestore._logging import make_reporter
from statestore._mailbox import Test
from statestore._matching import EqualTo, refuse_async
from statestore._queues import ChainQueue, NewestQueue, Overflow, make_queue
from statestore._records import CallbackFailure, Transition
from statestore._subscription import BlockingSubscription, BlockingValues, Subscription, Values
from statestore._text import shorten
from statestore._values import check_immutable, is_same
from statestore._waits import Waits, check_timeout, wait
from statestore.errors import StateStoreError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Watcher(Waits[T_co]):
    """
    Something with a current value that can be waited for.

    How to look at it, from the least to the most that one is told:

    ============================  ==========================  =====================================
    ``w.value``                   the value now               never waits
    ``await w.wait_for(x)``       one match                   two in a row may miss what is between
    ``w.values(latest=True)``     the newest value, always    skips what came in between
    ``w.values()``                every value                 nothing is missed
    ``w.subscribe()``             every transition, and       nothing is missed, from one wait to
                                  waits on the same queue     the next either
    ``w.on_change(callback)``     every transition            runs in the thread that sets
    ============================  ==========================  =====================================

    Thread safety:
        All of it may be used from any thread, from callbacks, signal handlers and finalizers.
        `await` needs an event loop; `blocking` has the same for a plain thread.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def _source(self) -> Slot:
        """The slot that consumers follow."""

    @property
    @abstractmethod
    def value(self) -> T_co:
        """The current value. Never blocks."""

    @property
    def revision(self) -> int:
        """The revision of the last transition; 0 if there was none."""
        return int(self._source._latest()[REVISION])

    @property
    def name(self) -> str:
        """The name of the key."""
        return self._source._name

    @property
    def blocking(self) -> BlockingWatcher[T_co]:
        """The same waits, subscriptions and values for a thread that blocks."""
        return BlockingWatcher(self._source)

    def subscribe(
        self, *, initial: bool = False, maxlen: int | None = None, overflow: Overflow = "raise"
    ) -> Subscription[T_co]:
        """
        Open a queue of the transitions from now on.

        Args:
            initial: Whether the queue begins with a record whose *old* and *new* are both the
                current value. It does not count for *maxlen*, and a wait passes over it: it is no
                transition.
            maxlen: How many records it holds at most; None for no bound.
            overflow: What a full queue does. `"raise"` drops the oldest record, and reading
                raises [`LaggedError`][] once at the place of the loss. `"latest"` joins the newest
                two into one, which tells in `missed` how many it stands for besides itself.

        Raises:
            TypeError, ValueError: *maxlen* or *overflow* is none of these.

        Cost:
            Without a bound none to the setter, whatever the number of subscriptions: they share
            one chain of transitions. Each bounded one costs it a little.
        """
        slot = self._source
        cell = slot._latest()
        queue = make_queue(slot, cell, maxlen, overflow, _newer)
        return Subscription(slot, cell, queue, initial=initial)

    def values(self, *, latest: bool = False) -> Values[T_co]:
        """
        Iterate over the values with `async for`: the current one, then each new one.

        Args:
            latest: Whether to skip to the newest value whenever several are new.
        """
        slot = self._source
        cell = slot._latest()
        if latest:
            return Values(slot, cell, NewestQueue(slot))
        return Values(slot, cell, ChainQueue(cell), initial=True)

    def on_change(self, callback: Callable[[T_co, T_co], object]) -> CallbackHandle:
        """
        Have *callback* called with the old and the new value of every transition from now on.

        It is called right after the commit, in revision order, one call at a time, in the thread
        that set the value (or the one that is calling callbacks just then) and in the setter's
        context. What it raises goes to `on_error`. A set that it makes commits at once; callbacks
        are told of that after this round.

        Returns:
            What ends it. The callback is kept until then, also if this is dropped.

        Raises:
            TypeError: *callback* cannot be called, or is asynchronous.
        """
        refuse_async(callback, "a callback")
        slot = self._source
        handle = _handle(slot, callback, callback)
        _register(slot, handle)
        return handle

    def on_value(self, value: object, callback: Callable[[], object]) -> CallbackHandle:
        """
        Have *callback* called once: when the value is, or equals, *value*, or at once if it does.

        Needs no event loop. Else as `on_change()`.
        """
        refuse_async(callback, "a callback")
        slot = self._source
        once = _Once(EqualTo(value), callback)
        handle = once.handle = _handle(slot, callback, once)
        cell = slot._latest()
        since = _register(slot, handle)
        try:
            # What came up to the registration; the rest comes as to any callback.
            while not once.test(cell[VALUE]):
                after = cell[NEXT]
                if after is None or after[REVISION] > since:
                    return handle
                cell = after
        except BaseException:
            handle.close()
            raise
        slot._core.inline.call_now(handle, cell[REVISION], once.fire)
        return handle

    async def _wait(self, test: Test, *, immediate: bool, timeout: float | None) -> Any:
        return await wait(self._source, test, immediate=immediate, timeout=timeout)

    def __bool__(self) -> bool:
        msg = f"the watcher {self.name!r} is neither true nor false; did you mean its `value`?"
        raise TypeError(msg)


def _handle(
    slot: Slot, callback: Callable[..., object], function: Callable[[Any, Any], object]
) -> CallbackHandle:
    return CallbackHandle(slot._name, callback, function, slot._core.listen(slot).callbacks)


def _register(slot: Slot, handle: CallbackHandle) -> int:
    """Have *handle* told of what comes after the revision that this gives."""
    handle._registered[handle] = None
    return slot._core.fence(handle)


@final
class _Once:
    """The function of a callback that fires once, whoever comes first."""

    __slots__ = ("_left", "callback", "handle", "test")

    handle: CallbackHandle

    def __init__(self, test: Test, callback: Callable[[], object]) -> None:
        self.test = test
        self.callback = callback
        self._left = [None]

    def __call__(self, _old: object, new: object) -> None:
        if self.test(new):
            self.fire()

    def fire(self) -> None:
        """Call the callback, unless that was done."""
        try:
            self._left.pop()
        except IndexError:
            return
        self.handle.close()
        self.callback()


def _decided(decision: tuple[T], _old: object) -> tuple[T]:
    return decision


def _newer(_old: object, new: T) -> T:
    return new


@final
class BlockingWatcher(BlockingWaits[T_co]):
    """The blocking side of a watcher, from `Watcher.blocking`."""

    __slots__ = ("_slot",)

    def __init__(self, slot: Slot) -> None:
        self._slot = slot

    def subscribe(
        self, *, initial: bool = False, maxlen: int | None = None, overflow: Overflow = "raise"
    ) -> BlockingSubscription[T_co]:
        """Open a queue of the transitions from now on, as `Watcher.subscribe()`."""
        slot = self._slot
        cell = slot._latest()
        queue = make_queue(slot, cell, maxlen, overflow, _newer)
        return BlockingSubscription(slot, cell, queue, initial=initial)

    def values(self, *, latest: bool = False) -> BlockingValues[T_co]:
        """Iterate over the values with a plain `for`, as `Watcher.values()`."""
        slot = self._slot
        cell = slot._latest()
        if latest:
            return BlockingValues(slot, cell, NewestQueue(slot))
        return BlockingValues(slot, cell, ChainQueue(cell), initial=True)

    def _wait(self, test: Test, *, immediate: bool, timeout: float | None) -> Any:
        refuse_on_loop()
        seconds = check_timeout(timeout)
        cell = self._slot._latest()
        if immediate and test(cell[VALUE]):
            return cell[VALUE]
        return wait_blocking(self._slot, cell, test, seconds)


@final
class ValueWatcher(Slot, Watcher[T], Generic[T]):
    """
    A value that any thread may set and any task, thread or callback may wait for.

    In a store it is what a [`Key`][] gives; it also stands alone:

        state = ValueWatcher("disconnected")

        async def drain():
            await state.wait_for("closing")  # also when "closed" follows in the same tick

    Args:
        initial_value: The value to begin with.
        on_change: Called with the old and new value of every transition, as by `on_change()`.
        immutable: Whether to accept immutable values only, as a store does. Alone, a watcher takes
            any object; one that is changed in place and set again makes no transition.
        name: What to call it in records, errors and logs.
        on_error: Called with a [`CallbackFailure`][] when a callback raises; logged by default.

    Thread safety:
        All of it may be used from any thread, callback, signal handler or finalizer.

    Cost:
        A set is a fraction of a microsecond as long as nobody listens, and then costs as much
        as there are event loops and blocked threads that care, not consumers.
    """

    __slots__ = ("__weakref__",)

    def __init__(
        self,
        initial_value: T,
        *,
        on_change: Callable[[T, T], object] | None = None,
        immutable: bool = False,
        name: str = "value",
        on_error: Callable[[CallbackFailure], object] | None = None,
    ) -> None:
        if immutable:
            check_immutable(initial_value, name)
        inline = InlineMailbox(make_reporter(on_error))
        core = Core(inline, f"the watcher {name!r}", strict=immutable)
        adopt(core)
        Slot.__init__(self, core, name, initial_value)
        if on_change is not None:
            self.on_change(on_change)

    @classmethod
    def _in_store(cls, core: Core, name: str, value: object, revision: int = 0) -> Self:
        watcher = cls.__new__(cls)
        Slot.__init__(watcher, core, name, value, revision)
        return watcher

    @property
    def _source(self) -> Slot:
        return self

    def _get(self) -> T:
        if self._core.head[BOX]:
            self._core.settle()
        cell = self._cell
        while (after := cell[NEXT]) is not None:
            cell = after
        return cast("T", cell[VALUE])

    def _put(self, new: T) -> Cell | None:
        """
        Set the value; give the cell of the old one, behind which the new one is linked.

        This is `_change()` written out for the common case: nothing is left to be applied, the
        listeners look for themselves, and nobody else commits meanwhile.
        """
        core = self._core
        revision, box = core.head
        listeners = self._listeners
        if not (
            box
            or core.attention
            or (listeners is not None and (listeners.callbacks or listeners.groups))
        ):
            kind = type(new)
            if kind not in PLAIN and core.strict:
                check_immutable(new, self._name, self._cell[VALUE])
            old, _, after = cell = self._cell
            if after is None:
                # `is_same()`, written out.
                if new is old or (type(old) is kind and (new == old) is True):
                    return None
                revision += 1
                after = [new, revision, None]
                following: list[Entry] = []
                entry = (revision, following, None, self, cell, after)
                box.append(entry)
                if box[0] is entry:
                    cell[NEXT] = self._cell = after
                    listeners = self._listeners
                    if listeners is not None and (listeners.ports or listeners.rings):
                        listeners.notify()
                    core.head = (revision, following)
                    return cell
        # No lambda: a captured variable is slower, and this function is the hot one.
        return self._change(partial(_decided, (new,))) or None

    if TYPE_CHECKING:

        @property
        def value(self) -> T:
            """The current value. Reading never blocks; setting is `set()`."""
            ...

        @value.setter
        def value(self, new_value: T) -> None: ...

    else:
        # The functions themselves, as a property of two more would cost a fifth of a set.
        value = property(_get, _put, doc="The current value. Never blocks; setting is `set()`.")

    def set(self, new_value: T) -> Transition[T] | None:
        """
        Set the value, and give the transition that this made.

        Returns:
            None if nothing changed: *new_value* is the current value, or of the same type and
            equal. The old object is kept then.

        Raises:
            MutableValueError: *new_value* can be changed in place, and the store forbids that.
            StoreClosedError: The store is closed.
            CallbackLoopError: Callbacks have set each other off too often.
            Exception: What the `==` of the values raised. Nothing is changed then.
        """
        return self._made(self._put(new_value))

    def set_if(self, new_value: T, condition: Callable[[T], object]) -> bool:
        """
        Set the value if *condition* holds for the current one.

        Args:
            new_value: The value to set.
            condition: Called with the current value; again if that changed meanwhile.

        Returns:
            Whether the condition held, not whether this made a change: setting an equal value
            makes none.

        Raises:
            Exception: What *condition* raised; else as `set()`.
        """
        refuse_async(condition, "a condition")
        return self._change(lambda old: (new_value,) if condition(old) else None) is not False

    def compare_and_set(self, expected: object, new_value: T) -> bool:
        """
        Set the value if the current one is, or equals (`==`), *expected*.

        Returns:
            Whether it was as expected.

        Raises:
            Exception: As `set()`.
        """
        return self.set_if(new_value, EqualTo(expected))

    def update(self, function: Callable[[T], T]) -> Transition[T] | None:
        """
        Set the value to what *function* makes of the current one, with no set in between.

        Args:
            function: Called with the current value; again if that changed meanwhile, so it should
                do nothing but compute.

        Returns:
            The transition that this made, or None if nothing changed.

        Raises:
            Exception: What *function* raised; else as `set()`.
        """
        refuse_async(function, "an update function")
        return self._made(self._change(lambda old: (function(old),)))

    def close(self) -> None:
        """
        End a watcher that stands alone, as `Store.close()` ends a store.

        Raises:
            StateStoreError: It belongs to a store.
        """
        if self._core.names:
            msg = f"{self.name!r} is a key of {self._core.title}; close the store"
            raise StateStoreError(msg)
        self._core.end()

    def _change(self, decide: Callable[[T], tuple[T] | None]) -> Cell | Literal[False] | None:
        """
        Change the value as *decide* says of the very value that is replaced.

        Gives the cell of the old value, behind which the new one is linked; None if that would
        have been the same; False if *decide* says no.
        """
        core = self._core
        turn = None
        try:
            for rounds in itertools.count():
                if rounds == ROUNDS:
                    turn = core.take_turn()
                head = core.settle_open()
                cell = self._tail()
                decision = decide(cell[VALUE])
                if decision is None:
                    return False
                (new,) = decision
                if core.strict and type(new) not in PLAIN:
                    check_immutable(new, self._name, cell[VALUE])
                if is_same(cell[VALUE], new):
                    return None
                while self._tail() is cell:
                    if core.publish(head, ((self, cell, new),)) is not None:
                        core.run_callbacks()
                        return cell
                    head = core.settle_open()
            raise AssertionError  # pragma: no cover -- count() has no end
        finally:
            if turn is not None:
                core.end_turn(turn)

    def _made(self, before: Cell | Literal[False] | None) -> Transition[T] | None:
        if not before:
            return None
        value, revision, _ = before[NEXT]
        return Transition(key=self._name, old=before[VALUE], new=value, revision=revision)

    def __repr__(self) -> str:
        value, revision, _ = self._latest()
        return f"<ValueWatcher {self._name!r}: {shorten(value)} at revision {revision}>"
