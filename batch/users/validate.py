"""From a file's fields to valid rows: every check that a user or a device must pass before the database sees it.

A parser is made once for a file's header and then called with each row's fields; a row that it refuses raises
`BadRowError`, whose text is the reason in the rejects file. What producers of events keep to
(shared/wire/events.py) holds here too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Generic, Protocol, TypeVar

from batch.users.rows import DEVICE_COLUMNS, USER_COLUMNS, DeviceRow, UserRow
from shared.identity import MAX_USER_ID
from shared.policy.kinds import KINDS
from shared.policy.localtime import known_zones, zone
from shared.wire.address import is_address
from shared.wire.events import EARLIEST, MAX_AHEAD_SECONDS

Value = TypeVar("Value")
Row_co = TypeVar("Row_co", covariant=True)

_DIGITS = re.compile(r"[0-9]{1,19}").fullmatch
_LOCALE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*").fullmatch
_COUNTRY = re.compile(r"[A-Z]{2}").fullmatch
_NAME = re.compile(r"[A-Za-z0-9_:.\-]+").fullmatch
_APNS_TOKEN = re.compile(r"[0-9A-Fa-f]{64,200}").fullmatch  # becomes part of a URL's path
_FCM_RULE = "an FCM token is 8 to 4096 letters, digits and _ : . -"
_VERSION = re.compile(r"[A-Za-z0-9_:.+() \-]{1,32}").fullmatch
_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_FIRST_INSTANT = datetime.fromtimestamp(EARLIEST, UTC)
_MAX_STREAK = 36_500  # a hundred years
_MAX_OPTED_OUT = (1 << max(kind.code for kind in KINDS.values()) + 1) - 1


class BadRowError(ValueError):
    """A row that is not loaded; the text says why."""


class FormatError(ValueError):
    """A file that cannot be read as users or devices; the text says what to change."""


class Parser(Protocol[Row_co]):
    """Makes a row of the fields of one line."""

    def __call__(self, fields: Sequence[str]) -> Row_co: ...


class _Column(Generic[Value]):
    """Where a file has a column, and how to read it."""

    def __init__(self, header: Sequence[str], name: str, read: Callable[[str], Value]) -> None:
        self.position = header.index(name) if name in header else -1
        self._read = read
        self._name = name

    def of(self, fields: Sequence[str]) -> Value | None:
        """The value; None where the cell is empty or the column absent."""
        text = fields[self.position] if self.position >= 0 else ""
        if not text:
            return None
        try:
            return self._read(text)
        except (ValueError, OverflowError) as error:
            reason = str(error) if isinstance(error, BadRowError) else "cannot be read"
            raise BadRowError(f"{self._name}: {reason}") from None


def is_devices(header: Sequence[str]) -> bool:
    """Whether a header is that of a file of devices (True) or of users (False)."""
    columns = set(header)
    if len(columns) < len(header):
        raise FormatError("the header names a column twice")
    if {"user_id", "device_id", "platform", "token"} <= columns:
        return True
    if {"id", "time_zone"} <= columns:
        return False
    raise FormatError(
        "the first line must name the columns: `id,time_zone,…` of users or `user_id,device_id,platform,token,…` of "
        f"devices; it is {','.join(header)[:200]!r}"
    )


def unknown_columns(header: Sequence[str]) -> list[str]:
    """Columns of a file that are not loaded."""
    known = DEVICE_COLUMNS if is_devices(header) else USER_COLUMNS
    return [name for name in header if name not in known]


class UserParser:
    """Reads users. `now` (unix seconds) is what no instant may lie ahead of."""

    def __init__(self, header: Sequence[str], now: float) -> None:
        self._width = len(header)
        self._id = header.index("id")
        self._time_zone = header.index("time_zone")
        self._zones = known_zones()
        instant = _instant_reader(now)
        self._locale = _Column(header, "locale", _locale)
        self._country = _Column(header, "country", _country)
        self._event = _Column(header, "last_event_at", instant)
        self._active_date = _Column(header, "last_active_date", _date)
        self._practice = _Column(header, "last_practice_at", instant)
        self._practice_date = _Column(header, "last_practice_date", _date)
        self._streak = _Column(header, "streak", _number_up_to(_MAX_STREAK))
        self._opted_out = _Column(header, "opted_out", _number_up_to(_MAX_OPTED_OUT))
        self._created = _Column(header, "created_at", instant)
        self._email = _Column(header, "email", _email)
        self._email_opted_out = _Column(header, "email_opted_out", _boolean)

    def __call__(self, fields: Sequence[str]) -> UserRow:
        if len(fields) != self._width:
            raise BadRowError(f"has {len(fields)} columns, the header has {self._width}")
        identity = _user_id(fields[self._id], "id")
        time_zone = fields[self._time_zone]
        if time_zone not in self._zones:
            raise BadRowError("time_zone: not an IANA name such as America/Sao_Paulo")
        event = self._event.of(fields)
        practice = self._practice.of(fields)
        return UserRow(
            identity,
            time_zone,
            self._locale.of(fields),
            self._country.of(fields),
            event,
            self._active_date.of(fields) or _local_date(event, time_zone),
            practice,
            self._practice_date.of(fields) or _local_date(practice, time_zone),
            self._streak.of(fields),
            self._opted_out.of(fields),
            self._created.of(fields),
            self._email.of(fields),
            self._email_opted_out.of(fields),
        )


class DeviceParser:
    """Reads devices."""

    def __init__(self, header: Sequence[str], now: float) -> None:
        self._width = len(header)
        self._user_id = header.index("user_id")
        self._device_id = header.index("device_id")
        self._platform = header.index("platform")
        self._token = header.index("token")
        self._app_version = _Column(header, "app_version", _version)
        self._registered = _Column(header, "registered_at", _instant_reader(now))
        self._fcm_token = _Column(header, "fcm_token", _fcm_token)

    def __call__(self, fields: Sequence[str]) -> DeviceRow:
        if len(fields) != self._width:
            raise BadRowError(f"has {len(fields)} columns, the header has {self._width}")
        device_id, platform, token = fields[self._device_id], fields[self._platform], fields[self._token]
        if len(device_id) > 128 or not _NAME(device_id):
            raise BadRowError("device_id: 1 to 128 letters, digits and _ : . -")
        if platform == "ios":
            if not _APNS_TOKEN(token):
                raise BadRowError("token: an APNs token is 64 to 200 hexadecimal digits")
        elif platform != "android":
            raise BadRowError("platform: ios or android")
        elif not _is_fcm_token(token):
            raise BadRowError(f"token: {_FCM_RULE}")
        fcm_token = self._fcm_token.of(fields)
        if fcm_token and platform != "ios":
            raise BadRowError("fcm_token: of ios only; an Android device's FCM token is its token")
        if fcm_token == token:
            raise BadRowError("fcm_token: the same as the APNs token")
        return DeviceRow(
            _user_id(fields[self._user_id], "user_id"),
            device_id,
            platform,
            token,
            self._app_version.of(fields),
            self._registered.of(fields),
            fcm_token,
        )


def _user_id(text: str, name: str) -> int:
    # 19 ASCII digits at most: int() alone would also take " 1_0 " and a million digits.
    identity = int(text) if _DIGITS(text) else 0
    if not 0 < identity <= MAX_USER_ID:
        raise BadRowError(f"{name}: a whole number from 1 to 2^63-1")
    return identity


def _local_date(instant: datetime | None, time_zone: str) -> date | None:
    return instant.astimezone(zone(time_zone)).date() if instant else None


def _instant_reader(now: float) -> Callable[[str], datetime]:
    latest = datetime.fromtimestamp(now, UTC) + timedelta(seconds=MAX_AHEAD_SECONDS)

    def read(text: str) -> datetime:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            raise BadRowError("has no offset: write 2026-11-03T18:00:00Z")
        if not _FIRST_INSTANT <= instant <= latest:
            raise BadRowError("before the year 2000 or in the future")
        return instant.astimezone(UTC)

    return read


def _date(text: str) -> date:
    day = date.fromisoformat(text)
    if not 2000 <= day.year <= 9998:
        raise BadRowError("before the year 2000")
    return day


def _number_up_to(limit: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text) if _DIGITS(text) else -1
        if not 0 <= number <= limit:
            raise BadRowError(f"a whole number from 0 to {limit}")
        return number

    return read


def _locale(text: str) -> str:
    if len(text) > 35 or not _LOCALE(text):
        raise BadRowError("a language tag such as en or pt-BR")
    return text


def _country(text: str) -> str:
    if not _COUNTRY(text):
        raise BadRowError("two capital letters (ISO 3166-1)")
    return text


def _is_fcm_token(text: str) -> bool:
    return 8 <= len(text) <= 4096 and _NAME(text) is not None


def _fcm_token(text: str) -> str:
    if not _is_fcm_token(text):
        raise BadRowError(_FCM_RULE)
    return text


def _email(text: str) -> str:
    if not is_address(text):
        raise BadRowError("an address such as name@example.com, in ASCII")
    return text


def _boolean(text: str) -> bool:
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise BadRowError("true or false")
    return value


def _version(text: str) -> str:
    if not _VERSION(text):
        raise BadRowError("up to 32 letters, digits, spaces and _ : . + - ( )")
    return text
