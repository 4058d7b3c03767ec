"""How the servers of the stack are, found out by asking them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from infra.stack import process
from infra.stack.part import Part, process_of
from infra.stack.state import PartRecord
from shared.clock import SystemClock

PartState = Literal["running", "crashed", "silent", "stopped", "given", "unreachable"]


@dataclass(frozen=True)
class PartStatus:
    """How one server is. `silent`: its process lives but does not answer; `unreachable`: given, and does not answer."""

    name: str
    title: str
    state: PartState
    address: str = ""
    pid: int | None = None
    uptime_seconds: float | None = None
    version: str = ""
    data_bytes: int | None = None
    log: str = ""
    log_tail: list[str] = field(default_factory=list)
    note: str = ""
    remedy: str = ""

    @property
    def healthy(self) -> bool:
        return self.state in ("running", "given")


@dataclass(frozen=True)
class StackStatus:
    """How the stack is, and how long the call took that found out."""

    state_dir: str
    parts: dict[str, PartStatus]
    changed: bool = False
    """Whether the call started or repaired anything."""
    gate: str = ""
    """What was done for the gate, or is to be done; empty where it is open."""

    @property
    def healthy(self) -> bool:
        return bool(self.parts) and all(part.healthy for part in self.parts.values())


def status_of_given(part: Part, address: str) -> PartStatus:
    """How a server is that the settings name by address."""
    try:
        version = part.check(address)
    except Exception as error:  # every client has its own kinds
        remedy = f"Start it, correct SURNIA_{part.setting.upper()}, or unset it to use a local one."
        note = f"does not answer: {first_line(error)}"
        return PartStatus(part.name, part.title, "unreachable", shown_address(address), note=note, remedy=remedy)
    return PartStatus(part.name, part.title, "given", shown_address(address), version=version)


def status_of_ours(part: Part, record: PartRecord | None, ask: bool = True) -> PartStatus:
    """How a server of ours is; `ask=False` where it has answered a moment ago."""
    if record is None:
        return PartStatus(part.name, part.title, "stopped", remedy="Run `surnia up`.")
    common: dict[str, Any] = {
        "version": record.version,
        "log": record.log,
        "data_bytes": _size(part.data_folder(record)),
        "note": record.note,
    }
    running = process_of(record)
    if running is None:
        return PartStatus(part.name, part.title, "stopped", remedy="Run `surnia up`.", **common)
    address = part.address(record)
    common["address"] = shown_address(address)
    if not process.is_alive(running):
        common["log_tail"] = process.tail(Path(record.log))
        remedy = "Run `surnia up`: it starts what crashed and keeps the data."
        return PartStatus(part.name, part.title, "crashed", remedy=remedy, **common)
    common["pid"] = running.pid
    common["uptime_seconds"] = max(0.0, SystemClock().now() - (record.started_at or 0.0))
    if ask:
        try:
            part.check(address)
        except Exception as error:  # every client has its own kinds
            common["note"] = f"does not answer: {first_line(error)}"
            common["log_tail"] = process.tail(Path(record.log))
            remedy = "Run `surnia up`: it waits for it, and starts it again if it stays silent."
            return PartStatus(part.name, part.title, "silent", remedy=remedy, **common)
    return PartStatus(part.name, part.title, "running", **common)


def shown_address(address: str) -> str:
    """An address without its password."""
    parsed = urlsplit(address)
    if not parsed.password:
        return address
    user = f"{parsed.username}@" if parsed.username else ""
    return parsed._replace(netloc=f"{user}{parsed.netloc.rsplit('@', 1)[-1]}").geturl()


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _size(folder: Path) -> int | None:
    """Bytes on disk below a folder; blocks, since Kafka's index files are mostly holes."""
    total = 0
    pending = [str(folder)]
    if not folder.is_dir():
        return None
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:  # files come and go under a running server
            continue
    return total
