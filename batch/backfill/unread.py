"""What the stream path has not read yet: who practised meanwhile is marked at the gate before anybody is reminded.

The stream path does that with every event, before it fires. Where it is down, its events wait in Kafka, and a backfill
of its reminders would reach people who practised an hour ago.
"""

from __future__ import annotations

from datetime import date

from shared.gate import Gate
from shared.policy.localtime import UnknownTimeZoneError, local_date
from shared.settings import Settings
from shared.tails import TailReader, between
from shared.topics import Topics
from shared.wire.events import BadEventError, LessonCompleted, decode_event

_AT_ONCE = 10_000


async def count_unread(settings: Settings) -> int:
    """Activity events that no stream worker has committed."""
    topic = Topics.of(settings).activity
    async with TailReader(settings) as reader:
        return between(await reader.committed("stream", topic), await reader.ends(topic))


async def mark_unread(settings: Settings, gate: Gate) -> tuple[int, int]:
    """Mark who practised in the unread events; how many were read, and how many marks they gave. Harmless to repeat."""
    topic = Topics.of(settings).activity
    read = marked = 0
    async with TailReader(settings) as reader:
        starts, ends = await reader.committed("stream", topic), await reader.ends(topic)
        async for records in reader.read(starts, ends, _AT_ONCE):
            read += len(records)
            marks: set[tuple[int, date]] = set()
            for record in records:
                if mark := _mark(record.value, settings):
                    marks.add(mark)
            await gate.practised(sorted(marks))
            marked += len(marks)
    return read, marked


def _mark(value: bytes | None, settings: Settings) -> tuple[int, date] | None:
    try:
        event = decode_event(value or b"", settings.clock().now())
        if not isinstance(event, LessonCompleted):
            return None
        return event.user_id, local_date(event.instant, event.time_zone or settings.default_time_zone)
    except (BadEventError, UnknownTimeZoneError):
        return None  # A stream worker will put it with the dead letters.
