"""A deterministic population: real cities, 20% active and 80% silent users, devices that look real.

The same (count, seed, as_of, settings) give the same users, whoever asks. *Active* means here that the last event is
less than `active_days` local days before `as_of`; at `active_days` the silent ladder begins (its first rung is 7).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from random import Random
from typing import NamedTuple

from batch.users import habits
from batch.users.days import ZoneDays, utc_second
from batch.users.places import Place, places
from batch.users.rows import DeviceRow
from batch.users.tokens import apns_token, fcm_token, fcm_token_beside
from shared.identity import slot
from shared.policy.kinds import KINDS
from shared.settings import Settings

ACTIVE_SHARE = 0.20
NO_DEVICE_SHARE = 0.03
TWO_DEVICES_SHARE = 0.18
OPTED_OUT_SHARE = 0.03
EMAIL_SHARE = 0.85
EMAIL_OPTED_OUT_SHARE = 0.12
IOS_FCM_SHARE = 0.6
"""Of iOS devices: those whose app has the Firebase SDK, and so an FCM token beside the APNs token."""
CHUNK = 10_000
_DAY = 86_400

_ID_BITS = 53  # what every JSON reader holds exactly
_ID_MASK = (1 << _ID_BITS) - 1
_ID_MULTIPLIER = 0x1D8AF1A5C6E8D5  # odd, so that it has an inverse modulo 2^53
_OPT_OUTS = tuple(range(1, 1 << len(KINDS)))


class GeneratedUser(NamedTuple):
    """A user's columns, the devices, and what is not stored: the hour of habit and whether the user is active."""

    id: int
    time_zone: str
    locale: str
    country: str
    last_event_at: datetime
    last_active_date: date
    last_practice_at: datetime | None
    last_practice_date: date | None
    streak: int
    opted_out: int
    created_at: datetime
    email: str | None
    email_opted_out: bool
    practice_hour: int
    active: bool
    devices: tuple[DeviceRow, ...]


def user_id(index: int) -> int:
    """The id of the user with that number, from 1: unique below 2^53, and looks random."""
    # Each step can be undone, so no two meet; 0 would stay 0, and is not a number of a user.
    value = (index * _ID_MULTIPLIER) & _ID_MASK
    value ^= value >> 27
    value = (value * _ID_MULTIPLIER) & _ID_MASK
    return value ^ (value >> 29)


class Population:
    """`count` users as of an instant (unix seconds), in chunks: memory does not grow with the count."""

    def __init__(self, count: int, seed: int, as_of: float | datetime, settings: Settings) -> None:
        self.count = count
        self.seed = seed
        self.as_of = as_of.timestamp() if isinstance(as_of, datetime) else as_of
        self._active_days = settings.active_days
        self._silence = habits.days_of_silence(settings.active_days, settings.ladder_days)
        self._since_practice = habits.days_since_practice(settings.active_days)
        self._zones: dict[str, ZoneDays] = {}

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[GeneratedUser]]:
        """The users, chunk by chunk; may be asked for again."""
        for first in range(0, self.count, CHUNK):
            yield self._chunk(first, min(CHUNK, self.count - first))

    def users(self) -> Iterator[GeneratedUser]:
        """The users one by one."""
        for chunk in self:
            yield from chunk

    def _chunk(self, first: int, size: int) -> list[GeneratedUser]:
        # A generator a chunk, so that no chunk depends on those before it.
        rng = Random(f"surnia:{self.seed}:{first}")  # noqa: S311  # a simulation, no secret
        world = places()
        homes = rng.choices(world.all, cum_weights=world.cumulative, k=size)
        return [self._user(rng, user_id(first + offset), home) for offset, home in enumerate(homes, 1)]

    def _user(self, rng: Random, identity: int, home: Place) -> GeneratedUser:
        days = self._zones.get(home.time_zone)
        if days is None:
            days = self._zones[home.time_zone] = ZoneDays(self.as_of, home.time_zone)
        active = rng.random() < ACTIVE_SHARE
        history = self._active_history(rng, days) if active else self._silent_history(rng, days)
        first = history.event if history.practice is None else history.practice
        created = first - history.streak * _DAY - int(rng.expovariate(1 / 200) * _DAY) - 1
        return GeneratedUser(
            identity,
            home.time_zone,
            home.locale,
            home.country,
            utc_second(history.event),
            days.date(history.event_back),
            None if history.practice is None else utc_second(history.practice),
            None if history.practice is None else days.date(history.practice_back),
            history.streak,
            _OPT_OUTS[int(rng.random() * len(_OPT_OUTS))] if rng.random() < OPTED_OUT_SHARE else 0,
            utc_second(created),
            _email(identity),
            _part(identity, 1) < EMAIL_OPTED_OUT_SHARE,
            history.hour,
            active,
            _devices(rng, identity, home.ios_share, created, history.event),
        )

    def _active_history(self, rng: Random, days: ZoneDays) -> _History:
        practice_back = self._since_practice.draw(rng)
        if practice_back == 1:
            hour = habits.practice_hour_after(rng, days.second_of_today())
        else:
            hour = habits.PRACTICE_HOUR.draw(rng)
        practice = days.moment(practice_back, hour * 3600 + int(rng.random() * 3600))
        event_back = practice_back
        event = min(practice + 30, days.midnight(practice_back - 1) - 1)
        # One in six was there later without practising; with `active_days` 1 everybody was.
        if rng.random() < 1 / 6 or practice_back >= self._active_days:
            later_back = int(rng.random() * min(practice_back, self._active_days))
            event_back, event = later_back, days.moment(later_back, int(rng.random() * _DAY))
        return _History(hour, habits.streak(rng, 6.0), event, event_back, practice, practice_back)

    def _silent_history(self, rng: Random, days: ZoneDays) -> _History:
        hour = habits.PRACTICE_HOUR.draw(rng)
        event_back = self._silence.draw(rng)
        event = days.moment(event_back, hour * 3600 + int(rng.random() * 3600))
        draw = rng.random()
        if draw < 0.25:  # looked around and never practised
            return _History(hour, 0, event, event_back, None, 0)
        if draw < 0.75:
            return _History(hour, habits.streak(rng, 2.0), event, event_back, event, event_back)
        practice_back = event_back + 1 + int(rng.random() * 20)
        practice = days.moment(practice_back, hour * 3600 + int(rng.random() * 3600))
        return _History(hour, habits.streak(rng, 2.0), event, event_back, practice, practice_back)


class _History(NamedTuple):
    """What a user did: instants in unix seconds, and the local days they lie back."""

    hour: int
    streak: int
    event: int
    event_back: int
    practice: int | None
    practice_back: int


def _email(identity: int) -> str | None:
    """An address of nobody: example.com is kept free for that (RFC 2606)."""
    return f"user{identity}@example.com" if _part(identity, 0) < EMAIL_SHARE else None


def _part(identity: int, salt: int) -> float:
    """A number of the user's from 0 to 1, drawn without touching the dice that all else is drawn with."""
    return (slot(identity + (salt << 53)) >> 11) / (1 << 53)


def _devices(rng: Random, identity: int, ios_share: float, created: int, event: int) -> tuple[DeviceRow, ...]:
    draw = rng.random()
    if draw < NO_DEVICE_SHARE:
        return ()
    devices = 2 if draw < NO_DEVICE_SHARE + TWO_DEVICES_SHARE else 1
    version = habits.APP_VERSION.draw(rng)
    made = []
    for n in range(devices):
        ios = rng.random() < ios_share
        device_id = rng.randbytes(8).hex()
        token = apns_token(rng) if ios else fcm_token(rng)
        made.append(
            DeviceRow(
                identity,
                device_id,
                "ios" if ios else "android",
                token,
                version,
                utc_second(created + int(rng.random() * (event - created))),
                fcm_token_beside(token) if ios and _part(identity, 2 + n) < IOS_FCM_SHARE else None,
            )
        )
    return tuple(made)
