"""The gate's promises, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import date, timedelta

import pytest

from shared.gate import Claim, GateClosedError, Keeper, RedisGate, Rule, SendKey, Standing
from shared.gate.keeper import Fact
from shared.gate.keys import epoch_key
from shared.identity import SHARDS, shard_of
from shared.policy.kinds import KINDS, Path
from shared.settings import WEEK_HOURS, Settings
from tests.integration.valkeys import Valkey, emptied, settings_for

VALKEY_OPTIONS = ("hash-max-listpack-entries 512",)
TODAY = date(2026, 11, 21)
TOMORROW = date(2026, 11, 22)
NO_COMEBACKS = 1 << KINDS["comeback"].code
NO_CAMPAIGNS = 1 << KINDS["campaign"].code


@pytest.fixture
async def settings(server: Valkey) -> Settings:
    return await emptied(server)


@pytest.fixture
async def keeper(settings: Settings) -> AsyncIterator[Keeper]:
    keeper = Keeper.connect(settings)
    yield keeper
    await keeper.close()


def key(user_id: int = 1, kind: str = "practice", day: date = TODAY, campaign: str = "") -> SendKey:
    return SendKey(user_id, kind, day, campaign)


def blast(user_id: int = 1, campaign: str = "spring", day: date = TODAY) -> SendKey:
    return SendKey(user_id, "campaign", day, campaign)


async def claim(gate: RedisGate, path: Path, keys: Sequence[SendKey]) -> list[Claim]:
    """One question a key, in order, where they differ in more than the user."""
    ((kind, day, campaign), *rest) = dict.fromkeys((key.kind, key.local_date, key.campaign) for key in keys)
    if rest:
        return [answer for key in keys for answer in await claim(gate, path, [key])]
    return await gate.claim(path, kind, day, [key.user_id for key in keys], campaign)


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
    assert await claim(gate, Path.blast, [blast(), blast(day=TOMORROW)]) == [Claim.daily_cap, Claim.granted]


async def test_the_weekly_cap_counts_seven_dates_over_all_kinds_and_paths(settings: Settings) -> None:
    capped = RedisGate.connect(settings.model_copy(update={"weekly_cap": 3, "gate_keep_hours": WEEK_HOURS}))
    days = [TODAY - timedelta(days=n) for n in range(8)]
    try:
        assert await claim(capped, Path.stream, [key(day=days[7]), key(day=days[6])]) == [Claim.granted] * 2
        assert await claim(capped, Path.blast, [blast(day=days[3])]) == [Claim.granted]
        assert await claim(capped, Path.batch, [key(kind="comeback", day=days[1])]) == [Claim.weekly_cap]
        assert await claim(capped, Path.batch, [key(kind="comeback")]) == [Claim.granted], "days[7] is a week ago"
        assert await claim(capped, Path.batch, [key(kind="comeback")]) == [Claim.granted_again], "a page repeated"
        assert await claim(capped, Path.stream, [key(), key(2)]) == [Claim.weekly_cap, Claim.granted]
        assert await claim(capped, Path.blast, [blast(campaign="owls")]) == [Claim.weekly_cap]
        assert (await capped.tallies(TODAY))[Path.stream, "practice", Claim.weekly_cap] == 1
        await capped.settle(Path.batch, [key(kind="comeback")])
        assert await claim(capped, Path.stream, [key(day=TOMORROW)]) == [Claim.granted], "days[6] is a week ago"
    finally:
        await capped.close()


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


async def test_a_campaign_reaches_a_user_once_however_often_it_is_triggered(gate: RedisGate) -> None:
    assert await claim(gate, Path.blast, [blast(), blast(), blast(2)]) == [
        Claim.granted,
        Claim.granted_again,
        Claim.granted,
    ]
    assert await claim(gate, Path.blast, [blast(day=TOMORROW)]) == [Claim.granted_again]
    await gate.settle(Path.blast, [blast(day=TOMORROW)])
    assert await claim(gate, Path.blast, [blast(), blast(campaign="summer")]) == [Claim.settled_before, Claim.granted]
    assert await gate.standing(Path.blast, [blast(), blast(2), blast(3)]) == [
        Standing.settled,
        Standing.clear,
        Standing.unclaimed,
    ]


async def test_a_campaigns_send_that_was_shown_without_a_claim_counts_for_its_day(gate: RedisGate) -> None:
    await gate.settle(Path.blast, [blast(), blast()])
    await gate.settle(Path.blast, [blast()])
    assert await claim(gate, Path.stream, [key(), key(kind="streak_saver")]) == [Claim.granted, Claim.daily_cap]


async def test_who_opted_out_is_denied_until_they_opt_in_again(gate: RedisGate) -> None:
    comeback = key(kind="comeback")
    await gate.opt_out([(1, TODAY, NO_COMEBACKS | NO_CAMPAIGNS)])
    assert await claim(gate, Path.batch, [comeback]) == [Claim.opted_out]
    assert await claim(gate, Path.blast, [blast()]) == [Claim.opted_out]
    assert await claim(gate, Path.stream, [key()]) == [Claim.granted]
    await gate.opt_out([(1, TODAY, 0)])
    assert await claim(gate, Path.batch, [comeback]) == [Claim.granted]


async def test_opting_out_takes_back_what_was_not_shown_yet(gate: RedisGate) -> None:
    comeback = key(kind="comeback")
    await claim(gate, Path.batch, [comeback])
    await claim(gate, Path.blast, [blast()])
    await gate.opt_out([(1, TODAY, NO_COMEBACKS | NO_CAMPAIGNS)])
    assert await gate.standing(Path.batch, [comeback]) == [Standing.opted_out]
    assert await gate.standing(Path.blast, [blast()]) == [Standing.opted_out]
    await gate.settle(Path.batch, [comeback])
    await gate.opt_out([(1, TODAY, NO_COMEBACKS)])
    assert await gate.standing(Path.batch, [comeback]) == [Standing.settled]


async def test_what_is_paused_is_not_decided_and_nothing_is_taken(gate: RedisGate, keeper: Keeper) -> None:
    await claim(gate, Path.stream, [key(1)])
    await keeper.write_rules([Rule(path=Path.stream, kind="practice")])
    assert await claim(gate, Path.stream, [key(1), key(2)]) == [Claim.paused, Claim.paused]
    assert await gate.standing(Path.stream, [key(1), key(2)]) == [Standing.paused, Standing.paused]
    assert await claim(gate, Path.stream, [key(2, "streak_saver")]) == [Claim.granted]
    assert await claim(gate, Path.batch, [key(2)]) == [Claim.granted]
    await keeper.write_rules([])
    assert await claim(gate, Path.stream, [key(1), key(2)]) == [Claim.granted_again, Claim.other_path]


async def test_the_pauses_of_providers_are_known_and_hold_no_claim_back(gate: RedisGate, keeper: Keeper) -> None:
    rules = (Rule(provider="apns"), Rule(path=Path.batch, provider="fcm"))
    assert await keeper.write_rules(rules) == []
    assert set(await gate.pauses()) == set(rules)
    assert await claim(gate, Path.batch, [key()]) == [Claim.granted]


async def test_the_pauses_are_known_as_long_as_one_part_of_the_gate_is_open(
    gate: RedisGate, keeper: Keeper, server: Valkey
) -> None:
    await keeper.write_rules([Rule(provider="apns")])
    server("DEL", epoch_key(0))
    assert await gate.pauses() == (Rule(provider="apns"),)
    server("DEL", *(epoch_key(shard) for shard in range(SHARDS)))
    with pytest.raises(GateClosedError):
        await gate.pauses()


async def test_a_shard_without_its_epoch_is_closed_and_the_others_are_not(
    gate: RedisGate, keeper: Keeper, server: Valkey
) -> None:
    server("DEL", epoch_key(shard_of(1)))
    for question in (
        claim(gate, Path.stream, [key()]),
        claim(gate, Path.blast, [blast()]),
        gate.standing(Path.stream, [key()]),
        gate.standing(Path.blast, [blast()]),
        gate.settle(Path.stream, [key()]),
        gate.settle(Path.blast, [blast()]),
        gate.practised([(1, TODAY)]),
        gate.opt_out([(1, TODAY, 1)]),
    ):
        with pytest.raises(GateClosedError, match=rf"epoch:.{shard_of(1)}. is missing.*`surnia gate rebuild`"):
            await question
    assert list(await keeper.closed()) == [shard_of(1)]
    assert await keeper.write_rules([]) == [shard_of(1)]
    assert await claim(gate, Path.stream, [key(2)]) == [Claim.granted]


async def test_a_rebuild_opens_only_what_was_not_lost_once_more_meanwhile(
    gate: RedisGate, keeper: Keeper, server: Valkey
) -> None:
    mine, other = shard_of(1), shard_of(2)
    server("FLUSHALL")
    await keeper.begin([mine, other], "token")
    await keeper.restore([Fact(key(), Path.stream, settled=True)])
    server("DEL", f"rebuild:{{{other}}}")
    assert await keeper.open([mine, other], "token", "second", [Rule(kind="comeback")]) == [other]
    assert await keeper.open([mine, other], "another", "third", []) == [mine, other]
    # The answer may have been lost on its way.
    assert await keeper.open([mine], "token", "second", [Rule(kind="practice")]) == []
    assert await gate.standing(Path.stream, [key()]) == [Standing.settled]
    assert await claim(gate, Path.stream, [key()]) == [Claim.paused]
    epoch = (await keeper.epochs())[mine]
    assert epoch and (epoch.name, epoch.rules) == ("second", (Rule(kind="practice"),))
    assert epoch.run_id == server.info("server")["run_id"]
    assert (await keeper.epochs())[other] is None


async def test_what_has_no_place_in_the_gate_is_refused_before_it_harms_another(
    gate: RedisGate, keeper: Keeper, server: Valkey
) -> None:
    before = server("DBSIZE")
    strange = [(Path.blast, key()), (Path.batch, key(campaign="spring")), (Path.blast, blast(campaign=""))]
    for path, send in strange:
        for question in (claim(gate, path, [send]), gate.standing(path, [send]), gate.settle(path, [send])):
            with pytest.raises(ValueError, match="no place"):
                await question
    assert await keeper.restore([Fact(send, path, settled=True) for path, send in strange]) == 0
    assert server("DBSIZE") == before


async def test_answers_keep_the_order_of_a_thousand_users_over_all_shards(gate: RedisGate) -> None:
    await gate.practised([(user, TODAY) for user in range(1, 3001, 3)])
    answers = await claim(gate, Path.batch, [key(user) for user in range(1, 3001)])
    assert [answer is Claim.practised for answer in answers] == [user % 3 == 1 for user in range(1, 3001)]
    tallies = await gate.tallies(TODAY)
    assert tallies == {(Path.batch, "practice", Claim.granted): 2000, (Path.batch, "practice", Claim.practised): 1000}


async def test_nothing_to_ask_is_no_question(settings: Settings) -> None:
    gate = RedisGate.connect(settings.model_copy(update={"redis_url": settings_for("redis://127.0.0.1:1").redis_url}))
    assert await gate.claim(Path.batch, "comeback", TODAY, []) == []
    assert await gate.standing(Path.batch, []) == []
    await gate.settle(Path.batch, [])
    await gate.practised([])
    await gate.opt_out([])
    await gate.close()


async def test_a_server_that_forgot_its_scripts_is_taught_again(gate: RedisGate, server: Valkey) -> None:
    await claim(gate, Path.stream, [key()])
    server("SCRIPT", "FLUSH")
    assert await claim(gate, Path.stream, [key()]) == [Claim.granted_again]


async def test_all_that_the_gate_keeps_of_a_day_or_a_campaign_goes_away_by_itself(
    gate: RedisGate, settings: Settings, server: Valkey
) -> None:
    await claim(gate, Path.stream, [key(1)])
    await claim(gate, Path.blast, [blast(2)])
    await gate.practised([(3, TODAY)])
    await gate.opt_out([(4, TODAY, 1)])
    await gate.settle(Path.stream, [key(5)])
    await gate.settle(Path.blast, [blast(6)])
    day, month = settings.gate_keep_hours * 3600, 30 * 86_400
    with server.client() as client:
        lives = {name: client.ttl(name) for name in client.scan_iter(count=1000)}
    for name, seconds in lives.items():
        what = name.partition(b":")[0]
        longest = {b"epoch": -1, b"gate": day, b"tally": day, b"campaign": month}[what]
        assert longest - 60 < seconds <= longest or (what, seconds) == (b"epoch", -1), (name, seconds)
    assert {name.partition(b":")[0] for name in lives} == {b"epoch", b"gate", b"tally", b"campaign"}


async def test_a_bucket_of_200_users_stays_a_listpack(settings: Settings, server: Valkey) -> None:
    gate = RedisGate.connect(settings.model_copy(update={"gate_bucket_bits": 0}))
    await claim(gate, Path.batch, [key(user) for user in range(1, 200 * 256)])
    with server.client() as client:
        assert {client.object("encoding", name) for name in client.scan_iter("gate:*", count=1000)} == {b"listpack"}
    await gate.close()
