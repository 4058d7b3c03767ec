"""Which requests the simulator's faults hit, and what those are answered."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from infra.simulator.faults import Fault, Faults, decode_faults, picked, read_faults
from infra.simulator.reasons import Refused

NOW = 1_800_000_000.0
TOKENS = [f"{number:064x}" for number in range(10_000)]


def faults(*rules: Fault) -> Faults:
    armed = Faults()
    armed.set(list(rules), NOW)
    return armed


def refusal(armed: Faults, provider: str = "apns", token: str = "aa") -> Refused | None:
    verdict = armed.judge(provider, token, NOW)
    return verdict.refusal if verdict else None


def test_without_rules_nothing_happens() -> None:
    assert faults().judge("apns", "aa", NOW) is None


def test_a_rule_hits_its_own_provider_only() -> None:
    armed = faults(Fault(provider="apns", reason="TooManyRequests"))
    assert refusal(armed, "fcm") is None
    hit = refusal(armed, "apns")
    assert hit is not None
    assert hit.reason == "TooManyRequests"


def test_tokens_are_matched_by_prefix_and_by_set() -> None:
    armed = faults(
        Fault(provider="apns", token_prefix="ab", reason="BadDeviceToken"),
        Fault(provider="apns", tokens=frozenset({"cd01"}), reason="Unregistered"),
    )
    reasons = [hit.reason if (hit := refusal(armed, token=token)) else None for token in ("ab99", "cd01", "cd02")]
    assert reasons == ["BadDeviceToken", "Unregistered", None]


def test_a_percentage_picks_the_same_tokens_every_time() -> None:
    armed = faults(Fault(provider="apns", percent=1.0, salt="x", reason="Unregistered"))
    dead = {token for token in TOKENS if refusal(armed, token=token)}
    assert 70 <= len(dead) <= 130
    assert dead == {token for token in TOKENS if picked(token, 1.0, "x")}
    assert dead != {token for token in TOKENS if picked(token, 1.0, "y")}


def test_none_and_all_are_exact() -> None:
    assert not any(picked(token, 0.0) for token in TOKENS)
    assert all(picked(token, 100.0) for token in TOKENS)


def test_a_larger_percentage_keeps_the_tokens_of_a_smaller_one() -> None:
    assert all(picked(token, 5.0, "x") for token in TOKENS if picked(token, 1.0, "x"))


def test_a_dead_tokens_timestamp_is_when_the_rules_were_set() -> None:
    hit = refusal(faults(Fault(provider="apns", reason="Unregistered")))
    assert hit is not None
    assert hit.timestamp == NOW * 1000


def test_a_limit_spends_the_rule() -> None:
    armed = faults(Fault(provider="fcm", reason="UNAVAILABLE", limit=2))
    assert [refusal(armed, "fcm") is not None for _ in range(4)] == [True, True, False, False]
    assert [entry["hits"] for entry in armed.listed()] == [2]


def test_the_same_seed_draws_the_same_requests() -> None:
    rule = Fault(provider="apns", reason="InternalServerError", probability=0.3, seed=7)
    first, second = faults(rule), faults(rule)
    draws = [refusal(first) is not None for _ in range(1000)]
    assert draws == [refusal(second) is not None for _ in range(1000)]
    assert 230 <= sum(draws) <= 370


def test_latencies_add_up_until_a_rule_answers() -> None:
    armed = faults(
        Fault(latency_ms=20),
        Fault(provider="apns", reason="Shutdown", latency_ms=5),
        Fault(latency_ms=1000),
    )
    verdict = armed.judge("apns", "aa", NOW)
    assert verdict is not None
    assert verdict.delay == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("rule", "seconds"),
    [
        ({"reason": "QUOTA_EXCEEDED"}, 60),
        ({"reason": "QUOTA_EXCEEDED", "retry_after": 3}, 3),
        ({"reason": "QUOTA_EXCEEDED", "retry_after": None}, None),
        ({"reason": "INTERNAL"}, None),
    ],
)
def test_quota_answers_say_when_to_come_back_unless_told_not_to(rule: dict[str, object], seconds: int | None) -> None:
    hit = refusal(faults(*decode_faults(json.dumps([{"provider": "fcm"} | rule]).encode())), "fcm")
    assert hit is not None
    assert hit.retry_after == seconds


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"reason": "Unregistered"},
        {"provider": "apns", "reason": "UNREGISTERED"},
        {"provider": "apns", "status": 500},
        {"provider": "apns", "reason": "Unregistered", "percent": 101},
        {"provider": "apns", "reason": "Unregistered", "unknown": 1},
        {"provider": "mqtt", "latency_ms": 1},
        {"latency_ms": -1},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_faults(json.dumps([rule]).encode())


def test_a_reason_of_the_future_is_allowed_with_its_status() -> None:
    hit = refusal(faults(Fault(provider="apns", reason="NewReason", status=418)))
    assert hit is not None
    assert (hit.reason, hit.status) == ("NewReason", 418)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="faults.json"):
        read_faults(path)
