"""What is told of a wait: a frozen record that anybody may keep, send or print."""

from __future__ import annotations

from typing import Any, Literal, cast, final

import attrs

from statestore._records import ABSENT, Transition
from statestore._text import portable, spell

__all__ = ["Part", "WaitReport"]


@final
@attrs.frozen(kw_only=True)
class Part:
    """
    One part of what is waited for: a condition, or something that it is derived from.

    `str()` says it in words, such as `warm NO (is COLD)`.

    Attributes:
        name: What it is, in words.
        holds: Whether it holds; None if it is no condition, or could not be computed.
        value: The value that it is a condition of, if there is one, or else its own.
        text: All of that in words.
    """

    name: str
    holds: bool | None
    value: object
    text: str

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        return _reduced(self)


@final
@attrs.frozen(kw_only=True)
class WaitReport:
    """
    What a wait waits for, and what there is instead: of one that failed, or still waits.

    `str()` says it in words. It can be pickled: what in it cannot is replaced by its text.

    Attributes:
        waited_for: What it waits for, in words: `conn to be CLOSED`, or with the parts of a
            combined condition `all of 3: ready yes, warm NO (is COLD), idle yes`.
        key: The name of the key, or what the watcher is derived from.
        value: The last value that it looked at; of one that still waits, the current value, or
            `ABSENT` if it waits for commits.
        revision: The revision of that value.
        age: For how many seconds it has had that value; None if nobody keeps the times of commits.
        error: Why there is no value, in words. *value* is the last one then.
        transitions: The last transitions that it has seen, three at most.
        parts: Of something derived, what it is made of. Of more than 1,000 conditions, the first
            few that do not hold.
        part_count: How many parts there are.
        detail: The parts in words.
        waiter: The name of the task or thread, if it still waits.
        kind: What waits.
        since: When it began to wait, by the clock of its event loop or `time.monotonic()`.
        waited: For how many seconds it has waited.
        deadline: When its time is up, by the same clock; None if it waits for ever.
    """

    waited_for: str
    key: str
    value: object
    revision: int
    age: float | None = None
    error: str = ""
    transitions: tuple[Transition[Any], ...] = ()
    parts: tuple[Part, ...] = ()
    part_count: int = 0
    detail: str = ""
    waiter: str = ""
    kind: Literal["task", "thread"] | None = None
    since: float | None = None
    waited: float | None = None
    deadline: float | None = None

    @property
    def left(self) -> float | None:
        """How many seconds are left until its deadline; None if it has none, or is over."""
        if self.deadline is None or self.since is None or self.waited is None:
            return None
        return self.deadline - self.since - self.waited

    def __str__(self) -> str:
        told = [self.waited_for, self.state]
        if self.detail and not self.waited_for.endswith(self.detail):
            told.append(self.detail)
        if self.transitions:
            told.append("it saw " + ", ".join(map(_told, self.transitions)))
        return "; ".join(told)

    @property
    def state(self) -> str:
        """What there is, and since when, in words."""
        ago = "" if self.age is None else f", {self.age:.3g} s ago"
        what = f"it is {spell(self.value, 200)} since"
        if self.error:
            what = f"it {self.error}"
        elif self.value is False and self.parts:
            what = "not so since"
        elif self.value is ABSENT:
            what = "it is at"
        return f"{what} revision {self.revision}{ago}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reduced(self)


def _told(transition: Transition[Any]) -> str:
    old, new = spell(transition.old), spell(transition.new)
    return f"{old} -> {new} at revision {transition.revision}"


def _reduced(report: Part | WaitReport) -> tuple[Any, ...]:
    fields = {
        field.name: _portable(getattr(report, field.name)) for field in attrs.fields(type(report))
    }
    return (_restored, (type(report), fields))


def _portable(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_portable, cast("Any", value)))
    if isinstance(value, Transition):
        moved = cast("Any", value)
        return attrs.evolve(moved, old=portable(moved.old), new=portable(moved.new))
    return portable(value)


def _restored(kind: type[Any], fields: dict[str, Any]) -> Any:
    return kind(**fields)
