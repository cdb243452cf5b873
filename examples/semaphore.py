"""
Share three permits between tasks on two event loops and threads that block.

A semaphore is a number in a store: `claim` waits until there is a permit and takes it, in one step.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

from statestore import Key, Store

LIMIT = 3
ROUNDS = 50


class App(Store):
    """How many permits are left."""

    permits = Key(LIMIT)


async def task(app: App) -> None:
    """Take a permit, hold it over an `await`, give it back; again and again."""
    for _ in range(ROUNDS):
        await app.permits.claim(lambda left: left > 0, lambda left: left - 1)
        await asyncio.sleep(0)
        app.permits.update(lambda left: left + 1)


async def tasks(app: App) -> None:
    """Run ten of them."""
    await asyncio.gather(*(task(app) for _ in range(10)))


def thread(app: App) -> None:
    """Do the same in a thread."""
    for _ in range(ROUNDS):
        app.permits.blocking.claim(lambda left: left > 0, lambda left: left - 1)
        app.permits.update(lambda left: left + 1)


def main() -> int:
    """Run all of them; give the exit code: 0 if there were never too many and none was lost."""
    app = App()
    with app.permits.blocking.subscribe() as log:
        with ThreadPoolExecutor(6) as pool:
            for run in [lambda: asyncio.run(tasks(app))] * 2 + [lambda: thread(app)] * 4:
                pool.submit(run)
        left = [log.get_nowait().new for _ in range(log.pending)]
    print(f"{len(left) // 2:,} permits taken by 24, at most {LIMIT - min(left)} at a time")
    is_right = min(left) >= 0 and len(left) == 2 * 24 * ROUNDS
    print("never too many, and none was lost" if is_right else "WRONG")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
