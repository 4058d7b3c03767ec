"""The part of an FCM message that FCM hands on to APNs: its checks, and what the iOS device gets of it.

Google's "FCM v1 REST: projects.messages", ApnsConfig: headers and payload as APNs has them, a payload's alert in place
of the notification's title and body. A data message must not have priority 10 ("Setting the priority of a message").
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
from msgspec import field

from infra.simulator.apns import PAYLOAD_LIMIT, PUSH_TYPES, Aps, check_choices
from infra.simulator.push import earlier, instant
from infra.simulator.reasons import Refused
from infra.simulator.reply import encode

_SHOWN: Final = ("alert", "badge", "sound")


class ApnsConfig(msgspec.Struct, forbid_unknown_fields=True):
    headers: dict[str, str] = {}
    payload: dict[str, Any] = {}
    fcm_options: dict[str, Any] | None = None
    fcm_options_too: dict[str, Any] | None = field(default=None, name="fcmOptions")
    live_activity_token: str = ""
    live_activity_token_too: str = field(default="", name="liveActivityToken")


class OverApns(NamedTuple):
    """What APNs gets of a message."""

    alert: tuple[str, str] | None  # title and text; None: those of the notification
    collapse_id: str
    expires_at: float | None
    custom: dict[str, Any]  # beside `aps`


def check_apns(config: ApnsConfig, data: dict[str, str], notified: bool) -> OverApns:
    """Check what FCM hands on; `notified`: the message has a notification. Raises Refused."""
    headers = {name.lower(): value for name, value in config.headers.items()}
    try:
        collapse_id, expiration = check_choices(headers)
    except Refused as refused:
        raise _invalid("headers", f"APNs would answer {refused.reason}") from None
    if headers.get("apns-push-type", "alert") not in PUSH_TYPES:
        raise _invalid("headers", "APNs would answer InvalidPushType")
    custom = {**data, **config.payload}
    aps = custom.pop("aps", {})
    try:
        alert = msgspec.convert(aps, Aps)
    except msgspec.ValidationError as error:
        raise _invalid("payload", str(error)[:300]) from None
    if headers.get("apns-priority") == "10" and not notified and not any(name in aps for name in _SHOWN):
        raise _invalid("headers", "A message that shows nothing must have apns-priority 5.")
    if len(encode({"aps": aps, **custom})) > PAYLOAD_LIMIT:
        raise _invalid("payload", f"Message is too big: {PAYLOAD_LIMIT} bytes are allowed.")
    expires_at = earlier(instant(custom.get("expires_at")), expiration)
    return OverApns(alert.shown() if alert.alert is not None else None, collapse_id, expires_at, custom)


def _invalid(name: str, message: str) -> Refused:
    return Refused("INVALID_ARGUMENT", message, field=f"message.apns.{name}")
