"""
What is known of each class: whether its instances are immutable, and how to look into them.

A class is judged by what it is, not by what it inherits from, and is judged once.
What Python lets nobody prevent is not found: `object.__setattr__`, the `__dict__` of an instance,
attributes put on an enum member.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import pathlib
import re
import sys
import types
import uuid
import weakref
import zoneinfo
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar, cast, final

import attrs

from statestore._text import shorten
from statestore.errors import MutableValueError

__all__ = [
    "PLAIN",
    "RULES",
    "Ref",
    "RefusedError",
    "Rule",
    "refuse",
    "register_immutable",
    "rule_of",
]

T_co = TypeVar("T_co", covariant=True)
_TypeT = TypeVar("_TypeT", bound=type)


@final
@attrs.frozen(eq=False, repr=False)
class Ref(Generic[T_co]):
    """
    A frozen handle on something that is not a value: a socket, a task, a callback.

    Two handles are equal if they hold the same object, whatever the object's own `==` says.
    What the object does meanwhile is its own affair: the store sees only which one it is.

    Attributes:
        target: The object.
    """

    target: T_co

    def __eq__(self, other: object) -> bool:
        mine: object = self.target
        return mine is cast("Ref[object]", other).target if type(other) is Ref else NotImplemented

    def __hash__(self) -> int:
        return hash(id(self.target))

    def __repr__(self) -> str:
        return f"<Ref to {type(self.target).__name__} at {id(self.target):#x}>"


PLAIN: Final[frozenset[type]] = frozenset(
    {
        *(bool, int, float, complex, str, bytes, range, type, Ref),
        *(types.NoneType, types.EllipsisType, types.NotImplementedType),
        *(types.GenericAlias, types.UnionType),
        *(types.MethodDescriptorType, types.WrapperDescriptorType),
        *(decimal.Decimal, fractions.Fraction, uuid.UUID, re.Pattern),
        *(dt.date, dt.timedelta, dt.timezone, zoneinfo.ZoneInfo),
        *(pathlib.PurePath, pathlib.PurePosixPath, pathlib.PureWindowsPath),
        *(pathlib.Path, pathlib.PosixPath, pathlib.WindowsPath),
        *(ipaddress.IPv4Address, ipaddress.IPv4Network, ipaddress.IPv4Interface),
        *(ipaddress.IPv6Address, ipaddress.IPv6Network, ipaddress.IPv6Interface),
    }
)
"""The exact types whose values are immutable and hold nothing that would need a look."""


def register_immutable(
    type_: _TypeT, *, parts: Callable[[Any], Iterable[object]] | None = None
) -> _TypeT:
    """
    Admit the instances of *type_*, a class known to be immutable, and return it.

    Subclasses are not covered: each is registered by itself.

    Args:
        type_: The class. What was decided about it before is forgotten.
        parts: Gives what an instance holds that must be immutable as well; nothing by default.

    Raises:
        TypeError: *type_* is not a class.

    Thread safety:
        May be called from any thread; holds for all checks that begin later.
    """
    if not isinstance(type_, type):
        msg = f"{shorten(type_)} is not a class; register its class"  # type: ignore[unreachable]  # not for callers without a type checker
        raise TypeError(msg)
    rule = None if parts is None else Rule(lambda value: tuple(parts(value)), _index_label)
    (RULES if type_ in RULES or _is_named(type_) else _local_rules)[type_] = rule
    return type_


class RefusedError(Exception):
    """The value at hand is not immutable; the walk knows where it sits."""

    def as_error(self, path: str) -> MutableValueError:
        what, fix = self.args
        msg = f"{path}: {what}; a store keeps only immutable values; {fix}"
        return MutableValueError(msg, path=path)


@final
@attrs.frozen
class Rule:
    """How to look into the instances of one class: what they hold, and how a path calls it."""

    parts: Callable[[Any], Sequence[object]]
    label: Callable[[Any, int], str]


def _index_label(_value: object, index: int) -> str:
    return f"[{index}]"


def _element_label(value: Iterable[object], index: int) -> str:
    return f"{{{shorten(list(value)[index])}}}"


def _entry_label(value: Mapping[object, object], index: int) -> str:
    keys = list(value.keys())
    key = shorten(keys[index % len(keys)])
    return f"{{{key}}}" if index < len(keys) else f"[{key}]"


def _name_label(names: Sequence[str]) -> Callable[[Any, int], str]:
    return lambda _value, index: f".{names[index % len(names)]}"


def _fields_rule(names: Sequence[str]) -> Rule | None:
    if not names:
        return None

    # attrgetter returns a tuple only for two names and more.
    getter = attrgetter(*names) if len(names) > 1 else attrgetter(*names, *names)

    def parts(value: object) -> Sequence[object]:
        try:
            return getter(value)
        except AttributeError:  # a field that was never set
            return [getattr(value, name, None) for name in names]

    return Rule(parts, _name_label(names))


def _refusal(what: str, fix: str) -> Rule:
    def parts(_value: object) -> Sequence[object]:
        raise RefusedError(what, fix)

    return Rule(parts, _index_label)


def refuse(cls: type, what: str, fix: str) -> None:
    """Refuse all instances of *cls*, for a reason of its own."""
    RULES[cls] = _refusal(what, fix)


def _mutable(cls: type, fix: str) -> Rule:
    return _refusal(f"{cls.__name__} can be changed in place", fix)


def _is_named(thing: Any) -> bool:
    """Tell whether *thing* is what its module has under its name."""
    found: object = sys.modules.get(thing.__module__)
    for name in thing.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is thing


def _function_parts(function: Any) -> Sequence[object]:
    """Let a function pass as a name; what else is callable carries state along."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type | types.ModuleType) or (owner is None and _is_named(function)):
        return ()
    what = f"{shorten(function.__qualname__)} is not found under its name and may carry state along"
    raise RefusedError(what, "use a function of a module, or Ref(obj)")


_function_rule: Final = Rule(_function_parts, _index_label)

_BUILT_IN: Final[dict[type, Rule | None]] = {
    **dict.fromkeys(PLAIN),
    tuple: Rule(tuple, _index_label),
    frozenset: Rule(tuple, _element_label),
    slice: _fields_rule(["start", "stop", "step"]),
    dt.datetime: _fields_rule(["tzinfo"]),
    dt.time: _fields_rule(["tzinfo"]),
    types.FunctionType: _function_rule,
    types.BuiltinFunctionType: _function_rule,
    types.MethodType: _function_rule,
}

_ITERABLES: Final[frozenset[type]] = frozenset({tuple, frozenset})

_FIXES: Final[dict[type, str]] = {
    **dict.fromkeys((list, deque, types.GeneratorType), "use a tuple"),
    **dict.fromkeys((dict, types.MappingProxyType), "use immutables.Map or a frozen class"),
    **dict.fromkeys((bytearray, memoryview), "use bytes"),
    set: "use a frozenset",
}

# A class that its module has under its name lives on anyway, so a plain dict may hold it, and one
# look-up in that is a third of the price of one by weak reference. Classes made on the fly go into
# the second dict, which lets go of them.
RULES: Final[dict[type, Rule | None]] = dict(_BUILT_IN)
_local_rules: Final[weakref.WeakKeyDictionary[type, Rule | None]] = weakref.WeakKeyDictionary()


def rule_of(cls: type) -> Rule | None:
    try:
        return RULES[cls] if cls in RULES else _local_rules[cls]
    except KeyError:
        # setdefault: what was registered in the meantime stays.
        return (RULES if _is_named(cls) else _local_rules).setdefault(cls, _judge(cls))


def _judge(cls: Any) -> Rule | None:
    if issubclass(cls, type | enum.Enum):
        return None
    for base in cls.__mro__:
        judge = _THIRD_PARTY.get(f"{base.__module__}.{base.__qualname__}")
        if judge is not None:
            return judge(cls, base)
    is_dataclass = dataclasses.is_dataclass(cls)
    if is_dataclass or hasattr(cls, "__attrs_attrs__"):
        return _judge_record(cls, is_dataclass=is_dataclass)
    for base in cls.__mro__:
        if base in _BUILT_IN:
            return _judge_extension(cls, base, _BUILT_IN[base])
    fix = next((fix for base, fix in _FIXES.items() if base in cls.__mro__), None)
    return _mutable(
        cls,
        fix
        or "use a frozen class; Ref(obj) if it counts which object it is, not what is in it; "
        f"register_immutable({cls.__name__}) if it never changes",
    )


def _natives(cls: type) -> set[type]:
    """Return the classes not written in Python that *cls* builds on, `object` aside."""
    is_heap = 1 << 9
    return {
        base
        for base in cls.__mro__[:-1]
        if not base.__flags__ & is_heap or getattr(base.__new__, "__self__", None) is base
    }


def _adds_state(cls: type, core: type) -> bool:
    """Tell whether instances of *cls* can be given anything that those of *core* cannot."""
    added = [base for base in cls.__mro__ if base not in core.__mro__]
    has_slots = any(
        isinstance(member, types.MemberDescriptorType)
        for base in added
        for member in vars(base).values()
    )
    has_dict = cls.__dictoffset__ != 0 and cls is not core
    return has_slots or has_dict or not _natives(cls) <= set(core.__mro__)


def _is_guarded(cls: type, base: type) -> bool:
    """Tell whether *cls* leaves it to *base* to forbid changes."""
    return cls.__setattr__ is base.__setattr__ and cls.__delattr__ is base.__delattr__


def _judge_fields(cls: type, base: type, names: Iterable[str]) -> Rule | None:
    """Judge a subclass of *base*, which is frozen."""
    if _is_guarded(cls, base):
        return _fields_rule(list(dict.fromkeys(names)))
    return _refusal(
        f"{cls.__name__} overrides __setattr__ or __delattr__, so it may be changed in place",
        f"leave both to the frozen class, or register_immutable({cls.__name__})",
    )


def _judge_extension(cls: Any, core: type, rule: Rule | None) -> Rule | None:
    """Judge a subclass of *core*, whose instances are immutable and looked at by *rule*."""
    if _adds_state(cls, core):
        return _refusal(
            f"{cls.__name__} adds attributes to {core.__name__} that can be changed in place",
            f"give {cls.__name__} `__slots__ = ()`, or register_immutable({cls.__name__})",
        )
    if rule is None or core not in _ITERABLES:
        return rule
    # A subclass may have an __iter__ of its own that leaves something out.
    items: Callable[[Any], Iterator[object]] = vars(core)["__iter__"]
    label = _name_label(cls._fields) if hasattr(cls, "_fields") else rule.label
    return Rule(lambda value: tuple(items(value)), label)


def _judge_record(cls: Any, *, is_dataclass: bool) -> Rule | None:
    """Judge a class made by attrs or dataclasses, or a subclass of one."""
    marks = {"__attrs_attrs__", "__dataclass_params__"}
    mro: tuple[type, ...] = cls.__mro__
    core: Any = next(base for base in mro if not marks.isdisjoint(vars(base)))
    for native in _natives(cls) - PLAIN:
        return _mutable(cls, f"hold the {native.__name__} that it extends in a field, frozen")
    if "__attrs_attrs__" in vars(core):
        if not _is_guarded(core, Ref):
            return _mutable(cls, "decorate it with @attrs.frozen")
    elif not core.__dataclass_params__.frozen or (cls is not core and _adds_state(cls, core)):
        # A frozen dataclass forbids only its own class to set what is not a field.
        return _mutable(cls, "decorate it with @dataclass(frozen=True)")
    names = [field.name for field in getattr(cls, "__attrs_attrs__", ())]
    if is_dataclass:
        names += [field.name for field in dataclasses.fields(cls)]
    return _judge_fields(cls, core, names)


def _judge_pydantic(cls: Any, base: type) -> Rule | None:
    if not cls.model_config.get("frozen"):
        return _mutable(cls, "set model_config = ConfigDict(frozen=True)")
    if cls.__private_attributes__:
        what = f"{cls.__name__} has private attributes, which can be set although it is frozen"
        return _refusal(what, f"make them fields, or register_immutable({cls.__name__})")
    # Not cls itself, which the entry of the second dict would then keep alive.
    names = tuple(cls.model_fields)
    rule = _judge_fields(cls, base, names)
    if cls.model_config.get("extra") != "allow" or not _is_guarded(cls, base):
        return rule

    def entries(model: Any) -> dict[str, object]:
        fields = {name: getattr(model, name, None) for name in names}
        return fields | (model.__pydantic_extra__ or {})

    return Rule(
        lambda model: tuple(entries(model).values()),
        lambda model, index: f".{list(entries(model))[index]}",
    )


def _judge_struct(cls: Any, base: type) -> Rule | None:
    if not cls.__struct_config__.frozen:
        return _mutable(cls, "give it frozen=True")
    return _judge_fields(cls, base, cls.__struct_fields__)


def _judge_pclass(cls: Any, base: type) -> Rule | None:
    return _judge_fields(cls, base, cls._pclass_fields)


def _extension_of(rule: Rule | None) -> Callable[[type, type], Rule | None]:
    return lambda cls, base: _judge_extension(cls, base, rule)


_judge_map = _extension_of(Rule(lambda value: (*value.keys(), *value.values()), _entry_label))
_judge_items = _extension_of(Rule(tuple, _index_label))
_judge_set = _extension_of(Rule(tuple, _element_label))

# By name, so that nothing is imported: whoever has an instance has loaded the package.
_THIRD_PARTY: Final[dict[str, Callable[[type, type], Rule | None]]] = {
    "immutables._map.Map": _judge_map,
    "immutables.map.Map": _judge_map,
    "msgspec.Struct": _judge_struct,
    "pvectorc.PVector": _judge_items,
    "pydantic.main.BaseModel": _judge_pydantic,
    "pydantic_core._pydantic_core.TzInfo": _extension_of(None),
    "pyrsistent._pbag.PBag": _judge_set,
    "pyrsistent._pclass.PClass": _judge_pclass,
    "pyrsistent._pdeque.PDeque": _judge_items,
    "pyrsistent._plist.PList": _judge_items,
    "pyrsistent._plist._EmptyPList": _judge_items,
    "pyrsistent._pmap.PMap": _judge_map,
    "pyrsistent._pset.PSet": _judge_set,
    "pyrsistent._pvector.PythonPVector": _judge_items,
}
