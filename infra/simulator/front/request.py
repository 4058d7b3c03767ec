"""One request as the application sees it: the front's own form of what granian hands over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Protocol, overload
from urllib.parse import unquote

from infra.simulator.faults.transport import OfRequest
from infra.simulator.reply import Reply


class Headers:
    """The first value of each name; names are lowercase."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, str] = {}
        for name, value in pairs:
            self._values.setdefault(name, value)

    @overload
    def get(self, key: str, /) -> str | None: ...

    @overload
    def get(self, key: str, default: str, /) -> str: ...

    def get(self, key: str, default: str | None = None, /) -> str | None:
        return self._values.get(key, default)


@dataclass
class RequestScope:
    method: str
    path: str
    query_string: str
    http_version: str
    headers: Headers
    proto: str = "http"

    @classmethod
    def of(cls, method: str, target: str, version: str, pairs: Iterable[tuple[str, str]]) -> RequestScope:
        path, _, query = target.partition("?")
        return cls(method, unquote(path), query, version, Headers(pairs))

    @classmethod
    def of_http2(cls, pairs: list[tuple[str, str]]) -> RequestScope:
        pseudo = dict(pair for pair in pairs if pair[0].startswith(":"))
        return cls.of(pseudo.get(":method", ""), pseudo.get(":path", ""), "2", pairs)


class Answering(Protocol):
    """Who knows how to answer on the wire, and how not to."""

    def answer(self, request: Request, reply: Reply) -> None: ...

    def break_off(self, request: Request, fault: OfRequest, reply: Reply | None) -> None: ...


class Request:
    """A body that arrives in parts, and the one answer."""

    def __init__(self, stream: int, scope: RequestScope, answering: Answering) -> None:
        self.stream = stream
        self.scope = scope
        self.task: asyncio.Task[None] | None = None
        self._answering = answering
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._wanted = True

    def feed(self, part: bytes) -> None:
        """A part of the body; what comes after the answer is nobody's."""
        if self._wanted:
            self._parts.put_nowait(part)

    def end(self) -> None:
        """The body is whole, or will never be."""
        self._parts.put_nowait(None)

    async def __call__(self) -> bytes:
        return b"".join([part async for part in self])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (part := await self._parts.get()) is not None:
            yield part

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.response_bytes(status, headers, b"")

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self._wanted = False
        self._answering.answer(self, Reply(status, headers, body))

    def break_off(self, fault: OfRequest, reply: Reply | None) -> None:
        """Do to the request what the fault says; `reply` is what the sender is not told, None before acceptance."""
        self._wanted = False
        self._answering.break_off(self, fault, reply)
