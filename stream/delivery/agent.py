"""The delivery agent of a lane: batches in, providers called, outcomes out, and only then the message acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from faust.types import EventT

from shared.patience import until_done
from shared.producer import Record
from shared.wire.sends import decode_sends, encode
from stream.delivery.deliverer import Deliverer
from stream.readable import readable
from stream.runtime import Runtime


async def handle_sends(runtime: Runtime, deliverer: Deliverer, events: Sequence[EventT[bytes]]) -> None:
    """Deliver a few messages of up to 500 sends side by side; returns when their outcomes are in Kafka."""
    batches = await readable(runtime, events, decode_sends)
    results = await asyncio.gather(*(deliverer.deliver(batch) for batch in batches))
    outcomes = [Record(runtime.topics.outcomes, None, encode(result)) for result in results]
    await until_done("writing outcomes", lambda: runtime.producer.write(outcomes))
