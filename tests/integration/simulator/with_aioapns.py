"""Pushes by aioapns, over one connection."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

from aioapns.common import NotificationRequest, NotificationResult
from aioapns.connection import APNsKeyConnectionPool, APNsProductionClientProtocol

from infra.simulator.process import SimulatorProcess
from tests.integration.simulator.asked import TOPIC, ca, keys


def ask_apns(
    simulator: SimulatorProcess, *requests: NotificationRequest, at_once: bool = False
) -> list[NotificationResult]:
    """What each is told, one after the other or all at once."""

    class Here(APNsProductionClientProtocol):
        APNS_SERVER = "127.0.0.1"
        APNS_PORT = urlsplit(simulator.url).port or 0
        INACTIVITY_TIME = 1  # seconds; it closes a connection that says nothing, and sends again

    async def ask() -> list[NotificationResult]:
        tls = ssl.create_default_context(cafile=str(ca(simulator)))
        tls.set_alpn_protocols(["h2"])
        key = keys(simulator).apns_key_file.read_text()
        pool = APNsKeyConnectionPool(key, "KEY", "TEAM", TOPIC, ssl_context=tls, max_connections=1)
        pool.protocol_class = Here
        try:
            async with asyncio.timeout(30):
                if at_once:
                    return await asyncio.gather(*map(pool.send_notification, requests))
                return [await pool.send_notification(request) for request in requests]
        finally:
            for connection in list(pool.connections):
                connection.close()
            async with asyncio.timeout(30):
                while pool.connections:  # noqa: ASYNC110  # each leaves the pool, unannounced, once its socket is closed
                    await asyncio.sleep(0.001)

    return asyncio.run(ask())
