"""The gate's promises, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.gate import Claim, GateUnavailableError, RedisGate, SendKey, Standing, connect_redis
from shared.policy.kinds import KINDS, Path
from shared.settings import Settings

TODAY = date(2026, 11, 21)
TOMORROW = date(2026, 11, 22)


@pytest.fixture
async def gate(settings: Settings) -> AsyncIterator[RedisGate]:
    gate = RedisGate.connect(settings)
    yield gate
    await gate.close()


def key(user_id: int = 1, kind: str = "practice", day: date = TODAY) -> SendKey:
    return SendKey(user_id, kind, day)


async def test_a_free_send_is_granted_once_and_again_to_the_path_that_has_it(gate: RedisGate) -> None:
    assert await gate.claim(Path.stream, [key()]) == [Claim.granted]
    assert await gate.claim(Path.stream, [key()]) == [Claim.granted_again]


async def test_the_other_path_is_denied_before_and_after_settling(gate: RedisGate) -> None:
    await gate.claim(Path.stream, [key()])
    assert await gate.claim(Path.batch, [key()]) == [Claim.other_path]
    await gate.settle(Path.stream, [key()])
    assert await gate.claim(Path.batch, [key()]) == [Claim.other_path]
    assert await gate.claim(Path.stream, [key()]) == [Claim.settled_before]


async def test_who_practised_is_denied_on_that_local_date_only(gate: RedisGate) -> None:
    await gate.practised([(1, TODAY)])
    assert await gate.claim(Path.batch, [key(), key(day=TOMORROW)]) == [Claim.practised, Claim.granted]


async def test_a_claim_from_before_the_practice_is_granted_again_but_not_clear_to_deliver(gate: RedisGate) -> None:
    await gate.claim(Path.stream, [key()])
    await gate.practised([(1, TODAY)])
    assert await gate.claim(Path.stream, [key()]) == [Claim.granted_again]
    assert await gate.standing(Path.stream, [key()]) == [Standing.practised]


async def test_the_daily_cap_counts_all_kinds_and_both_paths(gate: RedisGate) -> None:
    assert await gate.claim(Path.stream, [key(kind="practice")]) == [Claim.granted]
    assert await gate.claim(Path.batch, [key(kind="comeback")]) == [Claim.granted]
    assert await gate.claim(Path.stream, [key(kind="streak_saver")]) == [Claim.daily_cap]


async def test_the_same_user_twice_in_a_call_is_claimed_once(gate: RedisGate) -> None:
    assert await gate.claim(Path.stream, [key(), key()]) == [Claim.granted, Claim.granted_again]
    assert await gate.granted(TODAY) == {(Path.stream, "practice"): 1}


async def test_standing_before_and_after_settling_and_for_strangers(gate: RedisGate) -> None:
    await gate.claim(Path.stream, [key(1), key(2)])
    await gate.settle(Path.stream, [key(1)])
    assert await gate.standing(Path.stream, [key(1), key(2), key(3)]) == [
        Standing.settled,
        Standing.clear,
        Standing.unclaimed,
    ]
    assert await gate.standing(Path.batch, [key(2)]) == [Standing.unclaimed]


async def test_settling_two_kinds_of_one_user_in_a_call_settles_both(gate: RedisGate) -> None:
    keys = [key(kind="practice"), key(kind="streak_saver")]
    await gate.claim(Path.stream, keys)
    await gate.settle(Path.stream, keys)
    assert await gate.standing(Path.stream, keys) == [Standing.settled, Standing.settled]


async def test_what_was_never_claimed_cannot_be_settled(gate: RedisGate) -> None:
    await gate.settle(Path.stream, [key()])
    assert await gate.claim(Path.stream, [key()]) == [Claim.granted]


async def test_answers_keep_the_order_of_a_thousand_users_over_all_shards(gate: RedisGate) -> None:
    await gate.practised([(user, TODAY) for user in range(1, 3001, 3)])
    answers = await gate.claim(Path.batch, [key(user) for user in range(1, 3001)])
    assert [answer is Claim.practised for answer in answers] == [user % 3 == 1 for user in range(1, 3001)]
    assert await gate.granted(TODAY) == {(Path.batch, "practice"): 2000}


async def test_a_server_that_forgot_its_scripts_is_taught_again(gate: RedisGate, settings: Settings) -> None:
    await gate.claim(Path.stream, [key()])
    redis = connect_redis(settings)
    await redis.script_flush()
    await redis.aclose()
    assert await gate.claim(Path.stream, [key()]) == [Claim.granted_again]


async def test_a_gate_that_does_not_answer_says_so_and_grants_nothing(settings: Settings) -> None:
    dead = RedisGate.connect(settings.model_copy(update={"redis_url": _nowhere()}))
    for question in (dead.claim(Path.stream, [key()]), dead.standing(Path.stream, [key()])):
        with pytest.raises(GateUnavailableError):
            await question
    await dead.close()


async def test_a_bucket_of_200_users_stays_a_listpack(settings: Settings) -> None:
    gate = RedisGate.connect(settings.model_copy(update={"gate_bucket_bits": 0}))
    await gate.claim(Path.batch, [key(user) for user in range(1, 200 * 256)])
    redis = connect_redis(settings)
    encodings = {bytes(await redis.object("encoding", name)) async for name in redis.scan_iter("gate:*", count=1000)}
    assert encodings == {b"listpack"}
    await redis.aclose()
    await gate.close()


Operation = st.tuples(
    st.sampled_from(["claim", "settle", "practised"]),
    st.sampled_from(list(Path)),
    st.sampled_from(sorted(KINDS)),
    st.integers(1, 3),
)


class Model:
    """The gate as a dict: what the scripts must agree with."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.practised: set[int] = set()
        self.claims: dict[tuple[int, str], tuple[Path, bool]] = {}

    def claim(self, path: Path, user: int, kind: str) -> Claim:
        held = self.claims.get((user, kind))
        if held and held[0] is path:
            return Claim.settled_before if held[1] else Claim.granted_again
        if user in self.practised:
            return Claim.practised
        if held:
            return Claim.other_path
        if sum(1 for owner, _ in self.claims if owner == user) >= self.cap:
            return Claim.daily_cap
        self.claims[user, kind] = (path, False)
        return Claim.granted

    def settle(self, path: Path, user: int, kind: str) -> None:
        held = self.claims.get((user, kind))
        if held and held[0] is path:
            self.claims[user, kind] = (path, True)


@given(st.lists(Operation, max_size=40))
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True
)
async def test_the_scripts_agree_with_a_model(settings: Settings, operations: list[tuple[str, Path, str, int]]) -> None:
    gate = RedisGate.connect(settings)
    redis = connect_redis(settings)
    await redis.flushdb()
    model = Model(settings.daily_cap)
    for what, path, kind, user in operations:
        if what == "claim":
            assert await gate.claim(path, [key(user, kind)]) == [model.claim(path, user, kind)]
        elif what == "settle":
            await gate.settle(path, [key(user, kind)])
            model.settle(path, user, kind)
        else:
            await gate.practised([(user, TODAY)])
            model.practised.add(user)
    granted = await gate.granted(TODAY)
    assert sum(granted.values()) == len(model.claims)
    await redis.aclose()
    await gate.close()


def _nowhere() -> object:
    from pydantic import SecretStr

    return SecretStr("redis://127.0.0.1:1/0")
