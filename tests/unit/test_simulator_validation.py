"""What APNs, FCM and the token address refuse, and the reason they give."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from infra.simulator.apns import Apns, message_id
from infra.simulator.apns_auth import ProviderTokens
from infra.simulator.fcm import Fcm
from infra.simulator.oauth import GOOGLE_AUDIENCE, GRANT, AccessTokens, TokenEndpoint
from infra.simulator.push import Push
from infra.simulator.reasons import Refused
from infra.simulator.reply import apns_refusal, fcm_refusal

NOW = 1_800_000_000
DEVICE = "ab" * 32
FID = "dYZ-1234567890abcdefgh"
EMAIL = "surnia@demo.iam.gserviceaccount.com"
APNS_KEY = ec.generate_private_key(ec.SECP256R1())
FCM_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
BODY: dict[str, Any] = {
    "aps": {"alert": {"title": "Hi", "body": "Practise"}},
    "send_id": "s1",
    "kind": "practice",
    "expires_at": NOW + 60,
}


class Still:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.at = float(NOW)

    def now(self) -> float:
        return self.at


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def provider_token(key: Any = APNS_KEY, kid: str | None = "KEY", **claims: Any) -> str:
    headers = {"kid": kid} if kid else {}
    return "bearer " + jwt.encode({"iss": "TEAM", "iat": NOW} | claims, key, algorithm="ES256", headers=headers)


def headers(**changes: str | None) -> dict[str, str]:
    sent: dict[str, str | None] = {
        "authorization": provider_token(),
        "apns-topic": "com.example.app",
        "apns-push-type": "alert",
    }
    sent |= {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in sent.items() if value is not None}


def apns() -> Apns:
    return Apns(ProviderTokens(pem(APNS_KEY), "TEAM", "KEY"), "com.example.app")


def check(sent: dict[str, str], body: bytes | None = None, device: str = DEVICE, now: float = NOW) -> Push:
    return apns().check(device, message_id(sent), sent, json.dumps(BODY).encode() if body is None else body, now)


def test_apns_accepts_a_good_request() -> None:
    sent = headers(apns_collapse_id="c1", apns_expiration=str(NOW + 30), apns_priority="5", apns_id=str(uuid4()))
    assert check(sent) == Push("apns", DEVICE, "s1", "practice", "Hi", "Practise", "c1", NOW + 30)


def test_apns_takes_the_earlier_expiration() -> None:
    assert check(headers(apns_expiration=str(NOW + 90))).expires_at == NOW + 60
    assert check(headers(apns_expiration="0")).expires_at == NOW + 60


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"authorization": None}, "MissingProviderToken"),
        ({"authorization": "bearer x.y.z"}, "InvalidProviderToken"),
        ({"authorization": "bearer " + "x" * 5000}, "InvalidProviderToken"),
        ({"authorization": provider_token().replace("bearer", "basic")}, "InvalidProviderToken"),
        ({"authorization": provider_token(ec.generate_private_key(ec.SECP256R1()))}, "InvalidProviderToken"),
        ({"authorization": provider_token(kid=None)}, "InvalidProviderToken"),
        ({"authorization": provider_token(kid="OTHER")}, "InvalidProviderToken"),
        ({"authorization": provider_token(iss="OTHER")}, "InvalidProviderToken"),
        ({"authorization": provider_token(iat=NOW + 3600)}, "InvalidProviderToken"),
        ({"authorization": provider_token(iat=NOW - 3601)}, "ExpiredProviderToken"),
        ({"apns_topic": None}, "MissingTopic"),
        ({"apns_topic": "com.example.other"}, "TopicDisallowed"),
        ({"apns_topic": "no topic"}, "BadTopic"),
        ({"apns_push_type": None}, "InvalidPushType"),
        ({"apns_push_type": "shout"}, "InvalidPushType"),
        ({"apns_priority": "7"}, "BadPriority"),
        ({"apns_expiration": "tomorrow"}, "BadExpirationDate"),
        ({"apns_expiration": "-1"}, "BadExpirationDate"),
        ({"apns_id": "17"}, "BadMessageId"),
        ({"apns_collapse_id": "é" * 33}, "BadCollapseId"),
    ],
)
def test_apns_refuses_bad_headers(changes: dict[str, str | None], reason: str) -> None:
    with pytest.raises(Refused, match=f"^{reason}$"):
        check(headers(**changes))


@pytest.mark.parametrize("device", ["zz" * 32, "ab" * 31, "a" * 65, "ab" * 101, "../../admin/stats", "ab" * 32 + "\n"])
def test_apns_refuses_what_is_no_device_token(device: str) -> None:
    with pytest.raises(Refused, match="^BadDeviceToken$"):
        check(headers(), device=device)


def test_apns_refuses_a_missing_device_token() -> None:
    with pytest.raises(Refused, match="^MissingDeviceToken$"):
        check(headers(), device="")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "PayloadEmpty"),
        (b"{", "PayloadEmpty"),
        (b"[]", "PayloadEmpty"),
        (b"{}", "PayloadEmpty"),
        (b'{"aps":{"alert":"\xff"}}', "PayloadEmpty"),
        (b"[" * 4000, "PayloadEmpty"),
        (b'{"aps":{"alert":"' + b"a" * 4096 + b'"}}', "PayloadTooLarge"),
    ],
)
def test_apns_refuses_bad_payloads(body: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=f"^{reason}$"):
        check(headers(), body)


@given(st.binary(max_size=300), st.text(max_size=100), st.text(max_size=100))
def test_apns_never_fails_on_any_bytes(body: bytes, device: str, value: str) -> None:
    sent = headers(apns_id=value, apns_collapse_id=value, apns_expiration=value, apns_priority=value)
    with pytest.raises(Refused):
        check(sent, body, device)


def test_a_provider_token_expires_by_the_clock_though_it_was_verified_before() -> None:
    tokens = ProviderTokens(pem(APNS_KEY))
    header = provider_token()
    tokens.check(header, NOW)
    with pytest.raises(Refused, match="^ExpiredProviderToken$"):
        tokens.check(header, NOW + 3601)


def test_a_410_says_since_when_in_milliseconds() -> None:
    reply = apns_refusal(Refused("Unregistered", timestamp=NOW * 1000), "id")
    assert reply.status == 410
    assert json.loads(reply.body) == {"reason": "Unregistered", "timestamp": NOW * 1000}


def fcm() -> tuple[Fcm, str, Still]:
    clock = Still()
    tokens = AccessTokens(clock)
    return Fcm(tokens, "demo"), f"Bearer {tokens.issue()}", clock


def send(message: Any, project: str = "demo") -> tuple[Push, bool]:
    service, authorization, _ = fcm()
    return service.check(project, authorization, json.dumps({"message": message}).encode())


def test_fcm_accepts_a_good_message() -> None:
    message = {
        "fid": FID,
        "notification": {"title": "Hi", "body": "Practise"},
        "data": {"send_id": "s1", "kind": "practice", "expires_at": str(NOW + 60)},
        "android": {"collapse_key": "c1", "ttl": "3600s", "priority": "high"},
    }
    assert send(message) == (Push("fcm", FID, "s1", "practice", "Hi", "Practise", "c1", NOW + 60), False)


def test_fcm_knows_both_spellings_of_proto_json() -> None:
    service, authorization, _ = fcm()
    body = {"validateOnly": True, "message": {"token": FID, "android": {"collapseKey": "c1"}}}
    push, only_validated = service.check("demo", authorization, json.dumps(body).encode())
    assert (push.collapse_id, only_validated) == ("c1", True)


IOS: dict[str, Any] = {
    "token": FID,
    "notification": {"title": "Hi", "body": "Practise"},
    "data": {"send_id": "s1", "kind": "practice", "expires_at": str(NOW + 60)},
    "apns": {
        "headers": {
            "apns-collapse-id": "c1",
            "apns-expiration": str(NOW + 30),
            "apns-priority": "10",
            "apns-push-type": "alert",
        },
        "payload": {"aps": {"sound": "default"}},
    },
}


def ios(**apns: Any) -> dict[str, Any]:
    return IOS | {"apns": IOS["apns"] | apns}


def test_fcm_hands_the_apns_part_on_to_an_ios_device() -> None:
    assert send(IOS)[0] == Push("fcm", FID, "s1", "practice", "Hi", "Practise", "c1", NOW + 30)
    later = ios(headers={"APNS-Collapse-Id": "c2", "apns-expiration": str(NOW + 90)})
    assert send(later)[0] == Push("fcm", FID, "s1", "practice", "Hi", "Practise", "c2", NOW + 60)
    assert send(IOS | {"apns": {"fcmOptions": {"image": "x"}, "liveActivityToken": "t"}})[0].collapse_id == ""


def test_an_apns_payload_overrides_title_text_and_data() -> None:
    payload = {
        "aps": {"alert": {"title": "T", "body": "B"}},
        "send_id": "s2",
        "kind": "comeback",
        "expires_at": NOW + 9,
    }
    assert send(ios(payload=payload))[0] == Push("fcm", FID, "s2", "comeback", "T", "B", "c1", NOW + 9)


def test_a_message_for_both_platforms_is_judged_as_android_takes_it() -> None:
    push, _ = send(IOS | {"android": {"collapse_key": "a1"}})
    assert (push.collapse_id, push.expires_at) == ("a1", NOW + 60)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"apns-collapse-id": "é" * 33}, "BadCollapseId"),
        ({"apns-expiration": "tomorrow"}, "BadExpirationDate"),
        ({"apns-priority": "7"}, "BadPriority"),
        ({"apns-push-type": "shout"}, "InvalidPushType"),
    ],
)
def test_fcm_refuses_what_apns_would(headers: dict[str, str], said: str) -> None:
    with pytest.raises(Refused, match="^INVALID_ARGUMENT$") as refused:
        send(ios(headers=headers))
    assert said in refused.value.message and refused.value.field == "message.apns.headers"


def test_what_shows_nothing_must_not_be_urgent() -> None:
    silent = {name: part for name, part in ios(payload={}).items() if name != "notification"}
    with pytest.raises(Refused) as refused:
        send(silent)
    assert "priority 5" in refused.value.message
    assert send(silent | {"apns": {"headers": {"apns-priority": "5"}}})[0].title == ""


@pytest.mark.parametrize(
    "message",
    [
        ios(headers={"apns-expiration": 5}),
        ios(headers=["apns-priority"]),
        ios(payload={"aps": []}),
        ios(payload={"aps": {"alert": 5}}),
        ios(payload={"text": "a" * 4096}),
        ios(surprise=1),
        None,
        {},
        {"token": FID, "fid": FID},
        {"token": FID, "topic": "news"},
        {"topic": "news"},
        {"token": "short"},
        {"token": "spaces are not allowed"},
        {"token": FID, "surprise": 1},
        {"token": FID, "data": {"count": 3}},
        {"token": FID, "data": {"from": "me"}},
        {"token": FID, "data": {"google.id": "1"}},
        {"token": FID, "data": {"text": "é" * 2100}},
        {"token": FID, "android": {"ttl": "1h"}},
        {"token": FID, "android": {"ttl": "2419201s"}},
        {"token": FID, "android": {"priority": "urgent"}},
    ],
)
def test_fcm_refuses_bad_messages(message: Any) -> None:
    with pytest.raises(Refused, match="^INVALID_ARGUMENT$") as refused:
        send(message)
    error = json.loads(fcm_refusal(refused.value).body)["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert error["details"][0]["errorCode"] == "INVALID_ARGUMENT"


def test_fcm_refuses_another_project() -> None:
    with pytest.raises(Refused, match="^PERMISSION_DENIED$"):
        send({"token": FID}, project="other")


@given(st.binary(max_size=300))
def test_fcm_never_fails_on_any_bytes(body: bytes) -> None:
    service, authorization, _ = fcm()
    with pytest.raises(Refused):
        service.check("demo", authorization, body)


def test_an_access_token_ends_after_an_hour() -> None:
    service, authorization, clock = fcm()
    body = json.dumps({"message": {"token": FID}}).encode()
    service.check("demo", authorization, body)
    clock.at += 3600
    with pytest.raises(Refused, match="^UNAUTHENTICATED$"):
        service.check("demo", authorization, body)


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer nobody", "Bearer " + "x" * 1000])
def test_fcm_refuses_strangers(authorization: str | None) -> None:
    service, _, _ = fcm()
    with pytest.raises(Refused, match="^UNAUTHENTICATED$") as refused:
        service.check("demo", authorization, b"{}")
    assert fcm_refusal(refused.value).status == 401


def assertion(key: Any = FCM_KEY, **changes: Any) -> str:
    claims = {
        "iss": EMAIL,
        "aud": GOOGLE_AUDIENCE,
        "iat": NOW,
        "exp": NOW + 3600,
        "scope": "https://www.googleapis.com/auth/firebase.messaging",
    }
    return jwt.encode(claims | changes, key, algorithm="RS256")


def exchange(form: dict[str, str]) -> dict[str, Any]:
    clock = Still()
    endpoint = TokenEndpoint(AccessTokens(clock), pem(FCM_KEY), clock, EMAIL, "https://here/token")
    return endpoint.answer(urlencode(form).encode())


def test_a_good_assertion_gets_a_token() -> None:
    for audience in (GOOGLE_AUDIENCE, "https://here/token"):
        answer = exchange({"grant_type": GRANT, "assertion": assertion(aud=audience)})
        assert (answer["expires_in"], answer["token_type"]) == (3600, "Bearer")


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({}, "unsupported_grant_type"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": GRANT}, "invalid_request"),
        ({"grant_type": GRANT, "assertion": "x"}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": assertion(aud="https://elsewhere")}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": assertion(iss="stranger")}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": assertion(iat=NOW - 7200, exp=NOW - 3600)}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": assertion(exp=NOW + 36000)}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": assertion(scope="email")}, "invalid_scope"),
        (
            {
                "grant_type": GRANT,
                "assertion": assertion(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
            },
            "invalid_grant",
        ),
    ],
)
def test_a_bad_assertion_gets_none(form: dict[str, str], reason: str) -> None:
    with pytest.raises(Refused, match=f"^{reason}$"):
        exchange(form)


@pytest.mark.parametrize("body", [b"\xff", b"no form", b"&".join([b"a=1"] * 100)])
def test_what_is_no_form_gets_no_token(body: bytes) -> None:
    clock = Still()
    with pytest.raises(Refused, match="^invalid_request$"):
        TokenEndpoint(AccessTokens(clock), pem(FCM_KEY), clock, EMAIL, "https://here/token").answer(body)
