"""The audit against real stores: it holds where nothing is missing, and names where what is missing was seen last."""

from __future__ import annotations

from itertools import count

import pytest

from batch.audit import Account, Audit
from batch.audit import audit as patient_audit
from batch.audit.tables import Watch
from shared.policy.kinds import Path
from shared.producer import Record
from shared.settings import Settings
from shared.wire.sends import Outcome, OutcomeBatch, Result, encode
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.audited import GRANTED, Day, audit, granted, one, read_everything
from tests.integration.support import TODAY, YESTERDAY, sql

ALL_FOUR = (Result.delivered, Result.expired, Result.failed, Result.dropped)


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
