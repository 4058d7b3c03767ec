"""A connection's TLS, by hand: so that a handshake can fail on purpose and a socket end as rudely as a test needs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from typing import Final, Protocol, cast

from infra.simulator.front.hello import offers_http2, whole

ALERT_HANDSHAKE_FAILURE: Final = b"\x15\x03\x03\x00\x02\x02\x28"  # a fatal alert (RFC 8446, 6)
LINGER_SECONDS: Final = 1.0  # for the client to end its side, before the socket is closed on it
_CHUNK: Final = 65_536


class Speaker(Protocol):
    """HTTP/2 or HTTP/1.1 over a connection."""

    def received(self, data: bytes) -> None: ...

    def lost(self) -> None: ...

    def leave(self) -> None:
        """End in order: finish what is under way, take nothing new."""


class Host(Protocol):
    """Decides about connections."""

    def context(self, http2_offered: bool) -> ssl.SSLContext | None:
        """The TLS context for a new client; None to refuse it."""

    def speaker(self, connection: Connection, http2: bool) -> Speaker: ...

    def made(self, connection: Connection) -> None: ...

    def gone(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._hello = b""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._ending = False
        self._lost = False
        self._frozen = False
        self._held: list[bytes] = []  # written while frozen
        self.speaker: Speaker | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # by its methods; uvloop's is no subclass
        self._host.made(self)

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        try:
            self._receive(data)
        except (ssl.SSLError, ConnectionError):
            # The library's own alert is in the buffer; after an orderly end it is empty.
            self._flush()
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's
        self._ending = self._lost = True
        if self.speaker:
            self.speaker.lost()
        self._host.gone(self)

    def write(self, data: bytes) -> None:
        """Send, unless the connection is ending; while frozen it is kept for later."""
        if self._frozen:
            self._held.append(data)
        elif self._tls and not self._ending and data:
            self._tls.write(data)
            self._flush()

    def close(self) -> None:
        """End in order, once all that was written is sent.

        Closing a socket with unread data in it makes the kernel reset it, and the client might lose our last words.
        """
        if self._ending:
            return
        if self._tls and self.speaker:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()
        self._ending = True
        if self._transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):
                self._transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._transport.abort)

    def reset(self) -> None:
        """End at once, with a TCP reset."""
        self._ending = True
        if self._lost:
            return  # the socket's number may be another's by now
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def freeze(self) -> None:
        """Neither read nor write any more."""
        self._frozen = True
        self._transport.pause_reading()

    def thaw(self) -> None:
        if self._frozen and not self._ending:
            self._frozen = False
            held, self._held = self._held, []
            for data in held:
                self.write(data)
            self._transport.resume_reading()

    def _receive(self, data: bytes) -> None:
        if self._tls is None:
            self._hello += data
            if not whole(self._hello):
                return
            context = self._host.context(offers_http2(self._hello))
            if context is None:
                self._transport.write(ALERT_HANDSHAKE_FAILURE)
                self.close()
                return
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
            data, self._hello = self._hello, b""
        self._incoming.write(data)
        if self.speaker is None and not self._shaken(self._tls):
            return
        with contextlib.suppress(ssl.SSLWantReadError):
            while not self._ending and (plain := self._tls.read(_CHUNK)):
                assert self.speaker
                self.speaker.received(plain)
            self.close()  # an empty read: the client has ended its side
        self._flush()

    def _shaken(self, tls: ssl.SSLObject) -> bool:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._flush()
        self.speaker = self._host.speaker(self, tls.selected_alpn_protocol() == "h2")
        return True

    def _flush(self) -> None:
        if self._outgoing.pending and not self._transport.is_closing():
            self._transport.write(self._outgoing.read())
