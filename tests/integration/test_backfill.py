"""Backfills against real stores: whom a path missed is reminded once, whoever runs them, whatever cuts them off."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from batch.backfill import (
    BusyBackfillError,
    CancelledBackfillError,
    Request,
    begin,
    cancel,
    finish,
    go_on,
    look,
    request,
    run,
    store,
    summary_of,
)
from batch.plan import plan
from batch.scan import scan
from shared.clock import FileClock
from shared.due.index import Due, Started
from shared.gate import Rule
from shared.identity import SHARDS
from shared.policy.kinds import PRACTICE
from shared.producer import Producer, Record
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.sends import Result
from stream.due.fire import Firing
from tests.conftest import NOON
from tests.integration.firing import schedule
from tests.integration.planned import put_in_force
from tests.integration.support import (
    DAY,
    HOUR,
    TODAY,
    add_users,
    event,
    outcomes_in,
    practised_at,
    running,
    scheduled,
    sends_in,
    sql,
    users_of_shard,
)

NOW = NOON + 1.5 * HOUR
START, END = datetime.fromtimestamp(NOON - 2 * HOUR, UTC), datetime.fromtimestamp(NOW, UTC)
SILENT = [*users_of_shard(3, 12), *users_of_shard(9, 5)]
"""Whose send hour struck at 13:00 UTC."""
MISSED = users_of_shard(4, 13)
"""Whose practice reminder was due at half past eleven; the index has lost all but the first."""
LATE = users_of_shard(5, 3)
"""Whose abandoned lesson was due at half past ten: its hour is over."""
EVERYBODY = {(user, "comeback") for user in SILENT} | {(user, "practice") for user in MISSED}


@pytest.fixture
async def small(settings: Settings, clock: FileClock) -> Settings:
    """What both paths should have done between ten and half past one, and did not."""
    silent = {"last_active_date": TODAY - timedelta(days=7)}
    add_users(settings, {"id": SILENT[0], "time_zone": "Asia/Karachi", **silent})
    add_users(settings, *({"id": user, "time_zone": "Asia/Tashkent", **silent} for user in SILENT[1:]))
    add_users(settings, *({"id": user, **practised_at(NOON - DAY)} for user in MISSED))
    add_users(settings, *({"id": user, **practised_at(NOON - 3 * DAY)} for user in LATE))
    async with running(settings) as runtime:
        await runtime.due.update([], [Started(user, NOON - 1.5 * HOUR) for user in LATE])
        await schedule(runtime, MISSED[0], due=NOON - HOUR / 2)
    clock.set(NOW)
    return settings.model_copy(update={"page_size": 10, "send_batch": 4})


def wanted(**more: object) -> Request:
    return request(START, END, NOW, **{"shards": "3-9", **more})  # type: ignore[arg-type]  # what a test names


async def backfill(settings: Settings, asked: Request, by: str = "ana", *, again: bool = False) -> int:
    found, _ = await begin(settings, asked, by, again=again)
    return found.id


async def sent(settings: Settings) -> Counter[tuple[int, str]]:
    topics = Topics.of(settings)
    sends = [*await sends_in(settings, topics.urgent), *await sends_in(settings, topics.normal)]
    return Counter((send.user_id, send.kind) for send in sends)


async def test_a_backfill_sends_what_both_paths_missed_and_reports_what_is_too_late(small: Settings) -> None:
    before = await look(small, wanted())
    rows = [(row.kind, row.hour, row.time_zone, row.users, row.sends, row.expired) for row in before.rows]
    assert rows == [
        ("abandoned_lesson", "2026-11-21 10:00 +00:00", "Europe/Lisbon", 3, 0, 3),
        ("comeback", "2026-11-21 18:00 +05:00", "Asia/Karachi", 1, 1, 0),
        ("comeback", "2026-11-21 18:00 +05:00", "Asia/Tashkent", 16, 16, 0),
        ("practice", "2026-11-21 11:00 +00:00", "Europe/Lisbon", 13, 13, 0),
    ]
    assert await sent(small) == {}, "a dry run sends nothing"
    done = await run(small, await backfill(small, wanted()))
    assert await sent(small) == Counter(EVERYBODY)
    expired = [outcome.user_id for outcome in await outcomes_in(small) if outcome.result is Result.expired]
    assert sorted(expired) == sorted(LATE)
    assert (done.state, done.sent, done.expired, done.already, done.denied) == ("done", 30, 3, 0, {})
    assert (done.shards_done, done.shards) == (14, 14)
    after = await look(small, wanted())
    assert (after.total("users"), after.total("already")) == (30, 30), "what was late has left the index"
    async with running(small) as runtime:
        assert not await scheduled(runtime), "the index does not fire it once more"


async def test_who_does_the_same_once_more_finds_it_done_and_by_force_repeats_nothing(small: Settings) -> None:
    first = await backfill(small, wanted())
    await run(small, first)
    assert await backfill(small, wanted(), "rui") == first
    assert (await run(small, first)).sent == 30
    second = await backfill(small, wanted(), "rui", again=True)
    done = await run(small, second)
    assert (second != first, done.expired) == (True, 0)
    assert done.by_kind["practice"] == {"already": 13}
    # The scan asks the gate, which grants what the batch path has already; delivery drops what is settled.
    assert set(await sent(small)) == EVERYBODY


async def test_two_people_at_once_one_runs_and_the_other_is_told_who(small: Settings) -> None:
    number = await backfill(small, wanted())
    async with await store.connect(small) as connection:
        assert await store.take(connection, number, shared=False)
        await store.note_runner(connection, number, "ana@desk")
        with pytest.raises(BusyBackfillError, match="run by ana@desk since 2026-11-21 13:30:00 UTC"):
            await run(small, number, by="rui@phone")
        with pytest.raises(BusyBackfillError):
            await begin(small, wanted(), "rui@phone")
    assert (await run(small, number, by="rui@phone")).sent == 30


async def test_two_whose_requests_overlap_send_nobody_the_same_twice(small: Settings) -> None:
    numbers = [await backfill(small, wanted()), await backfill(small, wanted(shards="3-5", kinds=["practice"]))]
    one, other = await asyncio.gather(*(run(small, number) for number in numbers))
    assert set(await sent(small)) == EVERYBODY
    decided = sql(small, "SELECT count(DISTINCT (u, kind)) FROM planned, unnest(users) AS u WHERE answer = 'granted'")
    assert decided == [(33,)]
    assert one.sent + other.sent >= 30


async def test_shards_are_shared_by_tasks_and_the_last_one_finishes(small: Settings) -> None:
    number = await backfill(small, wanted())
    groups = [[3, 4], [5], [6, 7, 8, 9]]
    await asyncio.gather(*(run(small, number, shards) for shards in groups[:2]))
    assert (await finish(small, number)).state == "running"
    await run(small, number, groups[2])
    assert (await finish(small, number)).state == "done"
    assert await sent(small) == Counter(EVERYBODY)


async def test_a_cancelled_backfill_stops_at_the_next_page_and_goes_on_from_there(
    small: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await backfill(small, wanted())
    write = Producer.write

    async def write_and_cancel(producer: Producer, records: list[Record]) -> None:
        await write(producer, records)
        assert (await cancel(small, number, "rui")).state == "cancelling", "it stops by itself"

    monkeypatch.setattr(Producer, "write", write_and_cancel)
    with pytest.raises(CancelledBackfillError):
        await run(small, number)
    monkeypatch.undo()
    stopped = await summary_of(small, number)
    assert (stopped.state, stopped.sent) == ("cancelled", 10), "the page that was under way is whole"
    assert (await go_on(small, number, "eva")).run_by == "eva"
    done = await run(small, number)
    assert (done.state, done.sent, done.expired, done.already) == ("done", 30, 3, 0)
    assert await sent(small) == Counter(EVERYBODY)


@pytest.mark.parametrize("after", [False, True], ids=["before Kafka has the page", "after it"])
async def test_a_backfill_that_dies_is_gone_on_with(
    small: Settings, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    number = await backfill(small, wanted())
    write, left = Producer.write, 2

    async def die(producer: Producer, records: list[Record]) -> None:
        nonlocal left
        left -= 1
        if left >= 0 or after:
            await write(producer, records)
        if left < 0:
            raise RuntimeError("the machine is gone")

    monkeypatch.setattr(Producer, "write", die)
    with pytest.raises(RuntimeError, match="gone"):
        await run(small, number)
    monkeypatch.undo()
    async with await store.connect(small) as connection:
        assert (await store.get(connection, number)).interrupted
        # What its planner left is finished by a worker; here nobody waits for it.
        pages = sql(small, "SELECT count(*) FROM outbox")
        assert pages == [(1,)]
    await run(small, number)
    found = await sent(small)
    # Who was claimed in the page that was cut off is in the outbox, which a worker's sweeper brings to Kafka.
    assert set(found) <= EVERYBODY
    granted = sql(small, "SELECT count(DISTINCT (u, kind)) FROM planned, unnest(users) AS u WHERE answer = 'granted'")
    assert granted == [(33,)]


async def test_who_practised_in_events_that_nobody_has_read_is_not_reminded(small: Settings) -> None:
    lesson = event("lesson_completed", MISSED[1], NOON, time_zone="Europe/Lisbon")
    async with Producer(small) as producer:
        await producer.write([Record(Topics.of(small).activity, None, value) for value in (lesson, b"{")])
    assert (await look(small, wanted())).unread_events == 2
    done = await run(small, await backfill(small, wanted(kinds=["practice"])))
    assert (done.sent, done.denied) == (12, {"practised": 1})
    assert (MISSED[1], "practice") not in await sent(small)


async def test_an_hour_that_was_backfilled_is_done_for_the_dag_and_the_other_way_round(small: Settings) -> None:
    hour = plan(END - timedelta(minutes=30), END + timedelta(minutes=30), small)
    await run(small, await backfill(small, request(hour.interval_start, hour.interval_end, NOW + HOUR)))
    assert (await scan(small, hour, range(SHARDS))).granted == 17
    assert await sent(small) == Counter({one for one in EVERYBODY if one[1] == "comeback"})


async def test_only_the_kinds_shards_and_zones_that_were_asked_for(small: Settings) -> None:
    await run(small, await backfill(small, wanted(zones=["Asia/Karachi", "Europe/Lisbon"], shards="3-4")))
    practice = {one for one in EVERYBODY if one[1] == "practice"}
    assert await sent(small) == Counter({(SILENT[0], "comeback")} | practice)
    await run(small, await backfill(small, wanted(kinds=["comeback"], shards="9")))
    assert set(await sent(small)) == {(SILENT[0], "comeback"), *practice, *((u, "comeback") for u in SILENT[12:])}


async def test_who_waits_in_the_index_for_a_worker_is_fired_once_by_whoever_comes_first(small: Settings) -> None:
    async with running(small) as runtime:
        await schedule(runtime, *MISSED, due=NOON - HOUR / 2)
        await Firing(runtime).fire([4])
    done = await run(small, await backfill(small, wanted(kinds=["practice"])))
    assert (done.sent, done.already) == (0, 13)
    async with running(small) as runtime:
        await runtime.due.remove(PRACTICE, [Due(MISSED[0], NOON)])


async def test_a_paused_kind_waits_and_goes_on(small: Settings) -> None:
    await put_in_force(small, Rule(kind="practice"))
    number = await backfill(small, wanted(kinds=["practice"]))
    working = asyncio.create_task(run(small, number))
    async with await store.connect(small) as connection:
        while not (await store.get(connection, number)).alive:  # noqa: ASYNC110  # PostgreSQL tells nobody
            await asyncio.sleep(0.01)
    await put_in_force(small)
    assert (await working).sent == 13


async def test_the_rate_bounds_a_page(small: Settings) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    done = await run(small, await backfill(small, wanted(kinds=["practice"])), rate=20)
    assert done.sent == 13
    assert loop.time() - began >= 0.5, "ten are sent, and then half a second has to pass"
