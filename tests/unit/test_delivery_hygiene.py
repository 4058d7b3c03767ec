"""Tokens that a provider calls bad are retired, unless it calls too many so."""

from __future__ import annotations

import pytest

from shared.wire.sends import Result
from stream.delivery.apns import ROWS
from stream.delivery.errors import ErrorTable, Verdict
from stream.delivery.exchange import PushResponse
from stream.delivery.smtp.codes import Stage, verdict
from tests.unit.deliverer_world import UNREGISTERED, FakeProvider, send
from tests.unit.test_delivery_failover import Ways, to_iphone

BAD = PushResponse(400, b"BadDeviceToken")
pytestmark = pytest.mark.asyncio


class Apns(FakeProvider):
    """With Apple's own word for a bad token."""

    def verdict(self, answer: PushResponse) -> Verdict:
        if answer.status == 400:
            return ErrorTable("apns", ROWS).verdict(400, answer.body.decode())
        return super().verdict(answer)


@pytest.fixture
def world() -> Ways:
    world = Ways()
    world.apns = world.providers["apns"] = Apns("apns")
    world.deliverer = world.build(turnstile=world)
    return world


async def test_a_bad_token_is_retired(world: Ways) -> None:
    world.answers["a"] = [BAD]
    result = await world.deliver(send(1, "a"), send(2, "b"))
    assert [token.token for token in result.retired] == ["a"]
    assert world.judged == [("apns", 2, 1)]


async def test_in_a_wave_none_is_and_their_sends_fail_or_go_another_way(world: Ways) -> None:
    world.believed = False
    world.answers |= {"a": [BAD], "b": [BAD]}
    result = await world.deliver(to_iphone("a", "f"), send(2, "b"))
    assert not result.retired
    assert [(o.result, o.provider, o.reason) for o in result.outcomes] == [
        (Result.delivered, "fcm", "accepted"),
        (Result.failed, "apns", "apns_400_bad_device_token"),
    ]


async def test_who_says_since_when_a_device_is_gone_is_believed_in_a_wave_too(world: Ways) -> None:
    world.believed = False
    world.answers |= {"a": [BAD], "b": [UNREGISTERED]}
    result = await world.deliver(send(1, "a"), send(2, "b"))
    assert [token.token for token in result.retired] == ["b"]


async def test_good_answers_are_judged_with_the_next_bad_one_and_at_once_in_a_wave(world: Ways) -> None:
    await world.deliver(send(1, "a"), send(2, "b"))
    assert not world.judged
    world.believed = False
    world.answers["c"] = [BAD]
    await world.deliver(send(3, "c"))
    world.believed = True
    await world.deliver(send(4, "d"))
    await world.deliver(send(5, "e"))
    assert world.judged == [("apns", 3, 1), ("apns", 1, 0)]


async def test_a_relay_that_knows_no_mailbox_is_suspect_and_a_device_that_is_gone_is_not() -> None:
    assert verdict(Stage.recipient, 550, "5.1.1 no such user").suspect
    assert not verdict(Stage.recipient, 550, "5.7.1 not allowed").suspect
    assert not ErrorTable("apns", ROWS).verdict(410, "Unregistered").suspect
