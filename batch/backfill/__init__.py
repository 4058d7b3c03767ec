"""Backfills: what a path that was down should have planned, planned now, through the same gate.

For whoever runs one, the DAG `reminder_backfill` and the command line alike:

    wanted = request(start, end, now, kinds=(), shards="", zones=())   # ValueError: what is wrong, in words
    found = await look(settings, wanted)                               # the dry run: Look(rows, unread_events)
    backfill, new = await begin(settings, wanted, by=…, via="airflow") # writes it down, or finds it; nothing runs yet
    done = await run(settings, backfill.id, shards, rate=…)            # these shards: one mapped task each
    done = await finish(settings, backfill.id)                         # after the last task: Summary, state included

`backfill.id` is all that tasks hand to one another; the request is in the table. `shards` are any of the request's
(`batch.plan.shard_groups` divides them); with `shards=None` one process does all and finishes by itself. `rate` is in
sends a second, of this process: tasks that run at once divide it. `surnia backfill run --via airflow` has called
`begin` already and triggers the DAG with the parameters `backfill_id` and `rate`.

`run` raises
- `CancelledBackfillError` at the next page after somebody typed `surnia backfill cancel`: end the task, don't retry it;
- `BusyBackfillError` where somebody runs all of it: don't retry (the message says who and since when);
- what `shared.patience.SERVER_TROUBLE` lists where a server does not answer: a retry goes on from the checkpoints.

It may be run twice, by two people, beside the workers and the hourly DAG: the gate gives nobody the same reminder
twice. What is past its window is claimed and reported as expired, not sent.
"""

from batch.backfill.look import Look, Row, look
from batch.backfill.pace import CancelledBackfillError
from batch.backfill.request import KIND_NAMES, Request, request
from batch.backfill.runner import BusyBackfillError, Summary, begin, cancel, finish, go_on, run, summary_of
from batch.backfill.store import Backfill, NoSuchBackfillError

__all__ = [
    "KIND_NAMES",
    "Backfill",
    "BusyBackfillError",
    "CancelledBackfillError",
    "Look",
    "NoSuchBackfillError",
    "Request",
    "Row",
    "Summary",
    "begin",
    "cancel",
    "finish",
    "go_on",
    "look",
    "request",
    "run",
    "summary_of",
]
