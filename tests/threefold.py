"""Three databases that have the users, beside the main one, in the session's server: `eu1`, `us1` and `asia`.

Scans of `us1` read a "replica", which is the same database by another address.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from pydantic import SecretStr

from shared.settings import Settings
from shared.store.databases import Databases
from shared.store.migrate import upgrade

SHARES = {"eu1": "0-85", "us1": "86-170", "asia": "171-255"}


@contextmanager
def three_databases(postgres_url: str) -> Iterator[str]:
    """Makes them, with their tables, and removes them in the end; the value of SURNIA_DATABASES."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        urls = {}
        try:
            for name in SHARES:
                place = f"threefold_{name}"
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(place)))
                urls[name] = urlsplit(postgres_url)._replace(path=f"/{place}").geturl()
                upgrade(urls[name])
            entries = [{"name": name, "shards": shards, "url": urls[name]} for name, shards in SHARES.items()]
            entries[1]["replica"] = urls["us1"] + "?application_name=replica"
            yield json.dumps(entries)
        finally:
            for name in urls:
                gone = sql.Identifier(f"threefold_{name}")
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(gone))


def emptied(settings: Settings) -> Databases:
    """The databases of the settings, without users."""
    databases = Databases.of(settings)
    for database in databases:
        with psycopg.connect(database.url.get_secret_value()) as connection:
            connection.execute("TRUNCATE users, devices")
    return databases


def at(settings: Settings, name: str) -> Settings:
    """The settings as if one of the databases were the main one: for helpers that look there."""
    (url,) = [database.url for database in Databases.of(settings) if database.name == name]
    return settings.model_copy(update={"postgres_url": SecretStr(url.get_secret_value()), "databases": ()})


def users_of(settings: Settings, name: str, n: int) -> list[int]:
    """The first n user ids that fall into a database."""
    databases = Databases.of(settings)
    return list(islice((user for user in count(1) if databases.for_user(user).name == name), n))
