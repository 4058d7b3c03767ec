"""What an audit answers, put together from the counts of its places. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import msgspec

from batch.audit.compare import Hop, Parting
from batch.audit.facts import DENIED, Group, Tally
from shared.policy.kinds import Path
from shared.wire.sends import Result


class Account(msgspec.Struct):
    """One path and kind on one local date. How granted sends ended is the ledger's word."""

    path: str
    kind: str
    candidates: int
    granted: int
    denied: dict[str, int]
    delivered: int
    expired: int
    failed: dict[str, int]
    dropped: dict[str, int]
    in_flight: int
    """Granted and not in the ledger, but seen on the way to it."""
    lost: int
    """Granted, not in the ledger, and not on the way."""
    planned: int | None
    """Granted sends by the planners' record; None, as below: it is not kept for so long."""
    answered: int | None
    """Those with an outcome in Kafka."""
    ledger: int
    """Those with an outcome in the ledger."""


class Audit(msgspec.Struct):
    """What `surnia audit` found. `problems` names for each path and kind the first place where counts part; empty when
    all hold."""

    local_date: date
    accounts: list[Account]
    lag: int
    """Messages that delivery and ledger have not read, of whatever date, and the date's pages that are not in Kafka."""
    repeated: int
    """Outcomes of the date that Kafka has once more: work that was done again. Harmless."""
    unavailable: list[str]
    """Of "planned" and "kafka", what is not kept for so long; the others are compared."""
    problems: list[str]

    @property
    def holds(self) -> bool:
        return not self.problems


@dataclass
class Counts:
    """What the places hold, by the groups' numbers. None: a place that does not reach back to the date."""

    groups: Sequence[Group]
    reasons: Sequence[str]
    """Of the planners' denials, by number."""
    planned: Tally | None
    answered: Tally | None
    ledger: Tally
    ledger_reasons: Counter[tuple[Group, Result, str]]

    @property
    def unavailable(self) -> list[str]:
        places = {"planned": self.planned, "kafka": self.answered}
        return [name for name, tally in places.items() if tally is None]


def accounts_of(counts: Counts, hops: Sequence[Hop]) -> tuple[list[Account], list[str]]:
    """An account for each path and kind, and the problems."""
    numbers: dict[tuple[Path, str], list[int]] = {}
    for number, group in enumerate(counts.groups):
        numbers.setdefault((group.path, group.kind), []).append(number)
    accounts: list[Account] = []
    problems: list[str] = []
    for key in sorted(numbers):
        partings = [(hop.name, _sum(hop, numbers[key])) for hop in hops]
        account = _account(key, counts, numbers[key], sum(parting.granted.n for _, parting in partings))
        problem = next((_problem(name, parting) for name, parting in partings if parting), None)
        if problem or account.candidates or account.ledger or account.answered:
            accounts.append(account)
        if problem:
            problems.append(f"{account.path} {account.kind}: {problem}")
    if len(counts.unavailable) == 2:
        problems.append("the date is too long ago: neither the planners' record nor Kafka is left to compare with")
    return accounts, problems


def _account(key: tuple[Path, str], counts: Counts, numbers: Sequence[int], lost: int) -> Account:
    def granted(tally: Tally) -> int:
        return sum(tally.granted(number) for number in numbers)

    def reasons(result: Result) -> dict[str, int]:
        found: Counter[str] = Counter()
        for (group, ended, reason), n in counts.ledger_reasons.items():
            if (group.path, group.kind) == key and ended is result:
                found[reason] += n
        return dict(sorted(found.items()))

    planned = None if counts.planned is None else granted(counts.planned)
    answered = None if counts.answered is None else granted(counts.answered)
    ledger = granted(counts.ledger)
    denied = reasons(Result.denied) if counts.planned is None else _denied(counts.planned, counts.reasons, numbers)
    known = next(n for n in (planned, answered, ledger) if n is not None)
    missing = max(0, known - ledger)
    lost = min(lost, missing)
    return Account(
        path=key[0].name,
        kind=key[1],
        candidates=known + sum(denied.values()),
        granted=known,
        denied=denied,
        delivered=sum(reasons(Result.delivered).values()),
        expired=sum(reasons(Result.expired).values()),
        failed=reasons(Result.failed),
        dropped=reasons(Result.dropped),
        in_flight=missing - lost,
        lost=lost,
        planned=planned,
        answered=answered,
        ledger=ledger,
    )


def _denied(planned: Tally, reasons: Sequence[str], numbers: Sequence[int]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for (number, mark), (n, _) in planned.sums.items():
        if number in numbers and mark >= DENIED:
            found[reasons[mark - DENIED]] += n
    return dict(sorted(found.items()))


def _sum(hop: Hop, numbers: Sequence[int]) -> Parting:
    whole = Parting()
    for number in numbers:
        whole += hop.partings.get(number, Parting())
    return whole


def _problem(hop: str, parting: Parting) -> str:
    surplus = parting.surplus
    if hop.endswith("ledger") and not any(some.n for some in parting.parts if some is not surplus):
        return f"the ledger has more than was planned: {surplus.n:,} outcomes: user {surplus.names}"
    texts = (
        (parting.granted, "granted have no outcome there, and nothing is on its way"),
        (parting.denied, "denied are not there"),
        (parting.other, "have another outcome there"),
        (surplus, "are there although they were not planned"),
    )
    return f"{hop}: " + "; ".join(f"{some.n:,} {text}: user {some.names}" for some, text in texts if some.n)
