"""Import the package as it was at another commit, beside the one that is there."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Final

ROOT: Final = Path(__file__).parents[3]


def package_at(revision: str) -> ModuleType:
    """Import the package as it was at a revision of git."""
    command = ["git", "-C", str(ROOT), "archive", revision, "statestore"]
    archive = subprocess.run(command, check=True, capture_output=True).stdout  # noqa: S603 -- as the user says
    with (
        tempfile.TemporaryDirectory() as directory,
        tarfile.open(fileobj=io.BytesIO(archive)) as files,
    ):
        files.extractall(directory, filter="data")
        return package_in(directory)


def package_in(directory: str) -> ModuleType:
    """Import the package that is in *directory*, beside any other of the same name."""
    ours = {name: module for name, module in sys.modules.items() if is_ours(name)}
    for name in ours:
        del sys.modules[name]
    sys.path.insert(0, directory)
    try:
        return importlib.import_module("statestore")
    finally:
        sys.path.remove(directory)
        for name in [name for name in sys.modules if is_ours(name)]:
            del sys.modules[name]
        sys.modules.update(ours)


def is_ours(name: str) -> bool:
    """Tell whether a module is one of the package."""
    return name.partition(".")[0] == "statestore"
