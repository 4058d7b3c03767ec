"""The audit where a store has forgotten, is not read from its beginning, or does not answer: it says so and goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from typer.testing import CliRunner

from shared.clock import FileClock
from shared.settings import Settings
from shared.store.partitions import partition_name
from shared.wire.sends import Result
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.audited import GRANTED, Day, audit, delete_everything, granted, one
from tests.integration.support import TODAY, sql


async def test_without_the_topics_beginning_the_ledger_is_compared_with_what_was_planned(
    settings: Settings, runtime: Runtime
) -> None:
    day = Day(runtime)
    await day.plan({1: GRANTED, 2: GRANTED, 3: "daily_cap"})
    await day.answer({1: Result.delivered, 2: Result.failed, 3: Result.denied})
    await delete_everything(settings, runtime.topics.outcomes)
    found = await audit(settings, TODAY)
    assert (found.unavailable, found.problems) == (["kafka"], [])
    assert (one(found).planned, one(found).answered, one(found).ledger) == (2, None, 2)

    sql(settings, "DELETE FROM ledger WHERE user_id = 1")
    found = await audit(settings, TODAY)
    assert one(found).lost == 1
    assert found.problems == [
        "stream practice: planned → ledger: 1 granted have no outcome there, and nothing is on its way: user 1"
    ]
    # What comes now is read, and the ledger has not read it.
    await day.answer({1: Result.delivered}, ledger=False)
    found = await audit(settings, TODAY)
    assert (found.unavailable, found.problems, one(found).in_flight) == (["kafka"], [], 1)


async def test_without_the_planners_record_the_ledger_is_compared_with_kafka(
    settings: Settings, runtime: Runtime, clock: FileClock
) -> None:
    day = Day(runtime)
    await day.answer({1: Result.delivered, 2: Result.failed, 3: Result.denied})
    sql(settings, f"DROP TABLE IF EXISTS {partition_name('planned', TODAY)}")
    assert (await audit(settings, TODAY)).problems, "not so long ago, no partition means that nothing was planned"

    clock.set(NOON + settings.planned_keep_days * 86_400)
    found = await audit(settings, TODAY)
    assert (found.unavailable, found.problems) == (["planned"], [])
    assert (one(found).planned, one(found).granted, one(found).candidates, one(found).denied) == (
        None, 2, 3, {"denied": 1},
    )  # fmt: skip
    sql(settings, "DELETE FROM ledger WHERE user_id = 1")
    (problem,) = (await audit(settings, TODAY)).problems
    assert problem.startswith("stream practice: Kafka → ledger: 1 granted")

    await delete_everything(settings, runtime.topics.outcomes)
    found = await audit(settings, TODAY)
    assert found.unavailable == ["planned", "kafka"]
    assert not found.holds


async def test_by_the_machines_clock_only_messages_from_about_the_date_on_are_read(
    settings: Settings, runtime: Runtime
) -> None:
    now = datetime.now(UTC).date()
    settings = settings.model_copy(update={"clock_file": None})
    read: list[tuple[int, int]] = []

    def watch(what: str, done: int, total: int) -> None:
        if what == "messages of outcomes":
            read.append((done, total))

    day = Day(runtime, day=now)
    await day.plan(granted(1))
    await day.answer({1: Result.delivered}, key=b"k")
    found = await audit(settings, now, watch=watch)
    assert (found.problems, one(found).answered, read) == ([], 1, [(1, 1)])

    read.clear()
    later = now + timedelta(days=9)
    assert (await audit(settings, later, watch=watch)).holds
    assert not read
    # What is left is of the date, and what was before it may have been too; of a later date it can't have been.
    await delete_everything(settings, runtime.topics.outcomes)
    await day.answer({1: Result.delivered}, key=b"k")
    assert (await audit(settings, now)).unavailable == ["kafka"]
    assert (await audit(settings, later)).unavailable == []


def test_a_server_that_does_not_answer_is_no_broken_promise(
    settings: Settings, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    from batch.commands import register

    app = typer.Typer()
    register(app)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name, address in (("KAFKA_BROKERS", "127.0.0.1:1"), ("POSTGRES_URL", "postgresql://u:secret@127.0.0.1:1/d")):
        with monkeypatch.context() as broken:
            broken.setenv(f"SURNIA_{name}", address)
            done = CliRunner().invoke(app, ["audit", "--date", "2026-11-21"])
        assert done.exit_code == 2
        assert "a server does not answer" in done.stderr
        assert "secret" not in done.stderr
    done = CliRunner().invoke(app, ["audit", "--date", "2026-11-21"])
    assert (done.exit_code, "none were planned" in done.stdout) == (0, True)
    done = CliRunner().invoke(app, ["audit", "--date", "2026-11-21", "--json"])
    assert msgspec.json.decode(done.stdout)["holds"] is True
