"""A backfill where users are in three databases beside the main one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from batch.backfill import begin, look, request, run
from infra.oncall.doctor import State
from infra.oncall.doctor.postgres import look_users
from infra.oncall.overview import look as overview
from shared.clock import FileClock
from shared.settings import Settings
from shared.store.databases import Databases
from shared.topics import Topics
from tests.conftest import NOON
from tests.integration.support import DAY, HOUR, TODAY, add_users, practised_at, sends_in
from tests.threefold import SHARES, at, emptied, three_databases, users_of

KINDS = ("practice", "practice", "comeback", "comeback")


@pytest.fixture(scope="module")
def named(addresses: dict[str, str]) -> Iterator[str]:
    with three_databases(addresses["postgres_url"]) as named:
        yield named


@pytest.fixture
def environment(environment: dict[str, str], named: str) -> dict[str, str]:
    return environment | {"SURNIA_DATABASES": named}


async def test_each_user_is_found_where_they_are(settings: Settings, clock: FileClock) -> None:
    emptied(settings)
    crowd = {name: users_of(settings, name, 4) for name in SHARES}
    week_ago = TODAY - timedelta(days=7)
    for name, users in crowd.items():
        there = at(settings, name)
        add_users(there, *({"id": user, **practised_at(NOON - DAY)} for user in users[:2]))
        silent = {"time_zone": "Asia/Tashkent", "last_active_date": week_ago}
        add_users(there, *({"id": user, **silent} for user in users[2:]))
    clock.set(NOON + 1.5 * HOUR)
    start = datetime.fromtimestamp(NOON - HOUR, UTC)
    asked = request(start, start + timedelta(hours=2.5), NOON + 1.5 * HOUR)
    assert (await look(settings, asked)).total("sends") == 4 * len(SHARES)
    backfill, _ = await begin(settings, asked, "ana")
    done = await run(settings, backfill.id)
    assert (done.state, done.sent) == ("done", 4 * len(SHARES))
    topics = Topics.of(settings)
    sends = [*await sends_in(settings, topics.urgent), *await sends_in(settings, topics.normal)]
    expected = [(user, kind) for users in crowd.values() for user, kind in zip(users, KINDS, strict=True)]
    assert Counter((send.user_id, send.kind) for send in sends) == Counter(expected)


def test_each_database_is_looked_at(settings: Settings) -> None:
    for database in Databases.of(settings):
        findings = look_users(database)
        assert {finding.state for finding in findings} == {State.ok}
        assert database.name in findings[0].part
    assert {each["name"] for each in overview(settings).scans} == set(SHARES)
