"""The meter before a gate: it changes no answer, counts them all, and knows whether the gate answered last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date

import pytest
from prometheus_client import CollectorRegistry

from shared.gate.contract import Claim, GateClosedError, GateUnavailableError, SendKey, Standing
from shared.gate.rules import Rule
from shared.metrics import GateMeter
from shared.policy.kinds import Path

DAY = date(2026, 11, 21)


class FakeGate:
    """Answers what it is told to, or raises it."""

    def __init__(self) -> None:
        self.claims: list[Claim] = []
        self.standings: list[Standing] = []
        self.error: Exception | None = None
        self.asked: list[tuple[object, ...]] = []

    def _ask(self, *question: object) -> None:
        self.asked.append(question)
        if self.error:
            raise self.error

    async def practised(self, marks: Sequence[tuple[int, date]]) -> None:
        self._ask("practised", marks)

    async def opt_out(self, choices: Sequence[tuple[int, date, int]]) -> None:
        self._ask("opt_out", choices)

    async def claim(self, path: Path, kind: str, day: date, user_ids: Sequence[int], campaign: str = "") -> list[Claim]:
        self._ask("claim", path, kind, day, user_ids, campaign)
        return self.claims

    async def standing(self, path: Path, keys: Sequence[SendKey]) -> list[Standing]:
        self._ask("standing", path, keys)
        return self.standings

    async def settle(self, path: Path, keys: Sequence[SendKey]) -> None:
        self._ask("settle", path, keys)

    async def pauses(self) -> tuple[Rule, ...]:
        self._ask("pauses")
        return ()

    async def close(self) -> None:
        self._ask("close")


class Meter(GateMeter):
    """With the numbers as a reader of the page sees them."""

    def __init__(self) -> None:
        self.fake = FakeGate()
        self.registry = CollectorRegistry()
        super().__init__(self.fake, self.registry)

    def count(self, question: str, path: str, kind: str, answer: str) -> float | None:
        labels = {"question": question, "path": path, "kind": kind, "answer": answer}
        return self.registry.get_sample_value("surnia_gate_answers_total", labels)

    @property
    def up(self) -> float | None:
        return self.registry.get_sample_value("surnia_gate_up")

    def down(self, reason: str) -> float | None:
        return self.registry.get_sample_value("surnia_gate_down", {"reason": reason})


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.mark.parametrize("answer", Claim)
async def test_every_answer_to_a_claim_is_counted(meter: Meter, answer: Claim) -> None:
    meter.fake.claims = [answer] * 3 + [Claim.granted]
    for _ in range(2):
        assert await meter.claim(Path.batch, "comeback", DAY, [1, 2, 3, 4]) == meter.fake.claims
    expected = 8 if answer is Claim.granted else 6
    assert meter.count("claim", "batch", "comeback", answer.name) == expected
    assert meter.count("claim", "stream", "comeback", answer.name) is None


async def test_standings_are_counted_for_each_kind(meter: Meter) -> None:
    kinds = ("practice", "streak_saver", "practice")
    keys = [SendKey(n, kind, DAY) for n, kind in enumerate(kinds, start=1)]
    meter.fake.standings = [Standing.clear, Standing.settled, Standing.opted_out]
    assert await meter.standing(Path.stream, keys) == meter.fake.standings
    assert meter.count("standing", "stream", "practice", "clear") == 1
    assert meter.count("standing", "stream", "practice", "opted_out") == 1
    assert meter.count("standing", "stream", "streak_saver", "settled") == 1
    assert meter.count("standing", "stream", "streak_saver", "clear") is None


async def test_no_question_no_count(meter: Meter) -> None:
    assert await meter.claim(Path.stream, "practice", DAY, []) == []
    assert await meter.standing(Path.stream, []) == []
    assert meter.count("claim", "stream", "practice", "granted") is None


async def test_every_question_reaches_the_gate_as_it_was_asked(meter: Meter) -> None:
    keys = [SendKey(1, "practice", DAY)]
    meter.fake.standings = [Standing.clear]
    await meter.practised([(1, DAY)])
    await meter.opt_out([(1, DAY, 3)])
    await meter.claim(Path.blast, "campaign", DAY, [1], "launch")
    await meter.standing(Path.stream, keys)
    await meter.settle(Path.stream, keys)
    await meter.pauses()
    await meter.close()
    assert meter.fake.asked == [
        ("practised", [(1, DAY)]),
        ("opt_out", [(1, DAY, 3)]),
        ("claim", Path.blast, "campaign", DAY, [1], "launch"),
        ("standing", Path.stream, keys),
        ("settle", Path.stream, keys),
        ("pauses",),
        ("close",),
    ]


async def test_nobody_knows_whether_the_gate_is_up_before_it_was_asked(meter: Meter) -> None:
    assert meter.up is not None
    assert math.isnan(meter.up)


@pytest.mark.parametrize(
    ("error", "reason", "other"),
    [
        (GateUnavailableError("no answer"), "unavailable", "closed"),
        (GateClosedError("no epoch"), "closed", "unavailable"),
    ],
)
async def test_a_gate_that_does_not_answer_is_down_for_a_reason_until_it_answers(
    meter: Meter, error: Exception, reason: str, other: str
) -> None:
    meter.fake.error = error
    with pytest.raises(type(error)):
        await meter.practised([(1, DAY)])
    assert (meter.up, meter.down(reason), meter.down(other)) == (0, 1, 0)
    meter.fake.error = None
    await meter.settle(Path.stream, [])
    assert (meter.up, meter.down(reason), meter.down(other)) == (1, 0, 0)


async def test_a_mistake_says_nothing_about_the_gate(meter: Meter) -> None:
    meter.fake.error = ValueError("ours")
    with pytest.raises(ValueError, match="ours"):
        await meter.settle(Path.stream, [])
    assert meter.up is not None
    assert math.isnan(meter.up)
