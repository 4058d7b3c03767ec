"""What the simulator accepted, one JSON line a push, so that the witness survives a kill -9 of the simulator.

A line is handed to the kernel before the push is answered: whoever got a success finds it here, whatever happens to the
process afterwards (not to the machine: nothing is fsynced).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from infra.simulator.push import Push


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """A push and when it was accepted, in unix seconds of the simulator's clock."""

    at: float
    push: Push


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Accepted).decode


class Journal:
    """Appends to a file; opened anew it keeps what is there, but for a last line that was cut off."""

    def __init__(self, path: Path) -> None:
        whole = _whole_bytes(path)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        # Half a line was never answered for, and the next record must not be joined to it.
        os.ftruncate(self._file, whole)

    def write(self, push: Push, now: float) -> None:
        """Record one accepted push."""
        os.write(self._file, _encode(Accepted(now, push)) + b"\n")

    def clear(self) -> None:
        """Forget all records."""
        os.ftruncate(self._file, 0)

    def close(self) -> None:
        os.close(self._file)


def read_journal(path: Path, start: int = 0) -> Iterator[Accepted]:
    """The records from byte `start` on, which must be where a line begins; none where there is no file."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(start)
        for line in file:
            if line.endswith(b"\n"):
                yield _decode(line)


def _whole_bytes(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    try:
        with path.open("rb") as file:
            return sum(len(line) for line in file if line.endswith(b"\n"))
    except FileNotFoundError:
        return 0
