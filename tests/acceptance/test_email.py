"""E-mails of the running engine: events in on one side, a mail server on the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trustme

from infra.simulator.engine_settings import engine_settings
from infra.simulator.process import SimulatorProcess
from shared.clock import FileClock, utc
from shared.policy.kinds import ABANDONED_LESSON
from shared.policy.window import QuietHours, expires_at
from shared.topics import Topics
from tests.acceptance.conftest import Engine, wait_for
from tests.conftest import NOON
from tests.integration.mailserver import HOST, MailServer, serving
from tests.integration.support import sends_in, sql

HALF_AN_HOUR = 1800.0


@pytest.fixture
def server() -> MailServer:
    return MailServer()


@pytest.fixture
def engine(environment: dict[str, str], tmp_path: Path, server: MailServer) -> Iterator[Engine]:
    """As for other tests, with a mail server beside the simulator."""
    folder, ca = tmp_path / "state", trustme.CA()
    with SimulatorProcess(folder, environment=environment) as simulator, serving(server, ca) as port:
        environment |= engine_settings(folder, simulator.url)
        bundle = tmp_path / "all.pem"
        bundle.write_bytes(Path(environment["SURNIA_CA_FILE"]).read_bytes() + ca.cert_pem.bytes())
        environment |= {
            "SURNIA_CA_FILE": str(bundle),
            "SURNIA_SMTP_HOST": HOST,
            "SURNIA_SMTP_PORT": str(port),
            "SURNIA_EMAIL_FROM": "Surnia <reminders@surnia.example>",
            "SURNIA_UNSUBSCRIBE_URL": "https://app.example.com/unsubscribe",
            "SURNIA_UNSUBSCRIBE_KEYS": "k" * 32,
        }
        engine = Engine(simulator, environment, folder)
        try:
            engine.start("stream", "delivery", "ledger")
            yield engine
        finally:
            engine.kill()


def wants(user: int, **more: Any) -> dict[str, Any]:
    return {"type": "preferences_changed", "email": f"user{user}@example.com", **more}


def ended(engine: Engine, user: int) -> list[tuple[Any, ...]]:
    return sql(engine.settings, "SELECT reason, provider FROM ledger WHERE user_id = %s", user)


STARTED = {"type": "lesson_started"}
DEVICE = {"type": "device_registered", "device_id": "phone", "platform": "ios"}


def test_who_cannot_be_pushed_to_gets_an_e_mail(engine: Engine, server: MailServer, clock: FileClock) -> None:
    engine.produce(NOON - 60, 1, wants(1), STARTED)
    engine.produce(NOON - 60, 2, wants(2, email_opted_out=True), STARTED)
    engine.produce(NOON - 60, 3, wants(3), DEVICE | {"token": "ab" * 32}, STARTED)
    query = "SELECT count(*) FROM users WHERE email IS NOT NULL"
    wait_for(lambda: sql(engine.settings, query) == [(3,)], "the users in the database")
    clock.set(NOON + HALF_AN_HOUR)
    wait_for(lambda: all(ended(engine, user) for user in (1, 2, 3)), "their outcomes")
    assert [ended(engine, user) for user in (1, 2, 3)] == [
        [("accepted", "smtp")],
        [("no_device", "")],
        [("accepted", "apns")],
    ]
    assert server.recipients() == ["user1@example.com"]

    # Whose only device is gone, that is: once the worker has had its partitions for long enough to know that nobody
    # else can have pushed it.
    users = count(10)
    engine.simulator.set_faults({"provider": "apns", "percent": 100, "status": 410, "reason": "Unregistered"})

    def another_is_mailed() -> bool:
        user, now = next(users), clock.now()
        # Due in a second: hours must not pass, for soon it would be night.
        engine.produce(now - HALF_AN_HOUR + 1, user, wants(user), DEVICE | {"token": f"{user:064x}"}, STARTED)
        known = "SELECT count(*) FROM users JOIN devices ON user_id = id WHERE id = %s AND email IS NOT NULL"
        wait_for(lambda: sql(engine.settings, known, user) == [(1,)], "the user in the database")
        clock.set(now + 2)
        wait_for(lambda: ended(engine, user), "the outcome")
        return ended(engine, user) == [("accepted", "smtp")]

    assert wait_for(another_is_mailed, "an e-mail in the place of a push", seconds=180)
    assert len(server.mails) == 2

    # Whose only provider is open waits for it, and gets an e-mail when its window is about to end.
    engine.surnia("providers", "force-open", "apns", "--reason", "a test")
    user, due = next(users), clock.now() + 1
    engine.produce(due - HALF_AN_HOUR, user, wants(user), DEVICE | {"token": f"{user:064x}"}, STARTED)
    known = "SELECT count(*) FROM users JOIN devices ON user_id = id WHERE id = %s AND email IS NOT NULL"
    wait_for(lambda: sql(engine.settings, known, user) == [(1,)], "the user in the database")
    clock.set(due + 1)
    parked = Topics.of(engine.settings).parked
    wait_for(lambda: asyncio.run(sends_in(engine.settings, parked)), "the send to be parked")
    assert not ended(engine, user)
    window_ends = expires_at(ABANDONED_LESSON, due, "Europe/Lisbon", QuietHours.of(engine.settings))
    clock.set(window_ends - engine.settings.email_last_minutes * 60 + 1)
    wait_for(lambda: ended(engine, user), "its outcome")
    assert ended(engine, user) == [("accepted", "smtp")]
    engine.surnia("providers", "reset", "apns")

    # A click on the link in the last one ends it.
    link = server.messages()[-1]["List-Unsubscribe"].strip("<>")
    assert "no more e-mails" in engine.surnia("events", "unsubscribe", link)
    engine.surnia("events", "unsubscribe", "A" * 32, code=1)
    query = "SELECT count(*) FROM users WHERE email_opted_out"
    wait_for(lambda: sql(engine.settings, query) == [(2,)], "the choice in the database")
    day = utc(NOON).date().isoformat()
    assert engine.audit(day)["holds"]
