"""The audit against real stores: it holds where nothing is missing, and names where what is missing was seen last."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import count

import msgspec
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from typer.testing import CliRunner

from batch.audit import Account, Audit
from batch.audit import audit as patient_audit
from batch.audit.tables import Watch
from shared.clock import FileClock
from shared.lag import group_of
from shared.policy.kinds import KINDS, KindName, Path
from shared.producer import Record
from shared.settings import Settings
from shared.store.partitions import ensure_partition, partition_name
from shared.wire.sends import Outcome, OutcomeBatch, Result, Send, SendBatch, encode
from stream.ledger import Ledger
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.support import TODAY, YESTERDAY, running, sql

audit = partial(patient_audit, patience=0.0)
"""Nothing is under way in these tests: what looks lost is lost."""
ALL_FOUR = (Result.delivered, Result.expired, Result.failed, Result.dropped)
GRANTED = "granted"

_pages = count(1)


@pytest.fixture
async def runtime(settings: Settings) -> AsyncIterator[Runtime]:
    async with running(settings) as runtime:
        yield runtime


class Day:
    """Puts into the places of one date, path and kind what the engine would."""

    def __init__(
        self,
        runtime: Runtime,
        path: Path = Path.stream,
        kind: KindName = "practice",
        day: date = TODAY,
        campaign: str = "",
    ) -> None:
        self._runtime = runtime
        self._path, self._kind, self._day, self._campaign = path, kind, day, campaign

    async def plan(self, answers: Mapping[int, str], *, outbox: bool = False) -> None:
        """One page of decisions, by user; `outbox`: that its planner has not brought to Kafka."""
        async with await psycopg.AsyncConnection.connect(
            self._runtime.settings.require_postgres(), autocommit=True
        ) as connection:
            await ensure_partition(connection, self._day, "planned")
            page = next(_pages)
            if outbox:
                cursor = await connection.execute("INSERT INTO outbox (records) VALUES ('') RETURNING page_id")
                (page,) = msgspec.convert(await cursor.fetchone(), tuple[int])
            for answer in set(answers.values()):
                users = [user for user, given in answers.items() if given == answer]
                await connection.execute(
                    "INSERT INTO planned (local_date, page_id, path, kind, campaign, answer, users) "
                    "VALUES (%s, %s, %s, %s, %s, %s, %s::bigint[])",
                    (self._day, page, int(self._path), KINDS[self._kind].code, self._campaign, answer, users),
                )

    async def answer(
        self, results: Mapping[int, Result], *, kafka: bool = True, ledger: bool = True, key: bytes | None = None
    ) -> None:
        """Outcomes in Kafka, in the ledger, or both; then the ledger has read them."""
        batch = OutcomeBatch(self._path, tuple(self._outcome(user, result) for user, result in results.items()))
        topic = self._runtime.topics.outcomes
        if kafka:
            await self._runtime.producer.write([Record(topic, key, encode(batch))])
        if ledger:
            await Ledger(self._runtime.pool).write([batch])
        if kafka and ledger:
            await read_everything(self._runtime.settings, "ledger", topic)

    async def send(self, users: Iterable[int], topic: str) -> None:
        """Sends that delivery has not read."""
        sends = tuple(
            Send(user, self._kind, self._day, NOON, NOON + 60, "UTC", "en", 1, 0, (), self._campaign) for user in users
        )
        await self._runtime.producer.write([Record(topic, None, encode(SendBatch(self._path, NOON, sends)))])

    def _outcome(self, user: int, result: Result) -> Outcome:
        return Outcome(user, self._kind, self._day, result, result.name, NOON, NOON, campaign=self._campaign)


async def read_everything(settings: Settings, role: str, topic: str) -> None:
    """Commit a topic's end, as the group of a role that has handled all of it."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.require_kafka(),
        group_id=group_of(role, settings.topic_prefix),
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, n) for n in range(settings.partitions)])
        consumer.assign(list(ends))
        await consumer.commit(ends)
    finally:
        await consumer.stop()


async def delete_everything(settings: Settings, topic: str) -> None:
    """What retention does in the end."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.require_kafka())
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.require_kafka())
    await consumer.start()
    await admin.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, n) for n in range(settings.partitions)])
        await admin.delete_records({p: RecordsToDelete(before_offset=end) for p, end in ends.items() if end})
    finally:
        await admin.close()
        await consumer.stop()


def granted(*users: int) -> dict[int, str]:
    return dict.fromkeys(users, GRANTED)


def one(found: Audit) -> Account:
    (account,) = found.accounts
    return account


async def test_a_day_without_reminders_holds(settings: Settings) -> None:
    found = await audit(settings, TODAY)
    assert found == Audit(TODAY, [], 0, 0, [], [])
    assert found.holds


async def test_it_holds_when_every_candidate_has_its_outcome(settings: Settings, runtime: Runtime) -> None:
    day = Day(runtime)
    await day.plan(granted(1, 2, 3, 4) | {5: "daily_cap", 6: "opted_out"})
    await day.answer(dict(enumerate(ALL_FOUR, start=1)) | {5: Result.denied, 6: Result.denied})
    found = await audit(settings, TODAY)
    assert found.problems == []
    assert (found.lag, found.repeated, found.unavailable) == (0, 0, [])
    assert one(found) == Account(
        path="stream", kind="practice", candidates=6, granted=4, denied={"daily_cap": 1, "opted_out": 1}, delivered=1,
        expired=1, failed={"failed": 1}, dropped={"dropped": 1}, in_flight=0, lost=0, planned=4, answered=4, ledger=4,
    )  # fmt: skip


async def test_another_days_counts_and_another_paths_stay_out_of_it(settings: Settings, runtime: Runtime) -> None:
    today, yesterday, batch = Day(runtime), Day(runtime, day=YESTERDAY), Day(runtime, Path.batch)
    await yesterday.plan(granted(1, 2))
    await today.plan(granted(1))
    await batch.plan(granted(2, 3))
    await today.answer({1: Result.delivered})
    await batch.answer({2: Result.delivered, 3: Result.failed})
    found = await audit(settings, TODAY)
    assert found.holds
    assert [(a.path, a.granted, a.ledger) for a in found.accounts] == [("stream", 1, 1), ("batch", 2, 2)]
    assert one(await audit(settings, YESTERDAY)).lost == 2


async def test_pages_and_outcomes_that_come_again_count_once(settings: Settings, runtime: Runtime) -> None:
    day = Day(runtime)
    await day.plan({1: GRANTED, 2: "practised"})
    await day.plan({1: "opted_out", 2: "daily_cap", 3: "practised"})
    await day.plan({2: GRANTED, 3: "practised"})
    for _ in range(2):
        await day.answer({1: Result.delivered, 2: Result.denied, 3: Result.denied})
    await day.answer({2: Result.expired})
    found = await audit(settings, TODAY)
    assert (found.problems, found.repeated) == ([], 3)
    account = one(found)
    assert (account.candidates, account.granted, account.denied) == (3, 2, {"practised": 1})


async def test_campaigns_of_one_user_are_sends_of_their_own(settings: Settings, runtime: Runtime) -> None:
    for campaign in ("spring", "summer"):
        day = Day(runtime, Path.blast, "campaign", campaign=campaign)
        await day.plan(granted(1, 2))
        await day.answer({1: Result.delivered})
    found = await audit(settings, TODAY)
    assert (one(found).granted, one(found).delivered, one(found).lost) == (4, 2, 2)


async def test_what_is_granted_and_nowhere_is_lost_between_planner_and_kafka(
    settings: Settings, runtime: Runtime
) -> None:
    day = Day(runtime)
    await day.plan(granted(*range(1, 9)) | {9: "daily_cap"})
    await day.answer({1: Result.delivered})
    found = await audit(settings, TODAY)
    assert (one(found).lost, one(found).in_flight, found.lag) == (7, 0, 0)
    (problem,) = found.problems
    assert problem.startswith("stream practice: planned → Kafka: 7 granted have no outcome there, and nothing")
    assert problem.endswith("…; 1 denied are not there: user 9")


@pytest.mark.parametrize("topic", ["urgent", "normal", "blast", "parked"])
async def test_sends_that_delivery_has_not_answered_for_are_in_flight(
    settings: Settings, runtime: Runtime, topic: str
) -> None:
    day, name = Day(runtime), getattr(runtime.topics, topic)
    await day.plan(granted(1, 2, 3))
    await day.answer({1: Result.delivered})
    await day.send([2, 3], name)
    found = await audit(settings, TODAY)
    assert (one(found).lost, one(found).in_flight, found.lag, found.problems) == (0, 2, 1, [])

    await read_everything(settings, "delivery", name)
    found = await audit(settings, TODAY)
    assert (one(found).lost, one(found).in_flight, found.lag) == (2, 0, 0)


async def test_other_sends_on_their_way_do_not_hide_what_is_lost(settings: Settings, runtime: Runtime) -> None:
    await Day(runtime).plan(granted(1, 2))
    await Day(runtime).send([1], runtime.topics.urgent)
    for other in (Day(runtime, day=YESTERDAY), Day(runtime, Path.batch), Day(runtime, kind="streak_saver")):
        await other.send([2], runtime.topics.urgent)
    await runtime.producer.write([Record(runtime.topics.urgent, None, b"{}")])
    found = await audit(settings, TODAY)
    assert (one(found).lost, one(found).in_flight, found.lag) == (1, 1, 5)


async def test_pages_that_are_in_the_outbox_are_in_flight(settings: Settings, runtime: Runtime) -> None:
    await Day(runtime).plan({1: GRANTED, 2: "daily_cap"}, outbox=True)
    found = await audit(settings, TODAY)
    assert (one(found).in_flight, found.lag, found.problems) == (1, 1, [])
    sql(settings, "DELETE FROM outbox")
    found = await audit(settings, TODAY)
    assert (one(found).lost, found.lag, len(found.problems)) == (1, 0, 1)


async def test_outcomes_that_the_ledger_has_not_read_are_in_flight(settings: Settings, runtime: Runtime) -> None:
    day = Day(runtime)
    await day.plan({1: GRANTED, 2: "daily_cap"})
    await day.answer({1: Result.delivered, 2: Result.denied}, ledger=False)
    found = await audit(settings, TODAY)
    assert (one(found).in_flight, found.lag, found.problems) == (1, 1, [])
    assert (one(found).planned, one(found).answered, one(found).ledger) == (1, 1, 0)


async def test_what_the_ledger_has_read_and_does_not_have_is_lost_between_kafka_and_ledger(
    settings: Settings, runtime: Runtime
) -> None:
    day = Day(runtime)
    await day.plan({1: GRANTED, 2: GRANTED, 3: "daily_cap"})
    await day.answer({1: Result.delivered})
    await day.answer({2: Result.expired, 3: Result.denied}, ledger=False)
    await read_everything(settings, "ledger", runtime.topics.outcomes)
    # Another date's outcomes are no excuse.
    await Day(runtime, day=YESTERDAY).answer({1: Result.delivered}, ledger=False)
    found = await audit(settings, TODAY)
    assert (one(found).lost, one(found).in_flight, found.lag) == (1, 0, 1)
    assert found.problems == [
        "stream practice: Kafka → ledger: 1 granted have no outcome there, and nothing is on its way: user 2; "
        "1 denied are not there: user 3"
    ]


async def test_another_result_in_the_ledger_is_found(settings: Settings, runtime: Runtime) -> None:
    day = Day(runtime)
    await day.plan(granted(1, 2, 3))
    await day.answer(dict.fromkeys((1, 2, 3), Result.delivered))
    sql(settings, "UPDATE ledger SET result = %s WHERE user_id = 2", int(Result.failed))
    assert (await audit(settings, TODAY)).problems == [
        "stream practice: Kafka → ledger: 1 have another outcome there: user 2"
    ]


async def test_as_many_rows_of_other_users_are_found(settings: Settings, runtime: Runtime) -> None:
    day = Day(runtime)
    await day.plan(granted(1, 2, 3))
    await day.answer(dict.fromkeys((1, 2, 3), Result.delivered))
    sql(settings, "UPDATE ledger SET user_id = 4 WHERE user_id = 2")
    (problem,) = (await audit(settings, TODAY)).problems
    assert problem.endswith("user 2; 1 are there although they were not planned: user 4")


async def test_more_in_the_ledger_than_was_planned_is_found(settings: Settings, runtime: Runtime) -> None:
    day = Day(runtime)
    await day.plan(granted(1))
    await day.answer({1: Result.delivered})
    await day.answer({2: Result.delivered}, kafka=False)
    assert (await audit(settings, TODAY)).problems == [
        "stream practice: the ledger has more than was planned: 1 outcomes: user 2"
    ]


async def test_outcomes_that_nobody_planned_are_found(settings: Settings, runtime: Runtime) -> None:
    await Day(runtime).answer({1: Result.delivered})
    assert (await audit(settings, TODAY)).problems == [
        "stream practice: planned → Kafka: 1 are there although they were not planned: user 1"
    ]


async def test_messages_that_nobody_can_read_are_passed_over(settings: Settings, runtime: Runtime) -> None:
    day = Day(runtime)
    await day.plan(granted(1, 2))
    bad = [b"", b"{", b"\xff", b'{"path": 9, "outcomes": []}']
    for topic in (runtime.topics.outcomes, runtime.topics.urgent):
        await runtime.producer.write([Record(topic, None, value) for value in bad])
    await day.send([2], runtime.topics.urgent)
    await day.answer({1: Result.delivered})
    found = await audit(settings, TODAY)
    assert (found.problems, one(found).in_flight) == ([], 1)


async def test_what_is_planned_and_answered_while_we_look_is_no_problem(settings: Settings, runtime: Runtime) -> None:
    day = Day(runtime)
    await day.plan(granted(1))
    await day.answer({1: Result.delivered})
    answers = encode(OutcomeBatch(Path.stream, (Outcome(2, "practice", TODAY, Result.failed, "x", NOON, NOON),)))
    await runtime.producer.write([Record(runtime.topics.outcomes, None, answers)])
    page = "INSERT INTO planned SELECT local_date, page_id + 100000, path, kind, campaign, answer, '{2,3}' FROM planned"
    found = await audit(settings, TODAY, watch=at_first("messages of outcomes", lambda: sql(settings, page)))
    assert found.problems == []
    assert (one(found).granted, one(found).answered, one(found).in_flight) == (3, 2, 2)


async def test_a_problem_that_passes_while_we_look_again_is_none(settings: Settings, runtime: Runtime) -> None:
    day = Day(runtime)
    await day.plan(granted(1))
    await day.answer({1: Result.delivered})
    sql(settings, "UPDATE ledger SET user_id = 2")
    mended = at_first("shards compared", lambda: sql(settings, "UPDATE ledger SET user_id = 1"), after=100)
    assert not (await audit(settings, TODAY)).holds
    assert (await patient_audit(settings, TODAY, patience=60.0, watch=mended)).holds


def at_first(what: str, do: object, after: int = 0) -> Watch:
    """A watcher that does something once, when it has been told of something so often."""
    seen = count()

    def watch(told: str, _done: int, _total: int) -> None:
        if told == what and next(seen) == after:
            do()  # type: ignore[operator]

    return watch


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
