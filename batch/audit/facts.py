"""What an audit knows of candidates, whatever place it reads: facts, folded to one a candidate, and counted."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from shared.policy.kinds import Path
from shared.wire.sends import Result

RECORD = np.dtype([("user", "<i8"), ("group", "<u4"), ("mark", "<u4")])
"""One fact: what it says of a user's candidate is the mark, and of several marks the lowest counts."""

RANKING = (Result.delivered, Result.failed, Result.expired, Result.dropped, Result.denied)
"""An outcome's mark is its place here. The same order as in stream/queries/merge_ledger.sql; a test holds them
together. A planner's `granted` is mark 0, and its denials are `DENIED` and up, a number for each reason."""
DENIED = RANKING.index(Result.denied)

Records = npt.NDArray[np.void]
Users = npt.NDArray[np.int64]
Marks = npt.NDArray[np.uint32]


class Group(NamedTuple):
    """What candidates are counted by; with the user, one candidate of the date."""

    path: Path
    kind: str
    campaign: str = ""


T = TypeVar("T", bound=Hashable)


class Numbers(Generic[T]):
    """Small numbers for things, in the order in which they are first seen."""

    def __init__(self) -> None:
        self.things: list[T] = []
        self._numbers: dict[T, int] = {}

    def of(self, thing: T) -> int:
        """The thing's number, a new one if it has none."""
        number = self._numbers.get(thing)
        if number is None:
            number = self._numbers[thing] = len(self.things)
            self.things.append(thing)
        return number


class Folded(NamedTuple):
    """Facts, each candidate once."""

    groups: dict[int, tuple[Users, Marks]]
    """Group's number -> its users in ascending order, and the mark of each."""
    repeats: int
    """Facts that said again what another had said."""


def fold(records: Records) -> Folded:
    """Each candidate with the mark that counts, in whatever order and however often the facts came."""
    records = records[np.lexsort((records["mark"], records["user"], records["group"]))]
    same = (records["group"][1:] == records["group"][:-1]) & (records["user"][1:] == records["user"][:-1])
    repeats = np.count_nonzero(same & (records["mark"][1:] == records["mark"][:-1]))
    records = records[np.flatnonzero(np.concatenate(([True], ~same))[: len(records)])]
    numbers, starts = np.unique(records["group"], return_index=True)
    parts = np.split(records, starts)[1:]
    return Folded(
        {int(number): (part["user"], part["mark"]) for number, part in zip(numbers, parts, strict=True)}, int(repeats)
    )


class Tally:
    """How many users of each group have each mark, and the exclusive or of their ids: where both are equal, two places
    speak of the same users."""

    def __init__(self) -> None:
        self.sums: dict[tuple[int, int], tuple[int, int]] = {}
        """(group's number, mark) -> (users, their ids' xor)."""

    def add(self, group: int, mark: int, n: int, xor: int) -> None:
        """Count n more users."""
        known, xors = self.sums.get((group, mark), (0, 0))
        self.sums[group, mark] = known + n, xors ^ xor

    def add_all(self, folded: Folded) -> None:
        """Count the candidates of a shard."""
        for group, (users, marks) in folded.groups.items():
            for mark in np.unique(marks).tolist():
                having = users[marks == mark]
                self.add(group, mark, len(having), int(np.bitwise_xor.reduce(having)))

    def granted(self, group: int) -> int:
        """Users of a group that were not denied."""
        return sum(n for (other, mark), (n, _) in self.sums.items() if other == group and mark < DENIED)

    def unlike(self, other: Tally, *, results: bool) -> set[int]:
        """Numbers of the groups in which two tallies differ; `results`: also in how granted ones ended."""
        mine, others = self._sums(results), other._sums(results)
        return {key[0] for key in mine.keys() | others.keys() if mine.get(key) != others.get(key)}

    def _sums(self, results: bool) -> dict[tuple[int, int], tuple[int, int]]:
        coarse = Tally()
        for (group, mark), (n, xor) in self.sums.items():
            coarse.add(group, DENIED if mark >= DENIED else mark if results else 0, n, xor)
        return coarse.sums
