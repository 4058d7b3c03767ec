"""The planners' last step: every candidate is counted once, and ends in one record or in none."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import msgspec
import pytest

from shared.gate.contract import Claim, GateUnavailableError, SendKey, Standing
from shared.planning import Denial, Plan, claim, records
from shared.policy.kinds import KINDS, Path
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.sends import Result, Send, Target, decode_outcomes, decode_sends

NOW = 1_795_262_400.0
DAY = date(2026, 11, 21)
TOPICS = Topics.of(Settings.model_validate({"topic_prefix": "t."}))


class FakeGate:
    """Answers what each user was given, and remembers what it was asked."""

    def __init__(self, answers: dict[int, Claim] | None = None) -> None:
        self.answers = answers or {}
        self.asked: list[tuple[Path, str, date, list[int], str]] = []
        self.down = False

    async def claim(self, path: Path, kind: str, day: date, user_ids: Sequence[int], campaign: str = "") -> list[Claim]:
        if self.down:
            raise GateUnavailableError("down")
        self.asked.append((path, kind, day, list(user_ids), campaign))
        return [self.answers.get(user_id, Claim.granted) for user_id in user_ids]

    async def practised(self, marks: Sequence[tuple[int, date]]) -> None:
        raise AssertionError("planners do not mark")

    async def opt_out(self, choices: Sequence[tuple[int, date, int]]) -> None:
        raise AssertionError("planners choose for nobody")

    async def standing(self, path: Path, keys: Sequence[SendKey]) -> list[Standing]:
        raise AssertionError("distinct users make it unnecessary")

    async def settle(self, path: Path, keys: Sequence[SendKey]) -> None:
        raise AssertionError("planners do not settle")


def send(
    user_id: int, kind: str = "practice", day: date = DAY, expires_at: float = NOW + 60, campaign: str = ""
) -> Send:
    raw = (user_id, kind, day, NOW - 60, expires_at, "UTC", "en", 0, 0, (("d", "ios", "t"),), campaign)
    return msgspec.convert(raw, Send)


def sent(plan: Plan) -> list[int]:
    return [send.user_id for send in plan.sends]


async def test_a_plan_sends_what_the_gate_grants() -> None:
    gate = FakeGate()
    plan = await claim(gate, Path.stream, [send(1), send(2)], [], NOW)
    assert sent(plan) == [1, 2]
    assert gate.asked == [(Path.stream, "practice", DAY, [1, 2], "")]


async def test_the_gate_is_asked_once_for_each_kind_date_and_campaign_and_answers_go_to_whom_they_belong() -> None:
    tomorrow = date(2026, 11, 22)
    candidates = [
        send(1), send(2, day=tomorrow), send(3), send(4, "streak_saver"), send(5, "campaign", campaign="easter"),
        send(6, "campaign", campaign="winter"), send(7, day=tomorrow),
    ]  # fmt: skip
    gate = FakeGate({3: Claim.practised, 5: Claim.daily_cap, 7: Claim.other_path})
    plan = await claim(gate, Path.blast, candidates, [], NOW)
    assert gate.asked == [
        (Path.blast, "practice", DAY, [1, 3], ""),
        (Path.blast, "practice", tomorrow, [2, 7], ""),
        (Path.blast, "streak_saver", DAY, [4], ""),
        (Path.blast, "campaign", DAY, [5], "easter"),
        (Path.blast, "campaign", DAY, [6], "winter"),
    ]
    assert sorted(sent(plan)) == [1, 2, 4, 6]
    assert plan.decisions == {
        (DAY, "practice", "", "granted"): [1],
        (DAY, "practice", "", "practised"): [3],
        (tomorrow, "practice", "", "granted"): [2],
        (tomorrow, "practice", "", "other_path"): [7],
        (DAY, "streak_saver", "", "granted"): [4],
        (DAY, "campaign", "easter", "daily_cap"): [5],
        (DAY, "campaign", "winter", "granted"): [6],
    }


async def test_a_campaigns_denials_and_expiries_carry_its_name() -> None:
    gate = FakeGate({1: Claim.opted_out})
    candidates = [send(1, "campaign", campaign="easter"), send(2, "campaign", expires_at=NOW, campaign="easter")]
    plan = await claim(gate, Path.blast, candidates, [], NOW)
    (record,) = records(plan, Path.blast, TOPICS, NOW, 500)
    assert {(o.user_id, o.reason, o.campaign) for o in decode_outcomes(record.value).outcomes} == {
        (1, "opted_out", "easter"),
        (2, "expired", "easter"),
    }


async def test_who_is_paused_is_no_part_of_the_page_and_is_given_back() -> None:
    gate = FakeGate({1: Claim.paused, 3: Claim.paused})
    plan = await claim(gate, Path.stream, [send(1), send(2), send(3)], [Denial(send(4), "no_device")], NOW)
    assert plan.paused == [send(1), send(3)]
    assert sent(plan) == [2]
    assert plan.counts == {("2026-11-21", "granted"): 1, ("2026-11-21", "no_device"): 1}
    assert {user for users in plan.decisions.values() for user in users} == {2, 4}


async def test_nobody_waits_for_the_end_of_a_pause_when_the_window_is_past_already() -> None:
    plan = await claim(FakeGate({1: Claim.paused}), Path.stream, [send(1, expires_at=NOW)], [], NOW)
    assert (plan.paused, plan.sends, plan.expired) == ([], [], [send(1, expires_at=NOW)])
    assert plan.counts == {("2026-11-21", "granted"): 1}


async def test_a_repeated_page_sends_again_what_it_was_granted_before() -> None:
    plan = await claim(FakeGate({1: Claim.granted_again}), Path.stream, [send(1)], [], NOW)
    assert sent(plan) == [1]
    assert plan.counts == {("2026-11-21", "granted"): 1}


@pytest.mark.parametrize("answer", [answer for answer in Claim if answer.denied])
async def test_a_denial_of_the_gate_is_recorded_with_its_reason(answer: Claim) -> None:
    plan = await claim(FakeGate({1: answer}), Path.stream, [send(1)], [], NOW)
    assert (plan.sends, plan.expired) == ([], [])
    assert plan.denied == [Denial(send(1), answer.name)]
    assert plan.counts == {("2026-11-21", answer.name): 1}


async def test_the_planners_own_denials_do_not_reach_the_gate() -> None:
    gate = FakeGate()
    plan = await claim(gate, Path.batch, [], [Denial(send(1), "opted_out")], NOW)
    assert gate.asked == []
    assert plan.counts == {("2026-11-21", "opted_out"): 1}


async def test_what_was_settled_before_counts_as_granted_and_is_written_nowhere() -> None:
    plan = await claim(FakeGate({1: Claim.settled_before}), Path.stream, [send(1)], [], NOW)
    assert plan.counts == {("2026-11-21", "granted"): 1}
    assert records(plan, Path.stream, TOPICS, NOW, 500) == []


async def test_a_settled_send_that_is_past_its_window_is_not_reported_as_expired() -> None:
    plan = await claim(FakeGate({1: Claim.settled_before}), Path.stream, [send(1, expires_at=NOW - 1)], [], NOW)
    assert records(plan, Path.stream, TOPICS, NOW, 500) == []


@pytest.mark.parametrize(("expires_at", "late"), [(NOW - 1, True), (NOW, True), (NOW + 0.001, False)])
async def test_what_is_past_its_window_is_claimed_and_expires(expires_at: float, late: bool) -> None:
    gate = FakeGate()
    plan = await claim(gate, Path.stream, [send(1, expires_at=expires_at)], [], NOW)
    assert len(gate.asked) == 1
    assert (len(plan.expired), len(plan.sends)) == ((1, 0) if late else (0, 1))
    assert plan.counts == {("2026-11-21", "granted"): 1}


async def test_an_expiry_becomes_an_outcome_and_no_send() -> None:
    plan = await claim(FakeGate(), Path.batch, [send(1, expires_at=NOW)], [], NOW)
    (record,) = records(plan, Path.batch, TOPICS, NOW, 500)
    (outcome,) = decode_outcomes(record.value).outcomes
    assert record.topic == "t.outcomes"
    assert (outcome.result, outcome.reason, outcome.decided_at) == (Result.expired, "expired", NOW)


async def test_a_denial_becomes_an_outcome_with_the_identity_of_its_send() -> None:
    plan = await claim(FakeGate({1: Claim.daily_cap}), Path.batch, [send(1)], [], NOW)
    (record,) = records(plan, Path.batch, TOPICS, NOW, 500)
    batch = decode_outcomes(record.value)
    (outcome,) = batch.outcomes
    assert batch.path is Path.batch
    assert (outcome.user_id, outcome.kind, outcome.local_date) == (1, "practice", DAY)
    assert (outcome.result, outcome.reason, outcome.due_at) == (Result.denied, "daily_cap", NOW - 60)


async def test_every_candidate_is_counted_once_and_under_its_own_local_date() -> None:
    other = date(2026, 11, 22)
    answers = {1: Claim.granted, 2: Claim.practised, 3: Claim.settled_before, 4: Claim.granted}
    candidates = [send(1), send(2), send(3, day=other), send(4, day=other, expires_at=NOW)]
    plan = await claim(FakeGate(answers), Path.stream, candidates, [Denial(send(5, day=other), "no_device")], NOW)
    assert plan.counts.total() == 5
    assert plan.counts == {
        ("2026-11-21", "granted"): 1,
        ("2026-11-21", "practised"): 1,
        ("2026-11-22", "granted"): 2,
        ("2026-11-22", "no_device"): 1,
    }


async def test_a_closed_gate_leaves_no_plan() -> None:
    gate = FakeGate()
    gate.down = True
    with pytest.raises(GateUnavailableError):
        await claim(gate, Path.stream, [send(1)], [], NOW)


@pytest.mark.parametrize(("sends", "sizes"), [(0, []), (1, [1]), (3, [3]), (4, [3, 1]), (7, [3, 3, 1])])
def test_sends_are_written_in_batches(sends: int, sizes: list[int]) -> None:
    plan = Plan(sends=[send(n) for n in range(1, sends + 1)])
    batches = [decode_sends(record.value) for record in records(plan, Path.stream, TOPICS, NOW, 3)]
    assert [len(batch.sends) for batch in batches] == sizes
    assert [each for batch in batches for each in batch.sends] == plan.sends
    assert {(batch.path, batch.planned_at) for batch in batches} <= {(Path.stream, NOW)}


def test_outcomes_are_written_in_batches_too() -> None:
    plan = Plan(denied=[Denial(send(n), "opted_out") for n in range(1, 6)], expired=[send(6), send(7)])
    batches = [decode_outcomes(record.value) for record in records(plan, Path.stream, TOPICS, NOW, 3)]
    assert [[outcome.user_id for outcome in batch.outcomes] for batch in batches] == [[1, 2, 3], [4, 5, 6], [7]]


def test_every_kind_goes_on_the_lane_of_its_path() -> None:
    plan = Plan(sends=[send(n, kind) for n, kind in enumerate(KINDS, start=1)])
    lanes = {
        each.kind: record.topic
        for record in records(plan, Path.stream, TOPICS, NOW, 500)
        for each in decode_sends(record.value).sends
    }
    assert lanes == {
        "practice": "t.sends.urgent",
        "streak_saver": "t.sends.urgent",
        "abandoned_lesson": "t.sends.urgent",
        "comeback": "t.sends.normal",
        "campaign": "t.sends.blast",
    }


def test_the_devices_of_a_send_travel_with_it() -> None:
    (record,) = records(Plan(sends=[send(1)]), Path.stream, TOPICS, NOW, 500)
    assert decode_sends(record.value).sends[0].targets == (Target("d", "ios", "t"),)
    assert record.key is None
