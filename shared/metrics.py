"""What a worker tells Prometheus of its gate; every name is listed in docs/operations.md ("Metrics")."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Sequence
from datetime import date
from enum import IntEnum
from typing import Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge

from shared.gate.contract import Claim, Gate, GateClosedError, GateUnavailableError, SendKey, Standing
from shared.gate.rules import Rule
from shared.policy.kinds import Path

T = TypeVar("T")


class _WorkersGate(Gate, Protocol):
    """What a worker asks its gate for, besides what both paths do."""

    async def pauses(self) -> tuple[Rule, ...]: ...

    async def close(self) -> None: ...


class GateMeter:
    """A gate that counts another one's answers, and knows whether it answered last."""

    def __init__(self, gate: _WorkersGate, registry: CollectorRegistry) -> None:
        self._gate = gate
        self._answers = Counter(
            "surnia_gate_answers", "Answers of the gate to planners (claim) and to delivery (standing)",
            ["question", "path", "kind", "answer"], registry=registry,
        )  # fmt: skip
        self._up = Gauge("surnia_gate_up", "1 if the gate answered last, 0 if not, NaN before", registry=registry)
        self._up.set(math.nan)
        self._down = Gauge("surnia_gate_down", "1 for the reason why it did not", ["reason"], registry=registry)
        self._state = ""

    async def practised(self, marks: Sequence[tuple[int, date]]) -> None:
        await self.asked(self._gate.practised(marks))

    async def opt_out(self, choices: Sequence[tuple[int, date, int]]) -> None:
        await self.asked(self._gate.opt_out(choices))

    async def claim(self, path: Path, kind: str, day: date, user_ids: Sequence[int], campaign: str = "") -> list[Claim]:
        answers = await self.asked(self._gate.claim(path, kind, day, user_ids, campaign))
        self._count("claim", path, kind, answers, Claim)
        return answers

    async def standing(self, path: Path, keys: Sequence[SendKey]) -> list[Standing]:
        answers = await self.asked(self._gate.standing(path, keys))
        for kind in {key.kind for key in keys}:
            mine = [answer for key, answer in zip(keys, answers, strict=True) if key.kind == kind]
            self._count("standing", path, kind, mine, Standing)
        return answers

    async def settle(self, path: Path, keys: Sequence[SendKey]) -> None:
        await self.asked(self._gate.settle(path, keys))

    async def pauses(self) -> tuple[Rule, ...]:
        return await self.asked(self._gate.pauses())

    async def close(self) -> None:
        await self._gate.close()

    async def asked(self, question: Awaitable[T]) -> T:
        """The answer to a question; whether there was one is what `surnia_gate_up` says."""
        try:
            answer = await question
        except GateUnavailableError as error:
            self._became("closed" if isinstance(error, GateClosedError) else "unavailable")
            raise
        self._became("up")
        return answer

    def _became(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self._up.set(state == "up")
            for reason in ("closed", "unavailable"):
                self._down.labels(reason).set(state == reason)

    def _count(self, question: str, path: Path, kind: str, answers: Sequence[IntEnum], of: type[IntEnum]) -> None:
        # As bytes they are counted by C, at a hundredth of what a Counter of enums costs.
        codes = bytes(answers)
        for answer in of:
            if n := codes.count(answer):
                self._answers.labels(question, path.name, kind, answer.name).inc(n)
