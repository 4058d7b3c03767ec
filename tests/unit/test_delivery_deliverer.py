"""What the deliverer does with a batch, over a fake gate, a fake engine and providers in plain words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import pytest

from shared.gate.contract import Claim, GateUnavailableError, SendKey, Standing
from shared.policy.kinds import Path
from shared.templates import Catalogue
from shared.wire.sends import Outcome, OutcomeBatch, Result, Send, SendBatch, Target
from stream.delivery.backoff import Backoff
from stream.delivery.deliverer import Deliverer
from stream.delivery.errors import ACCEPTED, Action, Verdict
from stream.delivery.exchange import Answer, PushRequest, PushResponse, TransportError
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
        self.settled: list[list[SendKey]] = []
        self.gate_down = 0
        self.answers: dict[str, list[Answer]] = {}
        self.sent: list[list[str]] = []
        self.headers: list[list[str]] = []
        self.sleeps: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None
        self.apns, self.fcm = FakeProvider("apns"), FakeProvider("fcm")
        providers: Any = {"ios": self.apns, "android": self.fcm}
        providers.pop(without, None)
        backoff = Backoff(base=1.0, cap=8.0, draw=lambda _low, high: high)
        self.deliverer = Deliverer(self, self, self, providers, Catalogue.load(), sleep=self.sleep, backoff=backoff)

    def now(self) -> float:
        return self.instant

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.instant += seconds
        self.on_sleep()
        await asyncio.sleep(0)

    async def practised(self, marks: Sequence[tuple[int, date]]) -> None:
        raise NotImplementedError

    async def claim(self, path: Path, keys: Sequence[SendKey]) -> list[Claim]:
        raise NotImplementedError

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
            raise GateUnavailableError("down")

    async def send(self, requests: Sequence[PushRequest]) -> list[Answer]:
        """The engine: each token's answers in order, and accepted when there are none left."""
        if requests:
            self.sent.append([request.url for request in requests])
        self.headers += [request.headers for request in requests]
        left = (self.answers.get(request.url) for request in requests)
        return [answers.pop(0) if answers else OK for answers in left]

    async def deliver(self, *sends: Send) -> OutcomeBatch:
        return await self.deliverer.deliver(SendBatch(Path.stream, NOW, sends))

    async def outcome(self, *tokens: str, expires_in: float = 600.0) -> Outcome:
        return (await self.deliver(send(1, *tokens, expires_in=expires_in))).outcomes[0]


def send(user_id: int, *tokens: str, expires_in: float = 600.0) -> Send:
    """A send to devices; a token that starts with `g` is an Android's."""
    targets = tuple(Target(f"d-{token}", "android" if token.startswith("g") else "ios", token) for token in tokens)
    return Send(user_id, "practice", DAY, NOW - 60, NOW + expires_in, "UTC", "en", 0, 0, targets)


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


async def test_expired_is_not_even_asked_about(world: World) -> None:
    world.gate_down = 10**9
    outcome = await world.outcome("a", expires_in=0.0)
    assert (outcome.result, outcome.reason) == (Result.expired, "expired")
    assert not world.sent


@pytest.mark.parametrize(
    ("standing", "result", "reason"),
    [
        (Standing.settled, Result.delivered, "settled_before"),
        (Standing.practised, Result.dropped, "practised"),
        (Standing.unclaimed, Result.dropped, "unclaimed"),
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


async def test_while_the_gate_is_down_nothing_is_sent_and_nothing_lost(world: World) -> None:
    world.gate_down = 40
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
