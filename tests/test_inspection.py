"""The report on a store: complete, true, harmless, and good to read."""

from __future__ import annotations

import asyncio
import builtins
import gc
import importlib
import pickle
import re
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from enum import Enum
from typing import Any

import attrs
import pytest
from attrs import frozen

from statestore import (
    ABSENT,
    Family,
    Key,
    KeyReport,
    Ref,
    Store,
    StoreReport,
    ValueWatcher,
    all_of,
)
from statestore._inspection import ROWS
from statestore._inspector import MEMBERS
from statestore._sleepers import sleepers_of
from statestore.testing import Hostile, StepLoop, in_thread, inside
from support.threads import Job


class Temp(Enum):
    """States with names."""

    COLD = 1
    HOT = 2


@frozen
class Worker:
    """What a family has."""

    busy: bool = False


class App(Store):
    """A store with a bit of everything."""

    n = Key(0)
    warm = Key(Temp.COLD)
    value = Key[Any](None)
    workers = Family[str, Worker]()


@pytest.fixture
def app() -> App:
    """Give a store."""
    return App()


@pytest.fixture
def loop() -> Iterator[StepLoop]:
    """Give a loop on which nothing complained in the end."""
    with StepLoop() as made:
        yield made
    assert [] == made.failures


def start(loop: StepLoop, main: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
    """Start *main* in a task of that name, and let it go as far as it gets."""
    task = loop.create_task(main, name=name)
    loop.settle()
    return task


class Blocked:
    """A thread that sleeps in a wait of *app*, and the report of what it does there."""

    def __init__(self, app: App, function: Callable[[], object]) -> None:
        self._job = Job(function)
        self.report = app.inspect()
        while not [wait for wait in self.report.waits if wait.kind == "thread"]:
            self.report = app.inspect()

    @property
    def wait(self) -> Any:
        """The report on its wait."""
        (wait,) = [wait for wait in self.report.waits if wait.kind == "thread"]
        return wait

    def end(self) -> None:
        """Wait for its end."""
        self._job.result()


# Keys and families


def test_keys_have_value_and_revision(app: App) -> None:
    """All keys, declared and added, in order; all at the revision of the report."""
    app.n.value = 5
    app.add("more", "x")
    report = app.inspect()

    assert ("App", 2, False) == (report.name, report.revision, report.is_closed)
    assert [("n", 5, 1), ("warm", Temp.COLD, 0), ("value", None, 0), ("more", "x", 2)] == [
        (key.name, key.value, key.revision) for key in report.keys
    ]


def test_an_age_is_told_if_somebody_keeps_the_times(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None for every key without."""
    assert {None} == {key.age for key in app.inspect().keys}

    monkeypatch.setattr("statestore._explaining.time.monotonic", lambda: 10.0)
    app._core.time_of = {0: 4.0}.get

    assert {6.0} == {key.age for key in app.inspect().keys}


def test_families_have_their_members(app: App) -> None:
    """With values and revisions; of many, the first hundred, and their number."""
    app.workers.add("w1", Worker(busy=True))
    (family,) = app.inspect().families

    assert ("workers", 1, 1) == (family.name, family.size, family.revision)
    assert (KeyReport(name="workers['w1']", value=Worker(busy=True), revision=1, age=None),) == (
        family.members
    )

    for number in range(MEMBERS):
        app.workers.add(f"more{number}", Worker())
    (family,) = app.inspect().families

    assert (MEMBERS + 1, MEMBERS) == (family.size, len(family.members))


def test_what_is_gone_by_then_is_left_out(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that is removed while the report is made is not shown with a value it lacks."""
    app.workers.add("w1", Worker())
    read = importlib.import_module("statestore._formulas").read

    def read_late(slots: Any, settle: Any) -> Any:
        del app.workers["w1"]
        return read(slots, settle)

    monkeypatch.setattr("statestore._inspector.read", read_late)
    (family,) = app.inspect().families

    assert (0, ()) == (family.size, family.members)


def test_a_closed_store_can_be_inspected(app: App) -> None:
    """It has its values, and says that it is closed."""
    app.close()
    report = app.inspect()

    assert report.is_closed
    assert "App at revision 0, closed" == str(report).splitlines()[0]


# Who waits


def test_a_task_that_waits_is_there(app: App, loop: StepLoop) -> None:
    """By its name: what for, what there is, since when, until when."""
    loop.advance(10)
    start(loop, app.warm.wait_for(Temp.HOT, timeout=30), "heater")
    loop.advance(5)
    (wait,) = app.inspect().waits

    assert ("task", "heater", "warm to be HOT") == (wait.kind, wait.waiter, wait.waited_for)
    assert (10.0, 5.0, 40.0, 25.0) == (wait.since, wait.waited, wait.deadline, wait.left)
    assert (Temp.COLD, 0, "it is COLD since revision 0") == (wait.value, wait.revision, wait.state)


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (lambda app: app.n.wait_for(5), "n to be 5"),
        (lambda app: app.n.wait_for_not(0), "n to be other than 0"),
        (lambda app: app.n.wait_for_change(), "n to change"),
        (lambda app: app.value.wait_for_not_none(), "value to be other than None"),
        (lambda app: app.n.wait_until(sum), "n to satisfy sum"),
        (lambda app: app.n.map(abs).wait_for(5), "n.map(abs) to be 5"),
        (lambda app: app.n.is_(5).wait(), "n to be 5"),
        (
            lambda app: all_of(app.n.is_(0), app.warm.is_(Temp.HOT)).wait(),
            "all of 2: n yes, warm NO (is COLD)",
        ),
    ],
)
def test_each_kind_of_wait_is_there(
    app: App, loop: StepLoop, wait: Callable[[App], Any], expected: str
) -> None:
    """With the words that its error would have."""
    app.n.on_change(lambda _old, _new: None)
    with inside(loop):
        main = wait(app) if expected != "n to satisfy sum" else app.n.wait_until(lambda n: False)
    start(loop, main, "t")
    (report,) = app.inspect().waits

    if expected == "n to satisfy sum":
        assert re.match(r"n to satisfy the lambda at .*:\d+$", report.waited_for)
    else:
        assert expected == report.waited_for
    assert report.deadline is None


def test_what_a_wait_has_seen_is_told(app: App, loop: StepLoop) -> None:
    """As far as the loop knows."""
    start(loop, app.n.wait_for(-1), "t")
    app.n.value = 1
    loop.settle()
    (wait,) = app.inspect().waits

    assert [(0, 1)] == [(t.old, t.new) for t in wait.transitions]


def test_a_wait_of_a_subscription_is_there(app: App, loop: StepLoop) -> None:
    """With its beginning, though it has slept many times since; and its deadline."""
    with inside(loop):
        sub = app.n.subscribe()
    start(loop, sub.wait_for(-1, timeout=20), "t")
    for value in range(1, 4):
        loop.advance(2)
        app.n.value = value
    loop.settle()
    report = app.inspect()
    (wait,) = report.waits

    assert ("n to be -1", 0.0, 6.0, 20.0) == (
        wait.waited_for,
        wait.since,
        wait.waited,
        wait.deadline,
    )
    assert ["t"] == [subscription.reader for subscription in report.subscriptions]
    sub.close()


@pytest.mark.parametrize("maxlen", [None, 5])
def test_who_reads_a_subscription_is_there(app: App, loop: StepLoop, maxlen: int | None) -> None:
    """A read is a wait for the next record."""
    with inside(loop):
        sub = app.n.subscribe(maxlen=maxlen)
    start(loop, sub.__anext__(), "reader")
    (wait,) = app.inspect().waits

    assert ("reader", "n to give its next record") == (wait.waiter, wait.waited_for)
    app.n.value = 1
    assert [] == list(app.inspect().waits) or maxlen is None
    loop.settle()
    assert () == app.inspect().waits
    sub.close()


def test_a_wait_for_commits_has_no_value(app: App, loop: StepLoop) -> None:
    """What a commit changed is not what there is."""
    with inside(loop):
        sub = app.subscribe()
    start(loop, sub.wait_until(lambda now: now.n == 5), "t")
    app.n.value = 1
    loop.settle()
    (wait,) = app.inspect().waits

    assert (ABSENT, "it is at revision 1") == (wait.value, wait.state)
    assert wait.waited_for.startswith("App to satisfy the lambda at ")
    sub.close()


def test_a_thread_that_waits_is_there(app: App) -> None:
    """By its name, with its deadline by the clock of all threads."""
    blocked = Blocked(app, lambda: app.n.blocking.wait_for(1, timeout=1_000))
    wait = blocked.wait
    app.n.value = 1
    blocked.end()

    assert "n to be 1" == wait.waited_for
    assert wait.waiter.startswith("Thread-")
    assert 1_000 == round(wait.deadline - wait.since, 6)
    assert () == app.inspect().waits


def test_a_thread_that_waits_for_something_derived_is_there(app: App) -> None:
    """And so is what is computed for it alone."""
    blocked = Blocked(app, lambda: app.n.map(abs).blocking.wait_for(1))
    app.n.value = -1
    blocked.end()
    (network,) = blocked.report.networks

    assert "n.map(abs) to be 1" == blocked.wait.waited_for
    assert ("thread", ["n", "n.map(abs)"]) == (network.kind, [node.name for node in network.nodes])


def test_who_stands_in_line_for_a_claim_is_there(app: App, loop: StepLoop) -> None:
    """All of the line wait, not only who is tried first; and on a store's condition, too."""

    def is_three(value: int) -> bool:
        return value == 3

    tasks = [
        start(loop, app.n.claim(is_three, abs, timeout=timeout), f"claim {timeout}")
        for timeout in (None, 5)
    ]
    tasks.append(start(loop, app.claim(app.n.is_(3), lambda _tx: None), "of all"))
    waits = app.inspect().waits

    aim = "n to satisfy test_who_stands_in_line_for_a_claim_is_there.<locals>.is_three"
    assert [
        ("claim None", aim, None),
        ("claim 5", aim, 5),
        ("of all", "n to be 3", None),
    ] == [(wait.waiter, wait.waited_for, wait.deadline) for wait in waits]
    app.n.value = 3
    loop.step()
    # Chosen, and about to go on.
    assert ["claim 5"] == [wait.waiter for wait in app.inspect().waits]
    for task in tasks:
        task.cancel()
    loop.settle()
    assert () == app.inspect().waits


def test_threads_that_stand_in_line_for_a_claim_are_there(app: App) -> None:
    """Those, too, that sleep until it is their turn to look."""
    jobs = [Job(lambda: app.n.blocking.claim(lambda n: n > 0, lambda n: n - 1)) for _ in range(3)]
    waits = app.inspect().waits
    while len(waits) < 3:
        waits = app.inspect().waits
    app.n.value = 3
    for job in jobs:
        job.result()

    assert ["thread"] * 3 == [wait.kind for wait in waits]
    assert 1 == len({wait.waited_for for wait in waits})
    assert () == app.inspect().waits


@pytest.mark.parametrize("read", [next, lambda sub: sub.wait_for(1)])
def test_a_thread_that_reads_is_there(app: App, read: Callable[[Any], object]) -> None:
    """What it waits for is its wait, or the next record."""
    with app.n.blocking.subscribe() as sub:
        blocked = Blocked(app, lambda: read(sub))
        (subscription,) = blocked.report.subscriptions
        app.n.value = 1
        blocked.end()
    expected = "n to give its next record" if read is next else "n to be 1"

    assert expected == blocked.wait.waited_for
    assert blocked.wait.waiter == subscription.reader


def test_a_thread_that_python_does_not_know_has_a_number(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name may be nowhere to be found."""
    monkeypatch.setattr("threading.enumerate", list)
    blocked = Blocked(app, lambda: app.n.blocking.wait_for(1))
    app.n.value = 1
    blocked.end()

    assert re.match(r"thread \d+", blocked.wait.waiter)


def test_a_coroutine_that_no_task_runs_has_no_name(app: App) -> None:
    """Whoever sends it may be anything."""
    with StepLoop() as loop, inside(loop):
        main = app.n.wait_for(1)
        main.send(None)
        (wait,) = app.inspect().waits
        main.close()

    assert "a coroutine" == wait.waiter


def test_who_was_woken_waits_no_more(app: App, loop: StepLoop) -> None:
    """The task has not run yet, but what it waited for is there."""
    start(loop, app.n.wait_for(1), "t")
    start(loop, app.n.wait_for(2), "other")
    app.n.value = 1
    loop.steps(1)

    assert ["other"] == [wait.waiter for wait in app.inspect().waits]


def test_whose_wait_was_ended_waits_no_more(app: App, loop: StepLoop) -> None:
    """The end of the store wakes all; that their tasks have not run makes no difference."""
    # In which the loop is to call each of them.
    loop.set_debug(True)
    start(loop, app.n.wait_for(1), "t").add_done_callback(
        lambda task: task.cancelled() or task.exception()
    )
    app.close()
    assert 1 == len(app.inspect().waits)
    loop.steps(1)

    assert () == app.inspect().waits


def test_what_waits_on_a_closed_loop_is_not_there(app: App) -> None:
    """Nobody waits there any more; on a bounded queue neither."""
    with StepLoop() as loop:
        loop.create_task(app.n.wait_for(1))
        with inside(loop):
            sub = app.n.subscribe(maxlen=1)
        loop.create_task(sub.__anext__())  # type: ignore[arg-type]
        loop.settle()
        assert 2 == len(app.inspect().waits)
        tasks = asyncio.all_tasks(loop)
        loop.close()
        assert () == app.inspect().waits
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
    sub.close()
    app.n.value = 1


def test_waits_are_there_in_the_order_of_their_age(app: App, loop: StepLoop) -> None:
    """The oldest one first, whatever it is."""
    for number, watcher in enumerate((app.warm, app.n, app.value)):
        start(loop, watcher.wait_for("never"), f"t{number}")
        loop.advance(1)

    assert ["t0", "t1", "t2"] == [wait.waiter for wait in app.inspect().waits]


def test_a_wait_on_uvloop_has_its_age(app: App) -> None:
    """From another thread it is not asked for its clock, which is not made for that."""
    uvloop = pytest.importorskip("uvloop")

    async def main() -> tuple[float, float]:
        task = asyncio.ensure_future(app.n.wait_for(1))
        await asyncio.sleep(0)
        (here,) = sleepers_of(app._core)
        (there,) = await asyncio.to_thread(sleepers_of, app._core)
        app.n.value = 1
        await task
        return here.waited, there.waited

    made = uvloop.new_event_loop()
    here, there = made.run_until_complete(main())
    made.close()

    assert 0 <= here < 60
    assert 0 <= there < 60


# Subscriptions


def test_a_subscription_tells_its_policy_and_lag(app: App) -> None:
    """Of each kind, opened and never read (P093)."""
    opened = [
        app.n.subscribe(),
        app.n.subscribe(initial=True),
        app.n.subscribe(maxlen=2),
        app.n.subscribe(maxlen=2, overflow="latest"),
        app.n.values(latest=True),
        app.n.blocking.values(),
        app.subscribe(),
    ]
    opened[0].get_nowait if app.n.set(1) else None
    for value in (2, 3):
        app.n.value = value
    opened[0].get_nowait()  # type: ignore[union-attr]
    found = app.inspect().subscriptions

    assert [
        ("n", "Subscription", "unbounded", None, 2, 1),
        ("n", "Subscription", "unbounded", None, 4, 0),
        ("n", "Subscription", "raise", 2, 2, 0),
        ("n", "Subscription", "latest", 2, 2, 0),
        ("n", "Values", "newest", None, 1, 0),
        ("n", "BlockingValues", "unbounded", None, 4, 0),
        ("App", "CommitSubscription", "unbounded", None, 3, 0),
    ] == [(s.key, s.kind, s.policy, s.maxlen, s.pending, s.revision) for s in found]
    for sub in opened:
        sub.close()


def test_a_subscription_that_is_gone_is_not_there(app: App) -> None:
    """Be it closed, left, or dropped: nothing is kept of it."""
    app.n.values()
    with app.n.subscribe():
        pass
    kept = app.n.subscribe()
    kept.close()
    gc.collect()

    assert () == app.inspect().subscriptions
    assert {} == app._core.streams


def test_a_subscription_that_goes_while_it_is_looked_at_is_left_out(app: App) -> None:
    """Its reference may be dead, or it may be closed, before it is out of the register."""
    sub = app.n.subscribe()
    reference = app._core.streams[id(sub)]
    sub.close()
    app._core.streams[0] = reference
    assert () == app.inspect().subscriptions
    del sub
    gc.collect()
    assert () == app.inspect().subscriptions


# Callbacks


def test_callbacks_are_there(app: App) -> None:
    """On keys and on what is derived; closed ones are not."""

    def on_n(_old: int, _new: int) -> None:
        """Do nothing."""

    app.n.value = 1
    handle = app.n.on_change(on_n)
    app.n.map(abs).on_change(print)
    app.n.on_value(5, print)
    found = app.inspect().callbacks
    handle.close()

    name = "test_callbacks_are_there.<locals>.on_n"
    assert [("n", name, 1), ("n", "print", 1), ("n.map(abs)", "print", 1)] == [
        (c.key, c.callback, c.since) for c in found
    ]
    assert 2 == len(app.inspect().callbacks)


# What is derived


def names(report: StoreReport) -> list[tuple[str, list[str]]]:
    """Give the names of all nodes by the kind of their network."""
    return [(network.kind, [n.name for n in network.nodes]) for network in report.networks]


def test_what_is_derived_is_a_graph(app: App, loop: StepLoop) -> None:
    """Nodes with their value and revision, their sources and who listens."""
    both = app.n.is_(0) & app.warm.is_(Temp.HOT)
    start(loop, both.wait(), "t")
    with inside(loop):
        sub = both.subscribe()
    app.n.value = 1
    loop.settle()
    (network,) = app.inspect().networks
    shown = [(n.name, n.value, n.revision, n.sources, n.listeners) for n in network.nodes]
    sub.close()

    assert "event loop" == network.kind
    assert [
        ("n", 1, 1, (), ()),
        ("warm", Temp.COLD, 0, (), ()),
        ("n is 0", False, 1, ("n0",), ()),
        ("warm is HOT", False, 0, ("n1",), ()),
        ("n is 0 and warm is HOT", False, 0, ("n2", "n3"), ("task t", "Subscription")),
    ] == shown


def test_a_node_without_a_value_says_why(app: App, loop: StepLoop) -> None:
    """Its last value is told too, if somebody listens."""
    derived = app.n.map(lambda n: 2 // (1 - n))
    with inside(loop), derived.subscribe() as sub:
        app.n.value = 1
        assert 1 == sub.pending
        (network,) = app.inspect().networks
        node = network.nodes[-1]

    assert (2, 1) == (node.value, node.revision)
    assert node.error.startswith("DerivationError(")


def test_what_is_derived_of_a_family_shows_the_number_of_members(app: App, loop: StepLoop) -> None:
    """What happens to them is no value of its own."""
    app.workers.add("w1", Worker())
    start(loop, app.workers.all(lambda worker: worker.busy).wait(), "t")
    (network,) = app.inspect().networks
    first, tally, every = network.nodes

    assert ("number of workers", 1) == (first.name, first.value)
    assert ((0, 1), ("n0",)) == (tally.value, tally.sources)
    assert (False, ("n1",), ("task t",)) == (every.value, every.sources, every.listeners)


def test_what_is_computed_for_callbacks_is_there(app: App) -> None:
    """In the network that they share, or in one of its own that came while callbacks ran."""
    app.workers.add("w1", Worker())
    count = app.workers.count()
    count.on_change(print)
    app.n.on_change(lambda _old, _new: in_thread(lambda: count.on_change(repr)))
    app.n.value = 1
    report = app.inspect()

    expected = ("callbacks", ["number of workers", "workers", "number of workers"])
    assert [expected, expected] == names(report)
    assert [("callback print",), ("callback repr",)] == [
        network.nodes[-1].listeners for network in report.networks
    ]


def test_a_callback_on_one_key_is_found_from_that_key() -> None:
    """Networks for callbacks are found wherever they listen."""
    app = App()
    app.n.map(abs).on_change(print)

    assert [("callbacks", ["n", "n.map(abs)"])] == names(app.inspect())


def test_an_empty_network_is_not_shown(app: App) -> None:
    """One that computes nothing any more says nothing."""
    app.n.map(abs).on_change(print).close()

    assert () == app.inspect().networks


def test_a_network_without_a_loop_is_found(app: App) -> None:
    """That of a subscription of a thread, which advances when it is read."""
    with app.n.map(abs).blocking.subscribe(), app.subscribe(app.n):
        assert [("thread", ["n", "n.map(abs)"])] == names(app.inspect())


def test_the_graph_is_drawn(app: App, loop: StepLoop) -> None:
    """As a Mermaid flowchart, with what Mermaid would misread put in its own way."""
    start(loop, app.n.map(lambda n: f'<a "{n}" #1>').wait_for(""), "t")
    drawn = app.inspect().to_mermaid().splitlines()

    assert ["flowchart LR", '  subgraph g0["event loop"]', '    n0["n: 0"]'] == drawn[:3]
    assert drawn[3].startswith('    n1("n.map(the lambda at ')
    assert drawn[3].endswith("): '#lt;a #quot;0#quot; #35;1#gt;'\")")
    assert ["    n0 --> n1", '    n1 -.-> n1l0>"task t"]', "  end"] == drawn[4:]
    assert "flowchart LR" == App().inspect().to_mermaid()


# How it is shown


def test_it_prints_as_a_table(app: App, loop: StepLoop) -> None:
    """Plain text, aligned, without the tables that are empty."""
    loop.advance(1)
    start(loop, app.warm.wait_for(Temp.HOT, timeout=30), "heater")
    app.n.value = 5
    loop.advance(2)

    assert """App at revision 1

Keys
  key    value  revision  age
  -----  -----  --------  ---
  n      5      1
  warm   COLD   0
  value  None   0

Families
  family   members  revision
  -------  -------  --------
  workers  0        0

Waits
  who          waits for       for    time left  there is
  -----------  --------------  -----  ---------  ---------------------------
  task heater  warm to be HOT  2.0 s  28.0 s     it is COLD since revision 0""" == str(
        app.inspect()
    )


def test_all_tables_are_printed(app: App) -> None:
    """Each of them once there is something to show."""
    derived = app.n.map(abs)
    derived.on_change(print)
    with app.n.subscribe(maxlen=2), app.n.subscribe():
        text = str(app.inspect())

    for line in (
        "  n   Subscription  2, raise   0        0",
        "  n   Subscription  unbounded  0        0",
        "  n.map(abs)  print     0",
        "  callbacks  n1    n.map(abs)  0      0         n0       callback print",
    ):
        assert line in text


def test_long_tables_are_cut() -> None:
    """With the number of what is left out."""
    store = Store()
    for number in range(ROWS + 3):
        store.add(f"k{number}", "two\nlines")
    text = str(store.inspect())

    assert "… 3 more" in text
    assert ROWS + 6 == len(text.splitlines())


def test_it_is_printed_by_rich(app: App) -> None:
    """What looks like markup in a value stays as it is."""
    rich = pytest.importorskip("rich.console")
    app.value.value = "[bold]x"
    console = rich.Console(width=100, record=True, quiet=False, file=None, no_color=True)
    with console.capture() as captured:
        console.print(app.inspect())
    text = captured.get()

    assert "App at revision 1" in text
    assert "'[bold]x'" in text
    assert "Keys" in text


def test_without_rich_the_error_names_the_extra(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for that table is told how to get it."""
    monkeypatch.setitem(sys.modules, "rich.table", None)

    with pytest.raises(ImportError, match=r"statestore\[rich\]"):
        app.inspect().__rich__()


def test_values_that_print_badly_are_harmless(app: App, loop: StepLoop) -> None:
    """In every table, and in the diagram."""
    app.value.value = Hostile()
    start(loop, app.value.map(lambda value: value).wait_until(lambda value: False), "t")
    report = app.inspect()

    assert "broken repr" in str(report)
    assert "broken repr" in report.to_mermaid()
    app.value.value = None
    app.value.value = Hostile(on_repr=Ref(lambda: "x" * 10**6))
    assert len(str(app.inspect())) < 5_000


# Harmless


def test_it_is_frozen(app: App) -> None:
    """A report says what was, and does not follow."""
    report = app.inspect()
    app.n.value = 1

    assert (0, 0) == (report.revision, report.keys[0].value)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        report.revision = 1  # type: ignore[misc]
    assert report == pickle.loads(pickle.dumps(report))


def test_it_changes_nothing(app: App, loop: StepLoop) -> None:
    """No revision, no record taken, no registration left, no wait woken."""
    idle = app.workers.all(lambda worker: not worker.busy) & app.n.is_(1)
    task = start(loop, idle.wait(), "t")
    sub = app.n.blocking.subscribe()
    app.n.on_change(lambda _old, _new: None)
    before = [len(one.ports) for one in app._core.listeners.values()]
    revision = app.revision
    for _ in range(3):
        app.inspect()
    loop.settle()

    assert not task.done()
    assert (revision, before) == (
        app.revision,
        [len(one.ports) for one in app._core.listeners.values()],
    )
    app.n.value = 1
    loop.settle()
    assert task.done()
    assert 1 == sub.pending
    sub.close()


def test_it_holds_nobody(app: App, loop: StepLoop) -> None:
    """A report keeps no subscription and no watcher alive."""
    sub = app.n.values()
    report = app.inspect()
    assert 1 == len(report.subscriptions)
    del sub
    gc.collect()

    assert {} == app._core.streams


def test_it_can_be_made_inside_of_everything(app: App, loop: StepLoop) -> None:
    """Out of a predicate, a map function, a callback and a `repr`."""
    made: list[StoreReport] = []

    def look(_value: object) -> bool:
        made.append(app.inspect())
        return False

    start(loop, app.n.wait_until(look), "t")
    start(loop, app.n.map(look).wait_for(None), "t2")
    app.n.on_change(lambda _old, new: look(new) and None)
    app.n.value = 1
    loop.settle()

    assert 4 < len(made) < 50


def test_a_report_out_of_what_it_computes_has_an_end(app: App, loop: StepLoop) -> None:
    """The inner one tells of the waits, and not why they wait."""
    made: list[StoreReport] = []
    derived = app.n.map(lambda _n: made.append(app.inspect()) or 0)  # type: ignore[func-returns-value]
    start(loop, derived.wait_for(1), "t")
    made.clear()
    (outer,) = app.inspect().waits
    (inner,) = made[0].waits

    assert 1 == len(made)
    assert outer.waited_for == inner.waited_for
    assert ("n is 0", "") == (outer.detail, inner.detail)


def test_it_can_be_made_while_threads_use_the_store(
    app: App, frequent_switches: None, untraced: None
) -> None:
    """Whatever comes and goes meanwhile, the report is whole, and nobody is disturbed."""
    stop = threading.Event()

    def use() -> None:
        derived = app.n.map(abs)
        while not stop.is_set():
            with derived.blocking.subscribe() as sub, app.subscribe(maxlen=2):
                app.n.update(lambda n: n + 1)
                assert sub.wait_for_change() > 0
            app.n.on_change(lambda _old, _new: None).close()
            key = threading.get_ident()
            app.workers.add(str(key), Worker())
            app.workers.all(lambda worker: not worker.busy).blocking.wait_for(True)
            del app.workers[str(key)]

    def loops() -> None:
        async def main() -> None:
            while not stop.is_set():
                task = asyncio.ensure_future(app.n.is_(-1).wait())
                await app.n.wait_for_change()
                task.cancel()

        asyncio.run(main())

    jobs = [Job(use), Job(use), Job(loops)]
    try:
        for _ in range(150):
            report = app.inspect()
            assert str(report)
            assert report.to_mermaid()
    finally:
        stop.set()
        for job in jobs[:2]:
            job.result()
        app.n.value = -5
        jobs[2].result()


def test_a_watcher_that_stands_alone_has_no_report() -> None:
    """Only stores are inspected; what waits on a lone watcher is seen by the watchdog."""
    assert not hasattr(ValueWatcher(0), "inspect")


def test_inspect_is_taken(app: App) -> None:
    """No key bears its name."""
    assert builtins.callable(app.inspect)
    with pytest.raises(ValueError, match="has 'inspect' already"):
        app.add("inspect", 1)
