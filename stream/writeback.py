"""Activity, devices and preferences into PostgreSQL, some batches at a time, so that the batch path learns who fell
silent. Repeating a batch changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from psycopg import AsyncConnection

from shared.clock import utc
from shared.policy.kinds import KINDS
from shared.policy.localtime import local_date
from shared.store.databases import Database, UserPools
from shared.wire.events import DeviceRegistered
from stream.effects import Effects, UserActivity
from stream.moved import MovedTokens
from stream.recent import Recent

_NULL = r"\N"
_NO_CHOICES = "\t".join([_NULL] * 4)
_LINES = 1000


@dataclass(slots=True)
class _Devices:
    """What a batch says of one database's devices."""

    registered: list[DeviceRegistered] = field(default_factory=list)
    removed: list[tuple[int, str, float]] = field(default_factory=list)


class WriteBack:
    """Writes what batches of events came to. Raises psycopg's errors where a database does not answer."""

    def __init__(self, pools: UserPools) -> None:
        self._pools = pools
        self._databases = pools.databases
        self._moved = MovedTokens(pools)
        self._recent = Recent()
        queries = files("stream") / "queries"
        self._stage = (queries / "stage.sql").read_text()
        self._merge_users = (queries / "merge_users.sql").read_text()
        self._merge_devices = (queries / "merge_devices.sql").read_text()

    async def zones(self, user_ids: list[int]) -> dict[int, str]:
        """The time zones of known users."""
        found: dict[int, str] = {}
        for database, mine in self._databases.group(user_ids).items():
            async with self._pools.of(database).connection() as connection:
                cursor = await connection.execute("SELECT id, time_zone FROM users WHERE id = ANY(%s)", (mine,))
                found |= {int(str(user_id)): str(zone) for user_id, zone in await cursor.fetchall()}
        return found

    async def write(self, batches: Sequence[Effects]) -> dict[str, int]:
        """One transaction a database for batches in their order, of what is new in them; calls must not overlap.

        How many rows were written, by kind. Where one of several databases fails, the others may have what is theirs:
        written once more, it changes nothing.
        """
        users = self._news(batches)
        found = {
            "users": len(users), "devices": sum(len(effects.registered) for effects in batches),
            "removed": sum(len(effects.removed) for effects in batches),
        }  # fmt: skip
        if not any(found.values()):
            return found
        try:
            await self._write(users, batches)
        except BaseException:
            for user_id, _ in users:
                self._recent.forget(user_id)
            raise
        return found

    async def _write(self, users: Sequence[tuple[int, UserActivity]], batches: Sequence[Effects]) -> None:
        shares = self._databases.share((user_id, (user_id, user)) for user_id, user in users)
        devices: dict[Database, list[_Devices]] = {}
        for effects in batches:
            for database, mine in self._devices_of(effects).items():
                devices.setdefault(database, []).append(mine)
        writing = [
            self._write_to(database, shares.get(database, []), devices.get(database, []))
            for database in self._databases
            if database in shares or database in devices
        ]
        # Each to its end: no transaction may still be under way when the batches are written once more.
        for result in await asyncio.gather(*writing, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        registered = [event for effects in batches for event in effects.registered.values()]
        await self._moved.settle(
            {event.token for event in registered}, {event.fcm_token for event in registered if event.fcm_token}
        )

    async def _write_to(
        self, database: Database, users: Sequence[tuple[int, UserActivity]], batches: Sequence[_Devices]
    ) -> None:
        async with self._pools.of(database).connection() as connection:
            await connection.execute(self._stage)
            for n in range(await _stage_users(connection, users)):
                await connection.execute(self._merge_users, {"pass": n})
            for devices in batches:
                await self._write_devices(connection, devices)

    def _devices_of(self, effects: Effects) -> dict[Database, _Devices]:
        found: dict[Database, _Devices] = {}
        for event in effects.registered.values():
            found.setdefault(self._databases.for_user(event.user_id), _Devices()).registered.append(event)
        for (user_id, device_id), at in effects.removed.items():
            found.setdefault(self._databases.for_user(user_id), _Devices()).removed.append((user_id, device_id, at))
        return found

    async def _write_devices(self, connection: AsyncConnection[tuple[object, ...]], devices: _Devices) -> None:
        if devices.registered:
            await connection.execute("DELETE FROM staged_devices")  # A truncation costs as much as a hundred rows.
            await _stage_devices(connection, devices.registered)
            await connection.execute(self._merge_devices)
        if devices.removed:
            await _remove_devices(connection, devices.removed)

    def forget(self) -> None:
        """Others may have written since: what is remembered holds only for as long as the users' events come here."""
        self._recent = Recent()

    def _news(self, batches: Sequence[Effects]) -> list[tuple[int, UserActivity]]:
        """Who is to be written; remembered as if it had been."""
        for effects in batches:
            for user_id in effects.deleted:
                self._recent.forget(user_id)
            # A device needs its user's row, whatever is remembered of it.
            for user_id, _ in effects.registered:
                self._recent.forget(user_id)
        found = []
        for user_id, user in _folded([effects.users for effects in batches]):
            if facts := self._recent.news(user_id, user):
                self._recent.remember(user_id, facts)
                found.append((user_id, user))
        return found


def _folded(batches: Sequence[Mapping[int, UserActivity]]) -> Iterable[tuple[int, UserActivity]]:
    """What batches say of their users, in their order: once each, but for who changed zones in between."""
    if len(batches) == 1:
        return batches[0].items()
    last: dict[int, UserActivity] = {}
    before: list[tuple[int, UserActivity]] = []
    for users in batches:
        for user_id, user in users.items():
            known = last.get(user_id)
            if known is None:
                last[user_id] = user
            elif known.time_zone == user.time_zone:
                last[user_id] = known.then(user)
            else:
                before.append((user_id, known))
                last[user_id] = user
    return [*before, *last.items()]


async def _stage_users(
    connection: AsyncConnection[tuple[object, ...]], users: Iterable[tuple[int, UserActivity]]
) -> int:
    """Stage a row for each user, batch and practised date, in that order; the number of passes they take."""
    taken: dict[int, int] = {}
    lines: list[str] = []
    for user_id, user in users:
        first = taken.get(user_id, 0)
        lines.append(_rows(user_id, user, first))
        taken[user_id] = first + max(1, len(user.practices))
    async with connection.cursor() as cursor, cursor.copy("COPY staged_users FROM STDIN") as copy:
        for start in range(0, len(lines), _LINES):
            await copy.write("".join(lines[start : start + _LINES]))
    return max(taken.values(), default=0)


def _rows(user_id: int, user: UserActivity, first: int) -> str:
    """A user's rows, from that pass on, in COPY's text format: psycopg, told a row at a time, takes as long for them as
    all the rest of a batch.

    No text of an event holds a tab or a newline, and none but an address a backslash (shared/wire/events.py).
    """
    choices = _NO_CHOICES
    if user.opted_out is not None or user.email is not None or user.email_opted_out is not None:
        choices = _choices(user)
    seen = f"{_micros(user.event_at)}\t{local_date(user.event_at, user.time_zone).isoformat()}"
    who = f"{user.time_zone}\t{user.zone_given}\t{user.locale or _NULL}\t{seen}"
    if not user.practices:
        return f"{user_id}\t{first}\t{who}\t{_NULL}\t{_NULL}\t{choices}\n"
    practices = user.practices.items() if len(user.practices) == 1 else sorted(user.practices.items())
    return "".join(
        [
            f"{user_id}\t{n}\t{who}\t{_micros(at)}\t{day.isoformat()}\t{choices}\n"
            for n, (day, at) in enumerate(practices, first)
        ]
    )


def _choices(user: UserActivity) -> str:
    opted_out = _NULL if user.opted_out is None else sum(1 << KINDS[kind].code for kind in set(user.opted_out))
    email, email_at = (_NULL, 0.0) if user.email is None else (user.email[0].replace("\\", "\\\\"), user.email[1])
    return (
        f"{opted_out}\t{email}\t{_micros(email_at)}\t{_NULL if user.email_opted_out is None else user.email_opted_out}"
    )


def _micros(instant: float) -> int:
    # A whole number is formatted in a third of a fraction's time.
    return round(instant * 1e6)


async def _stage_devices(
    connection: AsyncConnection[tuple[object, ...]], registered: Iterable[DeviceRegistered]
) -> None:
    async with connection.cursor() as cursor, cursor.copy("COPY staged_devices FROM STDIN") as copy:
        for event in registered:
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
    connection: AsyncConnection[tuple[object, ...]], removed: Iterable[tuple[int, str, float]]
) -> None:
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "UPDATE devices SET retired_at = %s, retired_reason = 'removed' "
            "WHERE user_id = %s AND device_id = %s AND retired_at IS NULL AND registered_at <= %s",
            [(utc(at), user_id, device_id, utc(at)) for user_id, device_id, at in removed],
        )
