"""What delivery makes of the turnstile's answers, and what it tells it: over one that says what the test told it to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from shared.gate.contract import GateUnavailableError, Standing
from shared.gate.rules import Rule
from shared.policy.kinds import Lane
from shared.routes import Leg
from shared.wire.sends import Result
from stream.delivery.entry import KEPT_SECONDS, LOOK_SECONDS, PACED_SECONDS, Entry, Tally
from stream.delivery.errors import ACCEPTED, Action, ErrorTable, Verdict
from stream.delivery.fcm import ROWS
from stream.delivery.http2_batch import NOT_SENT
from stream.delivery.progress import Job, Progress
from stream.delivery.provider import CredentialsError
from stream.delivery.route import ATTEMPTS
from stream.delivery.turnstile.contract import Answers, Grant, State
from tests.unit.deliverer_world import (
    BUSY,
    EXPIRED_TOKEN,
    NOW,
    TIMEOUT,
    UNREGISTERED,
    World,
    key,
    refusal,
    send,
)

WELL = Grant(10_000, State.closed)
OPEN = Grant(0, State.open, wait=30.0)


class Guarded(World):
    """The deliverer's world with a turnstile in it."""

    def __init__(self) -> None:
        super().__init__()
        self.grants: dict[str, list[Grant]] = {}
        self.asked: list[tuple[str, Lane, int]] = []
        self.told: list[tuple[str, Answers]] = []
        self.turnstile_down = 0
        self.judged: list[tuple[str, int, int]] = []
        self.believed = True
        self.after_report: Callable[[], None] = lambda: None
        self.deliverer = self.build(turnstile=self)

    async def may_retire(self, provider: str, answers: int, bad: int) -> bool:
        self.judged.append((provider, answers, bad))
        return self.believed

    async def ask(self, provider: str, lane: Lane, n: int, answers: Sequence[Answers] = ()) -> Grant:
        """Each provider's grants in order, the last one for ever; closed without any."""
        if self.turnstile_down:
            self.turnstile_down -= 1
            raise GateUnavailableError("down")
        self.told += [(provider, each) for each in answers]
        if n:
            self.asked.append((provider, lane, n))
        elif answers:
            self.after_report()
        grants = self.grants.get(provider, [WELL])
        grant = grants.pop(0) if n and len(grants) > 1 else grants[0]
        return grant._replace(n=min(n, grant.n))

    def say(self, *grants: Grant) -> None:
        self.grants["apns"] = list(grants)


@pytest.fixture
def world() -> Guarded:
    return Guarded()


async def test_one_question_a_batch_and_provider_while_all_is_well(world: Guarded) -> None:
    await world.deliver(send(1, "a"), send(2, "g"), send(3, "b"))
    await world.deliver(send(4, "c"))
    assert world.asked == [("apns", Lane.urgent, 2), ("fcm", Lane.urgent, 1), ("apns", Lane.urgent, 1)]
    assert world.told == [("apns", Answers(0, good=2))]


async def test_the_lane_is_the_kinds(world: Guarded) -> None:
    await world.deliver(send(1, "a", kind="comeback"))
    await world.deliver(send(2, "a", kind="campaign", name="owls"))
    await world.deliver(send(3, "a", kind="comeback"), send(4, "b"))
    assert [lane for _, lane, _ in world.asked] == [Lane.normal, Lane.blast, Lane.normal]


async def test_what_an_open_provider_would_get_is_parked_and_the_other_provider_served(world: Guarded) -> None:
    world.say(OPEN)
    result = await world.deliver(send(1, "a"), send(2, "g"), send(3, "b", "gg"))
    assert [(o.user_id, o.provider) for o in result.outcomes] == [(2, "fcm"), (3, "fcm")]
    assert world.parked[0].sends == (send(1, "a"),)
    assert not world.sleeps


async def test_what_a_worker_that_stops_does_not_send_says_nothing_of_the_provider(world: Guarded) -> None:
    world.answers["b"] = [NOT_SENT]
    result = await world.deliver(send(1, "a"), send(2, "b"))
    assert {o.reason for o in result.outcomes} == {"accepted"}
    await world.deliver(send(3, "c"))
    assert [answers for _, answers in world.told] == [Answers(0, good=1), Answers(0, good=1)]


async def test_what_the_pacer_does_not_let_through_follows_when_it_does(world: Guarded) -> None:
    world.say(Grant(2, State.closed, wait=0.4), Grant(0, State.closed, wait=0.4), WELL)
    result = await world.deliver(*(send(n, f"a{n}") for n in range(1, 6)))
    assert {o.reason for o in result.outcomes} == {"accepted"}
    assert world.sent == [["a1", "a2"], ["a3", "a4", "a5"]]
    assert world.sleeps == [0.4]


async def test_a_long_wait_is_waited_in_looks_and_who_practises_meanwhile_gets_nothing(world: Guarded) -> None:
    world.say(Grant(1, State.closed), Grant(0, State.closed, wait=20.0), Grant(0, State.closed, wait=20.0), WELL)
    world.on_sleep = lambda: world.standings.update({key(2): Standing.practised})
    result = await world.deliver(*(send(n, f"a{n}") for n in range(1, 4)))
    assert [o.reason for o in result.outcomes] == ["accepted", "practised", "accepted"]
    assert world.sleeps == [LOOK_SECONDS] * 2


async def test_what_expires_while_the_pacer_lets_nothing_through_ends(world: Guarded) -> None:
    world.say(Grant(0, State.closed, wait=9.0))
    result = await world.deliver(send(1, "a", expires_in=2.5))
    assert [(o.result, o.reason) for o in result.outcomes] == [(Result.expired, "expired")]
    assert world.instant < NOW + 5
    assert not world.sent


async def test_a_lane_waits_for_the_pacer_only_so_long(world: Guarded) -> None:
    world.say(Grant(1, State.closed), Grant(0, State.closed, wait=9.0))
    result = await world.deliver(send(1, "a"), send(2, "b"))
    assert [o.user_id for o in result.outcomes] == [1]
    assert world.parked[0].sends == (send(2, "b"),)
    assert sum(world.sleeps) == PACED_SECONDS


async def test_what_is_paused_while_it_waits_for_the_pacer_is_parked(world: Guarded) -> None:
    world.say(Grant(0, State.closed, wait=0.6), WELL)
    world.on_sleep = lambda: world.rules.append(Rule(provider="apns"))
    assert not (await world.deliver(send(1, "a"))).outcomes
    assert not world.sent


async def test_half_open_it_gets_its_probes_and_when_they_close_it_the_rest(world: Guarded) -> None:
    world.say(Grant(2, State.half_open, turn=7), Grant(9, State.closed, turn=8))
    result = await world.deliver(*(send(n, f"a{n}") for n in range(1, 5)))
    assert len(result.outcomes) == 4
    assert world.sent == [["a1", "a2"], ["a3", "a4"]]
    # Told at once: others wait for what becomes of probes.
    assert world.told == [("apns", Answers(7, good=2))]


async def test_half_open_without_a_probe_left_the_rest_is_parked(world: Guarded) -> None:
    world.say(Grant(1, State.half_open), Grant(0, State.half_open, wait=1.0))
    result = await world.deliver(send(1, "a"), send(2, "b"))
    assert [o.user_id for o in result.outcomes] == [1]
    assert world.parked[0].sends == (send(2, "b"),)
    assert not world.sleeps


async def test_trouble_is_told_at_once_and_in_its_turn(world: Guarded) -> None:
    world.say(Grant(9, State.closed, turn=3))
    world.answers = {"b": [BUSY], "c": [TIMEOUT], "d": [UNREGISTERED], "e": [EXPIRED_TOKEN]}
    await world.deliver(*(send(n, token) for n, token in enumerate("abcde", 1)))
    assert world.told[0] == ("apns", Answers(3, good=3, bad=2))


@pytest.mark.parametrize("tries", range(1, ATTEMPTS + 1))
async def test_what_failed_when_the_provider_opened_is_parked_however_often_it_was_tried(
    world: Guarded, tries: int
) -> None:
    world.answers = {"a": [BUSY] * 9, "b": [refusal(Action.fail, "apns_400_bad_message_id")]}
    reports: list[int] = []

    def opens() -> None:
        reports.append(1)
        if len(reports) == tries:
            world.say(OPEN)

    world.after_report = opens
    result = await world.deliver(send(1, "a"), send(2, "b"))
    assert [(o.user_id, o.reason) for o in result.outcomes] == [(2, "apns_400_bad_message_id")]
    assert [s.user_id for s in world.parked[0].sends] == [1]
    assert len(world.sent) == tries
    assert len(world.sleeps) == tries - 1


async def test_without_credentials_for_now_nothing_is_sent_and_the_turnstile_is_told(world: Guarded) -> None:
    world.apns.errors = [CredentialsError("the token server does not answer", transient=True)]
    await world.deliver(send(1, "a"), send(2, "b"))
    assert world.told[0] == ("apns", Answers(0, bad=2))


async def test_while_the_turnstile_does_not_answer_nothing_is_sent(world: Guarded) -> None:
    world.turnstile_down = 3
    assert (await world.outcome("a")).reason == "accepted"
    assert len(world.sleeps) == 3


@pytest.mark.parametrize(
    ("verdicts", "block"),
    [
        ([ACCEPTED] * 3, 0.0),
        ([Verdict(Action.retry, "fcm_429_quota_exceeded", 60.0, block=60.0)], 60.0),
        ([Verdict(Action.retry, "x", 60.0, block=60.0)] + [ACCEPTED] * 9, 60.0),
        ([Verdict(Action.retry, "x", 60.0, block=60.0)] + [ACCEPTED] * 10, 0.0),
        ([Verdict(Action.retry, "x", 60.0, block=60.0), Verdict(Action.retry, "x", 5.0, block=5.0)], 60.0),
        ([Verdict(Action.retry, "apns_429_too_many_requests", 5.0)], 0.0),
    ],
)
def test_one_plea_among_many_answers_is_not_the_whole_providers(verdicts: list[Verdict], block: float) -> None:
    tally = Tally(1)
    for verdict in verdicts:
        tally.hear(verdict)
    assert tally.answers().block == block


@pytest.mark.parametrize(
    ("status", "reason", "retry_after", "block"),
    [
        (429, "QUOTA_EXCEEDED", None, 60.0),
        (429, "QUOTA_EXCEEDED", 5.0, 5.0),
        (503, "UNAVAILABLE", 7.0, 7.0),
        (503, "UNAVAILABLE", None, 0.0),
        (404, "UNREGISTERED", 7.0, 0.0),
    ],
)
def test_which_answers_ask_for_a_rest_of_the_whole_provider(
    status: int, reason: str, retry_after: float | None, block: float
) -> None:
    assert ErrorTable("fcm", ROWS).verdict(status, reason, retry_after).block == block


@pytest.mark.parametrize(("seconds", "told"), [(0.0, [("apns", Answers(0, good=1))]), (KEPT_SECONDS, [])])
async def test_good_answers_are_told_with_the_next_question_unless_they_are_old(
    world: Guarded, seconds: float, told: list[tuple[str, Answers]]
) -> None:
    entry, tally, one = Entry("apns", world, world.patience, world.now), Tally(0), send(1, "a")
    tally.hear(ACCEPTED)
    assert await entry.report(WELL, tally) is State.closed
    world.instant += seconds
    for _ in range(2):
        await entry.ask([Job(Progress(one), one.targets[0], [Leg("apns", "a")])])
    assert world.told == told
