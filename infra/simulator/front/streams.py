"""How many streams a client may open on a connection, as the rules and its own doings have it."""

from __future__ import annotations

from collections import deque

from infra.simulator.faults import Terms
from infra.simulator.faults.transport import MOST_STREAMS

NOT_ACCEPTED = (401, 403)  # a request's credentials


class StreamLimit:
    """What was announced, and what the client has acknowledged: only that can be held against it."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._authorised = False
        self._requests = 0
        self._announced = deque([self.wanted])  # not acknowledged yet; the first in the connection's first SETTINGS
        strict = any(term.strict for term in terms if term)
        self.enforced = self.wanted if strict else MOST_STREAMS
        """Streams that may be open now."""

    @property
    def wanted(self) -> int:
        """What the client should be told by now."""
        one, most = self._terms
        streams = MOST_STREAMS
        if one:
            streams = one.streams if self._authorised else 1
        if most and self._requests >= most.after:
            streams = min(streams, most.streams)
        return streams

    def set(self, terms: Terms) -> None:
        self._terms = terms

    def requested(self) -> None:
        self._requests += 1

    def answered(self, status: int) -> None:
        """A request was answered so: its credentials were good, or not."""
        self._authorised = self._authorised or status not in NOT_ACCEPTED

    def announce(self) -> int | None:
        """The figure to tell the client, None if it was the last one told."""
        last = self._announced[-1] if self._announced else self.enforced
        if self.wanted == last:
            return None
        self._announced.append(self.wanted)
        return self.wanted

    def acknowledged(self) -> None:
        """The client has applied the oldest figure that it had not acknowledged."""
        if self._announced:
            self.enforced = self._announced.popleft()
