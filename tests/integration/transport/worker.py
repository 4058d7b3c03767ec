"""An app for processes: `faust -A tests.integration.transport.worker worker`. Told by the environment what to read."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import faust
from faust.web import Request, Response, View

from stream.transport import RunSchema
from tests.integration.transport.harness import create_app

TOPIC, JOURNAL = os.environ["TRANSPORT_TOPIC"], Path(os.environ["TRANSPORT_JOURNAL"])
SECONDS = float(os.environ.get("TRANSPORT_SECONDS", "0"))
"""That it takes to handle a run."""

app = create_app(
    os.environ["TRANSPORT_BROKERS"],
    os.environ["TRANSPORT_GROUP"],
    broker_client_id=JOURNAL.name,
    web_enabled=True,
    datadir=JOURNAL.with_suffix(".data"),
    worker_redirect_stdouts=False,
)
counts = {"records": 0, "ticks": 0}


@app.agent(app.topic(TOPIC, schema=RunSchema()), name="journal")
async def journal(stream: Any) -> None:
    """Writes down what it has begun with and what it has done; each line reaches the file at once, or not at all."""
    with JOURNAL.open("a", buffering=1) as written:  # noqa: ASYNC230  # as blocking as the writes to it
        async for run in stream:
            where = f"{run.records[0].partition} {run.first} {run.last}"
            written.write(f"begun {where}\n")
            await asyncio.sleep(SECONDS)
            counts["records"] += len(run)
            written.write(f"done {where}\n")


@app.timer(0.05)  # type: ignore[untyped-decorator]  # Faust says Callable
async def tick() -> None:
    counts["ticks"] += 1


@app.page("/counts")
async def show(self: View, request: Request) -> Response:
    return self.json(counts)


@app.command()
async def shout(self: Any) -> None:
    """A command of the app's own."""
    self.say(f"reads {faust.__name__} from {TOPIC}")
