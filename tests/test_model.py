"""
Random operations against a model, which is a plain list of commits and nothing else.

The model foretells every result before the store is asked for it: what a set returns, what a wait
ends with, each record of each subscription, each call of each callback, of keys and of what is
derived from them. The event loop moves by
single callbacks, so an operation may come between any two of them; in half of the runs the callback
that comes next is chosen at random.

`STATESTORE_MODEL_EXAMPLES` sets the number of runs. Without it there are few, always the same ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Container
from typing import Any, Final, NamedTuple

import pytest
from attrs import define, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from statestore import (
    ABSENT,
    CallbackFailure,
    Commit,
    ConflictError,
    Key,
    LaggedError,
    Recording,
    Snapshot,
    Store,
    StoreClosedError,
    SubscriptionError,
    Transition,
    WaitTimeoutError,
    Watcher,
    at_least,
    combine,
)
from statestore.testing import StepLoop, assert_no_trace, inside

EXAMPLES: Final = int(os.environ.get("STATESTORE_MODEL_EXAMPLES", "0"))

KEYS: Final = ("a", "b", "c")
ADDED: Final = ("d", "e")


class App(Store):
    """Three numbers."""

    a = Key(0)
    b = Key(0)
    c = Key(0)


class Derivation(NamedTuple):
    """A derived watcher, and the same as a function of all values."""

    watcher: Watcher[Any]
    of: Callable[[dict[str, Any]], Any]


def derive(app: App) -> dict[str, Derivation]:
    """Give what is derived in *app*, by name."""
    one_more = app.a.map(lambda a: a + 1)
    ones = [watcher.is_(1) for watcher in (app.a, app.b, app.c)]
    derivations = [
        Derivation(app.a.map(lambda a: a), lambda now: now["a"]),
        Derivation(one_more.map(lambda one: one // 2), lambda now: (now["a"] + 1) // 2),
        Derivation(
            combine(one_more, app.a.map(lambda a: a // 2), using=lambda one, half: one ^ half),
            lambda now: (now["a"] + 1) ^ (now["a"] // 2),
        ),
        Derivation(
            combine(app.b, app.c, using=lambda b, c: (b + c) % 4),
            lambda now: (now["b"] + now["c"]) % 4,
        ),
        Derivation(
            app.a.matches(is_odd) & ~app.b.is_(2), lambda now: is_odd(now["a"]) and now["b"] != 2
        ),
        Derivation(
            at_least(2, *ones), lambda now: [now[name] == 1 for name in KEYS].count(True) >= 2
        ),
    ]
    return {each.watcher.name: each for each in derivations}


class BoomError(Exception):
    """What user code raises here."""


class Change(NamedTuple):
    """One key's part of a commit."""

    name: str
    old: Any
    new: Any


class Made(NamedTuple):
    """One commit, and what follows from it."""

    revision: int
    changes: tuple[Change, ...]
    derived: tuple[Change, ...] = ()

    def of(self, names: Container[str]) -> tuple[Change, ...]:
        """Give the changes of those that bear one of *names*."""
        return tuple(c for c in (*self.changes, *self.derived) if c.name in names)


class Lost(NamedTuple):
    """What a bounded subscription says of what it lost."""

    missed: int
    first: int
    last: int


@define
class Log:
    """The model: the commits, and whether there will be more."""

    derivations: dict[str, Derivation]
    commits: list[Made] = field(factory=list)
    is_closed: bool = False

    @property
    def revision(self) -> int:
        """The revision of the last commit."""
        return len(self.commits)

    def values(self, revision: int | None = None) -> dict[str, Any]:
        """Give all values at *revision*, or now."""
        values: dict[str, Any] = dict.fromkeys(KEYS, 0)
        for made in self.commits[:revision]:
            values |= {change.name: change.new for change in made.changes}
        return values

    def value(self, name: str, revision: int | None = None) -> Any:
        """Give the value of a key, or of what is derived, at *revision*, or now."""
        values = self.values(revision)
        derivation = self.derivations.get(name)
        return values[name] if derivation is None else derivation.of(values)

    def news(self, name: str, since: int) -> list[Any]:
        """Give the new values of a key, or of what is derived, after the revision *since*."""
        return [change.new for made in self.commits[since:] for change in made.of((name,))]

    def revision_of(self, name: str) -> int:
        """Give the revision of the last transition of a key, or of what is derived."""
        return max((made.revision for made in self.commits if made.of((name,))), default=0)

    def commit(self, wanted: dict[str, Any]) -> Made | None:
        """Add a commit of what differs from the values now, if anything does."""
        values = self.values()
        changes = tuple(
            Change(name, values.get(name, ABSENT), new)
            for name, new in wanted.items()
            if not is_same(values.get(name, ABSENT), new)
        )
        if not changes:
            return None
        after = values | {change.name: change.new for change in changes}
        following = [
            Change(name, derivation.of(values), derivation.of(after))
            for name, derivation in self.derivations.items()
        ]
        derived = tuple(c for c in following if not is_same(c.old, c.new))
        self.commits.append(Made(self.revision + 1, changes, derived))
        return self.commits[-1]


def is_same(old: Any, new: Any) -> bool:
    """Tell whether setting *new* would change nothing."""
    return type(old) is type(new) and old == new


@define(eq=False)
class Queue:
    """The model of a subscription: groups of commits; those of one group come as one record."""

    log: Log
    # What is followed: one key or what is derived, some keys, or None for all.
    names: frozenset[str] | None
    make: Callable[[list[Made], int], object]
    maxlen: int | None = None
    overflow: str = "raise"
    # Whether what is newer replaces the first record too.
    skips: bool = False
    # A first record that stands before all others.
    first: list[object] = field(factory=list)
    groups: list[list[Made]] = field(factory=list)
    lost: list[Made] = field(factory=list)
    at: int = field(init=False)
    is_closed: bool = False
    reader: Job | None = None

    def __attrs_post_init__(self) -> None:
        self.at = self.log.revision

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take."""
        return not (self.first or self.groups or self.lost)

    def push(self, made: Made) -> None:
        """Take in a commit."""
        changes = made.changes if self.names is None else made.of(self.names)
        if self.is_closed or not changes:
            return
        made = Made(made.revision, changes)
        if self.skips:
            self.first.clear()
        is_full = self.maxlen is not None and len(self.groups) == self.maxlen
        if is_full and self.overflow == "latest":
            self.groups[-1].append(made)
        else:
            self.groups.append([made])
            if is_full:
                self.lost += self.groups.pop(0)

    def take(self) -> object:
        """Give the next record, or what is said in place of the lost ones, or None."""
        if self.first:
            return self.first.pop()
        if self.lost:
            lost, self.lost = self.lost, []
            self.at = lost[-1].revision
            return Lost(len(lost), lost[0].revision, lost[-1].revision)
        if self.groups:
            group = self.groups.pop(0)
            self.at = group[-1].revision
            return self.make(group, len(group) - 1)
        return None

    def state(self, revision: int) -> object:
        """Give what a wait tests, as of *revision*: the value, or a text of the snapshot."""
        if self.make is transition_of:
            (name,) = self.names or ()
            return self.log.value(name, revision)
        values = self.log.values(revision)
        if self.names is not None:
            values = {name: value for name, value in values.items() if name in self.names}
        return snapshot_text(Snapshot(values, revision))

    def close(self) -> None:
        """End."""
        self.is_closed = True
        self.first, self.groups, self.lost = [], [], []


def transition_of(group: list[Made], missed: int) -> object:
    """Make the record of a subscription to one key."""
    (first,), (last,) = group[0].changes, group[-1].changes
    return Transition(
        key=first.name,
        old=first.old,
        new=last.new,
        revision=group[-1].revision,
        missed=missed,
    )


def value_of(group: list[Made], _missed: int) -> object:
    """Make what `values()` gives."""
    return group[-1].changes[0].new


def commit_of(group: list[Made], missed: int) -> object:
    """Make the record of a subscription to a store."""
    joined: dict[str, Change] = {}
    for made in group:
        for change in made.changes:
            old = joined.get(change.name, change).old
            joined[change.name] = Change(change.name, old, change.new)
    revision = group[-1].revision
    transitions = tuple(
        Transition(key=name, old=old, new=new, revision=revision)
        for name, old, new in joined.values()
    )
    return Commit(revision=revision, transitions=transitions, missed=missed)


def snapshot_text(snapshot: Snapshot) -> str:
    """Say what is in *snapshot*, in one order."""
    return f"{sorted(snapshot.items())} at {snapshot.revision}"


def agree(expected: object, actual: object) -> None:
    """Assert that both look the same: `True == 1`, but is something else here."""
    assert repr(expected) == repr(actual)


@define(eq=False)
class Job:
    """One task that waits, and what the model has to know of it."""

    timeout: float | None = None
    task: asyncio.Task[None] = field(init=False)
    is_cancelled: bool = False
    # Set by its first step.
    since: int | None = None
    deadline: float | None = None
    is_refused: bool = False
    # Of a wait on a watcher.
    name: str = "a"
    accepts: Callable[[Any], bool] = bool
    is_immediate: bool = True
    shown: list[Any] = field(factory=list)
    # Of a task that reads a subscription.
    queue: Queue | None = None

    def __call__(self, value: Any) -> bool:
        """Be the predicate."""
        self.shown.append(value)
        return self.accepts(value)


@define(eq=False)
class Spy:
    """The predicate or the target of a wait on a subscription: it takes what the wait takes."""

    queue: Queue
    accepts: Callable[[Any], bool]
    looks_first: bool
    has_matched: bool = False

    def __call__(self, seen: Any) -> bool:
        """Compare what the wait looks at with what the model has there."""
        assert not self.has_matched
        if not self.looks_first:
            assert not isinstance(self.queue.take(), Lost | None)
        self.looks_first = False
        text = snapshot_text(seen) if isinstance(seen, Snapshot) else seen
        agree(self.queue.state(self.queue.at), text)
        self.has_matched = self.accepts(sum(seen.values()) if isinstance(seen, Snapshot) else seen)
        return self.has_matched

    def __eq__(self, other: object) -> bool:
        return self(other)

    __hash__ = None  # type: ignore[assignment]


@define(eq=False)
class Callback:
    """One registered callback."""

    machine: StoreAgainstModel
    name: str
    # What it does when it is called, besides being compared.
    effect: Callable[[Callback, Any], None]
    # Of `on_value()`.
    target: Any = None
    fires_once: bool = False
    is_closed: bool = False
    handle: Any = None

    def __call__(self, old: Any, new: Any) -> None:
        """Be the callback."""
        self.machine.called(self, (old, new))

    def fire(self) -> None:
        """Be the callback of `on_value()`."""
        self.machine.called(self, ())

    def close(self) -> None:
        """End it."""
        self.is_closed = True
        if self.handle is not None:
            self.handle.close()


class Due(NamedTuple):
    """A call that is to come."""

    callback: Callback
    revision: int
    change: Change


def is_odd(value: Any) -> bool:
    """Accept odd numbers."""
    return bool(value % 2)


def is_even_unless_three(value: Any) -> bool:
    """Accept even numbers, break at three."""
    if value == 3:
        raise BoomError
    return not value % 2


def accept(_value: Any) -> bool:
    """Accept anything."""
    return True


def refuse(_value: Any) -> bool:
    """Accept nothing."""
    return False


VALUES = st.sampled_from([0, 1, 2, 3, True])
"""`True` equals 1, and yet replacing one by the other is a change."""
NAMED = st.sampled_from(["a", "a", "a", "b", "c"])
"""Most of it happens to one key, or too little would meet."""
NAMES = NAMED | st.sampled_from(ADDED)
WATCHED = NAMED | st.sampled_from(list(derive(App())))
TIMEOUTS = st.sampled_from([None, 0, 1, 2.5, 2.5])
BOUNDS = st.sampled_from(
    [(None, "raise"), (1, "raise"), (2, "raise"), (3, "raise"), (1, "latest"), (2, "latest")]
)


def nothing(_callback: Callback, _new: Any) -> None:
    """Do nothing more."""


def fail(_callback: Callback, _new: Any) -> None:
    """Raise an error."""
    raise BoomError


def end_itself(callback: Callback, _new: Any) -> None:
    """Close the callback."""
    callback.close()


def end_another(callback: Callback, _new: Any) -> None:
    """Close the callback of the same key that was registered last."""
    registered = callback.machine.registered
    same = [c for c in registered if c.name == callback.name and c is not callback]
    for another in same[-1:]:
        another.close()


def relay(callback: Callback, new: Any) -> None:
    """Set the next key to the same value."""
    following = {"a": "b", "b": "c"}.get(callback.name)
    if following is not None and not callback.machine.log.is_closed:
        callback.machine.set_value(following, new)


def add_another(callback: Callback, _new: Any) -> None:
    """Register one more callback, once."""
    callback.effect = nothing
    callback.machine.register(Callback(callback.machine, callback.name, nothing))


EFFECTS: Final = (nothing, fail, end_itself, end_another, relay, add_another)


class Way(NamedTuple):
    """How to open a subscription."""

    kind: str
    name: str
    bound: tuple[int | None, str]
    # For `values()`, whether it skips to the latest.
    initial: bool
    # Whether the loop is running, which is then the one that computes what is derived.
    inside: bool


WAYS = st.builds(
    Way,
    st.sampled_from(["one key", "one key", "all keys", "some keys", "values"]),
    WATCHED,
    BOUNDS,
    st.booleans(),
    st.booleans(),
)


class StoreAgainstModel(RuleBasedStateMachine):
    """Do something to the store, and see that it is what the model says."""

    jobs: Bundle[Job] = Bundle("jobs")
    streams: Bundle[Any] = Bundle("streams")
    callbacks: Bundle[Callback] = Bundle("callbacks")

    def __init__(self) -> None:
        super().__init__()
        self.store = App(on_error=self.failed)
        self.log = Log(derive(self.store))
        self.loop = StepLoop()
        self.every_job: list[Job] = []
        self.queues: dict[Any, Queue] = {}
        self.registered: list[Callback] = []
        self.due: deque[Due] = deque()
        self.fires_now: Callback | None = None
        self.is_calling = False
        self.to_fail: deque[tuple[str, int]] = deque()
        self.recording: Recording | None = None
        # Since which revision, and how many commits.
        self.kept: tuple[int, int | None] = (0, None)
        # What went wrong where nobody could raise it.
        self.broken: list[BaseException] = []

    # What the model says of a commit, and how the store is asked for it.

    def commit(self, wanted: dict[str, Any]) -> Made | None:
        """Commit in the model, and note what follows from it."""
        made = self.log.commit(wanted)
        if made is not None:
            for queue in self.queues.values():
                queue.push(made)
            for change in (*made.changes, *made.derived):
                for callback in self.registered:
                    if not callback.is_closed and callback.name == change.name:
                        self.due.append(Due(callback, made.revision, change))
        return made

    def make(self, name: str, value: Any, act: Callable[[], object]) -> None:
        """Have *act* set a key, and compare the transition."""
        if self.refuses(act):
            return
        made = self.commit({name: value})
        expected = None if made is None else transition_of([made], 0)
        agree(expected, act())

    def refuses(self, act: Callable[[], object]) -> bool:
        """See that a closed store refuses *act*; tell whether it is closed."""
        if self.log.is_closed:
            with pytest.raises(StoreClosedError):
                act()
        return self.log.is_closed

    def set_value(self, name: str, value: Any) -> None:
        """Set a key, if there is such a key."""
        if name in self.log.values():
            self.make(name, value, lambda: self.store[name].set(value))

    def guarded(self, act: Callable[[], None]) -> None:
        """Do something where an error would not come out."""
        try:
            act()
        except Exception as error:
            self.broken.append(error)

    # Changes

    @rule(name=NAMES, values=st.lists(VALUES, min_size=1, max_size=5), each=st.sampled_from([0, 1]))
    def set_in_a_row(self, name: str, values: list[Any], each: float) -> None:
        """Set a key a few times, perhaps one second after the other."""
        for value in values:
            self.set_value(name, value)
            if each:
                self.advance(each)

    @rule(name=NAMES, value=VALUES, in_task=st.booleans())
    def set_soon(self, name: str, value: Any, in_task: bool) -> None:
        """Have the loop set a key, in a task or in a plain callback."""

        async def main() -> None:
            self.guarded(lambda: self.set_value(name, value))

        if in_task:
            self.loop.create_task(main())
        else:
            self.loop.call_soon(self.guarded, lambda: self.set_value(name, value))

    @rule(kind=st.sampled_from(["if", "compare", "update"]), name=NAMED, value=VALUES, other=VALUES)
    def change(self, kind: str, name: str, value: Any, other: Any) -> None:
        """Change a key in a way that depends on its value."""
        watcher = self.store[name]
        now = self.log.values()[name]
        if kind == "update":
            self.make(
                name, (now + value) % 4, lambda: watcher.update(lambda old: (old + value) % 4)
            )
            return
        if kind == "if":
            holds = now < other
            act = lambda: watcher.set_if(value, lambda old: old < other)
        else:
            holds = now == other
            act = lambda: watcher.compare_and_set(other, value)
        if not self.refuses(act):
            if holds:
                self.commit({name: value})
            assert holds is act()

    @rule(
        writes=st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=4),
        read=st.lists(st.sampled_from(KEYS), max_size=2),
        between=st.none() | st.tuples(st.sampled_from(KEYS), VALUES),
        rolls_back=st.booleans(),
    )
    def transaction(
        self,
        writes: list[tuple[str, Any]],
        read: list[str],
        between: tuple[str, Any] | None,
        rolls_back: bool,
    ) -> None:
        """Write several keys at once; somebody may set one of those that were read."""
        if self.refuses(lambda: self.store.transaction().__enter__()):
            return
        conflicts = False
        with contextlib.suppress(BoomError), contextlib.ExitStack() as stack:
            tx = stack.enter_context(self.store.transaction())
            own = self.log.values()
            for name in read:
                agree(own[name], tx[self.store[name]])
            for name, value in writes:
                tx[self.store[name]] = own[name] = value
                agree(own[name], tx[self.store[name]])
            if between is not None:
                before = self.log.revision
                self.set_value(*between)
                touched = {c.name for made in self.log.commits[before:] for c in made.changes}
                conflicts = bool(touched.intersection(read)) and bool(writes)
            if rolls_back:
                raise BoomError
            stack.pop_all()
            if conflicts:
                with pytest.raises(ConflictError):
                    tx.__exit__(None, None, None)
            else:
                self.commit(dict(writes))
                tx.__exit__(None, None, None)

    @rule(name=st.sampled_from(ADDED), value=VALUES)
    def add(self, name: str, value: Any) -> None:
        """Add a key."""
        if name not in self.log.values() and not self.refuses(lambda: self.store.add(name, value)):
            self.commit({name: value})
            agree(value, self.store.add(name, value).value)

    # Waits on watchers

    @rule(
        target=jobs,
        name=WATCHED,
        kind=st.sampled_from(["for", "not", "odd", "boom", "change"]),
        value=VALUES,
        immediate=st.booleans(),
        timeout=TIMEOUTS,
    )
    def wait(self, name: str, kind: str, value: Any, immediate: bool, timeout: float | None) -> Job:
        """Have a task wait for a key, or for what is derived."""
        watcher = self.watcher(name)
        job = Job(timeout=timeout, name=name, is_immediate=immediate)
        if kind == "for":
            job.accepts = lambda now: now == value
            wait = lambda: watcher.wait_for(value, immediate=immediate, timeout=timeout)
        elif kind == "not":
            job.accepts = lambda now: now != value
            wait = lambda: watcher.wait_for_not(value, immediate=immediate, timeout=timeout)
        elif kind == "change":
            job.is_immediate = False
            job.accepts = accept
            wait = lambda: watcher.wait_for_change(timeout=timeout)
        else:
            job.accepts = is_odd if kind == "odd" else is_even_unless_three
            wait = lambda: watcher.wait_until(job, immediate=immediate, timeout=timeout)
        return self.start(job, wait, self.wait_ended)

    def start(
        self,
        job: Job,
        operation: Callable[[], Awaitable[Any]],
        ended: Callable[[Job, object], None],
    ) -> Job:
        """Start the task of *job*."""

        async def main() -> None:
            self.begun(job)
            outcome: object
            try:
                outcome = await operation()
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                outcome = error
            finally:
                if job.queue is not None and job.queue.reader is job:
                    job.queue.reader = None
            self.guarded(lambda: ended(job, outcome))

        job.task = self.loop.create_task(main())
        self.every_job.append(job)
        return job

    def begun(self, job: Job) -> None:
        """Note when and where the first step of *job* is."""
        job.since = self.log.revision
        if job.timeout is not None:
            job.deadline = self.loop.time() + job.timeout
        if job.queue is not None:
            job.is_refused = job.queue.reader is not None
            if not job.is_refused:
                job.queue.reader = job

    def is_late(self, job: Job) -> bool:
        """Whether the time of *job* is up."""
        return job.deadline is not None and job.deadline <= self.loop.time()

    def expected_of(self, job: Job) -> tuple[object, list[Any]]:
        """Say what a wait ends with if it ends now, and what it was shown until then."""
        assert job.since is not None
        before = [self.log.value(job.name, job.since)] if job.is_immediate else []
        shown = []
        for value in before + self.log.news(job.name, job.since):
            shown.append(value)
            try:
                if job.accepts(value):
                    return value, shown
            except BoomError:
                return BoomError, shown
        if self.log.is_closed:
            return StoreClosedError, shown
        return (WaitTimeoutError if self.is_late(job) else "it goes on"), shown

    def wait_ended(self, job: Job, outcome: object) -> None:
        """See that a wait ended as it had to."""
        expected, shown = self.expected_of(job)
        agree(expected, type(outcome) if isinstance(outcome, BaseException) else outcome)
        if job.accepts in (is_odd, is_even_unless_three):
            agree(shown, job.shown)

    @rule(job=jobs, values=st.lists(VALUES, max_size=3), steps=st.integers(0, 3))
    def cancel(self, job: Job, values: list[Any], steps: int) -> None:
        """Cancel a task, perhaps just when it was woken; if it says yes to it, it has to end so."""
        for value in values:
            self.set_value("a" if job.name in self.log.derivations else job.name, value)
        self.loop.steps(steps)
        job.is_cancelled |= job.task.cancel()

    # Subscriptions

    @initialize(
        target=streams,
        seed=st.none() | st.integers(0, 99),
        ways=st.lists(WAYS, min_size=2, max_size=4),
        effects=st.lists(st.sampled_from(EFFECTS), max_size=3),
    )
    def begin(self, seed: int | None, ways: list[Way], effects: list[Any]) -> Any:
        """Have a few consumers; callbacks run as asyncio would have it, or as chance has it."""
        self.loop.close()
        self.loop = StepLoop(seed)
        # For what never comes, so that there is somebody to be told of everything.
        job = Job(name="a", accepts=refuse)
        self.start(job, lambda: self.store.a.wait_until(refuse), self.wait_ended)
        self.loop.settle()
        for effect in effects:
            self.register(Callback(self, "a", effect))
        return multiple(*(self.open(way) for way in ways))

    @rule(target=streams, way=WAYS)
    def subscribe(self, way: Way) -> Any:
        """Open a subscription."""
        return self.open(way)

    def open(self, way: Way) -> Any:
        """Open a subscription, and its model beside it."""
        name = way.name
        # What is derived is bounded from when it was computed, of which the model knows nothing.
        maxlen, overflow = (None, "raise") if name in self.log.derivations else way.bound
        bound: Any = {"maxlen": maxlen, "overflow": overflow}
        now = self.log.value(name)
        if way.kind == "one key":
            with self.running(way.inside):
                stream: Any = self.watcher(name).subscribe(initial=way.initial, **bound)
            queue = Queue(self.log, frozenset([name]), transition_of, maxlen, overflow)
            if way.initial:
                revision = self.see_revision(name, stream._at[1])
                queue.first.append(Transition(key=name, old=now, new=now, revision=revision))
        elif way.kind == "values":
            with self.running(way.inside):
                stream = self.watcher(name).values(latest=way.initial)
            maxlen = 1 if way.initial else None
            queue = Queue(
                self.log, frozenset([name]), value_of, maxlen, "latest", skips=way.initial
            )
            queue.first.append(now)
        elif way.kind == "all keys":
            stream = self.store.subscribe(**bound)
            queue = Queue(self.log, None, commit_of, maxlen, overflow)
        else:
            names = sorted({name, "b"} & set(KEYS))
            stream = self.store.subscribe(*(self.store[name] for name in names), **bound)
            queue = Queue(self.log, frozenset(names), commit_of, maxlen, overflow)
        self.queues[stream] = queue
        return stream

    def running(self, is_inside: bool) -> contextlib.AbstractContextManager[None]:
        """Have the loop running in the block, or not."""
        return inside(self.loop) if is_inside else contextlib.nullcontext()

    def see_revision(self, name: str, revision: int) -> int:
        """See that a current value of *name* may be said to be of *revision*, and give that."""
        own = self.log.revision_of(name)
        if name in self.log.derivations:
            # It may be that of a transition of the sources which changed nothing.
            assert own <= revision <= self.log.revision
        else:
            assert own == revision
        return revision

    @rule(stream=streams)
    def get_nowait(self, stream: Any) -> None:
        """Take what is there."""
        self.take_nowait(stream)

    def take_nowait(self, stream: Any) -> bool:
        """Take a record and compare it; tell whether there was one."""
        queue = self.queues[stream]
        taken = queue.take()
        if taken is not None:
            try:
                agree(taken, stream.get_nowait())
            except LaggedError as error:
                self.lagged(queue, taken, error)
            return True
        closed = StoreClosedError if self.log.is_closed else asyncio.QueueEmpty
        with pytest.raises(SubscriptionError if queue.is_closed else closed):
            stream.get_nowait()
        return False

    def lagged(self, queue: Queue, taken: object, error: LaggedError) -> None:
        """See that *error* says what was lost, and gives what to go on from."""
        agree(taken, Lost(error.missed, error.first_revision, error.last_revision))
        value = snapshot_text(error.value) if isinstance(error.value, Snapshot) else error.value
        agree(queue.state(self.log.revision), value)

    def read(self, stream: Any) -> Job:
        """Have a task take the next record."""
        queue = self.queues[stream]
        return self.start(Job(queue=queue), lambda: anext(stream), self.read_ended)

    def read_ended(self, job: Job, outcome: object) -> None:
        """See that a task got the record that it had to get."""
        queue = job.queue
        assert queue is not None
        if job.is_refused:
            agree(SubscriptionError, type(outcome))
        elif isinstance(outcome, StopAsyncIteration):
            assert queue.is_empty
            assert queue.is_closed or self.log.is_closed
        elif isinstance(outcome, LaggedError):
            self.lagged(queue, queue.take(), outcome)
        else:
            agree(queue.take(), outcome)

    @rule(
        target=jobs,
        stream=streams,
        accepts=st.sampled_from([is_odd, is_even_unless_three, accept, refuse]),
        immediate=st.booleans(),
        timeout=TIMEOUTS,
        by=st.sampled_from(["next", "predicate", "predicate", "target"]),
    )
    def read_in_task(
        self,
        stream: Any,
        accepts: Callable[[Any], bool],
        immediate: bool,
        timeout: float | None,
        by: str,
    ) -> Job:
        """Have a task take the next record, or wait on a subscription."""
        queue = self.queues[stream]
        if by == "next" or queue.make is value_of:
            return self.read(stream)
        spy = Spy(queue, accepts, immediate)
        use = (
            stream.wait_for if by == "target" and queue.make is transition_of else stream.wait_until
        )

        def wait() -> Awaitable[Any]:
            # A stream that is closed has no place to look at.
            spy.looks_first = immediate and not queue.is_closed
            if not job.is_refused:
                # The opening record is no transition.
                queue.first.clear()
            return use(spy, immediate=immediate, timeout=timeout)  # type: ignore[no-any-return]

        job = Job(timeout=timeout, queue=queue)
        return self.start(job, wait, lambda job, outcome: self.scan_ended(job, spy, outcome))

    def scan_ended(self, job: Job, spy: Spy, outcome: object) -> None:
        """See that a wait on a subscription ended as it had to."""
        queue = spy.queue
        if spy.has_matched:
            seen = snapshot_text(outcome) if isinstance(outcome, Snapshot) else outcome
            agree(queue.state(queue.at), seen)
        elif isinstance(outcome, BoomError):
            assert spy.accepts is is_even_unless_three
        elif isinstance(outcome, LaggedError):
            self.lagged(queue, queue.take(), outcome)
        elif isinstance(outcome, AssertionError):
            raise outcome
        elif job.is_refused or queue.is_closed:
            agree(SubscriptionError, type(outcome))
        else:
            assert queue.is_empty
            late = WaitTimeoutError if self.is_late(job) else "it goes on"
            agree(StoreClosedError if self.log.is_closed else late, type(outcome))

    @rule(stream=streams)
    def close_stream(self, stream: Any) -> None:
        """Close a subscription, perhaps while a task reads it."""
        self.queues[stream].close()
        stream.close()

    # Callbacks

    def called(self, callback: Callback, told: tuple[Any, ...]) -> None:
        """Compare a call with the one that is to come."""
        self.guarded(lambda: self.compare_call(callback, told))
        self.is_calling = True
        try:
            callback.effect(callback, told[-1] if told else callback.target)
        except AssertionError as error:
            self.broken.append(error)
        finally:
            self.is_calling = False

    def compare_call(self, callback: Callback, told: tuple[Any, ...]) -> None:
        """See that *callback* is the one to be called now, with what it has to be told."""
        assert not self.is_calling
        if self.fires_now is callback:
            self.fires_now = None
            callback.is_closed = True
            return
        self.skip_closed()
        due = self.next_due(callback)
        assert callback is due.callback
        if callback.fires_once:
            callback.is_closed = True
        else:
            agree((due.change.old, due.change.new), told)
        if callback.effect is fail:
            self.to_fail.append((due.change.name, due.revision))

    def next_due(self, callback: Callback) -> Due:
        """Take the call that is to come now; what is derived has no order but of its own."""
        first = self.due[0]
        name = callback.name if first.change.name in self.log.derivations else first.change.name
        for due in self.due:
            if due.revision == first.revision and due.change.name == name and self.is_to_come(due):
                self.due.remove(due)
                return due
        return first

    def skip_closed(self) -> None:
        """Forget the calls that will not come: of what was closed, and of what does not match."""
        while self.due and not self.is_to_come(self.due[0]):
            self.due.popleft()

    def is_to_come(self, due: Due) -> bool:
        """Tell whether a call is still to come."""
        callback, _, change = due
        is_match = not callback.fires_once or callback.target == change.new
        return is_match and not callback.is_closed

    def failed(self, failure: CallbackFailure) -> None:
        """Be the store's `on_error`."""
        try:
            assert isinstance(failure.error, BoomError)
            assert self.to_fail.popleft() == (failure.key, failure.revision)
        except Exception as error:
            self.broken += [error, failure.error]

    def register(self, callback: Callback) -> None:
        """Register a callback."""
        self.registered.append(callback)
        callback.handle = self.watcher(callback.name).on_change(callback)

    @rule(
        target=callbacks,
        name=WATCHED,
        effect=st.sampled_from(EFFECTS),
    )
    def on_change(self, name: str, effect: Any) -> Callback:
        """Register a callback for all transitions of a key, or of what is derived."""
        callback = Callback(self, name, effect)
        self.register(callback)
        return callback

    @rule(
        target=callbacks,
        name=WATCHED,
        value=VALUES,
        effect=st.sampled_from([nothing, end_another, relay]),
    )
    def on_value(self, name: str, value: Any, effect: Any) -> Callback:
        """Register a callback that fires once."""
        callback = Callback(self, name, nothing, value, fires_once=True)
        fires = self.log.value(name) == value
        if fires:
            self.fires_now = callback
        else:
            callback.effect = effect
        self.registered.append(callback)
        callback.handle = self.watcher(name).on_value(value, callback.fire)
        assert self.fires_now is None
        assert fires is callback.is_closed
        return callback

    @rule(callback=callbacks)
    def close_callback(self, callback: Callback) -> None:
        """Close a callback."""
        callback.close()

    # Recordings

    @rule(maxlen=st.sampled_from([None, 1, 3]))
    def record_or_not(self, maxlen: int | None) -> None:
        """Begin to record, or end it if that is being done."""
        if self.recording is not None:
            self.end_recording()
        else:
            self.recording = self.store.record(maxlen=maxlen)
            self.kept = (self.log.revision, maxlen)

    def end_recording(self) -> None:
        """End a recording, if there is one, and see that it keeps what it had."""
        if self.recording is not None:
            self.recording.close()
            self.see_recording(self.recording)
            self.recording = None

    def see_recording(self, recording: Recording) -> None:
        """See that a recording has the last commits, and the states before and after them."""
        since, maxlen = self.kept
        kept = self.log.commits[since:]
        if maxlen is not None and len(kept) > maxlen:
            kept = kept[-maxlen:]
            since = kept[0].revision - 1
        expected = [commit_of([made], 0) for made in kept]
        commits = recording.commits
        agree(expected, [Commit(revision=c.revision, transitions=c.transitions) for c in commits])
        for revision in (since, self.log.revision):
            state = Snapshot(self.log.values(revision), revision)
            assert snapshot_text(state) == snapshot_text(recording.at(revision))

    # Time, and the end of it

    @rule(number=st.integers(1, 3))
    def step(self, number: int) -> None:
        """Let the loop run a few callbacks."""
        self.loop.steps(number)

    @rule(seconds=st.sampled_from([0.5, 1, 2.5]), is_busy=st.booleans())
    def pass_time(self, seconds: float, is_busy: bool) -> None:
        """Let time pass, perhaps while the loop is busy elsewhere."""
        if is_busy:
            self.loop.fall_behind(seconds)
        else:
            self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass, and what is due happen."""
        self.loop.advance(seconds)
        self.see_that_the_rest_waits()

    @rule()
    def settle(self) -> None:
        """Let the loop run until it has nothing to do."""
        self.loop.settle()
        self.see_that_the_rest_waits()

    def see_that_the_rest_waits(self) -> None:
        """See that no task still waits that should not, now that the loop has nothing to do."""
        for job in self.every_job:
            if job.task.done():
                assert job.is_cancelled is job.task.cancelled()
                continue
            assert not job.is_cancelled
            assert not self.is_late(job)
            if job.queue is None:
                assert "it goes on" == self.expected_of(job)[0]
            else:
                assert job.queue.is_empty
                assert not job.queue.is_closed
                assert not self.log.is_closed

    @precondition(lambda self: self.log.revision > 6)
    @rule(certainty=st.integers(0, 3))
    def close_store(self, certainty: int) -> None:
        """Close the store, once in a while."""
        if certainty == 3:
            self.log.is_closed = True
            self.store.close()

    @invariant()
    def agrees(self) -> None:
        """See that what can be read at any time is what the model says."""
        assert not self.broken, self.broken
        self.skip_closed()
        assert not self.due
        assert not self.to_fail
        values = self.log.values()
        agree(values, {name: watcher.value for name, watcher in self.watchers().items()})
        assert {name: self.log.revision_of(name) for name in values} == {
            name: watcher.revision for name, watcher in self.watchers().items()
        }
        assert self.log.revision == self.store.revision
        for name, derivation in self.log.derivations.items():
            agree(self.log.value(name), derivation.watcher.value)
        snapshot = self.store.snapshot()
        assert snapshot_text(Snapshot(values, self.log.revision)) == snapshot_text(snapshot)
        if self.recording is not None:
            self.see_recording(self.recording)
        for stream, queue in self.queues.items():
            assert len(queue.groups) + len(queue.first) == stream.pending

    def watcher(self, name: str) -> Watcher[Any]:
        """Give the watcher of that name."""
        derivation = self.log.derivations.get(name)
        return self.store[name] if derivation is None else derivation.watcher

    def watchers(self) -> dict[str, Any]:
        """Give the watchers by name, in order."""
        return {name: self.store[name] for name in self.store}

    def teardown(self) -> None:
        """See that everything ends as it should, and leaves nothing behind."""
        try:
            with self.loop:
                # An error that is on its way already shall come out alone.
                if sys.exception() is None:
                    self.see_the_end()
        finally:
            for stream in self.queues:
                stream.close()

    def see_the_end(self) -> None:
        """End all that is left."""
        self.settle()
        self.agrees()
        if self.log.revision % 2:
            # Else the tasks are ended by the end of their stream or of the store.
            for job in self.every_job:
                job.is_cancelled |= job.task.cancel()
        if self.log.revision % 3:
            self.log.is_closed = True
            self.store.close()
        for stream, queue in self.queues.items():
            if self.log.revision % 4:
                while queue.reader is None and self.take_nowait(stream):
                    pass
            elif self.log.is_closed:
                # Once more than there is to take.
                for _ in range(len(queue.groups) + 3):
                    self.read(stream)
                    self.loop.settle()
            self.close_stream(stream)
        for callback in self.registered:
            callback.close()
        self.log.is_closed = True
        self.store.close()
        self.loop.settle()
        self.agrees()
        self.end_recording()
        assert all(job.task.done() for job in self.every_job)
        self.see_that_the_rest_waits()
        assert [] == self.loop.ready()
        assert [] == self.loop.timers()
        assert [] == self.loop.failures
        assert_no_trace(self.store)


StoreAgainstModel.TestCase.settings = settings(
    max_examples=EXAMPLES or 300,
    stateful_step_count=50,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class TestStoreAgainstModel(StoreAgainstModel.TestCase):  # type: ignore[misc]
    """Whatever is done in whatever order, the store is what the model says."""
