"""The delivery agent of a lane: batches in, providers called, outcomes out, and only then the message acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from faust.types import EventT
from msgspec.structs import replace

from shared.gate.contract import SendKey
from shared.policy.kinds import Path
from shared.producer import Record
from shared.wire.sends import SendBatch, decode_sends, encode
from stream.delivery.deliverer import Deliverer
from stream.delivery.firsthand import Knows
from stream.delivery.progress import key_of
from stream.readable import readable
from stream.runtime import Runtime


async def handle_sends(runtime: Runtime, deliverer: Deliverer, knows: Knows, events: Sequence[EventT[bytes]]) -> None:
    """Deliver a few messages of up to 500 sends side by side; returns when Kafka has their outcomes and what is parked.

    `knows`: whether nobody can have had them before (stream/delivery/firsthand.py). What is paused leaves the lane,
    which goes on with what is not (stream/delivery/parking.py).
    """
    firsthand = knows(events)
    batches = once(await readable(runtime, events, decode_sends))
    records = []
    for outcomes, parked in await asyncio.gather(*(deliverer.deliver(batch, firsthand) for batch in batches)):
        if outcomes.outcomes or outcomes.retired:
            records.append(Record(runtime.topics.outcomes, None, encode(outcomes)))
        if parked.sends:
            records.append(Record(runtime.topics.parked, None, encode(parked)))
    await runtime.patience.until_done("writing outcomes", lambda: runtime.producer.write(records))


def once(batches: Sequence[SendBatch]) -> list[SendBatch]:
    """The batches without sends that one before them has, as after a crash: side by side both would be pushed."""
    seen: set[tuple[Path, SendKey]] = set()
    found = []
    for batch in batches:
        mine = {key: send for send in batch.sends if (key := (batch.path, key_of(send))) not in seen}
        seen.update(mine)
        if mine:
            found.append(replace(batch, sends=tuple(mine.values())))
    return found
