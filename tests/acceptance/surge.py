"""New Year's Eve: users, what they do yesterday and today, and what must be known of them afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

import psycopg
from confluent_kafka import Consumer, TopicPartition
from redis import Redis

from shared.clock import utc
from shared.due.index import DUE_KINDS
from shared.gate import value
from shared.gate.keys import bucket_key, due_key
from shared.identity import SHARDS, bucket_of, shard_of
from shared.lag import group_of
from shared.policy.localtime import local_date
from shared.policy.window import QuietHours
from shared.producer import Record
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.events import ActivityEvent, AppOpened, LessonCompleted, LessonStarted, encode_event
from stream.effects import effects_of
from tests.conftest import NOON
from tests.integration.support import DAY, HOUR, TODAY, YESTERDAY, token_of

MINUTE = 60.0
COPIES = 10
"""How often the surge's producers send an event."""
_TOGETHER = 500
"""Users whose events come together, ten times, before the next ones'."""
_LISBON = "Europe/Lisbon"
# Where it is today already and no streak saver is due yet; Kathmandu is 5:45 ahead.
_ZONES = (
    "America/Los_Angeles", "America/Sao_Paulo", "UTC", _LISBON, "Europe/Istanbul", "Africa/Cairo", "Asia/Kolkata",
    "Asia/Kathmandu",
)  # fmt: skip


class User(NamedTuple):
    id: int
    time_zone: str
    yesterday: float
    """When the lesson of yesterday was completed."""
    streak: int
    """As the database has it, of the day before yesterday; 0: it does not know the user."""

    def lesson(self, completed: float) -> list[ActivityEvent]:
        begun = completed - 5 * MINUTE
        return [
            AppOpened(user_id=self.id, at=utc(begun), time_zone=self.time_zone),
            LessonStarted(user_id=self.id, at=utc(begun + 1), time_zone=self.time_zone),
            LessonCompleted(user_id=self.id, at=utc(completed), time_zone=self.time_zone),
        ]


@dataclass
class Population:
    """Who practises today in the middle of it, who is reminded, and who leaves a lesson."""

    crowd: list[User]
    late: list[User]
    """Their reminders become due while the lesson of today is at the end of the backlog."""
    silent: list[User]
    """Theirs too, and they do nothing today."""
    leaving: list[User]
    """They begin a lesson today and leave it."""
    first: User = field(default_factory=lambda: User(7, "UTC", NOON - 22 * HOUR, 3))

    @classmethod
    def of(cls, crowd: int, few: int) -> Population:
        ids = iter(range(1_000_003, 10**12, 7_919_317))

        def users(n: int, hours: float, zones: Sequence[str] = (_LISBON,)) -> list[User]:
            return [
                User(next(ids), zones[k % len(zones)], NOON - hours * HOUR + k % 600, k % 2 and 1 + k % 9)
                for k in range(n)
            ]

        return cls(users(crowd, 22, _ZONES), users(few, 23), users(few, 23), users(few, 22))

    @property
    def with_devices(self) -> list[User]:
        return [*self.late, *self.silent, *self.leaving]

    @property
    def everybody(self) -> list[User]:
        return [self.first, *self.crowd, *self.with_devices]

    @property
    def practising(self) -> list[User]:
        return [*self.crowd, *self.late]

    def insert(self, settings: Settings) -> None:
        """Those that the database knows: devices need a row, and half of the rest have one."""
        known = [user for user in self.everybody if user.streak] + [
            user for user in self.with_devices if not user.streak
        ]
        at, day = utc(NOON - 2 * DAY), local_date(NOON - 2 * DAY, "UTC")
        with psycopg.connect(settings.require_postgres()) as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO users (id, time_zone, streak, last_event_at, last_practice_at, last_active_date, "
                "last_practice_date) VALUES (%s, 'UTC', %s, %s, %s, %s, %s)",
                [
                    (user.id, user.streak, at, at if user.streak else None, day, day if user.streak else None)
                    for user in known
                ],
            )
            cursor.executemany(
                "INSERT INTO devices (user_id, device_id, platform, token, registered_at) "
                "VALUES (%s, 'phone', 'ios', %s, %s)",
                [(user.id, token_of(user.id), at) for user in self.with_devices],
            )

    # What they say.

    def normal(self) -> Iterator[ActivityEvent]:
        """A lesson of everybody's, yesterday."""
        for user in self.everybody:
            yield from user.lesson(user.yesterday)

    def today(self) -> Iterator[list[ActivityEvent]]:
        """The surge, group by group, each event once; those who are about to be reminded last."""
        for group in (self.leaving, *_groups(self.crowd), self.late):
            # Who is leaving opens the app and starts a lesson.
            said = 2 if group is self.leaving else 3
            yield [event for user in group for event in user.lesson(NOON - 5 * MINUTE)[:said]]

    def surge(self) -> Iterator[ActivityEvent]:
        """As impatient producers send it: each group ten times, and at its end yesterday's lessons once more."""
        for group in self.today():
            for _ in range(COPIES):
                yield from group
            known = {event.user_id for event in group}
            yield from (event for user in self.everybody if user.id in known for event in user.lesson(user.yesterday))

    # What must be known afterwards.

    def rows(self) -> set[tuple[int, int, date, date]]:
        """id, streak, last practice's date, last active date."""
        practising, silent = set(self.practising), set(self.silent)
        return {
            (
                user.id,
                user.streak + 1 + (user in practising),
                TODAY if user in practising else YESTERDAY,
                YESTERDAY if user in silent else TODAY,
            )
            for user in self.everybody
        }

    def due(self, quiet: QuietHours) -> dict[str, dict[int, int]]:
        """Kind -> user -> when: the fold of each event once, without the reminders that were fired."""
        once = [*self.normal(), *(event for group in self.today() for event in group)]
        lessons = effects_of(once, {}, "UTC").practised(quiet)
        silent = {user.id for user in self.silent}
        return {
            "practice": {one.user_id: int(one.practice_due or 0) for one in lessons if one.user_id not in silent},
            "streak_saver": {one.user_id: int(one.streak_saver_due or 0) for one in lessons},
            "abandoned_lesson": {},
        }


def _groups(users: list[User]) -> Iterator[list[User]]:
    for start in range(0, len(users), _TOGETHER):
        yield users[start : start + _TOGETHER]


def records(settings: Settings, events: Iterator[ActivityEvent]) -> list[Record]:
    topic = Topics.of(settings).activity
    return [Record(topic, str(event.user_id).encode(), encode_event(event)) for event in events]


def due_index(redis: Redis) -> dict[str, dict[int, int]]:
    """All of it: kind -> user -> when."""
    found: dict[str, dict[int, int]] = {}
    for kind in DUE_KINDS:
        of_kind = found[kind.name] = {}
        for shard in range(SHARDS):
            members: Any = redis.zrange(due_key(shard, kind), 0, -1, withscores=True)
            of_kind |= {int(user): int(due) for user, due in members}
    return found


def practised(redis: Redis, settings: Settings, users: Sequence[User], day: date) -> set[int]:
    """Those whom the gate knows to have practised on a date."""
    pipeline = redis.pipeline(transaction=False)
    for user in users:
        bucket = bucket_of(user.id, settings.gate_bucket_bits)
        pipeline.hget(bucket_key(shard_of(user.id), bucket, day), str(user.id))
    return {user.id for user, found in zip(users, pipeline.execute(), strict=True) if value.practised(int(found or 0))}


class Backlog:
    """What the stream workers have not committed, asked of the brokers through librdkafka."""

    def __init__(self, settings: Settings) -> None:
        topic = Topics.of(settings).activity
        self._partitions = [TopicPartition(topic, n) for n in range(settings.partitions)]
        group = group_of("stream", settings.topic_prefix)
        self._consumer = Consumer(
            {"bootstrap.servers": settings.require_kafka(), "group.id": group, "enable.auto.commit": False}
        )

    def close(self) -> None:
        self._consumer.close()

    def lag(self) -> int:
        behind = 0
        for place in self._consumer.committed(self._partitions, timeout=10):
            _, end = self._consumer.get_watermark_offsets(place, timeout=10) or (0, 0)
            behind += end - max(0, place.offset)
        return behind
