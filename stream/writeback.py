"""Activity, devices, preferences and deletions into PostgreSQL, a batch at a time, so that the batch path
learns who fell silent. Repeating a batch changes nothing."""

from __future__ import annotations

from datetime import date, datetime
from importlib.resources import files

from psycopg import AsyncConnection

from shared.clock import utc
from shared.policy.kinds import KINDS
from shared.policy.localtime import local_date
from shared.store.connections import Pool
from stream.effects import Effects, UserActivity


class WriteBack:
    """Writes what batches of events came to. Raises psycopg's errors where the database does not answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        queries = files("stream") / "queries"
        self._stage = (queries / "stage.sql").read_text()
        self._merge_users = (queries / "merge_users.sql").read_text()
        self._merge_devices = (queries / "merge_devices.sql").read_text()

    async def zones(self, user_ids: list[int]) -> dict[int, str]:
        """The time zones of known users."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute("SELECT id, time_zone FROM users WHERE id = ANY(%s)", (user_ids,))
            return {int(str(user_id)): str(zone) for user_id, zone in await cursor.fetchall()}

    async def write(self, effects: Effects) -> None:
        """One transaction for one batch."""
        async with self._pool.connection() as connection:
            if effects.deleted:
                await connection.execute("DELETE FROM users WHERE id = ANY(%s)", (list(effects.deleted),))
            if effects.users:
                await connection.execute(self._stage)
                for n in range(await _stage_users(connection, effects.users)):
                    await connection.execute(self._merge_users, {"pass": n})
            if effects.registered:
                await _stage_devices(connection, effects)
                await connection.execute(self._merge_devices)
            if effects.removed:
                await _remove_devices(connection, effects.removed)


async def _stage_users(connection: AsyncConnection[tuple[object, ...]], users: dict[int, UserActivity]) -> int:
    """Stage a row for each user and practised date, oldest date first; the number of passes they take."""
    passes = 1
    async with connection.cursor() as cursor, cursor.copy("COPY staged_users FROM STDIN") as copy:
        for user_id, user in sorted(users.items()):
            opted_out = None if user.opted_out is None else sum(1 << KINDS[kind].code for kind in set(user.opted_out))
            practices: list[tuple[date | None, datetime | None]] = [
                (day, utc(at)) for day, at in sorted(user.practices.items())
            ] or [(None, None)]
            email, email_at = user.email or (None, 0.0)
            active_date = local_date(user.event_at, user.time_zone)
            for n, (day, at) in enumerate(practices):
                await copy.write_row(
                    (
                        user_id, n, user.time_zone, user.zone_given, user.locale, utc(user.event_at), active_date,
                        at, day, opted_out, email, utc(email_at), user.email_opted_out,
                    )
                )  # fmt: skip
            passes = max(passes, len(practices))
    return passes


async def _stage_devices(connection: AsyncConnection[tuple[object, ...]], effects: Effects) -> None:
    async with connection.cursor() as cursor, cursor.copy("COPY staged_devices FROM STDIN") as copy:
        for event in effects.registered.values():
            await copy.write_row(
                (
                    event.user_id,
                    event.device_id,
                    event.platform,
                    event.token,
                    event.app_version,
                    utc(event.instant),
                    event.fcm_token,
                )
            )


async def _remove_devices(
    connection: AsyncConnection[tuple[object, ...]], removed: dict[tuple[int, str], float]
) -> None:
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "UPDATE devices SET retired_at = %s, retired_reason = 'removed' "
            "WHERE user_id = %s AND device_id = %s AND retired_at IS NULL AND registered_at <= %s",
            [(utc(at), user_id, device_id, utc(at)) for (user_id, device_id), at in removed.items()],
        )
