"""Where devices are, and which tokens are one device: from a CSV that is read as a stream."""

from __future__ import annotations

import csv
from datetime import tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from infra.simulator.compact import CompactMap, key_of

HEADER: Final = ["token", "time_zone"]
HEADER_WITH_DEVICE: Final = [*HEADER, "device"]


class BadDevicesFileError(ValueError):
    """The devices file is not a CSV with the header `token,time_zone` or `token,time_zone,device`."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(
            f"{path}:{line}: {problem}. Write one `token,time_zone` line a token, under that header; "
            "with a third column `device` the same name says that two tokens are one screen."
        )


class Devices:
    """Knows the time zones and screens of devices by a hash of their tokens."""

    def __init__(self) -> None:
        self._zones: list[tzinfo] = []
        self._numbers: dict[str, int] = {}
        self._by_token = CompactMap()
        self._screens = CompactMap("Q")
        self._named = CompactMap()

    def __len__(self) -> int:
        return len(self._by_token) - len(self._screens) + len(self._named)

    def add(self, token: str, time_zone: str, device: str = "") -> None:
        """Tokens with the same `device` are one screen; empty: it has no other token.

        Raises ZoneInfoNotFoundError or ValueError for a zone that does not exist.
        """
        number = self._numbers.get(time_zone)
        if number is None:
            self._zones.append(ZoneInfo(time_zone))
            number = self._numbers[time_zone] = len(self._zones)
        key = key_of(token)
        self._by_token.put(key, number)
        if device:
            screen = key_of("device", device)
            self._screens.put(key, screen)
            self._named.put(screen, 1)

    def zone(self, token: str) -> tzinfo | None:
        """The device's time zone; None for one that was not in the file."""
        number = self._by_token.get(key_of(token))
        return self._zones[number - 1] if number else None

    def screen(self, token: str) -> int:
        """The device that a token leads to: the same number for all of its tokens."""
        key = key_of(token)
        return self._screens.get(key) or key

    @classmethod
    def read(cls, path: Path) -> Devices:
        devices = cls()
        with path.open(newline="", encoding="utf-8") as lines:
            rows = csv.reader(lines)
            header = next(rows, None)
            if header not in (HEADER, HEADER_WITH_DEVICE):
                raise BadDevicesFileError(path, 1, "the header is missing")
            for row in rows:
                if len(row) != len(header):
                    raise BadDevicesFileError(path, rows.line_num, f"{len(row)} columns")
                try:
                    devices.add(*row)
                except (ZoneInfoNotFoundError, ValueError, OSError):
                    raise BadDevicesFileError(path, rows.line_num, f"no such time zone: {row[1][:64]!r}") from None
        return devices
