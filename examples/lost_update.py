"""
Show the lost update: a task waits for "closing", but "closed" follows in the same tick.

With `asyncio.Condition` the task is woken, looks at the value *now*, and sleeps again for ever.
With `statestore` it is given every transition, so it finds the one it waited for.
"""

from __future__ import annotations

import asyncio
import sys

from statestore import ValueWatcher, WaitTimeoutError

PATIENCE = 0.5


async def with_condition() -> bool:
    """Tell whether a task that waits on an `asyncio.Condition` gets to see "closing"."""
    state = "disconnected"
    condition = asyncio.Condition()

    async def set_state(new: str) -> None:
        nonlocal state
        async with condition:
            state = new
            condition.notify_all()

    async def drain() -> None:
        async with condition:
            await condition.wait_for(lambda: state == "closing")

    draining = asyncio.create_task(drain())
    await asyncio.sleep(0)  # The task runs, and waits.
    await set_state("closing")
    await set_state("closed")
    try:
        async with asyncio.timeout(PATIENCE):
            await draining
    except TimeoutError:
        return False
    return True


async def with_statestore() -> bool:
    """Tell whether a task that waits on a `ValueWatcher` gets to see "closing"."""
    state = ValueWatcher("disconnected")

    async def drain() -> None:
        await state.wait_for("closing", timeout=PATIENCE)

    draining = asyncio.create_task(drain())
    await asyncio.sleep(0)  # The task runs, and waits.
    state.value = "closing"
    state.value = "closed"
    try:
        await draining
    except WaitTimeoutError:
        return False
    return True


async def main() -> int:
    """Run both; give the exit code: 0 if the first one hangs and the second one does not."""
    condition_saw_it = await with_condition()
    statestore_saw_it = await with_statestore()
    for name, saw_it in (
        ("asyncio.Condition", condition_saw_it),
        ("statestore", statestore_saw_it),
    ):
        what = "saw 'closing'" if saw_it else f"hung: no 'closing' seen within {PATIENCE} s"
        print(f"{name:<18} {what}")
    return 0 if statestore_saw_it and not condition_saw_it else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
