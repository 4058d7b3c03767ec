"""What the front saw of connections and streams, for `/admin/stats`."""

from __future__ import annotations

from collections import Counter
from typing import Any

from infra.simulator.faults.transport import OfRequest


class Counts:
    """Zero where no transport fault was ever asked for: granian does not tell."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.connections = 0  # that finished their handshake
        self.handshakes_failed = 0
        self.most_streams = 0  # open at a time on one connection
        self.streams_refused = 0  # opened although the client had been told of a lower limit
        self.broken: Counter[str] = Counter()  # requests, by fault and when: "reset_after"

    def broke(self, fault: OfRequest) -> None:
        self.broken[f"{fault.__struct_config__.tag}_{fault.when}"] += 1

    def listed(self) -> dict[str, Any]:
        return {
            "connections": self.connections,
            "handshakes_failed": self.handshakes_failed,
            "most_streams": self.most_streams,
            "streams_refused": self.streams_refused,
            "broken": dict(self.broken),
        }
