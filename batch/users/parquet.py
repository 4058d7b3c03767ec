"""Reads Parquet files as chunks of text fields."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.compute as pc  # type: ignore[import-untyped, unused-ignore]
import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

from batch.users.source import CHUNK_ROWS, RawChunk
from batch.users.validate import FormatError


class ParquetSource:
    """Parquet, one record batch at a time; values become the text that a CSV file would have."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = pq.ParquetFile(path, pre_buffer=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise FormatError(f"{path} cannot be read as Parquet: {str(error)[:200]}") from None
        self.header = list(self._file.schema_arrow.names)
        self.total = self._file.metadata.num_rows
        for column in self._file.schema_arrow:
            if pa.types.is_timestamp(column.type) and column.type.tz is None:
                raise FormatError(f"column {column.name} has no time zone, write it as timestamp('us', 'UTC')")

    def chunks(self) -> Iterator[RawChunk]:
        done = 0
        for batch in self._batches():
            columns = [_texts(name, column) for name, column in zip(self.header, batch.columns, strict=True)]
            rows = list(enumerate(map(list, zip(*columns, strict=True)), done + 1))
            done += batch.num_rows
            yield RawChunk(rows, [], done)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._file.iter_batches(batch_size=CHUNK_ROWS)
        except (pa.ArrowException, OSError) as error:
            raise FormatError(
                f"{self._path} is damaged; rows before the damage are loaded: {str(error)[:200]}"
            ) from None


def _texts(name: str, column: pa.Array) -> list[str]:
    try:
        if pa.types.is_floating(column.type):
            # Whole numbers with gaps: pandas keeps them as floats.
            column = pc.cast(column, pa.int64())
        texts = pc.fill_null(pc.cast(column, pa.string()), "")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise FormatError(f"column {name} ({column.type}) cannot be read: {str(error)[:200]}") from None
    return list(texts.to_pylist())
