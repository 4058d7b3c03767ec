"""What several batches ask the gate at once is asked together, and each gets its own answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest

from shared.gate.contract import GateUnavailableError, SendKey, Standing
from shared.policy.kinds import Path
from stream.delivery.agent import once
from stream.delivery.merged import MergedGate

DAY = date(2026, 11, 21)


def keys(*users: int) -> list[SendKey]:
    return [SendKey(user, "practice", DAY) for user in users]


class Gate:
    """Odd users are settled. Each question waits until it may be answered."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Path, list[int]]] = []
        self.may = asyncio.Event()
        self.may.set()
        self.begun = asyncio.Event()
        self.fails = 0

    async def standing(self, path: Path, of: Sequence[SendKey]) -> list[Standing]:
        await self._question("standing", path, of)
        return [Standing.settled if key.user_id % 2 else Standing.clear for key in of]

    async def settle(self, path: Path, of: Sequence[SendKey]) -> None:
        await self._question("settle", path, of)

    async def _question(self, name: str, path: Path, of: Sequence[SendKey]) -> None:
        self.begun.set()
        self.asked.append((name, path, [key.user_id for key in of]))
        await self.may.wait()
        if self.fails:
            self.fails -= 1
            raise GateUnavailableError("down")


async def test_what_is_asked_at_once_is_asked_together_and_everybody_gets_the_own_answers() -> None:
    gate = Gate()
    merged: Any = MergedGate(gate)  # type: ignore[arg-type]  # delivery asks for no more
    clear, settled = Standing.clear, Standing.settled
    found = await asyncio.gather(*(merged.standing(Path.batch, keys(*users)) for users in ((1, 2), (), (4, 3, 5))))
    assert found == [[settled, clear], [], [clear, settled, settled]]
    assert gate.asked == [("standing", Path.batch, [1, 2, 4, 3, 5])]


async def test_paths_and_questions_are_kept_apart() -> None:
    gate = Gate()
    merged: Any = MergedGate(gate)  # type: ignore[arg-type]
    await asyncio.gather(
        merged.standing(Path.batch, keys(1)), merged.standing(Path.stream, keys(2)), merged.settle(Path.batch, keys(3))
    )
    assert sorted(gate.asked) == [
        ("settle", Path.batch, [3]),
        ("standing", Path.stream, [2]),
        ("standing", Path.batch, [1]),
    ]


async def test_what_comes_while_a_question_is_under_way_is_asked_together_afterwards() -> None:
    gate = Gate()
    merged: Any = MergedGate(gate)  # type: ignore[arg-type]
    gate.may.clear()
    tasks = [asyncio.ensure_future(merged.settle(Path.batch, keys(1)))]
    await gate.begun.wait()
    tasks += [asyncio.ensure_future(merged.settle(Path.batch, keys(user))) for user in (2, 3)]
    await asyncio.sleep(0)
    assert len(gate.asked) == 1
    gate.may.set()
    await asyncio.gather(*tasks)
    assert [users for _, _, users in gate.asked] == [[1], [2, 3]]


async def test_an_error_is_everybodys_and_the_next_question_is_asked() -> None:
    gate = Gate()
    merged: Any = MergedGate(gate)  # type: ignore[arg-type]
    gate.fails = 1
    found = await asyncio.gather(*(merged.settle(Path.batch, keys(n)) for n in (1, 2)), return_exceptions=True)
    assert [type(each) for each in found] == [GateUnavailableError] * 2
    assert await merged.standing(Path.batch, keys(2)) == [Standing.clear]


async def test_who_gives_up_takes_nobody_along() -> None:
    gate = Gate()
    merged: Any = MergedGate(gate)  # type: ignore[arg-type]
    gate.may.clear()
    first, second = (asyncio.ensure_future(merged.standing(Path.batch, keys(user))) for user in (1, 2))
    await gate.begun.wait()
    first.cancel()
    gate.may.set()
    assert await second == [Standing.clear]
    with pytest.raises(asyncio.CancelledError):
        await first


def test_a_send_in_hand_or_in_a_batch_before_is_left_out() -> None:
    from shared.wire.sends import Send, SendBatch

    def batch(*users: int) -> SendBatch:
        return SendBatch(Path.batch, 0.0, tuple(Send(n, "practice", DAY, 0, 1, "UTC", "en", 0, 0, ()) for n in users))

    def users(of: Sequence[SendBatch]) -> list[list[int]]:
        return [[send.user_id for send in each.sends] for each in of]

    found, mine = once([batch(1, 2), batch(3)])
    assert users(found) == [[1, 2], [3]]
    assert sorted(known[1] for known in mine) == [1, 2, 3]
    found, again = once([batch(4, 4, 2), batch(1, 3), batch(5, 4)], mine)
    assert users(found) == [[4], [5]]
    assert sorted(known[1] for known in again) == [4, 5]
