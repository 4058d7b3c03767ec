"""One rule, as it is written in JSON."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from infra.simulator.faults.latency import Latency
from infra.simulator.faults.transport import OfConnection, Transport
from infra.simulator.reasons import status_of

Reason = Annotated[str, Meta(min_length=1, max_length=64)]
Share = Annotated[float, Meta(ge=0, le=100)]
_HASHES: Final = 1 << 64


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule. Every condition that is given must hold.

    `reason` is answered, `transport` breaks the request off or the connection, `latency_ms` alone only delays.
    """

    # Conditions.
    provider: Literal["apns", "fcm", "oauth"] | None = None
    token_prefix: Annotated[str, Meta(max_length=4096)] | None = None
    tokens: frozenset[str] | None = None
    percent: Share | None = None  # of all tokens, always the same ones: see `picked`
    salt: Annotated[str, Meta(max_length=64)] = ""
    probability: Annotated[float, Meta(ge=0, le=1)] = 1.0  # of each request (or connection)
    seed: int = 0
    limit: Annotated[int, Meta(ge=1)] | None = None  # requests (or connections) hit, then the rule is spent
    free_a_day: Annotated[int, Meta(ge=0)] | None = None  # requests that pass each UTC day before the rule hits
    # The answer.
    reason: Reason | None = None
    status: Annotated[int, Meta(ge=400, le=599)] | None = None  # unset: the documented one
    retry_after: Annotated[int, Meta(ge=0, le=86_400)] | UnsetType | None = UNSET  # seconds; null: no header
    timestamp: Annotated[int, Meta(ge=0)] | None = None  # unix ms of a 410; unset: when the rules were set
    transport: Transport | None = None
    latency_ms: Latency = 0.0

    def __post_init__(self) -> None:
        if self.reason is None and (self.status is not None or self.timestamp is not None):
            raise ValueError("a rule that answers needs a reason")
        if self.reason is not None and self.provider is None:
            raise ValueError("a rule with a reason needs a provider, because reasons differ")
        if self.reason is not None and self.status is None and not status_of(self.provider or "", self.reason):
            raise ValueError(f"{self.provider} documents no reason {self.reason!r}: give its status, too")
        if self.reason is None and self.transport is None and self.latency_ms == 0:
            raise ValueError("a rule needs a reason, a transport fault or a latency_ms")
        if self.reason is not None and self.transport is not None:
            raise ValueError("a request is either answered with a reason or broken off: make it two rules")
        if isinstance(self.transport, OfConnection):
            self._check_conditions_of_connection()

    def _check_conditions_of_connection(self) -> None:
        """A connection has no provider yet, and no token: all providers are behind one port."""
        given = (self.provider, self.token_prefix, self.tokens, self.percent, self.free_a_day)
        if any(condition is not None for condition in given) or self.latency_ms != 0:
            raise ValueError("a fault of connections knows no conditions but probability, seed and limit")


def picked(token: str, percent: float, salt: str = "") -> bool:
    """Whether a token is among the `percent` of all tokens that a salt picks; the same in every process."""
    digest = blake2b(token.encode(), digest_size=8, key=salt.encode()).digest()
    return int.from_bytes(digest) * 100 < percent * _HASHES


def decode_faults(raw: bytes) -> list[Fault]:
    """Rules from JSON; raises msgspec.ValidationError or msgspec.DecodeError, which name the place."""
    return msgspec.json.decode(raw, type=list[Fault])


def read_faults(path: Path) -> list[Fault]:
    try:
        return decode_faults(path.read_bytes())
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: {error}. Write a JSON list of rules.") from None
