"""Erasing from PostgreSQL: users and devices go; what the audit counts stays, under pseudonyms."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files

import msgspec
import numpy as np

from shared.store.databases import Databases, living
from shared.store.erased import Erased, Erasure, Secret
from shared.store.late import PlannedPages
from shared.store.partitions import Connection, days_of

_LOCK = 0x73_75_72_6E_69_65
"""PostgreSQL's advisory lock of those who add to `erased`: its numbers then come in the order of commits, so that who
has read up to one has missed none."""
_ALL = datetime.max.replace(tzinfo=UTC)

Campaigns = dict[str, list[int]]


class Store:
    """One process's. Raises psycopg's errors where the database does not answer; harmless to repeat."""

    def __init__(self, databases: Databases, key_days: int) -> None:
        self._databases = databases
        self._key_days = key_days
        self._erased = Erased()
        self._pages = PlannedPages(databases)
        queries = files("stream") / "queries"
        self._stage = (queries / "stage_outcomes.sql").read_text()
        self._merge = (queries / "merge_ledger.sql").read_text()
        self._from_ledger = (queries / "erase_ledger.sql").read_text()
        self._users = (queries / "erase_users.sql").read_text()

    async def name(self, connection: Connection, users: Sequence[int], now: datetime) -> dict[int, Erasure]:
        """Write down that these are erased, each under its pseudonym; within a transaction of the caller's."""
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        known = await self._erased.among(connection, users)
        newest = await self._key(connection, now)
        await self._erased.read(connection)
        secrets = self._erased.secrets()
        # Who was erased before, and came back, stays under one name for as long as that key lives.
        named = {
            user_id: Erasure(newest, secrets[newest].pseudonym(user_id), now)
            if user_id not in known
            else known[user_id]._replace(at=now)
            for user_id in users
        }
        sieves = [int(secrets[each.key_id].sieve(np.array([user]))[0]) for user, each in named.items()]
        names = [each.pseudonym for each in named.values()]
        # Out and in: with new numbers, they are read again by those who have read the old ones.
        await connection.execute("DELETE FROM erased WHERE pseudonym = ANY(%s)", (names,))
        await connection.execute(
            "INSERT INTO erased (key_id, pseudonym, sieve, erased_at) "
            "SELECT key_id, pseudonym, sieve, %s FROM unnest(%s::bigint[], %s::bigint[], %s::int[]) "
            "AS e (key_id, pseudonym, sieve)",
            (now, [each.key_id for each in named.values()], names, sieves),
        )
        return named

    async def _key(self, connection: Connection, now: datetime) -> int:
        """The key for new pseudonyms: the newest, unless it is so old that it is about to go."""
        cursor = await connection.execute(
            "SELECT key_id FROM erasure_keys WHERE since > %s ORDER BY key_id DESC LIMIT 1",
            (now - timedelta(days=self._key_days),),
        )
        row = await cursor.fetchone()
        if row is None:
            cursor = await connection.execute(
                "INSERT INTO erasure_keys (secret, since) VALUES (%s, %s) RETURNING key_id", (Secret.new(), now)
            )
            row = await cursor.fetchone()
        return msgspec.convert(row, tuple[int])[0]

    async def remove_users(self, connection: Connection, users: Sequence[int]) -> dict[int, int]:
        """Users and their devices in the connection's database; user -> devices, of those that there were."""
        cursor = await connection.execute(self._users, {"users": list(users)})
        return dict(msgspec.convert(await cursor.fetchall(), list[tuple[int, int]]))

    async def pages_with(self, connection: Connection, users: Sequence[int]) -> dict[int, list[int]]:
        """Pages on their way to Kafka that name some of these users -> the users."""
        cursor = await connection.execute(
            "SELECT page_id, users FROM outbox JOIN planned USING (page_id) WHERE users && %s::bigint[]",
            (list(users),),
        )
        wanted = set(users)
        found: dict[int, list[int]] = defaultdict(list)
        for page_id, on_it in msgspec.convert(await cursor.fetchall(), list[tuple[int, list[int]]]):
            found[page_id] += wanted.intersection(on_it)
        return dict(found)

    async def rename_ledger(
        self, connection: Connection, users: Mapping[int, Erasure], days: Sequence[date] | None = None
    ) -> list[tuple[int, str]]:
        """Rows of the ledger under their pseudonyms; pseudonym and campaign of each. Within a transaction.

        `days`: those dates alone, and of users who came back only what was due before. None: all dates, and all rows.
        """
        back = await living(self._databases, connection, users) if days is not None else ()
        values = {
            "users": list(users),
            "pseudonyms": [each.pseudonym for each in users.values()],
            "until": [each.at if user_id in back else _ALL for user_id, each in users.items()],
        }
        await connection.execute(self._stage)
        found: list[tuple[int, str]] = []
        # One date after the other, by the primary key, which begins with it. Not prepared, as in `PlannedPages`.
        for day in await days_of(connection, "ledger") if days is None else days:
            cursor = await connection.execute(self._from_ledger, values | {"day": day}, prepare=False)
            found += msgspec.convert(await cursor.fetchall(), list[tuple[int, str]])
        if found:
            await connection.execute(self._merge)
        return found

    async def rename_planned(self, connection: Connection, users: Mapping[int, Erasure]) -> list[tuple[int, str]]:
        """Entries of the planners' record under their pseudonyms; pseudonym and campaign of each."""
        names = {user_id: each.pseudonym for user_id, each in users.items()}
        found: list[tuple[int, str]] = []
        for day in await days_of(connection, "planned"):
            found += await self._pages.replace(connection, day, names)
        return found

    async def move_checkpoints(self, connection: Connection, users: Sequence[int]) -> None:
        """A scan continues after an id, whether or not that is anybody's."""
        statement = (
            "UPDATE scan_checkpoints SET after_key = jsonb_set(after_key, '{1}', "
            "to_jsonb((after_key ->> 1)::bigint - 1)) WHERE (after_key ->> 1)::bigint = ANY(%s)"
        )
        # The one before may be erased as well.
        while (await connection.execute(statement, (list(users),))).rowcount:
            pass


def campaigns_of(entries: Sequence[tuple[int, str]], users: Mapping[int, Erasure]) -> Campaigns:
    """Campaign -> users, of what was renamed."""
    names = {each.pseudonym: user_id for user_id, each in users.items()}
    found: dict[str, set[int]] = defaultdict(set)
    for pseudonym, campaign in entries:
        if campaign and pseudonym in names:
            found[campaign].add(names[pseudonym])
    return {campaign: sorted(user_ids) for campaign, user_ids in found.items()}


def by_user(entries: Sequence[tuple[int, str]], users: Mapping[int, Erasure]) -> Counter[int]:
    """User -> how many entries were renamed."""
    names = {each.pseudonym: user_id for user_id, each in users.items()}
    return Counter(names[pseudonym] for pseudonym, _ in entries)
