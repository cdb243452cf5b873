"""The compiled twin: what is declared for it, and what is written out for its compiler."""

from __future__ import annotations

import importlib.util
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

import pytest

ROOT: Final = Path(__file__).parent.parent
DECLARED: Final = sorted((ROOT / "statestore").glob("*.pxd"))


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compile", ROOT / ".ci" / "compile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compiling: Final = load()


def classes_in(declared: Path) -> dict[str, str]:
    """Give what is declared of each class, by its name."""
    parts = re.split(
        r"^cdef class (\w+)(?:\(\w+\))?:\n", declared.read_text("utf-8"), flags=re.MULTILINE
    )
    return dict(zip(parts[1::2], parts[2::2], strict=True))


CLASSES: Final = [
    pytest.param(declared.stem, name, body, id=f"{declared.stem}.{name}")
    for declared in DECLARED
    for name, body in classes_in(declared).items()
]


@pytest.mark.parametrize(("module", "name", "body"), CLASSES)
def test_the_attributes_of_a_class_are_declared(module: str, name: str, body: str) -> None:
    """No more and no less than its slots: one that is missing would be an error when it is set."""
    lines = re.findall(r"^    cdef (?:public \w+ )?(?:object )?(.+)$", body, flags=re.MULTILINE)
    declared = [attribute for line in lines for attribute in line.split(", ")]
    cls: Any = getattr(import_module(f"statestore.{module}"), name)

    assert sorted(cls.__dict__["__slots__"]) == sorted(declared)


@pytest.mark.parametrize(("module", "name", "body"), CLASSES)
def test_the_methods_of_a_class_are_there(module: str, name: str, body: str) -> None:
    """Nothing is declared that the class does not have itself."""
    methods = re.findall(r"^    cpdef (?:\w+ )?(\w+)\(", body, flags=re.MULTILINE)
    cls = getattr(import_module(f"statestore.{module}"), name)

    assert set(methods) <= set(cls.__dict__)


@pytest.mark.parametrize("module", [declared.stem for declared in DECLARED])
def test_the_lines_are_those_of_the_source(module: str) -> None:
    """So that a traceback out of the twin shows the right ones. Only numbers and decorators go."""
    source = (ROOT / "statestore" / f"{module}.py").read_bytes()
    written = compiling.written_out(ROOT / "statestore", module)

    pairs = zip(source.splitlines(), written.splitlines(), strict=True)
    changed = [before for before, after in pairs if before != after]
    assert [] == [line for line in changed if not re.search(rb"@final|\b[A-Z][A-Z_]+\b", line)]
    assert b"@final\n" not in written


def test_numbers_are_written_out(tmp_path: Path) -> None:
    """Those with a name for good, its own and imported ones; and nothing that looks like it."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "_first.py").write_text(
        'FIRST: Final = 1\nFLAG: Final = True\nTEXT: Final = "x"\nsome: int = 3\n'
    )
    (package / "_second.py").write_text(
        "from package._first import FIRST, FLAG, TEXT, some\n"
        "SECOND: Final = 22\n"
        "@final\n"
        "@frozen\n"
        "class Both:\n"
        '    """FIRST and SECOND."""\n'
        "    def get(self, cell, FIRST_OF=None):\n"
        '        return cell[SECOND], cell[FIRST], cell.FIRST, f(SECOND=1), "FIRST", FLAG, some\n'
    )

    assert compiling.written_out(package, "_second") == (
        b"from package._first import FIRST, FLAG, TEXT, some\n"
        b"SECOND: Final = 22\n"
        b"\n"
        b"@frozen\n"
        b"class Both:\n"
        b'    """FIRST and SECOND."""\n'
        b"    def get(self, cell, FIRST_OF=None):\n"
        b'        return cell[22], cell[1], cell.FIRST, f(SECOND=1), "FIRST", FLAG, some\n'
    )


def test_an_editable_installation_is_refused() -> None:
    """It would run the source, whatever was compiled."""
    hook = object.__new__(compiling.CustomBuildHook)
    with pytest.raises(RuntimeError, match="leave out -e"):
        hook.initialize("editable", cast("Any", {}))
