"""The turnstile on a real server: what one worker hears stops all of them, and what is typed is in force at once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

import pytest
import typer
from prometheus_client import CollectorRegistry
from redis.crc import key_slot
from typer.testing import CliRunner, Result

from shared.clock import FileClock
from shared.keyspace import GateUnavailableError, open_keyspace
from shared.policy.kinds import Lane
from shared.settings import Settings
from stream.delivery.turnstile import commands
from stream.delivery.turnstile.contract import Answers, State
from stream.delivery.turnstile.redis import LONGEST_BLOCK, RedisTurnstile, provider_key, shard_of_name
from tests.integration.valkeys import Valkey, running, settings_for, until

START = 1_795_262_400.0
ALL = 10_000_000
Surnia = Callable[..., Result]


class Two:
    """Two workers at one server, and the clock that both go by."""

    def __init__(self, server: Valkey, folder: Path, **settings: object) -> None:
        self.clock = FileClock.create(folder / "clock", START)
        self.settings: Settings = settings_for(server.url, clock_file=folder / "clock", **settings)
        self.one, self.other = (RedisTurnstile.connect(self.settings) for _ in range(2))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.one.close()
        await self.other.close()

    def turn(self, seconds: float) -> None:
        self.clock.set(self.clock.now() + seconds)

    async def trip(self) -> None:
        """Enough bad answers."""
        turn = (await self.one.ask("apns", Lane.normal, 20)).turn
        grant = await self.one.ask("apns", Lane.normal, 0, [Answers(turn, 10, 10)])
        assert grant.state is State.open

    async def mend(self) -> None:
        """It was open; its probes are well."""
        self.turn(60)
        grant = await self.one.ask("apns", Lane.normal, 10)
        assert (grant.n, grant.state) == (10, State.half_open)
        grant = await self.one.ask("apns", Lane.normal, 0, [Answers(grant.turn, 10)])
        assert grant.state is State.closed


@pytest.fixture
async def two(server: Valkey, tmp_path: Path) -> AsyncIterator[Two]:
    server("FLUSHALL")
    async with Two(server, tmp_path) as two:
        yield two


async def test_what_one_worker_hears_stops_the_other_and_probes_let_both_go_on(two: Two) -> None:
    await two.trip()
    assert (await two.other.ask("apns", Lane.urgent, 5))[:2] == (0, State.open)
    assert (await two.other.ask("fcm", Lane.urgent, 5))[:2] == (5, State.closed)
    two.turn(5)
    first, second = await asyncio.gather(two.one.ask("apns", Lane.normal, 8), two.other.ask("apns", Lane.urgent, 8))
    assert first.n + second.n == 10
    assert first.state is second.state is State.half_open
    assert (await two.other.ask("apns", Lane.urgent, 8)).n == 0
    await two.one.ask("apns", Lane.normal, 0, [Answers(first.turn, first.n)])
    await two.other.ask("apns", Lane.normal, 0, [Answers(second.turn, second.n)])
    assert (await two.one.ask("apns", Lane.blast, ALL)).n == ALL


async def test_the_state_is_told_to_prometheus(two: Two) -> None:
    registry = CollectorRegistry()
    one = RedisTurnstile(open_keyspace(two.settings), two.settings, two.clock, registry=registry)

    async def told() -> list[str]:
        await one.ask("apns", Lane.normal, 1)
        labels = [{"provider": "apns", "state": str(state)} for state in State]
        return [each["state"] for each in labels if registry.get_sample_value("surnia_provider_state", each)]

    assert await told() == ["closed"]
    await two.trip()
    assert await told() == ["open"]
    two.turn(60)
    assert await told() == ["half_open"]
    await one.close()


async def test_nineteen_answers_prove_nothing_nor_do_old_ones(two: Two) -> None:
    await two.one.ask("apns", Lane.normal, 0, [Answers(0, 0, 19)])
    two.turn(10)
    assert (await two.one.ask("apns", Lane.normal, 0, [Answers(0, 0, 19)])).state is State.closed
    assert (await two.one.ask("apns", Lane.normal, 0, [Answers(0, 19, 0)])).state is State.open


async def test_answers_from_before_it_opened_do_not_count_for_the_probes(two: Two) -> None:
    await two.trip()
    two.turn(60)
    grant = await two.one.ask("apns", Lane.normal, 10, [Answers(0, 0, 500)])
    assert (grant.n, grant.state) == (10, State.half_open)
    grant = await two.one.ask("apns", Lane.normal, 0, [Answers(0, 0, 500)])
    assert grant.state is State.half_open


async def test_it_rests_longer_each_time_and_forgets_after_a_minute_of_health(server: Valkey, two: Two) -> None:
    one = two.one
    one._draw = lambda: 1.0
    rests = []
    for _ in range(6):
        turn = (await one.ask("apns", Lane.normal, 10)).turn
        grant = await one.ask("apns", Lane.normal, 0, [Answers(turn, 0, 20)])
        rests.append(round(grant.wait))
        two.turn(grant.wait + 0.001)
    assert rests == [5, 10, 20, 40, 60, 60]
    await two.mend()
    two.turn(61)
    turn = (await one.ask("apns", Lane.normal, 10)).turn
    assert round((await one.ask("apns", Lane.normal, 0, [Answers(turn, 0, 20)])).wait) == 5


async def test_probes_of_a_worker_that_died_are_lost_after_a_while(two: Two) -> None:
    await two.trip()
    two.turn(60)
    assert (await two.one.ask("apns", Lane.normal, 10)).n == 10
    two.turn(two.settings.push_timeout_seconds + 20)
    assert (await two.other.ask("apns", Lane.normal, 10)).n == 10


async def test_a_provider_that_asks_for_a_rest_gets_it_from_everybody(two: Two) -> None:
    grant = await two.one.ask("fcm", Lane.urgent, 0, [Answers(0, 1, 0, block=90.0)])
    assert (grant.state, round(grant.wait)) == (State.open, 90)
    two.turn(85)
    assert (await two.other.ask("fcm", Lane.urgent, 1)).n == 0
    two.turn(5)
    assert (await two.other.ask("fcm", Lane.urgent, 1))[:2] == (1, State.half_open)
    grant = await two.one.ask("fcm", Lane.urgent, 0, [Answers(0, block=1e9)])
    assert grant.wait == pytest.approx(LONGEST_BLOCK, abs=1)


async def test_from_cold_the_rate_grows_over_a_minute(two: Two) -> None:
    # By a clock that is turned a second at a time; the machine's own adds a little.
    granted = []
    for _ in range(70):
        granted.append((await two.one.ask("fcm", Lane.urgent, ALL)).n)
        two.turn(1)
    assert 100 <= granted[0] <= 110
    assert granted == sorted(granted)
    assert 5_000 <= granted[30] <= 5_300
    assert granted[-1] == 10_000
    two.turn(60)
    assert (await two.one.ask("fcm", Lane.urgent, ALL)).n <= 110


async def test_closed_again_the_rate_grows_anew(server: Valkey, tmp_path: Path) -> None:
    server("FLUSHALL")
    async with Two(server, tmp_path, apns_per_second=1_000) as two:
        await two.one.ask("apns", Lane.urgent, 1)
        two.turn(59)
        assert (await two.one.ask("apns", Lane.urgent, ALL)).n > 900
        await two.trip()
        await two.mend()
        assert (await two.one.ask("apns", Lane.urgent, ALL)).n <= 20


async def test_a_blast_leaves_a_fifth_to_streak_savers(two: Two) -> None:
    for _ in range(2):
        await two.one.ask("fcm", Lane.normal, 1)
        two.turn(59)
    began = time.monotonic()
    blast = await two.one.ask("fcm", Lane.blast, ALL)
    assert blast.n == 8_000
    assert blast.wait == pytest.approx(0.8, abs=0.05)
    # Nothing but what has come in since.
    normal = await two.other.ask("fcm", Lane.normal, 500)
    assert normal.n <= (time.monotonic() - began) * 10_000 + 1
    assert (await two.other.ask("fcm", Lane.urgent, 500)).n == 500


async def test_while_streak_savers_wait_a_blast_gets_a_fifth_and_no_more(two: Two) -> None:
    for _ in range(2):
        await two.one.ask("fcm", Lane.normal, 1)
        two.turn(59)
    assert (await two.one.ask("fcm", Lane.urgent, ALL)).n < ALL
    two.turn(1)
    assert (await two.other.ask("fcm", Lane.blast, ALL)).n == 2_000
    two.turn(2)
    assert (await two.other.ask("fcm", Lane.blast, ALL)).n == 8_000


async def test_a_clock_that_stands_still_holds_nobody_up(two: Two) -> None:
    granted = 0

    async def more() -> bool:
        nonlocal granted
        granted += (await two.one.ask("smtp", Lane.urgent, 4)).n
        return granted >= 4

    await until(more, "the pacer")


async def test_a_server_that_is_gone_grants_nothing(tmp_path: Path) -> None:
    server = Valkey(tmp_path / "server")
    with running(server):
        async with Two(server, tmp_path) as two:
            assert (await two.one.ask("apns", Lane.urgent, 1)).n == 1
            server.kill()
            with pytest.raises(GateUnavailableError):
                await two.one.ask("apns", Lane.urgent, 1)


@pytest.mark.parametrize("name", ["apns:com.example.app", "fcm:owls-1234", "smtp"])
def test_a_cluster_finds_it_where_the_shard_is(name: str) -> None:
    assert key_slot(provider_key(name).encode()) == key_slot(str(shard_of_name(name)).encode())


async def test_what_nobody_asks_about_is_forgotten_but_not_what_was_forced(server: Valkey, two: Two) -> None:
    await two.one.ask("apns", Lane.urgent, 1)
    key = provider_key("apns:com.example.app")
    assert 86_000 < server("TTL", key) <= 86_400
    await two.one.force("apns", State.open, "ana", "test", START)
    await two.one.ask("apns", Lane.urgent, 1)
    assert server("TTL", key) == -1


# The commands.


@pytest.fixture
def surnia(two: Two, server: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Surnia:
    """Runs a command line in this process, in a thread of its own as it brings its own loop."""
    key = tmp_path / "account.json"
    key.write_text(json.dumps({"project_id": "owls-1234"}))
    monkeypatch.setenv("SURNIA_REDIS_URL", server.url)
    monkeypatch.setenv("SURNIA_CLOCK_FILE", str(tmp_path / "clock"))
    monkeypatch.setenv("SURNIA_FCM_CREDENTIALS_FILE", str(key))
    app = typer.Typer()
    commands.register(app)

    def run(*words: str, code: int = 0, **changed: str) -> Result:
        done = CliRunner(env=changed).invoke(app, words)
        assert done.exit_code == code, f"{words}: {done.output}{done.exception!r}"
        return done

    return run


async def told(surnia: Surnia, code: int = 0) -> dict[str, dict[str, Any]]:
    done = await asyncio.to_thread(surnia, "providers", "status", "--json", code=code)
    return {each["name"]: each for each in json.loads(done.stdout)["providers"]}


async def test_status_says_how_each_stands_and_why(two: Two, surnia: Surnia) -> None:
    before = await told(surnia)
    assert set(before) == {"apns:com.example.app", "fcm:owls-1234", "smtp"}
    assert not any(each["known"] for each in before.values())
    await two.trip()
    apns = (await told(surnia, code=1))["apns:com.example.app"]
    assert (apns["state"], apns["why"], apns["forced"]) == ("open", "10 of 20 answers were bad", None)
    two.turn(60)
    table = (await asyncio.to_thread(surnia, "providers", "status", code=1, COLUMNS="200")).stdout
    assert "half open" in table
    assert "10 of 20 answers were bad" in table
    assert "10,000" in table


async def test_forced_open_it_gets_nothing_until_it_is_reset(two: Two, surnia: Surnia) -> None:
    words = ("providers", "force-open", "apns", "--reason", "Apple says so", "--by", "ana")
    assert "apns:com.example.app is forced open" in (await asyncio.to_thread(surnia, *words)).stdout
    two.turn(3600)
    assert (await two.one.ask("apns", Lane.urgent, 1, [Answers(1, 500)])).state is State.open
    apns = (await told(surnia, code=1))["apns:com.example.app"]
    assert apns["forced"] == {"by": "ana", "reason": "Apple says so", "at": START}
    assert "begins anew" in (await asyncio.to_thread(surnia, "providers", "reset", "apns:com.example.app")).stdout
    assert (await two.one.ask("apns", Lane.urgent, 1)).n == 1


async def test_forced_closed_it_gets_everything_whatever_it_answers(two: Two, surnia: Surnia) -> None:
    await two.trip()
    await asyncio.to_thread(surnia, "providers", "force-close", "apns", "--reason", "false alarm")
    grant = await two.one.ask("apns", Lane.urgent, 50)
    assert (grant.n, grant.state) == (50, State.closed)
    grant = await two.one.ask("apns", Lane.urgent, 50, [Answers(grant.turn, 0, 50, block=60.0)])
    assert (grant.n, grant.state) == (50, State.closed)
    assert (await told(surnia))["apns:com.example.app"]["forced"]["reason"] == "false alarm"


def test_what_is_typed_wrong_changes_nothing(surnia: Surnia) -> None:
    surnia("providers", "force-open", "gcm", "--reason", "x", code=2)
    surnia("providers", "force-open", "apns", code=2)
    surnia("providers", "force-open", "apns", "--reason", " \n", code=2)
    assert "nothing to do" in surnia("providers", "reset", "smtp").stdout


def test_without_redis_it_says_so(surnia: Surnia) -> None:
    nowhere = {"SURNIA_REDIS_URL": "redis://127.0.0.1:1/0"}
    surnia("providers", "status", code=3, **nowhere)
    surnia("providers", "force-open", "apns", "--reason", "x", code=3, **nowhere)


async def test_a_wave_of_bad_tokens_stops_retiring_for_all_workers_within_a_hundred(two: Two) -> None:
    """The wrong key in the middle of a good day: of what comes in parts of ten, few have been retired by then."""
    for _ in range(20):
        assert await two.one.may_retire("apns", 500, 1)
    retired = 0
    while await two.one.may_retire("apns", 10, 10):
        retired += 10
    assert retired <= 100
    assert not await two.other.may_retire("apns", 1, 1)
    assert await two.other.may_retire("smtp", 1, 1)


async def test_a_whole_part_of_bad_tokens_retires_none_and_a_few_retire_themselves(two: Two) -> None:
    assert await two.one.may_retire("apns", 19, 19)
    assert not await two.one.may_retire("apns", 1, 1)


async def test_the_wave_is_over_when_few_are_bad_again_or_somebody_says_so(two: Two) -> None:
    assert not await two.one.may_retire("apns", 500, 500)
    assert not await two.one.may_retire("apns", 1000, 0)
    assert await two.one.may_retire("apns", 10_000, 0)
    assert not await two.one.may_retire("apns", 500, 500)
    await two.other.reset("apns")
    assert await two.other.may_retire("apns", 500, 1)


async def test_a_wave_shows_in_the_status(two: Two, surnia: Surnia) -> None:
    await two.one.ask("apns", Lane.normal, 1)
    await told(surnia)
    assert not await two.one.may_retire("apns", 100, 43)
    apns = (await told(surnia, code=1))["apns:com.example.app"]
    assert (apns["state"], apns["retiring_stopped_at"], apns["bad_token_share"]) == ("closed", START, 0.43)
    shown = await asyncio.to_thread(surnia, "providers", "status", code=1, COLUMNS="300")
    assert "no token is retired since" in " ".join(shown.output.split())
