"""What keeps an erasure whole later on: rebuilt gates, the nightly maintenance, the commands that look for a user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta

import pytest

from batch.maintenance import maintain
from shared.gate import Claim, Standing
from shared.policy.kinds import Path
from shared.settings import Settings
from stream.keeping.rebuild import rebuild
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.audited import read_everything
from tests.integration.erasures import (
    OTHER,
    USER,
    answer,
    erased,
    in_redis,
    key,
    live,
    plan,
    send,
    tombstones,
    users_in_ledger,
)
from tests.integration.lost import lose
from tests.integration.support import TODAY, add_users, redis_state, sql


@pytest.mark.parametrize("unread", [True, False], ids=["with sends on their way", "with the ledger alone"])
async def test_a_rebuilt_gate_delivers_nothing_to_the_erased(
    settings: Settings, runtime: Runtime, unread: bool
) -> None:
    add_users(settings, {"id": USER}, {"id": OTHER})
    await plan(runtime, [send(USER), send(OTHER)])
    await answer(runtime, USER, OTHER, kafka=unread)
    await erased(runtime)
    if not unread:
        for role, topic in (("delivery", runtime.topics.urgent), ("ledger", runtime.topics.outcomes)):
            await read_everything(settings, role, topic)
    await lose(settings)
    done = await rebuild(runtime)
    assert done.still_closed == []
    if unread:
        assert await in_redis(settings, USER) == tombstones(settings, USER)
        assert await runtime.gate.standing(Path.stream, [key(USER)]) == [Standing.opted_out]
        assert await runtime.gate.claim(Path.stream, "practice", TODAY, [USER]) == [Claim.opted_out]
    else:
        assert await in_redis(settings, USER) == {}
    assert await runtime.gate.standing(Path.stream, [key(OTHER)]) == [Standing.settled]
    assert not any(
        b"-" in user for held in (await redis_state(settings)).values() if isinstance(held, dict) for user in held
    )
    before = await redis_state(settings)
    assert (await rebuild(runtime, every=True)).changed == 0
    assert (await redis_state(settings)).keys() == before.keys()


async def test_dates_behind_the_tombstones_are_those_of_who_came_back(settings: Settings, runtime: Runtime) -> None:
    await erased(runtime)
    add_users(settings, {"id": USER})
    later = TODAY + timedelta(days=4)
    await plan(runtime, [send(USER, day=later), send(USER)])
    await lose(settings)
    await rebuild(runtime)
    assert await runtime.gate.standing(Path.stream, [key(USER, later), key(USER)]) == [
        Standing.clear,
        Standing.opted_out,
    ]


async def test_secrets_go_when_kafka_has_forgotten_the_users_too(settings: Settings, runtime: Runtime) -> None:
    add_users(settings, {"id": USER})
    await answer(runtime, USER)
    await erased(runtime, USER, OTHER)
    kept = timedelta(days=settings.erasure_key_days)
    assert (await maintain(settings, TODAY + kept, dry_run=True)).erased == 0
    assert (await maintain(settings, TODAY + kept)).erased == 0
    after = TODAY + kept + timedelta(days=1)
    assert (await maintain(settings, after, dry_run=True)).erased == 2
    assert (await maintain(settings, after)).erased == 2
    assert sql(settings, "SELECT count(*) FROM erased, erasure_keys") == [(0,)]
    assert sql(settings, "SELECT count(*) FROM erasures") == [(2,)]
    # What was written under the pseudonym stays so; and a worker that has known the secret forgets it.
    assert [user < 0 for user in users_in_ledger(settings)] == [True]
    await answer(runtime, USER, kind="streak_saver")
    assert [user < 0 for user in users_in_ledger(settings)] == [True, False]


async def test_a_secret_in_use_stays_and_a_new_one_is_made_before_it_is_too_old(
    settings: Settings, runtime: Runtime
) -> None:
    await erased(runtime, USER)
    sql(settings, "UPDATE erasure_keys SET since = since - interval '20 days'")
    await erased(runtime, OTHER, offset=20)
    assert sql(settings, "SELECT count(*) FROM erasure_keys") == [(1,)]
    sql(settings, "UPDATE erasure_keys SET since = since - interval '20 days'")
    await erased(runtime, 99, offset=30)
    assert sql(settings, "SELECT count(DISTINCT key_id) FROM erased") == [(2,)]
    # The old one is still that of somebody who was erased just now.
    await maintain(settings, TODAY)
    assert sql(settings, "SELECT count(*) FROM erased") == [(3,)]


def surnia(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "surnia", *arguments],
        env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


async def test_commands_know_the_proof_and_nobody_of_that_id(
    settings: Settings, runtime: Runtime, environment: dict[str, str]
) -> None:
    assert surnia(environment, "users", "erased")[1].strip() == "Nobody was erased."
    add_users(settings, {"id": USER}, {"id": OTHER})
    await live(runtime, USER, OTHER)
    assert surnia(environment, "inspect", str(USER))[0] == 0
    await erased(runtime)
    code, said = surnia(environment, "inspect", str(USER), "--json")
    assert (code, json.loads(said)) == (4, {"user_id": USER, "known": False})
    assert surnia(environment, "inspect", str(OTHER))[0] == 0
    code, said = surnia(environment, "users", "erased", "--json")
    (proof,) = json.loads(said)["erasures"]
    assert (code, proof["topic"], proof["partition"], proof["offset"]) == (0, runtime.topics.activity, 2, 7)
    assert proof["done_at"]
    assert (proof["users"], proof["devices"], proof["ledger_rows"]) == (1, 1, 3)
    assert str(USER) not in said
    assert "@ 7" in surnia(environment, "users", "erased", "--since", "2026-11-21T12:00:00Z")[1]
    assert surnia(environment, "users", "erased", "--since", "2026-11-21T12:00:01Z")[1].strip() == "Nobody was erased."
    assert surnia(environment, "users", "erased", "--since", "yesterday")[0] == 2


async def test_inspect_says_of_who_came_back_why_nothing_is_sent_yet(
    settings: Settings, runtime: Runtime, environment: dict[str, str]
) -> None:
    await erased(runtime)
    add_users(settings, {"id": USER})
    code, said = surnia(environment, "inspect", str(USER))
    assert (code, "2026-11-21  a user of this id was erased: nothing is sent for this date" in said) == (0, True)
    assert runtime.clock.now() == NOON
