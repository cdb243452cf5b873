"""Legal moves: what is refused, and which waits are hopeless."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestore import (
    ABSENT,
    Condition,
    Family,
    IllegalTransitionError,
    Key,
    KeyRemovedError,
    Lifecycle,
    Store,
    UnreachableError,
    WaitTimeoutError,
    all_of,
    any_of,
    at_least,
)
from statestore.testing import StepLoop, assert_no_trace
from support.threads import Job


class Conn(enum.Enum):
    """A connection's states: it may be opened and closed, and ends for good."""

    IDLE = 1
    OPEN = 2
    ENDING = 3
    ENDED = 4


CONN = Lifecycle(
    {
        Conn.IDLE: {Conn.OPEN, Conn.ENDED},
        Conn.OPEN: {Conn.IDLE, Conn.ENDING},
        Conn.ENDING: {Conn.ENDED},
    }
)


class Link(NamedTuple):
    """A richer value."""

    state: Conn
    peer: str = ""


class App(Store):
    """Keys with and without a lifecycle."""

    conn = Key(Conn.IDLE, lifecycle=CONN)
    light = Key("red", lifecycle=Lifecycle({"red": {"green"}, "green": {"red", "off"}}))
    link = Key(Link(Conn.IDLE), lifecycle=Lifecycle(dict(CONN.moves), by=lambda link: link.state))
    free = Key(0)
    workers = Family[str, Conn](default=Conn.IDLE, lifecycle=CONN)


@pytest.fixture
def loop() -> Iterator[StepLoop]:
    """Give a loop that moves when told to."""
    with StepLoop() as loop:
        yield loop


class TestDeclaration:
    """What a lifecycle is made of."""

    def test_states_and_moves(self) -> None:
        """Targets are states, too; those without moves are final."""
        assert {Conn.ENDED} == CONN.final
        assert list(Conn) == list(CONN.moves)
        assert frozenset() == CONN.moves[Conn.ENDED]
        assert "<Lifecycle of 4 states>" == repr(CONN)

    @pytest.mark.parametrize(
        ("old", "new", "is_legal"),
        [
            (Conn.IDLE, Conn.OPEN, True),
            (Conn.IDLE, Conn.IDLE, True),
            (Conn.OPEN, Conn.ENDED, False),
            (Conn.ENDED, Conn.IDLE, False),
            (Conn.IDLE, "idle", False),
        ],
    )
    def test_allows(self, old: Conn, new: Any, is_legal: bool) -> None:
        """A move is legal if it is in the table; to stay always is."""
        assert is_legal is CONN.allows(old, new)

    def test_reachable(self) -> None:
        """What can be reached takes one move or more; a cycle leads back."""
        assert frozenset(Conn) == CONN.reachable(Conn.IDLE)
        assert frozenset({Conn.ENDED}) == CONN.reachable(Conn.ENDING)
        assert frozenset() == CONN.reachable(Conn.ENDED)
        with pytest.raises(KeyError):
            CONN.reachable("idle")  # type: ignore[arg-type]

    def test_immutable(self) -> None:
        """The table cannot be changed, by its maker either."""
        moves = {"a": {"b"}}
        lifecycle = Lifecycle(moves)
        moves["a"].add("c")
        assert {"a": frozenset({"b"}), "b": frozenset()} == lifecycle.moves
        with pytest.raises(TypeError):
            lifecycle.moves["a"] = frozenset()  # type: ignore[index]

    @pytest.mark.parametrize(
        ("moves", "error", "message"),
        [
            ([("a", "b")], TypeError, "made of a mapping of states to sets of states"),
            ({"a": "bc"}, TypeError, "what may follow 'a' is a set of states, not 'bc'"),
            ({"a": 3}, TypeError, "what may follow 'a' is a set of states, not 3"),
            ({}, ValueError, "needs a state"),
            (
                {Conn.IDLE: {Conn.OPEN}},
                ValueError,
                "has no ENDING, ENDED; every member of Conn has to be there",
            ),
        ],
    )
    def test_bad_tables(self, moves: Any, error: type[Exception], message: str) -> None:
        """What is no table of moves is refused, with what is missing."""
        with pytest.raises(error, match=message):
            Lifecycle(moves)

    def test_an_asynchronous_by(self) -> None:
        """What takes the state out of a value is a plain function."""

        async def state_of(value: Any) -> Any:
            return value

        with pytest.raises(TypeError, match="what takes the state out of a value"):
            Lifecycle({"a": {"b"}}, by=state_of)

    @pytest.mark.parametrize("declare", [Key, lambda v, **kw: Family(default=v, **kw)])
    def test_a_default_outside(self, declare: Callable[..., object]) -> None:
        """A default that is in none of the states is refused where it is declared."""
        with pytest.raises(IllegalTransitionError, match="default cannot begin as 'blue'") as info:
            declare("blue", lifecycle=Lifecycle({"red": {"green"}}))
        error = info.value
        assert ("blue", {"red", "green"}) == (error.new, error.allowed)
        with pytest.raises(TypeError, match="lifecycle must be a Lifecycle, not 3"):
            declare("blue", lifecycle=3)

    def test_no_default(self) -> None:
        """A family without a default may have one."""
        assert ABSENT is Family(lifecycle=CONN).default

    def test_to_mermaid(self) -> None:
        """States in the order of the table, moves in that of the enum."""
        assert [
            "stateDiagram-v2",
            "    s0: IDLE",
            "    s1: OPEN",
            "    s2: ENDING",
            "    s3: ENDED",
            "    [*] --> s0",
            "    s0 --> s1",
            "    s0 --> s3",
            "    s1 --> s0",
            "    s1 --> s2",
            "    s2 --> s3",
            "    s3 --> [*]",
        ] == CONN.to_mermaid().splitlines()


def refusal(act: Callable[[], object]) -> IllegalTransitionError:
    """Give the refusal that *act* ends with."""
    with pytest.raises(IllegalTransitionError) as info:
        act()
    return info.value


class TestMoves:
    """What may be set."""

    def test_legal_ones(self) -> None:
        """A legal move is made; an equal value is none."""
        app = App()
        made = app.conn.set(Conn.OPEN)
        assert made is not None
        assert (Conn.IDLE, Conn.OPEN, 1) == (made.old, made.new, made.revision)
        assert app.conn.set(Conn.OPEN) is None
        app.conn.value = Conn.ENDING
        assert (Conn.ENDING, 2) == (app.conn.value, app.revision)

    @pytest.mark.parametrize(
        "change",
        [
            lambda app: setattr(app.conn, "value", Conn.ENDED),
            lambda app: app.conn.set(Conn.ENDED),
            lambda app: app.conn.set(Conn.ENDED, reason="why"),
            lambda app: app.conn.set_if(Conn.ENDED, lambda _old: True),
            lambda app: app.conn.compare_and_set(Conn.OPEN, Conn.ENDED),
            lambda app: app.conn.update(lambda _old: Conn.ENDED),
            lambda app: app.transact(lambda tx: tx.__setitem__(app.conn, Conn.ENDED)),
        ],
        ids=["value", "set", "reason", "set_if", "compare_and_set", "update", "transact"],
    )
    def test_illegal_ones(self, change: Callable[[App], object]) -> None:
        """Every way to set refuses an illegal move, says what is allowed, and changes nothing."""
        app = App()
        app.conn.value = Conn.OPEN
        with app.conn.subscribe() as sub:
            error = refusal(lambda: change(app))
            assert 0 == sub.pending
        assert ("conn", Conn.OPEN, Conn.ENDED, {Conn.IDLE, Conn.ENDING}, 1) == (
            error.key,
            error.old,
            error.new,
            error.allowed,
            error.revision,
        )
        assert (
            "conn cannot go from OPEN to ENDED; only IDLE, ENDING may follow OPEN, which it is "
            "since revision 1"
        ) == str(error)
        assert (Conn.OPEN, 1) == (app.conn.value, app.revision)

    def test_out_of_a_final_state(self) -> None:
        """Nothing follows a final state."""
        app = App()
        app.conn.value = Conn.ENDED
        error = refusal(lambda: app.conn.set(Conn.IDLE))
        assert "nothing may follow ENDED" in str(error)
        assert frozenset() == error.allowed

    @pytest.mark.parametrize("value", ["idle", 3, None])
    def test_what_is_no_state(self, value: Any) -> None:
        """A value outside the table is refused as any illegal move."""
        app = App()
        error = refusal(lambda: app.light.set(value))
        assert "only 'green' may follow 'red'" in str(error)

    def test_a_transaction_is_judged_by_what_it_commits(self) -> None:
        """Only the net move counts; one illegal move undoes all that is with it."""
        app = App()
        with app.transaction() as tx:
            tx[app.conn] = Conn.ENDING
            tx[app.conn] = Conn.OPEN
        assert Conn.OPEN == app.conn.value

        def both(tx: Any) -> None:
            tx[app.free] = 1
            tx[app.conn] = Conn.ENDED

        refusal(lambda: app.transact(both))
        assert (0, Conn.OPEN, 1) == (app.free.value, app.conn.value, app.revision)

    def test_judged_against_the_value_that_is_replaced(self) -> None:
        """A condition that sees another value than is there at the commit does not open the way."""
        app = App()
        app.conn.value = Conn.OPEN
        seen: list[Conn] = []

        def end(old: Conn) -> Conn:
            seen.append(old)
            if len(seen) == 1:
                # Somebody else comes first.
                app.conn.value = Conn.ENDING
            return Conn.ENDED

        made = app.conn.update(end)
        assert made is not None
        assert (Conn.ENDING, Conn.ENDED) == (made.old, made.new)
        # The first try was refused already, had it been judged by what was read.
        assert [Conn.OPEN, Conn.ENDING] == seen

    def test_richer_values(self) -> None:
        """With `by`, the state is taken out of the value; to stay in it is no move."""
        app = App()
        app.link.value = Link(Conn.IDLE, "a")
        app.link.value = Link(Conn.OPEN, "b")
        error = refusal(lambda: app.link.set(Link(Conn.ENDED)))
        assert "cannot go from OPEN to ENDED" in str(error)
        with pytest.raises(AttributeError):
            app.link.set(3)  # type: ignore[arg-type]
        assert Link(Conn.OPEN, "b") == app.link.value

    def test_a_state_without_a_hash(self) -> None:
        """What cannot be looked up is no state."""
        lifecycle: Lifecycle[Any] = Lifecycle({"a": {"b"}}, by=lambda value: value or [])
        key = Store().add("key", "a", lifecycle=lifecycle)
        assert "cannot go from 'a' to []" in str(refusal(lambda: key.set("")))

    def test_members(self) -> None:
        """Each member has the lifecycle of its family, and may be removed in any state."""
        app = App()
        app.workers.add("a").value = Conn.OPEN
        refusal(lambda: app.workers["a"].set(Conn.ENDED))
        refusal(lambda: app.transact(lambda tx: tx.__setitem__(app.workers["a"], Conn.ENDED)))
        error = refusal(lambda: app.workers.add("b", "idle"))  # type: ignore[arg-type]
        assert "workers['b'] cannot begin as 'idle'" in str(error)
        with app.transaction() as tx:
            tx.add(app.workers, "c", Conn.ENDING)
            refusal(lambda: tx.add(app.workers, "d", 3))  # type: ignore[arg-type]
        del app.workers["a"]
        app.workers.add("a", Conn.ENDED)
        assert [("a", Conn.ENDED), ("c", Conn.ENDING)] == sorted(
            app.workers.mapping.value.items(), key=lambda item: item[0]
        )

    def test_added_keys(self) -> None:
        """A key that is added at run time may have one."""
        app = App()
        refusal(lambda: app.add("late", "blue", lifecycle=Lifecycle({"red": {"green"}})))
        assert "late" not in app
        late = app.add("late", "red", lifecycle=Lifecycle({"red": {"green"}}))
        late.value = "green"
        refusal(lambda: late.set("red"))

    def test_threads(self) -> None:
        """Of many threads that make moves, none ever makes an illegal one."""
        app = App()
        moves: list[tuple[str, str]] = []
        app.light.on_change(lambda old, new: moves.append((old, new)))

        def wander() -> None:
            for _ in range(100):
                with contextlib.suppress(IllegalTransitionError):
                    app.light.value = "green" if app.light.value == "red" else "red"
                with pytest.raises(IllegalTransitionError):
                    app.light.value = "blue"

        for job in [Job(wander) for _ in range(4)]:
            job.result()
        assert {("red", "green"), ("green", "red")} == set(moves)
        assert [new for _, new in moves[:-1]] == [old for old, _ in moves[1:]]


def unreachable(task: asyncio.Task[Any]) -> UnreachableError:
    """Give the error that *task* ended with."""
    with pytest.raises(UnreachableError) as info:
        task.result()
    return info.value


WAITS: dict[str, Callable[[Any], Any]] = {
    "wait_for": lambda conn: conn.wait_for(Conn.OPEN),
    "wait_for later": lambda conn: conn.wait_for(Conn.OPEN, immediate=False),
    "is_": lambda conn: conn.is_(Conn.OPEN).wait(),
    "is_ for": lambda conn: conn.is_(Conn.OPEN).wait_for(True),
    "not": lambda conn: (~conn.is_not(Conn.OPEN)).wait(),
    "all": lambda conn: all_of(conn.is_(Conn.OPEN), conn.is_not(Conn.ENDED)).wait(),
    "any": lambda conn: any_of(conn.is_(Conn.OPEN), conn.is_(Conn.IDLE)).wait_for(True),
}


class TestWaits:
    """Waits for what cannot come any more."""

    @pytest.mark.parametrize("name", WAITS)
    def test_raise_at_once(self, name: str, loop: StepLoop) -> None:
        """A wait that is hopeless from the start does not suspend."""
        app = App()
        app.conn.value = Conn.OPEN
        app.conn.value = Conn.ENDING
        task = loop.create_task(WAITS[name](app.conn))
        loop.step()
        unreachable(task)
        del task
        assert_no_trace(app)

    @pytest.mark.parametrize("name", [name for name in WAITS if name != "any"])
    def test_raise_as_soon_as_it_is_so(self, name: str, loop: StepLoop) -> None:
        """A wait that becomes hopeless ends with the move that made it so."""
        app = App()
        task = loop.create_task(WAITS[name](app.conn))
        loop.settle()
        assert not task.done()
        app.conn.value = Conn.ENDED
        loop.settle()
        unreachable(task)
        del task
        assert_no_trace(app)

    @pytest.mark.parametrize("name", [name for name in WAITS if name != "any"])
    def test_what_came_before_is_found(self, name: str, loop: StepLoop) -> None:
        """A match that came before the way was lost is the result."""
        app = App()
        task = loop.create_task(WAITS[name](app.conn))
        loop.settle()
        app.conn.value = Conn.OPEN
        app.conn.value = Conn.ENDING
        loop.settle()
        assert task.result() in (None, True, Conn.OPEN)

    @pytest.mark.parametrize("name", WAITS)
    def test_threads(self, name: str) -> None:
        """Blocking waits end the same."""
        app = App()
        ready = threading.Event()
        blocking: dict[str, Callable[[], object]] = {
            "wait_for": lambda: app.conn.blocking.wait_for(Conn.OPEN),
            "wait_for later": lambda: app.conn.blocking.wait_for(Conn.OPEN, immediate=False),
            "is_": lambda: app.conn.is_(Conn.OPEN).blocking.wait_for(True),
            "is_ for": lambda: app.conn.is_not(Conn.OPEN).blocking.wait_for_not(True),
            "not": lambda: (~app.conn.is_not(Conn.OPEN)).blocking.wait_for(True),
            "all": lambda: all_of(app.conn.is_(Conn.OPEN)).blocking.wait_for(True),
            "any": lambda: any_of(app.conn.is_(Conn.OPEN)).blocking.wait_for_not(False),
        }

        def wait() -> object:
            ready.set()
            return blocking[name]()

        job = Job(wait)
        ready.wait(20)
        app.conn.value = Conn.ENDED
        with pytest.raises(UnreachableError):
            job.result()

    def test_the_error_says_what_and_why(self, loop: StepLoop) -> None:
        """The error names the watcher, what was waited for, and where it stands."""
        app = App()
        app.conn.value = Conn.ENDED
        task = loop.create_task(app.conn.wait_for(Conn.OPEN))
        loop.settle()
        error = unreachable(task)
        assert ("conn", "conn to be OPEN", Conn.ENDED) == (
            error.key,
            error.waited_for,
            error.value,
        )
        assert (
            "no legal moves lead any more to conn to be OPEN; it is ENDED since revision 1"
        ) == str(error)

    def test_the_error_tells_of_the_wait(self, loop: StepLoop) -> None:
        """P14: what the wait saw, and the parts of a condition, are told as by any failed wait."""
        app = App()
        task = loop.create_task(app.conn.wait_for(Conn.OPEN))
        parts = loop.create_task((app.conn.is_(Conn.OPEN) & app.light.is_("green")).wait())
        loop.settle()
        app.conn.value = Conn.ENDED
        loop.settle()
        report = unreachable(task).wait
        assert report is not None
        assert ("conn to be OPEN", Conn.ENDED, 1) == (
            report.waited_for,
            report.value,
            report.revision,
        )
        assert [Conn.ENDED] == [transition.new for transition in report.transitions]
        assert (
            "no legal moves lead any more to all of 2: conn NO (is ENDED), light NO (is 'red')"
        ) in str(unreachable(parts))
        with app.conn.subscribe() as sub, pytest.raises(UnreachableError, match="it is ENDED") as e:
            loop.run(sub.wait_for(Conn.OPEN))
        assert e.value.wait is not None
        with pytest.raises(UnreachableError, match="it is ENDED since revision 1"):
            app.conn.blocking.wait_for(Conn.OPEN)

    def test_what_a_predicate_raises_tells_of_its_own(self, loop: StepLoop) -> None:
        """An error that a predicate lets through is that of the wait that it made."""
        app, other = App(), App()
        other.conn.value = Conn.ENDED

        def look(value: Conn) -> bool:
            with other.conn.subscribe() as sub, StepLoop() as own:
                return bool(own.run(sub.wait_for(value)))

        def look_elsewhere(value: Conn) -> bool:
            return Job(lambda: look(value)).result()

        task = loop.create_task(app.conn.wait_until(look_elsewhere))
        loop.settle()
        assert "conn to be IDLE; it is ENDED since revision 1" in str(unreachable(task))

    @pytest.mark.parametrize(
        ("state", "wait", "is_hopeless"),
        [
            (Conn.ENDED, lambda w: w.wait_for_change(), True),
            (Conn.ENDING, lambda w: w.wait_for_change(), False),
            (Conn.ENDED, lambda w: w.wait_for_not(Conn.ENDED), True),
            (Conn.ENDED, lambda w: w.wait_for(Conn.ENDED, immediate=False), True),
            (Conn.ENDING, lambda w: w.wait_for_not(Conn.ENDING), False),
            (Conn.ENDED, lambda w: w.wait_until(lambda state: state == Conn.IDLE), False),
            (Conn.IDLE, lambda w: w.wait_for("idle"), True),
            (Conn.IDLE, lambda w: w.wait_for_not_none(immediate=False), False),
            (Conn.ENDED, lambda w: w.wait_for_not_none(immediate=False), True),
            (Conn.ENDED, lambda w: w.is_not(Conn.ENDED).wait(), True),
            (Conn.ENDED, lambda w: w.is_(Conn.ENDED).wait_for(False), True),
            (Conn.ENDED, lambda w: w.is_(Conn.OPEN).wait_for_change(), False),
            (Conn.ENDED, lambda w: w.matches(lambda _state: False).wait(), False),
            (Conn.ENDED, lambda w: w.map(str).wait_for("x"), False),
            (Conn.ENDED, lambda w: w.is_(Conn.OPEN).wait_until(lambda value: value), False),
        ],
    )
    def test_what_is_decided(
        self, state: Conn, wait: Callable[[Any], Any], is_hopeless: bool, loop: StepLoop
    ) -> None:
        """Our own tests are decided; a predicate is never asked about values that never were."""
        app = App()
        app.workers.add("a", state)
        task = loop.create_task(wait(app.workers["a"]))
        loop.settle()
        assert is_hopeless is task.done()
        if is_hopeless:
            unreachable(task)

    @pytest.mark.parametrize(
        ("make", "is_hopeless"),
        [
            (lambda gone, _open, _free: gone & gone, True),
            (lambda gone, open_, _free: gone & open_, True),
            (lambda gone, open_, _free: gone | open_, False),
            (lambda gone, _open, free: gone & free, True),
            (lambda gone, _open, free: gone | free, False),
            (lambda gone, _open, _free: ~~gone, True),
            (lambda gone, open_, free: at_least(2, gone, open_, free), False),
            (lambda gone, open_, free: at_least(3, gone, open_, free), True),
            (lambda gone, _open, _free: ~(~gone | ~gone), True),
        ],
    )
    def test_combined_conditions(
        self, make: Callable[..., Condition], is_hopeless: bool, loop: StepLoop
    ) -> None:
        """A combination is hopeless if no values of its parts that may come would do."""
        app = App()
        app.conn.value = Conn.ENDED
        condition = make(app.conn.is_(Conn.OPEN), app.light.is_("green"), app.free.is_(1))
        task = loop.create_task(condition.wait())
        loop.settle()
        assert is_hopeless is task.done()
        if is_hopeless:
            error = unreachable(task)
            assert (condition.name, False) == (error.key, error.value)

    def test_a_timeout_that_only_looks(self, loop: StepLoop) -> None:
        """Hopeless is hopeless, with no time to wait too; with hope, the time is up."""
        app = App()
        with pytest.raises(WaitTimeoutError):
            loop.run(app.conn.wait_for(Conn.OPEN, timeout=0))
        app.conn.value = Conn.ENDED
        with pytest.raises(UnreachableError):
            loop.run(app.conn.wait_for(Conn.OPEN, timeout=0))
        with pytest.raises(UnreachableError):
            loop.run(app.conn.is_(Conn.OPEN).wait(timeout=0))

    def test_subscriptions_look_at_what_is_buffered_first(self, loop: StepLoop) -> None:
        """What is in the queue is found; then the wait is hopeless where the queue leads to."""
        app = App()
        with app.conn.subscribe() as sub, app.conn.blocking.subscribe() as blocking:
            app.conn.value = Conn.OPEN
            app.conn.value = Conn.ENDING
            assert Conn.OPEN == loop.run(sub.wait_for(Conn.OPEN))
            with pytest.raises(UnreachableError):
                loop.run(sub.wait_for(Conn.IDLE, timeout=1))
            assert 0 == sub.pending
            with pytest.raises(UnreachableError):
                loop.run(sub.wait_for(Conn.ENDING, immediate=False))
            assert Conn.OPEN == blocking.wait_for(Conn.OPEN)
            with pytest.raises(UnreachableError):
                blocking.wait_for(Conn.IDLE)
            with pytest.raises(UnreachableError):
                blocking.wait_for(Conn.ENDING, immediate=False)

    def test_richer_values(self, loop: StepLoop) -> None:
        """With `by`, a wait for a value is hopeless when its state is; another of it may come."""
        app = App()
        app.link.value = Link(Conn.ENDED, "a")
        task = loop.create_task(app.link.wait_for(Link(Conn.OPEN)))
        same = loop.create_task(app.link.wait_for(Link(Conn.ENDED, "b")))
        change = loop.create_task(app.link.wait_for_change())
        odd = loop.create_task(app.link.wait_for(3))
        loop.settle()
        unreachable(task)
        assert [False, False] == [same.done(), odd.done()]
        app.link.value = Link(Conn.ENDED, "b")
        loop.settle()
        assert Link(Conn.ENDED, "b") == same.result() == change.result()

    def test_conditions_of_richer_values(self, loop: StepLoop) -> None:
        """With `by`, that a condition may end is never ruled out."""
        app = App()
        app.link.value = Link(Conn.ENDED, "a")
        ended = loop.create_task(app.link.is_(Link(Conn.ENDED, "a")).wait_for(False))
        opened = loop.create_task(app.link.is_(Link(Conn.OPEN)).wait())
        loop.settle()
        assert not ended.done()
        unreachable(opened)

    def test_a_removed_member(self, loop: StepLoop) -> None:
        """The end of a member goes before what its lifecycle says."""
        app = App()
        app.workers.add("a", Conn.ENDING)
        task = loop.create_task(app.workers["a"].wait_for(Conn.ENDED))
        condition = loop.create_task(app.workers["a"].is_(Conn.ENDED).wait())
        loop.settle()
        del app.workers["a"]
        loop.settle()
        for each in (task, condition):
            with pytest.raises(KeyRemovedError):
                each.result()

    def test_cancelled(self, loop: StepLoop) -> None:
        """A cancelled wait on a condition leaves no trace."""
        app = App()
        task = loop.create_task(app.conn.is_(Conn.OPEN).wait())
        loop.settle()
        task.cancel()
        loop.settle()
        del task
        assert_no_trace(app)


STATES = st.integers(0, 6)
GRAPHS = st.dictionaries(STATES, st.frozensets(STATES, max_size=3), min_size=1, max_size=6)


def found_by_search(moves: dict[int, frozenset[int]], start: int, goal: int) -> bool:
    """Tell whether *goal* can be reached from *start*, by going everywhere."""
    reached = {start}
    while True:
        after = reached | {n for state in reached for n in moves.get(state, ())}
        if after == reached:
            return goal in reached
        reached = after


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(moves=GRAPHS, goal=STATES, walk=st.lists(st.integers(0, 2), max_size=8), data=st.data())
def test_a_wait_is_given_up_exactly_when_search_finds_no_way(
    moves: dict[int, frozenset[int]], goal: int, walk: list[int], data: st.DataObject
) -> None:
    """P16: over random graphs and walks, for waits on a key, on `is_` and on a combination."""
    lifecycle = Lifecycle(moves)
    state = data.draw(st.sampled_from(list(lifecycle.moves)))
    store = Store()
    key = store.add("key", state, lifecycle=lifecycle)
    other = store.add("other", True)
    with StepLoop() as loop:
        combined = key.is_(goal) & other
        waits: list[Any] = [key.wait_for(goal), key.is_(goal).wait(), combined.wait()]
        tasks = [loop.create_task(wait) for wait in waits]
        loop.settle()
        visited = [state]
        for turn in walk:
            after = sorted(lifecycle.moves[state])
            if not after:
                break
            state = after[turn % len(after)]
            key.value = state
            visited.append(state)
            if data.draw(st.booleans()):
                loop.settle()
                break
        loop.settle()
        for task in tasks:
            if goal in visited:
                assert task.result() in (None, goal)
            elif not found_by_search(moves, state, goal):
                assert isinstance(task.exception(), UnreachableError)
            else:
                assert not task.done()
