"""Firebase Cloud Messaging, HTTP v1: the message and what its refusals mean.

Sources: Google's 'FCM v1 REST: projects.messages' and 'ErrorCode', 'Best practices when sending FCM messages at scale'.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, cast

import msgspec
from firebase_admin import messaging

from shared.policy.kinds import KINDS, Lane
from shared.settings import Settings
from shared.templates import Text
from stream.delivery.apns import PRIORITIES
from stream.delivery.errors import ACCEPTED, Action, ErrorTable, Row, Verdict
from stream.delivery.exchange import PushRequest, PushResponse
from stream.delivery.fcm_token import AccessToken
from stream.delivery.provider import MAX_PAYLOAD, PayloadTooLargeError, Push, SetupError
from stream.delivery.spliced import KEPT, Spliced

MAX_TTL = 28 * 24 * 3600
"""Seconds FCM keeps a message at most."""
QUOTA_WAIT = 60.0
"""Seconds to wait after a 429 without Retry-After ('Best practices … at scale'); for a 5xx it asks for backing off."""

ROWS = (
    # A token that is no token, or a mistake of ours: never retired on this, a mistake must not empty the devices table.
    Row(400, "INVALID_ARGUMENT", Action.fail),
    Row(401, "THIRD_PARTY_AUTH_ERROR", Action.stop),
    Row(401, "UNAUTHENTICATED", Action.remint),
    Row(403, "SENDER_ID_MISMATCH", Action.fail),
    Row(403, "PERMISSION_DENIED", Action.stop),
    Row(404, "UNREGISTERED", Action.retire),
    # Without FcmError's UNREGISTERED it is the project that does not exist.
    Row(404, "NOT_FOUND", Action.stop),
    Row(429, "QUOTA_EXCEEDED", Action.retry, after=QUOTA_WAIT, wide=True),
    Row(429, "RESOURCE_EXHAUSTED", Action.retry, after=QUOTA_WAIT, wide=True),
    Row(500, "INTERNAL", Action.retry),
    Row(503, "UNAVAILABLE", Action.retry),
)

_FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"


class _Detail(msgspec.Struct):
    type: str = msgspec.field(default="", name="@type")
    errorCode: str = ""  # noqa: N815  # Google's name


class _Error(msgspec.Struct):
    status: str = ""
    details: list[_Detail] = []


class _Refusal(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Refusal).decode
_table = ErrorTable("fcm", ROWS)


_URGENT = {name: kind.lane is Lane.urgent for name, kind in KINDS.items()}
_SEND_ID, _EXPIRES_AT, _TTL, _TOKEN = "<the send's id>", "<when it expires>", "<seconds to live>", "<the device>"
_MARKS = _encode(_SEND_ID), _encode(_EXPIRES_AT), _encode(_TTL), _encode(_TOKEN)
_TIMES = {False: (3, 1, 1, 1), True: (2, 2, 0, 1)}
"""How often each mark is in a message, by whether it is for iOS."""


def _data(kind: str, send_id: str, expires_at: str) -> dict[str, str]:
    return {"send_id": send_id, "kind": kind, "expires_at": expires_at}


def message(
    text: Text, kind: str, send_id: str, expires_at: str, ttl: int, token: str, ios: bool = False
) -> dict[str, Any]:
    """A message as firebase-admin encodes it. `ttl` in seconds, for Android."""
    made = messaging.Message(
        data=_data(kind, send_id, expires_at),
        notification=messaging.Notification(title=text.title, body=text.body),
        android=None if ios else _android(kind, send_id, ttl),
        apns=_ios(kind, send_id, expires_at) if ios else None,
    )
    # Set afterwards, because the constructor warns that `token` gives way to `fid`. The wire's field does not: what
    # devices register today are registration tokens, and an installation id is another thing (FINDINGS).
    made.token = token
    # Its public ways to encode all send, too.
    return cast("dict[str, Any]", messaging._MessagingService.encode_message(made))


def _android(kind: str, send_id: str, ttl: int) -> messaging.AndroidConfig:
    return messaging.AndroidConfig(
        collapse_key=send_id,
        priority="high" if _URGENT[kind] else "normal",
        ttl=ttl,
        # On the device a notification replaces the one with the same tag.
        notification=messaging.AndroidNotification(tag=send_id),
    )


def _ios(kind: str, send_id: str, expires_at: str) -> messaging.APNSConfig:
    """FCM hands it to APNs with these headers: a device that got the send from APNs itself shows it once."""
    return messaging.APNSConfig(
        headers={
            "apns-collapse-id": send_id,
            "apns-expiration": expires_at,
            "apns-priority": str(PRIORITIES[kind]),
        },
        payload=messaging.APNSPayload(aps=messaging.Aps(sound="default")),
    )


def encoded(made: dict[str, Any]) -> bytes:
    """The body of a request."""
    return _encode({"message": made})


class _Kept(NamedTuple):
    size: int
    """Bytes that count towards FCM's limit, but for what differs: keys and values of the data, and the texts."""
    spliced: Spliced | None


def _keep(text: Text, kind: str, ios: bool) -> _Kept:
    texts = (*_data(kind, "", ""), kind, text.title, text.body)
    made = message(text, kind, _SEND_ID, _EXPIRES_AT, 0, _TOKEN, ios)
    if not ios:
        made["android"]["ttl"] = _TTL
    return _Kept(sum(len(each.encode()) for each in texts), Spliced.cut(encoded(made), _MARKS, _TIMES[ios]))


class Fcm:
    """Pushes to Android devices, and to those of iOS that have a token of it."""

    name = "fcm"

    def __init__(self, settings: Settings) -> None:
        """Raises `SetupError` where a setting that FCM needs is missing."""
        if not settings.fcm_credentials_file:
            raise SetupError("No credentials for FCM: set SURNIA_FCM_CREDENTIALS_FILE to a service account's JSON.")
        self._token = AccessToken(settings.fcm_credentials_file, settings.ca_file, settings.push_timeout_seconds)
        self._kept = lru_cache(KEPT)(_keep)
        self._last: tuple[str | None, list[str]] = (None, [])
        self._url = f"{settings.fcm_url.rstrip('/')}/v1/projects/{self._token.project_id}/messages:send"

    async def credentials(self) -> str:
        return await self._token.current()

    def reject(self, credentials: str) -> None:
        self._token.reject(credentials)

    def request(self, push: Push, credentials: str) -> PushRequest:
        send_id, kind, token = push.send_id, push.send.kind, push.token
        expires_at = str(int(push.send.expires_at))
        ttl = min(MAX_TTL, max(0, int(push.send.expires_at - push.now)))
        size, spliced = self._kept(push.text, kind, push.ios)
        if size + len(send_id) + len(expires_at) > MAX_PAYLOAD:
            raise PayloadTooLargeError
        if spliced and token:
            body = spliced.filled((_encode(send_id), b'"%b"' % expires_at.encode(), b'"%ds"' % ttl, _encode(token)))
        else:
            body = encoded(message(push.text, kind, send_id, expires_at, ttl, token, push.ios))
        return PushRequest(self._url, self._headers(credentials), body)

    def _headers(self, credentials: str) -> list[str]:
        """The same list again and again: the engine then has nothing to tell libcurl."""
        if self._last[0] != credentials:
            lines = [f"authorization: {credentials}", "content-type: application/json"]
            self._last = credentials, lines
        return self._last[1]

    def verdict(self, answer: PushResponse) -> Verdict:
        if answer.status == 200:
            return ACCEPTED
        try:
            error = _decode(answer.body).error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            error = _Error()
        codes = (detail.errorCode for detail in error.details if detail.type == _FCM_ERROR and detail.errorCode)
        return _table.verdict(answer.status, next(codes, error.status), answer.retry_after)
