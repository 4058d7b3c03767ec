"""What is put into a request: headers, payloads, and credentials that are renewed in time."""

from __future__ import annotations

import asyncio
import json
import warnings
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.auth import exceptions
from msgspec.structs import replace

from shared.settings import Settings
from shared.templates import Text
from shared.wire.sends import Send
from stream.delivery.apns import Apns
from stream.delivery.apns_token import LEAST_AGE, LIFE, ProviderToken
from stream.delivery.fcm import Fcm
from stream.delivery.provider import CredentialsError, PayloadTooLargeError, Push, SetupError

NOW = 1_760_000_000.0


class HandClock:
    """A clock that a test turns."""

    def __init__(self, instant: float = NOW) -> None:
        self.instant = instant

    def now(self) -> float:
        return self.instant


def _pem(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "apns.p8").write_bytes(_pem(ec.generate_private_key(ec.SECP256R1())))
    account = {
        "type": "service_account",
        "project_id": "hawk",
        "private_key": _pem(rsa.generate_private_key(65537, 2048)).decode(),
        "client_email": "owl@hawk.example",
        "token_uri": "https://localhost:1/token",
    }
    (folder / "fcm.json").write_text(json.dumps(account))
    return Settings(
        apns_url="https://api.push.apple.com",
        apns_topic="com.example.app",
        fcm_url="https://fcm.googleapis.com/",
        ca_file=None,
        apns_key_file=folder / "apns.p8",
        apns_key_id="KEY1234567",
        apns_team_id="TEAM123456",
        fcm_credentials_file=folder / "fcm.json",
    )


@pytest.fixture(scope="module")
def fcm(settings: Settings) -> Fcm:
    return Fcm(settings)


def _push(kind: Any = "streak_saver", body: str = "Today", token: str = "ab12") -> Push:
    send = Send(7, kind, date(2026, 11, 21), NOW, NOW + 600.9, "UTC", "en", 3, 0, ())
    return Push(send, str(send.send_id), Text("Hello", body), token, NOW)


def _headers(lines: list[str]) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in lines)


def test_an_apns_request_carries_the_send_id_as_id_and_collapse_id(settings: Settings) -> None:
    push = _push(token="a/b?c")
    request = Apns(settings, HandClock()).request(push, "bearer x")
    assert request.url == "https://api.push.apple.com/3/device/a%2Fb%3Fc"
    assert _headers(request.headers) == {
        "authorization": "bearer x",
        "apns-id": push.send_id,
        "apns-collapse-id": push.send_id,
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": "1760000600",
        "apns-topic": "com.example.app",
        "content-type": "application/json",
    }
    assert json.loads(request.body) == {
        "aps": {"alert": {"title": "Hello", "body": "Today"}, "sound": "default"},
        "send_id": push.send_id,
        "kind": "streak_saver",
        "expires_at": 1_760_000_600,
    }


def test_an_fcm_request_replaces_its_own_notification(fcm: Fcm) -> None:
    push = _push()
    request = fcm.request(push, "Bearer x")
    assert request.url == "https://fcm.googleapis.com/v1/projects/hawk/messages:send"
    assert json.loads(request.body)["message"] == {
        "token": "ab12",
        "notification": {"title": "Hello", "body": "Today"},
        "data": {"send_id": push.send_id, "kind": "streak_saver", "expires_at": "1760000600"},
        "android": {
            "collapse_key": push.send_id,
            "priority": "high",
            "ttl": "600s",
            "notification": {"tag": push.send_id},
        },
    }


def test_an_iphone_is_reached_by_fcm_with_the_collapse_id_that_apns_would_get(fcm: Fcm) -> None:
    push = replace(_push(), ios=True)
    message = json.loads(fcm.request(push, "Bearer t").body)["message"]
    assert message["apns"] == {
        "headers": {
            "apns-collapse-id": push.send_id,
            "apns-expiration": str(int(push.send.expires_at)),
            "apns-priority": "10",
        },
        "payload": {"aps": {"sound": "default"}},
    }
    assert "android" not in message


def test_a_token_is_sent_without_a_warning(fcm: Fcm) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fcm.request(_push(), "Bearer x")


def test_the_batch_path_waits_for_the_device(settings: Settings, fcm: Fcm) -> None:
    request = Apns(settings, HandClock()).request(_push("comeback"), "")
    assert _headers(request.headers)["apns-priority"] == "5"
    assert json.loads(fcm.request(_push("comeback"), "").body)["message"]["android"]["priority"] == "normal"


def test_a_payload_over_4096_bytes_is_not_sent(settings: Settings, fcm: Fcm) -> None:
    for provider in (Apns(settings, HandClock()), fcm):
        provider.request(_push(body="あ" * 1250), "")
        with pytest.raises(PayloadTooLargeError):
            provider.request(_push(body="あ" * 1350), "")


@pytest.mark.parametrize("missing", ["apns_key_file", "apns_key_id", "apns_team_id", "fcm_credentials_file"])
def test_a_missing_setting_is_named(settings: Settings, missing: str) -> None:
    bare = settings.model_copy(update={missing: None})
    with pytest.raises(SetupError, match=missing.upper()):
        Fcm(bare) if missing.startswith("fcm") else Apns(bare, HandClock())


def test_a_file_that_is_no_key_is_named(settings: Settings, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text("no key")
    with pytest.raises(SetupError, match="bad"):
        Apns(settings.model_copy(update={"apns_key_file": bad}), HandClock())
    with pytest.raises(SetupError, match="bad"):
        Fcm(settings.model_copy(update={"fcm_credentials_file": bad}))


def _provider_token(settings: Settings, clock: HandClock) -> ProviderToken:
    assert settings.apns_key_file
    return ProviderToken(settings.apns_key_file, settings.apns_key_id, settings.apns_team_id, clock)


def _issued(value: str) -> int:
    return int(jwt.decode(value.removeprefix("bearer "), options={"verify_signature": False})["iat"])


def test_a_provider_token_verifies_with_its_key(settings: Settings) -> None:
    token = _provider_token(settings, HandClock()).current().removeprefix("bearer ")
    key = _provider_token(settings, HandClock())._key.public_key()
    claims = jwt.decode(token, key, algorithms=["ES256"], options={"verify_iat": False})
    assert jwt.get_unverified_header(token)["kid"] == "KEY1234567"
    assert claims["iss"] == "TEAM123456"
    assert 0 <= NOW - claims["iat"] < LIFE


def test_a_provider_token_is_never_older_than_40_minutes_nor_changed_within_20(settings: Settings) -> None:
    clock = HandClock()
    token = _provider_token(settings, clock)
    changes: list[float] = []
    last = token.current()
    for minute in range(300):
        clock.instant = NOW + 60.0 * minute
        value = token.current()
        assert 0 <= clock.now() - _issued(value) <= 40 * 60
        if value != last:
            changes.append(clock.now())
        last = value
    assert len(changes) >= 6
    assert all(later - earlier >= LEAST_AGE for earlier, later in pairwise(changes))


def test_two_workers_have_the_same_provider_token(settings: Settings) -> None:
    first, second = HandClock(NOW), HandClock(NOW + 5)
    assert _provider_token(settings, first).current() == _provider_token(settings, second).current()


def test_a_rejected_provider_token_is_renewed_only_after_20_minutes(settings: Settings) -> None:
    clock = HandClock(NOW - NOW % LIFE + 60)
    token = _provider_token(settings, clock)
    value = token.current()
    token.reject(value)
    assert token.current() == value
    clock.instant += LEAST_AGE
    token.reject("bearer another")
    assert token.current() == value
    token.reject(value)
    assert _issued(token.current()) == clock.now()


def test_a_clock_turned_back_makes_a_new_provider_token(settings: Settings) -> None:
    clock = HandClock()
    token = _provider_token(settings, clock)
    token.current()
    clock.instant -= 86_400
    assert _issued(token.current()) <= clock.now()


def _error(name: str, *args: Any, **kwargs: Any) -> Exception:
    """One of google-auth's errors, which have no annotations."""
    error: Exception = getattr(exceptions, name)(*args, **kwargs)
    return error


def _tokens_from(monkeypatch: pytest.MonkeyPatch, fcm: Fcm, *ends: timedelta | Exception) -> list[int]:
    """Let the token server answer with tokens that live so long; returns the list of calls."""
    calls: list[int] = []
    account = fcm._token._credentials
    monkeypatch.setattr(account, "token", None)
    monkeypatch.setattr(account, "expiry", None)

    def refresh(_request: object) -> None:
        calls.append(len(calls))
        end = ends[len(calls) - 1]
        if isinstance(end, Exception):
            raise end
        account.token = f"t{len(calls)}"
        account.expiry = datetime.now(UTC).replace(tzinfo=None) + end

    monkeypatch.setattr(account, "refresh", refresh)
    return calls


@pytest.mark.asyncio
async def test_an_access_token_is_fetched_once_for_all_who_wait(monkeypatch: pytest.MonkeyPatch, fcm: Fcm) -> None:
    calls = _tokens_from(monkeypatch, fcm, timedelta(hours=1))
    values = await asyncio.gather(*(fcm.credentials() for _ in range(20)))
    assert set(values) == {"Bearer t1"}
    assert len(calls) == 1


@pytest.mark.asyncio
async def test_an_access_token_is_renewed_before_it_ends(monkeypatch: pytest.MonkeyPatch, fcm: Fcm) -> None:
    _tokens_from(monkeypatch, fcm, timedelta(minutes=2), timedelta(hours=1))
    assert [await fcm.credentials() for _ in range(3)] == ["Bearer t1", "Bearer t2", "Bearer t2"]


@pytest.mark.asyncio
async def test_a_rejected_access_token_is_renewed(monkeypatch: pytest.MonkeyPatch, fcm: Fcm) -> None:
    _tokens_from(monkeypatch, fcm, timedelta(hours=1), timedelta(hours=1))
    value = await fcm.credentials()
    fcm.reject("Bearer another")
    assert await fcm.credentials() == value
    fcm.reject(value)
    assert await fcm.credentials() == "Bearer t2"


@pytest.mark.asyncio
async def test_a_token_that_still_holds_is_used_while_the_token_server_is_down(
    monkeypatch: pytest.MonkeyPatch, fcm: Fcm
) -> None:
    _tokens_from(monkeypatch, fcm, timedelta(minutes=2), _error("TransportError", "down"))
    assert [await fcm.credentials() for _ in range(2)] == ["Bearer t1", "Bearer t1"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (_error("TransportError", "down"), True),
        (_error("RefreshError", "busy", retryable=True), True),
        (_error("RefreshError", "invalid_grant"), False),
        (OSError("no such CA file"), False),
    ],
)
async def test_without_a_token_it_is_said_whether_waiting_may_help(
    monkeypatch: pytest.MonkeyPatch, fcm: Fcm, error: Exception, transient: bool
) -> None:
    _tokens_from(monkeypatch, fcm, error)
    with pytest.raises(CredentialsError) as caught:
        await fcm.credentials()
    assert caught.value.transient is transient
