"""Pauses and firing: what is paused stays in the due index, and holds up nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from shared.clock import FileClock
from shared.due.index import Due, Practised, Started
from shared.gate import Claim, Rule
from shared.identity import shard_of
from shared.outbox import GRANTED
from shared.policy.kinds import Path
from shared.settings import Settings
from stream.due import fire, turns
from stream.due.fire import Firing
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.firing import ALL, DUE, TEN, USER, schedule, user
from tests.integration.planned import answers, decided, in_outbox, put_in_force
from tests.integration.support import (
    HOUR,
    add_users,
    outcomes_in,
    scheduled,
    sends_in,
    users_of_shard,
)


async def test_what_is_paused_stays_in_the_index_and_is_fired_when_it_is_resumed(
    settings: Settings, runtime: Runtime
) -> None:
    add_users(settings, user(1), user(2))
    await schedule(runtime, 1, 2)
    await put_in_force(settings, Rule(kind="practice"))
    firing = Firing(runtime)
    for _ in range(2):
        assert await firing.fire(ALL) == 0
    assert len(await scheduled(runtime)) == 2
    assert await sends_in(settings, runtime.topics.urgent) == []
    assert (await outcomes_in(settings), decided(settings), in_outbox(settings)) == ([], {}, [])
    await put_in_force(settings)
    assert await firing.fire(ALL) == 2
    assert {send.user_id for send in await sends_in(settings, runtime.topics.urgent)} == {1, 2}
    assert await scheduled(runtime) == []


async def test_a_pause_of_one_kind_holds_up_no_other(settings: Settings, runtime: Runtime, clock: FileClock) -> None:
    add_users(settings, user())
    await runtime.due.update([Practised(USER, DUE, TEN, 0.0)], [Started(USER, DUE)])
    await put_in_force(settings, Rule(kind="streak_saver"), Rule(path=Path.batch))
    clock.set(TEN)
    assert await Firing(runtime).fire(ALL) == 2
    assert set(answers(settings)) == {(Path.stream, kind, GRANTED) for kind in ("practice", "abandoned_lesson")}
    assert await scheduled(runtime) == [(USER, TEN)]


async def test_a_paused_crowd_is_asked_about_one_page_a_round(
    settings: Settings, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many wait in the index: a pause of hours must not keep the worker or Redis busy."""
    monkeypatch.setattr(turns, "PAGE", 4)
    monkeypatch.setattr(fire, "PAGE", 4)
    monkeypatch.setattr(fire, "PROBE", 2)
    crowd = users_of_shard(3, 20) + users_of_shard(4, 20)
    add_users(settings, *(user(n) for n in crowd))
    await schedule(runtime, *crowd)
    await put_in_force(settings, Rule(path=Path.stream))
    asked: list[int] = []
    read: list[int] = []
    claim, due = runtime.gate.claim, runtime.due.read

    async def counted_claim(path: Path, kind: str, day: Any, user_ids: Sequence[int], campaign: str = "") -> Any:
        asked.append(len(user_ids))
        return await claim(path, kind, day, user_ids, campaign)

    async def counted_due(*question: Any) -> list[list[Due]]:
        found = await due(*question)
        read.append(sum(map(len, found)))
        return found

    monkeypatch.setattr(runtime.gate, "claim", counted_claim)
    monkeypatch.setattr(runtime.due, "read", counted_due)
    firing = Firing(runtime)
    for _ in range(3):
        assert await firing.fire(ALL) == 0
    assert asked == [4, 4, 4, 4]
    assert read == [20, 20, 4, 4], "the first round looks at a page of each strip under way, those after it at a few"
    await put_in_force(settings)
    assert await firing.fire(ALL) == len(crowd)
    assert {send.user_id for send in await sends_in(settings, runtime.topics.urgent)} == set(crowd)


async def test_a_pause_that_only_some_shards_know_of_yet_holds_up_only_them(
    settings: Settings, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = range(1, 21)
    held = {n for n in crowd if shard_of(n) % 2}
    add_users(settings, *(user(n) for n in crowd))
    await schedule(runtime, *crowd)
    claim = runtime.gate.claim

    async def half_paused(path: Path, kind: str, day: Any, user_ids: Sequence[int], campaign: str = "") -> list[Claim]:
        found = await claim(path, kind, day, [n for n in user_ids if n not in held], campaign)
        answers = iter(found)
        return [Claim.paused if n in held else next(answers) for n in user_ids]

    with monkeypatch.context() as patch:
        patch.setattr(runtime.gate, "claim", half_paused)
        assert await Firing(runtime).fire(ALL) == len(crowd) - len(held)
    assert {due.user_id for due in await scheduled(runtime)} == held
    assert {send.user_id for send in await sends_in(settings, runtime.topics.urgent)} == set(crowd) - held
    assert await Firing(runtime).fire(ALL) == len(held)


async def test_what_is_past_its_window_expires_while_it_is_paused_and_is_never_sent(
    settings: Settings, runtime: Runtime, clock: FileClock
) -> None:
    add_users(settings, user(1), user(2), user(3, opted_out=1))
    await put_in_force(settings, Rule())
    await schedule(runtime, 1, due=NOON - 4 * HOUR + 60)
    await schedule(runtime, 2, 3)
    firing = Firing(runtime)
    assert await firing.fire(ALL) == 1, "who has opted out is denied, pause or not"
    clock.set(NOON + 60)
    assert await firing.fire(ALL) == 1
    await put_in_force(settings)
    assert await firing.fire(ALL) == 1
    found = {outcome.user_id: outcome.reason for outcome in await outcomes_in(settings)}
    assert found == {1: "expired", 3: "opted_out"}
    assert [send.user_id for send in await sends_in(settings, runtime.topics.urgent)] == [2]
    assert answers(settings) == {(Path.stream, "practice", GRANTED): 2, (Path.stream, "practice", "opted_out"): 1}
