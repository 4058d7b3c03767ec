"""`python -m tests.integration.stuck HOW FILE`: a stream worker that gets stuck at its first batch, if FILE is there.
The file is gone then, so that the worker works once it has been started anew."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from aiokafka.consumer.fetcher import Fetcher

from shared.settings import load_settings
from stream.activity import Activity
from stream.app import Role
from stream.worker import run


async def hang(*_: Any) -> Any:
    """A handler that waits for what never comes."""
    await asyncio.Event().wait()


async def spin(*_: Any) -> Any:
    """One that turns in a circle."""
    while True:
        pass


async def block(*_: Any) -> Any:
    """One that calls what does not come back."""
    while True:
        time.sleep(60)  # noqa: ASYNC251  # just that


async def deaf(*_: Any) -> None:
    """A consumer that fetches nothing, and is content: as in Faust's issues 175, 523 and 629."""
    await asyncio.Event().wait()


def main(how: str, file: Path) -> None:
    """Put the mistake in, and run the worker as `surnia worker stream` does."""
    if file.exists():
        file.unlink()
        if how == "deaf":
            Fetcher._fetch_requests_routine = deaf
        else:
            setattr(Activity, "handle", {"hang": hang, "spin": spin, "block": block}[how])  # noqa: B010  # for mypy
    run(load_settings(), Role.stream)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
