"""
A reactive state store for asyncio programs and the threads beside them.

It answers not "is the state now what I want?" but "did it *ever become* what I want since I
looked?": no transition is lost, repeated or reordered, from however many threads.
"""

from statestore._callbacks import CallbackHandle
from statestore._classes import Ref, register_immutable
from statestore._combine import all_of, any_of, at_least, combine
from statestore._commits import BlockingCommitSubscription, CommitSubscription
from statestore._during import During
from statestore._family import Members
from statestore._inspection import (
    CallbackReport,
    FamilyReport,
    KeyReport,
    NetworkReport,
    NodeReport,
    StoreReport,
    SubscriptionReport,
)
from statestore._keys import Family, Key
from statestore._lifecycle import Lifecycle
from statestore._recording import RecordedCommit, Recording
from statestore._recording_file import SavedValue
from statestore._records import ABSENT, Absent, CallbackFailure, Commit, Snapshot, Transition
from statestore._reports import Part, WaitReport
from statestore._store import BlockingStore, Store
from statestore._subscription import BlockingSubscription, BlockingValues, Subscription, Values
from statestore._supervision import run_to_end
from statestore._transaction import Transaction
from statestore._transition_log import TransitionLog, log_transitions
from statestore._value_watcher import BlockingValueWatcher, ValueWatcher
from statestore._watchdog import Watchdog, warn_stuck
from statestore._watcher import BlockingWatcher, Condition, Watcher
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

__all__ = [
    "ABSENT",
    "Absent",
    "BlockingCommitSubscription",
    "BlockingError",
    "BlockingStore",
    "BlockingSubscription",
    "BlockingValueWatcher",
    "BlockingValues",
    "BlockingWatcher",
    "CallbackFailure",
    "CallbackHandle",
    "CallbackLoopError",
    "CallbackReport",
    "Commit",
    "CommitSubscription",
    "Condition",
    "ConflictError",
    "DerivationError",
    "DifferentStoresError",
    "DuplicateKeyError",
    "During",
    "Family",
    "FamilyReport",
    "IllegalTransitionError",
    "Key",
    "KeyRemovedError",
    "KeyReport",
    "LaggedError",
    "Lifecycle",
    "Members",
    "MutableValueError",
    "NetworkReport",
    "NodeReport",
    "Part",
    "RecordedCommit",
    "Recording",
    "Ref",
    "SavedValue",
    "Snapshot",
    "StateStoreError",
    "Store",
    "StoreClosedError",
    "StoreReport",
    "Subscription",
    "SubscriptionError",
    "SubscriptionReport",
    "Transaction",
    "Transition",
    "TransitionLog",
    "UnknownKeyError",
    "UnreachableError",
    "ValueWatcher",
    "Values",
    "WaitReport",
    "WaitTimeoutError",
    "Watchdog",
    "Watcher",
    "all_of",
    "any_of",
    "at_least",
    "combine",
    "log_transitions",
    "register_immutable",
    "run_to_end",
    "warn_stuck",
]
