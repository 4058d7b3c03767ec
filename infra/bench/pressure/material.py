"""The population: one device each, four fifths silent, made by the server itself."""

from __future__ import annotations

from datetime import date

import psycopg

# Over the days from which the ladder's rungs are seen on the dates of the bench; every zone has users.
_USERS = """
INSERT INTO users (id, time_zone, locale, country, last_event_at, last_active_date, last_practice_at,
                   last_practice_date, streak, email)
SELECT n, (%(zones)s::text[])[1 + n %% cardinality(%(zones)s::text[])], 'en', 'PT', day + time '12:00', day,
       day + time '12:00', day, n %% 300, 'user' || n || '@example.com'
FROM (
  SELECT n, %(today)s::date + 30 - (n * 7919 %% 130)::int AS day
  FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
) AS made
"""
_DEVICES = """
INSERT INTO devices (user_id, device_id, platform, token)
SELECT n, 'phone', 'ios', repeat(lpad(to_hex(n), 16, '0'), 4)
FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
"""
_CHUNK = 100_000


def fill(url: str, users: int, zones: list[str], today: date) -> None:
    """Users 1…n and their devices."""
    with psycopg.connect(url, autocommit=True) as connection:
        for first in range(1, users + 1, _CHUNK):
            values = {"zones": zones, "today": today, "first": first, "last": min(users, first + _CHUNK - 1)}
            connection.execute(_USERS, values)
            connection.execute(_DEVICES, values)
        # As in a database of some days' age, whose planner knows the tables.
        connection.execute("VACUUM ANALYZE users, devices")
        connection.execute("CHECKPOINT")
