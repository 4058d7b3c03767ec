"""A sender in a process of its own: `python -m infra.bench.deliver.senders NAME`, orders in, reports out."""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from importlib import import_module
from typing import Any, Protocol

from infra.bench.deliver.material import apns_requests, pushes, sends
from infra.bench.deliver.report import Order, Report, answers_only, cpu_seconds, decode_order, encode, peak_rss_mb
from shared.settings import load_settings

BATCH = 500
"""Pushes handed over together: what a message of ours carries, and the most that firebase-admin takes."""
DIFFERENT = 8 * BATCH
"""Pushes that are made before the clock starts; a round goes through them again and again."""


class Sender(Protocol):
    """Made in the running loop."""

    async def send(self, n: int) -> None:
        """Push `n`, a multiple of 500, going round what it was made from; raises where one is not accepted."""

    async def close(self) -> None: ...


OF_REQUESTS: dict[str, str] = {
    "ours_engine": "infra.bench.deliver.ours:Engine",
    "libcurl": "infra.bench.deliver.ours:Libcurl",
    "httpx": "infra.bench.deliver.libraries:Httpx",
}
"""Made from the settings and our own requests."""

OF_PUSHES: dict[str, str] = {
    "aioapns": "infra.bench.deliver.libraries:Aioapns",
    "firebase_admin": "infra.bench.deliver.libraries:FirebaseAdmin",
}
"""Made from the settings and the pushes."""


async def serve(name: str) -> None:
    """Follow orders until standard input ends."""
    answers = answers_only()
    sender: Sender | None = None
    while line := await asyncio.to_thread(sys.stdin.buffer.readline):
        order = decode_order(line)
        try:
            sender = sender or await _make(name)
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


async def _make(name: str) -> Sender:
    settings = load_settings()
    clock = settings.clock()
    now = clock.now()
    made = pushes(sends(0, DIFFERENT, now, "android" if name == "firebase_admin" else "ios"), now)
    sender: Sender
    if name in OF_PUSHES:
        sender = _named(OF_PUSHES[name])(settings, made)
    else:
        sender = _named(OF_REQUESTS[name])(settings, await apns_requests(settings, made))
    return sender


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


async def _round(sender: Sender, order: Order) -> Report:
    used, began = cpu_seconds(), time.perf_counter()
    async with asyncio.timeout(order.within):
        await sender.send(order.pushes)
    return Report(time.perf_counter() - began, cpu_seconds() - used, peak_rss_mb())


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
