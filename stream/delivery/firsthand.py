"""Which messages nobody can have had before this worker.

A worker that dies between a provider's answer and settling leaves a send that was pushed and does not look like it.
For a push that is harmless: the next worker pushes it again with the same collapse id. An e-mail has no such id in
common with a push. So the last resort of who has a device is only for messages that were written since the partitions
were shared out the last time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from faust.types import EventT

from shared.clock import Clock, SystemClock

MARGIN_SECONDS = 60.0
"""For clocks of producers and workers that differ, and for a worker that goes on for a while with partitions that it
has lost: Kafka lets it do so for its session's 60 s at most."""


class Firsthand:
    """One worker's knowledge. Kafka stamps messages by the machines' clocks, so it asks that one, never a test's."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._since = float("inf")

    def assigned(self) -> None:
        """The group has shared out its partitions."""
        self._since = self._clock.now() + MARGIN_SECONDS

    def knows(self, events: Sequence[EventT[bytes]]) -> bool:
        """Whether all of them were written since then."""
        return all((event.message.timestamp or 0.0) >= self._since for event in events)


Knows = Callable[[Sequence[EventT[bytes]]], bool]
