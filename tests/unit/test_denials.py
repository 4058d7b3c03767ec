"""Whom the batch path turns down, and for which of several reasons."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batch.denials import REASONS, Candidates, turned_down
from shared.policy.holdout import Holdout
from shared.policy.kinds import COMEBACK

HELD = Holdout({"comeback": 50}, "")
users = st.lists(
    st.tuples(st.integers(1, 2**62), st.sampled_from([0, 1, 1 << COMEBACK.code, 31]), st.booleans(), st.integers(0, 9)),
    max_size=30,
)


@given(users, st.integers(0, 6), st.booleans())
def test_a_page_is_turned_down_as_each_of_its_users_would_be(
    page: list[tuple[int, int, bool, int]], stop_after: int, holds: bool
) -> None:
    holdout = HELD if holds else Holdout({}, "")
    columns = list(zip(*page, strict=True)) or [(), (), (), ()]
    found = turned_down(
        Candidates(
            np.array(columns[0], np.int64),
            np.array(columns[1], np.int16),
            np.array(columns[2], np.bool_),
            np.array(columns[3], np.int64),
        ),
        stop_after,
        holdout,
    )
    expected = []
    for user, opted_out, reachable, unanswered in page:
        if opted_out >> COMEBACK.code & 1:
            expected.append("opted_out")
        elif not reachable:
            expected.append("no_device")
        elif stop_after and unanswered >= stop_after:
            expected.append("unanswered")
        elif holdout.holds("comeback", user):
            expected.append("holdout")
        else:
            expected.append("")
    assert [REASONS[n] for n in found.tolist()] == expected
