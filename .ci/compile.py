"""
Compile what is called most, as an extra of the wheel: the twin of the modules with a `.pxd`.

    HATCH_BUILD_HOOK_ENABLE_CUSTOM=true pip install .

The source is the one that runs without this. Beside it, a `.pxd` says of what types the attributes
are. What Cython cannot know, or does not take, is written out for it here: the numbers that stand
behind a name for good, and classes without `@final`, which is for type checkers.

Nothing is left in the tree; the compiled modules go into the wheel, next to their source.
"""

from __future__ import annotations

import ast
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE: Final = "statestore"

DIRECTIVES: Final = {
    "language_level": 3,
    # Types stand in the `.pxd`; annotations say more than is checked.
    "annotation_typing": False,
    # An attribute of None raises, as ever.
    "nonecheck": True,
}


class CustomBuildHook(BuildHookInterface[Any]):
    """The name by which hatchling finds it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """
        Compile, and have the wheel take it along.

        Raises:
            RuntimeError: It is no wheel that is built.
        """
        if version == "editable":
            msg = "an editable installation runs the source, not what was compiled; leave out -e"
            raise RuntimeError(msg)
        # Gone at the end of the process at the latest, should anything fail.
        self._scratch = tempfile.TemporaryDirectory()
        for made in compile_all(Path(self.root) / PACKAGE, Path(self._scratch.name)):
            build_data["force_include"][str(made)] = f"{PACKAGE}/{made.name}"
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 -- as it is called
        """Leave nothing behind."""
        self._scratch.cleanup()


def compile_all(package: Path, scratch: Path) -> list[Path]:
    """Compile the modules of *package* that have a `.pxd`, in *scratch*; give what was made."""
    from Cython.Build import cythonize  # noqa: PLC0415 -- these two are here if it is wanted
    from setuptools import Distribution, Extension  # noqa: PLC0415 -- see above

    copy = scratch / package.name
    copy.mkdir()
    (copy / "__init__.py").touch()
    extensions: list[Extension] = []
    for declared in sorted(package.glob("*.pxd")):
        shutil.copy(declared, copy)
        source = copy / f"{declared.stem}.py"
        source.write_bytes(written_out(package, declared.stem))
        extensions.append(Extension(f"{package.name}.{declared.stem}", [str(source)]))
    modules = cythonize(extensions, compiler_directives=DIRECTIVES, include_path=[str(scratch)])
    command: Any = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(scratch / "lib"), str(scratch / "temp")
    command.parallel = True
    command.ensure_finalized()
    command.run()
    return [Path(output) for output in command.get_outputs()]


def written_out(package: Path, module: str) -> bytes:
    """Give the source of *module*, line by line the same, in the words that Cython takes."""
    tree, lines = parsed(package, module)
    numbers = numbers_of(tree)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(f"{package.name}._"):
            theirs = numbers_of(parsed(package, str(node.module).partition(".")[2])[0])
            numbers |= {name.name: theirs[name.name] for name in node.names if name.name in theirs}
    places: list[tuple[int, int, int, bytes]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in numbers:
            end = node.col_offset + len(node.id)
            places.append((node.lineno - 1, node.col_offset, end, b"%d" % numbers[node.id]))
        elif isinstance(node, ast.ClassDef):
            final = [each for each in node.decorator_list if ast.unparse(each) == "final"]
            places += [(each.lineno - 1, 0, -1, b"") for each in final]
    # From the end of each line to its beginning.
    for line, start, end, text in sorted(places, reverse=True):
        lines[line] = lines[line][:start] + text + lines[line][end:]
    return b"".join(lines)


def parsed(package: Path, module: str) -> tuple[ast.Module, list[bytes]]:
    """Give the syntax of *module*, and its lines."""
    source = (package / f"{module}.py").read_bytes()
    return ast.parse(source), source.splitlines(keepends=True)


def numbers_of(tree: ast.Module) -> dict[str, int]:
    """Give the whole numbers that have a name for good, by their names."""
    return {
        node.target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(node.annotation, ast.Name)
        and node.annotation.id == "Final"
        and isinstance(node.value, ast.Constant)
        and type(node.value.value) is int
    }
