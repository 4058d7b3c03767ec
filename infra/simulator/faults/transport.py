"""What goes wrong below HTTP: frames, sockets and handshakes. Named in a rule as `"transport": {"fault": …}`.

`when` says on which side of the provider's acceptance a request is broken off. `before`: nobody will be shown the push.
`after`: the push is accepted, the witness has seen it, and the sender is not told: the ambiguous window.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

REFUSED_STREAM: Final = 7  # RFC 9113, 8.7: surely not processed, safe to send again
INTERNAL_ERROR: Final = 2
MOST_STREAMS: Final = 1000  # concurrent streams a connection, what APNs announces
When = Literal["before", "after"]
ErrorCode = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
Streams = Annotated[int, Meta(ge=0, le=MOST_STREAMS)]


class _Transport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="fault"):
    """What all of them have in common: their JSON names one by `fault`."""


class Reset(_Transport, frozen=True, tag="reset"):
    """RST_STREAM instead of an answer; over HTTP/1.1 the socket is reset."""

    when: When = "before"
    code: ErrorCode | None = None  # unset: REFUSED_STREAM before, INTERNAL_ERROR after

    def __post_init__(self) -> None:
        if self.when == "after" and self.code == REFUSED_STREAM:
            raise ValueError("REFUSED_STREAM after the push was accepted would be a lie that no provider tells")

    @property
    def error_code(self) -> int:
        if self.code is not None:
            return self.code
        return REFUSED_STREAM if self.when == "before" else INTERNAL_ERROR


class Drop(_Transport, frozen=True, tag="drop"):
    """The connection ends without a word: by a TCP reset, or closed in order. All of its streams suffer."""

    when: When = "after"
    tcp: Literal["reset", "close"] = "reset"


class Goaway(_Transport, frozen=True, tag="goaway"):
    """GOAWAY in the middle of the traffic; its last stream id is the highest stream that was processed.

    Streams above it are not processed, those below get their answers, then the connection is closed. With `in_flight`
    "drop" it is closed at once: then nobody is told about what was processed and not yet answered.
    """

    when: When = "before"
    in_flight: Literal["finish", "drop"] = "finish"
    code: ErrorCode = 0
    reason: Annotated[str, Meta(max_length=64)] = ""  # told as APNs does: JSON in the frame's debug data


class Stall(_Transport, frozen=True, tag="stall"):
    """No answer: on this stream, or nothing any more on the whole connection (not even to a ping)."""

    when: When = "after"
    scope: Literal["stream", "connection"] = "stream"
    seconds: Annotated[float, Meta(gt=0, le=86_400)] | None = None  # then it goes on; unset: never

    def __post_init__(self) -> None:
        if self.when == "before" and self.seconds is not None:
            raise ValueError("a stall before acceptance that ends is a latency_ms")


class MaxStreams(_Transport, frozen=True, tag="max_streams"):
    """SETTINGS_MAX_CONCURRENT_STREAMS of every connection, also of those that are open.

    A stream too many is reset as REFUSED_STREAM. A client is held to what it has acknowledged; with `strict` also to a
    connection's first SETTINGS before it can have read them, as many servers do.
    """

    streams: Streams
    strict: bool = False
    after: Annotated[int, Meta(ge=0)] = 0  # requests on the connection before it is told


class OneStream(_Transport, frozen=True, tag="one_stream_until_authorised"):
    """A connection starts with one stream; `streams` are allowed once a request's credentials were accepted."""

    streams: Streams = MOST_STREAMS
    strict: bool = False


class Tls(_Transport, frozen=True, tag="tls"):
    """New connections fail: the handshake is refused, or shows a certificate by an authority that nobody trusts.

    Only those that offer HTTP/2 are hit: admin calls, which speak HTTP/1.1, can end it.
    """

    how: Literal["refused", "stranger"] = "refused"


OfRequest = Reset | Drop | Goaway | Stall
OfConnection = MaxStreams | OneStream | Tls
Transport = OfRequest | OfConnection
