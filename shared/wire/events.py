"""Activity events: what an app tells Surnia about its users, one JSON object a Kafka message, key = user id.

The event contract for producers is generated from these types (`surnia events schema`, docs/events/).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from shared.clock import utc
from shared.identity import MAX_USER_ID
from shared.policy.kinds import KindName
from shared.policy.localtime import known_zones
from shared.wire.address import MAX_ADDRESS, PATTERN_OR_EMPTY

MAX_EVENT_BYTES = 16_384
"""A larger message is dead-lettered unread: the largest honest event is below 1 kB, tokens included."""
EARLIEST = 946_684_800.0
"""Events from before 2000 are a broken clock, and calendars end somewhere near the year 1."""
MAX_AHEAD_SECONDS = 300.0
"""How far an event's time may be ahead of our clock (DESIGN's wire rule: 5 minutes)."""

UserIdField = Annotated[
    int, msgspec.Meta(ge=1, le=MAX_USER_ID, description="Positive 64-bit id; also the Kafka message's key, in decimal")
]
ZoneName = Annotated[
    str, msgspec.Meta(min_length=1, max_length=64, description="IANA time zone, such as America/Sao_Paulo")
]
# In Python `$` alone lets a last newline through, and a token becomes part of a URL; `$(?!\n)` is the end everywhere.
Locale = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*$(?!\n)", max_length=35)]
Token = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_:.\-]+$(?!\n)", min_length=8, max_length=4096)]
DeviceId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_:.\-]+$(?!\n)", min_length=1, max_length=128)]
Email = Annotated[
    str,
    msgspec.Meta(
        pattern=PATTERN_OR_EMPTY,
        max_length=MAX_ADDRESS,
        description="Where reminders go when no device can be reached; empty: the user has no address any more",
    ),
]
# Goes into a text column, which takes no NUL.
AppVersion = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_:.+() \-]*$(?!\n)", max_length=32)]


class _Event(msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True, kw_only=True):
    user_id: UserIdField
    at: Annotated[datetime, msgspec.Meta(tz=True, description="When it happened: RFC 3339 with an offset")]
    time_zone: ZoneName | None = None

    @property
    def instant(self) -> float:
        """`at` in unix seconds."""
        return self.at.timestamp()


class AppOpened(_Event, frozen=True, tag="app_opened"):
    """The user opened the app."""

    locale: Locale | None = None


class LessonStarted(_Event, frozen=True, tag="lesson_started"):
    """The user began a lesson: not finished within 30 minutes, it counts as abandoned."""

    lesson_id: Annotated[str, msgspec.Meta(max_length=128)] | None = None


class LessonCompleted(_Event, frozen=True, tag="lesson_completed"):
    """The user practised: no reminder on this local date any more."""

    lesson_id: Annotated[str, msgspec.Meta(max_length=128)] | None = None


class DeviceRegistered(_Event, frozen=True, tag="device_registered"):
    """The app got a push token on a device, or a new one; what is left out stays as it was."""

    device_id: DeviceId
    platform: Literal["ios", "android"]
    token: Annotated[Token, msgspec.Meta(description="ios: the APNs device token; android: the FCM registration token")]
    app_version: AppVersion | None = None
    fcm_token: (
        Annotated[
            Token,
            msgspec.Meta(
                description="Only with platform ios: the FCM registration token that the Firebase SDK has on the same "
                "device, for when APNs is in trouble"
            ),
        ]
        | None
    ) = None

    def __post_init__(self) -> None:
        if self.fcm_token is not None:
            if self.platform != "ios":
                raise ValueError("fcm_token goes with platform ios only: an Android device's FCM token is its token")
            # A provider's refusal names a token: it must say which of the two.
            if self.fcm_token == self.token:
                raise ValueError("fcm_token is the APNs token: it must be the one that the Firebase SDK gives out")


class DeviceRemoved(_Event, frozen=True, tag="device_removed"):
    """The user signed out on a device."""

    device_id: DeviceId


class PreferencesChanged(_Event, frozen=True, tag="preferences_changed"):
    """The user's choice; what is left out stays as it was."""

    opted_out: Annotated[tuple[KindName, ...], msgspec.Meta(max_length=16)] | None = None
    locale: Locale | None = None
    email: Email | None = None
    email_opted_out: Annotated[bool, msgspec.Meta(description="true: no reminders by e-mail; pushes stay")] | None = (
        None
    )


class UserDeleted(_Event, frozen=True, tag="user_deleted"):
    """The account is gone: everything known about the user goes with it."""


ActivityEvent = (
    AppOpened | LessonStarted | LessonCompleted | DeviceRegistered | DeviceRemoved | PreferencesChanged | UserDeleted
)


class BadEventError(ValueError):
    """A message that is no event. `reason` is a code for counting, the text says what is wrong."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(detail[:500])


_decoder: msgspec.json.Decoder[ActivityEvent] = msgspec.json.Decoder(ActivityEvent)


def decoding(now: float) -> Callable[[bytes], ActivityEvent]:
    """Decodes messages as of an instant, many of them: see `decode_event`."""
    decode, zones = _decoder.decode, known_zones()
    # Compared as datetimes, which costs a tenth of what their unix seconds would.
    earliest, latest = utc(EARLIEST), utc(now + MAX_AHEAD_SECONDS)

    def event_in(message: bytes) -> ActivityEvent:
        if len(message) > MAX_EVENT_BYTES:
            raise BadEventError("too_large", f"{len(message)} bytes, at most {MAX_EVENT_BYTES} are read")
        try:
            event = decode(message)
        except msgspec.ValidationError as error:
            raise BadEventError("invalid", str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadEventError("malformed_json", str(error)) from None
        if event.time_zone is not None and event.time_zone not in zones:
            raise BadEventError("unknown_time_zone", f"time zone {event.time_zone!r} is not in the IANA database")
        if not earliest <= event.at <= latest:
            if event.at < earliest:
                raise BadEventError("too_old", f"{event.at.isoformat()} is before the year 2000")
            raise BadEventError("in_the_future", f"{event.at.isoformat()} is more than 5 minutes ahead")
        return event

    return event_in


def decode_event(message: bytes, now: float) -> ActivityEvent:
    """The event in a message. Raises `BadEventError` for whatever is wrong with it, and nothing else."""
    return decoding(now)(message)


encode_event = msgspec.json.Encoder().encode
