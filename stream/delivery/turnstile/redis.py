"""The turnstile on Redis or Valkey: one hash a provider and project, one script call a question."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Self
from zlib import crc32

import structlog
from prometheus_client import CollectorRegistry, Gauge

from shared.clock import Clock
from shared.identity import SHARDS
from shared.keyspace import Call, Keyspace, Script, open_keyspace
from shared.policy.kinds import Lane
from shared.settings import Settings
from stream.delivery.turnstile.contract import Answers, Grant, State
from stream.delivery.turnstile.names import names, rates

LONGEST_BLOCK = 3600.0
"""Seconds that a Retry-After blocks a provider at most; after that, ten probes ask again."""
_MARGIN = 20.0
"""Seconds beyond a request's deadline, after which the worker that had a probe is thought dead."""

_log = structlog.get_logger(__name__)


class RedisTurnstile:
    """See `stream.delivery.turnstile.contract.Turnstile`; safe to share between the tasks of one event loop."""

    def __init__(
        self,
        keyspace: Keyspace,
        settings: Settings,
        clock: Clock,
        draw: Callable[[], float] = random.random,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._keyspace = keyspace
        self._ask, self._force, self._retire = (
            Script.read("stream.delivery.turnstile", name) for name in ("ask", "force", "retire")
        )
        self._names, self._rates = names(settings), rates(settings)
        self._clock = clock
        # Between workers Redis' own clock is the one that all agree on, unless theirs is one that is turned.
        self._turned = settings.clock_file is not None
        self._lost = settings.push_timeout_seconds + _MARGIN
        self._draw = draw
        self._states: dict[str, State] = {}
        registry = registry or CollectorRegistry()
        self._gauge = Gauge(
            "surnia_provider_state", "1 for the state in which a provider was found last", ["provider", "state"],
            registry=registry,
        )  # fmt: skip
        self._kept = Gauge(
            "surnia_retiring_stopped", "1 while a provider calls so many tokens bad that none is retired", ["provider"],
            registry=registry,
        )  # fmt: skip
        self._waves: set[str] = set()

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        return cls(open_keyspace(settings), settings, settings.clock())

    async def close(self) -> None:
        await self._keyspace.close()

    async def ask(self, provider: str, lane: Lane, n: int, answers: Sequence[Answers] = ()) -> Grant:
        grant = await self._question(provider, lane, n, answers)
        self._say(provider, grant)
        return grant

    async def may_retire(self, provider: str, answers: int, bad: int) -> bool:
        may = bool(await self._run(provider, [answers, bad, repr(self._clock.now())], self._retire))
        self._kept.labels(provider).set(not may)
        if not may and provider not in self._waves:
            self._waves.add(provider)
            _log.error(
                "a provider calls too many tokens bad: none is retired", provider=provider,
                remedy="check its key, address and topic or project; `surnia providers status` shows when it is over",
            )  # fmt: skip
        elif may and provider in self._waves:
            self._waves.remove(provider)
            _log.info("tokens are retired again", provider=provider)
        return may

    async def look(self, provider: str) -> Grant:
        """How it stands now, for whoever sends nothing: its changes are no news of this process's."""
        return await self._question(provider, Lane.normal, 0, ())

    async def force(self, provider: str, state: State, by: str, reason: str, at: float) -> None:
        """Hold it open or closed until `reset`."""
        await self._run(provider, [state, by, reason, at], self._force)

    async def reset(self, provider: str) -> bool:
        """Forget all of it: closed, cold, not forced. Whether there was anything to forget."""
        return bool(await self._run(provider, ["DEL", provider_key(self._names[provider])]))

    async def read(self, provider: str) -> dict[str, str]:
        """The hash as it is stored (lua/ask.lua); empty where nobody has asked for a day."""
        flat = await self._run(provider, ["HGETALL", provider_key(self._names[provider])])
        return {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}

    @property
    def providers(self) -> list[str]:
        """All that there are, by their short names."""
        return list(self._names)

    def name(self, provider: str) -> str:
        """Its full name."""
        return self._names[provider]

    def rate(self, provider: str) -> float:
        """Sends a second at most, 0 for any number."""
        return self._rates[provider]

    async def _question(self, provider: str, lane: Lane, n: int, answers: Sequence[Answers]) -> Grant:
        now = repr(self._clock.now()) if self._turned else ""
        words: list[Any] = [now, self._rates[provider], int(lane is Lane.urgent), n, self._draw(), self._lost]
        for turn, good, bad, block in answers:
            words += (turn, good, bad, min(block, LONGEST_BLOCK))
        granted, state, turn, room, wait = await self._run(provider, words, self._ask)
        return Grant(granted, State(state.decode()), turn, room, float(wait))

    async def _run(self, provider: str, words: Sequence[Any], script: Script | None = None) -> Any:
        name = self._names[provider]
        keys = (provider_key(name),) if script else ()
        (answer,) = await self._keyspace.run([Call(shard_of_name(name), words, script, keys)])
        return answer

    def _say(self, provider: str, grant: Grant) -> None:
        before = self._states.get(provider)
        if grant.state is before:
            return
        self._states[provider] = grant.state
        for state in State:
            self._gauge.labels(provider, state).set(grant.state is state)
        if grant.state is State.open:
            _log.warning("a provider is open: it gets nothing", provider=provider, seconds=round(grant.wait, 1))
        elif grant.state is State.closed and before:
            _log.info("a provider is closed: it gets sends again", provider=provider)


def shard_of_name(name: str) -> int:
    """Where a turnstile lives. Like users', so that a cluster knows its place; the same in every process."""
    return crc32(name.encode()) % SHARDS


def provider_key(name: str) -> str:
    """Hash: `lua/ask.lua` says what is in it."""
    return f"provider:{{{shard_of_name(name)}}}:{name}"
