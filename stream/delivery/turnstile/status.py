"""How the providers stand, for `surnia providers status`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from shared.clock import utc
from stream.delivery.turnstile.redis import RedisTurnstile

if TYPE_CHECKING:
    from rich.table import Table

WINDOW = 10
"""Seconds that answers are looked back at (lua/ask.lua)."""


@dataclass(frozen=True, slots=True)
class Forced:
    """Who forced it, why and when (unix seconds)."""

    by: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """One provider now. `seconds`: since when it is so, and until it is tried again; None where nobody knows.

    `good` and `bad` are answers of the last ten seconds, or of the probes while it is half open.
    """

    name: str
    state: str
    known: bool
    why: str
    since_seconds: float | None
    retry_seconds: float | None
    good: int
    bad: int
    per_second: float
    forced: Forced | None
    retiring_stopped_at: float | None = None
    """Since when (unix seconds) so many tokens have been called bad that none is retired; None: they are."""
    bad_token_share: float = 0.0
    """Of the last 500 to 1,000 answers."""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


async def look(turnstile: RedisTurnstile) -> list[ProviderStatus]:
    """Every provider. Raises `GateUnavailableError`."""
    return [await _one(turnstile, provider) for provider in turnstile.providers]


async def _one(turnstile: RedisTurnstile, provider: str) -> ProviderStatus:
    name, rate = turnstile.name(provider), turnstile.rate(provider)
    if not await turnstile.read(provider):
        return ProviderStatus(name, "closed", False, "", None, None, 0, 0, rate, None)
    # Asked for nothing, it first sees what time it is: an open one may be half open by now.
    grant = await turnstile.look(provider)
    found = await turnstile.read(provider)
    now = float(found["t"])
    good, bad = _probes(found) if found["state"] == "half_open" else _answers(found, now)
    forced = Forced(found["by"], found["reason"], float(found["at"])) if "forced" in found else None
    return ProviderStatus(
        name,
        str(grant.state),
        True,
        found.get("why", ""),
        None if forced else now - float(found.get("since", 0)),
        grant.wait if grant.state == "open" and not forced else None,
        good,
        bad,
        rate,
        forced,
        float(found["wave"]) if "wave" in found else None,
        round(float(found.get("called_bad", 0)) / max(1.0, float(found.get("judged", 0))), 4),
    )


def _probes(found: Mapping[str, str]) -> tuple[int, int]:
    return int(found["good"]), int(found["bad"])


def _answers(found: Mapping[str, str], now: float) -> tuple[int, int]:
    good = bad = 0
    for slot in range(WINDOW):
        second, turn, *counts = (int(part) for part in found.get(f"w{slot}", "0 -1 0 0").split())
        if second > int(now) - WINDOW and turn == int(found.get("turn", 0)):
            good, bad = good + counts[0], bad + counts[1]
    return good, bad


def shown(every: Sequence[ProviderStatus]) -> Table:
    """The same as a table."""
    from rich.table import Table

    table = Table("provider", "state", "why", "since", "tried again in", "good / bad answers", "a second at most")
    for each in every:
        why = each.why
        if each.forced:
            why = f"forced by {each.forced.by} at {utc(each.forced.at):%Y-%m-%d %H:%M:%S} UTC: {each.forced.reason}"
        if each.retiring_stopped_at is not None:
            since = f"{utc(each.retiring_stopped_at):%Y-%m-%d %H:%M:%S} UTC"
            wave = f"no token is retired since {since}: {each.bad_token_share:.0%} of them are called bad"
            why = f"{why}; {wave}" if why else wave
        table.add_row(
            each.name,
            each.state.replace("_", " "),
            why if each.known else "nothing was sent for a day",
            _seconds(each.since_seconds),
            _seconds(each.retry_seconds),
            f"{each.good} / {each.bad}",
            f"{each.per_second:,g}" if each.per_second else "any number",
        )
    return table


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.0f} s"
