"""What the simulator keeps over a crash of its own."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from infra.simulator.journal import Accepted, Journal, read_journal
from infra.simulator.process import SimulatorProcess
from infra.simulator.push import Push

NOON = datetime(2026, 11, 21, 12, tzinfo=ZoneInfo("UTC")).timestamp()
PUSH = Push("apns", "device", "send-1", "practice", "Ünïcode\n", "Body", "collapse-1", NOON + 60)
OTHER = Push("fcm", "phone", "send-2", "comeback", "", "", "", None)


def written(path: Path, *pushes: Push) -> None:
    journal = Journal(path)
    for push in pushes:
        journal.write(push, NOON)
    journal.close()


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    assert list(read_journal(path)) == []
    written(path, PUSH, OTHER)
    assert list(read_journal(path)) == [Accepted(NOON, PUSH), Accepted(NOON, OTHER)]


def test_reading_may_begin_where_the_last_reading_ended(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path, PUSH)
    so_far = path.stat().st_size
    written(path, OTHER)
    assert list(read_journal(path, so_far)) == [Accepted(NOON, OTHER)]


def test_a_line_that_was_cut_off_is_dropped_and_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path, PUSH, OTHER)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert list(read_journal(path)) == [Accepted(NOON, PUSH)]
    written(path, OTHER)
    assert path.read_bytes() == whole


def test_a_cleared_journal_is_empty_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.write(PUSH, NOON)
    journal.clear()
    journal.write(OTHER, NOON)
    assert list(read_journal(path)) == [Accepted(NOON, OTHER)]


def test_a_killed_simulator_comes_back_where_it_was_and_knows_what_it_had_accepted(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path, PUSH, PUSH)
    with SimulatorProcess(tmp_path, journal=path) as simulator:
        first = simulator.url
        simulator.kill()
        written(path, OTHER)
        simulator.start()
        assert simulator.url == first
        stats = simulator.stats()
        assert (stats["accepted"], stats["distinct_sends"], stats["repeated_calls"]) == (3, 2, 1)
        simulator.reset()
    assert list(read_journal(path)) == []
