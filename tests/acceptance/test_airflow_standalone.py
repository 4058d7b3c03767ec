"""`surnia airflow`, seen from outside: up, a run in the real scheduler, down, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil  # type: ignore[import-untyped]  # comes with Airflow, its types do not
import psycopg
import pytest

from infra.airflow.api import Api, ApiError
from infra.airflow.environment import DAG_ID
from infra.airflow.services import COMMANDS, Airflow
from infra.airflow.sessions import session_members
from shared.settings import Settings
from shared.topics import Topics
from tests.acceptance.conftest import wait_for
from tests.integration.support import outcomes_in, sends_in

pytestmark = pytest.mark.timeout(900)

USER = 4_242
RETRIED = 240.0
Surnia = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def surnia(environment: dict[str, str], settings: Settings) -> Iterator[Surnia]:
    """Runs a command; whatever it started is ended with the test."""

    def run(*arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "surnia", "airflow", *arguments],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert code in (None, done.returncode), (
            f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        )
        return done

    try:
        yield run
    finally:
        Airflow(settings).down()


def test_airflow_comes_up_runs_the_dag_and_leaves_nothing_behind(surnia: Surnia, settings: Settings) -> None:
    assert "is not running" in surnia("run", *interval(), code=1).stderr

    said = surnia("up").stdout
    url, password = re.search(r"is up: (\S+) +user admin +password (\S+)", said).groups()  # type: ignore[union-attr]
    started = Airflow(settings).record().processes
    assert started.keys() == COMMANDS.keys()

    # On a busy machine the API server may take longer over an answer than `status` waits for it.
    def healthy() -> dict[str, Any] | None:
        found: dict[str, Any] = json.loads(surnia("status", "--json", code=None).stdout)
        return found if found["healthy"] else None

    status = wait_for(healthy, "Airflow to be healthy")
    assert status["components"] == dict.fromkeys(COMMANDS, "running")
    assert status["dag"] == "active"
    assert listens_on(started["api-server"].pid) <= {"127.0.0.1"}

    assert login(url, "guess") == 401
    assert login(url, password) == 201

    assert "was up already" in surnia("up").stdout
    assert Airflow(settings).record().processes == started

    report = json.loads(surnia("run", *interval()).stdout)
    assert report["run_id"] == "comeback/2026-11-21T03:00Z/2026-11-21T04:00Z"
    assert report["candidates"] == report["granted"] == 0

    # Airflow's own backfill of an hour that is long past: reported as expired, not sent.
    add_user(settings)
    hour = ["--from-date", "2025-03-04T11:00:00+00:00", "--to-date", "2025-03-04T11:30:00+00:00"]
    surnia("exec", "--", "backfill", "create", "--dag-id", DAG_ID, *hour)
    api = Airflow(settings).api()
    wait_for(lambda: states(api, "backfill") == ["success"], "Airflow's backfill to be done")
    (outcome,) = asyncio.run(outcomes_in(settings))
    assert (outcome.user_id, outcome.result.name) == (USER, "expired")
    assert not asyncio.run(sends_in(settings, Topics.of(settings).normal))

    # A scheduler that is killed in the middle of a run: whoever brings it up again needs to do no more.
    run_id = api.trigger(DAG_ID, datetime(2025, 3, 4, 12, tzinfo=UTC), datetime(2025, 3, 4, 13, tzinfo=UTC))
    wait_for(lambda: api.run_state(DAG_ID, run_id) == "running", "the run to begin")
    os.killpg(started["scheduler"].pid, signal.SIGKILL)
    wait_for(lambda: "crashed" in surnia("status", code=1).stdout, "the scheduler to be missed")
    surnia("up")
    started = Airflow(settings).record().processes
    api = Airflow(settings).api()
    # A task that the new scheduler begins before the API server is up fails, and is tried again half a minute later.
    wait_for(lambda: state(api, run_id) == "success", "the run to be done all the same", RETRIED)
    assert api.result(DAG_ID, run_id, "report")["candidates"] == 1

    assert all(session_members(leader) for leader in started.values())
    assert "Ended" in surnia("down").stdout
    assert not any(session_members(leader) for leader in started.values())
    assert "Nothing was running" in surnia("down").stdout
    assert json.loads(surnia("status", "--json", code=1).stdout)["state"] == "stopped"


def add_user(settings: Settings) -> None:
    """Due at 18:00 in Dhaka on 2025-03-04, which is noon in UTC."""
    with psycopg.connect(settings.require_postgres()) as connection:
        connection.execute(
            "INSERT INTO users (id, time_zone, last_active_date) VALUES (%s, 'Asia/Dhaka', '2025-02-25')", (USER,)
        )
        connection.execute(
            "INSERT INTO devices (user_id, device_id, platform, token) VALUES (%s, 'phone', 'ios', %s)",
            (USER, "ab" * 32),
        )


def state(api: Api, run_id: str) -> str:
    """Of a run; none while the API server, which has just begun, takes its time."""
    try:
        return api.run_state(DAG_ID, run_id)
    except ApiError:
        return ""


def states(api: Api, kind: str) -> list[str]:
    """Of the DAG's runs of a kind."""
    runs = api.call("GET", f"/api/v2/dags/{DAG_ID}/dagRuns?run_type={kind}")["dag_runs"]
    return [str(run["state"]) for run in runs]


def interval() -> list[str]:
    return ["--interval-start", "2026-11-21T03:00Z", "--interval-end", "2026-11-21T04:00Z"]


def listens_on(pid: int) -> set[str]:
    """Addresses on which a process and its children accept connections."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return {one.laddr.ip for member in family for one in member.net_connections("tcp") if one.status == "LISTEN"}


def login(url: str, password: str) -> int:
    body = json.dumps({"username": "admin", "password": password}).encode()
    request = Request(f"{url}/auth/token", body, {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except HTTPError as refused:
        with refused:
            return refused.code
