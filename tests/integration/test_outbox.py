"""The outbox: what counts as granted is in Kafka or on its way, wherever a planner dies and whoever leaves the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from batch import checkpoints
from batch.plan import Plan, plan
from batch.scan import Scan
from shared import outbox
from shared.due.index import DueIndex, Practised
from shared.gate import RedisGate
from shared.identity import shard_of
from shared.outbox import GRANTED, Decision, Outbox, finish_oldest
from shared.policy.kinds import KINDS, PRACTICE, Path
from shared.producer import Producer, Record
from shared.settings import Settings
from shared.store.partitions import Connection
from shared.wire.sends import Result
from stream.due.fire import Firing
from stream.runtime import Runtime
from stream.sweeper import sweep
from tests.conftest import NOON
from tests.integration.planned import accounted, answers, decided, granted, in_outbox
from tests.integration.support import (
    DAY,
    TODAY,
    YESTERDAY,
    add_users,
    outcomes_in,
    practised_at,
    read,
    running,
    scheduled,
    sends_in,
    sql,
    users_of_shard,
)

SHARD = 3
CROWD = users_of_shard(SHARD, 8)
DECISION = Decision(TODAY, "practice", "", GRANTED)

Patch = pytest.MonkeyPatch


class KilledError(Exception):
    """The machine is gone."""


@pytest.fixture
def small(settings: Settings) -> Settings:
    """Messages of two, and pages that are too old at once."""
    return settings.model_copy(update={"page_size": 10, "send_batch": 2, "outbox_seconds": 1e-6, "spread_minutes": 0})


@pytest.fixture
async def runtime(small: Settings) -> AsyncIterator[Runtime]:
    async with running(small) as runtime:
        yield runtime


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[Connection]:
    async with await psycopg.AsyncConnection.connect(settings.require_postgres(), autocommit=True) as connection:
        yield connection


# Where a planner may die, in the order of its steps. Each entry breaks one call for as long as the patch lasts.
# Every step has a shard of its own, so that one test can go through all of them.


def dies(patch: Patch, owner: Any, name: str, *, after: bool) -> None:
    """The call raises, before or after it has done its work."""
    call: Callable[..., Any] = getattr(owner, name)

    async def broken(*args: Any, **options: Any) -> Any:
        if after:
            await call(*args, **options)
        raise KilledError

    patch.setattr(owner, name, broken)


def dies_midway(patch: Patch) -> None:
    """Kafka has the first message of the page, and no other."""
    write = Producer.write

    async def broken(self: Producer, records: Iterable[Record]) -> None:
        await write(self, list(records)[:1])
        raise KilledError

    patch.setattr(Producer, "write", broken)


Steps = dict[str, Callable[[Patch], None]]
STEPS: Steps = {
    "before the claim": lambda patch: dies(patch, RedisGate, "claim", after=False),
    "after the claim": lambda patch: dies(patch, RedisGate, "claim", after=True),
    "before the page is written": lambda patch: dies(patch, Outbox, "record", after=False),
    "before Kafka has anything": lambda patch: dies(patch, Producer, "write", after=False),
    "when Kafka has a part": dies_midway,
    "when Kafka has all": lambda patch: dies(patch, Producer, "write", after=True),
    "before the outbox row is deleted": lambda patch: dies(patch, outbox, "delete", after=False),
    "after the outbox row is deleted": lambda patch: dies(patch, outbox, "delete", after=True),
}
# A scan deletes the row with its checkpoint, in one statement.
SCAN_STEPS = {name: step for name, step in STEPS.items() if "deleted" not in name} | {
    "before the checkpoint": lambda patch: dies(patch, checkpoints, "save", after=False),
    "after the checkpoint": lambda patch: dies(patch, checkpoints, "save", after=True),
}
FIRE_STEPS = STEPS | {
    "before the users are taken out of the index": lambda patch: dies(patch, DueIndex, "remove", after=False),
}


class Crowd:
    """The users of one step's shard: who is due and gone at the repetition, who is not, and who comes only then."""

    def __init__(self, shard: int) -> None:
        users = users_of_shard(shard, 8)
        self.shard = shard
        self.leaving, self.staying, self.later = users[:3], users[3:6], users[6:]


Leave = Callable[[Settings, Sequence[int]], None]


def stay(settings: Settings, users: Sequence[int]) -> None:
    """Nothing happens meanwhile."""


def opt_out(settings: Settings, users: Sequence[int]) -> None:
    sql(settings, "UPDATE users SET opted_out = 15 WHERE id = ANY(%s)", list(users))


def go_away(settings: Settings, users: Sequence[int]) -> None:
    sql(settings, "DELETE FROM users WHERE id = ANY(%s)", list(users))


def come_back(settings: Settings, users: Sequence[int]) -> None:
    """Active again: no scan finds them any more."""
    sql(settings, "UPDATE users SET last_active_date = %s WHERE id = ANY(%s)", TODAY, list(users))


async def killed(step: Callable[[Patch], None], work: Awaitable[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        step(patch)
        with pytest.raises(KilledError):
            await work


async def nobody_is_lost(settings: Settings, steps: Steps) -> None:
    """Whoever is granted has a send, in Kafka or on its way, and nobody else has one."""
    names = list(steps)
    wrong = granted(settings) ^ await accounted(settings)
    assert not {names[shard_of(user)] for user in wrong}


async def all_is_accounted_for(settings: Settings, runtime: Runtime, steps: Steps, leave: Leave) -> None:
    """Now, and when everything has come to rest: every candidate once, granted with a send or denied with a reason."""
    await nobody_is_lost(settings, steps)
    await sweep(runtime)
    assert in_outbox(settings) == []
    await nobody_is_lost(settings, steps)
    found = {user: answer for (_, _, _, user), answer in decided(settings).items()}
    # What was written down before they left stays so; else the repetition finds them as they are by then, if at all.
    afresh = GRANTED if leave is stay else "opted_out" if leave is opt_out else None
    written = list(steps).index("before Kafka has anything")
    for shard, step in enumerate(steps):
        crowd = Crowd(shard)
        # Who comes after the checkpoint may have a place before it, and is not looked for any more.
        here = crowd.staying if step == "after the checkpoint" else (*crowd.staying, *crowd.later)
        assert {found.get(user) for user in here} == {GRANTED}, step
        assert {found.get(user) for user in crowd.leaving} == {afresh if shard < written else GRANTED}, step
    refused = {user for user, answer in found.items() if answer != GRANTED}
    assert refused <= {outcome.user_id for outcome in await outcomes_in(settings) if outcome.result is Result.denied}


@pytest.mark.parametrize("leave", [stay, opt_out, go_away, come_back], ids=lambda leave: leave.__name__)
async def test_a_scan_that_dies_anywhere_and_is_repeated_loses_nobody(
    small: Settings, runtime: Runtime, leave: Leave
) -> None:
    start = datetime.fromtimestamp(NOON, UTC)
    planned = plan(start, start + timedelta(hours=1), small)
    crowds = [Crowd(shard) for shard in range(len(SCAN_STEPS))]
    add_users(small, *(silent(user) for crowd in crowds for user in (*crowd.leaving, *crowd.staying)))
    for crowd, step in zip(crowds, SCAN_STEPS.values(), strict=True):
        await killed(step, scan(small, runtime, planned, [crowd.shard]))
    await nobody_is_lost(small, SCAN_STEPS)
    leave(small, [user for crowd in crowds for user in crowd.leaving])
    add_users(small, *(silent(user) for crowd in crowds for user in crowd.later))
    await scan(small, runtime, planned, range(len(crowds)))
    await all_is_accounted_for(small, runtime, SCAN_STEPS, leave)


@pytest.mark.parametrize("leave", [stay, opt_out, go_away], ids=lambda leave: leave.__name__)
async def test_a_worker_that_dies_anywhere_while_firing_loses_nobody(
    small: Settings, runtime: Runtime, leave: Leave
) -> None:
    crowds = [Crowd(shard) for shard in range(len(FIRE_STEPS))]
    for crowd in crowds:
        everybody = (*crowd.leaving, *crowd.staying, *crowd.later)
        add_users(small, *({"id": user, **practised_at(NOON - DAY)} for user in everybody))
        await schedule(runtime, (*crowd.leaving, *crowd.staying), NOON - 60)
    for crowd, step in zip(crowds, FIRE_STEPS.values(), strict=True):
        await killed(step, Firing(runtime).fire([crowd.shard]))
    await nobody_is_lost(small, FIRE_STEPS)
    leave(small, [user for crowd in crowds for user in crowd.leaving])
    await schedule(runtime, [user for crowd in crowds for user in crowd.later], NOON - 30)
    await Firing(runtime).fire(range(len(crowds)))
    await all_is_accounted_for(small, runtime, FIRE_STEPS, leave)
    assert await scheduled(runtime) == []


async def test_who_practises_between_a_crash_and_the_repetition_is_in_no_later_page_and_still_accounted_for(
    small: Settings, runtime: Runtime, monkeypatch: Patch
) -> None:
    add_users(small, *({"id": user, **practised_at(NOON - DAY)} for user in CROWD))
    await schedule(runtime, CROWD, NOON - 60)
    with monkeypatch.context() as patch:
        dies(patch, Producer, "write", after=False)
        with pytest.raises(KilledError):
            await Firing(runtime).fire([SHARD])
    await schedule(runtime, CROWD, NOON + DAY)
    assert await Firing(runtime).fire([SHARD]) == 0
    assert await sends_in(small, runtime.topics.urgent) == []
    assert granted(small) == set(CROWD)
    assert await sweep(runtime) == 1
    assert {send.user_id for send in await sends_in(small, runtime.topics.urgent)} == set(CROWD)


def silent(user: int) -> dict[str, object]:
    """Somebody whose comeback is due at noon UTC."""
    return {"id": user, "time_zone": "Asia/Dhaka", "last_active_date": TODAY - timedelta(days=7)}


async def scan(settings: Settings, runtime: Runtime, planned: Plan, shards: Sequence[int]) -> None:
    connection = await psycopg.AsyncConnection.connect(settings.require_postgres(), autocommit=True)
    async with connection:
        await Scan(settings, settings.clock(), connection, connection, runtime.gate, runtime.producer).run(
            planned, shards
        )


async def schedule(runtime: Runtime, users: Sequence[int], due: float) -> None:
    await runtime.due.update([Practised(user, due, None, 0.0) for user in users], [])


def message(n: int) -> Record:
    return Record("t", None, b"message %d" % n)


async def leave_pages(connection: Connection, topic: str, n: int) -> list[int]:
    """Pages of planners that did not live to see Kafka."""
    pages = Outbox()
    return [
        await pages.record(connection, Path.stream, {DECISION: [number]}, [Record(topic, b"k", b"page %d" % number)])
        for number in range(1, n + 1)
    ]


async def test_a_page_is_a_row_for_each_answer_with_all_its_users(settings: Settings, connection: Connection) -> None:
    decisions = {
        DECISION: [2**63 - 1, 1],
        Decision(TODAY, "practice", "", "daily_cap"): [2],
        Decision(YESTERDAY, "campaign", "easter", "opted_out"): [3],
    }
    page_id = await Outbox().record(connection, Path.blast, decisions, [message(1), Record("u", b"k", b"\x00\xff")])
    rows = sql(settings, "SELECT * FROM planned ORDER BY local_date, answer DESC")
    assert rows == [
        (YESTERDAY, page_id, 3, KINDS["campaign"].code, "easter", "opted_out", [3]),
        (TODAY, page_id, 3, PRACTICE.code, "", GRANTED, [2**63 - 1, 1]),
        (TODAY, page_id, 3, PRACTICE.code, "", "daily_cap", [2]),
    ]
    assert in_outbox(settings) == [message(1), Record("u", b"k", b"\x00\xff")]


async def test_a_page_is_refused_inside_a_transaction_that_could_still_be_undone(
    settings: Settings, connection: Connection
) -> None:
    async with connection.transaction():
        with pytest.raises(RuntimeError, match="by itself"):
            await Outbox().record(connection, Path.stream, {DECISION: [1]}, [message(1)])
    assert (in_outbox(settings), decided(settings)) == ([], {})


async def test_a_page_on_a_connection_that_commits_by_itself_or_not_is_there_for_all_to_see(settings: Settings) -> None:
    for autocommit in (True, False):
        connection = await psycopg.AsyncConnection.connect(settings.require_postgres(), autocommit=autocommit)
        await Outbox().record(connection, Path.stream, {DECISION: [1]}, [message(1)])
        await connection.close()
    assert in_outbox(settings) == [message(1), message(1)]
    assert answers(settings) == {(Path.stream, "practice", GRANTED): 1}


async def test_the_partition_of_a_new_local_date_is_made_by_however_many_plan_for_it_at_once(
    settings: Settings,
) -> None:
    day = date(2031, 5, 18)
    sql(settings, "DROP TABLE IF EXISTS planned_20310518")

    async def write(user: int) -> None:
        async with await psycopg.AsyncConnection.connect(settings.require_postgres()) as connection:
            await Outbox().record(connection, Path.batch, {DECISION._replace(local_date=day): [user]}, [])

    await asyncio.gather(*map(write, range(1, 9)))
    assert granted(settings, day) == set(range(1, 9))


async def test_a_young_page_is_left_to_its_planner(settings: Settings, connection: Connection) -> None:
    async with running(settings) as runtime:
        young, old = await leave_pages(connection, runtime.topics.outcomes, 2)
        aged = "UPDATE outbox SET recorded_at = now() - make_interval(secs => %s) WHERE page_id = %s"
        sql(settings, aged, settings.outbox_seconds - 5, young)
        sql(settings, aged, settings.outbox_seconds + 1, old)
        assert await sweep(runtime) == 1
    assert sql(settings, "SELECT page_id FROM outbox") == [(young,)]


async def test_two_sweepers_at_once_finish_every_page_once(
    small: Settings, runtime: Runtime, connection: Connection
) -> None:
    await leave_pages(connection, runtime.topics.outcomes, 20)
    async with running(small) as other:
        shares = await asyncio.gather(sweep(runtime), sweep(other))
    assert sum(shares) == 20
    values = [record.value for record in await read(small, runtime.topics.outcomes)]
    assert sorted(values) == sorted(b"page %d" % n for n in range(1, 21))
    assert await sweep(runtime) == 0


async def test_a_page_that_somebody_else_is_finishing_is_not_waited_for(
    small: Settings, runtime: Runtime, connection: Connection
) -> None:
    first, _ = await leave_pages(connection, runtime.topics.outcomes, 2)
    async with connection.transaction():
        await connection.execute("SELECT FROM outbox WHERE page_id = %s FOR UPDATE", (first,))
        async with asyncio.timeout(30):
            assert await sweep(runtime) == 1
    assert sql(small, "SELECT page_id FROM outbox") == [(first,)]


@pytest.mark.parametrize("after", [False, True], ids=["before Kafka has it", "when Kafka has it"])
async def test_a_sweeper_that_dies_leaves_the_page_for_the_next_one(
    small: Settings, runtime: Runtime, connection: Connection, monkeypatch: Patch, after: bool
) -> None:
    await leave_pages(connection, runtime.topics.outcomes, 1)
    with monkeypatch.context() as patch:
        dies(patch, Producer, "write", after=after)
        with pytest.raises(KilledError):
            await finish_oldest(connection, runtime.producer, runtime.users.databases, small.outbox_seconds)
    assert len(in_outbox(small)) == 1
    assert await sweep(runtime) == 1
    assert {record.value for record in await read(small, runtime.topics.outcomes)} == {b"page 1"}


async def test_a_planner_that_comes_late_finds_its_page_finished_and_goes_on(
    small: Settings, runtime: Runtime, connection: Connection, monkeypatch: Patch
) -> None:
    """It was slow, not dead: its messages are there twice, its users count once."""
    add_users(small, {"id": CROWD[0], **practised_at(NOON - DAY)})
    await schedule(runtime, CROWD[:1], NOON - 60)
    write = runtime.producer.write

    async def slow(records: Iterable[Record]) -> None:
        if records := list(records):
            monkeypatch.setattr(runtime.producer, "write", write)
            await sweep(runtime)
        await write(records)

    monkeypatch.setattr(runtime.producer, "write", slow)
    assert await Firing(runtime).fire([SHARD]) == 1
    assert [send.user_id for send in await sends_in(small, runtime.topics.urgent)] == CROWD[:1] * 2
    assert answers(small) == {(Path.stream, "practice", GRANTED): 1}
    assert in_outbox(small) == []
