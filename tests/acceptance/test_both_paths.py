"""What the engine is for, seen from outside: events in by a foreign client, pushes out at the simulator."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition

from shared.clock import FileClock
from shared.wire.dead_letters import DeadLetter, decode_dead_letter
from tests.acceptance.conftest import Engine, wait_for
from tests.conftest import NOON

TOKEN = "ab" * 32
USER = 4_242_424_242
TODAY = "2026-11-21"


def iso(instant: float) -> str:
    return datetime.fromtimestamp(instant, UTC).isoformat()


def produce(engine: Engine, *events: dict[str, object] | bytes, user: int = USER) -> None:
    """Send events with librdkafka, as any producer would: it shares no line with our own client."""
    producer = Producer({"bootstrap.servers": engine.settings.require_kafka(), "message.max.bytes": 2_000_000})
    for event in events:
        value = event if isinstance(event, bytes) else json.dumps(event).encode()
        producer.produce(f"{engine.settings.topic_prefix}activity.events", value=value, key=str(user).encode())
    assert producer.flush(30) == 0


def device(at: float, token: str = TOKEN) -> dict[str, object]:
    return {
        "type": "device_registered", "user_id": USER, "at": iso(at), "time_zone": "Europe/Lisbon",
        "device_id": "phone", "platform": "ios", "token": token,
    }  # fmt: skip


def lesson(what: str, at: float) -> dict[str, object]:
    return {"type": what, "user_id": USER, "at": iso(at), "time_zone": "Europe/Lisbon"}


def written(engine: Engine, query: str) -> object:
    with psycopg.connect(engine.settings.require_postgres()) as connection:
        row = connection.execute(query).fetchone()
        return row[0] if row else None


def test_an_abandoned_lesson_that_a_foreign_client_reported_becomes_a_push(engine: Engine, clock: FileClock) -> None:
    produce(engine, device(NOON - 60), lesson("lesson_started", NOON - 30))
    wait_for(lambda: written(engine, "SELECT count(*) FROM users"), "the user in the database")
    assert not engine.simulator.pushes(TOKEN)

    clock.set(NOON + 30 * 60)
    (push,) = wait_for(lambda: engine.simulator.pushes(TOKEN), "the push at the simulator")
    assert push["kind"] == "abandoned_lesson"

    found = engine.audit(TODAY)
    assert found["holds"]
    (account,) = found["accounts"]
    assert (account["path"], account["kind"], account["delivered"]) == ("stream", "abandoned_lesson", 1)


def test_who_practised_a_minute_before_the_scan_gets_nothing_although_the_database_says_silent(
    engine: Engine, clock: FileClock
) -> None:
    """Both users stand on the ladder's first rung; one practises, and its write-back is kept from the database."""
    other, other_token = USER + 1, "cd" * 32
    evening = NOON + 6 * 3600  # 18:00 in Lisbon, the send hour
    last = datetime.fromtimestamp(NOON, UTC) - timedelta(days=7)
    with psycopg.connect(engine.settings.require_postgres()) as connection:
        for user, token in ((USER, TOKEN), (other, other_token)):
            connection.execute(
                "INSERT INTO users (id, time_zone, last_event_at, last_active_date) "
                "VALUES (%s, 'Europe/Lisbon', %s, %s)",
                (user, last, last.date()),
            )
            connection.execute(
                "INSERT INTO devices (user_id, device_id, platform, token, registered_at) "
                "VALUES (%s, 'phone', 'ios', %s, %s)",
                (user, token, last),
            )
    clock.set(evening - 60)
    with psycopg.connect(engine.settings.require_postgres()) as silent:
        # A lock stands for a replica that is hours behind: the write-back waits, reads go on.
        silent.execute("SELECT FROM users WHERE id = %s FOR UPDATE", (USER,))
        produce(engine, lesson("lesson_completed", evening - 60))
        wait_for(lambda: practised(engine), "the mark at the gate")
        clock.set(evening + 3600)
        out = json.loads(engine.surnia("scan", "--from", iso(evening)[:19], "--to", iso(evening + 3600)[:19], "--json"))
    assert out["candidates"] == 2
    assert out["granted"] == 1
    assert out["denied"] == {"practised": 1}

    wait_for(lambda: engine.simulator.pushes(other_token), "the push of the one who did not practise")
    assert engine.audit(TODAY)["holds"]
    assert not engine.simulator.pushes(TOKEN)


def practised(engine: Engine) -> bool:
    from redis import Redis

    from shared.gate.keys import bucket_key
    from shared.identity import bucket_of, shard_of

    name = bucket_key(
        shard_of(USER), bucket_of(USER, engine.settings.gate_bucket_bits), datetime.fromtimestamp(NOON, UTC).date()
    )
    with Redis.from_url(engine.settings.require_redis()) as redis:
        value = redis.hget(name, str(USER))
    return bool(int(value or 0) & 1)


def test_hostile_messages_go_to_the_dead_letters_with_their_origin_and_the_partition_goes_on(engine: Engine) -> None:
    hostile: list[dict[str, object] | bytes] = [
        b'{"type": "lesson_completed", "user_id"',
        b"\x00\xff\xfe",
        {"type": "lesson_dreamt", "user_id": USER, "at": iso(NOON)},
        {"type": "app_opened", "user_id": 0, "at": iso(NOON)},
        {"type": "app_opened", "user_id": 2**63, "at": iso(NOON)},
        {"type": "app_opened", "user_id": USER, "at": iso(NOON), "time_zone": "Mars/Olympus_Mons"},
        {"type": "app_opened", "user_id": USER, "at": iso(NOON), "time_zone": "../../etc/passwd"},
        {"type": "app_opened", "user_id": USER, "at": iso(NOON + 301)},
        b'{"pad": "' + b"x" * 1_000_000 + b'"}',
        b"[" * 10_000,
    ]
    produce(engine, *hostile, lesson("app_opened", NOON))
    wait_for(lambda: written(engine, "SELECT count(*) FROM users"), "the good event behind the bad ones")

    topic = f"{engine.settings.topic_prefix}dead.letters"
    consumer = Consumer({"bootstrap.servers": engine.settings.require_kafka(), "group.id": "reader"})
    consumer.assign([TopicPartition(topic, n, 0) for n in range(engine.settings.partitions)])
    letters: list[DeadLetter] = []
    while len(letters) < len(hostile):
        message = consumer.poll(30)
        assert message is not None, f"only {len(letters)} dead letters came"
        assert not message.error()
        letters.append(decode_dead_letter(message.value() or b""))
    consumer.close()
    letters.sort(key=lambda letter: letter.offset)
    assert [letter.reason for letter in letters] == [
        "malformed_json", "malformed_json", "invalid", "invalid", "invalid", "unknown_time_zone", "unknown_time_zone",
        "in_the_future", "too_large", "invalid",
    ]  # fmt: skip
    assert {letter.topic for letter in letters} == {f"{engine.settings.topic_prefix}activity.events"}
    assert len({letter.partition for letter in letters}) == 1
    assert [letter.offset for letter in letters] == list(range(len(hostile)))


def test_a_dead_token_is_retired_and_its_user_is_counted_as_failed(engine: Engine, clock: FileClock) -> None:
    engine.simulator.set_faults({"provider": "apns", "tokens": [TOKEN], "status": 410, "reason": "Unregistered"})
    produce(engine, device(NOON - 60), lesson("lesson_started", NOON - 30))
    wait_for(lambda: written(engine, "SELECT count(*) FROM devices"), "the device in the database")
    clock.set(NOON + 1800)
    wait_for(lambda: written(engine, "SELECT count(*) FROM devices WHERE retired_at IS NOT NULL"), "the retirement")
    (account,) = engine.audit(TODAY)["accounts"]
    assert account["failed"] == {"unregistered": 1}


def test_events_send_checks_every_line_and_sends_the_good_ones(engine: Engine) -> None:
    lines = "\n".join((json.dumps(lesson("app_opened", NOON)), "{oops", json.dumps(lesson("lesson_started", NOON))))
    out = json.loads(engine.surnia("events", "send", "--json", "--dry-run", stdin=lines, code=3))
    assert out == {"sent": 2, "bad": 1, "dry_run": True}
    engine.surnia("events", "send", stdin=lines, code=3)
    wait_for(lambda: written(engine, "SELECT count(*) FROM users"), "the user in the database")
