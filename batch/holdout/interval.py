"""How sure a difference of two shares is. Pure."""

from __future__ import annotations

from math import sqrt

Z95 = 1.959964
"""Of a normal distribution, 95% lie within so many standard deviations."""


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95% score interval of a share (Wilson 1927): holds for few, and for none, too."""
    if not of:
        return 0.0, 1.0
    share, z2 = hits / of, Z95 * Z95
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z95 * sqrt(share * (1 - share) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    return max(0.0, middle - half), min(1.0, middle + half)


def difference(hits: int, of: int, other_hits: int, other_of: int) -> tuple[float, float]:
    """The 95% interval of one share minus the other (Newcombe 1998, method 10); (-1, 1) where one is of nobody."""
    if not of or not other_of:
        return -1.0, 1.0
    one, other = hits / of, other_hits / other_of
    low, high = wilson(hits, of)
    other_low, other_high = wilson(other_hits, other_of)
    d = one - other
    below = sqrt((one - low) ** 2 + (other_high - other) ** 2)
    above = sqrt((high - one) ** 2 + (other - other_low) ** 2)
    return max(-1.0, d - below), min(1.0, d + above)
