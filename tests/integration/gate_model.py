"""The gate as plain Python: what the scripts promise, without bits, shards' buckets or Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from shared.gate import Claim, Rule, SendKey, Standing
from shared.gate.keeper import Fact
from shared.identity import shard_of
from shared.policy.kinds import KINDS, Path

CAMPAIGN = "campaign"


@dataclass
class Day:
    """A user's day. A kind's state: who claimed it, and whether it is settled."""

    practised: bool = False
    claimed: dict[str, Path] = field(default_factory=dict)
    settled: dict[str, Path] = field(default_factory=dict)
    unwanted: set[str] = field(default_factory=set)
    campaigns: int = 0
    erased: bool = False

    @property
    def count(self) -> int:
        return len(self.claimed) + len(self.settled) + self.campaigns


class Model:
    """The state of some shards. Of a closed shard nothing is answered and nothing changed but by restoring."""

    def __init__(self, cap: int, shards: Iterable[int], weekly_cap: int = 0) -> None:
        self.cap = cap
        self.weekly_cap = weekly_cap
        self.days: dict[tuple[int, date], Day] = {}
        self.campaigns: dict[tuple[int, str], bool] = {}
        """(user, campaign) -> whether it is settled."""
        self.rules: dict[int, frozenset[Rule]] = dict.fromkeys(shards, frozenset())
        """Shard -> the pauses in force; a closed one has none."""
        self.tallies: Counter[tuple[int, date, Path, str, Claim]] = Counter()

    def open(self, user: int) -> bool:
        return shard_of(user) in self.rules

    def day(self, user: int, day: date) -> Day:
        return self.days.setdefault((user, day), Day())

    def claim(self, path: Path, kind: str, day: date, user: int, campaign: str) -> Claim:
        if self._paused(path, user, kind, campaign):
            return Claim.paused
        answer = self._claim(path, kind, day, user, campaign)
        self.tallies[shard_of(user), day, path, kind, answer] += 1
        return answer

    def week(self, user: int, day: date) -> int:
        """The user's reminders of a date and the six before it."""
        days = (day - timedelta(days=n) for n in range(7))
        return sum(self.days[user, each].count for each in days if (user, each) in self.days)

    def _claim(self, path: Path, kind: str, day: date, user: int, campaign: str) -> Claim:
        now = self.day(user, day)
        if now.erased:
            return Claim.opted_out
        if campaign and (user, campaign) in self.campaigns:
            return Claim.settled_before if self.campaigns[user, campaign] else Claim.granted_again
        if now.claimed.get(kind) is path:
            return Claim.granted_again
        if now.settled.get(kind) is path:
            return Claim.settled_before
        if now.practised:
            return Claim.practised
        if kind in now.unwanted:
            return Claim.opted_out
        if kind in now.claimed or kind in now.settled:
            return Claim.other_path
        if now.count >= self.cap:
            return Claim.daily_cap
        if self.weekly_cap and self.week(user, day) >= self.weekly_cap:
            return Claim.weekly_cap
        if campaign:
            self.campaigns[user, campaign] = False
            now.campaigns += 1
        else:
            now.claimed[kind] = path
        return Claim.granted

    def standing(self, path: Path, key: SendKey) -> Standing:
        user, kind, _, campaign = key
        now = self.day(user, key.local_date)
        mine = now.claimed.get(kind) is path
        settled = now.settled.get(kind) is path
        if campaign:
            mine = self.campaigns.get((user, campaign)) is False
            settled = self.campaigns.get((user, campaign)) is True
        if settled:
            return Standing.settled
        if kind in now.unwanted or now.erased:
            return Standing.opted_out
        if mine and now.practised:
            return Standing.practised
        if self._paused(path, user, kind, campaign):
            return Standing.paused
        return Standing.clear if mine else Standing.unclaimed

    def settle(self, path: Path, key: SendKey) -> None:
        now = self.day(key.user_id, key.local_date)
        if key.campaign:
            if (key.user_id, key.campaign) not in self.campaigns:
                now.campaigns = min(now.campaigns + 1, 7)
            self.campaigns[key.user_id, key.campaign] = True
            return
        now.claimed.pop(key.kind, None)
        now.unwanted.discard(key.kind)
        now.settled[key.kind] = path

    def opt_out(self, user: int, day: date, unwanted: set[str]) -> None:
        now = self.day(user, day)
        for kind in unwanted:
            now.claimed.pop(kind, None)
        now.unwanted = unwanted - set(now.settled)

    def forget(self, user: int, stones: Collection[date]) -> None:
        """The user was deleted."""
        self.days = {place: now for place, now in self.days.items() if place[0] != user}
        self.days |= {(user, day): Day(erased=True) for day in stones}
        self.campaigns = {place: state for place, state in self.campaigns.items() if place[0] != user}

    def restore(self, fact: Fact) -> None:
        key = fact.key
        now = self.day(key.user_id, key.local_date)
        if key.campaign:
            known = (key.user_id, key.campaign) in self.campaigns
            now.campaigns = min(now.campaigns + (not known), 7)
            self.campaigns[key.user_id, key.campaign] = fact.settled or self.campaigns.get(
                (key.user_id, key.campaign), False
            )
        elif key.kind in now.settled:
            pass
        elif fact.settled:
            self.settle(fact.path, key)
        elif key.kind not in now.unwanted:
            now.claimed.setdefault(key.kind, fact.path)

    def lose(self, shards: Iterable[int]) -> None:
        """All data of these shards, and with it what vouched for them."""
        gone = set(shards)
        for shard in gone:
            self.rules.pop(shard, None)
        self.days = {place: now for place, now in self.days.items() if shard_of(place[0]) not in gone}
        self.campaigns = {place: state for place, state in self.campaigns.items() if shard_of(place[0]) not in gone}
        self.tallies = Counter({what: n for what, n in self.tallies.items() if what[0] not in gone})

    def expire(self, day: date) -> None:
        self.days = {place: now for place, now in self.days.items() if place[1] != day}
        self.tallies = Counter({what: n for what, n in self.tallies.items() if what[1] != day})

    def facts(self) -> Sequence[Fact]:
        """What a ledger knows of all this."""
        found = []
        for (user, day), now in self.days.items():
            for settled, states in ((False, now.claimed), (True, now.settled)):
                found += [Fact(SendKey(user, kind, day), path, settled) for kind, path in states.items()]
        return found

    def _paused(self, path: Path, user: int, kind: str, campaign: str) -> bool:
        return any(rule.covers(path, kind, campaign) for rule in self.rules[shard_of(user)])


KIND_BITS = {name: 1 << kind.code for name, kind in KINDS.items()}
