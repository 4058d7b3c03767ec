"""The agent of `sends.parked`: sends wait here for the end of a pause, or for a provider that is open (turnstile/), so
that their lane never waits for them.

A send goes back to its lane as soon as it is not held back any more, or its window is over: delivery then finds how it
stands, and answers for it, as for any other. So nothing ends here, and nothing is decided twice.

Messages are held some seconds at a time. What still has to wait then goes to the end of the topic, which costs a copy,
and buys three things: no message waits for the ones before it but those seconds for each `HELD` of them; a worker
that stops or loses its partitions has nothing to let go of; and offsets move, as whoever watches them expects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from faust.types import EventT
from msgspec.structs import replace

from shared.gate.rules import Rule
from shared.patience import Patience
from shared.policy.kinds import KINDS, Lane, Path
from shared.producer import Record
from shared.topics import Topics
from shared.wire.sends import Platform, Send, SendBatch, decode_sends, encode
from stream.delivery.agent import once
from stream.delivery.pauses import BY_EMAIL, Pauses, covered, held, serving
from stream.delivery.turnstile.contract import NoTurnstile, State, Turnstile
from stream.readable import readable
from stream.runtime import Runtime

HELD = 64
"""Messages held at once, each up to 500 sends and some 100 kB."""
LOOK_SECONDS = 1.0
"""Between two looks at the pauses. Also before the first: while rules are being written, one part of the gate may
have paused what another does not, and a send must not run in circles meanwhile."""
LOOKS = 10
"""Looks before what still has to wait goes to the end of the topic: at most 64 messages copied in 10 s."""


async def handle_parked(
    runtime: Runtime,
    pauses: Pauses,
    providers: Mapping[Platform, str],
    leaving: Callable[[], bool],
    events: Sequence[EventT[bytes]],
    turnstile: Turnstile | None = None,
) -> None:
    """Look after some messages side by side for at most `LOOKS` seconds; returns when Kafka has every send elsewhere.

    `providers`: their names by platform. `leaving`: whether the worker is about to stop or to lose its partitions.
    Without a turnstile every provider counts as closed.
    """
    turnstile = turnstile or NoTurnstile()
    waiting, _ = once(await readable(runtime, events, decode_sends))
    for _ in range(LOOKS):
        if not waiting or leaving():
            break
        await runtime.patience.sleep(LOOK_SECONDS)
        rules, rooms = await pauses.rules(), await _rooms(runtime.patience, turnstile, {*providers.values(), BY_EMAIL})
        now = runtime.clock.now()
        parts = [sort_out(batch, rules, providers, now, rooms) for batch in waiting]
        await _write(runtime, [record for free, _ in parts for record in to_lanes(free, runtime.topics)])
        waiting = [rest for _, rest in parts if rest.sends]
    await _write(runtime, [Record(runtime.topics.parked, None, encode(batch)) for batch in waiting])


def sort_out(
    batch: SendBatch, rules: Sequence[Rule], providers: Mapping[Platform, str], now: float, rooms: dict[str, int]
) -> tuple[SendBatch, SendBatch]:
    """What may leave the topic, because nothing holds it back or its window is over, and what has to wait.

    `rooms`: of the providers that are not closed, how many sends they take; what leaves is taken off.
    """
    free: list[Send] = []
    rest: list[Send] = []
    for send in batch.sends:
        waits = send.expires_at > now and (
            held(rules, batch.path, send, providers) or not _has_room(rules, batch.path, send, providers, rooms)
        )
        (rest if waits else free).append(send)
    return replace(batch, sends=tuple(free)), replace(batch, sends=tuple(rest))


def _has_room(
    rules: Sequence[Rule], path: Path, send: Send, providers: Mapping[Platform, str], rooms: dict[str, int]
) -> bool:
    """Whether a provider of it is closed, or takes one more probe: letting all go for a few probes would only bring
    them back here a moment later."""
    if not rooms:
        return True
    names = {name for name in serving(send, providers) if not covered(rules, path, send, name)}
    # Without any it is for delivery to say so.
    if not names or not names <= rooms.keys():
        return True
    for name in names:
        if rooms[name]:
            rooms[name] -= 1
            return True
    return False


async def _rooms(patience: Patience, turnstile: Turnstile, names: Iterable[str]) -> dict[str, int]:
    """Of the providers that are not closed, how many probes they take now."""
    rooms = {}
    for name in names:
        grant = await patience.until_done("asking the turnstile", partial(turnstile.ask, name, Lane.normal, 0))
        if grant.state is not State.closed:
            rooms[name] = grant.room
    return rooms


def to_lanes(batch: SendBatch, topics: Topics) -> list[Record]:
    """The messages that bring sends back to their lanes, planned when they were."""
    lanes: dict[str, list[Send]] = {}
    for send in batch.sends:
        lanes.setdefault(topics.lane(KINDS[send.kind].lane), []).append(send)
    return [Record(topic, None, encode(replace(batch, sends=tuple(sends)))) for topic, sends in lanes.items()]


async def _write(runtime: Runtime, records: list[Record]) -> None:
    if records:
        await runtime.patience.until_done("moving parked sends", lambda: runtime.producer.write(records))
