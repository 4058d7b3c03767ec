"""What one would write instead: aioapns, firebase-admin and httpx, each as its documentation shows it.

Texts are rendered and the library's own requests made before the clock starts, which is more than a caller has.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import warnings
from collections.abc import Awaitable, Callable, Iterator
from copy import copy
from itertools import count
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from infra.bench.deliver.handed import Handed, Push
from infra.bench.deliver.report import BenchError
from infra.bench.deliver.senders import BATCH

T = TypeVar("T")

_AIOAPNS_AT_ONCE = 100
"""Pushes under way at once. With more their bodies overrun the server's window of 64 KB; aioapns never gives back the
stream of a request that does, and waits for ever when it has lost all of them."""
_HTTPX_AT_ONCE = 100
"""With which it was fastest here, of 20, 100, 500 and 1000."""


async def _keep_busy(at_once: int, items: Iterator[T], send: Callable[[T], Awaitable[None]]) -> None:
    async def some() -> None:
        for item in items:
            await send(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(some())


def _around(items: list[T], n: int) -> Iterator[T]:
    return (items[number % len(items)] for number in range(n))


class Aioapns:
    """`APNs(...)` with its default of ten connections at most; it opens one more when the last is full."""

    def __init__(self, handed: Handed) -> None:
        from aioapns import APNs, NotificationRequest, PushType
        from aioapns.connection import APNsProductionClientProtocol

        address = urlsplit(handed.url)

        class Here(APNsProductionClientProtocol):
            APNS_SERVER = address.hostname or ""
            APNS_PORT = address.port or 443

        tls = ssl.create_default_context(cafile=handed.ca_file)
        tls.set_alpn_protocols(["h2"])
        self._apns = APNs(
            key=handed.apns_key,
            key_id=handed.apns_key_id,
            team_id=handed.apns_team_id,
            topic=handed.apns_topic,
            ssl_context=tls,
        )
        self._apns.pool.protocol_class = Here
        self._prefix, self._numbers = str(uuid4())[:24], count()
        self._requests = [
            NotificationRequest(
                push.token,
                {
                    "aps": {"alert": {"title": push.title, "body": push.body}, "sound": "default"},
                    "send_id": push.send_id,
                    "kind": push.kind,
                    "expires_at": push.expires_at,
                },
                notification_id=push.send_id,
                time_to_live=push.ttl,
                priority=5,
                collapse_key=push.send_id,
                push_type=PushType.ALERT,
            )
            for push in handed.pushes
        ]

    async def send(self, n: int) -> None:
        async def one(request: Any) -> None:
            # A waiting push is known by its id alone: of two with the same one, one would wait for ever.
            request = copy(request)
            request.notification_id = f"{self._prefix}{next(self._numbers):012x}"
            result = await self._apns.send_notification(request)
            if not result.is_successful:
                raise BenchError(f"not accepted: {result.status} {result.description}")

        await _keep_busy(_AIOAPNS_AT_ONCE, _around(self._requests, n), one)

    async def close(self) -> None:
        self._apns.pool.close()


class FirebaseAdmin:
    """`send_each_async`, 500 messages a call, as many as it takes."""

    def __init__(self, handed: Handed) -> None:
        import firebase_admin
        from firebase_admin import credentials, messaging

        self._messaging = messaging
        # firebase-admin has settings neither for the address nor for certificates: httpx reads one of these variables,
        # requests, which asks for its token, the other.
        os.environ |= {"SSL_CERT_FILE": str(handed.ca_file), "REQUESTS_CA_BUNDLE": str(handed.ca_file)}
        messaging._MessagingService.FCM_URL = handed.url + "/v1/projects/{0}/messages:send"
        account = json.loads(handed.fcm_account)
        self._app = firebase_admin.initialize_app(credentials.Certificate(account))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of `token`, for which the wire has no other word
            messages = [self._message(push) for push in handed.pushes]
        self._batches = [messages[start : start + BATCH] for start in range(0, len(messages), BATCH)]

    def _message(self, push: Push) -> Any:
        messaging = self._messaging
        return messaging.Message(
            token=push.token,
            data={"send_id": push.send_id, "kind": push.kind, "expires_at": str(push.expires_at)},
            notification=messaging.Notification(title=push.title, body=push.body),
            android=messaging.AndroidConfig(
                collapse_key=push.send_id,
                priority="normal",
                ttl=push.ttl,
                notification=messaging.AndroidNotification(tag=push.send_id),
            ),
        )

    async def send(self, n: int) -> None:
        for batch in _around(self._batches, n // BATCH):
            done = await self._messaging.send_each_async(batch, app=self._app)
            if done.failure_count:
                first = next(each.exception for each in done.responses if each.exception)
                raise BenchError(f"{done.failure_count} of {len(batch)} not accepted: {first!r}")

    async def close(self) -> None:
        await self._messaging._get_messaging_service(self._app)._async_client.aclose()


class Httpx:
    """`AsyncClient(http2=True)`: the very requests of our engine."""

    def __init__(self, handed: Handed) -> None:
        import httpx

        self._client = httpx.AsyncClient(
            http2=True, verify=ssl.create_default_context(cafile=handed.ca_file), timeout=60.0
        )
        self._requests = [
            (request.url, dict(line.split(": ", 1) for line in request.headers), request.body)
            for request in handed.requests
        ]

    async def send(self, n: int) -> None:
        async def one(request: tuple[str, dict[str, str], bytes]) -> None:
            url, headers, body = request
            answer = await self._client.post(url, headers=headers, content=body)
            if answer.status_code != 200:
                raise BenchError(f"not accepted: {answer.status_code} {answer.text[:200]}")

        await _keep_busy(_HTTPX_AT_ONCE, _around(self._requests, n), one)

    async def close(self) -> None:
        await self._client.aclose()
