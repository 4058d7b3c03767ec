"""Sends to deliver, and the pushes that they come to: the same for every contender."""

from __future__ import annotations

from collections.abc import Sequence

from infra.bench.ids import Ids
from shared.clock import utc
from shared.policy.kinds import COMEBACK, HOUR
from shared.settings import Settings
from shared.templates import Catalogue
from shared.wire.sends import Platform, Send, Target
from stream.delivery.apns import Apns
from stream.delivery.exchange import PushRequest
from stream.delivery.provider import Push

KIND = COMEBACK
_LOCALES = ("en", "es", "ja", "ar")


def sends(start: int, n: int, now: float, platform: Platform) -> list[Send]:
    """`n` comebacks, each of a user with one device, from the `start`th user on; due at `now`, in unix seconds."""
    day, shape = utc(now).date(), "{:064x}" if platform == "ios" else "bench-{:032x}"
    return [
        Send(
            user_id=user,
            kind=KIND.name,
            local_date=day,
            due_at=now,
            expires_at=now + 24 * HOUR,
            time_zone="UTC",
            locale=_LOCALES[user % len(_LOCALES)],
            streak=0,
            silent_days=14,
            targets=(Target(f"d{user}", platform, shape.format(user)),),
        )
        for user in Ids.sparse.numbers(start, n).tolist()
    ]


def pushes(of: Sequence[Send], now: float) -> list[Push]:
    """One a send, its text rendered."""
    catalogue = Catalogue.load()
    return [
        Push(
            send,
            str(send.send_id),
            catalogue.render(send.kind, send.locale, send.user_id, silent_days=send.silent_days),
            send.targets[0].token,
            now,
        )
        for send in of
    ]


async def apns_requests(settings: Settings, of: Sequence[Push]) -> list[PushRequest]:
    """What Surnia would ask of APNs."""
    apns = Apns(settings, settings.clock())
    credentials = await apns.credentials()
    return [apns.request(push, credentials) for push in of]
