"""What bench and sender say to each other: a line of JSON each way, over the sender's standard input and output."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec


class BenchError(RuntimeError):
    """A contender could not finish; the message says why."""


class Order(msgspec.Struct):
    """`pushes`: 0 asks only for what the process has used so far. `within`: seconds."""

    pushes: int
    within: float


class Report(msgspec.Struct):
    """`cpu_seconds`: of a round, or so far where nothing was pushed. Both include the kernel's share."""

    seconds: float
    cpu_seconds: float
    peak_rss_mb: float
    error: str = ""


decode_order = msgspec.json.Decoder(Order).decode
decode_report = msgspec.json.Decoder(Report).decode
encode = msgspec.json.Encoder().encode

_STATUS = "/proc/{}/status"


def cpu_seconds() -> float:
    """Of this process so far, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_rss_mb(pid: int | str = "self") -> float:
    """Of this process, or on Linux of any; 0 where that is not known.

    Not getrusage's where there is better: a child's begins with the size of the process that started it.
    """
    try:
        lines = Path(_STATUS.format(pid)).read_text().splitlines()
    except OSError:
        if pid != "self":
            return 0.0
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(size / (1024 if sys.platform != "darwin" else 1024 * 1024), 1)
    return next((round(int(line.split()[1]) / 1024, 1) for line in lines if line.startswith("VmHWM")), 0.0)


def answers_only() -> BinaryIO:
    """Standard output for the answers alone: what libraries print goes to standard error from now on."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return answers
