"""APNs' checks of a request, in the order of its headers, token and payload.

Apple's "Sending notification requests to APNs" (headers, limits) and "Handling notification responses from APNs".
"""

from __future__ import annotations

import re
from typing import Final, Protocol, overload
from uuid import uuid4

import msgspec

from infra.simulator.apns_auth import ProviderTokens
from infra.simulator.push import Push, earlier, instant
from infra.simulator.reasons import Refused

PAYLOAD_LIMIT: Final = 4096
VOIP_PAYLOAD_LIMIT: Final = 5120
COLLAPSE_ID_LIMIT: Final = 64  # bytes
PRIORITIES: Final = frozenset({"1", "5", "10"})
PUSH_TYPES: Final = frozenset(
    {"alert", "background", "complication", "controls", "fileprovider", "liveactivity"}
    | {"location", "mdm", "pushtotalk", "voip", "widgets"}
)
# Apple calls the length variable; today's tokens have 64 digits.
_TOKEN: Final = re.compile(r"[0-9A-Fa-f]{64,200}")
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
_TOPIC: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,254}")
_SECONDS: Final = re.compile(r"[0-9]{1,12}")


class Headers(Protocol):
    """The part of RSGI's headers that the checks use; names are lowercase."""

    @overload
    def get(self, key: str, /) -> str | None: ...

    @overload
    def get(self, key: str, default: str, /) -> str: ...


class Alert(msgspec.Struct):
    title: str = ""
    body: str = ""


class Aps(msgspec.Struct):
    alert: str | Alert | None = None

    def shown(self) -> tuple[str, str]:
        """Title and text."""
        return (self.alert.title, self.alert.body) if isinstance(self.alert, Alert) else ("", self.alert or "")


class Payload(msgspec.Struct):
    """`aps`, and beside it what Surnia adds for the witness."""

    aps: Aps
    send_id: str = ""
    kind: str = ""
    expires_at: int | float | str | None = None


_decode = msgspec.json.Decoder(Payload).decode


def message_id(headers: Headers) -> str:
    """The request's `apns-id`, or a new one as APNs makes it where there is no good one."""
    given = headers.get("apns-id")
    return given if given and _UUID.fullmatch(given) else str(uuid4()).upper()


class Apns:
    """Checks requests against one app's topic and one team's key."""

    def __init__(self, tokens: ProviderTokens, topic: str) -> None:
        self._tokens = tokens
        self._topic = topic

    def check(self, token: str, apns_id: str, headers: Headers, body: bytes, now: float) -> Push:
        """The push that a request asks for; raises Refused with Apple's reason. `apns_id` is `message_id`'s."""
        if headers.get("apns-id", apns_id) != apns_id:
            raise Refused("BadMessageId")
        self._tokens.check(headers.get("authorization"), now)
        push_type, collapse_id, expiration = self._check_headers(headers)
        if not token:
            raise Refused("MissingDeviceToken")
        if not _TOKEN.fullmatch(token) or len(token) % 2:
            raise Refused("BadDeviceToken")
        if not body:
            raise Refused("PayloadEmpty")
        if len(body) > (VOIP_PAYLOAD_LIMIT if push_type == "voip" else PAYLOAD_LIMIT):
            raise Refused("PayloadTooLarge")
        try:
            payload = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # Apple names no reason for a payload that is not a JSON object with `aps`.
            raise Refused("PayloadEmpty") from None
        title, text = payload.aps.shown()
        expires_at = earlier(instant(payload.expires_at), expiration)
        return Push("apns", token, payload.send_id, payload.kind, title, text, collapse_id, expires_at)

    def _check_headers(self, headers: Headers) -> tuple[str, str, float | None]:
        """Push type, collapse id and expiration (unix seconds)."""
        topic = headers.get("apns-topic")
        if not topic:
            raise Refused("MissingTopic")
        if topic != self._topic:
            raise Refused("TopicDisallowed" if _TOPIC.fullmatch(topic) else "BadTopic")
        push_type = headers.get("apns-push-type")
        # Apple requires it on watchOS 6 and later and may refuse without; the simulator always does.
        if push_type not in PUSH_TYPES:
            raise Refused("InvalidPushType")
        return push_type or "", *check_choices(headers)


def check_choices(headers: Headers) -> tuple[str, float | None]:
    """Collapse id and expiration (unix seconds) of headers that FCM hands on as well; raises Refused."""
    if headers.get("apns-priority", "10") not in PRIORITIES:
        raise Refused("BadPriority")
    expiration = headers.get("apns-expiration")
    if expiration is not None and not _SECONDS.fullmatch(expiration):
        raise Refused("BadExpirationDate")
    collapse_id = headers.get("apns-collapse-id") or ""
    if len(collapse_id.encode()) > COLLAPSE_ID_LIMIT:
        raise Refused("BadCollapseId")
    # 0 asks APNs to try once and not to store: no instant to be late for.
    return collapse_id, float(expiration) if expiration and int(expiration) else None
