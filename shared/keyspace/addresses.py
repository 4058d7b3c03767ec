"""Addresses with several hosts, as Sentinel and cluster take them."""

from __future__ import annotations

from typing import NamedTuple


class Hosts(NamedTuple):
    """`credentials@host:port,host:port/path`, taken apart."""

    credentials: str
    """Up to and with the "@", or empty."""
    hosts: tuple[tuple[str, int], ...]
    path: tuple[str, ...]


def parse_hosts(rest: str, default_port: int) -> Hosts:
    """What follows "://". Raises ValueError, without the password in its text."""
    credentials, at, places = rest.rpartition("@")
    names, *path = places.split("/")
    hosts = []
    for name in names.split(","):
        host, _, port = name.rpartition(":") if ":" in name else (name, "", "")
        if not host or (port and not port.isdigit()):
            raise ValueError("SURNIA_REDIS_URL: after the credentials come host:port[,host:port…]")
        hosts.append((host, int(port or default_port)))
    return Hosts(credentials + at, tuple(hosts), tuple(part for part in path if part))
