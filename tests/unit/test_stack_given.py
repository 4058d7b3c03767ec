"""Addresses that the settings name are theirs, all else is ours; and what status says without any server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from infra.stack import commands, status
from infra.stack.errors import StackError
from infra.stack.stack import Stack
from infra.stack.view import duration
from shared.settings import GivenSettings, Settings


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("POSTGRES_URL", "REDIS_URL", "KAFKA_BROKERS", "STATE_DIR"):
        monkeypatch.delenv(f"SURNIA_{name}", raising=False)


def given(tmp_path: Path, **named: Any) -> GivenSettings:
    return GivenSettings(**{"state_dir": tmp_path / "state", **named})


def test_a_folder_alone_gives_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SURNIA_KAFKA_BROKERS", "elsewhere:9092")
    stack = Stack(tmp_path)
    assert stack._given() == {}
    assert stack.settings().kafka_brokers is None


def test_a_named_address_is_given(tmp_path: Path) -> None:
    stack = Stack(given(tmp_path, redis_url="redis://:secret@cache:6379/0"))
    assert stack._given() == {"valkey": "redis://:secret@cache:6379/0"}
    assert stack.settings().require_redis() == "redis://:secret@cache:6379/0"


def test_our_own_recorded_address_is_not_given(tmp_path: Path) -> None:
    address = "127.0.0.1:9092"
    Stack(tmp_path / "state").store.prepare()
    Stack(tmp_path / "state").store.change(lambda state: state.settings.update(kafka_brokers=address))
    named: dict[str, Any] = {"state_dir": tmp_path / "state", "kafka_brokers": address}
    filled_in = Settings(**named)
    assert Stack(filled_in)._given() == {}
    assert Stack(filled_in).settings().require_kafka() == address


def test_a_given_server_that_is_away_is_named_with_the_remedy_and_nothing_is_started(tmp_path: Path) -> None:
    stack = Stack(given(tmp_path, redis_url="redis://:secret@127.0.0.1:1/0"))
    with pytest.raises(StackError, match="SURNIA_REDIS_URL") as raised:
        stack.up(parts=("valkey",))
    assert "secret" not in str(raised.value)
    assert stack.store.read().parts == {}
    found = stack.status().parts["valkey"]
    assert (found.state, found.healthy) == ("unreachable", False)


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="There are postgres, valkey, kafka"):
        Stack(tmp_path).up(parts=("redis",))


def test_down_without_a_stack_does_nothing(tmp_path: Path) -> None:
    assert Stack(tmp_path / "state").down() == {}
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://surnia:secret@127.0.0.1:5432/surnia", "postgresql://surnia@127.0.0.1:5432/surnia"),
        ("redis://:secret@127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("127.0.0.1:9092,127.0.0.1:9093", "127.0.0.1:9092,127.0.0.1:9093"),
    ],
)
def test_passwords_are_not_shown(address: str, shown: str) -> None:
    assert status.shown_address(address) == shown


@pytest.mark.parametrize(("seconds", "said"), [(3.9, "3 s"), (61, "1 min"), (3661, "1 h 1 min"), (90_000, "1 d 1 h")])
def test_durations_are_said(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_status_of_nothing_is_exit_code_1_and_says_what_to_type() -> None:
    app = typer.Typer()
    commands.register(app)
    shown = CliRunner().invoke(app, ["status"])
    assert shown.exit_code == 1
    assert "Run `surnia up`." in shown.stdout
    as_json = CliRunner().invoke(app, ["status", "--json"])
    assert as_json.exit_code == 1
    assert {part["state"] for part in json.loads(as_json.stdout)["parts"].values()} == {"stopped"}
