"""Firing what is due, against real stores: every candidate ends in one place, whatever crashes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from shared.clock import FileClock, utc
from shared.due.index import Due, Practised, Started
from shared.gate import GateUnavailableError, SendKey
from shared.identity import shard_of
from shared.outbox import GRANTED
from shared.policy.kinds import KIND_BY_CODE, Path
from shared.settings import Settings
from shared.wire.sends import Result, Send, Target
from stream.due import fire, turns
from stream.due.fire import Firing, owned_shards
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.firing import ALL, DUE, TEN, USER, schedule, user
from tests.integration.planned import answers, decided, in_outbox
from tests.integration.support import (
    DAY,
    HOUR,
    TODAY,
    add_users,
    batches_in,
    denials,
    outcomes_in,
    practised_at,
    running,
    scheduled,
    sends_in,
    sql,
    token_of,
    users_of_shard,
)


async def test_a_granted_send_is_on_the_urgent_lane_with_all_that_delivery_needs(
    settings: Settings, runtime: Runtime
) -> None:
    add_users(settings, user(locale="pt-PT", streak=12, opted_out=0b1110))
    insert = "INSERT INTO devices (user_id, device_id, platform, token, retired_at) VALUES (%s, %s, 'android', %s, %s)"
    sql(settings, insert, USER, "tablet", "another-token", None)
    sql(settings, insert, USER, "sold", "a-retired-token", utc(NOON - HOUR))
    sql(settings, "UPDATE devices SET fcm_token = 'fcm-token' WHERE platform = 'ios'")
    await schedule(runtime)
    assert await Firing(runtime).fire(ALL) == 1
    (batch,) = await batches_in(settings, runtime.topics.urgent)
    assert (batch.path, batch.planned_at) == (Path.stream, NOON)
    assert batch.sends == (
        Send(
            user_id=USER, kind="practice", local_date=TODAY, due_at=DUE, expires_at=DUE + 4 * HOUR,
            time_zone="Europe/Lisbon", locale="pt-PT", streak=12, silent_days=1,
            targets=(
                Target("phone", "ios", token_of(USER), "fcm-token"), Target("tablet", "android", "another-token"),
            ),
        ),
    )  # fmt: skip
    assert await outcomes_in(settings) == []
    assert answers(settings) == {(Path.stream, "practice", GRANTED): 1}
    assert in_outbox(settings) == [], "Kafka has the page"


async def test_an_fcm_token_that_is_retired_is_left_out(settings: Settings, runtime: Runtime) -> None:
    add_users(settings, user())
    sql(settings, "UPDATE devices SET fcm_token = 'fcm-token', fcm_retired_at = %s", utc(NOON - HOUR))
    await schedule(runtime)
    assert await Firing(runtime).fire(ALL) == 1
    (send,) = await sends_in(settings, runtime.topics.urgent)
    assert send.targets == (Target("phone", "ios", token_of(USER)),)


async def test_every_denial_is_an_outcome_with_its_reason_and_sends_nothing(
    settings: Settings, runtime: Runtime
) -> None:
    add_users(settings, user(1, opted_out=0b0001), user(2, opted_out=0b0011), user(3), user(4))
    add_users(settings, user(5), devices=False)
    await runtime.gate.practised([(3, TODAY)])
    await runtime.gate.claim(Path.stream, "abandoned_lesson", TODAY, [4])
    await runtime.gate.claim(Path.batch, "comeback", TODAY, [4])
    await schedule(runtime, *range(1, 6))
    assert await Firing(runtime).fire(ALL) == 5
    reasons = ["opted_out", "opted_out", "practised", "daily_cap", "no_device"]
    assert await denials(settings) == {(n, "practice"): reason for n, reason in enumerate(reasons, start=1)}
    written = {user: answer for (_, _, _, user), answer in decided(settings).items()}
    assert written == dict(enumerate(reasons, start=1))
    assert await sends_in(settings, runtime.topics.urgent) == []
    assert await scheduled(runtime) == []


async def test_a_streak_is_saved_at_22_local_only_where_one_is_at_stake(
    settings: Settings, runtime: Runtime, clock: FileClock
) -> None:
    add_users(settings, user(1), user(2, streak=0), {"id": 3, **practised_at(NOON - 2 * DAY)}, user(4))
    await runtime.gate.practised([(4, TODAY)])
    evening = NOON + 10 * HOUR
    await runtime.due.update([Practised(n, None, evening, 0.0) for n in range(1, 5)], [])
    clock.set(evening - 1)
    assert await Firing(runtime).fire(ALL) == 0
    clock.set(evening)
    assert await Firing(runtime).fire(ALL) == 4
    (send,) = await sends_in(settings, runtime.topics.urgent)
    assert (send.user_id, send.kind, send.expires_at) == (1, "streak_saver", evening + 2 * HOUR)
    reasons = {2: "no_streak", 3: "no_streak", 4: "practised"}
    assert await denials(settings) == {(n, "streak_saver"): reason for n, reason in reasons.items()}


async def test_what_is_past_its_window_is_reported_as_expired_and_not_sent(
    settings: Settings, runtime: Runtime
) -> None:
    add_users(settings, user(1), user(2))
    await schedule(runtime, 1, due=NOON - 4 * HOUR)  # Expires this very moment.
    await schedule(runtime, 2, due=NOON - 4 * HOUR + 1)
    await Firing(runtime).fire(ALL)
    (outcome,) = await outcomes_in(settings)
    assert (outcome.user_id, outcome.result, outcome.reason, outcome.decided_at) == (1, Result.expired, "expired", NOON)
    assert [send.user_id for send in await sends_in(settings, runtime.topics.urgent)] == [2]
    assert answers(settings) == {(Path.stream, "practice", GRANTED): 2}
    assert await scheduled(runtime) == []


@pytest.mark.parametrize("gone", ["deleted", "with an impossible time zone"])
async def test_who_cannot_be_reminded_leaves_the_index_silently_and_holds_up_nobody(
    settings: Settings, runtime: Runtime, gone: str
) -> None:
    add_users(settings, user(2), *([] if gone == "deleted" else [user(1, time_zone="Mars/Olympus_Mons")]))
    await schedule(runtime, 1, 2)
    await Firing(runtime).fire(ALL)
    assert [send.user_id for send in await sends_in(settings, runtime.topics.urgent)] == [2]
    assert await outcomes_in(settings) == []
    assert await scheduled(runtime) == []


async def test_a_worker_fires_only_its_own_shards(settings: Settings, runtime: Runtime) -> None:
    parts = [owned_shards({n}, 4) for n in range(4)]
    assert sorted(shard for part in parts for shard in part) == list(ALL)
    add_users(settings, *(user(n) for n in range(1, 41)))
    await schedule(runtime, *range(1, 41))
    await Firing(runtime).fire(parts[1])
    fired = {send.user_id for send in await sends_in(settings, runtime.topics.urgent)}
    assert fired == {n for n in range(1, 41) if shard_of(n) % 4 == 1}
    assert {due.user_id for due in await scheduled(runtime)} == set(range(1, 41)) - fired


async def test_a_crowd_in_one_shard_is_fired_in_rounds_and_in_messages_of_bounded_size(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "PER_SHARD", 5)
    monkeypatch.setattr(turns, "DEAL", 6)
    monkeypatch.setattr(fire, "PAGE", 4)
    crowd = users_of_shard(3, 13) + users_of_shard(4, 2)
    async with running(settings.model_copy(update={"send_batch": 2})) as runtime:
        add_users(settings, *(user(n) for n in crowd))
        await schedule(runtime, *crowd)
        assert await Firing(runtime).fire(ALL) == len(crowd)
        batches = await batches_in(settings, runtime.topics.urgent)
    assert max(len(batch.sends) for batch in batches) == 2
    assert Counter(send.user_id for batch in batches for send in batch.sends) == Counter(crowd)


async def test_a_crash_before_the_removal_repeats_the_same_sends_and_counts_them_once(
    settings: Settings, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_users(settings, user(1), user(2), user(3, opted_out=1))
    await schedule(runtime, 1, 2, 3)
    with monkeypatch.context() as patch:

        async def crash(kind: Any, fired: Sequence[Due], moved: Any = ()) -> None:
            raise RuntimeError("the machine is gone")

        patch.setattr(runtime.due, "remove", crash)
        with pytest.raises(RuntimeError, match="gone"):
            await Firing(runtime).fire(ALL)
    assert len(await scheduled(runtime)) == 3
    assert await Firing(runtime).fire(ALL) == 3
    first, again = await batches_in(settings, runtime.topics.urgent)
    assert {send.send_id for send in first.sends} == {send.send_id for send in again.sends}
    assert {send.user_id for send in first.sends} == {1, 2}
    assert answers(settings) == {(Path.stream, "practice", GRANTED): 2, (Path.stream, "practice", "opted_out"): 1}
    assert await scheduled(runtime) == []


async def test_what_a_provider_has_accepted_is_not_sent_again_after_a_crash(
    settings: Settings, runtime: Runtime
) -> None:
    add_users(settings, user())
    await schedule(runtime)
    await Firing(runtime).fire(ALL)
    await runtime.gate.settle(Path.stream, [SendKey(USER, "practice", TODAY)])
    await schedule(runtime)
    assert await Firing(runtime).fire(ALL) == 1
    assert len(await sends_in(settings, runtime.topics.urgent)) == 1
    assert await outcomes_in(settings) == []
    assert await scheduled(runtime) == []


async def test_a_lesson_completed_while_its_user_is_fired_keeps_the_new_time(
    settings: Settings, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_users(settings, user())
    await schedule(runtime)
    write = runtime.producer.write

    async def practise_meanwhile(records: Any) -> None:
        await write(records)
        await schedule(runtime, due=NOON + DAY)

    monkeypatch.setattr(runtime.producer, "write", practise_meanwhile)
    assert await Firing(runtime).fire(ALL) == 1
    assert await scheduled(runtime) == [(USER, NOON + DAY)]


async def test_nothing_is_sent_while_the_gate_is_silent_and_all_of_it_when_it_is_back(
    settings: Settings, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_users(settings, user())
    await schedule(runtime)
    claim = runtime.gate.claim
    before: list[list[Send]] = []

    async def silent_once(*question: Any) -> Any:
        if not before:
            before.append(await sends_in(settings, runtime.topics.urgent))
            raise GateUnavailableError
        return await claim(*question)

    monkeypatch.setattr(runtime.gate, "claim", silent_once)
    assert await Firing(runtime).fire(ALL) == 1
    assert before == [[]]
    assert [send.user_id for send in await sends_in(settings, runtime.topics.urgent)] == [USER]


async def test_kinds_that_are_due_at_once_stop_at_the_daily_cap_the_most_pressing_first(
    settings: Settings, runtime: Runtime, clock: FileClock
) -> None:
    add_users(settings, user())
    await runtime.due.update([Practised(USER, DUE, TEN, 0.0)], [Started(USER, DUE)])
    clock.set(TEN)
    await Firing(runtime).fire(ALL)
    wanted = answers(settings)
    assert wanted == {
        (Path.stream, "streak_saver", GRANTED): 1,
        (Path.stream, "practice", GRANTED): 1,
        (Path.stream, "abandoned_lesson", "daily_cap"): 1,
    }


async def test_who_is_in_another_zone_by_now_is_moved_in_the_index_and_fired_there(
    settings: Settings, runtime: Runtime, clock: FileClock
) -> None:
    """Practice is for the morning there, the streak saver for the evening."""
    away = {"time_zone": "Pacific/Auckland"}  # 01:00 on the next day
    west = {"time_zone": "America/New_York"}
    add_users(settings, user(1, **away), user(2, **west), user(3))
    await schedule(runtime, 1, 3)
    await runtime.due.update([Practised(2, None, TEN, 0.0)], [])
    morning, evening = NOON + 7 * HOUR, NOON + 15 * HOUR
    assert await Firing(runtime).fire(ALL) == 1
    clock.set(TEN)
    await runtime.due.update([Practised(3, None, TEN + DAY, 0.0)], [])
    assert await Firing(runtime).fire(ALL) == 1
    assert {send.user_id for send in await sends_in(settings, runtime.topics.urgent)} == {3, 1}
    assert dict(await scheduled(runtime)) == {2: evening, 3: TEN + DAY}
    assert set(answers(settings)) == {(Path.stream, "practice", GRANTED)}
    clock.set(evening)
    assert await Firing(runtime).fire(ALL) == 1
    sends = {send.user_id: send for send in await sends_in(settings, runtime.topics.urgent)}
    assert (sends[1].due_at, sends[1].local_date) == (morning, TODAY + timedelta(days=1))
    assert (sends[2].due_at, sends[2].local_date) == (evening, TODAY)
    assert await outcomes_in(settings) == []


async def test_a_move_gives_way_to_an_event_that_came_meanwhile(
    settings: Settings, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_users(settings, user(time_zone="Pacific/Auckland"))
    await schedule(runtime)
    remove = runtime.due.remove

    async def practised_meanwhile(*question: Any) -> None:
        await schedule(runtime, due=NOON + 30 * HOUR)
        await remove(*question)

    monkeypatch.setattr(runtime.due, "remove", practised_meanwhile)
    assert await Firing(runtime).fire(ALL) == 0
    assert await scheduled(runtime) == [(USER, NOON + 30 * HOUR)]


@pytest.mark.parametrize("at_once", [1, 3])
async def test_so_many_pages_are_under_way_at_once_as_the_setting_says_and_no_more_is_in_hand(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(turns, "PAGE", 4)
    monkeypatch.setattr(fire, "PAGE", 4)
    monkeypatch.setattr(turns, "PER_SHARD", 10)
    crowd = [number for shard in range(8) for number in users_of_shard(shard, 25)]
    under_way = most = 0
    in_hand: list[int] = []
    async with running(settings.model_copy(update={"fire_concurrency": at_once})) as runtime:
        add_users(settings, *(user(n) for n in crowd))
        await schedule(runtime, *crowd)
        write, read = runtime.producer.write, runtime.due.read

        async def counted_write(records: Any) -> None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await write(records)
            under_way -= 1

        async def counted_read(*question: Any) -> list[list[Due]]:
            found = await read(*question)
            in_hand.append(sum(map(len, found)))
            return found

        monkeypatch.setattr(runtime.producer, "write", counted_write)
        monkeypatch.setattr(runtime.due, "read", counted_read)
        assert await Firing(runtime).fire(ALL) == len(crowd)
        assert runtime.firing.main.get_stats()["pool_max"] == at_once
        assert {send.user_id for send in await sends_in(settings, runtime.topics.urgent)} == set(crowd)
    assert most <= at_once
    assert max(in_hand) <= 10, "of a shard at a time"


async def test_streak_savers_that_become_due_during_a_backlog_of_practice_are_next(
    settings: Settings, runtime: Runtime, clock: FileClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (turns, fire):
        monkeypatch.setattr(module, "PAGE", 4)
    monkeypatch.setattr(turns, "DEAL", 12)
    late, savers = users_of_shard(5, 60), users_of_shard(9, 6)
    add_users(settings, *(user(n) for n in late + savers))
    await schedule(runtime, *late, due=TEN - 2 * HOUR)
    await runtime.due.update([Practised(n, None, TEN, 0.0) for n in savers], [])
    clock.set(TEN - 1)
    write, written = runtime.producer.write, 0

    async def ten_o_clock(records: Any) -> None:
        nonlocal written
        written += 1
        if written == 2:
            clock.set(TEN)
        await write(records)

    monkeypatch.setattr(runtime.producer, "write", ten_o_clock)
    assert await Firing(runtime).fire(ALL) == len(late) + len(savers)
    rows = sql(settings, "SELECT kind FROM planned ORDER BY page_id")
    kinds = [KIND_BY_CODE[kind].name for (kind,) in rows]
    assert kinds.count("streak_saver") == 2
    # What had been dealt out by then, and not the rest of the backlog.
    assert max(n for n, kind in enumerate(kinds) if kind == "streak_saver") < 8 < len(kinds) - 5
