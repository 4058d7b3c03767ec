"""The real engine, providers and deliverer against the provider simulator over TLS, and against what is broken."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import date
from pathlib import Path

import pytest

from infra.simulator.process import SimulatorProcess
from infra.stack.keys import ProviderKeys, ensure_provider_keys
from infra.stack.tls import ensure_tls
from shared.clock import SystemClock
from shared.gate.contract import Claim, SendKey, Standing
from shared.gate.rules import Rule
from shared.patience import Patience
from shared.policy.kinds import Path as SendPath
from shared.routes import Routes
from shared.settings import Settings
from shared.templates import Catalogue
from shared.wire.sends import Result, Send, SendBatch, Target
from stream.delivery import Deliverer, EngineClosedError, Http2Engine, open_providers
from stream.delivery.exchange import PushRequest, PushResponse, TransportError
from stream.delivery.http2_handle import MAX_BODY
from stream.delivery.pauses import Pauses

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(120)]


class OpenGate:
    """Everything stands clear until it is settled."""

    def __init__(self) -> None:
        self.settled: set[SendKey] = set()

    async def practised(self, marks: Sequence[tuple[int, date]]) -> None:
        raise NotImplementedError

    async def opt_out(self, choices: Sequence[tuple[int, date, int]]) -> None:
        raise NotImplementedError

    async def claim(
        self, path: SendPath, kind: str, day: date, user_ids: Sequence[int], campaign: str = ""
    ) -> list[Claim]:
        raise NotImplementedError

    async def pauses(self) -> tuple[Rule, ...]:
        return ()

    async def standing(self, path: SendPath, keys: Sequence[SendKey]) -> list[Standing]:
        return [Standing.settled if key in self.settled else Standing.clear for key in keys]

    async def settle(self, path: SendPath, keys: Sequence[SendKey]) -> None:
        self.settled.update(keys)


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    with SimulatorProcess(tmp_path_factory.mktemp("simulator")) as running:
        yield running


@pytest.fixture
def keys(simulator: SimulatorProcess) -> Iterator[ProviderKeys]:
    yield ensure_provider_keys(simulator.state_dir, f"{simulator.url}/token")
    simulator.set_faults()
    simulator.reset()


@pytest.fixture
def settings(simulator: SimulatorProcess, keys: ProviderKeys) -> Settings:
    return Settings(
        apns_url=simulator.url,
        apns_topic="com.example.app",
        apns_key_file=keys.apns_key_file,
        apns_key_id="LOCALKEY01",
        apns_team_id="LOCALTEAM1",
        fcm_url=simulator.url,
        fcm_credentials_file=keys.fcm_credentials_file,
        ca_file=ensure_tls(simulator.state_dir).ca,
        push_timeout_seconds=5.0,
    )


@pytest.fixture
def engine(settings: Settings) -> Iterator[Http2Engine]:
    with closing(Http2Engine(settings)) as opened:
        yield opened


def _ios(number: int) -> str:
    return f"{number:064x}"


def _android(number: int) -> str:
    return f"android-token-{number:08d}"


def _batch(count: int) -> SendBatch:
    """Every third user has both devices."""
    now = time.time()
    sends = []
    for user_id in range(1, count + 1):
        ios = Target(f"i{user_id}", "ios", _ios(user_id))
        android = Target(f"a{user_id}", "android", _android(user_id))
        targets = ((ios,), (android,), (ios, android))[user_id % 3]
        locale = ("en", "es-MX", "ja", "ar")[user_id % 4]
        sends.append(Send(user_id, "comeback", date(2026, 11, 21), now, now + 3600, "UTC", locale, 0, 7, targets))
    return SendBatch(SendPath.batch, now, tuple(sends))


def _deliverer(settings: Settings, engine: Http2Engine, gate: OpenGate) -> Deliverer:
    patience, providers = Patience(), open_providers(settings, SystemClock())
    routes, catalogue = Routes.of(settings), Catalogue.load()
    return Deliverer(SystemClock(), gate, Pauses(gate, patience), engine, providers, routes, catalogue, patience)


async def test_a_batch_reaches_both_providers_and_only_once(
    settings: Settings, engine: Http2Engine, simulator: SimulatorProcess
) -> None:
    gate, batch = OpenGate(), _batch(300)
    deliverer = _deliverer(settings, engine, gate)
    result, _ = await deliverer.deliver(batch)
    assert {(outcome.result, outcome.reason) for outcome in result.outcomes} == {(Result.delivered, "accepted")}
    assert all(0 < outcome.latency < 5 for outcome in result.outcomes)
    assert len(gate.settled) == 300
    again, _ = await deliverer.deliver(batch)
    assert {outcome.reason for outcome in again.outcomes} == {"settled_before"}
    stats = simulator.stats()
    assert stats["accepted"] == 400
    assert stats["shown_twice"] == 0
    [shown] = simulator.pushes(_ios(3))
    assert shown["send_id"] == shown["collapse_id"] == str(batch.sends[2].send_id)


async def test_a_connection_that_allows_one_stream_at_first_is_not_flooded(
    settings: Settings, engine: Http2Engine, simulator: SimulatorProcess
) -> None:
    simulator.set_faults({"transport": {"fault": "one_stream_until_authorised", "strict": True}})
    result, _ = await _deliverer(settings, engine, OpenGate()).deliver(_batch(120))
    assert {outcome.reason for outcome in result.outcomes} == {"accepted"}
    stats = simulator.stats()
    assert (stats["accepted"], stats["transport"]["streams_refused"]) == (160, 0)


async def test_after_a_lost_connection_the_next_one_is_tried_with_one_request(
    settings: Settings, engine: Http2Engine, simulator: SimulatorProcess
) -> None:
    simulator.set_faults(
        {"transport": {"fault": "one_stream_until_authorised", "strict": True}},
        {"provider": "apns", "limit": 1, "transport": {"fault": "goaway", "in_flight": "drop"}},
    )
    result, _ = await _deliverer(settings, engine, OpenGate()).deliver(_batch(120))
    assert {outcome.reason for outcome in result.outcomes} == {"accepted"}
    stats = simulator.stats()
    assert (stats["accepted"], stats["shown_twice"]) == (160, 0)


async def test_refusals_are_acted_on(settings: Settings, engine: Http2Engine, simulator: SimulatorProcess) -> None:
    simulator.set_faults(
        {"provider": "apns", "tokens": [_ios(3)], "reason": "Unregistered", "timestamp": 1_700_000_000_000},
        {"provider": "fcm", "tokens": [_android(1)], "reason": "UNREGISTERED"},
        {"provider": "apns", "tokens": [_ios(6)], "reason": "ServiceUnavailable", "limit": 1},
        {"provider": "fcm", "tokens": [_android(4)], "reason": "UNAVAILABLE", "retry_after": 1, "limit": 1},
        {"provider": "fcm", "tokens": [_android(7)], "reason": "UNAUTHENTICATED", "limit": 1},
        {"provider": "apns", "tokens": [_ios(9)], "reason": "ExpiredProviderToken", "limit": 1},
        {"provider": "apns", "tokens": [_ios(12)], "reason": "TopicDisallowed"},
    )
    result, _ = await _deliverer(settings, engine, OpenGate()).deliver(_batch(12))
    reasons = {outcome.user_id: outcome.reason for outcome in result.outcomes}
    assert {user_id: reason for user_id, reason in reasons.items() if reason != "accepted"} == {
        3: "unregistered",
        1: "unregistered",
        12: "apns_400_topic_disallowed",
    }
    assert {(token.user_id, token.token) for token in result.retired} == {(3, _ios(3)), (1, _android(1))}
    assert next(token.at for token in result.retired if token.user_id == 3) == 1_700_000_000.0


async def test_many_batches_at_once_each_get_their_own_answers(
    engine: Http2Engine, simulator: SimulatorProcess
) -> None:
    def batch(number: int) -> list[PushRequest]:
        paths = ("3/device/abc", "v1/projects/x/messages:send", "nowhere")
        return [PushRequest(f"{simulator.url}/{paths[(number + i) % 3]}", [], b"{}") for i in range(number)]

    alone = {path: await engine.send([PushRequest(f"{simulator.url}/{path}", [], b"{}")]) for path in ("nowhere",)}
    answers = await asyncio.gather(*(engine.send(batch(number)) for number in range(0, 200, 7)))
    for number, answered in zip(range(0, 200, 7), answers, strict=True):
        assert len(answered) == number
        statuses = [answer.status for answer in answered if isinstance(answer, PushResponse)]
        assert len(statuses) == number
        unknown = [status for i, status in enumerate(statuses) if (number + i) % 3 == 2]
        assert all(isinstance(alone["nowhere"][0], PushResponse) and s == alone["nowhere"][0].status for s in unknown)


async def test_a_refused_connection_was_surely_not_sent(engine: Http2Engine) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    [answer] = await engine.send([PushRequest(f"https://127.0.0.1:{port}/x", [], b"")])
    assert isinstance(answer, TransportError)
    assert (answer.reason, answer.sent) == ("connect", False)


async def test_a_server_that_cannot_be_verified_gets_nothing(settings: Settings, tmp_path: Path) -> None:
    stranger = ensure_tls(tmp_path).ca
    with closing(Http2Engine(settings.model_copy(update={"ca_file": stranger}))) as engine:
        [answer] = await engine.send([PushRequest(f"{settings.apns_url}/3/device/abc", [], b"{}")])
    assert isinstance(answer, TransportError)
    assert (answer.reason, answer.sent) == ("tls", False)


async def test_only_https_is_spoken(engine: Http2Engine) -> None:
    for url in ("http://127.0.0.1:9/x", "file:///etc/hostname", "", "https://"):
        [answer] = await engine.send([PushRequest(url, [], b"")])
        assert isinstance(answer, TransportError), url
        assert not answer.sent


@pytest.fixture
def silent(settings: Settings, simulator: SimulatorProcess) -> Iterator[str]:
    """The address of a server that shakes hands, reads, and never answers."""
    files = ensure_tls(simulator.state_dir)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.cert, files.key)
    context.set_alpn_protocols(["h2"])
    server = socket.create_server(("127.0.0.1", 0))
    opened: list[ssl.SSLSocket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                opened.append(context.wrap_socket(connection, server_side=True))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)
    for connection in opened:
        connection.close()


async def test_a_timeout_may_have_been_sent_and_holds_up_no_other_host(
    settings: Settings, silent: str, simulator: SimulatorProcess
) -> None:
    with closing(Http2Engine(settings.model_copy(update={"push_timeout_seconds": 1.0}), max_in_flight=5)) as engine:
        hanging = asyncio.ensure_future(engine.send([PushRequest(f"{silent}/x", [], b"{}")] * 8))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        [other] = await engine.send([PushRequest(f"{simulator.url}/3/device/abc", [], b"{}")])
        assert isinstance(other, PushResponse)
        assert time.monotonic() - began < 0.8
        answers = await hanging
    # The first that times out ends the connection on which nothing was heard, and those beside it.
    reasons = {answer.reason for answer in answers if isinstance(answer, TransportError)}
    assert "timeout" in reasons <= {"timeout", "reset"}
    assert any(isinstance(answer, TransportError) and answer.sent for answer in answers)


@pytest.fixture
def talkative(simulator: SimulatorProcess) -> Iterator[str]:
    """The address of a server that refuses in a megabyte, with its length announced under /length and not elsewhere."""
    files = ensure_tls(simulator.state_dir)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.cert, files.key)
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                with suppress(OSError), context.wrap_socket(connection, server_side=True) as spoken:
                    asked = spoken.recv(65_536)
                    length = b"content-length: 1000000\r\n" if b"/length" in asked else b""
                    spoken.sendall(b"HTTP/1.1 400 No\r\nconnection: close\r\n" + length + b"\r\n" + b"x" * 1_000_000)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


@pytest.mark.parametrize("path", ["length", "none"])
async def test_of_an_answer_without_end_the_status_counts(engine: Http2Engine, talkative: str, path: str) -> None:
    [answer] = await engine.send([PushRequest(f"{talkative}/{path}", [], b"{}")])
    assert isinstance(answer, PushResponse), answer
    assert answer.status == 400
    assert len(answer.body) <= MAX_BODY


async def test_closing_answers_what_is_under_way_and_refuses_what_comes_after(settings: Settings, silent: str) -> None:
    engine = Http2Engine(settings)
    waiting = asyncio.ensure_future(engine.send([PushRequest(f"{silent}/x", [], b"{}")] * 4))
    await asyncio.sleep(0.2)
    engine.close()
    answers = await waiting
    assert [(a.reason, a.sent) for a in answers if isinstance(a, TransportError)] == [("closed", True)] + [
        ("closed", False)
    ] * 3
    with pytest.raises(EngineClosedError):
        await engine.send([PushRequest(f"{silent}/x", [], b"{}")])
    engine.close()


async def test_a_cancelled_caller_takes_back_what_has_not_left(settings: Settings, silent: str) -> None:
    with closing(Http2Engine(settings.model_copy(update={"push_timeout_seconds": 0.5}), max_in_flight=1)) as engine:
        caller = asyncio.ensure_future(engine.send([PushRequest(f"{silent}/x", [], b"{}")] * 50))
        await asyncio.sleep(0.1)
        caller.cancel()
        with suppress(asyncio.CancelledError):
            await caller
        began = time.monotonic()
        await engine.send([PushRequest(f"{silent}/y", [], b"{}")])
        assert time.monotonic() - began < 2.0


async def test_the_engine_outlives_a_restart_of_the_provider(settings: Settings, tmp_path: Path) -> None:
    with SimulatorProcess(tmp_path) as first:
        port = int(first.url.rpartition(":")[2])
        own = settings.model_copy(update={"ca_file": ensure_tls(tmp_path).ca})
        engine = Http2Engine(own)
        request = PushRequest(f"{first.url}/3/device/abc", [], b"{}")
        assert isinstance((await engine.send([request]))[0], PushResponse)
    with closing(engine):
        assert isinstance((await engine.send([request]))[0], TransportError)
        with SimulatorProcess(tmp_path, port=port):
            assert isinstance((await engine.send([request]))[0], PushResponse)


async def test_an_idle_engine_costs_nothing(engine: Http2Engine, simulator: SimulatorProcess) -> None:
    await engine.send([PushRequest(f"{simulator.url}/3/device/abc", [], b"{}")])
    await asyncio.sleep(0.1)
    began = time.process_time()
    await asyncio.sleep(1.0)
    assert time.process_time() - began < 0.1
