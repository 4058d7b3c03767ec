"""Where `inspect` reads: the ledger by key, the planners' pages day by day, the gate's values of one user."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import psycopg

from batch.oncall.facts import UNDER_WAY, Candidate, GateDay, GateView
from shared.gate import GateClosedError, GateUnavailableError, RedisGate, SendKey
from shared.gate import value as bits
from shared.gate.keys import bucket_key, due_key
from shared.identity import bucket_of, shard_of
from shared.keyspace import Call, open_keyspace
from shared.outbox import GRANTED
from shared.policy.kinds import KIND_BY_CODE, KINDS, PRACTICE, Path
from shared.policy.localtime import local_time
from shared.settings import Settings
from shared.wire.sends import Result

Connection = psycopg.AsyncConnection[Any]

PLANNED_SECONDS = 10.0
"""How long pages may be looked through. A page is one row with its users, so a user is found by reading them all."""


async def outcomes(connection: Connection, user: int, days: Sequence[date], zone: str) -> list[Candidate]:
    """What the ledger knows; by primary key."""
    cursor = await connection.execute(
        "SELECT local_date, kind, path, campaign, result, reason, provider, due_at, decided_at, latency FROM ledger "
        "WHERE user_id = %s AND local_date = ANY(%s)",
        (user, list(days)),
    )
    return [
        Candidate(
            local_date=day,
            kind=KIND_BY_CODE[kind].name,
            path=Path(path).name,
            campaign=campaign,
            due_at=_local(due_at, zone),
            gate=reason if result == Result.denied else GRANTED,
            result=Result(result).name,
            reason=reason,
            provider=provider,
            latency_ms=round(latency * 1000, 1) if provider else None,
            decided_at=_local(decided_at, zone),
        )
        for day, kind, path, campaign, result, reason, provider, due_at, decided_at, latency in await cursor.fetchall()
    ]


async def planned(connection: Connection, user: int, days: Sequence[date]) -> tuple[list[Candidate], list[date]]:
    """What planners wrote down of the user, the latest day first; and the days for which there was no time."""
    found: list[Candidate] = []
    end = time.monotonic() + PLANNED_SECONDS
    left = sorted(days, reverse=True)
    while left:
        milliseconds = int((end - time.monotonic()) * 1000)
        if milliseconds < 1:
            break
        try:
            async with connection.transaction():
                await connection.execute("SELECT set_config('statement_timeout', %s, true)", (str(milliseconds),))
                cursor = await connection.execute(
                    "SELECT DISTINCT kind, path, campaign, answer FROM planned "
                    "WHERE local_date = %s AND %s = ANY(users)",
                    (left[0], user),
                )
                rows = await cursor.fetchall()
        except psycopg.errors.QueryCanceled:
            break
        day = left.pop(0)
        for kind, path, campaign, answer in rows:
            granted = answer == GRANTED
            found.append(
                Candidate(
                    local_date=day,
                    kind=KIND_BY_CODE[kind].name,
                    path=Path(path).name,
                    campaign=campaign,
                    gate=answer,
                    result=UNDER_WAY if granted else Result.denied.name,
                    reason="planned, without an outcome yet" if granted else answer,
                )
            )
    return found, left


async def gate(settings: Settings, user: int, days: Sequence[date]) -> GateView:
    """What the gate holds, without ever raising for its absence."""
    keyspace = open_keyspace(settings)
    shard = shard_of(user)
    bucket = bucket_of(user, settings.gate_bucket_bits)
    kinds = [kind for kind in KINDS.values() if kind.path is Path.stream]
    view = GateView()
    try:
        try:
            await RedisGate(keyspace, settings).standing(Path.stream, [SendKey(user, PRACTICE.name, days[-1])])
        except GateClosedError as error:
            view.trouble = str(error)
        calls = [Call(shard, ("HGET", bucket_key(shard, bucket, day), user)) for day in days]
        calls += [Call(shard, ("ZSCORE", due_key(shard, kind), user)) for kind in kinds]
        answers = await keyspace.run(calls)
    except GateUnavailableError as error:
        return GateView(answers=False, trouble=str(error))
    finally:
        await keyspace.close()
    values, scores = answers[: len(days)], answers[len(days) :]
    view.days = [gate_day(day, int(value)) for day, value in zip(days, values, strict=True) if value is not None]
    view.due = [(kind.name, float(score)) for kind, score in zip(kinds, scores, strict=True) if score is not None]
    return view


def gate_day(day: date, value: int) -> GateDay:
    """A value of the gate in words."""
    kinds: dict[str, str] = {}
    for kind in KINDS.values():
        if bits.erased(value):
            break  # What was, was another one's; and what the user says now changes nothing for that date.
        if bits.opted_out(value, kind.code):
            kinds[kind.name] = "opted out"
        elif kind.code in bits.KIND_CODES and (state := bits.state(value, kind.code)):
            settled = state > bits.SETTLED
            path = Path(state - bits.SETTLED * settled).name
            kinds[kind.name] = f"{'settled' if settled else 'claimed'} by {path}"
    return GateDay(
        local_date=day,
        practised=bits.practised(value),
        kinds=kinds,
        campaigns=bits.campaigns(value),
        count=bits.count(value),
        erased=bits.erased(value),
    )


def _local(instant: datetime, zone: str) -> datetime:
    return local_time(instant.timestamp(), zone)
