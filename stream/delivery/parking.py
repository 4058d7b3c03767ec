"""The agent of `sends.parked`: sends wait here for the end of a pause, or for a provider that is open (turnstile/), so
that their lane never waits for them.

A send goes back to its lane as soon as it is not held back any more, or its window is over: delivery then finds how it
stands, and answers for it, as for any other. So nothing ends here, and nothing is decided twice.

Messages are held some seconds at a time. What still has to wait then goes to the end of the topic, which costs a copy,
and buys three things: no message waits for the ones before it but those seconds for each `HELD` of them; a worker
that stops or loses its partitions has nothing to let go of; and offsets move, as whoever watches them expects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from faust.types import EventT
from msgspec.structs import replace

from shared.gate.rules import Rule
from shared.patience import Patience
from shared.policy.kinds import KINDS, Lane, Path
from shared.producer import Record
from shared.routes import BY_EMAIL, Leg, Routes
from shared.topics import Topics
from shared.wire.sends import Send, SendBatch, decode_sends, encode
from stream.delivery.agent import once
from stream.delivery.pauses import Pauses, covered
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
    leaving: Callable[[], bool],
    events: Sequence[EventT[bytes]],
    turnstile: Turnstile | None = None,
) -> None:
    """Look after some messages side by side for at most `LOOKS` seconds; returns when Kafka has every send elsewhere.

    `leaving`: whether the worker is about to stop or to lose its partitions. Without a turnstile every provider counts
    as closed.
    """
    turnstile, settings = turnstile or NoTurnstile(), runtime.settings
    routes, last = Routes.of(settings), settings.email_last_minutes * 60
    # What is urgent gets the first probes, and is the first to come back to its lane.
    batches, _ = once(await readable(runtime, (event.message for event in events), decode_sends))
    waiting = sorted(batches, key=_urgent, reverse=True)
    for _ in range(LOOKS):
        if not waiting or leaving():
            break
        await runtime.patience.sleep(LOOK_SECONDS)
        rooms = await _rooms(runtime.patience, turnstile, {*routes.providers, BY_EMAIL})
        lookout = Lookout(routes, await pauses.rules(), rooms, runtime.clock.now(), last)
        parts = [lookout.sort_out(batch) for batch in waiting]
        await _write(runtime, [record for free, _ in parts for record in to_lanes(free, runtime.topics)])
        waiting = [rest for _, rest in parts if rest.sends]
    await _write(runtime, [Record(runtime.topics.parked, None, encode(batch)) for batch in waiting])


def _urgent(batch: SendBatch) -> bool:
    return any(KINDS[send.kind].lane is Lane.urgent for send in batch.sends)


@dataclass(slots=True)
class Lookout:
    """One look at which sends may leave the topic."""

    routes: Routes
    rules: Sequence[Rule]
    rooms: dict[str, int]
    """Of the providers that are not closed, how many probes they take; what leaves is taken off."""
    now: float
    email_last: float
    """Seconds before the end of a window at which delivery writes an e-mail rather than wait for a provider."""

    def sort_out(self, batch: SendBatch) -> tuple[SendBatch, SendBatch]:
        """What may leave the topic, because nothing holds it back or its window is over, and what has to wait."""
        free: list[Send] = []
        rest: list[Send] = []
        for send in batch.sends:
            (free if self._leaves(batch.path, send) else rest).append(send)
        return replace(batch, sends=tuple(free)), replace(batch, sends=tuple(rest))

    def _leaves(self, path: Path, send: Send) -> bool:
        if send.expires_at <= self.now:
            return True
        if covered(self.rules, path, send):
            return False
        ways = [self.routes.legs(target) for target in send.targets] or [[Leg(BY_EMAIL, "")] if send.email else []]
        found = [self._passes(path, send, legs) for legs in ways]
        if any(found):
            return True
        # None: that one's provider is paused, and no e-mail goes round that.
        last = send.email and send.expires_at - self.now <= self.email_last and None not in found
        return bool(last and self._passes(path, send, [Leg(BY_EMAIL, "")]))

    def _passes(self, path: Path, send: Send, legs: Sequence[Leg]) -> bool | None:
        """Whether a provider of one device is closed, or takes one more probe: letting all go for a few probes would
        only bring them back here a moment later. None: it waits for the end of a pause."""
        for provider, _ in legs:
            if covered(self.rules, path, send, provider):
                return None
            if provider not in self.rooms:
                return True
            if self.rooms[provider]:
                self.rooms[provider] -= 1
                return True
        # Without any it is for delivery to say so.
        return not legs


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
