"""Batches from a stream: how large, how late, and acknowledged only when they were handled."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from datetime import date
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from prometheus_client import CollectorRegistry

from shared.patience import Patience
from stream.activity import handle_events
from stream.batches import batches, handle_batches
from stream.meters import StreamMeter

T = TypeVar("T")
NOW = 1_795_262_400.0
HOUR = 3600.0


class _Jump(selectors.DefaultSelector):
    """Instead of waiting for a timer, adds the wait to what the loop's clock says."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing will ever happen any more"
        self.skipped += max(0.0, timeout)
        return super().select(0)


class TurnedLoop(asyncio.SelectorEventLoop):
    """A loop with a clock of its own, so that an hour passes at once and a slow machine changes nothing."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.skipped


def run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=TurnedLoop) as runner:
        return runner.run(work)


class FakeStream:
    """Faust's stream as far as `batches` knows it: events at their times, then the end, or never an end."""

    def __init__(self, *arrivals: float, ends: bool = True) -> None:
        self.arrivals = arrivals
        self.ends = ends
        self.acknowledged: list[int] = []
        self.quiet = False
        self.closed = False

    def noack(self) -> FakeStream:
        self.quiet = True
        return self

    async def events(self) -> AsyncIterator[int]:
        loop = asyncio.get_running_loop()
        try:
            for n, at in enumerate(self.arrivals):
                await asyncio.sleep(at - loop.time())
                yield n
            if not self.ends:
                await asyncio.sleep(1000 * HOUR)
        finally:
            self.closed = True

    async def ack(self, event: int) -> None:
        assert self.quiet, "the stream acknowledges by itself"
        self.acknowledged.append(event)


async def collect(stream: FakeStream, largest: int, within: float) -> list[tuple[float, list[Any]]]:
    """Every batch and when it came."""
    loop = asyncio.get_running_loop()
    return [(loop.time(), list(batch)) async for batch in batches(stream, largest, within)]


def test_a_full_batch_does_not_wait() -> None:
    found = run(collect(FakeStream(0, 0, 0, 0), 2, HOUR))
    assert found == [(0.0, [0, 1]), (0.0, [2, 3])]


def test_a_batch_waits_for_company_no_longer_than_it_may() -> None:
    ((when, batch),) = run(collect(FakeStream(0, 1, 2, 100), 10, 5.0))
    assert batch == [0, 1, 2]
    assert when == pytest.approx(5.0)


def test_the_wait_begins_with_the_first_event_of_a_batch() -> None:
    found = run(collect(FakeStream(50, 54, 56, 200, ends=False), 10, 5.0))
    assert [batch for _, batch in found] == [[0, 1], [2], [3]]
    assert [when for when, _ in found] == pytest.approx([55.0, 61.0, 205.0])


def test_a_batch_of_one_does_not_wait_at_all() -> None:
    assert run(collect(FakeStream(3, 4), 1, HOUR)) == [(3.0, [0]), (4.0, [1])]


def test_events_keep_their_order() -> None:
    found = run(collect(FakeStream(*range(20)), 4, HOUR))
    assert [event for _, batch in found for event in batch] == list(range(20))


def test_an_empty_stream_has_no_batches() -> None:
    assert run(collect(FakeStream(), 4, HOUR)) == []


def handle_all(stream: FakeStream, handle: Callable[[list[Any]], Awaitable[Any]], at_once: int = 1) -> None:
    run(handle_batches(stream, 2, HOUR, handle, at_once))


def test_a_batch_that_the_end_cut_short_stays_unacknowledged() -> None:
    stream = FakeStream(0, 0, 0)
    handled: list[list[int]] = []

    async def handle(batch: list[int]) -> None:
        handled.append(batch)

    handle_all(stream, handle)
    assert handled == [[0, 1]]
    assert stream.acknowledged == [0, 1]


def test_nothing_is_acknowledged_before_it_is_handled() -> None:
    stream = FakeStream(0, 0, 0, 0)
    seen: list[list[int]] = []

    async def handle(_: list[int]) -> None:
        await asyncio.sleep(1)
        seen.append(list(stream.acknowledged))

    handle_all(stream, handle)
    assert seen == [[], [0, 1]]
    assert stream.acknowledged == [0, 1, 2, 3]


def test_one_after_the_other_unless_more_are_allowed_at_once() -> None:
    for at_once, most in ((1, 1), (2, 2), (3, 3), (9, 4)):
        busy: list[int] = []
        found: list[int] = []

        async def handle(batch: list[int], busy: list[int] = busy, found: list[int] = found) -> None:
            busy.append(batch[0])
            found.append(len(busy))
            await asyncio.sleep(HOUR)
            busy.remove(batch[0])

        handle_all(FakeStream(*[0] * 8), handle, at_once)
        assert max(found) == most


def test_who_is_done_first_is_acknowledged_after_those_before_it() -> None:
    stream = FakeStream(0, 0, 0, 0, 0, 0)
    seen: dict[int, list[int]] = {}

    async def handle(batch: list[int]) -> None:
        await asyncio.sleep(10 - batch[0])
        seen[batch[0]] = list(stream.acknowledged)

    handle_all(stream, handle, 3)
    assert list(seen) == [4, 2, 0]
    assert seen == {4: [], 2: [], 0: []}
    assert stream.acknowledged == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_what_fails_is_not_acknowledged_nor_what_comes_after_it(at_once: int) -> None:
    stream = FakeStream(0, 0, 0, 0, 0, 0, ends=False)

    async def handle(batch: list[int]) -> None:
        await asyncio.sleep(5 - batch[0])
        if batch[0] == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        handle_all(stream, handle, at_once)
    assert stream.acknowledged == [0, 1]
    assert stream.closed


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_is_cancelled_is_not_acknowledged(at_once: int) -> None:
    stream = FakeStream(0, 0, 0, 0)

    async def stop_while_handling() -> int:
        handling = asyncio.Event()

        async def handle(_: list[Any]) -> None:
            handling.set()
            await asyncio.sleep(HOUR)

        task = asyncio.ensure_future(handle_batches(stream, 2, HOUR, handle, at_once))
        await handling.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        return len(asyncio.all_tasks())

    assert run(stop_while_handling()) == 1
    assert stream.acknowledged == []


def test_who_stops_reading_leaves_nothing_running() -> None:
    stream = FakeStream(0, 0, ends=False)

    async def first_only() -> int:
        async with aclosing(batches(stream, 2, HOUR)) as found:  # type: ignore[type-var]
            await anext(found)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert run(first_only()) == 1
    assert stream.closed


class Recorder:
    """Stands for every server of a runtime: remembers the calls in their order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[Any]]] = []
        self.written: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> dict[int, str]:
            self.calls.append((name, [list(each) if not hasattr(each, "users") else each for each in arguments]))
            return {}

        return call

    async def produce(self, records: list[Any]) -> None:
        self.written += records


def handled(*values: bytes | None) -> Recorder:
    """What the activity agent asks of the servers for a batch of these messages."""
    server = Recorder()
    runtime: Any = SimpleNamespace(
        clock=SimpleNamespace(now=lambda: NOW), gate=server, due=server, writeback=server,
        producer=SimpleNamespace(write=server.produce),
        quiet=SimpleNamespace(covers=lambda *_: False), topics=SimpleNamespace(dead_letters="dead"),
        settings=SimpleNamespace(default_time_zone="UTC"), patience=Patience(),
        meter=StreamMeter(CollectorRegistry(), "t"),
    )  # fmt: skip
    batch: list[Any] = [
        SimpleNamespace(value=value, key=b"1", topic="t", partition=0, offset=n, timestamp=0)
        for n, value in enumerate(values)
    ]
    asyncio.run(handle_events(runtime, batch))
    return server


def event(kind: str) -> bytes:
    return b'{"type":"%s","user_id":1,"at":"2026-11-21T12:00:00Z","time_zone":"UTC"}' % kind.encode()


def test_the_gate_hears_of_practice_before_anything_else_is_written() -> None:
    assert [name for name, _ in handled(event("lesson_completed")).calls] == ["practised", "update", "write"]


def test_what_a_user_did_after_the_account_was_deleted_stays_in_the_due_index() -> None:
    calls = handled(event("user_deleted"), event("lesson_started")).calls
    assert [name for name, _ in calls] == ["practised", "forget", "update", "write"]
    assert dict(calls)["update"][1] == [(1, NOW + 1800)]


def test_a_bad_message_stops_nobody_else() -> None:
    server = handled(b"\xff", event("lesson_completed"), None)
    assert [record.topic for record in server.written] == ["dead", "dead"]
    assert dict(server.calls)["practised"] == [[(1, date(2026, 11, 21))]]
