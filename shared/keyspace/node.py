"""One server: a few connections, each knowing whose it is, and pipelines of calls over them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.keyspace.addresses import parse_server
from shared.keyspace.calls import Answer, Call, Script

ANSWER_SECONDS = 5.0
"""For all answers of one round trip; `?socket_timeout=` in the address says otherwise."""
CONNECT_SECONDS = 2.0
"""Until a new connection is let in; `?socket_connect_timeout=` in the address says otherwise."""
CONNECTIONS = 16
"""At most so many a node; whoever asks for one more waits for its turn."""
KNOWN_SECONDS = 1.0
"""A connection's server is asked who it is so often: it may have been a replica meanwhile."""

_FACTS = Call(0, ("INFO", "server", "replication", "stats", "memory")).packed("")


class _Line(NamedTuple):
    """A connection and what is known of the server at its other end."""

    connection: Connection | SSLConnection
    guard: str
    """What guarded scripts are told (calls.py)."""
    asked: float
    """When it said so; monotonic seconds."""


class Node:
    """A server by its address. Raises redis-py's errors where it does not answer."""

    def __init__(self, url: str, *, durable: bool) -> None:
        options = parse_server(url)
        self.name = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        self._class = options.pop("connection_class", Connection)
        self._answer_seconds: float = options.pop("socket_timeout", None) or ANSWER_SECONDS
        self._connect_seconds: float = options.pop("socket_connect_timeout", None) or CONNECT_SECONDS
        # Deadlines are kept here, one a round trip. The older protocol says the same in fewer shapes: a list is a list.
        own = {"protocol": 2, "decode_responses": False, "socket_timeout": None, "socket_connect_timeout": None}
        self._options = options | own
        try:
            self._class(**self._options)
        except TypeError as error:
            raise ValueError(f"SURNIA_REDIS_URL: {error}") from None
        self._durable = durable
        self._idle: list[_Line] = []
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._closed = False

    async def run(self, calls: Sequence[Call]) -> list[Answer]:
        """All calls in one round trip; one answer a call, an error among them."""
        if not calls:
            return []
        async with self._turns:
            return await self._run(calls)

    async def _run(self, calls: Sequence[Call]) -> list[Answer]:
        line = await self._take()
        try:
            answers = await self._exchange(line.connection, [call.packed(line.guard) for call in calls])
            forgotten = [n for n, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if forgotten:
                # It started anew, or never knew them. Nothing of these calls was done.
                await self._teach(line.connection, {script for n in forgotten if (script := calls[n].script)})
                again = await self._exchange(line.connection, [calls[n].packed(line.guard) for n in forgotten])
                for n, answer in zip(forgotten, again, strict=True):
                    answers[n] = answer
        except BaseException as error:
            # Cancelled or cut off in the middle: what is still to come on it belongs to nobody.
            await line.connection.disconnect(nowait=True)
            if isinstance(error, RedisError | OSError):
                # The idle ones most likely lead to the same server that is gone.
                await self._hang_up()
            raise
        if self._closed:
            await line.connection.disconnect(nowait=True)
        else:
            self._idle.append(line)
        return answers

    async def ask(self, *words: str) -> Answer:
        """One question on a connection of its own, whatever kind of server it is; raises what it answers with."""
        connection = await self._connect()
        try:
            (answer,) = await self._exchange(connection, [Call(0, words).packed("")])
        finally:
            await connection.disconnect(nowait=True)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        """Hang up; what is under way is still answered."""
        self._closed = True
        await self._hang_up()

    async def _hang_up(self) -> None:
        idle, self._idle = self._idle, []
        for line in idle:
            await line.connection.disconnect(nowait=True)

    async def _take(self) -> _Line:
        while self._idle:
            line = self._idle.pop()
            # Readable without having been asked: the server has closed it, or it holds an answer that is not ours.
            if not await line.connection.can_read():
                fresh = time.monotonic() - line.asked < KNOWN_SECONDS
                return line if fresh else await self._identified(line.connection)
            await line.connection.disconnect(nowait=True)
        return await self._identified(await self._connect())

    async def _connect(self) -> Connection | SSLConnection:
        connection: Connection | SSLConnection = self._class(**self._options)
        try:
            async with asyncio.timeout(self._connect_seconds):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, TimeoutError):
                raise RedisTimeoutError(f"no connection to {self.name} within {self._connect_seconds:g} s") from None
            raise
        return connection

    async def _identified(self, connection: Connection | SSLConnection) -> _Line:
        """The connection with what its server says of itself. It must be a primary, and one that never evicts."""
        asked = time.monotonic()
        try:
            (said,) = await self._exchange(connection, [_FACTS])
            if isinstance(said, Exception):
                raise said
            facts = dict(line.split(":", 1) for line in bytes(said).decode().splitlines() if ":" in line)
            if facts.get("role") != "master":
                raise RedisConnectionError(f"{self.name} is a replica")
            if facts.get("maxmemory", "0") != "0" and facts.get("maxmemory_policy") != "noeviction":
                # A claim that is evicted would be granted a second time.
                raise RedisConnectionError(f"{self.name} evicts keys: set its maxmemory-policy to noeviction")
            return _Line(connection, "" if self._durable else _guard(facts), asked)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    async def _exchange(self, connection: Connection | SSLConnection, packed: list[bytes]) -> list[Answer]:
        try:
            async with asyncio.timeout(self._answer_seconds):
                await connection.send_packed_command(packed, check_health=False)
                return [await _answer(connection) for _ in packed]
        except TimeoutError:
            raise RedisTimeoutError(f"no answer from {self.name} within {self._answer_seconds:g} s") from None

    async def _teach(self, connection: Connection | SSLConnection, scripts: set[Script]) -> None:
        loads = [Call(0, ("SCRIPT", "LOAD", script.source)).packed("") for script in scripts]
        for answer in await self._exchange(connection, loads):
            if isinstance(answer, Exception):
                raise answer


def _guard(facts: dict[str, str]) -> str:
    """What changes whenever a server may have lost writes: its process, and how much another one has written into it.

    A server that was demoted and promoted again keeps its run id, but has taken over the other one's data, without the
    last writes of its own.
    """
    return f"{facts['run_id']}+{facts.get('total_net_repl_input_bytes', '0')}"


async def _answer(connection: Connection | SSLConnection) -> Answer:
    try:
        return await connection.read_response(disconnect_on_error=False)
    except ResponseError as error:
        return error
