"""Holdout groups: one answer whoever asks, as large as they are said to be, and nothing to do with where users live."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from batch.users.population import user_id
from shared.identity import MAX_USER_ID, SHARDS, bucket_of, shard_of
from shared.policy.holdout import KINDS_WITH_GROUPS, Holdout, shares
from shared.settings import GivenSettings

ids = st.integers(1, MAX_USER_ID)
kinds = st.sampled_from(KINDS_WITH_GROUPS)
percents = st.dictionaries(kinds, st.one_of(st.floats(0, 100), st.sampled_from([0.0, 0.0001, 50.0, 100.0])))


@settings(deadline=None)
@given(percents, st.text(max_size=20), kinds, st.lists(ids, max_size=50))
def test_whole_pages_and_single_users_get_the_same_answer(
    shares: dict[str, float], salt: str, kind: str, users: list[int]
) -> None:
    holdout = Holdout(shares, salt)
    assert holdout.among(kind, np.array(users, np.int64)).tolist() == [holdout.holds(kind, user) for user in users]


@given(st.floats(0, 100), st.floats(0, 100), kinds, ids)
def test_a_larger_share_keeps_those_of_a_smaller_one(one: float, other: float, kind: str, user: int) -> None:
    small, large = (Holdout({kind: percent}, "s") for percent in sorted((one, other)))
    assert large.holds(kind, user) or not small.holds(kind, user)


@pytest.mark.parametrize("percent", [1.0, 5.0, 50.0])
@pytest.mark.parametrize("dense", [True, False])
def test_groups_are_as_large_as_they_are_said_to_be(percent: float, dense: bool) -> None:
    n = 400_000
    users = np.arange(1, n + 1) if dense else np.array([user_id(index) for index in range(1, n + 1)])
    for salt in ("", "another"):
        share = Holdout({"comeback": percent}, salt).among("comeback", users).mean()
        assert abs(share - percent / 100) < 4.5 * (percent / 100 * (1 - percent / 100) / n) ** 0.5


def test_nobody_and_everybody() -> None:
    users = np.arange(1, 1000)
    assert not Holdout({"practice": 0}, "") and not Holdout({}, "").among("practice", users).any()
    assert Holdout({"practice": 100}, "").among("practice", users).all()
    assert not Holdout({"practice": 100}, "").among("comeback", users).any()


def test_groups_are_independent_of_shards_and_buckets() -> None:
    """Chi-square of held-out users over 256 shards and over 64 buckets, for dense ids: the hardest case."""
    users = list(range(1, 300_001))
    held = [
        user
        for user, out in zip(users, Holdout({"comeback": 10}, "").among("comeback", np.array(users)), strict=True)
        if out
    ]
    for place, places in ((shard_of, SHARDS), (lambda user: bucket_of(user, 6), 64)):
        every, mine = Counter(map(place, users)), Counter(map(place, held))
        chi = sum((mine[at] - 0.1 * every[at]) ** 2 / (0.1 * 0.9 * every[at]) for at in range(places))
        # Mean `places`, standard deviation sqrt(2 × places).
        assert abs(chi - places) < 5 * (2 * places) ** 0.5


def test_kinds_and_salts_have_groups_of_their_own() -> None:
    users = np.arange(1, 200_001)
    one = Holdout({"comeback": 10, "practice": 10}, "a")
    groups = [
        one.among("comeback", users),
        one.among("practice", users),
        Holdout({"comeback": 10}, "b").among("comeback", users),
    ]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert abs((groups[first] & groups[second]).mean() - 0.01) < 0.001


def test_groups_stay_over_releases() -> None:
    """Who is held out is written nowhere: another hash would be another experiment."""
    holdout = Holdout({"comeback": 5}, "2026")
    assert [user for user in range(1, 101) if holdout.holds("comeback", user)] == GROUP


GROUP = [44, 53, 60, 75, 90]


def test_shares_are_read() -> None:
    assert shares(" comeback = 5, practice=0.5 ,streak_saver=0") == {"comeback": 5.0, "practice": 0.5}
    assert shares("") == {}


@pytest.mark.parametrize(
    "text",
    [
        "comeback",
        "comeback=",
        "comeback=101",
        "comeback=-1",
        "campaign=5",
        "owl=5",
        "comeback=5,comeback=6",
        "comeback=nan",
    ],
)
def test_what_is_no_share_is_told_how_to_write_it(text: str) -> None:
    with pytest.raises(ValidationError, match="comeback=5,practice=1"):
        GivenSettings(_env_file=None, holdout=text)  # type: ignore[call-arg, unused-ignore]


def test_a_weekly_cap_needs_a_gate_that_remembers_a_week() -> None:
    with pytest.raises(ValidationError, match="set it to 192 or more"):
        GivenSettings(_env_file=None, weekly_cap=5)  # type: ignore[call-arg, unused-ignore]
    assert GivenSettings(_env_file=None, weekly_cap=5, gate_keep_hours=192).weekly_cap == 5  # type: ignore[call-arg, unused-ignore]
