"""Latency at a steady rate: every operation starts at its time, whether the ones before it are done or not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import msgspec


class Latency(msgspec.Struct):
    """Milliseconds from the moment an operation should have started."""

    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, milliseconds: Iterable[float]) -> Latency:
        """Of at least one."""
        found = sorted(milliseconds)
        return cls(round(found[len(found) // 2], 2), round(found[len(found) * 99 // 100], 2))


async def measure_latency(one: Callable[[int], Awaitable[None]], rate: float, operations: int) -> Latency:
    """`rate` operations a second; the first tenth warms up and is not counted."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    took: list[float] = []

    async def run(n: int, due: float) -> None:
        await one(n)
        took.append((loop.time() - due) * 1000)

    async with asyncio.TaskGroup() as group:
        for n in range(operations):
            due = began + n / rate
            if (early := due - loop.time()) > 0:
                await asyncio.sleep(early)
            group.create_task(run(n, due))
    return Latency.of(took[operations // 10 :])
