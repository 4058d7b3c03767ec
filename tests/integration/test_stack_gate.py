"""`surnia up` and the gate: its own server's is opened, a given one's is only told of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from redis import Redis
from typer.testing import CliRunner

from infra.stack import commands
from infra.stack.gate import ask, closed_shards
from infra.stack.stack import Stack
from shared.gate.keys import epoch_key
from shared.identity import SHARDS
from shared.settings import GivenSettings, Settings


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack") / "state")
    try:
        yield stack
    finally:
        stack.remove()


def asked_both_ways(stack: Stack, *, durable: bool = False) -> int:
    """The quick question of `up`, and the engine's: they must agree."""
    settings = stack.settings().model_copy(update={"gate_durable": durable})
    port = stack.store.read().parts["valkey"].port or 0
    quick = closed_shards(port, stack.store.secret("valkey"), durable=durable)
    assert quick == ask(settings)
    return quick


def redis(settings: Settings) -> Redis:
    return Redis.from_url(settings.require_redis())


def test_a_new_stack_s_gate_is_open_and_one_that_lost_data_is_opened_by_up(stack: Stack) -> None:
    first = stack.up()
    assert "rebuilt: 0 sends" in first.gate
    assert asked_both_ways(stack) == 0
    again = stack.up()
    assert (again.gate, again.changed) == ("", False)
    with redis(stack.settings()) as client:
        client.delete(*(epoch_key(shard) for shard in range(5)))
    assert asked_both_ways(stack) == 5
    assert asked_both_ways(stack, durable=True) == 5
    mended = stack.up()
    assert mended.changed
    assert "rebuilt" in mended.gate
    assert asked_both_ways(stack) == 0


def test_a_server_that_was_ended_and_started_is_closed_until_up_has_rebuilt_it(stack: Stack) -> None:
    stack.up()
    stack.parts["valkey"].stop(stack.parts["valkey"].record())
    stack.up(parts=["valkey"])
    assert asked_both_ways(stack) == SHARDS
    assert asked_both_ways(stack, durable=True) == 0
    assert "rebuilt" in stack.up().gate
    assert asked_both_ways(stack) == 0


def test_of_a_given_server_it_is_told_what_to_type_and_status_tells_too(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.up()
    ours = stack.settings()
    named: dict[str, Any] = {name: getattr(ours, name) for name in ("postgres_url", "redis_url", "kafka_brokers")}
    guest = Stack(GivenSettings(**named, state_dir=tmp_path / "guest"))
    assert guest.up().gate == ""
    with redis(ours) as client:
        client.flushall()
    told = guest.up()
    assert "256 of 256" in told.gate
    assert "surnia gate rebuild" in told.gate
    assert ask(ours) == SHARDS, "it is not ours to open"

    monkeypatch.setenv("SURNIA_STATE_DIR", str(stack.state_dir))
    app = typer.Typer()
    commands.register(app)
    done = CliRunner().invoke(app, ["status"])
    assert done.exit_code == 1
    assert "surnia gate rebuild" in done.output
    stack.up()
    assert CliRunner().invoke(app, ["status"]).exit_code == 0
