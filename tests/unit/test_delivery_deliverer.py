"""What the deliverer does with a batch, over a fake gate, a fake engine and providers in plain words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import pytest

from shared.gate.contract import Claim, GateClosedError, GateUnavailableError, SendKey, Standing
from shared.gate.rules import Rule
from shared.patience import Patience
from shared.policy.kinds import KindName, Path
from shared.templates import Catalogue
from shared.wire.sends import Outcome, OutcomeBatch, Result, Send, SendBatch, Target
from stream.delivery.agent import once
from stream.delivery.backoff import Backoff
from stream.delivery.deliverer import Deliverer
from stream.delivery.errors import ACCEPTED, Action, Verdict
from stream.delivery.exchange import Answer, PushRequest, PushResponse, TransportError
from stream.delivery.pauses import FRESH, Pauses
from stream.delivery.provider import CredentialsError, PayloadTooLargeError, Push
from stream.delivery.route import ATTEMPTS

NOW = 1_760_000_000.0
DAY = date(2025, 10, 9)
OK = PushResponse(200, seconds=0.25)
TIMEOUT = TransportError("timeout", sent=True, seconds=10.0)


def refusal(action: Action, reason: str, after: float | None = None, at: float | None = None) -> PushResponse:
    """An answer that the fake providers read as this verdict."""
    return PushResponse(500, f"{action} {reason} {after or ''} {at or ''}".encode())


UNREGISTERED = refusal(Action.retire, "apns_410_unregistered", at=NOW - 5)
BUSY = refusal(Action.retry, "apns_503_service_unavailable")
EXPIRED_TOKEN = refusal(Action.remint, "apns_403_expired_provider_token")
BAD_TOPIC = refusal(Action.stop, "apns_400_bad_topic")


class FakeProvider:
    def __init__(self, name: str) -> None:
        self.name = name
        self.minted = 1
        self.errors: list[Exception] = []

    async def credentials(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return f"v{self.minted}"

    def reject(self, credentials: str) -> None:
        if credentials == f"v{self.minted}":
            self.minted += 1

    def request(self, push: Push, credentials: str) -> PushRequest:
        if push.token == "long":
            raise PayloadTooLargeError
        if push.token == "":
            raise ValueError("no token")
        return PushRequest(push.token, [credentials, push.send_id], push.text.title.encode())

    def verdict(self, answer: PushResponse) -> Verdict:
        if answer.status == 200:
            return ACCEPTED
        action, reason, after, at = answer.body.decode().split(" ")
        return Verdict(Action(action), reason, float(after) if after else None, float(at) if at else None)


class World:
    """A deliverer and all that is around it, at one's fingertips."""

    def __init__(self, without: str = "") -> None:
        self.instant = NOW
        self.standings: dict[SendKey, Standing] = {}
        self.claims: dict[SendKey, Claim] = {}
        self.claimed: list[tuple[Path, str, date, list[int], str]] = []
        self.rules: list[Rule] = []
        self.asked_for_pauses = 0
        self.parked: list[SendBatch] = []
        self.settled: list[list[SendKey]] = []
        self.gate_down = 0
        self.gate_error: Exception = GateUnavailableError("down")
        self.answers: dict[str, list[Answer]] = {}
        self.sent: list[list[str]] = []
        self.headers: list[list[str]] = []
        self.sleeps: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None
        self.apns, self.fcm = FakeProvider("apns"), FakeProvider("fcm")
        providers: Any = {"ios": self.apns, "android": self.fcm}
        providers.pop(without, None)
        backoff = Backoff(base=1.0, cap=8.0, draw=lambda _low, high: high)
        self.patience = patience = Patience(self.sleep)
        pauses = Pauses(self, patience, self.now)
        self.deliverer = Deliverer(self, self, pauses, self, providers, Catalogue.load(), patience, backoff)

    def now(self) -> float:
        return self.instant

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.instant += seconds
        self.on_sleep()
        await asyncio.sleep(0)

    async def practised(self, marks: Sequence[tuple[int, date]]) -> None:
        raise NotImplementedError

    async def opt_out(self, choices: Sequence[tuple[int, date, int]]) -> None:
        raise NotImplementedError

    async def claim(self, path: Path, kind: str, day: date, user_ids: Sequence[int], campaign: str = "") -> list[Claim]:
        self._gate()
        self.claimed.append((path, kind, day, list(user_ids), campaign))
        return [self.claims.get(SendKey(user_id, kind, day, campaign), Claim.granted) for user_id in user_ids]

    async def pauses(self) -> tuple[Rule, ...]:
        self._gate()
        self.asked_for_pauses += 1
        return tuple(self.rules)

    async def standing(self, path: Path, keys: Sequence[SendKey]) -> list[Standing]:
        self._gate()
        return [self.standings.get(key, Standing.clear) for key in keys]

    async def settle(self, path: Path, keys: Sequence[SendKey]) -> None:
        self._gate()
        self.settled.append(list(keys))
        self.standings.update(dict.fromkeys(keys, Standing.settled))

    def _gate(self) -> None:
        if self.gate_down:
            self.gate_down -= 1
            raise self.gate_error

    async def send(self, requests: Sequence[PushRequest]) -> list[Answer]:
        """The engine: each token's answers in order, and accepted when there are none left."""
        if requests:
            self.sent.append([request.url for request in requests])
        self.headers += [request.headers for request in requests]
        left = (self.answers.get(request.url) for request in requests)
        return [answers.pop(0) if answers else OK for answers in left]

    async def deliver(self, *sends: Send) -> OutcomeBatch:
        outcomes, parked = await self.deliverer.deliver(SendBatch(Path.stream, NOW - 1, sends))
        assert len(outcomes.outcomes) + len(parked.sends) == len({send.user_id for send in sends})
        self.parked.append(parked)
        return outcomes

    async def outcome(self, *tokens: str, expires_in: float = 600.0) -> Outcome:
        return (await self.deliver(send(1, *tokens, expires_in=expires_in))).outcomes[0]


def send(user_id: int, *tokens: str, expires_in: float = 600.0, kind: KindName = "practice", name: str = "") -> Send:
    """A send to devices; a token that starts with `g` is an Android's."""
    targets = tuple(Target(f"d-{token}", "android" if token.startswith("g") else "ios", token) for token in tokens)
    return Send(user_id, kind, DAY, NOW - 60, NOW + expires_in, "UTC", "en", 0, 0, targets, name)


def key(user_id: int) -> SendKey:
    return SendKey(user_id, "practice", DAY)


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


async def test_a_broken_provider_does_not_cut_off_the_settling_of_the_other(world: World) -> None:
    world.fcm.errors = [KeyError("a bug")]
    with pytest.raises(KeyError):
        await world.deliver(send(1, "a"), send(2, "g"))
    assert world.settled == [[key(1)]]
    again = await world.deliver(send(1, "a"), send(2, "g"))
    assert [outcome.reason for outcome in again.outcomes] == ["settled_before", "accepted"]


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


async def test_of_a_send_in_two_batches_side_by_side_one_is_delivered() -> None:
    one, two, three = send(1, "a"), send(2, "a"), send(3, "a")
    stream = [SendBatch(Path.stream, NOW, sends) for sends in ((one, two), (two, three, three), (one,))]
    other = SendBatch(Path.batch, NOW, (one,))
    found, _ = once([*stream, other])
    assert [[s.user_id for s in batch.sends] for batch in found] == [[1, 2], [3], [1]]
    assert found[-1] == other
