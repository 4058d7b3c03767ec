"""The rules in force, and what each remembers."""

from __future__ import annotations

from math import ceil
from random import Random
from typing import Final, NamedTuple

import msgspec
from msgspec import UnsetType

from infra.simulator.faults.latency import draw
from infra.simulator.faults.rule import Fault, picked
from infra.simulator.faults.transport import MaxStreams, OfConnection, OfRequest, OneStream, Tls
from infra.simulator.reasons import Refused

FCM_RETRY_AFTER: Final = 60  # seconds, what FCM's quota answers say
DAY: Final = 86_400


class Verdict(msgspec.Struct, frozen=True):
    """What the faults do to one request: wait, then refuse it, break it off, or go on."""

    delay: float  # seconds
    refusal: Refused | None = None
    transport: OfRequest | None = None


class Terms(NamedTuple):
    """What a connection is told about its streams."""

    one_stream: OneStream | None = None
    max_streams: MaxStreams | None = None


class _Armed:
    """A rule and what it remembers."""

    def __init__(self, fault: Fault, now: float) -> None:
        self.fault = fault
        self.hits = 0
        self._set_at = now
        self._random = Random(fault.seed)  # noqa: S311  # to be repeated, not to be guessed
        self._latencies = Random(f"latency/{fault.seed}")  # noqa: S311  # of its own: draws stay when a latency is added
        self._day = -1
        self._free = 0

    def hit(self, provider: str, token: str, now: float) -> bool:
        fault = self.fault
        if isinstance(fault.transport, OfConnection):
            return False
        if fault.provider is not None and fault.provider != provider:
            return False
        if fault.token_prefix is not None and not token.startswith(fault.token_prefix):
            return False
        if fault.tokens is not None and token not in fault.tokens:
            return False
        if fault.percent is not None and not picked(token, fault.percent, fault.salt):
            return False
        return self.drawn(now)

    def drawn(self, now: float) -> bool:
        """Count a hit, unless the rule is spent, chance is against it, or the day's quota has room.

        Asked last, so that the draws depend on the matching requests alone.
        """
        fault = self.fault
        if fault.limit is not None and self.hits >= fault.limit:
            return False
        if fault.probability < 1.0 and self._random.random() >= fault.probability:
            return False
        if fault.free_a_day is not None and self._passes_free(fault.free_a_day, now):
            return False
        self.hits += 1
        return True

    def _passes_free(self, free_a_day: int, now: float) -> bool:
        if (day := int(now // DAY)) != self._day:
            self._day, self._free = day, free_a_day
        self._free -= 1
        return self._free >= 0

    def delay(self) -> float:
        return draw(self.fault.latency_ms, self._latencies)

    def refusal(self, now: float) -> Refused | None:
        fault = self.fault
        if fault.reason is None:
            return None
        wait = fault.retry_after
        if isinstance(wait, UnsetType):
            wait = FCM_RETRY_AFTER if fault.reason in ("QUOTA_EXCEEDED", "UNAVAILABLE") else None
            if fault.free_a_day is not None:
                wait = ceil(DAY - now % DAY)
        timestamp = fault.timestamp
        if timestamp is None and fault.reason in ("Unregistered", "ExpiredToken"):
            timestamp = int(self._set_at * 1000)
        return Refused(fault.reason, status=fault.status, retry_after=wait, timestamp=timestamp)


class Faults:
    """The rules in force. Times are unix seconds of the simulator's clock."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []
        self.of_transport = False
        """Whether a rule asks for what only the front can do."""

    def set(self, faults: list[Fault], now: float) -> None:
        """Replace all rules; counts and seeds start anew."""
        self._armed = [_Armed(fault, now) for fault in faults]
        self.of_transport = any(fault.transport for fault in faults)

    def listed(self) -> list[dict[str, object]]:
        """The rules with how many requests or connections each has hit."""
        return [{"rule": armed.fault, "hits": armed.hits} for armed in self._armed]

    def judge(self, provider: str, token: str, now: float, *, breakable: bool = True) -> Verdict | None:
        """What to do to a request; None for nothing, which is nearly always.

        A request that is not `breakable` came by a server that knows no transport faults: their rules pass it over.
        """
        delay = 0.0
        for armed in self._armed:
            if armed.fault.transport and not breakable:
                continue
            if armed.hit(provider, token, now):
                delay += armed.delay()
                transport = armed.fault.transport
                if transport is not None and not isinstance(transport, OfConnection):
                    return Verdict(delay, transport=transport)
                refusal = armed.refusal(now)
                if refusal is not None:
                    return Verdict(delay, refusal)
        return Verdict(delay) if delay else None

    def tls(self) -> Tls | None:
        """The fault of a new connection's handshake."""
        for armed in self._armed:
            if isinstance(armed.fault.transport, Tls) and armed.drawn(0.0):
                return armed.fault.transport
        return None

    def terms(self) -> Terms:
        """What a connection is to be told; of each kind the first rule that hits."""
        one_stream: OneStream | None = None
        max_streams: MaxStreams | None = None
        for armed in self._armed:
            match armed.fault.transport:
                case OneStream() as fault if one_stream is None and armed.drawn(0.0):
                    one_stream = fault
                case MaxStreams() as fault if max_streams is None and armed.drawn(0.0):
                    max_streams = fault
        return Terms(one_stream, max_streams)
