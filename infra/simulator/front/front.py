"""Listens, and keeps the connections."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

from infra.simulator.faults import Faults
from infra.simulator.front.counts import Counts
from infra.simulator.front.http1 import Http1
from infra.simulator.front.http2 import Http2
from infra.simulator.front.streams import StreamLimit
from infra.simulator.front.tls import Connection, Speaker
from infra.simulator.wire import Application

BACKLOG: Final = 1024
LEAVE_SECONDS: Final = 10.0  # for answers that are under way, the slow ones, too


class Front:
    """Serves an application on a port that nobody else listens on."""

    def __init__(self, application: Application, faults: Faults, counts: Counts, cert: Path, key: Path) -> None:
        self._application = application
        self._faults = faults
        self._counts = counts
        self._context = _context(cert, key)
        self._stranger: ssl.SSLContext | None = None
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        # With SO_REUSEPORT, as granian: the port is bound all the time by who reserved it.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind((host, port))
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(partial(Connection, self), sock=listener, backlog=BACKLOG)
        except BaseException:
            listener.close()
            raise

    def stop(self) -> None:
        """Take no more connections, and end those that are open in order, or in a while without."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        leaving = list(self._connections)
        for connection in leaving:
            connection.thaw()
            if connection.speaker:
                connection.speaker.leave()
            else:
                connection.close()
        asyncio.get_running_loop().call_later(LEAVE_SECONDS, _reset, leaving)

    async def ended(self) -> None:
        """Wait until the last connection is gone; after `stop` that is soon."""
        await self._empty.wait()

    def rules_changed(self) -> None:
        """Tell every open connection what the rules now say of its streams."""
        for connection in self._connections:
            if isinstance(speaker := connection.speaker, Http2):
                speaker.limit.set(self._faults.terms())
                speaker.tell()

    # As the host of its connections.

    def context(self, http2_offered: bool) -> ssl.SSLContext | None:
        fault = self._faults.tls() if http2_offered else None
        if fault is None:
            return self._context
        self._counts.handshakes_failed += 1
        if fault.how == "refused":
            return None
        if self._stranger is None:
            self._stranger = _strangers_context()
        return self._stranger

    def speaker(self, connection: Connection, http2: bool) -> Speaker:
        self._counts.connections += 1
        if http2:
            return Http2(connection, self._application, StreamLimit(self._faults.terms()), self._counts)
        return Http1(connection, self._application)

    def made(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._empty.clear()

    def gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()


def _reset(connections: list[Connection]) -> None:
    for connection in connections:
        connection.reset()


def _context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def _strangers_context() -> ssl.SSLContext:
    """For the right names, by an authority that was made up this moment."""
    from infra.stack.tls import ensure_tls

    with tempfile.TemporaryDirectory(prefix="surnia-stranger-") as folder:
        files = ensure_tls(Path(folder))
        return _context(files.cert, files.key)
