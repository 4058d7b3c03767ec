"""What the simulator needs of RSGI: typed views of granian's request objects, and bodies that end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

from infra.simulator.apns import Headers
from infra.simulator.faults.transport import OfRequest
from infra.simulator.reply import Reply


class Scope(Protocol):
    proto: str
    http_version: str
    method: str
    path: str
    query_string: str

    @property
    def headers(self) -> Headers: ...


class HttpProtocol(Protocol):
    async def __call__(self) -> bytes: ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None: ...

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None: ...


@runtime_checkable
class Breakable(Protocol):
    """A request of the front's: it can also not be answered."""

    def break_off(self, fault: OfRequest, reply: Reply | None) -> None: ...


class Application(Protocol):
    async def __rsgi__(self, scope: Scope, proto: HttpProtocol) -> None: ...


async def read_body(headers: Headers, proto: HttpProtocol, limit: int) -> bytes | None:
    """The request's body; None for one of more than `limit` bytes, which is not read to its end."""
    length = headers.get("content-length")
    if length is not None and headers.get("transfer-encoding") is None:
        # Frames beyond the announced length are an error that the HTTP layer below has already answered.
        if not length.isascii() or not length.isdigit() or len(length) > 12 or int(length) > limit:
            return None
        return await proto()
    parts: list[bytes] = []
    size = 0
    async for part in proto:
        size += len(part)
        if size > limit:
            return None
        parts.append(part)
    return b"".join(parts)


def send(proto: HttpProtocol, reply: Reply) -> None:
    if reply.fault:
        assert isinstance(proto, Breakable)  # the rules of transport faults pass over what is not
        proto.break_off(reply.fault, reply._replace(fault=None) if reply.status else None)
    elif reply.body:
        proto.response_bytes(reply.status, reply.headers, reply.body)
    else:
        proto.response_empty(reply.status, reply.headers)
