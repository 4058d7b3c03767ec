"""A user's value in the gate, bit by bit, and the keys it lies under."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.gate.contract import Claim, Standing
from shared.gate.keys import bucket_key, campaign_key, epoch_key, tally_key
from shared.gate.value import KIND_CODES, OPTED_OUT, SETTLED, campaigns, count, opted_out, practised, standing, state
from shared.policy.kinds import CAMPAIGN, KIND_BY_CODE, Path

DAY = date(2026, 11, 21)
PATHS = (Path.stream, Path.batch)
EVERY = hypothesis_settings(deadline=None)


def value(done: bool, states: dict[int, int], triggered: int = 0, no_campaigns: bool = False) -> int:
    """The number that the gate's scripts would have written, laid out as `value.py` says."""
    kinds = sum(held << (1 + 3 * code) for code, held in states.items())
    return int(done) | kinds | triggered << 13 | int(no_campaigns) << 16


@EVERY
@given(
    st.booleans(),
    st.dictionaries(st.sampled_from(list(KIND_CODES)), st.integers(0, OPTED_OUT)),
    st.integers(0, 7),
    st.booleans(),
)
def test_no_part_of_the_value_touches_another(
    done: bool, states: dict[int, int], triggered: int, no_campaigns: bool
) -> None:
    number = value(done, states, triggered, no_campaigns)
    assert practised(number) is done
    assert campaigns(number) == triggered
    assert count(number) == triggered + sum(0 < held < OPTED_OUT for held in states.values())
    assert {code: state(number, code) for code in KIND_CODES} == dict.fromkeys(KIND_CODES, 0) | states
    assert opted_out(number, CAMPAIGN.code) is no_campaigns
    assert all(opted_out(number, code) is (states.get(code) == OPTED_OUT) for code in KIND_CODES)


def test_every_kind_but_campaigns_has_a_state() -> None:
    assert set(KIND_CODES) == set(KIND_BY_CODE) - {CAMPAIGN.code}


def test_a_comebacks_claim_takes_two_bytes_of_the_listpack() -> None:
    # 13 bits with their sign (Redis' listpack.c, LP_ENCODING_13BIT_INT).
    assert value(False, {3: Path.batch}) < 2**12


def test_a_full_value_stays_a_small_integer() -> None:
    assert value(True, dict.fromkeys(KIND_CODES, OPTED_OUT), 7, no_campaigns=True) < 2**23


@pytest.mark.parametrize("code", KIND_CODES)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("done", [False, True])
def test_a_settled_send_is_settled_whatever_was_practised_since(code: int, path: Path, done: bool) -> None:
    assert standing(value(done, {code: path + SETTLED}), code, path) is Standing.settled


@pytest.mark.parametrize("code", KIND_CODES)
@pytest.mark.parametrize("path", PATHS)
def test_a_claimed_send_is_clear_until_the_user_practises(code: int, path: Path) -> None:
    assert standing(value(False, {code: path}), code, path) is Standing.clear
    assert standing(value(True, {code: path}), code, path) is Standing.practised


@pytest.mark.parametrize("path", PATHS)
def test_what_the_user_turned_off_is_nobodys(path: Path) -> None:
    assert standing(value(False, {0: OPTED_OUT}), 0, path) is Standing.opted_out


@pytest.mark.parametrize("held", [0, Path.batch, Path.batch + SETTLED])
@pytest.mark.parametrize("done", [False, True])
def test_what_this_path_does_not_hold_is_unclaimed(held: int, done: bool) -> None:
    assert standing(value(done, {0: held}), 0, Path.stream) is Standing.unclaimed


def test_a_claim_of_one_kind_is_none_of_another() -> None:
    assert standing(value(False, {0: Path.stream}), 1, Path.stream) is Standing.unclaimed


def test_a_settled_claim_of_one_path_is_never_the_other_paths() -> None:
    assert len({0, *PATHS, *(path + SETTLED for path in PATHS), OPTED_OUT}) == 6


def test_answers_are_grants_or_denials_or_neither() -> None:
    denials = {"practised", "other_path", "daily_cap", "opted_out", "weekly_cap"}
    assert {answer.name for answer in Claim if answer.denied} == denials
    assert not Claim.paused.denied


def test_the_numbers_of_the_scripts_answers_never_change() -> None:
    assert [answer.name for answer in sorted(Claim)] == [
        "granted",
        "granted_again",
        "settled_before",
        "practised",
        "other_path",
        "daily_cap",
        "opted_out",
        "paused",
        "weekly_cap",
    ]
    assert [answer.name for answer in sorted(Standing)] == [
        "clear",
        "settled",
        "practised",
        "unclaimed",
        "opted_out",
        "paused",
    ]


def test_keys_of_one_shard_share_a_cluster_slot_and_nothing_else() -> None:
    assert epoch_key(7) == "epoch:{7}"
    keys = [bucket_key(7, 255, DAY), bucket_key(7, 0, DAY), campaign_key(7, 255, "owls"), tally_key(7, DAY)]
    assert keys == ["gate:{7}:ff:2026-11-21", "gate:{7}:0:2026-11-21", "campaign:{7}:ff:owls", "tally:{7}:2026-11-21"]
