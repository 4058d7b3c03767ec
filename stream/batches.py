"""Batches from a Faust stream, acknowledged only when they were handled.

Faust's own `take` acknowledges in a `finally`: a batch whose handling was cancelled by a stopping worker
would be committed without having been done. Here nothing is acknowledged unless the loop's body came to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from faust.types import EventT


async def batches(stream: Any, largest: int, within: float) -> AsyncIterator[list[EventT[bytes]]]:
    """Lists of up to `largest` events, none waiting longer than `within` seconds for company.

    Ends when the stream ends; a batch that is not full by then stays unacknowledged and comes again.
    """
    quiet = stream.noack()
    events = aiter(quiet.events())
    upcoming = asyncio.ensure_future(anext(events, None))
    loop = asyncio.get_running_loop()
    try:
        while (first := await upcoming) is not None:
            batch = [first]
            upcoming = asyncio.ensure_future(anext(events, None))
            deadline = loop.time() + within
            while len(batch) < largest:
                done, _ = await asyncio.wait({upcoming}, timeout=max(0.0, deadline - loop.time()))
                if not done:
                    break
                event = upcoming.result()
                if event is None:
                    return
                batch.append(event)
                upcoming = asyncio.ensure_future(anext(events, None))
            yield batch
            for event in batch:
                await quiet.ack(event)
    finally:
        upcoming.cancel()
