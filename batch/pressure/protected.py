"""A scan's reading of one database, protected: its turn, its pace, and going on when the database ends a page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg import errors

from batch.pressure.controller import Bounds, Controller
from batch.pressure.lag import ReplicaLag
from batch.pressure.pace import Adaptive
from batch.pressure.slots import Turn
from shared.patience import Sleep
from shared.settings import Settings
from shared.store.databases import Database

T = TypeVar("T")
Connection = psycopg.AsyncConnection[Any]

TRIES = 6
"""Times in a row, without a page in between, that a database may end what a scan reads, a longer rest after each; what
lasts longer is for Airflow's retries."""

ENDED = (
    errors.QueryCanceled,  # statement_timeout, pg_cancel_backend
    errors.SerializationFailure,  # a replica's conflict with recovery
    errors.DeadlockDetected,  # another kind of it
)
"""How a server says that it ended a statement and not the session."""

log = structlog.get_logger()


class TooManyTriesError(RuntimeError):
    """The database ended what the scan read again and again; what is done stays done."""

    def __init__(self, database: str, error: Exception) -> None:
        super().__init__(
            f"The database {database} ended the scan's page {TRIES} times in a row, the last time with: "
            f"{str(error).strip()[:200]}. Look at `surnia status`, lower SURNIA_SCANS_PER_DATABASE or raise "
            "SURNIA_SCAN_TIMEOUT_SECONDS; the next run goes on from the checkpoint."
        )


async def protected(
    settings: Settings,
    database: Database,
    work: Callable[[Connection, Adaptive], Awaitable[T]],
    sleep: Sleep = asyncio.sleep,
) -> T:
    """Do a scan's work with a connection to where the database's users are read, and the pace to keep: `pace.idle` is
    how it sleeps while it has nothing to read.

    When the server ends a page or the session, `work` is called again with a smaller page, over another connection if
    need be: it must go on from its checkpoint. Raises `TooManyTriesError` when that leads nowhere; whatever is no
    matter of this connection at once.
    """
    controller = Controller(Bounds.of(settings))
    tries, connected = 0, False
    while True:
        connection: Connection | None = None
        pace: Adaptive | None = None
        try:
            async with _reading(settings, database, controller, sleep) as (connection, pace):
                connected = True
                return await work(connection, pace)
        except psycopg.OperationalError as error:
            # Where this connection is not broken, it was that to the main database that is. And who has never been let
            # in has a wrong address, or no database at all.
            ours = isinstance(error, ENDED) or connection is None or connection.broken
            if not ours or not connected:
                raise
            tries = 1 if pace and pace.pages else tries + 1
            if tries > TRIES:
                raise TooManyTriesError(database.name, error) from error
            controller.cancelled()
            log.warning(
                "the database ended a page; the scan goes on from its checkpoint",
                database=database.name,
                error=str(error).strip().partition("\n")[0][:200],
                page_size=controller.page_size,
                pause_seconds=round(controller.pause, 2),
                tries=tries,
            )
            await sleep(controller.pause)


@asynccontextmanager
async def _reading(
    settings: Settings, database: Database, controller: Controller, sleep: Sleep
) -> AsyncIterator[tuple[Connection, Adaptive]]:
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(await database.connect("surnia scan", replica=True))
        # Nothing is to be written here, ever.
        await connection.execute(
            "SELECT set_config('statement_timeout', %s, false), "
            "set_config('default_transaction_read_only', 'on', false)",
            (f"{round(settings.scan_timeout_seconds * 1000)}ms",),
        )
        turn = Turn(connection, settings.scans_per_database, database.name, sleep)
        await turn.take()
        lag = None
        if database.replica:
            try:
                primary = await stack.enter_async_context(await database.connect("surnia scan lag"))
                lag = ReplicaLag(primary, connection)
            except psycopg.OperationalError as error:
                # The replica can be read all the same.
                log.warning("the replica's lag is not known", database=database.name, error=str(error)[:200])
        yield connection, Adaptive(controller, database.name, sleep, turn, lag)
