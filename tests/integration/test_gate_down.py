"""A gate that does not answer, or answers that it can't: nothing is granted, and it says what to do about it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import date
from typing import Any

import hiredis
import pytest
import structlog
from redis.exceptions import ResponseError
from structlog.testing import LogCapture

from shared import patience
from shared.gate import Claim, GateClosedError, GateUnavailableError, Keeper, RedisGate, SendKey, Standing, open_fresh
from shared.gate.keys import bucket_key
from shared.identity import SHARDS, bucket_of, shard_of
from shared.patience import Patience
from shared.policy.kinds import Path
from shared.settings import Settings
from tests.integration.valkeys import CREDENTIALS, PASSWORD, Valkey, running, settings_for, until

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


@asynccontextmanager
async def gate_at(url: str, **more: object) -> AsyncIterator[RedisGate]:
    gate = RedisGate.connect(settings_for(url, **more))
    yield gate
    await gate.close()


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


async def test_a_real_script_that_fails_is_not_taken_for_trouble_either(opened: RedisGate, server: Valkey) -> None:
    user = USERS[0]
    server("SET", bucket_key(shard_of(user), bucket_of(user, 2), TODAY), "no hash")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await ask(opened)


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


# From here on, a real server.


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("down") / "server", "busy-reply-threshold 50", "appendonly yes")
    with running(server):
        yield server


@pytest.fixture
async def settings(server: Valkey) -> Settings:
    server("FLUSHALL")
    settings = settings_for(server.url)
    await open_fresh(settings)
    return settings


@pytest.fixture
async def opened(settings: Settings) -> AsyncIterator[RedisGate]:
    gate = RedisGate.connect(settings)
    yield gate
    await gate.close()


def stored(server: Valkey) -> dict[bytes, Any]:
    with server.client() as client:
        names = sorted(client.scan_iter(count=10_000))
        return {name: client.hgetall(name) if client.type(name) == b"hash" else client.get(name) for name in names}


async def test_out_of_memory_claims_nothing_by_halves_and_delivery_goes_on(opened: RedisGate, server: Valkey) -> None:
    keys = [SendKey(user, "comeback", TODAY) for user in USERS]
    assert await opened.claim(Path.batch, "comeback", TODAY, USERS) == [Claim.granted] * 50
    before = stored(server)
    server("CONFIG", "SET", "maxmemory", "1mb")
    try:
        for question in (
            opened.claim(Path.batch, "comeback", TODAY, list(range(1, 3001))),
            opened.claim(Path.blast, "campaign", TODAY, USERS, "spring"),
            opened.practised([(user, TODAY) for user in USERS]),
            opened.opt_out([(user, TODAY, 1) for user in USERS]),
        ):
            with pytest.raises(GateUnavailableError, match="memory is full"):
                await question
        assert stored(server) == before
        assert await opened.standing(Path.batch, keys) == [Standing.clear] * 50
        assert await opened.pauses() == ()
        await opened.settle(Path.batch, keys)
        assert await opened.standing(Path.batch, keys) == [Standing.settled] * 50
    finally:
        server("CONFIG", "SET", "maxmemory", 0)
    assert await opened.claim(Path.batch, "comeback", TODAY, USERS) == [Claim.settled_before] * 50


async def test_a_server_that_evicts_is_no_gate(opened: RedisGate, server: Valkey, settings: Settings) -> None:
    server("CONFIG", "SET", "maxmemory-policy", "volatile-lru", "maxmemory", "1gb")
    try:
        async with gate_at(server.url) as gate:
            with pytest.raises(GateUnavailableError, match="maxmemory-policy to noeviction"):
                await ask(gate)
    finally:
        server("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", 0)
    assert await ask(opened) == [Claim.granted]


async def test_a_script_of_somebody_else_that_never_ends(opened: RedisGate, server: Valkey) -> None:
    async with gate_at(server.url) as late:
        assert await ask(opened) == [Claim.granted]
        with server.client() as client, client.client() as held:
            held.connection.send_command("EVAL", "while true do end", 0)
            for gate in (opened, late):
                with pytest.raises(GateUnavailableError, match="SCRIPT KILL"):
                    await ask(gate)
            client.execute_command("SCRIPT", "KILL")
        assert await Patience().until_done("claiming", lambda: ask(opened)) == [Claim.granted_again]


async def test_too_few_replicas_stop_claims_and_what_is_claimed_is_known_afterwards(
    opened: RedisGate, server: Valkey
) -> None:
    assert await ask(opened) == [Claim.granted]
    server("CONFIG", "SET", "min-replicas-to-write", 1)
    try:
        with pytest.raises(GateUnavailableError, match="min-replicas-to-write"):
            await ask(opened, Path.stream)
    finally:
        server("CONFIG", "SET", "min-replicas-to-write", 0)
    assert await ask(opened, Path.stream) == [Claim.other_path]


@pytest.mark.parametrize("credentials", ["", ":wrong-one@"])
async def test_a_missing_or_wrong_password_is_named_and_not_shown(server: Valkey, credentials: str) -> None:
    async with gate_at(f"redis://{credentials}127.0.0.1:{server.port}/0") as gate:
        with pytest.raises(GateUnavailableError, match="check the password in SURNIA_REDIS_URL") as caught:
            await ask(gate)
        assert "wrong-one" not in str(caught.value)


async def test_a_server_that_restarts_between_two_calls_is_closed_on_every_connection(
    opened: RedisGate, server: Valkey, settings: Settings
) -> None:
    answers = await asyncio.gather(*(ask(opened) for _ in range(20)))
    assert sorted(answers) == [[Claim.granted]] + [[Claim.granted_again]] * 19
    before = stored(server)
    server.stop()
    server.start()
    assert stored(server) == before
    for _ in range(20):
        with pytest.raises(GateUnavailableError):
            await ask(opened, Path.stream)
    with pytest.raises(GateClosedError, match="restarted or took over"):
        await ask(opened, Path.stream)
    keeper = Keeper.connect(settings)
    await keeper.begin(range(SHARDS), "token")
    server.kill()
    server.start()
    with suppress(GateUnavailableError):
        assert await keeper.open(range(SHARDS), "token", "second", ()) == list(range(SHARDS))
    await keeper.begin(range(SHARDS), "token")
    assert await keeper.open(range(SHARDS), "token", "second", ()) == []
    await keeper.close()
    assert await ask(opened, Path.stream) == [Claim.other_path]


async def test_a_durable_server_goes_on_after_a_restart(server: Valkey) -> None:
    server("FLUSHALL")
    settings = settings_for(server.url, gate_durable=True)
    await open_fresh(settings)
    async with gate_at(server.url, gate_durable=True) as gate:
        assert await ask(gate) == [Claim.granted]
        server.stop()
        server.start()
        answer = await until(lambda: answered(lambda: ask(gate, Path.stream)), "the server to be found again")
        assert answer == [Claim.other_path]
        server("FLUSHALL")
        with pytest.raises(GateClosedError):
            await ask(gate)


async def answered(question: Callable[[], Awaitable[list[Claim]]]) -> list[Claim] | None:
    with suppress(GateUnavailableError):
        return await question()
    return None


async def test_a_call_that_is_cancelled_leaves_its_answer_to_nobody(opened: RedisGate) -> None:
    chance = random.Random(7)
    await opened.practised([(user, TODAY) for user in range(1, 60_000, 2)])
    finished = cancelled = 0

    async def work(number: int) -> None:
        nonlocal finished, cancelled
        for turn in range(20):
            first = 1000 * number + 20 * turn + 1
            users = list(range(first, first + chance.randint(1, 20)))
            call = asyncio.create_task(opened.claim(Path.batch, "comeback", TODAY, users))
            for _ in range(chance.randrange(30)):
                await asyncio.sleep(0)
            if chance.random() < 0.5:
                call.cancel()
            try:
                answers = await call
            except asyncio.CancelledError:
                cancelled += 1
                answers = await opened.claim(Path.batch, "comeback", TODAY, users)
            else:
                finished += 1
            for user, answer in zip(users, answers, strict=True):
                assert answer in ((Claim.practised,) if user % 2 else (Claim.granted, Claim.granted_again))

    async with asyncio.timeout(120):
        await asyncio.gather(*(work(number) for number in range(50)))
    assert finished > 100 and cancelled > 100
