"""
Take a real connection through its life under load, and lose nothing.

The server ends the connection in the middle of its work, so "closing" and "closed" come in one
tick: the drain sees "closing" all the same, and sends again what was in flight. Later a thread
sends SIGTERM, whose handler sets "closing"; now the drain waits for the last answers.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from statestore import Key, Lifecycle, Ref, Store, StoreClosedError, Transaction, run_to_end

DROP_AT, ENOUGH = 500, 1_500  # requests that reach the server, answers


class Conn(Enum):
    """The states of the connection."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSING = "closing"
    CLOSED = "closed"


LIFE = list(Conn)[1:] * 2
# One state after the other, and from the end to a new connection.
LIFECYCLE = Lifecycle({old: {new} for old, new in itertools.pairwise([*Conn, Conn.CONNECTING])})


class App(Store):
    """The state of the program."""

    conn = Key(Conn.DISCONNECTED, lifecycle=LIFECYCLE)
    socket = Key[Ref[ClientConnection] | None](None)
    inflight = Key(0)
    served = Key(0)
    resent = Key(0)
    beats = Key(0)


def admit(tx: Transaction) -> bool:
    """Count a request in, but only while the connection takes any."""
    if tx[App.conn] is not Conn.CONNECTED:
        return False
    tx[App.inflight] += 1
    return True


def settle(tx: Transaction) -> None:
    """Count a request out."""
    tx[App.inflight] -= 1
    tx[App.served] += 1


class Client:
    """Keeps the connection, and knows which requests wait for an answer."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.numbers = itertools.count()
        self.pending: dict[int, asyncio.Future[None]] = {}
        self.answered: list[int] = []
        self.drains = 0

    async def run(self, port: int) -> None:
        """Connect, and connect again as long as it is the server that ends it."""
        is_dropped = True
        while is_dropped:
            self.app.conn.value = Conn.CONNECTING
            async with connect(f"ws://127.0.0.1:{port}") as socket:
                with self.app.transaction() as tx:
                    tx[App.socket] = Ref(socket)
                    tx[App.conn] = Conn.CONNECTED
                with suppress(ConnectionClosed):
                    async for message in socket:
                        if waiting := self.pending.pop(int(message), None):
                            waiting.set_result(None)
                # Both in one tick, if nobody has announced the end.
                is_dropped = self.app.conn.compare_and_set(Conn.CONNECTED, Conn.CLOSING)
                self.app.conn.value = Conn.CLOSED
        self.app.close()

    async def send(self, number: int) -> None:
        """Send a request; if the connection is gone, the drain will send it again."""
        socket = await self.app.socket.wait_for_not_none()
        with suppress(ConnectionClosed):
            await socket.target.send(str(number))

    async def work(self) -> None:
        """Send one request after the other until the store closes; threads count the answers."""
        with suppress(StoreClosedError):
            while True:
                await self.app.conn.wait_for(Conn.CONNECTED)
                if self.app.transact(admit):
                    number = next(self.numbers)
                    answered = self.pending[number] = asyncio.get_running_loop().create_future()
                    await self.send(number)
                    await answered
                    self.answered.append(number)
                    await asyncio.to_thread(self.app.transact, settle)

    async def heartbeat(self, _visit: object) -> None:
        """Ping until this is cancelled."""
        socket = await self.app.socket.wait_for_not_none()
        while True:
            with suppress(ConnectionClosed):
                await socket.target.ping()
            self.app.beats.value += 1
            await asyncio.sleep(0.02)

    @run_to_end
    async def drain(self, _visit: object) -> None:
        """See to what is in flight when the connection closes."""
        self.drains += 1
        left = list(self.pending)
        if self.app.conn.value is Conn.CLOSING:
            async with self.app.conn.during(Conn.CLOSING):
                await self.app.inflight.wait_for(0)
            await (await self.app.socket.wait_for_not_none()).target.close()
        else:
            await self.app.conn.wait_for(Conn.CONNECTED)
            await asyncio.gather(*map(self.send, left))
            self.app.resent.value += len(left)

    async def show(self) -> list[Conn]:
        """Print each transition as it happens."""
        seen: list[Conn] = []
        with self.app.conn.subscribe() as transitions:
            async for now in transitions:
                print(f"revision {now.revision:>5}  {now.old.value} -> {now.new.value}", flush=True)
                seen.append(now.new)
        return seen

    def terminate_when_done(self) -> None:
        """Wait in a thread for enough answers, then send this process SIGTERM."""
        self.app.served.blocking.wait_until(lambda served: served >= ENOUGH)
        os.kill(os.getpid(), signal.SIGTERM)


async def answer(received: Iterator[int], socket: ServerConnection) -> None:
    """Be the server: answer every request, but one, which ends the connection."""
    with suppress(ConnectionClosed):
        async for message in socket:
            if next(received) == DROP_AT:
                await socket.close()
            else:
                await socket.send(message)


def faults(app: App, answered: Sequence[int], seen: Sequence[Conn], drains: int) -> list[str]:
    """Name what went wrong."""
    checks = {
        "requests": sorted(answered) == [*range(app.served.value)] and app.inflight.value == 0,
        "transitions": list(seen) == LIFE,
        "drain": drains == LIFE.count(Conn.CLOSING),
    }
    return [what for what, is_fine in checks.items() if not is_fine]


async def main() -> int:
    """Run server and client; give the exit code."""
    app = App()
    close = partial(app.conn.compare_and_set, Conn.CONNECTED, Conn.CLOSING)
    signal.signal(signal.SIGTERM, lambda _signal, _frame: close())
    server = serve(partial(answer, itertools.count()), "127.0.0.1", 0)
    client = Client(app)
    works = {Conn.CONNECTED: client.heartbeat, Conn.CLOSING: client.drain}
    async with asyncio.timeout(60), server as listening, asyncio.TaskGroup() as tasks:
        showing = tasks.create_task(client.show())
        tasks.create_task(asyncio.to_thread(client.terminate_when_done))
        for _ in range(16):
            tasks.create_task(client.work())
        tasks.create_task(client.run(listening.sockets[0].getsockname()[1]))
        with suppress(StoreClosedError):
            await app.conn.supervise(works)
    served, resent, beats = app.served.value, app.resent.value, app.beats.value
    print(f"{served} requests answered, {resent} of them sent again; {beats} heartbeats")
    found = faults(app, client.answered, showing.result(), client.drains)
    print(f"WRONG: {', '.join(found)}" if found else "no request lost, no transition missed")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
