"""The helpers for tests: what they promise to those who test with them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from enum import Enum
from typing import Any
from unittest.mock import ANY

import attrs
import pytest

from statestore import (
    Commit,
    DerivationError,
    Family,
    Key,
    LaggedError,
    Ref,
    Store,
    StoreClosedError,
    SubscriptionError,
    Transition,
    ValueWatcher,
)
from statestore._mailbox import loop_mailbox
from statestore.testing import (
    BoomError,
    BrokenLoop,
    Hostile,
    Operation,
    Panic,
    Probe,
    Replay,
    StepLoop,
    StoreMaker,
    Stuck,
    TransitionRecorder,
    Undecided,
    assert_chain,
    assert_no_trace,
    assert_transitions,
    boom,
    equal_by,
    in_thread,
    inside,
    recorded,
    settle,
    traces_of,
)
from statestore.testing._settling import QUIET_TURNS, TURNS


class Conn(Enum):
    """The states of a connection."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class App(Store):
    """A little of everything."""

    conn = Key(Conn.OPEN)
    n = Key(0)
    text = Key[object]("")
    workers = Family[str, int]()


@pytest.fixture
def app() -> Iterator[App]:
    """Give a store that is closed in the end."""
    with App() as app:
        yield app


def message(act: Callable[[], object]) -> str:
    """Give what the `AssertionError` says that *act* raises."""
    with pytest.raises(AssertionError) as caught:
        act()
    return str(caught.value)


# Settling


def make_uvloop() -> asyncio.AbstractEventLoop:
    """Give the other event loop, where it is installed."""
    return pytest.importorskip("uvloop", reason="uvloop is not here").new_event_loop()


@attrs.frozen
class Mode:
    """A way to run a test on a loop."""

    name: str
    make: Callable[[], asyncio.AbstractEventLoop]
    debug: bool = False

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run *main* to its end."""
        with asyncio.Runner(loop_factory=self.make, debug=self.debug) as runner:
            runner.run(main())


each_loop = pytest.mark.parametrize(
    "mode",
    [
        Mode("asyncio", asyncio.new_event_loop),
        Mode("debug", asyncio.new_event_loop, debug=True),
        Mode("uvloop", make_uvloop),
        Mode("step", StepLoop),
        Mode("random", lambda: StepLoop(seed=3)),
    ],
    ids=lambda mode: mode.name,
)


@each_loop
def test_settling_delivers_what_is_committed(mode: Mode, app: App) -> None:
    """After it a task waits, or has got what it waited for."""

    async def main() -> None:
        task = asyncio.create_task(app.conn.wait_for(Conn.CLOSING))
        await settle(app)
        app.conn.value = Conn.CLOSING
        app.conn.value = Conn.CLOSED
        assert not task.done()

        await settle(app)

        assert Conn.CLOSING is task.result()

    mode.run(main)


@each_loop
def test_settling_follows_what_the_woken_ones_do(mode: Mode, app: App) -> None:
    """Those who are woken may set, and wake the next one, however often."""

    async def pass_on(number: int) -> None:
        await app.n.wait_for(number)
        app.n.value = number + 1

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(1, 51):
                group.create_task(pass_on(number))
            await settle(app)
            app.n.value = 1
            await settle(app)

            assert 51 == app.n.value

    mode.run(main)


@each_loop
def test_settling_reads_a_long_queue_to_its_end(mode: Mode, app: App) -> None:
    """A reader that lets others have their turn in between has read it all."""
    read: list[int] = []

    async def reader() -> None:
        with app.n.subscribe() as transitions:
            async for transition in transitions:
                read.append(transition.new)  # noqa: PERF401 -- one by one

    async def main() -> None:
        task = asyncio.create_task(reader())
        await settle(app)
        for number in range(1, 1001):
            app.n.value = number

        await settle(app)

        assert list(range(1, 1001)) == read
        task.cancel()

    mode.run(main)


@each_loop
def test_settling_gets_through_gather_and_its_like(mode: Mode, app: App) -> None:
    """Who waits for tasks that wait has gone on, too."""

    async def deep(level: int) -> int:
        if level == 0:
            return await app.n.wait_for(1)
        async with asyncio.timeout(10):
            return sum(await asyncio.gather(deep(level - 1), asyncio.sleep(0, 1)))

    async def main() -> None:
        inner = asyncio.gather(asyncio.shield(deep(10)), deep(10))
        task = asyncio.gather(inner, inner)
        await settle(app)
        app.n.value = 1

        await settle(app)

        assert [[11, 11], [11, 11]] == task.result()

    mode.run(main)


@each_loop
def test_settling_delivers_what_another_thread_set(mode: Mode, app: App) -> None:
    """What was committed before it is delivered, whoever did it."""

    async def main() -> None:
        task = asyncio.create_task(app.n.wait_for(1))
        await settle(app)
        in_thread(lambda: app.n.set(1))

        await settle(app)

        assert 1 == task.result()

    mode.run(main)


@each_loop
def test_settling_spends_no_time(mode: Mode, app: App) -> None:
    """Who waits for a timer is left waiting."""

    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(1000))

        await settle(app)

        assert not task.done()
        task.cancel()

    mode.run(main)


@each_loop
def test_two_tasks_can_settle_at_once(mode: Mode, app: App) -> None:
    """They do not wait for each other."""

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(settle(app))

    mode.run(main)


def test_settling_takes_any_watcher(app: App) -> None:
    """A watcher stands for its store, one that is derived too, and one that stands alone."""
    alone = ValueWatcher(0)

    async def main() -> None:
        for watcher in (app.n, app.n.map(abs), alone):
            task = asyncio.create_task(watcher.wait_for_change())
            await settle(watcher)
            app.n.value -= 1
            alone.value += 1
            await settle(watcher)
            assert task.done()

    asyncio.run(main())


def test_settling_waits_for_a_loop_that_takes_its_time(app: App) -> None:
    """What the store has told the loop is awaited, though the loop gets to it much later."""

    class Slow(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(
            self, callback: Any, *args: Any, context: Any = None
        ) -> asyncio.Handle:
            later = [callback]
            for _ in range(3 * QUIET_TURNS):
                later.append(lambda then=later[-1]: self.call_soon(then))
            return self.call_soon(later[-1])

    async def main() -> None:
        task = asyncio.create_task(app.n.wait_for(1))
        await settle(app)
        asyncio.get_running_loop().call_soon(app.n.set, 1)
        await asyncio.sleep(0)

        await settle(app)

        assert task.done()

    Mode("slow", Slow).run(main)


def go_on(times: int, seen: list[int]) -> None:
    """Be called so often, once in each turn, and note it."""
    if times:
        seen.append(times)
        asyncio.get_running_loop().call_soon(go_on, times - 1, seen)


@pytest.mark.parametrize("seed", range(5))
def test_settling_on_a_step_loop_leaves_nothing_ready(seed: int, app: App) -> None:
    """There it is exact, in any order: callbacks that make callbacks are run to their end."""
    seen: list[int] = []

    async def main() -> None:
        go_on(20, seen)
        await asyncio.gather(settle(app), settle(app))
        assert 20 == len(seen)

    with StepLoop(seed) as loop:
        loop.run(main())


def test_what_never_waits_is_named(app: App) -> None:
    """A task that goes on and on ends it, and the error tells which."""

    async def spin() -> None:
        for _ in iter(int, 1):
            await asyncio.sleep(0)

    async def main() -> None:
        task = asyncio.create_task(spin(), name="the spinner")
        with pytest.raises(Stuck, match=f"{TURNS:,} turns .* busy, with the spinner"):
            await settle(app)
        task.cancel()

    with StepLoop() as loop:
        loop.run(main())


def test_a_loop_that_cannot_be_woken_does_not_settle(app: App) -> None:
    """What is not delivered is not passed over in silence."""

    async def main() -> None:
        task = asyncio.create_task(app.n.wait_for(1))
        await settle(app)
        # From where the loop has to be woken.
        asyncio.get_running_loop().call_soon(app.n.set, 1)
        await asyncio.sleep(0)
        with pytest.raises(Stuck, match="busy, with callbacks"):
            await settle(app)
        assert not task.done()

    with BrokenLoop(RuntimeError) as loop:
        loop.run(main())


def test_settling_needs_a_task(app: App) -> None:
    """Elsewhere it says what to do instead."""
    settling = settle(app)
    with StepLoop() as loop, inside(loop), pytest.raises(RuntimeError, match=r"loop\.settle"):
        settling.send(None)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_who_has_settled_counts_again(app: App, is_cancelled: bool) -> None:
    """A task that settled before, or was cancelled in the middle of it, is awaited like others."""

    async def settle_and_spin() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await settle(app)
        for _ in iter(int, 1):
            await asyncio.sleep(0)

    async def main() -> None:
        first = asyncio.create_task(settle_and_spin(), name="the first")
        await asyncio.sleep(0)
        if is_cancelled:
            first.cancel()
        with pytest.raises(Stuck, match="the first"):
            await settle(app)
        first.cancel()

    with StepLoop() as loop:
        loop.run(main())


def test_loops_settle_each_on_its_own(app: App) -> None:
    """What settles on one loop meanwhile makes no difference to another one."""
    seen: list[int] = []

    async def main() -> None:
        go_on(20, seen)
        await settle(app)
        assert 20 == len(seen)

    with StepLoop() as one, StepLoop() as two:
        one.create_task(settle(app))
        one.step()
        two.run(main())


# Recorded transitions


def test_recorded_transitions_are_compared_by_their_values(app: App) -> None:
    """The list tells what the watcher became, one after the other, in the block and after it."""
    with recorded(app.conn) as seen:
        app.conn.value = Conn.CLOSING
        app.n.value = 1
        seen.assert_transitions([Conn.CLOSING])
        app.conn.value = Conn.CLOSED
        app.conn.value = Conn.OPEN
    app.conn.value = Conn.CLOSED

    assert_transitions(seen, [Conn.CLOSED, Conn.OPEN])
    assert_transitions(seen, [])


def test_recorded_transitions_can_be_looked_at(app: App) -> None:
    """All of them are there, asserted or not, whoever made them."""
    with recorded(app.n) as seen:
        app.n.value = 1
        seen.assert_transitions([1])
        in_thread(lambda: app.n.set(2))

        one, two = seen.transitions

    assert Transition(key="n", old=0, new=1, revision=1) == one
    assert Transition(key="n", old=1, new=2, revision=2) == two
    assert (one, two) == seen.transitions


def test_recording_costs_the_store_nothing(app: App) -> None:
    """Nothing is registered with it."""
    with recorded(app.n) as seen:
        app.n.value = 1

        assert_no_trace(app)

    seen.close()
    seen.assert_transitions([1])


def test_recording_works_on_a_loop(app: App) -> None:
    """Opened in a task and compared elsewhere, of a derived watcher too."""

    async def main() -> Any:
        recording = recorded(app.n.map(lambda n: n % 10))
        app.n.value = 11
        return recording

    with StepLoop() as loop:
        seen = loop.run(main())
    app.n.value = 22
    seen.assert_transitions([1, 2])
    seen.close()


def test_a_difference_is_marked(app: App) -> None:
    """The two lists stand side by side, and the first place where they differ is marked."""
    with recorded(app.text) as seen:
        for text in ("one", "two", "three"):
            app.text.value = text

        said = message(lambda: seen.assert_transitions(["one", "2", "three"]))

    assert (
        """\
transition 2 of text is not the expected one
    expected   made
    'one'      'one'     revision 1
  > '2'        'two'     revision 2
    'three'    'three'   revision 3"""
        == said
    )


def test_what_did_not_come_is_marked(app: App) -> None:
    """The message tells how many are missing."""
    with recorded(app.conn) as seen:
        app.conn.value = Conn.CLOSED

        said = message(lambda: assert_transitions(seen, [Conn.CLOSED, Conn.OPEN, Conn.CLOSED]))

    assert (
        """\
conn: 2 of 3 expected transitions did not come
    expected                  made
    <Conn.CLOSED: 'closed'>   <Conn.CLOSED: 'closed'>   revision 1
  > <Conn.OPEN: 'open'>       (nothing)
    <Conn.CLOSED: 'closed'>   (nothing)"""
        == said
    )


def test_nothing_is_left_over(app: App) -> None:
    """Transitions that nobody expected fail, and are still there afterwards."""
    with recorded(app.n) as seen:
        app.n.value = 1
        app.n.value = 2

        said = message(lambda: assert_transitions(seen, [1]))
        assert_transitions(seen, [1, 2])

    assert (
        """\
n: 1 left over, after 1 as expected
    expected    made
    1           1      revision 1
  > (nothing)   2      revision 2"""
        == said
    )


def test_a_long_list_is_shown_around_the_difference(app: App) -> None:
    """A few before it and some after it are enough."""
    with recorded(app.n) as seen:
        for number in range(1, 101):
            app.n.value = number

        said = message(lambda: seen.assert_transitions([*range(1, 50), 0, *range(51, 101)]))

    lines = said.splitlines()
    assert "    (44 more, as expected)" == lines[2]
    assert "    45         45     revision 45" == lines[3]
    assert "  > 0          50     revision 50" == lines[8]
    assert "    65         65     revision 65" == lines[-2]
    assert "    (35 more)" == lines[-1]


@pytest.mark.parametrize(
    ("expected", "made", "ends"),
    [
        pytest.param("x" * 70 + "y", "x" * 71, ["y' (str)", "x' (str)"], id="cut"),
        pytest.param(
            frozenset([*range(20)]), frozenset([*range(21)]), ["(frozenset)"] * 2, id="wide"
        ),
        pytest.param(
            Hostile(on_eq=Ref(lambda _: False), on_repr=Ref(lambda: "same")),
            Hostile(on_eq=Ref(lambda _: False), on_repr=Ref(lambda: "same")),
            ["same (Hostile)"] * 2,
            id="alike",
        ),
    ],
)
def test_what_the_table_cannot_tell_apart_is_shown_in_full(
    app: App, expected: object, made: object, ends: list[str]
) -> None:
    """Values that look alike, or are too long for it, stand below it."""
    with recorded(app.text) as seen:
        app.text.value = made

        said = message(lambda: seen.assert_transitions([expected]))

    last = said.splitlines()[-2:]
    assert ["    expected:", "    made:"] == [line.rpartition(": ")[0] + ":" for line in last]
    assert [True, True] == [line.endswith(end) for line, end in zip(last, ends, strict=True)]


def test_a_value_stands_in_one_line(app: App) -> None:
    """Whatever its repr is, and though it has none."""
    two_lines = Hostile(on_eq=Ref(lambda _: False), on_repr=Ref(lambda: "two\nlines"))
    broken = Hostile(on_eq=Ref(lambda _: False))
    with recorded(app.text) as seen:
        app.text.value = two_lines
        app.text.value = broken

        said = message(lambda: seen.assert_transitions(["x", "y"]))

    assert "two lines" in said
    assert "<Hostile with a broken repr>" in said


def test_anything_can_be_expected(app: App) -> None:
    """Values are compared by `expected == actual`, or are the same object."""
    strange = equal_by(lambda _: False)
    with recorded(app.text) as seen:
        app.text.value = 1
        app.text.value = strange

        seen.assert_transitions([ANY, strange])


def test_a_failure_has_its_place(app: App) -> None:
    """Where a derived watcher fails the class of its error is expected, and nothing else."""
    with recorded(app.n.map(lambda n: 6 // (n - 2))) as seen:
        for number in (1, 2, 3):
            app.n.value = number

        said = message(lambda: seen.assert_transitions([-6, 0, 6]))
        wrong = message(lambda: seen.assert_transitions([-6, LaggedError, 6]))
        seen.assert_transitions([-6, DerivationError, 6])
        values = [transition.new for transition in seen.transitions]

    assert "> 0          DerivationError   " in said
    assert "> LaggedError   DerivationError   " in wrong
    assert [-6, 6] == values


def test_a_failure_keeps_no_frames(app: App) -> None:
    """What is recorded of it does not hold on to whoever was running."""
    with recorded(app.n.map(lambda n: 1 // (n - 1))) as seen:
        app.n.value = 1
        seen.assert_transitions([DerivationError])

        assert [None] == [told.__traceback__ for told in seen._told]  # type: ignore[union-attr]


def test_a_subscription_can_be_compared(app: App) -> None:
    """All that it holds is taken, with what it lost or joined at its place."""
    with (
        app.n.subscribe(initial=True) as plain,
        app.n.blocking.subscribe(maxlen=1) as bounded,
        app.n.subscribe(maxlen=1, overflow="latest") as joining,
    ):
        for number in (1, 2, 3):
            app.n.value = number

        assert_transitions(plain, [0, 1, 2, 3])
        assert_transitions(plain, [])
        assert_transitions(bounded, [LaggedError, 3])
        said = message(lambda: assert_transitions(joining, [4]))

    assert "revision 3, and 2 missed" in said


def test_an_end_is_no_transition(app: App) -> None:
    """What came before a store was closed or a member was removed is compared, and that is all."""
    member = app.workers.add("w", 0)
    with recorded(member) as of_member, recorded(app.n) as of_key:
        member.value = 1
        del app.workers["w"]
        app.n.value = 1
        app.close()

        of_member.assert_transitions([1])
        of_key.assert_transitions([1])


def test_a_watcher_has_no_past(app: App) -> None:
    """It is refused, with the fix; so is a subscription that is closed."""
    with pytest.raises(TypeError, match="recorded"):
        assert_transitions(app.n, [])  # type: ignore[arg-type]
    with app.n.subscribe() as closed:
        pass
    with pytest.raises(SubscriptionError):
        assert_transitions(closed, [])


# Promises


def wait_on_loop(app: App, loop: StepLoop) -> Callable[[], object]:
    """Have a task wait; give what ends that."""
    task = loop.create_task(app.n.wait_for(1))
    loop.settle()

    def end() -> None:
        task.cancel()
        loop.settle()

    return end


def read_on_loop(app: App, loop: StepLoop) -> Callable[[], object]:
    """Have a task read a bounded subscription."""

    async def read() -> None:
        with app.n.subscribe(maxlen=1) as transitions:
            async for _ in transitions:
                pass

    task = loop.create_task(read())
    loop.settle()

    def end() -> None:
        task.cancel()
        loop.settle()

    return end


def derive_on_loop(app: App, loop: StepLoop) -> Callable[[], object]:
    """Have a task wait for what is derived."""
    task = loop.create_task(app.n.is_(1).wait())
    loop.settle()

    def end() -> None:
        task.cancel()
        loop.settle()

    return end


def block(app: App, loop: StepLoop) -> Callable[[], object]:
    """Have a thread wait."""
    thread = threading.Thread(target=app.n.blocking.wait_for, args=(1,))
    thread.start()
    while not traces_of(app):
        thread.join(0.001)

    def end() -> None:
        app.n.value = 1
        thread.join()

    return end


LEFT = {
    "wait": (wait_on_loop, {"ports of n: tasks that wait", "mailbox: tasks that wait for n"}),
    "read": (
        read_on_loop,
        {
            "rings of n: a bounded subscription",
            "ports of n: a task that reads a bounded subscription",
        },
    ),
    "derived": (derive_on_loop, {"ports of n: whoever follows what is derived"}),
    "thread": (block, {"ports of n: a thread that is blocked"}),
    "callback": (lambda app, _: app.n.on_change(boom).close, {"callbacks of n: <open callback"}),
    "all keys": (lambda app, _: app.subscribe().close, {"all keys: whoever follows several keys"}),
    "some keys": (
        lambda app, _: app.subscribe(app.n).close,
        {"groups of n: whoever follows several keys"},
    ),
    "family": (
        lambda app, _: app.workers.count().on_change(boom).close,
        {"family of workers: whoever follows several keys"},
    ),
}


@pytest.mark.parametrize(("begin", "expected"), LEFT.values(), ids=LEFT.keys())
def test_what_is_left_is_told(app: App, begin: Any, expected: set[str]) -> None:
    """Each kind of consumer is told of in words while it is there, and not afterwards."""
    with StepLoop() as loop:
        end = begin(app, loop)

        found = traces_of(app)
        said = message(lambda: assert_no_trace(app))
        end()

    assert set() == {line for line in expected if not any(one.startswith(line) for one in found)}
    assert "App still has consumers; end their waits, or close them:" == said.splitlines()[0]
    assert [f"    {line}" for line in found] == said.splitlines()[1:]
    assert_no_trace(app)


def test_what_is_not_told_yet_is_left(app: App) -> None:
    """Who waits on a loop that has not turned since the commit is left, and told of."""
    with StepLoop() as loop:
        loop.create_task(app.n.wait_for(1))
        loop.settle()
        app.n.value = 1

        assert "mailbox: tasks that wait, not told yet" in traces_of(app)


def test_what_a_closed_loop_did_not_tell_is_no_trace(app: App) -> None:
    """A loop may be closed right after a setter has told it of something; nobody is there then."""
    loop = asyncio.new_event_loop()
    mailbox = loop_mailbox(app._core, loop)
    mailbox.notify(mailbox.network(app._core))
    assert ["mailbox: whoever follows what is derived, not told yet"] == traces_of(app)

    loop.close()

    assert_no_trace(app)


def test_a_watcher_that_stands_alone_is_looked_at(app: App) -> None:
    """It is a store of its own."""
    alone = ValueWatcher(0)
    with alone.on_change(boom):
        assert 1 == len(traces_of(alone))
    assert_no_trace(alone)


def test_a_member_that_was_removed_is_looked_at(app: App) -> None:
    """Its store knows it no more, but it still knows who follows it."""
    member = app.workers.add("w", 0)
    with member.on_change(boom):
        del app.workers["w"]

        assert 1 == len(traces_of(member))
    assert_no_trace(member)


def test_a_chain_is_whole() -> None:
    """Each transition begins where the one before ended, and revisions rise."""
    chain = [
        Transition(key="n", old=0, new=1, revision=1),
        Transition(key="n", old=1, new=2, revision=5),
        Transition(key="n", old=2, new=0, revision=6),
    ]

    assert_chain(0, [])
    assert_chain(0, chain)

    assert "transition 1 does not follow 9 of revision 0" in message(lambda: assert_chain(9, chain))
    lost, repeated = [chain[0], chain[2]], [*chain, chain[0]]
    assert "transition 2" in message(lambda: assert_chain(0, lost))
    assert "transition 4" in message(lambda: assert_chain(0, repeated))


def commit(revision: int, *changes: tuple[str, object, object]) -> Commit:
    """Give a commit of these changes: key, old, new."""
    transitions = [
        Transition(key=key, old=old, new=new, revision=revision) for key, old, new in changes
    ]
    return Commit(revision=revision, transitions=tuple(transitions))


def test_a_replay_knows_every_state(app: App) -> None:
    """The commits of a store lead from its first values to its last, members included."""
    before = dict(app.snapshot())
    with app.subscribe() as commits:
        app.n.value = 1
        app.workers.add("w", 0)
        del app.workers["w"]
        replay = Replay(before, [commits.get_nowait() for _ in range(commits.pending)])

    assert [0, 1, 1, 1] == [state["n"] for state in replay.states]
    assert [False, False, True, False] == ["workers['w']" in state for state in replay.states]
    assert dict(app.snapshot()) == replay.last


@pytest.mark.parametrize(
    ("commits", "said"),
    [
        ([commit(2, ("a", 0, 1))], "revision 1 is due, but here is 2"),
        ([commit(1, ("a", 0, 1)), commit(1, ("a", 1, 2))], "revision 2 is due, but here is 1"),
        ([commit(1, ("a", 5, 1))], "it was 0 before"),
        ([commit(1, ("b", 0, 1))], "it was ABSENT before"),
    ],
)
def test_a_replay_finds_what_does_not_fit(commits: list[Commit], said: str) -> None:
    """A commit that is missing or repeated, or begins elsewhere, is told of."""
    assert said in message(lambda: Replay({"a": 0}, commits))


def did(before: int, after: int, **more: Any) -> Operation:
    """Give an operation of thread 1."""
    return Operation(thread=1, before=before, after=after, **more)


# The value of `a` is its revision less 10; it begins with revision 10.
HISTORY = [commit(revision, ("a", revision - 11, revision - 10)) for revision in (11, 12, 13)]


@pytest.mark.parametrize(
    "history",
    [
        [did(10, 10, reads={"a": 0}), did(10, 13, reads={"a": 2}), did(13, 13)],
        [did(10, 13, reads={"a": 1}, writes={"a": 2}), did(13, 13, reads={"a": 3}, revision=13)],
        [did(12, 13), Operation(thread=2, before=10, after=11)],
    ],
)
def test_a_history_is_explained(history: list[Operation]) -> None:
    """One revision between its start and its end explains each operation."""
    Replay({"a": 0}, HISTORY, revision=10).check(history)


@pytest.mark.parametrize(
    ("history", "said"),
    [
        ([did(10, 11, reads={"a": 2})], "no revision explains"),
        ([did(10, 13, reads={"a": 1}, writes={"a": 3})], "no revision explains"),
        ([did(10, 13, reads={"a": 1}, revision=12)], "no revision explains"),
        ([did(11, 12, reads={"a": 3}, revision=13)], "no revision explains"),
        ([did(10, 10, writes={"a": 0})], "no revision explains"),
        ([did(14, 15)], "no revision explains"),
        ([did(10, 12), did(11, 13)], "a revision went back"),
    ],
)
def test_a_history_that_cannot_be(history: list[Operation], said: str) -> None:
    """What was seen too early or too late, or in no order, is told of."""
    assert said in message(lambda: Replay({"a": 0}, HISTORY, revision=10).check(history))


# Hostile objects


def test_a_hostile_value_does_what_it_is_told(app: App) -> None:
    """A store takes it; whatever it was not told raises."""
    value = Hostile(on_eq=Ref(lambda _: True), on_hash=Ref(lambda: 7), on_repr=Ref(lambda: "told"))
    app.text.value = value

    assert app.text.value is value
    assert (True, True, 7, "told") == (value == 0, value != 0, hash(value), repr(value))
    for act in (lambda: Hostile() == 0, lambda: hash(Hostile()), lambda: repr(Hostile())):
        with pytest.raises(BoomError):
            act()


def test_hostile_functions_and_answers() -> None:
    """`boom` takes anything, and an undecided answer is none."""
    for arguments in ((), (1, 2)):
        with pytest.raises(BoomError):
            boom(*arguments)
    with pytest.raises(BoomError):
        bool(Undecided())
    assert "other" == (equal_by(lambda other: other) == "other")
    assert not issubclass(Panic, Exception)


def test_a_probe_lets_another_thread_act() -> None:
    """The first call acts in another thread, which has ended by then; the others only count."""
    threads: list[int] = []
    probe = Probe(lambda: threads.append(threading.get_ident()))
    probe(1, 2)
    probe()

    assert 2 == probe.calls
    assert 1 == len(threads)
    assert threading.get_ident() != threads[0]


def test_another_thread_that_gets_stuck_is_a_deadlock() -> None:
    """It is told of in time, and what another thread raises is raised here."""
    event = threading.Event()

    assert "a deadlock" in message(lambda: in_thread(event.wait, timeout=0))
    event.set()
    assert in_thread(event.wait)
    with pytest.raises(BoomError):
        in_thread(boom)


def test_a_broken_loop_can_be_mended() -> None:
    """It raises an error of its kind at each call, until it is mended."""
    with BrokenLoop(OSError) as loop:
        for _ in range(2):
            with pytest.raises(OSError):  # noqa: PT011 -- it has no message
                loop.call_soon_threadsafe(boom)
        loop.mend()
        seen: list[int] = []
        loop.call_soon_threadsafe(seen.append, 1)
        loop.settle()

    assert 2 == loop.refusals
    assert [1] == seen


# What makes things, and leaves nothing behind


def test_what_was_made_is_closed() -> None:
    """Stores and watchers, made or adopted, are closed when the block is left."""
    reported: list[object] = []
    with StoreMaker() as make_store:
        app = make_store(App, on_error=reported.append)
        alone = make_store(ValueWatcher, 5)
        adopted = make_store.adopt(App())
        with app.n.on_change(boom):
            app.n.value = 1

    assert 1 == len(reported)
    for store in (app, adopted):
        assert store.is_closed
    with pytest.raises(StoreClosedError):
        alone.value = 6
    make_store.close()


def test_who_is_left_fails_the_test() -> None:
    """A consumer that is still registered is an error, and all are closed nevertheless."""
    make_store = StoreMaker()
    first, second = make_store(App), make_store(App)
    handle = first.n.on_change(boom)

    assert "callbacks of n: <open callback" in message(make_store.close)
    assert (True, True) == (first.is_closed, second.is_closed)
    make_store.close()
    handle.close()


def test_an_error_is_not_hidden_by_what_it_left() -> None:
    """A block that an error has ended is not looked at, but its stores are closed."""
    with pytest.raises(BoomError), StoreMaker() as make_store:
        app = make_store(App)
        app.n.on_change(boom)
        boom()

    assert app.is_closed


def test_garbage_is_not_left_behind() -> None:
    """What nobody can reach is no consumer, collected or not."""
    make_store = StoreMaker()
    cycle: list[Any] = [make_store(App).n.subscribe(maxlen=1)]
    cycle.append(cycle)
    del cycle

    with pytest.warns(ResourceWarning, match="was never closed"):
        make_store.close()


def test_recordings_end_with_their_recorder(app: App) -> None:
    """What was recorded stays, and nothing is recorded any more."""
    with TransitionRecorder() as record:
        seen, other = record(app.n), record(app.conn)
        app.n.value = 1
    app.n.value = 2

    seen.assert_transitions([1])
    other.assert_transitions([])
