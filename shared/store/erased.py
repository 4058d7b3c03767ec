"""Who was erased, for those that meet an erased user's id later: in Kafka, or in a page that was read before.

What PostgreSQL keeps of an erased user stands under a pseudonym: a negative number, made of the id with a secret. With
the secret whoever meets the id finds the pseudonym; it is thrown away when Kafka has forgotten the id as well, and then
nobody can. The number says nothing by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from secrets import token_bytes
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from shared.store.partitions import Connection

_SIEVE_BITS = 20
SECRET_BYTES = 32

_READ = """
SELECT k.key_id, k.secret, e.number, e.sieve
FROM erasure_keys k LEFT JOIN erased e ON e.key_id = k.key_id AND e.number > %s
"""
Ids = npt.NDArray[np.int64]


class Erasure(NamedTuple):
    """What is known of an erased user."""

    key_id: int
    pseudonym: int
    at: datetime


class Secret:
    """Makes pseudonyms."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._factor = np.uint64(int.from_bytes(blake2b(b"sieve", key=secret, digest_size=8).digest()) | 1)

    @staticmethod
    def new() -> bytes:
        return token_bytes(SECRET_BYTES)

    def pseudonym(self, user_id: int) -> int:
        """Negative, and of 63 bits: of a billion users hardly two have the same."""
        digest = blake2b(user_id.to_bytes(8), key=self._secret, digest_size=8).digest()
        return -1 - (int.from_bytes(digest) >> 1)

    def sieve(self, user_ids: Ids) -> npt.NDArray[np.int64]:
        """Some bits of each, quickly: who has none of the erased ones' is none of them."""
        # The factor is odd and nobody's but ours; the product's top bits hang on all of the id's.
        return ((user_ids.astype(np.uint64) * self._factor) >> np.uint64(64 - _SIEVE_BITS)).astype(np.int64)


class _Key(NamedTuple):
    secret: Secret
    sieve: npt.NDArray[np.bool_]
    """By a sieve's bits: whether an erased user has them."""


class Erased:
    """Recognises erased users. One a process: it remembers a megabyte of bits for each key, and no users."""

    def __init__(self) -> None:
        self._keys: dict[int, _Key] = {}
        self._last = 0

    async def read(self, connection: Connection) -> None:
        """Learn of those who were erased since the last time."""
        rows = await (await connection.execute(_READ, (self._last,))).fetchall()
        found = msgspec.convert(rows, list[tuple[int, bytes, int | None, int | None]])
        for gone in self._keys.keys() - {key_id for key_id, *_ in found}:
            del self._keys[gone]
        for key_id, secret, number, sieve in found:
            if key_id not in self._keys:
                self._keys[key_id] = _Key(Secret(secret), np.zeros(1 << _SIEVE_BITS, np.bool_))
            if number is not None:
                self._keys[key_id].sieve[sieve] = True
                self._last = max(self._last, number)

    @property
    def nobody(self) -> bool:
        return not self._keys

    def secrets(self) -> dict[int, Secret]:
        """By the key's number, the newest first."""
        return {key_id: self._keys[key_id].secret for key_id in sorted(self._keys, reverse=True)}

    def suspects(self, user_ids: Ids) -> npt.NDArray[np.bool_]:
        """Of each whether it may have been erased, as far as was read."""
        found = np.zeros(len(user_ids), np.bool_)
        for key in self._keys.values():
            found |= key.sieve[key.secret.sieve(user_ids)]
        return found

    async def known(self, connection: Connection, user_ids: Sequence[int] | Ids) -> dict[int, Erasure]:
        """Those of some users who were erased, as far as was read. Asks PostgreSQL only about suspects."""
        if self.nobody or not len(user_ids):
            return {}
        ids = np.asarray(user_ids, np.int64)
        suspects: list[int] = np.unique(ids[self.suspects(ids)]).tolist()
        names = {
            key.secret.pseudonym(user_id): user_id for key in self._keys.values() for user_id in suspects if user_id > 0
        }
        if not names:
            return {}
        cursor = await connection.execute(
            "SELECT key_id, pseudonym, erased_at FROM erased WHERE pseudonym = ANY(%s) ORDER BY key_id", (list(names),)
        )
        rows = msgspec.convert(await cursor.fetchall(), list[tuple[int, int, datetime]])
        return {names[pseudonym]: Erasure(key_id, pseudonym, at) for key_id, pseudonym, at in rows}

    async def among(self, connection: Connection, user_ids: Sequence[int] | Ids) -> dict[int, Erasure]:
        """The same, of all who were erased by now."""
        await self.read(connection)
        return await self.known(connection, user_ids)
