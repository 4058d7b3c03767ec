"""What becomes of parked sends: they wait, they go back to their lanes, and they hold up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from shared.gate.contract import GateUnavailableError
from shared.gate.rules import Rule
from shared.patience import Patience
from shared.policy.kinds import KindName, Path
from shared.producer import Record
from shared.routes import Routes
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.sends import Platform, Send, SendBatch, Target, decode_sends, encode
from stream.delivery.parking import LOOK_SECONDS, LOOKS, Lookout, handle_parked
from stream.delivery.pauses import Pauses
from stream.delivery.turnstile.contract import Turnstile
from stream.meters import StreamMeter
from tests.unit.deliverer_world import ROUTES

NOW = 1_760_000_000.0
DAY = date(2025, 10, 9)
TOPICS = Topics("activity", "urgent", "normal", "blast", "parked", "outcomes", "dead")
PRACTICE = Rule(kind="practice")
KEPT = NOW + 3600


class Lot:
    """The agent's world: a gate that knows pauses, a Kafka that remembers, a clock that sleeping turns."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules
        self.instant = NOW
        self.gate_down = 0
        self.written: list[tuple[float, str, SendBatch]] = []
        self.at: dict[float, Callable[[], None]] = {}
        self.leaving_at = float("inf")
        self.patience = Patience(self.sleep)
        self.runtime: Any = SimpleNamespace(
            topics=TOPICS, producer=self, clock=self, patience=self.patience, settings=Settings(email_last_minutes=10),
            meter=StreamMeter(CollectorRegistry(), TOPICS.activity),
        )  # fmt: skip

    def now(self) -> float:
        return self.instant

    async def sleep(self, seconds: float) -> None:
        self.instant += seconds
        for moment in [moment for moment in self.at if moment <= self.instant]:
            self.at.pop(moment)()
        await asyncio.sleep(0)

    async def pauses(self) -> tuple[Rule, ...]:
        if self.gate_down:
            self.gate_down -= 1
            raise GateUnavailableError("down")
        return self.rules

    async def write(self, records: Sequence[Record]) -> None:
        self.written += [(self.instant - NOW, record.topic, decode_sends(record.value)) for record in records]

    async def handle(self, *batches: SendBatch | bytes, turnstile: Turnstile | None = None) -> None:
        values = [batch if isinstance(batch, bytes) else encode(batch) for batch in batches]
        events: Any = [
            SimpleNamespace(message=SimpleNamespace(value=value, topic="parked", partition=0, offset=n, key=None))
            for n, value in enumerate(values)
        ]
        pauses = Pauses(self, self.patience, self.now)
        await handle_parked(self.runtime, pauses, self._leaving, events, turnstile)

    def _leaving(self) -> bool:
        return self.instant >= self.leaving_at

    def resume(self) -> None:
        self.rules = ()

    @property
    def moved(self) -> list[tuple[str, list[int]]]:
        return [(topic, [send.user_id for send in batch.sends]) for _, topic, batch in self.written]


def send(user_id: int, kind: KindName = "practice", expires_at: float = KEPT, *platforms: Platform) -> Send:
    targets = tuple(Target("d", platform, "t") for platform in platforms or ("ios",))
    return Send(user_id, kind, DAY, NOW - 60, expires_at, "UTC", "en", 0, 0, targets)


def stream(*sends: Send) -> SendBatch:
    return SendBatch(Path.stream, NOW - 30, sends)


def leaves(
    parked: Send,
    rules: Sequence[Rule] = (),
    path: Path = Path.stream,
    *,
    rooms: dict[str, int] | None = None,
    last: float = 0.0,
    routes: Routes = ROUTES,
) -> bool:
    """Whether a send may leave the place where it waits."""
    free, _ = Lookout(routes, rules, rooms or {}, NOW, last).sort_out(SendBatch(path, NOW, (parked,)))
    return bool(free.sends)


async def test_what_is_resumed_goes_back_to_its_lane_as_it_was_planned() -> None:
    lot, batch = Lot(PRACTICE), stream(send(1), send(2))
    lot.at[NOW + 3] = lot.resume
    await lot.handle(batch)
    assert lot.written == [(3.0, "urgent", batch)]


async def test_every_kind_has_its_lane() -> None:
    lot = Lot()
    await lot.handle(stream(send(1), send(2, "comeback"), send(3, "streak_saver"), send(4, "campaign")))
    assert sorted(lot.moved) == [("blast", [4]), ("normal", [2]), ("urgent", [1, 3])]
    assert {at for at, _, _ in lot.written} == {LOOK_SECONDS}


async def test_what_is_still_paused_waits_on_while_the_others_of_its_message_go() -> None:
    lot = Lot(PRACTICE, Rule(kind="streak_saver"))
    lot.at[NOW + 2] = lambda: setattr(lot, "rules", (PRACTICE,))
    lot.at[NOW + 5] = lot.resume
    await lot.handle(stream(send(1), send(2, "streak_saver")))
    assert [(at, topic, [s.user_id for s in batch.sends]) for at, topic, batch in lot.written] == [
        (2.0, "urgent", [2]),
        (5.0, "urgent", [1]),
    ]


async def test_what_expires_goes_at_once_without_waiting_for_the_others() -> None:
    lot = Lot(PRACTICE)
    await lot.handle(stream(send(1), send(2, expires_at=NOW + 2)), stream(send(3, expires_at=NOW + 4)))
    assert lot.moved == [("urgent", [2]), ("urgent", [3]), ("parked", [1])]
    assert [at for at, _, _ in lot.written] == [2.0, 4.0, LOOKS * LOOK_SECONDS]


async def test_what_is_paused_for_long_makes_room_for_what_comes_after_it() -> None:
    lot, batches = Lot(PRACTICE), [stream(send(1)), SendBatch(Path.batch, NOW, (send(2),))]
    await lot.handle(*batches)
    assert [(topic, batch) for _, topic, batch in lot.written] == [("parked", batch) for batch in batches]


async def test_a_worker_that_leaves_holds_nothing_back() -> None:
    lot = Lot(PRACTICE)
    lot.leaving_at = NOW + 2
    await lot.handle(stream(send(1)))
    assert lot.moved == [("parked", [1])]
    assert lot.instant == NOW + 2


async def test_while_the_gate_is_down_everything_stays() -> None:
    lot = Lot()
    lot.gate_down = 20
    await lot.handle(stream(send(1)))
    assert lot.moved == [("urgent", [1])]
    assert not lot.gate_down


async def test_a_send_that_was_parked_twice_goes_back_once() -> None:
    lot = Lot()
    await lot.handle(stream(send(1), send(2)), stream(send(2)))
    assert lot.moved == [("urgent", [1, 2])]


def test_a_platform_without_a_provider_keeps_nobody_from_waiting() -> None:
    rules = (Rule(provider="apns"),)
    assert leaves(BOTH, rules, routes=Routes({"ios": ("apns",)}))
    assert leaves(IOS, rules, routes=Routes({}))
    assert not leaves(IOS, rules)


async def test_a_message_that_says_nothing_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lot = Lot()
    letters: list[Record] = []

    async def write(records: Sequence[Record]) -> None:
        letters.extend(records)

    monkeypatch.setattr(lot, "write", write)
    await lot.handle(b"{", stream(), stream(send(1)))
    assert [record.topic for record in letters] == ["dead", "urgent"]


IOS, BOTH = send(1), send(1, "practice", KEPT, "ios", "android")


@pytest.mark.parametrize(
    ("rules", "path", "parked", "waits"),
    [
        ((), Path.stream, IOS, False),
        ((Rule(),), Path.stream, IOS, True),
        ((Rule(path=Path.batch),), Path.stream, IOS, False),
        ((Rule(path=Path.batch),), Path.batch, IOS, True),
        ((Rule(provider="apns"),), Path.stream, IOS, True),
        ((Rule(provider="fcm"),), Path.stream, IOS, False),
        ((Rule(provider="apns"),), Path.stream, BOTH, False),
        ((Rule(provider="apns"), Rule(provider="fcm")), Path.stream, BOTH, True),
        ((Rule(provider="apns"), Rule(kind="practice", provider="fcm")), Path.stream, BOTH, True),
        ((Rule(campaign="owls"),), Path.stream, IOS, False),
    ],
)
def test_a_send_waits_while_nothing_of_it_may_be_tried(
    rules: tuple[Rule, ...], path: Path, parked: Send, waits: bool
) -> None:
    assert leaves(parked, rules, path) is not waits
