"""`SURNIA_REDIS_URL`, read without ever showing what is in it."""

from __future__ import annotations

from typing import Any, NamedTuple

from redis.asyncio.connection import parse_url

_REMEDY = "write it as redis://:password@host:port/0, with whatever is no letter or digit in the password as %XX"


class Hosts(NamedTuple):
    """`credentials@host:port,host:port/path?options`, taken apart, as Sentinel and cluster need it."""

    credentials: str
    """Up to and with the "@", or empty."""
    hosts: tuple[tuple[str, int], ...]
    path: tuple[str, ...]
    options: str
    """From the "?" on, or empty."""

    def url(self, scheme: str, host: str, port: int, database: str = "0") -> str:
        """One server's address, with the credentials and options of all."""
        name = f"[{host}]" if ":" in host else host
        return f"{scheme}://{self.credentials}{name}:{port}/{database}{self.options}"


def parse_hosts(rest: str, default_port: int) -> Hosts:
    """What follows "://". Raises ValueError, without the password in its text."""
    credentials, at, places = rest.rpartition("@")
    places, mark, options = places.partition("?")
    names, *path = places.split("/")
    hosts = []
    for name in names.split(","):
        host, colon, port = name.rpartition(":")
        if not colon or name.endswith("]"):
            host, port = name, ""
        if not host or (port and not port.isdigit()):
            raise ValueError("SURNIA_REDIS_URL: after the credentials come host:port[,host:port…]")
        hosts.append((host.strip("[]"), int(port or default_port)))
    parsed = Hosts(credentials + at, tuple(hosts), tuple(part for part in path if part), mark + options)
    parse_server(parsed.url("redis", *hosts[0]))
    return parsed


def parse_server(url: str) -> dict[str, Any]:
    """redis-py's options for one server. Raises ValueError, without the password in its text."""
    try:
        return dict(parse_url(url))
    except ValueError:
        # Its own text shows the piece that it took for a port, which may be one of the password.
        raise ValueError(f"SURNIA_REDIS_URL is no address of a server: {_REMEDY}") from None
