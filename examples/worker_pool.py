"""
Run a pool of workers whose coordinators await combined conditions, and miss none of them.

Tasks and threads work off one queue. They join and leave while it runs, jobs fail when a worker is
worn out, and at times the pool pauses. Coordinators act on what no single key tells: that all
workers are idle and the queue is empty, that three are idle and the pool runs, that any has failed.

Each condition is followed by a task, a thread and a callback. An auditor follows the commits,
computes each condition from scratch at every revision, and compares what the three were given.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from enum import Enum
from functools import partial
from typing import Any

from attrs import Factory, evolve, frozen

from statestore import (
    CallbackHandle,
    CommitSubscription,
    Family,
    Key,
    KeyRemovedError,
    Store,
    StoreClosedError,
    Transaction,
    ValueWatcher,
)

CREW, MOST, ENOUGH = 6, 12, 3  # workers that stay, workers at once, idle ones to spare
BATCHES = (40, 1, 10)  # jobs put at once, in turns
ENDURANCE, PAUSE_EVERY = 20, 100  # jobs until a worker fails, until a pause

DRAINED, SPARE, FAILED = "all idle, queue empty", "three idle, not paused", "any worker failed"

Log = list[tuple[int, bool]]
"""The revisions at which a condition became true or false."""


class Mode(Enum):
    """Whether workers may begin a job."""

    RUNNING = "running"
    PAUSED = "paused"


@frozen
class Worker:
    """What the pool knows of a worker."""

    job: int | None = None
    done: int = 0
    has_failed: bool = False

    def is_idle(self) -> bool:
        """Tell whether it can begin a job."""
        return self.job is None and not self.has_failed


class App(Store):
    """The state of the program."""

    mode = Key(Mode.RUNNING)
    queue = Key[tuple[int, ...]](())
    done = Key(0)
    workers = Family[str, Worker](default=Worker())
    followers = Key(0)


@frozen
class Seen:
    """What those who follow one condition were given. A callback is not told revisions."""

    in_task: Log = Factory(list[tuple[int, bool]])
    in_thread: Log = Factory(list[tuple[int, bool]])
    by_callback: list[bool] = Factory(list[bool])


def take(me: ValueWatcher[Worker], tx: Transaction) -> int | None:
    """Take a job, if there is one to begin: off the queue and to the worker in one commit."""
    queue = tx[App.queue]
    if not queue or tx[App.mode] is Mode.PAUSED:
        return None
    tx[App.queue] = queue[1:]
    tx[me] = evolve(tx[me], job=queue[0])
    return queue[0]


def finish(me: ValueWatcher[Worker], job: int, tx: Transaction) -> None:
    """Be done with a job, or fail, and leave it to somebody else."""
    worker = evolve(tx[me], job=None)
    if worker.done < ENDURANCE:
        tx[App.done] += 1
        tx[me] = evolve(worker, done=worker.done + 1)
    else:
        tx[App.queue] = (job, *tx[App.queue])
        tx[me] = evolve(worker, has_failed=True)


def dismiss(app: App, which: Callable[[Worker], bool], tx: Transaction) -> bool:
    """Remove a worker of whom *which* holds, in the commit that finds it so."""
    for name in app.workers:
        if which(tx[app.workers[name]]):
            tx.remove(app.workers, name)
            return True
    return False


class Pool:
    """The workers, and those who coordinate them."""

    def __init__(self, app: App, tasks: asyncio.TaskGroup, seconds: float) -> None:
        self.app, self.tasks = app, tasks
        self.end = time.monotonic() + seconds
        self.hired = self.jobs = self.pauses = 0
        self.batches = itertools.cycle(BATCHES)
        is_paused = app.mode.is_(Mode.PAUSED)
        self.has_work = app.queue.is_not(()) & ~is_paused
        self.conditions = {
            DRAINED: app.workers.all(Worker.is_idle) & app.queue.is_(()),
            SPARE: app.workers.at_least(ENOUGH, Worker.is_idle) & ~is_paused,
            FAILED: app.workers.any(lambda worker: worker.has_failed),
        }
        self.seen = {name: Seen() for name in self.conditions}

    async def work(self, me: ValueWatcher[Worker]) -> None:
        """Be a worker in a task, until dismissed."""
        ready = me.matches(Worker.is_idle) & self.has_work
        with suppress(KeyRemovedError):
            while True:
                await ready.wait()
                job = self.app.transact(partial(take, me))
                if job is not None:
                    await asyncio.sleep((1 + job % 4) / 1_000)
                    self.app.transact(partial(finish, me, job))

    def work_in_thread(self, me: ValueWatcher[Worker]) -> None:
        """Be a worker in a thread, until dismissed, or until the program is interrupted."""
        ready = me.matches(Worker.is_idle) & self.has_work
        with suppress(KeyRemovedError, StoreClosedError):
            while True:
                ready.blocking.wait_until(bool)
                job = self.app.transact(partial(take, me))
                if job is not None:
                    time.sleep((1 + job % 4) / 1_000)
                    self.app.transact(partial(finish, me, job))

    def hire(self) -> None:
        """Add a worker: a task and a thread in turns."""
        self.hired += 1
        me = self.app.workers.add(f"w{self.hired}")
        in_thread = self.hired % 2 == 0
        work = asyncio.to_thread(self.work_in_thread, me) if in_thread else self.work(me)
        self.tasks.create_task(work)

    def put_jobs(self) -> None:
        """Put some jobs into the queue, and hire somebody to help."""
        if len(self.app.workers) < MOST:
            self.hire()
        first, self.jobs = self.jobs, self.jobs + next(self.batches)
        self.app.queue.update(lambda queue: (*queue, *range(first, self.jobs)))

    def go_on(self) -> None:
        """Put in more jobs, as all are done; end the program if the time is up."""
        if time.monotonic() < self.end:
            self.put_jobs()
        else:
            while self.app.transact(partial(dismiss, self.app, Worker.is_idle)):
                pass
            self.app.close()

    def send_home(self) -> None:
        """Dismiss one of those who have nothing to do, unless only the crew is left."""
        if len(self.app.workers) > CREW:
            self.app.transact(partial(dismiss, self.app, Worker.is_idle))

    def replace(self) -> None:
        """Dismiss those who have failed, and hire others."""
        while self.app.transact(partial(dismiss, self.app, lambda worker: worker.has_failed)):
            self.hire()

    async def coordinate(self, name: str, act: Callable[[], None]) -> None:
        """Act each time that a condition has become true."""
        with self.conditions[name].subscribe() as transitions:
            self.app.followers.update(lambda count: count + 1)
            async for now in transitions:
                self.seen[name].in_task.append((now.revision, now.new))
                if now.new:
                    act()

    def follow_in_thread(self, name: str) -> None:
        """Note each time that a condition has changed."""
        with self.conditions[name].blocking.subscribe() as transitions:
            self.app.followers.update(lambda count: count + 1)
            for now in transitions:
                self.seen[name].in_thread.append((now.revision, now.new))

    def follow_by_callback(self, name: str) -> CallbackHandle:
        """Note it in the thread that made the change."""
        log = self.seen[name].by_callback
        return self.conditions[name].on_change(lambda _old, new: log.append(new))

    def pause_in_thread(self) -> None:
        """Pause after every so many jobs, until all workers rest or one has to be replaced."""
        rounds = self.app.done.map(lambda done: done // PAUSE_EVERY)
        is_over = self.app.workers.all(Worker.is_idle) | self.conditions[FAILED]
        with rounds.blocking.subscribe() as transitions, suppress(StoreClosedError):
            for _ in transitions:
                self.app.mode.value = Mode.PAUSED
                self.pauses += 1
                is_over.blocking.wait_until(bool)
                self.app.mode.value = Mode.RUNNING


async def audit(commits: CommitSubscription, state: dict[str, Any]) -> dict[str, Log]:
    """Compute each condition from all values at every revision; tell where it changed."""
    changes: dict[str, Log] = {DRAINED: [], SPARE: [], FAILED: []}
    before = {DRAINED: True, SPARE: False, FAILED: False}  # while there are no workers
    async for commit in commits:
        state |= {transition.key: transition.new for transition in commit.transitions}
        workers = [value for value in state.values() if isinstance(value, Worker)]
        idle = sum(worker.is_idle() for worker in workers)
        now = {
            DRAINED: idle == len(workers) and not state["queue"],
            SPARE: idle >= ENOUGH and state["mode"] is not Mode.PAUSED,
            FAILED: any(worker.has_failed for worker in workers),
        }
        for name, log in changes.items():
            if now[name] is not before[name]:
                log.append((commit.revision, now[name]))
        before = now
    return changes


async def most_busy(app: App) -> int:
    """Tell how many workers were busy at once, at most."""
    counts = app.workers.count(lambda worker: worker.job is not None).values()
    return max([count async for count in counts])


def faults(changes: Mapping[str, Log], seen: Mapping[str, Seen]) -> list[str]:
    """Name those who were given anything else than what happened."""
    found: list[str] = []
    for name, log in changes.items():
        checks = {
            "task": seen[name].in_task == log,
            "thread": seen[name].in_thread == log,
            "callback": seen[name].by_callback == [holds for _, holds in log],
        }
        found += [f"{name}, by a {who}" for who, is_fine in checks.items() if not is_fine]
    return found


def times(log: Log) -> int:
    """Count how often a condition became true."""
    return sum(holds for _, holds in log)


async def main(seconds: float) -> int:
    """Run the pool; give the exit code."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * MOST))
    print(f"a pool of {CREW} to {MOST} workers, for {seconds:g} s", flush=True)
    with App() as app, app.subscribe() as commits, ExitStack() as callbacks:
        async with asyncio.timeout(seconds + 60), asyncio.TaskGroup() as tasks:
            pool = Pool(app, tasks, seconds)
            auditing = tasks.create_task(audit(commits, dict(app.snapshot())))
            counting = tasks.create_task(most_busy(app))
            tasks.create_task(asyncio.to_thread(pool.pause_in_thread))
            acts = {DRAINED: pool.go_on, SPARE: pool.send_home, FAILED: pool.replace}
            for name, act in acts.items():
                tasks.create_task(pool.coordinate(name, act))
                tasks.create_task(asyncio.to_thread(pool.follow_in_thread, name))
                callbacks.enter_context(pool.follow_by_callback(name))
            await app.followers.wait_for(2 * len(acts))
            for _ in range(CREW):
                pool.hire()
            pool.put_jobs()
    print(f"{app.done.value} jobs done in {app.revision} commits, with {pool.pauses} pauses")
    print(f"{pool.hired} workers came and went, at most {counting.result()} were busy at once")
    print(f"{'a condition':<22}   became true  seen by a task  a thread  a callback")
    for name, log in auditing.result().items():
        seen = pool.seen[name]
        print(f"{name:<22} {times(log):>13} {times(seen.in_task):>15}", end=" ")
        print(f"{times(seen.in_thread):>9} {sum(seen.by_callback):>11}")
    found = faults(auditing.result(), pool.seen)
    if app.done.value != pool.jobs:
        found.append("jobs")
    print(f"WRONG: {'; '.join(found)}" if found else "no condition missed, no job lost")
    return 1 if found else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run a pool of workers.")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long jobs come in")
    try:
        code = asyncio.run(main(parser.parse_args().seconds))
    except KeyboardInterrupt:
        print("interrupted")
        code = 130
    raise SystemExit(code)
