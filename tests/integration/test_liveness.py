"""A real stream worker that gets stuck, or only waits: what it says of itself, and that it comes back by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer as ForeignProducer

from infra.stack import process
from infra.stack.state import StateStore
from shared.gate import open_fresh
from shared.settings import Settings
from shared.topics import Topics
from tests.conftest import NOON, settings_of
from tests.integration.support import event
from tests.integration.valkeys import Valkey, free_port
from tests.integration.watched import Watched, known, produce, wait_for

STUCK_SECONDS = 3.0
USERS = range(1, 41)

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def workers() -> Iterator[list[Watched]]:
    """What a test starts; killed at its end."""
    started: list[Watched] = []
    yield started
    for worker in started:
        worker.kill()


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    return environment | {"SURNIA_STUCK_SECONDS": str(STUCK_SECONDS)}


@pytest.mark.parametrize("how", ["hang", "spin", "block", "deaf"])
def test_a_stuck_worker_says_so_and_restarts_itself(
    environment: dict[str, str], tmp_path: Path, workers: list[Watched], how: str
) -> None:
    once = tmp_path / "once"
    once.touch()
    worker = Watched(environment, tmp_path, "tests.integration.stuck", how, str(once))
    workers.append(worker)
    worker.becomes("readyz", 200)
    produce(worker.settings, USERS)
    told = worker.becomes("healthz", 503, restarts=0)
    stuck = told["stuck"][0]
    assert stuck["seconds"] >= STUCK_SECONDS
    assert stuck["since"]
    assert told["status"] == "stuck"
    if how in ("spin", "block"):
        assert stuck["what"] == "event loop"
    else:
        assert stuck["what"] == "partition"
        assert stuck["topic"] == Topics.of(worker.settings).activity
        assert stuck["behind"] > 0
    assert worker.ask("readyz")[0] in (503, 0)
    # The same process, another life: and what it had in hand is done.
    worker.becomes("healthz", 200, restarts=1)
    wait_for(lambda: known(worker.settings) == len(USERS), "the events to be handled", worker.tail)
    worker.becomes("readyz", 200, behind=0)
    assert process.is_alive(worker.process)
    assert worker.metrics()["surnia_worker_restarts_total",] == 1
    assert "the worker is stuck and restarts itself" in worker.log.read_text()
    worker.terminate()
    worker.ends()


def test_a_stuck_worker_that_is_told_to_stop_stays_down(
    environment: dict[str, str], tmp_path: Path, workers: list[Watched]
) -> None:
    once = tmp_path / "once"
    once.touch()
    worker = Watched(environment, tmp_path, "tests.integration.stuck", "hang", str(once))
    workers.append(worker)
    worker.becomes("readyz", 200)
    produce(worker.settings, USERS)
    wait_for(lambda: "and restarts itself" in worker.log.read_text(), "the restart to begin", worker.tail)
    worker.terminate()
    worker.ends()
    assert "restarts=1 role" not in worker.log.read_text()


def test_who_waits_for_redis_is_not_stuck_and_not_ready(
    environment: dict[str, str], tmp_path: Path, workers: list[Watched], server: Valkey
) -> None:
    environment |= {"SURNIA_REDIS_URL": server.url, "SURNIA_GATE_DURABLE": "true"}
    web = free_port()
    worker = _started(environment, tmp_path, workers, server, SURNIA_WEB_PORT=str(web))
    first, told = _first_answer(worker)
    assert (first, told["ready"]) == (503, False)
    assert "it starts" in told["reasons"][0]
    told = worker.becomes("readyz", 200)
    assert len(told["partitions"]) == 4
    # Faust's port has the same pages, and its own views still.
    assert worker.ask("healthz", web)[0] == worker.ask("readyz", web)[0] == 200
    assert worker.metrics(web)["surnia_worker_ready",] == 1
    server.stop()
    produce(worker.settings, USERS)
    told = worker.becomes("readyz", 503)
    wait_for(lambda: "waiting for gate" in worker.ask("readyz")[1].get("reasons", ()), "the wait", worker.tail)
    _stays_healthy(worker)
    assert worker.ask("readyz")[1]["behind"] > 0
    server.start()
    # It has forgotten everything: that is another reason, and no server's absence.
    wait_for(lambda: "closed" in str(worker.ask("readyz")[1].get("reasons")), "the gate to be closed", worker.tail)
    _stays_healthy(worker)
    _open(worker.settings)
    worker.becomes("readyz", 200, behind=0)
    assert known(worker.settings) == len(USERS)
    assert worker.ask("healthz")[1]["restarts"] == 0


def test_who_waits_for_kafka_is_not_stuck_and_not_ready(
    environment: dict[str, str], stack_dir: Path, tmp_path: Path, workers: list[Watched]
) -> None:
    worker = _started(environment, tmp_path, workers)
    worker.becomes("readyz", 200)
    broker = StateStore(stack_dir).read().parts["kafka"]
    assert broker.pid
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        wait_for(
            lambda: "the brokers do not answer" in worker.ask("readyz")[1].get("reasons", ()), "the wait", worker.tail
        )
        _stays_healthy(worker)
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    worker.becomes("readyz", 200)
    produce(worker.settings, USERS)
    wait_for(lambda: known(worker.settings) == len(USERS), "the events to be handled", worker.tail)
    assert worker.ask("healthz")[1]["restarts"] == 0


def test_transactions_of_producers_are_no_backlog(
    environment: dict[str, str], tmp_path: Path, workers: list[Watched]
) -> None:
    worker = _started(environment, tmp_path, workers)
    worker.becomes("readyz", 200)
    producer = ForeignProducer(
        {"bootstrap.servers": worker.settings.require_kafka(), "transactional.id": environment["SURNIA_TOPIC_PREFIX"]}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    value = event("lesson_completed", 1, NOON, time_zone="Europe/Lisbon")
    producer.produce(Topics.of(worker.settings).activity, value=value)
    assert producer.flush(30) == 0
    # Open: there is nothing to be read yet. It may take a quarter of an hour.
    _stays_healthy(worker)
    assert not known(worker.settings)
    producer.commit_transaction(30)
    wait_for(lambda: known(worker.settings) == 1, "the event to be handled", worker.tail)
    # Its end has an offset, behind the last event there is.
    _stays_healthy(worker)


def _started(
    environment: dict[str, str], folder: Path, workers: list[Watched], server: Valkey | None = None, **more: str
) -> Watched:
    if server:
        _open(settings_of(environment))
    worker = Watched(environment, folder, "surnia", "worker", "stream", **more)
    workers.append(worker)
    return worker


def _open(settings: Settings) -> None:
    asyncio.run(open_fresh(settings))


def _first_answer(worker: Watched) -> tuple[int, dict[str, Any]]:
    """What it says of its readiness before anything else."""
    return wait_for(lambda: found if (found := worker.ask("readyz"))[0] else None, "an answer", worker.tail)


def _stays_healthy(worker: Watched) -> None:
    """For longer than a stuck worker would have lived."""
    end = time.monotonic() + 2 * STUCK_SECONDS
    while time.monotonic() < end:
        status, told = worker.ask("healthz")
        assert status == 200, f"{told}\n{worker.tail()}"
        assert told["restarts"] == 0
        time.sleep(0.1)
