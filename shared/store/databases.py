"""The databases that have users and devices, and who is where. Everything else of Surnia's is in the main database.

By default there is one, the main database itself; `SURNIA_DATABASES` names others (shared/store/addresses.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import psycopg
from pydantic import SecretStr

from shared.identity import MULTIPLIER, SHARD_BITS, SHARDS, SLOT_BITS, shard_of
from shared.settings import Settings
from shared.store.addresses import place_of
from shared.store.connections import Pool, pool

Connection = psycopg.AsyncConnection[Any]
Ids = npt.NDArray[np.int64]
T = TypeVar("T")

MAIN = "main"
"""The name of the one database where none is named."""


@dataclass(frozen=True, slots=True)
class Database:
    """One of them. Equal to none but itself, and cheap to look up by."""

    name: str
    shards: frozenset[int] = field(repr=False, compare=False)
    url: SecretStr = field(compare=False)
    replica: SecretStr | None = field(compare=False)
    is_main: bool = field(compare=False)
    """Whether it is the main database itself, which then has these users beside Surnia's own tables."""

    async def connect(self, application: str, *, replica: bool = False, autocommit: bool = True) -> Connection:
        """A connection of one's own. `replica`: to where scans read."""
        address = self.replica if replica and self.replica else self.url
        return await psycopg.AsyncConnection.connect(
            address.get_secret_value(), autocommit=autocommit, application_name=application, connect_timeout=5
        )


class Databases(Sequence[Database]):
    """All of them, in the order in which the settings name them."""

    def __init__(self, databases: Sequence[Database]) -> None:
        self._all = tuple(databases)
        self._by_shard = np.zeros(SHARDS, np.int64)
        for number, database in enumerate(self._all):
            self._by_shard[list(database.shards)] = number
        self._numbers: list[int] = self._by_shard.tolist()

    @classmethod
    def of(cls, settings: Settings) -> Databases:
        """Those of the settings. Raises `MissingAddressError` where not even the main one is named."""
        if not settings.databases:
            url = SecretStr(settings.require_postgres())
            return cls([Database(MAIN, frozenset(range(SHARDS)), url, None, is_main=True)])
        main = place_of(settings.postgres_url.get_secret_value()) if settings.postgres_url else None
        return cls(
            [
                Database(
                    each.name, frozenset(each.shards), each.url, each.replica,
                    is_main=place_of(each.url.get_secret_value()) == main,
                )
                for each in settings.databases
            ]
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, number: Any) -> Any:
        return self._all[number]

    def __iter__(self) -> Iterator[Database]:
        return iter(self._all)

    def for_shard(self, shard: int) -> Database:
        """The one that has a shard's users."""
        return self._all[self._numbers[shard]]

    def for_user(self, user_id: int) -> Database:
        """The one that has a user, or would."""
        return self._all[self._numbers[shard_of(user_id)]]

    def numbers(self, user_ids: Ids) -> Ids:
        """Of each user the number of the database, for whole arrays."""
        slots = user_ids.astype(np.uint64) * np.uint64(MULTIPLIER)
        found: Ids = self._by_shard[slots >> np.uint64(SLOT_BITS - SHARD_BITS)]
        return found

    def group(self, user_ids: Collection[int]) -> dict[Database, list[int]]:
        """Users by database, in their order; only those databases that have any."""
        if len(self._all) == 1:
            return {self._all[0]: list(user_ids)} if user_ids else {}
        ids = np.fromiter(user_ids, np.int64, len(user_ids))
        numbers = self.numbers(ids)
        return {self._all[number]: ids[numbers == number].tolist() for number in np.unique(numbers).tolist()}

    def share(self, things: Iterable[tuple[int, T]]) -> dict[Database, list[T]]:
        """Things that belong to users by database, in their order; the user is named beside each."""
        if len(self._all) == 1:
            found = [thing for _, thing in things]
            return {self._all[0]: found} if found else {}
        out: dict[Database, list[T]] = {}
        for user_id, thing in things:
            out.setdefault(self.for_user(user_id), []).append(thing)
        return out

    def parts(self, shards: Iterable[int]) -> dict[Database, list[int]]:
        """Shards by database, in their order."""
        out: dict[Database, list[int]] = {}
        for shard in shards:
            out.setdefault(self.for_shard(shard), []).append(shard)
        return out

    def shard_groups(self, groups: int) -> list[list[int]]:
        """All shards in about so many runs for the tasks of a scan, at least one a database and none over two, so that
        no task waits for one database while it could read the other. The databases take turns."""
        cut: list[list[list[int]]] = []
        for database in self._all:
            shards = sorted(database.shards)
            count = min(len(shards), max(1, round(groups * len(shards) / SHARDS)))
            bounds = [n * len(shards) // count for n in range(count + 1)]
            cut.append([shards[start:end] for start, end in pairwise(bounds)])
        longest = max(map(len, cut))
        return [mine[n] for n in range(longest) for mine in cut if n < len(mine)]


class UserPools:
    """A pool for each database; the main one's is the pool that the main database has anyhow."""

    def __init__(self, databases: Databases, main: Pool, settings: Settings, size: int = 4, **options: bool) -> None:
        self.databases = databases
        self.main = main
        """Of the main database: Surnia's own tables. Opened and closed by whoever made it."""
        self._pools = {
            database: main if database.is_main else pool(settings, size, url=database.url, **options)
            for database in databases
        }

    def of(self, database: Database) -> Pool:
        return self._pools[database]

    async def open(self) -> None:
        """Does not wait for a connection."""
        for each in self._own:
            await each.open()

    async def close(self) -> None:
        for each in self._own:
            await each.close()

    @property
    def _own(self) -> list[Pool]:
        return [each for each in self._pools.values() if each is not self.main]


@asynccontextmanager
async def user_connection(database: Database, main: Connection) -> Any:
    """Where a database's users are: the connection to the main database if it is that, else one for the moment."""
    if database.is_main:
        yield main
        return
    async with await database.connect("surnia users") as connection:
        yield connection


async def living(databases: Databases, main: Connection, user_ids: Collection[int]) -> set[int]:
    """Those of some ids that belong to a user."""
    found: set[int] = set()
    for database, mine in databases.group(user_ids).items():
        async with user_connection(database, main) as connection:
            cursor = await connection.execute("SELECT id FROM users WHERE id = ANY(%s)", (mine,))
            found.update(user_id for (user_id,) in await cursor.fetchall())
    return found
