"""A second server for the same port, slow and able to misbehave: it serves while a rule asks for transport faults.

granian answers tens of thousands of requests a second, but gives no hold on frames, sockets and handshakes. The front
is pure Python on `h2` (HTTP/2), `h11` (HTTP/1.1) and the standard library's TLS: some hundred requests a second, by
the very same application.
"""

from infra.simulator.front.front import Front

__all__ = ["Front"]
