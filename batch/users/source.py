"""Reads CSV and (by parquet.py) Parquet files as chunks of text fields, in bounded memory whatever the file holds.

Positions are lines of a CSV file (the header is line 1), rows of a Parquet file (from 1).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Protocol

from batch.users.validate import FormatError

CHUNK_ROWS = 20_000
MAX_LINE = 65_536
_BLOCK = 1 << 20


class FileFormat(StrEnum):
    """Formats that are read."""

    csv = "csv"
    parquet = "parquet"


@dataclass(slots=True)
class RawChunk:
    """Some rows of a file. `malformed` could not be taken apart: (position, reason, their text)."""

    rows: list[tuple[int, list[str]]] = field(default_factory=list)
    malformed: list[tuple[int, str, list[str]]] = field(default_factory=list)
    done: int = 0
    """How much of `Source.total` was read up to here."""


class Source(Protocol):
    """A file of rows."""

    header: list[str]
    total: int
    """The file's size, in bytes or rows."""

    def chunks(self) -> Iterator[RawChunk]: ...


def open_source(path: Path, file_format: FileFormat | None) -> Source:
    """The file, by the format that is given or that its first bytes tell."""
    if not path.is_file():
        raise FormatError(f"{path} is not a file")
    if file_format is None:
        with path.open("rb") as file:
            file_format = FileFormat.parquet if file.read(4) == b"PAR1" else FileFormat.csv
    if file_format is FileFormat.csv:
        return CsvSource(path)
    # Here, because loading Arrow takes longer than most commands do.
    from batch.users.parquet import ParquetSource

    return ParquetSource(path)


class CsvSource:
    """Comma-separated, UTF-8, quotes as RFC 4180 has them, but one line a row.

    No valid field holds a line break; so a stray quote spoils its own line only, and a line can be taken apart alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.total = path.stat().st_size
        with path.open("rb") as file:
            first = file.readline(MAX_LINE)
        try:
            text = first.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError:
            raise FormatError(f"{path} is neither UTF-8 text nor Parquet") from None
        self.header = [name.strip() for name in _fields(text)]

    def chunks(self) -> Iterator[RawChunk]:
        chunk = RawChunk()
        with self._path.open("rb") as file:
            for position, line in enumerate(_lines(file), 1):
                chunk.done += len(line) + 1
                if position == 1 or line in ("", "\r"):
                    continue
                if len(line) >= MAX_LINE:
                    chunk.malformed.append((position, f"longer than {MAX_LINE} characters", [line[:1000]]))
                    continue
                try:
                    chunk.rows.append((position, _fields(line.rstrip("\r"))))
                except csv.Error as error:
                    chunk.malformed.append((position, f"quotes: {error}", [line]))
                if len(chunk.rows) + len(chunk.malformed) >= CHUNK_ROWS:
                    chunk.done = min(chunk.done, self.total)
                    yield chunk
                    chunk = RawChunk(done=chunk.done)
        chunk.done = self.total
        yield chunk


def _lines(file: IO[bytes]) -> Iterator[str]:
    """The lines without their line feed; of one that is too long only its beginning. Bad UTF-8 becomes surrogates."""
    rest = b""
    skipping = False
    while block := file.read(_BLOCK):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            if not skipping:
                yield line[:MAX_LINE].decode("utf-8", "surrogateescape")
            skipping = False
        if len(rest) >= MAX_LINE:
            if not skipping:
                yield rest[:MAX_LINE].decode("utf-8", "surrogateescape")
            skipping, rest = True, b""
    if rest and not skipping:
        yield rest.decode("utf-8", "surrogateescape")


def _fields(line: str) -> list[str]:
    if '"' not in line:
        return line.split(",")
    return next(csv.reader((line,), strict=True))
