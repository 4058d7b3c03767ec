"""How large the next page is and how long the scan rests before it: additive increase, multiplicative decrease.

TCP's rule (Jacobson 1988; Chiu and Jain 1989 show that several who follow it come to a fair share without knowing of
one another), with pages for packets: each page that the database read in good time makes the next one a little larger
and the rest a little shorter; one that took too long, was cancelled, or left a replica behind halves the page and
doubles the rest. Pure: no clock, no database.
"""

from __future__ import annotations

from typing import NamedTuple

from shared.settings import Settings

SMALLEST = 50
"""Users. A page costs its round trips too: below this the scan would only be slower, not gentler. Rests help then."""
LONGEST_PAUSE = 5.0
"""Seconds. A scan of an hour's users that rests so long before every page is stopped in all but name."""
SHORTEST_PAUSE = 0.05
"""Seconds. The first rest, where none was needed before."""
_STEPS = 16
"""Pages in good time from the smallest to the largest page."""
_CUT = 0.5


class Bounds(NamedTuple):
    """What the page size and the judgement keep to."""

    largest: int
    """Users a page at most."""
    page_seconds: float
    """Longer than this a page may not take."""
    lag_seconds: float
    """Further behind than this a replica may not be."""

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        return cls(settings.page_size, settings.scan_page_seconds, settings.scan_lag_seconds)

    @property
    def smallest(self) -> int:
        return min(SMALLEST, self.largest)


class Controller:
    """One scan's. Begins in the middle: half the largest page, and no rest."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._size = max(float(bounds.smallest), bounds.largest * _CUT)
        self._pause = 0.0
        self.slowed = 0
        """How often it was slowed down."""

    @property
    def page_size(self) -> int:
        """Users that the next page may have."""
        return int(self._size)

    @property
    def pause(self) -> float:
        """Seconds to rest before it."""
        return self._pause

    @property
    def at_full_speed(self) -> bool:
        return not self._pause and self.page_size == self._bounds.largest

    def page(self, seconds: float, rows: int) -> bool:
        """A page was read; whether it was in good time."""
        if seconds > self._bounds.page_seconds:
            self._slow()
            return False
        self._pause = max(0.0, self._pause - LONGEST_PAUSE / _STEPS)
        # A page that was not full says nothing of a larger one.
        if rows >= self.page_size:
            step = (self._bounds.largest - self._bounds.smallest) / _STEPS
            self._size = min(float(self._bounds.largest), self._size + step)
        return True

    def lag(self, seconds: float) -> bool:
        """The replica was found so far behind; whether that may be."""
        if seconds <= self._bounds.lag_seconds:
            return True
        self._slow()
        return False

    def cancelled(self) -> None:
        """The database ended a page."""
        self._slow()

    def _slow(self) -> None:
        self.slowed += 1
        self._size = max(float(self._bounds.smallest), self._size * _CUT)
        self._pause = min(LONGEST_PAUSE, max(SHORTEST_PAUSE, self._pause / _CUT))
