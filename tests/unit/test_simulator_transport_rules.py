"""Rules of transport faults and of a day's quota: what they hit, and which make no sense."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from infra.simulator.faults import Fault, Faults, Terms, decode_faults
from infra.simulator.faults.transport import Drop, Goaway, MaxStreams, OneStream, Reset, Stall, Tls

NOW = 1_800_000_000.0
DAY = 86_400.0
NOON = NOW // DAY * DAY + DAY / 2


def faults(*rules: Fault) -> Faults:
    armed = Faults()
    armed.set(list(rules), NOW)
    return armed


def decoded(rule: dict[str, Any]) -> Fault:
    [fault] = decode_faults(json.dumps([rule]).encode())
    return fault


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"fault": "reset"}, Reset()),
        ({"fault": "reset", "when": "after", "code": 11}, Reset(when="after", code=11)),
        ({"fault": "drop"}, Drop(when="after", tcp="reset")),
        ({"fault": "goaway", "in_flight": "drop", "reason": "Shutdown"}, Goaway(in_flight="drop", reason="Shutdown")),
        ({"fault": "stall", "seconds": 2}, Stall(when="after", seconds=2)),
        ({"fault": "max_streams", "streams": 3}, MaxStreams(streams=3)),
        ({"fault": "one_stream_until_authorised"}, OneStream(streams=1000)),
        ({"fault": "tls", "how": "stranger"}, Tls(how="stranger")),
    ],
)
def test_a_transport_fault_is_named_in_json(written: dict[str, Any], meant: object) -> None:
    assert decoded({"transport": written}).transport == meant


@pytest.mark.parametrize(
    "rule",
    [
        {"transport": {"fault": "fire"}},
        {"transport": {"fault": "reset", "more": 1}},
        {"transport": {"fault": "reset", "when": "after", "code": 7}},
        {"transport": {"fault": "stall", "when": "before", "seconds": 1}},
        {"transport": {"fault": "max_streams"}},
        {"transport": {"fault": "max_streams", "streams": 1001}},
        {"transport": {"fault": "tls"}, "provider": "apns"},
        {"transport": {"fault": "one_stream_until_authorised"}, "token_prefix": "a"},
        {"transport": {"fault": "max_streams", "streams": 1}, "latency_ms": 5},
        {"transport": {"fault": "reset"}, "provider": "apns", "reason": "Shutdown"},
        {"provider": "apns", "reason": "TooManyRequests", "free_a_day": -1},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decoded(rule)


def test_a_reset_says_refused_only_where_that_is_true() -> None:
    assert (Reset().error_code, Reset(when="after").error_code, Reset(code=8).error_code) == (7, 2, 8)


def test_a_request_is_broken_off_by_the_first_rule_that_says_so() -> None:
    armed = faults(
        Fault(latency_ms=10),
        Fault(provider="apns", limit=1, transport=Drop()),
        Fault(provider="apns", reason="Shutdown"),
    )
    first, second = (armed.judge("apns", "aa", NOW) for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.delay, first.transport, first.refusal) == (0.01, Drop(), None)
    assert second.transport is None
    assert second.refusal is not None


def test_a_server_that_cannot_break_off_is_passed_over_without_a_hit() -> None:
    armed = faults(Fault(provider="apns", limit=1, transport=Drop()))
    assert armed.judge("apns", "aa", NOW, breakable=False) is None
    assert [entry["hits"] for entry in armed.listed()] == [0]


def test_only_transport_faults_need_the_front() -> None:
    assert not faults(Fault(latency_ms=1)).of_transport
    assert faults(Fault(latency_ms=1), Fault(transport=Tls())).of_transport


def test_faults_of_connections_hit_no_request() -> None:
    armed = faults(Fault(transport=Tls()), Fault(transport=MaxStreams(streams=1)))
    assert armed.judge("apns", "aa", NOW) is None


def test_a_handshake_fails_as_often_as_the_rule_says() -> None:
    armed = faults(Fault(transport=Tls(), limit=2))
    assert [armed.tls() is not None for _ in range(4)] == [True, True, False, False]


def test_a_connection_gets_one_rule_of_each_kind() -> None:
    one, most = OneStream(streams=5), MaxStreams(streams=3)
    armed = faults(Fault(transport=most, limit=1), Fault(transport=one), Fault(transport=MaxStreams(streams=9)))
    assert armed.terms() == Terms(one, most)
    assert armed.terms() == Terms(one, MaxStreams(streams=9))


def test_a_days_quota_is_free_again_at_midnight_utc() -> None:
    armed = faults(Fault(provider="apns", reason="TooManyRequests", free_a_day=2))

    def refused(now: float) -> bool:
        return armed.judge("apns", "aa", now) is not None

    assert [refused(NOON) for _ in range(4)] == [False, False, True, True]
    assert [refused(NOON + DAY) for _ in range(3)] == [False, False, True]
    assert [entry["hits"] for entry in armed.listed()] == [3]


def test_a_days_quota_counts_the_requests_of_its_rule_alone() -> None:
    armed = faults(Fault(provider="fcm", token_prefix="a", reason="QUOTA_EXCEEDED", free_a_day=1))
    asked = [("fcm", "b"), ("apns", "a"), ("fcm", "a"), ("fcm", "a")]
    assert [armed.judge(provider, token, NOON) is not None for provider, token in asked] == [False, False, False, True]


def test_a_days_quota_says_when_it_ends() -> None:
    verdict = faults(Fault(provider="fcm", reason="QUOTA_EXCEEDED", free_a_day=0)).judge("fcm", "a", NOON + 0.5)
    assert verdict is not None
    assert verdict.refusal is not None
    assert verdict.refusal.retry_after == DAY / 2
