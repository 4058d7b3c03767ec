"""One server: a few connections, each knowing whose it is, and pipelines of calls over them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from shared.keyspace.calls import Answer, Call, Script

ANSWER_SECONDS = 5.0
CONNECT_SECONDS = 2.0
CONNECTIONS = 16
"""At most so many; whatever more is asked at once waits its turn. The server does one thing at a time anyway."""


class Node:
    """A server by its address. Raises redis-py's errors where it does not answer."""

    def __init__(self, url: str, *, durable: bool, **overrides: Any) -> None:
        self._options: dict[str, Any] = {
            **parse_url(url),
            # The older protocol says the same in fewer shapes: a list is a list.
            "protocol": 2,
            "socket_timeout": ANSWER_SECONDS,
            "socket_connect_timeout": CONNECT_SECONDS,
            **overrides,
        }
        self._class = self._options.pop("connection_class", Connection)
        self._durable = durable
        self._idle: list[tuple[Connection | SSLConnection, str]] = []
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self.name = f"{self._options.get('host', 'localhost')}:{self._options.get('port', 6379)}"

    async def run(self, calls: Sequence[Call]) -> list[Answer]:
        """All calls in one round trip; one answer a call, an error among them."""
        if not calls:
            return []
        async with self._turns:
            return await self._run(calls)

    async def _run(self, calls: Sequence[Call]) -> list[Answer]:
        connection, run_id = await self._take()
        try:
            answers = await _exchange(connection, [call.packed(run_id) for call in calls])
            forgotten = [n for n, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if forgotten:
                # It started anew, or never knew them. Nothing of these calls was done.
                scripts = {script.sha: script for n in forgotten if (script := calls[n].script)}
                await _teach(connection, list(scripts.values()))
                again = await _exchange(connection, [calls[n].packed(run_id) for n in forgotten])
                for n, answer in zip(forgotten, again, strict=True):
                    answers[n] = answer
        except BaseException:
            # Cancelled or cut off in the middle: what is still to come on it belongs to nobody.
            await self._drop(connection)
            raise
        await self._give(connection, run_id)
        return answers

    async def ask(self, *words: str) -> list[Answer]:
        """One question on a connection of its own, whatever kind of server it is."""
        connection = self._class(**self._options)
        try:
            await connection.connect()
            return await _exchange(connection, [Call(0, words).packed("")])
        finally:
            await connection.disconnect()

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            await connection.disconnect()

    async def _take(self) -> tuple[Connection | SSLConnection, str]:
        if self._idle:
            return self._idle.pop()
        connection = self._class(**self._options)
        try:
            await connection.connect()
            return connection, await self._identify(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    async def _identify(self, connection: Connection | SSLConnection) -> str:
        """The run id of the server at the other end, which must be a primary; "" where any is trusted."""
        facts = dict[str, str]()
        for section in ("server", "replication"):
            (said,) = await _exchange(connection, [Call(0, ("INFO", section)).packed("")])
            if isinstance(said, Exception):
                raise said
            facts |= dict(line.split(":", 1) for line in bytes(said).decode().splitlines() if ":" in line)
        if facts.get("role") != "master":
            raise RedisConnectionError(f"{self.name} is a replica")
        return "" if self._durable else facts["run_id"]

    async def _give(self, connection: Connection | SSLConnection, run_id: str) -> None:
        self._idle.append((connection, run_id))

    async def _drop(self, connection: Connection | SSLConnection) -> None:
        """With it, the idle ones: they most likely lead to the same server that is gone."""
        await connection.disconnect(nowait=True)
        await self.close()


async def _exchange(connection: Connection | SSLConnection, packed: list[bytes]) -> list[Answer]:
    await connection.send_packed_command(packed, check_health=False)
    answers: list[Answer] = []
    for _ in packed:
        try:
            answers.append(await connection.read_response(disconnect_on_error=False))
        except ResponseError as error:
            answers.append(error)
    return answers


async def _teach(connection: Connection | SSLConnection, scripts: Sequence[Script]) -> None:
    loads = [Call(0, ("SCRIPT", "LOAD", script.source)).packed("") for script in scripts]
    for answer in await _exchange(connection, loads):
        if isinstance(answer, Exception):
            raise answer
