"""Waiting for servers: patient with their absence, not with our own mistakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg
import pytest
import structlog
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError
from psycopg.errors import ReadOnlySqlTransaction
from psycopg_pool import PoolTimeout
from structlog.testing import LogCapture

from shared import patience
from shared.gate.contract import GateClosedError, GateUnavailableError
from shared.patience import FIRST_WAIT, LONGEST_WAIT, Patience


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
        return await Patience(self.sleep).until_done("asking", self.call)


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
        ReadOnlySqlTransaction("a standby since the failover"),
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
        MessageSizeTooLargeError("ours"),
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


class Crowd:
    """Several calls that share a patience; each round, each of them that still waits is answered once."""

    def __init__(self) -> None:
        self.patience = Patience(self._sleep)
        self._next_round = asyncio.Event()

    async def _sleep(self, seconds: float) -> None:
        await self._next_round.wait()

    def start(self, *servers: Server) -> list[asyncio.Task[int]]:
        return [asyncio.create_task(self.patience.until_done("asking", server.call)) for server in servers]

    async def round(self) -> None:
        this, self._next_round = self._next_round, asyncio.Event()
        this.set()
        for _ in range(5):
            await asyncio.sleep(0)

    def sample(self, name: str, **labels: str) -> float | None:
        return self.patience.registry.get_sample_value(name, labels)


async def test_all_who_wait_for_a_server_say_so_once_and_it_is_back_for_the_last_of_them(logs: LogCapture) -> None:
    crowd = Crowd()
    crowd.start(*(Server(*down(n)) for n in (1, 2, 3)))
    await asyncio.sleep(0)
    assert [entry["event"] for entry in logs.entries] == ["waiting for a server"]
    assert crowd.sample("surnia_waiting", server="gate") == 3
    await crowd.round()
    await crowd.round()
    assert crowd.sample("surnia_waiting", server="gate") == 1
    assert len(logs.entries) == 1
    await crowd.round()
    assert [entry["event"] for entry in logs.entries] == ["waiting for a server", "the server is back"]
    assert crowd.sample("surnia_waiting", server="gate") == 0
    assert crowd.sample("surnia_server_trouble_total", server="gate", error="GateUnavailableError") == 6


async def test_a_server_that_answered_is_back_even_if_the_last_who_waited_gave_up(logs: LogCapture) -> None:
    crowd = Crowd()
    answered, gave_up = crowd.start(Server(*down()), Server(*down(9)))
    await asyncio.sleep(0)
    await crowd.round()
    assert answered.done()
    gave_up.cancel()
    await crowd.round()
    assert [entry["event"] for entry in logs.entries] == ["waiting for a server", "the server is back"]


async def test_a_server_for_which_all_gave_up_is_not_back(logs: LogCapture) -> None:
    crowd = Crowd()
    (task,) = crowd.start(Server(*down(9)))
    await asyncio.sleep(0)
    task.cancel()
    await crowd.round()
    assert [entry["event"] for entry in logs.entries] == ["waiting for a server"]
    assert crowd.sample("surnia_waiting", server="gate") == 0


async def test_a_call_that_needs_two_servers_in_trouble_says_so_once_for_each(logs: LogCapture) -> None:
    await Server(*[*down(), psycopg.OperationalError("down")] * 4).ask()
    assert [(entry["event"], entry["server"]) for entry in logs.entries[:2]] == [
        ("waiting for a server", "gate"),
        ("waiting for a server", "postgres"),
    ]
    assert sorted((entry["event"], entry["server"]) for entry in logs.entries[2:]) == [
        ("the server is back", "gate"),
        ("the server is back", "postgres"),
    ]


async def test_a_gate_that_comes_back_without_its_data_is_logged_as_closed(logs: LogCapture) -> None:
    await Server(*down(3), *[GateClosedError("no epoch")] * 3).ask()
    assert [entry["server"] for entry in logs.entries[:2]] == ["gate", "closed gate"]


@pytest.mark.parametrize("make", [lambda: GateUnavailableError("gate")])
async def test_each_call_is_made_anew(make: Callable[[], Exception]) -> None:
    seen: list[int] = []

    async def call() -> int:
        seen.append(len(seen))
        if len(seen) < 3:
            raise make()
        return len(seen)

    assert await Patience(Server().sleep).until_done("counting", call) == 3
    assert seen == [0, 1, 2]
