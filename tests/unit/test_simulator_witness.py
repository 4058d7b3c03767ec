"""What the witness says devices were shown."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.simulator.compact import Code, CompactMap
from infra.simulator.devices import BadDevicesFileError, Devices
from infra.simulator.push import Push, instant
from infra.simulator.witness import Witness

NOON = datetime(2026, 11, 21, 12, tzinfo=ZoneInfo("UTC")).timestamp()
PUSH = Push("apns", "device", "send-1", "practice", "Title", "Body", "collapse-1", None)


def witness(**zones: str) -> Witness:
    devices = Devices()
    for token, zone in zones.items():
        devices.add(token, zone)
    return Witness(devices)


def push(**changes: object) -> Push:
    return msgspec.structs.replace(PUSH, **changes)


def local(zone: str, hour: int, minute: int = 0) -> float:
    return datetime(2026, 11, 21, hour, minute, tzinfo=ZoneInfo(zone)).timestamp()


def test_one_push_is_shown_once() -> None:
    seen = witness()
    seen.accepted(PUSH, NOON)
    stats = seen.stats()
    assert (stats["accepted"], stats["shown_twice"], stats["repeated_calls"]) == (1, 0, 0)
    assert stats["by_provider"] == {"apns": 1, "fcm": 0}
    assert stats["by_kind"] == {"practice": 1}
    assert stats["by_hour"] == {"2026-11-21T12:00:00Z": 1}
    assert (stats["distinct_devices"], stats["distinct_sends"]) == (1, 1)


def test_a_repeated_call_with_the_same_collapse_id_counts_as_both() -> None:
    seen = witness()
    for _ in range(3):
        seen.accepted(PUSH, NOON)
    stats = seen.stats()
    assert (stats["shown_twice"], stats["repeated_calls"]) == (2, 2)


def test_the_same_send_with_another_collapse_id_was_shown_beside_the_first() -> None:
    seen = witness()
    seen.accepted(PUSH, NOON)
    seen.accepted(push(collapse_id="collapse-2"), NOON)
    seen.accepted(push(collapse_id=""), NOON)
    stats = seen.stats()
    assert (stats["shown_twice"], stats["repeated_calls"]) == (2, 0)
    assert stats["examples"][0]["fault"] == "shown_twice"


def on_one_phone() -> Witness:
    """A phone in Tokyo with an APNs and an FCM token."""
    devices = Devices()
    for token in ("device", "fcm-token"):
        devices.add(token, "Asia/Tokyo", "phone")
    return Witness(devices)


BY_FCM = {"provider": "fcm", "token": "fcm-token"}


def test_a_push_of_each_provider_with_one_collapse_id_is_a_repeated_call_and_shown_once() -> None:
    seen = on_one_phone()
    seen.accepted(PUSH, NOON)
    seen.accepted(push(**BY_FCM), NOON)
    stats = seen.stats()
    assert (stats["repeated_calls"], stats["shown_twice"] - stats["repeated_calls"]) == (1, 0)
    assert stats["by_provider"] == {"apns": 1, "fcm": 1}
    assert (stats["distinct_devices"], stats["distinct_sends"], stats["devices_known"]) == (1, 1, 1)
    assert stats["examples"][0]["fault"] == "repeated_call"


def test_a_push_of_each_provider_with_different_collapse_ids_is_shown_twice() -> None:
    seen = on_one_phone()
    seen.accepted(PUSH, NOON)
    seen.accepted(push(**BY_FCM, collapse_id="collapse-2"), NOON)
    stats = seen.stats()
    assert (stats["shown_twice"], stats["repeated_calls"]) == (1, 0)


def test_both_tokens_of_a_phone_are_where_it_is() -> None:
    seen = on_one_phone()
    assert {seen.outside_window(each, local("Asia/Tokyo", 23)) for each in (PUSH, push(**BY_FCM))} == {"quiet_hours"}


def test_tokens_that_nobody_said_to_be_one_device_are_two() -> None:
    seen = witness(device="Asia/Tokyo")
    seen.accepted(PUSH, NOON)
    seen.accepted(push(**BY_FCM), NOON)
    stats = seen.stats()
    assert (stats["shown_twice"], stats["distinct_devices"]) == (0, 2)


def test_the_same_send_on_two_devices_is_no_repetition() -> None:
    seen = witness()
    seen.accepted(PUSH, NOON)
    seen.accepted(push(token="tablet"), NOON)
    stats = seen.stats()
    assert (stats["shown_twice"], stats["distinct_devices"], stats["distinct_sends"]) == (0, 2, 1)


def test_pushes_without_identity_are_counted_as_such() -> None:
    seen = witness()
    for _ in range(2):
        seen.accepted(push(send_id="", collapse_id="", kind=""), NOON)
    stats = seen.stats()
    assert (stats["shown_twice"], stats["without_send_id"], stats["by_kind"]) == (0, 2, {"none": 2})


@pytest.mark.parametrize(
    ("hour", "minute", "why"),
    [(21, 59, ""), (22, 0, "quiet_hours"), (3, 0, "quiet_hours"), (7, 59, "quiet_hours"), (8, 0, "")],
)
@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"])
def test_quiet_hours_are_where_the_device_is(zone: str, hour: int, minute: int, why: str) -> None:
    seen = witness(device=zone)
    assert seen.outside_window(PUSH, local(zone, hour, minute)) == why


def test_a_streak_saver_may_come_late() -> None:
    seen = witness(device="Europe/Berlin")
    assert seen.outside_window(push(kind="streak_saver"), local("Europe/Berlin", 22, 30)) == ""


def test_a_stranger_is_judged_on_expiration_alone() -> None:
    seen = witness()
    assert seen.outside_window(PUSH, local("UTC", 3)) == ""
    assert seen.outside_window(push(expires_at=NOON - 1), NOON) == "expired"
    assert seen.outside_window(push(expires_at=NOON), NOON) == ""


def test_an_expired_streak_saver_is_outside_its_window() -> None:
    seen = witness(device="UTC")
    seen.accepted(push(kind="streak_saver", expires_at=NOON - 60), NOON)
    stats = seen.stats()
    assert (stats["outside_window"], stats["outside_window_by"]) == (1, {"quiet_hours": 0, "expired": 1})


def test_hostile_kinds_do_not_fill_the_memory() -> None:
    seen = witness()
    for number in range(1000):
        seen.accepted(push(kind=f"kind-{number}"), NOON)
    assert len(seen.stats()["by_kind"]) <= 65
    assert sum(seen.stats()["by_kind"].values()) == 1000


def test_reset_forgets_everything_but_the_devices() -> None:
    seen = witness(device="UTC")
    seen.accepted(PUSH, NOON)
    seen.rejected("BadDeviceToken")
    seen.reset()
    assert seen.stats() == witness(device="UTC").stats()


def test_devices_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "devices.csv"
    path.write_text("token,time_zone\naa,Asia/Tokyo\nbb,America/Lima\n")
    devices = Devices.read(path)
    assert (len(devices), str(devices.zone("aa")), str(devices.zone("bb"))) == (2, "Asia/Tokyo", "America/Lima")
    assert devices.zone("cc") is None


def test_a_file_may_say_which_tokens_are_one_device(tmp_path: Path) -> None:
    path = tmp_path / "devices.csv"
    path.write_text("token,time_zone,device\naa,UTC,phone\nbb,UTC,phone\ncc,UTC,\ndd,UTC,\n")
    devices = Devices.read(path)
    assert devices.screen("aa") == devices.screen("bb")
    assert len({devices.screen(token) for token in ("aa", "cc", "dd", "unknown")}) == 4
    assert len(devices) == 3


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("aa,UTC\n", 1),
        ("token,time_zone\naa\n", 2),
        ("token,time_zone\naa,UTC\nbb,Mars/Base\n", 3),
        ("token,time_zone\naa,UTC,phone\n", 2),
        ("token,time_zone,device\naa,UTC\n", 2),
        ("token,device,time_zone\naa,phone,UTC\n", 1),
    ],
)
def test_a_bad_devices_file_is_named_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "devices.csv"
    path.write_text(text)
    with pytest.raises(BadDevicesFileError, match=f"devices.csv:{line}:"):
        Devices.read(path)


@given(st.lists(st.integers(min_value=1, max_value=600).map(lambda number: (number * 0x9E3779B97F4A7C15) % 2**64 or 1)))
def test_the_compact_map_counts_as_a_dictionary_does(keys: list[int]) -> None:
    compact = CompactMap()
    counts: dict[int, int] = {}
    for key in keys:
        assert compact.bump(key) == counts.get(key, 0)
        counts[key] = counts.get(key, 0) + 1
    assert len(compact) == len(counts)
    assert all(compact.get(key) == count for key, count in counts.items())


@pytest.mark.parametrize(("code", "factor"), [("H", 1), ("Q", 2**54)])
def test_the_compact_map_grows(code: Code, factor: int) -> None:
    compact = CompactMap(code)
    keys = [(number * 0x9E3779B97F4A7C15) % 2**64 for number in range(1, 50_001)]
    for number, key in enumerate(keys):
        compact.put(key, number % 1000 * factor)
    assert len(compact) == 50_000
    assert all(compact.get(key) == number % 1000 * factor for number, key in enumerate(keys))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(5, 5.0), ("7.5", 7.5), (None, None), ("", None), ("nan", None), ("1e999", None), (10**400, None), ([], None)],
)
def test_instants_from_outside_are_finite_or_nothing(value: object, seconds: float | None) -> None:
    assert instant(value) == seconds
