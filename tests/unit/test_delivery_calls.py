"""Calls of providers while a worker stops: none is cut off, none is begun."""

from __future__ import annotations

import asyncio

from stream.delivery.calls import Calls


async def test_without_calls_there_is_nothing_to_wait_for() -> None:
    assert await Calls().end() is False


async def test_the_end_waits_for_every_call_under_way() -> None:
    calls, answers = Calls(), [asyncio.Event(), asyncio.Event()]

    async def call(answer: asyncio.Event) -> None:
        async with calls.one():
            await answer.wait()

    tasks = [asyncio.create_task(call(answer)) for answer in answers]
    await asyncio.sleep(0)
    ending = asyncio.create_task(calls.end())
    answers[0].set()
    await tasks[0]
    assert not ending.done()
    answers[1].set()
    assert await ending is True
    await tasks[1]


async def test_no_call_begins_after_the_end() -> None:
    calls, begun = Calls(), []
    await calls.end()

    async def call() -> None:
        async with calls.one():
            begun.append(1)

    task = asyncio.create_task(call())
    await asyncio.wait({task}, timeout=0.01)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not begun
    assert await calls.end() is False
