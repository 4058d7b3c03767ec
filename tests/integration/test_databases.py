"""Users in three databases beside the main one: what each part of the engine does with them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from batch.local import count
from batch.oncall.inspection import inspect
from batch.plan import plan
from batch.scan import record as record_plan
from batch.scan import scan
from batch.users.load import load
from batch.users.population import Population
from batch.users.rows import DeviceRow
from batch.users.spread import spread
from infra.stack.prepare import migrate
from shared.clock import utc
from shared.identity import SHARDS
from shared.policy.kinds import Path
from shared.settings import Settings
from shared.store.addresses import read_addresses
from shared.store.databases import Databases
from shared.topics import Topics
from shared.wire.events import decode_event
from shared.wire.sends import OutcomeBatch, RetiredToken
from stream.activity import handle_events
from stream.due.fire import Firing
from stream.due.rebuild import rebuild
from stream.effects import effects_of
from stream.keeping.rebuild import rebuild as rebuild_gate
from stream.ledger import Ledger
from stream.runtime import Runtime
from tests.conftest import NOON, connect_redis
from tests.integration.erasures import answer, erased, live
from tests.integration.firing import schedule, user
from tests.integration.planned import granted
from tests.integration.support import (
    DAY,
    HOUR,
    IOS,
    TODAY,
    add_users,
    event,
    practised_at,
    record,
    scheduled,
    sends_in,
    sql,
    token_of,
)
from tests.threefold import SHARES, at, emptied, three_databases, users_of


@pytest.fixture(scope="module")
def named(addresses: dict[str, str]) -> Iterator[str]:
    with three_databases(addresses["postgres_url"]) as named:
        yield named


@pytest.fixture
def environment(environment: dict[str, str], named: str) -> dict[str, str]:
    return environment | {"SURNIA_DATABASES": named}


@pytest.fixture
def three(settings: Settings) -> Settings:
    emptied(settings)
    # What is due at the send hour is due at once: the clock stands.
    return settings.model_copy(update={"spread_minutes": 0})


@pytest.fixture
def crowd(three: Settings) -> dict[str, list[int]]:
    """Database -> the ids of three users of it, who are not there yet."""
    return {name: users_of(three, name, 3) for name in SHARES}


def everybody(crowd: dict[str, list[int]]) -> list[int]:
    return [one for users in crowd.values() for one in users]


def found(settings: Settings, query: str) -> dict[str, list[tuple[Any, ...]]]:
    """The same question to each database."""
    return {name: sql(at(settings, name), query) for name in SHARES}


def live_devices(settings: Settings) -> set[tuple[int, str, str | None]]:
    query = (
        "SELECT user_id, token, CASE WHEN fcm_retired_at IS NULL THEN fcm_token END FROM devices "
        "WHERE retired_at IS NULL"
    )
    return {row for rows in found(settings, query).values() for row in rows}


def registered(user: int, when: float, token: str = IOS, **more: object) -> bytes:
    return event("device_registered", user, when, device_id="phone", platform="ios", token=token, **more)


async def write(runtime: Runtime, *raw: bytes) -> None:
    events = [decode_event(message, NOON + DAY) for message in raw]
    await runtime.writeback.write([effects_of(events, {}, "UTC")])


def test_every_database_gets_its_tables(three: Settings, named: str) -> None:
    assert migrate(three) == "tables up to date in 4 databases"
    assert found(three, "SELECT count(*) FROM users") == {key: [(0,)] for key in SHARES}


async def test_a_population_is_loaded_where_it_belongs_and_merged_when_it_is_loaded_again(three: Settings) -> None:
    for _ in range(2):
        counts = await load(three, Population(600, 1, NOON, three))
        assert counts.users == 600
        ids = {name: {n for (n,) in rows} for name, rows in found(three, "SELECT id FROM users").items()}
        databases = Databases.of(three)
        assert {n: databases.for_user(n).name for users in ids.values() for n in users} == {
            n: name for name, users in ids.items() for n in users
        }
        assert sum(map(len, ids.values())) == 600 and all(ids.values())
        assert sum(rows[0][0] for rows in found(three, "SELECT count(*) FROM devices").values()) == counts.devices
    assert sql(three, "SELECT count(*) FROM users") == [(0,)], "nobody in the main one"


async def test_an_imported_device_takes_its_tokens_from_users_of_other_databases(
    three: Settings, crowd: dict[str, list[int]]
) -> None:
    eu, us, asia = (crowd[name][0] for name in SHARES)
    for name, who in (("eu1", eu), ("us1", us)):
        add_users(at(three, name), {"id": who})
    sql(at(three, "eu1"), "UPDATE devices SET fcm_token = 'beside-both'")

    def device(of: int, token: str, fcm: str | None = None) -> DeviceRow:
        return DeviceRow(of, "new", "ios", token, None, utc(NOON), fcm)

    async with spread(three) as target:
        chunk = [device(us, token_of(eu)), device(asia, "no such user"), device(us, "cd" * 32, "beside-both")]
        assert await target.merge_devices(chunk) == [1]
    assert live_devices(three) == {(us, token_of(us), None), (us, "cd" * 32, "beside-both")}


async def test_activity_is_written_to_each_users_database_once_however_often_it_comes(
    runtime: Runtime, three: Settings, crowd: dict[str, list[int]]
) -> None:
    lessons = [event("lesson_completed", n, NOON - 60, time_zone="Asia/Tokyo") for n in everybody(crowd)]
    await handle_events(runtime, [record(raw) for raw in lessons])
    rows = found(three, "SELECT id, streak, time_zone FROM users ORDER BY id")
    assert rows == {name: [(n, 1, "Asia/Tokyo") for n in sorted(users)] for name, users in crowd.items()}
    runtime.writeback.forget()
    await handle_events(runtime, [record(raw) for raw in lessons])
    assert found(three, "SELECT id, streak, time_zone FROM users ORDER BY id") == rows
    zones = await runtime.writeback.zones(everybody(crowd))
    assert zones == dict.fromkeys(everybody(crowd), "Asia/Tokyo")


async def test_a_database_that_does_not_answer_keeps_no_event_from_the_others_and_is_made_up_for(
    runtime: Runtime, three: Settings, crowd: dict[str, list[int]]
) -> None:
    events = [event("app_opened", users[0], NOON - 60) for users in crowd.values()]
    with psycopg.connect(at(three, "us1").require_postgres()) as locked:
        locked.execute("LOCK TABLE users")
        writing = asyncio.create_task(write(runtime, *events))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
        while sql(three, waiting) == [(0,)] or not all(
            sql(at(three, name), "SELECT count(*) FROM users") == [(1,)] for name in ("eu1", "asia")
        ):
            assert not writing.done()
            await asyncio.sleep(0.01)
        sql(
            three,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'threefold_us1' "
            "AND wait_event_type = 'Lock'",
        )
        with pytest.raises(psycopg.OperationalError):
            await writing
    await write(runtime, *events)
    assert found(three, "SELECT count(*) FROM users") == {key: [(1,)] for key in SHARES}


@pytest.mark.parametrize("late", [False, True], ids=["in order", "the older one comes late"])
async def test_a_token_moves_to_the_user_of_another_database_who_registered_it_last(
    runtime: Runtime, three: Settings, crowd: dict[str, list[int]], late: bool
) -> None:
    before, after, third = (crowd[name][0] for name in SHARES)
    history = [registered(before, NOON - 2 * HOUR, fcm_token="beside-1"), registered(after, NOON - HOUR)]
    for raw in history[::-1] if late else history:
        await write(runtime, raw)
        await write(runtime, raw)
    assert live_devices(three) == {(after, IOS, None)}
    (row,) = sql(at(three, "eu1"), "SELECT retired_at, retired_reason FROM devices")
    assert row == (utc(NOON - HOUR), "token_moved")
    await write(runtime, registered(before, NOON - 1800, "cd" * 32, fcm_token="beside-2"))
    await write(runtime, registered(third, NOON - 60, "ef" * 32, fcm_token="beside-2"))
    assert live_devices(three) == {(after, IOS, None), (before, "cd" * 32, None), (third, "ef" * 32, "beside-2")}


async def test_two_workers_that_register_a_token_at_once_leave_one_holder(
    runtime: Runtime, three: Settings, crowd: dict[str, list[int]]
) -> None:
    other = Runtime.of(three)
    await other.open()
    try:
        eu, us = crowd["eu1"][0], crowd["us1"][0]
        for n in range(10):
            token = f"{n:064x}"
            await asyncio.gather(
                write(runtime, registered(eu, NOON - 60 + n, token)), write(other, registered(us, NOON - 60 + n, token))
            )
            holders = [who for who, held, _ in live_devices(three) if held == token]
            assert holders == [max(eu, us)], "of two at the same instant the greater id has it"
    finally:
        await other.close()


async def test_what_is_due_is_fired_from_all_databases(
    runtime: Runtime, three: Settings, crowd: dict[str, list[int]]
) -> None:
    for name, users in crowd.items():
        add_users(at(three, name), *map(user, users))
    await schedule(runtime, *everybody(crowd))
    assert await Firing(runtime).fire(range(SHARDS)) == len(everybody(crowd))
    sends = await sends_in(three, Topics.of(three).urgent)
    assert Counter(send.user_id for send in sends) == Counter(everybody(crowd))
    assert {target.token for send in sends for target in send.targets} == {token_of(n) for n in everybody(crowd)}
    assert granted(three) == set(everybody(crowd))


async def test_firing_asks_no_database_but_the_users_own(three: Settings, crowd: dict[str, list[int]]) -> None:
    """So whoever fires database by database, as a worker does, is held up by one that is down only where it must be."""
    nowhere = SecretStr("postgresql://surnia@127.0.0.1:1/surnia")
    broken = tuple(
        each if each.name == "asia" else each.model_copy(update={"url": nowhere}) for each in three.databases
    )
    runtime = Runtime.of(three.model_copy(update={"databases": broken}))
    await runtime.open()
    try:
        add_users(at(three, "asia"), *map(user, crowd["asia"]))
        await schedule(runtime, *crowd["asia"])
        shards = Databases.of(three).for_user(crowd["asia"][0]).shards
        assert await Firing(runtime).fire(sorted(shards)) == 3
    finally:
        await runtime.close()


async def test_a_rebuilt_due_index_has_the_users_of_all_databases(
    runtime: Runtime, three: Settings, crowd: dict[str, list[int]]
) -> None:
    for name, users in crowd.items():
        add_users(at(three, name), *({"id": n, **practised_at(NOON - HOUR)} for n in users))
    assert (await rebuild(runtime)).scheduled == 9
    assert {due.user_id for due in await scheduled(runtime)} == set(everybody(crowd))


async def test_a_rebuilt_gate_knows_who_practised_in_all_databases(
    runtime: Runtime, three: Settings, crowd: dict[str, list[int]]
) -> None:
    for name, users in crowd.items():
        add_users(at(three, name), *({"id": n, **practised_at(NOON - HOUR)} for n in users))
    redis = connect_redis(three)
    await redis.flushdb()
    await redis.aclose()
    await rebuild_gate(runtime)
    answers = await runtime.gate.claim(Path.batch, "comeback", TODAY, everybody(crowd))
    assert {each.reason for each in answers} == {"practised"}


async def test_silent_users_of_all_databases_are_counted_and_scanned_once(
    three: Settings, crowd: dict[str, list[int]]
) -> None:
    for name, users in crowd.items():
        add_users(
            at(three, name),
            *({"id": n, "time_zone": "Asia/Dhaka", "last_active_date": TODAY - timedelta(days=7)} for n in users),
        )
    start = datetime.fromtimestamp(NOON, UTC)
    three = three.model_copy(update={"spread_minutes": 0})
    planned = plan(start, start + timedelta(hours=1), three)
    await record_plan(three, planned)
    assert (await count(three, planned)).users == 9
    summary = await scan(three, planned, range(SHARDS))
    assert (summary.shards, summary.candidates, summary.granted) == (SHARDS, 9, 9)
    assert await scan(three, planned, range(SHARDS)) == summary
    sends = await sends_in(three, Topics.of(three).normal)
    assert Counter(send.user_id for send in sends) == Counter(everybody(crowd))
    assert {token_of(send.user_id) for send in sends} == {t.token for send in sends for t in send.targets}
    assert sql(three, "SELECT count(*) FROM scan_checkpoints WHERE done") == [(SHARDS,)]
    assert found(three, "SELECT count(*) FROM scan_checkpoints") == {key: [(0,)] for key in SHARES}


async def test_tokens_and_addresses_are_retired_in_their_users_database(
    runtime: Runtime, three: Settings, crowd: dict[str, list[int]]
) -> None:
    for name, users in crowd.items():
        add_users(at(three, name), *({"id": n, "email": f"u{n}@example.com"} for n in users))
    gone = [users[0] for users in crowd.values()]
    tokens = [RetiredToken(n, "phone", token_of(n), "unregistered", NOON) for n in gone]
    addresses = [RetiredToken(n, "", f"u{n}@example.com", "no_mailbox", NOON) for n in gone]
    batch = OutcomeBatch(Path.stream, (), (*tokens, *addresses))
    await Ledger(runtime.users).write([batch, batch])
    assert {who for who, _, _ in live_devices(three)} == set(everybody(crowd)) - set(gone)
    rows = found(three, "SELECT id FROM users WHERE email_retired_reason = 'no_mailbox'")
    assert rows == {name: [(users[0],)] for name, users in crowd.items()}


async def test_erased_users_leave_their_databases_and_their_history_is_renamed(
    runtime: Runtime, three: Settings, crowd: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash after the users are gone and before they are named is mended by doing it again."""
    for name, users in crowd.items():
        add_users(at(three, name), *({"id": n} for n in users))
    gone = [users[0] for users in crowd.values()]
    await live(runtime, *gone)
    await answer(runtime, *gone)

    async def crashing(*_: object) -> None:
        raise RuntimeError("the machine is gone")

    with monkeypatch.context() as patch:
        patch.setattr("stream.erasure.store.Store.name", crashing)
        with pytest.raises(RuntimeError, match="gone"):
            await erased(runtime, *gone)
    await erased(runtime, *gone)
    left = found(three, "SELECT id FROM users ORDER BY id")
    assert left == {name: [(n,) for n in sorted(users[1:])] for name, users in crowd.items()}
    assert {who for who, _, _ in live_devices(three)} == {n for users in crowd.values() for n in users[1:]}
    assert sql(three, "SELECT count(*) FROM ledger WHERE user_id = ANY(%s)", gone) == [(0,)]
    assert sql(three, "SELECT count(*) FROM planned WHERE users && %s::bigint[]", gone) == [(0,)]
    assert sql(three, "SELECT count(*) FROM erasures WHERE done_at IS NOT NULL") == [(3,)]


async def test_who_came_back_after_an_erasure_is_found_in_the_own_database(
    runtime: Runtime, three: Settings, crowd: dict[str, list[int]]
) -> None:
    back, away = crowd["us1"][:2]
    await erased(runtime, back, away)
    add_users(at(three, "us1"), {"id": back})
    await answer(runtime, back, away, due=NOON + HOUR, kafka=False)
    ids = {n for (n,) in sql(three, "SELECT user_id FROM ledger")}
    assert back in ids and away not in ids and len(ids) == 2


async def test_inspect_finds_a_user_and_the_devices(three: Settings, crowd: dict[str, list[int]]) -> None:
    add_users(at(three, "asia"), user(crowd["asia"][0]))
    shown = await inspect(three, crowd["asia"][0], 3)
    assert shown.facts and shown.time_zone == "Europe/Lisbon" and len(shown.facts["devices"]) == 1
    assert (await inspect(three, crowd["us1"][0], 3)).facts is None


async def test_the_main_database_may_have_users_too(
    environment: dict[str, str], three: Settings, crowd: dict[str, list[int]]
) -> None:
    """One transaction there, as without the setting."""
    entries = [each.model_copy() for each in three.databases]
    assert three.postgres_url
    entries[0] = entries[0].model_copy(update={"url": three.postgres_url})
    both = three.model_copy(update={"databases": read_addresses(entries)})
    runtime = Runtime.of(both)
    await runtime.open()
    try:
        await write(runtime, *(event("app_opened", n, NOON - 60) for n in everybody(crowd)))
        assert [n for (n,) in sql(both, "SELECT id FROM users ORDER BY id")] == sorted(crowd["eu1"])
        assert found(three, "SELECT count(*) FROM users") == {"eu1": [(0,)], "us1": [(3,)], "asia": [(3,)]}
        await erased(runtime, crowd["eu1"][0], crowd["us1"][0])
        assert sql(both, "SELECT users FROM erasures") == [(1,), (1,)]
    finally:
        await runtime.close()
