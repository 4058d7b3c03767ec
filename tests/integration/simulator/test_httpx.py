"""The simulator as httpx sees it: every header and status."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from infra.simulator.client import AdminError
from infra.simulator.process import SimulatorProcess
from tests.integration.simulator.asked import device, payload, provider_headers
from tests.integration.simulator.with_httpx import h2

pytestmark = pytest.mark.timeout(120)


def test_httpx_speaks_http2_and_gets_its_id_back(simulator: SimulatorProcess) -> None:
    own = str(uuid4())
    sent = provider_headers(simulator, time.time(), **{"apns-id": own})
    with h2(simulator) as client:
        answer = client.post(f"/3/device/{device()}", headers=sent, json=payload())
        del sent["apns-id"]
        other = client.post(f"/3/device/{device()}", headers=sent, json=payload())
    assert (answer.http_version, answer.status_code, answer.headers["apns-id"]) == ("HTTP/2", 200, own)
    assert answer.content == b""
    assert len(other.headers["apns-id"]) == 36


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("GET", f"/3/device/{'ab' * 32}", b"", 405, "MethodNotAllowed"),
        ("POST", "/3/nowhere", b"", 404, "BadPath"),
        ("POST", f"/3/device/{'ab' * 32}", b"x" * 500_000, 413, "PayloadTooLarge"),
        ("POST", f"/3/device/{'ab' * 32}", b"", 400, "PayloadEmpty"),
        ("POST", f"/3/device/{'ab' * 32}", bytes(range(256)), 400, "PayloadEmpty"),
    ],
)
def test_httpx_is_told_what_apns_would_say(
    simulator: SimulatorProcess, method: str, path: str, body: bytes, status: int, reason: str
) -> None:
    with h2(simulator) as client:
        answer = client.request(method, path, headers=provider_headers(simulator, time.time()), content=body)
    assert (answer.status_code, answer.json()) == (status, {"reason": reason})


def test_a_body_without_a_length_is_read_only_to_its_limit(simulator: SimulatorProcess) -> None:
    parts = (b"x" * 1000 for _ in range(100))
    with h2(simulator) as client:
        answer = client.post(f"/3/device/{device()}", headers=provider_headers(simulator, time.time()), content=parts)
    assert answer.json() == {"reason": "PayloadTooLarge"}


def test_overload_says_when_to_come_back(simulator: SimulatorProcess) -> None:
    simulator.set_faults(
        {"provider": "apns", "reason": "TooManyRequests", "retry_after": 7, "limit": 1},
        {"provider": "apns", "reason": "ServiceUnavailable"},
    )
    with h2(simulator) as client:
        sent = provider_headers(simulator, time.time())
        answers = [client.post(f"/3/device/{device()}", headers=sent, json=payload()) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [429, 503]
    assert answers[0].headers["retry-after"] == "7"


def test_latency_delays_the_answer(simulator: SimulatorProcess) -> None:
    simulator.set_faults({"provider": "apns", "latency_ms": 200})
    with h2(simulator) as client:
        began = time.monotonic()
        client.post(f"/3/device/{device()}", headers=provider_headers(simulator, time.time()), json=payload())
        assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("path", ["/admin/stats", "/admin/pushes?token=x", "/admin/faults"])
def test_admin_is_closed_to_strangers(simulator: SimulatorProcess, path: str) -> None:
    with h2(simulator) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
        assert client.get(path, headers={"authorization": f"Basic {simulator.admin_token}"}).status_code == 401


def test_bad_rules_change_nothing(simulator: SimulatorProcess) -> None:
    simulator.set_faults({"provider": "apns", "reason": "Shutdown"})
    with pytest.raises(AdminError, match="Nonsense"):
        simulator.set_faults({"provider": "apns", "reason": "Nonsense"})
    assert len(simulator.faults()) == 1
