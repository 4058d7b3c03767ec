"""Up to where a partition may be committed: what was handed over, in order, and how much of it is done.

Faust's own bookkeeping lists acknowledged offsets and guesses at gaps: it commits past work in flight when acks come
out of order, and past what was in hand when partitions are taken away. Here nothing is guessed: what was handed over
stands in line, and a position is committable when all ahead of it is done, whatever offsets lie between.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Protocol


class Handed(Protocol):
    """What stands in line: one of Faust's messages."""

    acked: bool
    offset: int


class _Line:
    """One partition's."""

    def __init__(self) -> None:
        self.waiting: deque[Handed] = deque()
        self.position: int | None = None
        """All before it is done; None until something is."""
        self.reached = 0

    def settle(self) -> int | None:
        waiting = self.waiting
        while waiting and waiting[0].acked:
            self.position = waiting.popleft().offset + 1
        if not waiting and self.reached > (self.position or 0):
            self.position = self.reached
        return self.position


class Positions:
    """By partition. What was given up (`forget`) is never committed, however late its acknowledgement comes."""

    def __init__(self) -> None:
        self._lines: defaultdict[object, _Line] = defaultdict(_Line)
        self.turns: defaultdict[object, int] = defaultdict(int)
        """How often a partition was given up: who fetched before must not hand over after."""

    def hand(self, partition: object, message: Handed) -> None:
        """A message is about to be handed over; the next one of its partition comes after it."""
        line = self._lines[partition]
        # Also lets go of what is done, whose values would otherwise stay in memory until the next commit.
        line.settle()
        line.waiting.append(message)

    def reach(self, partition: object, position: int) -> None:
        """The fetcher has come to a position, and all that it found ahead of it was handed over.

        What it passed without a record, control batches or an aborted transaction, would be lag for ever.
        """
        line = self._lines[partition]
        line.reached = max(line.reached, position)

    def committable(self, partition: object) -> int | None:
        """The position up to which all is done; None if nothing is."""
        line = self._lines.get(partition)
        return line.settle() if line else None

    def forget(self, partition: object) -> None:
        """The partition was taken away, or is to be read from somewhere else."""
        self._lines.pop(partition, None)
        self.turns[partition] += 1
