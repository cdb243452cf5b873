"""
A reactive state store for asyncio programs and the threads beside them.

It answers not "is the state now what I want?" but "did it *ever become* what I want since I
looked?": no transition is lost, repeated or reordered, from however many threads.
"""

from statestore._callbacks import CallbackHandle
from statestore._classes import Ref, register_immutable
from statestore._commits import BlockingCommitSubscription, CommitSubscription
from statestore._keys import Key
from statestore._records import ABSENT, Absent, CallbackFailure, Commit, Snapshot, Transition
from statestore._store import BlockingStore, Store
from statestore._subscription import BlockingSubscription, BlockingValues, Subscription, Values
from statestore._transaction import Transaction
from statestore._watcher import BlockingWatcher, ValueWatcher, Watcher
from statestore.errors import (
    BlockingError,
    CallbackLoopError,
    ConflictError,
    DuplicateKeyError,
    LaggedError,
    MutableValueError,
    StateStoreError,
    StoreClosedError,
    SubscriptionError,
    UnknownKeyError,
    WaitTimeoutError,
)

__all__ = [
    "ABSENT",
    "Absent",
    "BlockingCommitSubscription",
    "BlockingError",
    "BlockingStore",
    "BlockingSubscription",
    "BlockingValues",
    "BlockingWatcher",
    "CallbackFailure",
    "CallbackHandle",
    "CallbackLoopError",
    "Commit",
    "CommitSubscription",
    "ConflictError",
    "DuplicateKeyError",
    "Key",
    "LaggedError",
    "MutableValueError",
    "Ref",
    "Snapshot",
    "StateStoreError",
    "Store",
    "StoreClosedError",
    "Subscription",
    "SubscriptionError",
    "Transaction",
    "Transition",
    "UnknownKeyError",
    "ValueWatcher",
    "Values",
    "WaitTimeoutError",
    "Watcher",
    "register_immutable",
]
