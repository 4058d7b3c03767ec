"""Many requests at once by libcurl."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple

import pycurl

from infra.simulator.process import SimulatorProcess
from tests.integration.simulator.asked import ca, payload, provider_headers

Asked = tuple[str, dict[str, str], bytes]


class Told(NamedTuple):
    """How a request ended: an HTTP status, or libcurl's error with status 0."""

    status: int
    error: int = 0


class Curls:
    """Transfers that share connections; `connections` at most."""

    def __init__(self, simulator: SimulatorProcess, connections: int = 1) -> None:
        self._simulator = simulator
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, connections)

    def ask(self, requests: Iterable[Asked], timeout: float = 30) -> list[Told]:
        """Send them at the same time; each has `timeout` seconds."""
        handles = [self._handle(*request, timeout) for request in requests]
        errors: dict[pycurl.Curl, int] = {}
        deadline = time.monotonic() + 60
        active = len(handles)
        while active:
            assert time.monotonic() < deadline, f"{active} requests are still open"
            self._multi.select(0.05)
            _, active = self._multi.perform()
            _, _, failed = self._multi.info_read(len(handles))
            errors |= {curl: number for curl, number, _ in failed}
        told = [
            Told(0 if curl in errors else curl.getinfo(pycurl.RESPONSE_CODE), errors.get(curl, 0)) for curl in handles
        ]
        answered = [curl for curl in handles if curl not in errors]
        assert {curl.getinfo(pycurl.INFO_HTTP_VERSION) for curl in answered} <= {pycurl.CURL_HTTP_VERSION_2}
        for curl in handles:
            self._multi.remove_handle(curl)
            curl.close()
        return told

    def push(self, *tokens: str, timeout: float = 30) -> list[Told]:
        """One push to each device, as APNs wants it."""
        sent = provider_headers(self._simulator, time.time())
        body = json.dumps(payload()).encode()
        return self.ask([(f"/3/device/{token}", sent, body) for token in tokens], timeout)

    def close(self) -> None:
        self._multi.close()

    def _handle(self, path: str, headers: dict[str, str], body: bytes, timeout: float) -> pycurl.Curl:
        curl = pycurl.Curl()
        curl.setopt(pycurl.URL, self._simulator.url + path)
        curl.setopt(pycurl.CAINFO, str(ca(self._simulator)))
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        curl.setopt(pycurl.PIPEWAIT, 1)
        curl.setopt(pycurl.TIMEOUT_MS, round(timeout * 1000))
        curl.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in headers.items()])
        curl.setopt(pycurl.POSTFIELDS, body)
        curl.setopt(pycurl.WRITEFUNCTION, lambda _: None)
        self._multi.add_handle(curl)
        return curl


@contextmanager
def curls(simulator: SimulatorProcess, connections: int = 1) -> Iterator[Curls]:
    with closing(Curls(simulator, connections)) as opened:
        yield opened


def post_all(simulator: SimulatorProcess, requests: list[Asked]) -> list[int]:
    """Send many requests over one HTTP/2 connection at the same time; their statuses."""
    with curls(simulator) as opened:
        return [told.status for told in opened.ask(requests)]
