"""The engine's thread: libcurl's multi interface, driven by its sockets and timers through one selector."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count, repeat

import pycurl
import structlog

from stream.delivery.exchange import Answer, PushRequest, TransportError
from stream.delivery.http2_batch import CUT_OFF, NOT_SENT, Batch, EngineClosedError
from stream.delivery.http2_handle import EasyHandle
from stream.delivery.http2_sockets import Sockets

_log = structlog.get_logger(__name__)

_SILENT = {"timeout", "resolve"}
"""Failures that take seconds each: one after the other they would hold a batch up for minutes."""

_Job = tuple[Batch, int, PushRequest]


class _Host:
    """One provider's address. A queue each, so that a provider that hangs holds up nobody else's requests."""

    __slots__ = ("flying", "waiting", "window")

    def __init__(self) -> None:
        self.waiting: deque[_Job] = deque()
        self.flying = 0
        self.window = 1
        """Requests that may be under way: one until something is answered, then one more for each answer, and one again
        when a connection was lost. A new connection allows few streams (APNs: one, until a token was accepted), says so
        only after it was opened, and refuses what came before that."""


class CurlLoop:
    """Runs in its own thread. `submit` and `stop` may be called from any other, everything else is the thread's."""

    def __init__(self, make_handle: Callable[[], EasyHandle], connections: int, max_in_flight: int) -> None:
        self._make_handle = make_handle
        self._max_in_flight = max_in_flight
        self._inbox: deque[Batch] = deque()
        self._stopping = False
        # Held to put something into the inbox, and to shut it: nothing comes in that nobody takes out.
        self._door = threading.Lock()
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._sockets = Sockets(self._ear)
        self._idle: list[EasyHandle] = []
        self._flying: dict[pycurl.Curl, tuple[EasyHandle, _Host, _Job]] = {}
        self._hosts: dict[str, _Host] = {}
        self._multi = multi = pycurl.CurlMulti()
        multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, connections)
        # Under full load every connection gets its part; a provider's own smaller limit (SETTINGS) wins.
        multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, -(-max_in_flight // connections))
        # No timer function: libcurl would call it for every request. It is asked once for many.
        multi.setopt(pycurl.M_SOCKETFUNCTION, self._sockets.watch)

    def submit(self, batch: Batch) -> None:
        """Hand a batch over; its answers come by `on_done`, called in the loop's thread."""
        with self._door:
            if self._stopping:
                raise EngineClosedError
            self._inbox.append(batch)
        # Looked at afterwards: the thread takes out what there is without the door, and may have found it empty just
        # before. With more in it somebody has rung, and the thread is still to take it out, or about to see it.
        if len(self._inbox) == 1:
            self._ring()

    def stop(self) -> None:
        """End the loop. What is under way is answered as `closed`."""
        with self._door:
            self._stopping = True
        self._ring()

    def _ring(self) -> None:
        with suppress(OSError):  # Full of rings that were not heard yet, or closed because the loop has ended.
            self._bell.send(b"\0")

    def run(self) -> None:
        """The thread's body. Sleeps in the selector until a socket, a timer or the bell has something."""
        try:
            while not self._stopping:
                due = self._multi.timeout()
                ready = self._sockets.ready(None if due < 0 else due / 1000)
                with self._sockets.gathered():
                    for fd, bits in ready:
                        if bits:
                            self._multi.socket_action(fd, bits)
                        else:
                            self._hear()
                    if self._multi.timeout() == 0:
                        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
                self._collect()
                self._launch()
        except Exception:
            _log.exception("delivery.engine_failed", remedy="restart the worker; what was under way is retried")
        finally:
            self._end()

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            while self._ear.recv(4096):
                pass
        while self._inbox:
            batch = self._inbox.popleft()
            first = batch.requests[0].url
            place = first[: first.find("/", 8) + 1]
            if place and all(request.url.startswith(place) for request in batch.requests):
                # As nearly always: a batch is one provider's.
                self._host(place).waiting.extend(zip(repeat(batch), count(), batch.requests))
                continue
            for index, request in enumerate(batch.requests):
                url = request.url
                self._host(url[: url.find("/", 8) + 1]).waiting.append((batch, index, request))

    def _host(self, place: str) -> _Host:
        host = self._hosts.get(place)
        if host is None:
            host = self._hosts[place] = _Host()
        return host

    def _launch(self) -> None:
        for host in self._hosts.values():
            while host.waiting and host.flying < host.window:
                job = batch, index, request = host.waiting.popleft()
                if batch.abandoned:
                    batch.put(index, NOT_SENT)
                    continue
                handle = self._idle.pop() if self._idle else self._make_handle()
                try:
                    handle.load(request)
                except (pycurl.error, UnicodeError, TypeError) as error:
                    self._idle.append(handle)
                    batch.put(index, TransportError("request", sent=False, detail=str(error)))
                    continue
                self._flying[handle.curl] = handle, host, job
                self._multi.add_handle(handle.curl)
                host.flying += 1

    def _collect(self) -> None:
        if not self._flying:
            return
        more = 1
        while more:
            more, good, bad = self._multi.info_read()
            for curl in good:
                handle = self._flying[curl][0]
                self._finish(curl, handle.answer())
            for curl, code, message in bad:
                handle = self._flying[curl][0]
                failure = handle.failure(code, message)
                if isinstance(failure, TransportError) and failure.reason == "timeout":
                    self._sockets.hang_up_if_deaf(curl.getinfo(pycurl.LASTSOCKET), failure.seconds)
                self._finish(curl, failure)

    def _finish(self, curl: pycurl.Curl, answer: Answer) -> None:
        handle, host, (batch, index, _) = self._flying.pop(curl)
        self._multi.remove_handle(curl)
        self._idle.append(handle)
        host.flying -= 1
        if not isinstance(answer, TransportError):
            if host.window < self._max_in_flight:
                host.window += 1
        else:
            host.window = self._max_in_flight if answer.reason in _SILENT else 1
        batch.put(index, answer)

    def _end(self) -> None:
        with self._door:
            self._stopping = True
        for curl in list(self._flying):
            self._finish(curl, CUT_OFF)
        self._hear()
        for host in self._hosts.values():
            for batch, index, _ in host.waiting:
                batch.put(index, NOT_SENT)
        for handle in self._idle:
            handle.curl.close()
        self._multi.close()
        self._sockets.close()
        self._ear.close()
        self._bell.close()
