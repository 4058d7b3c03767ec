"""Redis or Valkey: version, memory, eviction, persistence, the gate's shards, its clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from infra.oncall.doctor.finding import Finding, broken, ok, skew, warning
from shared.clock import SystemClock
from shared.gate import Keeper
from shared.keyspace import GateUnavailableError, Keyspace, open_keyspace
from shared.settings import Settings

PART = "Redis"
OLDEST = {"redis": 7, "valkey": 8}
_BUCKET = 128
"""Entries of a gate's hash, sized as docs/operations.md says: a listpack must hold so many."""


async def look(settings: Settings) -> list[Finding]:
    """Raises `GateUnavailableError` where it does not answer."""
    keyspace = open_keyspace(settings)
    try:
        found: list[Finding] = []
        before = SystemClock().now()
        times = await keyspace.everywhere("TIME")
        after = SystemClock().now()
        for name, said in (await keyspace.everywhere("INFO")).items():
            part = PART if len(times) == 1 else f"{PART} {name}"
            found += _server(part, _facts(said), settings)
            seconds, micros = times[name]
            found.append(skew(part, int(seconds) + int(micros) / 1e6 - (before + after) / 2))
        return [*found, *await _listpacks(keyspace), *await _gate(keyspace, settings)]
    finally:
        await keyspace.close()


def _facts(said: bytes) -> dict[str, str]:
    return dict(line.split(":", 1) for line in said.decode(errors="replace").splitlines() if ":" in line)


def _server(part: str, facts: Mapping[str, str], settings: Settings) -> Iterator[Finding]:
    kind = "valkey" if "valkey_version" in facts else "redis"
    version = facts.get("valkey_version") or facts.get("redis_version", "0")
    if int(version.partition(".")[0] or 0) < OLDEST[kind]:
        yield broken(part, f"{kind} {version} is too old", f"Upgrade it to {OLDEST[kind]} or later")
    else:
        yield ok(part, f"{kind} {version} answers, {int(facts.get('used_memory', 0)) / 1e6:,.0f} MB in use")
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield broken(part, f"it evicts keys ({policy}): an evicted claim is sent again", _NO_EVICTION)
    elif int(facts.get("evicted_keys", 0)):
        yield warning(
            part, f"it has evicted {facts['evicted_keys']} keys since it started", "surnia gate rebuild --all"
        )
    else:
        yield ok(part, "it evicts nothing (noeviction)")
    limit, used = int(facts.get("maxmemory", 0)), int(facts.get("used_memory", 0))
    if limit and used > 0.9 * limit:
        yield warning(part, f"{used / limit:.0%} of maxmemory are in use: the gate stops at 100%", "Raise maxmemory")
    if facts.get("role", "master") != "master":
        yield broken(part, "it is a replica", "Point SURNIA_REDIS_URL at the primary, or at Sentinel")
    appends = facts.get("aof_enabled") == "1"
    if settings.gate_durable and not appends:
        yield broken(
            part,
            "SURNIA_GATE_DURABLE is set, but it keeps no append-only file: a restart loses claims and nobody notices",
            "CONFIG SET appendonly yes (and appendfsync always), or SURNIA_GATE_DURABLE=false",
        )
    elif appends:
        yield ok(part, "it keeps an append-only file")
    else:
        yield ok(part, "it keeps no append-only file: after a restart the gate is rebuilt (`surnia gate rebuild`)")


_NO_EVICTION = "CONFIG SET maxmemory-policy noeviction, and in its configuration file"


async def _listpacks(keyspace: Keyspace) -> list[Finding]:
    try:
        answers: dict[str, Any] = await keyspace.everywhere("CONFIG", "GET", "hash-max-listpack-entries")
    except GateUnavailableError:
        return []  # A managed server may not let itself be asked.
    small = []
    for answer in answers.values():
        pairs = answer if not isinstance(answer, dict) else [part for pair in answer.items() for part in pair]
        values = [int(value) for value in pairs[1::2]]
        small += [value for value in values if value < _BUCKET]
    if not small:
        return [ok(PART, "the gate's hashes stay small (hash-max-listpack-entries)")]
    return [
        warning(
            PART,
            f"hash-max-listpack-entries is {min(small)}: claims take 70 bytes instead of 14",
            "CONFIG SET hash-max-listpack-entries 512",
        )
    ]


async def _gate(keyspace: Keyspace, settings: Settings) -> list[Finding]:
    closed = await Keeper(keyspace, settings).closed()
    if not closed:
        return [ok("Gate", "open")]
    why = next(iter(closed.values()))
    return [broken("Gate", f"closed for {len(closed)} shards: {why}", "surnia gate rebuild")]
