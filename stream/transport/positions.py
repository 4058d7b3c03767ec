"""Up to where a partition may be committed: what was handed over, in order, and how much of it is done.

Faust's own bookkeeping lists acknowledged offsets and guesses at gaps: it commits past work in flight when acks come
out of order, and past what was in hand when partitions are taken away. Here nothing is guessed: what was handed over
stands in line, and a position is committable when all ahead of it is done, whatever offsets lie between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Protocol


class Handed(Protocol):
    """What stands in line: one of Faust's messages."""

    acked: bool


@dataclass(slots=True)
class _Place:
    message: Handed
    first: int
    end: int
    size: int


class Line:
    """One partition's, from where it was assigned, or sought, until it is taken away, or sought again.

    Whoever fetched for a line that another one has replaced must not hand over any more; what is acknowledged of it,
    however late, is never committed.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Place] = deque()
        self._position: int | None = None
        self.size = 0
        """Records that are in hand, of messages that were counted."""
        self.frozen = False
        """Acknowledgements no longer count: they come from handlers that were cut off."""

    def hand(self, message: Handed, first: int, end: int, size: int = 0) -> None:
        """A message is about to be handed over: it begins at `first`, and the next one of its partition at `end`."""
        # Also lets go of what is done, whose values would otherwise stay in memory until the next commit.
        self.settle()
        self._waiting.append(_Place(message, first, end, size))
        self.size += size

    def withdraw(self, message: Handed) -> None:
        """The last one was not handed over after all."""
        if self._waiting and self._waiting[-1].message is message:
            self.size -= self._waiting.pop().size

    def skip(self, end: int) -> None:
        """Nothing more before `end`: control batches or an aborted transaction, which would be lag for ever."""
        if self._waiting:
            self._waiting[-1].end = end
        else:
            self._position = end

    def settle(self) -> int | None:
        """The position up to which all is done; None until something is."""
        waiting = self._waiting
        while waiting and waiting[0].message.acked and not self.frozen:
            place = waiting.popleft()
            self._position = place.end
            self.size -= place.size
        return self._position

    @property
    def first(self) -> int | None:
        """Where the first message begins that is not done; None if all are."""
        self.settle()
        return self._waiting[0].first if self._waiting else None


class Lines:
    """The lines in force, by partition. A line may be replaced in another thread than the one that reads it."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, Line] = {}

    def of(self, partition: Hashable) -> Line:
        """The partition's; a new one if it has none."""
        return self._lines.get(partition) or self._lines.setdefault(partition, Line())

    def replace(self, partition: Hashable) -> None:
        """The partition was taken away, or is to be read from somewhere else."""
        self._lines[partition] = Line()

    def __iter__(self) -> Iterator[Hashable]:
        return iter(list(self._lines))

    def all(self) -> list[Line]:
        """Every line in force."""
        return list(self._lines.values())

    def firsts(self) -> dict[Hashable, int]:
        """Where the first message begins that is not done, of partitions that have one."""
        return {tp: first for tp in self if (first := self.of(tp).first) is not None}

    def in_hand(self) -> int:
        """Records that are in hand, of all partitions."""
        for line in self.all():
            line.settle()
        return sum(line.size for line in self.all())
