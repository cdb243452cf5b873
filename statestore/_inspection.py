"""What there is in a store at one moment: a frozen report, in text, as a table, as a diagram."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias, final

import attrs

from statestore._reports import WaitReport
from statestore._text import spell

__all__ = [
    "CallbackReport",
    "FamilyReport",
    "KeyReport",
    "NetworkReport",
    "NodeReport",
    "StoreReport",
    "SubscriptionReport",
]

ROWS: Final = 50
"""How many rows of each table are printed."""

Table: TypeAlias = tuple[str, Sequence[str], list[Sequence[str]]]
"""A title, the names of the columns, and the rows."""


@final
@attrs.frozen(kw_only=True)
class KeyReport:
    """
    One key, or one member of a family.

    Attributes:
        name: Its name.
        value: Its value.
        revision: The revision of its last transition.
        age: For how many seconds it has had the value; None if nobody keeps the times of commits.
    """

    name: str
    value: object
    revision: int
    age: float | None


@final
@attrs.frozen(kw_only=True)
class FamilyReport:
    """
    One family.

    Attributes:
        name: Its name.
        size: How many members it has.
        members: The members, 100 at most.
        revision: The revision at which a member came or went last.
    """

    name: str
    size: int
    members: tuple[KeyReport, ...]
    revision: int


@final
@attrs.frozen(kw_only=True)
class SubscriptionReport:
    """
    One open subscription, or iteration over values.

    Attributes:
        key: What it is opened on.
        kind: The name of its class.
        policy: What it keeps: `"unbounded"`, or at most *maxlen* records and what its *overflow*
            says, `"raise"` or `"latest"`; or the `"newest"` value alone.
        maxlen: The bound, if there is one.
        pending: How many records wait to be taken: its lag. Of a derived watcher, as far as it was
            computed.
        revision: The revision of the last one that was taken, or of the opening.
        reader: The name of the task or thread that sleeps on it.
    """

    key: str
    kind: str
    policy: Literal["unbounded", "raise", "latest", "newest"]
    maxlen: int | None
    pending: int
    revision: int
    reader: str


@final
@attrs.frozen(kw_only=True)
class CallbackReport:
    """
    One registered callback.

    Attributes:
        key: What it is registered on.
        callback: Its name; a lambda by file and line.
        since: The revision above which it is called, once that is known.
    """

    key: str
    callback: str
    since: int | None


@final
@attrs.frozen(kw_only=True)
class NodeReport:
    """
    Something that derived watchers are computed of: a source, or what is computed in one go.

    Attributes:
        id: Its name in this report.
        name: What it is, in words.
        value: Its value, the last one if it has none now.
        error: Why it has none.
        revision: The revision of its last transition.
        sources: The ids of what it is computed of; none for a source.
        listeners: Who listens to it, in words.
    """

    id: str
    name: str
    value: object
    error: str
    revision: int
    sources: tuple[str, ...]
    listeners: tuple[str, ...]


@final
@attrs.frozen(kw_only=True)
class NetworkReport:
    """
    Where derived watchers are computed.

    Attributes:
        kind: For whom: an event loop, one thread that blocks, or callbacks.
        nodes: What is computed, each after its sources.
    """

    kind: Literal["event loop", "thread", "callbacks"]
    nodes: tuple[NodeReport, ...]


@final
@attrs.frozen(kw_only=True)
class StoreReport:
    """
    What there is in a store at one moment, from `Store.inspect()`.

    `str()` is a plain table of it. Printed with rich (extra `rich`), it is a nicer one.

    Attributes:
        name: The name of the store.
        revision: The revision; all values of keys are of it.
        is_closed: Whether the store is closed.
        keys: The keys.
        families: The families.
        waits: Every task and thread that sleeps, also on a subscription, the oldest first.
        subscriptions: The open subscriptions and iterations over values.
        callbacks: The callbacks.
        networks: What is computed of derived watchers, and for whom.
    """

    name: str
    revision: int
    is_closed: bool
    keys: tuple[KeyReport, ...]
    families: tuple[FamilyReport, ...]
    waits: tuple[WaitReport, ...]
    subscriptions: tuple[SubscriptionReport, ...]
    callbacks: tuple[CallbackReport, ...]
    networks: tuple[NetworkReport, ...]

    def __str__(self) -> str:
        return "\n\n".join([self._head(), *map(_plain, self._tables())])

    def __rich__(self) -> Any:
        """Give what rich prints."""
        return _rich(self._head(), self._tables())

    def to_mermaid(self) -> str:
        """Draw what is derived of what, and who listens, as a Mermaid flowchart."""
        return "\n".join(["flowchart LR", *_drawn(self.networks)])

    def _head(self) -> str:
        closed = ", closed" if self.is_closed else ""
        return f"{self.name} at revision {self.revision}{closed}"

    def _tables(self) -> list[Table]:
        members = [member for family in self.families for member in family.members]
        nodes = [(network.kind, node) for network in self.networks for node in network.nodes]
        tables: list[Table] = [
            (
                "Keys",
                ("key", "value", "revision", "age"),
                [_key_row(key) for key in (*self.keys, *members)],
            ),
            (
                "Families",
                ("family", "members", "revision"),
                [(f.name, str(f.size), str(f.revision)) for f in self.families],
            ),
            (
                "Waits",
                ("who", "waits for", "for", "time left", "there is"),
                [_wait_row(wait) for wait in self.waits],
            ),
            (
                "Subscriptions",
                ("to", "kind", "policy", "pending", "read up to", "reader"),
                [_subscription_row(subscription) for subscription in self.subscriptions],
            ),
            (
                "Callbacks",
                ("on", "callback", "since revision"),
                list(map(_callback_row, self.callbacks)),
            ),
            (
                "Derived",
                ("for", "node", "what", "value", "revision", "made of", "listeners"),
                [_node_row(kind, node) for kind, node in nodes],
            ),
        ]
        return [table for table in tables if table[2]]


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f} s"


def _key_row(key: KeyReport) -> Sequence[str]:
    return (key.name, spell(key.value), str(key.revision), _seconds(key.age))


def _wait_row(wait: WaitReport) -> Sequence[str]:
    who = f"{wait.kind} {wait.waiter}"
    there_is = str(wait).removeprefix(f"{wait.waited_for}; ")
    return (who, wait.waited_for, _seconds(wait.waited), _seconds(wait.left), there_is)


def _subscription_row(subscription: SubscriptionReport) -> Sequence[str]:
    policy: str = subscription.policy
    if subscription.maxlen is not None:
        policy = f"{subscription.maxlen}, {policy}"
    return (
        subscription.key,
        subscription.kind,
        policy,
        str(subscription.pending),
        str(subscription.revision),
        subscription.reader,
    )


def _callback_row(callback: CallbackReport) -> Sequence[str]:
    since = "" if callback.since is None else str(callback.since)
    return (callback.key, callback.callback, since)


def _node_row(kind: str, node: NodeReport) -> Sequence[str]:
    return (
        kind,
        node.id,
        node.name,
        node.error or spell(node.value),
        str(node.revision),
        ", ".join(node.sources),
        ", ".join(node.listeners),
    )


# How it is shown


def _cut(table: Table) -> Table:
    title, columns, rows = table
    if len(rows) > ROWS:
        more = f"… {len(rows) - ROWS:,} more"
        rows = [*rows[:ROWS], (more, *[""] * (len(columns) - 1))]
    return title, columns, [[" ".join(cell.split()) for cell in row] for row in rows]


def _plain(table: Table) -> str:
    title, columns, rows = _cut(table)
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (columns, ["-" * width for width in widths], *rows)
    ]
    return "\n".join([title, *(f"  {line}" for line in lines)])


def _rich(head: str, tables: Iterable[Table]) -> Any:
    try:
        rich = importlib.import_module("rich.table")
        texts = importlib.import_module("rich.text")
        consoles = importlib.import_module("rich.console")
    except ImportError as error:
        msg = "the table needs rich: install 'statestore[rich]', or print str() of the report"
        raise ImportError(msg) from error
    drawn: list[Any] = [texts.Text(head)]
    for title, columns, rows in map(_cut, tables):
        table = rich.Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            # No markup: a value may hold what looks like some.
            table.add_row(*map(texts.Text, row))
        drawn.append(table)
    return consoles.Group(*drawn)


def _quoted(text: str) -> str:
    for char, name in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        text = text.replace(char, name)
    return f'"{" ".join(text.split())}"'


def _drawn(networks: Iterable[NetworkReport]) -> Iterator[str]:
    for number, network in enumerate(networks):
        yield f"  subgraph g{number}[{_quoted(network.kind)}]"
        for node in network.nodes:
            label = _quoted(f"{node.name}: {node.error or spell(node.value)}")
            yield f"    {node.id}({label})" if node.sources else f"    {node.id}[{label}]"
            for source in node.sources:
                yield f"    {source} --> {node.id}"
            for place, listener in enumerate(node.listeners):
                yield f"    {node.id} -.-> {node.id}l{place}>{_quoted(listener)}]"
        yield "  end"
