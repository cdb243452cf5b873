"""Write a recording to a file of JSON lines, and read it again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast, final

import attrs
import immutables

from statestore._commits import put
from statestore._history import History, Kept, Move
from statestore._journal import Origin
from statestore._records import ABSENT, Snapshot
from statestore._text import spell

FORMAT: Final = "statestore recording 1"

_PLAIN: Final = (bool, int, float, str, type(None))


@final
@attrs.frozen(repr=False)
class SavedValue:
    """
    What stands in a loaded recording for a value that JSON has no form for.

    Attributes:
        text: The value in words, as it was when the recording was saved.
    """

    text: str

    def __repr__(self) -> str:
        return self.text


def lines_of(history: History) -> Iterator[str]:
    """Give the lines of a file: the state before the first commit, then each commit."""
    return (json.dumps(line, ensure_ascii=False) + "\n" for line in _tables(history))


def parse(lines: Iterator[str], path: str) -> History:
    """
    Read the lines of a file.

    Raises:
        ValueError: One of them is not what it should be.
    """
    place = f"{path}:1"
    try:
        title, since, until, state = _head_of(json.loads(next(lines, "")))
        commits: list[Kept] = []
        for number, line in enumerate(lines, 2):
            place = f"{path}:{number}"
            commits.append(_commit_of(json.loads(line), state))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        msg = f"{place}: this is no line of a recording ({error!r})"
        raise ValueError(msg) from error
    return History(title, since, tuple(commits), Snapshot(state, until))


def _tables(history: History) -> Iterator[dict[str, Any]]:
    state = history.state_at(history.since)
    members: dict[str, Mapping[Any, Any]] = {
        name: value for name, value in state.items() if isinstance(value, immutables.Map)
    }
    families = {
        name: [[_encoded(key), _encoded(each)] for key, each in values.items()]
        for name, values in members.items()
    }
    yield {
        "format": FORMAT,
        "store": history.title,
        "since": history.since,
        "until": history.end.revision,
        "values": {name: _encoded(each) for name, each in state.items() if name not in families},
        "families": families,
    }
    for commit in history.commits:
        origin = attrs.asdict(commit.origin, recurse=False)
        origin["context"] = {name: _encoded(each) for name, each in commit.origin.context.items()}
        moves = [
            {name: _encoded(each) for name, each in move._asdict().items()} for move in commit.moves
        ]
        yield {"revision": commit.revision, **origin, "transitions": moves}


def _head_of(line: Any) -> tuple[str, int, int, dict[str, Any]]:
    if line["format"] != FORMAT:
        raise ValueError(line["format"])
    state = {name: _decoded(value) for name, value in line["values"].items()}
    for name, members in line["families"].items():
        state[name] = immutables.Map({_decoded(key): _decoded(value) for key, value in members})
    return line["store"], line["since"], line["until"], state


def _commit_of(line: Any, state: dict[str, Any]) -> Kept:
    """Read a commit, and have *state* be what it led to."""
    moves = tuple(
        Move(**{name: _decoded(value) for name, value in move.items()})
        for move in line.pop("transitions")
    )
    for move in moves:
        put(state, move.name, move.family, move.key, move.new)
    context = {name: _decoded(value) for name, value in line.pop("context").items()}
    return Kept(line.pop("revision"), Origin(context=context, **line), moves)


def _encoded(value: Any) -> Any:
    if value is ABSENT:
        return {"absent": True}
    return value if type(value) in _PLAIN else {"words": spell(value, 200)}


def _decoded(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    table = cast("Mapping[str, Any]", value)
    return ABSENT if "absent" in table else SavedValue(table["words"])
