"""The shared virtual clock: one file, many openers, turned by whoever holds it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.clock import FileClock, SystemClock, open_clock, utc

NOON = 1_795_262_400.0


def test_a_new_clock_says_what_it_was_set_to(tmp_path: Path) -> None:
    assert FileClock.create(tmp_path / "clock", NOON).now() == NOON


def test_creating_a_clock_makes_its_folder(tmp_path: Path) -> None:
    assert FileClock.create(tmp_path / "deep" / "down" / "clock", NOON).now() == NOON


def test_two_openers_share_one_time(tmp_path: Path) -> None:
    mine = FileClock.create(tmp_path / "clock", NOON)
    yours = FileClock(tmp_path / "clock")
    mine.set(NOON + 60)
    assert yours.now() == NOON + 60
    yours.set(NOON + 90)
    assert mine.now() == NOON + 90


def test_a_clock_can_be_turned_back(tmp_path: Path) -> None:
    clock = FileClock.create(tmp_path / "clock", NOON)
    clock.set(NOON - 86_400)
    assert clock.now() == NOON - 86_400


def test_a_clock_keeps_its_time_when_it_is_opened_again(tmp_path: Path) -> None:
    FileClock.create(tmp_path / "clock", NOON).set(NOON + 5)
    assert FileClock(tmp_path / "clock").now() == NOON + 5


def test_creating_a_clock_where_one_is_starts_it_anew(tmp_path: Path) -> None:
    FileClock.create(tmp_path / "clock", NOON)
    assert FileClock.create(tmp_path / "clock", NOON + 1).now() == NOON + 1


@pytest.fixture(scope="module")
def shared_clock(tmp_path_factory: pytest.TempPathFactory) -> FileClock:
    return FileClock.create(tmp_path_factory.mktemp("clock") / "clock", 0.0)


@hypothesis_settings(deadline=None)
@given(st.integers(0, 4_102_444_800_000_000))
def test_a_clock_keeps_every_microsecond(shared_clock: FileClock, microseconds: int) -> None:
    # Until the year 2100.
    shared_clock.set(microseconds / 1e6)
    assert round(shared_clock.now() * 1e6) == microseconds


def test_a_missing_clock_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        FileClock(tmp_path / "none")
    assert str(tmp_path / "none") in str(caught.value)
    assert "unset it to use the machine's clock" in str(caught.value)
    assert "SURNIA_CLOCK_FILE" in str(caught.value)


def test_a_missing_clock_is_not_made_by_opening_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_clock(tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_without_a_file_the_clock_is_the_machines() -> None:
    assert isinstance(open_clock(None), SystemClock)


def test_with_a_file_the_clock_is_the_shared_one(tmp_path: Path) -> None:
    FileClock.create(tmp_path / "clock", NOON)
    assert open_clock(tmp_path / "clock").now() == NOON


def test_the_machines_clock_says_what_time_it_is() -> None:
    before = time.time()
    now = SystemClock().now()
    assert before <= now <= time.time()


def test_an_instant_becomes_an_aware_utc_datetime() -> None:
    assert utc(NOON) == datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert utc(NOON).tzinfo is UTC
