"""The records: frozen, comparable, readable, and the same after a trip through pickle."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from statestore import ABSENT, Absent, CallbackFailure, Commit, Key, Snapshot, Store, Transition


class App(Store):
    """Two keys."""

    port = Key(8080)
    host = Key("localhost")


def transition(**changes: Any) -> Transition[Any]:
    """Make a transition."""
    return Transition(**{"key": "port", "old": 1, "new": 2, "revision": 3, **changes})


RECORDS = [
    transition(),
    transition(missed=4),
    transition(old=ABSENT),
    Commit(revision=3, transitions=(transition(), transition(key="host"))),
    Commit(revision=3, transitions=(), missed=2),
    CallbackFailure(key="port", revision=3, callback=print, error=KeyError),  # type: ignore[arg-type]
    Snapshot({"port": 1, "host": ABSENT}, 3),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_can_be_pickled(record: object) -> None:
    """What went through pickle equals what went in, of the same type."""
    again = pickle.loads(pickle.dumps(record))
    assert record == again
    assert type(record) is type(again)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_can_be_copied(record: object) -> None:
    """A copy, deep or not, equals the original."""
    assert record == copy.copy(record) == copy.deepcopy(record)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_are_frozen(record: Any) -> None:
    """No attribute of a record can be set."""
    with pytest.raises(AttributeError):
        record.revision = 9
    with pytest.raises(AttributeError):
        record.other = 9


def test_records_are_made_by_name_only() -> None:
    """Nobody has to remember the order of the fields."""
    with pytest.raises(TypeError):
        Transition("port", 1, 2, 3)  # type: ignore[call-arg, misc]
    with pytest.raises(TypeError):
        Commit(3, ())  # type: ignore[call-arg, misc]


def test_a_transition_stands_for_itself_unless_told_otherwise() -> None:
    """Nothing was missed, if nothing is said of it."""
    assert 0 == transition().missed
    assert 0 == Commit(revision=1, transitions=()).missed


def test_transitions_of_equal_fields_are_equal() -> None:
    """Records compare and hash by what they say."""
    assert transition() == transition()
    assert transition() != transition(revision=4)
    assert hash(transition()) == hash(transition())


def test_the_repr_of_a_transition_tells_everything() -> None:
    """The repr could be typed in again."""
    assert "Transition(key='port', old=1, new=2, revision=3, missed=0)" == repr(transition())


def test_a_transition_can_be_evolved() -> None:
    """It is a plain attrs class."""
    assert 9 == attrs.evolve(transition(), new=9).new


# -- ABSENT ----------------------------------------------------------------------------------------


def test_absent_stays_the_one_there_is() -> None:
    """Pickled and copied, it is the same object, so `is ABSENT` works everywhere."""
    assert ABSENT is pickle.loads(pickle.dumps(ABSENT))
    assert ABSENT is copy.deepcopy(ABSENT)
    assert ABSENT is Absent.ABSENT


def test_absent_shows_its_name() -> None:
    """In records and errors it reads as it is written."""
    assert "ABSENT" == repr(ABSENT)


# -- Snapshot --------------------------------------------------------------------------------------


def test_a_snapshot_is_a_mapping_in_the_order_of_the_keys() -> None:
    """Names, values, length and membership are those of the store."""
    snapshot = App().snapshot()
    assert isinstance(snapshot, Mapping)
    assert ["port", "host"] == list(snapshot)
    assert {"port": 8080, "host": "localhost"} == dict(snapshot)
    assert 2 == len(snapshot)
    assert "port" in snapshot
    assert "prot" not in snapshot
    assert None is snapshot.get("prot")


def test_a_snapshot_has_the_keys_as_attributes() -> None:
    """A name that is an identifier can be read as an attribute."""
    snapshot = App().snapshot()
    assert (8080, "localhost", 0) == (snapshot.port, snapshot.host, snapshot.revision)


def test_an_unknown_key_is_a_key_error() -> None:
    """Read as a mapping, a missing name is what it is for any mapping."""
    with pytest.raises(KeyError, match="prot"):
        App().snapshot()["prot"]


@pytest.mark.parametrize(
    ("snapshot", "known"),
    [(Snapshot({"port": 1, "host": 2}, 1), "port, host"), (Snapshot({}, 0), "none")],
)
def test_an_unknown_attribute_names_those_there_are(snapshot: Snapshot, known: str) -> None:
    """Read as an attribute, a missing name is an `AttributeError` that lists the keys."""
    with pytest.raises(AttributeError, match=f"has no key 'prot'; it has {known}"):
        snapshot.prot


def test_a_snapshot_cannot_be_changed() -> None:
    """Neither by attribute nor by item; the message says what to do instead."""
    snapshot: Any = App().snapshot()
    with pytest.raises(AttributeError, match="set the store's key instead"):
        snapshot.port = 1
    with pytest.raises(TypeError):
        snapshot["port"] = 1
    with pytest.raises(AttributeError, match="cannot delete 'revision'"):
        del snapshot.revision
    assert {"port": 8080, "host": "localhost"} == dict(snapshot)


def test_a_snapshot_does_not_follow_the_store() -> None:
    """It is what the store was."""
    app = App()
    before = app.snapshot()
    app.port.value = 1
    assert (8080, 0) == (before.port, before.revision)
    assert (1, 1) == (app.snapshot().port, app.snapshot().revision)


def test_a_snapshot_equals_the_mapping_of_its_values() -> None:
    """Two snapshots of equal values are equal, whenever they were taken."""
    app = App()
    before = app.snapshot()
    app.port.value = 1
    assert before != app.snapshot()
    app.port.value = 8080
    assert before == app.snapshot()
    assert {"port": 8080, "host": "localhost"} == before


def test_the_repr_of_a_snapshot_tells_revision_and_values() -> None:
    """One line for people."""
    expected = "<Snapshot of revision 0: port=8080, host='localhost'>"
    assert expected == repr(App().snapshot())


def test_a_pickled_snapshot_keeps_its_revision() -> None:
    """Equality does not look at the revision, so this does."""
    app = App()
    app.port.value = 1
    assert 1 == pickle.loads(pickle.dumps(app.snapshot())).revision
