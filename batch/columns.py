"""PostgreSQL's answers as columns: arrays of numbers, and texts side by side, with no object for any row.

Measured beside it: COPY, as text and in binary, costs PostgreSQL as much, and the reader a message for each row; rows
cost the reader an object for each value.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Texts = Any
"""Arrow's array of strings; the library has no types."""

_HEAD = 20
"""Bytes of an array's dimension, flags, type, length and lower bound, in PostgreSQL's binary format."""
_ENCODE = msgspec.json.Encoder().encode
_CONTROLS = bytes(range(0x20))


def ints(raw: bytes | None, width: int = 4) -> Ints:
    """An array of int4 or, with a width of 8, of int8, without NULLs."""
    if raw is None or len(raw) < _HEAD:
        return np.zeros(0, np.int64)
    # Before each number stands its length.
    found = np.frombuffer(raw, np.uint8, offset=_HEAD).reshape(-1, 4 + width)[:, 4:]
    return np.ascontiguousarray(found).view(f">i{width}").ravel().astype(np.int64)


def texts(raw: bytes | None, lengths: Ints) -> Texts:
    """Texts that stand side by side, by the number of bytes of each."""
    data = raw or b""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    if offsets[-1] != len(data):
        raise ValueError("the database counts bytes in another encoding than it sends: its encoding must be UTF8")
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(data))


def quotable(column: Texts) -> Texts:
    """The texts as they stand between the quotes of JSON."""
    data = raw(column)
    if b'"' not in data and b"\\" not in data and len(data.translate(None, _CONTROLS)) == len(data):
        return column
    return pa.array([_ENCODE(text)[1:-1].decode() for text in column.to_pylist()], pa.string())


def raw(column: Texts) -> bytes:
    """All of its bytes."""
    ends = offsets(column)
    data = column.buffers()[2]
    return bytes(memoryview(data)[ends[0] : ends[-1]]) if data is not None else b""


def lengths(column: Texts) -> npt.NDArray[np.int32]:
    """The bytes of each."""
    return np.diff(offsets(column))


def offsets(column: Texts) -> npt.NDArray[np.int32]:
    """Where each text begins, and where the last one ends."""
    return np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
