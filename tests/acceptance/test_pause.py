"""Pauses and `inspect`, seen from outside: commands typed beside running workers, pushes counted at the simulator."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path as File
from typing import Any

import psycopg
from confluent_kafka import Producer as ForeignProducer

from shared import outbox
from shared.clock import FileClock
from shared.gate import RedisGate
from shared.gate.keys import bucket_key
from shared.identity import bucket_of, shard_of
from shared.planning import Planner
from shared.policy.kinds import Path
from shared.producer import Producer
from shared.topics import Topics, count_messages
from shared.wire.sends import Send, Target
from tests.acceptance.conftest import Engine, wait_for
from tests.conftest import NOON, connect_redis

TODAY = datetime.fromtimestamp(NOON, UTC).date()
HOUR = 3600.0
IN_FORCE = 2.0
"""Seconds that a pause may take to be in force everywhere."""
ANA, RUI, EVA = 4_242_424_242, 77, 9_007_199_254_740_993


def token(user: int) -> str:
    return f"{user:064x}"


def produce(engine: Engine, *events: dict[str, Any]) -> None:
    """Send events as any producer would."""
    producer = ForeignProducer({"bootstrap.servers": engine.settings.require_kafka()})
    for event in events:
        key = str(event["user_id"]).encode()
        producer.produce(f"{engine.settings.topic_prefix}activity.events", value=json.dumps(event).encode(), key=key)
    assert producer.flush(30) == 0


def event(what: str, user: int, at: float, **more: str) -> dict[str, Any]:
    when = datetime.fromtimestamp(at, UTC).isoformat()
    return {"type": what, "user_id": user, "at": when, "time_zone": "Europe/Lisbon"} | more


def started(user: int, at: float) -> tuple[dict[str, Any], ...]:
    """Somebody with an iPhone who starts a lesson: after half an hour that is a reminder."""
    device = event("device_registered", user, at - 60, device_id="phone", platform="ios", token=token(user))
    return device, event("lesson_started", user, at)


def rows(engine: Engine, query: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(engine.settings.require_postgres()) as connection:
        return connection.execute(query, values or None).fetchall()


def ended(engine: Engine, user: int) -> str:
    """The result in the ledger, once it is there."""
    found = rows(engine, "SELECT reason FROM ledger WHERE user_id = %s", user)
    return found[0][0] if found else ""


def value_at_gate(engine: Engine, user: int) -> int:
    bits = engine.settings.gate_bucket_bits

    async def read() -> int:
        async with connect_redis(engine.settings) as redis:
            return int(await redis.hget(bucket_key(shard_of(user), bucket_of(user, bits), TODAY), str(user)) or 0)

    return asyncio.run(read())


def known(engine: Engine, *users: int) -> None:
    """Wait until the stream worker has put these users' devices into the database, the last thing it does."""
    query = "SELECT count(*) FROM devices WHERE user_id = ANY(%s)"
    wait_for(lambda: rows(engine, query, list(users)) == [(len(users),)], "the users in the database")


def parked(engine: Engine) -> int:
    return asyncio.run(count_messages(engine.settings, Topics.of(engine.settings).parked))


def test_a_paused_kind_is_neither_claimed_nor_delivered_and_only_goes_out_in_time(
    engine: Engine, clock: FileClock, tmp_path: File
) -> None:
    produce(engine, *started(ANA, NOON - 30))
    known(engine, ANA)
    engine.surnia("pause", "--kind", "abandoned_lesson", "--reason", "the text is wrong")
    clock.set(NOON + HOUR / 2)
    log = tmp_path / "state" / "stream.log"
    wait_for(lambda: "paused reminders stay in the due index" in log.read_text(), "the worker to hold it back")
    assert value_at_gate(engine, ANA) == 0
    assert not engine.simulator.pushes(token(ANA))

    # In time: it is due for an hour.
    clock.set(NOON + HOUR)
    engine.surnia("resume", "--kind", "abandoned_lesson", "--reason", "mended")
    (push,) = wait_for(lambda: engine.simulator.pushes(token(ANA)), "the push of the resumed kind")
    assert push["kind"] == "abandoned_lesson"

    produce(engine, *started(RUI, NOON + HOUR))
    known(engine, RUI)
    engine.surnia("pause", "--kind", "abandoned_lesson", "--reason", "wrong again")
    clock.set(NOON + 1.5 * HOUR)
    wait_for(lambda: log.read_text().count("paused reminders stay") >= 2, "the worker to hold the second one back")
    clock.set(NOON + 2.5 * HOUR)
    wait_for(lambda: ended(engine, RUI) == "expired", "the one that was paused for too long to be expired")
    engine.surnia("resume", "--all", "--reason", "mended")
    found = engine.audit(TODAY.isoformat())
    assert found["holds"], found
    assert not engine.simulator.pushes(token(RUI)), "none late"
    assert engine.simulator.stats()["accepted"] == 1


def test_what_is_on_its_way_to_a_paused_provider_is_parked_and_goes_out_in_time_or_expires(
    engine: Engine, clock: FileClock
) -> None:
    """All are claimed before the pause; delivery finds them after it."""
    engine.stop("delivery")
    produce(engine, *started(ANA, NOON - 30), *started(RUI, NOON - 30))
    known(engine, ANA, RUI)
    clock.set(NOON + HOUR / 2)
    wait_for(lambda: value_at_gate(engine, ANA) and value_at_gate(engine, RUI), "the claims")
    engine.surnia("pause", "--provider", "apns", "--reason", "Apple is on fire")
    engine.start("delivery")
    wait_for(lambda: parked(engine), "the sends to be parked")
    assert engine.simulator.stats()["accepted"] == 0
    engine.surnia("resume", "--provider", "apns", "--reason", "it is out")
    wait_for(lambda: engine.simulator.pushes(token(ANA)) and engine.simulator.pushes(token(RUI)), "the pushes")

    engine.stop("delivery")
    clock.set(NOON + HOUR)
    produce(engine, *started(EVA, NOON + HOUR))
    known(engine, EVA)
    clock.set(NOON + 1.5 * HOUR)
    wait_for(lambda: value_at_gate(engine, EVA), "the claim")
    before = parked(engine)
    engine.surnia("pause", "--provider", "apns", "--reason", "again")
    engine.start("delivery")
    wait_for(lambda: parked(engine) > before, "the send to be parked")
    clock.set(NOON + 2.5 * HOUR)
    wait_for(lambda: ended(engine, EVA) == "expired", "the one that was paused for too long to be expired")
    found = engine.audit(TODAY.isoformat())
    assert found["holds"], found
    assert not engine.simulator.pushes(token(EVA))
    assert engine.simulator.stats()["accepted"] == 2


class Flow(threading.Thread):
    """Plans sends of fresh users one by one and watches the provider, noting when each of them last went on."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(daemon=True)
        self.engine = engine
        self.ending = threading.Event()
        self.granted: list[float] = []
        self.paused: list[float] = []
        self.accepted: list[tuple[float, int]] = [(0.0, 0)]

    def run(self) -> None:
        asyncio.run(self._plan())

    def watch(self) -> int:
        """How many pushes the provider has accepted by now."""
        accepted = int(self.engine.simulator.stats()["accepted"])
        if accepted > self.accepted[-1][1]:
            self.accepted.append((time.monotonic(), accepted))
        return accepted

    async def _plan(self) -> None:
        settings = self.engine.settings
        gate, producer = RedisGate.connect(settings), Producer(settings)
        planner = Planner(Path.stream, gate, producer, settings, settings.clock())
        connection = await psycopg.AsyncConnection.connect(settings.require_postgres(), autocommit=True)
        try:
            for user in count(10**9):
                if self.ending.is_set():
                    return
                page = await planner.write(connection, [_send(user)], [])
                (self.paused if page.paused else self.granted).append(time.monotonic())
                if page.id is not None:
                    await outbox.delete(connection, page.id)
        finally:
            await connection.close()
            await producer.close()
            await gate.close()


def _send(user: int) -> Send:
    return Send(
        user_id=user, kind="practice", local_date=TODAY, due_at=NOON, expires_at=NOON + HOUR, time_zone="UTC",
        locale="en", streak=3, silent_days=1, targets=(Target("phone", "ios", token(user)),),
    )  # fmt: skip


def test_a_pause_is_in_force_within_two_seconds_for_claims_and_deliveries(engine: Engine) -> None:
    flow = Flow(engine)
    flow.start()
    try:
        wait_for(lambda: flow.watch() >= 50, "sends to flow")
        began = time.monotonic()
        engine.surnia("pause", "--reason", "stop everything")
        returned = time.monotonic()
        wait_for(lambda: flow.watch() >= 0 and time.monotonic() > returned + IN_FORCE, "the time that it may take")
        stopped = flow.watch()
        # From here on nothing may move: as many claims are asked for as flowed before.
        asked = len(flow.paused)
        wait_for(lambda: flow.watch() >= 0 and len(flow.paused) >= asked + 50, "more claims to be asked for")
        assert flow.watch() == stopped
        claims, deliveries = flow.granted[-1] - returned, flow.accepted[-1][0] - returned
        print(
            f"\nthe command took {returned - began:.2f} s; counted from its return the last claim was granted after "
            f"{claims:+.3f} s, the last push accepted after {deliveries:+.3f} s "
            f"({len(flow.granted)} granted, {stopped} delivered)"
        )
        assert claims < IN_FORCE
        assert deliveries < IN_FORCE
        engine.surnia("resume", "--reason", "go on")
        wait_for(lambda: flow.watch() >= stopped + 50, "sends to flow again")
    finally:
        flow.ending.set()
        flow.join()
    wait_for(lambda: flow.watch() >= len(flow.granted), "every granted send at the provider")
    found = engine.audit(TODAY.isoformat())
    assert found["holds"], found
    assert flow.watch() == len(flow.granted)


def test_inspect_explains_one_who_practised_one_who_was_capped_and_one_who_was_reminded(
    engine: Engine, clock: FileClock
) -> None:
    """All three practised yesterday at this time, in Kolkata, where it is 17:30 now."""
    yesterday = datetime.fromtimestamp(NOON, UTC) - timedelta(days=1)
    with psycopg.connect(engine.settings.require_postgres()) as connection:
        for user in (ANA, RUI, EVA):
            connection.execute(
                "INSERT INTO users (id, time_zone, last_event_at, last_active_date, last_practice_at, "
                "last_practice_date, streak) VALUES (%s, 'Asia/Kolkata', %s, %s, %s, %s, 4)",
                (user, yesterday, yesterday.date(), yesterday, yesterday.date()),
            )
            connection.execute(
                "INSERT INTO devices (user_id, device_id, platform, token, registered_at) "
                "VALUES (%s, 'phone', 'ios', %s, %s)",
                (user, token(user), yesterday),
            )

    def outcomes(n: int) -> None:
        wait_for(lambda: rows(engine, "SELECT count(*) FROM ledger") == [(n,)], f"{n} outcomes in the ledger")

    # Ana practises and starts another lesson; Eva only starts one.
    lessons = [("lesson_completed", ANA, NOON - HOUR), ("lesson_started", ANA, NOON - 1700)]
    lessons.append(("lesson_started", EVA, NOON - 1700))
    produce(engine, *(event(*lesson, time_zone="Asia/Kolkata") for lesson in lessons))
    query = "SELECT count(*) FROM users WHERE last_event_at >= to_timestamp(%s)"
    wait_for(lambda: rows(engine, query, NOON - 1700) == [(2,)], "their lessons in the database")
    # Practice reminders of the other two, 23.5 h after they practised; then the abandoned lessons; then at 22:00 there
    # the streak savers of the other two, the third of the day for Eva.
    engine.surnia("due", "rebuild")
    outcomes(2)
    clock.set(NOON + 120)
    outcomes(4)
    clock.set(NOON + 4.5 * HOUR + 1)
    outcomes(6)
    told = {user: engine.surnia("inspect", str(user)) for user in (ANA, EVA, RUI)}
    print("\n" + "\n".join(told.values()))
    assert "17:31:40 UTC+05:30  abandoned_lesson (stream): denied: the user practised that day" in told[ANA]
    assert (
        "22:00:00 UTC+05:30  streak_saver (stream): denied: the daily cap of 2 was reached by "
        "practice (stream) and abandoned_lesson (stream)" in told[EVA]
    )
    assert "17:00:00 UTC+05:30  practice (stream): granted and delivered: apns accepted it in" in told[RUI]
    found = json.loads(engine.surnia("inspect", str(RUI), "--json"))
    assert [(one["kind"], one["result"]) for one in found["candidates"]] == [
        ("practice", "delivered"), ("streak_saver", "delivered"),
    ]  # fmt: skip
    assert all(one["provider"] == "apns" and one["latency_ms"] > 0 for one in found["candidates"])
