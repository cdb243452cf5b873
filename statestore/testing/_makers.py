"""Make what a test needs, and leave nothing of it behind."""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeVar, final

from statestore._closing import Closable
from statestore._store import Store
from statestore._value_watcher import ValueWatcher
from statestore._watcher import Watcher
from statestore.testing._recording import RecordedTransitions
from statestore.testing._traces import assert_no_trace, traces_of

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound=Store | ValueWatcher[Any])


@final
class StoreMaker(Closable):
    """
    Make stores, see at the end that nobody is registered with one any more, and close them.

        with StoreMaker() as make_store:
            app = make_store(App)
            run_what_is_tested(app)

    For pytest it is the fixture `make_store`.

    Raises (at the end):
        AssertionError: A consumer is left, as in [`assert_no_trace`][]. Not asked for if an error
            has ended the block: then nobody could clean up.
    """

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: Final[list[Store | ValueWatcher[Any]]] = []

    def __call__(self, make: Callable[P, S], /, *args: P.args, **kwargs: P.kwargs) -> S:
        """Give what *make* makes of the arguments: most often a `Store` class, or a function."""
        return self.adopt(make(*args, **kwargs))

    def adopt(self, store: S, /) -> S:
        """Look after *store*, which somebody else made, as well."""
        self._made.append(store)
        return store

    def close(self, *, check: bool = True) -> None:
        """
        Close all that was made, after a look for what is left, unless *check* is false.

        Raises:
            AssertionError: A consumer is left. All are closed nevertheless.
        """
        __tracebackhide__ = True
        made = self._made.copy()
        self._made.clear()
        try:
            if check:
                # Garbage that is not collected yet is not left behind.
                if any(map(traces_of, made)):
                    gc.collect()
                for thing in made:
                    assert_no_trace(thing)
        finally:
            for thing in made:
                thing.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(check=kind is None)


@final
class TransitionRecorder(Closable):
    """
    Record the transitions of any number of watchers, and close the recordings at the end.

    For pytest it is the fixture `record_transitions`.
    """

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: Final[list[RecordedTransitions[Any]]] = []

    def __call__(self, watcher: Watcher[T], /) -> RecordedTransitions[T]:
        """Record the transitions of *watcher* from now on, as [`recorded`][]."""
        seen = RecordedTransitions(watcher)
        self._made.append(seen)
        return seen

    def close(self) -> None:
        """Close all recordings; what they have recorded stays."""
        for seen in self._made:
            seen.close()
