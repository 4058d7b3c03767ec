"""The accounts hold with erased users in them, at any moment: nobody is lost, and nobody is overlooked."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from batch.audit import audit as patient_audit
from shared.gate import Standing
from shared.policy.kinds import Path
from shared.settings import Settings
from shared.wire.sends import Result, decode_outcomes
from stream.ledger import Ledger
from stream.runtime import Runtime
from tests.integration.audited import Day, audit, granted, one, read_everything
from tests.integration.erasures import OTHER, USER, answer, erased, key, plan, send, traces
from tests.integration.support import TODAY, add_users, read, sql

USERS = [10_000_000_019 * n for n in range(1, 7)]
RESULTS = [Result.delivered, Result.failed, Result.dropped, Result.expired]


async def test_an_erased_users_delivered_send_counts_as_before(settings: Settings, runtime: Runtime) -> None:
    await plan(runtime, [send(USER), send(OTHER)])
    await answer(runtime, USER, OTHER)
    await read_everything(settings, "ledger", runtime.topics.outcomes)
    before = await audit(settings, TODAY)
    await erased(runtime)
    found = await audit(settings, TODAY)
    assert (found.holds, found.accounts, found.problems) == (True, before.accounts, [])
    assert one(found).delivered == 2


async def test_an_erased_users_send_that_nobody_answered_for_is_still_missed(
    settings: Settings, runtime: Runtime
) -> None:
    await Day(runtime).plan(granted(USER, OTHER))
    await Day(runtime).answer({OTHER: Result.delivered})
    await erased(runtime)
    found = await audit(settings, TODAY)
    assert (found.holds, one(found).lost) == (False, 1)


async def test_an_erased_users_row_that_the_ledger_lost_is_still_missed(settings: Settings, runtime: Runtime) -> None:
    await Day(runtime).plan(granted(USER, OTHER))
    await Day(runtime).answer(dict.fromkeys((USER, OTHER), Result.delivered))
    await erased(runtime)
    sql(settings, "DELETE FROM ledger WHERE user_id < 0")
    found = await audit(settings, TODAY)
    assert not found.holds
    assert "Kafka → ledger: 1 granted have no outcome there" in found.problems[0]


async def test_what_is_on_its_way_is_in_flight_until_delivery_has_dropped_it(
    settings: Settings, runtime: Runtime
) -> None:
    await plan(runtime, [send(USER), send(OTHER)])
    await erased(runtime)
    found = await audit(settings, TODAY)
    assert (found.holds, one(found).in_flight) == (True, 2)
    await answer(runtime, USER, result=Result.dropped)
    await answer(runtime, OTHER)
    await read_everything(settings, "ledger", runtime.topics.outcomes)
    await read_everything(settings, "delivery", runtime.topics.urgent)
    found = await audit(settings, TODAY)
    assert (found.holds, one(found).in_flight, one(found).dropped, one(found).delivered) == (True, 0, {"dropped": 1}, 1)


async def test_a_date_that_kafka_no_longer_has_is_compared_all_the_same(settings: Settings, runtime: Runtime) -> None:
    await Day(runtime).plan(granted(USER, OTHER))
    await Day(runtime).answer(dict.fromkeys((USER, OTHER), Result.delivered), kafka=False)
    await erased(runtime)
    # The secret is gone as well by then.
    sql(settings, "TRUNCATE erasure_keys, erased")
    found = await audit(settings, TODAY)
    assert {user < 0 for (user,) in sql(settings, "SELECT unnest(users) FROM planned")} == {True, False}
    assert one(found).ledger == 2


@dataclass
class World:
    """Users to whom anything happens in any order. What was granted is answered for; the ledger reads when it likes."""

    settings: Settings
    runtime: Runtime
    random: random.Random
    open: set[int] = field(default_factory=set)
    """Users with a send without an outcome."""
    erasures: int = 0
    gone: set[int] = field(default_factory=set)

    async def plan(self) -> None:
        users = self.random.sample(USERS, 3)
        # Somebody erased may be among them: read before. Such a page may be left, too, until a sweeper comes.
        left = self.random.random() < 0.3 and self.gone.isdisjoint(users)
        await plan(self.runtime, [send(user) for user in users], keep_in_outbox=left)
        standings = await self.runtime.gate.standing(Path.stream, [key(user) for user in users])
        self.open |= {user for user, how in zip(users, standings, strict=True) if how is Standing.clear}

    async def answer(self) -> None:
        if self.open:
            user = self.random.choice(sorted(self.open))
            self.open.remove(user)
            await answer(self.runtime, user, result=self.random.choice(RESULTS), ledger=False)

    async def ledger(self) -> None:
        records = (await read(self.settings, self.runtime.topics.outcomes))[-8:]
        await Ledger(self.runtime.users).write([decode_outcomes(record.value) for record in records])

    async def erase(self) -> None:
        user = self.random.choice(USERS)
        self.erasures += 1
        await erased(self.runtime, user, offset=self.erasures)
        self.gone.add(user)

    async def come_back(self) -> None:
        if self.gone:
            user = self.random.choice(sorted(self.gone))
            self.gone.remove(user)
            add_users(self.settings, {"id": user})

    async def end(self) -> None:
        """Everything is answered for and read."""
        while self.open:
            await self.answer()
        records = await read(self.settings, self.runtime.topics.outcomes)
        await Ledger(self.runtime.users).write([decode_outcomes(record.value) for record in records])
        await read_everything(self.settings, "ledger", self.runtime.topics.outcomes)
        sql(self.settings, "TRUNCATE outbox")
        await read_everything(self.settings, "delivery", self.runtime.topics.urgent)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_the_accounts_hold_and_no_erased_user_is_to_be_found(
    settings: Settings, runtime: Runtime, seed: int
) -> None:
    add_users(settings, *({"id": user} for user in USERS))
    world = World(settings, runtime, random.Random(seed))
    steps = [world.plan, world.plan, world.answer, world.ledger, world.erase, world.come_back]
    for n in range(30):
        await world.random.choice(steps)()
        if n % 10 == 5:
            for user in world.gone:
                assert traces(settings, user) == [], (n, user)
            found = await audit(settings, TODAY)
            assert found.holds, (n, found.problems)
    await world.end()
    found = await patient_audit(settings, TODAY, patience=2.0)
    assert found.holds, found.problems
    for user in world.gone:
        assert traces(settings, user) == []
    (account,) = found.accounts
    assert account.path == Path.stream.name
    assert account.candidates == account.granted + sum(account.denied.values())
    assert account.granted == account.delivered + account.expired + sum(account.failed.values()) + sum(
        account.dropped.values()
    )
