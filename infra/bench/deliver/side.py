"""One contender of the bench: where it can finish, how much it is given, and what it took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Protocol

import msgspec

from infra.bench.deliver.report import BenchError, Report
from infra.bench.deliver.senders import BATCH
from infra.bench.deliver.servers import Server, Servers

WARM = BATCH
_WARMER = 4


class Pushes(Protocol):
    """Whoever pushes when told to. Raises `BenchError` where it could not."""

    async def push(self, pushes: int, within: float) -> Report: ...

    async def close(self) -> None: ...


class Figures(msgspec.Struct):
    """`per_s`: the median of the rounds on `server`, 0 where it could finish nowhere. CPU: of the sender, the kernel's
    share too."""

    per_s: float
    cpu_us_per_push: float
    peak_rss_mb: float
    pushes: int
    rounds: list[float]
    server: str
    errors: dict[str, str]
    """What it said, by server, where it could not finish."""


class Side:
    """A contender's part in the rounds."""

    def __init__(self, name: str, open_on: Callable[[Server], Pushes], seconds: float) -> None:
        self.name = name
        self._open_on = open_on
        self._seconds = seconds
        self._within = max(30.0, 10 * seconds)
        self._servers: Servers | None = None
        self._next = 0
        """The server to be tried next."""
        self._pushes: Pushes | None = None
        self._each = 0
        self._server = ""
        self._errors: dict[str, str] = {}
        self._done: list[Report] = []
        self.first = 0
        """The round that is the first on the server where it is now: rounds elsewhere say nothing of this one."""

    async def find_server(self, servers: Servers) -> None:
        """Warm up on the first server where it can finish; how fast it is there says how much a round is."""
        self._servers = servers
        while server := servers.at(self._next):
            self._next += 1
            self._server = server.what
            self._pushes = self._open_on(server)
            try:
                # The first is slow: it connects, and a worker joins its group. Then more each time, until it is half a
                # turn: a few batches do not show how fast they are one after the other.
                rate = WARM / (await self._pushes.push(WARM, self._within)).seconds
                for _ in range(_WARMER):
                    some = _whole(rate * self._seconds)
                    report = await self._pushes.push(some, self._within)
                    rate = some / report.seconds
                    if report.seconds >= self._seconds / 2:
                        break
            except BenchError as error:
                self._errors[server.what] = str(error)
                await self.close()
            else:
                self._each = _whole(rate * self._seconds)
                return

    async def turn(self, n: int) -> float:
        """The `n`th round: pushes a second, 0 where it finished nowhere.

        Who fails here, after having warmed up, has its turn on the next server.
        """
        while self._pushes:
            try:
                report = await self._pushes.push(self._each, self._within)
            except BenchError as error:
                self._errors[self._server] = f"in round {n + 1}: {error}"
                await self.close()
                self._done, self.first = [], n
                assert self._servers
                await self.find_server(self._servers)
            else:
                self._done.append(report)
                return self._each / report.seconds
        self.first = n
        return 0.0

    async def close(self) -> None:
        pushes, self._pushes = self._pushes, None
        if pushes:
            await pushes.close()

    def figures(self, rates: Sequence[float]) -> Figures:
        """After the last round."""
        rates = rates[self.first :]
        pushed = self._each * len(self._done)
        return Figures(
            per_s=round(median(rates), 1),
            cpu_us_per_push=round(sum(each.cpu_seconds for each in self._done) / pushed * 1e6, 2) if pushed else 0.0,
            peak_rss_mb=max((each.peak_rss_mb for each in self._done), default=0.0),
            pushes=pushed,
            rounds=[round(rate, 1) for rate in rates],
            server=self._server,
            errors=self._errors,
        )


def _whole(pushes: float) -> int:
    """In whole batches, at least one."""
    return max(1, round(pushes / BATCH)) * BATCH
