"""Which database has the users of which shards: how `SURNIA_DATABASES` says it, checked when the settings load.

A list in JSON, an object a database:

    [{"name": "eu1", "shards": "0-127", "url": "postgresql://…", "replica": "postgresql://…"},
     {"name": "us1", "shards": "128-255", "url": "postgresql://…"}]
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr

from shared.identity import SHARDS

MOST = 64
"""Databases. More would be a worker with hundreds of connections."""
_NAME = re.compile(r"[a-z0-9_]{1,32}").fullmatch
_RANGE = re.compile(r"([0-9]{1,3})(?:-([0-9]{1,3}))?").fullmatch
_EXAMPLE = '[{"name": "eu1", "shards": "0-255", "url": "postgresql://user:password@host:5432/database"}]'


class DatabaseAddress(BaseModel):
    """One of them. Its addresses hold passwords and never show."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str
    shards: tuple[int, ...]
    url: SecretStr
    replica: SecretStr | None = None
    """Where scans read; unset: at `url`."""


def read_addresses(given: object) -> object:
    """What the setting says, checked. Raises ValueError with what to mend; no message has an address in it."""
    if isinstance(given, str):
        try:
            given = json.loads(given) if given.strip() else []
        except ValueError:
            raise ValueError(f"is no JSON: write {_EXAMPLE}") from None
    if not isinstance(given, (list, tuple)):
        raise ValueError(f"must be a list, an object a database: {_EXAMPLE}")  # pydantic wants it
    if len(given) > MOST:
        raise ValueError(f"names {len(given)} databases; {MOST} is the most")
    found = tuple(one if isinstance(one, DatabaseAddress) else _read(one, n) for n, one in enumerate(given, 1))
    if found:
        _check(found)
    return found


def spelled(databases: Sequence[DatabaseAddress]) -> str:
    """The setting's text for them, passwords and all: for the environment of a child process."""
    entries = []
    for one in databases:
        entry = {"name": one.name, "shards": ranges(one.shards), "url": one.url.get_secret_value()}
        entries.append(entry | ({"replica": one.replica.get_secret_value()} if one.replica else {}))
    return json.dumps(entries)


def _read(one: object, number: int) -> DatabaseAddress:
    if not isinstance(one, dict):
        raise ValueError(f"database {number} must be an object with name, shards and url: {_EXAMPLE}")
    name = one.get("name")
    if not isinstance(name, str) or not _NAME(name):
        raise ValueError(f"database {number} needs a `name` of 1 to 32 of a-z, 0-9 and _")
    for unknown in one.keys() - {"name", "shards", "url", "replica"}:
        raise ValueError(f"{name}: {str(unknown)[:40]!r} is none of name, shards, url and replica")
    return DatabaseAddress(
        name=name,
        shards=_shards(name, one.get("shards")),
        url=_address(name, "url", one.get("url")),
        replica=None if one.get("replica") is None else _address(name, "replica", one["replica"]),
    )


def _shards(name: str, text: object) -> tuple[int, ...]:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f'{name} needs `shards`, such as "0-127" or "0-9,20"')
    found: list[int] = []
    for part in text.split(","):
        match = _RANGE(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= SHARDS:
            raise ValueError(f"{name}: {part.strip()[:20]!r} is no range of shards of 0-{SHARDS - 1}, such as 0-127")
        found += range(first, last + 1)
    return tuple(sorted(found))


def _address(name: str, key: str, value: Any) -> SecretStr:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str) or not text.startswith(("postgresql://", "postgres://")):
        raise ValueError(f"{name} needs a `{key}` like postgresql://user:password@host:5432/database")
    try:
        urlsplit(text).port  # noqa: B018  # reading it is what checks it
    except ValueError:
        raise ValueError(f"{name}: the port in `{key}` is no number from 0 to 65535") from None
    return SecretStr(text)


def _check(found: Sequence[DatabaseAddress]) -> None:
    """Every shard once, every name once, every database once."""
    owners: dict[int, str] = {}
    names: set[str] = set()
    places: dict[tuple[object, ...], str] = {}
    for one in found:
        if one.name in names:
            raise ValueError(f"two databases are called {one.name}: give each a name of its own")
        names.add(one.name)
        place = place_of(one.url.get_secret_value())
        if place in places:
            raise ValueError(f"{places[place]} and {one.name} are the same database: name it once, with all its shards")
        places[place] = one.name
        for shard in one.shards:
            if shard in owners:
                raise ValueError(f"shard {shard} is in {owners[shard]} and again in {one.name}: give it to one of them")
            owners[shard] = one.name
    if missing := sorted(set(range(SHARDS)) - owners.keys()):
        raise ValueError(f"no database has the shards {ranges(missing)}: add them to the one that has their users")


def place_of(url: str) -> tuple[object, ...]:
    """Which database an address means, whoever logs in; two ways to write a host are two places."""
    parts = urlsplit(url)
    return parts.hostname, parts.port or 5432, parts.path, parts.query


def ranges(shards: Iterable[int]) -> str:
    """Shards as the setting writes them."""
    out: list[list[int]] = []
    for shard in sorted(shards):
        if out and shard == out[-1][1] + 1:
            out[-1][1] = shard
        else:
            out.append([shard, shard])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in out)
