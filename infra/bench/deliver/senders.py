"""A sender in a process of its own: `python -m infra.bench.deliver.senders NAME FILE`, orders in, reports out."""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from infra.bench.deliver.handed import read
from infra.bench.deliver.report import Order, Report, answers_only, cpu_seconds, decode_order, encode, peak_rss_mb

BATCH = 500
"""Pushes handed over together: what a message of ours carries, and the most that firebase-admin takes."""
DIFFERENT = 8 * BATCH
"""Pushes that are made before the clock starts; a round goes through them again and again."""


class Sender(Protocol):
    """Made in the running loop of what was handed to it."""

    async def send(self, n: int) -> None:
        """Push `n`, a multiple of 500, going round what it was made from; raises where one is not accepted."""

    async def close(self) -> None: ...


OF_REQUESTS: dict[str, str] = {
    "ours_engine": "infra.bench.deliver.ours:Engine",
    "libcurl": "infra.bench.deliver.ours:Libcurl",
    "httpx": "infra.bench.deliver.libraries:Httpx",
}
"""Handed our own requests."""

OF_PUSHES: dict[str, str] = {
    "aioapns": "infra.bench.deliver.libraries:Aioapns",
    "firebase_admin": "infra.bench.deliver.libraries:FirebaseAdmin",
}
"""Handed pushes."""


async def serve(name: str, file: Path) -> None:
    """Follow orders until standard input ends."""
    answers = answers_only()
    sender: Sender | None = None
    while line := await asyncio.to_thread(sys.stdin.buffer.readline):
        order = decode_order(line)
        try:
            sender = sender or _make(name, file)
            report = await _round(sender, order)
        except Exception as error:
            traceback.print_exc()
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]  # of many that failed alike
            why = str(error) or f"not finished within {order.within:.0f} s"
            report = Report(0, 0, peak_rss_mb(), f"{type(error).__name__}: {why}")
        answers.write(encode(report) + b"\n")
    if sender:
        await sender.close()


def _make(name: str, file: Path) -> Sender:
    module, _, attribute = (OF_REQUESTS | OF_PUSHES)[name].partition(":")
    make: Any = getattr(import_module(module), attribute)
    sender: Sender = make(read(file))
    return sender


async def _round(sender: Sender, order: Order) -> Report:
    used, began = cpu_seconds(), time.perf_counter()
    async with asyncio.timeout(order.within):
        await sender.send(order.pushes)
    return Report(time.perf_counter() - began, cpu_seconds() - used, peak_rss_mb())


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2])))
