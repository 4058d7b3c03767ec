"""Our engine alone, and libcurl without it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice

import pycurl

from infra.bench.deliver.handed import Handed
from infra.bench.deliver.report import BenchError
from infra.bench.deliver.senders import BATCH
from shared.settings import load_settings
from stream.delivery.exchange import PushRequest, PushResponse
from stream.delivery.http2 import MAX_IN_FLIGHT, Http2Engine
from stream.delivery.http2_handle import EasyHandle, Trust
from stream.garbage import collect_seldom

_TASKS = 8
"""Batches under way at once: as many as a lane's agent has (stream/app.py, MESSAGES)."""


def _requests(handed: Handed) -> list[PushRequest]:
    return [PushRequest(request.url, request.headers, request.body) for request in handed.requests]


class Engine:
    """`Http2Engine`, requests made before."""

    def __init__(self, handed: Handed) -> None:
        requests = _requests(handed)
        self._batches = [requests[start : start + BATCH] for start in range(0, len(requests), BATCH)]
        self._engine = Http2Engine(load_settings())
        collect_seldom()  # as the worker does that it is a part of

    async def send(self, n: int) -> None:
        numbers = iter(range(n // BATCH))
        await asyncio.gather(*(self._some(numbers) for _ in range(_TASKS)))

    async def _some(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            for answer in await self._engine.send(self._batches[number % len(self._batches)]):
                if not isinstance(answer, PushResponse) or answer.status != 200:
                    raise BenchError(f"not accepted: {answer}")

    async def close(self) -> None:
        self._engine.close()


class Libcurl:
    """libcurl's multi interface with its own loop and our options: the limit where there is no h2load."""

    def __init__(self, handed: Handed) -> None:
        settings = load_settings()
        self._requests = _requests(handed)
        trust = Trust.of(settings.ca_file)
        self._handles = {
            handle.curl: handle
            for handle in (EasyHandle(trust, settings.push_timeout_seconds) for _ in range(MAX_IN_FLIGHT))
        }
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, settings.http_connections)
        self._multi.setopt(pycurl.M_MAX_CONCURRENT_STREAMS, -(-MAX_IN_FLIGHT // settings.http_connections))

    async def send(self, n: int) -> None:
        multi, requests = self._multi, self._requests
        upcoming = iter(range(n))
        for curl, number in zip(self._handles, islice(upcoming, len(self._handles)), strict=False):
            self._handles[curl].load(requests[number % len(requests)])
            multi.add_handle(curl)
        left = n
        while left:
            multi.perform()
            more = 1
            while more:
                more, good, bad = multi.info_read()
                if bad:
                    raise BenchError(f"not accepted: {bad[0][2]}")
                for curl in good:
                    if curl.getinfo(pycurl.RESPONSE_CODE) != 200:
                        raise BenchError(f"not accepted: {curl.getinfo(pycurl.RESPONSE_CODE)}")
                    left -= 1
                    multi.remove_handle(curl)
                    if (next_one := next(upcoming, None)) is not None:
                        self._handles[curl].load(requests[next_one % len(requests)])
                        multi.add_handle(curl)
            if left:
                multi.select(0.1)

    async def close(self) -> None:
        for curl in self._handles:
            curl.close()
        self._multi.close()
