"""The whole run: servers up, everybody warm, rounds in turn, half load, and the ratios.

ours_engine     the HTTP/2 engine alone, requests made before
ours_path       a delivery worker: Kafka in, expiry, pauses and settled checks, texts, HTTP/2, settling, Kafka out
ours_path_fcm   the same to FCM, as firebase-admin does
limit           h2load with the engine's request; where it is not installed, libcurl's multi interface alone
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import msgspec

from infra.bench.cores import Cores
from infra.bench.deliver.child import Child, SenderChild
from infra.bench.deliver.limit import H2load, find_h2load
from infra.bench.deliver.material import apns_requests, pushes, sends
from infra.bench.deliver.path import WholePath
from infra.bench.deliver.report import BenchError, Report
from infra.bench.deliver.servers import Server, Servers
from infra.bench.deliver.side import Figures, Pushes, Side
from infra.bench.latency import Latency
from infra.bench.rounds import Rates, alternate, ratio
from shared.wire.sends import Platform
from stream.delivery.http2 import MAX_IN_FLIGHT

LIBRARIES = ("aioapns", "firebase_admin", "httpx")
BLAST = 4_000_000 / 5
"""Pushes a second: Duolingo's Super Bowl send (FINDINGS, providers)."""
_HALF_LOAD_ROUNDS = 3

Say = Callable[[str], None]


class HalfLoad(msgspec.Struct):
    """At half of `ours_path`'s rate. Accepted: settled at the gate, too."""

    per_s: float
    kafka_to_accepted: Latency
    kafka_to_outcome_in_kafka: Latency


class DeliverBench(msgspec.Struct):
    """Ratios are medians of the rounds' ratios; None where one of the two could not finish, or was not asked for."""

    cores: str
    server: str
    limit_is: str
    seconds: float
    ours_engine: Figures
    ours_path: Figures
    ours_path_fcm: Figures
    aioapns: Figures
    firebase_admin: Figures
    httpx: Figures
    limit: Figures
    engine_ratio_to_aioapns: float | None
    path_ratio_to_aioapns: float | None
    path_ratio_to_firebase_admin: float | None
    """Of `ours_path_fcm`: both send to FCM."""
    engine_ratio_to_limit: float | None
    path_ratio_to_limit: float | None
    cores_for_4m_in_5s: float
    """Cores of workers alone, as fast as `ours_path` here."""
    half_load: HalfLoad


class _Way:
    """The path, to one platform's provider."""

    def __init__(self, path: WholePath, platform: Platform) -> None:
        self._path = path
        self._platform = platform

    async def push(self, n: int, within: float) -> Report:
        return await self._path.push(n, within, self._platform)

    async def close(self) -> None:
        """Whoever opened the path closes it: both ways are one worker's."""


async def bench_deliver(
    folder: Path,
    environment: dict[str, str],
    cores: Cores,
    rounds: int,
    seconds: float,
    say: Say,
    libraries: Collection[str] = LIBRARIES,
) -> DeliverBench:
    """`environment`: `SURNIA_*` of servers that are the bench's own; `seconds`: of a contender's turn in a round.

    `libraries`: those that are measured; the figures of the others stay 0.
    """
    with ExitStack() as until:
        servers = Servers(folder, environment, cores, until)
        server = servers.at(0)
        assert server
        say(f"{server.what}; {cores}")

        def library(name: str) -> Callable[[Server], Pushes]:
            return lambda at: SenderChild(name, at, cores.sender, folder)

        async with AsyncExitStack() as closing:
            log = folder / "logs" / "bench-worker.log"
            worker = Child(("-m", "infra.bench.deliver.worker"), server.environment, cores.sender, log)
            path = await closing.enter_async_context(WholePath(server.settings, worker))
            limit, limit_is = await _limit(server, library("libcurl"), cores, folder)
            sides = [
                Side("ours_engine", library("ours_engine"), seconds),
                Side("ours_path", lambda _: _Way(path, "ios"), seconds),
                Side("ours_path_fcm", lambda _: _Way(path, "android"), seconds),
                *(Side(name, library(name), seconds) for name in LIBRARIES),
                Side("limit", limit, seconds),
            ]
            for side in sides:
                closing.push_async_callback(side.close)
                if side.name in LIBRARIES and side.name not in libraries:
                    continue
                say(f"warming up {side.name}")
                await side.find_server(servers)
            rates = await alternate(rounds, {side.name: side.turn for side in sides}, say)
            found = {side.name: side.figures(rates[side.name]) for side in sides}
            for name in ("ours_path", "ours_engine"):
                if not found[name].per_s:
                    raise BenchError(f"{name} could not finish: {found[name].errors}")
            half = found["ours_path"].per_s / 2
            say(f"half load: {half:,.0f}/s")
            latencies = await path.latencies(half, _HALF_LOAD_ROUNDS * seconds)
    first = {side.name: side.first for side in sides}

    def of(mine: str, other: str) -> float | None:
        start = max(first[mine], first[other])
        return _ratio({name: rates[name][start:] for name in (mine, other)}, mine, other)

    return DeliverBench(
        cores=str(cores),
        server=server.what,
        limit_is=limit_is,
        seconds=seconds,
        **found,
        engine_ratio_to_aioapns=of("ours_engine", "aioapns"),
        path_ratio_to_aioapns=of("ours_path", "aioapns"),
        path_ratio_to_firebase_admin=of("ours_path_fcm", "firebase_admin"),
        engine_ratio_to_limit=of("ours_engine", "limit"),
        path_ratio_to_limit=of("ours_path", "limit"),
        cores_for_4m_in_5s=round(BLAST / found["ours_path"].per_s, 1),
        half_load=HalfLoad(round(half, 1), *latencies),
    )


async def _limit(
    server: Server, libcurl: Callable[[Server], Pushes], cores: Cores, folder: Path
) -> tuple[Callable[[Server], Pushes], str]:
    binary = find_h2load()
    if not binary:
        return libcurl, "libcurl's multi interface alone (no h2load here)"
    settings = server.settings
    now = settings.clock().now()
    (request,) = await apns_requests(settings, pushes(sends(0, 1, now, "ios"), now))
    limit = H2load(binary, request, settings.http_connections, MAX_IN_FLIGHT, cores.sender, folder)
    return (lambda _: limit), limit.what


def _ratio(rates: Rates, mine: str, other: str) -> float | None:
    return ratio(rates, mine, other) if all(rates[mine]) and all(rates[other]) else None
