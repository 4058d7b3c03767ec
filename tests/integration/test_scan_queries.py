"""The batch path's queries on a database of some size: by the index, and hardly a row more than is due."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import numpy as np
import psycopg
import pytest
from rich.progress import Progress

from batch.cells import Cells, slot_literals
from batch.plan import Slot, plan
from batch.rows import SESSION
from infra.bench.scan import material
from shared.identity import SHARDS
from shared.settings import Settings

USERS = 200_000
Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def crowd(addresses: dict[str, str]) -> Iterator[str]:
    """The address of a database with a crowd."""
    url = addresses["postgres_url"]
    with Progress(disable=True) as progress:
        material.fill(url, USERS, progress)
    yield url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE users, devices")
        connection.execute("COMMENT ON TABLE users IS NULL")


@pytest.fixture
def connection(crowd: str) -> Iterator[Connection]:
    """As a scan's reader sets it."""
    with psycopg.connect(crowd, autocommit=True) as connection:
        connection.execute(SESSION)
        yield connection


@pytest.fixture(scope="module")
def slots() -> list[Slot]:
    """What is due on a day."""
    start = datetime.combine(material.TODAY, datetime.min.time(), UTC)
    found = plan(start, start + timedelta(days=1), Settings.model_validate({})).slots
    return [slot for slot in found if slot.time_zone in material.ZONES]


def query(name: str) -> str:
    return (files("batch") / "queries" / f"{name}.sql").read_text()


def nodes(plan_of: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan_of
    for part in plan_of.get("Plans", []):
        yield from nodes(part)


def explained(connection: Connection, text: str, values: Mapping[str, object]) -> list[Mapping[str, Any]]:
    """The nodes of the plan that was run."""
    row = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}", values).fetchone()
    assert row is not None
    return list(nodes(row[0][0]["Plan"]))


def read_of(found: list[Mapping[str, Any]], table: str) -> float:
    """Rows of a table that were read, those that were thrown away included; each of its scans goes by an index."""
    scans = [node for node in found if node.get("Relation Name") == table]
    assert scans and {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan"}
    counted = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    return sum(float(node.get(name, 0)) * float(node["Actual Loops"]) for node in scans for name in counted)


def cells(connection: Connection, slots: list[Slot], shards: range) -> Cells:
    """Those that have anybody, after the look has been judged."""
    values = slot_literals(slots, range(len(slots))) | {"shards": list(shards)}
    found = explained(connection, query("look"), values)
    row = connection.execute(query("look"), values).fetchone()
    assert row is not None and row[0]
    assert read_of(found, "users") <= len(row[0]) * 1.2
    shard, number = np.array(row, np.int64)
    order = np.lexsort((number, shard))
    places = [np.array([getattr(slots[n], name) for n in number[order]]) for name in ("low", "high")]
    return Cells(slots, shard[order], number[order], places[0], np.zeros(len(order), np.int64), places[1])


@pytest.mark.parametrize("limit", [100, 1_000, 10_000])
def test_a_page_reads_its_own_rows_and_no_others(connection: Connection, slots: list[Slot], limit: int) -> None:
    asked = cells(connection, slots, range(40))[:4096]
    values: dict[str, object] = asked.literals() | {"limit": limit, "emails": True}
    row = connection.execute(query("page"), values).fetchone()
    assert row is not None
    due = len(row[1])
    assert due == limit or (limit == 10_000 and due > 5_000)
    assert read_of(explained(connection, query("page"), values), "users") <= due * 1.2
    devices = explained(connection, query("devices"), {"users": sorted(row[1])})
    assert read_of(devices, "devices") <= due * 1.2


def test_a_minute_of_the_hour_reads_that_minute(connection: Connection, slots: list[Slot]) -> None:
    every = cells(connection, slots, range(SHARDS))
    part = Cells(every.plan, every.shards, every.slots, every.lows, every.after_ids, every.lows + 68)[:4096]
    values: dict[str, object] = part.literals() | {"limit": 10_000, "emails": True}
    row = connection.execute(query("page"), values).fetchone()
    assert row is not None
    assert 0 < len(row[1]) < 1_000
    assert read_of(explained(connection, query("page"), values), "users") <= len(row[1]) * 1.2


def test_counting_who_is_due_reads_them_once(connection: Connection, slots: list[Slot]) -> None:
    values: dict[str, object] = slot_literals(slots, range(len(slots))) | {"shards": 8}
    rows = connection.execute(query("count"), values).fetchall()
    assert read_of(explained(connection, query("count"), values), "users") <= sum(n for _, n in rows) * 1.2


def test_an_hour_with_nobody_reads_nothing(connection: Connection) -> None:
    noon = datetime.combine(material.IDLE, datetime.min.time(), UTC)
    idle = plan(noon, noon + timedelta(hours=1), Settings.model_validate({})).slots
    values: dict[str, object] = slot_literals(idle, range(len(idle))) | {"shards": list(range(SHARDS))}
    assert read_of(explained(connection, query("look"), values), "users") == 0
