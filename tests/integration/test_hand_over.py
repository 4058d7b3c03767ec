"""A worker is told to stop while it works: it ends in order, and the others go on where it stopped. Times are printed,
not asserted: of a machine that is busy they say nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from infra.simulator.engine_settings import engine_settings
from infra.simulator.process import SimulatorProcess
from infra.stack import process
from shared.policy.kinds import Path as SendPath
from shared.wire.sends import Send, SendBatch
from tests.conftest import NOON
from tests.integration.deliveries import claim, send, write
from tests.integration.support import HOUR, outcomes_in
from tests.integration.watched import Watched, known, produce, wait_for

PARTITIONS = 4

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def workers() -> Iterator[list[Watched]]:
    """What a test starts; killed at its end."""
    started: list[Watched] = []
    yield started
    for worker in started:
        worker.kill()


def two_of(role: str, environment: dict[str, str], folder: Path, workers: list[Watched], topics: int) -> list[Watched]:
    """Two workers of a role that have shared out its partitions, and look at themselves every second."""
    environment |= {"SURNIA_STUCK_SECONDS": "20"}
    workers += [Watched(environment, folder, "surnia", "worker", role) for _ in range(2)]
    for worker in workers:
        wait_for(lambda worker=worker: 0 < held(worker) < topics * PARTITIONS, "a share each", worker.tail)  # type: ignore[misc]
    return workers


def held(worker: Watched) -> int:
    return len(worker.ask("readyz")[1].get("partitions", ()))


def test_a_stream_worker_hands_over_while_events_flow(
    environment: dict[str, str], tmp_path: Path, workers: list[Watched]
) -> None:
    leaving, staying = two_of("stream", environment, tmp_path, workers, 1)
    users, over = count(1), threading.Event()
    sent = 0

    def produce_on() -> None:
        nonlocal sent
        while not over.is_set():
            sent += produce(staying.settings, [next(users) for _ in range(50)])

    producing = threading.Thread(target=produce_on)
    producing.start()
    try:
        wait_for(lambda: known(staying.settings) > 100, "events to flow")
        start = time.monotonic()
        leaving.terminate()
        before = sent
        leaving.ends()
        ended = time.monotonic() - start
        wait_for(lambda: known(staying.settings) >= before, "what was there by then to be handled", staying.tail)
        handed_over = time.monotonic() - start
        wait_for(lambda: held(staying) == PARTITIONS, "the other one to have all", staying.tail)
    finally:
        over.set()
        producing.join()
    wait_for(lambda: known(staying.settings) == sent, "every event to be handled", staying.tail)
    print(f"stream: process gone after {ended:.2f} s, every event that was there handled after {handed_over:.2f} s")
    assert "could not be handled" not in leaving.log.read_text()


@pytest.mark.parametrize("slowly", [False, True], ids=["providers answer", "providers are slow"])
def test_a_delivery_worker_hands_over_with_sends_in_hand(
    environment: dict[str, str], tmp_path: Path, workers: list[Watched], slowly: bool
) -> None:
    batches, size = 24, 50
    sends = [send(user, expires_at=NOON + HOUR) for user in range(1, batches * size + 1)]
    folder = tmp_path / "state"
    with SimulatorProcess(folder, environment=environment) as simulator:
        environment |= engine_settings(folder, simulator.url)
        leaving, staying = two_of("delivery", environment, tmp_path, workers, 4)
        if slowly:
            # Longer than a worker that stops waits for what is in hand, but for calls under way.
            simulator.set_faults({"provider": "apns", "latency_ms": 4000})
        asyncio.run(_plan(leaving, sends, size))

        def pushed() -> bool:
            return simulator.stats()["accepted"] > 0 or any(rule["hits"] for rule in simulator.faults())

        wait_for(pushed, "the first pushes", leaving.tail)
        start = time.monotonic()
        leaving.terminate()
        leaving.ends()
        ended = time.monotonic() - start
        wait_for(lambda: held(staying) == 4 * PARTITIONS, "the other one to have all", staying.tail)
        handed_over = time.monotonic() - start
        settings = staying.settings
        wait_for(lambda: len(asyncio.run(outcomes_in(settings))) >= len(sends), "every outcome", staying.tail)
        stats = simulator.stats()
    print(f"delivery: process gone after {ended:.2f} s, partitions taken over after {handed_over:.2f} s")
    found = {outcome.user_id for outcome in asyncio.run(outcomes_in(settings)) if outcome.result.name == "delivered"}
    assert found == {each.user_id for each in sends}
    # Nobody is called twice: what had left was waited for, and settled.
    assert not stats["shown_twice"], f"{stats}\n{leaving.tail()}"
    assert not process.is_alive(leaving.process)


async def _plan(worker: Watched, sends: list[Send], size: int) -> None:
    await claim(worker.settings, *sends)
    for start in range(0, len(sends), size):
        await write(worker.settings, SendBatch(SendPath.stream, NOON, tuple(sends[start : start + size])))
