"""Firebase Cloud Messaging, HTTP v1: the message and what its refusals mean.

Sources: Google's 'FCM v1 REST: projects.messages' and 'ErrorCode', 'Best practices when sending FCM messages at scale'.
"""

from __future__ import annotations

import msgspec
from firebase_admin import messaging

from shared.policy.kinds import KINDS, Lane
from shared.settings import Settings
from stream.delivery.apns import apns_priority
from stream.delivery.errors import ACCEPTED, Action, ErrorTable, Row, Verdict
from stream.delivery.exchange import PushRequest, PushResponse
from stream.delivery.fcm_token import AccessToken
from stream.delivery.provider import MAX_PAYLOAD, PayloadTooLargeError, Push, SetupError

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


def _size(push: Push, data: dict[str, str]) -> int:
    """Bytes that count towards FCM's limit: keys and values of the data, and the texts."""
    texts = (*data, *data.values(), push.text.title, push.text.body)
    return sum(len(text.encode()) for text in texts)


def _android(push: Push) -> messaging.AndroidConfig:
    send = push.send
    return messaging.AndroidConfig(
        collapse_key=push.send_id,
        priority="high" if KINDS[send.kind].lane is Lane.urgent else "normal",
        ttl=min(MAX_TTL, max(0, int(send.expires_at - push.now))),
        # On the device a notification replaces the one with the same tag.
        notification=messaging.AndroidNotification(tag=push.send_id),
    )


def _ios(push: Push) -> messaging.APNSConfig:
    """FCM hands it to APNs with these headers: a device that got the send from APNs itself shows it once."""
    return messaging.APNSConfig(
        headers={
            "apns-collapse-id": push.send_id,
            "apns-expiration": str(int(push.send.expires_at)),
            "apns-priority": str(apns_priority(push.send.kind)),
        },
        payload=messaging.APNSPayload(aps=messaging.Aps(sound="default")),
    )


class Fcm:
    """Pushes to Android devices, and to those of iOS that have a token of it."""

    name = "fcm"

    def __init__(self, settings: Settings) -> None:
        """Raises `SetupError` where a setting that FCM needs is missing."""
        if not settings.fcm_credentials_file:
            raise SetupError("No credentials for FCM: set SURNIA_FCM_CREDENTIALS_FILE to a service account's JSON.")
        self._token = AccessToken(settings.fcm_credentials_file, settings.ca_file, settings.push_timeout_seconds)
        self._url = f"{settings.fcm_url.rstrip('/')}/v1/projects/{self._token.project_id}/messages:send"

    async def credentials(self) -> str:
        return await self._token.current()

    def reject(self, credentials: str) -> None:
        self._token.reject(credentials)

    def request(self, push: Push, credentials: str) -> PushRequest:
        send = push.send
        data = {"send_id": push.send_id, "kind": send.kind, "expires_at": str(int(send.expires_at))}
        if _size(push, data) > MAX_PAYLOAD:
            raise PayloadTooLargeError
        message = messaging.Message(
            data=data,
            notification=messaging.Notification(title=push.text.title, body=push.text.body),
            android=None if push.ios else _android(push),
            apns=_ios(push) if push.ios else None,
        )
        # Set afterwards, because the constructor warns that `token` gives way to `fid`. The wire's field does not: what
        # devices register today are registration tokens, and an installation id is another thing (FINDINGS).
        message.token = push.token
        encoded = messaging._MessagingService.encode_message(message)  # its public ways to encode all send, too
        return PushRequest(
            self._url,
            [f"authorization: {credentials}", "content-type: application/json"],
            _encode({"message": encoded}),
        )

    def verdict(self, answer: PushResponse) -> Verdict:
        if answer.status == 200:
            return ACCEPTED
        try:
            error = _decode(answer.body).error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            error = _Error()
        codes = (detail.errorCode for detail in error.details if detail.type == _FCM_ERROR and detail.errorCode)
        return _table.verdict(answer.status, next(codes, error.status), answer.retry_after)
