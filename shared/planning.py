"""The last step of both planners: candidates through the gate, the page into PostgreSQL, its messages to Kafka.

Whoever calls it may crash at any line and call it again, with the same candidates or without some of them: the gate
answers as it did before, users count once however many pages name them, and granted beats a denial.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from shared.clock import Clock
from shared.gate.contract import Claim, Gate
from shared.outbox import GRANTED, Decision, Outbox
from shared.policy.kinds import KINDS, Path
from shared.producer import Producer, Record
from shared.settings import Settings
from shared.store.databases import Databases
from shared.store.late import PlannedPages
from shared.store.partitions import Connection
from shared.topics import Topics
from shared.wire.sends import Outcome, OutcomeBatch, Result, Send, SendBatch, encode


class Denial(NamedTuple):
    """A candidate that the planner itself turns down, before the gate is asked."""

    send: Send
    reason: str


@dataclass(slots=True)
class Plan:
    """What a page of candidates came to."""

    decisions: dict[Decision, list[int]] = field(default_factory=dict)
    """Every candidate once, but for the paused ones."""
    sends: list[Send] = field(default_factory=list)
    expired: list[Send] = field(default_factory=list)
    denied: list[Denial] = field(default_factory=list)
    paused: list[Send] = field(default_factory=list)
    """Not decided, and so no part of the page: whoever asked keeps them and asks again."""

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """(local date, "granted" or the reason of a denial) -> candidates."""
        counts: Counter[tuple[str, str]] = Counter()
        for decision, users in self.decisions.items():
            counts[decision.local_date.isoformat(), decision.answer] += len(users)
        return counts

    @property
    def by_kind(self) -> Counter[tuple[str, str]]:
        """(kind, "granted" or the reason of a denial) -> candidates."""
        counts: Counter[tuple[str, str]] = Counter()
        for decision, users in self.decisions.items():
            counts[decision.kind, decision.answer] += len(users)
        return counts

    def decided(self, of: Send, answer: str) -> list[int]:
        """Whom that answer is for, of sends of the same kind, date and campaign."""
        return self.decisions.setdefault(Decision(of.local_date, of.kind, of.campaign, answer), [])


class Page(NamedTuple):
    """A page that Kafka has. Its caller deletes it from the outbox, together with what else remembers its place."""

    id: int | None
    """None: there was nothing to write."""
    counts: Counter[tuple[str, str]]
    by_kind: Counter[tuple[str, str]]
    paused: list[Send]


class Planner:
    """One path's last step, for as long as its process lives."""

    def __init__(self, path: Path, gate: Gate, producer: Producer, settings: Settings, clock: Clock) -> None:
        self._path = path
        self._gate = gate
        self._producer = producer
        self._clock = clock
        self._topics = Topics.of(settings)
        self._send_batch = settings.send_batch
        self._outbox = Outbox()
        self._pages = PlannedPages(Databases.of(settings))

    async def write(self, connection: Connection, candidates: Sequence[Send], denied: Sequence[Denial]) -> Page:
        """Claim a page, write it down, write it to Kafka. The connection must not be in a transaction.

        Raises what `shared.patience.SERVER_TROUBLE` lists; safe to repeat after whatever was raised.
        """
        now = self._clock.now()
        plan = await claim(self._gate, self._path, candidates, denied, now)
        if not plan.decisions:
            return Page(None, plan.counts, plan.by_kind, plan.paused)
        messages = records(plan, self._path, self._topics, now, self._send_batch)
        page_id = await self.commit(connection, plan.decisions, messages)
        return Page(page_id, plan.counts, plan.by_kind, plan.paused)

    async def commit(
        self, connection: Connection, decisions: Mapping[Decision, Sequence[int]], messages: Sequence[Record]
    ) -> int:
        """Write down a page that is decided, then to Kafka; its number, for whoever deletes it from the outbox."""
        page_id = await self._outbox.record(connection, self._path, decisions, messages)
        users = [user_id for decided in decisions.values() for user_id in decided]
        await self._pages.mend(connection, page_id, {decision.local_date for decision in decisions}, users)
        await self._producer.write(messages)
        return page_id


async def claim(gate: Gate, path: Path, candidates: Sequence[Send], denied: Sequence[Denial], now: float) -> Plan:
    """Ask the gate for every candidate. What is past its window is claimed too, and reported as expired."""
    plan = Plan(denied=list(denied))
    for send, reason in denied:
        plan.decided(send, reason).append(send.user_id)
    groups: dict[tuple[str, date, str], list[Send]] = {}
    for send in candidates:
        groups.setdefault((send.kind, send.local_date, send.campaign), []).append(send)
    for (kind, day, campaign), sends in groups.items():
        answers = await gate.claim(path, kind, day, [send.user_id for send in sends], campaign)
        _fold(plan, sends, answers, now)
    return plan


def _fold(plan: Plan, sends: Sequence[Send], answers: Sequence[Claim], now: float) -> None:
    """Answers to sends of the same kind, date and campaign."""
    by_answer: dict[Claim, list[Send]] = {}
    for send, answer in zip(sends, answers, strict=True):
        by_answer.setdefault(answer, []).append(send)
    for answer, mine in by_answer.items():
        if answer is Claim.paused:
            plan.paused += [send for send in mine if now < send.expires_at]
            # Past its window it ends as expired whatever the gate would say later: nobody has to wait for the end of a
            # pause.
            _grant(plan, [send for send in mine if now >= send.expires_at], now)
        elif answer.denied:
            plan.decided(mine[0], answer.reason).extend(send.user_id for send in mine)
            plan.denied += [Denial(send, answer.reason) for send in mine]
        else:
            _grant(plan, mine, now, again=answer is not Claim.settled_before)


def _grant(plan: Plan, sends: Sequence[Send], now: float, *, again: bool = True) -> None:
    """`again`: whether there is anything left to do for them."""
    if not sends:
        return
    plan.decided(sends[0], GRANTED).extend(send.user_id for send in sends)
    for send in sends if again else ():
        (plan.sends if now < send.expires_at else plan.expired).append(send)


def records(plan: Plan, path: Path, topics: Topics, now: float, send_batch: int) -> list[Record]:
    """The Kafka messages of a plan: sends in batches on their lane, denials and expiries as outcomes."""
    out: list[Record] = []
    lanes: dict[str, list[Send]] = {}
    for kind, mine in groupby(plan.sends, attrgetter("kind")):
        lanes.setdefault(topics.lane(KINDS[kind].lane), []).extend(mine)
    for topic, sends in lanes.items():
        out += [
            # Keyless: batches spread over the lane's partitions, and no order is owed between them.
            Record(topic, None, encode(SendBatch(path, now, tuple(sends[start : start + send_batch]))))
            for start in range(0, len(sends), send_batch)
        ]
    outcomes = [_outcome(send, Result.denied, reason, now) for send, reason in plan.denied]
    outcomes += [_outcome(send, Result.expired, "expired", now) for send in plan.expired]
    out += [
        Record(topics.outcomes, None, encode(OutcomeBatch(path, tuple(outcomes[start : start + send_batch]))))
        for start in range(0, len(outcomes), send_batch)
    ]
    return out


def _outcome(send: Send, result: Result, reason: str, now: float) -> Outcome:
    return Outcome(send.user_id, send.kind, send.local_date, result, reason, send.due_at, now, campaign=send.campaign)
