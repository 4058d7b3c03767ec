"""The sweeper: finishes the pages that planners wrote down and did not live to bring to Kafka."""

from __future__ import annotations

import structlog

from shared import outbox
from stream.runtime import Runtime

log = structlog.get_logger()


async def sweep(runtime: Runtime) -> int:
    """Finish every page older than `settings.outbox_seconds`, of both paths; how many. Safe to run twice at once."""

    async def finish() -> bool:
        async with runtime.pool.connection() as connection:
            age, databases = runtime.settings.outbox_seconds, runtime.users.databases
            return await outbox.finish_oldest(connection, runtime.producer, databases, age)

    finished = 0
    while await runtime.patience.until_done("finishing pages of planners that died", finish):
        finished += 1
    if finished:
        log.warning("finished pages that their planners had left", pages=finished)
    return finished
