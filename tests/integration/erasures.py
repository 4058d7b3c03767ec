"""What tests of erasing share: traces of a user put everywhere, and looked for everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import msgspec

from shared.due.index import Practised, Started
from shared.gate import SendKey
from shared.gate.forgetting import STONE_DAYS
from shared.gate.keys import bucket_key
from shared.gate.value import ERASED
from shared.identity import bucket_of, shard_of
from shared.planning import Planner
from shared.policy.kinds import KindName, Path
from shared.producer import Record
from shared.settings import Settings
from shared.wire.sends import Outcome, OutcomeBatch, Result, Send, Target, encode
from stream.erasure import Deletion, erase
from stream.ledger import Ledger
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.support import HOUR, TODAY, redis_state, sql, token_of

USER, OTHER = 4_242_424_242, 4_343_434_343


def deletion(runtime: Runtime, user: int = USER, offset: int = 7) -> Deletion:
    return Deletion(user, NOON - 60, runtime.topics.activity, 2, offset)


async def erased(runtime: Runtime, *users: int, offset: int = 7) -> None:
    await erase(runtime, [deletion(runtime, user, offset + n) for n, user in enumerate(users or (USER,))])


def send(user: int, kind: KindName = "practice", day: date = TODAY, campaign: str = "") -> Send:
    target = Target("phone", "ios", token_of(user))
    return Send(user, kind, day, NOON, NOON + HOUR, "UTC", "en", 3, 0, (target,), campaign)


async def plan(
    runtime: Runtime, sends: Sequence[Send], path: Path = Path.stream, *, keep_in_outbox: bool = False
) -> int | None:
    """A page as a planner writes it; its number."""
    planner = Planner(path, runtime.gate, runtime.producer, runtime.settings, runtime.clock)
    async with runtime.pool.connection() as connection:
        page = await planner.write(connection, sends, [])
        if page.id is not None and not keep_in_outbox:
            await connection.execute("DELETE FROM outbox WHERE page_id = %s", (page.id,))
    return page.id


async def answer(
    runtime: Runtime, *users: int, day: date = TODAY, kind: KindName = "practice", result: Result = Result.delivered,
    campaign: str = "", path: Path = Path.stream, kafka: bool = True, ledger: bool = True, due: float = NOON,
) -> None:  # fmt: skip
    """Outcomes, in Kafka and in the ledger."""
    outcomes = tuple(Outcome(user, kind, day, result, result.name, due, NOON, campaign=campaign) for user in users)
    batch = OutcomeBatch(path, outcomes)
    if kafka:
        await runtime.producer.write([Record(runtime.topics.outcomes, None, encode(batch))])
    if ledger:
        await Ledger(runtime.users).write([batch])


async def live(runtime: Runtime, *users: int) -> None:
    """What the engine comes to know of users, in the tables and in Redis; they are rows of `users` already."""
    await runtime.gate.practised([(user, TODAY - timedelta(days=1)) for user in users])
    await runtime.gate.opt_out([(user, TODAY + timedelta(days=1), 1) for user in users])
    await runtime.due.update(
        [Practised(user, NOON + HOUR, NOON + 2 * HOUR, 0.0) for user in users],
        [Started(user, NOON + HOUR) for user in users],
    )
    await plan(runtime, [send(user) for user in users])
    await plan(runtime, [send(user, "campaign", campaign="spring") for user in users], Path.blast)
    for days in range(1, 40, 13):
        await answer(runtime, *users, day=TODAY - timedelta(days=days))
    sql(
        runtime.settings,
        "INSERT INTO scan_runs (run_id, kind, interval_start, interval_end, slots) "
        "VALUES ('run', 3, now(), now(), '[]')",
    )
    for shard, user in enumerate(users):
        sql(
            runtime.settings,
            "INSERT INTO scan_checkpoints (run_id, shard, after_key) VALUES ('run', %s, %s::jsonb)",
            shard,
            f"[1, {user}]",
        )


def traces(settings: Settings, user: int) -> list[str]:
    """Tables with a row in which the user's id, or a device's token, is to be found in any way."""
    names = sql(
        settings,
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = 'public' AND c.relkind IN ('r', 'm')",
    )
    # Whole numbers only; also in what is stored as bytes, where text stands in hexadecimal.
    decimal, token = str(user), token_of(user)
    words = [
        rf"(?<![0-9]){decimal}(?![0-9])",
        rf"(?<!3[0-9]){decimal.encode().hex()}(?!3[0-9])",
        token,
        token.encode().hex(),
        user.to_bytes(8).hex(),
        msgspec.msgpack.encode(user).hex(),
    ]
    return [
        name
        for (name,) in names
        if sql(settings, f'SELECT 1 FROM "{name}" t WHERE t::text ~ %s LIMIT 1', "|".join(words))
    ]


async def in_redis(settings: Settings, user: int) -> dict[str, Any]:
    """Key -> what it holds of the user."""
    found: dict[str, Any] = {}
    for name, value in (await redis_state(settings)).items():
        held = value if isinstance(value, dict) else dict(value) if isinstance(value, list) else {}
        if str(user).encode() in held:
            found[name.decode()] = held[str(user).encode()]
    return found


def tombstones(settings: Settings, user: int, today: date = TODAY) -> dict[str, bytes]:
    shard, bucket = shard_of(user), bucket_of(user, settings.gate_bucket_bits)
    days = [today + timedelta(days=n) for n in STONE_DAYS]
    return {bucket_key(shard, bucket, day): str(ERASED).encode() for day in days}


def proofs(settings: Settings) -> list[dict[str, int]]:
    names = ("users", "devices", "gate_fields", "due_entries", "outbox_pages", "ledger_rows", "planned_entries")
    rows = sql(settings, f"SELECT {', '.join(names)} FROM erasures WHERE done_at IS NOT NULL ORDER BY kafka_offset")
    return [dict(zip(names, row, strict=True)) for row in rows]


def users_in_ledger(settings: Settings) -> list[int]:
    return [user for (user,) in sql(settings, "SELECT user_id FROM ledger ORDER BY 1")]


def key(user: int, day: date = TODAY, kind: str = "practice", campaign: str = "") -> SendKey:
    return SendKey(user, kind, day, campaign)
