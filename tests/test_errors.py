"""Errors: what they are, what they carry, and that they survive a journey."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import threading

import pytest

from statestore import ValueWatcher, WaitReport, errors
from statestore.errors import (
    BlockingError,
    CallbackLoopError,
    ConflictError,
    DerivationError,
    DifferentStoresError,
    DuplicateKeyError,
    IllegalTransitionError,
    KeyRemovedError,
    LaggedError,
    MutableValueError,
    StateStoreError,
    StoreClosedError,
    SubscriptionError,
    UnknownKeyError,
    UnreachableError,
    WaitTimeoutError,
)

BUILT_IN: dict[type[StateStoreError], type[Exception]] = {
    BlockingError: RuntimeError,
    CallbackLoopError: RuntimeError,
    ConflictError: RuntimeError,
    DerivationError: RuntimeError,
    DifferentStoresError: ValueError,
    DuplicateKeyError: ValueError,
    IllegalTransitionError: ValueError,
    KeyRemovedError: KeyError,
    LaggedError: RuntimeError,
    MutableValueError: TypeError,
    StoreClosedError: RuntimeError,
    SubscriptionError: RuntimeError,
    UnknownKeyError: KeyError,
    UnreachableError: RuntimeError,
    WaitTimeoutError: TimeoutError,
}

REPORT = WaitReport(waited_for="conn to be 'closed'", key="conn", value="open", revision=7)

ATTRIBUTES: dict[type[StateStoreError], dict[str, object]] = {
    ConflictError: {"key": "conn"},
    DerivationError: {"function": len, "values": (1, "two"), "revision": 3, "wait": REPORT},
    IllegalTransitionError: {
        "key": "conn",
        "old": "open",
        "new": "new",
        "allowed": frozenset({"closing"}),
        "revision": 7,
    },
    KeyRemovedError: {"key": "workers['w1']", "wait": REPORT},
    LaggedError: {"missed": 3, "first_revision": 4, "last_revision": 9, "value": "new"},
    MutableValueError: {"path": "config.tags[2]"},
    StoreClosedError: {"wait": REPORT},
    UnreachableError: {
        "key": "conn",
        "waited_for": "conn to be 'open'",
        "value": "closed",
        "wait": REPORT,
    },
    WaitTimeoutError: {
        "key": "conn",
        "waited_for": "conn to be 'closed'",
        "value": "open",
        "revision": 7,
        "timeout": 1.5,
        "wait": REPORT,
    },
}

ALL = sorted([StateStoreError, *BUILT_IN], key=lambda error: error.__name__)

every_error = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)


def make(kind: type[StateStoreError]) -> StateStoreError:
    """Make an error with a value for each of its attributes."""
    return kind("the message", **ATTRIBUTES.get(kind, {}))


def test_all_of_them_are_listed() -> None:
    """The module's `__all__` has every error that it defines, and these tests have them too."""
    defined = {
        name
        for name, thing in vars(errors).items()
        if inspect.isclass(thing) and thing.__module__ == errors.__name__
    }

    assert defined == set(errors.__all__)
    assert defined == {kind.__name__ for kind in ALL}


@every_error
def test_is_a_state_store_error(kind: type[StateStoreError]) -> None:
    """One `except StateStoreError` catches whatever the package raises on purpose."""
    assert issubclass(kind, StateStoreError)
    assert issubclass(kind, Exception)


@pytest.mark.parametrize(("kind", "built_in"), BUILT_IN.items(), ids=lambda thing: thing.__name__)
def test_is_the_built_in_that_it_resembles(
    kind: type[StateStoreError], built_in: type[Exception]
) -> None:
    """Code that knows nothing of the package catches it as what it resembles."""
    assert issubclass(kind, built_in)


def test_a_timeout_is_the_one_of_asyncio() -> None:
    """`except asyncio.TimeoutError` catches a wait that timed out."""
    assert issubclass(WaitTimeoutError, asyncio.TimeoutError)


@every_error
def test_shows_its_message(kind: type[StateStoreError]) -> None:
    """`str()` is the message as it is, also of a KeyError, which would show its repr."""
    assert "the message" == str(make(kind))
    assert "" == str(kind("")) == str(StateStoreError())


@every_error
def test_has_its_attributes(kind: type[StateStoreError]) -> None:
    """The facts of the message are attributes, under the names that the docstring gives."""
    error = make(kind)
    documented = inspect.getdoc(kind) or ""

    for name, value in ATTRIBUTES.get(kind, {}).items():
        assert value == getattr(error, name)
        assert f"{name}:" in documented
    assert set(ATTRIBUTES.get(kind, {})) == set(vars(error))


@every_error
def test_can_be_made_from_a_message_alone(kind: type[StateStoreError]) -> None:
    """Every attribute has a default."""
    assert "the message" == str(kind("the message"))


@every_error
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_can_be_pickled(kind: type[StateStoreError], protocol: int) -> None:
    """Type, message and attributes survive pickling."""
    error = make(kind)

    twin = pickle.loads(pickle.dumps(error, protocol))

    assert type(error) is type(twin)
    assert (error.args, vars(error)) == (twin.args, vars(twin))
    assert str(error) == str(twin)


@every_error
def test_can_be_copied(kind: type[StateStoreError]) -> None:
    """Type, message and attributes survive copying."""
    error = make(kind)

    twin = copy.copy(error)

    assert (type(error), error.args, vars(error)) == (type(twin), twin.args, vars(twin))


@every_error
def test_has_a_docstring(kind: type[StateStoreError]) -> None:
    """Each one says in its own docstring when it is raised."""
    assert kind.__doc__
    assert len(kind.__doc__.strip()) > 20


async def test_one_that_was_raised_can_be_pickled() -> None:
    """A real error, with the traceback of a real wait, survives pickling with its facts."""
    watcher = ValueWatcher("open", name="conn")
    watcher.value = "busy"
    with pytest.raises(WaitTimeoutError) as caught:
        await watcher.wait_for("closed", timeout=0)

    twin = pickle.loads(pickle.dumps(caught.value))

    assert ("conn", "busy", 1, 0) == (twin.key, twin.value, twin.revision, twin.timeout)
    assert "conn to be 'closed'" == twin.waited_for
    assert str(caught.value) == str(twin)


def test_an_error_gets_through_though_its_value_does_not() -> None:
    """A value that cannot be pickled is replaced by its text; the error is not lost."""
    lock = threading.Lock()
    error = WaitTimeoutError("too late", key="lock", value=lock, timeout=1.0)
    back = pickle.loads(pickle.dumps(error))

    assert ("too late", "lock", repr(lock), 1.0) == (str(back), back.key, back.value, back.timeout)
