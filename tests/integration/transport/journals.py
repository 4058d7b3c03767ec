"""What workers have handled, and that nothing else is committed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.integration.transport.broker import Broker

Handled = Callable[[], dict[int, set[int]]]
"""Partition -> offsets that were handled, by whomever."""


def written(files: Iterable[Path]) -> dict[int, set[int]]:
    """What processes wrote down as done; a line that is not whole was never finished."""
    found: defaultdict[int, set[int]] = defaultdict(set)
    for file in files:
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        for line in lines:
            what, partition, first, last = line.split()
            if what == "done":
                found[int(partition)].update(range(int(first), int(last) + 1))
    return found


@asynccontextmanager
async def nothing_else_committed(broker: Broker, group: str, topic: str, handled: Handled) -> AsyncIterator[None]:
    """Meanwhile no partition, which has no gaps, is ever committed beyond what was handled."""
    looks = 0

    async def watch() -> None:
        nonlocal looks
        while True:
            # First: what is handled only grows.
            committed = await broker.committed(group, topic)
            done = handled()
            for partition, offset in committed.items():
                missing = set(range(offset)) - done.get(partition, set())
                assert not missing, f"partition {partition} is committed at {offset}, not handled: {sorted(missing)}"
            looks += 1
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        if not watching.done():
            watching.cancel()
        await asyncio.wait({watching})
        if not watching.cancelled():
            watching.result()
    assert looks, "nobody has looked"
