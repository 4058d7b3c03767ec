"""The delivery agent of a lane: batches in, providers called, outcomes out, and only then the message acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set
from datetime import date

from faust.types import EventT
from msgspec.structs import replace

from shared.policy.kinds import Path
from shared.producer import Record
from shared.wire.sends import SendBatch, decode_sends, encode
from stream.delivery.deliverer import Deliverer
from stream.delivery.firsthand import Knows
from stream.readable import readable
from stream.runtime import Runtime

Known = tuple[Path, int, str, date, str]
"""Path, user, kind, local date and campaign: a path's send."""


async def handle_sends(
    runtime: Runtime, deliverer: Deliverer, knows: Knows, in_hand: set[Known], events: Sequence[EventT[bytes]]
) -> None:
    """Deliver a few messages of up to 500 sends side by side; returns when Kafka has their outcomes and what is parked.

    `knows`: whether nobody can have had them before (stream/delivery/firsthand.py). `in_hand`: the sends of all calls
    of one lane that are under way, kept by them. What is paused leaves the lane, which goes on with what is not
    (stream/delivery/parking.py).
    """
    runtime.meter.batch("messages", len(events))
    firsthand = knows(events)
    # Should the call that has one of them fail, this one's messages come again, too: they are acknowledged in order.
    batches, mine = once(await readable(runtime, (event.message for event in events), decode_sends), in_hand)
    in_hand |= mine
    try:
        await _deliver(runtime, deliverer, batches, firsthand)
    finally:
        in_hand -= mine


async def _deliver(runtime: Runtime, deliverer: Deliverer, batches: Sequence[SendBatch], firsthand: bool) -> None:
    records, answered = [], []
    for outcomes, parked in await asyncio.gather(*(deliverer.deliver(batch, firsthand) for batch in batches)):
        answered.append(outcomes)
        if outcomes.outcomes or outcomes.retired:
            records.append(Record(runtime.topics.outcomes, None, encode(outcomes)))
        if parked.sends:
            records.append(Record(runtime.topics.parked, None, encode(parked)))
    await runtime.patience.until_done("writing outcomes", lambda: runtime.producer.write(records))
    for outcomes in answered:
        runtime.meter.outcomes(outcomes.outcomes)


def once(batches: Sequence[SendBatch], in_hand: Set[Known] = frozenset()) -> tuple[list[SendBatch], set[Known]]:
    """The batches without sends that are in hand or in one before them, as after a crash: side by side both would be
    pushed. And what is left of them."""
    known: list[list[Known]] = [
        [(batch.path, send.user_id, send.kind, send.local_date, send.campaign) for send in batch.sends]
        for batch in batches
    ]
    mine = {each for of in known for each in of}
    if len(mine) == sum(map(len, known)) and mine.isdisjoint(in_hand):
        return list(batches), mine
    seen: set[Known] = set(in_hand)
    found = []
    for batch, of in zip(batches, known, strict=True):
        left = {each: send for each, send in zip(of, batch.sends, strict=True) if each not in seen}
        seen.update(left)
        if left:
            found.append(replace(batch, sends=tuple(left.values())))
    return found, mine - in_hand
