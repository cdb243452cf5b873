"""
Test programs that use statestore: without sleeping, and with nothing left behind.

- [`StepLoop`][]: an event loop with virtual time that moves only when told to; [`settle`][] for
  any other loop.
- [`recorded`][], [`assert_transitions`][]: which transitions were made, shown beside those that
  were expected.
- [`assert_no_trace`][], [`assert_chain`][], [`Replay`][]: the promises of the library, checked on
  what happened.
- [`Hostile`][], [`boom`][], [`BrokenLoop`][], [`Probe`][] and their like: objects that behave as
  badly as user code can.

Whatever is not as it should be is an `AssertionError`, in Pythons that leave out `assert` too. The
same is offered as fixtures for pytest, which are there as soon as the package is installed.
"""

from statestore.testing._history import Operation, Replay, assert_chain
from statestore.testing._hostile import (
    BoomError,
    BrokenLoop,
    Hostile,
    Panic,
    Probe,
    Undecided,
    boom,
    equal_by,
    in_thread,
)
from statestore.testing._loop import StepLoop, Stuck, inside
from statestore.testing._makers import StoreMaker, TransitionRecorder
from statestore.testing._recording import RecordedTransitions, assert_transitions, recorded
from statestore.testing._settling import settle
from statestore.testing._traces import assert_no_trace, traces_of

__all__ = [
    "BoomError",
    "BrokenLoop",
    "Hostile",
    "Operation",
    "Panic",
    "Probe",
    "RecordedTransitions",
    "Replay",
    "StepLoop",
    "StoreMaker",
    "Stuck",
    "TransitionRecorder",
    "Undecided",
    "assert_chain",
    "assert_no_trace",
    "assert_transitions",
    "boom",
    "equal_by",
    "in_thread",
    "inside",
    "recorded",
    "settle",
    "traces_of",
]
