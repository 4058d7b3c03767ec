"""Writes a population into files: CSV that `surnia users import` reads, and the simulator's witness of devices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from batch.users.load import LoadCounts
from batch.users.population import GeneratedUser
from batch.users.rows import DEVICE_COLUMNS, USER_COLUMNS, DeviceRow, csv_line, device_line, user_line

WITNESS_HEADER = "token,time_zone,device\n"


def witnessed(population: Iterable[list[GeneratedUser]], path: Path | None) -> Iterator[list[GeneratedUser]]:
    """Pass the chunks on; note `token,time_zone,device` in a file: where each device is, and which tokens are one."""
    if path is None:
        yield from population
        return
    with path.open("w", encoding="ascii") as file:
        file.write(WITNESS_HEADER)
        for chunk in population:
            for user in chunk:
                for device in user.devices:
                    file.writelines(witness_lines(device, user.time_zone))
            yield chunk


def witness_lines(device: DeviceRow, time_zone: str) -> list[str]:
    """A device's tokens for the simulator; a device with one token needs no name."""
    if device.fcm_token is None:
        return [f"{device.token},{time_zone},\n"]
    name = f"{device.user_id}-{device.device_id}"
    return [f"{token},{time_zone},{name}\n" for token in (device.token, device.fcm_token)]


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
