"""What a TLS client says first: enough of RFC 8446, 4.1.2 to know whether it offers HTTP/2 (ALPN, RFC 7301)."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 5 + 16_384  # a record's header and what it may hold
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_ALPN: Final = 16


def whole(data: bytes) -> bool:
    """Whether the first record is there, or never will be: what is no handshake is for the TLS library to refuse."""
    if data[:1] != bytes([_HANDSHAKE]) or len(data) >= LONGEST:
        return bool(data)
    return len(data) >= 5 and len(data) >= 5 + _number(data, 3)


def offers_http2(data: bytes) -> bool:
    """Whether a first record's ClientHello names "h2" among its protocols; False for what is no ClientHello."""
    try:
        return b"h2" in _protocols(data)
    except IndexError:
        return False


def _protocols(data: bytes) -> list[bytes]:
    if data[0] != _HANDSHAKE or data[5] != _CLIENT_HELLO:
        return []
    at = 5 + 4 + 2 + 32  # the record's and the message's header, version, random
    at += 1 + data[at]  # session id
    at += 2 + _number(data, at)  # cipher suites
    at += 1 + data[at]  # compression methods
    end = at + 2 + _number(data, at)
    at += 2
    while at < end:
        kind, size = _number(data, at), _number(data, at + 2)
        at += 4
        if kind == _ALPN:
            return _names(data[at + 2 : at + size])
        at += size
    return []


def _names(data: bytes) -> list[bytes]:
    names = []
    at = 0
    while at < len(data):
        names.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return names


def _number(data: bytes, at: int) -> int:
    """Two bytes, big end first; raises IndexError where there are none."""
    return data[at] << 8 | data[at + 1]
