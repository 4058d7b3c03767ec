"""Which of the two servers has the port: the fast one, or the front while a rule asks for transport faults."""

from __future__ import annotations

import asyncio
from typing import Final

from infra.simulator.app import Simulator
from infra.simulator.config import SimulatorConfig
from infra.simulator.fast import FastServer
from infra.simulator.front import Front

STOP_SECONDS: Final = 1.0


class Servers:
    """Hands the port over when the rules change: the old server refuses connections before the new one accepts them.

    Between the two, for some milliseconds, the port is closed, and connections end with a GOAWAY, as when a provider
    restarts a machine.
    """

    def __init__(self, config: SimulatorConfig, simulator: Simulator) -> None:
        self._address = (config.host, config.port)
        self._faults = simulator.faults
        files = (config.cert_file, config.key_file)
        self._fast = FastServer(simulator, *self._address, *files)
        self._front = Front(simulator, simulator.faults, simulator.counts, *files)
        self._now: FastServer | Front | None = None
        self._lock = asyncio.Lock()
        self.failed = asyncio.Event()
        """Set when a server ended that nobody had stopped."""

    async def follow(self) -> None:
        """Have the server that the rules ask for; returns once it accepts connections and knows the rules."""
        async with self._lock:
            wanted = self._front if self._faults.of_transport else self._fast
            if wanted is self._now:
                self._front.rules_changed()
                return
            await self._leave()
            if wanted is self._front:
                await self._front.start(*self._address)
            else:
                await self._fast.start()
                assert self._fast.serving
                self._fast.serving.add_done_callback(self._ended)
            self._now = wanted

    async def stop(self) -> None:
        """End; clients that keep their connections open must not hold us up."""
        async with self._lock:
            await self._leave()
            waiting = [asyncio.create_task(self._front.ended())]
            if self._fast.serving:
                waiting.append(self._fast.serving)
            await asyncio.wait(waiting, timeout=STOP_SECONDS)

    def raise_failure(self) -> None:
        if self._fast.serving and self._fast.serving.done():
            self._fast.serving.result()

    async def _leave(self) -> None:
        last, self._now = self._now, None
        if last is self._front:
            self._front.stop()
        elif last is self._fast:
            await self._fast.stop()

    def _ended(self, serving: asyncio.Task[None]) -> None:
        if serving is self._fast.serving and self._now is self._fast:
            self.failed.set()
