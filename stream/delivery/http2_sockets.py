"""The sockets of the engine's thread: what is watched, when something last came in, and how writes are gathered.

They are libcurl's; here are second handles to them, which are closed as soon as libcurl lets go of its own.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic

import pycurl

_READ = {pycurl.POLL_IN, pycurl.POLL_INOUT}
_WRITE = {pycurl.POLL_OUT, pycurl.POLL_INOUT}
_CORK: int | None = getattr(socket, "TCP_CORK", getattr(socket, "TCP_NOPUSH", None))
"""Linux' option, BSD's and macOS'."""


class Sockets:
    """Watches them all, and one of ours, the `ear`."""

    def __init__(self, ear: socket.socket) -> None:
        self._ear = ear.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(ear, selectors.EVENT_READ)
        # None where it is no socket: libcurl's resolver wakes it up by something else.
        self._mine: dict[int, socket.socket | None] = {}
        self._heard: dict[int, float] = {}

    def watch(self, what: int, fd: int, _multi: object, _data: object) -> None:
        """libcurl wants to know when it can read or write there, or nothing any more."""
        events = (selectors.EVENT_READ if what in _READ else 0) | (selectors.EVENT_WRITE if what in _WRITE else 0)
        if not events:
            if fd in self._mine:
                self._selector.unregister(fd)
                self._heard.pop(fd, None)
                if mine := self._mine.pop(fd):
                    mine.close()
        elif fd in self._mine:
            self._selector.modify(fd, events)
        else:
            self._selector.register(fd, events)
            self._mine[fd] = None
            with suppress(OSError):
                self._mine[fd] = _again(fd)

    def ready(self, wait: float | None) -> list[tuple[int, int]]:
        """Wait so many seconds at most, None: for ever; (socket, CSELECT_* bits) where there is something to do. No
        bits: the ear."""
        found = []
        for key, events in self._selector.select(wait):
            bits = 0
            if key.fd != self._ear:
                if events & selectors.EVENT_READ:
                    bits, self._heard[key.fd] = pycurl.CSELECT_IN, monotonic()
                if events & selectors.EVENT_WRITE:
                    bits |= pycurl.CSELECT_OUT
            found.append((key.fd, bits))
        return found

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """What is written meanwhile leaves together at the end.

        libcurl writes each request by itself, and each write woke the other side: a fifth of what a push cost.
        """
        self._cork(1)
        try:
            yield
        finally:
            self._cork(0)

    def _cork(self, on: int) -> None:
        if _CORK is not None:
            for each in filter(None, self._mine.values()):
                with suppress(OSError):  # It has just ended: libcurl finds out.
                    each.setsockopt(socket.IPPROTO_TCP, _CORK, on)

    def hang_up_if_deaf(self, fd: int, seconds: float) -> None:
        """End a connection on which nothing was heard for so long.

        libcurl keeps it: a request that times out says nothing about a connection that carries many (curl's known issue
        17225). One that a firewall has forgotten would swallow all that follows.
        """
        if fd < 0 or self._heard.get(fd, 0.0) > monotonic() - seconds:
            return
        with suppress(OSError), _again(fd) as connection:
            # libcurl finds out by itself, as when the other side has ended it.
            connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in filter(None, self._mine.values()):
            each.close()
        self._selector.close()


def _again(fd: int) -> socket.socket:
    return socket.fromfd(fd, socket.AF_INET, socket.SOCK_STREAM)
