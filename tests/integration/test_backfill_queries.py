"""What a backfill asks of the table of users, at a size at which a bad plan would show: by index, and hardly more than
it wants."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from typing import Any

import psycopg
import pytest

from shared.identity import SPREADS
from shared.policy.localtime import known_zones

USERS = 100_000
DAY = date(2026, 11, 20)
ZONES = sorted(known_zones())[::15]


@pytest.fixture(scope="module")
def connection(addresses: dict[str, str]) -> Iterator[psycopg.Connection]:
    """Users over forty zones and a hundred days; a fifth of them practised within the last five. Rolled back."""
    with psycopg.connect(addresses["postgres_url"]) as connection:
        connection.execute("TRUNCATE users CASCADE")
        connection.execute(
            "INSERT INTO users (id, time_zone, last_active_date, last_practice_at, last_practice_date) "
            "SELECT n, (%(zones)s::text[])[1 + n %% cardinality(%(zones)s::text[])], d, d + interval '12 hours', d "
            "FROM generate_series(1, %(users)s) AS n, LATERAL (SELECT %(day)s::date - "
            "CASE WHEN n %% 5 = 0 THEN n / 5 %% 5 ELSE 5 + n %% 97 END AS d) AS active",
            {"zones": ZONES, "users": USERS, "day": DAY},
        )
        connection.execute("ANALYZE users")
        yield connection
        connection.rollback()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def explained(connection: psycopg.Connection, name: str, values: dict[str, Any]) -> tuple[int, int, set[str]]:
    """Rows that it answered, rows of users that it read, and by which ways."""
    query = (files("batch") / "queries" / f"{name}.sql").read_text()
    row = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", values).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    users = [node for node in nodes(plan) if node.get("Relation Name") == "users"]
    read = sum(node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) for node in users)
    return int(plan["Actual Rows"]), round(read), {node["Node Type"] for node in users}


def slots(rungs: tuple[int, ...] = (7, 14, 30, 60, 90)) -> dict[str, Any]:
    found = [(zone, DAY - timedelta(days=rung)) for zone in ZONES[:10] for rung in rungs]
    return {
        "numbers": list(range(len(found))),
        "hours": list(range(len(found))),
        "lows": [0] * len(found),
        "highs": [SPREADS] * len(found),
        "zones": [zone for zone, _ in found],
        "dates": [day for _, day in found],
    }


def test_comebacks_are_counted_by_index(connection: psycopg.Connection) -> None:
    answered, read, ways = explained(connection, "backfill_silent", {**slots(), "shard": 7})
    assert answered and read <= 1.2 * answered
    assert "Seq Scan" not in ways


def test_hours_are_found_with_a_user_each(connection: psycopg.Connection) -> None:
    shards = list(range(16))
    _, read, ways = explained(connection, "backfill_hours", {**slots(), "shards": shards})
    assert read <= len(shards) * len(slots()["numbers"])
    assert "Seq Scan" not in ways


def test_who_practised_lately_is_found_among_who_was_active_lately(connection: psycopg.Connection) -> None:
    since = datetime(2026, 11, 17, 12, tzinfo=UTC)
    values: dict[str, Any] = {"shard": 7, "zones": ZONES, "since": since, "until": since + timedelta(days=3)}
    values["active_since"] = since.date() - timedelta(days=1)
    answered, read, ways = explained(connection, "backfill_practised", values)
    # Not the hundred days of the shard: of the five, those that the interval may concern.
    assert answered and read <= 2 * answered
    assert "Seq Scan" not in ways
