"""Connections to PostgreSQL for the hot paths: psycopg, asynchronous, pooled."""

from __future__ import annotations

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from pydantic import SecretStr

from shared.settings import Settings

Pool = AsyncConnectionPool[AsyncConnection[tuple[object, ...]]]


def pool(settings: Settings, size: int = 4, *, url: SecretStr | None = None, autocommit: bool = False) -> Pool:
    """A pool of at most `size` connections, not opened yet: `await pool.open()`, and close it in the end.

    `url`: of another database than the main one. `autocommit`: each statement is a transaction of its own, one round
    trip instead of three.
    """
    return AsyncConnectionPool(
        url.get_secret_value() if url else settings.require_postgres(),
        min_size=0,
        max_size=size,
        open=False,
        timeout=10.0,
        # After this long a try to connect begins anew: its pauses double, and would soon outlast any outage.
        reconnect_timeout=5.0,
        kwargs={"application_name": "surnia", "connect_timeout": 5, "autocommit": autocommit},
    )
