"""The pauses in force, as delivery asks about them: those of single providers, and when one is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from shared.gate.rules import Rule
from shared.patience import Patience
from shared.policy.kinds import Path
from shared.wire.sends import Send

FRESH = 0.5
"""Seconds an answer is used for: a pause is in force everywhere within 2 s, and a look at what is parked takes 1."""


class AsksPauses(Protocol):
    """The part of the gate that knows the pauses."""

    async def pauses(self) -> tuple[Rule, ...]:
        """Those in force. Raises `GateUnavailableError`."""


class Pauses:
    """One worker's knowledge of them, however many batches ask at once."""

    def __init__(self, gate: AsksPauses, patience: Patience, tick: Callable[[], float] = time.monotonic) -> None:
        self._gate = gate
        self._patience = patience
        self._tick = tick
        self._rules: tuple[Rule, ...] = ()
        self._until = float("-inf")

    async def rules(self) -> tuple[Rule, ...]:
        """Those in force half a second ago or later. Waits as long as the gate is down."""
        if self._tick() >= self._until:
            self._rules = await self._patience.until_done("asking for pauses", self._ask)
        return self._rules

    async def _ask(self) -> tuple[Rule, ...]:
        until = self._tick() + FRESH
        rules = await self._gate.pauses()
        self._until = until
        return rules


def covered(rules: Iterable[Rule], path: Path, send: Send, provider: str = "") -> bool:
    """Whether a send is paused; with a provider: whether it is paused there."""
    return any(rule.covers(path, send.kind, send.campaign, provider) for rule in rules)
