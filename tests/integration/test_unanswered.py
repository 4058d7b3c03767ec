"""The ladder learns to stop: comebacks without an answer are counted once each, and some of them end it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest

from batch.plan import plan
from batch.scan import record, scan
from shared.due.index import Practised
from shared.policy.holdout import Holdout
from shared.policy.kinds import Path
from shared.settings import Settings
from shared.wire.events import decode_event
from shared.wire.sends import Outcome, OutcomeBatch, Result
from stream.due.fire import Firing
from stream.effects import effects_of
from stream.ledger import Ledger
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.planned import decided
from tests.integration.support import DAY, HOUR, TODAY, add_users, denials, event, practised_at, sends_in, sql

USER, OTHER = 4_242, 4_243
ZONE = "Asia/Omsk"
"""UTC+6 without summer time: the send hour, 18:00, is noon in UTC."""
START = datetime.fromtimestamp(NOON, UTC)
SHARDS = list(range(256))


def silent(user: int = USER, days: int = 7, **columns: object) -> dict[str, object]:
    return {"id": user, "time_zone": ZONE, "last_active_date": TODAY - timedelta(days=days), **columns}


def comeback(user: int = USER, ago: int = 0, result: Result = Result.delivered) -> Outcome:
    at = NOON - ago * DAY
    return Outcome(user, "comeback", TODAY - timedelta(days=ago), result, result.name, at, at + 60)


def unanswered(settings: Settings) -> dict[int, int]:
    return dict(sql(settings, "SELECT id, unanswered FROM users"))


async def tell(runtime: Runtime, *outcomes: Outcome) -> None:
    await Ledger(runtime.users).write([OutcomeBatch(Path.batch, outcomes)])


async def act(runtime: Runtime, at: float, user: int = USER) -> None:
    events = [decode_event(event("app_opened", user, at, time_zone=ZONE), NOON + 90 * DAY)]
    await runtime.writeback.write([effects_of(events, {}, "UTC")])


async def test_a_delivered_comeback_counts_once_however_often_it_is_told(settings: Settings, runtime: Runtime) -> None:
    add_users(settings, silent(days=90), silent(OTHER, days=90))
    await tell(runtime, comeback(ago=60), comeback(OTHER, ago=60))
    for _ in range(2):
        await tell(runtime, comeback(ago=30), comeback(ago=60), comeback(ago=30))
    assert unanswered(settings) == {USER: 2, OTHER: 1}


async def test_only_comebacks_that_were_delivered_count(settings: Settings, runtime: Runtime) -> None:
    add_users(settings, silent())
    others = [comeback(result=result) for result in Result if result is not Result.delivered]
    practice = Outcome(USER, "practice", TODAY, Result.delivered, "accepted", NOON, NOON)
    await tell(runtime, *others, practice)
    assert unanswered(settings) == {USER: 0}
    await tell(runtime, comeback())
    assert unanswered(settings) == {USER: 1}, "told of something else before"


async def test_an_outcome_counts_that_was_written_when_counting_failed(settings: Settings, runtime: Runtime) -> None:
    """The ledger's transaction and the count are two, since users may be in another database."""
    add_users(settings, silent())
    ledger = Ledger(runtime.users)
    await ledger._write([OutcomeBatch(Path.batch, (comeback(),))])
    assert unanswered(settings) == {USER: 0}
    await tell(runtime, comeback())
    assert unanswered(settings) == {USER: 1}


async def test_whatever_is_heard_of_a_user_is_an_answer(settings: Settings, runtime: Runtime) -> None:
    add_users(settings, silent(days=60), silent(OTHER, days=60))
    await tell(runtime, comeback(ago=30), comeback(OTHER, ago=30))
    await act(runtime, NOON - 20 * DAY)
    assert unanswered(settings) == {USER: 0, OTHER: 1}
    # Late or again, of before the activity.
    await tell(runtime, comeback(ago=46), comeback(ago=30), comeback(ago=20))
    assert unanswered(settings) == {USER: 0, OTHER: 1}
    await tell(runtime, comeback(ago=13))
    assert unanswered(settings) == {USER: 1, OTHER: 1}
    # An event that says nothing new.
    await act(runtime, NOON - 21 * DAY)
    assert unanswered(settings) == {USER: 1, OTHER: 1}


async def test_counting_leaves_the_indexes_alone(settings: Settings, runtime: Runtime) -> None:
    add_users(settings, silent(), silent(OTHER))
    count = (files("stream") / "queries" / "count_unanswered.sql").read_text()
    seen = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'users'"
    async with runtime.pool.connection() as connection:
        await connection.execute(count, {"day": TODAY, "users": [USER, OTHER]})
        assert await (await connection.execute(seen)).fetchone() == (2, 2)


@pytest.mark.parametrize(("stop_after", "left"), [(4, [1, 2]), (1, [1]), (0, [1, 2, 3, 4])])
async def test_who_answered_none_is_left_alone(settings: Settings, stop_after: int, left: list[int]) -> None:
    add_users(settings, *(silent(user) for user in range(1, 5)))
    for user, n in ((1, 0), (2, 3), (3, 4), (4, 5)):
        sql(settings, "UPDATE users SET unanswered = %s WHERE id = %s", n, user)
    mine = settings.model_copy(update={"stop_after": stop_after, "spread_minutes": 0})
    planned = plan(START, START + timedelta(hours=1), mine)
    await record(mine, planned)
    summary = await scan(mine, planned, SHARDS)
    assert (summary.candidates, summary.granted) == (4, len(left))
    assert {user for user, _ in await denials(settings)} == {1, 2, 3, 4} - set(left)
    assert set((await denials(settings)).values()) <= {"unanswered"}
    assert sum(answer == "unanswered" for answer in decided(settings).values()) == 4 - len(left)


async def test_both_planners_deny_who_is_held_out(settings: Settings) -> None:
    mine = settings.model_copy(update={"holdout": "comeback=50,practice=50", "holdout_salt": "x", "spread_minutes": 0})
    holdout = Holdout.of(mine)
    users = range(1, 41)
    runtime = Runtime.of(mine)
    await runtime.open()
    try:
        add_users(mine, *(silent(user) | practised_at(NOON - 23.5 * HOUR) | {"time_zone": ZONE} for user in users))
        sql(mine, "UPDATE users SET last_active_date = %s", TODAY - timedelta(days=7))
        await runtime.due.update([Practised(user, NOON, None, 0.0) for user in users], [])
        assert await Firing(runtime).fire(SHARDS) == len(users)
        planned = plan(START, START + timedelta(hours=1), mine)
        await record(mine, planned)
        await scan(mine, planned, SHARDS)
        held = {(user, kind) for user in users for kind in ("comeback", "practice") if holdout.holds(kind, user)}
        assert 10 < len(held) < 70
        assert await denials(mine) == dict.fromkeys(held, "holdout")
        sent = [*await sends_in(mine, runtime.topics.urgent), *await sends_in(mine, runtime.topics.normal)]
        every = {(user, kind) for user in users for kind in ("comeback", "practice")}
        assert {(send.user_id, send.kind) for send in sent} == every - held
    finally:
        await runtime.close()
