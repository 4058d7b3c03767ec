"""The audit's accounts: where counts part it says so and where first; where they may, it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path as FilePath

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batch.audit import Account, Audit, spool
from batch.audit.account import Counts, accounts_of
from batch.audit.compare import Hop
from batch.audit.facts import DENIED, RANKING, RECORD, Folded, Group, Numbers, Records, Tally, fold
from batch.audit.spool import SHARDS, Spool
from shared.policy.kinds import Path

DAY = date(2026, 11, 21)
PRACTICE = Group(Path.stream, "practice")
COMEBACK = Group(Path.batch, "comeback")
GRANTED = 0
Facts = Iterable[tuple[Group, int, int]]
"""(group, user, mark)."""

DELIVERED, FAILED, EXPIRED, DROPPED = range(4)
CAPPED, OPTED_OUT = DENIED, DENIED + 1
REASONS = ["daily_cap", "opted_out"]


def of(group: Group, marks: Mapping[int, int]) -> Facts:
    return [(group, user, mark) for user, mark in marks.items()]


class Places:
    """What the places hold, in one shard, and the accounts that follow."""

    def __init__(
        self, planned: Facts | None, kafka: Facts | None, ledger: Facts, *, under_way: Facts = (), new: Facts = ()
    ) -> None:
        self.groups: Numbers[Group] = Numbers()
        before, here = self.fold(planned or ()), self.fold(kafka or ())
        after = self.fold([*(planned or ()), *new])
        rows = self.fold(ledger)
        moving = self.fold(under_way)
        self.hops = [Hop("planned → Kafka", outcomes=False), Hop("Kafka → ledger", outcomes=True)]
        if planned is not None and kafka is not None:
            self.hops[0].compare(before, after, here, moving)
        if kafka is not None:
            self.hops[1].compare(here, here, rows, Folded({}, 0))
        elif planned is not None:
            self.hops[1] = Hop("planned → ledger", outcomes=False)
            self.hops[1].compare(before, after, rows, moving)
        reasons = Counter((group, RANKING[mark], RANKING[mark].name) for group, _, mark in ledger)
        self.counts = Counts(
            self.groups.things,
            REASONS,
            None if planned is None else tally(after),
            None if kafka is None else tally(here),
            tally(rows),
            reasons,
        )
        self.accounts, self.problems = accounts_of(self.counts, self.hops)

    def fold(self, facts: Facts) -> Folded:
        return fold(np.array([(user, self.groups.of(group), mark) for group, user, mark in facts], RECORD))

    @property
    def account(self) -> Account:
        (account,) = self.accounts
        return account


def tally(folded: Folded) -> Tally:
    tally = Tally()
    tally.add_all(folded)
    return tally


def test_a_day_without_reminders_holds() -> None:
    places = Places([], [], [])
    assert (places.accounts, places.problems) == ([], [])


def test_a_day_on_which_every_candidate_has_its_outcome_holds() -> None:
    planned = of(PRACTICE, dict.fromkeys(range(1, 10), GRANTED) | {10: CAPPED, 11: CAPPED, 12: OPTED_OUT})
    ends = {1: DELIVERED, 2: DELIVERED, 3: EXPIRED, 4: FAILED, 5: DROPPED, 6: DROPPED} | dict.fromkeys(
        range(7, 10), DELIVERED
    )
    outcomes = of(PRACTICE, ends | dict.fromkeys((10, 11, 12), DENIED))
    places = Places(planned, outcomes, outcomes)
    assert places.problems == []
    assert places.account == Account(
        path="stream", kind="practice", candidates=12, granted=9, denied={"daily_cap": 2, "opted_out": 1}, delivered=5,
        expired=1, failed={"failed": 1}, dropped={"dropped": 2}, in_flight=0, lost=0, planned=9, answered=9, ledger=9,
    )  # fmt: skip


def test_granted_without_an_outcome_in_kafka_is_lost_and_its_users_are_named() -> None:
    outcomes = of(PRACTICE, {1: DELIVERED})
    places = Places(of(PRACTICE, dict.fromkeys(range(1, 9), GRANTED)), outcomes, outcomes)
    assert (places.account.lost, places.account.in_flight) == (7, 0)
    assert places.problems == [
        "stream practice: planned → Kafka: 7 granted have no outcome there, and nothing is on its way: "
        "user 2, 3, 4, 5, 6, …"
    ]


def test_a_denial_is_no_outcome_of_a_granted_send() -> None:
    outcomes = of(PRACTICE, {1: DENIED})
    places = Places(of(PRACTICE, {1: GRANTED}), outcomes, outcomes)
    assert (places.account.lost, places.account.candidates, places.account.denied) == (1, 1, {})


def test_granted_that_is_seen_on_its_way_is_in_flight() -> None:
    planned = of(PRACTICE, {1: GRANTED, 2: GRANTED, 3: GRANTED})
    places = Places(planned, [], [], under_way=of(PRACTICE, {1: 0, 2: 0}))
    assert (places.account.lost, places.account.in_flight) == (1, 2)
    assert "user 3" in places.problems[0]


def test_what_was_planned_while_we_looked_is_in_flight_or_answered_already() -> None:
    outcomes = of(PRACTICE, {1: DELIVERED, 2: DELIVERED})
    places = Places(of(PRACTICE, {1: GRANTED}), outcomes, outcomes, new=of(PRACTICE, {2: GRANTED, 3: GRANTED}))
    assert places.problems == []
    assert (places.account.granted, places.account.in_flight) == (3, 1)


def test_denied_without_an_outcome_is_a_problem_and_not_lost() -> None:
    places = Places(of(PRACTICE, {4: CAPPED}), [], [])
    assert places.problems == ["stream practice: planned → Kafka: 1 denied are not there: user 4"]
    assert (places.account.lost, places.account.denied) == (0, {"daily_cap": 1})


@pytest.mark.parametrize("mark", [DELIVERED, DENIED])
def test_outcomes_that_nobody_planned_are_a_problem(mark: int) -> None:
    outcomes = of(PRACTICE, {4: mark})
    assert Places([], outcomes, outcomes).problems == [
        "stream practice: planned → Kafka: 1 are there although they were not planned: user 4"
    ]


def test_the_outcome_of_a_granted_send_of_somebody_denied_is_a_problem() -> None:
    outcomes = of(PRACTICE, {4: EXPIRED})
    assert Places(of(PRACTICE, {4: CAPPED}), outcomes, outcomes).problems == [
        "stream practice: planned → Kafka: 1 are there although they were not planned: user 4"
    ]


def test_an_outcome_that_the_ledger_lacks_is_lost_there() -> None:
    planned, kafka = of(PRACTICE, {1: GRANTED, 2: CAPPED}), of(PRACTICE, {1: FAILED, 2: DENIED})
    places = Places(planned, kafka, [])
    assert places.account.lost == 1
    assert places.problems == [
        "stream practice: Kafka → ledger: 1 granted have no outcome there, and nothing is on its way: user 1; "
        "1 denied are not there: user 2"
    ]


def test_another_result_in_the_ledger_is_a_problem() -> None:
    places = Places(of(PRACTICE, {1: GRANTED}), of(PRACTICE, {1: DELIVERED}), of(PRACTICE, {1: FAILED}))
    assert places.problems == ["stream practice: Kafka → ledger: 1 have another outcome there: user 1"]
    assert (places.account.lost, places.account.failed) == (0, {"failed": 1})


def test_more_in_the_ledger_than_was_planned_is_a_problem() -> None:
    outcomes = of(PRACTICE, {1: DELIVERED})
    places = Places(of(PRACTICE, {1: GRANTED}), outcomes, [*outcomes, (PRACTICE, 2, DELIVERED)])
    assert places.problems == ["stream practice: the ledger has more than was planned: 1 outcomes: user 2"]
    assert (places.account.planned, places.account.answered, places.account.ledger) == (1, 1, 2)


def test_only_the_first_place_is_named_for_a_path_and_kind() -> None:
    places = Places(of(PRACTICE, {1: GRANTED, 2: GRANTED}), of(PRACTICE, {1: DELIVERED}), [])
    (problem,) = places.problems
    assert problem.startswith("stream practice: planned → Kafka: 1 granted")
    assert places.account.lost == 2


def test_paths_and_kinds_answer_for_themselves() -> None:
    planned = [*of(PRACTICE, {1: GRANTED}), *of(COMEBACK, {1: GRANTED})]
    kafka = [*of(PRACTICE, {1: DELIVERED, 2: DELIVERED})]
    problems = Places(planned, kafka, kafka).problems
    assert [problem.partition(":")[0] for problem in problems] == ["stream practice", "batch comeback"]


def test_a_user_counts_once_for_each_campaign_of_a_kind() -> None:
    spring, summer = Group(Path.blast, "campaign", "spring"), Group(Path.blast, "campaign", "summer")
    outcomes = [(spring, 1, DELIVERED), (summer, 1, EXPIRED)]
    places = Places([(spring, 1, GRANTED), (summer, 1, GRANTED), (summer, 2, GRANTED)], outcomes, outcomes)
    assert (places.account.granted, places.account.delivered, places.account.expired) == (3, 1, 1)
    assert places.account.lost == 1


def test_without_kafka_the_ledger_is_compared_with_what_was_planned() -> None:
    places = Places(of(PRACTICE, {1: GRANTED, 2: GRANTED, 3: CAPPED}), None, of(PRACTICE, {1: FAILED, 3: DENIED}))
    assert places.counts.unavailable == ["kafka"]
    assert places.problems == [
        "stream practice: planned → ledger: 1 granted have no outcome there, and nothing is on its way: user 2"
    ]
    assert (places.account.answered, places.account.lost) == (None, 1)


def test_without_the_planners_record_the_ledger_is_compared_with_kafka() -> None:
    kafka = of(PRACTICE, {1: DELIVERED, 2: DELIVERED, 3: DENIED})
    places = Places(None, kafka, of(PRACTICE, {1: DELIVERED, 3: DENIED}))
    assert places.counts.unavailable == ["planned"]
    assert places.problems[0].startswith("stream practice: Kafka → ledger: 1 granted")
    account = places.account
    assert (account.planned, account.granted, account.candidates, account.denied) == (None, 2, 3, {"denied": 1})


def test_the_ledger_alone_proves_nothing() -> None:
    places = Places(None, None, of(PRACTICE, {1: DELIVERED}))
    assert (places.account.granted, places.counts.unavailable) == (1, ["planned", "kafka"])
    assert len(places.problems) == 1


def test_an_audit_can_be_written_as_json() -> None:
    outcomes = of(PRACTICE, {1: DELIVERED})
    places = Places(of(PRACTICE, {1: GRANTED}), outcomes, outcomes)
    found = Audit(DAY, places.accounts, 0, 0, [], places.problems)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Audit) == found


users = st.integers(1, 4)
decisions = st.dictionaries(users, st.sampled_from([GRANTED, CAPPED, OPTED_OUT]))
outcomes_of = st.dictionaries(users, st.sampled_from([DELIVERED, FAILED, EXPIRED, DROPPED, DENIED]))


@hypothesis_settings(deadline=None)
@given(decisions, outcomes_of, outcomes_of, st.sets(users))
def test_every_candidate_is_accounted_for_or_named(
    planned: dict[int, int], kafka: dict[int, int], ledger: dict[int, int], moving: set[int]
) -> None:
    places = Places(
        of(PRACTICE, planned),
        of(PRACTICE, kafka),
        of(PRACTICE, ledger),
        under_way=of(PRACTICE, dict.fromkeys(moving, 0)),
    )
    arrived = all(
        user in moving or (kafka.get(user, DENIED) < DENIED if mark == GRANTED else user in kafka)
        for user, mark in planned.items()
    )
    from_there = all(planned.get(user) == GRANTED if mark < DENIED else user in planned for user, mark in kafka.items())
    assert (not places.problems) == (arrived and from_there and kafka == ledger)
    for account in places.accounts:
        ended = account.delivered + account.expired + sum(account.failed.values()) + sum(account.dropped.values())
        assert account.candidates == account.granted + sum(account.denied.values()) == len(planned)
        assert account.granted + max(0, ended - account.granted) == ended + account.in_flight + account.lost
        assert account.ledger == ended
    same = tally(places.fold(of(PRACTICE, kafka))).unlike(tally(places.fold(of(PRACTICE, ledger))), results=True)
    assert not same or kafka != ledger


some_facts = st.lists(st.tuples(st.integers(1, 2**63 - 1) | users, st.integers(0, 2), st.integers(0, 6)), max_size=60)


def as_records(facts: list[tuple[int, int, int]]) -> Records:
    return np.array(facts, RECORD)


@given(some_facts, st.randoms(use_true_random=False))
def test_a_fold_is_the_lowest_mark_of_each_candidate_in_any_order(
    facts: list[tuple[int, int, int]], random: object
) -> None:
    random.shuffle(facts)  # type: ignore[attr-defined]
    lowest: dict[tuple[int, int], int] = {}
    for user, group, mark in facts:
        lowest[group, user] = min(mark, lowest.get((group, user), mark))
    folded = fold(as_records(facts))
    found = {
        (group, user): mark
        for group, (users, marks) in folded.groups.items()
        for user, mark in zip(users.tolist(), marks.tolist(), strict=True)
    }
    assert found == lowest
    assert folded.repeats == len(facts) - len(set(facts))


@given(some_facts)
def test_tallies_are_alike_only_where_the_counts_are(facts: list[tuple[int, int, int]]) -> None:
    whole, halves = Tally(), Tally()
    whole.add_all(fold(as_records(facts)))
    for odd in (0, 1):
        halves.add_all(fold(as_records([fact for fact in facts if fact[0] % 2 == odd])))
    assert whole.sums == halves.sums
    if facts:
        group, mark = next(iter(whole.sums))
        halves.add(group, mark, 1, 1)
        assert whole.unlike(halves, results=True) == {group}
        assert whole.granted(group) == halves.granted(group) - (mark < DENIED)


def test_tallies_of_as_many_but_other_users_are_unlike() -> None:
    one, other = tally(fold(as_records([(1, 0, DELIVERED)]))), tally(fold(as_records([(2, 0, DELIVERED)])))
    assert one.unlike(other, results=False) == {0}
    failed = tally(fold(as_records([(1, 0, FAILED)])))
    assert one.unlike(failed, results=True) == {0}
    assert one.unlike(failed, results=False) == set()


def test_a_spool_gives_back_what_it_was_given_with_a_user_always_in_the_same_shard(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "_HELD", 1000)
    one, other = Spool(tmp_path / "one"), Spool(tmp_path / "other")
    random = np.random.default_rng(1)
    records = np.empty(10_000, RECORD)
    records["user"] = random.integers(1, 2**63 - 1, 10_000)
    records["group"], records["mark"] = 3, random.integers(0, 5, 10_000)
    for part in np.split(records, 40):
        one.add(part)
    other.add(records[::-1])
    shards = [(one.shard(n), other.shard(n)) for n in range(SHARDS)]
    for left, right in shards:
        assert (np.sort(left["user"]) == np.sort(right["user"])).all()
        assert 50 < len(left) < 350
    assert (np.sort(np.concatenate([left for left, _ in shards])) == np.sort(records)).all()
    assert one.count == other.count == 10_000
    one.remove()
    assert list(tmp_path.iterdir()) == [tmp_path / "other"]


def test_an_empty_spool_has_empty_shards(tmp_path: FilePath) -> None:
    empty = Spool(tmp_path / "empty")
    assert [fold(empty.shard(n)) for n in (0, SHARDS - 1)] == [Folded({}, 0)] * 2
