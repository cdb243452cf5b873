"""
Elect a leader, again and again, whenever the one before is gone.

`claim` waits until nobody leads and steps in, in one commit: of all candidates exactly one does.
"""

import asyncio
import itertools
import sys

from statestore import Key, Store


class App(Store):
    """Who leads, and in which term."""

    leader = Key[str | None](None)
    term = Key(0)


async def candidate(app: App, name: str) -> None:
    """Lead for a moment; in every third term it fails in the middle of its work."""
    vacant = app.leader.is_(None)
    while True:
        await app.claim(vacant, lambda tx: tx.__setitem__(App.leader, name))
        try:
            await asyncio.sleep(0)
            app.term.update(lambda term: term + 1)
            if app.term.value % 3 == 0:
                break
        finally:
            app.leader.compare_and_set(name, None)


async def main() -> int:
    """Let nine candidates lead until all are gone; give the exit code: 0 if it went well."""
    app = App()
    names = [f"node {number}" for number in range(1, 10)]
    with app.leader.subscribe() as log:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(candidate(app, name))
        seen = [log.get_nowait() for _ in range(log.pending)]
    leaders = [transition.new for transition in seen if transition.new]
    print(f"{app.term.value} terms, led in turn by {', '.join(leaders[:3])}, …")
    # Vacant, led, vacant, led: nobody takes over from one who leads.
    is_right = all((a.new is None) != (b.new is None) for a, b in itertools.pairwise(seen))
    is_right = is_right and set(leaders) == set(names) and len(leaders) == app.term.value
    print("one leader at a time, and all had their turn" if is_right else "WRONG: two leaders")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
