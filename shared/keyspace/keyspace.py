"""`open_keyspace`: the one way to Redis. Calls go to whichever server holds their shard, all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from redis.exceptions import RedisError

from shared.keyspace.calls import Answer, Call
from shared.keyspace.cluster import ClusterNodes
from shared.keyspace.errors import explain
from shared.keyspace.node import Node
from shared.keyspace.sentinel import SentinelNode
from shared.settings import Settings


class Nodes(Protocol):
    """One server or many. Raises redis-py's errors."""

    together: bool
    """One call may name keys of several shards: they are on one server, whichever it is."""

    async def run(self, calls: Sequence[Call]) -> list[Answer]: ...

    async def everywhere(self, *command: str | int) -> dict[str, Answer]: ...

    async def close(self) -> None: ...


class Keyspace:
    """Safe to share between the tasks of one event loop. Connects at the first call."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self.together = nodes.together

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        """One answer a call, in order.

        Raises `GateUnavailableError` where a server does not answer, `GateClosedError` where its data is not vouched
        for; some of the calls may have been done all the same, so they must be harmless to repeat.
        """
        answers = await self.answers(calls)
        for answer in answers:
            if isinstance(answer, RedisError):
                raise explain(answer) from answer
        return answers

    async def answers(self, calls: Sequence[Call]) -> list[Any]:
        """The same, with what a server answered with an error left among the answers."""
        try:
            return await self._nodes.run(calls)
        except (RedisError, OSError) as error:
            raise explain(error) from error

    async def everywhere(self, *command: str | int) -> dict[str, Any]:
        """One answer of every server that holds shards, by its address."""
        try:
            answers = await self._nodes.everywhere(*command)
        except (RedisError, OSError) as error:
            raise explain(error) from error
        for answer in answers.values():
            if isinstance(answer, RedisError):
                raise explain(answer) from answer
        return answers

    async def close(self) -> None:
        await self._nodes.close()


class _One:
    """A single server."""

    together = True

    def __init__(self, node: Node) -> None:
        self._node = node

    async def run(self, calls: Sequence[Call]) -> list[Answer]:
        return await self._node.run(calls)

    async def everywhere(self, *command: str | int) -> dict[str, Answer]:
        (answer,) = await self._node.run([Call(0, command)])
        return {self._node.name: answer}

    async def close(self) -> None:
        await self._node.close()


def open_keyspace(settings: Settings) -> Keyspace:
    """By the scheme of `SURNIA_REDIS_URL`:

    redis[s]://[:password@]host:port/0                      one server
    redis[s]+sentinel://[:password@]host:port,…/service/0   the primary that Sentinel names
    redis[s]+cluster://[:password@]host:port,…              a cluster, found from any of these nodes
    """
    url, durable = settings.require_redis(), settings.gate_durable
    scheme, _, rest = url.partition("://")
    base, _, layout = scheme.partition("+")
    nodes: Nodes
    match layout:
        case "sentinel":
            nodes = SentinelNode(base, rest, durable=durable)
        case "cluster":
            nodes = ClusterNodes(base, rest, durable=durable)
        case _:
            nodes = _One(Node(url, durable=durable))
    return Keyspace(nodes)
