"""The served simulator, called by clients that we did not write: aioapns, firebase-admin, httpx and PycURL."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import firebase_admin
import httpx
import jwt
import pycurl
import pytest
from aioapns.common import NotificationRequest, NotificationResult, PushType
from aioapns.connection import APNsKeyConnectionPool, APNsProductionClientProtocol
from firebase_admin import credentials, exceptions, messaging
from google.auth.exceptions import RefreshError

from infra.simulator.client import AdminClient, AdminError
from infra.simulator.process import SimulatorProcess, SimulatorStartError
from infra.stack.keys import ProviderKeys, ensure_provider_keys
from infra.stack.tls import ensure_tls
from shared.clock import FileClock

pytestmark = pytest.mark.timeout(120)

TOPIC = "com.example.app"
FID = "dYZ-1234567890abcdefgh"
# 23:30 in Berlin, 14:30 in Los Angeles.
NIGHT_IN_BERLIN = datetime(2026, 11, 21, 22, 30, tzinfo=UTC).timestamp()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    with SimulatorProcess(tmp_path_factory.mktemp("simulator"), environment={"SURNIA_APNS_TOPIC": TOPIC}) as process:
        yield process


@pytest.fixture
def simulator(running: SimulatorProcess) -> SimulatorProcess:
    running.set_faults()
    running.reset()
    return running


def ca(simulator: SimulatorProcess) -> Path:
    return ensure_tls(simulator.state_dir).ca


def keys(simulator: SimulatorProcess) -> ProviderKeys:
    return ensure_provider_keys(simulator.state_dir, f"{simulator.url}/token")


def device() -> str:
    return uuid4().hex * 2


def payload(send_id: str = "s1", kind: str = "practice") -> dict[str, Any]:
    return {"aps": {"alert": {"title": "Hi", "body": "Practise"}}, "send_id": send_id, "kind": kind}


def provider_headers(simulator: SimulatorProcess, now: float, **more: str) -> dict[str, str]:
    key = keys(simulator).apns_key_file.read_bytes()
    token = jwt.encode({"iss": "TEAM", "iat": int(now)}, key, algorithm="ES256", headers={"kid": "KEY"})
    return {"authorization": f"bearer {token}", "apns-topic": TOPIC, "apns-push-type": "alert"} | more


# aioapns


def ask_apns(simulator: SimulatorProcess, *requests: NotificationRequest) -> list[NotificationResult]:
    class Here(APNsProductionClientProtocol):
        APNS_SERVER = "127.0.0.1"
        APNS_PORT = urlsplit(simulator.url).port or 0

    async def ask() -> list[NotificationResult]:
        tls = ssl.create_default_context(cafile=str(ca(simulator)))
        tls.set_alpn_protocols(["h2"])
        key = keys(simulator).apns_key_file.read_text()
        pool = APNsKeyConnectionPool(key, "KEY", "TEAM", TOPIC, ssl_context=tls, max_connections=1)
        pool.protocol_class = Here
        try:
            async with asyncio.timeout(30):
                return [await pool.send_notification(request) for request in requests]
        finally:
            for connection in list(pool.connections):
                connection.close()
            async with asyncio.timeout(30):
                while pool.connections:  # noqa: ASYNC110  # each leaves the pool, unannounced, once its socket is closed
                    await asyncio.sleep(0.001)

    return asyncio.run(ask())


def test_aioapns_is_told_of_success_and_the_witness_sees_the_push(simulator: SimulatorProcess) -> None:
    token = device()
    request = NotificationRequest(token, payload(), collapse_key="c1", time_to_live=600, push_type=PushType.ALERT)
    assert [result.status for result in ask_apns(simulator, request)] == ["200"]
    [shown] = simulator.pushes(token)
    assert {"title": "Hi", "body": "Practise", "send_id": "s1", "kind": "practice", "collapse_id": "c1"}.items() <= (
        shown.items()
    )
    assert simulator.stats()["by_provider"] == {"apns": 1, "fcm": 0}


def test_aioapns_is_told_of_dead_and_bad_tokens(simulator: SimulatorProcess) -> None:
    dead = device()
    simulator.set_faults(
        {"provider": "apns", "tokens": [dead], "reason": "Unregistered", "timestamp": 1_700_000_000_000}
    )
    results = ask_apns(
        simulator,
        NotificationRequest(dead, payload(), push_type=PushType.ALERT),
        NotificationRequest("not-a-token", payload(), push_type=PushType.ALERT),
        NotificationRequest(device(), payload(), push_type=PushType.ALERT),
    )
    told = [(result.status, result.description, result.timestamp) for result in results]
    assert told[:2] == [("410", "Unregistered", 1_700_000_000_000), ("400", "BadDeviceToken", None)]
    assert told[2][0] == "200"
    assert simulator.stats()["rejected"] == {"Unregistered": 1, "BadDeviceToken": 1}
    assert simulator.faults()[0]["hits"] == 1


# firebase-admin


@pytest.fixture
def firebase(simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[firebase_admin.App]:
    # google-auth runs on requests, firebase-admin's batches on httpx: each has its own variable for the CA.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca(simulator)))
    monkeypatch.setenv("SSL_CERT_FILE", str(ca(simulator)))
    address = simulator.url + "/v1/projects/{0}/messages:send"
    monkeypatch.setattr(messaging._MessagingService, "FCM_URL", address)
    account = json.loads(keys(simulator).fcm_credentials_file.read_text())
    app = firebase_admin.initialize_app(credentials.Certificate(account), name=uuid4().hex)
    yield app
    firebase_admin.delete_app(app)


def message(fid: str = FID, send_id: str = "s1") -> messaging.Message:
    return messaging.Message(
        fid=fid,
        notification=messaging.Notification(title="Hi", body="Practise"),
        data={"send_id": send_id, "kind": "comeback"},
        android=messaging.AndroidConfig(collapse_key="c1", priority="high", ttl=3600),
    )


def test_firebase_admin_gets_a_token_and_sends(simulator: SimulatorProcess, firebase: firebase_admin.App) -> None:
    assert messaging.send(message(), app=firebase).startswith("projects/surnia-demo/messages/")
    [shown] = simulator.pushes(FID)
    assert (shown["provider"], shown["kind"], shown["collapse_id"]) == ("fcm", "comeback", "c1")


def test_firebase_admin_only_validates(simulator: SimulatorProcess, firebase: firebase_admin.App) -> None:
    messaging.send(message(), dry_run=True, app=firebase)
    assert simulator.stats()["accepted"] == 0


def test_firebase_admin_sends_each_over_http2(simulator: SimulatorProcess, firebase: firebase_admin.App) -> None:
    messages = [message(fid=f"{FID}-{number}", send_id=f"s{number}") for number in range(20)]

    async def send_all() -> messaging.BatchResponse:
        try:
            return await messaging.send_each_async(messages, app=firebase)
        finally:
            # firebase-admin would close its connections from another event loop than theirs.
            await messaging._get_messaging_service(firebase)._async_client.aclose()

    assert asyncio.run(send_all()).success_count == 20
    assert simulator.stats()["distinct_devices"] == 20


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("UNREGISTERED", messaging.UnregisteredError),
        ("SENDER_ID_MISMATCH", messaging.SenderIdMismatchError),
        ("QUOTA_EXCEEDED", messaging.QuotaExceededError),
        ("THIRD_PARTY_AUTH_ERROR", messaging.ThirdPartyAuthError),
        ("INVALID_ARGUMENT", exceptions.InvalidArgumentError),
        ("UNAUTHENTICATED", exceptions.UnauthenticatedError),
    ],
)
def test_firebase_admin_understands_every_refusal(
    simulator: SimulatorProcess, firebase: firebase_admin.App, reason: str, error: type[Exception]
) -> None:
    # Without Retry-After: firebase-admin would wait for as long as it says, and ask again.
    simulator.set_faults({"provider": "fcm", "reason": reason, "retry_after": None})
    with pytest.raises(error):
        messaging.send(message(), app=firebase)
    assert simulator.stats()["accepted"] == 0


def test_firebase_admin_with_a_strangers_key_gets_no_token(
    simulator: SimulatorProcess, firebase: firebase_admin.App, tmp_path: Path
) -> None:
    account = json.loads(ensure_provider_keys(tmp_path, f"{simulator.url}/token").fcm_credentials_file.read_text())
    stranger = firebase_admin.initialize_app(credentials.Certificate(account), name=uuid4().hex)
    try:
        with pytest.raises(RefreshError, match="invalid_grant"):
            messaging.send(message(), app=stranger)
    finally:
        firebase_admin.delete_app(stranger)
    assert simulator.stats()["rejected"]["invalid_grant"] >= 1


# httpx


def h2(simulator: SimulatorProcess) -> httpx.Client:
    tls = ssl.create_default_context(cafile=str(ca(simulator)))
    return httpx.Client(http2=True, verify=tls, base_url=simulator.url)


def test_httpx_speaks_http2_and_gets_its_id_back(simulator: SimulatorProcess) -> None:
    own = str(uuid4())
    sent = provider_headers(simulator, time.time(), **{"apns-id": own})
    with h2(simulator) as client:
        answer = client.post(f"/3/device/{device()}", headers=sent, json=payload())
        del sent["apns-id"]
        other = client.post(f"/3/device/{device()}", headers=sent, json=payload())
    assert (answer.http_version, answer.status_code, answer.headers["apns-id"]) == ("HTTP/2", 200, own)
    assert answer.content == b""
    assert len(other.headers["apns-id"]) == 36


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("GET", f"/3/device/{'ab' * 32}", b"", 405, "MethodNotAllowed"),
        ("POST", "/3/nowhere", b"", 404, "BadPath"),
        ("POST", f"/3/device/{'ab' * 32}", b"x" * 500_000, 413, "PayloadTooLarge"),
        ("POST", f"/3/device/{'ab' * 32}", b"", 400, "PayloadEmpty"),
        ("POST", f"/3/device/{'ab' * 32}", bytes(range(256)), 400, "PayloadEmpty"),
    ],
)
def test_httpx_is_told_what_apns_would_say(
    simulator: SimulatorProcess, method: str, path: str, body: bytes, status: int, reason: str
) -> None:
    with h2(simulator) as client:
        answer = client.request(method, path, headers=provider_headers(simulator, time.time()), content=body)
    assert (answer.status_code, answer.json()) == (status, {"reason": reason})


def test_a_body_without_a_length_is_read_only_to_its_limit(simulator: SimulatorProcess) -> None:
    parts = (b"x" * 1000 for _ in range(100))
    with h2(simulator) as client:
        answer = client.post(f"/3/device/{device()}", headers=provider_headers(simulator, time.time()), content=parts)
    assert answer.json() == {"reason": "PayloadTooLarge"}


def test_overload_says_when_to_come_back(simulator: SimulatorProcess) -> None:
    simulator.set_faults(
        {"provider": "apns", "reason": "TooManyRequests", "retry_after": 7, "limit": 1},
        {"provider": "apns", "reason": "ServiceUnavailable"},
    )
    with h2(simulator) as client:
        sent = provider_headers(simulator, time.time())
        answers = [client.post(f"/3/device/{device()}", headers=sent, json=payload()) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [429, 503]
    assert answers[0].headers["retry-after"] == "7"


def test_latency_delays_the_answer(simulator: SimulatorProcess) -> None:
    simulator.set_faults({"provider": "apns", "latency_ms": 200})
    with h2(simulator) as client:
        began = time.monotonic()
        client.post(f"/3/device/{device()}", headers=provider_headers(simulator, time.time()), json=payload())
        assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("path", ["/admin/stats", "/admin/pushes?token=x", "/admin/faults"])
def test_admin_is_closed_to_strangers(simulator: SimulatorProcess, path: str) -> None:
    with h2(simulator) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
        assert client.get(path, headers={"authorization": f"Basic {simulator.admin_token}"}).status_code == 401


def test_bad_rules_change_nothing(simulator: SimulatorProcess) -> None:
    simulator.set_faults({"provider": "apns", "reason": "Shutdown"})
    with pytest.raises(AdminError, match="Nonsense"):
        simulator.set_faults({"provider": "apns", "reason": "Nonsense"})
    assert len(simulator.faults()) == 1


# PycURL


def post_all(simulator: SimulatorProcess, requests: list[tuple[str, dict[str, str], bytes]]) -> list[int]:
    """Send many requests over one HTTP/2 connection at the same time; their statuses."""
    multi = pycurl.CurlMulti()
    multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
    multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, 1)
    handles = []
    for path, headers, body in requests:
        curl = pycurl.Curl()
        curl.setopt(pycurl.URL, simulator.url + path)
        curl.setopt(pycurl.CAINFO, str(ca(simulator)))
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        curl.setopt(pycurl.PIPEWAIT, 1)
        curl.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in headers.items()])
        curl.setopt(pycurl.POSTFIELDS, body)
        curl.setopt(pycurl.WRITEFUNCTION, lambda _: None)
        multi.add_handle(curl)
        handles.append(curl)
    deadline = time.monotonic() + 30
    active = len(handles)
    while active:
        assert time.monotonic() < deadline, f"{active} requests are still open"
        multi.select(0.1)
        _, active = multi.perform()
    statuses = [curl.getinfo(pycurl.RESPONSE_CODE) for curl in handles]
    assert {curl.getinfo(pycurl.INFO_HTTP_VERSION) for curl in handles} == {pycurl.CURL_HTTP_VERSION_2}
    for curl in handles:
        multi.remove_handle(curl)
        curl.close()
    multi.close()
    return statuses


def test_pycurl_sends_many_at_once_and_all_are_counted(simulator: SimulatorProcess) -> None:
    sent = provider_headers(simulator, time.time(), **{"apns-collapse-id": "c1"})
    requests = [(f"/3/device/{number:064x}", sent, json.dumps(payload(f"s{number}")).encode()) for number in range(500)]
    assert set(post_all(simulator, requests)) == {200}
    again = requests[:20]
    assert set(post_all(simulator, again)) == {200}
    stats = simulator.stats()
    assert (stats["accepted"], stats["shown_twice"], stats["repeated_calls"]) == (520, 20, 20)
    assert (stats["distinct_devices"], stats["distinct_sends"]) == (500, 500)


def test_the_witness_goes_by_the_shared_clock_and_the_devices_own_time(tmp_path: Path) -> None:
    berlin, los_angeles = "a" * 64, "b" * 64
    devices = tmp_path / "devices.csv"
    devices.write_text(f"token,time_zone\n{berlin},Europe/Berlin\n{los_angeles},America/Los_Angeles\n")
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps([{"provider": "apns", "token_prefix": "c", "reason": "Unregistered"}]))
    clock_file = tmp_path / "clock"
    clock = FileClock.create(clock_file, NIGHT_IN_BERLIN)
    environment = {"SURNIA_CLOCK_FILE": str(clock_file), "SURNIA_APNS_TOPIC": TOPIC}
    with SimulatorProcess(tmp_path, devices=devices, faults=faults, environment=environment) as simulator:
        sent = provider_headers(simulator, NIGHT_IN_BERLIN)

        def push(token: str, kind: str) -> int:
            body = json.dumps(payload(f"{kind}-{token}", kind) | {"expires_at": NIGHT_IN_BERLIN + 600}).encode()
            return post_all(simulator, [(f"/3/device/{token}", sent, body)])[0]

        assert [push(berlin, "practice"), push(berlin, "streak_saver"), push(los_angeles, "practice")] == [200] * 3
        assert push("c" * 64, "practice") == 410
        assert simulator.stats()["outside_window_by"] == {"quiet_hours": 1, "expired": 0}
        clock.set(NIGHT_IN_BERLIN + 601)
        assert push(los_angeles, "campaign") == 200
        stats = simulator.stats()
        assert stats["outside_window_by"] == {"quiet_hours": 1, "expired": 1}
        assert stats["outside_window"] == 2
        assert stats["by_hour"] == {"2026-11-21T22:00:00Z": 4}
        clock.set(NIGHT_IN_BERLIN + 3601)
        assert push(los_angeles, "comeback") == 403


# The process


def test_it_ends_at_once_though_a_client_keeps_its_connection(tmp_path: Path) -> None:
    simulator = SimulatorProcess(tmp_path).start()
    try:
        with h2(simulator) as client:
            assert client.get("/healthz").http_version == "HTTP/2"
            began = time.monotonic()
            simulator.stop()
            assert time.monotonic() - began < 8
    finally:
        simulator.stop()


def test_a_taken_port_is_named(running: SimulatorProcess, tmp_path: Path) -> None:
    port = urlsplit(running.url).port or 0
    with pytest.raises(SimulatorStartError, match=f"{port} is in use"):
        SimulatorProcess(tmp_path, port=port).start()


def test_garbage_on_the_socket_harms_nobody(simulator: SimulatorProcess) -> None:
    address = ("127.0.0.1", urlsplit(simulator.url).port or 0)
    tls = ssl.create_default_context(cafile=str(ca(simulator)))
    tls.set_alpn_protocols(["h2", "http/1.1"])
    for garbage in (
        b"\x00" * 1000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 500,
        b"GET /\xff\xfe HTTP/9\r\n\r\n",
    ):
        with socket.create_connection(address, timeout=10) as plain:
            plain.sendall(garbage)
        with (
            socket.create_connection(address, timeout=10) as plain,
            tls.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
        ):
            wrapped.sendall(garbage)
    hostile = b"GET /admin/stats HTTP/1.1\r\nhost: x\r\nauthorization: Bearer \xff\xfe\r\n\r\n"
    tls.set_alpn_protocols(["http/1.1"])
    with (
        socket.create_connection(address, timeout=10) as plain,
        tls.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
    ):
        wrapped.sendall(hostile)
        assert wrapped.recv(100).split()[1] == b"401"
    assert AdminClient(simulator.url, ca(simulator), simulator.admin_token).healthy()
