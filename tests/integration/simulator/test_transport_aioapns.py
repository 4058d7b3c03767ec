"""Transport faults as aioapns sees them. It sends again whatever it was not told of, so the ambiguous window shows."""

from __future__ import annotations

from typing import Any

import pytest
from aioapns.common import NotificationRequest, PushType

from infra.simulator.process import SimulatorProcess
from tests.integration.simulator.asked import device, payload
from tests.integration.simulator.with_aioapns import ask_apns

pytestmark = pytest.mark.timeout(120)


def push(token: str = "") -> NotificationRequest:
    return NotificationRequest(token or device(), payload(), collapse_key="c1", push_type=PushType.ALERT)


@pytest.mark.parametrize(
    ("transport", "calls"),
    [
        ({"fault": "reset"}, 1),
        ({"fault": "reset", "when": "after"}, 2),
        ({"fault": "drop", "when": "before"}, 1),
        ({"fault": "drop"}, 2),
        ({"fault": "goaway"}, 1),
        ({"fault": "goaway", "when": "after", "in_flight": "drop"}, 2),
        ({"fault": "stall", "when": "before"}, 1),
        ({"fault": "stall"}, 2),
    ],
)
def test_it_delivers_in_the_end_and_calls_twice_only_in_the_ambiguous_window(
    simulator: SimulatorProcess, transport: dict[str, Any], calls: int
) -> None:
    simulator.set_faults({"provider": "apns", "limit": 1, "transport": transport})
    token = device()
    assert [told.status for told in ask_apns(simulator, push(token))] == ["200"]
    assert len(simulator.pushes(token)) == calls
    stats = simulator.stats()
    assert (stats["accepted"], stats["repeated_calls"]) == (calls, calls - 1)


def test_it_comes_back_after_a_handshake_that_failed(simulator: SimulatorProcess) -> None:
    simulator.set_faults({"limit": 1, "transport": {"fault": "tls"}})
    assert [told.status for told in ask_apns(simulator, push())] == ["200"]
    assert simulator.stats()["transport"]["handshakes_failed"] == 1


def test_it_keeps_to_one_stream_until_it_is_authorised(simulator: SimulatorProcess) -> None:
    simulator.set_faults({"transport": {"fault": "one_stream_until_authorised", "streams": 7}})
    told = ask_apns(simulator, push(), *(push() for _ in range(20)))
    assert {result.status for result in told} == {"200"}
    assert simulator.stats()["transport"]["streams_refused"] == 0


def test_it_keeps_to_the_streams_it_is_allowed(simulator: SimulatorProcess) -> None:
    simulator.set_faults(
        {"transport": {"fault": "max_streams", "streams": 4, "after": 1}},
        {"provider": "apns", "latency_ms": 10},
    )
    assert {result.status for result in ask_apns(simulator, *(push() for _ in range(5)))} == {"200"}
    told = ask_apns(simulator, *(push() for _ in range(40)), at_once=True)
    assert {result.status for result in told} == {"200"}
    assert simulator.stats()["accepted"] == 45
