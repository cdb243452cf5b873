"""
Random formulas over random histories, against recomputation from scratch.

Hypothesis derives watchers of watchers, sets keys, adds and removes members, and has consumers of
every kind come and go, on two event loops, in a thread of their own and as callbacks. What each of
them has to be told follows from the states of the store alone (`support.recomputation`), and so
does how often each function may be called: once for each commit and mailbox.

`STATESTORE_MODEL_EXAMPLES` sets the number of runs. Without it there are few, always the same ones.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeAlias

from attrs import define, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from statestore import (
    CallbackFailure,
    Condition,
    Family,
    Key,
    Store,
    StoreClosedError,
    Transition,
    all_of,
    any_of,
    at_least,
    combine,
)
from statestore.testing import StepLoop, assert_no_trace, inside
from support.recomputation import (
    GONE,
    NOTHING,
    Applied,
    Call,
    Counting,
    Follower,
    Gathering,
    Given,
    Held,
    Leaf,
    Lost,
    Member,
    Past,
    Plan,
    Removal,
    Report,
    Step,
    Tallying,
    flaws_told,
    is_same,
    told,
)

EXAMPLES: Final = int(os.environ.get("STATESTORE_MODEL_EXAMPLES", "0"))

KEYS: Final = ("a", "b", "c")
FAMILIES: Final = ("crew", "team")
MEMBERS: Final = [(family, key) for family in FAMILIES for key in ("x", "y", "z")]


class App(Store):
    """Three numbers, and two families of them."""

    a = Key(0)
    b = Key(0)
    c = Key(0)
    crew = Family[str, int](default=0)
    team = Family[str, int](default=0)


# What is derived


def weigh(value: Any) -> int:
    """Make a small number of any value, the same one of equal values."""
    if isinstance(value, Mapping):
        value = tuple(weigh(value.get(key, 3)) for key in "xyz")
    if isinstance(value, tuple):
        return sum(place * weigh(each) for place, each in enumerate(value, 2)) % 16
    return int(value)


def fragile(number: int) -> int:
    """Fail for one number of three."""
    if number % 3 == 2:
        raise ArithmeticError(number)
    return number % 3


def brittle(number: int) -> int:
    """Fail for every odd number."""
    if number % 2:
        raise ArithmeticError(number)
    return number // 2


WAYS: Final[dict[str, Callable[[int], Any]]] = {
    "same": lambda number: number,
    "plus one": lambda number: (number + 1) % 8,
    "parity": lambda number: number % 2,
    "is odd": lambda number: bool(number % 2),
    "half": lambda number: number // 2,
    # `True` equals 1, and yet one after the other is a change.
    "1 or True": lambda number: number % 2 if number % 4 < 2 else bool(number % 2),
    "pair": lambda number: (number % 3, number % 2),
    "fragile": fragile,
    "brittle": brittle,
}


@define(eq=False, repr=False)
class Function:
    """A pure function of any values that notes its calls."""

    way: str
    calls: list[tuple[Function, tuple[Any, ...]]]
    plan: Plan = field(init=False)

    def __call__(self, *values: Any) -> Any:
        self.calls.append((self, values))
        return self.pure(*values)

    def pure(self, *values: Any) -> Any:
        """Do it without noting that."""
        return WAYS[self.way](sum(map(weigh, values)))

    def __repr__(self) -> str:
        return f"<{self.way}>"


class Recipe(NamedTuple):
    """How to derive one more watcher: of which of the others, counted from the last one."""

    kind: str
    picks: list[int]
    way: str
    number: int


RECIPES = st.builds(
    Recipe,
    st.sampled_from(
        ["map"] * 4
        + ["combine", "using", "using", "is", "is not", "matches", "all of", "any of", "at least"]
        + ["and", "or", "not", "all", "any", "at least of", "count", "number", "mapping"]
    ),
    st.lists(st.integers(0, 9), min_size=1, max_size=3),
    st.sampled_from(sorted(WAYS)),
    st.integers(0, 3),
)


Made: TypeAlias = tuple[Any, Callable[..., Any], bool]
"""A watcher, what it gives for the values of its sources, and whether the function is called."""

APPLIED: Final[dict[str, Callable[[list[Any], Function, int], Made]]] = {
    "map": lambda w, f, _: (w[0].map(f), f.pure, True),
    "is": lambda w, _, n: (w[0].is_(n), lambda value: bool(value == n), False),
    "is not": lambda w, _, n: (w[0].is_not(n), lambda value: bool(value != n), False),
    "matches": lambda w, f, _: (w[0].matches(f), lambda value: bool(f.pure(value)), True),
    "combine": lambda w, _f, _n: (combine(*w), lambda *values: values, False),
    "using": lambda w, f, _: (combine(*w, using=f), f.pure, True),
    "not": lambda w, _f, _n: (~w[0], lambda value: not value, False),
}
COUNTED: Final[dict[str, Callable[[list[Any], int], tuple[Any, int]]]] = {
    "all of": lambda w, _: (all_of(*w), len(w)),
    "any of": lambda w, _: (any_of(*w), 1),
    "at least": lambda w, n: (at_least(1 + n % len(w), *w), 1 + n % len(w)),
    "and": lambda w, _: (w[0] & w[-1], 2),
    "or": lambda w, _: (w[-1] | w[0], 1),
}
OF_MEMBERS: Final[dict[str, Callable[[Any, Function, int], tuple[Any, Any]]]] = {
    "all": lambda m, f, _: (m.all(f), lambda holding, number: holding == number),
    "any": lambda m, f, _: (m.any(f), lambda holding, _: holding > 0),
    "at least of": lambda m, f, n: (m.at_least(n + 1, f), lambda holding, _: holding > n),
    "count": lambda m, f, _: (m.count(f), lambda holding, _: holding),
    "number": lambda m, _f, _n: (m.count(), lambda _, number: number),
    "mapping": lambda m, _f, _n: (m.mapping, None),
}


# What happens


class Action(NamedTuple):
    """A change of a key or a member, or a member that comes or goes."""

    kind: str
    pick: int
    value: Any


ACTIONS = st.lists(
    st.builds(
        Action,
        st.sampled_from(["set"] * 8 + ["add", "remove"]),
        st.integers(0, 8),
        st.sampled_from([0, 1, 2, 3, 4, True]),
    ),
    min_size=1,
    max_size=6,
)


class WayIn(NamedTuple):
    """How to open a subscription: to what, on which loop or in a thread, and how bounded."""

    pick: int
    where: int
    bound: tuple[int | None, Any]
    is_initial: bool


WAYS_IN = st.builds(
    WayIn,
    st.integers(0, 9),
    st.integers(0, 2),
    st.sampled_from([(None, "raise")] * 3 + [(1, "raise"), (2, "raise"), (2, "latest")]),
    st.booleans(),
)
EFFECTS = st.tuples(st.integers(0, 9), st.sampled_from(["none", "none", "end", "relay"]))


def observe(read: Callable[[], object]) -> object:
    """Give what *read* gives, or what is compared of the error."""
    try:
        return read()
    except asyncio.QueueEmpty:
        return NOTHING
    except Exception as error:
        return told(error)


@define(eq=False)
class Consumer(ABC):
    """One consumer, and what it has to be told."""

    machine: DerivedAgainstRecomputation
    plan: Plan
    mailbox: object
    follower: Follower = field(init=False)

    @property
    @abstractmethod
    def is_live(self) -> bool:
        """Whether it still needs what it follows to be computed."""

    @abstractmethod
    def close(self) -> None:
        """End it."""

    def check(self) -> None:  # noqa: B027 -- most are compared when they are read
        """Compare what it was told by itself."""

    def follow(self, *, is_shared: bool) -> None:
        """Begin here and now."""
        self.follower = Follower(self.plan, self.plan.past.now, is_shared)


@define(eq=False)
class Reader(Consumer):
    """A subscription without a bound, on a loop or in a thread."""

    stream: Any
    is_initial: bool = False

    def __attrs_post_init__(self) -> None:
        self.follow(is_shared=isinstance(self.mailbox, StepLoop))

    @property
    def is_live(self) -> bool:
        return not self.stream._closed

    def close(self) -> None:
        self.stream.close()

    def read(self) -> bool:
        """Take what comes next; tell whether there was something."""
        with self.machine.working(self.mailbox):
            actual = observe(self.stream.get_nowait)
        if self.is_initial:
            self.is_initial = False
            self.see_the_first(actual)
            return True
        if self.has_ended():
            assert isinstance(actual, Removal)
            return False
        if actual is StoreClosedError:
            assert self.machine.is_closed
            actual = NOTHING
        self.compare(actual)
        # The end by a removal is told once more each time.
        return actual is not NOTHING and not isinstance(actual, Removal)

    def see_the_first(self, actual: object) -> None:
        """Compare the record of the opening."""
        follower = self.follower
        result = self.plan.at(follower.since)
        if result.flaws:
            assert follower.flaws_told(result, actual), (result, actual)
            return
        assert isinstance(actual, Transition)
        assert is_same(result.value, actual.new)
        assert actual.old is actual.new
        came, latest = self.plan.came(follower.since), self.plan.latest(follower.since)
        assert came <= actual.revision <= latest

    def has_ended(self) -> bool:
        """Whether it gives nothing any more but the error that says so."""
        return self.follower.is_over

    def compare(self, actual: object) -> None:
        """Compare what was taken."""
        self.follower.meet(actual)


@define(eq=False)
class BoundedReader(Reader):
    """A subscription with a bound."""

    maxlen: int = 1
    overflow: str = "raise"
    kept: deque[Step] = field(init=False, factory=deque)
    lost: list[Step] = field(init=False, factory=list)
    # Whether nothing is foretold any more.
    is_vague: bool = False

    def has_ended(self) -> bool:
        self.pull()
        return self.follower.is_over and not self.kept and not self.lost

    def pull(self) -> None:
        """Take in all transitions up to now."""
        follower = self.follower
        while not self.is_vague and (step := follower.peek()) is not None:
            # With one transition more or less, all that follows is another.
            self.is_vague = not step.is_certain
            follower.take(step, step.result.flaws)
            if not follower.is_over:
                self.push(step)

    def push(self, step: Step) -> None:
        """Take in one of them."""
        if len(self.kept) == self.maxlen and self.overflow == "latest":
            last = self.kept.pop()
            step = step._replace(olds=last.olds, missed=last.missed + 1)
        self.kept.append(step)
        if len(self.kept) > self.maxlen:
            self.lost.append(self.kept.popleft())

    def compare(self, actual: object) -> None:
        follower = self.follower
        if self.is_vague:
            return
        if self.lost:
            lost, self.lost = self.lost, []
            assert isinstance(actual, Lost), actual
            assert (len(lost), lost[0].revision, lost[-1].revision) == actual[:3]
            assert any(is_same(value, actual.value) for value in follower.olds)
        elif self.kept:
            step = self.kept.popleft()
            assert follower.match(step, actual) is not None, (step, actual)
        else:
            assert actual is NOTHING


@define(eq=False)
class Waiter(Consumer):
    """A task that waits."""

    kind: str
    target: Any
    is_immediate: bool
    task: asyncio.Task[object] = field(init=False)
    is_begun: bool = False

    def __attrs_post_init__(self) -> None:
        assert isinstance(self.mailbox, StepLoop)
        # The task alone keeps the watcher from now on.
        self.task = self.mailbox.create_task(self.main(self.plan.watcher))

    async def main(self, watcher: Any) -> object:
        """Wait."""
        self.is_begun = True
        self.machine.opened.append(self.plan)
        self.follow(is_shared=True)
        try:
            if self.kind == "for":
                return await watcher.wait_for(self.target, immediate=self.is_immediate)
            if self.kind == "change":
                return await watcher.wait_for_change()
            return await watcher.wait_until(self.accepts, immediate=self.is_immediate)
        except Exception as error:
            return told(error)

    def accepts(self, value: Any) -> bool:
        """Whether *value* is what it waits for."""
        if self.kind == "change":
            return True
        return bool(value == self.target if self.kind == "for" else weigh(value) % 2)

    @property
    def is_live(self) -> bool:
        return self.is_begun and not self.task.done()

    def close(self) -> None:
        self.task.cancel()

    def check(self) -> None:
        if self.task.done():
            del self.machine.consumers[self]
            if not self.task.cancelled():
                self.end(self.task.result())
            self.machine.leaving[self.mailbox].append(self.plan)
            # A task that was cancelled knows the frames it came from, and with them this.
            del self.task

    def end(self, outcome: object) -> None:
        """See that it ended as it had to."""
        follower = self.follower
        first = self.plan.at(follower.since)
        if follower.is_over or (self.is_immediate and self.kind != "change"):
            if first.flaws:
                assert follower.flaws_told(first, outcome), (first, outcome)
                return
            if self.accepts(first.value):
                assert is_same(first.value, outcome)
                return
        self.end_later(outcome)

    def end_later(self, outcome: object) -> None:
        """See that it ended with the transition with which it had to end."""
        follower = self.follower
        while (step := follower.peek()) is not None:
            result = step.result
            if result.flaws and follower.flaws_told(result, outcome):
                return
            if not result.flaws and self.accepts(result.value):
                assert is_same(result.value, outcome), (result.value, outcome)
                return
            assert not (result.flaws and step.is_certain), (result, outcome)
            follower.pass_over(step)
        assert self.machine.is_closed
        assert outcome is StoreClosedError

    def see_that_it_waits(self) -> None:
        """See that it is not over yet, now that its loop has nothing to do."""
        if self.task.done():
            return
        follower = Follower(self.plan, self.follower.since, is_shared=True)
        first = self.plan.at(follower.since)
        assert not self.machine.is_closed
        if self.is_immediate and self.kind != "change":
            assert not first.flaws
            assert not self.accepts(first.value)
        assert not follower.is_over
        while (step := follower.peek()) is not None:
            assert not step.is_certain or not step.result.flaws
            assert step.result.flaws or not self.accepts(step.result.value)
            follower.pass_over(step)


@define(eq=False)
class Callback(Consumer):
    """A callback, and what it does when it is called."""

    effect: str
    handle: Any = None
    told: list[object] = field(init=False, factory=list)
    relays: int = 2

    def __attrs_post_init__(self) -> None:
        self.handle = self.plan.watcher.on_change(self)
        self.follow(is_shared=True)

    def __call__(self, old: object, new: object) -> None:
        """Be the callback."""
        machine = self.machine
        assert not self.handle.is_closed
        self.told.append(Call(old, new))
        if self.effect == "end":
            self.handle.close()
        elif self.effect == "relay" and self.relays and not machine.is_closed:
            self.relays -= 1
            machine.set_leaf("c", (machine.past.states[-1]["c"].value + 1) % 4)

    def failed(self, failure: CallbackFailure) -> None:
        """Hear of an error in place of a call."""
        assert not self.handle.is_closed
        self.told.append(Report(failure.revision, told(failure.error)))

    @property
    def is_live(self) -> bool:
        return not self.handle.is_closed

    def close(self) -> None:
        self.handle.close()

    def check(self) -> None:
        for each in self.told:
            self.follower.meet(each)
        self.told.clear()
        if isinstance(self.plan, Given) and self.plan.at(self.plan.past.now).flaws:
            # A member that is removed has no more to tell to its own callbacks.
            self.follower.is_over = True
        if self.is_live:
            self.follower.meet(NOTHING)
        else:
            self.machine.consumers.pop(self, None)


class DerivedAgainstRecomputation(RuleBasedStateMachine):
    """Derive, change and consume, and see that everybody is told what follows from the states."""

    def __init__(self) -> None:
        super().__init__()
        self.store = App(on_error=self.failed)
        self.loops = (StepLoop(), StepLoop(seed=1))
        state: dict[Leaf, Held] = {key: Held(0, 0) for key in KEYS}
        self.past = Past([state | {family: Held((), 0) for family in FAMILIES}])
        self.is_closed = False
        # What is set, and all that is derived.
        self.given: dict[Leaf, Given] = {}
        self.plans: list[Plan] = []
        self.formulas: list[weakref.ref[Any]] = []
        self.consumers: dict[Consumer, Consumer] = {}
        # Calls of functions that were not accounted for yet, and what was opened meanwhile.
        self.calls: list[tuple[Function, tuple[Any, ...]]] = []
        self.opened: list[Plan] = []
        self.is_working = False
        # The revision for which a function was called last, by mailbox.
        self.reached: dict[tuple[object, Plan], int] = {}
        self.was_read: dict[Plan, int] = {}
        # What a wait needed that has ended, until its loop has looked at all that is ready.
        self.leaving: dict[object, list[Plan]] = {loop: [] for loop in self.loops}
        # What went wrong where nobody could raise it.
        self.broken: list[BaseException] = []

    # Who may call functions, and how often

    @contextmanager
    def working(self, mailbox: object, *opened: Plan) -> Iterator[None]:
        """See that only *mailbox* computes, and that no more than its consumers need."""
        if self.is_working:
            # A callback that sets a key: what is done around it accounts for the calls.
            yield
            return
        self.is_working = True
        needed = self.needed_in(mailbox)
        self.opened += opened
        yield
        self.is_working = False
        calls: dict[Function, list[tuple[Any, ...]]] = {}
        for function, values in self.calls:
            calls.setdefault(function, []).append(values)
        needed |= self.needed_in(mailbox).union(*(plan.closure for plan in self.opened))
        for function, every in calls.items():
            assert function.plan in needed, function
            self.account(mailbox, function.plan, every)
        for plan in self.opened:
            # Whoever opens something has computed all that was new.
            self.reached |= {(mailbox, each): self.past.now for each in plan.closure}
        self.calls.clear()
        self.opened.clear()

    def needed_in(self, mailbox: object) -> frozenset[Plan]:
        """Give what is to be computed in *mailbox*."""
        live = [each for each in self.consumers if each.mailbox is mailbox and each.is_live]
        plans = [each.plan for each in live] + self.leaving.get(mailbox, [])
        return frozenset[Plan]().union(*(plan.closure for plan in plans))

    def account(self, mailbox: object, plan: Plan, calls: list[tuple[Any, ...]]) -> None:
        """See that each call is for a commit of its own, with values of its revision."""
        now = self.past.now
        first = 1 + self.reached.get((mailbox, plan), 0)
        window = [(r, v) for r in range(first, now + 1) for v in plan.occasions(r, afresh=False)]
        begun = len(self.opened) * plan.occasions(now, afresh=True)
        for values in calls:
            at = next((r for r, occasion in window if occasion == values), None)
            if at is None:
                # Whoever begins has the values of that moment computed.
                assert values in begun, (mailbox, plan, values)
                begun.remove(values)
            else:
                window.remove((at, values))
                window = [occasion for occasion in window if occasion[0] >= at]
                self.reached[mailbox, plan] = at

    # What is derived

    @initialize(
        recipes=st.lists(RECIPES, min_size=3, max_size=10),
        ways=st.lists(WAYS_IN, min_size=1, max_size=4),
        effects=st.lists(EFFECTS, max_size=3),
    )
    def begin(
        self, recipes: list[Recipe], ways: list[WayIn], effects: list[tuple[int, str]]
    ) -> None:
        """Have something to begin with."""
        for key in KEYS:
            self.give(key, self.store[key])
        for family, key in MEMBERS[:4:2]:
            self.add(family, key, 1)
        for recipe in recipes:
            self.derive(recipe)
        for way in ways:
            self.subscribe(way)
        for effect in effects:
            self.call_back(effect)

    def give(self, leaf: Leaf, watcher: Any) -> None:
        """Take in a key or a member."""
        self.given[leaf] = Given(self.past, (), watcher=watcher, leaf=leaf)

    def choose(self, pick: int) -> Plan:
        """Give one of all watchers, counted from the last one."""
        given = [*self.given.values()]
        # Members come first, and are chosen rarely: what follows one that is removed is dead.
        pool = [*given[len(KEYS) :], *given[: len(KEYS)], *self.plans]
        return pool[-1 - pick % len(pool)]

    @rule(recipe=RECIPES)
    def derive(self, recipe: Recipe) -> None:
        """Derive one more watcher."""
        function = Function(recipe.way, self.calls)
        plan = self.plan_of(recipe, function, [self.choose(pick) for pick in recipe.picks])
        function.plan = plan
        self.keep(plan)

    def keep(self, plan: Plan) -> Plan:
        """Take in a derived watcher."""
        self.plans.append(plan)
        self.formulas.append(weakref.ref(plan.watcher._formula))
        return plan

    def plan_of(self, recipe: Recipe, function: Function, sources: list[Plan]) -> Plan:
        """Derive a watcher, and tell once more what it is made of."""
        kind, picks, _, number = recipe
        if kind in OF_MEMBERS:
            family = FAMILIES[picks[0] % 2]
            watcher, finish = OF_MEMBERS[kind](getattr(self.store, family), function, number)
            if finish is None:
                return Gathering(self.past, (), watcher=watcher, family=family)
            return Tallying(
                self.past,
                (),
                function,
                watcher,
                family=family,
                pure=bool if kind == "number" else function.pure,
                finish=finish,
            )
        if kind in COUNTED:
            if kind in ("and", "or"):
                sources = [self.condition_of(sources[0]), sources[-1]]
            watcher, least = COUNTED[kind]([source.watcher for source in sources], number)
            return Counting(self.past, tuple(sources), None, watcher, least=least)
        if kind not in ("combine", "using"):
            sources = sources[:1]
        if kind == "not":
            sources = [self.condition_of(sources[0])]
        watcher, pure, is_noted = APPLIED[kind](
            [source.watcher for source in sources], function, number
        )
        noted = function if is_noted else None
        return Applied(self.past, tuple(sources), noted, watcher, pure=pure)

    def condition_of(self, source: Plan) -> Plan:
        """Give a plan for a condition, which has operators."""
        if isinstance(source.watcher, Condition):
            return source
        condition = source.watcher.is_not(0)
        return self.keep(
            Applied(self.past, (source,), None, condition, pure=lambda value: bool(value != 0))
        )

    @rule(pick=st.integers(0, 9))
    def forget(self, pick: int) -> None:
        """Drop a derived watcher, whatever still follows it."""
        if len(self.plans) > 4:
            with self.working("nobody"):
                self.plans.pop(-1 - pick % len(self.plans)).watcher = None

    # What happens to the store

    @rule(actions=ACTIONS, is_joined=st.booleans())
    def change(self, actions: list[Action], is_joined: bool) -> None:
        """Set, add and remove, each for itself or all of it in one commit."""
        if self.is_closed:
            return
        if is_joined:
            self.change_together(actions)
            return
        for action in actions:
            if action.kind == "set":
                self.set_leaf(self.leaf_of(action.pick), action.value)
            elif action.kind == "add":
                family, key = MEMBERS[action.pick % len(MEMBERS)]
                if key not in getattr(self.store, family):
                    self.add(family, key, action.value)
            elif self.present():
                self.remove(self.present()[action.pick % len(self.present())])

    def present(self) -> list[Member]:
        """List the members that there are."""
        state = self.past.states[-1]
        return [member for family in FAMILIES for member in state[family].value]

    def leaf_of(self, pick: int) -> Leaf:
        """Give something to set."""
        leaves = [*KEYS, *self.present()]
        return leaves[pick % len(leaves)]

    def set_leaf(self, leaf: Leaf, value: Any) -> None:
        """Set a key or a member."""
        with self.working("callbacks"):
            self.past.commit({leaf: value})
            self.given[leaf].watcher.value = value

    def add(self, family: str, key: str, value: Any) -> None:
        """Add a member."""
        member = Member(family, key, len(self.given))
        with self.working("callbacks"):
            self.past.commit({member: value})
            self.give(member, getattr(self.store, family).add(key, value))

    def remove(self, member: Member) -> None:
        """Remove a member."""
        with self.working("callbacks"):
            self.past.commit({member: GONE})
            del getattr(self.store, member.family)[member.key]

    def change_together(self, actions: list[Action]) -> None:
        """Do all of it in one commit."""
        wanted: dict[Leaf, Any] = {}
        added: list[Member] = []
        with self.working("callbacks"):
            with self.store.transaction() as tx:
                for kind, pick, value in actions:
                    there = [member for member in self.present() if wanted.get(member) is not GONE]
                    taken = [member[:2] for member in (*there, *added)]
                    family, key = MEMBERS[pick % len(MEMBERS)]
                    if kind == "set" and wanted.get(leaf := self.leaf_of(pick)) is not GONE:
                        wanted[leaf] = tx[self.given[leaf].watcher] = value
                    elif kind == "add" and (family, key) not in taken:
                        added.append(Member(family, key, len(self.given) + len(added)))
                        wanted[added[-1]] = value
                        tx.add(getattr(self.store, family), key, value)
                    elif kind == "remove" and there:
                        gone = there[pick % len(there)]
                        wanted[gone] = GONE
                        tx.remove(getattr(self.store, gone.family), gone.key)
                self.past.commit(wanted)
            for member in added:
                self.give(member, getattr(self.store, member.family)[member.key])

    @rule(certainty=st.integers(0, 9))
    def close_store(self, certainty: int) -> None:
        """Close the store, once in a while."""
        if certainty == 9 and self.past.now > 9:
            with self.working("nobody"):
                self.is_closed = True
                self.store.close()

    # Consumers

    @rule(way=WAYS_IN)
    def subscribe(self, way: WayIn) -> None:
        """Open a subscription on a loop, or in a thread."""
        pick, where, (maxlen, overflow), is_initial = way
        plan = self.choose(pick)
        if where < len(self.loops):
            mailbox: object = self.loops[where]
            with self.working(mailbox, plan), inside(self.loops[where]):
                stream: Any = plan.watcher.subscribe(
                    initial=is_initial, maxlen=maxlen, overflow=overflow
                )
        else:
            mailbox = object()
            with self.working(mailbox, plan):
                stream = plan.watcher.blocking.subscribe(
                    initial=is_initial, maxlen=maxlen, overflow=overflow
                )
        if maxlen is None:
            reader = Reader(self, plan, mailbox, stream, is_initial)
        else:
            reader = BoundedReader(self, plan, mailbox, stream, is_initial, maxlen, overflow)
        self.consumers[reader] = reader

    @rule(
        pick=st.integers(0, 9),
        where=st.integers(0, 1),
        kind=st.sampled_from(["for", "odd", "odd", "change"]),
        wanted=st.integers(0, 3) | st.booleans(),
        is_immediate=st.booleans(),
    )
    def wait(self, pick: int, where: int, kind: str, wanted: Any, is_immediate: bool) -> None:
        """Have a task wait."""
        waiter = Waiter(self, self.choose(pick), self.loops[where], kind, wanted, is_immediate)
        self.consumers[waiter] = waiter

    @rule(effect=EFFECTS)
    def call_back(self, effect: tuple[int, str]) -> None:
        """Register a callback."""
        plan = self.choose(effect[0])
        with self.working("callbacks", plan):
            callback = Callback(self, plan, "callbacks", effect[1])
        self.consumers[callback] = callback

    def failed(self, failure: CallbackFailure) -> None:
        """Be the store's `on_error`."""
        try:
            assert isinstance(failure.callback, Callback)
            failure.callback.failed(failure)
        except Exception as error:
            self.broken += [error, failure.error]

    @rule(pick=st.integers(0, 9), number=st.integers(1, 4))
    def read(self, pick: int, number: int) -> None:
        """Take what a subscription has."""
        readers = [each for each in self.consumers if isinstance(each, Reader)]
        if readers:
            reader = readers[-1 - pick % len(readers)]
            while number and reader.read():
                number -= 1

    @rule(pick=st.integers(0, 9))
    def close(self, pick: int) -> None:
        """End a consumer."""
        every = list(self.consumers)
        if every:
            self.end(every[-1 - pick % len(every)])

    def end(self, consumer: Consumer) -> None:
        """End one consumer."""
        with self.working("nobody"):
            consumer.close()
        if isinstance(consumer, Reader):
            del self.consumers[consumer]

    @rule(where=st.integers(0, 1), number=st.integers(1, 3))
    def step(self, where: int, number: int) -> None:
        """Let a loop run a few callbacks."""
        with self.working(self.loops[where]):
            self.loops[where].steps(number)

    @rule(where=st.integers(0, 1))
    def settle(self, where: int) -> None:
        """Let a loop run until it has nothing to do."""
        loop = self.loops[where]
        with self.working(loop):
            loop.settle()
        self.leaving[loop].clear()
        for each in self.consumers:
            if isinstance(each, Waiter) and each.mailbox is loop:
                each.see_that_it_waits()

    @invariant()
    def agrees(self) -> None:
        """See that everybody was told what there was to tell, and that values are what they are."""
        assert not self.broken, self.broken
        for consumer in self.consumers.copy():
            consumer.check()
        now = self.past.now
        assert now == self.store.revision
        for plan in self.plans:
            self.see_the_value(plan)

    def see_the_value(self, plan: Plan) -> None:
        """Compare the value, which is worked out only if it may have changed."""
        now = self.past.now
        result, latest = plan.at(now), plan.latest(now)
        was_read = self.was_read.get(plan, -1)
        with self.working("reads", *[plan] * (latest > was_read)):
            actual = observe(lambda: plan.watcher.value)
            assert latest == plan.watcher.revision
        self.was_read[plan] = now
        if not result.flaws:
            assert is_same(result.value, actual), (result.value, actual)
            return
        assert flaws_told(result, actual, lambda _flaw: latest), (result, actual)

    # The end

    def teardown(self) -> None:
        """See that everything ends as it should, and leaves nothing behind."""
        try:
            # An error that is on its way already shall come out alone.
            if sys.exception() is None:
                self.see_the_end()
        finally:
            for consumer in self.consumers:
                consumer.close()
            for loop in self.loops:
                with loop:
                    pass

    def see_the_end(self) -> None:
        """End all that is left, and see that nothing stays behind."""
        self.settle(0)
        self.settle(1)
        self.agrees()
        if self.past.now % 2:
            self.is_closed = True
            self.store.close()
        self.end_all()
        for loop in self.loops:
            loop.settle()
            assert [] == loop.ready()
            assert [] == loop.failures
        self.agrees()
        assert {} == self.consumers
        assert_no_trace(self.store)
        for plan in self.plans:
            plan.watcher = None
        if self.past.now % 4 == 3:
            # Not always, as it takes long.
            gc.collect()
            assert [] == [kept for formula in self.formulas if (kept := formula()) is not None]

    def end_all(self) -> None:
        """End every consumer, but waits that the end of the store ends."""
        for consumer in list(self.consumers):
            if isinstance(consumer, Reader):
                while consumer.read():
                    pass
            if not (self.is_closed and isinstance(consumer, Waiter)):
                self.end(consumer)


DerivedAgainstRecomputation.TestCase.settings = settings(
    max_examples=EXAMPLES or 200,
    stateful_step_count=40,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class TestDerivedAgainstRecomputation(DerivedAgainstRecomputation.TestCase):  # type: ignore[misc]
    """Whatever is derived and done, everybody is told what follows from the states."""
