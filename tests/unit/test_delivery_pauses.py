"""What is paused is parked as it was planned, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shared.gate.contract import Claim, SendKey, Standing
from shared.gate.rules import Rule
from shared.policy.kinds import Path
from shared.wire.sends import SendBatch
from stream.delivery.errors import Action
from stream.delivery.pauses import FRESH
from stream.delivery.route import ATTEMPTS
from tests.unit.deliverer_world import (
    BUSY,
    NOW,
    World,
    key,
    refusal,
    send,
)


@pytest.fixture
def world() -> World:
    return World()


pytestmark = pytest.mark.asyncio


async def test_what_is_paused_is_parked_as_it_was_planned_and_the_rest_delivered(world: World) -> None:
    world.standings[key(1)] = Standing.paused
    world.standings[key(2)] = Standing.unclaimed
    world.claims[key(2)] = Claim.paused
    waiting = [send(1, "a"), send(2, "b")]
    result = await world.deliver(*waiting, send(3, "c"))
    assert [(o.user_id, o.reason) for o in result.outcomes] == [(3, "accepted")]
    assert world.parked == [SendBatch(Path.stream, NOW - 1, tuple(waiting))]
    assert world.sent == [["c"]]


async def test_what_is_paused_between_two_tries_is_parked(world: World) -> None:
    world.answers = {"a": [BUSY]}
    world.on_sleep = lambda: world.standings.update({key(1): Standing.paused})
    assert not (await world.deliver(send(1, "a"))).outcomes
    assert [s.user_id for s in world.parked[0].sends] == [1]
    assert world.sent == [["a"]]


async def test_what_one_device_accepted_is_not_parked_for_the_other(world: World) -> None:
    world.answers = {"g": [BUSY]}
    world.on_sleep = lambda: world.standings.update({key(1): Standing.paused})
    assert (await world.outcome("a", "g")).reason == "accepted"


async def test_a_paused_provider_gets_nothing_and_who_has_no_other_is_parked(world: World) -> None:
    world.rules = [Rule(provider="apns")]
    result = await world.deliver(send(1, "a"), send(2, "g"), send(3, "b", "gg"))
    assert [(o.user_id, o.provider) for o in result.outcomes] == [(2, "fcm"), (3, "fcm")]
    assert [s.user_id for s in world.parked[0].sends] == [1]
    assert world.sent == [["g", "gg"]]


async def test_a_provider_is_paused_only_for_what_the_rule_covers(world: World) -> None:
    world.rules = [Rule(path=Path.stream, kind="streak_saver", provider="apns"), Rule(Path.batch, provider="fcm")]
    result = await world.deliver(send(1, "a"), send(2, "b", kind="streak_saver"), send(3, "g"))
    assert [o.user_id for o in result.outcomes] == [1, 3]


async def test_with_all_its_providers_paused_a_send_is_parked_although_a_platform_has_none() -> None:
    world = World(without="android")
    world.rules = [Rule(provider="apns")]
    assert not (await world.deliver(send(1, "a", "g"))).outcomes
    assert world.parked[0].sends == (send(1, "a"),)


async def test_a_failed_device_does_not_end_what_waits_for_a_paused_provider(world: World) -> None:
    world.rules = [Rule(provider="apns")]
    world.answers = {"g": [refusal(Action.retire, "fcm_404_unregistered")], "gg": [BUSY] * ATTEMPTS}
    result = await world.deliver(send(1, "a", "g"), send(2, "b", "gg"))
    assert not result.outcomes
    assert [token.token for token in result.retired] == ["g"]
    # Without what failed for good: it would be tried again each time they come back.
    assert world.parked[0].sends == (send(1, "a"), send(2, "b"))


async def test_a_provider_paused_between_two_tries_gets_no_more(world: World) -> None:
    world.answers = {"a": [BUSY]}
    world.on_sleep = lambda: world.rules.append(Rule(provider="apns"))
    assert not (await world.deliver(send(1, "a"))).outcomes
    assert world.sent == [["a"]]


async def test_the_gate_is_asked_for_pauses_at_most_twice_a_second(world: World) -> None:
    for n in range(1, 6):
        await world.deliver(send(n, "a", "g"))
    assert world.asked_for_pauses == 1
    world.instant += FRESH
    await world.deliver(send(6, "a", "g"))
    assert world.asked_for_pauses == 2


async def test_a_gate_that_goes_down_before_the_pauses_are_known_sends_nothing(world: World) -> None:
    original = world.standing

    async def answer_and_go_down(path: Path, keys: Sequence[SendKey]) -> list[Standing]:
        answers = await original(path, keys)
        world.gate_down = 3
        return answers

    world.standing = answer_and_go_down  # type: ignore[method-assign]
    world.on_sleep = lambda: world.rules.append(Rule(provider="apns"))
    assert not (await world.deliver(send(1, "a"))).outcomes
    assert not world.sent
