"""An encoding with holes: what differs from push to push is put between bytes that were encoded once.

The libraries' encoders take as long as all the rest of a request. Pushes of one text differ in a few short values, so
one of them is encoded with marks in their places, and cut there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

KEPT = 4096
"""Texts whose encodings a provider keeps, of about 500 bytes each."""


@dataclass(frozen=True, slots=True)
class Spliced:
    """Use `cut`."""

    pieces: tuple[bytes, ...]
    holes: tuple[int, ...]
    """Between two pieces each: which of the values belongs there."""

    @classmethod
    def cut(cls, encoded: bytes, marks: Sequence[bytes], times: Sequence[int]) -> Spliced | None:
        """`marks`: as they are encoded, quotation marks included, each to be found so many `times`.

        None where one is found more often, because a text has it, too: then there is no telling which is the hole.
        """
        if any(encoded.count(mark) != n for mark, n in zip(marks, times, strict=True)):
            return None
        places = sorted((at, number) for number, mark in enumerate(marks) for at in _found(encoded, mark))
        pieces, start = [], 0
        for at, number in places:
            pieces.append(encoded[start:at])
            start = at + len(marks[number])
        return cls((*pieces, encoded[start:]), tuple(number for _, number in places))

    def filled(self, values: Sequence[bytes]) -> bytes:
        """With these in the places of the marks, each encoded as it has to stand there."""
        parts = [self.pieces[0]]
        for piece, hole in zip(self.pieces[1:], self.holes, strict=True):
            parts += (values[hole], piece)
        return b"".join(parts)


def _found(encoded: bytes, mark: bytes) -> list[int]:
    places, at = [], encoded.find(mark)
    while at >= 0:
        places.append(at)
        at = encoded.find(mark, at + len(mark))
    return places
