"""
Watchers: what has a current value and can be waited for.

What can be derived of a watcher stands here too: the two need each other.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from operator import not_
from typing import Any, TypeVar, cast, final

from statestore._blocking import BlockingWaits, refuse_on_loop, wait_blocking
from statestore._callbacks import CallbackHandle
from statestore._core import NEXT, REVISION, VALUE, Cell, Slot
from statestore._during import During
from statestore._formulas import (
    Counted,
    Formula,
    Mapped,
    Source,
    evaluate,
    good,
    label_of,
    owner_of,
)
from statestore._holding import make_hold, wait_held, wait_held_blocking
from statestore._inline import follow
from statestore._lifecycle import Lifecycle
from statestore._mailbox import Test, loop_mailbox, running_loop
from statestore._matching import EqualTo, Satisfying, UnequalTo, refuse_async
from statestore._network import Network
from statestore._queues import ChainQueue, NewestQueue, Overflow, check_bound, make_queue
from statestore._reach import hoping, reaching
from statestore._records import ABSENT, Transition
from statestore._subscription import BlockingSubscription, BlockingValues, Subscription, Values
from statestore._supervision import check_works, supervise
from statestore._text import name_of, shorten, spell
from statestore._waits import Waits, check_timeout, wait

R = TypeVar("R")
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
    def _source(self) -> Source:
        """What a formula is made of that follows this watcher."""

    @abstractmethod
    def _open(self) -> Slot:
        """Give the slot that a consumer in this task or thread follows from now on."""

    def _open_for(self, test: Test, *, immediate: bool) -> tuple[Slot, Test]:  # noqa: ARG002 -- for what is derived
        """Give the slot that a wait follows, and its test: it ends when that is hopeless."""
        slot = self._open()
        return slot, reaching(slot, test)

    @abstractmethod
    def _register(self, handle: CallbackHandle) -> tuple[Cell, int]:
        """Have *handle* called from a revision on; give a cell not behind it, and the revision."""

    @property
    @abstractmethod
    def value(self) -> T_co:
        """The current value. Never blocks."""

    @property
    @abstractmethod
    def revision(self) -> int:
        """The revision of the last transition; 0 if there was none."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the key, or what it is derived from in words."""

    @property
    def blocking(self) -> BlockingWatcher[T_co]:
        """The same waits, subscriptions and values for a thread that blocks."""
        return BlockingWatcher(self)

    def map(self, function: Callable[[T_co], R], /) -> Watcher[R]:
        """
        Derive a watcher of what *function* makes of the value.

            busy = app.worker.map(lambda worker: worker.jobs > 0)

        It follows transition by transition: each one that changes the result is one of its own,
        at the same revision. It is computed only while somebody listens, at most once for each
        transition and event loop, and belongs to nobody: there is nothing to close.

        Args:
            function: A pure function. It may be slow, or raise, without harm to a setter. What it
                raises puts the derived watcher in error, with [`DerivationError`][] for those who
                read it or wait, until the next transition for which it gives a value.

        Raises:
            TypeError: *function* cannot be called, or is asynchronous.

        Cost:
            One call for each transition of the source, while somebody listens. A chain of maps is
            computed in one go.
        """
        refuse_async(function, "a map function")
        name = f"{label_of((self._source,))}.map({name_of(function)})"
        return Derived(Mapped(name, self._source, function))

    def is_(self, value: object, /) -> Condition:
        """Derive the condition that the value is, or equals (`==`), *value*."""
        return self._condition(EqualTo(value), f"is {spell(value)}")

    def is_not(self, value: object, /) -> Condition:
        """Derive the condition that the value differs (`!=`) from *value*."""
        return self._condition(UnequalTo(value), f"is not {spell(value)}")

    def matches(self, predicate: Callable[[T_co], object], /) -> Condition:
        """
        Derive the condition that *predicate* holds for the value. Else as `map()`.

        Raises:
            TypeError: *predicate* cannot be called, or is asynchronous.
        """
        test = Satisfying(predicate)
        return self._condition(test, f"matches {name_of(predicate)}")

    def _condition(self, test: Test, what: str) -> Condition:
        return Condition(Mapped(f"{label_of((self._source,))} {what}", self._source, test))

    def during(self, value: object, /, *, timeout: float | None = None) -> During[T_co]:
        """
        Bind a block of work to the state that the value is, or equals (`==`), *value*.

            async with app.conn.during(Conn.CONNECTED, timeout=30) as scope:
                await serve()
            if scope.ended is not None:
                print("it is now", scope.ended.new)

        Entering waits for the state, as `wait_for()` does. When the state ends, the block is
        cancelled, and what follows it goes on. A state that was left and entered again has ended.
        One that had ended before the block began cancels it where it suspends first.

        Args:
            value: The state.
            timeout: Seconds to wait for the state at most, as in `wait_for()`. The block may take
                as long as the state lasts.

        Returns:
            An asynchronous context manager, to be entered once. Its *ended* is the transition that
            ended the state, or None if the block was over first.

        Raises:
            WaitTimeoutError: The state was not there in time. Raised on entering.
            StoreClosedError: The store was closed. Raised on entering, or in place of the
                cancellation: the block is cancelled, as nothing will tell of the state any more.
            KeyRemovedError, DerivationError: There is no value any more. As `StoreClosedError`.
            StateStoreError: It is entered by no task, or twice.

        Cancellation:
            Whatever cancels the task from elsewhere, and whatever the block raises, goes through,
            also together with the end of the state, as with `asyncio.timeout()`.
        """
        check_timeout(timeout)
        return During(self._open, EqualTo(value), timeout)

    async def supervise(
        self,
        works: Mapping[Any, Callable[[Transition[T_co]], Coroutine[Any, Any, object]]],
        /,
        *,
        until: object = ABSENT,
    ) -> None:
        """
        Do for every state that is visited what *works* has for it, one visit after the other.

            await app.conn.supervise({Conn.CONNECTED: serve, Conn.CLOSING: run_to_end(drain)})

        The first visit is that of the current value. The work for a visit runs in a task of its
        own. It is cancelled when the state is left, and the next visit has its turn when it has
        ended. So one that does not end when it is cancelled delays all that follow, and loses none
        of them. A visit that is over before its turn comes has its work started all the same: it
        runs up to where it suspends first and is cancelled there, or to its end if it is marked by
        [`run_to_end`][].

        Args:
            works: A coroutine function for each state that has something to do. It is called with
                the transition that began the visit; in that of the first visit, *old* and *new*
                are the current value. States are looked up as in any dict. A transition to a value
                that equals (`==`) the one before goes on with the visit.
            until: The state with whose first visit it ends, when the work for that has ended. With
                a lifecycle, it also ends with the first visit of a final state.

        Raises:
            Exception: What some work raised, or the `hash` or `==` of a value. Nothing is begun
                after that.
            StoreClosedError: The store was closed. All visits before that have had their turn; the
                work for the last one is cancelled, unless it runs to its end.
            KeyRemovedError, DerivationError: There is no value any more. As `StoreClosedError`.
            TypeError: Something in *works* cannot be called.

        Cancellation:
            Cancels the work at hand, that which is to run to its end too, waits for it, and is
            never swallowed. No task outlives the call.

        Cost:
            What comes while some work goes on is kept until it has its turn.
        """
        checked = check_works(works)
        is_last = None if until is ABSENT else EqualTo(until)
        with self.subscribe(initial=True) as visits:
            await supervise(visits, checked, _last(visits._slot, is_last))

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
        check_bound(maxlen, overflow)
        slot = self._open()
        cell = slot._latest()
        queue = make_queue(slot, cell, maxlen, overflow, _newer)
        return Subscription(slot, cell, queue, initial=initial)

    def values(self, *, latest: bool = False) -> Values[T_co]:
        """
        Iterate over the values with `async for`: the current one, then each new one.

        Args:
            latest: Whether to skip to the newest value whenever several are new.
        """
        slot = self._open()
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
        handle = CallbackHandle(self.name, callback, callback, {})
        self._register(handle)
        return handle

    def on_value(self, value: object, callback: Callable[[], object]) -> CallbackHandle:
        """
        Have *callback* called once: when the value is, or equals, *value*, or at once if it does.

        Needs no event loop. Else as `on_change()`.
        """
        refuse_async(callback, "a callback")
        once = _Once(EqualTo(value), callback)
        handle = once.handle = CallbackHandle(self.name, callback, once, {})
        cell, since = self._register(handle)
        try:
            # What came up to the registration; the rest comes as to any callback.
            while not once.test(good(cell[VALUE])):
                after = cell[NEXT]
                if after is None or after[REVISION] > since:
                    return handle
                cell = after
        except BaseException:
            handle.close()
            raise
        owner_of(self._source).inline.call_now(handle, cell[REVISION], once.fire)
        return handle

    async def _wait(
        self, test: Test, *, immediate: bool, timeout: float | None, held_for: float | None
    ) -> Any:
        hold = None if held_for is None else make_hold(test, held_for)
        slot, test = self._open_for(test, immediate=immediate)
        try:
            if hold is None:
                return await wait(slot, test, immediate=immediate, timeout=timeout)
            hold.test = test
            return await wait_held(slot, hold, immediate=immediate, timeout=timeout)
        finally:
            slot._leave()

    def __bool__(self) -> bool:
        msg = f"the watcher {self.name!r} is neither true nor false; did you mean its `value`?"
        raise TypeError(msg)


def _last(slot: Slot, until: Test | None) -> Test | None:
    """Tell of which visits of *slot* no other follows, or none that matters."""
    lifecycle: Lifecycle[Any] | None = slot._lifecycle
    if lifecycle is None:
        return until
    final = lifecycle.final
    return lambda value: (until is not None and until(value)) or lifecycle.state_of(value) in final


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


def _newer(_old: object, new: T) -> T:
    return new


class BlockingWatcher(BlockingWaits[T_co]):
    """The blocking side of a watcher, from `Watcher.blocking`."""

    __slots__ = ("_watcher",)

    def __init__(self, watcher: Watcher[T_co]) -> None:
        self._watcher = watcher

    def subscribe(
        self, *, initial: bool = False, maxlen: int | None = None, overflow: Overflow = "raise"
    ) -> BlockingSubscription[T_co]:
        """Open a queue of the transitions from now on, as `Watcher.subscribe()`."""
        check_bound(maxlen, overflow)
        slot = self._watcher._open()
        cell = slot._latest()
        queue = make_queue(slot, cell, maxlen, overflow, _newer)
        return BlockingSubscription(slot, cell, queue, initial=initial)

    def values(self, *, latest: bool = False) -> BlockingValues[T_co]:
        """Iterate over the values with a plain `for`, as `Watcher.values()`."""
        slot = self._watcher._open()
        cell = slot._latest()
        if latest:
            return BlockingValues(slot, cell, NewestQueue(slot))
        return BlockingValues(slot, cell, ChainQueue(cell), initial=True)

    def _wait(
        self, test: Test, *, immediate: bool, timeout: float | None, held_for: float | None
    ) -> Any:
        refuse_on_loop()
        seconds = check_timeout(timeout)
        hold = None if held_for is None else make_hold(test, held_for)
        slot, test = self._watcher._open_for(test, immediate=immediate)
        try:
            if hold is None:
                return wait_blocking(slot, test, immediate=immediate, seconds=seconds)
            hold.test = test
            return wait_held_blocking(slot, hold, immediate=immediate, seconds=seconds)
        finally:
            slot._leave()


def _open(formula: Formula) -> Slot:
    core = formula.core
    loop = running_loop()
    network = Network(core) if loop is None else loop_mailbox(core, loop).network(core)
    return network.open(formula)


class Derived(Watcher[T_co]):
    """A watcher of what a formula gives."""

    __slots__ = ("__weakref__", "_formula")

    def __init__(self, formula: Formula) -> None:
        self._formula = formula

    @property
    def _source(self) -> Source:
        return self._formula

    def _open(self) -> Slot:
        return _open(self._formula)

    def _open_for(self, test: Test, *, immediate: bool) -> tuple[Slot, Test]:
        formula = self._formula
        # What was so before does not fulfil a wait for a transition, but is no reason to give up.
        if formula.is_guarded and immediate:
            formula = hoping(formula, test)
        return _open(formula), test

    def _register(self, handle: CallbackHandle) -> tuple[Cell, int]:
        return follow(self._formula.core, self._formula, handle)

    @property
    def value(self) -> T_co:
        """
        The current value, computed from values of one revision. Never blocks.

        Raises:
            DerivationError: It cannot be computed.

        Cost:
            Linear in what it is derived from, if any of that has changed since it was read last.
        """
        return cast("T_co", good(evaluate(self._formula)[0]))

    @property
    def revision(self) -> int:
        """The revision of the last transition of what it is derived from."""
        return evaluate(self._formula)[1]

    @property
    def name(self) -> str:
        """What it is derived from, in words."""
        return self._formula.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


@final
class Condition(Derived[bool]):
    """
    A derived watcher of whether something holds.

    Conditions are combined by `&`, `|` and `~`, or by [`all_of`][], [`any_of`][] and
    [`at_least`][]; one side may be any watcher of `bool`.

        ready = app.conn.is_(Conn.CONNECTED) & ~app.paused.is_(True)
        await ready.wait(timeout=30)
    """

    __slots__ = ()

    async def wait(self, *, timeout: float | None = None, held_for: float | None = None) -> None:
        """
        Wait until it holds, or has held for *held_for* seconds. Else as `Watcher.wait_for()`.

        Raises:
            DerivationError: It cannot be computed.
            WaitTimeoutError: It did not hold within *timeout* seconds.
            StoreClosedError: The store was closed.
        """
        value = True
        await self.wait_for(value, timeout=timeout, held_for=held_for)

    def during(
        self,
        value: object = True,  # noqa: FBT002 -- a value
        /,
        *,
        timeout: float | None = None,
    ) -> During[bool]:
        """Bind a block of work to the time in which it holds. Else as `Watcher.during()`."""
        return super().during(value, timeout=timeout)

    def __and__(self, other: Watcher[bool]) -> Condition:
        return count_of((self, other), 2, " and ")

    def __or__(self, other: Watcher[bool]) -> Condition:
        return count_of((self, other), 1, " or ")

    def __rand__(self, other: Watcher[bool]) -> Condition:
        return count_of((other, self), 2, " and ")

    def __ror__(self, other: Watcher[bool]) -> Condition:
        return count_of((other, self), 1, " or ")

    def __invert__(self) -> Condition:
        return Condition(Mapped(f"not ({label_of((self._source,))})", self._source, not_))


def count_of(conditions: Sequence[Watcher[bool]], least: int, joint: str = ", ") -> Condition:
    """
    Derive the condition that at least so many of *conditions* hold.

    Raises:
        TypeError: One of them is no watcher.
        DifferentStoresError: They are not of one store.
    """
    sources: list[Source] = []
    for condition in conditions:
        if isinstance(condition, Condition):
            sources.append(condition._formula)
        elif isinstance(condition, Watcher):
            source = condition._source
            sources.append(Mapped(label_of((source,)), source, bool))
        else:
            msg = f"a condition is a watcher of bool, not {shorten(condition)}"  # type: ignore[unreachable]
            raise TypeError(msg)
    names = label_of(sources, joint)
    if joint == ", ":
        kind = {1: "any", len(sources): "all"}.get(least, f"at least {least}")
        names = f"{kind} of ({names})"
    return Condition(Counted(names, sources, least))
