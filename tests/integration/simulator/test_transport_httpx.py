"""Transport faults as httpx sees them."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from infra.simulator.process import SimulatorProcess
from tests.integration.simulator.asked import device, payload, provider_headers
from tests.integration.simulator.with_httpx import h2

pytestmark = pytest.mark.timeout(120)


def push(client: httpx.Client, simulator: SimulatorProcess, token: str) -> httpx.Response:
    return client.post(f"/3/device/{token}", headers=provider_headers(simulator, time.time()), json=payload())


@pytest.mark.parametrize(
    ("transport", "error"),
    [
        ({"fault": "reset"}, httpx.RemoteProtocolError),
        ({"fault": "reset", "when": "after"}, httpx.RemoteProtocolError),
        ({"fault": "drop", "when": "before"}, httpx.TransportError),
        ({"fault": "drop"}, httpx.TransportError),
        ({"fault": "drop", "tcp": "close"}, httpx.RemoteProtocolError),
        ({"fault": "goaway", "when": "after", "in_flight": "drop"}, httpx.TransportError),
        ({"fault": "stall"}, httpx.ReadTimeout),
        ({"fault": "stall", "when": "before", "scope": "connection"}, httpx.ReadTimeout),
    ],
)
def test_it_errs_as_it_says_and_the_witness_knows_what_was_accepted(
    simulator: SimulatorProcess, transport: dict[str, Any], error: type[Exception]
) -> None:
    simulator.set_faults({"provider": "apns", "limit": 1, "transport": transport})
    token = device()
    with h2(simulator) as client:
        client.timeout = 1.0
        with pytest.raises(error):
            push(client, simulator, token)
    when = transport.get("when") or ("before" if transport["fault"] in ("reset", "goaway") else "after")
    assert len(simulator.pushes(token)) == (when == "after")
    with h2(simulator) as client:
        assert push(client, simulator, token).status_code == 200


@pytest.mark.parametrize(("when", "last"), [("before", 0), ("after", 1)])
def test_a_goaway_names_the_last_stream_and_the_reason(simulator: SimulatorProcess, when: str, last: int) -> None:
    """httpx gives up at a GOAWAY and does not read the answer behind it; but it shows what the frame said."""
    goaway = {"fault": "goaway", "when": when, "reason": "Shutdown"}
    simulator.set_faults({"provider": "apns", "limit": 1, "transport": goaway})
    token = device()
    with h2(simulator) as client, pytest.raises(httpx.RemoteProtocolError) as told:
        push(client, simulator, token)
    assert f"last_stream_id:{last}," in str(told.value)
    assert b'"reason":"Shutdown'.hex() in str(told.value)
    assert len(simulator.pushes(token)) == last


@pytest.mark.parametrize("how", ["refused", "stranger"])
def test_a_handshake_that_fails(simulator: SimulatorProcess, how: str) -> None:
    simulator.set_faults({"transport": {"fault": "tls", "how": how}})
    with h2(simulator) as client, pytest.raises(httpx.ConnectError):
        push(client, simulator, device())
    assert simulator.stats()["transport"]["handshakes_failed"] >= 1


def test_a_front_answers_as_the_fast_server_does(simulator: SimulatorProcess) -> None:
    sent = provider_headers(simulator, time.time())
    asked: list[tuple[str, str, bytes]] = [
        ("POST", f"/3/device/{device()}", b'{"aps":{"alert":"x"}}'),
        ("GET", f"/3/device/{device()}", b""),
        ("POST", f"/3/device/{device()}", b"x" * 500_000),
        ("POST", f"/3/device/{device()}", b""),
        ("POST", "/3/nowhere?x=1", b""),
        ("GET", "/healthz", b""),
        ("POST", "/token", b"grant_type=nonsense"),
        ("POST", "/v1/projects/p/messages:send", b"{}"),
    ]

    def answers() -> list[tuple[str, int, bytes]]:
        with h2(simulator) as client:
            told = [client.request(method, path, headers=sent, content=body) for method, path, body in asked]
        return [(answer.http_version, answer.status_code, answer.content) for answer in told]

    fast = answers()
    simulator.set_faults({"transport": {"fault": "max_streams", "streams": 1000}})
    assert answers() == fast
    simulator.set_faults()
    assert answers() == fast


def test_an_answer_larger_than_the_clients_window_arrives_whole(simulator: SimulatorProcess) -> None:
    simulator.set_faults({"transport": {"fault": "max_streams", "streams": 1000}})
    token = device()
    admin = {"authorization": f"Bearer {simulator.admin_token}"}
    with h2(simulator) as client:
        for _ in range(400):
            assert push(client, simulator, token).status_code == 200
        told = client.get(f"/admin/pushes?token={token}", headers=admin)
    assert len(told.content) > 65_536
    assert len(told.json()) == 400
