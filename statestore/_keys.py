"""Declare the keys of a store."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Generic, Never, Protocol, TypeVar, final, overload

from statestore._lifecycle import Lifecycle, check_start
from statestore._records import ABSENT, Absent
from statestore._text import shorten
from statestore._values import check_immutable

if TYPE_CHECKING:
    # Only to say what a declaration turns into; at run time declarations know no stores.
    from statestore._family import Members
    from statestore._store import Store
    from statestore._value_watcher import ValueWatcher

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
V = TypeVar("V")


class Named(Protocol):
    """Anything with the name of a key."""

    @property
    def name(self) -> str:
        """The name."""
        ...


class Declaration:
    """What the body of a `Store` subclass declares under a name."""

    __slots__ = ("name",)

    name: str

    def __init__(self) -> None:
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        # A second name is refused by the store: Python 3.11 would disguise an error raised here.
        self.name = self.name or name

    if TYPE_CHECKING:
        # Not there at run time, so that what it stands for is found in the instance without a
        # detour. `Store.__setattr__()` refuses.
        def __set__(self, instance: Store, value: Never) -> None: ...


@final
class Key(Declaration, Generic[T]):
    """
    A key of a store, declared in the body of a `Store` subclass.

        class App(Store):
            port = Key(8080)
            config = Key[Config | None](None)

    `App.port` is the key, `app.port` its [`ValueWatcher`][] in the store `app`.

    Args:
        default: The value to begin with, in each instance of the store.

        lifecycle: Which values, or states of them, may follow which; any without it.

    Raises:
        IllegalTransitionError: *default* is in no state of *lifecycle*.
        MutableValueError: *default* can be changed in place.
        TypeError: *lifecycle* is none.
    """

    __slots__ = ("default", "lifecycle")

    default: T
    lifecycle: Lifecycle[Any] | None

    def __init__(self, default: T, *, lifecycle: Lifecycle[Any] | None = None) -> None:
        super().__init__()
        check_immutable(default, "default")
        check_start(default, "default", lifecycle)
        self.lifecycle = lifecycle
        self.default = default

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type[Store]) -> Key[T]: ...

        @overload
        def __get__(self, instance: Store, owner: type[Store]) -> ValueWatcher[T]: ...

        def __get__(self, instance: Store | None, owner: type[Store]) -> Any: ...

    def __repr__(self) -> str:
        return f"<Key {self.name or '(not in a store)'!r}, default {shorten(self.default)}>"


@final
class Family(Declaration, Generic[K, V]):
    """
    Keys that come and go while the program runs, declared in the body of a `Store` subclass.

        class App(Store):
            workers = Family[str, Worker]()
            attempts = Family[int, int](default=0)

    `App.workers` is the family, `app.workers` its [`Members`][] in the store `app`: none at first.

    Args:
        default: The value that a new member begins with, if none is given.
        lifecycle: That of each member; as that of a [`Key`][].

    Raises:
        IllegalTransitionError: *default* is in no state of *lifecycle*.
        MutableValueError: *default* can be changed in place.
        TypeError: *lifecycle* is none.
    """

    __slots__ = ("default", "lifecycle")

    default: V | Absent
    lifecycle: Lifecycle[Any] | None

    def __init__(
        self, *, default: V | Absent = ABSENT, lifecycle: Lifecycle[Any] | None = None
    ) -> None:
        super().__init__()
        if default is not ABSENT:
            check_immutable(default, "default")
        check_start(default, "default", lifecycle)
        self.default = default
        self.lifecycle = lifecycle

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type[Store]) -> Family[K, V]: ...

        @overload
        def __get__(self, instance: Store, owner: type[Store]) -> Members[K, V]: ...

        def __get__(self, instance: Store | None, owner: type[Store]) -> Any: ...

    def __repr__(self) -> str:
        return f"<Family {self.name or '(not in a store)'!r}>"
