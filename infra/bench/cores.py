"""One core for the sender, another for the server: otherwise each would be measured by what the other leaves it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Cores:
    """Which cores who runs on; empty where nobody is bound to any."""

    sender: frozenset[int] = frozenset()
    server: frozenset[int] = frozenset()
    rest: frozenset[int] = frozenset()
    """Kafka, Valkey and the bench itself: every core but the sender's."""

    @classmethod
    def of_machine(cls) -> Cores:
        if not hasattr(os, "sched_getaffinity"):
            return cls()  # macOS
        first, *others = sorted(os.sched_getaffinity(0))
        if not others:
            return cls()
        return cls(frozenset({first}), frozenset({others[0]}), frozenset(others))

    def __str__(self) -> str:
        if not self.sender:
            return "nobody is bound to a core: figures are of sender and server together"
        return f"sender on core {min(self.sender)}, server on core {min(self.server)}"


@contextmanager
def on(cores: Set[int]) -> Iterator[None]:
    """Whatever this thread starts meanwhile, a process or a thread, runs on these cores for good."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
