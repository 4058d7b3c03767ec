"""When a reminder goes out as an e-mail: where no push can have arrived, and nobody is shown it twice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from shared.gate.contract import Standing
from shared.gate.rules import Rule
from shared.patience import Patience
from shared.policy.kinds import Path
from shared.templates import Catalogue
from shared.wire.sends import Outcome, OutcomeBatch, Result, Send, SendBatch
from stream.delivery.backoff import Backoff
from stream.delivery.deliverer import Deliverer
from stream.delivery.errors import Action
from stream.delivery.exchange import PushResponse, TransportError
from stream.delivery.firsthand import MARGIN_SECONDS, Firsthand
from stream.delivery.pauses import Pauses, held
from tests.unit.deliverer_world import NOW, TIMEOUT, UNREGISTERED, FakeProvider, World, key, refusal, send

ADA = "ada@example.com"
BUSY = replace(refusal(Action.retry, "apns_503_service_unavailable"), status=503)
WRONG = replace(refusal(Action.fail, "apns_400_device_token_not_for_topic"), status=400)
FELL_OVER = PushResponse(502, b"retry apns_502  ")
NO_MAILBOX = refusal(Action.retire, "smtp_550_5_1_1")
UNANSWERED = TransportError("unanswered", sent=True)
pytestmark = pytest.mark.asyncio


class MailWorld(World):
    """A world with a mail server, over the same fake engine."""

    def __init__(self, email: bool = True) -> None:
        super().__init__()
        patience = Patience(self.sleep)
        providers: Any = {"ios": self.apns, "android": self.fcm}
        self.deliverer = Deliverer(
            self,
            self,
            Pauses(self, patience, self.now),
            self,
            providers,
            Catalogue.load(),
            patience,
            Backoff(base=1.0, cap=8.0, draw=lambda _low, high: high),
            mail=(FakeProvider("smtp"), self) if email else None,
        )

    async def one(self, *tokens: str, expires_in: float = 600.0) -> Outcome:
        """The outcome of a send to these devices and to Ada."""
        return (await self.deliver(to_ada(*tokens, expires_in=expires_in))).outcomes[0]

    async def redelivered(self, *sends: Send) -> OutcomeBatch:
        outcomes, parked = await self.deliverer.deliver(SendBatch(Path.stream, NOW - 1, sends), firsthand=False)
        self.parked.append(parked)
        return outcomes

    @property
    def mailed(self) -> int:
        return sum(call.count(ADA) for call in self.sent)


def to_ada(*tokens: str, user_id: int = 1, expires_in: float = 600.0) -> Send:
    return replace(send(user_id, *tokens, expires_in=expires_in), email=ADA)


@pytest.fixture
def world() -> MailWorld:
    return MailWorld()


def told(outcome: Outcome) -> tuple[Result, str, str]:
    return outcome.result, outcome.reason, outcome.provider


async def test_who_has_no_device_gets_an_e_mail(world: MailWorld) -> None:
    assert told(await world.one()) == (Result.delivered, "accepted", "smtp")
    assert world.sent == [[ADA]]
    assert world.settled == [[key(1)]]


async def test_without_a_mail_server_who_has_no_device_gets_nothing() -> None:
    world = MailWorld(email=False)
    assert told(await world.one()) == (Result.dropped, "no_device", "")
    assert not world.sent


async def test_a_push_that_arrived_is_enough(world: MailWorld) -> None:
    world.answers["a"] = [UNREGISTERED]
    assert told(await world.one("a", "g")) == (Result.delivered, "accepted", "fcm")
    assert not world.mailed


async def test_when_every_device_is_gone_an_e_mail_goes_and_the_tokens_are_retired(world: MailWorld) -> None:
    world.answers["a"], world.answers["g"] = [UNREGISTERED], [WRONG]
    result = await world.deliver(to_ada("a", "g"))
    assert told(result.outcomes[0]) == (Result.delivered, "accepted", "smtp")
    assert [token.token for token in result.retired] == ["a"]
    assert world.sent[-1] == [ADA]


async def test_a_push_that_was_refused_to_the_end_is_followed_by_an_e_mail(world: MailWorld) -> None:
    world.answers["a"] = [TransportError("connect", sent=False)] * 4
    assert told(await world.one("a")) == (Result.delivered, "accepted", "smtp")
    assert world.sent == [["a"]] * 4 + [[ADA]]


@pytest.mark.parametrize("answer", [TIMEOUT, FELL_OVER, TransportError("reset", sent=True)])
async def test_a_push_that_may_have_arrived_is_not_followed_by_an_e_mail(world: MailWorld, answer: Any) -> None:
    world.answers["a"] = [answer, WRONG, WRONG, WRONG]
    world.answers["g"] = [UNREGISTERED]
    outcome = await world.one("a", "g")
    assert (outcome.result, outcome.provider) == (Result.failed, "apns")
    assert not world.mailed


async def test_a_batch_that_somebody_may_have_had_before_mails_only_who_has_no_device(world: MailWorld) -> None:
    world.answers["a"] = [UNREGISTERED]
    outcomes = (await world.redelivered(to_ada("a"), to_ada(user_id=2))).outcomes
    assert [told(outcome) for outcome in outcomes] == [
        (Result.failed, "unregistered", "apns"),
        (Result.delivered, "accepted", "smtp"),
    ]
    assert world.mailed == 1


async def test_what_waits_for_the_end_of_a_pause_keeps_its_address_unless_there_is_a_doubt(world: MailWorld) -> None:
    world.rules = [Rule(provider="apns")]
    await world.deliver(to_ada("a"))
    await world.redelivered(to_ada("a"))
    assert [parked.sends[0].email for parked in world.parked] == [ADA, ""]
    assert not world.sent


async def test_while_one_device_waits_no_e_mail_goes(world: MailWorld) -> None:
    world.rules = [Rule(provider="apns")]
    world.answers["g"] = [UNREGISTERED]
    await world.deliver(to_ada("a", "g"))
    assert [target.token for target in world.parked[0].sends[0].targets] == ["a"]
    assert not world.mailed


async def test_e_mails_that_are_paused_wait_with_no_device_left(world: MailWorld) -> None:
    world.rules = [Rule(provider="smtp")]
    world.answers["a"] = [UNREGISTERED]
    result = await world.deliver(to_ada("a"))
    assert not result.outcomes and [token.token for token in result.retired] == ["a"]
    (waiting,) = world.parked[0].sends
    assert (waiting.targets, waiting.email) == ((), ADA)
    providers: Any = {"ios": "apns", "android": "fcm"}
    assert held(world.rules, Path.stream, waiting, providers)
    assert not held([Rule(provider="apns")], Path.stream, waiting, providers)
    assert not held(world.rules, Path.stream, to_ada("a"), providers)


async def test_who_practised_while_the_pushes_failed_gets_no_e_mail(world: MailWorld) -> None:
    world.answers["a"] = [BUSY, BUSY, BUSY, WRONG]
    world.on_sleep = lambda: world.standings.update({key(1): Standing.practised}) if len(world.sleeps) == 3 else None
    original = world.standing

    async def later(path: Path, keys: Any) -> list[Standing]:
        # The last round was under way when the user practised.
        return await original(path, keys) if len(world.sent) == 4 else [Standing.clear] * len(keys)

    world.standing = later  # type: ignore[method-assign]
    assert told(await world.one("a"))[:2] == (Result.dropped, "practised")
    assert not world.mailed


async def test_no_e_mail_goes_after_the_window(world: MailWorld) -> None:
    original = world.send

    async def slowly(requests: Any) -> Any:
        world.instant += 5.0
        return await original(requests)

    world.send = slowly  # type: ignore[method-assign]
    world.answers["a"] = [WRONG]
    assert told(await world.one("a", expires_in=5.0))[::2] == (Result.failed, "apns")
    assert (await world.one(expires_in=5.0)).result is Result.expired
    assert not world.mailed


async def test_an_e_mail_that_nobody_answered_for_is_not_sent_again(world: MailWorld) -> None:
    world.answers[ADA] = [UNANSWERED]
    assert told(await world.one()) == (Result.failed, "smtp_unanswered", "smtp")
    assert world.mailed == 1


async def test_an_address_that_is_nobodys_is_retired_without_a_device(world: MailWorld) -> None:
    world.answers[ADA] = [NO_MAILBOX]
    result = await world.deliver(to_ada())
    assert told(result.outcomes[0]) == (Result.failed, "unregistered", "smtp")
    (retired,) = result.retired
    assert (retired.user_id, retired.device_id, retired.token, retired.reason) == (1, "", ADA, "smtp_550_5_1_1")


async def test_an_e_mail_is_tried_again_as_a_push_is(world: MailWorld) -> None:
    world.answers[ADA] = [refusal(Action.retry, "smtp_451_4_3_0")] * 2
    assert told(await world.one()) == (Result.delivered, "accepted", "smtp")
    assert (world.mailed, world.sleeps) == (3, [1.0, 2.0])


async def test_firsthand_is_what_was_written_well_after_the_partitions_were_shared_out() -> None:
    clock = World()
    firsthand = Firsthand(clock)

    def written(*ages: float | None) -> Any:
        stamps = [None if age is None else NOW + age for age in ages]
        return [SimpleNamespace(message=SimpleNamespace(timestamp=stamp)) for stamp in stamps]

    assert not firsthand.knows(written(1e9))
    firsthand.assigned()
    assert not firsthand.knows(written(MARGIN_SECONDS - 1))
    assert not firsthand.knows(written(None))
    assert not firsthand.knows(written(MARGIN_SECONDS, MARGIN_SECONDS - 1))
    assert firsthand.knows(written(MARGIN_SECONDS, MARGIN_SECONDS + 1))
    clock.instant += 500
    firsthand.assigned()
    assert not firsthand.knows(written(MARGIN_SECONDS))
