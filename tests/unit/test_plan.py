"""What an hour asks of the batch path: every zone and local date once, whatever the clocks do."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batch.plan import Plan, Slot, plan, shard_groups
from shared.policy.localtime import instant_of, known_zones, local_date
from shared.settings import Settings

HOUR = timedelta(hours=1)
START = datetime(2026, 11, 21, 10, tzinfo=UTC)


def settings(send_hour: int = 18, ladder: tuple[int, ...] = (7,), spread: int = 0) -> Settings:
    return Settings.model_validate({"send_hour": send_hour, "ladder_days": ladder, "spread_minutes": spread})


def planned(start: datetime, cuts: list[timedelta], send_hour: int) -> Counter[tuple[str, date]]:
    """(zone, local date) -> how often these consecutive intervals planned it."""
    found: Counter[tuple[str, date]] = Counter()
    for cut in cuts:
        slots = plan(start, start + cut, settings(send_hour)).slots
        assert all(start.timestamp() <= slot.due_at < (start + cut).timestamp() for slot in slots)
        found.update((slot.time_zone, slot.local_date) for slot in slots)
        start += cut
    return found


def owed(start: datetime, end: datetime, send_hour: int) -> set[tuple[str, date]]:
    """Every (zone, local date) whose send hour falls in [start, end), counted from the calendar."""
    days = [start.date() + timedelta(days=n) for n in range(-3, (end - start).days + 4)]
    return {
        (name, day)
        for name in known_zones()
        for day in days
        if start.timestamp() <= instant_of(day, send_hour, name) < end.timestamp()
    }


@pytest.mark.parametrize(
    ("first", "send_hour"),
    [
        (date(2026, 11, 20), 18),  # ordinary days
        (date(2026, 10, 24), 1),  # Europe's clocks go back, 01:00 comes twice in London
        (date(2026, 3, 28), 1),  # Europe's go forward, Nuuk's with them
        (date(2026, 3, 28), 23),  # Nuuk skips 23:00
        (date(2026, 3, 8), 2),  # North America's go forward
        (date(2026, 11, 1), 1),  # and back
        (date(2026, 10, 3), 2),  # Australia's go forward, Lord Howe's by half an hour
        (date(2026, 4, 4), 2),  # and back
        (date(2026, 4, 23), 0),  # Cairo skips midnight
        (date(2026, 10, 29), 23),  # and has 23:00 twice
        (date(2026, 9, 6), 0),  # Santiago skips midnight
    ],
    ids=str,
)
def test_hours_around_a_change_plan_every_zone_and_date_once(first: date, send_hour: int) -> None:
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)
    found = planned(start, [HOUR] * 30, send_hour)
    assert set(found.values()) == {1}
    assert set(found) == owed(start, start + 30 * HOUR, send_hour)


@hypothesis_settings(deadline=None, max_examples=15)
@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)),
    st.lists(st.integers(1, 36 * 60).map(lambda minutes: timedelta(minutes=minutes)), min_size=1, max_size=4),
    st.integers(0, 23),
)
def test_however_time_is_cut_no_slot_is_lost_or_planned_twice(
    begin: datetime, cuts: list[timedelta], send_hour: int
) -> None:
    start = begin.replace(tzinfo=UTC)
    found = planned(start, cuts, send_hour)
    assert set(found.values()) <= {1}
    assert set(found) == owed(start, start + sum(cuts, timedelta()), send_hour)


def test_a_slot_has_the_local_date_of_its_moment() -> None:
    slots = plan(START, START + 24 * HOUR, settings()).slots
    assert {slot.time_zone for slot in slots} == known_zones()
    assert not [slot for slot in slots if local_date(slot.due_at, slot.time_zone) != slot.local_date]


def test_a_slot_is_planned_for_every_rung_of_the_ladder_once() -> None:
    slots = plan(START, START + HOUR, settings(ladder=(30, 7, 7, 14))).slots
    assert [slot.ladder_day for slot in slots if slot.time_zone == "Asia/Shanghai"] == [7, 14, 30]


def test_without_a_ladder_nothing_is_planned() -> None:
    assert plan(START, START + 24 * HOUR, settings(ladder=())).slots == ()


def test_an_interval_has_its_start_and_not_its_end() -> None:
    six = datetime(2026, 11, 21, 18, tzinfo=UTC)
    second = timedelta(seconds=1)
    assert "UTC" in {slot.time_zone for slot in plan(six, six + second, settings()).slots}
    assert "UTC" not in {slot.time_zone for slot in plan(six - second, six, settings()).slots}


def test_a_slot_knows_who_stands_on_its_rung() -> None:
    assert Slot("UTC", date(2026, 3, 3), 7, 0.0).last_active == date(2026, 2, 24)


def test_the_run_of_an_interval_has_one_name() -> None:
    run = plan(START, START + HOUR, settings())
    assert run.run_id == "comeback/2026-11-21T10:00Z/2026-11-21T11:00Z"
    assert plan(START, START + HOUR, settings()) == run


def test_the_name_of_a_run_does_not_depend_on_the_zone_it_was_asked_in() -> None:
    tokyo = timezone(9 * HOUR)
    moved = plan(START.astimezone(tokyo), (START + HOUR).astimezone(tokyo), settings())
    assert moved == plan(START, START + HOUR, settings())


def test_neighbouring_intervals_have_different_names() -> None:
    assert len({plan(START + n * HOUR, START + (n + 1) * HOUR, settings()).run_id for n in range(4)}) == 4


def test_a_plan_survives_its_way_to_another_task() -> None:
    run = plan(START, START + HOUR, settings())
    assert msgspec.json.decode(msgspec.json.encode(run), type=Plan) == run


@pytest.mark.parametrize(
    ("start", "end", "problem"),
    [
        (START.replace(tzinfo=None), START + HOUR, "aware"),
        (START, (START + HOUR).replace(tzinfo=None), "aware"),
        (START, START, "longer than nothing"),
        (START, START - HOUR, "longer than nothing"),
        (START, START + timedelta(days=7, seconds=1), "at most a week"),
    ],
)
def test_an_interval_that_makes_no_sense_is_refused(start: datetime, end: datetime, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        plan(start, end, settings())


def test_a_week_is_the_longest_interval() -> None:
    assert len(plan(START, START + timedelta(days=7), settings()).slots) == 7 * len(known_zones())


@hypothesis_settings(deadline=None)
@given(st.integers(1, 256), st.integers(1, 256))
def test_groups_hold_every_shard_once_and_alike(groups: int, shards: int) -> None:
    cut = shard_groups(groups, shards)
    assert len(cut) == groups
    assert [shard for group in cut for shard in group] == list(range(shards))
    assert max(map(len, cut)) - min(map(len, cut)) <= 1
