"""The watcher that can be set."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast, final

from statestore._blocking import refuse_on_loop
from statestore._callbacks import CallbackHandle, InlineMailbox
from statestore._claims import MISSED, Claim, claim, claim_blocking, identity_of
from statestore._core import BOX, REVISION, VALUE, Cell, Core, Slot
from statestore._fork import adopt
from statestore._formulas import Source
from statestore._logging import make_reporter
from statestore._mailbox import Test, Waiter
from statestore._matching import EqualTo, Satisfying, refuse_async
from statestore._reach import reaching
from statestore._records import CallbackFailure, Removed, Transition
from statestore._settable import Settable
from statestore._text import shorten
from statestore._values import check_immutable
from statestore._waits import begin, check_timeout, last_look, wait
from statestore._watcher import BlockingWatcher, Watcher
from statestore.errors import StateStoreError

T = TypeVar("T")


@final
class ValueWatcher(Settable, Watcher[T], Generic[T]):
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
    def _in_store(cls, core: Core, name: str, value: object, lifecycle: Any = None) -> Self:
        kind: Any = cls if lifecycle is None else Guarded
        watcher: Self = kind.__new__(kind)
        Slot.__init__(watcher, core, name, value)
        if lifecycle is not None:
            watcher._lifecycle = lifecycle
        return watcher

    @property
    def _source(self) -> Source:
        return self

    def _open(self) -> Slot:
        return self

    async def wait_for(
        self,
        value: object,
        *,
        immediate: bool = True,
        timeout: float | None = None,
        held_for: float | None = None,
    ) -> T:
        # The common cases, with fewer calls: they are most of what a wait costs.
        if held_for is None:
            if immediate:
                now: T
                now, _, after = self._cell
                # An object equals itself here; no code of the user's is called.
                if now is value and after is None and not self._core.head[BOX]:
                    if not (timeout is None or (type(timeout) is float and timeout >= 0.0)):
                        check_timeout(timeout)
                    return now
                # No frame that sleeps may hold what is there now.
                del now, after
            if self._lifecycle is None:
                # `wait()`, written out: it would be one more coroutine for as long as it sleeps.
                test = EqualTo(value)
                seconds = None if timeout is None else check_timeout(timeout)
                found = begin(self, test, seconds, immediate=immediate)
                if type(found) is Waiter:
                    try:
                        found.port.add(found, seconds)
                        await found.future
                    except BaseException:
                        found.port.abandon(found)
                        raise
                    found.port.discard(found)
                    if found.error is not None or found.cell is None:
                        found = last_look(found, self, test, seconds)
                    else:
                        found = found.cell
                matched: T = found[VALUE]
                return matched
        return await super().wait_for(
            value, immediate=immediate, timeout=timeout, held_for=held_for
        )

    wait_for.__doc__ = Watcher[Any].wait_for.__doc__

    def _wait(  # pyright: ignore[reportIncompatibleMethodOverride] -- it is awaited all the same
        self, test: Test, *, immediate: bool, timeout: float | None, held_for: float | None
    ) -> Coroutine[Any, Any, Any]:
        if held_for is None:
            # Nobody has to leave a key, so there is one coroutine less.
            if self._lifecycle is not None:
                test = reaching(self, test)
            return wait(self, test, immediate=immediate, timeout=timeout)
        return super()._wait(test, immediate=immediate, timeout=timeout, held_for=held_for)

    def _register(self, handle: CallbackHandle) -> tuple[Cell, int]:
        cell = self._latest()
        handle._registered = callbacks = self._core.listen(self).callbacks
        callbacks[handle] = None
        return cell, self._core.fence(handle)

    @property
    def revision(self) -> int:
        """The revision of the last transition; 0 if there was none."""
        return int(self._latest()[REVISION])

    @property
    def name(self) -> str:
        """The name of the key."""
        return self._name

    if TYPE_CHECKING:

        @property
        def value(self) -> T:
            """The current value. Reading never blocks; setting is `set()`."""
            ...

        @value.setter
        def value(self, new_value: T) -> None: ...

    else:
        # The functions themselves, as a property of two more would cost a fifth of a set.
        value = property(
            Settable._get, Settable._put, doc="The current value. Never blocks; setting is `set()`."
        )

    def set(self, new_value: T, *, reason: str | None = None) -> Transition[T] | None:
        """
        Set the value, and give the transition that this made.

        Args:
            new_value: The value to set.
            reason: Why, in words, for those who log or record; nobody else is told.

        Returns:
            None if nothing changed: *new_value* is the current value, or of the same type and
            equal. The old object is kept then.

        Raises:
            MutableValueError: *new_value* can be changed in place, and the store forbids that.
            StoreClosedError: The store is closed.
            CallbackLoopError: Callbacks have set each other off too often.
            Exception: What the `==` of the values raised. Nothing is changed then.
        """
        if reason is None:
            return self._made(self._put(new_value))
        return self._made(self._change_to(new_value, reason))

    def set_if(
        self, new_value: T, condition: Callable[[T], object], *, reason: str | None = None
    ) -> bool:
        """
        Set the value if *condition* holds for the current one.

        Args:
            new_value: The value to set.
            condition: Called with the current value; again if that changed meanwhile.
            reason: As in `set()`.

        Returns:
            Whether the condition held, not whether this made a change: setting an equal value
            makes none.

        Raises:
            Exception: What *condition* raised; else as `set()`.
        """
        refuse_async(condition, "a condition")
        made = self._change(lambda old: (new_value,) if condition(old) else None, reason)
        return made is not False

    def compare_and_set(self, expected: object, new_value: T, *, reason: str | None = None) -> bool:
        """
        Set the value if the current one is, or equals (`==`), *expected*.

        Returns:
            Whether it was as expected.

        Raises:
            Exception: As `set()`.
        """
        return self.set_if(new_value, EqualTo(expected), reason=reason)

    def update(
        self, function: Callable[[T], T], *, reason: str | None = None
    ) -> Transition[T] | None:
        """
        Set the value to what *function* makes of the current one, with no set in between.

        Args:
            function: Called with the current value; again if that changed meanwhile, so it should
                do nothing but compute.
            reason: As in `set()`.

        Returns:
            The transition that this made, or None if nothing changed.

        Raises:
            Exception: What *function* raised; else as `set()`.
        """
        refuse_async(function, "an update function")
        return self._made(self._change(lambda old: (function(old),), reason))

    async def claim(
        self,
        condition: Callable[[T], object],
        change: Callable[[T], T],
        *,
        timeout: float | None = None,
        reason: str | None = None,
    ) -> Transition[T] | None:
        """
        Wait until *condition* holds, and change the value in the same commit.

            await app.permits.claim(lambda n: n > 0, lambda n: n - 1)

        The change is made of the very value that the condition was asked about. So of all who
        claim, in any task or thread, exactly one gets each state; the others look again. A value
        that came and went while this waited is not seen: it could not be had.

        **Order.** The claims on this watcher that wait on one event loop stand in line. At each
        state the first of them whose condition holds is tried; one that has just come does not
        overtake it. Threads that block stand in line, too, one for each condition. Between event
        loops and threads there is no line: who commits first has it.

        Args:
            condition: Called with the current value. It must be a plain, pure function: what one
                call says counts for all claims with the same one, or with a copy of it that has
                captured the same objects.
            change: Called with the value that *condition* holds for; gives the new one.
            timeout: Seconds to wait at most; 0 or less only looks, and takes what is there without
                standing in line. None waits for ever.
            reason: As in `set()`.

        Returns:
            The transition that this made; None if *change* gave an equal value, which counts as a
            claim and makes none.

        Raises:
            Exception: What *condition* or *change* raised; this claim ends and nothing is changed.
                Else as `set()`.
            WaitTimeoutError: It did not hold in time, when it was the turn of this claim. What was
                committed before the deadline is found.
            StoreClosedError: The watcher or its store was closed.
            KeyRemovedError: It is a member that was removed.
            TypeError, ValueError: *timeout* is no number of seconds, or a function is asynchronous.

        Cancellation:
            Before the commit, nothing has happened, and the next one in line is tried. Nothing is
            awaited between the commit and the return: a cancellation that comes then, out of a
            callback, reaches the task at its next `await`. What was claimed is returned before.

        Cost:
            A state wakes one claim on each event loop that waits, not all. It asks each different
            condition once.
        """
        made = self._claim(condition, change, reason)
        return cast("Transition[T] | None", await claim(made, timeout))

    def _claim(
        self, condition: Callable[[T], object], change: Callable[[T], T], reason: str | None
    ) -> Claim:
        test = Satisfying(condition)
        refuse_async(change, "a change")

        def decide(old: T) -> tuple[T] | None:
            return (change(old),) if test(old) else None

        def attempt(_slot: Slot) -> Any:
            made = self._change(decide, reason)
            return MISSED if made is False else self._made(made)

        core, same = self._core, identity_of(condition)
        return Claim(core, self._open, test, attempt, line=self, same=same)

    @property
    def blocking(self) -> BlockingValueWatcher[T]:
        """The same waits, subscriptions, values and claims for a thread that blocks."""
        return BlockingValueWatcher(self)

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

    def __repr__(self) -> str:
        value, revision, _ = self._latest()
        if type(value) is Removed:
            return f"<ValueWatcher {self._name!r}, removed at revision {revision}>"
        return f"<ValueWatcher {self._name!r}: {shorten(value)} at revision {revision}>"


class Guarded(ValueWatcher[T]):  # type: ignore[misc]  # pyright: ignore -- final to users
    """One with a lifecycle: a class of its own, so that all others need not look for one."""

    __slots__ = ("_lifecycle",)

    def _put(self, new: object) -> Cell | None:
        return self._change_to(new)

    # A property holds functions, so one of them is overridden by another property.
    value: Any = property(
        cast("Any", ValueWatcher)._get, cast("Any", _put), doc=ValueWatcher.value.__doc__
    )


@final
class BlockingValueWatcher(BlockingWatcher[T], Generic[T]):
    """The blocking side of a value watcher, from `ValueWatcher.blocking`."""

    __slots__ = ("_claimed",)

    def __init__(self, watcher: ValueWatcher[T]) -> None:
        super().__init__(watcher)
        self._claimed = watcher

    def claim(
        self,
        condition: Callable[[T], object],
        change: Callable[[T], T],
        *,
        timeout: float | None = None,
        reason: str | None = None,
    ) -> Transition[T] | None:
        """
        Block until *condition* holds, and change the value in the same commit.

        Else as `ValueWatcher.claim()`.

        Raises:
            BlockingError: This thread is running an event loop.
        """
        refuse_on_loop()
        made = self._claimed._claim(condition, change, reason)
        return cast("Transition[T] | None", claim_blocking(made, timeout))
