"""Waiting for servers: patient with their absence, not with our own mistakes."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
import structlog
from aiokafka.errors import KafkaConnectionError
from psycopg_pool import PoolTimeout
from structlog.testing import LogCapture

from shared import patience
from shared.gate.contract import GateUnavailableError
from shared.patience import FIRST_WAIT, LONGEST_WAIT, until_done


class Server:
    """Answers with these errors, one a call, and then with 42; remembers how long it was left alone."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0
        self.waits: list[float] = []

    async def call(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return 42

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def ask(self) -> int:
        return await until_done("asking", self.call, self.sleep)


def down(n: int = 1) -> list[GateUnavailableError]:
    return [GateUnavailableError("gate down")] * n


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> LogCapture:
    """What was logged, whatever other tests have configured."""
    capture = LogCapture()
    own = structlog.wrap_logger(None, [capture], wrapper_class=structlog.make_filtering_bound_logger(0))
    monkeypatch.setattr(patience, "log", own)
    return capture


@pytest.fixture
def longest_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    def most(least: float, most: float) -> float:
        assert least == 0
        return most

    monkeypatch.setattr("shared.patience.random.uniform", most)


async def test_a_server_that_answers_is_asked_once() -> None:
    server = Server()
    assert await server.ask() == 42
    assert (server.calls, server.waits) == (1, [])


@pytest.mark.parametrize(
    "error",
    [
        GateUnavailableError("gate"),
        KafkaConnectionError("broker"),
        PoolTimeout("pool"),
        psycopg.OperationalError("server closed the connection"),
        psycopg.InterfaceError("the connection is lost"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_server_that_is_away_is_asked_again(error: Exception) -> None:
    server = Server(error, error)
    assert await server.ask() == 42
    assert (server.calls, len(server.waits)) == (3, 2)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("ours"),
        KeyError("ours"),
        psycopg.DataError("a NUL in a text"),
        psycopg.ProgrammingError("no such table"),
        RuntimeError("ours"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_mistake_of_ours_is_not_repeated(error: BaseException) -> None:
    server = Server(error)
    with pytest.raises(type(error)):
        await server.ask()
    assert (server.calls, server.waits) == (1, [])


async def test_a_mistake_after_an_outage_still_comes_out() -> None:
    server = Server(*down(3), ValueError("ours"))
    with pytest.raises(ValueError, match="ours"):
        await server.ask()
    assert server.calls == 4


@pytest.mark.usefixtures("longest_jitter")
async def test_the_waits_double_up_to_a_limit() -> None:
    server = Server(*down(12))
    await server.ask()
    assert server.waits[:4] == pytest.approx([FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT, 8 * FIRST_WAIT])
    assert server.waits[-3:] == [LONGEST_WAIT] * 3
    assert max(server.waits) == LONGEST_WAIT


async def test_the_waits_are_drawn_from_all_of_their_range(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(least: float, most: float) -> float:
        drawn.append((least, most))
        return 0.0

    monkeypatch.setattr("shared.patience.random.uniform", uniform)
    await Server(*down(2)).ask()
    assert drawn == [(0, FIRST_WAIT), (0, 2 * FIRST_WAIT)]


async def test_an_outage_is_logged_when_it_begins_and_when_it_ends(logs: LogCapture) -> None:
    await Server(*down(5)).ask()
    assert [(entry["log_level"], entry["event"]) for entry in logs.entries] == [
        ("warning", "waiting for a server"),
        ("info", "the server is back"),
    ]
    assert logs.entries[0]["work"] == "asking"
    assert logs.entries[0]["kind"] == "GateUnavailableError"


async def test_without_an_outage_nothing_is_logged(logs: LogCapture) -> None:
    await Server().ask()
    assert logs.entries == []


async def test_every_outage_is_logged_on_its_own(logs: LogCapture) -> None:
    server = Server(*down(2))
    await server.ask()
    server.errors = [GateUnavailableError("again")]
    await server.ask()
    assert [entry["log_level"] for entry in logs.entries] == ["warning", "info"] * 2


async def test_a_long_error_is_cut_in_the_log(logs: LogCapture) -> None:
    await Server(GateUnavailableError("x" * 5_000)).ask()
    assert len(logs.entries[0]["error"]) == 300


@pytest.mark.parametrize("make", [lambda: GateUnavailableError("gate")])
async def test_each_call_is_made_anew(make: Callable[[], Exception]) -> None:
    seen: list[int] = []

    async def call() -> int:
        seen.append(len(seen))
        if len(seen) < 3:
            raise make()
        return len(seen)

    assert await until_done("counting", call, Server().sleep) == 3
    assert seen == [0, 1, 2]
