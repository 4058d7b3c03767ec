"""Somebody wants to be forgotten: an event, and nothing of them is left or arrives, on the real stack."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from shared.clock import FileClock
from shared.gate.value import ERASED
from shared.settings import Settings
from shared.topics import Topics, count_messages
from tests.acceptance.conftest import Engine, wait_for
from tests.conftest import NOON
from tests.integration.erasures import in_redis, proofs, traces
from tests.integration.support import DAY, HOUR, TODAY, sql, token_of

ANA, RUI = 4_242_424_242, 9_007_199_254_740_993
"""Who is deleted, and who stays."""


def registered(user: int) -> dict[str, Any]:
    return {"type": "device_registered", "device_id": "phone", "platform": "ios", "token": token_of(user)}


def parked(settings: Settings) -> int:
    return asyncio.run(count_messages(settings, Topics.of(settings).parked))


def pushes(engine: Engine, user: int) -> list[str]:
    return [push["kind"] for push in engine.simulator.pushes(token_of(user))]


def test_a_deleted_user_gets_nothing_more_and_is_nowhere_to_be_found(engine: Engine, clock: FileClock) -> None:
    settings = engine.settings
    started, completed, deleted = ({"type": what} for what in ("lesson_started", "lesson_completed", "user_deleted"))

    # A history: a reminder that arrived, yesterday.
    clock.set(NOON - DAY)
    for user in (ANA, RUI):
        engine.produce(NOON - DAY, user, registered(user), started)
    query = "SELECT count(*) FROM devices WHERE user_id = ANY(%s)"
    wait_for(lambda: sql(settings, query, [ANA, RUI]) == [(2,)], "the users in the database")
    clock.set(NOON - DAY + HOUR / 2)
    wait_for(lambda: [pushes(engine, user) for user in (ANA, RUI)] == [["abandoned_lesson"]] * 2, "yesterday's pushes")
    wait_for(lambda: sql(settings, "SELECT count(*) FROM ledger") == [(2,)], "yesterday's rows of the ledger")

    # One that is due tomorrow, and one that is parked: its provider is paused.
    for user in (ANA, RUI):
        engine.produce(NOON - DAY + HOUR / 2, user, completed)
    clock.set(NOON - HOUR)
    for user in (ANA, RUI):
        engine.produce(NOON - HOUR, user, started)
    engine.surnia("pause", "--provider", "apns", "--reason", "Apple is on fire")
    clock.set(NOON - HOUR / 2)
    wait_for(lambda: sql(settings, "SELECT count(*) FROM planned WHERE local_date = %s", TODAY)[0][0], "today's page")
    wait_for(lambda: parked(settings), "a send to be parked")
    assert {"users", "devices", "ledger_20261120", "planned_20261121"} <= set(traces(settings, ANA))
    assert asyncio.run(in_redis(settings, ANA))

    engine.produce(NOON - HOUR / 2, ANA, deleted)
    wait_for(lambda: proofs(settings), "the proof of the erasure")
    assert traces(settings, ANA) == []
    assert set(asyncio.run(in_redis(settings, ANA)).values()) == {str(ERASED).encode()}
    engine.surnia("inspect", str(ANA), code=4)

    # Whatever was on its way goes on now: one arrives, the other is dropped.
    engine.surnia("resume", "--provider", "apns", "--reason", "it is out")
    wait_for(lambda: len(pushes(engine, RUI)) == 2, "the push of who stays")
    for day in ("2026-11-20", "2026-11-21"):
        found = engine.audit(day)
        assert found["holds"], found
    # And what was due later than that.
    clock.set(NOON + HOUR)
    wait_for(lambda: len(pushes(engine, RUI)) == 3, "the next push of who stays")
    assert pushes(engine, ANA) == ["abandoned_lesson"]
    assert traces(settings, ANA) == []
    assert set(asyncio.run(in_redis(settings, ANA)).values()) == {str(ERASED).encode()}
    engine.surnia("inspect", str(ANA), code=4)
    engine.surnia("inspect", str(RUI))
    endings = sql(settings, "SELECT result, reason FROM ledger WHERE user_id < 0 ORDER BY local_date")
    assert [reason for _, reason in endings] == ["accepted", "opted_out"]

    (proof,) = json.loads(engine.surnia("users", "erased", "--json"))["erasures"]
    assert (proof["users"], proof["devices"], proof["due_entries"], proof["ledger_rows"]) == (1, 1, 2, 1)
    assert proof["gate_fields"]
    assert proof["planned_entries"] == 2
    log = (settings.state_dir / "stream.log").read_text()
    assert "users were erased" in log
    assert str(ANA) not in log
    assert token_of(ANA) not in log
