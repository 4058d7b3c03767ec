"""Apple Push Notification service: payload, headers and what its refusals mean.

Sources: Apple's 'Sending notification requests to APNs' and 'Handling notification responses from APNs'.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote

import msgspec
from apns2.payload import Payload, PayloadAlert

from shared.clock import Clock
from shared.policy.kinds import KINDS, Lane
from shared.settings import Settings
from shared.templates import Text
from stream.delivery.apns_token import ProviderToken
from stream.delivery.errors import ACCEPTED, Action, ErrorTable, Row, Verdict
from stream.delivery.exchange import PushRequest, PushResponse
from stream.delivery.provider import MAX_PAYLOAD, PayloadTooLargeError, Push, SetupError
from stream.delivery.spliced import KEPT, Spliced

IMMEDIATE, CONSIDERATE = 10, 5
"""apns-priority: at once, or when it suits the device's battery."""

ROWS = (
    Row(400, "BadCollapseId", Action.fail),
    # Also what a token of the sandbox gets in production, and every token of an app whose apns_url is the wrong one.
    Row(400, "BadDeviceToken", Action.retire, suspect=True),
    Row(400, "BadExpirationDate", Action.fail),
    Row(400, "BadMessageId", Action.fail),
    Row(400, "BadPriority", Action.fail),
    Row(400, "BadTopic", Action.stop),
    # Another app's token or a wrong topic. Not retired: a mistake in a setting must not empty the devices table.
    Row(400, "DeviceTokenNotForTopic", Action.fail),
    Row(400, "DuplicateHeaders", Action.fail),
    Row(400, "IdleTimeout", Action.retry),
    Row(400, "InvalidPushType", Action.fail),
    Row(400, "MissingDeviceToken", Action.fail),
    Row(400, "MissingTopic", Action.stop),
    Row(400, "PayloadEmpty", Action.fail),
    Row(400, "TopicDisallowed", Action.stop),
    Row(403, "BadCertificate", Action.stop),
    Row(403, "BadCertificateEnvironment", Action.stop),
    Row(403, "BadEnvironmentKeyIdInToken", Action.stop),
    Row(403, "ExpiredProviderToken", Action.remint),
    Row(403, "Forbidden", Action.stop),
    Row(403, "InvalidProviderToken", Action.stop),
    Row(403, "MissingProviderToken", Action.stop),
    Row(403, "UnrelatedKeyIdInToken", Action.stop),
    Row(404, "BadPath", Action.fail),
    Row(405, "MethodNotAllowed", Action.fail),
    Row(410, "ExpiredToken", Action.retire),
    Row(410, "Unregistered", Action.retire),
    Row(413, "PayloadTooLarge", Action.fail),
    # The same provider token again, a minute later: a new one would be one update more.
    Row(429, "TooManyProviderTokenUpdates", Action.retry, after=60),
    Row(429, "TooManyRequests", Action.retry),
    Row(500, "InternalServerError", Action.retry),
    Row(503, "ServiceUnavailable", Action.retry),
    Row(503, "Shutdown", Action.retry),
)


class _Refusal(msgspec.Struct):
    """The body of a refusal. `timestamp`: unix milliseconds, only with 410."""

    reason: str = ""
    timestamp: float | None = None


PRIORITIES = {name: IMMEDIATE if kind.lane is Lane.urgent else CONSIDERATE for name, kind in KINDS.items()}
"""Of each kind."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Refusal).decode
_table = ErrorTable("apns", ROWS)
_SEND_ID, _EXPIRES_AT = "<the send's id>", "<when it expires>"
_MARKS = _encode(_SEND_ID), _encode(_EXPIRES_AT)


def encoded(text: Text, kind: str, send_id: str, expires_at: int | str) -> bytes:
    """The payload as `apns2` has it."""
    alert = PayloadAlert(title=text.title, body=text.body)
    custom = {"send_id": send_id, "kind": kind, "expires_at": expires_at}
    return _encode(Payload(alert=alert, sound="default", custom=custom).dict())


def _spliced(text: Text, kind: str) -> Spliced | None:
    return Spliced.cut(encoded(text, kind, _SEND_ID, _EXPIRES_AT), _MARKS, (1, 1))


class Apns:
    """Pushes to iOS devices."""

    name = "apns"

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Raises `SetupError` where a setting that APNs needs is missing."""
        if not (settings.apns_key_file and settings.apns_key_id and settings.apns_team_id):
            raise SetupError("No key for APNs: set SURNIA_APNS_KEY_FILE, SURNIA_APNS_KEY_ID and SURNIA_APNS_TEAM_ID.")
        self._url = settings.apns_url.rstrip("/") + "/3/device/"
        self._topic = f"apns-topic: {settings.apns_topic}"
        self._kept = lru_cache(KEPT)(_spliced)
        self._token = ProviderToken(settings.apns_key_file, settings.apns_key_id, settings.apns_team_id, clock)

    async def credentials(self) -> str:
        return self._token.current()

    def reject(self, credentials: str) -> None:
        self._token.reject(credentials)

    def request(self, push: Push, credentials: str) -> PushRequest:
        send_id, kind, token, expires_at = push.send_id, push.send.kind, push.token, int(push.send.expires_at)
        spliced = self._kept(push.text, kind)
        body = (
            spliced.filled((_encode(send_id), b"%d" % expires_at))
            if spliced
            else encoded(push.text, kind, send_id, expires_at)
        )
        if len(body) > MAX_PAYLOAD:
            raise PayloadTooLargeError
        return PushRequest(
            # Nothing of what tokens are made of needs quoting, and to ask costs more than the rest of the line.
            self._url + (token if token.isalnum() and token.isascii() else quote(token, safe="")),
            [
                f"authorization: {credentials}",
                f"apns-id: {send_id}",
                f"apns-collapse-id: {send_id}",
                "apns-push-type: alert",
                f"apns-priority: {PRIORITIES[kind]}",
                f"apns-expiration: {expires_at}",
                self._topic,
                "content-type: application/json",
            ],
            body,
        )

    def verdict(self, answer: PushResponse) -> Verdict:
        if answer.status == 200:
            return ACCEPTED
        try:
            refusal = _decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            refusal = _Refusal()
        at = None if refusal.timestamp is None else refusal.timestamp / 1000
        return _table.verdict(answer.status, refusal.reason, answer.retry_after, at)
