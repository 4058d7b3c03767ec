"""Pseudonyms: the same for whoever has the secret, and nothing for whoever has not."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.identity import MAX_USER_ID
from shared.store.erased import Secret

user_ids = st.integers(1, MAX_USER_ID)
secrets = st.binary(min_size=32, max_size=32)


@given(secrets, user_ids)
def test_a_pseudonym_is_a_negative_bigint_and_the_same_in_every_process(secret: bytes, user: int) -> None:
    name = Secret(secret).pseudonym(user)
    assert -(2**63) <= name < 0
    assert Secret(secret).pseudonym(user) == name


@given(secrets, secrets, user_ids)
def test_another_secret_makes_another_pseudonym(one: bytes, other: bytes, user: int) -> None:
    assert (Secret(one).pseudonym(user) == Secret(other).pseudonym(user)) is (one == other)


@given(secrets, st.lists(user_ids, min_size=1, max_size=50, unique=True))
def test_users_have_pseudonyms_of_their_own(secret: bytes, users: list[int]) -> None:
    assert len({Secret(secret).pseudonym(user) for user in users}) == len(users)


@given(secrets, st.lists(user_ids, min_size=1, max_size=50))
def test_a_sieve_says_the_same_of_one_user_and_of_many(secret: bytes, users: list[int]) -> None:
    together = Secret(secret).sieve(np.array(users)).tolist()
    assert together == [int(Secret(secret).sieve(np.array([user]))[0]) for user in users]
    assert all(0 <= bits < 2**20 for bits in together)


def test_a_sieve_tells_most_users_apart() -> None:
    bits = Secret(bytes(range(32))).sieve(np.arange(1, 100_001))
    # By chance it would be 95,163 of a million.
    assert len(np.unique(bits)) > 90_000


def test_secrets_are_not_made_twice() -> None:
    assert len({Secret.new() for _ in range(100)}) == 100
    assert len(Secret.new()) == 32
