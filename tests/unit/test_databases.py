"""Which database has which users: the setting that says so, and finding the way by it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from batch.plan import shard_groups
from shared.identity import MAX_USER_ID, SHARDS, shard_of
from shared.settings import Settings, load_settings
from shared.store.addresses import ranges, read_addresses, spelled
from shared.store.databases import MAIN, Databases

PASSWORD = "s3cr3t-pa55"
EU, US, ASIA = (f"postgresql://surnia:{PASSWORD}@{host}/surnia" for host in ("eu", "us", "asia"))
MAIN_URL = f"postgresql://surnia:{PASSWORD}@main/surnia"


def named(name: str = "eu1", shards: str = "0-255", url: str = EU, **more: Any) -> dict[str, Any]:
    return {"name": name, "shards": shards, "url": url, **more}


THREE = [
    named("eu1", "0-85", EU, replica=f"postgresql://reader:{PASSWORD}@eu-replica/surnia"),
    named("us1", "86-170", US),
    named("asia_1", "171-255", ASIA),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder: no `.env`, no stack."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(*databases: dict[str, Any]) -> Settings:
    return Settings.model_validate({"postgres_url": MAIN_URL, "databases": json.dumps(databases)})


def test_without_the_setting_the_main_database_has_all_users() -> None:
    (only,) = Databases.of(settings())
    assert (only.name, only.is_main, len(only.shards), only.replica) == (MAIN, True, SHARDS, None)
    assert only.url.get_secret_value() == MAIN_URL


@pytest.mark.parametrize("place", ["environment", "file"])
def test_the_setting_is_read_from_the_environment_or_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place == "environment":
        monkeypatch.setenv("SURNIA_DATABASES", json.dumps(THREE))
    else:
        (folder / ".env").write_text(f"SURNIA_DATABASES='{json.dumps(THREE)}'\n")
    found = load_settings().databases
    assert [(each.name, ranges(each.shards)) for each in found] == [(each["name"], each["shards"]) for each in THREE]


def test_an_empty_setting_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SURNIA_DATABASES", "")
    assert load_settings().databases == ()


REFUSED: dict[str, tuple[object, str]] = {
    "no JSON": ("eu1=0-255", 'is no JSON: write [{"name": "eu1"'),
    "half of it": (f'[{{"name": "eu1", "url": "{EU}"', "is no JSON"),
    "one object": (named(), "must be a list"),
    "a number": (3, "must be a list"),
    "a list of names": (["eu1"], "database 1 must be an object"),
    "no name": ([{"shards": "0-255", "url": EU}], "database 1 needs a `name`"),
    "a name of capitals": ([named("EU1")], "database 1 needs a `name` of 1 to 32 of a-z, 0-9 and _"),
    "a name with a dash": ([named("eu-1")], "needs a `name`"),
    "a long name": ([named("e" * 33)], "needs a `name`"),
    "an empty name": ([named("")], "needs a `name`"),
    "a name that is a number": ([named() | {"name": 1}], "needs a `name`"),
    "no shards": ([{"name": "eu1", "url": EU}], 'eu1 needs `shards`, such as "0-127"'),
    "shards as numbers": ([named() | {"shards": [0, 1]}], "eu1 needs `shards`"),
    "a shard too many": ([named(shards="0-256")], "'0-256' is no range of shards of 0-255"),
    "a range backwards": ([named(shards="255-0")], "'255-0' is no range"),
    "a range of words": ([named(shards="all")], "'all' is no range"),
    "a negative shard": ([named(shards="-1")], "'-1' is no range"),
    "an empty part": ([named(shards="0-255,")], "'' is no range"),
    "digits of other scripts": ([named(shards="٠-٢٥٥")], "is no range"),
    "a shard twice in one": ([named(shards="0-255,7")], "shard 7 is in eu1 and again in eu1"),
    "a shard in two": (
        [named("a", "0-128", EU), named("b", "128-255", US)],
        "shard 128 is in a and again in b: give it to one of them",
    ),
    "a shard in none": (
        [named("a", "0-99,101-127", EU), named("b", "130-255", US)],
        "no database has the shards 100,128-129: add them",
    ),
    "two of one name": ([named("a", "0-127", EU), named("a", "128-255", US)], "two databases are called a"),
    "one database twice": (
        [named("a", "0-127", EU), named("b", "128-255", "postgresql://other:login@eu:5432/surnia")],
        "a and b are the same database: name it once, with all its shards",
    ),
    "no address": ([{"name": "eu1", "shards": "0-255"}], "eu1 needs a `url` like postgresql://"),
    "another scheme": ([named(url=f"mysql://surnia:{PASSWORD}@eu/surnia")], "eu1 needs a `url`"),
    "a port that is none": ([named(url=f"postgresql://surnia:{PASSWORD}@eu:99999/surnia")], "the port in `url`"),
    "a replica that is no address": ([named(replica=PASSWORD)], "eu1 needs a `replica`"),
    "an unknown word": ([named(shard="7")], "'shard' is none of name, shards, url and replica"),
    "too many": ([named(f"d{n}", "0") for n in range(65)], "names 65 databases; 64 is the most"),
}


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, value: object, message: str
) -> None:
    monkeypatch.setenv("SURNIA_DATABASES", value if isinstance(value, str) else json.dumps(value))
    with pytest.raises(ValidationError, match=re.escape(message)) as refused:
        load_settings()
    assert PASSWORD not in str(refused.value)
    assert PASSWORD not in repr(refused.value.errors(include_input=False))
    assert "databases" in str(refused.value)


def test_passwords_never_show() -> None:
    found = settings(*THREE)
    databases = Databases.of(found)
    for shown in (repr(found), found.model_dump_json(), repr(list(databases)), repr(found.databases)):
        assert PASSWORD not in shown
    assert databases.for_shard(0).replica is not None
    assert PASSWORD in databases.for_shard(0).url.get_secret_value()


def test_one_of_them_may_be_the_main_database() -> None:
    found = Databases.of(settings(named("eu1", "0-127", MAIN_URL), named("us1", "128-255", US)))
    assert [each.is_main for each in found] == [True, False]


IDS = st.lists(st.integers(1, MAX_USER_ID), unique=True, max_size=50)


@given(IDS)
def test_every_user_is_in_the_database_of_the_shard_however_one_asks(ids: list[int]) -> None:
    databases = Databases.of(settings(*THREE))
    grouped = databases.group(ids)
    assert sorted(user for users in grouped.values() for user in users) == sorted(ids)
    shared = databases.share((user, (user, "x")) for user in ids)
    numbers = databases.numbers(np.array(ids, np.int64)).tolist()
    for user, number in zip(ids, numbers, strict=True):
        home = databases.for_shard(shard_of(user))
        assert shard_of(user) in home.shards
        assert user in grouped[home] and (user, "x") in shared[home]
        assert databases.for_user(user) is home is databases[number]


def test_shards_by_database() -> None:
    databases = Databases.of(settings(*THREE))
    found = databases.parts([200, 3, 90, 4])
    assert {database.name: shards for database, shards in found.items()} == {
        "asia_1": [200], "eu1": [3, 4], "us1": [90],
    }  # fmt: skip


@given(st.integers(1, 256))
def test_one_database_is_cut_into_groups_as_ever(groups: int) -> None:
    assert Databases.of(settings()).shard_groups(groups) == shard_groups(groups, SHARDS)


@given(st.integers(1, 256))
def test_no_group_is_of_two_databases_and_the_databases_take_turns(groups: int) -> None:
    databases = Databases.of(settings(*THREE))
    cut = databases.shard_groups(groups)
    homes = [{databases.for_shard(shard).name for shard in group} for group in cut]
    assert all(len(home) == 1 for home in homes)
    assert homes[:3] == [{"eu1"}, {"us1"}, {"asia_1"}]
    assert sorted(shard for group in cut for shard in group) == list(range(SHARDS))
    assert abs(len(cut) - max(3, groups)) <= 2


@given(st.sets(st.integers(0, 255)))
def test_ranges_say_what_they_are_read_from(shards: set[int]) -> None:
    text = ranges(shards)
    back = {
        shard
        for part in text.split(",") if part
        for first, _, last in [part.partition("-")]
        for shard in range(int(first), int(last or first) + 1)
    }  # fmt: skip
    assert back == shards


def test_a_child_process_is_told_what_was_set() -> None:
    assert settings(*json.loads(spelled(settings(*THREE).databases))) == settings(*THREE)


def test_an_address_that_is_checked_is_not_checked_again() -> None:
    checked = read_addresses(THREE)
    assert read_addresses(checked) == checked
