"""granian behind the port: TLS, HTTP/2 by ALPN, HTTP/1.1 for admin clients, tens of thousands of requests a second."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Final

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP2Settings
from granian.server.embed import Server

from infra.simulator.faults.transport import MOST_STREAMS
from infra.simulator.wire import Application

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 1.0
HEADERS_LIMIT: Final = 32 * 1024  # bytes


class FastServer:
    """Serves an application on one port; started and stopped as often as one likes."""

    def __init__(self, application: Application, host: str, port: int, cert: Path, key: Path) -> None:
        self._application = application
        self._host, self._port = host, port
        self._cert, self._key = cert, key
        self._server: Server | None = None
        self.serving: asyncio.Task[None] | None = None
        """Done when granian ended by itself, or after `stop` when the last client has let go of its connection."""

    async def start(self) -> None:
        """Returns once connections are accepted."""
        self._server = Server(
            self._application,
            address=self._host,
            port=self._port,
            interface=Interfaces.RSGI,
            http=HTTPModes.auto,
            websockets=False,
            backlog=1024,
            backpressure=16_384,
            http2_settings=HTTP2Settings(max_concurrent_streams=MOST_STREAMS, max_headers_size=HEADERS_LIMIT),
            ssl_cert=self._cert,
            ssl_key=self._key,
            ssl_protocol_min=SSLProtocols.tls12,
            log_enabled=False,
        )
        self.serving = asyncio.create_task(self._server.serve())
        async with asyncio.timeout(START_SECONDS):
            while not await self._accepts():
                if self.serving.done():
                    self.serving.result()
                    raise RuntimeError("The simulator's server ended before it listened.")
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Returns once connections are refused. Those that are open are sent a GOAWAY and finish what they have."""
        if self._server is None:
            return
        self._server.stop()  # type: ignore[no-untyped-call]
        self._server = None
        async with asyncio.timeout(START_SECONDS):
            while await self._accepts():  # noqa: ASYNC110  # granian's own thread closes the port and tells nobody
                await asyncio.sleep(0.005)

    async def _accepts(self) -> bool:
        with socket.socket() as probe:
            probe.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(probe, (self._host, self._port))
            except (ConnectionRefusedError, ConnectionResetError):
                return False
        return True
