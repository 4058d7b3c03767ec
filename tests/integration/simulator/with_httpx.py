"""A client that speaks HTTP/2 by httpx."""

from __future__ import annotations

import ssl

import httpx

from infra.simulator.process import SimulatorProcess
from tests.integration.simulator.asked import ca


def h2(simulator: SimulatorProcess) -> httpx.Client:
    tls = ssl.create_default_context(cafile=str(ca(simulator)))
    return httpx.Client(http2=True, verify=tls, base_url=simulator.url)
