"""A process that fires everything that is due, for tests that kill it: `python -m tests.integration.fire_all`."""

from __future__ import annotations

import asyncio

from shared.identity import SHARDS
from shared.settings import load_settings
from stream.due.fire import Firing
from tests.integration.support import running


async def main() -> None:
    async with running(load_settings()) as runtime:
        await Firing(runtime).fire(range(SHARDS))


if __name__ == "__main__":
    asyncio.run(main())
