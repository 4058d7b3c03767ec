"""What can go wrong with the stack; every message says what to type next."""

from __future__ import annotations

from pathlib import Path


class StackError(RuntimeError):
    """Something about the stack a person has to act on; the message names the remedy."""


class PartError(StackError):
    """One server could not be started or does not answer."""

    def __init__(self, part: str, problem: str, log: Path | None = None, tail: list[str] | None = None) -> None:
        self.part = part
        self.problem = problem
        self.log = log
        self.tail = tail or []
        shown = "".join(f"\n    {line}" for line in self.tail)
        where = f"\n  The end of {log}:{shown}" if log and shown else ""
        super().__init__(f"{part}: {problem}{where}")


class DownloadError(StackError):
    """Kafka's jars could not be fetched or are not the ones that were pinned."""
