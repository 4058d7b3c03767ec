"""The ways to a device: which providers serve it, in the order in which they are tried, and what each knows it by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

from msgspec.structs import replace

from shared.settings import Settings
from shared.wire.sends import Platform, Send, Target

EMAIL = "email"
"""The last way of a user, not of one device."""
BY_EMAIL = "smtp"
"""What outcomes, pauses and reason codes call the provider of e-mails."""

_FIELDS: Mapping[tuple[Platform, str], str] = {
    ("ios", "apns"): "token",
    ("ios", "fcm"): "fcm_token",
    ("android", "fcm"): "token",
}


class Leg(NamedTuple):
    """One way to a device, or to a mailbox."""

    provider: str
    token: str


class Routes(NamedTuple):
    """Each platform's providers in order, and the platforms whose users may be written to."""

    order: Mapping[Platform, tuple[str, ...]]
    email: frozenset[Platform] = frozenset()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        ways: dict[Platform, tuple[str, ...]] = {
            "ios": tuple(settings.routes_ios.split(",")),
            "android": tuple(settings.routes_android.split(",")),
        }
        return cls(
            {platform: tuple(name for name in names if name != EMAIL) for platform, names in ways.items()},
            frozenset(platform for platform, names in ways.items() if EMAIL in names and settings.sends_email),
        )

    @property
    def providers(self) -> set[str]:
        """The names of all that push."""
        return {name for names in self.order.values() for name in names}

    def legs(self, target: Target) -> list[Leg]:
        """The ways to a device that has a token for them."""
        legs = []
        for name in self.order.get(target.platform, ()):
            field = _FIELDS.get((target.platform, name))
            if field and (token := getattr(target, field)):
                legs.append(Leg(name, token))
        return legs

    def address(self, send: Send) -> str:
        """Where an e-mail may go; empty: nowhere."""
        platforms: Iterable[Platform] = (target.platform for target in send.targets)
        return send.email if not send.targets or any(each in self.email for each in platforms) else ""


def without(target: Target, providers: Iterable[str]) -> Target | None:
    """The device without its tokens at some providers; None: it has no other."""
    for name in providers:
        if field := _FIELDS.get((target.platform, name)):
            target = replace(target, **{field: ""})
    return target if target.token or target.fcm_token else None
