"""What the deliverer does while the gate is down or closed, and with claims that the gate has lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shared.gate.contract import Claim, GateClosedError, GateUnavailableError, SendKey, Standing
from shared.policy.kinds import Path
from shared.wire.sends import Result
from stream.delivery.exchange import Answer, PushRequest
from tests.unit.deliverer_world import (
    DAY,
    NOW,
    World,
    key,
    send,
)


@pytest.fixture
def world() -> World:
    return World()


pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("error", [GateUnavailableError("down"), GateClosedError("emptied")])
async def test_while_the_gate_is_down_or_closed_nothing_is_sent_and_nothing_lost(
    world: World, error: Exception
) -> None:
    world.gate_down, world.gate_error = 40, error
    world.on_sleep = lambda: setattr(world, "instant", NOW)
    outcome = await world.outcome("a")
    assert outcome.result is Result.delivered
    assert len(world.sleeps) == 40
    assert world.sent == [["a"]]


async def test_what_expires_while_the_gate_is_down_is_not_sent(world: World) -> None:
    world.gate_down = 1
    world.on_sleep = lambda: setattr(world, "instant", NOW + 600)
    assert (await world.outcome("a")).result is Result.expired
    assert not world.sent


async def test_an_accepted_send_is_settled_however_long_the_gate_is_down(world: World) -> None:
    original = world.send

    async def send_then_fail(requests: Sequence[PushRequest]) -> list[Answer]:
        world.gate_down = 5
        return await original(requests)

    world.send = send_then_fail  # type: ignore[method-assign]
    assert (await world.outcome("a")).result is Result.delivered
    assert world.settled == [[key(1)]]
    assert len(world.sent) == 1


@pytest.mark.parametrize("claim", [Claim.granted, Claim.granted_again])
async def test_what_the_gate_lost_is_claimed_again_and_delivered(world: World, claim: Claim) -> None:
    world.standings[key(1)] = Standing.unclaimed
    world.claims[key(1)] = claim
    assert (await world.outcome("a")).reason == "accepted"
    assert world.claimed == [(Path.stream, "practice", DAY, [1], "")]
    assert world.settled == [[key(1)]]


@pytest.mark.parametrize(
    ("claim", "result", "reason"),
    [
        (Claim.settled_before, Result.delivered, "settled_before"),
        (Claim.other_path, Result.dropped, "other_path"),
        (Claim.practised, Result.dropped, "practised"),
        (Claim.daily_cap, Result.dropped, "daily_cap"),
        (Claim.opted_out, Result.dropped, "opted_out"),
        (Claim.weekly_cap, Result.dropped, "weekly_cap"),
    ],
)
async def test_what_cannot_be_claimed_again_is_not_sent(
    world: World, claim: Claim, result: Result, reason: str
) -> None:
    world.standings[key(1)] = Standing.unclaimed
    world.claims[key(1)] = claim
    outcome = await world.outcome("a")
    assert (outcome.result, outcome.reason) == (result, reason)
    assert not world.sent


async def test_claims_are_asked_for_kind_by_kind_and_each_gets_its_own_answer(world: World) -> None:
    sends = [
        send(1, "a"),
        send(2, "b", kind="streak_saver"),
        send(3, "c"),
        send(4, "d", kind="campaign", name="owls"),
        send(5, "e", kind="campaign", name="hawks"),
    ]
    world.standings = {SendKey(s.user_id, s.kind, DAY, s.campaign): Standing.unclaimed for s in sends}
    world.claims = {key(3): Claim.other_path, SendKey(4, "campaign", DAY, "owls"): Claim.daily_cap}
    result = await world.deliver(*sends)
    assert [(users, kind, name) for _, kind, _, users, name in world.claimed] == [
        ([1, 3], "practice", ""),
        ([2], "streak_saver", ""),
        ([4], "campaign", "owls"),
        ([5], "campaign", "hawks"),
    ]
    assert [o.reason for o in result.outcomes] == ["accepted", "accepted", "other_path", "daily_cap", "accepted"]
