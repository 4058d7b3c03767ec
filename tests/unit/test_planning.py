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
        self.held: dict[int, Standing] = {}
        self.asked: list[tuple[Path, SendKey]] = []
        self.down = False

    async def claim(self, path: Path, keys: Sequence[SendKey]) -> list[Claim]:
        if self.down:
            raise GateUnavailableError("down")
        self.asked += [(path, key) for key in keys]
        return [self.answers.get(key.user_id, Claim.granted) for key in keys]

    async def practised(self, marks: Sequence[tuple[int, date]]) -> None:
        raise AssertionError("planners do not mark")

    async def standing(self, path: Path, keys: Sequence[SendKey]) -> list[Standing]:
        return [self.held.get(key.user_id, Standing.unclaimed) for key in keys]

    async def settle(self, path: Path, keys: Sequence[SendKey]) -> None:
        raise AssertionError("planners do not settle")


def send(user_id: int, kind: str = "practice", day: date = DAY, expires_at: float = NOW + 60) -> Send:
    raw = (user_id, kind, day, NOW - 60, expires_at, "UTC", "en", 0, 0, (("d", "ios", "t"),))
    return msgspec.convert(raw, Send)


def sent(plan: Plan) -> list[int]:
    return [send.user_id for send in plan.sends]


async def test_a_plan_sends_what_the_gate_grants() -> None:
    gate = FakeGate()
    plan = await claim(gate, Path.stream, [send(1), send(2)], [], NOW)
    assert sent(plan) == [1, 2]
    assert gate.asked == [(Path.stream, SendKey(n, "practice", DAY)) for n in (1, 2)]


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
    assert plan.candidates == 5
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
    }


def test_the_devices_of_a_send_travel_with_it() -> None:
    (record,) = records(Plan(sends=[send(1)]), Path.stream, TOPICS, NOW, 500)
    assert decode_sends(record.value).sends[0].targets == (Target("d", "ios", "t"),)
    assert record.key is None


@pytest.mark.parametrize("standing", [Standing.clear, Standing.practised])
async def test_a_denial_that_a_crashed_attempt_had_claimed_is_granted_for_good_and_dropped(standing: Standing) -> None:
    gate = FakeGate()
    gate.held[1] = standing
    plan = await claim(gate, Path.batch, [], [Denial(send(1), "opted_out")], NOW)
    assert (plan.denied, plan.sends) == ([], [])
    assert plan.counts == {(DAY.isoformat(), "granted"): 1}
    (record,) = records(plan, Path.batch, TOPICS, NOW, 500)
    (outcome,) = decode_outcomes(record.value).outcomes
    assert (outcome.result, outcome.reason) == (Result.dropped, "opted_out")


async def test_a_denial_that_was_settled_before_is_granted_and_has_its_outcome_already() -> None:
    gate = FakeGate()
    gate.held[1] = Standing.settled
    plan = await claim(gate, Path.batch, [], [Denial(send(1), "opted_out")], NOW)
    assert plan.counts == {(DAY.isoformat(), "granted"): 1}
    assert records(plan, Path.batch, TOPICS, NOW, 500) == []
