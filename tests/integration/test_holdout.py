"""`surnia holdout` reads the ledger and the users, and compares what both say."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest

from batch.holdout import measure as module
from batch.holdout.interval import difference, wilson
from batch.holdout.measure import Measured, measure
from shared.policy.kinds import KindName, Path
from shared.settings import Settings
from shared.wire.sends import Outcome, OutcomeBatch, Result
from stream.ledger import Ledger
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.support import DAY, TODAY, add_users, sql

DATE = TODAY - timedelta(days=6)
OTHERS = [(Result.denied, reason) for reason in ("opted_out", "no_device", "unanswered", "other_path")]
REMINDED = [
    (Result.delivered, "accepted"),
    (Result.expired, "expired"),
    (Result.denied, "practised"),
    (Result.denied, "daily_cap"),
]


def outcome(user: int, result: Result, reason: str, kind: KindName = "comeback", ago: int = 6) -> Outcome:
    return Outcome(user, kind, TODAY - timedelta(days=ago), result, reason, NOON - ago * DAY, NOON - ago * DAY)


async def compared(settings: Settings, *outcomes: Outcome, runtime: Runtime, days: int = 3) -> Measured:
    await Ledger(runtime.users).write([OutcomeBatch(Path.batch, outcomes)])
    return await measure(settings, DATE, TODAY, days=days)


@pytest.mark.parametrize("page", [1, 7, 20_000])
async def test_it_counts_what_a_loop_over_all_rows_counts(
    settings: Settings, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(module, "PAGE", page)
    rng = Random(page)
    outcomes, expected = [], {True: [0, 0, 0], False: [0, 0, 0]}
    for user in range(1, 61):
        result, reason = rng.choice([*OTHERS, *REMINDED, *[(Result.denied, "holdout")] * 4])
        seen = rng.choice([None, *range(-4, 7)])
        add_users(settings, {"id": user, "last_active_date": None if seen is None else DATE + timedelta(days=seen)})
        outcomes.append(outcome(user, result, reason))
        if (result, reason) not in OTHERS:
            mine = expected[reason == "holdout"]
            mine[0] += 1
            mine[1] += seen is not None and seen >= 0
            mine[2] += seen is not None and seen > 3
    # A user who was deleted, and kinds and dates that are none of it.
    outcomes += [outcome(99, *REMINDED[0]), outcome(1, *REMINDED[0], kind="practice"), outcome(1, *REMINDED[0], ago=0)]
    found = await compared(settings, *outcomes, runtime=runtime)
    (one,) = found.kinds
    assert one.kind == "comeback"
    for group, of in ((one.held_out, True), (one.reminded, False)):
        assert [group.users, group.returned, group.later] == expected[of]
    assert one.low <= one.difference <= one.high
    assert found.dates == [DATE + timedelta(days=n) for n in range(3)], "three days, and then noon UTC, which it is"
    assert found.too_early == [DATE + timedelta(days=n) for n in range(3, 7)]


async def test_nobody_held_out_is_no_comparison(settings: Settings, runtime: Runtime) -> None:
    add_users(settings, {"id": 1})
    assert (await compared(settings, outcome(1, *REMINDED[0]), runtime=runtime)).kinds == []


async def test_erased_users_are_not_counted(settings: Settings, runtime: Runtime) -> None:
    add_users(settings, {"id": 1}, {"id": 2})
    await Ledger(runtime.users).write(
        [OutcomeBatch(Path.batch, tuple(outcome(n, Result.denied, "holdout") for n in (1, 2)))]
    )
    sql(settings, "UPDATE ledger SET user_id = -17 WHERE user_id = 1")
    (one,) = (await measure(settings, DATE, DATE)).kinds
    assert one.held_out.users == 1


def test_the_interval_is_newcombes() -> None:
    """The examples of his paper (Statistics in Medicine 17, 1998, table II, method 10)."""
    for counts, low, high in (
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062),
        ((10, 10, 0, 20), 0.6791, 1.0),
    ):
        assert difference(*counts) == pytest.approx((low, high), abs=6e-5)
    assert difference(0, 0, 1, 2) == (-1, 1)
    assert wilson(0, 0) == (0, 1)


def test_the_interval_holds_19_times_of_20() -> None:
    rng, inside = Random(7), 0
    for _ in range(400):
        one, other = (sum(rng.random() < share for _ in range(300)) for share in (0.1, 0.06))
        low, high = difference(one, 300, other, 300)
        inside += low <= 0.04 <= high
    assert 400 * 0.92 < inside < 400 * 0.98
