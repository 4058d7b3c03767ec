"""Pages that were planned with a user who was erased meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from datetime import date
from importlib.resources import files

import msgspec

from shared.store.databases import Databases, living
from shared.store.erased import Erased
from shared.store.partitions import Connection


class PlannedPages:
    """The planners' record, as far as erased users stand in it. One a process."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._erased = Erased()
        self._query = (files("shared.store") / "queries" / "erase_planned.sql").read_text()

    async def mend(self, connection: Connection, page_id: int, days: Collection[date], user_ids: Sequence[int]) -> int:
        """Pseudonyms for those of a page who were erased before it was committed; how many entries.

        Who erases tells the name first and looks through the pages then; a planner commits its page first and asks for
        names then. So one of the two finds an erased user on it, whoever comes first.
        """
        async with nullcontext() if connection.autocommit else connection.transaction():
            found = await self._erased.among(connection, user_ids)
            if not found:
                return 0
            # Who came back under the same id is a user like any other.
            back = await living(self._databases, connection, found)
            gone = {user_id: erasure.pseudonym for user_id, erasure in found.items() if user_id not in back}
            entries = 0
            for day in days if gone else ():
                entries += len(await self.replace(connection, day, gone, page_id))
            return entries

    async def mend_left(self, connection: Connection, page_id: int) -> int:
        """The same of a page that its planner has left, found by its number."""
        cursor = await connection.execute("SELECT local_date, users FROM planned WHERE page_id = %s", (page_id,))
        rows = msgspec.convert(await cursor.fetchall(), list[tuple[date, list[int]]])
        users = [user_id for _, page in rows for user_id in page]
        return await self.mend(connection, page_id, {day for day, _ in rows}, users)

    async def replace(
        self, connection: Connection, day: date, users: Mapping[int, int], page_id: int | None = None
    ) -> list[tuple[int, str]]:
        """User -> pseudonym, in all pages of a date or in one; the pseudonym and campaign of each entry."""
        values = {"day": day, "page": page_id, "users": list(users), "pseudonyms": list(users.values())}
        # Not prepared: a plan for whatever date would look into all partitions.
        cursor = await connection.execute(self._query, values, prepare=False)
        rows = msgspec.convert(await cursor.fetchall(), list[tuple[list[int], str]])
        return [(pseudonym, campaign) for page, campaign in rows for pseudonym in page]
