"""What importing the package does, and what its code leaves alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import statestore

PACKAGE = Path(statestore.__file__).parent
MODULES = sorted(PACKAGE.glob("**/*.py"))
THIRD_PARTY = {"attr", "attrs", "immutables", "structlog", "typing_extensions"}
# By module, what an extra brings: imported where it is used, or by pytest itself.
EXTRAS = {"_timeline": {"matplotlib"}, "_pytest_plugin": {"pytest"}}

# An event loop itself.
OWN_LOOP = PACKAGE / "testing" / "_loop.py"


def name_of(path: Path) -> str:
    """Give a module's place in the package."""
    return path.relative_to(PACKAGE).as_posix()


each_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


def run(program: str) -> str:
    """Run *program* in a fresh interpreter without side effects of ours, and give its output."""
    done = subprocess.run(  # noqa: S603 -- the arguments are ours
        [sys.executable, "-c", program],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "" == done.stderr
    return done.stdout.strip()


def names_in(path: Path) -> list[str]:
    """Give the dotted names that the module at *path* uses or imports."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            names.append(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def imports_of(path: Path) -> set[str]:
    """Give the top-level packages that the module at *path* imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert 0 == node.level
            found.add((node.module or "").partition(".")[0])
    return found


def test_the_modules_are_there() -> None:
    """The tests below look at something."""
    assert {"__init__", "_core", "_store", "errors"} <= {path.stem for path in MODULES}
    assert OWN_LOOP in MODULES


@each_module
def test_only_what_is_declared_is_imported(path: Path) -> None:
    """Beside the standard library there are only the packages that `pyproject.toml` names."""
    allowed = set(sys.stdlib_module_names) | THIRD_PARTY | {"statestore"}
    allowed |= EXTRAS.get(path.stem, set())

    assert set() == imports_of(path) - allowed


@each_module
def test_only_the_logging_module_knows_structlog(path: Path) -> None:
    """All other modules leave logging to it."""
    assert (path.stem == "_logging") == ("structlog" in imports_of(path))


def test_nothing_else_is_loaded() -> None:
    """A fresh interpreter that imports the package has no other third party loaded by it."""
    program = (
        "import sys, attr, attrs, immutables, structlog, typing_extensions\n"
        "before = set(sys.modules)\n"
        "import statestore\n"
        "tops = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "tops = {top for top in tops if not top.startswith(('_sysconfigdata', '_cython'))}\n"
        "print(sorted(tops - {'cython_runtime'} - set(sys.stdlib_module_names)))\n"
    )

    assert "['statestore']" == run(program)


def test_the_helpers_for_tests_are_loaded_by_those_who_use_them() -> None:
    """Neither the package nor its plugin, which every run of pytest loads, imports them."""
    program = (
        "import sys, statestore._pytest_plugin\n"
        "print([name for name in sys.modules if name.startswith('statestore.testing')])"
    )

    assert "[]" == run(program)


def test_the_helpers_for_tests_need_no_pytest() -> None:
    """They work under any other framework, and without one."""
    program = "import sys, statestore.testing; print('pytest' in sys.modules)"

    assert "False" == run(program)


# Notes what the package calls of what would be a side effect of its import. What the standard
# library does when it is imported is its own affair.
NOTE = """
import asyncio, atexit, os, signal, sys, threading

calls = []

def note(module, name):
    real = getattr(module, name, None)

    def noted(*args, **kwargs):
        if sys._getframe(1).f_globals["__name__"].startswith("statestore"):
            calls.append(name)
        return real(*args, **kwargs)

    if real is not None:
        setattr(module, name, noted)

note(os, "register_at_fork")
note(atexit, "register")
note(signal, "signal")
note(asyncio, "new_event_loop")
note(asyncio, "get_running_loop")
note(threading, "Lock")
note(threading, "RLock")
note(threading, "Thread")

import statestore
"""


def test_importing_has_no_side_effects() -> None:
    """P115: the import starts no thread, makes no lock or loop, and registers nothing."""
    assert "[] 1" == run(NOTE + "print(calls, threading.active_count())")


def test_the_first_store_registers_for_forks_once() -> None:
    """P115: what a fork needs is registered by the first store, and never again."""
    program = NOTE + "statestore.Store(), statestore.Store(), statestore.ValueWatcher(0)\n"

    assert "1" == run(program + "print(calls.count('register_at_fork'))")


@each_module
def test_the_fragile_parts_of_asyncio_are_not_used(path: Path) -> None:
    """P002: `wait_for`, queues, events, locks and timeouts of asyncio are left alone."""
    fragile = {"wait_for", "timeout", "timeout_at", "Queue", "Event", "Condition", "Lock", "wait"}

    assert set() == {f"asyncio.{name}" for name in fragile} & set(names_in(path))


@each_module
def test_there_are_no_async_generators(path: Path) -> None:
    """P095: a stream is an object that can be closed, never an async generator."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    coroutines = [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)]

    generators = [
        node.name
        for node in coroutines
        if any(isinstance(part, ast.Yield | ast.YieldFrom) for part in ast.walk(node))
    ]

    assert [] == generators


@pytest.mark.parametrize("path", [path for path in MODULES if path != OWN_LOOP], ids=name_of)
def test_nothing_private_of_asyncio_is_used(path: Path) -> None:
    """P041: no private part of a loop is used, so any loop will do."""
    private = {"_ready", "_scheduled", "_selector", "_run_once", "_write_to_self", "_thread_id"}

    assert set() == private & {name.rpartition(".")[2] for name in names_in(path)}
