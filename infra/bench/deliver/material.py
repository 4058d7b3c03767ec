"""Sends to deliver, and what they come to for those who take pushes or requests: the same for every contender."""

from __future__ import annotations

from collections.abc import Sequence

from infra.bench.deliver import handed
from infra.bench.deliver.handed import Handed
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


async def hand_over(settings: Settings, n: int, platform: Platform, *, as_requests: bool) -> Handed:
    """The first `n` sends of a platform for a sender's process."""
    assert settings.apns_key_file
    assert settings.fcm_credentials_file
    now = settings.clock().now()
    made = pushes(sends(0, n, now, platform), now)
    requests = await apns_requests(settings, made) if as_requests else []
    return Handed(
        url=settings.apns_url,
        ca_file=str(settings.ca_file),
        apns_topic=settings.apns_topic,
        apns_key=settings.apns_key_file.read_text(),
        apns_key_id=settings.apns_key_id,
        apns_team_id=settings.apns_team_id,
        fcm_account=settings.fcm_credentials_file.read_text(),
        pushes=[] if as_requests else [_plain(push) for push in made],
        requests=[handed.Request(request.url, request.headers, request.body) for request in requests],
    )


def _plain(push: Push) -> handed.Push:
    send, text = push.send, push.text
    ttl = int(send.expires_at - push.now)
    return handed.Push(push.token, push.send_id, send.kind, text.title, text.body, int(send.expires_at), ttl)
