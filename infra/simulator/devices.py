"""Where devices are: token -> time zone, from a CSV that is read as a stream."""

from __future__ import annotations

import csv
from datetime import tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from infra.simulator.compact import CompactMap, key_of

HEADER: Final = ["token", "time_zone"]


class BadDevicesFileError(ValueError):
    """The devices file is not a CSV with the header `token,time_zone`."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}. Write one `token,time_zone` line a device, under that header.")


class Devices:
    """Knows the time zones of devices by a hash of their token."""

    def __init__(self) -> None:
        self._zones: list[tzinfo] = []
        self._numbers: dict[str, int] = {}
        self._by_token = CompactMap()

    def __len__(self) -> int:
        return len(self._by_token)

    def add(self, token: str, time_zone: str) -> None:
        """Raises ZoneInfoNotFoundError or ValueError for a zone that does not exist."""
        number = self._numbers.get(time_zone)
        if number is None:
            self._zones.append(ZoneInfo(time_zone))
            number = self._numbers[time_zone] = len(self._zones)
        self._by_token.put(key_of(token), number)

    def zone(self, token: str) -> tzinfo | None:
        """The device's time zone; None for one that was not in the file."""
        number = self._by_token.get(key_of(token))
        return self._zones[number - 1] if number else None

    @classmethod
    def read(cls, path: Path) -> Devices:
        devices = cls()
        with path.open(newline="", encoding="utf-8") as lines:
            rows = csv.reader(lines)
            if next(rows, None) != HEADER:
                raise BadDevicesFileError(path, 1, "the header is missing")
            for row in rows:
                if len(row) != 2:
                    raise BadDevicesFileError(path, rows.line_num, f"{len(row)} columns")
                try:
                    devices.add(row[0], row[1])
                except (ZoneInfoNotFoundError, ValueError, OSError):
                    raise BadDevicesFileError(path, rows.line_num, f"no such time zone: {row[1][:64]!r}") from None
        return devices
