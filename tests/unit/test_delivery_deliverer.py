"""What the deliverer does with a batch: providers' answers, second tries, devices and their outcomes."""

from __future__ import annotations

import pytest

from shared.gate.contract import SendKey, Standing
from shared.policy.kinds import Path
from shared.wire.sends import Result, SendBatch
from stream.delivery.agent import once
from stream.delivery.errors import Action
from stream.delivery.exchange import Answer
from stream.delivery.provider import CredentialsError
from stream.delivery.route import ATTEMPTS
from tests.unit.deliverer_world import (
    BAD_TOPIC,
    BUSY,
    DAY,
    EXPIRED_TOKEN,
    NOW,
    OK,
    TIMEOUT,
    UNREGISTERED,
    World,
    key,
    refusal,
    send,
)


@pytest.fixture
def world() -> World:
    return World()


pytestmark = pytest.mark.asyncio


async def test_accepted_is_settled_and_delivered(world: World) -> None:
    result = await world.deliver(send(1, "a"), send(2, "g"))
    assert result.path is Path.stream
    assert [(o.user_id, o.result, o.reason, o.provider) for o in result.outcomes] == [
        (1, Result.delivered, "accepted", "apns"),
        (2, Result.delivered, "accepted", "fcm"),
    ]
    first = result.outcomes[0]
    assert (first.kind, first.local_date, first.due_at, first.decided_at, first.latency) == (
        "practice",
        DAY,
        NOW - 60,
        NOW,
        0.25,
    )
    assert sorted(key for call in world.settled for key in call) == [key(1), key(2)]
    assert not world.sleeps


async def test_one_request_a_device_and_one_settle_call_a_provider(world: World) -> None:
    await world.deliver(send(1, "a", "b"), send(2, "c"))
    assert world.sent == [["a", "b", "c"]]
    assert world.settled == [[key(1), key(2)]]


async def test_a_campaign_is_known_by_its_name(world: World) -> None:
    blast = send(1, "a", kind="campaign", name="owls-2025")
    (outcome,) = (await world.deliver(blast)).outcomes
    assert (outcome.kind, outcome.campaign, outcome.result) == ("campaign", "owls-2025", Result.delivered)
    assert world.settled == [[SendKey(1, "campaign", DAY, "owls-2025")]]


@pytest.mark.parametrize("standing", [standing for standing in Standing if standing is not Standing.settled])
async def test_past_its_window_it_expired_however_it_stands(world: World, standing: Standing) -> None:
    world.standings[key(1)] = standing
    outcome = await world.outcome("a", expires_in=0.0)
    assert (outcome.result, outcome.reason) == (Result.expired, "expired")
    assert not world.sent
    assert not world.claimed


async def test_what_was_settled_before_was_delivered_however_late_it_comes_again(world: World) -> None:
    world.standings[key(1)] = Standing.settled
    outcome = await world.outcome("a", expires_in=-3600.0)
    assert (outcome.result, outcome.reason) == (Result.delivered, "settled_before")


@pytest.mark.parametrize(
    ("standing", "result", "reason"),
    [
        (Standing.settled, Result.delivered, "settled_before"),
        (Standing.practised, Result.dropped, "practised"),
        (Standing.opted_out, Result.dropped, "opted_out"),
    ],
)
async def test_what_does_not_stand_clear_is_not_sent(
    world: World, standing: Standing, result: Result, reason: str
) -> None:
    world.standings[key(1)] = standing
    outcome = await world.outcome("a")
    assert (outcome.result, outcome.reason, outcome.provider) == (result, reason, "")
    assert not world.sent


async def test_without_a_device_it_is_dropped(world: World) -> None:
    outcome = await world.outcome()
    assert (outcome.result, outcome.reason) == (Result.dropped, "no_device")


async def test_a_platform_without_a_provider_fails_and_the_other_is_served() -> None:
    world = World(without="android")
    assert (await world.outcome("g")).reason == "no_provider"
    assert (await world.outcome("g", "a")).result is Result.delivered


async def test_a_send_or_token_that_comes_twice_is_sent_once(world: World) -> None:
    result = await world.deliver(send(1, "a", "a"), send(1, "a"))
    assert world.sent == [["a"]]
    assert len(result.outcomes) == 1


async def test_one_accepting_device_is_enough(world: World) -> None:
    world.answers = {"a": [UNREGISTERED], "b": [refusal(Action.fail, "apns_400_bad_message_id")]}
    result = await world.deliver(send(1, "a", "b", "g"))
    assert (result.outcomes[0].result, result.outcomes[0].provider) == (Result.delivered, "fcm")
    assert [(token.token, token.device_id, token.at) for token in result.retired] == [("a", "d-a", NOW - 5)]


async def test_when_every_device_is_gone_the_send_failed(world: World) -> None:
    world.answers = {"a": [UNREGISTERED], "g": [refusal(Action.retire, "fcm_404_unregistered")]}
    result = await world.deliver(send(1, "a", "g"))
    assert (result.outcomes[0].result, result.outcomes[0].reason) == (Result.failed, "unregistered")
    assert {(token.token, token.reason, token.at) for token in result.retired} == {
        ("a", "apns_410_unregistered", NOW - 5),
        ("g", "fcm_404_unregistered", NOW),
    }


@pytest.mark.parametrize(("token", "reason"), [("long", "apns_payload_too_large"), ("", "apns_unsendable")])
async def test_what_cannot_be_put_into_a_request_fails_alone(world: World, token: str, reason: str) -> None:
    result = await world.deliver(send(1, token), send(2, "a"))
    assert [outcome.reason for outcome in result.outcomes] == [reason, "accepted"]


@pytest.mark.parametrize("trouble", [BUSY, TIMEOUT])
async def test_trouble_is_tried_again_with_the_same_id(world: World, trouble: Answer) -> None:
    world.answers = {"a": [trouble, trouble]}
    assert (await world.outcome("a", "b")).result is Result.delivered
    assert world.sent == [["a", "b"], ["a"], ["a"]]
    assert len({headers[1] for headers in world.headers}) == 1
    assert world.sleeps == [1.0, 2.0]


async def test_after_the_last_try_it_failed_with_the_reason(world: World) -> None:
    world.answers = {"a": [BUSY] * 9, "b": [TIMEOUT] * 9}
    result = await world.deliver(send(1, "a"), send(2, "b"), send(3, "c"))
    assert [outcome.reason for outcome in result.outcomes] == [
        "apns_503_service_unavailable",
        "apns_timeout",
        "accepted",
    ]
    assert len(world.sent) == ATTEMPTS
    assert world.settled == [[key(3)]]


async def test_retry_after_is_waited_for_and_nothing_is_sent_after_its_time(world: World) -> None:
    slow = refusal(Action.retry, "fcm_429_quota_exceeded", after=60.0)
    world.answers = {"g": [slow], "gg": [slow]}
    result = await world.deliver(send(1, "g"), send(2, "gg", expires_in=61.0))
    assert [outcome.reason for outcome in result.outcomes] == ["accepted", "fcm_429_quota_exceeded"]
    assert world.sleeps == [61.0]
    assert world.sent == [["g", "gg"], ["g"]]


async def test_a_provider_that_asks_for_hours_gets_no_retry(world: World) -> None:
    world.answers = {"g": [refusal(Action.retry, "fcm_503_unavailable", after=500.0)]}
    assert (await world.outcome("g")).reason == "fcm_503_unavailable"
    assert not world.sleeps


async def test_what_expires_while_waiting_is_not_sent(world: World) -> None:
    world.answers = {"a": [BUSY]}
    world.on_sleep = lambda: setattr(world, "instant", NOW + 600)
    assert (await world.outcome("a")).result is Result.expired
    assert world.sent == [["a"]]


async def test_who_practises_between_two_tries_gets_nothing_more(world: World) -> None:
    world.answers = {"a": [BUSY]}
    world.on_sleep = lambda: world.standings.update({key(1): Standing.practised})
    outcome = await world.outcome("a")
    assert (outcome.result, outcome.reason) == (Result.dropped, "practised")
    assert world.sent == [["a"]]


async def test_a_second_device_has_its_retry_although_the_first_settled_the_send(world: World) -> None:
    world.answers = {"g": [BUSY]}
    assert (await world.outcome("a", "g")).provider == "apns"
    assert sorted(world.sent) == [["a"], ["g"], ["g"]]


async def test_what_another_worker_settled_meanwhile_is_left_alone(world: World) -> None:
    world.answers = {"a": [TIMEOUT]}
    world.on_sleep = lambda: world.standings.update({key(1): Standing.settled})
    assert (await world.outcome("a")).reason == "settled_before"
    assert world.sent == [["a"]]


async def test_credentials_that_are_too_old_are_renewed_and_tried_once_more(world: World) -> None:
    world.answers = {"a": [EXPIRED_TOKEN], "b": [EXPIRED_TOKEN, EXPIRED_TOKEN, OK]}
    result = await world.deliver(send(1, "a"), send(2, "b"))
    assert [outcome.reason for outcome in result.outcomes] == ["accepted", "apns_403_expired_provider_token"]
    assert [headers[0] for headers in world.headers] == ["v1", "v1", "v2", "v2"]
    assert not world.sleeps


async def test_a_wrong_set_up_is_not_retried(world: World) -> None:
    world.answers = {"a": [BAD_TOPIC]}
    outcome = await world.outcome("a")
    assert (outcome.result, outcome.reason) == (Result.failed, "apns_400_bad_topic")


async def test_without_credentials_transient_trouble_is_waited_out(world: World) -> None:
    world.fcm.errors = [CredentialsError("down", transient=True)]
    assert (await world.outcome("g")).result is Result.delivered
    assert len(world.sleeps) == 1


async def test_credentials_that_stay_wrong_fail_that_provider_alone(world: World) -> None:
    world.fcm.errors = [CredentialsError("wrong key", transient=False)]
    result = await world.deliver(send(1, "g"), send(2, "a"))
    assert [outcome.reason for outcome in result.outcomes] == ["fcm_no_credentials", "accepted"]
    assert not world.sleeps


async def test_a_broken_provider_does_not_cut_off_the_settling_of_the_other(world: World) -> None:
    world.fcm.errors = [KeyError("a bug")]
    with pytest.raises(KeyError):
        await world.deliver(send(1, "a"), send(2, "g"))
    assert world.settled == [[key(1)]]
    again = await world.deliver(send(1, "a"), send(2, "g"))
    assert [outcome.reason for outcome in again.outcomes] == ["settled_before", "accepted"]


async def test_of_a_send_in_two_batches_side_by_side_one_is_delivered() -> None:
    one, two, three = send(1, "a"), send(2, "a"), send(3, "a")
    stream = [SendBatch(Path.stream, NOW, sends) for sends in ((one, two), (two, three, three), (one,))]
    other = SendBatch(Path.batch, NOW, (one,))
    found = once([*stream, other])
    assert [[s.user_id for s in batch.sends] for batch in found] == [[1, 2], [3], [1]]
    assert found[-1] == other
