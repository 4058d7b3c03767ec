"""A real mail server for tests: aiosmtpd with STARTTLS, which does as it is told and remembers what it took."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from shared.settings import Settings

HOST = "localhost"
LOGIN = "surnia", "a secret"


class MailServer:
    """What it is to answer, and what it has seen. Its hooks run in the server's own thread."""

    def __init__(self) -> None:
        self.answers: dict[str, list[str]] = {}
        """By command and address (`RCPT ada@example.com`, `MAIL`, `DATA`): answers in order, then all is well."""
        self.mails: list[Envelope] = []
        self.sessions: list[Session] = []
        """One for each connection that got as far as EHLO under TLS."""
        self.logins: list[tuple[str, str]] = []
        self.slow: dict[str, float] = {}
        """By the same names: seconds to wait before answering."""
        self.busy = self.busiest = 0
        self._connections: list[tuple[asyncio.AbstractEventLoop, Any]] = []

    def messages(self) -> list[EmailMessage]:
        """What it took, parsed as a mail program would."""
        parsed = [message_from_bytes(mail.content or b"", policy=policy.default) for mail in self.mails]  # type: ignore[arg-type]  # bytes, unless decode_data
        return [message for message in parsed if isinstance(message, EmailMessage)]

    def recipients(self) -> list[str]:
        return [mail.rcpt_tos[0] for mail in self.mails]

    def hang_up(self) -> None:
        """End every connection at once, without a word."""
        while self._connections:
            loop, transport = self._connections.pop()
            loop.call_soon_threadsafe(transport.abort)

    async def _answer(self, *names: str) -> str:
        for name in names:
            if name in self.slow:
                await asyncio.sleep(self.slow[name])
            if self.answers.get(name):
                return self.answers[name].pop(0)
        return "250 2.0.0 OK"

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        if session.ssl:
            self.sessions.append(session)
            self._connections.append((server.loop, server.transport))
        return responses

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = await self._answer("MAIL")
        if answer.startswith("2"):
            envelope.mail_from = address
        return answer

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = await self._answer(f"RCPT {address}", "RCPT")
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        answer = await self._answer(f"DATA {envelope.rcpt_tos[0]}", "DATA")
        self.busy -= 1
        if answer.startswith("2"):
            self.mails.append(envelope)
        if answer.startswith("hang up"):
            transport: Any = server.transport
            transport.abort()
        return answer

    def login(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        given = data.login.decode(), data.password.decode()
        self.logins.append(given)
        return AuthResult(success=given == LOGIN, handled=False)


class _Smtp(SMTP):
    """Keeps what it speaks over: first the connection, after STARTTLS also the TLS in it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.transports: list[Any] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transports.append(transport)
        super().connection_made(transport)

    def open(self) -> bool:
        return bool(self.transports) and self.transports[0].get_extra_info("socket").fileno() >= 0


class _AnyPort(Controller):
    """On a port that was free when it was taken, not some time before; leaves no connection behind.

    The library ends its loop with connections open, and a test that comes later would be told of them.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._made: list[_Smtp] = []

    def factory(self) -> SMTP:
        made = _Smtp(self.handler, **self.SMTP_kwargs)
        self._made.append(made)
        return made

    def stop(self, no_assert: bool = False) -> None:
        asyncio.run_coroutine_threadsafe(self._hang_up(), self.loop).result(30)
        super().stop(no_assert)

    async def _hang_up(self) -> None:
        assert self.server
        self.server.close()
        for made in self._made:
            for transport in reversed(made.transports):
                transport.abort()
        async with asyncio.timeout(20):
            while any(made.open() for made in self._made):  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.001)

    def _create_server(self) -> Any:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        return self.loop.create_server(self._factory_invoker, sock=listener)


@contextmanager
def serving(server: MailServer, ca: trustme.CA, *, name: str = HOST, **changes: Any) -> Iterator[int]:
    """The server on a port of its own, with a certificate of that name; its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(name).configure_cert(context)
    options: dict[str, Any] = {"tls_context": context, "require_starttls": True} | changes
    controller = _AnyPort(server, hostname="127.0.0.1", ready_timeout=30.0, **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def mail_settings(port: int, ca_file: Path, **changes: Any) -> Settings:
    """Settings that send to it."""
    values: dict[str, Any] = {
        "smtp_host": HOST,
        "smtp_port": port,
        "ca_file": ca_file,
        "email_from": "Surnia <reminders@surnia.example>",
        "unsubscribe_url": "https://app.example.com/unsubscribe",
        "unsubscribe_keys": "k" * 40,
        "push_timeout_seconds": 5.0,
    }
    return Settings.model_validate(values | changes)
