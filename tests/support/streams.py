"""Read from subscriptions without waiting."""

from __future__ import annotations

import asyncio
from typing import Any

from statestore import StateStoreError
from statestore._streams import Stream


def drain(stream: Stream[Any]) -> list[Any]:
    """Take all that is there."""
    taken: list[Any] = []
    while True:
        try:
            taken.append(stream.get_nowait())
        except asyncio.QueueEmpty:
            return taken


def drain_to_error(stream: Stream[Any]) -> tuple[list[Any], type[Exception]]:
    """Take all that is there up to the first error; give both."""
    taken: list[Any] = []
    while True:
        try:
            taken.append(stream.get_nowait())
        except (asyncio.QueueEmpty, StateStoreError) as error:
            return taken, type(error)
