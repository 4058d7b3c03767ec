"""An hour's comebacks over the hour: flat, independent of shards and buckets, inside their windows, and stable."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batch.checkpoints import Checkpoint
from batch.moments import Moments
from batch.plan import Plan, plan
from batch.rounds import ROUND_SECONDS, Rounds
from shared.identity import MULTIPLIER, SPREADS, shard_of, spread, spreads
from shared.policy.kinds import COMEBACK
from shared.policy.localtime import known_zones, local_hour
from shared.policy.window import QuietHours, expires_at, spread_window
from shared.settings import Settings

HOUR = timedelta(hours=1)
START = datetime(2026, 11, 21, 12, tzinfo=UTC)
CROWD = 256_000


def settings(**values: object) -> Settings:
    return Settings.model_validate({"ladder_days": (7,), **values})


def ids(name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    if name == "dense":
        return np.arange(1, CROWD + 1)
    if name == "every 256th":
        return np.arange(1, CROWD + 1) * 256
    return np.random.default_rng(6).integers(1, 2**60, CROWD)


@pytest.mark.parametrize("name", ["dense", "every 256th", "sparse"])
def test_the_places_are_even_in_every_shard_and_bucket(name: str) -> None:
    users = ids(name)
    places = spreads(users)
    assert places.tolist()[:100] == [spread(user) for user in users[:100].tolist()]
    minutes = np.bincount(places * 60 // SPREADS, minlength=60)
    # 4,267 users a minute: six standard deviations of chance.
    assert abs(minutes - CROWD / 60).max() < 6 * math.sqrt(CROWD / 60)
    slots = users.astype(np.uint64) * np.uint64(MULTIPLIER)
    for bits in (8, 12):
        place = (slots >> np.uint64(64 - bits)).astype(np.int64)
        cells = np.bincount((place & 15) * 16 + places * 16 // SPREADS, minlength=256)
        assert abs(cells - CROWD / 256).max() < 8 * math.sqrt(CROWD / 256)


def test_shards_of_one_minute_are_all_shards() -> None:
    shards = {shard_of(user) for user in range(1, 100_000) if spread(user) < SPREADS // 60}
    assert len(shards) == 256


@hypothesis_settings(deadline=None, max_examples=20)
@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)),
    st.lists(st.integers(1, 600).map(lambda minutes: timedelta(minutes=minutes)), min_size=1, max_size=5),
    st.sampled_from([(18, 60), (21, 60), (20, 240), (7, 30), (2, 45)]),
)
def test_however_time_is_cut_every_user_is_in_one_interval(
    begin: datetime, cuts: list[timedelta], policy: tuple[int, int]
) -> None:
    """And it is the one in which the user is due."""
    own = settings(send_hour=policy[0], spread_minutes=policy[1])
    start = begin.replace(tzinfo=UTC)
    ends: dict[tuple[str, date], int] = {}
    for cut in cuts:
        run = plan(start, start + cut, own)
        for slot in run.slots:
            # Where an interval ends the next one goes on.
            key = slot.time_zone, slot.local_date
            assert slot.low == ends.get(key, 0) or (key not in ends and start == begin.replace(tzinfo=UTC))
            ends[key] = slot.high
            for place in (slot.low, slot.high - 1):
                due = slot.due_at + (place * slot.window >> 12)
                assert start.timestamp() <= due < (start + cut).timestamp()
        start += cut


@pytest.mark.parametrize(
    ("send_hour", "minutes", "window"),
    [(18, 60, 3600), (21, 60, 1800), (21, 20, 1200), (20, 120, 3600), (22, 60, 0), (3, 60, 0), (18, 0, 0)],
)
def test_the_spread_leaves_as_much_of_the_window_as_it_takes(send_hour: int, minutes: int, window: int) -> None:
    slots = plan(START, START + 24 * HOUR, settings(send_hour=send_hour, spread_minutes=minutes)).slots
    assert {slot.window for slot in slots if slot.time_zone == "Asia/Tokyo"} == {window}


@pytest.mark.parametrize("send_hour", range(24))
@pytest.mark.parametrize(
    "day",
    [date(2026, 11, 21), date(2026, 3, 28), date(2026, 3, 29), date(2026, 10, 25), date(2026, 9, 5), date(2026, 4, 4)],
    ids=str,
)
def test_nobody_is_due_in_quiet_hours_and_windows_are_those_of_the_policy(day: date, send_hour: int) -> None:
    """On the days on which clocks turn too, all over the world."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    quiet = QuietHours(22, 8)
    slots = plan(start, start + 12 * HOUR, settings(send_hour=send_hour)).slots
    moments = Moments(slots, quiet)
    users = np.array([next(user for user in range(1, 10**6) if spread(user) == place) for place in (0, 2048, 4095)])
    for user in users:
        numbers = np.arange(len(slots))
        due = moments.due(numbers, np.full(len(slots), user))
        expires = moments.expires(numbers, due)
        for slot, at, end in zip(slots, due.tolist(), expires.tolist(), strict=True):
            assert end == expires_at(COMEBACK, at, slot.time_zone, quiet)
            if slot.window:
                assert not quiet.covers(at, slot.time_zone)
                assert end - at >= slot.window
            else:
                assert quiet.covers(slot.due_at, slot.time_zone)


def test_every_zone_has_a_window_at_every_hour_of_the_day() -> None:
    for name in known_zones():
        assert local_hour(START.timestamp(), name) in range(24)
        assert spread_window(START.timestamp(), 60.0, name, QuietHours(0, 0)) == 60


def walked(run: Plan, begin: float, step: float) -> list[tuple[float, int, int]]:
    """(when, slot, place) of every place of the plan's slots, as rounds come to them with the clock."""
    places = {3: Checkpoint(), 200: Checkpoint()}
    pairs = np.array([(shard, n) for shard in places for n in range(len(run.slots))])
    rounds = Rounds(run, run.slots, places, pairs[:, 0], pairs[:, 1])
    now, found = begin, []
    while (cells := rounds.next(now)) is not None:
        for shard, slot, low, high in zip(
            *(column.tolist() for column in (cells.shards, cells.slots, cells.lows, cells.highs)), strict=True
        ):
            found += [(now, slot, place) for place in range(low, high) if shard == 3]
        rounds.end()
        wake = rounds.wake()
        while wake is not None and now < wake:
            now += step
    return found


def test_rounds_come_to_everybody_once_when_due_and_not_before() -> None:
    run = plan(START, START + HOUR, settings())
    found = walked(run, START.timestamp() - 5, 1.0)
    assert len(found) == len({(slot, place) for _, slot, place in found})
    assert len(found) == sum(slot.high - slot.low for slot in run.slots)
    for now, slot, place in found[:: len(found) // 5_000]:
        due = run.slots[slot].due_at + (place * run.slots[slot].window >> 12)
        assert -1 <= now - due <= ROUND_SECONDS + 1


def test_late_and_past_hours_have_one_round() -> None:
    run = plan(START, START + HOUR, settings())
    late = {now for now, _, _ in walked(run, START.timestamp() + 1800, 1.0)}
    assert min(late) == START.timestamp() + 1800
    assert {now for now, _, _ in walked(run, START.timestamp() + 7200, 1.0)} == {START.timestamp() + 7200}


def test_a_round_that_was_broken_off_is_ended_first() -> None:
    run = plan(START, START + HOUR, settings())
    at = START.timestamp()
    places = {3: Checkpoint(after_slot=2, after_place=100, after_id=7, begun=at + 60, until=at + 300), 4: Checkpoint()}
    pairs = np.array([(shard, n) for shard in places for n in range(3)])
    slots = [slot for slot in run.slots if slot.due_at == at][:3]
    rounds = Rounds(run, slots, places, pairs[:, 0], pairs[:, 1])
    cells = rounds.next(at + 600)
    assert cells is not None
    mine = cells[cells.shards == 3]
    assert mine.slots.tolist() == [1, 2]
    assert mine.lows.tolist() == [100, slots[2].before(at + 60)]
    assert mine.after_ids.tolist() == [7, 0]
    assert mine.highs.tolist()[0] == slots[1].before(at + 300)
    other = cells[cells.shards == 4]
    assert other.highs.tolist()[0] == slots[0].before(at + 601)
