"""Users spread evenly over shards and buckets, and a send has one id, whoever computes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.identity import MAX_USER_ID, SHARDS, bucket_of, send_id, shard_of, slot

DAY = date(2026, 11, 21)
user_ids = st.integers(1, MAX_USER_ID)


def spread(places: Iterable[int]) -> float:
    """How much fuller the fullest place is than the average of all 256."""
    counts = Counter(places)
    return max(counts.values()) / (counts.total() / SHARDS)


@hypothesis_settings(deadline=None)
@given(user_ids, st.integers(0, 16))
def test_every_user_has_a_shard_and_a_bucket_in_range(user_id: int, bits: int) -> None:
    assert 0 <= slot(user_id) < 2**64
    assert 0 <= shard_of(user_id) < 256
    assert 0 <= bucket_of(user_id, bits) < 2**bits


@hypothesis_settings(deadline=None)
@given(user_ids, st.integers(0, 15))
def test_one_more_bucket_bit_splits_a_bucket_in_two(user_id: int, bits: int) -> None:
    assert bucket_of(user_id, bits + 1) >> 1 == bucket_of(user_id, bits)


@hypothesis_settings(deadline=None)
@given(user_ids)
def test_shard_and_bucket_are_neighbouring_bits_of_the_slot(user_id: int) -> None:
    assert (shard_of(user_id) << 11) | bucket_of(user_id, 11) == slot(user_id) >> 45


def test_known_users_stay_where_they_are() -> None:
    # Stored rows carry the shard: changing these numbers needs a migration.
    assert [shard_of(user_id) for user_id in (1, 2, 3, 1000, MAX_USER_ID)] == [158, 60, 218, 8, 225]
    assert [bucket_of(user_id, 11) for user_id in (1, 2, 3, 1000)] == [443, 887, 1331, 1435]


@pytest.mark.parametrize("first", [1, 1_000_000_007, 2**62])
def test_dense_ids_fill_all_shards_alike(first: int) -> None:
    places = [shard_of(user_id) for user_id in range(first, first + 50_000)]
    assert set(places) == set(range(SHARDS))
    assert spread(places) < 1.05


@pytest.mark.parametrize("stride", [2, 10, 256, 1000, 4096, 1 << 22])
def test_ids_in_steps_leave_no_shard_empty_or_overfull(stride: int) -> None:
    places = [shard_of(n * stride) for n in range(1, 50_001)]
    assert set(places) == set(range(SHARDS))
    assert spread(places) < 1.25


def test_dense_ids_fill_the_buckets_of_a_shard_alike() -> None:
    members = [user_id for user_id in range(1, 500_000) if shard_of(user_id) == 7]
    counts = Counter(bucket_of(user_id, 4) for user_id in members)
    assert len(counts) == 16
    assert max(counts.values()) < 1.1 * len(members) / 16


def test_the_id_of_a_send_is_the_one_that_ledgers_hold() -> None:
    # Pinned: a provider's collapse id and a ledger's row must mean the same send after any release.
    assert send_id(42, "practice", DAY) == UUID("3a34f113-7e51-519a-bf7d-f52363b5de8a")


def test_the_id_of_a_send_differs_by_user_kind_and_date() -> None:
    ids = {
        send_id(user_id, kind, day)
        for user_id in (1, 11, 111)
        for kind in ("practice", "comeback")
        for day in (DAY, date(2026, 11, 22), date(2027, 11, 21))
    }
    assert len(ids) == 3 * 2 * 3
