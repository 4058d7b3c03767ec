"""Faults to inject: which requests they hit and what those are answered.

A rule file is a JSON list of rules, tried in order; the first that answers ends the
search. Latencies add up on the way.
"""

from __future__ import annotations

import random
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from infra.simulator.reasons import Refused, status_of

Reason = Annotated[str, Meta(min_length=1, max_length=64)]
Share = Annotated[float, Meta(ge=0, le=100)]
FCM_RETRY_AFTER: Final = 60  # seconds, what FCM's quota answers say
_HASHES: Final = 1 << 64


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule. Every condition that is given must hold; `reason` is answered, `latency_ms` only delays."""

    # Conditions.
    provider: Literal["apns", "fcm", "oauth"] | None = None
    token_prefix: Annotated[str, Meta(max_length=4096)] | None = None
    tokens: frozenset[str] | None = None
    percent: Share | None = None  # of all tokens, always the same ones: see `picked`
    salt: Annotated[str, Meta(max_length=64)] = ""
    probability: Annotated[float, Meta(ge=0, le=1)] = 1.0  # of each request
    seed: int = 0
    limit: Annotated[int, Meta(ge=1)] | None = None  # requests hit, then the rule is spent
    # The answer.
    reason: Reason | None = None
    status: Annotated[int, Meta(ge=400, le=599)] | None = None  # unset: the documented one
    retry_after: Annotated[int, Meta(ge=0, le=86_400)] | UnsetType | None = UNSET  # seconds; null: no header
    timestamp: Annotated[int, Meta(ge=0)] | None = None  # unix ms of a 410; unset: when the rules were set
    latency_ms: Annotated[float, Meta(ge=0, le=600_000)] = 0.0

    def __post_init__(self) -> None:
        if self.reason is None and (self.status is not None or self.timestamp is not None):
            raise ValueError("a rule that answers needs a reason")
        if self.reason is not None and self.provider is None:
            raise ValueError("a rule with a reason needs a provider, because reasons differ")
        if self.reason is not None and self.status is None and not status_of(self.provider or "", self.reason):
            raise ValueError(f"{self.provider} documents no reason {self.reason!r}: give its status, too")
        if self.reason is None and self.latency_ms == 0:
            raise ValueError("a rule needs a reason or a latency_ms")


def picked(token: str, percent: float, salt: str = "") -> bool:
    """Whether a token is among the `percent` of all tokens that a salt picks; the same in every process."""
    digest = blake2b(token.encode(), digest_size=8, key=salt.encode()).digest()
    return int.from_bytes(digest) * 100 < percent * _HASHES


class Verdict(msgspec.Struct, frozen=True):
    """What the faults do to one request: wait, then refuse or go on."""

    delay: float  # seconds
    refusal: Refused | None


class _Armed:
    """A rule and what it remembers."""

    def __init__(self, fault: Fault, now: float) -> None:
        self.fault = fault
        self.hits = 0
        self._set_at = now
        self._random = random.Random(fault.seed)  # noqa: S311  # to be repeated, not to be guessed

    def hit(self, provider: str, token: str) -> bool:
        fault = self.fault
        if fault.provider is not None and fault.provider != provider:
            return False
        if fault.limit is not None and self.hits >= fault.limit:
            return False
        if fault.token_prefix is not None and not token.startswith(fault.token_prefix):
            return False
        if fault.tokens is not None and token not in fault.tokens:
            return False
        if fault.percent is not None and not picked(token, fault.percent, fault.salt):
            return False
        # Last, so that the draws depend on the matching requests alone.
        if fault.probability < 1.0 and self._random.random() >= fault.probability:
            return False
        self.hits += 1
        return True

    def refusal(self) -> Refused | None:
        fault = self.fault
        if fault.reason is None:
            return None
        wait = fault.retry_after
        if isinstance(wait, UnsetType):
            wait = FCM_RETRY_AFTER if fault.reason in ("QUOTA_EXCEEDED", "UNAVAILABLE") else None
        timestamp = fault.timestamp
        if timestamp is None and fault.reason in ("Unregistered", "ExpiredToken"):
            timestamp = int(self._set_at * 1000)
        return Refused(fault.reason, status=fault.status, retry_after=wait, timestamp=timestamp)


class Faults:
    """The rules in force."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def set(self, faults: list[Fault], now: float) -> None:
        """Replace all rules; counts and seeds start anew."""
        self._armed = [_Armed(fault, now) for fault in faults]

    def listed(self) -> list[dict[str, object]]:
        """The rules with how many requests each has hit."""
        return [{"rule": armed.fault, "hits": armed.hits} for armed in self._armed]

    def judge(self, provider: str, token: str) -> Verdict | None:
        """What to do to a request; None for nothing, which is nearly always."""
        delay = 0.0
        for armed in self._armed:
            if armed.hit(provider, token):
                delay += armed.fault.latency_ms / 1000
                refusal = armed.refusal()
                if refusal is not None:
                    return Verdict(delay, refusal)
        return Verdict(delay, None) if delay else None


def decode_faults(raw: bytes) -> list[Fault]:
    """Rules from JSON; raises msgspec.ValidationError or msgspec.DecodeError, which name the place."""
    return msgspec.json.decode(raw, type=list[Fault])


def read_faults(path: Path) -> list[Fault]:
    try:
        return decode_faults(path.read_bytes())
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: {error}. Write a JSON list of rules.") from None
