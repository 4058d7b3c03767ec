"""The gate's promises, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import date

import pytest

from shared.gate import Claim, GateUnavailableError, RedisGate, SendKey, Standing
from shared.policy.kinds import Path
from shared.settings import Settings
from tests.conftest import connect_redis

TODAY = date(2026, 11, 21)
TOMORROW = date(2026, 11, 22)


@pytest.fixture
async def gate(settings: Settings) -> AsyncIterator[RedisGate]:
    gate = RedisGate.connect(settings)
    yield gate
    await gate.close()


def key(user_id: int = 1, kind: str = "practice", day: date = TODAY) -> SendKey:
    return SendKey(user_id, kind, day)


async def claim(gate: RedisGate, path: Path, keys: Sequence[SendKey]) -> list[Claim]:
    """One question a key, in order, where they differ in more than the user."""
    ((kind, day), *rest) = dict.fromkeys((key.kind, key.local_date) for key in keys)
    if rest:
        return [answer for key in keys for answer in await claim(gate, path, [key])]
    return await gate.claim(path, kind, day, [key.user_id for key in keys])


async def test_a_free_send_is_granted_once_and_again_to_the_path_that_has_it(gate: RedisGate) -> None:
    assert await claim(gate, Path.stream, [key()]) == [Claim.granted]
    assert await claim(gate, Path.stream, [key()]) == [Claim.granted_again]


async def test_the_other_path_is_denied_before_and_after_settling(gate: RedisGate) -> None:
    await claim(gate, Path.stream, [key()])
    assert await claim(gate, Path.batch, [key()]) == [Claim.other_path]
    await gate.settle(Path.stream, [key()])
    assert await claim(gate, Path.batch, [key()]) == [Claim.other_path]
    assert await claim(gate, Path.stream, [key()]) == [Claim.settled_before]


async def test_who_practised_is_denied_on_that_local_date_only(gate: RedisGate) -> None:
    await gate.practised([(1, TODAY)])
    assert await claim(gate, Path.batch, [key(), key(day=TOMORROW)]) == [Claim.practised, Claim.granted]


async def test_a_claim_from_before_the_practice_is_granted_again_but_not_clear_to_deliver(gate: RedisGate) -> None:
    await claim(gate, Path.stream, [key()])
    await gate.practised([(1, TODAY)])
    assert await claim(gate, Path.stream, [key()]) == [Claim.granted_again]
    assert await gate.standing(Path.stream, [key()]) == [Standing.practised]


async def test_the_daily_cap_counts_all_kinds_and_both_paths(gate: RedisGate) -> None:
    assert await claim(gate, Path.stream, [key(kind="practice")]) == [Claim.granted]
    assert await claim(gate, Path.batch, [key(kind="comeback")]) == [Claim.granted]
    assert await claim(gate, Path.stream, [key(kind="streak_saver")]) == [Claim.daily_cap]


async def test_the_same_user_twice_in_a_call_is_claimed_once(gate: RedisGate) -> None:
    assert await claim(gate, Path.stream, [key(), key()]) == [Claim.granted, Claim.granted_again]
    tallies = await gate.tallies(TODAY)
    assert tallies == {(Path.stream, "practice", Claim.granted): 1, (Path.stream, "practice", Claim.granted_again): 1}


async def test_standing_before_and_after_settling_and_for_strangers(gate: RedisGate) -> None:
    await claim(gate, Path.stream, [key(1), key(2)])
    await gate.settle(Path.stream, [key(1)])
    assert await gate.standing(Path.stream, [key(1), key(2), key(3)]) == [
        Standing.settled,
        Standing.clear,
        Standing.unclaimed,
    ]
    assert await gate.standing(Path.batch, [key(2)]) == [Standing.unclaimed]


async def test_settling_two_kinds_of_one_user_in_a_call_settles_both(gate: RedisGate) -> None:
    keys = [key(kind="practice"), key(kind="streak_saver")]
    await claim(gate, Path.stream, keys)
    await gate.settle(Path.stream, keys)
    assert await gate.standing(Path.stream, keys) == [Standing.settled, Standing.settled]


async def test_what_a_provider_accepted_is_settled_even_where_the_claim_was_lost_or_the_others(gate: RedisGate) -> None:
    await claim(gate, Path.batch, [key(2)])
    await gate.settle(Path.stream, [key(1), key(2)])
    assert await claim(gate, Path.stream, [key(1), key(2)]) == [Claim.settled_before] * 2
    assert await gate.standing(Path.batch, [key(2)]) == [Standing.unclaimed]


async def test_answers_keep_the_order_of_a_thousand_users_over_all_shards(gate: RedisGate) -> None:
    await gate.practised([(user, TODAY) for user in range(1, 3001, 3)])
    answers = await claim(gate, Path.batch, [key(user) for user in range(1, 3001)])
    assert [answer is Claim.practised for answer in answers] == [user % 3 == 1 for user in range(1, 3001)]
    tallies = await gate.tallies(TODAY)
    assert tallies == {(Path.batch, "practice", Claim.granted): 2000, (Path.batch, "practice", Claim.practised): 1000}


async def test_a_server_that_forgot_its_scripts_is_taught_again(gate: RedisGate, settings: Settings) -> None:
    await claim(gate, Path.stream, [key()])
    redis = connect_redis(settings)
    await redis.script_flush()
    await redis.aclose()
    assert await claim(gate, Path.stream, [key()]) == [Claim.granted_again]


async def test_a_gate_that_does_not_answer_says_so_and_grants_nothing(settings: Settings) -> None:
    dead = RedisGate.connect(settings.model_copy(update={"redis_url": _nowhere()}))
    for question in (claim(dead, Path.stream, [key()]), dead.standing(Path.stream, [key()])):
        with pytest.raises(GateUnavailableError):
            await question
    await dead.close()


async def test_a_bucket_of_200_users_stays_a_listpack(settings: Settings) -> None:
    gate = RedisGate.connect(settings.model_copy(update={"gate_bucket_bits": 0}))
    await claim(gate, Path.batch, [key(user) for user in range(1, 200 * 256)])
    redis = connect_redis(settings)
    encodings = {bytes(await redis.object("encoding", name)) async for name in redis.scan_iter("gate:*", count=1000)}
    assert encodings == {b"listpack"}
    await redis.aclose()
    await gate.close()


def _nowhere() -> object:
    from pydantic import SecretStr

    return SecretStr("redis://127.0.0.1:1/0")
