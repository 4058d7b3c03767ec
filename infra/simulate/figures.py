"""From counts to what a person asks: load by the hour, peaks, quotas, cores."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from infra.simulate.assumptions import assumptions
from infra.simulate.calendar import Calendar
from infra.simulate.counts import Counts
from infra.simulate.mix import Mix
from infra.simulate.rates import BYTES_PER_FIELD, BYTES_PER_TIMER, Rate
from shared.policy.kinds import COMEBACK, KINDS, STREAK_SAVER, Path

Row = npt.NDArray[Any]

PROVIDERS = ("apns", "fcm", "smtp")
WITHIN = 300
"""Seconds in which a burst of streak savers should be out."""
_HOUR = 3600.0
_WEST = 12 * 3600.0
"""The last zone ends its date so long after UTC does."""
REMINDERS: list[str] = [kind.name for kind in KINDS.values() if kind.path is not Path.blast]


class Hour(msgspec.Struct, frozen=True):
    """An hour's load, UTC. Maps are by kind, by path, by reason, by provider and by part."""

    hour: str
    events: int
    marks: int
    user_rows: int
    """Rows of `users` that the stream path writes back."""
    due: dict[str, int]
    scanned_rows: int
    claims: dict[str, int]
    denied: dict[str, int]
    sends: dict[str, int]
    pushes: dict[str, int]
    push_peak_per_s: dict[str, float]
    """In the hour's busiest second, streak savers apart."""
    streak_burst: dict[str, int]
    """Pushes of streak savers, due on the dot."""
    drain_seconds: dict[str, float]
    """How long the burst takes at the provider's quota, beside what else there is; -1: longer than the hour."""
    ledger_rows: int
    gate_fields: int
    gate_mb: float
    due_timers: int
    due_mb: float
    cores: dict[str, float]


class Peak(msgspec.Struct, frozen=True):
    """A part at its busiest hour. `cores` is 0 where no bench has measured the part."""

    part: str
    what: str
    total: int
    per_hour: int
    per_s: float
    hour: str
    cores: float
    source: str


class Quota(msgspec.Struct, frozen=True):
    """A provider against its quota. `per_s` 0: none. `longest_drain_seconds`: -1, longer than an hour."""

    provider: str
    per_s: float
    total: int
    peak_per_s: float
    share_of_quota: float
    largest_burst: int
    longest_drain_seconds: float


class Burst(msgspec.Struct, frozen=True):
    """A zone's streak savers at one instant, and what it takes to send them within so many seconds."""

    hour: str
    due: int
    pushes: int
    within_seconds: int
    cores: dict[str, float]


class Result(msgspec.Struct, frozen=True):
    """What `--json` writes."""

    mix: Mix
    assumptions: list[str]
    rates: list[Rate]
    peaks: list[Peak]
    quotas: list[Quota]
    totals: dict[str, int]
    burst: Burst
    gate_peak_mb: float
    due_peak_mb: float
    cores: float
    """At the busiest hour, of all parts that were measured."""
    seconds: float
    peak_rss_mb: float
    hours: list[Hour]


class Loads:
    """Rows by the hour, one a name."""

    def __init__(self, mix: Mix, calendar: Calendar, counts: Counts, quotas: dict[str, float]) -> None:
        self.mix, self.quotas = mix, quotas
        of = counts.of
        self.events, self.marks, self.user_rows = of("events"), of("marks"), of("user_rows")
        self.due = {kind: of(f"due.{kind}") for kind in REMINDERS}
        self.scanned = of("scanned")
        self.claims = {"stream": of("claims.stream"), "batch": of("claims.batch")}
        self.denied: dict[str, Row] = {}
        for kind in REMINDERS:
            for reason in counts.names(f"denied.{kind}."):
                row = of(f"denied.{kind}.{reason}")
                self.denied[reason] = self.denied.get(reason, 0) + row
        self.sends = {kind: of(f"sends.{kind}") for kind in REMINDERS}
        pushes = {p: {kind: of(f"pushes.{p}.{kind}") for kind in REMINDERS} for p in PROVIDERS}
        self.pushes: dict[str, Row] = {p: np.sum(list(mine.values()), axis=0) for p, mine in pushes.items()}
        self.burst = {p: mine[STREAK_SAVER.name] for p, mine in pushes.items()}
        self.peak = {p: self._peak(mine) for p, mine in pushes.items()}
        self.drain = {p: self._drain(p) for p in PROVIDERS}
        self.ledger: Row = np.sum([*self.sends.values(), *self.denied.values()], axis=0)
        self.fields = self._fields(calendar, counts)
        self.timers: Row = np.cumsum(counts.timers)[1:]

    def work(self) -> dict[str, Row]:
        """What each measured part has to do in an hour."""
        claims = np.sum(list(self.claims.values()), axis=0)
        return {
            "stream": self.events,
            "due": np.sum([row for kind, row in self.due.items() if kind != COMEBACK.name], axis=0),
            "scan": self.scanned,
            # A send is settled, which costs what a claim does.
            "gate": self.marks + claims + np.sum(list(self.sends.values()), axis=0),
            "delivery": np.sum(list(self.pushes.values()), axis=0),
        }

    def _peak(self, pushes: dict[str, Row]) -> Row:
        """A second's pushes: comebacks over their minutes, the others over the hour, streak savers apart."""
        even = sum(row for kind, row in pushes.items() if kind not in (COMEBACK.name, STREAK_SAVER.name))
        comebacks = pushes[COMEBACK.name]
        return even / _HOUR + comebacks / (min(self.mix.spread_minutes, 60) * 60 if self.mix.spread_minutes else 1)

    def _drain(self, provider: str) -> Row:
        quota, burst = self.quotas[provider], self.burst[provider]
        if not quota:
            return np.zeros(len(burst))
        left = quota - self.peak[provider]
        seconds = np.divide(burst, left, out=np.full(len(burst), np.inf), where=left > 0)
        return np.where(burst == 0, 0.0, np.where(seconds > _HOUR, -1.0, seconds))

    def _fields(self, calendar: Calendar, counts: Counts) -> Row:
        """Fields of the gate at each hour's end: dates stay for a while after their last write."""
        keep = self.mix.gate_keep_hours * _HOUR
        ends = (np.arange(self.mix.hours) + 1) * _HOUR
        whole = int(counts.gate.sum(axis=1).max())
        fields = np.zeros(self.mix.hours, np.int64)
        for day in range(-int(keep // 86_400) - 3, calendar.days):
            # Seconds from the start at which the date is over everywhere.
            over = day * 86_400.0 + _WEST
            grown = np.cumsum(counts.gate[day])[1:] if day >= 0 else whole
            fields += np.where(ends < over + keep, grown, 0)
        return fields


def result(
    mix: Mix, loads: Loads, rates: Sequence[Rate], quotas: dict[str, float], seconds: float, peak_rss_mb: float
) -> Result:
    """All of it."""
    work = loads.work()
    names = [_name(mix, n) for n in range(mix.hours)]
    cores = {r.part: work[r.part] / _HOUR / r.per_s if r.per_s else np.zeros(mix.hours) for r in rates}
    hours = [_hour(n, names[n], loads, cores) for n in range(mix.hours)]
    peaks = []
    for rate in rates:
        row = work[rate.part]
        at = int(row.argmax())
        most = int(row[at])
        busiest = float(cores[rate.part][at])
        peaks.append(
            Peak(
                rate.part,
                rate.what,
                int(row.sum()),
                most,
                round(most / _HOUR, 1),
                names[at],
                round(busiest, 3),
                rate.source,
            )
        )
    return Result(
        mix,
        assumptions(mix),
        list(rates),
        peaks,
        [_quota(p, loads, quotas[p]) for p in PROVIDERS],
        _totals(loads),
        _burst(loads, names, rates),
        max(hour.gate_mb for hour in hours),
        max(hour.due_mb for hour in hours),
        round(float(np.sum(list(cores.values()), axis=0).max()), 2),
        round(seconds, 1),
        peak_rss_mb,
        hours,
    )


def _name(mix: Mix, n: int) -> str:
    start = datetime(mix.start.year, mix.start.month, mix.start.day, tzinfo=UTC)
    return (start + timedelta(hours=n)).strftime("%Y-%m-%dT%H:%MZ")


def _hour(n: int, name: str, loads: Loads, cores: dict[str, Row]) -> Hour:
    def at(rows: dict[str, Row]) -> dict[str, int]:
        return {key: int(row[n]) for key, row in rows.items()}

    def rounded(rows: dict[str, Row], digits: int) -> dict[str, float]:
        return {key: round(float(row[n]), digits) for key, row in rows.items()}

    return Hour(
        name,
        int(loads.events[n]),
        int(loads.marks[n]),
        int(loads.user_rows[n]),
        at(loads.due),
        int(loads.scanned[n]),
        at(loads.claims),
        at(loads.denied),
        at(loads.sends),
        at(loads.pushes),
        rounded(loads.peak, 2),
        at(loads.burst),
        rounded(loads.drain, 1),
        int(loads.ledger[n]),
        int(loads.fields[n]),
        round(float(loads.fields[n]) * BYTES_PER_FIELD / 1e6, 1),
        int(loads.timers[n]),
        round(float(loads.timers[n]) * BYTES_PER_TIMER / 1e6, 1),
        rounded(cores, 3),
    )


def _burst(loads: Loads, names: Sequence[str], rates: Sequence[Rate]) -> Burst:
    at = int(loads.due[STREAK_SAVER.name].argmax())
    due = int(loads.due[STREAK_SAVER.name][at])
    pushes = sum(int(row[at]) for row in loads.burst.values())
    # A claim and a settling each.
    work = {"due": due, "gate": 2 * due, "delivery": pushes}
    cores = {r.part: round(work[r.part] / WITHIN / r.per_s, 2) for r in rates if r.part in work and r.per_s}
    return Burst(names[at], due, pushes, WITHIN, cores)


def _quota(provider: str, loads: Loads, per_s: float) -> Quota:
    peak = float(loads.peak[provider].max())
    drain = loads.drain[provider]
    return Quota(
        provider,
        per_s,
        int(loads.pushes[provider].sum()),
        round(peak, 1),
        round(peak / per_s, 3) if per_s else 0.0,
        int(loads.burst[provider].max()),
        -1.0 if (drain < 0).any() else round(float(drain.max()), 1),
    )


def _totals(loads: Loads) -> dict[str, int]:
    totals = {
        "events": loads.events,
        "scanned_rows": loads.scanned,
        "claims": sum(loads.claims.values()),
        "denied": sum(loads.denied.values()),
        "sends": sum(loads.sends.values()),
        "pushes": sum(loads.pushes.values()),
        "ledger_rows": loads.ledger,
    }
    return {name: int(np.sum(row)) for name, row in totals.items()}
