"""Pauses on real stores: recorded, in force at the gate at once, whatever is typed twice or at the same moment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest
import typer
from redis import Redis
from typer.testing import CliRunner, Result

from batch.oncall import commands
from batch.oncall.pausing import hold, let_go, listed
from infra.stack import commands as stack_commands
from shared.clock import FileClock, utc
from shared.gate import Claim, GateUnavailableError, Keeper, RedisGate, Rule, SendKey, Standing
from shared.gate.keys import epoch_key
from shared.gate.pauses import put_in_force
from shared.identity import SHARDS
from shared.policy.kinds import Path
from shared.settings import Settings
from tests.conftest import NOON, settings_of
from tests.integration.support import TODAY, sql

USERS = range(1, 513)
PRACTICE = Rule(kind="practice")
NOWHERE = "redis://127.0.0.1:1/0"
Surnia = Callable[..., Result]


@pytest.fixture
async def gate(settings: Settings) -> AsyncIterator[RedisGate]:
    gate = RedisGate.connect(settings)
    yield gate
    await gate.close()


@pytest.fixture
def surnia(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Surnia:
    """Runs a command line in this process."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    app = typer.Typer()
    commands.register(app)
    stack_commands.register(app)

    def run(*words: str, code: int = 0, **changed: str) -> Result:
        done = CliRunner(env=changed).invoke(app, words)
        assert done.exit_code == code, f"{words}: {done.output}{done.exception!r}"
        return done

    return run


async def claims(gate: RedisGate, kind: str = "practice", path: Path = Path.stream) -> set[Claim]:
    return set(await gate.claim(path, kind, TODAY, USERS))


async def standings(gate: RedisGate, kind: str = "practice") -> set[Standing]:
    return set(await gate.standing(Path.stream, [SendKey(user, kind, TODAY) for user in USERS]))


def rows(settings: Settings) -> int:
    return int(sql(settings, "SELECT count(*) FROM pauses")[0][0])


async def test_a_pause_stops_claims_and_deliveries_in_every_shard_until_it_is_resumed(
    settings: Settings, gate: RedisGate
) -> None:
    assert await claims(gate) == {Claim.granted}
    assert (await hold(settings, PRACTICE, "the text is wrong", "ana")).in_force
    assert await claims(gate) == {Claim.paused}
    assert await standings(gate) == {Standing.paused}
    assert await claims(gate, "comeback", Path.batch) == {Claim.granted}, "another kind goes on"
    assert (await let_go(settings, PRACTICE, "mended", "ana")).in_force
    assert await claims(gate) == {Claim.granted_again}
    assert await standings(gate) == {Standing.clear}


async def test_who_when_and_why_are_kept_for_both_ends(settings: Settings, clock: FileClock) -> None:
    made = await hold(settings, Rule(Path.batch, "comeback", None, "apns"), "Apple is down", "ana")
    clock.set(NOON + 90)
    ended = await let_go(settings, made.changed[0].id, "Apple is back", "rui")
    assert (ended.standing, await listed(settings, history=False)) == ([], [])
    (pause,) = await listed(settings, history=True)
    assert (pause.paused_by, pause.paused_at, pause.reason) == ("ana", utc(NOON), "Apple is down")
    assert (pause.resumed_by, pause.resumed_at, pause.resume_reason) == ("rui", utc(NOON + 90), "Apple is back")
    assert pause.rule == Rule(Path.batch, "comeback", None, "apns")


async def test_many_at_once_end_with_all_of_them_in_force(settings: Settings) -> None:
    rules = [Rule(campaign=f"c{n}") for n in range(8)] + [PRACTICE, PRACTICE, PRACTICE]
    done = await asyncio.gather(*(hold(settings, rule, "storm", "ana") for rule in rules))
    assert sum(len(each.changed) for each in done) == 9
    assert await in_force(settings) == {frozenset(rules)}
    await asyncio.gather(*(let_go(settings, rule, "over", "ana") for rule in rules[:8]))
    assert await in_force(settings) == {frozenset([PRACTICE])}


async def in_force(settings: Settings) -> set[frozenset[Rule] | None]:
    """What the epoch keys say: one answer where they agree."""
    keeper = Keeper.connect(settings)
    epochs = await keeper.epochs()
    await keeper.close()
    return {epoch and frozenset(epoch.rules) for epoch in epochs.values()}


async def test_pausing_again_changes_nothing_and_keeps_the_first_reason(settings: Settings) -> None:
    first = await hold(settings, PRACTICE, "first", "ana")
    again = await hold(settings, PRACTICE, "second", "rui")
    assert (again.changed, again.already, again.in_force) == ([], first.changed[0], True)
    assert rows(settings) == 1
    wider = await hold(settings, Rule(), "everything", "rui")
    assert wider.already is None, "it outlives the narrower one"
    assert len(wider.standing) == 2


async def test_resuming_ends_exactly_what_was_named(settings: Settings, gate: RedisGate) -> None:
    for rule in (PRACTICE, Rule(Path.stream, "practice"), Rule()):
        await hold(settings, rule, "r", "ana")
    assert (await let_go(settings, Rule(kind="comeback"), "r", "ana")).changed == []
    assert [pause.rule for pause in (await let_go(settings, Rule(), "r", "ana")).changed] == [Rule()]
    assert (await let_go(settings, 10**6, "r", "ana")).changed == []
    assert await claims(gate) == {Claim.paused}
    assert len((await let_go(settings, None, "r", "ana")).changed) == 2
    assert await claims(gate) == {Claim.granted}


async def test_a_closed_gate_gets_the_pause_when_it_opens(
    settings: Settings, gate: RedisGate, surnia: Surnia, environment: dict[str, str]
) -> None:
    with Redis.from_url(settings.require_redis()) as redis:
        redis.delete(*(epoch_key(shard) for shard in range(3)))
    done = await hold(settings, PRACTICE, "r", "ana")
    assert (done.in_force, done.closed) == (False, (0, 1, 2))
    assert rows(settings) == 1
    keeper = Keeper.connect(settings)
    await keeper.begin(range(3), "t")
    await keeper.open(range(3), "t", "e", ())
    await keeper.close()
    assert await put_in_force(settings) == []
    assert await claims(gate) == {Claim.paused}


async def test_a_gate_that_does_not_answer_leaves_the_row_and_the_next_try_puts_it_in_force(
    settings: Settings, environment: dict[str, str], gate: RedisGate
) -> None:
    down = settings_of(environment | {"SURNIA_REDIS_URL": NOWHERE})
    done = await hold(down, PRACTICE, "r", "ana")
    assert not done.in_force and done.trouble
    with pytest.raises(GateUnavailableError):
        await put_in_force(down)
    assert await claims(gate) == {Claim.granted}
    again = await hold(settings, PRACTICE, "r", "ana")
    assert again.in_force and again.already
    assert await claims(gate) == {Claim.paused}
    assert not (await let_go(down, PRACTICE, "r", "ana")).in_force
    assert await claims(gate) == {Claim.paused}, "still held back, and nothing is left to resume"
    assert (await let_go(settings, PRACTICE, "r", "ana")).in_force
    assert await claims(gate) == {Claim.granted_again}


def test_the_command_line_pauses_tells_and_resumes(surnia: Surnia, settings: Settings) -> None:
    selectors = ("--kind", "streak-saver", "--path", "stream")
    said = surnia("pause", *selectors, "--reason", "[red]bad[/red] text", "--by", "ana")
    assert "Paused: path stream, kind streak_saver (pause " in said.stdout
    assert "In force" in said.stdout
    assert (
        "Paused already, since 2026-11-21 12:00:00 UTC by ana: [red]bad[/red] text"
        in surnia("pause", "--kind", "streak_saver", "--path", "stream", "--reason", "again").stdout
    )
    assert (
        "path stream, kind streak_saver, since 2026-11-21 12:00:00 UTC by ana"
        in surnia("resume", "--reason", "hm").stdout
    ), "resuming nothing tells what there is to resume"
    table = surnia("pauses", COLUMNS="200").stdout
    assert "[red]bad[/red] text" in table and "2026-11-21 12:00:00 UTC" in table
    assert "Paused: path stream, kind streak_saver, since" in surnia("status").stdout
    (listed_,) = json.loads(surnia("status", "--json").stdout)["pauses"]
    (pause,) = json.loads(surnia("pauses", "--json").stdout)["pauses"]
    assert pause == listed_
    assert (pause["path"], pause["kind"], pause["provider"], pause["paused_by"]) == (
        "stream",
        "streak_saver",
        None,
        "ana",
    )
    done = json.loads(surnia("resume", "--id", str(pause["id"]), "--reason", "mended", "--json").stdout)
    assert (done["in_force"], done["standing"], done["changed"][0]["resume_reason"]) == (True, [], "mended")
    assert "Nothing is paused." in surnia("pauses").stdout
    assert "mended" in surnia("pauses", "--history", COLUMNS="250").stdout
    assert "Nothing to resume" in surnia("resume", "--all", "--reason", "r").stdout


def test_who_pauses_is_known_without_being_asked(surnia: Surnia) -> None:
    assert "@" in json.loads(surnia("pause", "--reason", "r", "--json").stdout)["changed"][0]["paused_by"]


def test_what_is_not_in_force_yet_is_exit_code_3_and_says_what_to_do(surnia: Surnia, settings: Settings) -> None:
    said = surnia("pause", "--reason", "r", code=3, SURNIA_REDIS_URL=NOWHERE).stdout
    assert "NOT IN FORCE YET" in said and "Run this command again" in said
    assert rows(settings) == 1
    with Redis.from_url(settings.require_redis()) as redis:
        redis.flushdb()
    said = surnia("pause", "--reason", "r", code=3).stdout
    assert f"closed for {SHARDS} of {SHARDS} shards" in said and "surnia gate rebuild" in said


def test_without_postgresql_nothing_is_paused_and_that_is_said(surnia: Surnia) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    assert "Nothing was paused." in surnia("pause", "--reason", "r", code=1, SURNIA_POSTGRES_URL=nowhere).stderr


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--kind", "practise"], "practice, streak_saver, abandoned_lesson, comeback, campaign"),
        (["--path", "fast"], "stream, batch, blast"),
        (["--provider", "sms"], "apns, fcm, smtp"),
        (["--campaign", "a|*:*:*:*"], "1–64"),
        (["--campaign", ""], "1–64"),
        (["--campaign", "x" * 65], "1–64"),
        (["--campaign", "autumn", "--kind", "practice"], "leave one of the two out"),
        (["--reason", ""], "1–500"),
        (["--reason", "two\nlines"], "1–500"),
        (["--reason", "x" * 501], "1–500"),
        (["--reason", "\x1b[31mred"], "1–500"),
        (["--by", "\u202eana"], "1–100"),
    ],
)
def test_a_pause_of_nothing_or_with_a_hostile_reason_is_refused(
    words: list[str], hint: str, surnia: Surnia, settings: Settings
) -> None:
    reason = [] if "--reason" in words else ["--reason", "r"]
    said = surnia("pause", *words, *reason, code=2, COLUMNS="300", TERMINAL_WIDTH="300").stderr
    assert hint in said
    assert rows(settings) == 0


def test_a_pause_is_named_in_one_way(surnia: Surnia) -> None:
    surnia("resume", "--reason", "r", "--all", "--id", "3", code=2)
    surnia("resume", "--reason", "r", "--all", "--kind", "practice", code=2)
