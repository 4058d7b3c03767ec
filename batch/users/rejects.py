"""The rows that were not loaded, in a CSV file for whoever mends them: line, reason, row."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

MAX_FIELDS = 32
MAX_FIELD = 200


class Rejects:
    """Writes the file at its first reject, so that a clean import leaves none, and counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._file: IO[str] | None = None

    def __enter__(self) -> Rejects:
        # Those of an earlier run would pass for this one's.
        self.path.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()

    def add(self, source: Path, position: int, reason: str, fields: Sequence[str]) -> None:
        """Write one row down."""
        if self._file is None:
            self._file = self.path.open("w", encoding="utf-8", newline="")
            csv.writer(self._file).writerow(("file", "line", "reason", "row"))
        self.count += 1
        # JSON is ASCII here: NUL bytes, half characters and terminal controls arrive as escapes.
        row = json.dumps([text[:MAX_FIELD] for text in fields[:MAX_FIELDS]])
        csv.writer(self._file).writerow((source.name, position, reason, row))
