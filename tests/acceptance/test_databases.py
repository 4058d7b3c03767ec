"""The engine as processes over three databases of users beside the main one: both paths, to the provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from shared.clock import FileClock, utc
from tests.acceptance.conftest import Engine, wait_for
from tests.conftest import NOON, settings_of
from tests.integration.support import TODAY, add_users, sql, token_of
from tests.threefold import SHARES, at, emptied, three_databases, users_of


@pytest.fixture
def environment(environment: dict[str, str], addresses: dict[str, str]) -> Iterator[dict[str, str]]:
    with three_databases(addresses["postgres_url"]) as named:
        environment |= {"SURNIA_DATABASES": named, "SURNIA_SPREAD_MINUTES": "0"}
        emptied(settings_of(environment))
        yield environment


def test_users_of_all_databases_are_reminded_on_both_paths(engine: Engine, clock: FileClock) -> None:
    settings = engine.settings
    crowd = {name: users_of(settings, name, 2) for name in SHARES}
    silent = [users[0] for users in crowd.values()]
    active = [users[1] for users in crowd.values()]
    for name, users in crowd.items():
        row = {"id": users[0], "time_zone": "Asia/Dhaka", "last_active_date": TODAY - timedelta(days=7)}
        add_users(at(settings, name), row)
    for user in active:
        phone = {"type": "device_registered", "device_id": "phone", "platform": "ios", "token": token_of(user)}
        engine.produce(NOON - 60, user, phone, {"type": "lesson_started"})
    for name, users in crowd.items():
        query = f"SELECT user_id FROM devices WHERE user_id = {users[1]}"
        wait_for(lambda name=name, query=query: sql(at(settings, name), query), f"the device in {name}")  # type: ignore[misc]  # bound above
    clock.set(NOON + 30 * 60)
    begun, ended = (utc(NOON + 3600 * n).isoformat()[:19] for n in range(2))
    out = json.loads(engine.surnia("scan", "--from", begun, "--to", ended, "--json"))
    assert (out["candidates"], out["granted"]) == (3, 3)
    for user, kind in [*((user, "comeback") for user in silent), *((user, "abandoned_lesson") for user in active)]:
        pushes = wait_for(lambda user=user: engine.simulator.pushes(token_of(user)), f"the push to {user}")  # type: ignore[misc]  # bound above
        assert [push["kind"] for push in pushes] == [kind]
    found = engine.audit(TODAY.isoformat())
    assert found["holds"]
    delivered = {account["kind"]: account["delivered"] for account in found["accounts"]}
    assert delivered == {"comeback": 3, "abandoned_lesson": 3}
    shown = json.loads(engine.surnia("users", "show", str(active[2]), "--json"))
    assert shown["devices"][0]["token"] == token_of(active[2])
