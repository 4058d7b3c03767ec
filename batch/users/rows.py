"""The rows of `users` and `devices` as files and COPY carry them.

Instants are aware UTC datetimes; None says "not known". A row that exists is valid: it comes from `validate` or from
the generator, and no text in it holds a control character or a backslash, so COPY's text format needs no escapes.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import NamedTuple, Protocol


class DeviceRow(NamedTuple):
    """One device of a user."""

    user_id: int
    device_id: str
    platform: str
    token: str
    app_version: str | None
    registered_at: datetime | None
    fcm_token: str | None


class UserRow(NamedTuple):
    """One user."""

    id: int
    time_zone: str
    locale: str | None
    country: str | None
    last_event_at: datetime | None
    last_active_date: date | None
    last_practice_at: datetime | None
    last_practice_date: date | None
    streak: int | None
    opted_out: int | None
    created_at: datetime | None
    email: str | None
    email_opted_out: bool | None


USER_COLUMNS = UserRow._fields
DEVICE_COLUMNS = DeviceRow._fields


class UserLike(Protocol):
    """What has a user's columns: a row from a file, or a generated user."""

    @property
    def id(self) -> int: ...
    @property
    def time_zone(self) -> str: ...
    @property
    def locale(self) -> str | None: ...
    @property
    def country(self) -> str | None: ...
    @property
    def last_event_at(self) -> datetime | None: ...
    @property
    def last_active_date(self) -> date | None: ...
    @property
    def last_practice_at(self) -> datetime | None: ...
    @property
    def last_practice_date(self) -> date | None: ...
    @property
    def streak(self) -> int | None: ...
    @property
    def opted_out(self) -> int | None: ...
    @property
    def created_at(self) -> datetime | None: ...
    @property
    def email(self) -> str | None: ...
    @property
    def email_opted_out(self) -> bool | None: ...


def user_line(user: UserLike) -> str:
    """The user as a line of COPY's text format."""
    streak, opted_out = user.streak, user.opted_out
    return (
        f"{user.id}\t{user.time_zone}\t{user.locale or _NULL}\t{user.country or _NULL}\t{user.last_event_at or _NULL}"
        f"\t{user.last_active_date or _NULL}\t{user.last_practice_at or _NULL}\t{user.last_practice_date or _NULL}"
        f"\t{_NULL if streak is None else streak}\t{_NULL if opted_out is None else opted_out}"
        f"\t{user.created_at or _NULL}\t{user.email or _NULL}\t{_BOOLEANS[user.email_opted_out]}"
    )


def device_line(device: DeviceRow) -> str:
    """The device as a line of COPY's text format."""
    return (
        f"{device.user_id}\t{device.device_id}\t{device.platform}\t{device.token}\t{device.app_version or _NULL}"
        f"\t{device.registered_at or _NULL}\t{device.fcm_token or _NULL}"
    )


def copy_text(lines: Iterable[str]) -> bytes:
    """Lines as COPY takes them."""
    return "".join([line + "\n" for line in lines]).encode()


def csv_line(copy_line: str) -> str:
    """A line of COPY's text format as one of CSV: no text of ours holds a comma or a quote."""
    return copy_line.replace(_NULL, "").replace("\t", ",")


_NULL = "\\N"
_BOOLEANS = {True: "true", False: "false", None: _NULL}
