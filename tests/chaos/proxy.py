"""A TCP proxy between one worker and one server: the network that chaos cuts and freezes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any

LOOPBACK = "127.0.0.1"
_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on with no seconds: closing sends a reset instead of an orderly end."""


class Proxy:
    """Listens on a port of its own as long as it lives; `close` ends it. Its methods may be called from any thread."""

    def __init__(self, target: int) -> None:
        """`target` is the server's port on loopback."""
        self._target = target
        self._streams: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.port = 0
        self._call(self._listen())

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        self._call(self._cut())

    def freeze(self) -> None:
        """Hold back every byte, of connections that are open and of new ones; nothing is lost."""
        self._call(self._set_flowing(False))

    def mend(self) -> None:
        """Let everything pass again, the bytes first that were held back."""
        self._call(self._listen())
        self._call(self._set_flowing(True))

    def close(self) -> None:
        """End it for good."""
        self._call(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        for stream in list(self._streams):
            stream.transport.abort()
        # Whoever waits in a frozen pump wakes up and finds its connection gone.
        self._flowing.set()

    async def _set_flowing(self, flowing: bool) -> None:
        (self._flowing.set if flowing else self._flowing.clear)()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams.add(_resetting(writer))
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:
            writer.transport.abort()
            self._streams.discard(writer)
            return
        if writer.transport.is_closing():
            # It was cut while the far side was being called.
            _resetting(far_writer).transport.abort()
        self._streams.add(_resetting(far_writer))
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            self._streams.difference_update((writer, far_writer))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                await self._flowing.wait()
                sink.write(data)
                await sink.drain()
        # One side has gone: the other one learns of it, whichever way its bytes were going.
        sink.transport.abort()


def _resetting(stream: asyncio.StreamWriter) -> asyncio.StreamWriter:
    stream.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    return stream
