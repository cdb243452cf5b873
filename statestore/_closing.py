"""Things with a life that a `with` block may end."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self


class Closable:
    """What has a `close()` that may be called twice; leaving its `with` block calls it."""

    __slots__ = ()

    if TYPE_CHECKING:

        def close(self) -> None:
            """End it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
