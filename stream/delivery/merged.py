"""A gate that asks together what several batches ask at once.

A message's users are spread over all shards, about two in each, so that its question is some 220 script calls. Those of
eight messages are 256.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from functools import partial
from typing import Generic, TypeVar

from shared.gate.contract import Claim, Gate, SendKey, Standing
from shared.policy.kinds import Path

T = TypeVar("T")

_Asked = tuple[Sequence[SendKey], "asyncio.Future[list[T]]"]


class MergedGate:
    """One lane's gate. Of each question one is under way at a time; what comes meanwhile is asked together next.

    Nobody waits for company: who asks alone is asked for at once.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._standings = {path: _Queue(partial(gate.standing, path)) for path in Path}
        self._settlings = {path: _Queue(partial(_settled, gate, path)) for path in Path}

    async def standing(self, path: Path, keys: Sequence[SendKey]) -> list[Standing]:
        return await self._standings[path].ask(keys)

    async def settle(self, path: Path, keys: Sequence[SendKey]) -> None:
        await self._settlings[path].ask(keys)

    async def practised(self, marks: Sequence[tuple[int, date]]) -> None:
        await self._gate.practised(marks)

    async def opt_out(self, choices: Sequence[tuple[int, date, int]]) -> None:
        await self._gate.opt_out(choices)

    async def claim(self, path: Path, kind: str, day: date, user_ids: Sequence[int], campaign: str = "") -> list[Claim]:
        return await self._gate.claim(path, kind, day, user_ids, campaign)


async def _settled(gate: Gate, path: Path, keys: Sequence[SendKey]) -> list[None]:
    await gate.settle(path, keys)
    return [None] * len(keys)


class _Queue(Generic[T]):
    """Of one question. An error is everybody's who was asked for together: each repeats its own part."""

    def __init__(self, ask: Callable[[Sequence[SendKey]], Awaitable[list[T]]]) -> None:
        self._ask = ask
        self._waiting: list[_Asked[T]] = []
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, keys: Sequence[SendKey]) -> list[T]:
        answered: asyncio.Future[list[T]] = asyncio.get_running_loop().create_future()
        self._waiting.append((keys, answered))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return await answered

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting, []
                try:
                    answers = await self._ask([key for keys, _ in asked for key in keys])
                except Exception as error:
                    for _, answered in asked:
                        if not answered.done():
                            answered.set_exception(error)
                    continue
                start = 0
                for keys, answered in asked:
                    if not answered.done():
                        answered.set_result(answers[start : start + len(keys)])
                    start += len(keys)
        finally:
            self._asking = None
