"""Who is fired next: bounded deals, the most pressing kind first, nobody held up, every shard in its turn."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.due.index import DUE_KINDS
from shared.identity import SHARDS
from shared.policy.kinds import ABANDONED_LESSON, PRACTICE, STREAK_SAVER, ReminderKind
from stream.due.turns import DEAL, PAGE, PER_SHARD, Strip, Turns

Backlog = dict[ReminderKind, dict[int, int]]

backlogs = st.dictionaries(
    st.sampled_from(DUE_KINDS), st.dictionaries(st.integers(0, SHARDS - 1), st.integers(1, 20_000), max_size=40)
)
many = hypothesis_settings(deadline=None, max_examples=100)


def everywhere(n: int) -> dict[int, int]:
    return dict.fromkeys(range(SHARDS), n)


def dealt(strips: list[Strip]) -> Counter[str]:
    """Kind -> users."""
    return Counter(
        {kind.name: n for kind in DUE_KINDS if (n := sum(p.most for s in strips for p in s if p.kind is kind))}
    )


def work(backlog: Backlog, strips: list[Strip]) -> Backlog:
    """What is left when these are fired."""
    left = {kind: dict(shards) for kind, shards in backlog.items()}
    for shard, kind, most in (portion for strip in strips for portion in strip):
        left[kind][shard] -= most
        if not left[kind][shard]:
            del left[kind][shard]
    return {kind: shards for kind, shards in left.items() if shards}


@many
@given(backlogs)
def test_a_deal_is_bounded_and_takes_all_that_fits(backlog: Backlog) -> None:
    strips = Turns().deal(backlog)
    waiting = sum(n for shards in backlog.values() for n in shards.values())
    total = sum(dealt(strips).values())
    assert total <= DEAL
    for kind, shards in backlog.items():
        if sum(shards.values()) <= DEAL // 6 and max(shards.values(), default=0) <= PER_SHARD:
            assert dealt(strips)[kind.name] == sum(shards.values()), (
                "what fits into the smallest share is never held up"
            )
    assert (total > 0) == (waiting > 0)
    for strip in strips:
        assert all(0 < p.most <= min(PER_SHARD, backlog[p.kind][p.shard]) for p in strip)


@many
@given(backlogs)
def test_no_two_strips_share_a_shard_and_a_strip_of_many_shards_is_a_page(backlog: Backlog) -> None:
    strips = Turns().deal(backlog)
    shards = [shard for strip in strips for shard in {portion.shard for portion in strip}]
    assert len(shards) == len(set(shards))
    for strip in strips:
        assert len({p.shard for p in strip}) == 1 or sum(p.most for p in strip) <= PAGE


@many
@given(backlogs)
def test_in_a_shard_the_most_pressing_kind_comes_first(backlog: Backlog) -> None:
    for strip in Turns().deal(backlog):
        for shard in {portion.shard for portion in strip}:
            order = [DUE_KINDS.index(portion.kind) for portion in strip if portion.shard == shard]
            assert order == sorted(set(order))


@hypothesis_settings(deadline=None, max_examples=30)
@given(backlogs)
def test_everybody_has_a_turn_in_the_end(backlog: Backlog) -> None:
    turns, left = Turns(), backlog
    for _ in range(10_000):
        if not (strips := turns.deal(left)):
            break
        left = work(left, strips)
    assert not {kind: shards for kind, shards in left.items() if shards}


def test_a_million_streak_savers_have_two_thirds_while_the_others_wait_too_and_all_of_it_alone() -> None:
    crowd = everywhere(4_000)
    alone = dealt(Turns().deal({STREAK_SAVER: crowd}))
    assert alone == {"streak_saver": DEAL}
    beside = dealt(Turns().deal(dict.fromkeys(DUE_KINDS, crowd)))
    assert beside["streak_saver"] == pytest.approx(DEAL * 4 / 6, abs=2)
    assert beside["practice"] == beside["abandoned_lesson"] == pytest.approx(DEAL / 6, abs=2)


def test_a_few_of_a_kind_are_all_fired_at_once_beside_a_crowd_of_another() -> None:
    few = everywhere(1)
    for crowded in DUE_KINDS:
        backlog = {kind: everywhere(4_000) if kind is crowded else few for kind in DUE_KINDS}
        found = dealt(Turns().deal(backlog))
        assert [found[kind.name] for kind in DUE_KINDS if kind is not crowded] == [SHARDS, SHARDS]


def test_what_becomes_due_during_a_backlog_is_in_the_next_deal() -> None:
    turns = Turns()
    backlog: Backlog = {PRACTICE: everywhere(4_000)}
    backlog = work(backlog, turns.deal(backlog))
    backlog[STREAK_SAVER] = everywhere(3)
    assert dealt(turns.deal(backlog))["streak_saver"] == 3 * SHARDS


def test_shards_take_turns_whatever_one_of_them_has() -> None:
    turns = Turns()
    backlog: Backlog = {PRACTICE: everywhere(PER_SHARD) | {7: 10**6}}
    seen: Counter[int] = Counter()
    for _ in range(SHARDS * PER_SHARD // DEAL):
        strips = turns.deal(backlog)
        seen.update({portion.shard for strip in strips for portion in strip})
        # Shard 7 is topped up time and again, and the others are not.
        backlog = work(backlog, strips)
        backlog[PRACTICE][7] = 10**6
    assert set(seen) == set(range(SHARDS))
    assert max(seen.values()) == 1


def test_of_a_paused_kind_a_page_is_looked_at_and_the_others_have_the_rest() -> None:
    turns = Turns()
    strips = turns.deal({PRACTICE: everywhere(4_000), ABANDONED_LESSON: everywhere(4_000)}, [PRACTICE], 4)
    assert dealt(strips)["practice"] == PAGE
    assert {p.most for strip in strips for p in strip if p.kind is PRACTICE} == {4}
    assert dealt(strips)["abandoned_lesson"] == DEAL - PAGE
    assert Turns().deal({}, [PRACTICE], 4) == []
