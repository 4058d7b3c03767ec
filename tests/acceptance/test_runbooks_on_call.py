"""The runbooks of docs/operations.md, typed: each trouble on the real stack, the commands that the page names, and in
the end everybody reminded once or booked as too late. One engine for all, each rehearsal on a day of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from infra.simulator.engine_settings import engine_settings
from infra.simulator.process import SimulatorProcess
from infra.stack import process
from shared.clock import FileClock, utc
from tests.acceptance.conftest import Engine, wait_for
from tests.acceptance.runbooks import DAY, Night, iso
from tests.conftest import environment_in
from tests.integration.support import HOUR, sql, token_of

pytestmark = pytest.mark.timeout(300)

MENDED = "✓ "
"""What the corrected texts begin with."""
STREAM = "--kind practice --kind streak_saver --kind abandoned_lesson"


@pytest.fixture(scope="module")
def night(addresses: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    folder = tmp_path_factory.mktemp("night")
    environment = environment_in(folder, addresses) | {"COLUMNS": "160"}
    state = folder / "state"
    with SimulatorProcess(state, environment=environment) as simulator:
        environment |= engine_settings(state, simulator.url)
        engine = Engine(simulator, environment, state)
        night = Night(engine, FileClock(folder / "clock"))
        try:
            engine.start("stream", "delivery", "ledger")
            yield night
            stats = simulator.stats()
            assert (stats["shown_twice"], stats["outside_window"]) == (0, 0)
        except BaseException:
            for log in state.glob("*.log"):
                print(f"--- {log.name}\n" + "\n".join(process.tail(log, 40)))
            raise
        finally:
            engine.kill()
            if transcript := os.environ.get("RUNBOOK_TRANSCRIPT"):
                Path(transcript).write_text("\n".join(night.transcript) + "\n")


def test_the_stream_path_is_down_for_two_hours(night: Night) -> None:
    in_time, too_late, practised = [101, 102, 103], 104, 105
    noon = night.begin(1)
    engine = night.engine
    night.practised([*in_time, practised], noon - 23.25 * HOUR)  # due at a quarter past noon
    night.practised([too_late], noon - 2 * DAY)
    # Its timer is in the index when the path goes down; of the lesson below nobody has heard then.
    engine.produce(noon, too_late, {"type": "lesson_started"})
    query = "SELECT count(*) FROM users WHERE id = %s AND last_event_at >= to_timestamp(%s)"
    wait_for(lambda: sql(engine.settings, query, too_late, noon) == [(1,)], "the event to be written back")
    engine.stop("stream")
    night.type("surnia due rebuild")
    engine.produce(noon + HOUR, practised, {"type": "lesson_completed"})
    night.clock.set(noon + 2 * HOUR)

    said = night.type("surnia lag", code=1)
    assert "stream has 1 message of" in said
    assert "and no worker runs" in said
    assert "Stream path: 0 workers, 1 message behind" in night.type("surnia status", code=0)
    asked = f"--from {iso(noon)} --to {iso(noon + 2 * HOUR)} {STREAM}"
    assert "1 event waits for a stream worker" in night.type(f"surnia backfill plan {asked}")
    assert "add --yes" in night.type(f"surnia backfill run {asked}", code=5)
    night.type(f"surnia backfill run {asked} --yes --by ana@desk")
    night.shown("practice", in_time)
    night.ledger([too_late], "expired")
    night.ledger([practised], "practised")
    night.type("surnia backfill status")

    # The worker is mended: it reads on, and finds that everybody was reminded.
    engine.start("stream")
    wait_for(lambda: not json.loads(engine.surnia("audit", "--date", iso(noon)[:10], "--json"))["lag"], "the backlog")
    assert "the same was done by ana@desk" in night.type(f"surnia backfill run {asked} --yes --by rui@phone")
    night.accounts_hold(noon)
    assert [night.pushed(user) for user in (*in_time, too_late, practised)] == [["practice"]] * 3 + [[], []]


def test_airflow_is_down_for_a_night(night: Night) -> None:
    noon = night.begin(3)
    evening, morning = noon + 8 * HOUR, noon + 17.5 * HOUR
    new_york, los_angeles, auckland = [201, 202], [203, 204, 205], [206]
    night.silent(new_york, "America/New_York", utc(noon))  # 23:00 UTC; over at 03:00
    night.silent(los_angeles, "America/Los_Angeles", utc(noon))  # 02:00 UTC, the same evening there
    night.silent(auckland, "Pacific/Auckland", utc(noon + DAY))  # 05:00 UTC, the next evening there
    night.clock.set(morning)
    assert "stopped" in night.type("surnia airflow status", code=1)
    asked = f"--from {iso(evening)} --to {iso(morning)} --kind comeback"
    planned = night.type(f"surnia backfill plan {asked}")
    assert "America/New_York" in planned
    assert "past their window" in planned
    night.type(f"surnia backfill run {asked} --rate 50 --yes --by rui@phone")
    night.shown("comeback", [*los_angeles, *auckland])
    night.ledger(new_york, "expired")
    night.type("surnia backfill status 2")
    night.accounts_hold(noon)
    night.accounts_hold(noon + DAY)
    assert not any(night.pushed(user) for user in new_york)


def test_redis_has_lost_everything(night: Night) -> None:
    noon = night.begin(5)
    reminded, waiting, evening = [301, 302], [303, 304], [305]
    night.practised(reminded, noon - 23.6 * HOUR)
    night.practised(waiting, noon - 23.0 * HOUR)  # due at half past noon
    night.practised(evening, noon - 1.2 * DAY)  # nothing but the streak saver of tonight is ahead
    night.type("surnia due rebuild")
    night.shown("practice", reminded)
    with Redis.from_url(night.engine.settings.require_redis()) as redis:
        redis.flushall()
    assert "CLOSED" in night.type("surnia gate status", code=1)
    assert "surnia gate rebuild" in night.type("surnia status", code=1)
    night.clock.set(noon + HOUR)
    night.type("surnia gate rebuild")
    night.type("surnia gate status")
    night.shown("practice", waiting)
    said = night.type(f"surnia backfill plan --from {iso(noon - HOUR)} --to {iso(noon + HOUR)} {STREAM}")
    assert "decided before" in said
    night.accounts_hold(noon)
    assert [night.pushed(user) for user in reminded] == [["practice"]] * 2, "nobody twice, though the claims were lost"


def test_a_provider_is_down(night: Night) -> None:
    noon = night.begin(7)
    users = list(range(400, 440))
    simulator = night.engine.simulator
    simulator.set_faults({"provider": "apns", "reason": "ServiceUnavailable"})
    night.practised(users, noon - 23.6 * HOUR)
    night.type("surnia due rebuild")

    def opened() -> bool:
        done = json.loads(night.engine.typed("providers", "status", "--json", code=-1).stdout)
        night.clock.set(night.clock.now() + 1)
        return any(each["state"] == "open" for each in done["providers"])

    wait_for(opened, "the breaker to open")
    assert "open" in night.type("surnia providers status", code=1)
    night.type('surnia pause --provider apns --reason "Apple has an outage" --by ana@desk')
    assert "provider apns" in night.type("surnia pauses")
    simulator.set_faults()
    night.type('surnia resume --provider apns --reason "Apple says that it is over" --by ana@desk')
    night.type("surnia providers reset apns")

    def arrived() -> bool:
        night.clock.set(night.clock.now() + 1)
        return all(night.pushed(user) for user in users)

    wait_for(arrived, "all that waited")
    night.type("surnia providers status")
    night.accounts_hold(noon)


def test_a_wrong_text_is_being_sent(night: Night, tmp_path: Path) -> None:
    noon = night.begin(9)
    first, rest = [501], [502, 503]
    engine = night.engine
    night.practised(first, noon - 23.6 * HOUR)
    night.practised(rest, noon - 23.25 * HOUR)
    night.type("surnia due rebuild")
    night.shown("practice", first)  # With the wrong text: nothing calls that back.
    night.type('surnia pause --kind practice --reason "the text is wrong"')
    night.clock.set(noon + HOUR)
    release = corrected(tmp_path)
    engine.stop("delivery")
    engine.start("delivery", release=release)
    assert not any(night.pushed(user) for user in rest)
    night.type('surnia resume --kind practice --reason "the right text is deployed"')
    night.shown("practice", rest)
    titles = [night.engine.simulator.pushes(token_of(user))[0]["title"] for user in (*first, *rest)]
    assert [title.startswith(MENDED) for title in titles] == [False, True, True]
    night.accounts_hold(noon)


def corrected(folder: Path) -> Path:
    """A release with other texts."""
    # The folder that a worker is started in comes first: the rest of the engine is where it was.
    shutil.copytree("shared", folder / "shared", ignore=shutil.ignore_patterns("__pycache__"))
    texts = folder / "shared" / "templates" / "en.toml"
    texts.write_text(texts.read_text().replace('title = "', f'title = "{MENDED}'))
    return folder


def test_the_database_is_slow(night: Night) -> None:
    noon = night.begin(11)
    users = [601, 602, 603]
    night.practised(users, noon - 23.25 * HOUR)
    night.type("surnia due rebuild")
    with psycopg.connect(night.engine.settings.require_postgres(), application_name="a report") as culprit:
        culprit.execute("LOCK TABLE devices IN ACCESS EXCLUSIVE MODE")
        night.clock.set(noon + HOUR)
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_for(lambda: sql(night.engine.settings, query) != [(0,)], "a worker to wait for the lock")
        assert "1 wait for locks" in night.type("surnia status")
        assert "practice" in night.type("surnia lag", code=1)
        assert not any(night.pushed(user) for user in users)
        blocked = (
            "SELECT pid, application_name, now() - xact_start AS since, query FROM pg_stat_activity "
            "WHERE pid IN (SELECT unnest(pg_blocking_pids(pid)) FROM pg_stat_activity)"
        )
        ((pid, name, *_),) = sql(night.engine.settings, blocked)
        assert name == "a report"
        sql(night.engine.settings, "SELECT pg_terminate_backend(%s)", pid)
        night.shown("practice", users)
        culprit.close()
    night.accounts_hold(noon)


def test_the_doctor_and_the_lag_name_what_is_dead_within_seconds(night: Night) -> None:
    healthy = json.loads(night.engine.typed("doctor", "--json", code=1).stdout)
    assert {each["part"] for each in healthy["findings"] if each["state"] == "broken"} == set()
    assert {each["part"] for each in healthy["findings"] if each["state"] == "warning"} == {"Airflow", "Configuration"}
    with socket.create_server(("127.0.0.1", 0)) as mute:
        # It takes connections and never says a word.
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        dead = {
            "SURNIA_KAFKA_BROKERS": address,
            "SURNIA_REDIS_URL": f"redis://{address}/0",
            "SURNIA_POSTGRES_URL": f"postgresql://nobody@{address}/nothing",
        }
        engine = Engine(night.engine.simulator, night.engine.environment | dead, Path())
        began = time.monotonic()
        found = json.loads(engine.typed("doctor", "--json", code=2).stdout)
        lag = json.loads(engine.typed("lag", "--json", code=2).stdout)
        assert time.monotonic() - began < 30, "two commands, each 3 s and its start"
    broken = {each["part"]: each for each in found["findings"] if each["state"] == "broken"}
    assert broken.keys() == {"PostgreSQL", "Redis", "Kafka"}
    assert all(each["remedy"].startswith("surnia up") for each in broken.values())
    assert lag["trouble"].keys() == {"PostgreSQL", "Redis", "Kafka"}
