"""The HTTP/2 engine: batches of pushes in, their answers out, on a thread of its own.

The provider's protocol is one request a push, so the client decides the speed; libcurl's multi interface was the
fastest by far of those that Python has (docs/decisions). Its thread does everything, so that the event loop pays for
one hand-over a batch each way. libcurl itself repeats a request whose reused connection turned out dead before any
byte of an answer: with the same headers, so also with the same collapse id.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from functools import partial

import structlog

from shared.settings import Settings
from stream.delivery.exchange import Answer, PushRequest
from stream.delivery.http2_batch import Batch, EngineClosedError
from stream.delivery.http2_handle import EasyHandle, Trust
from stream.delivery.http2_loop import CurlLoop

MAX_IN_FLIGHT = 500
"""Requests under way to one provider: past some hundreds neither provider nor client gets faster, and each holds a
handle of about 10 KB. More wait in line, and so do those who sent them."""

Answered = asyncio.Future[list[Answer]]

_log = structlog.get_logger(__name__)


class Http2Engine:
    """Carries requests over a few warm connections a provider. Starts its thread with the first batch.

    TLS is always verified. Each request has `push_timeout_seconds` from when it is its turn.
    """

    def __init__(self, settings: Settings, max_in_flight: int = MAX_IN_FLIGHT) -> None:
        self._trust = Trust.of(settings.ca_file)
        self._timeout = settings.push_timeout_seconds
        self._connections = settings.http_connections
        self._max_in_flight = max_in_flight
        self._lock = threading.Lock()
        self._loop: CurlLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._under_way: set[Batch] = set()

    async def send(self, requests: Sequence[PushRequest]) -> list[Answer]:
        """One answer a request, in order; a request that failed is answered by a `TransportError`.

        When the caller is cancelled, what has not left yet is not sent. Raises `EngineClosedError`.
        """
        if not requests:
            return []
        caller = asyncio.get_running_loop()
        answered: Answered = caller.create_future()
        batch = Batch(list(requests), partial(_hand_back, caller, answered))
        with self._lock:
            self._running().submit(batch)
        self._under_way.add(batch)
        try:
            return await answered
        finally:
            self._under_way.discard(batch)
            batch.abandoned = not answered.done() or answered.cancelled()

    def wind_up(self) -> None:
        """Of what is in hand, send no more: it is answered as `closed`, and what has left by its provider."""
        for batch in self._under_way:
            batch.abandoned = True

    def close(self) -> None:
        """End the thread. What is under way is answered as `closed`. Blocks for some milliseconds."""
        with self._lock:
            self._closed = True
            if self._loop:
                self._loop.stop()
        if self._thread:
            self._thread.join()

    def _open(self) -> CurlLoop:
        return CurlLoop(partial(EasyHandle, self._trust, self._timeout), self._connections, self._max_in_flight)

    def _running(self) -> CurlLoop:
        if self._closed:
            raise EngineClosedError
        if self._loop is None:
            self._loop = self._open()
            self._thread = threading.Thread(target=self._loop.run, name="surnia-http2", daemon=True)
            self._thread.start()
        return self._loop


def _hand_back(caller: asyncio.AbstractEventLoop, answered: Answered, answers: list[Answer]) -> None:
    try:
        caller.call_soon_threadsafe(_resolve, answered, answers)
    except RuntimeError:
        _log.warning("delivery.answers_unwanted", count=len(answers), because="the event loop has ended")


def _resolve(answered: Answered, answers: list[Answer]) -> None:
    if not answered.done():
        answered.set_result(answers)
