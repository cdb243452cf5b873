"""The public surface: complete, documented, annotated, and nothing beside it."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import statestore
from statestore import errors, testing
from support.twin import IS_COMPILED

API_PAGE = Path(__file__).parent.parent / "docs" / "api.md"

# What users import, by the name that is left of `statestore.` and `statestore.testing.`.
EXPORTS = {
    name: getattr(module, name) for module in (statestore, testing) for name in module.__all__
}

CLASSES = [name for name, thing in EXPORTS.items() if inspect.isclass(thing)]

each_module = pytest.mark.parametrize("module", [statestore, testing], ids=lambda m: m.__name__)
each_name = pytest.mark.parametrize("name", EXPORTS)
each_class = pytest.mark.parametrize("name", CLASSES)


def members(owner: type) -> Iterator[tuple[str, object]]:
    """Give the public members that the package gives a class, its own and inherited ones."""
    seen: set[str] = set()
    for base in owner.__mro__:
        if not base.__module__.startswith("statestore"):
            continue
        for name, member in vars(base).items():
            if not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, member


def functions_of(thing: object) -> Iterator[typing.Any]:
    """Give the functions behind a member: a method, or what a property calls."""
    if isinstance(thing, staticmethod | classmethod):
        thing = thing.__func__
    if isinstance(thing, property):
        yield from (part for part in (thing.fget, thing.fset) if part is not None)
    elif inspect.isfunction(thing):
        yield thing


def called_for(name: str) -> Iterator[tuple[str, typing.Any]]:
    """Give the functions that users call by the export *name*, each with a name for people."""
    thing = EXPORTS[name]
    if inspect.isfunction(thing):
        yield name, thing
    elif inspect.isclass(thing):
        for dunder in ("__init__", "__getitem__", "__setitem__"):
            function = vars(thing).get(dunder)
            if inspect.isfunction(function):
                yield f"{name}.{dunder}", function
        for member_name, member in members(thing):
            for function in functions_of(member):
                yield f"{name}.{member_name}", function


SURFACE = [pair for name in EXPORTS for pair in called_for(name)]
FUNCTIONS = [pytest.param(function, id=label) for label, function in SURFACE]


@each_module
def test_all_is_sorted(module: ModuleType) -> None:
    """`__all__` is in order, and has nothing twice."""
    assert sorted(set(module.__all__)) == module.__all__


@each_name
def test_every_name_is_public(name: str) -> None:
    """What `__all__` promises has a public name."""
    assert not name.startswith("_")


def test_no_name_is_there_twice() -> None:
    """The package and its helpers for tests have no name in common."""
    assert len(EXPORTS) == len(statestore.__all__) + len(testing.__all__)


@each_module
def test_nothing_public_is_beside_it(module: ModuleType) -> None:
    """Each public attribute of a module is in `__all__`, or is a module."""
    beside = {
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(thing)
    }

    assert set(module.__all__) == beside


def test_no_other_module_is_public() -> None:
    """There are the errors, and the helpers for tests, which are here because they are imported."""
    # Where the plugin is installed, pytest rewrites the package and adds what is no identifier.
    modules = {
        name
        for name, thing in vars(statestore).items()
        if name.isidentifier() and not name.startswith("_") and inspect.ismodule(thing)
    }

    assert {"errors", "testing"} == modules


def test_every_error_is_exported() -> None:
    """All errors can be imported from the package itself."""
    assert set(errors.__all__) <= set(statestore.__all__)


def test_every_class_that_users_meet_is_exported() -> None:
    """A public class of the package that an annotation of the surface names is exported too."""
    met: set[str] = set()
    for _, function in SURFACE:
        # Constructors of what a store or a watcher makes take parts of the inside.
        if function.__name__ == "__init__":
            continue
        annotations = " ".join(str(note) for note in inspect.get_annotations(function).values())
        for word in re.findall(r"\w+", annotations):
            thing = function.__globals__.get(word)
            if inspect.isclass(thing) and thing.__module__.startswith("statestore"):
                met.add(thing.__name__)

    assert {"Transition", "Subscription", "CallbackHandle", "Snapshot"} <= met
    # What only says what a method of a base takes, or is made for the inside.
    inside = {"Waits", "BlockingWaits"}
    assert set() == met - inside - set(EXPORTS)


@each_name
def test_everything_has_a_docstring(name: str) -> None:
    """Every export, and every public method and property of one, says what it is for."""
    thing = EXPORTS[name]
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        thing = type(thing)
    assert thing.__doc__, name
    if inspect.isclass(thing):
        for member_name, member in members(thing):
            if isinstance(member, property) or inspect.isfunction(member):
                assert member.__doc__, f"{name}.{member_name}"


@each_class
def test_every_field_of_a_record_is_documented(name: str) -> None:
    """The docstring of a frozen record names each of its fields."""
    thing = EXPORTS[name]
    assert not dataclasses.is_dataclass(thing)
    for field in getattr(thing, "__attrs_attrs__", ()):
        assert f"{field.name}:" in (thing.__doc__ or ""), f"{name}.{field.name}"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_parameter_is_annotated(function: typing.Any) -> None:
    """Every parameter and result of a public function has a type."""
    if IS_COMPILED and not inspect.isfunction(function):
        pytest.skip("Cython drops the annotations of what it gives types to")
    signature = inspect.signature(function)
    for parameter in list(signature.parameters.values()):
        if parameter.name not in ("self", "cls"):
            assert inspect.Parameter.empty is not parameter.annotation, parameter
    assert inspect.Signature.empty is not signature.return_annotation


@each_class
def test_no_part_can_be_misspelt(name: str) -> None:
    """An instance of a class that users are given has slots, or checks names, or is an error."""
    thing = EXPORTS[name]
    if not issubclass(thing, Exception | statestore.Absent | statestore.Store) and (
        # Two bases with slots cannot be joined.
        not name.endswith("CommitSubscription")
    ):
        ours = [base for base in thing.__mro__ if base.__module__.startswith("statestore")]
        assert [] == [base for base in ours if "__dict__" in vars(base)]


@each_name
def test_the_api_page_has_it(name: str) -> None:
    """The reference page names every export."""
    if not API_PAGE.exists():
        pytest.skip("docs/api.md is not there")
    assert name in API_PAGE.read_text(encoding="utf-8")
