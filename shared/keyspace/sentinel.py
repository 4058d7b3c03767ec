"""The primary that Sentinel names, asked anew whenever the last one fails us."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError

from shared.keyspace.addresses import parse_hosts
from shared.keyspace.calls import Answer, Call
from shared.keyspace.node import Node

_PORT = 26379


class SentinelNode:
    """`password@sentinel:port,…/service/database`. The password is the data servers'; Sentinels are asked without."""

    together = True

    def __init__(self, scheme: str, rest: str, *, durable: bool) -> None:
        hosts = parse_hosts(rest, _PORT)
        if not hosts.path:
            raise ValueError("SURNIA_REDIS_URL: name the Sentinel's service: …://host:port,…/service/0")
        self._scheme = scheme
        self._hosts = hosts
        self._service = hosts.path[0]
        self._database = hosts.path[1] if len(hosts.path) > 1 else "0"
        self._sentinels = list(hosts.hosts)
        self._durable = durable
        self._primary: Node | None = None
        self._finding = asyncio.Lock()

    async def run(self, calls: Sequence[Call]) -> list[Answer]:
        primary = await self._found()
        try:
            answers = await primary.run(calls)
        except (RedisError, OSError):
            await self._forget(primary)
            raise
        if any(isinstance(answer, ReadOnlyError) for answer in answers):
            await self._forget(primary)
        return answers

    async def everywhere(self, *command: str | int) -> dict[str, Answer]:
        primary = await self._found()
        (answer,) = await self.run([Call(0, command)])
        return {primary.name: answer}

    async def close(self) -> None:
        if self._primary:
            await self._primary.close()

    async def _found(self) -> Node:
        async with self._finding:
            if self._primary is None:
                url = self._hosts.url(self._scheme, *await self._ask(), self._database)
                self._primary = Node(url, durable=self._durable)
            return self._primary

    async def _forget(self, primary: Node) -> None:
        if self._primary is primary:
            self._primary = None
        await primary.close()

    async def _ask(self) -> tuple[str, int]:
        """The first Sentinel that knows; it is asked first the next time."""
        why = "none was asked"
        for n, (host, port) in enumerate(self._sentinels):
            sentinel = Node(self._hosts._replace(credentials="").url(self._scheme, host, port), durable=True)
            try:
                answer = await sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
            except (RedisError, OSError) as error:
                why = str(error)
                continue
            if isinstance(answer, list):
                self._sentinels.insert(0, self._sentinels.pop(n))
                return answer[0].decode(), int(answer[1])
            why = f"{host}:{port} knows no service {self._service!r}"
        raise RedisConnectionError(f"no Sentinel names a primary: {why}")
