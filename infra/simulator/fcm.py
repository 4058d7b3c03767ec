"""FCM v1's checks of a `messages:send` request.

Google's "FCM v1 REST: projects.messages" and "projects.messages.send"; field names in both of proto3's JSON spellings.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec import field

from infra.simulator.fcm_apns import ApnsConfig, OverApns, check_apns
from infra.simulator.oauth import AccessTokens
from infra.simulator.push import Push, instant
from infra.simulator.reasons import Refused

PAYLOAD_LIMIT: Final = 4096
BODY_LIMIT: Final = 65_536
TTL_LIMIT: Final = 2_419_200.0  # four weeks
_TOKEN: Final = re.compile(r"[A-Za-z0-9_:-]{16,4096}")
_TTL: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?s")
_PRIORITIES: Final = frozenset({"normal", "high", "NORMAL", "HIGH"})
_RESERVED: Final = frozenset({"from", "message_type"})


class Notification(msgspec.Struct):
    title: str = ""
    body: str = ""
    image: str = ""
    tag: str = ""


class Android(msgspec.Struct):
    """The part of AndroidConfig that is checked or watched."""

    collapse_key: str = ""
    collapse_key_too: str = field(default="", name="collapseKey")  # proto3 JSON's other spelling
    priority: str = "normal"
    ttl: str = "2419200s"
    data: dict[str, str] = {}
    notification: Notification | None = None


class Message(msgspec.Struct, forbid_unknown_fields=True):
    token: str | None = None
    fid: str | None = None
    topic: str | None = None
    condition: str | None = None
    name: str = ""
    data: dict[str, str] = {}
    notification: Notification | None = None
    android: Android | None = None
    webpush: dict[str, Any] | None = None
    apns: ApnsConfig | None = None
    fcm_options: dict[str, Any] | None = None
    fcm_options_too: dict[str, Any] | None = field(default=None, name="fcmOptions")


class Request(msgspec.Struct, forbid_unknown_fields=True):
    message: Message
    validate_only: bool = False
    validate_only_too: bool = field(default=False, name="validateOnly")


_decode = msgspec.json.Decoder(Request).decode


class Fcm:
    """Checks requests for one Firebase project."""

    def __init__(self, tokens: AccessTokens, project_id: str) -> None:
        self._tokens = tokens
        self._project_id = project_id

    def check(self, project: str, authorization: str | None, body: bytes) -> tuple[Push, bool]:
        """The push that a request asks for, and whether it was only to be validated; raises Refused."""
        if not self._tokens.valid(authorization):
            raise Refused("UNAUTHENTICATED", "Request had invalid authentication credentials.")
        if project != self._project_id:
            raise Refused("PERMISSION_DENIED", f"The credentials have no right to send for {project[:64]!r}.")
        try:
            request = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused("INVALID_ARGUMENT", str(error)[:300], field="message") from None
        push = _read(request.message)
        return push, request.validate_only or request.validate_only_too


def _invalid(field: str, message: str) -> Refused:
    return Refused("INVALID_ARGUMENT", message, field=f"message.{field}")


def _read(message: Message) -> Push:
    token = message.token if message.token is not None else message.fid
    targets = (message.token, message.fid, message.topic, message.condition)
    if token is None or sum(target is not None for target in targets) != 1:
        raise _invalid("token", "Exactly one of token and fid must name the target.")
    if not _TOKEN.fullmatch(token):
        raise _invalid("token", "The registration token is not a valid FCM registration token")
    android = message.android
    data = {**message.data, **android.data} if android and android.data else message.data
    for key in data:
        if key in _RESERVED or key.startswith(("google", "gcm")):
            raise _invalid("data", f"Invalid data payload key: {key[:64]}")
    shown = (android and android.notification) or message.notification
    title = shown.title if shown else data.get("title", "")
    text = shown.body if shown else data.get("body", "")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in data.items())
    if size + (len(title.encode()) + len(text.encode()) if shown else 0) > PAYLOAD_LIMIT:
        raise _invalid("data", f"Message is too big: {PAYLOAD_LIMIT} bytes are allowed.")
    collapse_id = _check_android(android) if android else ""
    push = Push(
        "fcm",
        token,
        data.get("send_id", ""),
        data.get("kind", ""),
        title,
        text,
        collapse_id,
        instant(data.get("expires_at")),
    )
    if message.apns is None:
        return push
    apns = check_apns(message.apns, message.data, message.notification is not None)
    # Whether the token is an Android device's nobody tells us; a message for both is judged as that one would take it.
    return push if android else _over_apns(push, apns)


def _over_apns(push: Push, apns: OverApns) -> Push:
    """The push as an iOS device gets it."""
    title, text = apns.alert or (push.title, push.body)
    own = {name: value for name in ("send_id", "kind") if isinstance(value := apns.custom.get(name), str)}
    return msgspec.structs.replace(
        push, title=title, body=text, collapse_id=apns.collapse_id, expires_at=apns.expires_at, **own
    )


def _check_android(android: Android) -> str:
    """Check what Android adds; returns what makes a later push replace this one."""
    if android.priority not in _PRIORITIES:
        raise _invalid("android.priority", f"Invalid value at 'message.android.priority': {android.priority[:32]}")
    if not _TTL.fullmatch(android.ttl) or float(android.ttl[:-1]) > TTL_LIMIT:
        raise _invalid("android.ttl", "Invalid value at 'message.android.ttl': 0s to 2419200s")
    tag = android.notification.tag if android.notification else ""
    return android.collapse_key or android.collapse_key_too or tag
