"""Reads a page of silent users with their devices: two queries, whatever the page's size."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch.cells import Cells
from batch.columns import Ints, Texts, ints, offsets, quotable, texts
from shared.store.partitions import Connection

_NEVER = ("seqscan", "hashjoin", "mergejoin", "bitmapscan", "memoize")
SESSION = "; ".join(
    # One plan for all pages, or PostgreSQL would weigh each of a page's ids anew; and no compiling of short queries.
    [*(f"SET enable_{way} = off" for way in _NEVER), "SET plan_cache_mode = force_generic_plan", "SET jit = off"]
)
"""A page goes by the index, whatever the planner believes of the tables: it would read a small one from end to end, or
remember what is asked for once."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A page's users, one entry each in all columns. Texts are as they stand between the quotes of JSON."""

    cells: Ints
    """Their cells' numbers among those that were asked for."""
    user_ids: Ints
    streaks: Ints
    opted_out: Ints
    locales: Texts
    emails: Texts
    targets: Texts
    """Their devices as the inside of a JSON array; empty: none."""

    def __len__(self) -> int:
        return len(self.user_ids)

    def take(self, which: Ints) -> Self:
        """Some of them."""
        if len(which) == len(self):
            return self
        columns = (getattr(self, name).take(which) for name in self.__slots__)
        return type(self)(*columns)


class Reader:
    """Asks one connection."""

    def __init__(self, connection: Connection, emails: bool) -> None:
        self._connection = connection
        self._emails = emails
        queries = files("batch") / "queries"
        self._page = (queries / "page.sql").read_text()
        self._devices = (queries / "devices.sql").read_text()
        self._look = (queries / "look.sql").read_text()

    async def prepare(self) -> None:
        """Once a connection."""
        await self._connection.execute(SESSION)

    async def look(self, shards: list[int], slots: dict[str, str]) -> tuple[Ints, Ints]:
        """The pairs of a shard and a slot's number that have anybody."""
        found = await self._ask(self._look, slots | {"shards": _array(shards)})
        return ints(found[0]), ints(found[1])

    async def page(self, cells: Cells, limit: int) -> Rows:
        """The first users of some cells, at most `limit`."""
        found = await self._ask(self._page, cells.literals() | {"limit": limit, "emails": self._emails})
        numbers, user_ids = ints(found[0], 8) - 1, ints(found[1], 8)
        return Rows(
            numbers,
            user_ids,
            ints(found[2]),
            ints(found[3]),
            quotable(texts(found[4], ints(found[5]))),
            quotable(texts(found[6], ints(found[7]))),
            await self._targets(user_ids),
        )

    async def _targets(self, user_ids: Ints) -> Texts:
        order = np.argsort(user_ids)
        users = user_ids[order]
        if not len(users):
            return pa.array([], pa.string())
        found = await self._ask(self._devices, {"users": _array(users.tolist())})
        owners = ints(found[0], 8)
        begin, end = np.searchsorted(owners, users, "left"), np.searchsorted(owners, users, "right")
        first = np.ones(len(owners), np.bool_)
        first[1:] = owners[1:] != owners[:-1]
        devices = pc.binary_join_element_wise(
            pc.if_else(pa.array(first), '["', ',["'),
            quotable(texts(found[1], ints(found[2]))),
            pc.if_else(pa.array(ints(found[3]) == 1), '","ios","', '","android","'),
            quotable(texts(found[4], ints(found[5]))),
            '","',
            quotable(texts(found[6], ints(found[7]))),
            '"]',
            "",
        )
        # A user's devices stand side by side: their texts together are one text.
        ends = np.append(offsets(devices)[begin], offsets(devices)[end[-1:]]).astype(np.int32)
        grouped = pa.StringArray.from_buffers(len(users), pa.py_buffer(ends), devices.buffers()[2])
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return grouped.take(pa.array(back))

    async def _ask(self, query: str, values: dict[str, Any]) -> list[bytes | None]:
        """The only row of the answer, in PostgreSQL's binary format."""
        async with self._connection.cursor(binary=True) as cursor:
            await cursor.execute(query, values, prepare=True)
            result = cursor.pgresult
            assert result is not None
            return [result.get_value(0, n) for n in range(result.nfields)]


def _array(numbers: list[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"
