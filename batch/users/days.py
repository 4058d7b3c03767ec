"""Moments inside local days before an instant, in every time zone, without a conversion each."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from shared.policy.localtime import instant_of, local_date


class ZoneDays:
    """The local days of one time zone, counted back from the day of `as_of` (0)."""

    def __init__(self, as_of: float, time_zone: str) -> None:
        self.time_zone = time_zone
        self.today = local_date(as_of, time_zone)
        self._as_of = int(as_of)
        self._midnights: dict[int, int] = {}
        self._dates: dict[int, date] = {}

    def date(self, back: int) -> date:
        """The local date `back` days ago."""
        found = self._dates.get(back)
        if found is None:
            found = self._dates[back] = self.today - timedelta(days=back)
        return found

    def midnight(self, back: int) -> int:
        """When that day began, in unix seconds."""
        found = self._midnights.get(back)
        if found is None:
            found = self._midnights[back] = int(instant_of(self.date(back), 0, self.time_zone))
        return found

    def moment(self, back: int, second: int) -> int:
        """`second` seconds into that day, but never after its end nor after `as_of`, in unix seconds.

        Between two midnights by construction, so the local date is right on days of 23 and 25 hours too;
        there the wall clock may show an hour more or less.
        """
        moment = min(self.midnight(back) + second, self.midnight(back - 1) - 1)
        return moment if back else min(moment, self._as_of)

    def second_of_today(self) -> int:
        """How far into its local day `as_of` is, in seconds."""
        return self._as_of - self.midnight(0)


def utc_second(instant: int) -> datetime:
    """Unix seconds as an aware UTC datetime."""
    return datetime.fromtimestamp(instant, UTC)
