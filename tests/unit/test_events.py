"""Activity events: what is accepted, what is refused and why, whatever bytes come."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.identity import MAX_USER_ID
from shared.wire.dead_letters import KEPT_BYTES, DeadLetter, decode_dead_letter, encode_dead_letter
from shared.wire.events import (
    EARLIEST,
    MAX_EVENT_BYTES,
    ActivityEvent,
    BadEventError,
    DeviceRegistered,
    decode_event,
    encode_event,
)

NOW = 1_795_262_400.0
"""2026-11-21 12:00 UTC."""
AT = "2026-11-21T12:00:00Z"
COMMON: dict[str, Any] = {"user_id": 1, "at": AT, "time_zone": "Asia/Tokyo"}
DEVICE: dict[str, Any] = {
    "device_id": "d-1",
    "platform": "ios",
    "token": "a" * 64,
    "app_version": "4.2 (17)",
    "fcm_token": "dYZ-1234567890abcdefgh:APA91b_-",
}
EXAMPLES: dict[str, dict[str, Any]] = {
    "app_opened": {"locale": "pt-BR"},
    "lesson_started": {"lesson_id": "l1"},
    "lesson_completed": {"lesson_id": "l1"},
    "device_registered": DEVICE,
    "device_removed": {"device_id": "d-1"},
    "preferences_changed": {
        "opted_out": ["practice", "comeback"],
        "locale": "en",
        "email": "ada@example.com",
        "email_opted_out": False,
    },
    "user_deleted": {},
}
REASONS = {"too_large", "invalid", "malformed_json", "unknown_time_zone", "too_old", "in_the_future"}


def message(kind: str = "app_opened", **fields: Any) -> bytes:
    return json.dumps({"type": kind, **COMMON, **fields}).encode()


def reason(raw: bytes, now: float = NOW) -> str:
    with pytest.raises(BadEventError) as caught:
        decode_event(raw, now)
    assert caught.value.reason in REASONS
    assert len(str(caught.value)) <= 500
    return caught.value.reason


def check(raw: bytes) -> None:
    """It is an event, or it is refused in a way that leaves a dead letter."""
    try:
        event = decode_event(raw, NOW)
    except BadEventError as error:
        letter = DeadLetter.of(
            reason=error.reason, detail=str(error), topic="t", partition=0, offset=7, at=NOW, key=b"1", value=raw
        )
        assert decode_dead_letter(encode_dead_letter(letter)).value == raw[:KEPT_BYTES]
    else:
        assert decode_event(encode_event(event), NOW) == event


def test_there_is_an_example_of_every_type() -> None:
    assert {kind.__struct_config__.tag for kind in get_args(ActivityEvent)} == set(EXAMPLES)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_type_survives_the_wire(kind: str) -> None:
    event = decode_event(message(kind, **EXAMPLES[kind]), NOW)
    assert decode_event(encode_event(event), NOW) == event
    assert json.loads(encode_event(event)) | COMMON == {"type": kind, **COMMON, **EXAMPLES[kind]}
    assert event.instant == NOW


@pytest.mark.parametrize("kind", [kind for kind in EXAMPLES if not kind.startswith("device")])
def test_user_and_time_are_enough(kind: str) -> None:
    assert decode_event(json.dumps({"type": kind, "user_id": 1, "at": AT}).encode(), NOW).time_zone is None


@pytest.mark.parametrize("user_id", [1, MAX_USER_ID])
def test_every_positive_64_bit_id_is_a_user(user_id: int) -> None:
    assert decode_event(message(user_id=user_id), NOW).user_id == user_id


@pytest.mark.parametrize("user_id", [0, -1, 2**63, 2**64, 10**400, "1", 1.5, True, None, [1]], ids=lambda v: str(v)[:9])
def test_whatever_else_is_no_user(user_id: object) -> None:
    assert reason(message(user_id=user_id)) == "invalid"


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "lesson_skipped"},
        {"type": None},
        {"surprise": 1},
        {"device_id": "d-1"},  # another type's field
        {"locale": "english language"},
        {"locale": "en\n"},
        {"locale": "x" * 40},
        {"time_zone": ""},
        {"time_zone": "A" * 65},
        {"time_zone": 8},
        {"at": "yesterday"},
        {"at": "2026-11-21T12:00:00"},
        {"at": "2026-02-30T12:00:00Z"},
        {"at": NOW},
        {"at": None},
    ],
    ids=str,
)
def test_a_field_that_breaks_the_contract_makes_the_event_invalid(fields: dict[str, Any]) -> None:
    assert reason(json.dumps({"type": "app_opened", **COMMON, **fields}).encode()) == "invalid"


@pytest.mark.parametrize(
    "fields",
    [
        {"token": "short"},
        {"token": "a" * 4097},
        {"token": "a" * 64 + "\n"},  # becomes part of a provider's URL
        {"token": "../../3/device/x"},
        {"token": "a b c d e f"},
        {"device_id": ""},
        {"device_id": "d-1\n"},
        {"device_id": "d" * 129},
        {"platform": "windows"},
        {"app_version": "1\0"},  # PostgreSQL takes no NUL, and would stop the partition
        {"app_version": "1\n"},
        {"app_version": "1" * 33},
        {"fcm_token": "short"},
        {"fcm_token": "f" * 64 + "\n"},
        {"fcm_token": ""},
    ],
    ids=str,
)
def test_a_device_that_could_do_harm_is_refused(fields: dict[str, Any]) -> None:
    assert reason(message("device_registered", **DEVICE | fields)) == "invalid"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"platform": "android"}, "fcm_token goes with platform ios only"),
        ({"fcm_token": DEVICE["token"]}, "fcm_token is the APNs token"),
    ],
    ids=["android", "the same token twice"],
)
def test_only_an_ios_device_has_an_fcm_token_beside_its_token(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(BadEventError, match=said) as caught:
        decode_event(message("device_registered", **DEVICE | fields), NOW)
    assert caught.value.reason == "invalid"


@pytest.mark.parametrize("fcm_token", [None, "left out"])
def test_an_fcm_token_may_be_left_out(fcm_token: str | None) -> None:
    fields = {**DEVICE, "platform": "android", "fcm_token": fcm_token}
    if fcm_token:
        del fields["fcm_token"]
    event = decode_event(message("device_registered", **fields), NOW)
    assert isinstance(event, DeviceRegistered) and event.fcm_token is None


@pytest.mark.parametrize("opted_out", [["email"], ["practice"] * 17, "practice", {"practice": True}], ids=str)
def test_preferences_name_kinds_and_nothing_else(opted_out: object) -> None:
    assert reason(message("preferences_changed", opted_out=opted_out)) == "invalid"


@pytest.mark.parametrize("left_out", ["type", "user_id", "at"])
def test_a_required_field_can_not_be_left_out(left_out: str) -> None:
    fields = {"type": "app_opened", **COMMON}
    del fields[left_out]
    assert reason(json.dumps(fields).encode()) == "invalid"


@pytest.mark.parametrize(
    "raw", [b"[]", b"null", b"7", b'"app_opened"', b"{}", b"[" * 16_000], ids=lambda raw: str(raw[:9])
)
def test_json_that_is_no_object_of_ours_is_invalid(raw: bytes) -> None:
    assert reason(raw) == "invalid"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b"app_opened",
        b"\xff\xfe\x00",
        b'{"type":"app_opened",}',
        message() + b"{}",
        message()[:-1],
        b'{"a":' * 3_000,
        b'{"x":' + b"[" * 16_000,
        message("lesson_started", lesson_id="?").replace(b"?", b"\xff"),
        message("lesson_started", lesson_id="?").replace(b"?", b"\\ud800"),
    ],
    ids=lambda raw: str(raw[:9]),
)
def test_what_is_not_json_is_malformed(raw: bytes) -> None:
    assert reason(raw) == "malformed_json"


@pytest.mark.parametrize(
    "name", ["Mars/Olympus_Mons", "../../etc/passwd", "localtime", "asia/tokyo", "UTC\0", "+09:00"]
)
def test_a_zone_that_iana_does_not_have_is_refused(name: str) -> None:
    assert reason(message(time_zone=name)) == "unknown_time_zone"


def test_five_minutes_ahead_is_as_far_as_a_clock_may_be() -> None:
    assert decode_event(message(at="2026-11-21T12:05:00Z"), NOW).instant == NOW + 300
    assert reason(message(at="2026-11-21T12:05:00.001Z")) == "in_the_future"


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("0001-01-01T00:00:00Z", "too_old"),
        ("0001-01-01T00:00:00+14:00", "too_old"),
        ("1999-12-31T23:59:59.999Z", "too_old"),
        ("9999-12-31T23:59:59Z", "in_the_future"),
        ("9999-12-31T23:59:59-14:00", "in_the_future"),
    ],
)
def test_broken_clocks_are_told_from_late_events(at: str, expected: str) -> None:
    assert reason(message(at=at)) == expected


def test_an_event_may_be_late_by_years() -> None:
    assert decode_event(message(at="2000-01-01T00:00:00Z"), NOW).instant == EARLIEST


def test_an_offset_only_says_the_same_instant_otherwise() -> None:
    assert decode_event(message(at="2026-11-21T21:00:00+09:00"), NOW).instant == NOW


def test_a_message_may_be_as_long_as_the_limit_and_no_longer() -> None:
    longest = message() + b" " * (MAX_EVENT_BYTES - len(message()))
    assert decode_event(longest, NOW).user_id == 1
    assert reason(longest + b" ") == "too_large"


@hypothesis_settings(deadline=None, max_examples=150)
@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(raw: bytes) -> None:
    check(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


@hypothesis_settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(EXAMPLES)), st.data())
def test_no_value_in_a_field_does_more_than_be_refused(kind: str, data: st.DataObject) -> None:
    fields = {"type": kind, **COMMON, **EXAMPLES[kind]}
    field = data.draw(st.sampled_from(sorted(fields)))
    check(json.dumps(fields | {field: data.draw(json_values)}).encode())


@hypothesis_settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(EXAMPLES)), st.data())
def test_no_damage_on_the_way_does_more_than_be_refused(kind: str, data: st.DataObject) -> None:
    raw = bytearray(message(kind, **EXAMPLES[kind]))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    check(bytes(raw))
