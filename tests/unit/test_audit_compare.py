"""The accounting equation: where counts part, the audit says so; where they may, it does not."""

from __future__ import annotations

from collections import Counter
from datetime import date

import msgspec
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batch.audit import Account, Audit, Key, compare
from shared.policy.kinds import Path
from shared.wire.sends import Result

DAY = date(2026, 11, 21)
COMEBACK: Key = (Path.batch, "comeback")
PRACTICE: Key = (Path.stream, "practice")
Rows = Counter[tuple[Result, str]]

DENIED = (Result.denied, "opted_out")
CAPPED = (Result.denied, "daily_cap")
DELIVERED = (Result.delivered, "apns_200")
EXPIRED = (Result.expired, "expired")
FAILED = (Result.failed, "apns_400")
DROPPED = (Result.dropped, "practised")


def audit(
    granted: dict[Key, int], ledger: dict[Key, Rows], scanned: dict[str, int] | None = None, lag: int = 0
) -> Audit:
    return compare(DAY, granted, granted, ledger, Counter(scanned or {}), lag, [])


def only(found: Audit) -> Account:
    (account,) = found.accounts
    return account


def test_a_day_without_reminders_holds() -> None:
    found = audit({}, {})
    assert (found.holds, found.accounts, found.problems) == (True, [], [])


def test_a_day_on_which_every_grant_has_its_outcome_holds() -> None:
    rows: Rows = Counter({DENIED: 3, CAPPED: 2, DELIVERED: 5, EXPIRED: 1, FAILED: 1, DROPPED: 2})
    found = audit({COMEBACK: 9}, {COMEBACK: rows}, {"granted": 9, "opted_out": 3, "daily_cap": 2})
    account = only(found)
    assert found.problems == []
    assert (account.candidates, account.granted, account.outcomes) == (14, 9, 9)
    assert (account.in_flight, account.lost) == (0, 0)
    assert account.denied == {"daily_cap": 2, "opted_out": 3}
    assert (account.delivered, account.expired) == (5, 1)
    assert (account.failed, account.dropped) == ({"apns_400": 1}, {"practised": 2})


def test_a_grant_without_outcome_is_lost_once_nothing_is_under_way() -> None:
    found = audit({PRACTICE: 10}, {PRACTICE: Counter({DELIVERED: 7})})
    assert (only(found).lost, only(found).in_flight, found.holds) == (3, 0, False)
    assert found.problems == ["stream practice: 3 granted sends have no outcome, and nothing is left in Kafka"]


def test_a_grant_without_outcome_is_in_flight_while_messages_are_under_way() -> None:
    found = audit({PRACTICE: 10}, {PRACTICE: Counter({DELIVERED: 7})}, lag=1)
    assert (only(found).lost, only(found).in_flight, found.holds) == (0, 3, True)
    assert found.lag == 1


def test_a_grant_of_which_the_ledger_knows_nothing_is_lost_too() -> None:
    found = audit({PRACTICE: 2}, {})
    assert (only(found).lost, found.holds) == (2, False)


def test_more_outcomes_than_grants_are_a_problem_whatever_the_lag() -> None:
    for lag in (0, 5):
        found = audit({PRACTICE: 1}, {PRACTICE: Counter({DELIVERED: 2})}, lag=lag)
        assert found.problems == ["stream practice: the ledger has 2 outcomes for 1 claims that the gate granted"]


def test_outcomes_of_a_gate_that_was_emptied_are_a_problem() -> None:
    found = audit({}, {PRACTICE: Counter({EXPIRED: 1})})
    assert not found.holds


def test_one_paths_surplus_does_not_hide_the_others_loss() -> None:
    found = audit(
        {PRACTICE: 5, COMEBACK: 5},
        {PRACTICE: Counter({DELIVERED: 4}), COMEBACK: Counter({DELIVERED: 6})},
        {"granted": 5},
    )
    assert len(found.problems) == 2


def test_denials_are_no_outcomes_of_grants() -> None:
    found = audit({PRACTICE: 1}, {PRACTICE: Counter({DENIED: 4, DELIVERED: 1})})
    assert (found.holds, only(found).candidates) == (True, 5)


def test_scans_that_counted_more_grants_than_the_gate_are_a_problem() -> None:
    found = audit({COMEBACK: 1}, {COMEBACK: Counter({DELIVERED: 1})}, {"granted": 2})
    assert found.problems == ["batch: the scans counted 2 granted, the gate 1"]


def test_a_scan_that_crashed_before_its_checkpoint_counts_fewer_and_holds() -> None:
    assert audit({COMEBACK: 2}, {COMEBACK: Counter({DELIVERED: 2})}, {"granted": 1}).holds


def test_a_denial_that_the_ledger_lacks_is_a_problem_once_nothing_is_under_way() -> None:
    scanned = {"opted_out": 3}
    rows: dict[Key, Rows] = {COMEBACK: Counter({DENIED: 2})}
    assert audit({}, rows, scanned).problems == ["batch: the scans denied 3 for opted_out, the ledger has 2"]
    assert audit({}, rows, scanned, lag=1).holds


def test_a_denial_that_no_scan_made_is_a_problem_whatever_the_lag() -> None:
    for lag in (0, 1):
        found = audit({}, {COMEBACK: Counter({CAPPED: 1})}, {}, lag)
        assert found.problems == ["batch: the scans denied 0 for daily_cap, the ledger has 1"]


def test_denials_are_compared_reason_by_reason() -> None:
    found = audit({}, {COMEBACK: Counter({DENIED: 2, CAPPED: 1})}, {"opted_out": 1, "daily_cap": 2})
    assert len(found.problems) == 2


def test_denials_of_the_stream_path_are_not_held_against_the_scans() -> None:
    assert audit({}, {PRACTICE: Counter({DENIED: 2})}, {}).holds


def test_an_audit_can_be_written_as_json() -> None:
    found = audit({PRACTICE: 1}, {PRACTICE: Counter({DELIVERED: 1})})
    assert msgspec.json.decode(msgspec.json.encode(found), type=Audit) == found


counts = st.integers(0, 5)


@hypothesis_settings(deadline=None)
@given(
    counts, st.fixed_dictionaries(dict.fromkeys([DENIED, DELIVERED, EXPIRED, FAILED, DROPPED], counts)), st.booleans()
)
def test_every_grant_is_accounted_for_or_named(
    granted: int, rows: dict[tuple[Result, str], int], under_way: bool
) -> None:
    found = audit({PRACTICE: granted}, {PRACTICE: Counter(rows)}, lag=int(under_way))
    account = only(found)
    surplus = max(0, account.outcomes - granted)
    assert granted == account.outcomes + account.in_flight + account.lost - surplus
    assert account.candidates == granted + rows[DENIED]
    assert found.holds == (not account.lost and not surplus)


def test_what_was_claimed_while_we_looked_is_in_flight_and_not_lost() -> None:
    key = (Path.stream, "practice")
    found = compare(DAY, {key: 1}, {key: 3}, {key: Counter({DELIVERED: 1})}, Counter(), 0, [])
    assert found.holds
    assert (only(found).in_flight, only(found).lost) == (2, 0)


def test_the_counts_of_an_unfinished_scan_are_not_compared() -> None:
    key = (Path.batch, "comeback")
    ledger = {key: Counter({DENIED: 5, DELIVERED: 1})}
    assert not compare(DAY, {key: 1}, {key: 1}, ledger, Counter(granted=1), 0, []).holds
    found = compare(DAY, {key: 1}, {key: 1}, ledger, Counter(granted=1), 0, ["comeback/a/b"])
    assert found.holds
    assert found.unfinished_scans == ["comeback/a/b"]
