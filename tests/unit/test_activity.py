"""What the activity agent asks of the servers for batches of events, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from shared.patience import Patience
from stream.activity import Activity
from stream.due.active import Active
from stream.erasure import Deletion
from stream.meters import StreamMeter

NOW = 1_795_262_400.0
DAY = date(2026, 11, 21)


class Servers:
    """Stands for all of a runtime: remembers the calls in their order, and answers when it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.written: list[Any] = []
        self.held: dict[str, asyncio.Event] = {}

    def __getattr__(self, name: str) -> Any:
        return _Server(self, name)

    async def produce(self, records: list[Any]) -> None:
        self.written += records


class _Server:
    def __init__(self, servers: Servers, name: str) -> None:
        self._servers = servers
        self._name = name

    async def asked(self, question: Awaitable[Any]) -> Any:
        return await question

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> dict[int, str]:
            if name == "write" and (gate := self._servers.held.pop(self._name, None)):
                await gate.wait()
            self._servers.calls.append((f"{self._name}.{name}", arguments[0]))
            return {}

        return call


def activity(servers: Servers) -> Activity:
    runtime: Any = SimpleNamespace(
        clock=SimpleNamespace(now=lambda: NOW), gate=servers.gate, due=servers.due, active=servers.active,
        writeback=servers.writeback, producer=SimpleNamespace(write=servers.produce),
        quiet=SimpleNamespace(covers=lambda *_: False), topics=SimpleNamespace(dead_letters="dead"),
        settings=SimpleNamespace(default_time_zone="UTC"), patience=Patience(),
        meter=StreamMeter(CollectorRegistry(), "t"),
    )  # fmt: skip
    return Activity(runtime)


def batch(*values: bytes | None) -> list[Any]:
    return [
        SimpleNamespace(value=value, key=b"1", topic="t", partition=0, offset=n, timestamp=0)
        for n, value in enumerate(values)
    ]


def event(kind: str) -> bytes:
    return b'{"type":"%s","user_id":1,"at":"2026-11-21T12:00:00Z","time_zone":"UTC"}' % kind.encode()


def handled(*values: bytes | None) -> Servers:
    servers = Servers()
    asyncio.run(activity(servers).handle(batch(*values)))
    return servers


def test_the_gate_hears_of_practice_before_anything_else_is_written() -> None:
    assert [name for name, _ in handled(event("lesson_completed")).calls] == ["active.write", "writeback.write"]


def test_what_a_user_did_after_the_account_was_deleted_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async def erase(runtime: Any, gone: list[Deletion]) -> None:
        await runtime.gate.erase([(each.user_id, each.offset) for each in gone])

    monkeypatch.setattr("stream.activity.erase", erase)
    calls = handled(event("lesson_completed"), event("user_deleted"), event("lesson_started")).calls
    assert [name for name, _ in calls] == ["gate.erase", "active.write", "writeback.write"]
    assert dict(calls)["gate.erase"] == [(1, 1)]
    assert dict(calls)["active.write"] == [Active(1, abandoned_due=int(NOW) + 1800)]


def test_a_bad_message_stops_nobody_else() -> None:
    servers = handled(b"\xff", event("lesson_completed"), None)
    assert [record.topic for record in servers.written] == ["dead", "dead"]
    (active,) = dict(servers.calls)["active.write"]
    assert (active.user_id, active.days) == (1, (DAY,))


def test_who_opened_the_app_costs_redis_nothing() -> None:
    assert [name for name, _ in handled(event("app_opened")).calls] == ["writeback.write"]


def test_a_batch_that_has_to_wait_is_not_overtaken_by_the_next() -> None:
    servers = Servers()

    async def both() -> None:
        handler, gate = activity(servers), asyncio.Event()
        servers.held["active"] = gate
        first = asyncio.create_task(handler.handle(batch(event("lesson_started"))))
        second = asyncio.create_task(handler.handle(batch(event("lesson_completed"))))
        for _ in range(20):
            await asyncio.sleep(0)
        assert servers.calls == []
        gate.set()
        await asyncio.gather(first, second)

    asyncio.run(both())
    started, completed = [users for name, users in servers.calls if name == "active.write"]
    assert (started[0].abandoned_due, completed[0].started_before) == (int(NOW) + 1800, int(NOW) + 1800)
    assert sum(len(batches) for name, batches in servers.calls if name == "writeback.write") == 2


def test_batches_that_wait_for_the_database_are_written_together() -> None:
    servers = Servers()

    async def all_three() -> None:
        handler, gate = activity(servers), asyncio.Event()
        servers.held["writeback"] = gate
        tasks = [asyncio.create_task(handler.handle(batch(event("app_opened")))) for _ in range(3)]
        for _ in range(20):
            await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(all_three())
    assert [len(batches) for name, batches in servers.calls if name == "writeback.write"] == [1, 2]
