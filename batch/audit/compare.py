"""Where two places that should speak of the same users part. Pure: a shard's facts in, what is missing out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from batch.audit.facts import DENIED, Folded, Marks, Users

SHOWN = 5
"""Users that a problem names."""


@dataclass
class Some:
    """A number of users, and who the first of them are."""

    n: int = 0
    ids: list[int] = field(default_factory=list)

    def add(self, users: Users) -> None:
        """Count more users; nobody twice."""
        self.add_some(len(users), users[:SHOWN].tolist())

    def add_some(self, n: int, ids: list[int]) -> None:
        """The same of users counted before."""
        self.n += n
        self.ids += ids[: SHOWN - len(self.ids)]

    @property
    def names(self) -> str:
        return ", ".join(map(str, self.ids)) + (", …" if self.n > len(self.ids) else "")


@dataclass
class Parting:
    """How a place differs from the one before it in the flow of work."""

    granted: Some = field(default_factory=Some)
    """Granted before and without an outcome here, nor under way."""
    denied: Some = field(default_factory=Some)
    """Denied before and unknown here."""
    other: Some = field(default_factory=Some)
    """With one outcome before and another here."""
    surplus: Some = field(default_factory=Some)
    """Here, and not before."""

    def __iadd__(self, more: Parting) -> Parting:
        for mine, theirs in zip(self.parts, more.parts, strict=True):
            mine.add_some(theirs.n, theirs.ids)
        return self

    def __bool__(self) -> bool:
        return any(some.n for some in self.parts)

    @property
    def parts(self) -> tuple[Some, ...]:
        return self.granted, self.denied, self.other, self.surplus


class Hop:
    """From one place to the next, `outcomes`: both of them hold outcomes."""

    def __init__(self, name: str, *, outcomes: bool) -> None:
        self.name = name
        self.partings: dict[int, Parting] = {}
        """By the group's number; of those in which nothing parts, some are empty."""
        self._outcomes = outcomes

    def compare(self, before: Folded, after: Folded, here: Folded, under_way: Folded) -> None:
        """Add what parts in one shard.

        While the engine runs, the place that comes first is read twice: what it knew `before` must be `here` or under
        way, and what is `here` it must know `after`.
        """
        for group in before.groups.keys() | here.groups.keys():
            was, knows, has = (_Answers.of(folded, group) for folded in (before, after, here))
            moving = _Answers.of(under_way, group).users
            found = self.partings.setdefault(group, Parting())
            found.granted.add(_without(_without(was.granted, has.granted), moving))
            found.denied.add(_without(_without(was.denied, has.users), moving))
            found.surplus.add(_without(has.granted, knows.granted))
            found.surplus.add(_without(has.denied, knows.users))
            if self._outcomes:
                found.other.add(was.unlike(has))


class _Answers(NamedTuple):
    """What a place says of a group's users, in a shard."""

    users: Users
    marks: Marks

    @classmethod
    def of(cls, folded: Folded, group: int) -> _Answers:
        return cls(*folded.groups.get(group, (np.empty(0, np.int64), np.empty(0, np.uint32))))

    @property
    def granted(self) -> Users:
        return self.users[self.marks < DENIED]

    @property
    def denied(self) -> Users:
        return self.users[self.marks >= DENIED]

    def unlike(self, others: _Answers) -> Users:
        """Users that both call granted, with different outcomes."""
        both, mine, theirs = np.intersect1d(self.users, others.users, assume_unique=True, return_indices=True)
        ours, other = self.marks[mine], others.marks[theirs]
        unlike: Users = both[(ours != other) & (ours < DENIED) & (other < DENIED)]
        return unlike


def _without(users: Users, others: Users) -> Users:
    return np.setdiff1d(users, others, assume_unique=True)
