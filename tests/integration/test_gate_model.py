"""The real scripts on a real server against a model of plain dictionaries, under whatever order of calls comes up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from datetime import date, timedelta
from typing import Any, TypeVar

import pytest
import redis
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from shared.gate import Claim, GateClosedError, Keeper, RedisGate, Rule, SendKey
from shared.gate.forgetting import Forgetting, stone_days
from shared.gate.keeper import Fact
from shared.gate.keys import bucket_key, campaign_key, epoch_key
from shared.gate.value import OPTED_OUT, SETTLED, campaigns, count, erased, opted_out, practised, state
from shared.identity import MAX_USER_ID, bucket_of, shard_of
from shared.keyspace import open_keyspace
from shared.policy.kinds import KINDS, Path
from shared.settings import WEEK_HOURS
from tests.integration.gate_model import CAMPAIGN, KIND_BITS, Day, Model
from tests.integration.machines import run_machine
from tests.integration.support import users_of_shard
from tests.integration.valkeys import Valkey, settings_for

T = TypeVar("T")
Thing = TypeVar("Thing", SendKey, Fact)

EXAMPLES = 60
BITS = 1
USERS = [*users_of_shard(7, 3), MAX_USER_ID]
MINE = sorted({shard_of(user) for user in USERS})
DAYS = [date(2026, 11, 20), date(2026, 11, 21), date(2026, 11, 14)]
"""The last one is of the first one's week, and not of the second one's."""
CAMPAIGNS = ["spring", "0-0", "s_"]
DAILY = [name for name in KINDS if name != CAMPAIGN]
PATHS = st.sampled_from([Path.stream, Path.batch])

users = st.sampled_from(USERS)
days = st.sampled_from(DAYS)
daily = st.builds(SendKey, users, st.sampled_from(DAILY), days, st.just(""))
blasts = st.builds(SendKey, users, st.just(CAMPAIGN), days, st.sampled_from(CAMPAIGNS))
keys = st.lists(daily | blasts, min_size=1, max_size=8)
rules = st.builds(
    Rule,
    st.none() | st.sampled_from(Path),
    st.none() | st.sampled_from(list(KINDS)),
    st.none() | st.sampled_from(CAMPAIGNS),
    st.none() | st.none() | st.sampled_from(["apns", "fcm"]),
)
facts = st.builds(Fact, daily | blasts, PATHS, st.booleans())
few_facts = st.lists(facts, max_size=5)
few_rules = st.lists(rules, max_size=2)
places = st.sets(st.sampled_from(MINE), min_size=1)


class Machine(RuleBasedStateMachine):
    """Both paths, delivery, a person on call and bad luck, all at one gate."""

    url: str
    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.again: tuple[Path, str, date, list[int], str] | None = None
        self.granted: dict[SendKey, Path] = {}
        """Grants in force: not taken back by opting out, nor lost."""
        self.settled: set[SendKey] = set()
        self.epochs = 0

    @initialize(cap=st.integers(1, 3), weekly_cap=st.sampled_from([0, 1, 2, 3, 4]))
    def start(self, cap: int, weekly_cap: int) -> None:
        self.client.flushall()
        settings = settings_for(
            self.url, gate_bucket_bits=BITS, daily_cap=cap, weekly_cap=weekly_cap, gate_keep_hours=WEEK_HOURS
        )
        keyspace = open_keyspace(settings)
        self.gate, self.keeper = RedisGate(keyspace, settings), Keeper(keyspace, settings)
        self.forgetting = Forgetting(keyspace, settings)
        self.model = Model(cap, (), weekly_cap)
        self.open(MINE, [], [])

    def teardown(self) -> None:
        if hasattr(self, "gate"):
            self.the_tallies_are_right()
            self.run(self.gate.close())
        self.runner.close()

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(what)

    def asked(self, what: Coroutine[Any, Any, T], shards: Iterable[int]) -> T | None:
        """The answer; None where one of the shards is closed: the others have done their part all the same."""
        if set(shards) <= set(self.model.rules):
            return self.run(what)
        with pytest.raises(GateClosedError):
            self.run(what)
        return None

    # The paths.

    @rule(path=PATHS, kind=st.sampled_from(DAILY), day=days, of=st.lists(users, min_size=1, max_size=6))
    def claim(self, path: Path, kind: str, day: date, of: list[int]) -> None:
        self.claims(path, kind, day, of, "")

    @rule(day=days, of=st.lists(users, min_size=1, max_size=6), name=st.sampled_from(CAMPAIGNS))
    def blast(self, day: date, of: list[int], name: str) -> None:
        self.claims(Path.blast, CAMPAIGN, day, of, name)

    @precondition(lambda self: self.again is not None)
    @rule()
    def claim_again(self) -> None:
        assert self.again
        self.claims(*self.again)

    def claims(self, path: Path, kind: str, day: date, of: list[int], name: str) -> None:
        self.again = (path, kind, day, of, name)
        answers = self.asked(self.gate.claim(path, kind, day, of, name), map(shard_of, of))
        expected: list[Claim | None] = []
        for user in of:
            before, week = self.model.day(user, day).count, self.model.week(user, day)
            expected.append(self.model.claim(path, kind, day, user, name) if self.model.open(user) else None)
            key = SendKey(user, kind, DAYS[0] if name else day, name)
            if expected[-1] is Claim.granted:
                assert before < self.model.cap
                assert not self.model.weekly_cap or week < self.model.weekly_cap
                assert key not in self.granted, "granted twice"
                self.granted[key] = path
            if expected[-1] is Claim.granted_again:
                assert self.granted[key] is path, "granted to both paths"
        assert answers is None or answers == expected

    @rule(marks=st.lists(st.tuples(users, days), min_size=1, max_size=6))
    def practise(self, marks: list[tuple[int, date]]) -> None:
        self.asked(self.gate.practised(marks), (shard_of(user) for user, _ in marks))
        for user, day in marks:
            if self.model.open(user):
                self.model.day(user, day).practised = True

    @rule(choices=st.lists(st.tuples(users, days, st.sets(st.sampled_from(list(KINDS)))), min_size=1, max_size=4))
    def choose(self, choices: list[tuple[int, date, set[str]]]) -> None:
        words = [(user, day, sum(KIND_BITS[kind] for kind in unwanted)) for user, day, unwanted in choices]
        self.asked(self.gate.opt_out(words), (shard_of(user) for user, _, _ in choices))
        for user, day, unwanted in choices:
            if self.model.open(user):
                self.model.opt_out(user, day, unwanted)
                for kind in unwanted:
                    self.granted.pop(SendKey(user, kind, day), None)

    # Delivery.

    @rule(path=PATHS, of=keys)
    def stand(self, path: Path, of: list[SendKey]) -> None:
        answers = self.asked(self.gate.standing(path, of), (shard_of(key.user_id) for key in of))
        assert answers is None or answers == [self.model.standing(path, key) for key in of]

    @rule(path=PATHS, of=keys)
    def settle(self, path: Path, of: list[SendKey]) -> None:
        self.asked(self.gate.settle(path, of), (shard_of(key.user_id) for key in of))
        for key in in_order(of):
            if self.model.open(key.user_id):
                self.model.settle(path, key)
                self.settled.add(key if not key.campaign else key._replace(local_date=DAYS[0]))

    @rule(
        of=st.sets(users, min_size=1), today=st.sampled_from([DAYS[1], DAYS[1] + timedelta(2), DAYS[1] + timedelta(5)])
    )
    def erase(self, of: set[int], today: date) -> None:
        """On a day of theirs, or after some of them."""
        self.asked(self.forgetting.forget(list(of), today), map(shard_of, of))
        mine = sorted(user for user in of if self.model.open(user))
        self.run(self.forgetting.forget_campaigns(dict.fromkeys(CAMPAIGNS, mine)))
        for user in mine:
            self.model.forget(user, stone_days(today))
        self.forget(lambda key: key.user_id in mine)

    # On call.

    @rule(of=few_rules)
    def pause(self, of: list[Rule]) -> None:
        closed = self.run(self.keeper.write_rules(of))
        assert [shard for shard in MINE if shard in closed] == [
            shard for shard in MINE if shard not in self.model.rules
        ]
        self.model.rules = dict.fromkeys(self.model.rules, frozenset(of))

    # Bad luck, and what mends it.

    @rule(what=st.sampled_from(["lose", "restart", "expire"]), shards=places, day=days, of=few_facts, pauses=few_rules)
    def bad_luck(self, what: str, shards: set[int], day: date, of: list[Fact], pauses: list[Rule]) -> None:
        if what == "expire":
            self.client.delete(*self.client.scan_iter(f"*:{day.isoformat()}", count=10_000), "nothing")
            self.model.expire(day)
            self.forget(lambda key: key.local_date == day and not key.campaign)
        elif what == "lose":
            self.lose(shards)
        else:
            # The data is there, but was vouched for on another server.
            for shard in shards & set(self.model.rules):
                self.client.setrange(epoch_key(shard), 0, "another server")
                del self.model.rules[shard]
        if of:
            self.mend(of, pauses)

    def lose(self, shards: set[int]) -> None:
        for shard in shards:
            self.client.delete(*self.client.scan_iter(f"*{{{shard}}}*", count=10_000), epoch_key(shard))
        self.model.lose(shards)
        self.forget(lambda key: shard_of(key.user_id) in shards)

    @rule(of=few_facts)
    def restore(self, of: list[Fact]) -> None:
        """Rebuilds may meet the claims of a gate that is open."""
        self.run(self.keeper.restore(of))
        self.heed(of)

    @precondition(lambda self: len(self.model.rules) < len(MINE))
    @rule(of=few_facts, pauses=few_rules)
    def mend(self, of: list[Fact], pauses: list[Rule]) -> None:
        self.open([shard for shard in MINE if shard not in self.model.rules], of, pauses)

    @precondition(lambda self: len(self.model.rules) < len(MINE))
    @rule(of=few_facts)
    def mend_in_vain(self, of: list[Fact]) -> None:
        """The data is lost once more while it is rebuilt."""
        shards = [shard for shard in MINE if shard not in self.model.rules]
        self.run(self.keeper.begin(shards, "in vain"))
        self.run(self.keeper.restore(of))
        self.heed(of)
        self.lose(set(shards))
        assert self.run(self.keeper.open(shards, "in vain", "never", [])) == shards

    def open(self, shards: list[int], of: list[Fact], pauses: list[Rule]) -> None:
        self.epochs += 1
        token, name = f"token{self.epochs}", f"epoch{self.epochs}"
        self.run(self.keeper.begin(shards, token))
        # What the ledger has, and the same once more.
        for _ in range(2):
            self.run(self.keeper.restore([*of, *self.model.facts()]))
        self.heed(of)
        assert self.run(self.keeper.open(shards, token, name, pauses)) == []
        self.model.rules |= dict.fromkeys(shards, frozenset(pauses))

    def heed(self, of: list[Fact]) -> None:
        """A claim that is restored is as good as a grant, where there was none."""
        for fact in in_order(of):
            self.model.restore(fact)
        for key, path, settled in of:
            once = key._replace(local_date=DAYS[0]) if key.campaign else key
            now = self.model.day(key.user_id, key.local_date)
            if settled:
                self.settled.add(once)
            if key.campaign or now.claimed.get(key.kind) is path:
                self.granted.setdefault(once, Path.blast if key.campaign else path)

    def forget(self, gone: Any) -> None:
        self.granted = {key: path for key, path in self.granted.items() if not gone(key)}
        self.settled = {key for key in self.settled if not gone(key)}

    # What holds after every step.

    @invariant()
    def what_is_stored_says_the_same(self) -> None:
        if not hasattr(self, "gate"):
            return
        places = [(user, day) for user in USERS for day in DAYS]
        blasted = [(user, name) for user in USERS for name in CAMPAIGNS]
        with self.client.pipeline(transaction=False) as pipe:
            for user, day in places:
                pipe.hget(bucket_key(shard_of(user), bucket_of(user, BITS), day), str(user))
            for user, name in blasted:
                pipe.hget(campaign_key(shard_of(user), bucket_of(user, BITS), name), str(user))
            found = pipe.execute()
        for (user, day), value in zip(places, found, strict=False):
            assert told(int(value or 0)) == self.model.day(user, day), (user, day)
            assert count(int(value or 0)) == self.model.day(user, day).count
        for place, value in zip(blasted, found[len(places) :], strict=True):
            assert value == {None: None, False: b"1", True: b"2"}[self.model.campaigns.get(place)], place

    @invariant()
    def what_is_settled_stays_settled(self) -> None:
        for key in self.settled:
            if key.campaign:
                assert self.model.campaigns[key.user_id, key.campaign]
            else:
                assert key.kind in self.model.day(key.user_id, key.local_date).settled

    def the_tallies_are_right(self) -> None:
        for day in DAYS:
            expected: Counter[tuple[Path, str, Claim]] = Counter()
            for (_, of, *what), n in self.model.tallies.items():
                if of == day:
                    expected[what[0], what[1], what[2]] += n  # type: ignore[index]
            assert self.run(self.gate.tallies(day)) == expected


def in_order(of: Sequence[Thing]) -> list[Thing]:
    """As one call takes them: a date and campaign after the other."""
    groups: dict[tuple[date, str], list[Thing]] = {}
    for thing in of:
        key = thing.key if isinstance(thing, Fact) else thing
        groups.setdefault((key.local_date, key.campaign), []).append(thing)
    return [thing for group in groups.values() for thing in group]


def told(value: int) -> Day:
    """What a value says, in the model's words."""
    day = Day(practised(value), campaigns=campaigns(value), erased=erased(value))
    for name, kind in KINDS.items():
        if opted_out(value, kind.code):
            day.unwanted.add(name)
        now = state(value, kind.code) if name != CAMPAIGN else 0
        if 0 < now <= SETTLED:
            day.claimed[name] = Path(now)
        elif SETTLED < now < OPTED_OUT:
            day.settled[name] = Path(now - SETTLED)
    return day


def test_the_gate_does_what_the_model_does(server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    run_machine(Machine, server, monkeypatch, EXAMPLES, 40)
