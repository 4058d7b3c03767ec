"""The independent witness: what devices were shown, judged without any of the engine's own code.

It counts accepted pushes. A device shows each of them; one with the collapse id of an earlier one replaces that,
whichever of the device's tokens, and so of its providers, either came by.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from infra.simulator.compact import CompactMap, key_of
from infra.simulator.devices import Devices
from infra.simulator.push import Push

QUIET_FROM: Final = 22  # local hour, inclusive
QUIET_UNTIL: Final = 8  # local hour, exclusive
QUIET_EXEMPT: Final = "streak_saver"
KINDS_COUNTED: Final = 64  # kinds come from outside: more than these are counted as "other"
EXAMPLES: Final = 5  # of each fault


class Witness:
    """Counts accepted and rejected pushes, and those that nobody should have seen."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices
        self.reset()

    def reset(self) -> None:
        self._accepted = 0
        self._shown_twice = 0
        self._repeated_calls = 0
        self._without_send_id = 0
        self._outside: Counter[str] = Counter(quiet_hours=0, expired=0)
        self._outside_window = 0
        self._rejected: Counter[str] = Counter()
        self._by_provider: Counter[str] = Counter(apns=0, fcm=0)
        self._by_kind: Counter[str] = Counter()
        self._by_hour: Counter[int] = Counter()
        self._by_send = CompactMap()  # (screen, send id) -> accepted calls
        self._by_collapse_id = CompactMap()  # (screen, collapse id) -> accepted calls
        self._screens = CompactMap()
        self._sends = CompactMap()
        self._exemplified: Counter[str] = Counter()
        self._examples: list[dict[str, Any]] = []

    def rejected(self, reason: str) -> None:
        self._rejected[reason] += 1

    def accepted(self, push: Push, now: float) -> None:
        """Record a push that the provider answered with success at `now` (unix seconds)."""
        self._accepted += 1
        self._by_provider[push.provider] += 1
        kind = push.kind or "none"
        self._by_kind[kind if kind in self._by_kind or len(self._by_kind) < KINDS_COUNTED else "other"] += 1
        self._by_hour[int(now // 3600)] += 1
        screen = self._devices.screen(push.token)
        self._screens.bump(screen)
        self._count_repeats(push, screen, now)
        if fault := self.outside_window(push, now):
            self._outside_window += 1
            self._outside[fault] += 1
            self._example(fault, push, now)

    def _count_repeats(self, push: Push, screen: int, now: float) -> None:
        again = replaced = 0
        if push.send_id:
            self._sends.bump(key_of(push.send_id))
            again = self._by_send.bump(key_of(screen, push.send_id))
        else:
            self._without_send_id += 1
        if push.collapse_id:
            replaced = self._by_collapse_id.bump(key_of(screen, push.collapse_id))
        if again or replaced:
            self._shown_twice += 1
            self._repeated_calls += bool(replaced)
            self._example("repeated_call" if replaced else "shown_twice", push, now)

    def outside_window(self, push: Push, now: float) -> str:
        """Why a push at `now` is outside its window: `expired`, `quiet_hours`, or "" when it is inside."""
        if push.expires_at is not None and now > push.expires_at:
            return "expired"
        if push.kind != QUIET_EXEMPT and (zone := self._devices.zone(push.token)) is not None:
            hour = datetime.fromtimestamp(now, zone).hour
            if hour >= QUIET_FROM or hour < QUIET_UNTIL:
                return "quiet_hours"
        return ""

    def _example(self, fault: str, push: Push, now: float) -> None:
        self._exemplified[fault] += 1
        if self._exemplified[fault] <= EXAMPLES:
            self._examples.append(
                {"fault": fault, "at": _iso(now), "local_time": self._local(push, now)} | _brief(push)
            )

    def _local(self, push: Push, now: float) -> str | None:
        zone = self._devices.zone(push.token)
        return datetime.fromtimestamp(now, zone).isoformat(timespec="seconds") if zone else None

    def stats(self) -> dict[str, Any]:
        """All counts, ready for JSON."""
        return {
            "accepted": self._accepted,
            "rejected": dict(self._rejected),
            "by_provider": dict(self._by_provider),
            "by_kind": dict(self._by_kind),
            "shown_twice": self._shown_twice,
            "repeated_calls": self._repeated_calls,
            "outside_window": self._outside_window,
            "outside_window_by": dict(self._outside),
            "without_send_id": self._without_send_id,
            "by_hour": {_hour(hour): count for hour, count in sorted(self._by_hour.items())},
            "distinct_devices": len(self._screens),
            "distinct_sends": len(self._sends),
            "devices_known": len(self._devices),
            "examples": self._examples,
        }


def _brief(push: Push) -> dict[str, Any]:
    return {
        "provider": push.provider,
        "token": push.token[:64],
        "send_id": push.send_id[:128],
        "kind": push.kind[:64],
        "collapse_id": push.collapse_id[:64],
        "expires_at": push.expires_at,
    }


def _iso(instant: float) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=instant)).isoformat(timespec="seconds")


def _hour(hour: int) -> str:
    return _iso(hour * 3600).replace("+00:00", "Z")
