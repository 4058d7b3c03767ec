"""An encoding with holes: what differs from push to push is put between bytes that were encoded once.

The libraries' encoders take as long as all the rest of a request. Pushes of one text differ in a few short values, so
one of them is encoded with marks in their places, and cut there.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Self

KEPT = 4096
"""Texts whose encodings a provider keeps, of about 500 bytes each."""


class Spliced:
    """Use `cut`."""

    __slots__ = ("_form", "_pick")

    def __init__(self, pieces: Sequence[bytes], holes: Sequence[int]) -> None:
        """`holes`: between two pieces each, which of the values belongs there; two at least."""
        # Filled in by C in one go.
        self._form = b"%b".join(piece.replace(b"%", b"%%") for piece in pieces)
        self._pick = itemgetter(*holes)

    @classmethod
    def cut(cls, encoded: bytes, marks: Sequence[bytes], times: Sequence[int]) -> Self | None:
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
        return cls((*pieces, encoded[start:]), [number for _, number in places])

    def filled(self, values: Sequence[bytes]) -> bytes:
        """With these in the places of the marks, each encoded as it has to stand there."""
        found: bytes = self._form % self._pick(values)
        return found


def _found(encoded: bytes, mark: bytes) -> list[int]:
    places, at = [], encoded.find(mark)
    while at >= 0:
        places.append(at)
        at = encoded.find(mark, at + len(mark))
    return places
