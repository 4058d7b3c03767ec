"""The engine behind e-mails: a few connections to the mail server, each carrying one message at a time."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence

from msgspec.structs import replace

from shared.settings import Settings
from stream.delivery.exchange import Answer, PushRequest, TransportError
from stream.delivery.http2_batch import NOT_SENT, EngineClosedError
from stream.delivery.provider import SetupError
from stream.delivery.smtp.connection import Connection
from stream.delivery.smtp.mail import sender


class SmtpEngine:
    """Carries e-mails over at most `smtp_connections` connections, which are opened when needed and kept.

    TLS is always verified. Each message has `push_timeout_seconds` from when it is its turn. Runs in the caller's
    loop: at the speed that mail servers allow, a thread would win nothing.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises `SetupError`."""
        _, self._sender = sender(settings)
        try:
            self._trust = ssl.create_default_context(cafile=settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise SetupError(f"SURNIA_CA_FILE {settings.ca_file} holds no certificates: {error}") from None
        self._settings = settings
        self._free = asyncio.Semaphore(settings.smtp_connections)
        self._idle: list[Connection] = []
        self._closed = False

    async def send(self, requests: Sequence[PushRequest]) -> list[Answer]:
        """One answer a request, in order; one that failed is answered by a `TransportError`.

        When the caller is cancelled, what has not left yet is not sent. Raises `EngineClosedError`.
        """
        if self._closed:
            raise EngineClosedError
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._one(request)) for request in requests]
        return [task.result() for task in tasks]

    def close(self) -> None:
        """Hang up. What is under way is finished, what waits for its turn is answered as `closed`."""
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _one(self, request: PushRequest) -> Answer:
        async with self._free:
            if self._closed:
                return NOT_SENT
            # The one that was used last: those that are not needed grow old, and the server ends them.
            connection = self._idle.pop() if self._idle else Connection(self._settings, self._trust, self._sender)
            started = time.monotonic()
            try:
                async with asyncio.timeout(self._settings.push_timeout_seconds):
                    answer = await connection.deliver(request.url.removeprefix("mailto:"), request.body)
            except TimeoutError:
                connection.close()
                answer = TransportError("unanswered" if connection.asked else "timeout", sent=connection.asked)
            except BaseException:
                connection.close()
                raise
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)
            return replace(answer, seconds=time.monotonic() - started)
