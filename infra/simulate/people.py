"""Users as arrays: drawn by the million from what `surnia users generate` draws from, or taken from generated ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batch.users import habits, population
from batch.users.places import places
from batch.users.population import GeneratedUser
from infra.simulate.calendar import Calendar
from infra.simulate.mix import Mix
from shared.identity import SPREADS, spreads
from shared.policy.kinds import KINDS

NEVER = -32_000
"""The number of a date on which nothing happened."""
DAY = 86_400

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class People:
    """One element a user in every array. Dates by number (`Calendar`), times in seconds from the start."""

    zone: npt.NDArray[np.int16]
    habit: Bools
    """Whether they do anything by themselves."""
    active_date: npt.NDArray[np.int16]
    practice_date: npt.NDArray[np.int16]
    practised_at: npt.NDArray[np.float32]
    hour: npt.NDArray[np.int8]
    opted_out: npt.NDArray[np.uint8]
    ios: npt.NDArray[np.uint8]
    android: npt.NDArray[np.uint8]
    place: npt.NDArray[np.uint16]
    """In the hour over which comebacks are spread (shared/identity.py)."""
    mail: Bools
    """Whether an e-mail may be sent."""

    def __len__(self) -> int:
        return len(self.zone)


class Draw:
    """Indices by weight, a million at a time: a table of 65,536 places, so that a draw is one look-up."""

    _SIZE = 1 << 16

    def __init__(self, weights: Sequence[float]) -> None:
        sums = np.cumsum(np.asarray(weights, dtype=np.float64))
        middles = (np.arange(self._SIZE) + 0.5) / self._SIZE * sums[-1]
        self._table = np.searchsorted(sums, middles, side="right").astype(np.int16)

    def __call__(self, rng: np.random.Generator, n: int) -> npt.NDArray[np.int16]:
        found: npt.NDArray[np.int16] = self._table[rng.integers(0, self._SIZE, n, dtype=np.uint16)]
        return found


class World:
    """Where users are drawn from. Its zones are the calendar's."""

    def __init__(self, mix: Mix) -> None:
        world = places()
        self.zones = sorted({place.time_zone for place in world.all})
        number = {zone: n for n, zone in enumerate(self.zones)}
        self._zone = np.array([number[place.time_zone] for place in world.all], dtype=np.int16)
        self._ios = np.array([place.ios_share for place in world.all], dtype=np.float32)
        people = np.diff(np.array([0, *world.cumulative], dtype=np.float64))
        # Exact: many places have less than one part in 65,536 of the world.
        self._homes = np.cumsum(people / people.sum())
        self._mix = mix
        silence = habits.days_of_silence(mix.active_days, mix.ladder)
        self._silence = Draw(silence.weights)
        self._silent_days = np.array(silence.values, dtype=np.int16)
        weights = np.array(silence.weights)
        self.stays = np.zeros(1 << 15, np.float32)
        """By days of silence: the share of those who were silent a day before that still is, where its shape stays."""
        self.stays[: mix.active_days + 1] = 1
        self.stays[self._silent_days[1:]] = weights[1:] / weights[:-1]
        since = habits.days_since_practice(mix.active_days)
        self._since = Draw(since.weights)
        self._since_days = np.array(since.values, dtype=np.int16)
        self.hours = Draw(habits.PRACTICE_HOUR.weights)

    def people(self, rng: np.random.Generator, n: int, calendar: Calendar) -> People:
        """`n` users as they are when the first date of the calendar begins."""
        home = np.searchsorted(self._homes, rng.random(n), side="right").clip(0, len(self._homes) - 1)
        habit = rng.random(n, dtype=np.float32) < self._mix.active
        hour = self.hours(rng, n)
        back = np.where(habit, self._since_days[self._since(rng, n)], self._silent_days[self._silence(rng, n)])
        # One in six active users was there later without practising.
        later = habit & (rng.random(n, dtype=np.float32) < 1 / 6)
        active_back = np.where(later, np.minimum(back, 1 + (rng.random(n, dtype=np.float32) * back)), back)
        practice = np.where(habit, -back, NEVER).astype(np.int16)
        at = calendar.midnight[0][self._zone[home]] + practice.astype(np.float32) * DAY + hour * 3600.0
        at += rng.random(n, dtype=np.float32) * 3600
        draw = rng.random(n, dtype=np.float32)
        two = population.NO_DEVICE_SHARE + population.TWO_DEVICES_SHARE
        devices = (draw >= population.NO_DEVICE_SHARE).astype(np.uint8) + (draw < two)
        devices[draw < population.NO_DEVICE_SHARE] = 0
        share = self._ios[home]
        first = (devices > 0) & (rng.random(n, dtype=np.float32) < share)
        second = (devices > 1) & (rng.random(n, dtype=np.float32) < share)
        ios = first.astype(np.uint8) + second
        refused = rng.random(n, dtype=np.float32) < population.OPTED_OUT_SHARE
        bits = rng.integers(1, 1 << len(KINDS), n, dtype=np.uint8)
        mailed = population.EMAIL_SHARE * (1 - population.EMAIL_OPTED_OUT_SHARE)
        return People(
            self._zone[home],
            habit,
            (-active_back).astype(np.int16),
            practice,
            at.astype(np.float32),
            hour.astype(np.int8),
            np.where(refused, bits, 0).astype(np.uint8),
            ios,
            (devices - ios).astype(np.uint8),
            rng.integers(0, SPREADS, n, dtype=np.uint16),
            rng.random(n, dtype=np.float32) < mailed,
        )


def generated(users: Iterable[GeneratedUser], calendar: Calendar) -> People:
    """The same arrays from users that the database could hold."""
    found = list(users)
    dates = [
        (
            calendar.number_of(user.last_active_date),
            user.last_practice_date and calendar.number_of(user.last_practice_date),
        )
        for user in found
    ]
    platforms = [[device.platform for device in user.devices] for user in found]
    return People(
        np.array([calendar.number[user.time_zone] for user in found], dtype=np.int16),
        np.array([user.active for user in found], dtype=np.bool_),
        np.array([active for active, _ in dates], dtype=np.int16),
        np.array([NEVER if practice is None else practice for _, practice in dates], dtype=np.int16),
        np.array(
            [
                NEVER * DAY if (at := user.last_practice_at) is None else at.timestamp() - calendar.start
                for user in found
            ],
            dtype=np.float32,
        ),
        np.array([user.practice_hour for user in found], dtype=np.int8),
        np.array([user.opted_out for user in found], dtype=np.uint8),
        np.array([each.count("ios") for each in platforms], dtype=np.uint8),
        np.array([each.count("android") for each in platforms], dtype=np.uint8),
        spreads(np.array([user.id for user in found], dtype=np.int64)).astype(np.uint16),
        np.array([user.email is not None and not user.email_opted_out for user in found], dtype=np.bool_),
    )
