"""Recordings: what the state was, who changed it, and why."""

from __future__ import annotations

import enum
import gc
import os
import re
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from statestore import (
    ABSENT,
    Family,
    Key,
    Lifecycle,
    RecordedCommit,
    Recording,
    Ref,
    SavedValue,
    Snapshot,
    StateStoreError,
    Store,
    Transition,
    UnknownKeyError,
    WaitTimeoutError,
)
from statestore._core import Core
from statestore.testing import StepLoop, assert_no_trace
from support.threads import Job


class Conn(enum.Enum):
    """A few states."""

    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"


class App(Store):
    """Keys of several kinds."""

    conn = Key(Conn.CLOSED)
    count = Key(0)
    thing = Key[Any](None)
    workers = Family[str, int](default=0)


class Lights(Store):
    """Keys with lifecycles."""

    plain = Key("red", lifecycle=Lifecycle({"red": {"green"}, "green": {"red", "off"}}))
    rich = Family[str, tuple[str, int]](
        lifecycle=Lifecycle({"red": {"green"}, "green": {"red", "off"}}, by=lambda light: light[0])
    )


@pytest.fixture
def loop() -> Iterator[StepLoop]:
    """Give a loop that moves when told to."""
    with StepLoop() as loop:
        yield loop


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give the time of each commit, and let them be 1.5 seconds apart."""
    passed = [100.0]

    def tick() -> float:
        passed[0] += 1.5
        return passed[0]

    monkeypatch.setattr("statestore._journal.time.monotonic", tick)
    return passed


def use(app: App) -> list[Snapshot]:
    """Change all that can change; give what the state was at each revision from the first on."""
    states = [app.snapshot()]

    def note(_old: object = None, _new: object = None) -> None:
        states.append(app.snapshot())

    for change in (
        lambda: app.conn.set(Conn.OPENING),
        lambda: app.workers.add("a"),
        lambda: app.workers["a"].set(5),
        lambda: app.conn.set(Conn.OPEN, reason="greeted"),
        lambda: app.add("late", "x"),
        lambda: app.workers.__delitem__("a"),
        lambda: app.workers.add("a", 7),
        lambda: app.transact(_both),
        lambda: app.conn.set(Conn.CLOSED),
    ):
        change()
        note()
    return states


def _both(tx: Any) -> None:
    tx[App.count] = 3
    tx[App.thing] = ("a", 1)


def test_each_commit_is_kept_with_its_origin(seconds: list[float]) -> None:
    """A record says what changed, when, who did it, why, and which revision caused it."""
    app = App()
    app.conn.on_change(lambda _old, _new: app.count.set(1))
    with structlog.contextvars.bound_contextvars(request_id="r1"), app.record() as recording:
        app.conn.set(Conn.OPENING, reason="asked")
    first, second = recording.commits
    assert isinstance(first, RecordedCommit)
    transition = Transition(key="conn", old=Conn.CLOSED, new=Conn.OPENING, revision=1)
    assert (1, (transition,)) == (first.revision, first.transitions)
    assert (threading.current_thread().name, "asked", None, {"request_id": "r1"}) == (
        first.setter,
        first.reason,
        first.caused_by,
        first.context,
    )
    assert (2, None, 1) == (second.revision, second.reason, second.caused_by)
    assert 1.5 == second.clock - first.clock
    assert first.time > 1_700_000_000


def test_only_what_comes_while_it_is_open() -> None:
    """A recording begins when it is opened and ends when it is closed; it leaves nothing behind."""
    app = App()
    app.count.value = 1
    recording = app.record()
    assert "<open recording of App>" == repr(recording)
    app.count.value = 2
    assert not recording.is_closed
    recording.close()
    recording.close()
    app.count.value = 3
    assert [2] == [commit.revision for commit in recording.commits]
    assert recording.is_closed
    assert "<recording of App, 1 commits>" == repr(recording)
    assert_no_trace(app)
    assert {} == app._core.recordings


def test_what_is_committed_while_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit is either before the beginning or kept, and never both."""
    app = App()
    fence = Core.fence

    def overtaken(core: Core) -> int:
        monkeypatch.undo()
        app.count.value = 1
        revision = fence(core)
        app.count.value = 2
        return revision

    monkeypatch.setattr(Core, "fence", overtaken)
    recording = app.record(maxlen=5)
    app.count.value = 3
    assert 1 == recording.first_revision
    assert [2, 3] == [commit.revision for commit in recording.commits]


def test_one_that_nobody_holds_ends() -> None:
    """A recording that is dropped costs nothing any more."""
    app = App()
    recording = app.record(maxlen=3)
    del recording
    gc.collect()
    assert_no_trace(app)
    assert {} == app._core.recordings


@pytest.mark.parametrize("is_closed", [False, True])
def test_the_state_at_any_revision(is_closed: bool) -> None:
    """What is rebuilt is what a snapshot gave then, families and removed members included."""
    app = App()
    app.count.value = 9
    recording = app.record(maxlen=None)
    states = use(app)
    if is_closed:
        recording.close()
    assert (1, 10) == (recording.first_revision, recording.last_revision)
    for state in states:
        rebuilt = recording.at(state.revision)
        assert state == rebuilt
        assert state.revision == rebuilt.revision


@pytest.mark.parametrize("revision", [-1, 0, 11])
def test_a_revision_that_is_not_known(revision: int) -> None:
    """What came before and what is to come is refused, by its number."""
    app = App()
    app.count.value = 9
    recording = app.record()
    use(app)
    with pytest.raises(ValueError, match=f"revisions 1 to 10, not {revision};"):
        recording.at(revision)


def test_the_newest_are_kept() -> None:
    """With a bound the oldest go first, and with them the states that they led from."""
    app = App()
    recording = app.record(maxlen=3)
    states = use(app)
    assert [7, 8, 9] == [commit.revision for commit in recording.commits]
    assert (6, 9) == (recording.first_revision, recording.last_revision)
    assert [states[6], states[9]] == [recording.at(6), recording.at(9)]
    with pytest.raises(ValueError, match="a larger maxlen keeps more"):
        recording.at(5)


@pytest.mark.parametrize(
    ("maxlen", "error"), [(0, ValueError), ("x", TypeError), (True, TypeError)]
)
def test_a_bad_bound(maxlen: Any, error: type[Exception]) -> None:
    """What is no bound is refused, and nothing is left registered."""
    app = App()
    with pytest.raises(error, match="maxlen"):
        app.record(maxlen=maxlen)
    assert_no_trace(app)


def test_old_values_go_with_their_commits() -> None:
    """A bounded recording holds no value that it does not need."""

    class Big:
        """A value that can be watched."""

        __slots__ = ("__weakref__",)

    app = App()
    first = Big()
    gone = weakref.ref(first)
    app.thing.value = Ref(first)
    del first
    recording = app.record(maxlen=1)
    for number in range(3):
        app.thing.value = number
    gc.collect()
    assert gone() is None
    recording.close()


class TestWhy:
    """The chain of causes."""

    def test_back_to_the_origin(self) -> None:
        """Each line is a commit, and the next the one whose callback made it."""
        app = App()
        app.conn.on_change(lambda _old, _new: app.count.set(1, reason="counted"))
        app.count.on_change(lambda _old, new: app.thing.set(new))
        with structlog.contextvars.bound_contextvars(request_id="r1"), app.record():
            app.workers.add("a")
            app.conn.set(Conn.OPENING, reason="asked")
            told = re.sub(r"\d\d:\d\d:\d\d\.\d\d\d by \w+", "at T by M", app.why(App.thing))
        asked = "    caused by revision 2: conn: CLOSED -> OPENING; at T by M, because asked"
        assert [
            "revision 4: thing: None -> 1; at T by M, request_id='r1'",
            "  caused by revision 3: count: 0 -> 1; at T by M, because counted, request_id='r1'",
            f"{asked}, request_id='r1'",
        ] == told.splitlines()

    def test_as_of_a_revision(self) -> None:
        """The last change up to a revision is explained."""
        app = App()
        recording = app.record()
        app.count.value = 1
        app.conn.value = Conn.OPEN
        app.count.value = 2
        assert recording.why("count", revision=2).startswith("revision 1: count: 0 -> 1;")
        assert recording.why(app.count).startswith("revision 3: count: 1 -> 2;")
        with pytest.raises(ValueError, match="revisions 0 to 3, not 4"):
            recording.why("count", revision=4)

    def test_a_cause_that_is_not_kept(self) -> None:
        """A cause that was lost to the bound is told by its revision."""
        app = App()
        app.conn.on_change(lambda _old, _new: app.count.set(1))
        recording = app.record(maxlen=1)
        app.conn.value = Conn.OPEN
        assert "  caused by revision 1, which is not in this recording" in recording.why("count")

    def test_what_has_not_changed(self) -> None:
        """A key that has not changed says so."""
        app = App()
        app.count.value = 1
        app.workers.add("a")
        recording = app.record()
        assert "count has not changed since revision 2" == recording.why("count")
        assert "workers['a'] has not changed since revision 2" == recording.why(app.workers["a"])

    @pytest.mark.parametrize(
        ("key", "error", "message"),
        [
            ("cont", UnknownKeyError, "the recording of App knows no key 'cont'"),
            ("workers", UnknownKeyError, "knows no key 'workers'"),
            (3, TypeError, "a key is a Key, a watcher or a name, not 3"),
        ],
    )
    def test_no_such_key(self, key: Any, error: type[Exception], message: str) -> None:
        """A key that never was is refused by name; so is a whole family."""
        recording = App().record()
        with pytest.raises(error, match=message):
            recording.why(key)
        with pytest.raises(error, match=message):
            recording.to_mermaid(key)

    def test_without_a_recording(self) -> None:
        """A store that is not recorded says what to do."""
        app = App()
        app.record().close()
        with pytest.raises(StateStoreError, match=r"nothing of App is being recorded: call record"):
            app.why("count")

    def test_the_store_asks_the_last_one(self) -> None:
        """Of several recordings, it is the one that was begun last and is open."""
        app = App()
        outer, inner = app.record(), app.record()
        app.count.value = 1
        late = app.record()
        assert app.why("count").startswith("count has not changed since revision 1")
        late.close()
        assert inner.why("count") == app.why("count")
        outer.close()
        inner.close()


class TestTimeline:
    """Who was in which state when."""

    def test_lanes_of_text(self, seconds: list[float]) -> None:
        """Each key has a lane, each commit that changes one of them a line."""
        app = App()
        with app.record() as recording:
            use(app)
        here = threading.current_thread().name
        lines = recording.timeline("conn", App.workers, "late").splitlines()
        assert [
            ["revision", "seconds", "conn", "workers['a']", "late", "by"],
            ["0", "CLOSED", "ABSENT", "ABSENT"],
            ["1", "0.000", "OPENING", "|", "|", here],
            ["2", "1.500", "|", "0", "|", here],
            ["3", "3.000", "|", "5", "|", here],
            ["4", "4.500", "OPEN", "|", "|", here],
            ["5", "6.000", "|", "|", "'x'", here],
            ["6", "7.500", "|", "ABSENT", "|", here],
            ["7", "9.000", "|", "7", "|", here],
            ["9", "12.000", "CLOSED", "|", "|", here],
        ] == [line.split() for line in lines]
        states = [line for line in lines if "CLOSED" in line or "OPEN" in line]
        assert 1 == len({re.search("CLOSED|OPEN", line).start() for line in states})  # type: ignore[union-attr]

    def test_all_that_has_changed(self) -> None:
        """Without keys, those are shown that have changed, in that order."""
        app = App()
        recording = app.record()
        app.thing.value = 1
        app.count.value = 1
        head, *lines = recording.timeline().splitlines()
        assert ["revision", "seconds", "thing", "count", "by"] == head.split()
        assert 3 == len(lines)

    def test_nothing_has_changed(self) -> None:
        """An empty recording shows what the state is."""
        recording = App().record()
        assert "revision  seconds  by\n0" == recording.timeline()
        assert "0" == recording.timeline("count").split()[-1]

    @pytest.mark.parametrize("kind", ["svg", "png"])
    def test_a_picture(self, kind: str, tmp_path: Path) -> None:
        """The same can be drawn, in the form that the ending of the file says."""
        app = App()
        with app.record() as recording:
            use(app)
        path = tmp_path / f"timeline.{kind}"
        recording.draw_timeline(path, "conn", "workers")
        content = path.read_bytes()
        assert content.startswith({"svg": b"<?xml", "png": b"\x89PNG"}[kind])
        assert len(content) > 5_000

    def test_a_picture_of_nothing(self, tmp_path: Path) -> None:
        """An empty recording can be drawn, too."""
        path = tmp_path / "timeline.svg"
        App().record().draw_timeline(path, "count")
        assert b"count" in path.read_bytes() or path.stat().st_size > 1_000

    def test_a_picture_needs_an_extra(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without matplotlib the error names the extra."""
        for name in [name for name in sys.modules if name.startswith("matplotlib")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ModuleNotFoundError, match=re.escape("statestore[plots]")):
            App().record().draw_timeline(tmp_path / "x.svg")


class TestMermaid:
    """The moves that a key has made."""

    def test_moves_with_counts_and_times(self, seconds: list[float]) -> None:
        """Each move says how often it was made, and how long the state before it had lasted."""
        app = App()
        recording = app.record()
        for state in (Conn.OPENING, Conn.OPEN, Conn.CLOSED) * 2:
            app.conn.value = state
            app.count.value += 1
        assert [
            "stateDiagram-v2",
            "    s0: CLOSED",
            "    s1: OPENING",
            "    s2: OPEN",
            "    [*] --> s0",
            "    s0 --> s1: 2 times, after 3.000 s",
            "    s1 --> s2: 2 times, after 3.000 s",
            "    s2 --> s0: 2 times, after 3.000 s",
        ] == recording.to_mermaid("conn").splitlines()

    def test_a_move_whose_beginning_is_not_known(self) -> None:
        """The first state may have lasted for any time; what means something is escaped."""
        app = App()
        recording = app.record()
        app.thing.value = "a: b"
        assert [
            "stateDiagram-v2",
            "    s0: None",
            "    s1: 'a#58; b'",
            "    [*] --> s0",
            "    s0 --> s1: once",
        ] == recording.to_mermaid("thing").splitlines()

    @pytest.mark.parametrize("name", ["plain", "rich['a']"])
    def test_over_the_declared_ones(self, name: str, seconds: list[float]) -> None:
        """With a lifecycle, the moves that were never made are there too; states, not values."""
        store = Lights()
        recording = store.record()
        store.rich.add("a", ("red", 0))
        for number, state in enumerate(("green", "red", "green")):
            store.plain.value = state
            store.rich["a"].value = (state, number)
            store.rich["a"].value = (state, -1)
        lines = recording.to_mermaid(name).splitlines()
        drawn = [line.partition(": ") for line in lines if "-->" in line]
        nodes = dict(
            line.strip().split(": ") for line in lines if "-->" not in line and ":" in line
        )
        made = {
            tuple(nodes.get(end.strip(), end.strip()) for end in move.split("-->")): label
            for move, _, label in drawn
        }
        first = "'red'" if name == "plain" else "ABSENT"
        assert made.pop(("[*]", first)) == ""
        assert made.pop(("'off'", "[*]")) == ""
        if name != "plain":
            assert "once" == made.pop(("ABSENT", "'red'"))
        assert "2 times, after" in made.pop(("'red'", "'green'"))
        assert "once, after 4.500 s" == made.pop(("'green'", "'red'"))
        assert {("'green'", "'off'"): "never"} == made

    def test_no_moves(self) -> None:
        """A key that has not moved is one state."""
        assert "stateDiagram-v2\n    s0: 0\n    [*] --> s0" == App().record().to_mermaid("count")


class TestFiles:
    """Recordings on disk."""

    def test_saved_and_loaded(self, tmp_path: Path, seconds: list[float]) -> None:
        """What is loaded shows the same, plain values as they were and all others as words."""
        app = App()
        recording = app.record()
        with structlog.contextvars.bound_contextvars(user=("a", 1), n=3):
            states = use(app)
        path = tmp_path / "recording.jsonl"
        recording.save(path)
        loaded = Recording.load(path)
        assert loaded.is_closed
        assert recording.timeline() == loaded.timeline()
        assert recording.why("conn") == loaded.why("conn")
        assert recording.to_mermaid("conn") == loaded.to_mermaid("conn")
        assert (0, 9) == (loaded.first_revision, loaded.last_revision)
        assert {"user": SavedValue("('a', 1)"), "n": 3} == loaded.commits[0].context
        for state in states:
            expected = dict(state) | {"conn": SavedValue(state["conn"].name)}
            if state["thing"] is not None:
                expected["thing"] = SavedValue("('a', 1)")
            assert expected == dict(loaded.at(state.revision))
        assert "<recording of App, 9 commits>" == repr(loaded)

    def test_loaded_ones_can_be_saved(self, tmp_path: Path) -> None:
        """Saved once more, it is the same."""
        app = App()
        with app.record() as recording:
            use(app)
        recording.save(tmp_path / "one")
        Recording.load(tmp_path / "one").save(tmp_path / "two")
        one, two = ((tmp_path / name).read_text(encoding="utf-8") for name in ("one", "two"))
        assert one == two
        assert 10 == len(one.splitlines())

    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ("", 1),
            ("{", 1),
            ("[]", 1),
            ('{"format": "another"}', 1),
            ("{first}\n{first}", 2),
            ("{first}\nnull", 2),
            ("{first}\n{second}\n{", 3),
        ],
    )
    def test_no_recording(self, text: str, place: int, tmp_path: Path) -> None:
        """What is no recording is refused, with the place in the file."""
        app = App()
        recording = app.record()
        app.workers.add("a")
        path = tmp_path / "recording"
        recording.save(path)
        first, second = path.read_text(encoding="utf-8").splitlines()
        path.write_text(text.replace("{first}", first).replace("{second}", second), "utf-8")
        with pytest.raises(
            ValueError, match=re.escape(f"{path}:{place}: this is no line of a rec")
        ):
            Recording.load(path)


def test_read_while_others_set() -> None:
    """What is read while threads set is whole: the state that the commits lead to."""
    app = App()
    recording = app.record(maxlen=50)

    def count() -> None:
        for _ in range(2_000):
            app.count.update(lambda old: old + 1)

    jobs = [Job(count) for _ in range(2)]
    while app.count.value < 4_000:
        with app.record(maxlen=20) as other:
            other.commits
        for each in (other, recording):
            revisions = [commit.revision for commit in each.commits]
            assert revisions == list(range(revisions[0], revisions[-1] + 1) if revisions else ())
        for revision in (other.first_revision, other.last_revision):
            assert revision == other.at(revision)["count"]
    for job in jobs:
        job.result()
    assert list(range(3_951, 4_001)) == [commit.revision for commit in recording.commits]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_in_a_forked_child() -> None:
    """A child has values, but no consumers: an inherited recording says so."""
    app = App()
    recording = app.record()
    app.count.value = 1
    child = os.fork()
    if child == 0:
        code = 1
        try:
            app.count.value = 2
            recording.commits
        except StateStoreError as error:
            code = 0 if "before this process was forked" in str(error) else 2
        finally:
            os._exit(code)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert 1 == len(recording.commits)


def test_an_absent_value() -> None:
    """Before it was added a key was absent, and so it is told."""
    app = App()
    recording = app.record()
    app.add("late", 1)
    assert ABSENT is recording.commits[0].transitions[0].old
    assert "late" not in recording.at(0)


def test_ages_are_known_while_it_is_open(loop: StepLoop) -> None:
    """P14: what is recorded has an age, in reports and in the errors of waits."""
    app = App()
    app.count.value = 1
    first = app.record()
    app.conn.value = Conn.OPEN
    second = app.record()
    task = loop.create_task(app.conn.wait_for(Conn.CLOSED, timeout=1))
    loop.advance(1)
    with pytest.raises(WaitTimeoutError) as info:
        task.result()
    assert info.value.wait is not None
    assert info.value.wait.age is not None
    ages = {key.name: key.age for key in app.inspect().keys}
    assert ages["count"] is None
    assert ages["conn"] is not None
    first.close()
    second.close()
    assert [None] * 3 == [key.age for key in app.inspect().keys]
