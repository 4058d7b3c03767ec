"""Where settings come from, what is refused, and what never shows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shared.clock import FileClock, SystemClock
from shared.settings import GivenSettings, MissingAddressError, Settings, load_settings

PASSWORD = "s3cr3t-pa55"
Recorder = Callable[..., None]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder: no `.env`, no stack."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def record(state: Path, **addresses: str) -> None:
    """What `surnia up` leaves behind."""
    state.mkdir(parents=True, exist_ok=True)
    (state / "stack.json").write_text(json.dumps({"settings": addresses}))


def load(**values: Any) -> Settings:
    return Settings.model_validate(values)


def test_the_environment_comes_before_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("SURNIA_SEND_HOUR=9\n")
    monkeypatch.setenv("SURNIA_SEND_HOUR", "10")
    assert load_settings().send_hour == 10


def test_the_file_comes_before_the_stack(folder: Path) -> None:
    record(folder / ".surnia", kafka_brokers="stack:1")
    (folder / ".env").write_text("SURNIA_KAFKA_BROKERS=file:1\n")
    assert load_settings().kafka_brokers == "file:1"


def test_the_stack_fills_in_what_is_not_set(folder: Path) -> None:
    record(folder / ".surnia", kafka_brokers="stack:1", redis_url="redis://stack:2/0")
    settings = load_settings()
    assert (settings.require_kafka(), settings.require_redis()) == ("stack:1", "redis://stack:2/0")


@pytest.mark.parametrize("place", ["environment", "file", "argument"])
def test_the_stack_is_looked_for_where_the_state_is(folder: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    record(folder / "elsewhere", kafka_brokers="elsewhere:1")
    record(folder / ".surnia", kafka_brokers="default:1")
    if place == "environment":
        monkeypatch.setenv("SURNIA_STATE_DIR", "elsewhere")
    if place == "file":
        (folder / ".env").write_text("SURNIA_STATE_DIR=elsewhere\n")
    settings = load(state_dir="elsewhere") if place == "argument" else load_settings()
    assert settings.kafka_brokers == "elsewhere:1"


def test_given_settings_do_not_look_at_the_stack(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(folder / ".surnia", kafka_brokers="stack:1", redis_url="redis://stack:2/0")
    monkeypatch.setenv("SURNIA_REDIS_URL", "redis://given:3/0")
    given = GivenSettings.model_validate({})
    assert given.kafka_brokers is None
    assert given.require_redis() == "redis://given:3/0"


def test_what_the_stack_records_besides_settings_is_left_alone(folder: Path) -> None:
    record(folder / ".surnia", kafka_brokers="stack:1", not_a_setting="x")
    assert load_settings().kafka_brokers == "stack:1"


@pytest.mark.parametrize("text", ["", "{", "{}"])
def test_a_stack_file_that_is_half_written_counts_as_no_stack(folder: Path, text: str) -> None:
    record(folder / ".surnia")
    (folder / ".surnia" / "stack.json").write_text(text)
    assert load_settings().kafka_brokers is None


@pytest.mark.parametrize("show", [repr, str, lambda settings: settings.model_dump_json()])
def test_passwords_never_show(show: Callable[[Settings], str]) -> None:
    settings = load(
        postgres_url=f"postgresql://surnia:{PASSWORD}@db/surnia", redis_url=f"redis://:{PASSWORD}@gate:6379/0"
    )
    assert PASSWORD not in show(settings)
    assert PASSWORD in settings.require_postgres()
    assert PASSWORD in settings.require_redis()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("postgres_url", Settings.require_postgres),
        ("redis_url", Settings.require_redis),
        ("kafka_brokers", Settings.require_kafka),
    ],
)
def test_a_missing_address_names_what_to_type(name: str, call: Callable[[Settings], str]) -> None:
    remedy = f"No address for {name}: run `surnia up` to start the local stack, or set SURNIA_{name.upper()}."
    with pytest.raises(MissingAddressError, match=re.escape(remedy)):
        call(load_settings())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("partitions", "0"),
        ("partitions", "many"),
        ("send_hour", "24"),
        ("quiet_start", "-1"),
        ("quiet_end", "24"),
        ("daily_cap", "8"),  # the gate counts in three bits
        ("daily_cap", "0"),
        ("send_batch", "501"),
        ("gate_bucket_bits", "17"),
        ("gate_keep_hours", "47"),
        ("page_size", "9"),
        ("due_poll_seconds", "0"),
        ("web_port", "65536"),
        ("topic_prefix", "My Topics"),
        ("topic_prefix", "two\nlines"),
        ("log_level", "loud"),
        ("ladder_days", "[7, 0]"),
        ("ladder_days", "[-7]"),
        ("default_time_zone", "Mars/Olympus_Mons"),
        ("default_time_zone", "../../etc/passwd"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"SURNIA_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        load_settings()


def test_the_ladder_is_written_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SURNIA_LADDER_DAYS", "[3, 5]")
    assert load_settings().ladder_days == (3, 5)


def test_settings_do_not_change_once_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().send_hour = 3  # type: ignore[misc]


def test_every_setting_but_the_plain_ones_says_what_it_is() -> None:
    silent = {name for name, field in Settings.model_fields.items() if not field.description}
    assert silent == {"log_level"}


def test_the_clock_is_the_machines_unless_a_file_is_named(folder: Path) -> None:
    FileClock.create(folder / "clock", 5.0)
    assert isinstance(load_settings().clock(), SystemClock)
    assert load(clock_file=folder / "clock").clock().now() == 5.0
