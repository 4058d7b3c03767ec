"""What goes to a provider and what comes back: the words that engine, providers and deliverer share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class PushRequest(msgspec.Struct, frozen=True):
    """One HTTP POST. `headers` are whole lines, `name: value`; the URL must be https.

    Or one e-mail: the URL is `mailto:` and the address, the body is the whole message, and there are no headers.
    """

    url: str
    headers: list[str]
    body: bytes


class PushResponse(msgspec.Struct, frozen=True):
    """A provider's answer.

    `body` is cut at 64 KB; `retry_after` is the header in seconds, None where absent; `seconds` is the
    round trip.
    """

    status: int
    body: bytes = b""
    retry_after: float | None = None
    seconds: float = 0.0


class TransportError(msgspec.Struct, frozen=True):
    """No answer came. An answer like another, not an exception: a batch has good and bad ones.

    `reason` is one of resolve, connect, tls, request, timeout, reset, closed, unanswered. `sent` is False
    only where the provider surely never saw the request; where it is True nobody knows, and only the collapse id keeps
    a retry from being shown twice. `unanswered`: nor does that, so nobody tries again.
    """

    reason: str
    sent: bool
    detail: str = ""
    seconds: float = 0.0


Answer = PushResponse | TransportError

FINAL = frozenset({"request", "unanswered"})
"""Reasons for which a request is not tried again."""
_NOT_SURE = frozenset({500, 502, 504})
"""The server fell over, or what is behind it did: it may have passed the push on before."""


def perhaps_sent(answer: Answer) -> bool:
    """Whether a push that was not accepted may have reached the device all the same."""
    return answer.sent if isinstance(answer, TransportError) else answer.status in _NOT_SURE


class Engine(Protocol):
    """Carries requests to providers."""

    async def send(self, requests: Sequence[PushRequest]) -> list[Answer]:
        """One answer a request, in order. Never raises for a request that failed."""
