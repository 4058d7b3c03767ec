"""What a careful user would write with Faust as it comes: one event after the other, each with a pipeline of Redis.

The same work as ours: who practised is marked for the local date, the reminders that follow are scheduled, timers of
lessons that were finished are forgotten, and a user's row is written at most once an hour. `python -m` it with a port
for its count of events.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import faust
import msgspec
from prometheus_client import Counter, start_http_server
from psycopg_pool import AsyncConnectionPool
from redis.asyncio import Redis

_HANDLED = Counter("surnia_events", "Events that were handled")
_KEEP = 96 * 3600


def main(port: int) -> None:
    topic, group = os.environ["BENCH_TOPIC"], os.environ["BENCH_GROUP"]
    app = faust.App(
        group, broker=f"kafka://{os.environ['SURNIA_KAFKA_BROKERS']}", store="memory://", topic_allow_declare=False,
        topic_disable_leader=True, consumer_auto_offset_reset="earliest", web_enabled=False,
        datadir=os.environ["BENCH_FOLDER"],
    )  # fmt: skip
    events = app.topic(topic, key_serializer="raw", value_serializer="raw", value_type=bytes)
    redis = Redis.from_url(os.environ["SURNIA_REDIS_URL"])
    pool = AsyncConnectionPool(os.environ["SURNIA_POSTGRES_URL"], open=False, min_size=1, max_size=4)
    decode = msgspec.json.decode

    @app.task  # type: ignore[untyped-decorator]  # Faust says Callable
    async def opened() -> None:
        await pool.open()

    @app.agent(events)
    async def handle(stream: faust.StreamT[bytes]) -> None:
        async for value in stream:
            event = decode(value)
            user, at = event["user_id"], datetime.fromisoformat(event["at"])
            local = at.astimezone(ZoneInfo(event["time_zone"]))
            practised = event["type"] == "lesson_completed"
            pipeline = redis.pipeline(transaction=False)
            if practised:
                evening = (local + timedelta(days=1)).replace(hour=22, minute=0, second=0, microsecond=0)
                pipeline.set(f"practised:{user}:{local.date()}", 1, ex=_KEEP)
                pipeline.zadd("due:practice", {str(user): at.timestamp() + 84_600}, gt=True)
                pipeline.zadd("due:streak_saver", {str(user): evening.timestamp()}, gt=True)
                pipeline.zrem("due:abandoned_lesson", str(user))
            elif event["type"] == "lesson_started":
                pipeline.zadd("due:abandoned_lesson", {str(user): at.timestamp() + 1_800}, gt=True)
            pipeline.set(f"written:{user}:{practised}", 1, nx=True, ex=3600)
            if (await pipeline.execute())[-1]:
                day = local.date() if practised else None
                async with pool.connection() as connection:
                    await connection.execute(
                        "UPDATE users SET last_event_at = greatest(last_event_at, %s), last_active_date = %s, "
                        "last_practice_at = greatest(last_practice_at, %s), "
                        "streak = CASE WHEN last_practice_date = %s THEN streak ELSE streak + 1 END, "
                        "last_practice_date = coalesce(%s, last_practice_date), time_zone = %s WHERE id = %s",
                        (at, local.date(), at if practised else None, day, day, event["time_zone"], user),
                    )
            _HANDLED.inc()

    start_http_server(port, "127.0.0.1")
    worker = faust.Worker(app, loglevel="WARN", quiet=True, redirect_stdouts=False)
    worker.spinner = None
    worker.execute_from_commandline()


if __name__ == "__main__":
    main(int(sys.argv[1]))
