"""The error tables: every documented reason has its action, and what is not documented goes by its status."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stream.delivery import apns, fcm
from stream.delivery.apns import Apns
from stream.delivery.errors import Action, ErrorTable, Row, snake
from stream.delivery.exchange import PushResponse
from stream.delivery.fcm import Fcm

# Apple's 'Handling notification responses from APNs', the table of error strings, written down a second time.
APPLE = {
    Action.fail: "400 BadCollapseId, 400 BadExpirationDate, 400 BadMessageId, 400 BadPriority, 400 DuplicateHeaders, "
    "400 DeviceTokenNotForTopic, 400 InvalidPushType, 400 MissingDeviceToken, 400 PayloadEmpty, 404 BadPath, "
    "405 MethodNotAllowed, 413 PayloadTooLarge",
    Action.retire: "400 BadDeviceToken, 410 ExpiredToken, 410 Unregistered",
    Action.remint: "403 ExpiredProviderToken",
    Action.stop: "400 BadTopic, 400 MissingTopic, 400 TopicDisallowed, 403 BadCertificate, "
    "403 BadCertificateEnvironment, 403 BadEnvironmentKeyIdInToken, 403 Forbidden, "
    "403 InvalidProviderToken, 403 MissingProviderToken, "
    "403 UnrelatedKeyIdInToken",
    Action.retry: "400 IdleTimeout, 429 TooManyProviderTokenUpdates, 429 TooManyRequests, 500 InternalServerError, "
    "503 ServiceUnavailable, 503 Shutdown",
}
# Google's 'FCM v1 REST: ErrorCode', and google.rpc.Code for what FCM itself never saw.
GOOGLE = {
    Action.fail: "400 INVALID_ARGUMENT, 403 SENDER_ID_MISMATCH",
    Action.retire: "404 UNREGISTERED",
    Action.remint: "401 UNAUTHENTICATED",
    Action.stop: "401 THIRD_PARTY_AUTH_ERROR, 403 PERMISSION_DENIED, 404 NOT_FOUND",
    Action.retry: "429 QUOTA_EXCEEDED, 429 RESOURCE_EXHAUSTED, 500 INTERNAL, 503 UNAVAILABLE",
}


def _cases(documented: dict[Action, str]) -> list[tuple[int, str, Action]]:
    pairs = [(entry.split(), action) for action, entries in documented.items() for entry in entries.split(", ")]
    return [(int(status), code, action) for (status, code), action in pairs]


def _apns(status: int, body: Any, retry_after: float | None = None) -> Any:
    return Apns.verdict(Apns.__new__(Apns), PushResponse(status, json.dumps(body).encode(), retry_after))


def _fcm(status: int, code: str, state: str = "", retry_after: float | None = None) -> Any:
    details = [
        {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": []},
        {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code},
    ]
    error = {"code": status, "message": "", "status": state, "details": details if code else []}
    return Fcm.verdict(Fcm.__new__(Fcm), PushResponse(status, json.dumps({"error": error}).encode(), retry_after))


@pytest.mark.parametrize(("status", "code", "action"), _cases(APPLE))
def test_apns_reasons_are_acted_on(status: int, code: str, action: Action) -> None:
    verdict = _apns(status, {"reason": code})
    assert verdict.action is action
    assert verdict.reason == f"apns_{status}_{snake(code)}"


@pytest.mark.parametrize(("status", "code", "action"), _cases(GOOGLE))
def test_fcm_codes_are_acted_on(status: int, code: str, action: Action) -> None:
    for verdict in (_fcm(status, code), _fcm(status, "", state=code)):
        assert verdict.action is action
        assert verdict.reason == f"fcm_{status}_{code.lower()}"


@pytest.mark.parametrize(("rows", "documented"), [(apns.ROWS, APPLE), (fcm.ROWS, GOOGLE)])
def test_the_tables_hold_each_reason_once_and_no_other(rows: tuple[Row, ...], documented: dict[Action, str]) -> None:
    held = [(row.status, row.code, row.action) for row in rows]
    assert sorted(held) == sorted(_cases(documented))


def test_fcm_error_goes_before_the_status_beside_it() -> None:
    assert _fcm(404, "UNREGISTERED", state="NOT_FOUND").action is Action.retire


def test_200_is_accepted_by_both() -> None:
    assert _apns(200, None).action is Action.accepted
    assert Fcm.verdict(Fcm.__new__(Fcm), PushResponse(200, b"{}")).action is Action.accepted


def test_unregistered_says_since_when() -> None:
    assert _apns(410, {"reason": "Unregistered", "timestamp": 1_760_000_000_123}).at == 1_760_000_000.123
    assert _apns(410, {"reason": "Unregistered"}).at is None


def test_retry_after_is_honoured_and_a_quota_waits_a_minute_without_it() -> None:
    assert _fcm(429, "QUOTA_EXCEEDED", retry_after=7.0).after == 7.0
    assert _fcm(429, "QUOTA_EXCEEDED").after == 60.0
    assert _fcm(503, "UNAVAILABLE", retry_after=30.0).after == 30.0
    assert _fcm(503, "UNAVAILABLE").after is None
    assert _apns(503, {"reason": "Shutdown"}, retry_after=3.0).after == 3.0


@pytest.mark.parametrize(
    ("status", "action"),
    [
        *((status, Action.fail) for status in (302, 400, 404, 418)),
        *((status, Action.retry) for status in (408, 429, 500, 502, 504)),
        (401, Action.remint),
        (403, Action.stop),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"reason": 7}', b'{"error": "no"}', b"\xff", b'{"x":' + b"[" * 5000]
)
def test_what_is_not_documented_goes_by_its_status(status: int, action: Action, body: bytes) -> None:
    for provider in (Apns.__new__(Apns), Fcm.__new__(Fcm)):
        assert provider.verdict(PushResponse(status, body)).action is action


def test_reason_codes_are_short_snake_case_whatever_the_provider_says() -> None:
    table = ErrorTable("apns", ())
    assert table.verdict(418, "NeverHeard; DROP TABLE" + "x" * 100).reason.isidentifier()
    assert len(table.verdict(418, "x" * 1000).reason) < 64
    assert snake("TooManyRequests") == snake("TOO_MANY_REQUESTS") == "too_many_requests"
