"""Worker processes, and what they say of themselves over HTTP."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import urlopen

from confluent_kafka import Producer as ForeignProducer
from prometheus_client.parser import text_string_to_metric_families

from infra.stack import process
from shared.settings import Settings
from shared.topics import Topics
from tests.conftest import NOON, settings_of
from tests.integration.support import event, sql
from tests.integration.valkeys import free_port

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
DEADLINE = 90.0


class Watched:
    """A worker of some role, or a module of the tests that runs one."""

    def __init__(self, environment: dict[str, str], folder: Path, *command: str, **more: str) -> None:
        self.port = free_port()
        self.log = folder / f"worker-{self.port}.log"
        folder.mkdir(parents=True, exist_ok=True)
        environment = environment | {"SURNIA_METRICS_PORT": str(self.port)} | more
        self.settings = settings_of(environment)
        self.process = process.spawn([sys.executable, "-m", *command], self.log, cwd=ROOT, env=os.environ | environment)

    def ask(self, path: str, port: int = 0) -> tuple[int, dict[str, Any]]:
        """Status and body; status 0 while nobody answers."""
        try:
            with urlopen(f"http://127.0.0.1:{port or self.port}/{path}", timeout=5) as answer:
                return answer.status, json.loads(answer.read())
        except HTTPError as refused:
            with refused:
                return refused.code, json.loads(refused.read())
        except OSError:
            return 0, {}

    def metrics(self, port: int = 0) -> dict[tuple[str, ...], float]:
        """(name, values of its labels…) -> value."""
        with urlopen(f"http://127.0.0.1:{port or self.port}/metrics", timeout=5) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        return {
            (sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples
        }

    def becomes(self, path: str, status: int, **body: object) -> dict[str, Any]:
        """The body of a page once it has this status and these fields."""

        def found() -> dict[str, Any] | None:
            code, told = self.ask(path)
            return told if code == status and body.items() <= told.items() else None

        return wait_for(found, f"/{path} to be {status} {body}", self.tail)

    def terminate(self) -> None:
        os.kill(self.process.pid, signal.SIGTERM)

    def ends(self) -> None:
        """Returns when the process is gone."""
        wait_for(lambda: not process.is_alive(self.process), "the worker to end", self.tail)

    def kill(self) -> None:
        process.end(self.process, signal.SIGKILL, 15.0)

    def tail(self) -> str:
        return "\n".join(process.tail(self.log, 60))


def wait_for(condition: Callable[[], T | None], what: str, tell: Callable[[], str] = str) -> T:
    """The first true answer of a condition that is asked again and again."""
    end = time.monotonic() + DEADLINE
    while not (answer := condition()):
        assert time.monotonic() < end, f"waited {DEADLINE:.0f} s in vain for {what}\n{tell()}"
        time.sleep(0.02)
    return answer


def produce(settings: Settings, users: Iterable[int], at: float = NOON) -> int:
    """A completed lesson of each, by a client we did not write; how many."""
    producer = ForeignProducer({"bootstrap.servers": settings.require_kafka()})
    n = 0
    for user in users:
        value = event("lesson_completed", user, at, time_zone="Europe/Lisbon")
        producer.produce(Topics.of(settings).activity, value=value, key=str(user).encode())
        n += 1
    assert producer.flush(30) == 0
    return n


def known(settings: Settings) -> int:
    """Users that have been written back."""
    return int(sql(settings, "SELECT count(*) FROM users")[0][0])
