"""What cuts an operation short (P104, P109), or comes in between (P106, P107), at any point."""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import signal
import subprocess
import sys
import textwrap
import traceback
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from statestore import (
    CallbackFailure,
    Key,
    LaggedError,
    Store,
    StoreClosedError,
    Transition,
    ValueWatcher,
)
from statestore._core import NEXT, REVISION, VALUE
from statestore.testing import StepLoop
from support.interruptions import PACKAGE, each_point, interrupt, is_ours

LAST: Final = 1_000_000
"""The values that are set when all is over."""


class App(Store):
    """Three numbers."""

    left = Key(0)
    right = Key(0)
    extra = Key(0)


# What the tests cut operations short with.
CUTS: Final = (KeyboardInterrupt, MemoryError)

Log: TypeAlias = list[tuple[int, str, int, int]]
"""Revision, key, old and new value of each transition."""

Operation: TypeAlias = Callable[["World"], Any]


class World:
    """A store with every kind of consumer, each of which notes what it is told."""

    def __init__(self, *, listened: bool) -> None:
        self.failures: list[CallbackFailure] = []
        self.app = App(on_error=self.failures.append)
        self.loop = StepLoop()
        self.stack = ExitStack()
        self.starts = {name: self.app[name]._cell for name in self.app}
        self.told: list[tuple[str, int, int]] = []
        self.shown: dict[str, list[int]] = {name: [] for name in self.app}
        self.waits = {name: self.loop.create_task(self._wait(name)) for name in self.app}
        self.loop.settle()
        self.handles = []
        self.streams: dict[str, Any] = {}
        opened = self.stack.enter_context
        for name in self.app:
            self.streams[f"plain {name}"] = opened(self.app[name].subscribe())
        if listened:
            for name in self.app:
                callback = functools.partial(self._note, name)
                self.handles.append(self.app[name].on_change(callback))
                self.streams[f"wide {name}"] = opened(self.app[name].subscribe(maxlen=1000))
            self.streams["narrow"] = opened(self.app.left.subscribe(maxlen=1))
            self.streams["latest"] = opened(self.app.left.subscribe(maxlen=1, overflow="latest"))
            self.streams["all"] = opened(self.app.subscribe())
            keys = (App.left, App.right, App.extra)
            self.streams["some"] = opened(self.app.subscribe(*keys, maxlen=1000))

    def _note(self, name: str, old: int, new: int) -> None:
        self.told.append((name, old, new))

    async def _wait(self, name: str) -> int:
        def look(value: int) -> bool:
            self.shown[name].append(value)
            return value == LAST

        found: int = await self.app[name].wait_until(look, immediate=False)
        return found

    def log(self) -> Log:
        """List what the chains say, in order."""
        found = []
        for name, start in self.starts.items():
            before = start
            while (after := before[NEXT]) is not None:
                found.append((after[REVISION], name, before[VALUE], after[VALUE]))
                before = after
        return sorted(found, key=lambda transition: transition[0])

    def state(self) -> tuple[int, ...]:
        """Look at the values and the revision, in every way there is."""
        app = self.app
        snapshot = app.snapshot()
        values = [app[name].value for name in app]
        assert values == [snapshot[name] for name in app]
        assert app.revision == snapshot.revision
        assert app.revision == max(app[name].revision for name in app)
        return (*values, app.revision)

    def check(self) -> None:
        """Make one more commit of each key; all consumers must agree with the log then."""
        if self.app.is_closed:
            self.app.close()
        else:
            for name in self.app:
                self.app[name].value = LAST
        self.loop.settle()
        log = self.log()
        assert [*range(1, self.app.revision + 1)] == [*_counts(log)]
        if self.handles:
            expected = [(key, old, new) for _, key, old, new in log]
            assert _by_revision(log, expected) == _by_revision(log, self.told)
        for name, wait in self.waits.items():
            self._check_wait(name, wait, log)
        for name, stream in self.streams.items():
            self._check_stream(name, stream, log)

    def _check_wait(self, name: str, wait: asyncio.Task[int], log: Log) -> None:
        error = wait.exception()
        if isinstance(error, CUTS):
            # It landed in the test of the wait, which is as if the test had raised it.
            return
        # One that cuts the showing short has the same value shown again.
        shown = [value for value, _ in itertools.groupby(self.shown[name])]
        assert [new for _, key, _, new in log if key == name] == shown
        if self.app.is_closed:
            assert isinstance(error, StoreClosedError)
        else:
            assert LAST == wait.result()

    def _check_stream(self, name: str, stream: Any, log: Log) -> None:
        records, missed = _drain(stream)
        if name in {"all", "some"}:
            assert log == [
                (t.revision, t.key, t.old, t.new) for commit in records for t in commit.transitions
            ]
            return
        key = "left" if name in {"narrow", "latest"} else name.rsplit(maxsplit=1)[-1]
        mine = [transition for transition in log if transition[1] == key]
        found = [(t.revision, t.key, t.old, t.new) for t in records]
        if name == "narrow":
            assert mine[-1:] == found
            assert len(mine) - len(found) == missed
        elif name == "latest":
            assert len(mine) == sum(1 + t.missed for t in records)
            if mine:
                assert [(mine[-1][0], key, mine[0][2], mine[-1][3])] == found
        else:
            assert mine == found

    def close(self) -> None:
        """Leave nothing behind."""
        self.stack.close()
        self.app.close()
        self.loop.settle()
        for wait in self.waits.values():
            if wait.done() and not wait.cancelled():
                wait.exception()
        self.loop.__exit__(None, None, None)


def _counts(log: Log) -> dict[int, int]:
    counts: dict[int, int] = {}
    for revision, *_ in log:
        counts[revision] = counts.get(revision, 0) + 1
    return counts


def _by_revision(log: Log, told: list[tuple[str, int, int]]) -> list[Any]:
    # Inside of one commit the order of the keys is that in which they were set.
    rest = iter(told)
    groups = [sorted(itertools.islice(rest, count)) for count in _counts(log).values()]
    return [*groups, *rest]


def _drain(stream: Any) -> tuple[list[Any], int]:
    records, missed = [], 0
    while stream.pending:
        try:
            records.append(stream.get_nowait())
        except LaggedError as error:
            missed += error.missed
    return records, missed


# --- The operations that are cut short


def do_set(world: World) -> Any:
    """Set a value."""
    return world.app.left.set(1)


def do_update(world: World) -> Any:
    """Make a value of the one before."""
    return world.app.left.update(lambda old: old + 1)


def do_set_if(world: World) -> Any:
    """Set a value on a condition."""
    return world.app.left.set_if(1, lambda old: old != 1)


def do_transact(world: World) -> Any:
    """Change two keys in one commit."""

    def move(tx: Any) -> None:
        tx[App.left] = tx[App.left] - 1
        tx[App.right] = tx[App.right] + 1

    return world.app.transact(move)


def do_move(world: World) -> Any:
    """Change two keys in one commit, without a function."""
    with world.app.transaction() as tx:
        tx[App.left] = tx[App.left] - 1
        tx[App.right] = tx[App.right] + 1


def do_on_change(world: World) -> Any:
    """Register a callback."""
    return world.app.left.on_change(lambda _old, _new: None)


def do_on_value(world: World) -> Any:
    """Register a callback for one value."""
    return world.app.left.on_value(0, lambda: None)


def do_subscribe(world: World) -> Any:
    """Open a subscription."""
    with world.app.left.subscribe() as stream:
        return stream.pending


def do_subscribe_bounded(world: World) -> Any:
    """Open a bounded subscription."""
    with world.app.left.subscribe(maxlen=2) as stream:
        return stream.pending


def do_subscribe_all(world: World) -> Any:
    """Follow all commits."""
    with world.app.subscribe() as stream:
        return stream.pending


def do_subscribe_some(world: World) -> Any:
    """Follow the commits of some keys."""
    with world.app.subscribe(App.left, maxlen=2, overflow="latest") as stream:
        return stream.pending


def do_snapshot(world: World) -> Any:
    """Look at all values."""
    return world.app.snapshot()


def do_drain(world: World) -> Any:
    """Set a value and let the loop show it to those who wait."""
    world.app.left.value = 1
    world.loop.settle()


def do_cascade(world: World) -> Any:
    """Set a value with a callback that sets another one."""
    with world.app.left.on_change(lambda _old, new: world.app.extra.set(new)):
        return world.app.left.set(1)


def do_close(world: World) -> Any:
    """Close the store."""
    return world.app.close()


OPERATIONS: Final = [
    do_set,
    do_update,
    do_set_if,
    do_transact,
    do_on_change,
    do_on_value,
    do_subscribe,
    do_subscribe_bounded,
    do_subscribe_all,
    do_subscribe_some,
    do_snapshot,
    do_cascade,
    do_close,
]


# What an exception cuts off from its `with` block is closed by its finalizer, which says so.
pytestmark = pytest.mark.filterwarnings("ignore:.* was never closed:ResourceWarning")

LISTENED: Final = pytest.mark.parametrize("listened", [False, True], ids=["quiet", "listened"])


@LISTENED
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_interrupted_operation_is_wholly_done_or_wholly_undone(
    operation: Operation, *, listened: bool
) -> None:
    """P104, P109: wherever an exception lands, the store says one thing, and all agree with it."""
    allowed = states_of(operation, listened=listened)
    make = functools.partial(World, listened=listened)
    for world, result in each_point(make, operation, lambda _: interrupt, everywhere=False):
        assert isinstance(result, KeyboardInterrupt)
        assert world.state() in allowed
        world.check()


def states_of(operation: Operation, *, listened: bool) -> list[tuple[int, ...]]:
    """Give the state before *operation* and those after each commit of it."""
    world = World(listened=listened)
    states = [world.state()]
    operation(world)
    values = dict.fromkeys(world.app, 0)
    for revision, changes in itertools.groupby(world.log(), key=lambda change: change[0]):
        values |= {key: new for _, key, _, new in changes}
        states.append((*values.values(), revision))
    world.check()
    world.close()
    return states


@LISTENED
def test_an_interrupted_wake_up_loses_nothing(*, listened: bool) -> None:
    """P104: an exception that lands while waits are shown what is new has it shown again."""
    make = functools.partial(World, listened=listened)
    for world, error in each_point(make, do_drain, lambda _: interrupt, everywhere=False):
        if not _is_lost(error):
            world.check()


def _is_lost(error: Any) -> bool:
    """Tell whether it landed before the first line of what the loop called: there that is lost."""
    *_, (frame, line) = (at for at in traceback.walk_tb(error.__traceback__) if is_ours(at[0]))
    return frame.f_code.co_name == "_drain" and line == frame.f_code.co_firstlineno


class Herd:
    """Tasks that one commit wakes: waits, reads, and a block of work."""

    def __init__(self) -> None:
        self.app = App()
        self.loop = StepLoop()
        self.stack = ExitStack()
        sub = self.stack.enter_context(self.app.left.subscribe())
        waits: list[Any] = [
            self.app.left.wait_for(LAST),
            self.app.left.wait_until(lambda left: left == LAST),
            self.app.left.wait_for_change(timeout=5),
            anext(sub),
            self._work(),
            self.app.left.map(lambda left: -left).wait_for(-LAST),
        ]
        self.tasks = [self.loop.create_task(wait) for wait in waits]
        self.loop.settle()

    async def _work(self) -> None:
        async with self.app.left.during(0):
            await asyncio.Event().wait()

    def check(self) -> None:
        """All have gone on, be it with the interrupt."""
        self.loop.settle()
        assert [True] * 6 == [task.done() for task in self.tasks]
        errors = [task.exception() for task in self.tasks if not task.cancelled()]
        assert len(errors) >= 5
        assert sum(isinstance(error, CUTS) for error in errors if error is not None) <= 1

    def close(self) -> None:
        """Leave nothing behind."""
        self.stack.close()
        self.loop.__exit__(None, None, None)
        for task in self.tasks:
            if not task.cancelled():
                task.exception()


def woken() -> Herd:
    """Give a herd that was woken, and the loop has not looked."""
    herd = Herd()
    herd.app.left.value = LAST
    return herd


# In what is called when an object dies, an interrupt goes no further.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_whoever_is_to_go_on_does_so_after_an_interrupt() -> None:
    """P104: wherever it lands between finding those to wake and running the last of them."""
    for herd, error in each_point(
        woken, lambda herd: herd.loop.settle(), lambda _: interrupt, everywhere=False
    ):
        if error is None or not _is_lost(error):
            herd.check()


# --- What comes in between


def use_set(world: World) -> None:
    """Set the same key, and read it."""
    made = world.app.left.set(50)
    assert isinstance(made, Transition)
    assert (50, made.revision) == (world.app.left.value, world.app.left.revision)


def use_other(world: World) -> None:
    """Set another key, and read both in one snapshot."""
    left = world.app.left.value
    made = world.app.right.set(50)
    assert isinstance(made, Transition)
    snapshot = world.app.snapshot()
    assert (left, 50) == (snapshot["left"], snapshot["right"])
    assert made.revision <= snapshot.revision


def use_conditions(world: World) -> None:
    """Set on a condition, and make a value of the one before."""
    before = world.app.left.value
    assert world.app.left.set_if(50, lambda old: old == before)
    assert not world.app.left.compare_and_set(before, 51)
    made = world.app.left.update(lambda old: old + 2)
    assert made is not None
    assert (50, 52, 52) == (made.old, made.new, world.app.left.value)


def use_transaction(world: World) -> None:
    """Change both keys in one commit."""
    with world.app.transaction() as tx:
        left, right = tx[App.left], tx[App.right]
        tx[App.left], tx[App.right] = left + 50, right + 50
    assert (left + 50, right + 50) == (world.app.left.value, world.app.right.value)
    assert world.app.left.revision == world.app.right.revision


def use_streams(world: World) -> None:
    """Open subscriptions, set, and take."""
    app = world.app
    with (
        app.left.subscribe() as plain,
        app.left.subscribe(maxlen=1) as one,
        app.subscribe() as all_,
    ):
        app.left.value = 50
        assert [50] == [t.new for t in _drain(plain)[0]]
        assert [50] == [t.new for t in _drain(one)[0]]
        commits = [commit.transitions[0] for commit in _drain(all_)[0]]
        assert [50] == [t.new for t in commits if t.key == "left"]


def use_callbacks(world: World) -> None:
    """Register a callback, and one for a value that is there."""
    seen: list[int] = []
    with world.app.left.on_change(lambda _old, new: seen.append(new)):
        world.app.left.on_value(world.app.left.value, functools.partial(seen.append, -1))
        assert [-1] == seen


def use_close(world: World) -> None:
    """Close the store."""
    world.app.close()
    assert world.app.is_closed
    with pytest.raises(StoreClosedError):
        world.app.left.value = 60


USES: Final = [
    use_set,
    use_other,
    use_conditions,
    use_transaction,
    use_streams,
    use_callbacks,
    use_close,
]


def interpose(use: Callable[[World], None], world: World) -> None:
    """Do *use* unless the interrupted operation has closed the store already."""
    try:
        use(world)
    except StoreClosedError:
        assert world.app.is_closed


def check_result(operation: Operation, result: Any, world: World) -> None:
    """Compare what *operation* gave with what the log says."""
    log = world.log()
    if isinstance(result, StoreClosedError):
        assert world.app.is_closed
    elif operation in {do_set, do_update, do_cascade}:
        assert (result.revision, "left", result.old, result.new) in log
        assert operation is not do_update or result.new == result.old + 1
    elif operation is do_set_if:
        assert result is True
        assert 1 in {new for *_, new in log}
    elif operation is do_transact:
        steps = {(revision, key): new - old for revision, key, old, new in log}
        assert [-1] == [step for step in steps.values() if step == -1]
        (revision,) = (revision for (revision, _), step in steps.items() if step == -1)
        assert 1 == steps[revision, "right"]
    elif operation is do_snapshot:
        values = dict.fromkeys(world.app, 0)
        values |= {key: new for revision, key, _, new in log if revision <= result.revision}
        assert values == dict(result)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("operation", [*OPERATIONS, do_drain])
def test_what_comes_in_between_is_exact(operation: Operation, use: Callable[[World], None]) -> None:
    """P106: at each bytecode, all that another use says is true, and the first one goes on."""
    step = 5 if operation is do_set and use is use_set else 41
    for world, result in each_point(
        functools.partial(World, listened=True),
        operation,
        lambda world: functools.partial(interpose, use, world),
        everywhere=True,
        step=step,
        first=USES.index(use) % step,
    ):
        check_result(operation, result, world)
        world.check()


@pytest.mark.parametrize("use", USES)
def test_what_comes_in_between_on_the_short_way_is_exact(use: Callable[[World], None]) -> None:
    """P106: the same where nobody listens but waits and queues without a bound."""
    for world, result in each_point(
        functools.partial(World, listened=False),
        do_set,
        lambda world: functools.partial(interpose, use, world),
        everywhere=True,
    ):
        check_result(do_set, result, world)
        world.check()


# --- Finalizers


class Hostile:
    """A value that does something when it dies."""

    def __init__(self, label: str, last_act: Callable[[str], object]) -> None:
        self.label = label
        self._last_act = last_act

    def __del__(self) -> None:
        self._last_act(self.label)


def label_of(value: object) -> str:
    """Name a value without keeping it."""
    return value.label if isinstance(value, Hostile) else str(value)


@pytest.mark.parametrize("maxlen", [None, 1, 3])
def test_a_value_may_use_the_watcher_when_it_dies(maxlen: int | None) -> None:
    """P107: a finalizer that reads and sets, wherever it comes, is a use like any other."""
    told: list[tuple[str, str]] = []
    revived: list[str] = []

    def last_act(label: str) -> None:
        revived.append(label)
        made = watcher.set(f"after {label}")
        assert made is not None
        assert made.new == f"after {label}"

    watcher: ValueWatcher[Any] = ValueWatcher("nothing")
    watcher.on_change(lambda old, new: told.append((label_of(old), label_of(new))))
    with ExitStack() as stack:
        if maxlen is not None:
            stack.enter_context(watcher.subscribe(maxlen=maxlen))
            stack.enter_context(watcher.subscribe(maxlen=maxlen, overflow="latest"))
        for number in range(30):
            watcher.value = Hostile(f"{number}", last_act)
        watcher.value = "end"

    assert 25 < len(revived)
    news = [new for _, new in told]
    assert ["nothing", *news[:-1]] == [old for old, _ in told]
    assert len(told) == watcher.revision
    assert label_of(watcher.value) == news[-1]
    assert {*map(str, range(30)), *(f"after {label}" for label in revived), "end"} == {*news}


def test_a_weak_reference_may_use_the_watcher_when_its_object_dies() -> None:
    """P107: so is the callback of a weak reference."""
    told: list[int] = []
    watcher: ValueWatcher[Any] = ValueWatcher(None)
    deaths = ValueWatcher(0, on_change=lambda _old, new: told.append(new))
    references = []
    for _ in range(30):
        value = Hostile("", lambda _label: None)
        references.append(weakref.ref(value, lambda _: deaths.update(lambda old: old + 1)))
        watcher.value = value
        del value
    watcher.value = None

    assert 30 == deaths.value
    assert [*range(1, 31)] == told


# --- Real signals

HAS_TIMERS: Final = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="this system has no signal.setitimer()"
)


@HAS_TIMERS
def test_a_signal_handler_may_use_the_store(untraced: None) -> None:
    """P106: a handler that comes in anywhere loses nothing, and nothing is lost for it."""
    world = World(listened=True)
    handled = 0

    def handle(_number: int, _frame: object) -> None:
        nonlocal handled
        handled += 1
        # Another signal may come while this one is handled.
        made = world.app.right.update(lambda old: old + 1)
        assert made is not None
        assert made.new <= world.app.right.value

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    number = 0
    try:
        while handled < 100:
            number += 1
            world.app.left.value = number
            if number % 50 == 0:
                world.loop.settle()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (number, handled) == (world.app.left.value, world.app.right.value)
    world.streams = {name: s for name, s in world.streams.items() if not name.startswith("wide")}
    world.streams.pop("some").close()
    world.check()
    world.close()


@HAS_TIMERS
def test_a_signal_handler_may_raise(untraced: None) -> None:
    """P104: real interrupts leave no lock held, no commit half done and nobody untold."""
    app = App()
    told: dict[int, int] = {}
    # Not written in Python, so that no interrupt can land inside.
    app.left.on_change(told.__setitem__)
    is_armed = False
    interrupted = number = 0

    def handle(_number: int, _frame: object) -> None:
        nonlocal is_armed
        if is_armed:
            is_armed = False
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handle)
    # What a tool has the collector call would swallow the interrupt.
    gc.disable()
    try:
        with app.left.subscribe() as plain, app.left.subscribe(maxlen=3) as bounded:
            while interrupted < 60:
                # Again and again, for the first may come before the handler is armed.
                pause = 0.0001 + interrupted * 0.000003
                signal.setitimer(signal.ITIMER_REAL, pause, pause)
                try:
                    is_armed = True
                    for _ in range(2_000_000):
                        number += 1
                        app.left.value = number
                    pytest.fail("the interrupt was swallowed")
                except KeyboardInterrupt:
                    interrupted += 1
                assert app.left.value in (number - 1, number)
                number = app.left.value
            app.left.value = number = number + 1
            found = [(t.old, t.new) for t in _drain(plain)[0]]
            kept, missed = _drain(bounded)
    finally:
        gc.enable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert app.revision == len(found)
    assert found == [*told.items()]
    assert [0, *(new for _, new in found[:-1])] == [old for old, _ in found]
    assert found[-3:] == [(t.old, t.new) for t in kept]
    assert len(found) - 3 == missed


# --- No memory


def check_without_memory() -> None:
    """Let the n-th allocation of each operation fail, for each n."""
    from _testcapi import remove_mem_hooks, set_nomemory  # noqa: PLC0415 -- where it exists

    # What a tool has the collector call would want memory, too.
    gc.disable()
    for operation in (do_set, do_move):
        for listened in (False, True):
            allowed = states_of(operation, listened=listened)
            for n in itertools.count():
                world = World(listened=listened)
                failed = False
                set_nomemory(n, n + 1)
                try:
                    operation(world)
                except MemoryError:
                    failed = True
                finally:
                    remove_mem_hooks()
                assert world.state() in allowed
                # A callback that cannot be called for want of memory is reported.
                done = not failed and not world.failures
                if not world.failures:
                    world.check()
                world.close()
                if done:
                    break


def test_no_allocation_that_fails_leaves_a_commit_half_done() -> None:
    """P105: MemoryError at any allocation leaves it wholly done or undone, and all agree."""
    pytest.importorskip("_testcapi", reason="this CPython was built without its test modules")
    paths = [str(Path(PACKAGE).parent), str(Path(__file__).parent.parent)]
    script = f"""
        import sys
        sys.path[:0] = {paths!r}
        from races.test_crash_points import check_without_memory
        check_without_memory()
    """
    done = subprocess.run(  # noqa: S603 -- this very Python
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == -signal.SIGSEGV:
        pytest.skip("without memory for a frame or a function this CPython dies of its own")
    assert (0, "") == (done.returncode, done.stderr)
