"""The last step of both planners: candidates through the gate, sends and denials to Kafka.

Whoever calls it may crash and call it again with the same candidates: the gate answers as it did before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.gate.contract import Claim, Gate, SendKey, Standing
from shared.policy.kinds import KINDS, Path
from shared.producer import Record
from shared.topics import Topics
from shared.wire.sends import Outcome, OutcomeBatch, Result, Send, SendBatch, encode


class Denial(NamedTuple):
    """A candidate that the planner itself turns down, before the gate is asked."""

    send: Send
    reason: str


@dataclass(slots=True)
class Plan:
    """What a page of candidates came to."""

    sends: list[Send] = field(default_factory=list)
    expired: list[Send] = field(default_factory=list)
    denied: list[Denial] = field(default_factory=list)
    dropped: list[Denial] = field(default_factory=list)
    """Claimed by an attempt that crashed, and turned down since: granted, so it needs an outcome."""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(local date, "granted" or the reason of a denial) -> candidates."""

    @property
    def candidates(self) -> int:
        return sum(self.counts.values())


async def claim(gate: Gate, path: Path, candidates: Sequence[Send], denied: Sequence[Denial], now: float) -> Plan:
    """Ask the gate for every candidate. What is past its window is claimed too, and reported as expired.

    The gate is asked about denials too: one that an earlier attempt had claimed, before the user opted out, say, counts
    as granted for good and is dropped instead.
    """
    plan = Plan()
    held = await gate.standing(path, [_key(send) for send, _ in denied])
    for denial, standing in zip(denied, held, strict=True):
        if standing is Standing.unclaimed:
            plan.denied.append(denial)
            continue
        plan.counts[denial.send.local_date.isoformat(), "granted"] += 1
        if standing is not Standing.settled:
            plan.dropped.append(denial)
    answers = await gate.claim(path, [_key(send) for send in candidates])
    for send, answer in zip(candidates, answers, strict=True):
        if answer.denied:
            plan.denied.append(Denial(send, answer.reason))
            continue
        plan.counts[send.local_date.isoformat(), "granted"] += 1
        if answer is Claim.settled_before:
            continue
        (plan.expired if now >= send.expires_at else plan.sends).append(send)
    for send, reason in plan.denied:
        plan.counts[send.local_date.isoformat(), reason] += 1
    return plan


def records(plan: Plan, path: Path, topics: Topics, now: float, send_batch: int) -> list[Record]:
    """The Kafka messages of a plan: sends in batches on their lane, denials and expiries as outcomes."""
    out: list[Record] = []
    lanes: dict[str, list[Send]] = {}
    for send in plan.sends:
        lanes.setdefault(topics.lane(KINDS[send.kind].lane), []).append(send)
    for topic, sends in lanes.items():
        out += [
            # Keyless: batches spread over the lane's partitions, and no order is owed between them.
            Record(topic, None, encode(SendBatch(path, now, tuple(sends[start : start + send_batch]))))
            for start in range(0, len(sends), send_batch)
        ]
    outcomes = [_outcome(send, Result.denied, reason, now) for send, reason in plan.denied]
    outcomes += [_outcome(send, Result.expired, "expired", now) for send in plan.expired]
    outcomes += [_outcome(send, Result.dropped, reason, now) for send, reason in plan.dropped]
    out += [
        Record(topics.outcomes, None, encode(OutcomeBatch(path, tuple(outcomes[start : start + send_batch]))))
        for start in range(0, len(outcomes), send_batch)
    ]
    return out


def _key(send: Send) -> SendKey:
    return SendKey(send.user_id, send.kind, send.local_date)


def _outcome(send: Send, result: Result, reason: str, now: float) -> Outcome:
    return Outcome(send.user_id, send.kind, send.local_date, result, reason, send.due_at, now)
