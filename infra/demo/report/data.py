"""The contract of the report: what the finished demo counted. Filled from the ledger and the witness."""

from __future__ import annotations

import msgspec


class DeviceCounts(msgspec.Struct, frozen=True):
    """What the provider simulator saw. `accepted`: pushes answered with success."""

    shown_twice: int
    outside_window: int
    accepted: int


class Latency(msgspec.Struct, frozen=True):
    """Round trip of a request to the provider, milliseconds of real time."""

    p50: float
    p99: float


class Summary(msgspec.Struct, frozen=True):
    """The keys of demo.json, in its order. `by_path` and `by_kind` count granted sends; the seconds are real ones."""

    users: int
    active: int
    silent: int
    events: int
    dead_letters: int
    candidates: int
    granted: int
    denied: dict[str, int]
    delivered: int
    expired: int
    failed: int
    dropped: int
    in_flight: int
    by_path: dict[str, int]
    by_kind: dict[str, int]
    devices: DeviceCounts
    lost: int
    latency_ms: Latency
    seconds: float
    setup_seconds: float
    simulated_hours: int
    started_at: str
    audit_holds: bool
    problems: list[str]

    @property
    def denials(self) -> int:
        """Denied candidates, over all reasons."""
        return sum(self.denied.values())

    @property
    def candidates_add_up(self) -> bool:
        """candidates = denied + granted."""
        return self.candidates == self.denials + self.granted

    @property
    def granted_adds_up(self) -> bool:
        """granted = delivered + expired + failed + dropped + in flight."""
        return self.granted == self.delivered + self.expired + self.failed + self.dropped + self.in_flight

    @property
    def holds(self) -> bool:
        """Whether every promise was kept: the books balance, and the witness saw nothing it should not."""
        return (
            self.candidates_add_up
            and self.granted_adds_up
            and self.audit_holds
            and not (self.lost or self.devices.shown_twice or self.devices.outside_window or self.problems)
        )


class HourRow(msgspec.Struct, frozen=True):
    """Delivered sends of one hour; `hour` is its beginning, ISO, UTC."""

    hour: str
    path: str
    kind: str
    n: int


class ZoneRow(msgspec.Struct, frozen=True):
    """Delivered sends to one time zone."""

    time_zone: str
    utc_offset_hours: float
    path: str
    n: int


class LocalHourRow(msgspec.Struct, frozen=True):
    """Delivered sends by the zone's offset and the hour in UTC (0 to 23)."""

    utc_offset_hours: float
    utc_hour: int
    n: int


class DenialRow(msgspec.Struct, frozen=True):
    """Candidates that the gate or a planner denied."""

    path: str
    reason: str
    n: int


class LatencyBin(msgspec.Struct, frozen=True):
    """Sends that took up to `upper_ms`, and longer than the bin before."""

    upper_ms: float
    n: int


class OutcomeRow(msgspec.Struct, frozen=True):
    """Candidates by where they ended and why."""

    path: str
    kind: str
    result: str
    reason: str
    n: int


class Series(msgspec.Struct, frozen=True):
    """The rows behind the plots; a list may be empty."""

    sends_by_hour: list[HourRow] = []
    by_zone: list[ZoneRow] = []
    by_local_hour: list[LocalHourRow] = []
    denials: list[DenialRow] = []
    latency: list[LatencyBin] = []
    outcomes: list[OutcomeRow] = []
