"""The database that is scanned: made by PostgreSQL itself, and kept for the next run."""

from __future__ import annotations

from datetime import date, timedelta
from importlib.resources import files

import psycopg
from psycopg import sql
from rich.progress import Progress

TODAY = date(2026, 11, 21)
LADDER = (7, 14, 30, 60, 90)
ZONES = (
    "Asia/Kolkata", "America/Sao_Paulo", "America/New_York", "Asia/Tokyo", "Asia/Jakarta", "Europe/Berlin",
    "America/Mexico_City", "Asia/Shanghai", "Europe/Istanbul", "America/Bogota", "Europe/London",
    "America/Los_Angeles", "Asia/Dhaka", "Asia/Ho_Chi_Minh", "Europe/Paris", "Africa/Cairo", "America/Chicago",
    "Europe/Madrid", "Asia/Manila", "Africa/Lagos",
)  # fmt: skip
_CHUNK = 100_000
_VERSION = 1
_HASHES = {"ix_devices_token": "token", "ix_devices_fcm_token": "fcm_token"}


def due_share() -> float:
    """Of all users, those on a rung on TODAY, nearly: some of the others stand on one by chance."""
    return 0.25


def fill(url: str, users: int, progress: Progress) -> bool:
    """Make the tables hold so many users; False where they do already."""
    mark = f"bench scan {_VERSION}: {users} users"
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT obj_description('users'::regclass)").fetchone()
        if row and row[0] == mark:
            return False
        connection.execute("TRUNCATE users, devices")
        for name in _HASHES:
            connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(name)))
        query = (files("infra.bench.scan") / "material.sql").read_text()
        task = progress.add_task("users", total=users)
        for first in range(1, users + 1, _CHUNK):
            last = min(first + _CHUNK - 1, users)
            values = {"first": first, "last": last, "zones": list(ZONES), "today": TODAY, "ladder": list(LADDER)}
            connection.execute(query, values)
            progress.advance(task, last - first + 1)
        for name, column in _HASHES.items():
            create = sql.SQL("CREATE INDEX {} ON devices USING hash ({})")
            connection.execute(create.format(sql.Identifier(name), sql.Identifier(column)))
        connection.execute("VACUUM ANALYZE users, devices")
        connection.execute(sql.SQL("COMMENT ON TABLE users IS {}").format(sql.Literal(mark)))
    return True


IDLE = TODAY + timedelta(days=3_000)
"""A day on which nobody is due: all have been silent for longer."""
