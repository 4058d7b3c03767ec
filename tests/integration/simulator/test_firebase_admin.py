"""The simulator as firebase-admin and google-auth see it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from uuid import uuid4

import firebase_admin
import pytest
from firebase_admin import credentials, exceptions, messaging
from google.auth.exceptions import RefreshError

from infra.simulator.process import SimulatorProcess
from infra.stack.keys import ensure_provider_keys
from tests.integration.simulator.with_firebase import FID, ios_message, message

pytestmark = pytest.mark.timeout(120)


def test_firebase_admin_gets_a_token_and_sends(simulator: SimulatorProcess, firebase: firebase_admin.App) -> None:
    assert messaging.send(message(), app=firebase).startswith("projects/surnia-demo/messages/")
    [shown] = simulator.pushes(FID)
    assert (shown["provider"], shown["kind"], shown["collapse_id"]) == ("fcm", "comeback", "c1")


def test_firebase_admin_sends_to_an_ios_device_over_apns(
    simulator: SimulatorProcess, firebase: firebase_admin.App
) -> None:
    expiration = int(time.time()) + 600
    messaging.send(ios_message(**{"apns-expiration": str(expiration)}), app=firebase)
    [shown] = simulator.pushes(FID)
    assert (shown["provider"], shown["title"], shown["collapse_id"], shown["expires_at"]) == (
        "fcm", "Hi", "c1", expiration,
    )  # fmt: skip
    with pytest.raises(exceptions.InvalidArgumentError, match="BadCollapseId"):
        messaging.send(ios_message(collapse_id="c" * 65), app=firebase)


def test_firebase_admin_only_validates(simulator: SimulatorProcess, firebase: firebase_admin.App) -> None:
    messaging.send(message(), dry_run=True, app=firebase)
    assert simulator.stats()["accepted"] == 0


def test_firebase_admin_sends_each_over_http2(simulator: SimulatorProcess, firebase: firebase_admin.App) -> None:
    messages = [message(fid=f"{FID}-{number}", send_id=f"s{number}") for number in range(20)]

    async def send_all() -> messaging.BatchResponse:
        try:
            return await messaging.send_each_async(messages, app=firebase)
        finally:
            # firebase-admin would close its connections from another event loop than theirs.
            await messaging._get_messaging_service(firebase)._async_client.aclose()

    assert asyncio.run(send_all()).success_count == 20
    assert simulator.stats()["distinct_devices"] == 20


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("UNREGISTERED", messaging.UnregisteredError),
        ("SENDER_ID_MISMATCH", messaging.SenderIdMismatchError),
        ("QUOTA_EXCEEDED", messaging.QuotaExceededError),
        ("THIRD_PARTY_AUTH_ERROR", messaging.ThirdPartyAuthError),
        ("INVALID_ARGUMENT", exceptions.InvalidArgumentError),
        ("UNAUTHENTICATED", exceptions.UnauthenticatedError),
    ],
)
def test_firebase_admin_understands_every_refusal(
    simulator: SimulatorProcess, firebase: firebase_admin.App, reason: str, error: type[Exception]
) -> None:
    # Without Retry-After: firebase-admin would wait for as long as it says, and ask again.
    simulator.set_faults({"provider": "fcm", "reason": reason, "retry_after": None})
    with pytest.raises(error):
        messaging.send(message(), app=firebase)
    assert simulator.stats()["accepted"] == 0


def test_firebase_admin_with_a_strangers_key_gets_no_token(
    simulator: SimulatorProcess, firebase: firebase_admin.App, tmp_path: Path
) -> None:
    account = json.loads(ensure_provider_keys(tmp_path, f"{simulator.url}/token").fcm_credentials_file.read_text())
    stranger = firebase_admin.initialize_app(credentials.Certificate(account), name=uuid4().hex)
    try:
        with pytest.raises(RefreshError, match="invalid_grant"):
            messaging.send(message(), app=stranger)
    finally:
        firebase_admin.delete_app(stranger)
    assert simulator.stats()["rejected"]["invalid_grant"] >= 1
