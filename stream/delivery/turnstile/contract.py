"""What the turnstile promises: its question, its answer, and how what came back is told to it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from shared.policy.kinds import Lane


class State(StrEnum):
    """Whether a provider gets anything."""

    closed = "closed"
    """Sends flow, as fast as the pacer lets them."""
    half_open = "half_open"
    """It was open: a few probes find out whether it answers again."""
    open = "open"
    """It gets nothing."""


class Answers(NamedTuple):
    """What came back for sends that were granted in one turn.

    `bad`: the provider's or the network's trouble (5xx, 429, no answer), whatever becomes of the send. `block`: seconds
    for which the provider asked to be left alone by everybody, 0 where it did not.
    """

    turn: int
    good: int = 0
    bad: int = 0
    block: float = 0.0


class Grant(NamedTuple):
    """How many may be sent now. The rest asks again in `wait` seconds, or waits elsewhere where it is not closed."""

    n: int
    state: State
    turn: int = 0
    room: int = 0
    """Probes that others may still send; 0 unless half open."""
    wait: float = 0.0


class Turnstile(Protocol):
    """A pacer and a circuit breaker for each provider, shared by all workers."""

    async def ask(self, provider: str, lane: Lane, n: int, answers: Sequence[Answers] = ()) -> Grant:
        """May `n` be sent to `apns`, `fcm` or `smtp`? Told what came back first. With 0 it only looks, or reports.

        Raises `GateUnavailableError`; some of it may have been done all the same, and then the same call once more
        takes from the pacer twice and counts twice, which errs on the side of sending less.
        """

    async def may_retire(self, provider: str, answers: int, bad: int) -> bool:
        """Whether tokens may be retired that the provider calls bad, after so many answers more, `bad` of them of that
        kind. Not while it calls too many so: then it is the wrong key or environment. Raises `GateUnavailableError`."""


class NoTurnstile:
    """Grants everything: for tests, and for a bench of what is behind it."""

    async def ask(self, provider: str, lane: Lane, n: int, answers: Sequence[Answers] = ()) -> Grant:  # noqa: ARG002
        return Grant(n, State.closed)

    async def may_retire(self, provider: str, answers: int, bad: int) -> bool:  # noqa: ARG002
        return True
