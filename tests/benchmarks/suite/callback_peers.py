"""
Packages that call back: psygnal, reactivex, reaktiv, param, traitlets.

None of them lets a task wait or follow (reactivex and reaktiv do so at a higher price), so what is
between the callback and the task is written here, as a user would: a future that is set on a match,
a queue that is put to, through the loop if threads set.

Each is used in the quickest of the ways that it documents:

- psygnal has signals, and nothing that is derived but the properties of an `EventedModel`, which
  are all computed before and after each set. So what is between the signals is written here too.
  `emit_fast()` is the quickest way to emit, `emit()` the one that takes locks.
- reaktiv has its thread safety switched on, as by default.
- reactivex needs `distinct_until_changed` to keep equal results back. Differences that are merged
  and added up are quicker there than a `combine_latest` of 1,000.
- traitlets and param derive by callbacks that set, as psygnal here.
"""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from suite.calling_back import CallingBack, Wired
from suite.contender import (
    NO_THREADS,
    UNORDERED,
    Deriving,
    Drain,
    Put,
    Take,
    told,
)


class Signalled:
    """A value with a signal of psygnal."""

    __slots__ = ("_emit", "_value", "changed")

    def __init__(self, value: Any, changed: Any, emit: str) -> None:
        self._value = value
        self.changed = changed
        self._emit = getattr(changed, emit)

    def become(self, value: Any) -> None:
        if value != self._value:
            self._value = value
            self._emit(value)

    value = property(lambda self: self._value, become)


class Psygnal(Wired):
    name = "psygnal, emit_fast"
    emit = "emit_fast"

    def __init__(self) -> None:
        self._module = importlib.import_module("psygnal")

    def source(self, initial: Any) -> Any:
        return Signalled(initial, self._module.SignalInstance((object,)), self.emit)

    def putter(self, target: Any) -> Put:
        return target.become

    def connect(self, target: Any, call: Take) -> Callable[[], object]:
        target.changed.connect(call, check_nargs=False, on_ref_error="ignore")
        return lambda: target.changed.disconnect(call)


class PsygnalWithLocks(Psygnal):
    name = "psygnal, emit"
    emit = "emit"


class PsygnalEvented(Psygnal):
    """A dataclass with a compiled setter, which looks for signals at each set."""

    name = "psygnal, evented dataclass"
    only = frozenset({"W1 ", "W8 idle"})

    def __init__(self) -> None:
        super().__init__()

        @self._module.evented
        @dataclass
        class Evented:
            value: object

        self._kind = Evented

    def source(self, initial: Any) -> Any:
        return self._kind(initial)

    def connect(self, target: Any, call: Take) -> Callable[[], object]:
        target.events.value.connect(call, check_nargs=False, on_ref_error="ignore")
        return lambda: target.events.value.disconnect(call)

    putter = Deriving.putter


class Reactivex(CallingBack):
    name = "reactivex"
    gaps = frozenset({NO_THREADS, UNORDERED})

    def __init__(self) -> None:
        self._rx = importlib.import_module("reactivex")
        self._ops = importlib.import_module("reactivex.operators")
        self._subject = importlib.import_module("reactivex.subject").BehaviorSubject

    def source(self, initial: Any) -> Any:
        return self._subject(initial)

    def connect(self, target: Any, call: Take) -> Callable[[], object]:
        return target.pipe(self._ops.skip(1)).subscribe(call).dispose

    def push(self, target: Any, values: Iterable[Any]) -> None:
        for value in values:
            target.on_next(value)

    def putter(self, target: Any) -> Put:
        return target.on_next

    def push_each(self, targets: Iterable[Any], values: Iterable[Any]) -> None:
        for target, value in zip(targets, values, strict=True):
            target.on_next(value)

    def open_all(self, keep: Any, take: Take) -> Drain:
        return told([target.subscribe(take) for target in self.keys_of(keep)])

    def map(self, derived: Any, function: Callable[[Any], Any]) -> Any:
        return derived.pipe(self._ops.map(function))

    def combine(self, derived: Sequence[Any]) -> Any:
        return self._rx.combine_latest(*derived)

    def all_of(self, flags: Sequence[Any]) -> Any:
        ops = self._ops
        differences = [
            flag.pipe(
                ops.distinct_until_changed(), ops.skip(1), ops.map(lambda value: 1 if value else -1)
            )
            for flag in flags
        ]
        holding = sum(flag.value for flag in flags)
        return self._rx.merge(*differences).pipe(
            ops.scan(operator.add, holding), ops.map(lambda number: number == len(flags))
        )

    def listen(self, derived: Any, take: Take) -> Any:
        return derived.pipe(self._ops.distinct_until_changed()).subscribe(take)


class Reaktiv(CallingBack):
    name = "reaktiv"
    gaps = frozenset({UNORDERED})

    def __init__(self) -> None:
        self._module = importlib.import_module("reaktiv")

    def source(self, initial: Any) -> Any:
        return self._module.Signal(initial)

    def read(self, source: Any) -> Any:
        return source()

    def connect(self, target: Any, call: Take) -> Callable[[], object]:
        untracked = self._module.untracked
        first = True

        def run() -> None:
            nonlocal first
            value = target()
            if first:
                first = False
            else:
                untracked(lambda: call(value))

        return self._module.Effect(run).dispose

    def push(self, target: Any, values: Iterable[Any]) -> None:
        for value in values:
            target.set(value)

    def putter(self, target: Any) -> Put:
        return target.set

    def push_each(self, targets: Iterable[Any], values: Iterable[Any]) -> None:
        for target, value in zip(targets, values, strict=True):
            target.set(value)

    def map(self, derived: Any, function: Callable[[Any], Any]) -> Any:
        return self._module.Computed(lambda: function(derived()))

    def combine(self, derived: Sequence[Any]) -> Any:
        return self._module.Computed(lambda: tuple([each() for each in derived]))

    def all_of(self, flags: Sequence[Any]) -> Any:
        # A list: that the first false one ends it would cost more, in sources that come and go.
        return self._module.Computed(lambda: all([flag() for flag in flags]))  # noqa: C419 -- see above

    def listen(self, derived: Any, take: Take) -> Any:
        return self._module.Effect(lambda: take(derived()))


class Traitlets(Wired):
    name = "traitlets"

    def __init__(self) -> None:
        module = importlib.import_module("traitlets")
        self._kind = type("Traits", (module.HasTraits,), {"value": module.Any()})

    def source(self, initial: Any) -> Any:
        return self._kind(value=initial)

    def connect(self, target: Any, call: Take) -> Callable[[], object]:
        def hear(change: Any) -> None:
            call(change["new"])

        target.observe(hear, "value")
        return lambda: target.unobserve(hear, "value")


class Param(Wired):
    name = "param"

    def __init__(self) -> None:
        module = importlib.import_module("param")
        self._kind = type("Params", (module.Parameterized,), {"value": module.Parameter(0)})

    def source(self, initial: Any) -> Any:
        return self._kind(value=initial)

    def connect(self, target: Any, call: Take) -> Callable[[], object]:
        watcher = target.param.watch(lambda event: call(event.new), "value")
        return lambda: target.param.unwatch(watcher)


KINDS = (
    Psygnal,
    PsygnalWithLocks,
    PsygnalEvented,
    Reactivex,
    Reaktiv,
    Traitlets,
    Param,
)
