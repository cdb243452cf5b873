"""
Cut an operation short, or let something come in between, at any point of it.

CPython looks for signals where a function starts, after a call of what is not written in Python,
and where a loop jumps back. There an exception can land, and there, or wherever an object dies,
other code can run in the same thread. It is brought about at each such point in turn, by tracing
the bytecodes of the package.
"""

from __future__ import annotations

import dis
import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, Protocol, TypeVar

import pytest

import statestore
from statestore import StoreClosedError, testing
from support.twin import IS_COMPILED

PACKAGE: Final = os.path.dirname(statestore.__file__)  # noqa: PTH120 -- as code objects have it
HELPERS: Final = os.path.dirname(testing.__file__)  # noqa: PTH120 -- see above

# Whatever tells a trace function that something was called that Python did not write.
CALLS: Final = {"CALL", "CALL_KW", "CALL_FUNCTION_EX", "PRECALL"}


class Closing(Protocol):
    """What leaves nothing behind when it is closed."""

    def close(self) -> None:
        """Leave nothing behind."""


W = TypeVar("W", bound=Closing)


@functools.cache
def _names(code: CodeType) -> dict[int, str]:
    return {found.offset: found.opname for found in dis.get_instructions(code)}


class Tracer:
    """
    Call *act* once, at the *n*-th bytecode of the package, or the *n*-th point for a signal.

    What *act* raises comes out of there. The modules that are *passed over* do not count.
    """

    def __init__(
        self,
        n: int,
        act: Callable[[], None],
        *,
        everywhere: bool,
        passing_over: frozenset[str] = frozenset(),
    ) -> None:
        self._left = n
        self._act = act
        self._everywhere = everywhere
        self._passed_over = passing_over
        # Frames whose last instruction called what was not written in Python, as far as known.
        self._called: dict[FrameType, None] = {}
        self.has_fired = False

    def run(self, operation: Callable[[], Any]) -> Any:
        """Run *operation* under this tracer."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            return operation()
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, arg: object) -> Any:
        if self.has_fired:
            return None
        code, caller = frame.f_code, frame.f_back
        is_ours = _belongs_to_us(code)
        if caller in self._called and not _is_called_by_c(code, caller, is_ours=is_ours):
            # Called without leaving the interpreter's loop, which looks for signals in this frame.
            del self._called[caller]
        if not is_ours or code.co_name == "__del__":
            return None
        # CPython 3.13 heeds the second only after the first.
        frame.f_trace = self._step
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if not self._everywhere:
            self._count(code)
        return self._step

    def _step(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode" and not self.has_fired:
            name = _names(frame.f_code)[frame.f_lasti]
            after_call = frame in self._called
            self._called.pop(frame, None)
            if name in CALLS:
                self._called[frame] = None
                after_call = after_call and name == "PRECALL"
            if self._everywhere or after_call or name == "JUMP_BACKWARD":
                self._count(frame.f_code)
        return self._step

    def _count(self, code: CodeType) -> None:
        if _module_of(code) in self._passed_over:
            return
        self._left -= 1
        if self._left < 0:
            self.has_fired = True
            self._called.clear()
            self._act()


@functools.cache
def _module_of(code: CodeType) -> str:
    return Path(code.co_filename).stem


def _is_called_by_c(code: CodeType, caller: FrameType, *, is_ours: bool) -> bool:
    within = caller.f_code.co_name
    return (
        code.co_name.startswith(("__", "<genexpr>"))
        # Callbacks, which are called through `Context.run()` or `partial()`.
        or (within in {"_run_all", "call_now"} and not is_ours)
        or (within == "_run_all" and code.co_name == "_feed")
    )


def interrupt() -> None:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt


def is_ours(frame: FrameType) -> bool:
    """Tell whether *frame* runs code of the package."""
    return _belongs_to_us(frame.f_code)


@functools.cache
def _belongs_to_us(code: CodeType) -> bool:
    # What helps to test it, the deterministic loop above all, is no part of what is tested.
    file = code.co_filename
    return file.startswith(PACKAGE) and not file.startswith(HELPERS)


def each_point(
    make: Callable[[], W],
    operation: Callable[[W], Any],
    act: Callable[[W], Callable[[], None]],
    *,
    everywhere: bool,
    passing_over: frozenset[str] = frozenset(),
    step: int = 1,
    first: int = 0,
) -> Iterator[tuple[W, Any]]:
    """Run *operation* in a new world for each point; give the world and what came of it."""
    # The first time that code is run it is traced in part only.
    for number in itertools.chain([-1, -1], itertools.count(first, step)):
        world = make()
        n = 1_000_000 if number < 0 else number
        tracer = Tracer(n, act(world), everywhere=everywhere, passing_over=passing_over)
        try:
            try:
                result = tracer.run(functools.partial(operation, world))
            except (KeyboardInterrupt, StoreClosedError) as error:
                result = error
            if number < 0:
                continue
            if tracer.has_fired:
                yield world, result
            else:
                if IS_COMPILED and number == first:
                    pytest.skip("what is compiled cannot be cut short")
                assert number > first, "nothing was cut short at all"
                break
        finally:
            world.close()
