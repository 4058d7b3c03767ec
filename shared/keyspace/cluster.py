"""A Redis Cluster: which node holds a shard's slot, learnt from the cluster and anew whenever a node says MOVED."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, RedisError

from shared.identity import SHARDS
from shared.keyspace.addresses import parse_hosts
from shared.keyspace.calls import Answer, Call
from shared.keyspace.node import Node

_SLOTS = tuple(key_slot(str(shard).encode()) for shard in range(SHARDS))
"""Shard -> cluster slot: that of the hash tag in all its keys."""
_PORT = 6379
_ROUNDS = 3
"""Times that calls follow MOVED within one run; whoever calls waits and runs again."""


class ClusterNodes:
    """`password@host:port,…`: the nodes to learn the cluster from."""

    together = False

    def __init__(self, scheme: str, rest: str, *, durable: bool) -> None:
        self._scheme = scheme
        self._hosts = parse_hosts(rest, _PORT)
        self._durable = durable
        self._nodes: dict[tuple[str, int], Node] = {}
        self._holders: list[Node] = []
        """By shard; empty until learnt."""
        self._learning = asyncio.Lock()

    async def run(self, calls: Sequence[Call]) -> list[Answer]:
        answers: list[Answer] = [None] * len(calls)
        left = list(range(len(calls)))
        for _ in range(_ROUNDS):
            holders = self._holders or await self._learn([])
            groups: dict[Node, list[int]] = {}
            for n in left:
                groups.setdefault(holders[calls[n].shard], []).append(n)
            parts = await asyncio.gather(
                *(node.run([calls[n] for n in numbers]) for node, numbers in groups.items()), return_exceptions=True
            )
            for numbers, part in zip(groups.values(), parts, strict=True):
                if isinstance(part, BaseException):
                    # Perhaps another node has taken over: ask, for whoever tries again.
                    self._holders = []
                    raise part
                for n, answer in zip(numbers, part, strict=True):
                    answers[n] = answer
            left = [n for n in left if isinstance(answers[n], MovedError)]
            if not left:
                return answers
            await self._learn(holders)
        return answers

    async def everywhere(self, *command: str | int) -> dict[str, Answer]:
        holders = self._holders or await self._learn([])
        nodes = list(dict.fromkeys(holders))
        try:
            found = await asyncio.gather(*(node.run([Call(0, command)]) for node in nodes))
        except (RedisError, OSError):
            self._holders = []
            raise
        return {node.name: answer for node, (answer,) in zip(nodes, found, strict=True)}

    async def close(self) -> None:
        for node in self._nodes.values():
            await node.close()

    async def _learn(self, stale: list[Node]) -> list[Node]:
        """Ask for the slots; once for all who found the same map stale."""
        async with self._learning:
            if self._holders and self._holders is not stale:
                return self._holders
            why = "none was asked"
            for host, port in dict.fromkeys([*self._hosts.hosts, *self._nodes]):
                asked = self._nodes.get((host, port)) or self._node(host, port)
                try:
                    self._holders = self._map(await asked.ask("CLUSTER", "SLOTS"), host)
                except (RedisError, OSError) as error:
                    why = str(error)
                    continue
                return self._holders
            raise RedisConnectionError(f"no node tells the cluster's slots: {why}")

    def _map(self, slots: list[Any], asked_host: str) -> list[Node]:
        holders: dict[int, Node] = {}
        for first, last, primary, *_replicas in slots:
            # A node that does not know its own name is where we asked.
            host = bytes(primary[0] or b"").decode() or asked_host
            node = self._node(host, int(primary[1]))
            for shard, slot in enumerate(_SLOTS):
                if first <= slot <= last:
                    holders[shard] = node
        if len(holders) < SHARDS:
            raise RedisConnectionError(f"the cluster's slots of {SHARDS - len(holders)} shards have no node")
        return [holders[shard] for shard in range(SHARDS)]

    def _node(self, host: str, port: int) -> Node:
        if (host, port) not in self._nodes:
            self._nodes[host, port] = Node(self._hosts.url(self._scheme, host, port), durable=self._durable)
        return self._nodes[host, port]
