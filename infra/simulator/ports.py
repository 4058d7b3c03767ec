"""A port that stays ours from before the keys name it until the server listens on it."""

from __future__ import annotations

import socket
from typing import Self


class PortTakenError(RuntimeError):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port} is in use: stop what listens there, or pass --port 0 for a free one.")


class ReservedPort:
    """Bound, not listening. granian binds the same port with SO_REUSEPORT and gets all connections."""

    def __init__(self, host: str, port: int = 0) -> None:
        if port:
            self._refuse_if_taken(host, port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise PortTakenError(host, port) from None
        self.port: int = self._socket.getsockname()[1]

    @staticmethod
    def _refuse_if_taken(host: str, port: int) -> None:
        # Without SO_REUSEPORT: with it, two simulators would silently share the connections.
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                raise PortTakenError(host, port) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
