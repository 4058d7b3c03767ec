"""Writes a population into files: CSV that `surnia users import` reads, and the simulator's witness of devices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from batch.users.load import LoadCounts
from batch.users.population import GeneratedUser
from batch.users.rows import DEVICE_COLUMNS, USER_COLUMNS, csv_line, device_line, user_line


def witnessed(population: Iterable[list[GeneratedUser]], path: Path | None) -> Iterator[list[GeneratedUser]]:
    """Pass the chunks on; note `token,time_zone` of every device in a file: where each device is."""
    if path is None:
        yield from population
        return
    with path.open("w", encoding="ascii") as file:
        file.write("token,time_zone\n")
        for chunk in population:
            file.writelines(f"{device.token},{user.time_zone}\n" for user in chunk for device in user.devices)
            yield chunk


def write_csv(population: Iterable[list[GeneratedUser]], folder: Path) -> Iterator[LoadCounts]:
    """Write `users.csv` and `devices.csv` into a folder; answers the counts so far after each chunk."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = LoadCounts()
    with (
        (folder / "users.csv").open("w", encoding="ascii") as users,
        (folder / "devices.csv").open("w", encoding="ascii") as devices,
    ):
        users.write(",".join(USER_COLUMNS) + "\n")
        devices.write(",".join(DEVICE_COLUMNS) + "\n")
        for chunk in population:
            users.writelines(csv_line(user_line(user)) + "\n" for user in chunk)
            devices.writelines(csv_line(device_line(device)) + "\n" for user in chunk for device in user.devices)
            counts.add(chunk)
            yield counts
