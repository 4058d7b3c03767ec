"""Rules of transport faults: from a file, by admin calls while clients are connected, and for every provider."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import httpx
import pytest

from infra.simulator.client import AdminError
from infra.simulator.process import SimulatorProcess
from tests.integration.simulator.asked import TOPIC, device, payload, provider_headers
from tests.integration.simulator.with_httpx import h2
from tests.integration.simulator.with_pycurl import Told, curls

pytestmark = pytest.mark.timeout(120)

FRONT = {"transport": {"fault": "max_streams", "streams": 1000}}


def test_a_rule_file_is_in_force_from_the_first_connection(tmp_path: Path) -> None:
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps([{"provider": "apns", "limit": 1, "transport": {"fault": "reset", "when": "after"}}]))
    with SimulatorProcess(tmp_path, faults=faults, environment={"SURNIA_APNS_TOPIC": TOPIC}) as simulator:
        with curls(simulator) as client:
            assert [told.status for told in (*client.push(device()), *client.push(device()))] == [0, 200]
        assert simulator.stats()["accepted"] == 2


def test_a_connected_client_meets_a_fault_and_its_end_without_losing_a_push(simulator: SimulatorProcess) -> None:
    token = device()
    with curls(simulator) as client:
        for rules in ([], [FRONT], [], [FRONT], []):
            simulator.set_faults(*rules)
            assert client.push(token, token) == [Told(200)] * 2
    assert simulator.stats()["accepted"] == 10


def test_a_client_that_never_pauses_sees_the_port_change_hands(simulator: SimulatorProcess) -> None:
    """A switch costs a client a connection at most: what was accepted was answered, what failed was not accepted."""
    ended = threading.Event()
    told: list[int] = []

    def send() -> None:
        with curls(simulator) as client:
            while not ended.is_set():
                told.extend(answer.status for answer in client.push(device(), device(), device()))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for number in range(10):
            simulator.set_faults(*([FRONT] if number % 2 else []))
    finally:
        ended.set()
        sender.join(30)
    assert simulator.stats()["accepted"] == told.count(200) > 0


def test_admin_calls_go_through_whatever_befalls_the_providers(simulator: SimulatorProcess) -> None:
    simulator.set_faults(
        {"transport": {"fault": "tls"}},
        {"transport": {"fault": "max_streams", "streams": 0}},
        {"provider": "apns", "transport": {"fault": "drop"}},
    )
    assert len(simulator.faults()) == 3
    with pytest.raises(AdminError, match="REFUSED_STREAM"):
        simulator.set_faults({"transport": {"fault": "reset", "when": "after", "code": 7}})
    simulator.set_faults()
    with h2(simulator) as client:
        assert client.get("/healthz").status_code == 200


def test_it_ends_in_time_though_a_client_is_kept_waiting(tmp_path: Path) -> None:
    simulator = SimulatorProcess(tmp_path, environment={"SURNIA_APNS_TOPIC": TOPIC}).start()
    try:
        simulator.set_faults({"provider": "apns", "transport": {"fault": "stall", "scope": "connection"}})
        with h2(simulator) as client:
            client.timeout = 0.3
            sent = provider_headers(simulator, time.time())
            with pytest.raises(httpx.ReadTimeout):
                client.post(f"/3/device/{device()}", headers=sent, json=payload())
            began = time.monotonic()
            simulator.stop()
            assert time.monotonic() - began < 8
    finally:
        simulator.stop()
