"""
Run the Python blocks of the documentation.

The blocks of one page share a namespace. A block may `await`: it is then run by `asyncio.run()`.
"""

from __future__ import annotations

import ast
import asyncio
import inspect

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser


def evaluate(example: Example) -> None:
    """Run one block, with lines numbered as in the page."""
    source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(source, example.path, "exec", flags, dont_inherit=True)
    if code.co_flags & inspect.CO_COROUTINE:

        async def run() -> None:
            await eval(code, example.namespace)  # noqa: S307 -- it is what the page says

        asyncio.run(run())
    else:
        exec(code, example.namespace)  # noqa: S102 -- it is what the page says


pytest_collect_file = Sybil(
    parsers=[CodeBlockParser(language="python", evaluator=evaluate)],
    patterns=["*.md", "guides/*.md"],
).pytest()
