"""A user's value in the gate, bit by bit, and the keys it lies under."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.gate.contract import Claim, Standing
from shared.gate.keys import bucket_key, tally_key
from shared.gate.value import SETTLED, count, practised, standing, state
from shared.policy.kinds import KINDS, Path

DAY = date(2026, 11, 21)
CODES = [kind.code for kind in KINDS.values()]
EVERY = hypothesis_settings(deadline=None)


def value(done: bool, claimed: int, states: dict[int, int]) -> int:
    """The number that the gate's scripts would have written, laid out as `value.py` says."""
    return int(done) | claimed << 1 | sum(held << (4 + 3 * code) for code, held in states.items())


@EVERY
@given(
    st.booleans(),
    st.integers(0, 7),
    st.dictionaries(st.sampled_from(CODES), st.sampled_from([0, 1, 2, 3, 4])),
)
def test_no_part_of_the_value_touches_another(done: bool, claimed: int, states: dict[int, int]) -> None:
    number = value(done, claimed, states)
    assert practised(number) is done
    assert count(number) == claimed
    assert {code: state(number, code) for code in CODES} == dict.fromkeys(CODES, 0) | states


def test_a_user_the_gate_does_not_know_is_free() -> None:
    assert not practised(0)
    assert count(0) == 0
    assert [state(0, code) for code in CODES] == [0, 0, 0, 0]


def test_a_full_value_stays_a_small_integer() -> None:
    # A listpack keeps up to 24 bits in four bytes: the memory that DESIGN counts on.
    assert value(True, 7, dict.fromkeys(CODES, 4)) < 2**24


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("path", Path)
@pytest.mark.parametrize("done", [False, True])
def test_a_settled_send_is_settled_whatever_was_practised_since(code: int, path: Path, done: bool) -> None:
    assert standing(value(done, 1, {code: path + SETTLED}), code, path) is Standing.settled


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("path", Path)
def test_a_claimed_send_is_clear_until_the_user_practises(code: int, path: Path) -> None:
    assert standing(value(False, 1, {code: path}), code, path) is Standing.clear
    assert standing(value(True, 1, {code: path}), code, path) is Standing.practised


@pytest.mark.parametrize("held", [0, Path.batch, Path.batch + SETTLED])
def test_what_this_path_does_not_hold_is_unclaimed(held: int) -> None:
    for done in (False, True):
        assert standing(value(done, 1, {0: held}), 0, Path.stream) is Standing.unclaimed


def test_a_claim_of_one_kind_is_none_of_another() -> None:
    assert standing(value(False, 1, {0: Path.stream}), 1, Path.stream) is Standing.unclaimed


def test_a_settled_claim_of_one_path_is_never_the_other_paths() -> None:
    assert Path.stream + SETTLED not in (0, *Path, Path.batch + SETTLED)
    assert Path.batch + SETTLED not in (0, *Path)


def test_answers_are_grants_or_denials() -> None:
    assert {answer.name: answer.denied for answer in Claim} == {
        "granted": False,
        "granted_again": False,
        "settled_before": False,
        "practised": True,
        "other_path": True,
        "daily_cap": True,
    }


def test_the_numbers_of_the_scripts_answers_never_change() -> None:
    assert [int(answer) for answer in Claim] == list(range(6))


def test_keys_of_one_shard_share_a_cluster_slot_and_nothing_else() -> None:
    keys = [bucket_key(7, 255, DAY), bucket_key(7, 0, DAY), tally_key(7, DAY)]
    assert keys == ["gate:{7}:ff:2026-11-21", "gate:{7}:0:2026-11-21", "tally:{7}:2026-11-21"]
