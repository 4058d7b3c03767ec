"""The due index's promises, on a real server: late and repeated events change nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.due.index import DUE_KINDS, Due, DueIndex, Practised, Started
from shared.gate import GateUnavailableError
from shared.identity import SHARDS, shard_of
from shared.keyspace import open_keyspace
from shared.policy.kinds import ABANDONED_LESSON, PRACTICE, STREAK_SAVER
from shared.settings import Settings
from tests.integration.support import redis_state, users_of_shard

ALL = range(SHARDS)
EVER = 1e12


@pytest.fixture
async def index(settings: Settings) -> AsyncIterator[DueIndex]:
    keyspace = open_keyspace(settings)
    yield DueIndex(keyspace)
    await keyspace.close()


async def all_of(index: DueIndex, shards: Sequence[int] = ALL) -> dict[str, dict[int, float]]:
    """Kind -> user -> due, of everything scheduled."""
    return {kind.name: dict(await index.due(kind, shards, EVER, 10_000)) for kind in DUE_KINDS}


async def test_a_lesson_schedules_practice_and_streak_saver_and_a_start_its_timer(index: DueIndex) -> None:
    await index.update([Practised(1, 100.5, 200.25, 50.0)], [Started(2, 60.125)])
    assert await all_of(index) == {"practice": {1: 100.5}, "streak_saver": {1: 200.25}, "abandoned_lesson": {2: 60.125}}


async def test_a_late_event_never_moves_a_reminder_earlier_and_a_newer_one_moves_it_on(index: DueIndex) -> None:
    await index.update([Practised(1, 100.0, 200.0, 0.0)], [Started(1, 60.0)])
    await index.update([Practised(1, 99.0, 199.0, 0.0)], [Started(1, 59.0)])
    assert await all_of(index) == {"practice": {1: 100.0}, "streak_saver": {1: 200.0}, "abandoned_lesson": {1: 60.0}}
    await index.update([Practised(1, 101.0, 201.0, 0.0)], [Started(1, 61.0)])
    assert await all_of(index) == {"practice": {1: 101.0}, "streak_saver": {1: 201.0}, "abandoned_lesson": {1: 61.0}}


async def test_a_due_that_is_left_out_leaves_that_reminder_as_it_is(index: DueIndex) -> None:
    await index.update([Practised(1, 100.0, 200.0, 0.0)], [])
    await index.update([Practised(1, None, 300.0, 0.0), Practised(2, 150.0, None, 0.0)], [])
    assert await all_of(index) == {
        "practice": {1: 100.0, 2: 150.0},
        "streak_saver": {1: 300.0},
        "abandoned_lesson": {},
    }


@pytest.mark.parametrize(("timer", "stays"), [(499.0, False), (500.0, False), (501.0, True)])
async def test_a_completed_lesson_takes_away_only_timers_of_lessons_started_before_it(
    index: DueIndex, timer: float, stays: bool
) -> None:
    await index.update([], [Started(1, timer), Started(2, timer)])
    await index.update([Practised(1, 900.0, 950.0, started_before=500.0)], [])
    assert (await all_of(index))["abandoned_lesson"] == ({1: timer} if stays else {}) | {2: timer}


async def test_a_lesson_started_after_the_one_completed_in_the_same_batch_keeps_its_timer(index: DueIndex) -> None:
    await index.update([Practised(1, 900.0, 950.0, started_before=500.0)], [Started(1, 501.0)])
    assert (await all_of(index))["abandoned_lesson"] == {1: 501.0}


async def test_who_was_moved_to_a_later_time_meanwhile_stays(index: DueIndex) -> None:
    await index.update([Practised(user, 100.0, None, 0.0) for user in (1, 2, 3)], [])
    fired = await index.due(PRACTICE, ALL, 100.0, 10)
    await index.update([Practised(2, 180.0, None, 0.0)], [])
    await index.remove(PRACTICE, fired)
    assert (await all_of(index))["practice"] == {2: 180.0}


async def test_taking_out_one_kind_leaves_the_others_and_strangers_are_no_error(index: DueIndex) -> None:
    await index.update([Practised(1, 100.0, 100.0, 0.0)], [])
    await index.remove(PRACTICE, [Due(1, 100.0), Due(77, 100.0)])
    assert await all_of(index) == {"practice": {}, "streak_saver": {1: 100.0}, "abandoned_lesson": {}}


async def test_a_time_in_microseconds_comes_back_exactly_and_can_be_taken_out(index: DueIndex) -> None:
    due = 1_795_262_400.123457
    await index.update([Practised(1, due, None, 0.0)], [])
    found = await index.due(PRACTICE, ALL, due, 10)
    assert found == [Due(1, due)]
    await index.remove(PRACTICE, found)
    assert await index.due(PRACTICE, ALL, EVER, 10) == []


async def test_forgotten_users_are_in_no_set_any_more(index: DueIndex, settings: Settings) -> None:
    await index.update([Practised(user, 100.0, 200.0, 0.0) for user in (1, 2)], [Started(1, 60.0)])
    await index.forget([1, 99])
    assert await all_of(index) == {"practice": {2: 100.0}, "streak_saver": {2: 200.0}, "abandoned_lesson": {}}


async def test_what_is_due_comes_longest_waiting_first_and_at_most_so_many_a_shard(index: DueIndex) -> None:
    first, second = users_of_shard(3, 5), users_of_shard(4, 3)
    await index.update([Practised(user, 100.0 - n, None, 0.0) for n, user in enumerate(first + second)], [])
    found = await index.due(PRACTICE, [3, 4], 100.0, 2)
    assert found == [Due(first[4], 96.0), Due(first[3], 97.0), Due(second[2], 93.0), Due(second[1], 94.0)]
    assert await index.due(PRACTICE, [4], 100.0, 10) == [Due(second[n], 95.0 - n) for n in (2, 1, 0)]


async def test_a_reminder_is_due_at_its_time_and_not_before(index: DueIndex) -> None:
    await index.update([Practised(1, 100.0, None, 0.0)], [])
    assert await index.due(PRACTICE, ALL, 99.999, 10) == []
    assert await index.due(PRACTICE, ALL, 100.0, 10) == [Due(1, 100.0)]
    assert await index.due(STREAK_SAVER, ALL, 100.0, 10) == []


async def test_waiting_counts_what_is_due_over_all_shards_and_kinds(index: DueIndex) -> None:
    await index.update([Practised(user, 100.0, 200.0, 0.0) for user in range(1, 301)], [Started(7, 90.0)])
    assert [await index.waiting(now) for now in (89.0, 90.0, 100.0, 199.0, 200.0)] == [0, 1, 301, 301, 601]


async def test_one_users_keys_share_the_shards_hash_tag(index: DueIndex, settings: Settings) -> None:
    await index.update([Practised(12345, 100.0, 200.0, 0.0)], [Started(12345, 60.0)])
    tag = f"due:{{{shard_of(12345)}}}:"
    written = {name for name in await redis_state(settings) if name.startswith(b"due:")}
    assert written == {f"{tag}{kind.name}".encode() for kind in DUE_KINDS}


async def test_an_index_that_does_not_answer_says_so(settings: Settings) -> None:
    from pydantic import SecretStr

    keyspace = open_keyspace(settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}))
    with pytest.raises(GateUnavailableError):
        await DueIndex(keyspace).due(ABANDONED_LESSON, [0], 0.0, 1)
    await keyspace.close()


User = st.integers(1, 3)
Instant = st.integers(1, 9).map(float)
Lessons = st.lists(st.builds(Practised, User, st.none() | Instant, st.none() | Instant, Instant), max_size=3)
Batches = st.lists(st.tuples(Lessons, st.lists(st.builds(Started, User, Instant), max_size=3)), max_size=6)


@given(Batches, st.data())
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True
)
async def test_redelivering_any_run_of_batches_gives_the_same_index(
    settings: Settings, batches: list[tuple[list[Practised], list[Started]]], data: st.DataObject
) -> None:
    """A worker that crashed is handed again what it had not committed: a run that ends where it got to."""
    crash = data.draw(st.integers(0, len(batches)), "crashed after")
    again = data.draw(st.integers(0, crash), "committed")
    keyspace = open_keyspace(settings)
    index = DueIndex(keyspace)
    states = []
    for delivered in (batches, batches[:crash] + batches[again:]):
        await keyspace.everywhere("FLUSHDB")
        for lessons, timers in delivered:
            await index.update(lessons, timers)
        states.append(await all_of(index, [shard_of(user) for user in (1, 2, 3)]))
    await keyspace.close()
    assert states[0] == states[1]
