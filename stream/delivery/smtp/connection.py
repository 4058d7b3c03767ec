"""One connection to the mail server: opened when it is needed, kept for the next message, given up when in doubt."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPConnectError,
    SMTPException,
    SMTPResponseException,
    SMTPServerDisconnected,
    SMTPTimeoutError,
)

from shared.settings import Settings
from stream.delivery.exchange import Answer, PushResponse, TransportError
from stream.delivery.smtp.codes import Stage

IMPLICIT_TLS = 465
CLOSING = 421
"""The server ends the connection (RFC 5321, 3.8)."""
NOT_IMPLEMENTED = 502


class Connection:
    """Carries one message at a time."""

    def __init__(self, settings: Settings, trust: ssl.SSLContext, sender: str) -> None:
        implicit = settings.smtp_port == IMPLICIT_TLS
        username = settings.smtp_username
        self._sender = sender
        self._client = SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            username=username or None,
            password=settings.smtp_password.get_secret_value() if username else None,
            # The deadline is the engine's; this one only ends what its cancellation could not.
            timeout=settings.push_timeout_seconds,
            use_tls=implicit,
            # Never in the clear: without it a connection fails, before the login.
            start_tls=not implicit,
            tls_context=trust,
        )
        self.stage = Stage.connect
        """Where the present message is."""
        self.asked = False
        """Whether the message itself has been handed over: from then on nobody knows until the server has answered."""

    async def deliver(self, recipient: str, message: bytes) -> Answer:
        """Hand over one message. Raises nothing but CancelledError; after that it must be closed."""
        self.asked = False
        for fresh in (not self._client.is_connected, True):
            try:
                return await self._try(recipient, message)
            except SMTPResponseException as error:
                # An idle connection that the server is through with says so at the next command.
                if not fresh and self.stage is Stage.sender and error.code == CLOSING:
                    self.close()
                    continue
                return await self._refused(error)
            except (SMTPException, OSError) as error:
                stale = not fresh and self.stage is Stage.sender
                self.close()
                if not stale:
                    return self._lost(error)
        raise AssertionError("a fresh connection is not stale")

    async def _try(self, recipient: str, message: bytes) -> Answer:
        client = self._client
        if not client.is_connected:
            self.stage = Stage.connect
            await client.connect()
        self.stage = Stage.sender
        await client.mail(self._sender)
        self.stage = Stage.recipient
        await client.rcpt(recipient)
        self.stage = Stage.data
        self.asked = True
        code, text = await client.data(message)
        return _answer(self.stage, code, text)

    async def _refused(self, error: SMTPResponseException) -> Answer:
        stage = Stage.auth if isinstance(error, SMTPAuthenticationError) else self.stage
        # Half a mail would be in the way of the next. A server that answered gibberish is not asked again.
        if self._client.is_connected and stage in (Stage.recipient, Stage.data) and 400 <= error.code < 600:
            try:
                await self._client.rset()
            except (SMTPException, OSError):
                self.close()
        else:
            self.close()
        return _answer(stage, error.code, str(error.message))

    def _lost(self, error: Exception) -> Answer:
        if _no_login(error):
            return _answer(Stage.auth, NOT_IMPLEMENTED, str(error))
        if self.asked:
            return TransportError("unanswered", sent=True, detail=str(error))
        return TransportError(_reason(error), sent=False, detail=str(error))

    def close(self) -> None:
        """At once, without taking leave: a TLS connection that is closed politely waits for the server's word."""
        with suppress(RuntimeError):  # Of a transport whose loop has ended.
            if isinstance(self._client.transport, asyncio.WriteTransport):
                self._client.transport.abort()
            self._client.close()


def _answer(stage: Stage, code: int, text: str) -> PushResponse:
    return PushResponse(max(0, code), f"{stage} {text}".encode("utf-8", "replace"))


def _no_login(error: Exception) -> bool:
    """Whether the server offers none, or none that the library speaks: it has no class for that."""
    return type(error) is SMTPException and "STARTTLS" not in str(error)


def _reason(error: Exception) -> str:
    if isinstance(error, SMTPTimeoutError):
        return "timeout"
    if isinstance(error, SMTPConnectError):
        cause = error.__cause__
        if isinstance(cause, ssl.SSLError):
            return "tls"
        return "resolve" if isinstance(cause, socket.gaierror) else "connect"
    if isinstance(error, ssl.SSLError):
        return "tls"
    if isinstance(error, SMTPServerDisconnected):
        return "closed"
    # What is left of the library's own: a server that offers no STARTTLS.
    return "reset" if isinstance(error, OSError) else "tls"
