"""What was written to PostgreSQL lately, so that a user's every event is not: the hour's first says enough."""

from __future__ import annotations

from array import array

from shared.policy.localtime import local_hours
from stream.effects import UserActivity

USERS_BITS = 20
"""2^20 users are remembered, 16 bytes each. Who shares a place is forgotten and written once more: it only costs."""
_CODE_BITS = 10
"""Of a zone's or a locale's number: there are about 600 zones. The one that is one too many is never known."""
_HOUR_BITS = 21
"""Hours since 1970, until 2209."""
_HOUR_FROM, _DAY_FROM = 2 * _CODE_BITS, 2 * _CODE_BITS + _HOUR_BITS
_CODES, _HOURS = (1 << _CODE_BITS) - 1, (1 << _HOUR_BITS) - 1


class Recent:
    """One worker's memory of its users.

    A user's row is written when an event tells something that it does not say: the first one of a local date, a
    practice in another hour than the last one, another zone or locale. So `last_event_at` is exact to the day, and
    `last_practice_at` to the hour; local dates, which all rules are about, are exact.
    """

    def __init__(self, bits: int = USERS_BITS) -> None:
        self._mask = (1 << bits) - 1
        self._users, self._facts = array("q", bytes(8 << bits)), array("q", bytes(8 << bits))
        self._codes: dict[str, int] = {"": 0}

    def news(self, user_id: int, user: UserActivity) -> int:
        """What is to be remembered once it is written, 0 if nothing of it needs to be."""
        place, time_zone = self.place_of(user_id), user.time_zone
        known = self._facts[place] if self._users[place] == user_id else 0
        known_zone, known_locale = known >> _CODE_BITS & _CODES, known & _CODES
        seen = local_hours(user.event_at, time_zone)
        day, hour = seen // 24, 0
        if user.practices:
            _, last = user.last_practice()
            hour = seen if last == user.event_at else local_hours(last, time_zone)
        known_day, known_hour = known >> _DAY_FROM, known >> _HOUR_FROM & _HOURS
        zone = self._code(time_zone) if user.zone_given else known_zone
        locale = self._code(user.locale) if user.locale else known_locale
        same = zone == known_zone != _CODES and locale == known_locale != _CODES
        chose = user.opted_out is not None or user.email is not None or user.email_opted_out is not None
        if same and day <= known_day and hour <= known_hour and not chose:
            return 0
        if zone == known_zone:
            # Elsewhere, an earlier hour may be a later one.
            day, hour = max(day, known_day), max(hour, known_hour)
        return day << _DAY_FROM | hour << _HOUR_FROM | zone << _CODE_BITS | locale

    def remember(self, user_id: int, news: int) -> None:
        """It is written."""
        place = self.place_of(user_id)
        self._users[place], self._facts[place] = user_id, news

    def forget(self, user_id: int) -> None:
        """The user's row is gone."""
        place = self.place_of(user_id)
        if self._users[place] == user_id:
            self._users[place] = 0

    def _code(self, name: str) -> int:
        code = self._codes.get(name)
        if code is None:
            if len(self._codes) >= _CODES:
                return _CODES
            code = self._codes[name] = len(self._codes)
        return code

    def place_of(self, user_id: int) -> int:
        """Where a user is remembered."""
        return (user_id ^ user_id >> USERS_BITS) & self._mask
