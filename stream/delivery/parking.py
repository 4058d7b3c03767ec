"""The agent of `sends.parked`: sends wait here for the end of a pause, so that their lane never waits for them.

A send goes back to its lane as soon as it is no longer paused, or its window is over: delivery then finds how it
stands, and answers for it, as for any other. So nothing ends here, and nothing is decided twice.

Messages are held some seconds at a time. What is still paused then goes to the end of the topic, which costs a copy,
and buys three things: no message waits for the ones before it but those seconds for each `HELD` of them; a worker
that stops or loses its partitions has nothing to let go of; and offsets move, as whoever watches them expects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from faust.types import EventT
from msgspec.structs import replace

from shared.gate.rules import Rule
from shared.policy.kinds import KINDS
from shared.producer import Record
from shared.topics import Topics
from shared.wire.sends import Platform, Send, SendBatch, decode_sends, encode
from stream.delivery.agent import once
from stream.delivery.pauses import Pauses, held
from stream.readable import readable
from stream.runtime import Runtime

HELD = 64
"""Messages held at once, each up to 500 sends and some 100 kB."""
LOOK_SECONDS = 1.0
"""Between two looks at the pauses. Also before the first: while rules are being written, one part of the gate may
have paused what another does not, and a send must not run in circles meanwhile."""
LOOKS = 10
"""Looks before what is still paused goes to the end of the topic: at most 64 messages copied in 10 s."""


async def handle_parked(
    runtime: Runtime,
    pauses: Pauses,
    providers: Mapping[Platform, str],
    leaving: Callable[[], bool],
    events: Sequence[EventT[bytes]],
) -> None:
    """Look after some messages side by side for at most `LOOKS` seconds; returns when Kafka has every send elsewhere.

    `providers`: their names by platform. `leaving`: whether the worker is about to stop or to lose its partitions.
    """
    waiting = once(await readable(runtime, events, decode_sends))
    for _ in range(LOOKS):
        if not waiting or leaving():
            break
        await runtime.patience.sleep(LOOK_SECONDS)
        rules, now = await pauses.rules(), runtime.clock.now()
        parts = [sort_out(batch, rules, providers, now) for batch in waiting]
        await _write(runtime, [record for free, _ in parts for record in to_lanes(free, runtime.topics)])
        waiting = [rest for _, rest in parts if rest.sends]
    await _write(runtime, [Record(runtime.topics.parked, None, encode(batch)) for batch in waiting])


def sort_out(
    batch: SendBatch, rules: Sequence[Rule], providers: Mapping[Platform, str], now: float
) -> tuple[SendBatch, SendBatch]:
    """What may leave the topic, because it is not paused or its window is over, and what has to wait."""
    free: list[Send] = []
    rest: list[Send] = []
    for send in batch.sends:
        waits = send.expires_at > now and held(rules, batch.path, send, providers)
        (rest if waits else free).append(send)
    return replace(batch, sends=tuple(free)), replace(batch, sends=tuple(rest))


def to_lanes(batch: SendBatch, topics: Topics) -> list[Record]:
    """The messages that bring sends back to their lanes, planned when they were."""
    lanes: dict[str, list[Send]] = {}
    for send in batch.sends:
        lanes.setdefault(topics.lane(KINDS[send.kind].lane), []).append(send)
    return [Record(topic, None, encode(replace(batch, sends=tuple(sends)))) for topic, sends in lanes.items()]


async def _write(runtime: Runtime, records: list[Record]) -> None:
    if records:
        await runtime.patience.until_done("moving parked sends", lambda: runtime.producer.write(records))
