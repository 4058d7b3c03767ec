"""A gate that does not answer, or answers that it can't: nothing is granted, and it says what to do about it.

Over a server that says what the test wants; test_gate_trouble.py has a real one in real trouble.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import date

import hiredis
import pytest
import structlog
from redis.exceptions import ResponseError
from structlog.testing import LogCapture

from shared import patience
from shared.gate import Claim, GateClosedError, GateUnavailableError, RedisGate, SendKey
from shared.patience import Patience
from shared.policy.kinds import Path
from tests.integration.valkeys import CREDENTIALS, PASSWORD, gate_at

TODAY = date(2026, 11, 21)
USERS = list(range(1, 51))
OK = b"+OK\r\n"
GRANTED = b"$1\r\n0\r\n"
IDENTITY = b"role:master\r\nrun_id:0\r\n"

Says = Callable[[list[bytes]], bytes | None]


class Fake:
    """A server that says to scripts what a test wants it to; empty: hangs up, None: keeps silent."""

    def __init__(self) -> None:
        self.says: Says = lambda words: GRANTED
        self.port = 0
        self.asked: list[list[bytes]] = []
        self.serving: set[asyncio.Task[None]] = set()

    def answer(self, words: list[bytes]) -> bytes | None:
        self.asked.append(words)
        match words[0].upper():
            case b"INFO":
                return b"$%d\r\n%s\r\n" % (len(IDENTITY), IDENTITY)
            case b"CLIENT" | b"AUTH":
                return OK
        return self.says(words)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._converse(reader, writer))
        self.serving.add(task)
        await task

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                commands.feed(data)
                while words := commands.gets():
                    said = self.answer(words)
                    if said is not None:
                        writer.write(said)
                    if said is not None and not said.endswith(b"\r\n"):
                        break
                else:
                    continue
                break
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def serving(*fakes: Fake) -> AsyncIterator[None]:
    servers = [await asyncio.start_server(fake.serve, "127.0.0.1", 0) for fake in fakes]
    for fake, server in zip(fakes, servers, strict=True):
        fake.port = server.sockets[0].getsockname()[1]
    yield
    for server in servers:
        server.close()
    # Clients hang up at the end of their tests; their ends here are let go of before the loop is.
    for fake in fakes:
        await asyncio.gather(*fake.serving)


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    fake = Fake()
    async with serving(fake):
        yield fake


async def ask(gate: RedisGate, path: Path = Path.batch) -> list[Claim]:
    return await gate.claim(path, "comeback", TODAY, USERS[:1])


def error(text: str) -> bytes:
    return f"-{text}\r\n".encode()


TROUBLES = {
    "LOADING Valkey is loading the dataset in memory": "reading its data",
    "READONLY Can not run script with write flag on readonly replica.": "it is a replica",
    "OOM allow-oom flag is not set on the script": "maxmemory",
    "MISCONF Errors writing to the AOF file: No space left on device": "its disk",
    "BUSY Valkey is busy running a script.": "SCRIPT KILL",
    "CLUSTERDOWN Hash slot not served": "bring their nodes back",
    "MOVED 1 127.0.0.1:1": r"redis\+cluster://",
    "ASK 1 127.0.0.1:1": "wait",
    "TRYAGAIN Multiple keys request during rehashing of slot": "wait",
    "MASTERDOWN Link with MASTER is down": "SURNIA_REDIS_URL",
    "NOREPLICAS Not enough good replicas to write.": "min-replicas-to-write",
    "NOAUTH Authentication required.": "password in SURNIA_REDIS_URL",
    "WRONGPASS invalid username-password pair or user is disabled.": "password in SURNIA_REDIS_URL",
    "NOPERM User default has no permissions to run the 'evalsha' command": "ACL",
    "NOSCRIPT No matching script.": "SURNIA_REDIS_URL",
    "UNBLOCKED force unblock from blocking operation": "SURNIA_REDIS_URL",
    "ERR max number of clients reached": "SURNIA_REDIS_URL",
}


@pytest.mark.parametrize("said", TROUBLES)
async def test_an_answer_that_time_may_mend_grants_nothing_and_names_its_remedy(fake: Fake, said: str) -> None:
    async with gate_at(f"redis://{CREDENTIALS}127.0.0.1:{fake.port}") as gate:
        fake.says = lambda words: OK if words[0] == b"SCRIPT" else error(said)
        for question in (ask(gate), gate.settle(Path.batch, [SendKey(1, "comeback", TODAY)])):
            with pytest.raises(GateUnavailableError, match=TROUBLES[said]) as caught:
                await question
            assert not isinstance(caught.value, GateClosedError)
            assert PASSWORD not in str(caught.value)
        fake.says = lambda words: GRANTED
        assert await ask(gate) == [Claim.granted]


@pytest.mark.parametrize(
    "said", ["ERR user_script:3: attempt to index a nil value", "WRONGTYPE Operation against a key"]
)
async def test_a_mistake_of_ours_is_not_taken_for_trouble(fake: Fake, said: str) -> None:
    fake.says = lambda words: error(said)
    async with gate_at(f"redis://127.0.0.1:{fake.port}") as gate:
        with pytest.raises(ResponseError, match=said.removeprefix("ERR ")[:20]):
            await ask(gate)


@pytest.mark.parametrize(
    ("said", "match"),
    [
        (None, "TimeoutError: no answer from 127.0.0.1:[0-9]+ within 0.2 s"),
        (b"", "ConnectionError"),
        (b"$500\r\nhalf an answ", "ConnectionError"),
        (b"HTTP/1.1 400 Bad Request\r\n", "InvalidResponse"),
    ],
    ids=["silence", "hanging up", "half an answer", "another protocol"],
)
async def test_a_server_that_breaks_off_grants_nothing(fake: Fake, said: bytes | None, match: str) -> None:
    async with gate_at(f"redis://127.0.0.1:{fake.port}?socket_timeout=0.2") as gate:
        assert await ask(gate) == [Claim.granted]
        fake.says = lambda words: said
        with pytest.raises(GateUnavailableError, match=match):
            await ask(gate)
        fake.says = lambda words: GRANTED
        assert await ask(gate) == [Claim.granted]


async def test_a_server_that_lets_nobody_in_is_not_waited_for_longer_than_told(fake: Fake) -> None:
    fake.answer = lambda words: None  # type: ignore[method-assign]
    async with gate_at(f"redis://{CREDENTIALS}127.0.0.1:{fake.port}?socket_connect_timeout=0.2") as gate:
        with pytest.raises(GateUnavailableError, match="no connection to 127.0.0.1:[0-9]+ within 0.2 s"):
            await ask(gate)


@pytest.mark.parametrize(
    "url", ["redis://{}127.0.0.1:1/0", "redis+sentinel://{}127.0.0.1:1/x", "redis+cluster://{}127.0.0.1:1"]
)
async def test_a_server_that_is_not_there_is_named_without_its_password(url: str) -> None:
    async with gate_at(url.format(CREDENTIALS)) as gate:
        with pytest.raises(GateUnavailableError, match=r"127\.0\.0\.1:1.*SURNIA_REDIS_URL") as caught:
            await ask(gate)
        chain: BaseException | None = caught.value
        while chain:
            assert PASSWORD not in str(chain) and CREDENTIALS not in str(chain)
            chain = chain.__cause__ or chain.__context__


async def test_nodes_that_send_one_to_and_fro_are_not_followed_for_ever() -> None:
    fakes = [Fake(), Fake()]
    async with serving(*fakes):
        for fake, other in (fakes, fakes[::-1]):
            slots = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % other.port
            moved = error(f"MOVED 1 127.0.0.1:{other.port}")
            fake.says = lambda words, slots=slots, moved=moved: slots if words[0] == b"CLUSTER" else moved  # type: ignore[misc]
        async with gate_at(f"redis+cluster://127.0.0.1:{fakes[0].port},127.0.0.1:{fakes[1].port}") as gate:
            with pytest.raises(GateUnavailableError, match="MovedError"):
                await ask(gate)
    assert sum(words[0] == b"EVALSHA" for fake in fakes for words in fake.asked) == 3


async def test_who_waits_says_so_in_one_line_and_goes_on(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = LogCapture()
    monkeypatch.setattr(patience, "log", structlog.wrap_logger(None, [capture]))
    waits = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 100:
            fake.says = lambda words: GRANTED
        await asyncio.sleep(0)

    fake.says = lambda words: error("LOADING Valkey is loading the dataset in memory")
    patient = Patience(sleep)
    async with gate_at(f"redis://127.0.0.1:{fake.port}") as gate:
        answers = await asyncio.gather(*(patient.until_done("claiming", lambda: ask(gate)) for _ in range(10)))
    assert answers == [[Claim.granted]] * 10
    assert [entry["event"] for entry in capture.entries] == ["waiting for a server", "the server is back"]
    assert "wait" in capture.entries[0]["error"]
