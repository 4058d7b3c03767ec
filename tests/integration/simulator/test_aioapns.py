"""The simulator as aioapns sees it."""

from __future__ import annotations

import pytest
from aioapns.common import NotificationRequest, PushType

from infra.simulator.process import SimulatorProcess
from tests.integration.simulator.asked import device, payload
from tests.integration.simulator.with_aioapns import ask_apns

pytestmark = pytest.mark.timeout(120)


def test_aioapns_is_told_of_success_and_the_witness_sees_the_push(simulator: SimulatorProcess) -> None:
    token = device()
    request = NotificationRequest(token, payload(), collapse_key="c1", time_to_live=600, push_type=PushType.ALERT)
    assert [result.status for result in ask_apns(simulator, request)] == ["200"]
    [shown] = simulator.pushes(token)
    assert {"title": "Hi", "body": "Practise", "send_id": "s1", "kind": "practice", "collapse_id": "c1"}.items() <= (
        shown.items()
    )
    assert simulator.stats()["by_provider"] == {"apns": 1, "fcm": 0}


def test_aioapns_is_told_of_dead_and_bad_tokens(simulator: SimulatorProcess) -> None:
    dead = device()
    simulator.set_faults(
        {"provider": "apns", "tokens": [dead], "reason": "Unregistered", "timestamp": 1_700_000_000_000}
    )
    results = ask_apns(
        simulator,
        NotificationRequest(dead, payload(), push_type=PushType.ALERT),
        NotificationRequest("not-a-token", payload(), push_type=PushType.ALERT),
        NotificationRequest(device(), payload(), push_type=PushType.ALERT),
    )
    told = [(result.status, result.description, result.timestamp) for result in results]
    assert told[:2] == [("410", "Unregistered", 1_700_000_000_000), ("400", "BadDeviceToken", None)]
    assert told[2][0] == "200"
    assert simulator.stats()["rejected"] == {"Unregistered": 1, "BadDeviceToken": 1}
    assert simulator.faults()[0]["hits"] == 1
