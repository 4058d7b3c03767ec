"""Tokens that move between databases: a phone that is handed on to a user who lives in another one.

Inside a database merge_devices.sql retires whoever had the token before, in the transaction that registers it. Over
several that takes a second step: when the registrations are committed, all databases are asked who has their tokens,
and all but the last to register are retired. Two workers that register the same token at once in two databases both
commit first and ask then, so one of them at least sees both. A crash before the second step brings the events again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from importlib.resources import files
from typing import NamedTuple

import msgspec

from shared.store.databases import Database, UserPools


class Holder(NamedTuple):
    """A live device with a token; of several the greatest has it."""

    registered_at: datetime
    user_id: int
    device_id: str
    database: Database


def losers(holders: Collection[Holder]) -> Iterator[tuple[Holder, datetime]]:
    """Those who have a token no more, and since when."""
    last = max(holders, key=lambda holder: holder[:3])
    return ((holder, last.registered_at) for holder in holders if holder is not last)


class MovedTokens:
    """Looks after the tokens of registrations. Does nothing where there is one database."""

    def __init__(self, pools: UserPools) -> None:
        self._pools = pools
        self._query = (files("stream") / "queries" / "token_holders.sql").read_text()

    async def settle(self, tokens: Collection[str], fcm_tokens: Collection[str]) -> int:
        """Each of these tokens to the device that registered it last, committed; how many devices lost one.

        Idempotent. Must be called when the registrations are committed.
        """
        if len(self._pools.databases) == 1 or not tokens:
            return 0
        values = {"tokens": list(tokens), "fcm_tokens": [token for token in fcm_tokens if token]}
        holders: dict[tuple[bool, str], list[Holder]] = {}
        for database in self._pools.databases:
            async with self._pools.of(database).connection() as connection:
                cursor = await connection.execute(self._query, values)
                rows = msgspec.convert(await cursor.fetchall(), list[tuple[bool, str, datetime, int, str]])
            for beside, token, at, user_id, device_id in rows:
                holders.setdefault((beside, token), []).append(Holder(at, user_id, device_id, database))
        gone = [(beside, token, holder, at) for (beside, token), mine in holders.items() for holder, at in losers(mine)]
        for beside, token, holder, at in gone:
            async with self._pools.of(holder.database).connection() as connection:
                await connection.execute(
                    _TAKE_FCM if beside else _RETIRE, (at, holder.user_id, holder.device_id, token)
                )
        return len(gone)


_RETIRE = (
    "UPDATE devices SET retired_at = %s, retired_reason = 'token_moved' "
    "WHERE user_id = %s AND device_id = %s AND token = %s AND retired_at IS NULL"
)
_TAKE_FCM = (
    "UPDATE devices SET fcm_retired_at = %s, fcm_retired_reason = 'token_moved' "
    "WHERE user_id = %s AND device_id = %s AND fcm_token = %s AND fcm_retired_at IS NULL"
)
