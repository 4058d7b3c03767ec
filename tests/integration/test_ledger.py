"""Outcomes into PostgreSQL: once each, on their day's partition, whatever is redelivered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batch.audit.facts import RANKING, RECORD, Group, Numbers, fold
from shared.clock import utc
from shared.policy.kinds import KIND_BY_CODE, Path
from shared.settings import Settings
from shared.wire.dead_letters import decode_dead_letter
from shared.wire.sends import Outcome, OutcomeBatch, Result, RetiredToken, encode
from stream.ledger import Ledger, handle_outcomes
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.support import DAY, TODAY, add_users, message, read, sql, tables, token_of

USER = 4_242
Deliver = Callable[..., Awaitable[None]]


@pytest.fixture
def deliver(runtime: Runtime) -> Deliver:
    """Hands one batch of messages to the ledger's agent: batches of outcomes, or raw bytes."""
    ledger = Ledger(runtime.users)

    async def deliver(*batches: OutcomeBatch | bytes) -> None:
        raw = [batch if isinstance(batch, bytes) else encode(batch) for batch in batches]
        topic = runtime.topics.outcomes
        await handle_outcomes(runtime, ledger, [message(value, topic, 1, n) for n, value in enumerate(raw)])

    return deliver


def outcome(result: Result, user: int = USER, day: date = TODAY, reason: str = "", campaign: str = "") -> Outcome:
    return Outcome(user, "practice", day, result, reason or result.name, NOON - 60.5, NOON, 0.25, "apns", campaign)


def stream(*outcomes: Outcome, retired: tuple[RetiredToken, ...] = ()) -> OutcomeBatch:
    return OutcomeBatch(Path.stream, outcomes, retired)


def results(settings: Settings) -> list[tuple[Any, ...]]:
    rows = sql(settings, "SELECT user_id, path, result, reason FROM ledger ORDER BY 1, 2")
    return [(user, Path(path).name, Result(result).name, reason) for user, path, result, reason in rows]


async def test_an_outcome_is_one_row_with_everything_it_said(settings: Settings, deliver: Deliver) -> None:
    await deliver(stream(outcome(Result.delivered)))
    columns = "local_date, user_id, kind, path, campaign, result, reason, provider, due_at, decided_at, latency"
    assert sql(settings, f"SELECT {columns} FROM ledger") == [
        (TODAY, USER, 0, 1, "", 1, "delivered", "apns", utc(NOON - 60.5), utc(NOON), 0.25)
    ]


async def test_messages_that_come_again_change_nothing(settings: Settings, deliver: Deliver) -> None:
    add_users(settings, {"id": USER})
    retired = RetiredToken(USER, "phone", token_of(USER), "unregistered", NOON)
    batches = [
        stream(outcome(Result.delivered), outcome(Result.denied, 2), retired=(retired,)),
        OutcomeBatch(Path.batch, (outcome(Result.failed), outcome(Result.expired, 3))),
    ]
    await deliver(*batches)
    before = tables(settings)
    assert len(before["ledger"]) == 4
    for again in (batches, batches[1:], [*batches, *batches]):
        await deliver(*again)
        assert tables(settings) == before


@pytest.mark.parametrize("together", [False, True], ids=["in two batches", "in one batch"])
@pytest.mark.parametrize(
    ("higher", "lower"),
    [
        (Result.delivered, Result.failed),
        (Result.failed, Result.expired),
        (Result.expired, Result.dropped),
        (Result.dropped, Result.denied),
        (Result.delivered, Result.denied),
    ],
)
async def test_the_higher_outcome_wins_whichever_comes_first(
    settings: Settings, deliver: Deliver, higher: Result, lower: Result, together: bool
) -> None:
    for user, order in ((1, (higher, lower)), (2, (lower, higher))):
        batches = [stream(outcome(result, user)) for result in order]
        for part in [batches] if together else [[batch] for batch in batches]:
            await deliver(*part)
    assert results(settings) == [(user, "stream", higher.name, higher.name) for user in (1, 2)]


async def test_campaigns_of_one_user_and_date_are_rows_of_their_own(settings: Settings, deliver: Deliver) -> None:
    await deliver(stream(outcome(Result.delivered, campaign="spring"), outcome(Result.expired, campaign="summer")))
    await deliver(stream(outcome(Result.denied), outcome(Result.denied, campaign="spring")))
    found = sql(settings, "SELECT campaign, result FROM ledger ORDER BY campaign")
    assert found == [("", Result.denied), ("spring", Result.delivered), ("summer", Result.expired)]


Fact = tuple[Path, Outcome]
facts: st.SearchStrategy[list[Fact]] = st.lists(
    st.tuples(
        st.sampled_from([Path.stream, Path.batch]),
        st.builds(
            outcome,
            st.sampled_from(Result),
            user=st.integers(1, 2),
            campaign=st.sampled_from(["", "spring"]),
        ),
    ),
    min_size=1,
    max_size=12,
)


@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts=facts, data=st.data())
async def test_whatever_is_repeated_and_in_whatever_order_the_same_results_stay(
    settings: Settings, runtime: Runtime, facts: list[Fact], data: st.DataObject
) -> None:
    """And they are those that the audit makes of the same outcomes in Kafka."""
    sql(settings, "TRUNCATE ledger")
    ledger = Ledger(runtime.users)
    again = data.draw(st.lists(st.sampled_from(facts), max_size=6))
    order = data.draw(st.permutations(facts + again))
    size = data.draw(st.integers(1, len(order)))
    batches = [OutcomeBatch(path, (each,)) for path, each in order]
    for start in range(0, len(batches), size):
        await ledger.write(batches[start : start + size])
    rows = sql(settings, "SELECT path, kind, campaign, user_id, result FROM ledger")
    found = {(Group(Path(path), KIND_BY_CODE[kind].name, campaign), user): r for path, kind, campaign, user, r in rows}
    assert found == folded(facts)


def folded(facts: list[Fact]) -> dict[tuple[Group, int], Result]:
    """What the audit makes of outcomes."""
    groups: Numbers[Group] = Numbers()
    records = [(o.user_id, groups.of(Group(path, o.kind, o.campaign)), RANKING.index(o.result)) for path, o in facts]
    return {
        (groups.things[number], user): RANKING[mark]
        for number, (users, marks) in fold(np.array(records, RECORD)).groups.items()
        for user, mark in zip(users.tolist(), marks.tolist(), strict=True)
    }


async def test_workers_that_write_the_same_rows_at_once_wait_for_one_another(
    settings: Settings, runtime: Runtime
) -> None:
    users = list(range(1, 401))
    orders = (users, users[::-1], users[::2] + users[1::2])
    results_of = (Result.denied, Result.delivered, Result.failed)
    batches = [stream(*(outcome(r, user) for user in order)) for order, r in zip(orders, results_of, strict=True)]
    await asyncio.gather(*(Ledger(runtime.users).write([batch]) for batch in batches * 3))
    assert results(settings) == [(user, "stream", "delivered", "delivered") for user in users]


async def test_of_two_denials_the_first_reason_stays(settings: Settings, deliver: Deliver) -> None:
    await deliver(
        stream(outcome(Result.denied, reason="no_device")), stream(outcome(Result.denied, reason="practised"))
    )
    await deliver(stream(outcome(Result.denied, reason="daily_cap")))
    assert results(settings) == [(USER, "stream", "denied", "no_device")]


async def test_the_paths_answer_for_themselves(settings: Settings, deliver: Deliver) -> None:
    denied = OutcomeBatch(Path.batch, (outcome(Result.denied, reason="other_path"),))
    await deliver(stream(outcome(Result.delivered)), denied)
    assert results(settings) == [(USER, "stream", "delivered", "delivered"), (USER, "batch", "denied", "other_path")]


async def test_every_local_date_has_a_partition_of_its_own(settings: Settings, deliver: Deliver) -> None:
    days = [date(2032, 2, 28), date(2032, 2, 29), date(2032, 12, 31)]
    for day in days:
        sql(settings, f"DROP TABLE IF EXISTS ledger_{day:%Y%m%d}")
    await deliver(stream(*(outcome(Result.delivered, day=day) for day in days)))
    found = sql(settings, "SELECT tableoid::regclass::text, local_date FROM ledger ORDER BY local_date")
    assert found == [(f"ledger_{day:%Y%m%d}", day) for day in days]


@pytest.mark.parametrize(("registered", "lives"), [(-1.0, False), (0.0, False), (1.0, True)])
async def test_a_token_is_retired_only_where_it_was_registered_before_the_providers_timestamp(
    settings: Settings, deliver: Deliver, registered: float, lives: bool
) -> None:
    add_users(settings, {"id": USER})
    sql(settings, "UPDATE devices SET registered_at = %s", utc(NOON + registered))
    await deliver(stream(retired=(RetiredToken(USER, "phone", token_of(USER), "unregistered", NOON),)))
    expected = (None, None) if lives else (utc(NOON), "unregistered")
    assert sql(settings, "SELECT retired_at, retired_reason FROM devices") == [expected]


async def test_only_the_device_that_has_the_token_is_retired(settings: Settings, deliver: Deliver) -> None:
    add_users(settings, {"id": USER}, {"id": 2})
    await deliver(
        stream(
            retired=(
                RetiredToken(USER, "phone", "a-token-from-before", "unregistered", NOON),
                RetiredToken(2, "tablet", token_of(2), "unregistered", NOON),
            )
        )
    )
    assert sql(settings, "SELECT count(*) FROM devices WHERE retired_at IS NULL") == [(2,)]


async def test_the_first_retirement_of_a_device_stays(settings: Settings, deliver: Deliver) -> None:
    add_users(settings, {"id": USER})
    for at, reason in ((NOON, "unregistered"), (NOON + DAY, "bad_device_token")):
        await deliver(stream(retired=(RetiredToken(USER, "phone", token_of(USER), reason, at),)))
    assert sql(settings, "SELECT retired_at, retired_reason FROM devices") == [(utc(NOON), "unregistered")]


FCM = "dYZ:APA91b-one"


@pytest.mark.parametrize(("registered", "lives"), [(-1.0, False), (0.0, False), (1.0, True)])
async def test_an_fcm_token_of_an_ios_device_is_retired_alone(
    settings: Settings, deliver: Deliver, registered: float, lives: bool
) -> None:
    add_users(settings, {"id": USER}, {"id": 2})
    sql(settings, "UPDATE devices SET registered_at = %s", utc(NOON + registered))
    sql(settings, "UPDATE devices SET fcm_token = %s WHERE user_id = %s", FCM, USER)
    for reason, at in (("unregistered", NOON), ("sender_id_mismatch", NOON + 0.5)):
        retired = tuple(RetiredToken(user, "phone", FCM, reason, at) for user in (USER, 2))
        await deliver(stream(retired=retired))
    query = "SELECT fcm_retired_at, fcm_retired_reason, retired_at FROM devices WHERE user_id = %s"
    assert sql(settings, query, USER) == [(None, None, None) if lives else (utc(NOON), "unregistered", None)]
    assert sql(settings, query, 2) == [(None, None, None)]


async def test_a_device_that_is_retired_keeps_what_is_known_of_its_fcm_token(
    settings: Settings, deliver: Deliver
) -> None:
    add_users(settings, {"id": USER})
    sql(settings, "UPDATE devices SET fcm_token = %s", FCM)
    fcm, apns = (RetiredToken(USER, "phone", token, "unregistered", NOON) for token in (FCM, token_of(USER)))
    query = "SELECT retired_at, fcm_retired_at FROM devices"
    await deliver(stream(retired=(apns,)))
    assert sql(settings, query) == [(utc(NOON), None)]
    await deliver(stream(retired=(fcm, apns)))
    assert sql(settings, query) == [(utc(NOON), utc(NOON))]


async def test_malformed_messages_are_dead_lettered_and_the_good_ones_between_them_written(
    settings: Settings, runtime: Runtime, deliver: Deliver
) -> None:
    unknown = msgspec.json.encode({"path": 9, "outcomes": []})
    strange = encode(stream(outcome(Result.delivered))).replace(b'"practice"', b'"juggling"')
    bad = [b"{", b"", b"\xff", unknown, strange]
    await deliver(*bad[:2], stream(outcome(Result.delivered)), *bad[2:])
    letters = [decode_dead_letter(record.value) for record in await read(settings, runtime.topics.dead_letters)]
    assert sorted((letter.offset, letter.value) for letter in letters) == list(zip((0, 1, 3, 4, 5), bad, strict=True))
    assert {(letter.reason, letter.topic, letter.partition) for letter in letters} == {
        ("invalid", runtime.topics.outcomes, 1)
    }
    assert results(settings) == [(USER, "stream", "delivered", "delivered")]


HOSTILE = {
    "a time beyond the calendar": (b"1795262400.0", b"1e300"),
    "a time before it": (b"1795262339.5", b"-1e300"),
    "the last date there is": (b"2026-11-21", b"9999-12-31"),
    "a date nobody will audit": (b"2026-11-21", b"0001-01-01"),
    "a reason that PostgreSQL cannot hold": (b'"delivered"', rb'"\u0000"'),
    "a provider that PostgreSQL cannot hold": (b'"apns"', rb'"\u0000"'),
    "a token that PostgreSQL cannot hold": (b'"token"', rb'"\u0000"'),
}


@pytest.mark.parametrize(("honest", "hostile"), HOSTILE.values(), ids=HOSTILE)
async def test_what_cannot_be_written_is_dead_lettered_and_stops_nothing(
    settings: Settings, runtime: Runtime, deliver: Deliver, honest: bytes, hostile: bytes
) -> None:
    retired = RetiredToken(USER, "phone", "token", "unregistered", NOON)
    written = encode(stream(outcome(Result.delivered), retired=(retired,)))
    assert honest in written
    await deliver(written.replace(honest, hostile), stream(outcome(Result.delivered, 7)))
    assert results(settings) == [(7, "stream", "delivered", "delivered")]
    assert len(await read(settings, runtime.topics.dead_letters)) == 1


async def test_an_address_that_is_nobodys_is_written_to_no_more(settings: Settings, deliver: Deliver) -> None:
    add_users(settings, {"id": USER, "email": "ada@example.com"}, {"id": 2, "email": "new@example.com"})
    at = utc(NOON)
    for _ in range(2):
        await deliver(
            stream(
                retired=(
                    RetiredToken(USER, "", "ada@example.com", "smtp_550_5_1_1", NOON),
                    RetiredToken(2, "", "old@example.com", "smtp_550_5_1_1", NOON),
                )
            )
        )
        assert sql(settings, "SELECT id, email_retired_at, email_retired_reason FROM users ORDER BY id") == [
            (2, None, None),
            (USER, at, "smtp_550_5_1_1"),
        ]
    assert sql(settings, "SELECT count(*) FROM devices WHERE retired_at IS NOT NULL") == [(0,)]
