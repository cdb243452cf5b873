"""Values: what is immutable, how a refusal reads, and when two values are the same."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import gc
import ipaddress
import math
import pathlib
import pickle
import re
import sys
import threading
import time
import types
import uuid
import weakref
import zoneinfo
from typing import Any, Generic, NamedTuple, TypeVar

import attr
import attrs
import immutables
import msgspec
import pydantic
import pydantic.dataclasses
import pyrsistent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statestore import ABSENT, _classes
from statestore._classes import PLAIN, Ref, register_immutable
from statestore._text import shorten
from statestore._values import MAX_DEPTH, check_immutable, is_same
from statestore.errors import MutableValueError

T = TypeVar("T")


@attrs.frozen
class Server:
    name: str = "a"
    tags: object = ()


@attrs.frozen
class Config:
    servers: object = ()
    port: int = 80


@dataclasses.dataclass(frozen=True)
class Point:
    x: object = 0
    y: object = 0


class Pair(NamedTuple):
    left: object = None
    right: object = None


class Color(enum.Enum):
    RED = [1]  # noqa: RUF012 - mutable on purpose
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Model(pydantic.BaseModel, frozen=True):
    name: str = ""
    tags: Any = ()


class Struct(msgspec.Struct, frozen=True):
    name: str = ""
    tags: object = ()


class Thing:
    """An ordinary object, hashable, with state."""


class Node:
    """Registered by the tests, with what `items` holds as its parts."""

    def __init__(self, *items: object) -> None:
        self.items = items
        self.looks = 0

    def parts(self) -> tuple[object, ...]:
        self.looks += 1
        return self.items


register_immutable(Node, parts=Node.parts)


class Hostile:
    """Its methods must not be called before it is known to be immutable."""

    def __hash__(self) -> int:
        raise AssertionError

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    def __repr__(self) -> str:
        raise AssertionError


def refusal(value: object, known: object = None) -> MutableValueError:
    with pytest.raises(MutableValueError) as caught:
        check_immutable(value, "config", known)
    assert str(caught.value).startswith(f"{caught.value.path}: ")
    return caught.value


def nested(depth: int, value: object = ()) -> object:
    for _ in range(depth):
        value = (value,)
    return value


PLAIN_VALUES = [
    *(None, True, 1, 1.5, 1j, "a", b"a", ..., NotImplemented),
    *(decimal.Decimal(1), fractions.Fraction(1, 2), uuid.UUID(int=1), range(3), re.compile("a")),
    *(dt.date(2020, 1, 1), dt.timedelta(1), dt.UTC, zoneinfo.ZoneInfo("UTC")),
    *(pathlib.Path("a"), pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a")),
    *(ipaddress.ip_address("::1"), ipaddress.ip_network("10.0.0.0/8")),
    *(ipaddress.ip_interface("10.0.0.1/8"), list[int], int | None, int, Config, str.upper, Ref([])),
]


# -- what is admitted ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", PLAIN_VALUES, ids=repr)
def test_plain_types_need_no_look(value: object) -> None:
    """The immutable standard types are plain."""
    assert type(value) in PLAIN
    check_immutable(value, "config")


@pytest.mark.parametrize(
    "value",
    [
        (),
        (1, "a", (2, None)),
        frozenset({1, ("a", 2)}),
        slice(1, (2,)),
        dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        dt.datetime(2020, 1, 1),  # noqa: DTZ001 - without a time zone
        dt.time(1, tzinfo=zoneinfo.ZoneInfo("UTC")),
        Config(servers=(Server(), Server(tags=("x",)))),
        Point(1, (2, Point())),
        Pair(1, (2,)),
        Pair(),
        Model(tags=(1, (2,))),
        Struct(tags=(1, (2,))),
    ],
    ids=repr,
)
def test_immutable_containers_of_immutables(value: object) -> None:
    """Containers that cannot be changed are admitted with parts that cannot be changed."""
    check_immutable(value, "config")


@pytest.mark.parametrize("value", [Color.RED, Color.BLUE, Level.LOW, re.IGNORECASE | re.VERBOSE])
def test_enum_members_are_names(value: object) -> None:
    """A member of an enum is admitted whatever stands for it."""
    check_immutable(value, "config")


@pytest.mark.parametrize(
    "value", [nested, math.sin, len, Node.parts, dict.fromkeys, Model.model_validate]
)
def test_functions_are_names(value: object) -> None:
    """A function that its module has under its name is admitted, as is one bound to a class."""
    check_immutable(value, "config")


@pytest.mark.parametrize(
    "value", [type, Thing, Config, enum.EnumMeta, Color, type("Local", (), {})]
)
def test_classes_are_names(value: type) -> None:
    """Any class is admitted, with any metaclass."""
    check_immutable(value, "config")


def test_old_attrs_spelling_is_frozen() -> None:
    """What `attr.s(frozen=True)` made is as good as `attrs.frozen`."""

    @attr.s(frozen=True, slots=False)
    class Old:
        x = attr.ib()

    check_immutable(Old((1,)), "config")
    assert ".x: list can" in str(refusal(Old([])))[len("config") :]


def test_generic_frozen_classes() -> None:
    """`Generic` in the bases of a frozen class is no obstacle."""

    @attrs.frozen
    class Box(Generic[T]):
        item: T

    class GenericPair(NamedTuple, Generic[T]):
        item: T

    check_immutable((Box(1), GenericPair((2,))), "config")
    assert "config.item" == refusal(Box([])).path


def test_a_plain_subclass_of_frozen_attrs() -> None:
    """It inherits the guard of its base, so it is admitted and its fields are looked at."""

    class Sub(Server):
        def shout(self) -> str:
            return self.name.upper()

    check_immutable(Sub(), "config")
    assert "config.tags" == refusal(Sub(tags=[])).path


def test_invisible_state_of_attrs_classes() -> None:
    """P082: cached hashes and properties are not looked at: the attrs fields decide."""

    @attrs.frozen(cache_hash=True)
    class Lazy:
        x: object

        @functools.cached_property
        def words(self) -> list[str]:
            return ["a"]

    value = Lazy((1,))
    assert (["a"], hash(value)) == (value.words, hash(value))
    check_immutable(value, "config")


def test_a_field_that_was_never_set() -> None:
    """A frozen instance without a value for one field is judged by the others."""

    @attrs.frozen
    class Partial:
        never: object = attrs.field(init=False)
        items: object = ()

    check_immutable(Partial(), "config")
    assert "config.items" == refusal(Partial(items=[])).path


def test_a_class_without_fields() -> None:
    """A frozen class without fields has nothing to look at."""

    @attrs.frozen
    class Marker:
        pass

    check_immutable((Marker(),), "config")


def test_a_record_of_dataclasses_and_attrs() -> None:
    """The fields of both are looked at in a dataclass that extends an attrs class."""

    @attrs.frozen(slots=False)
    class Base:
        a: object = ()

    @dataclasses.dataclass(frozen=True, init=False)
    class Both(Base):
        b: object = ()

    check_immutable(Both(), "config")
    assert "config.a" == refusal(Both([])).path


def test_slotted_subclasses_that_add_nothing() -> None:
    """A subclass that can hold nothing of its own is as immutable as its base."""

    class Name(str):
        __slots__ = ()

    class Row(tuple):
        __slots__ = ()

    class Group(frozenset):
        __slots__ = ()

    @dataclasses.dataclass(frozen=True, slots=True)
    class Base:
        x: object

    class Sub(Base):
        __slots__ = ()

    check_immutable((Name("a"), Row((1,)), Group({1}), Sub(())), "config")
    assert "config.x" == refusal(Sub([])).path
    assert "config[1]" == refusal(Row((1, []))).path
    assert refusal(Group({Thing()})).path.startswith("config{<")


# -- what is refused -------------------------------------------------------------------------------


def local() -> None:
    pass


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        ([], "use a tuple"),
        (collections.deque(), "use a tuple"),
        ((x for x in ()), "use a tuple"),
        (set(), "use a frozenset"),
        ({}, "use immutables.Map or a frozen class"),
        (collections.defaultdict(list), "use immutables.Map or a frozen class"),
        (types.MappingProxyType({}), "use immutables.Map or a frozen class"),
        (bytearray(), "use bytes"),
        (memoryview(b""), "use bytes"),
        (array.array("i"), "register_immutable(array)"),
        (Thing(), "Ref(obj)"),
        (object(), "Ref(obj)"),
        (ValueError(), "register_immutable(ValueError)"),
        (threading.Lock(), "Ref(obj)"),
        (sys, "Ref(obj)"),
        (functools.partial(local), "Ref(obj)"),
        (immutables.Map().mutate(), "register_immutable(MapMutation)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_can_change_in_place(value: object, fix: str) -> None:
    """P074: What can be changed in place is refused, hashable or not, with the fix."""
    error = refusal((value,))

    assert "config[0]" == error.path
    assert f"{type(value).__name__} can be changed in place; a store keeps only" in str(error)
    assert fix in str(error)


def test_unregistered_array_types() -> None:
    """P075: An array type in the manner of numpy's is refused until it is registered."""

    class NdArray:
        def __eq__(self, other: object) -> Any:
            return [True]

        __hash__ = None  # type: ignore[assignment]

    assert "register_immutable(NdArray)" in str(refusal(Config(servers=NdArray())))
    register_immutable(NdArray)
    check_immutable(Config(servers=NdArray()), "config")


@pytest.mark.parametrize(
    "function",
    [lambda: 1, Node().parts, [].append, functools.wraps(nested)(lambda: 1)],
    ids=["lambda", "method", "builtin method", "impostor"],
)
def test_functions_with_state(function: object) -> None:
    """P074: A lambda, a closure and a bound method can carry state along and are refused."""
    error = refusal(Config(servers=function))

    assert "config.servers" == error.path
    assert "use a function of a module, or Ref(obj)" in str(error)


def test_the_issue_message() -> None:
    """P072: The message names the place, the rule and the fix."""
    error = refusal(Config(servers=(Server(), Server(), Server(tags=["x"]))))

    assert "config.servers[2].tags" == error.path
    assert (
        "config.servers[2].tags: list can be changed in place; "
        "a store keeps only immutable values; use a tuple"
    ) == str(error)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Server(tags=[]), ".tags"),
        (Point(1, {}), ".y"),
        (Pair(1, set()), ".right"),
        (Pair((), [1]), ".right"),
        ((1, (2, [])), "[1][1]"),
        (slice(1, []), ".stop"),
        (Model(tags=[]), ".tags"),
        (Struct(tags=[]), ".tags"),
        (immutables.Map({"a": 1, "b": []}), "['b']"),
        (pyrsistent.pmap({"b": []}), "['b']"),
        (pyrsistent.pvector([1, []]), "[1]"),
        (pyrsistent.plist([1, []]), "[1]"),
        (pyrsistent.pdeque([1, []]), "[1]"),
        (Node(1, []), "[1]"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_mutable_inside_frozen(value: object, path: str) -> None:
    """P072: The path says where inside the frozen value the mutable part sits."""
    assert f"config.servers{path}" == refusal(Config(servers=value)).path


def test_mutable_element_of_a_set() -> None:
    """P072: An element of a set, or a key of a map, stands in braces by its repr."""

    class Named:
        def __repr__(self) -> str:
            return "named"

    named = Named()
    for value in (
        frozenset({named}),
        pyrsistent.pset({named}),
        pyrsistent.pbag([named]),
        immutables.Map({named: 1}),
    ):
        assert "config[0]{named}" == refusal((value,)).path


def test_frozen_without_equality() -> None:
    """P073: The walk looks at the fields: a class without `==` of its own hides nothing."""

    @attrs.frozen(eq=False)
    class Handle:
        items: object

    assert "config.items" == refusal(Handle([])).path


def unfrozen_classes() -> list[tuple[object, str]]:
    @attrs.define
    class Defined:
        x: int = 0

    @attrs.define(on_setattr=attrs.setters.frozen)
    class HalfFrozen:
        x: int = 0

    @dataclasses.dataclass
    class Open:
        x: int = 0

    class OpenSub(Point):
        pass

    class OpenModel(pydantic.BaseModel):
        x: int = 0

    class OpenStruct(msgspec.Struct):
        x: int = 0

    class ThawedStruct(Struct, frozen=False):
        pass

    return [
        (Defined(), "decorate it with @attrs.frozen"),
        (HalfFrozen(), "decorate it with @attrs.frozen"),
        (Open(), "decorate it with @dataclass(frozen=True)"),
        (OpenSub(), "decorate it with @dataclass(frozen=True)"),
        (OpenModel(), "set model_config = ConfigDict(frozen=True)"),
        (OpenStruct(), "give it frozen=True"),
        (ThawedStruct(), "give it frozen=True"),
    ]


@pytest.mark.parametrize(
    ("value", "fix"), unfrozen_classes(), ids=lambda value: type(value).__name__
)
def test_unfrozen_classes(value: object, fix: str) -> None:
    """A class that is not frozen, or is no more, is refused with the way to freeze it."""
    assert str(refusal(value)).endswith(fix)


def overriding_classes() -> list[object]:
    def thaw(self: object, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    body = {"__setattr__": thaw}
    deleting = {"__delattr__": object.__delattr__}
    bases: list[Any] = [Server, Model, Struct]
    values: list[object] = []
    for base in bases:
        values += [
            type("Thawed", (base,), dict(body))(),
            type("Deleting", (base,), dict(deleting))(),
        ]
    slotted = dataclasses.make_dataclass("slotted", ["x"], frozen=True, slots=True)
    values.append(type("Thawed", (slotted,), {**body, "__slots__": ()})(1))
    values.append(type("Thawed", (pydantic.create_model("M", __base__=Model),), dict(body))())
    record = type("Record", (pyrsistent.PClass,), {"x": pyrsistent.field(), **body})
    values.append(record())
    return values


@pytest.mark.parametrize(
    "value", overriding_classes(), ids=lambda value: type(value).__mro__[1].__name__
)
def test_subclass_that_overrides_the_guard(value: object) -> None:
    """P076: The class is judged, not its base, when it overrides `__setattr__`."""
    error = refusal(value)

    assert "overrides __setattr__ or __delattr__" in str(error)


def stateful_subclasses() -> list[object]:
    class Slotted(str):
        __slots__ = ("note",)

    mixin = type("Mixin", (), {})
    bases: list[Any] = [int, str, bytes, tuple, frozenset, float, Pair, decimal.Decimal, uuid.UUID]
    args: dict[type, tuple[object, ...]] = {uuid.UUID: ("0" * 32,)}
    plain: list[object] = [type(f"My{b.__name__}", (b,), {})(*args.get(b, ())) for b in bases]
    stamp: Any = type("Stamp", (dt.datetime, mixin), {})
    return [*plain, Slotted("a"), stamp(2020, 1, 1)]


@pytest.mark.parametrize(
    "value",
    stateful_subclasses(),
    ids=lambda value: type(value).__name__,
)
def test_subclass_with_state_of_its_own(value: object) -> None:
    """P076: A subclass of an immutable type with a `__dict__` or slots is refused."""
    error = refusal(value)

    assert f"{type(value).__name__} adds attributes to" in str(error)
    assert "`__slots__ = ()`" in str(error)


def test_subclass_written_in_c() -> None:
    """P076: What a subclass written in C can do is unknown, so it is refused."""
    assert _classes._adds_state(bool, int)
    assert "register_immutable(struct_time)" in str(refusal(time.gmtime(0)))


def test_subclass_that_hides_items() -> None:
    """P076: An `__iter__` of a subclass has no say in what is looked at."""

    class Hiding(tuple):  # type: ignore[type-arg]
        __slots__ = ()

        def __iter__(self) -> Any:
            return iter(())

    assert "config[1]" == refusal(Hiding((1, []))).path


def test_frozen_class_that_extends_a_list() -> None:
    """P076: A frozen class is refused if it is a mutable built-in or an exception as well."""

    @dataclasses.dataclass(frozen=True)
    class Items(list):  # type: ignore[type-arg]
        x: int = 0

    @attrs.frozen
    class Failure(Exception):  # noqa: N818 -- named as in the path it shows
        x: int = 0

    assert "hold the list that it extends in a field" in str(refusal(Items()))
    assert "Failure can be changed in place" in str(refusal(Failure()))


def test_what_cannot_be_prevented() -> None:
    """P077: A change by `object.__setattr__` is only seen by a check that comes after it."""
    value = Server()
    check_immutable(value, "config")
    object.__setattr__(value, "tags", [])

    assert "config.tags" == refusal(value).path
    check_immutable(value, "config", value)


def test_no_way_in_from_outside() -> None:
    """P078: A container that others may refer to is refused, so it cannot change later."""
    tags = ["x"]
    assert "config.tags" == refusal(Server(tags=tags)).path
    check_immutable(Server(tags=tuple(tags)), "config")


def test_time_zones_of_unknown_classes() -> None:
    """A datetime is as immutable as its time zone."""

    class Zone(dt.tzinfo):
        pass

    assert "config[0].tzinfo" == refusal((dt.datetime(2020, 1, 1, tzinfo=Zone()),)).path
    assert "config[0].tzinfo" == refusal((dt.time(1, tzinfo=Zone()),)).path


# -- deep, cyclic, shared, wide, hostile -----------------------------------------------------------


def test_the_depth_limit() -> None:
    """P079: Nesting is admitted up to the limit, and not one level more."""
    check_immutable(nested(MAX_DEPTH - 1), "config")

    error = refusal(nested(MAX_DEPTH))

    assert "nested more than 1,000 deep" in str(error)
    assert len(str(error)) < 300


@pytest.mark.parametrize("known", [None, (), ((),)])
def test_a_very_deep_value(known: object) -> None:
    """P079: A value nested 200,000 deep is refused before anything else touches it."""
    error = refusal(nested(200_000), known)

    assert "nested more than" in str(error)
    assert "…" in error.path


def test_depth_of_shared_parts() -> None:
    """P079: A part met first near the top counts with its whole depth where it is met again."""
    chain: list[object] = [()]
    for _ in range(MAX_DEPTH + 5):
        chain.append((chain[-1],))

    assert "nested more than" in str(refusal(tuple(chain)))
    check_immutable(tuple(chain[: MAX_DEPTH - 2]), "config")

    deep = nested(MAX_DEPTH // 2)
    assert "nested more than" in str(refusal((deep, nested(MAX_DEPTH // 2, deep))))


@pytest.mark.parametrize("levels", [0, 3])
def test_depth_of_parts_that_known_shares(levels: int) -> None:
    """P079: What was passed over near the top still counts with its depth where it is met again."""
    deep = nested(MAX_DEPTH // 2)
    old = (nested(levels, Pair(deep, 1)),)
    spine = nested(levels, Pair(deep, Color.RED))
    new = (spine, nested(MAX_DEPTH - 10, spine))
    check_immutable(old, "config")

    assert "nested more than" in str(refusal(new, old))


def test_depth_that_only_hostile_methods_would_tell() -> None:
    """P079: Neither `hash` nor `==` nor `repr` is called by the walk."""
    register_immutable(Hostile)
    check_immutable((Hostile(), Config(servers=Hostile())), "config", (Hostile(), Config()))


def test_a_cycle() -> None:
    """P080: A frozen value that contains itself is refused as a cycle."""
    value = Config()
    object.__setattr__(value, "servers", (Server(tags=(value,)),))

    error = refusal(value)

    assert "config.servers[0].tags[0]" == error.path
    assert "cycle" in str(error)


def test_a_cycle_to_itself_beside_a_known_value() -> None:
    """P080: A cycle is found as well where a known value stands beside it."""
    value = Server()
    object.__setattr__(value, "tags", (value,))

    assert "cycle" in str(refusal((value,), (Server(tags=()),)))


def test_shared_parts_are_looked_at_once() -> None:
    """P081: A part that occurs many times in a value is looked at once."""
    leaf = Node(1)
    shared = Node(leaf)
    check_immutable((shared, (shared, shared), leaf, Pair(shared, leaf)), "config")

    assert (1, 1) == (shared.looks, leaf.looks)


def test_parts_made_for_the_walk_are_not_confused() -> None:
    """P081: Parts that live only during the walk are each looked at, though addresses recur."""

    class Maker:
        def __init__(self, item: object) -> None:
            self.item = item

    register_immutable(Maker, parts=lambda maker: [(maker.item,)])
    makers = [Maker(Color.RED) for _ in range(10)]

    assert "config[10][0][0]" == refusal((*makers, Maker([]))).path


def test_exponential_sharing() -> None:
    """P081: Doubling at each of many levels costs a look per level, beside a known value too."""
    bottom = Node(1)
    counter = Node()
    old: object = (bottom, 1)
    new: object = (bottom, counter)
    for _ in range(100):
        old, new = (old, old), (new, new)
    check_immutable(new, "config")
    check_immutable(new, "config", old)

    assert counter.looks <= 4


def test_unchanged_parts_are_passed_over() -> None:
    """P081: What the known value holds at the same place is not looked at again."""
    node = Node(1)
    wide = tuple(Node(i) for i in range(100))
    old = Config(servers=(wide, node, Server(tags=(node,))), port=1)
    check_immutable(old, "config")
    seen = [part.looks for part in (*wide, node)]

    check_immutable(attrs.evolve(old, port=2), "config", old)
    check_immutable(Config(servers=(wide, node, Server("b", (node,)), 4)), "config", old)
    check_immutable(Config(servers=(0, wide, node)), "config", old)

    assert seen == [part.looks for part in (*wide, node)]


def test_unchanged_entries_are_passed_over() -> None:
    """P081: A persistent map with one entry set costs one look."""
    nodes = {str(i): Node(i) for i in range(50)}
    old = immutables.Map(nodes)
    check_immutable(old, "config")
    fresh = Node(1)

    check_immutable(old.set("7", fresh), "config", old)
    check_immutable(frozenset({*nodes.values(), fresh}), "config", frozenset(nodes.values()))

    assert ({1}, 2) == ({node.looks for node in nodes.values()}, fresh.looks)


def test_the_known_value_itself() -> None:
    """P081: The known value itself costs no look."""
    node = Node(1)
    check_immutable(node, "config", node)

    assert 0 == node.looks


def test_a_mutable_part_beside_known_ones() -> None:
    """P072: A mutable part is found although its neighbours are known."""
    old = Config(servers=(Server("a"), Server("b")))
    new = Config(servers=(*old.servers, Server(tags=[])))  # type: ignore[misc]

    assert "config.servers[2].tags" == refusal(new, old).path
    assert "config.servers[0]" == refusal(Config(servers=([],)), old).path


@pytest.mark.parametrize("text", [None, "x" * 10_000], ids=["raises", "gigantic"])
def test_broken_and_gigantic_reprs(text: str | None) -> None:
    """P083: A repr that raises or is gigantic cannot hurt an error."""

    class Key:
        def __repr__(self) -> str:
            if text is None:
                raise RuntimeError
            return text

    error = refusal(frozenset({Key()}))

    assert len(error.path) <= 210
    assert ("{<Key with a broken repr>}" if text is None else "xxx…}") in error.path


MUTABLE = st.builds(Thing)
LEAVES = st.one_of(st.none(), st.integers(), st.text(max_size=3), st.sampled_from(Color))
WRAPS = [
    lambda part, others: (*others, part),
    lambda part, others: (part, *others),
    lambda part, others: Config(servers=part, port=tuple(others)),  # type: ignore[arg-type]
    lambda part, others: Point(tuple(others), part),
    lambda part, others: Pair(part, tuple(others)),
    lambda part, others: Struct(tags=(tuple(others), part)),
    lambda part, others: Model(tags=(part, *others)),
    lambda part, others: immutables.Map({"others": tuple(others), "part": part}),
    lambda part, others: pyrsistent.pvector([*others, part]),
]
STEPS = st.lists(st.tuples(st.sampled_from(WRAPS), st.lists(LEAVES, max_size=4)), max_size=8)


@given(STEPS, MUTABLE)
def test_the_path_leads_to_the_mutable_part(steps: Any, mutable: Thing) -> None:
    """P072: Wherever one mutable part is planted, the path leads to it; without it all is well."""
    bad: object = mutable
    good: object = None
    for wrap, others in steps:
        bad, good = wrap(bad, [*others, good]), wrap(good, [*others, good])

    check_immutable(good, "value")
    for known in (None, good):
        with pytest.raises(MutableValueError) as caught:
            check_immutable(bad, "value", known)
        assert mutable is eval(caught.value.path, {"value": bad})  # noqa: S307 -- a path made by the test


# -- third parties and registration ----------------------------------------------------------------


def test_nothing_is_imported() -> None:
    """Third-party types are recognised by name: the module imports none of their packages."""
    source = pathlib.Path(_classes.__file__).read_text(encoding="utf-8")
    imported = set(re.findall(r"^ *(?:import|from) (\w+)", source, re.MULTILINE))

    assert imported.isdisjoint({"pydantic", "msgspec", "immutables", "pyrsistent", "numpy"})


def test_persistent_collections() -> None:
    """The collections of immutables and pyrsistent are admitted with immutable contents."""

    class Record(pyrsistent.PRecord):
        x = pyrsistent.field()

    class Class(pyrsistent.PClass):
        x = pyrsistent.field()
        unset = pyrsistent.field()

    class Ints(pyrsistent.CheckedPVector):
        __type__ = int

    values = (
        immutables.Map({"a": (1,)}),
        pyrsistent.pmap({"a": (1,)}),
        pyrsistent.pvector([(1,)]),
        pyrsistent.pset([(1,)]),
        pyrsistent.plist([(1,)]),
        pyrsistent.plist(),
        pyrsistent.pdeque([(1,)]),
        pyrsistent.pbag([(1,)]),
        Record(x=(1,)),
        Class(x=(1,)),
        Ints([1]),
    )
    check_immutable(values, "config")
    assert "config['x']" == refusal(Record(x=[])).path
    assert "config.x" == refusal(Class(x=[])).path
    assert "adds attributes to PMap" in str(
        refusal(type("M", (pyrsistent.PMap,), {})(0, pyrsistent.v()))
    )


def test_frozen_model_with_private_attributes() -> None:
    """Private attributes can be set on a frozen model, so such a model is refused."""

    class Secretive(Model, frozen=True):
        _cache: int = pydantic.PrivateAttr(0)

    assert "Secretive has private attributes" in str(refusal(Secretive()))


def test_frozen_model_with_extras() -> None:
    """What a model took beyond its fields is looked at as well."""

    class Open(pydantic.BaseModel, frozen=True, extra="allow"):
        x: int = 0

    check_immutable((Open(), Open(y=(1,)), Open.model_construct()), "config")
    assert "config.y" == refusal(Open(y=[])).path
    assert "config.z" == refusal(Open(y=1, z=[])).path
    assert "overrides" in str(
        refusal(type("Thawed", (Open,), {"__delattr__": object.__delattr__})())
    )


def test_time_zones_and_dataclasses_of_pydantic() -> None:
    """What pydantic makes of a time stamp, and its frozen dataclasses, are admitted."""

    @pydantic.dataclasses.dataclass(frozen=True)
    class Event:
        at: dt.datetime
        tags: Any = ()

    event = Event(at="2020-01-01T00:00:00+02:00")  # type: ignore[arg-type]
    check_immutable(event, "config")
    assert "config.tags" == refusal(Event(event.at, [])).path


def test_registered_type() -> None:
    """A registered class is admitted, its subclasses are not."""

    class Vector:
        pass

    class Sub(Vector):
        pass

    refusal(Vector())
    assert Vector is register_immutable(Vector)
    check_immutable((Vector(),), "config")
    refusal(Sub())


def test_registered_parts() -> None:
    """What the *parts* of a registered class give must be immutable as well."""

    @register_immutable
    class Empty:
        pass

    class Box:
        def __init__(self, item: object) -> None:
            self.item = item

    register_immutable(Box, parts=lambda box: iter([box.item, Empty()]))
    check_immutable(Box((1,)), "config")
    assert "config[0]" == refusal(Box([])).path


def test_parts_that_raise() -> None:
    """An error out of *parts* is the caller's to see."""

    class Broken:
        pass

    register_immutable(Broken, parts=lambda broken: broken.missing)
    with pytest.raises(AttributeError, match="missing"):
        check_immutable((Broken(),), "config")


@pytest.mark.parametrize("misuse", [1, "Vector", list[int]], ids=repr)
def test_registering_what_is_no_class(misuse: Any) -> None:
    """Registering an object in place of its class raises with the fix."""
    with pytest.raises(TypeError, match="is not a class; register its class"):
        register_immutable(misuse)


def test_registering_a_named_class_that_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registering a class of a module overrules what was decided about it before."""
    named = type("Named", (), {"__module__": __name__, "__qualname__": "Named"})
    module = types.ModuleType(__name__)
    module.Named = named  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, __name__, module)
    refusal(named())
    monkeypatch.undo()

    register_immutable(named)
    check_immutable(named(), "config")
    del _classes.RULES[named]


def test_classes_made_on_the_fly_are_let_go() -> None:
    """A class that nothing else holds is not kept alive by what was decided about it."""

    def make() -> list[weakref.ref[type]]:
        frozen = attrs.make_class("Frozen", ["x"], frozen=True)
        model = pydantic.create_model("Extra", __config__={"frozen": True, "extra": "allow"})
        pair = collections.namedtuple("pair", "a b")  # noqa: PYI024 -- the old kind is what is tested
        classes: list[type] = [frozen, pair, type("Text", (str,), {"__slots__": ()}), model]
        check_immutable((frozen((1,)), pair(1, 2), classes[2]("a"), model()), "config")
        return [weakref.ref(cls) for cls in classes]

    references = make()
    gc.collect()

    assert [None] * 3 == [reference() for reference in references[:3]]


# -- Ref, is_same, shorten -------------------------------------------------------------------------


def test_ref_compares_by_identity() -> None:
    """Handles are equal if they hold the same object, even if equal objects exist."""
    a: list[int] = []
    b: list[int] = []

    assert Ref(a) == Ref(a)
    assert hash(Ref(a)) == hash(Ref(a))
    assert Ref(a) != Ref(b)
    assert Ref(a) != a
    assert a is Ref(a).target


def test_ref_is_frozen() -> None:
    """A handle cannot be pointed at something else."""
    ref = Ref([1])
    with pytest.raises(AttributeError):
        ref.target = [2]  # type: ignore[misc]
    assert 1 == pickle.loads(pickle.dumps(Ref(1))).target


def test_ref_repr() -> None:
    """P083: The repr of a handle does not ask its object for one."""
    thing = Hostile()

    assert f"<Ref to Hostile at {id(thing):#x}>" == repr(Ref(thing))


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        (1, 1, True),
        (1, True, False),
        (1, 1.0, False),
        ("closing", enum.StrEnum("S", ["closing"]).closing, False),  # type: ignore[attr-defined]
        (Level.LOW, 1, False),
        (decimal.Decimal(1), 1, False),
        (Config(), Config(), True),
        (Config(), Config(port=1), False),
    ],
)
def test_sameness_is_of_type_and_equality(old: object, new: object, same: bool) -> None:
    """P063: The same means the same type and equal."""
    assert same is is_same(old, new)


def test_sameness_compares_the_outer_type_only() -> None:
    """P064: Types inside are not compared."""
    assert is_same((1,), (True,))
    assert is_same(Point(1), Point(True))


def test_sameness_of_zeros() -> None:
    """P065: Zero and minus zero are the same."""
    assert is_same(0.0, -0.0)


def test_sameness_of_nan() -> None:
    """P066: A NaN is the same as itself only."""
    nan = math.nan

    assert is_same(nan, nan)
    assert not is_same(nan, float("nan"))


def test_equality_that_raises() -> None:
    """P067: An error out of `==` is not hidden."""
    with pytest.raises(AssertionError):
        is_same(Hostile(), Hostile())


@pytest.mark.parametrize("answer", [NotImplemented, 1, [True], "yes"], ids=repr)
def test_equality_without_a_bool(answer: object) -> None:
    """P068: Only `True` itself counts as equal."""

    class Odd:
        def __eq__(self, other: object) -> Any:
            return answer

        __hash__ = None  # type: ignore[assignment]

    odd = Odd()
    assert not is_same(Odd(), odd)
    assert is_same(odd, odd)


@pytest.mark.parametrize("value", [1, "a", None, (1, "b"), [1], {"a": 1}, Config()], ids=repr)
def test_shorten_leaves_short_reprs_alone(value: object) -> None:
    """What fits is shown as `repr` shows it."""
    assert repr(value) == shorten(value)


@pytest.mark.parametrize("limit", [10, 200])
def test_shorten_cuts(limit: int) -> None:
    """P083: At most the given number of characters is shown, with an ellipsis."""
    for value in ("x" * 1000, tuple(range(1000)), Config(servers="y" * 1000), 10**300):
        text = shorten(value, limit)
        assert len(text) <= limit
        assert "…" in text or "..." in text


def test_shorten_survives_broken_reprs() -> None:
    """P083: A repr that raises is told as such."""
    assert "<Hostile with a broken repr>" == shorten(Hostile())


@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: Server(tags=value)])
def test_shorten_survives_deep_values(wrap: Any) -> None:
    """P083: A value nested 200,000 deep cannot hurt, bare or in a field."""
    assert len(shorten(wrap(nested(200_000)))) <= 200


def test_shorten_stops_early() -> None:
    """P083: Of a wide value only what is shown is asked for its repr."""
    calls: list[int] = []

    class Counted:
        def __repr__(self) -> str:
            calls.append(1)
            return "c"

    shorten((Counted(),) * 1000)

    assert len(calls) < 20


def test_absent_is_no_value() -> None:
    """`ABSENT` stands for a key that is not there, so no key can hold it, at any depth."""
    for value in (ABSENT, (1, ABSENT)):
        with pytest.raises(MutableValueError, match="a key that is not there"):
            check_immutable(value, "config")
