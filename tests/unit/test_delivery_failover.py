"""From one provider to the next: when a send goes over, when it waits, and what is known of it when it comes back."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from shared.gate.contract import Standing
from shared.gate.rules import Rule
from shared.wire.sends import Result, Send, Target
from stream.delivery.errors import Action
from stream.delivery.turnstile.contract import Grant, State
from tests.unit.deliverer_world import NOW, TIMEOUT, UNREGISTERED, FakeProvider, key, refusal, send
from tests.unit.test_delivery_parking import leaves
from tests.unit.test_delivery_turnstile import OPEN, Guarded

ADA = "ada@example.com"
WRONG_KEY = refusal(Action.stop, "apns_403_invalid_provider_token")
BUSY = replace(refusal(Action.retry, "apns_503_service_unavailable"), status=503)
FCM_GONE = refusal(Action.retire, "fcm_404_unregistered", at=NOW - 5)

pytestmark = pytest.mark.asyncio


class Ways(Guarded):
    """A world with every way there is: an open provider is one of `grants`."""

    def __init__(self) -> None:
        super().__init__()
        self.mail = FakeProvider("smtp")
        self.deliverer = self.build(turnstile=self, mail=(self.mail, self), email_last=300.0)


@pytest.fixture
def world() -> Ways:
    return Ways()


def to_iphone(token: str = "a", fcm_token: str = "f", *, email: str = "", expires_in: float = 3600.0) -> Send:
    target = Target("iphone", "ios", token, fcm_token)
    return replace(send(1, expires_in=expires_in), targets=(target,), email=email)


async def test_while_apns_is_open_an_iphone_is_reached_by_fcm(world: Ways) -> None:
    world.grants["apns"] = [OPEN]
    (outcome,) = (await world.deliver(to_iphone())).outcomes
    assert (outcome.result, outcome.provider) == (Result.delivered, "fcm")
    assert world.sent == [["f"]]
    assert world.settled == [[key(1)]]


async def test_it_is_the_first_again_as_soon_as_it_is_closed(world: Ways) -> None:
    world.grants["apns"] = [OPEN, Grant(10_000, State.closed)]
    sends = [to_iphone(), replace(to_iphone(), user_id=2)]
    assert [(await world.deliver(each)).outcomes[0].provider for each in sends] == ["fcm", "apns"]


async def test_without_another_token_it_waits(world: Ways) -> None:
    world.grants["apns"] = [OPEN]
    assert not (await world.deliver(to_iphone(fcm_token=""))).outcomes
    assert world.parked[0].sends == (to_iphone(fcm_token=""),)
    assert not world.sent


@pytest.mark.parametrize("answers", [[WRONG_KEY], [BUSY] * 4, [TIMEOUT] * 4])
async def test_what_apns_can_not_deliver_goes_by_fcm(world: Ways, answers: list) -> None:  # type: ignore[type-arg]
    world.answers["a"] = answers
    (outcome,) = (await world.deliver(to_iphone())).outcomes
    assert (outcome.result, outcome.provider) == (Result.delivered, "fcm")
    assert world.sent[-1] == ["f"]


async def test_the_other_way_has_the_same_collapse_id(world: Ways) -> None:
    world.answers["a"] = [TIMEOUT] * 4
    await world.deliver(to_iphone())
    assert len({send_id for _, send_id in world.headers}) == 1


async def test_whoever_practised_meanwhile_is_not_sent_to_by_the_other_way(world: Ways) -> None:
    world.answers["a"] = [BUSY, BUSY, BUSY, WRONG_KEY]
    world.on_sleep = lambda: world.standings.update({key(1): Standing.practised}) if len(world.sleeps) == 3 else None
    (outcome,) = (await world.deliver(to_iphone())).outcomes
    assert outcome.reason == "practised"
    assert ["f"] not in world.sent


async def test_what_was_settled_meanwhile_is_not_sent_by_the_other_way(world: Ways) -> None:
    world.answers["a"] = [WRONG_KEY]
    original, asked = world.standing, []

    async def standing(path: object, keys: object) -> list[Standing]:
        asked.append(keys)
        if len(asked) == 2:
            world.standings[key(1)] = Standing.settled
        return await original(path, keys)  # type: ignore[arg-type]  # passed on

    world.standing = standing  # type: ignore[method-assign]
    (outcome,) = (await world.deliver(to_iphone())).outcomes
    assert (outcome.result, outcome.reason) == (Result.delivered, "settled_before")
    assert world.sent == [["a"]]


async def test_past_its_window_it_goes_no_other_way(world: Ways) -> None:
    world.answers["a"] = [BUSY, WRONG_KEY]
    world.on_sleep = lambda: setattr(world, "instant", world.instant + 3600)
    (outcome,) = (await world.deliver(to_iphone())).outcomes
    assert outcome.result is Result.expired
    assert ["f"] not in world.sent


async def test_a_device_that_is_gone_is_gone_for_every_provider(world: Ways) -> None:
    world.answers["a"] = [UNREGISTERED]
    result = await world.deliver(to_iphone())
    assert [(token.device_id, token.token) for token in result.retired] == [("iphone", "a")]
    assert result.outcomes[0].reason == "unregistered"
    assert world.sent == [["a"]]


async def test_a_token_that_fcm_has_dropped_leaves_the_one_of_apns(world: Ways) -> None:
    world.grants["apns"] = [OPEN]
    world.answers["f"] = [FCM_GONE]
    result = await world.deliver(to_iphone())
    assert [(token.device_id, token.token) for token in result.retired] == [("iphone", "f")]
    assert world.parked[0].sends == (to_iphone(fcm_token=""),)


async def test_what_failed_for_good_is_not_tried_again_when_it_comes_back(world: Ways) -> None:
    world.answers["a"] = [WRONG_KEY]
    world.grants["fcm"] = [OPEN]
    assert not (await world.deliver(to_iphone())).outcomes
    (parked,) = world.parked[0].sends
    assert parked == to_iphone(token="")
    world.grants["fcm"] = [Grant(10_000, State.closed)]
    (outcome,) = (await world.deliver(parked)).outcomes
    assert outcome.provider == "fcm"
    assert world.sent == [["a"], ["f"]]


async def test_when_every_way_fails_the_last_one_says_why(world: Ways) -> None:
    world.answers |= {"a": [WRONG_KEY], "f": [refusal(Action.fail, "fcm_400_invalid_argument")]}
    (outcome,) = (await world.deliver(to_iphone())).outcomes
    assert (outcome.result, outcome.reason) == (Result.failed, "fcm_400_invalid_argument")


async def test_who_pauses_apns_wants_its_sends_to_wait(world: Ways) -> None:
    world.rules = [Rule(provider="apns")]
    await world.deliver(to_iphone(email=ADA, expires_in=60.0))
    assert world.parked[0].sends == (to_iphone(email=ADA, expires_in=60.0),)
    assert not world.sent


async def test_with_all_open_an_e_mail_goes_before_the_window_ends_and_not_earlier(world: Ways) -> None:
    world.grants |= {"apns": [OPEN], "fcm": [OPEN]}
    assert not (await world.deliver(to_iphone(email=ADA, expires_in=301.0))).outcomes
    (outcome,) = (await world.deliver(to_iphone(email=ADA, expires_in=300.0))).outcomes
    assert (outcome.result, outcome.provider) == (Result.delivered, "smtp")
    assert world.sent == [[ADA]]


async def test_an_e_mail_that_failed_is_not_written_again_while_the_push_still_waits(world: Ways) -> None:
    world.grants |= {"apns": [OPEN], "fcm": [OPEN]}
    world.answers[ADA] = [refusal(Action.fail, "smtp_550")]
    assert not (await world.deliver(to_iphone(email=ADA, expires_in=300.0))).outcomes
    assert world.parked[0].sends == (to_iphone(expires_in=300.0),)


async def test_where_a_push_may_have_arrived_no_e_mail_goes_however_late_it_is(world: Ways) -> None:
    closed = Grant(10_000, State.closed)
    world.grants |= {"apns": [closed, OPEN], "fcm": [OPEN]}
    world.answers["a"] = [TIMEOUT]
    assert not (await world.deliver(to_iphone(email=ADA, expires_in=200.0))).outcomes
    assert world.parked[0].sends[0].email == ""
    assert world.sent == [["a"]]


HELD = {"apns": 0, "fcm": 0}


@pytest.mark.parametrize(
    ("rules", "rooms", "free"),
    [
        ((), {"apns": 0}, True),  # fcm is well
        ((), HELD, False),
        ((), {"apns": 0, "fcm": 1}, True),
        ((Rule(provider="fcm"),), {"apns": 0}, False),
        ((Rule(provider="fcm"),), {}, True),
        ((Rule(provider="apns"),), {}, False),
    ],
)
async def test_it_leaves_the_parking_place_by_the_first_way_that_is_free(
    rules: tuple[Rule, ...], rooms: dict[str, int], free: bool
) -> None:
    assert leaves(to_iphone(), rules, rooms=dict(rooms)) is free


async def test_it_leaves_for_an_e_mail_when_its_window_is_about_to_end() -> None:
    late = to_iphone(email=ADA, expires_in=300.0)
    assert leaves(late, rooms=dict(HELD), last=300.0)
    assert not leaves(late, rooms=dict(HELD), last=299.0)
    assert not leaves(late, rooms=HELD | {"smtp": 0}, last=300.0)
    assert not leaves(to_iphone(expires_in=300.0), rooms=dict(HELD), last=300.0)
    assert not leaves(late, [Rule(provider="apns")], last=300.0)
    assert not leaves(late, [Rule(provider="smtp")], rooms=dict(HELD), last=300.0)
