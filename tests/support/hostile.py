"""A store in which hostile objects do what they can, and what a probe does with it."""

from __future__ import annotations

from typing import Any

from statestore import Key, Store
from statestore.testing import Probe


class Arena(Store):
    """Where it happens."""

    state = Key[Any](0)
    beside = Key(0)


def probing(store: Arena) -> Probe:
    """Give user code during which another thread reads, sets, registers and looks at everything."""

    def use() -> None:
        revision = store.revision
        store.state.value
        store.beside.update(lambda now: now + 1)
        with store.state.subscribe(maxlen=1), store.subscribe(store.state), store.subscribe():
            store.beside.value += 1
        store.state.on_change(lambda _old, _new: None).close()
        with store.transaction() as tx:
            tx[store.beside] = tx[store.beside] + 1
        assert store.snapshot().revision >= revision + 3

    return Probe(use)
