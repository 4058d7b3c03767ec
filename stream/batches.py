"""Batches from a Faust stream, acknowledged only when they were handled.

Faust's own `take` acknowledges in a `finally`: a batch whose handling was cancelled by a stopping worker
would be committed without having been done. Here nothing is acknowledged unless its handling came to its end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from faust.types import EventT

Handle = Callable[[list[EventT[bytes]]], Awaitable[Any]]
Size = Callable[[EventT[Any]], int]


def records_of(event: EventT[Any]) -> int:
    """The size of an event whose value is a run of records."""
    return len(event.value)


def single(_: EventT[Any]) -> int:
    """The size of one that is a record."""
    return 1


async def handle_batches(
    stream: Any, largest: int, within: float, handle: Handle, at_once: int = 1, size: Size = single
) -> None:
    """Handle a stream's batches, `at_once` of them side by side, until it ends; raises what handling one raised.

    Each begins to be handled before the next one does.

    They are acknowledged in their order, none before all that is ahead of it. What failed is not acknowledged, nor is
    anything after it.
    """
    quiet = stream.noack()
    running: deque[asyncio.Task[None]] = deque()

    async def one(batch: list[EventT[bytes]], before: asyncio.Task[None] | None) -> None:
        await handle(batch)
        if before:
            await asyncio.wait({before})
            before.result()
        for event in batch:
            await quiet.ack(event)

    async with aclosing(batches(quiet, largest, within, size)) as found:  # type: ignore[type-var]  # typeshed wants a Generator
        upcoming = asyncio.ensure_future(anext(found, None))
        try:
            while True:
                while not upcoming.done() or len(running) >= at_once:
                    # Of those that run only the first: the others end after it, or it would be waited for in circles.
                    awaited = {task for task in (upcoming, *list(running)[:1]) if not task.done()}
                    await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
                    if running and running[0].done():
                        running.popleft().result()
                batch = upcoming.result()
                if batch is None:
                    break
                running.append(asyncio.create_task(one(batch, running[-1] if running else None)))
                upcoming = asyncio.ensure_future(anext(found, None))
            while running:
                await running[0]
                running.popleft()
        finally:
            left = [upcoming, *running]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)


async def batches(stream: Any, largest: int, within: float, size: Size = single) -> AsyncIterator[list[EventT[bytes]]]:
    """Lists of events, each full when their sizes come to `largest`, none waiting longer than `within` seconds for
    company.

    Ends when the stream ends, and does not give a batch that is not full by then: it comes again. Acknowledges nothing.
    """
    events = aiter(stream.events())
    upcoming = asyncio.ensure_future(anext(events, None))
    loop = asyncio.get_running_loop()
    try:
        while (first := await upcoming) is not None:
            batch, full = [first], size(first)
            upcoming = asyncio.ensure_future(anext(events, None))
            deadline = loop.time() + within
            while full < largest:
                done, _ = await asyncio.wait({upcoming}, timeout=max(0.0, deadline - loop.time()))
                if not done:
                    break
                event = upcoming.result()
                if event is None:
                    return
                batch.append(event)
                full += size(event)
                upcoming = asyncio.ensure_future(anext(events, None))
            yield batch
    finally:
        upcoming.cancel()
