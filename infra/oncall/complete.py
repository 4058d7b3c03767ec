"""What the shell completes: kinds, zones and topics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def kinds(incomplete: str) -> list[str]:
    """Reminder kinds that a backfill knows."""
    from batch.backfill.request import KIND_NAMES

    return list(_beginning(KIND_NAMES, incomplete))


def zones(incomplete: str) -> list[str]:
    """Time zones; behind a comma the next one."""
    from shared.policy.localtime import known_zones

    done, comma, last = incomplete.rpartition(",")
    return [f"{done}{comma}{name}" for name in _beginning(sorted(known_zones()), last)]


def topics(incomplete: str) -> list[str]:
    """Topics by their full names."""
    from shared.settings import load_settings
    from shared.topics import Topics

    return list(_beginning(Topics.of(load_settings()).all(), incomplete))


def vias(incomplete: str) -> list[str]:
    """Who may run a backfill."""
    return list(_beginning(("local", "airflow"), incomplete))


def _beginning(names: Iterable[str], incomplete: str) -> Iterator[str]:
    return (name for name in names if name.lower().startswith(incomplete.lower()))
