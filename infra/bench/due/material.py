"""The crowd: users of one big time zone whose streak is at stake, each with a phone, in PostgreSQL and the index."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import islice

import psycopg

from infra.bench.ids import Ids
from shared.clock import utc
from shared.due.index import DueIndex, Practised
from shared.policy.localtime import instant_of, local_date

ZONE = "Asia/Kolkata"
"""Where the most people have 22:00 in the same minute."""
_LOCALES = ("en", "es", "ja", "ar")
_CHUNK = 20_000
_CROWD = 1 << 40
"""Crowds do not share users: the gate remembers whom it has granted a date."""


def due_at(now: float) -> float:
    """22:00 where they are, the first from now on."""
    today = instant_of(local_date(now, ZONE), 22, ZONE)
    return today if today >= now else instant_of(local_date(now, ZONE) + timedelta(days=1), 22, ZONE)


def users(crowd: int, n: int) -> Iterator[list[int]]:
    """Their ids, a chunk at a time."""
    for start in range(0, n, _CHUNK):
        yield Ids.sparse.numbers(crowd * _CROWD + start, min(_CHUNK, n - start)).tolist()


def fill_tables(url: str, n: int, crowd: int, due: float) -> None:
    """They practised the day before they are due."""
    practised = due - 86_400
    day = local_date(practised, ZONE)
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        for ids in users(crowd, n):
            columns = (
                "id, time_zone, locale, streak, last_event_at, last_active_date, last_practice_at, last_practice_date"
            )
            with cursor.copy(f"COPY users ({columns}) FROM STDIN") as copy:
                at = utc(practised)
                for user in ids:
                    copy.write_row((user, ZONE, _LOCALES[user % 4], 1 + user % 300, at, day, at, day))
            with cursor.copy("COPY devices (user_id, device_id, platform, token) FROM STDIN") as copy:
                for user in ids:
                    platform = "ios" if user % 2 else "android"
                    token = f"{user:064x}" if user % 2 else f"bench-{user:032x}" * 4
                    copy.write_row((user, f"d{user % 7}", platform, token))
        connection.commit()
        connection.autocommit = True
        # As in a database of some days' age, whose planner knows the tables.
        connection.execute("VACUUM ANALYZE users, devices")


async def fill_index(index: DueIndex, n: int, crowd: int, due: float) -> None:
    """Each user's streak saver, all at the same moment."""
    for ids in users(crowd, n):
        chunks = iter(ids)
        while chunk := list(islice(chunks, 5_000)):
            await index.update([Practised(user, None, due, 0.0) for user in chunk], [])
