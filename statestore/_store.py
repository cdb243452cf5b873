"""Hold the keys of a program's state in one place, with one order of commits."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast, overload

from statestore._blocking import refuse_on_loop
from statestore._callbacks import InlineMailbox
from statestore._claims import MISSED, Claim, claim, claim_blocking
from statestore._closing import Closable
from statestore._commits import (
    BlockingCommitSubscription,
    CommitSubscription,
    follow,
    look,
)
from statestore._core import VALUE, Core, Slot
from statestore._family import Members
from statestore._fork import adopt
from statestore._formulas import good, owner_of
from statestore._inspection import StoreReport
from statestore._inspector import inspect
from statestore._keys import Declaration, Family, Key
from statestore._lifecycle import Lifecycle, check_start
from statestore._logging import make_reporter
from statestore._matching import EqualTo, refuse_async
from statestore._queues import Overflow
from statestore._recording import KeyOrName, Recording
from statestore._records import ABSENT, CallbackFailure, Snapshot
from statestore._text import shorten
from statestore._transaction import Resolve, Transaction, repeat
from statestore._value_watcher import ValueWatcher
from statestore._values import check_immutable
from statestore._watcher import Watcher
from statestore.errors import (
    DifferentStoresError,
    DuplicateKeyError,
    StateStoreError,
    UnknownKeyError,
)

T = TypeVar("T")


class Store(Closable):
    """
    The state of a program: typed keys, each a watcher, in one order of commits.

        class App(Store):
            conn = Key(Conn.DISCONNECTED)
            inflight = Key(0)

        app = App()
        app.inflight.value = 1
        await app.conn.wait_for(Conn.CLOSED)

    `App.conn` is the [`Key`][], `app.conn` its watcher; `app[App.conn]` and `app["conn"]` are the
    same watcher. A [`Family`][] declares keys that come and go. A store is a read-only mapping of
    names to watchers: `in`, `len()`, iteration over the names in order, `get()`.

    Args:
        on_error: Called with a [`CallbackFailure`][] when a callback raises; by default that is
            logged through structlog.

    Thread safety:
        All of it may be used from any thread, callback, signal handler or finalizer. A store
        belongs to no event loop. A forked child has the same values and no consumers.
    """

    _keys: ClassVar[dict[str, Key[Any]]] = {}
    _families: ClassVar[dict[str, Family[Any, Any]]] = {}
    # Also those that a subclass declared anew: they stand for the key of their name.
    _declared: ClassVar[frozenset[Declaration]] = frozenset()
    _core: Core

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        found: list[tuple[str, Declaration]] = [
            (name, vars(base)[name])
            for base in reversed(cls.__mro__)
            for name, thing in vars(base).items()
            if isinstance(thing, Declaration)
        ]
        for name, key in found:
            if hasattr(Store, name) or name in Store.__annotations__:
                msg = (
                    f"{cls.__name__}.{name}: a key may not bear the name of a Store method; "
                    "choose another name"
                )
                raise DuplicateKeyError(msg)
            if key.name != name:
                msg = (
                    f"{cls.__name__}.{name} is the key {key.name!r} once more; "
                    f"declare a {type(key).__name__} of its own"
                )
                raise DuplicateKeyError(msg)
        declared = dict(found)
        for name, key in found:
            if type(declared[name]) is not type(key):
                msg = (
                    f"{cls.__name__}.{name} is a {type(declared[name]).__name__}, but a "
                    f"{type(key).__name__} in a base class; choose another name"
                )
                raise DuplicateKeyError(msg)
        cls._keys = {name: key for name, key in declared.items() if isinstance(key, Key)}
        cls._families = {name: key for name, key in declared.items() if isinstance(key, Family)}
        cls._declared = frozenset(key for _, key in found)

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        # Here and not in __init__, which a subclass may forget to call.
        store = super().__new__(cls)
        inline = InlineMailbox(make_reporter(None))
        core = Core(inline, cls.__name__, strict=True)
        object.__setattr__(store, "_core", core)
        for name, key in cls._keys.items():
            watcher = ValueWatcher[Any]._in_store(core, name, key.default, key.lifecycle)
            core.names[name] = watcher
            object.__setattr__(store, name, watcher)
        for name, family in cls._families.items():
            members = Members[Any, Any](core, name, family.default, family.lifecycle)
            core.families.append(members._feed)
            object.__setattr__(store, name, members)
        adopt(core)
        return store

    def __init__(self, *, on_error: Callable[[CallbackFailure], object] | None = None) -> None:
        self._core.inline.report_to(make_reporter(on_error))

    def add(
        self, name: str, value: T, *, lifecycle: Lifecycle[Any] | None = None
    ) -> ValueWatcher[T]:
        """
        Add a key at run time; give its watcher.

        A commit of its own, with [`ABSENT`][] as the old value. Declared keys are typed and have
        attributes: prefer them for what is known before.

        Args:
            name: Its name.
            value: What it begins with.
            lifecycle: As that of a [`Key`][].

        Raises:
            DuplicateKeyError: The name is taken, by a key or a method of the store.
            IllegalTransitionError: *value* is in no state of *lifecycle*.
            MutableValueError: *value* can be changed in place.
            StoreClosedError: The store is closed.
            TypeError: *name* is not a plain string.
        """
        if type(name) is not str:
            msg = f"the name of a key must be a str, not {shorten(name)}"
            raise TypeError(msg)
        check_immutable(value, name)
        check_start(value, name, lifecycle)
        core = self._core
        while True:
            head = core.settle_open()
            if name in core.names or hasattr(type(self), name):
                msg = f"{core.title} has {name!r} already; choose another name"
                raise DuplicateKeyError(msg)
            watcher = ValueWatcher[T]._in_store(core, name, ABSENT, lifecycle)
            if core.publish(head, ((watcher, watcher._cell, value),)) is not None:
                core.run_callbacks()
                return watcher

    @property
    def revision(self) -> int:
        """The revision of the last commit; 0 if there was none."""
        return int(self._core.settle()[0])

    @property
    def is_closed(self) -> bool:
        """Whether the store was closed."""
        self._core.settle()
        return self._core.closed

    @property
    def blocking(self) -> BlockingStore:
        """Subscriptions to commits, and claims, for a thread that blocks."""
        return BlockingStore(self._core, self._slots, self._resolve)

    def transaction(self, *, reason: str | None = None) -> Transaction:
        """
        Change several keys in one commit.

            with app.transaction() as tx:
                tx[app.conn] = Conn.CLOSING
                tx[app.inflight] = tx[app.inflight] - 1

        Commits when the block is left, and undoes everything if an exception leaves it.

        Args:
            reason: As in `ValueWatcher.set()`.

        Raises (when the block is left):
            ConflictError: A key that the block had read was committed meanwhile by anyone else.
            StoreClosedError: The store is closed.
        """
        return Transaction(self._core, self._resolve, reason)

    def transact(self, function: Callable[[Transaction], T], *, reason: str | None = None) -> T:
        """
        Run *function* in a transaction, again if it conflicts; return what it returned.

        Args:
            function: Called with the [`Transaction`][]; it may be called several times, so it
                should do nothing but read and write keys.
            reason: As in `ValueWatcher.set()`.

        Raises:
            Exception: What *function* raised; nothing is changed then.
        """
        refuse_async(function, "a transaction function")
        (result,) = repeat(self._core, lambda: self.transaction(reason=reason), function) or (None,)
        return cast("T", result)

    async def claim(
        self,
        condition: Watcher[bool],
        function: Callable[[Transaction], T],
        *,
        timeout: float | None = None,
        reason: str | None = None,
    ) -> T:
        """
        Wait until *condition* holds, and change several keys in the same commit.

            idle = app.workers.any(lambda worker: not worker.busy) & app.paused.is_(False)
            worker = await app.claim(idle, take_one)

        Of all who claim, in any task or thread, one at a time gets a state; the others look again.
        The claims of the store that wait on one event loop stand in one line, whatever their
        conditions. Threads that block stand in line with those that claim under the same condition
        object. Else the order is that of `ValueWatcher.claim()`.

        Args:
            condition: A condition, or another watcher of `bool`, of this store.
            function: Called with a [`Transaction`][] while the condition holds; all that it reads
                is of a revision at which it does, and what it writes is committed only if it still
                holds then. It may be called several times, so it should do nothing but read and
                write keys.
            timeout: Seconds to wait at most; 0 or less only looks. None waits for ever.
            reason: As in `ValueWatcher.set()`.

        Returns:
            What *function* returned, also if it wrote nothing.

        Raises:
            Exception: What *function* raised; nothing is changed then.
            DerivationError: The condition cannot be computed.
            DifferentStoresError: The condition is one of another store.
            WaitTimeoutError: It did not hold in time, when it was the turn of this claim.
            StoreClosedError: The store was closed.
            TypeError, ValueError: *timeout* is no number of seconds, *condition* no watcher, or
                *function* asynchronous.

        Cancellation:
            As in `ValueWatcher.claim()`.

        Cost:
            As that of `ValueWatcher.claim()`. A condition that is made once is computed once for
            all who claim under it on one event loop.
        """
        made = _claim_of(self._core, self._resolve, condition, function, reason)
        return cast("T", await claim(made, timeout))

    def snapshot(self) -> Snapshot:
        """
        Give the values of all keys at one revision.

        Cost:
            Linear in the number of keys. Holds nobody up.
        """
        return look(self._core, self._core.names.copy, self._core.families)

    def subscribe(
        self,
        *keys: Key[Any] | ValueWatcher[Any],
        maxlen: int | None = None,
        overflow: Overflow = "raise",
    ) -> CommitSubscription:
        """
        Open one queue of the commits from now on, over all keys or over *keys*.

        Args:
            keys: The keys to follow. A commit that touches none of them is left out, and so are
                its transitions of other keys.
            maxlen: As in `Watcher.subscribe()`.
            overflow: As in `Watcher.subscribe()`; what is joined is one commit with at most one
                transition a key.
        """
        return follow(CommitSubscription, self._core, self._slots(keys), maxlen, overflow)

    def record(self, *, maxlen: int | None = 10_000) -> Recording:
        """
        Keep the commits from now on, with who made each of them, when and why.

        Args:
            maxlen: How many commits are kept, the newest ones; None for all.

        Raises:
            TypeError, ValueError: *maxlen* is no such number.
        """
        return Recording._of(self._core, maxlen)

    def why(self, key: KeyOrName) -> str:
        """
        Say how *key* came to be what it is, as the recording that was begun last knows it.

        Else as `Recording.why()`.

        Raises:
            StateStoreError: Nothing is being recorded.
        """
        found: list[Recording | None] = [ref() for ref in self._core.recordings.copy()]
        recordings = [recording for recording in found if recording is not None]
        if not recordings:
            msg = f"nothing of {self._core.title} is being recorded: call record() first"
            raise StateStoreError(msg)
        return recordings[-1].why(key)

    def inspect(self) -> StoreReport:
        """
        Give a report of what there is now: values, who waits for what, who reads, what is derived.

        Print it, with [rich](https://rich.readthedocs.io) too, or look at its fields.

        Cost:
            Linear in all of that, for the caller; predicates and map functions that are waited on
            are called once more. Holds nobody up.
        """
        return inspect(self._core)

    def close(self) -> None:
        """
        End the store: a second call does nothing.

        Every wait ends with [`StoreClosedError`][], subscriptions end after what they hold, and
        nothing can be set any more. Values stay readable.
        """
        self._core.end()
        self._core.run_callbacks()

    @overload
    def __getitem__(self, key: Key[T]) -> ValueWatcher[T]: ...

    @overload
    def __getitem__(self, key: str) -> ValueWatcher[Any]: ...

    def __getitem__(self, key: Key[Any] | str) -> ValueWatcher[Any]:
        return self._resolve(key)

    @overload
    def get(self, key: Key[T]) -> ValueWatcher[T] | None: ...

    @overload
    def get(self, key: str) -> ValueWatcher[Any] | None: ...

    def get(self, key: Key[Any] | str) -> ValueWatcher[Any] | None:
        """Give the watcher of *key*, or None if the store has no such key."""
        return self._resolve(key) if key in self else None

    def __contains__(self, key: object) -> bool:
        self._core.settle()
        if isinstance(key, Key):
            return key in self._declared
        return type(key) is str and key in self._core.names

    def __iter__(self) -> Iterator[str]:
        self._core.settle()
        return iter(self._core.names.copy())

    def __len__(self) -> int:
        self._core.settle()
        return len(self._core.names)

    def __bool__(self) -> bool:
        return True

    if TYPE_CHECKING:
        # Hidden, as a type checker would take any misspelt key for an attribute then.
        ...
    else:

        def __setattr__(self, name: str, value: object) -> None:
            if name in self._core.names:
                where = f".{name}" if name in self._keys else f"[{name!r}]"
                msg = f"{name!r} is a key: set {self._core.title}{where}.value instead"
                raise AttributeError(msg)
            if name in self._families:
                msg = (
                    f"{name!r} is a family: use {self._core.title}.{name}.add() and "
                    f"{self._core.title}.{name}[...].value instead"
                )
                raise AttributeError(msg)
            if not name.startswith("_") and not _is_declared(type(self), name):
                known = (*self._core.names, *self._families)
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
                if near:
                    what = f"{near[0]}.value" if near[0] in self._core.names else f"{near[0]}[...]"
                    msg = (
                        f"{self._core.title} has no {name!r}; did you mean {what}? "
                        "If not, annotate the attribute in the class"
                    )
                    raise AttributeError(msg)
            object.__setattr__(self, name, value)

        def __delattr__(self, name: str) -> None:
            if name in self._core.names:
                msg = f"{name!r} is a key of {self._core.title}, which cannot be deleted"
                raise AttributeError(msg)
            if name in self._families:
                msg = f"{name!r} is a family of {self._core.title}; delete its members instead"
                raise AttributeError(msg)
            object.__delattr__(self, name)

        def __getattr__(self, name: str) -> Any:
            # Only called for what is not there.
            core: Core | None = self.__dict__.get("_core")
            names: Iterable[str] = core.names if core is not None else ()
            if name in names:
                hint = f"; it was added at run time: use store[{name!r}]"
            else:
                hint = _did_you_mean(name, (*names, *self._families))
            msg = f"{type(self).__name__} has no attribute {name!r}{hint}"
            raise AttributeError(msg)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed, " if self.is_closed else ""
        return f"<{type(self).__name__} of {len(self)} keys, {state}revision {self.revision}>"

    def _slots(self, keys: Iterable[Key[Any] | ValueWatcher[Any]]) -> tuple[Slot, ...]:
        return tuple(dict.fromkeys(self._resolve(key) for key in keys))

    def _resolve(self, key: object) -> ValueWatcher[Any]:
        """Give the watcher that *key* stands for in this store."""
        core = self._core
        if isinstance(key, ValueWatcher):
            owner = key._core
            if owner is core:
                return key  # pyright: ignore[reportUnknownVariableType] -- mypy sees Any here
            msg = f"{key.name!r} is a watcher of {owner.title}, another store than this one"
            raise UnknownKeyError(msg)
        if isinstance(key, Key):
            if key in self:
                return cast("ValueWatcher[Any]", core.names[key.name])
            msg = f"{key!r} was declared in another store than {core.title}"
        elif isinstance(key, str):
            if key in self:
                return cast("ValueWatcher[Any]", core.names[key])
            hint = _did_you_mean(key, core.names)
            if key in self._families:
                hint = f"; it is a family: use {core.title}.{key}"
            msg = f"{core.title} has no key {key!r}{hint}"
        else:
            msg = f"a key of {core.title} is a Key, a watcher or a name, not {shorten(key)}"
            raise TypeError(msg)
        raise UnknownKeyError(msg)


def _is_declared(cls: type, name: str) -> bool:
    return hasattr(cls, name) or any(
        name in vars(c).get("__annotations__", ()) for c in cls.__mro__
    )


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class BlockingStore:
    """The blocking side of a store, from `Store.blocking`."""

    __slots__ = ("_core", "_resolve", "_slots")

    def __init__(
        self, core: Core, slots: Callable[[Iterable[Any]], tuple[Slot, ...]], resolve: Resolve
    ) -> None:
        self._core = core
        self._slots = slots
        self._resolve = resolve

    def subscribe(
        self,
        *keys: Key[Any] | ValueWatcher[Any],
        maxlen: int | None = None,
        overflow: Overflow = "raise",
    ) -> BlockingCommitSubscription:
        """Open one queue of commits for a thread, as `Store.subscribe()`."""
        return follow(BlockingCommitSubscription, self._core, self._slots(keys), maxlen, overflow)

    def claim(
        self,
        condition: Watcher[bool],
        function: Callable[[Transaction], T],
        *,
        timeout: float | None = None,
        reason: str | None = None,
    ) -> T:
        """
        Block until *condition* holds, and change several keys in the same commit.

        Else as `Store.claim()`.

        Raises:
            BlockingError: This thread is running an event loop.
        """
        refuse_on_loop()
        made = _claim_of(self._core, self._resolve, condition, function, reason)
        return cast("T", claim_blocking(made, timeout))


def _claim_of(
    core: Core,
    resolve: Resolve,
    condition: Watcher[bool],
    function: Callable[[Transaction], Any],
    reason: str | None,
) -> Claim:
    refuse_async(function, "a transaction function")
    if not isinstance(condition, Watcher):
        msg = f"a condition is a watcher of bool, not {shorten(condition)}"  # type: ignore[unreachable]
        raise TypeError(msg)
    if owner_of(condition._source) is not core:
        msg = (
            f"{condition.name} is of {owner_of(condition._source).title}, and {core.title} has "
            "another order of commits; claim it from its own store"
        )
        raise DifferentStoresError(msg)
    test = EqualTo(True)  # noqa: FBT003 -- the value that is waited for

    def attempt(slot: Slot) -> Any:
        def begin() -> Transaction | None:
            core.settle_open()
            cell = slot._latest()
            if not test(good(cell[VALUE])):
                return None
            return Transaction(core, resolve, reason)._holding(slot, cell)

        done = repeat(core, begin, function)
        return MISSED if done is None else done[0]

    def open_slot() -> Slot:
        # It ends when the condition is hopeless, as a wait.
        return condition._open_for(test, immediate=True)[0]

    return Claim(core, open_slot, test, attempt, line=core, same=condition._source)
