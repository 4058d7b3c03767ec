"""The load of a soak: a crowd that practises at a steady rate, and some who are reminded meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Any

from psycopg import Connection
from redis import Redis

from infra.bench.stream.topic import Said, partition_of
from shared.clock import utc
from shared.gate import value
from shared.gate.keys import bucket_key, due_key
from shared.identity import bucket_of, shard_of
from shared.policy.kinds import ABANDONED_AFTER, ABANDONED_LESSON, PRACTICE, PRACTICE_AFTER
from shared.policy.localtime import local_date
from shared.policy.window import QuietHours, practice_due
from shared.wire.events import LessonCompleted, LessonStarted
from tests.chaos.load import DAY, HOUR, Load, Practice, User
from tests.chaos.world import World

REGULARS = 50_000
FRESH_IN = 50
"""Every so manieth event is of a user who is never heard of again: nothing that comes later hides its loss."""
_SENT_TWICE = 0.05
_AT_ONCE = 5_000
_REGULARS_FROM, _FRESH_FROM, _REMINDED_FROM = 10**12, 2 * 10**12, 3 * 10**12
# Where a soak that begins at noon UTC meets no quiet hours, no streak savers and no midnight for hours.
_ZONES = ("America/Sao_Paulo", "UTC", "Europe/Lisbon", "Europe/Istanbul", "Africa/Cairo")


def zone_of(user_id: int) -> str:
    return _ZONES[user_id % len(_ZONES)]


class Crowd:
    """Makes events and keeps in mind what they come to."""

    def __init__(self, start: float, partitions: int) -> None:
        self._start = start
        self._rng = Random("crowd")
        self._partitions = partitions
        # Hashed once: Kafka's hash, in Python, costs more than all the rest of an event.
        self._regulars = [self._known(_REGULARS_FROM + n * 7919) for n in range(REGULARS)]
        self._events = self._endless()
        self._now = ""
        self._at = 0.0
        self.practised: dict[int, float] = {}
        """User -> the last practice, unix seconds: of regulars and of fresh ones."""

    def insert(self, connection: Connection[tuple[object, ...]]) -> None:
        """The regulars, who practised yesterday."""
        at, day = utc(self._start - 22 * HOUR), local_date(self._start - 22 * HOUR, "UTC")
        with connection.cursor() as cursor, cursor.copy(
            "COPY users (id, time_zone, streak, last_event_at, last_practice_at, last_active_date, last_practice_date) "
            "FROM STDIN"
        ) as copy:  # fmt: skip
            for user, _, _ in self._regulars:
                copy.write_row((user, zone_of(user), self.streak(user), at, at, day, day))

    def streak(self, user: int) -> int:
        """Until yesterday."""
        return 1 + user % 9 if user < _FRESH_FROM else 0

    def expected(self) -> dict[int, int]:
        """User -> streak in the end, of all there are."""
        regulars = {user: self.streak(user) for user, _, _ in self._regulars}
        return regulars | {user: self.streak(user) + 1 for user in self.practised}

    def said(self, n: int, now: float) -> list[list[Said]]:
        """The next n events, by partition."""
        self._at = now
        self._now = utc(now).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        found: list[list[Said]] = [[] for _ in range(self._partitions)]
        for partition, event in islice(self._events, n):
            found[partition].append(event)
        return found

    def _endless(self) -> Iterator[tuple[int, Said]]:
        fresh, number = _FRESH_FROM, 0
        while True:
            user, key, partition = self._rng.choice(self._regulars)
            for kind in ("app_opened", "lesson_started", "lesson_completed"):
                for _ in range(2 if self._rng.random() < _SENT_TWICE else 1):
                    yield partition, (key, self._event(kind, user))
                    number += 1
                    if number % (FRESH_IN - 1) == 0:
                        fresh += 1
                        _, own, place = self._known(fresh)
                        yield place, (own, self._event("lesson_completed", fresh))

    def _event(self, kind: str, user: int) -> bytes:
        if kind == "lesson_completed":
            self.practised[user] = self._at
        return f'{{"type":"{kind}","user_id":{user},"at":"{self._now}","time_zone":"{zone_of(user)}"}}'.encode()

    def _known(self, user: int) -> tuple[int, bytes, int]:
        key = str(user).encode()
        return user, key, partition_of(key, self._partitions)


def reminded(start: float, seconds: int, a_second: float) -> Load:
    """Users whose reminders become due one by one while the soak lasts. Steps of this load are seconds.

    Three in five practised yesterday, one in five left a lesson, one in five practises around the moment.
    """
    rng, load = Random("reminded"), Load(0, start)
    first = min(20, seconds // 4)
    for n in range(max(20, round(seconds * a_second))):
        user_id = _REMINDED_FROM + n * 7919
        due, zone = start + rng.uniform(first, seconds - 2), zone_of(user_id)
        at = due - (ABANDONED_AFTER if n % 5 == 3 else PRACTICE_AFTER)
        device = ("ios", f"{user_id:064x}", None) if n % 2 else ("android", f"phone-{user_id:032x}", None)
        load.users.append(User(user_id, zone, at - 2 * DAY, (device,)))
        what = LessonStarted if n % 5 == 3 else LessonCompleted
        load.events.setdefault(0, []).append(what(user_id=user_id, at=utc(at), time_zone=zone))
        if n % 5 == 4:
            second = max(1, min(seconds - 1, round(due - start) + rng.randint(-4, 2)))
            again = LessonCompleted(user_id=user_id, at=utc(start + second), time_zone=zone)
            load.events.setdefault(second, []).append(again)
            load.practices.append(Practice(user_id, local_date(start + second, zone), second))
        else:
            load.expected.add((user_id, (ABANDONED_LESSON if n % 5 == 3 else PRACTICE).name))
    return load


def check_crowd(world: World, crowd: Crowd, others: set[int]) -> list[str]:
    """What PostgreSQL, the gate and the due index know of the crowd, beside what it did; what differs, in words."""
    with world.database() as connection:
        rows = connection.execute("SELECT id, streak, last_practice_date FROM users").fetchall()
    streaks = {int(user): int(streak) for user, streak, _ in rows if user not in others}
    dates = {int(user): day for user, _, day in rows}
    expected, practised = crowd.expected(), crowd.practised
    gate, due = _in_redis(world, list(practised))
    quiet = QuietHours.of(world.settings)
    wrong = {
        "another streak than they must": [
            user for user in expected.keys() | streaks.keys() if expected.get(user) != streaks.get(user)
        ],
        "another date of their last practice than they must": [
            user for user, at in practised.items() if dates.get(user) != local_date(at, zone_of(user))
        ],
        "no mark at the gate": [user for user in practised if not value.practised(gate[user])],
        "practice due at another time than they must": [
            user for user, at in practised.items() if due[user] != int(practice_due(at, zone_of(user), quiet))
        ],
    }
    return [f"of {len(expected)} users {len(users)} have {what}: {users[:5]}" for what, users in wrong.items() if users]


def _in_redis(world: World, users: list[int]) -> tuple[dict[int, int], dict[int, float | None]]:
    """Of each user who practised today what the gate says of today, and when practice is due."""
    day, bits = local_date(world.clock.now(), "UTC"), world.settings.gate_bucket_bits
    answers: list[Any] = []
    with Redis.from_url(world.addresses["redis_url"]) as redis:
        for start in range(0, len(users), _AT_ONCE):
            pipeline = redis.pipeline(transaction=False)
            for user in users[start : start + _AT_ONCE]:
                shard = shard_of(user)
                pipeline.hget(bucket_key(shard, bucket_of(user, bits), day), str(user))
                pipeline.zscore(due_key(shard, PRACTICE), str(user))
            answers += pipeline.execute()
    gate = {user: int(mark or 0) for user, mark in zip(users, answers[::2], strict=True)}
    return gate, dict(zip(users, answers[1::2], strict=True))
