"""Parked for a provider: sends wait while it is open, a few go for its probes, all go when it is closed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shared.gate.rules import Rule
from shared.policy.kinds import Lane
from shared.wire.sends import SendBatch
from stream.delivery.parking import LOOK_SECONDS, LOOKS
from stream.delivery.turnstile.contract import Answers, Grant, NoTurnstile, State
from tests.unit.test_delivery_parking import KEPT, NOW, Lot, send, stream

OPEN, CLOSED = Grant(0, State.open, wait=5.0), Grant(0, State.closed)


def probes(n: int) -> Grant:
    return Grant(0, State.half_open, room=n)


class Waiting(Lot, NoTurnstile):
    """The parking lot with a turnstile."""

    def __init__(self, *rules: Rule, **grants: Grant) -> None:
        super().__init__(*rules)
        self.grants = grants

    async def ask(self, provider: str, lane: Lane, n: int, answers: Sequence[Answers] = ()) -> Grant:
        assert not n, "parked sends are not sent from here"
        return self.grants.get(provider, CLOSED)

    async def look_after(self, *batches: SendBatch) -> None:
        await self.handle(*batches, turnstile=self)


async def test_for_an_open_provider_it_waits_and_goes_when_it_is_closed() -> None:
    lot = Waiting(apns=OPEN)
    lot.at[NOW + 4] = lambda: lot.grants.update(apns=CLOSED)
    await lot.look_after(stream(send(1), send(2, "practice", KEPT, "android")))
    assert [(at, [s.user_id for s in batch.sends]) for at, _, batch in lot.written] == [(LOOK_SECONDS, [2]), (4.0, [1])]


async def test_half_open_only_as_many_go_as_there_are_probes() -> None:
    lot = Waiting(apns=probes(2))
    lot.at[NOW + 2] = lambda: lot.grants.update(apns=probes(0))
    lot.at[NOW + 3] = lambda: lot.grants.update(apns=CLOSED)
    await lot.look_after(stream(send(1), send(2), send(3)), stream(send(4)))
    assert [(at, [s.user_id for s in batch.sends]) for at, _, batch in lot.written] == [
        (1.0, [1, 2]),
        (3.0, [3]),
        (3.0, [4]),
    ]


async def test_what_expires_goes_although_the_provider_is_open_and_takes_no_probe() -> None:
    lot = Waiting(apns=probes(1))
    await lot.look_after(stream(send(1, expires_at=NOW), send(2), send(3)))
    assert lot.moved[0] == ("urgent", [1, 2])


async def test_one_provider_that_is_well_is_enough() -> None:
    lot = Waiting(apns=OPEN)
    await lot.look_after(stream(send(1, "practice", KEPT, "ios", "android")))
    assert lot.moved == [("urgent", [1])]


@pytest.mark.parametrize("rules", [(Rule(provider="fcm"),), (Rule(kind="practice", provider="fcm"),)])
async def test_where_the_other_provider_is_paused_it_waits(rules: tuple[Rule, ...]) -> None:
    lot = Waiting(*rules, apns=OPEN)
    await lot.look_after(stream(send(1, "practice", KEPT, "ios", "android")))
    assert lot.moved == [("parked", [1])]
    assert lot.instant == NOW + LOOKS * LOOK_SECONDS


async def test_with_all_providers_open_it_waits_and_any_probe_lets_it_go() -> None:
    lot = Waiting(apns=OPEN, fcm=OPEN)
    lot.at[NOW + 2] = lambda: lot.grants.update(fcm=probes(1))
    await lot.look_after(stream(send(1, "practice", KEPT, "ios", "android")))
    assert [at for at, _, _ in lot.written] == [2.0]
