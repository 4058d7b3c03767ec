"""Workers as processes, started by Faust's own command line, told to stop, and killed."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.integration.transport.broker import Broker, until
from tests.integration.transport.journals import nothing_else_committed, written

ROOT = Path(__file__).parents[3]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Workers:
    """Of one group, each with a journal of its own."""

    def __init__(self, broker: Broker, topic: str, folder: Path, seconds: float = 0.0) -> None:
        self.broker, self.topic, self.folder, self.seconds = broker, topic, folder, seconds
        self.group = f"group-{os.urandom(6).hex()}"
        self.journals: list[Path] = []

    def handled(self) -> dict[int, set[int]]:
        return written(self.journals)

    async def faust(self, *arguments: str) -> Process:
        """A `faust` command, not waited for."""
        self.journals.append(self.folder / f"journal-{len(self.journals)}")
        told = {"TOPIC": self.topic, "BROKERS": self.broker.address, "GROUP": self.group}
        told |= {"JOURNAL": str(self.journals[-1]), "SECONDS": str(self.seconds)}
        environment = os.environ | {f"TRANSPORT_{name}": value for name, value in told.items()}
        command = [sys.executable, "-m", "faust", "-A", "tests.integration.transport.worker", *arguments]
        return await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=PIPE, stderr=STDOUT)

    @asynccontextmanager
    async def worker(self, port: int | None = None) -> AsyncIterator[Process]:
        """One at work; killed at the end if it still is."""
        process = await self.faust("worker", "-l", "info", "--web-port", str(port or free_port()))
        assert process.stdout
        reading = asyncio.create_task(process.stdout.read())
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            print((await reading).decode())

    def begun(self) -> bool:
        """Whether the latest one has begun with a run."""
        return self.journals[-1].exists() and "begun" in self.journals[-1].read_text()

    async def kill(self, process: Process) -> None:
        """Kill -9, and let the broker know: it would notice when the session is over, after six seconds at least."""
        process.kill()
        await process.wait()
        await self.broker.expel(self.group, self.journals[-1].name)


async def test_fausts_commands_know_the_scheme(broker: Broker, tmp_path: Path) -> None:
    workers = Workers(broker, await broker.topic(), tmp_path)
    running = [await workers.faust(*command) for command in (["agents"], ["shout"])]
    said = [(await each.communicate())[0].decode() for each in running]
    assert [each.returncode for each in running] == [0, 0], said
    assert "journal" in said[0]
    assert f"reads faust from {workers.topic}" in said[1]


async def test_a_worker_serves_its_web_and_ends_in_the_middle_of_a_run_with_the_run_done(
    broker: Broker, tmp_path: Path
) -> None:
    workers = Workers(broker, await broker.topic(), tmp_path, seconds=0.5)
    await broker.write(workers.topic, 0, *[b"x"] * 100)
    async with (
        nothing_else_committed(broker, workers.group, workers.topic, workers.handled),
        workers.worker(port := free_port()) as worker,
    ):

        def ticks() -> int:
            with suppress(URLError), urlopen(f"http://127.0.0.1:{port}/counts", timeout=5) as answer:
                return int(json.load(answer)["ticks"])
            return 0

        await until(lambda: asyncio.to_thread(lambda: ticks() > 3))
        await until(lambda: broker.done(workers.group, workers.topic))
        before = len(workers.handled()[0])
        await broker.write(workers.topic, 0, *[b"x"] * 100)
        await until(lambda: workers.journals[0].read_text().splitlines()[-1].startswith("begun"))
        worker.terminate()
        assert await worker.wait() == 0
        handled = workers.handled()[0]
        assert len(handled) > before
        assert await broker.committed(workers.group, workers.topic) == {0: len(handled)}


async def test_workers_killed_in_the_middle_of_runs_lose_nothing(broker: Broker, tmp_path: Path) -> None:
    topic = await broker.topic(4)
    workers = Workers(broker, topic, tmp_path, seconds=0.05)
    rounds = 3
    async with (
        nothing_else_committed(broker, workers.group, topic, workers.handled),
        workers.worker(),
    ):
        for _ in range(rounds):
            async with workers.worker() as victim:
                await until(workers.journals[-1].exists)
                for partition in range(4):
                    await broker.fill(topic, partition, 10_000)
                await until(workers.begun)
                await workers.kill(victim)
        await until(lambda: broker.done(workers.group, topic))
    assert workers.handled() == {partition: set(range(rounds * 10_000)) for partition in range(4)}
