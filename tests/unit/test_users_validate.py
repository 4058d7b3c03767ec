"""What a file's row must be to be loaded; whatever it holds, the answer is a row or a reason."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.users.rows import DEVICE_COLUMNS, USER_COLUMNS, UserRow, copy_text, device_line, user_line
from batch.users.validate import BadRowError, DeviceParser, FormatError, UserParser, is_devices, unknown_columns

NOW = 1_793_750_400.0
USER = UserParser(USER_COLUMNS, NOW)
DEVICE = DeviceParser(DEVICE_COLUMNS, NOW)
GOOD_USER = [
    "7",
    "Asia/Tokyo",
    "ja",
    "JP",
    "2026-11-03T20:00:00Z",
    "",
    "2026-11-03 10:00:00+01:00",
    "",
    "4",
    "1",
    "",
    "ada@example.com",
    "true",
]
GOOD_DEVICE = ["7", "phone-1", "ios", "ab" * 32, "9.4.0", "2026-01-01T00:00:00Z", "dYZ_-1:APA91b-x"]


def changed(row: list[str], **cells: str) -> list[str]:
    columns = USER_COLUMNS if row is GOOD_USER else DEVICE_COLUMNS
    return [cells.get(name, cell) for name, cell in zip(columns, row, strict=True)]


def test_a_good_user_gets_local_dates() -> None:
    assert USER(GOOD_USER) == UserRow(
        id=7,
        time_zone="Asia/Tokyo",
        locale="ja",
        country="JP",
        last_event_at=datetime(2026, 11, 3, 20, tzinfo=UTC),
        last_active_date=date(2026, 11, 4),
        last_practice_at=datetime(2026, 11, 3, 9, tzinfo=UTC),
        last_practice_date=date(2026, 11, 3),
        streak=4,
        opted_out=1,
        created_at=None,
        email="ada@example.com",
        email_opted_out=True,
    )


def test_a_date_that_is_given_is_kept() -> None:
    assert USER(changed(GOOD_USER, last_active_date="2026-10-01")).last_active_date == date(2026, 10, 1)


def test_id_and_zone_are_enough() -> None:
    row = UserParser(["time_zone", "id"], NOW)(["UTC", str(2**63 - 1)])
    assert (row.id, row.time_zone, row.locale, row.streak) == (2**63 - 1, "UTC", None, None)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"id": "0"}, "id"),
        ({"id": "-5"}, "id"),
        ({"id": str(2**63)}, "id"),
        ({"id": "9" * 5000}, "id"),
        ({"id": "1_0"}, "id"),
        ({"id": "٣"}, "id"),
        ({"id": "7\0"}, "id"),
        ({"id": ""}, "id"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"time_zone": ""}, "time_zone"),
        ({"locale": "en\\N"}, "locale"),
        ({"locale": "x" * 10_000}, "locale"),
        ({"country": "Japan"}, "country"),
        ({"last_event_at": "yesterday"}, "last_event_at: cannot be read"),
        ({"last_event_at": "2026-11-03T20:00:00"}, "last_event_at: has no offset"),
        ({"last_event_at": "2027-01-01T00:00:00Z"}, "in the future"),
        ({"last_practice_at": "0001-01-01T00:00:00+23:59"}, "before the year 2000"),
        ({"last_practice_date": "2026-02-30"}, "last_practice_date"),
        ({"last_practice_date": "9999-12-31"}, "last_practice_date"),
        ({"streak": "-1"}, "streak"),
        ({"streak": "99999999"}, "streak"),
        ({"opted_out": "32"}, "opted_out"),
        ({"email": "ada"}, "email"),
        ({"email": "ada@example.com\r\nBcc: eve@example.com"}, "email"),
        ({"email_opted_out": "maybe"}, "email_opted_out"),
    ],
)
def test_bad_users_are_refused_with_the_column(cells: dict[str, str], reason: str) -> None:
    with pytest.raises(BadRowError, match=reason):
        USER(changed(GOOD_USER, **cells))


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"user_id": "x"}, "user_id"),
        ({"device_id": ""}, "device_id"),
        ({"device_id": "a\tb"}, "device_id"),
        ({"device_id": "a" * 129}, "device_id"),
        ({"platform": "windows"}, "platform"),
        ({"token": "../../3/device/x"}, "APNs"),
        ({"platform": "android", "token": "short"}, "FCM"),
        ({"platform": "android", "token": "a\nb" * 30}, "FCM"),
        ({"platform": "android", "token": "a" * 4097}, "FCM"),
        ({"app_version": "9" * 33}, "app_version"),
        ({"registered_at": "2026"}, "registered_at"),
        ({"fcm_token": "short"}, "fcm_token: an FCM token is 8 to 4096"),
        ({"fcm_token": "a" * 4097}, "fcm_token"),
        ({"fcm_token": "a\tb" * 30}, "fcm_token"),
        ({"fcm_token": "ab" * 32}, "fcm_token: the same as the APNs token"),
        ({"platform": "android"}, "fcm_token: of ios only"),
    ],
)
def test_bad_devices_are_refused_with_the_column(cells: dict[str, str], reason: str) -> None:
    assert DEVICE(GOOD_DEVICE)[3:7:3] == ("ab" * 32, "dYZ_-1:APA91b-x")
    with pytest.raises(BadRowError, match=reason):
        DEVICE(changed(GOOD_DEVICE, **cells))


def test_a_wrong_number_of_columns_is_refused() -> None:
    for row in (GOOD_USER[:-1], [*GOOD_USER, "x"], [], [""]):
        with pytest.raises(BadRowError, match="columns"):
            USER(row)


ANY_CELL = st.one_of(
    st.text(max_size=40),
    st.sampled_from([*GOOD_USER, *GOOD_DEVICE, "android"]),
    st.integers().map(str),
    st.datetimes().map(str),
    st.datetimes(timezones=st.timezones()).map(str),
    st.dates().map(str),
)


@given(st.lists(ANY_CELL, min_size=len(USER_COLUMNS) - 1, max_size=len(USER_COLUMNS) + 1))
def test_any_text_is_a_user_or_a_reason(fields: list[str]) -> None:
    try:
        row = USER(fields)
    except BadRowError:
        return
    assert copy_text([user_line(row)]).count(b"\n") == 1


@given(st.integers(0, len(USER_COLUMNS) - 1), ANY_CELL)
def test_any_cell_in_a_good_user_is_taken_or_refused(position: int, cell: str) -> None:
    fields = [*GOOD_USER[:position], cell, *GOOD_USER[position + 1 :]]
    try:
        row = USER(fields)
    except BadRowError as error:
        assert str(error)
        return
    assert user_line(row).count("\t") == len(USER_COLUMNS) - 1


@given(st.integers(0, len(DEVICE_COLUMNS) - 1), ANY_CELL)
def test_any_cell_in_a_good_device_is_taken_or_refused(position: int, cell: str) -> None:
    fields = [*GOOD_DEVICE[:position], cell, *GOOD_DEVICE[position + 1 :]]
    try:
        row = DEVICE(fields)
    except BadRowError as error:
        assert str(error)
        return
    assert device_line(row).count("\t") == len(DEVICE_COLUMNS) - 1


def test_the_header_tells_users_from_devices() -> None:
    assert is_devices(DEVICE_COLUMNS)
    assert not is_devices(["id", "time_zone", "platform"])
    assert unknown_columns(["id", "time_zone", "shard", "name"]) == ["shard", "name"]


@pytest.mark.parametrize("header", [["a", "b"], [""], ["id", "id", "time_zone"]])
def test_another_header_is_refused(header: list[str]) -> None:
    with pytest.raises(FormatError):
        is_devices(header)
