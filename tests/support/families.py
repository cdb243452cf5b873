"""A store with families, for tests of several modules."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import attrs

from statestore import Family, Key, Store, ValueWatcher


class Pool(Store):
    """A key, a family with a default, and one that takes anything."""

    n = Key(0)
    workers = Family[str, int](default=0)
    things = Family[Any, Any]()


def removed(pool: Pool) -> ValueWatcher[int]:
    """Give the watcher of a worker that was added, and removed again."""
    watcher = pool.workers.add("gone", 1)
    del pool.workers["gone"]
    return watcher


ASKED: Final[Counter[str]] = Counter()
"""How often a key was asked for its hash, and whether it equals another one."""


@attrs.frozen(eq=False)
class Asked:
    """A key that counts in `ASKED` how often it is asked."""

    number: int

    def __hash__(self) -> int:
        ASKED["hash"] += 1
        return hash(self.number)

    def __eq__(self, other: object) -> bool:
        ASKED["eq"] += 1
        return isinstance(other, Asked) and self.number == other.number


def fill(pool: Pool, count: int) -> None:
    """Add so many things, all one, under keys of type `Asked`, in one commit."""
    with pool.transaction() as tx:
        for number in range(count):
            tx.add(pool.things, Asked(number), 1)
