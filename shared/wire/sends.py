"""Sends and outcomes: what the planners write, what delivery answers."""

from __future__ import annotations

from datetime import date
from enum import IntEnum
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from shared.identity import MAX_USER_ID
from shared.identity import send_id as make_send_id
from shared.policy.kinds import KindName, Path
from shared.wire.address import MAX_ADDRESS, PATTERN_OR_EMPTY

UserIdField = Annotated[int, msgspec.Meta(ge=1, le=MAX_USER_ID)]
Instant = Annotated[float, msgspec.Meta(ge=0, le=4_102_444_800)]
"""Unix seconds, at most 2100: a calendar holds it on every machine."""
Text = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]*$")]
"""PostgreSQL's text has no NUL."""
Platform = Literal["ios", "android"]
CampaignName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_-]{0,64}$")]
"""Empty: of no campaign."""
Email = Annotated[str, msgspec.Meta(pattern=PATTERN_OR_EMPTY, max_length=MAX_ADDRESS)]
"""Empty: none that may be written to."""

MAX_SENDS = 500
"""Sends a message carries at most (DESIGN, words: batch)."""


class Target(msgspec.Struct, frozen=True, array_like=True):
    """A device to show a send on.

    `token` is of the platform's own provider (APNs, FCM). `fcm_token`: of the same app on an iOS device, which FCM
    reaches over APNs; empty: it has none. A parked send leaves out the tokens that have failed for good.
    """

    device_id: str
    platform: Platform
    token: str
    fcm_token: str = ""


class Send(msgspec.Struct, frozen=True, array_like=True):
    """One reminder for one user. `(user_id, kind, local_date)` is its identity; times are unix seconds, UTC."""

    user_id: UserIdField
    kind: KindName
    local_date: date
    due_at: Instant
    expires_at: Instant
    time_zone: str
    locale: str
    streak: int
    silent_days: int
    targets: tuple[Target, ...]
    campaign: CampaignName = ""
    email: Email = ""
    """Where it goes when no device can be reached; empty also where the user wants no e-mail."""

    @property
    def send_id(self) -> UUID:
        """The id that provider, ledger and device know this send by; also its collapse id."""
        return make_send_id(self.user_id, self.kind, self.local_date, self.campaign)


class SendBatch(msgspec.Struct, frozen=True):
    """One Kafka message of `sends.*`: up to 500 granted sends of one path."""

    path: Path
    planned_at: float
    sends: Annotated[tuple[Send, ...], msgspec.Meta(max_length=MAX_SENDS)]


class Result(IntEnum):
    """Where a candidate ended. The numbers are the ledger's column."""

    denied = 0
    delivered = 1
    expired = 2
    failed = 3
    dropped = 4


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of one candidate, always with a reason code. `latency`: the provider's last round trip, seconds."""

    user_id: UserIdField
    kind: KindName
    local_date: date
    result: Result
    reason: Text
    due_at: Instant
    decided_at: Instant
    latency: float = 0.0
    provider: Text = ""
    campaign: CampaignName = ""

    def __post_init__(self) -> None:
        # Every date gets a partition of the ledger, and the last one of the calendar has no next.
        if not 2000 <= self.local_date.year < 2100:
            raise ValueError(f"local date {self.local_date} is not of this century")


class RetiredToken(msgspec.Struct, frozen=True, array_like=True):
    """A device whose token the provider no longer accepts; `at` is when it became invalid, unix seconds.

    A device registered again after `at` stays (APNs 410's timestamp; FINDINGS, providers). `token` may be an iOS
    device's `fcm_token`: then only that is retired. Without a `device_id` it is the user's e-mail address, that no
    mailbox belongs to any more.
    """

    user_id: UserIdField
    device_id: Text
    token: Text
    reason: Text
    at: Instant


class OutcomeBatch(msgspec.Struct, frozen=True):
    """One Kafka message of `outcomes`: denials from a planner, or answers from delivery."""

    path: Path
    outcomes: tuple[Outcome, ...] = ()
    retired: tuple[RetiredToken, ...] = ()


encode = msgspec.json.Encoder().encode
decode_sends = msgspec.json.Decoder(SendBatch).decode
decode_outcomes = msgspec.json.Decoder(OutcomeBatch).decode
