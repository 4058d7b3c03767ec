"""The simulator as a process: its port, its end, and what harms it not."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from infra.simulator.client import AdminClient
from infra.simulator.process import SimulatorProcess, SimulatorStartError
from tests.integration.simulator.asked import ca
from tests.integration.simulator.with_httpx import h2

pytestmark = pytest.mark.timeout(120)


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


FRONT = {"transport": {"fault": "max_streams", "streams": 1000}}


@pytest.mark.parametrize("rules", [[], [FRONT]], ids=["fast", "front"])
def test_garbage_on_the_socket_harms_nobody(simulator: SimulatorProcess, rules: list[dict[str, Any]]) -> None:
    simulator.set_faults(*rules)
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
