"""The DAG for real: Airflow runs it in a child process against PostgreSQL, Valkey and Kafka."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from infra.airflow.environment import database_url
from infra.airflow.errors import AirflowError
from infra.airflow.runner import AirflowRunner
from infra.airflow.setup import close_abandoned_tests
from infra.stack.process import wait_until
from shared.clock import FileClock
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.sends import Send, decode_sends
from tests.conftest import NOON

pytestmark = pytest.mark.timeout(300)

ZONE = "Asia/Dhaka"  # UTC+6, no summer time: the send hour, 18:00, is noon in UTC
START = datetime.fromtimestamp(NOON, UTC)
END = START + timedelta(hours=1)
DUE = {101: 7, 102: 30, 103: 90}
OPTED_OUT, NO_DEVICE, NOT_YET = 104, 105, 106


@pytest.fixture
def users(settings: Settings) -> None:
    """Three who are due, one who does not want to, one without a device, one whose day has not come."""
    with psycopg.connect(settings.require_postgres()) as connection:
        for user, silent in (DUE | {OPTED_OUT: 7, NO_DEVICE: 14, NOT_YET: 8}).items():
            connection.execute(
                "INSERT INTO users (id, time_zone, last_active_date, opted_out) VALUES (%s, %s, %s, %s)",
                (user, ZONE, START.date() - timedelta(days=silent), 8 if user == OPTED_OUT else 0),
            )
            if user != NO_DEVICE:
                connection.execute(
                    "INSERT INTO devices (user_id, device_id, platform, token) VALUES (%s, 'phone', 'ios', %s)",
                    (user, f"{user:064x}"),
                )


def test_a_run_plans_claims_and_sends_and_a_rerun_adds_nothing(settings: Settings, users: None) -> None:
    with AirflowRunner(settings) as airflow:
        first = airflow.run(START, END)
        assert first.state == "success", first.error
        assert (first.candidates, first.granted) == (5, 3)
        assert first.denied == {"no_device": 1, "opted_out": 1}
        assert {send.user_id: send.silent_days for send in sends(settings)} == DUE
        assert {send.local_date for send in sends(settings)} == {START.date()}

        again = airflow.run(START, END, groups=5)
        assert (again.state, again.run_id) == ("success", first.run_id)
        assert (again.candidates, again.granted, again.denied) == (first.candidates, first.granted, first.denied)
        assert len(sends(settings)) == len(DUE)

        # The same users within an interval of another shape, which only parameters can ask for.
        wider = airflow.run(START - timedelta(minutes=30), END, groups=1)
        assert (wider.state, wider.candidates, wider.granted) == ("success", 5, 3)

        reversed_interval = airflow.run(END, START + timedelta(minutes=1))
        assert reversed_interval.state == "failed"
        assert "an interval must be longer than nothing" in airflow.log.read_text()

    recorded = rows(settings, "SELECT run_id, interval_start, interval_end FROM scan_runs ORDER BY interval_start DESC")
    assert recorded == [(first.run_id, START, END), (wider.run_id, START - timedelta(minutes=30), END)]
    checkpoints = "SELECT run_id, count(*), bool_and(done), sum(pages) FROM scan_checkpoints GROUP BY 1 ORDER BY 1"
    assert {row[0]: row[1:3] for row in rows(settings, checkpoints)} == {
        first.run_id: (256, True),
        wider.run_id: (256, True),
    }


def test_an_hour_in_which_nobody_is_due_is_green(settings: Settings) -> None:
    with AirflowRunner(settings.model_copy(update={"ladder_days": ()})) as airflow:
        found = airflow.run(START, END)
        assert (found.state, found.candidates, found.granted, found.denied) == ("success", 0, 0, {})
        assert found.run_id, "the report did not run"
        assert rows(settings, "SELECT count(*) FROM scan_checkpoints") == [(0,)]


def test_a_run_that_was_killed_does_not_hold_up_the_scheduler_for_ever(settings: Settings) -> None:
    """One run is active at a time, and Airflow takes a killed dag.test for one that still goes on."""
    # A scheduler of an earlier test may have left runs of its own.
    active = (
        "SELECT count(*) FROM dag_run WHERE state = 'running' AND dag_id = 'silent_reminders' AND triggered_by = 'TEST'"
    )
    with AirflowRunner(settings) as airflow:
        with ThreadPoolExecutor() as pool:
            # Hundreds of tasks: it cannot be over before we look.
            run = pool.submit(airflow.run, START, END, 256)
            assert wait_until(lambda: run.done() or airflow_rows(settings, active) == [(1,)], 60)
            airflow.stop()
            with pytest.raises(AirflowError, match="the runner ended"):
                run.result()
        assert airflow_rows(settings, active) == [(1,)]
    assert close_abandoned_tests(settings) == 1
    assert airflow_rows(settings, active) == [(0,)]
    assert close_abandoned_tests(settings) == 0


def test_airflows_own_command_line_plans_the_hour_that_begins_at_the_given_date(
    settings: Settings, environment: dict[str, str], users: None
) -> None:
    command = ["airflow", "exec", "--", "dags", "test", "silent_reminders", START.isoformat()]
    done = surnia(environment, "airflow", "setup")
    assert done.returncode == 0, done.stderr
    done = surnia(environment, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "state=success" in done.stdout + done.stderr
    assert {send.user_id for send in sends(settings)} == set(DUE)


def test_a_backfill_looks_first_and_sends_when_it_is_told_to(
    settings: Settings, environment: dict[str, str], clock: FileClock, users: None
) -> None:
    clock.set(NOON + 7200)
    assert surnia(environment, "airflow", "setup").returncode == 0
    asked = {"interval_start": START.isoformat(), "interval_end": END.isoformat(), "kinds": ["comeback"]}
    for conf, found in ((asked, set()), (asked | {"dry_run": False, "rate": 1000}, set(DUE))):
        command = ["dags", "test", "reminder_backfill", "--conf", json.dumps(conf)]
        done = surnia(environment, "airflow", "exec", "--", *command)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "state=success" in done.stdout + done.stderr
        assert {send.user_id for send in sends(settings)} == found
    assert rows(settings, "SELECT state FROM backfills") == [("done",)]


def surnia(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "surnia", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


def rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(settings.require_postgres()) as connection:
        return connection.execute(query).fetchall()


def airflow_rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url(settings)) as connection:
        return connection.execute(query).fetchall()


def sends(settings: Settings) -> list[Send]:
    """Everything the normal lane holds, read up to its end by a client that is not ours."""
    topic = Topics.of(settings).normal
    consumer = Consumer(
        {"bootstrap.servers": settings.require_kafka(), "group.id": "test", "enable.partition.eof": True}
    )
    found: list[Send] = []
    try:
        partitions = [TopicPartition(topic, number, 0) for number in range(settings.partitions)]
        left = sum(high - low for low, high in map(consumer.get_watermark_offsets, partitions))
        consumer.assign(partitions)
        while left:
            message = consumer.poll(30)
            assert message is not None, "Kafka holds messages it does not hand over"
            if message.error() is None:
                left -= 1
                found += decode_sends(message.value() or b"").sends
    finally:
        consumer.close()
    return found
