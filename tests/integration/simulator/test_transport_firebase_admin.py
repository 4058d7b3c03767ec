"""Transport faults as firebase-admin and google-auth see them, over HTTP/1.1."""

from __future__ import annotations

from typing import Any

import firebase_admin
import pytest
from firebase_admin import messaging
from google.auth.exceptions import TransportError

from infra.simulator.process import SimulatorProcess
from tests.integration.simulator.with_firebase import FID, message

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize(
    ("transport", "calls"),
    [
        ({"fault": "drop", "when": "before"}, 1),
        ({"fault": "drop"}, 2),
        ({"fault": "drop", "tcp": "close"}, 2),
        ({"fault": "reset", "when": "after"}, 2),
        ({"fault": "goaway"}, 1),
        ({"fault": "goaway", "when": "after"}, 1),
        ({"fault": "stall", "seconds": 0.2}, 1),
    ],
)
def test_it_sends_again_what_was_not_answered(
    simulator: SimulatorProcess, firebase: firebase_admin.App, transport: dict[str, Any], calls: int
) -> None:
    simulator.set_faults({"provider": "fcm", "limit": 1, "transport": transport})
    assert messaging.send(message(), app=firebase).startswith("projects/surnia-demo/messages/")
    assert len(simulator.pushes(FID)) == calls


def test_googles_token_address_suffers_too(simulator: SimulatorProcess, firebase: firebase_admin.App) -> None:
    simulator.set_faults({"provider": "oauth", "transport": {"fault": "drop"}})
    with pytest.raises(TransportError):
        messaging.send(message(), app=firebase)
    assert simulator.stats()["accepted"] == 0
    simulator.set_faults()
    assert messaging.send(message(), app=firebase)
