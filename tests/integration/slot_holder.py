"""A scan's turn in a process of its own: prints `in` when it has it, and holds it until its input ends."""

from __future__ import annotations

import asyncio
import sys

from batch.pressure import protected
from shared.settings import load_settings
from shared.store.databases import Databases


async def main() -> None:
    settings = load_settings()

    async def hold(*_: object) -> None:
        print("in", flush=True)
        await asyncio.to_thread(sys.stdin.read)

    await protected(settings, Databases.of(settings)[0], hold)


if __name__ == "__main__":
    asyncio.run(main())
