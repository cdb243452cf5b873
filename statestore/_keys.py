"""Declare the keys of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Never, Protocol, TypeVar, final, overload

from statestore._text import shorten
from statestore._values import check_immutable

if TYPE_CHECKING:
    # Only to say what a declaration turns into; at run time declarations know no stores.
    from statestore._store import Store
    from statestore._watcher import ValueWatcher

T = TypeVar("T")


class Named(Protocol):
    """Anything with the name of a key."""

    @property
    def name(self) -> str:
        """The name."""
        ...


@final
class Key(Generic[T]):
    """
    A key of a store, declared in the body of a `Store` subclass.

        class App(Store):
            port = Key(8080)
            config = Key[Config | None](None)

    `App.port` is the key, `app.port` its [`ValueWatcher`][] in the store `app`.

    Args:
        default: The value to begin with, in each instance of the store.

    Raises:
        MutableValueError: *default* can be changed in place.
    """

    __slots__ = ("default", "name")

    name: str
    default: T

    def __init__(self, default: T) -> None:
        check_immutable(default, "default")
        self.default = default
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        # A second name is refused by the store: Python 3.11 would disguise an error raised here.
        self.name = self.name or name

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type[Store]) -> Key[T]: ...

        @overload
        def __get__(self, instance: Store, owner: type[Store]) -> ValueWatcher[T]: ...

        def __get__(self, instance: Store | None, owner: type[Store]) -> Any: ...

        # Not there at run time, so that a watcher is found in the instance without a detour.
        # `Store.__setattr__()` refuses.
        def __set__(self, instance: Store, value: Never) -> None: ...

    def __repr__(self) -> str:
        return f"<Key {self.name or '(not in a store)'!r}, default {shorten(self.default)}>"
