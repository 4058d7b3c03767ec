"""Whether a worker gets on: pure, so that it can be tested without servers, threads and waiting.

A worker is stuck where a partition of its own has messages that it has not committed, and its committed offset has not
moved for the deadline; where its event loop has not come round for as long; or where its group has shared out the
partitions for as long without an end. Not while it waits for a server: it would wait for it after a restart as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.lag import Position

Partition = tuple[str, int]
"""Topic and number."""
SHARING_SECONDS = 180.0
"""A group may take so long to share out its partitions at the least: a minute until it gives up a member that died, and
one for each of the others to let go of what it has."""


class Stuck(NamedTuple):
    """Why a worker counts as stuck."""

    what: str
    """`partition`, `event loop` or `rebalance`."""
    seconds: float
    """For so long."""
    topic: str = ""
    partition: int = -1
    committed: int = -1
    behind: int = 0

    def __str__(self) -> str:
        if self.what == "partition":
            return (
                f"{self.topic}[{self.partition}] is {self.behind} messages behind and has not moved from "
                f"{self.committed} for {self.seconds:.0f} s"
            )
        happened = "has not come round" if self.what == "event loop" else "has not come to an end"
        return f"the {self.what} {happened} for {self.seconds:.0f} s"


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a worker at a moment."""

    beat: float
    """When its event loop came round last (seconds of a monotonic clock)."""
    sharing: bool = False
    """Whether it has no partitions yet, or its group shares them out anew: nothing is read meanwhile."""
    positions: Mapping[Partition, Position] | None = None
    """Of its own partitions; None: the brokers did not say."""
    idle: frozenset[Partition] = frozenset()
    """Those of them that it has read to the end, and handled: what is left there is no message, a transaction's end
    for one."""
    waiting: tuple[str, ...] = ()
    """The servers that it waits for."""


@dataclass(slots=True)
class Liveness:
    """One worker's, from look to look."""

    deadline: float
    stuck: tuple[Stuck, ...] = ()
    _still: dict[Partition, tuple[int, float]] = field(default_factory=dict)
    """Where a partition with a backlog stands, and since when."""
    _sharing: float | None = None
    _looked: float | None = None
    _floor: float = 0.0

    def see(self, now: float, look: Look) -> tuple[Stuck, ...]:
        """What follows from one more look."""
        if self._looked is not None and now - self._looked > self.deadline / 2:
            # Whoever looks did not come round either: the process, or the machine, was stopped. What it could not do
            # meanwhile says nothing.
            self._restart_clocks(now)
        self._looked = now
        excused = bool(look.waiting) or look.positions is None
        if excused:
            self._restart_clocks(now, loop=False)
        self._sharing = (now if self._sharing is None else self._sharing) if look.sharing else None
        found = []
        if (seconds := now - max(look.beat, self._floor)) >= self.deadline:
            found.append(Stuck("event loop", seconds))
        if self._sharing is not None and (seconds := now - self._sharing) >= max(self.deadline, SHARING_SECONDS):
            found.append(Stuck("rebalance", seconds))
        found += self._partitions(now, look)
        self.stuck = tuple(found)
        return self.stuck

    def _partitions(self, now: float, look: Look) -> list[Stuck]:
        if look.sharing:
            self._still.clear()
        if look.sharing or look.positions is None:
            return []
        found = []
        self._still = {partition: still for partition, still in self._still.items() if partition in look.positions}
        for partition, position in look.positions.items():
            if not position.behind or partition in look.idle:
                self._still.pop(partition, None)
                continue
            # Any other place counts as movement: somebody may have set the group back on purpose.
            committed, since = self._still.get(partition, (-1, now))
            if committed != position.committed:
                since = now
            self._still[partition] = position.committed, since
            if (seconds := now - since) >= self.deadline:
                found.append(Stuck("partition", seconds, *partition, position.committed, position.behind))
        return found

    def still(self, partition: Partition, now: float) -> float:
        """Seconds for which a partition with a backlog has not moved."""
        found = self._still.get(partition)
        return now - found[1] if found else 0.0

    def _restart_clocks(self, now: float, *, loop: bool = True) -> None:
        self._still = {partition: (committed, now) for partition, (committed, _) in self._still.items()}
        self._sharing = None if self._sharing is None else now
        if loop:
            self._floor = now
