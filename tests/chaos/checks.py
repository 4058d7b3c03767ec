"""What must hold after a seed: the engine's own accounts, and the provider's journal as a witness against them."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

from batch.audit import Audit, audit
from infra.simulator.devices import Devices
from infra.simulator.journal import Accepted, read_journal
from infra.simulator.witness import Witness
from shared.identity import send_id
from shared.policy.kinds import KIND_BY_CODE
from shared.wire.sends import Result
from tests.chaos.faults import Fault
from tests.chaos.load import Load, Practice, dates_of
from tests.chaos.world import World

PAUSE_SECONDS = 2.0
"""After this long a pause is in force everywhere."""


@dataclass
class Evidence:
    """What a seed leaves behind to judge it by."""

    load: Load
    faults: list[Fault]
    journal_start: int
    known: dict[Practice, float] = field(default_factory=dict)
    """When, in real time, the stream workers were seen to have finished with a practice."""

    @property
    def stale(self) -> float:
        return max(fault.stale for fault in self.faults)


@dataclass
class Count:
    """A seed in numbers: candidates and where they ended, then what no seed but a few may have."""

    candidates: int = 0
    granted: int = 0
    delivered: int = 0
    expired: int = 0
    failed: int = 0
    dropped: int = 0
    lost: int = 0
    repeated_calls: int = 0
    shown_twice: int = 0


def check(world: World, evidence: Evidence) -> tuple[Count, list[str]]:
    """Count everything; what does not hold, in words."""
    count = Count()
    problems = list(_audits(world, evidence, count))
    accepted = list(read_journal(world.journal, evidence.journal_start))
    sends = _Sends(evidence.load, accepted)
    problems += sends.strangers
    problems += _witness(world, evidence, accepted, count)
    problems += _in_time(world, evidence, sends)
    problems += _complete(world, evidence)
    problems += _ledger(world, evidence, sends)
    for (user, day), kinds in sends.kinds_by_day().items():
        if len(kinds) > world.settings.daily_cap:
            problems.append(f"user {user} was shown {sorted(kinds)} on {day}: more than the daily cap")
    if count.repeated_calls and not explained(world, evidence):
        problems.append(f"{count.repeated_calls} calls were repeated, and no fault of this seed explains one")
    return count, problems


def explained(world: World, evidence: Evidence) -> bool:
    """Whether something came between a provider's answer and our settle."""
    return any(fault.repeats for fault in evidence.faults) or "delivery" in world.workers.fallen


class _Sends:
    """The accepted pushes, and which send each of them is."""

    def __init__(self, load: Load, accepted: list[Accepted]) -> None:
        owners = {token: user.id for user in load.users for _, *tokens in user.devices for token in tokens if token}
        days = dates_of(load)
        self.known: list[tuple[Accepted, int, date]] = []
        self.strangers: list[str] = []
        for record in accepted:
            push = record.push
            user = owners.get(push.token)
            day = next((day for day in days if user and push.send_id == str(send_id(user, push.kind, day))), None)
            if user is None or day is None:
                self.strangers.append(f"a push that is no send of this seed: {push}")
            else:
                self.known.append((record, user, day))

    def keys(self) -> set[tuple[int, str, date]]:
        return {(user, record.push.kind, day) for record, user, day in self.known}

    def kinds_by_day(self) -> dict[tuple[int, date], set[str]]:
        found: defaultdict[tuple[int, date], set[str]] = defaultdict(set)
        for user, kind, day in self.keys():
            found[user, day].add(kind)
        return found


class _Times:
    """The clock's turns, to tell when something happened in real time that the clock dates."""

    def __init__(self, world: World) -> None:
        self._turns = world.turned
        self._place = {round(instant, 3): place for place, (_, instant, _) in enumerate(self._turns)}

    def span(self, instant: float) -> tuple[float, float]:
        """The real instants between which the clock showed `instant`."""
        place = self._place[round(instant, 3)]
        after = self._turns[place + 1][0] if place + 1 < len(self._turns) else float("inf")
        return self._turns[place][0], after

    def shown_lately(self, instant: float, seconds: float) -> Iterator[float]:
        """What the clock showed in the seconds before it showed `instant`, the last first: what a push may have been
        judged by that was under way when it was turned. Where nothing was under way, nothing else than `instant`."""
        place = self._place[round(instant, 3)]
        since = self._turns[place][0] - seconds
        yield self._turns[place][1]
        while place and not self._turns[place][2] and self._turns[place][0] > since:
            place -= 1
            yield self._turns[place][1]


def _audits(world: World, evidence: Evidence, count: Count) -> Iterator[str]:
    """What `surnia audit` says of every local date that the seed may have touched."""

    async def ask() -> list[Audit]:
        return [await audit(world.settings, day) for day in dates_of(evidence.load)]

    for found in asyncio.run(ask()):
        for account in found.accounts:
            count.candidates += account.candidates
            count.granted += account.granted
            count.delivered += account.delivered
            count.expired += account.expired
            count.failed += sum(account.failed.values())
            count.dropped += sum(account.dropped.values())
            count.lost += account.lost
            if account.lost or account.in_flight:
                yield f"audit of {found.local_date}: {account}"
        if not found.holds or found.lag:
            yield f"the audit of {found.local_date} does not hold: {found.problems}, lag {found.lag}"


def _witness(world: World, evidence: Evidence, accepted: list[Accepted], count: Count) -> Iterator[str]:
    """The simulator's judge over the journal, with the users' time zones and the moment each push was judged at."""
    devices, times = Devices(), _Times(world)
    for user in evidence.load.users:
        for _, *tokens in user.devices:
            for token in filter(None, tokens):
                devices.add(token, user.time_zone, device=f"{user.id} {tokens[0]}")
    witness = Witness(devices)
    for push, at in ((record.push, record.at) for record in accepted):
        lately = times.shown_lately(at, evidence.stale)
        witness.accepted(push, next((instant for instant in lately if not witness.outside_window(push, instant)), at))
    stats = witness.stats()
    count.repeated_calls = stats["repeated_calls"]
    count.shown_twice = stats["shown_twice"] - stats["repeated_calls"]
    if count.shown_twice or stats["outside_window"] or stats["without_send_id"]:
        yield f"the witness says {stats}"
    collapse_ids: defaultdict[tuple[int, str], set[str]] = defaultdict(set)
    for push in (record.push for record in accepted):
        collapse_ids[devices.screen(push.token), push.send_id].add(push.collapse_id)
    for (_, send), ids in collapse_ids.items():
        if len(ids) > 1 or "" in ids:
            yield f"send {send} was called with the collapse ids {sorted(ids)}"


def _in_time(world: World, evidence: Evidence, sends: _Sends) -> Iterator[str]:
    """Nothing for who has practised, nothing of a kind that is paused."""
    times = _Times(world)
    practised = {(practice.user_id, practice.day): known for practice, known in evidence.known.items()}
    for record, user, day in sends.known:
        since, until = times.span(record.at)
        if since > practised.get((user, day), float("inf")) + evidence.stale:
            yield f"user {user} had practised on {day} and was shown {record.push}"
        for kind, begin, end in world.paused:
            if record.push.kind == kind and since > begin + PAUSE_SECONDS + evidence.stale and until < end:
                yield f"{kind} was paused, and yet: {record.push}"


def _complete(world: World, evidence: Evidence) -> Iterator[str]:
    """Who must have become a candidate did, in the planners' own record."""
    with world.database() as connection:
        rows = connection.execute(
            "SELECT DISTINCT unnest(users), kind FROM planned WHERE local_date = ANY(%s)", (dates_of(evidence.load),)
        ).fetchall()
    planned = {(int(user), KIND_BY_CODE[kind].name) for user, kind in rows}
    expected = evidence.load.expected
    if any(fault.empties for fault in evidence.faults):
        expected = {(user, kind) for user, kind in expected if kind == "comeback"}
    if missing := expected - planned:
        yield f"{len(missing)} never became candidates: {Counter(kind for _, kind in missing)}, {sorted(missing)[:5]}"


def _ledger(world: World, evidence: Evidence, sends: _Sends) -> Iterator[str]:
    """Delivered is what a provider has accepted; the rest of that may be called by another name only after a fault."""
    with world.database() as connection:
        rows = connection.execute(
            "SELECT user_id, kind, local_date FROM ledger WHERE result = %s AND local_date = ANY(%s)",
            (int(Result.delivered), dates_of(evidence.load)),
        ).fetchall()
    delivered = {(int(user), KIND_BY_CODE[kind].name, day) for user, kind, day in rows}
    accepted = sends.keys()
    if invented := delivered - accepted:
        yield f"{len(invented)} are delivered in the ledger, and no provider knows of it: {sorted(invented)[:5]}"
    hidden = accepted - delivered
    if hidden and not explained(world, evidence):
        yield f"{len(hidden)} were accepted by a provider, and the ledger knows nothing: {sorted(hidden)[:5]}"
