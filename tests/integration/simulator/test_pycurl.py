"""The simulator as libcurl sees it, and the witness under many requests at once."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.simulator.process import SimulatorProcess
from shared.clock import FileClock
from tests.integration.simulator.asked import TOPIC, payload, provider_headers
from tests.integration.simulator.with_pycurl import post_all

pytestmark = pytest.mark.timeout(120)

# 23:30 in Berlin, 14:30 in Los Angeles.
NIGHT_IN_BERLIN = datetime(2026, 11, 21, 22, 30, tzinfo=UTC).timestamp()


def test_pycurl_sends_many_at_once_and_all_are_counted(simulator: SimulatorProcess) -> None:
    sent = provider_headers(simulator, time.time(), **{"apns-collapse-id": "c1"})
    requests = [(f"/3/device/{number:064x}", sent, json.dumps(payload(f"s{number}")).encode()) for number in range(500)]
    assert set(post_all(simulator, requests)) == {200}
    again = requests[:20]
    assert set(post_all(simulator, again)) == {200}
    stats = simulator.stats()
    assert (stats["accepted"], stats["shown_twice"], stats["repeated_calls"]) == (520, 20, 20)
    assert (stats["distinct_devices"], stats["distinct_sends"]) == (500, 500)


def test_the_witness_goes_by_the_shared_clock_and_the_devices_own_time(tmp_path: Path) -> None:
    berlin, los_angeles = "a" * 64, "b" * 64
    devices = tmp_path / "devices.csv"
    devices.write_text(f"token,time_zone\n{berlin},Europe/Berlin\n{los_angeles},America/Los_Angeles\n")
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps([{"provider": "apns", "token_prefix": "c", "reason": "Unregistered"}]))
    clock_file = tmp_path / "clock"
    clock = FileClock.create(clock_file, NIGHT_IN_BERLIN)
    environment = {"SURNIA_CLOCK_FILE": str(clock_file), "SURNIA_APNS_TOPIC": TOPIC}
    with SimulatorProcess(tmp_path, devices=devices, faults=faults, environment=environment) as simulator:
        sent = provider_headers(simulator, NIGHT_IN_BERLIN)

        def push(token: str, kind: str) -> int:
            body = json.dumps(payload(f"{kind}-{token}", kind) | {"expires_at": NIGHT_IN_BERLIN + 600}).encode()
            return post_all(simulator, [(f"/3/device/{token}", sent, body)])[0]

        assert [push(berlin, "practice"), push(berlin, "streak_saver"), push(los_angeles, "practice")] == [200] * 3
        assert push("c" * 64, "practice") == 410
        assert simulator.stats()["outside_window_by"] == {"quiet_hours": 1, "expired": 0}
        clock.set(NIGHT_IN_BERLIN + 601)
        assert push(los_angeles, "campaign") == 200
        stats = simulator.stats()
        assert stats["outside_window_by"] == {"quiet_hours": 1, "expired": 1}
        assert stats["outside_window"] == 2
        assert stats["by_hour"] == {"2026-11-21T22:00:00Z": 4}
        clock.set(NIGHT_IN_BERLIN + 3601)
        assert push(los_angeles, "comeback") == 403
