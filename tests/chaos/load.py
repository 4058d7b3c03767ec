"""What the users of one seed do: everything follows from the seed, from the ids to the minute of the last lesson."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from random import Random

from psycopg import Connection

from shared.clock import utc
from shared.policy.kinds import ABANDONED_LESSON, COMEBACK, PRACTICE, PRACTICE_AFTER, STREAK_SAVER
from shared.policy.localtime import known_zones, local_date, local_time
from shared.wire.events import ActivityEvent, LessonCompleted, LessonStarted, PreferencesChanged, encode_event

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
STEP = 10 * MINUTE
STEPS = 12
SCANS = 2
SCANNED = 4
"""Steps in the interval of a scan, which runs when they are over."""
BURSTS = 90 * MINUTE
"""From the start, in which reminders become due."""
_FIRST = datetime(2026, 11, 21, tzinfo=UTC).timestamp()
_APART = 5 * DAY
"""From seed to seed: no local date is touched by two, nobody's reminders reach into the next one's time."""
_IDS_APART = 1_000_000_000
_RUNGS = (7, 14, 30, 60, 90)
_SENT_TWICE = 0.05
"""Of the events: producers retry."""


@dataclass(frozen=True, slots=True)
class User:
    """A row of the tables."""

    id: int
    time_zone: str
    last_seen: float
    """The last practice before the seed's events, unix seconds."""
    devices: tuple[tuple[str, str, str | None], ...]
    """(platform, token, token of FCM on an iOS device)"""


@dataclass(frozen=True, slots=True)
class Practice:
    """A lesson that is completed while sends are under way: no reminder on that local date any more."""

    user_id: int
    day: date
    step: int


@dataclass
class Load:
    """The users of a seed, and their events by step of the clock; step 0 is what happened before."""

    seed: int
    start: float
    users: list[User] = field(default_factory=list)
    events: dict[int, list[ActivityEvent]] = field(default_factory=dict)
    expected: set[tuple[int, str]] = field(default_factory=set)
    """(user, kind) of candidates that must turn up, whatever breaks but the due index itself."""
    practices: list[Practice] = field(default_factory=list)

    def at(self, step: int) -> float:
        """What the clock shows in a step."""
        return self.start + step * STEP

    def messages(self, step: int) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of a step's events, some of them twice."""
        rng = Random(f"{self.seed}:messages:{step}")
        for event in sorted(self.events.get(step, ()), key=lambda event: event.at):
            for _ in range(2 if rng.random() < _SENT_TWICE else 1):
                yield str(event.user_id).encode(), encode_event(event)

    def insert(self, connection: Connection[tuple[object, ...]]) -> None:
        """Put the users into the tables."""
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO users (id, time_zone, streak, last_event_at, last_practice_at, last_active_date, "
                "last_practice_date) VALUES (%s, %s, %s, %s, %s, %s, %s)",
                [
                    (user.id, user.time_zone, 1 + user.id % 9, *[utc(user.last_seen)] * 2, *[_day(user)] * 2)
                    for user in self.users
                ],
            )
            cursor.executemany(
                "INSERT INTO devices (user_id, device_id, platform, token, fcm_token, registered_at) "
                "VALUES (%s, %s, %s, %s, %s, %s)",
                [
                    (user.id, f"device-{n}", *device, utc(user.last_seen))
                    for user in self.users
                    for n, device in enumerate(user.devices)
                ],
            )


def make(seed: int) -> Load:
    """The load of a seed: a few hundred to two thousand users around the world."""
    rng = Random(f"load:{seed}")
    load = Load(seed, _FIRST + seed * _APART + rng.randrange(24) * HOUR)
    maker = _Maker(load, rng)
    shares = {
        maker.practises: 0.36, maker.practises_again: 0.10, maker.has_a_streak: 0.12, maker.abandons: 0.12,
        maker.finishes: 0.04, maker.is_silent: 0.20, maker.returns: 0.06,
    }  # fmt: skip
    total = rng.randint(300, 2000)
    for behave, share in shares.items():
        for _ in range(round(total * share)):
            behave()
    return load


class _Maker:
    def __init__(self, load: Load, rng: Random) -> None:
        self._load = load
        self._rng = rng
        start = load.start
        self._by_day = self._zones(lambda at: 8 <= at <= 19)
        self._late = self._zones(lambda at: 20.5 <= at < 22)
        """Where the streak savers' hour strikes within the seed, and quiet hours begin."""
        self._evening = self._zones(lambda at: 18 - SCANS * SCANNED * STEP / HOUR < at <= 18)
        """Where the send hour strikes within the scanned intervals."""
        # Reminders become due in bursts, so that whatever breaks breaks in the middle of something.
        self._bursts = [start + rng.uniform(0, BURSTS) for _ in range(5)]

    def practises(self) -> None:
        user = self._learns(self._day_or_late(), self._due() - PRACTICE_AFTER)
        self._load.expected.add((user.id, PRACTICE.name))

    def practises_again(self) -> None:
        """Around the moment at which the reminder is due."""
        due = self._due()
        user = self._learns(self._day_or_late(), due - PRACTICE_AFTER)
        self._practise(user, round((due - self._load.start) / STEP) + self._rng.randint(-1, 1))

    def has_a_streak(self) -> None:
        user = self._learns(self._rng.choice(self._late), self._load.start - self._rng.uniform(24, 32) * HOUR)
        self._load.expected.add((user.id, STREAK_SAVER.name))

    def abandons(self) -> None:
        user, step = self._starts()
        if self._rng.random() < 0.1:
            choice = PreferencesChanged(user_id=user.id, at=utc(self._load.at(step)), opted_out=("abandoned_lesson",))
            self._event(step, choice)
        self._load.expected.add((user.id, ABANDONED_LESSON.name))

    def finishes(self) -> None:
        user, step = self._starts()
        self._practise(user, step + 1)

    def is_silent(self) -> None:
        self._load.expected.add((self._silent().id, COMEBACK.name))

    def returns(self) -> None:
        """Just before the scans or while they are under way, with the database's row still saying silent."""
        self._practise(self._silent(), self._rng.randint(2, 11))

    def _silent(self) -> User:
        return self._user(self._rng.choice(self._evening), self._load.start - self._rng.choice(_RUNGS) * DAY)

    def _starts(self) -> tuple[User, int]:
        step = self._rng.randint(0, 8)
        at = self._load.at(step) - self._rng.uniform(0, STEP)
        user = self._user(zone := self._rng.choice(self._by_day), at - 2 * DAY)
        self._event(step, LessonStarted(user_id=user.id, at=utc(at), time_zone=zone))
        return user, step

    def _learns(self, zone: str, at: float) -> User:
        """A user who completed a lesson before the seed begins, which the database does not know yet."""
        user = self._user(zone, at - DAY)
        self._event(0, LessonCompleted(user_id=user.id, at=utc(at), time_zone=zone))
        return user

    def _practise(self, user: User, step: int) -> None:
        step = min(max(1, step), STEPS)
        at = self._load.at(step)
        self._event(step, LessonCompleted(user_id=user.id, at=utc(at), time_zone=user.time_zone))
        self._load.practices.append(Practice(user.id, local_date(at, user.time_zone), step))

    def _user(self, zone: str, last_seen: float) -> User:
        number = len(self._load.users)
        user_id = (self._load.seed + 1) * _IDS_APART + number * 7919
        devices: list[tuple[str, str, str | None]] = [("android", f"phone-{user_id:032x}", None)]
        if number % 2:
            devices = [("ios", f"{user_id:064x}", f"spare-{user_id:032x}" if number % 4 == 1 else None)]
        if self._rng.random() < 0.1:
            devices.append(("android", f"tablet-{user_id:032x}", None))
        user = User(user_id, zone, last_seen, tuple(devices))
        self._load.users.append(user)
        return user

    def _due(self) -> float:
        return self._rng.choice(self._bursts) + self._rng.uniform(0, MINUTE)

    def _day_or_late(self) -> str:
        """Now and then somewhere where the quiet hours are about to begin."""
        return self._rng.choice(self._late if self._rng.random() < 0.1 else self._by_day)

    def _zones(self, fits: Callable[[float], bool]) -> list[str]:
        """Some of the zones whose local hour at the start fits."""
        local = {name: local_time(self._load.start, name) for name in sorted(known_zones())}
        found = [name for name, at in local.items() if fits(at.hour + at.minute / 60)]
        return self._rng.sample(found, min(6, len(found)))

    def _event(self, step: int, event: ActivityEvent) -> None:
        self._load.events.setdefault(step, []).append(event)


def _day(user: User) -> date:
    return local_date(user.last_seen, user.time_zone)


def dates_of(load: Load) -> list[date]:
    """Every local date that somebody lives in while the seed lasts and its last reminders come due."""
    first = utc(load.start - DAY).date()
    return [first + timedelta(days=n) for n in range(5)]
