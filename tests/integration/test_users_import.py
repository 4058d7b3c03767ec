"""Users and devices into a real PostgreSQL: from files, from the generator, and back out by `show`."""

from __future__ import annotations

import asyncio
import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner, Result

from batch.users.commands import register
from batch.users.load import load
from batch.users.population import Population
from infra.stack.stack import Stack
from shared.clock import FileClock
from shared.identity import MAX_USER_ID, shard_of
from shared.settings import GivenSettings
from shared.store.migrate import upgrade

pytestmark = pytest.mark.timeout(240)

NOW = 1_793_750_400.0  # 2026-11-04T00:00:00Z
AS_OF = "2026-11-04T00:00:00Z"
IOS = "ab" * 32


@pytest.fixture(scope="module")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    stack = Stack(tmp_path_factory.mktemp("postgres"))
    stack.up(parts=("postgres",))
    try:
        url = stack.settings().require_postgres()
        upgrade(url)
        yield url
    finally:
        stack.down()


class Bench:
    """The command line on a database, and the database itself."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.app = typer.Typer()
        register(self.app)

        @self.app.callback()
        def _main() -> None: ...

    def run(self, *arguments: object) -> Result:
        return CliRunner().invoke(self.app, ["users", *map(str, arguments)])

    def json(self, *arguments: object, code: int = 0) -> dict[str, Any]:
        result = self.run(*arguments, "--json")
        assert result.exit_code == code, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def file(self, name: str, *lines: str) -> Path:
        path = self.folder / name
        path.write_text("\n".join(lines) + "\n")
        return path

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def rejects(self, path: Path) -> list[tuple[str, str]]:
        with path.open(newline="") as file:
            return [(row["line"], row["reason"]) for row in csv.DictReader(file)]


@pytest.fixture
def bench(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SURNIA_POSTGRES_URL", postgres_url)
    monkeypatch.setenv("SURNIA_CLOCK_FILE", str(tmp_path / "clock"))
    FileClock.create(tmp_path / "clock", NOW)
    bench = Bench(postgres_url, tmp_path)
    bench.sql("TRUNCATE users, devices")
    return bench


def test_good_rows_load_and_bad_rows_are_named(bench: Bench) -> None:
    users = bench.file(
        "users.csv",
        "id,time_zone,locale,last_event_at,streak",
        "1,Asia/Tokyo,ja,2026-11-03T20:00:00Z,3",
        "0,UTC,en,,",
        "2,Nowhere/At_All,en,,",
        "3,UTC,en,,-4",
        "4,UTC",
        "5,UTC,e\0n,,",
        "6,UTC,,,",
    )
    counts = bench.json("import", users, code=3)
    assert counts["files"] == [{"kind": "users", "read": 7, "loaded": 2, "rejected": 5, "ignored_columns": []}]
    assert [line for line, _ in bench.rejects(Path(counts["rejects"]))] == ["3", "4", "5", "6", "7"]
    assert bench.sql("SELECT id, locale, last_active_date::text, streak FROM users ORDER BY id") == [
        (1, "ja", "2026-11-04", 3),
        (6, "en", None, 0),
    ]


def test_importing_again_updates_and_leaves_what_the_file_does_not_say(bench: Bench) -> None:
    first = bench.file("a.csv", "id,time_zone,locale,streak,country", "1,UTC,ja,3,JP", "2,UTC,ja,3,JP")
    assert bench.run("import", first).exit_code == 0
    # The same id twice in a file: the last counts.
    bench.run("import", bench.file("b.csv", "id,time_zone,streak", "1,UTC,9", "1,Asia/Tokyo,", "3,UTC,1"))
    assert bench.sql("SELECT id, time_zone, locale, streak, country FROM users ORDER BY id") == [
        (1, "Asia/Tokyo", "ja", 3, "JP"),
        (2, "UTC", "ja", 3, "JP"),
        (3, "UTC", "en", 1, None),
    ]


def test_an_unchanged_import_touches_no_row(bench: Bench) -> None:
    users = bench.file("users.csv", "id,time_zone", *(f"{number},UTC" for number in range(1, 101)))
    bench.run("import", users)
    before = bench.sql("SELECT id, xmin::text FROM users ORDER BY id")
    assert bench.json("import", users)["files"][0]["loaded"] == 100
    assert bench.sql("SELECT id, xmin::text FROM users ORDER BY id") == before


def test_devices_load_after_their_users_and_orphans_are_rejected(bench: Bench) -> None:
    users = bench.file("users.csv", "id,time_zone", "1,UTC", "2,UTC")
    devices = bench.file(
        "devices.csv",
        "user_id,device_id,platform,token,app_version",
        f"1,phone,ios,{IOS},9.4.0",
        f"99,phone,ios,{'cd' * 32},9.4.0",
        "2,tablet,android,aaaaaaaa:bbbbbbbb,",
        "2,watch,ios,not-hex,",
    )
    rejects = bench.folder / "bad.csv"
    counts = bench.json("import", users, "--devices", devices, "--rejects", rejects, code=3)
    assert [(file["kind"], file["loaded"], file["rejected"]) for file in counts["files"]] == [
        ("users", 2, 0),
        ("devices", 2, 2),
    ]
    (line, reason), (other_line, _) = bench.rejects(rejects)
    assert (line, other_line) == ("3", "5") and "no such user" in reason
    assert bench.sql("SELECT user_id, device_id FROM devices ORDER BY 1") == [(1, "phone"), (2, "tablet")]


def test_a_token_moves_to_who_registers_it_last(bench: Bench) -> None:
    bench.run("import", bench.file("users.csv", "id,time_zone", "1,UTC", "2,UTC"))
    for owner in (1, 2):
        devices = bench.file("devices.csv", "user_id,device_id,platform,token", f"{owner},phone,ios,{IOS}")
        assert bench.run("import", devices).exit_code == 0
    assert bench.sql("SELECT user_id FROM devices") == [(2,)]


def test_an_orphan_takes_no_token_away(bench: Bench) -> None:
    bench.run("import", bench.file("users.csv", "id,time_zone", "1,UTC"))
    for owner in (1, 99):
        bench.run("import", bench.file("d.csv", "user_id,device_id,platform,token", f"{owner},phone,ios,{IOS}"))
    assert bench.sql("SELECT user_id FROM devices") == [(1,)]


def test_a_retired_token_stays_retired_until_it_is_registered_anew(bench: Bench) -> None:
    bench.run("import", bench.file("users.csv", "id,time_zone", "1,UTC"))
    header = "user_id,device_id,platform,token,registered_at"
    old = bench.file("old.csv", header, f"1,phone,ios,{IOS},2026-01-01T00:00:00Z")
    bench.run("import", old)
    bench.sql("UPDATE devices SET retired_at = '2026-02-01Z', retired_reason = 'unregistered', app_version = '1'")
    bench.run("import", old)
    assert bench.sql("SELECT retired_reason FROM devices") == [("unregistered",)]
    bench.run("import", bench.file("new.csv", header, f"1,phone,ios,{IOS},2026-03-01T00:00:00Z"))
    assert bench.sql("SELECT retired_reason, app_version FROM devices") == [(None, "1")]


FCM, OTHER_FCM = "dYZ:APA91b-one", "dYZ:APA91b-two"


def test_an_fcm_token_of_an_ios_device_is_loaded_and_stays_where_a_file_does_not_say(bench: Bench) -> None:
    bench.run("import", bench.file("users.csv", "id,time_zone", "1,UTC", "2,UTC"))
    header = "user_id,device_id,platform,token,fcm_token"
    rows = f"1,phone,ios,{IOS},{FCM}", f"2,phone,ios,{'cd' * 32},", f"2,old,android,{'e' * 20},{OTHER_FCM}"
    counts = bench.json("import", bench.file("a.csv", header, *rows), code=3)
    assert counts["files"][0]["loaded"] == 2
    tokens = "SELECT user_id, fcm_token FROM devices ORDER BY 1"
    assert bench.sql(tokens) == [(1, FCM), (2, None)]
    before = bench.sql("SELECT xmin::text FROM devices ORDER BY user_id")
    bench.run("import", bench.file("b.csv", header, *rows[:2]))
    bench.run("import", bench.file("c.csv", "user_id,device_id,platform,token", f"1,phone,ios,{IOS}"))
    assert bench.sql("SELECT xmin::text FROM devices ORDER BY user_id") == before
    bench.run("import", bench.file("d.csv", header, f"1,phone,ios,{IOS},{OTHER_FCM}"))
    assert bench.sql(tokens) == [(1, OTHER_FCM), (2, None)]
    bench.run("import", bench.file("e.csv", header, f"1,phone,android,{'e' * 20},"))
    assert bench.sql(tokens) == [(1, None), (2, None)]


def test_an_fcm_token_moves_to_who_registers_it_last_and_the_device_stays(bench: Bench) -> None:
    bench.run("import", bench.file("users.csv", "id,time_zone", *(f"{n},UTC" for n in range(1, 4))))
    header = "user_id,device_id,platform,token,fcm_token"

    def row(user: int) -> str:
        return f"{user},phone,ios,{user:064x},{FCM}"

    holder = "SELECT array_agg(user_id) FILTER (WHERE fcm_token IS NOT NULL), count(*) FROM devices"
    bench.run("import", bench.file("a.csv", header, row(1)))
    bench.run("import", bench.file("b.csv", header, row(2), row(3)))
    assert bench.sql(holder) == [([3], 3)]
    bench.run("import", bench.file("c.csv", header, row(99)))
    bench.run("import", bench.file("d.csv", header, row(1)))
    assert bench.sql(holder) == [([1], 3)]


@pytest.mark.parametrize(
    ("day", "fcm_token", "kept"),
    [("01", FCM, True), ("03", FCM, False), ("03", "", True), ("01", OTHER_FCM, False)],
    ids=["the same again", "registered since", "not in the file", "another one"],
)
def test_a_retired_fcm_token_stays_retired_until_it_is_registered_anew(
    bench: Bench, day: str, fcm_token: str, kept: bool
) -> None:
    bench.run("import", bench.file("users.csv", "id,time_zone", "1,UTC"))
    header = "user_id,device_id,platform,token,registered_at,app_version,fcm_token"
    bench.run("import", bench.file("old.csv", header, f"1,phone,ios,{IOS},2026-01-01T00:00:00Z,1,{FCM}"))
    bench.sql("UPDATE devices SET fcm_retired_at = '2026-01-02Z', fcm_retired_reason = 'unregistered'")
    bench.run("import", bench.file("new.csv", header, f"1,phone,ios,{IOS},2026-01-{day}T00:00:00Z,2,{fcm_token}"))
    assert bench.sql("SELECT app_version, fcm_token, fcm_retired_reason, retired_at FROM devices") == [
        ("2", fcm_token or FCM, "unregistered" if kept else None, None)
    ]


def test_parquet_loads_as_csv_does(bench: Bench) -> None:
    assert bench.run("generate", "--count", 500, "--as-of", AS_OF, "--csv", bench.folder / "made").exit_code == 0
    assert bench.sql("SELECT count(*) FROM users") == [(0,)]
    made = bench.folder / "made"
    assert bench.run("import", made / "users.csv", "--devices", made / "devices.csv").exit_code == 0
    everything = "SELECT u::text FROM users u ORDER BY id", "SELECT d::text FROM devices d ORDER BY user_id, device_id"
    from_csv = [bench.sql(query) for query in everything]
    for name in ("users", "devices"):
        table = pa_csv.read_csv(made / f"{name}.csv")
        pq.write_table(table, made / f"{name}.parquet", row_group_size=100)
    bench.sql("TRUNCATE users, devices")
    assert bench.run("import", made / "users.parquet", "--devices", made / "devices.parquet").exit_code == 0
    assert [bench.sql(query) for query in everything] == from_csv
    # What the generator writes straight into the tables is the same again.
    bench.sql("TRUNCATE users, devices")
    assert bench.run("generate", "--count", 500, "--as-of", AS_OF).exit_code == 0
    assert [bench.sql(query) for query in everything] == from_csv


def test_parquet_rows_are_rejected_by_their_number(bench: Bench) -> None:
    path = bench.folder / "users.parquet"
    pq.write_table(pa.table({"id": [1, -1, 2], "time_zone": ["UTC", "UTC", None]}), path)
    counts = bench.json("import", path, code=3)
    assert counts["files"][0]["loaded"] == 1
    assert [line for line, _ in bench.rejects(Path(counts["rejects"]))] == ["2", "3"]


def test_a_dry_run_checks_and_writes_nothing(bench: Bench) -> None:
    users = bench.file("users.csv", "id,time_zone,shard,nickname", "1,UTC,3,x", "x,UTC,3,x")
    counts = bench.json("import", users, "--dry-run", code=3)
    assert counts["files"][0]["ignored_columns"] == ["shard", "nickname"]
    assert bench.sql("SELECT count(*) FROM users") == [(0,)]


def test_the_file_to_import_is_never_overwritten_by_its_rejects(bench: Bench) -> None:
    users = bench.file("users.csv", "id,time_zone", "x,UTC")
    result = bench.run("import", users, "--rejects", users)
    assert result.exit_code == 1 and "name another" in result.stderr
    assert users.read_text().startswith("id,")


def test_a_clean_import_leaves_no_rejects_of_an_earlier_one(bench: Bench) -> None:
    users = bench.file("users.csv", "id,time_zone", "x,UTC")
    assert bench.run("import", users).exit_code == 3
    bench.file("users.csv", "id,time_zone", "1,UTC")
    assert bench.run("import", users).exit_code == 0
    assert not (bench.folder / "users.csv.rejects.csv").exists()


def test_a_generated_population_is_in_the_database_as_it_is_counted(bench: Bench) -> None:
    witness = bench.folder / "witness.csv"
    counts = bench.json("generate", "--count", 25_000, "--seed", 3, "--as-of", AS_OF, "--devices-out", witness)
    assert counts["users"] == 25_000 and counts["rejected"] == 0
    assert bench.sql("SELECT count(*) FROM users") == [(25_000,)]
    assert bench.sql("SELECT count(*) FROM devices") == [(counts["devices"],)]
    (with_fcm,) = bench.sql("SELECT count(fcm_token) FROM devices WHERE platform = 'ios'")[0]
    assert len(witness.read_text().splitlines()) == counts["devices"] + with_fcm + 1
    assert 0 < with_fcm < counts["devices"]
    active = f"last_active_date > ('{AS_OF}'::timestamptz AT TIME ZONE time_zone)::date - 7"
    assert bench.sql(f"SELECT count(*) FROM users WHERE {active}") == [(counts["active"],)]
    wrong = (
        "last_active_date <> (last_event_at AT TIME ZONE time_zone)::date "
        "OR last_practice_date <> (last_practice_at AT TIME ZONE time_zone)::date"
    )
    assert bench.sql(f"SELECT count(*) FROM users WHERE {wrong}") == [(0,)]


def test_generating_again_merges_and_fresh_starts_over(bench: Bench) -> None:
    bench.json("generate", "--count", 300, "--as-of", AS_OF)
    before = bench.sql("SELECT u::text FROM users u ORDER BY id")
    bench.json("generate", "--count", 300, "--as-of", AS_OF)
    assert bench.sql("SELECT u::text FROM users u ORDER BY id") == before
    refused = bench.run("generate", "--count", 10, "--fresh")
    assert refused.exit_code == 1 and "--yes" in refused.stderr
    bench.json("generate", "--count", 10, "--fresh", "--yes")
    assert bench.sql("SELECT count(*) FROM users") == [(10,)]


def test_a_population_loads_chunk_by_chunk(bench: Bench) -> None:
    settings = GivenSettings(_env_file=None, postgres_url=bench.url)  # type: ignore[call-arg, unused-ignore]
    told: list[int] = []

    async def work() -> int:
        return (await load(settings, Population(15_000, 1, NOW, settings), told.append)).users

    assert asyncio.run(work()) == 15_000 == sum(told)


def test_the_shard_in_sql_is_the_shard_in_python(bench: Bench) -> None:
    draw = random.Random(1)
    ids = {1, MAX_USER_ID, *(draw.randint(1, MAX_USER_ID) for _ in range(3000)), *range(2, 1000)}
    bench.run("import", bench.file("users.csv", "id,time_zone", *(f"{identity},UTC" for identity in ids)))
    found = dict(bench.sql("SELECT id, shard FROM users"))
    assert found == {identity: shard_of(identity) for identity in ids}


def test_show_tells_of_one_user(bench: Bench) -> None:
    users = bench.file("users.csv", "id,time_zone,last_event_at,opted_out", "7,Asia/Tokyo,2026-11-01T00:00:00Z,9")
    devices = bench.file("devices.csv", "user_id,device_id,platform,token,fcm_token", f"7,phone,ios,{IOS},{FCM}")
    bench.run("import", users, "--devices", devices)
    bench.sql("UPDATE devices SET fcm_retired_at = '2026-11-01Z', fcm_retired_reason = 'unregistered'")
    user = bench.json("show", 7)
    assert (user["local_time"], user["silent_days"]) == ("2026-11-04T09:00:00+09:00", 3)
    assert user["opted_out"] == ["practice", "comeback"]
    assert [(device["token"], device["fcm_token"]) for device in user["devices"]] == [(IOS, FCM)]
    shown = bench.run("show", 7).stdout
    assert "2026-11-04 09:00" in shown and "phone" in shown and IOS not in shown
    assert FCM[:12] + "…" in shown and FCM not in shown and "unregistered" in shown


def test_addresses_are_loaded_kept_and_shown_in_part(bench: Bench) -> None:
    header = "id,time_zone,email,email_opted_out"
    bench.run("import", bench.file("a.csv", header, "1,UTC,ada@example.com,", "2,UTC,grace@example.com,true"))
    bench.sql("UPDATE users SET email_retired_at = '2026-11-01Z', email_retired_reason = 'smtp_550_5_1_1'")
    rows = bench.file("b.csv", header, "1,UTC,,", "2,UTC,grace@example.org,false", "3,UTC,nobody,")
    assert bench.json("import", rows, code=3)["files"][0]["loaded"] == 2
    assert bench.sql("SELECT email, email_opted_out, email_retired_reason FROM users ORDER BY id") == [
        ("ada@example.com", False, "smtp_550_5_1_1"),
        ("grace@example.org", False, None),
    ]
    assert bench.json("show", 1)["email"] == "ada@example.com"
    shown = bench.run("show", 1).stdout
    assert "a…@example.com" in shown and "retired 2026-11-01 00:00 smtp_550_5_1_1" in shown and "ada@" not in shown


def test_nobody_of_that_id_is_an_error_with_a_remedy(bench: Bench) -> None:
    result = bench.run("show", 12345)
    assert result.exit_code == 1 and "surnia users import" in result.stderr


def test_a_database_that_does_not_answer_is_an_error_with_a_remedy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURNIA_POSTGRES_URL", "postgresql://nobody@127.0.0.1:1/none")
    result = bench.run("import", bench.file("users.csv", "id,time_zone", "1,UTC"))
    assert result.exit_code == 1 and "surnia up" in result.stderr
