"""What the ledger, the outbox, Kafka and the users' rows say about the gate. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

import msgspec

from shared.gate.contract import SendKey
from shared.gate.keeper import Fact
from shared.outbox import unpack
from shared.policy.kinds import KIND_BY_CODE, Path
from shared.topics import Topics
from shared.wire.sends import OutcomeBatch, Result, SendBatch, decode_outcomes, decode_sends

_NEVER_CLAIMED = frozenset({"other_path", "daily_cap", "weekly_cap", "opted_out"})
"""Reasons for which delivery drops what the gate does not let it claim again: it has no claim then."""
_PATHS = {int(path): path for path in Path}
_MARKED_DAYS = 3
"""Practice of older dates is not in the gate: nothing is planned for them any more (stream/effects.py)."""


def of_ledger(row: Sequence[Any]) -> Fact | None:
    """(local date, user, kind, path, campaign, result, reason) of the ledger: settled, claimed or nothing."""
    day, user_id, code, number, campaign, result, reason = row
    kind, path = KIND_BY_CODE.get(code), _PATHS.get(number)
    if kind is None or path is None:
        return None
    return _outcome(SendKey(user_id, kind.name, day, campaign), path, result, reason)


def of_outcomes(batch: OutcomeBatch) -> Iterator[Fact]:
    """The same of outcomes that the ledger does not have yet."""
    for o in batch.outcomes:
        key = SendKey(o.user_id, o.kind, o.local_date, o.campaign)
        if fact := _outcome(key, batch.path, o.result, o.reason):
            yield fact


def of_sends(batch: SendBatch) -> Iterator[Fact]:
    """Sends on their way are claimed by the path that planned them."""
    for send in batch.sends:
        yield Fact(SendKey(send.user_id, send.kind, send.local_date, send.campaign), batch.path, settled=False)


def of_messages(topic: str, value: bytes | None, topics: Topics) -> list[Fact]:
    """What a message of the lanes or of the outcomes says; nothing if it can't be read: it goes to the dead letters."""
    try:
        if topic == topics.outcomes:
            return list(of_outcomes(decode_outcomes(value or b"")))
        return list(of_sends(decode_sends(value or b"")))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []


def of_outbox(records: bytes, topics: Topics) -> list[Fact]:
    """A page that is on its way to Kafka."""
    return [fact for record in unpack(records) for fact in of_messages(record.topic, record.value, topics)]


def practised(last: date, streak: int, today: date) -> list[date]:
    """The dates on which a user practised, from the last one and the days in a row that it ends; no older ones than
    the gate is told of."""
    first = today - timedelta(days=_MARKED_DAYS)
    days = (last - timedelta(days=n) for n in range(min(max(streak, 1), _MARKED_DAYS + 2)))
    return [day for day in days if day >= first]


def _outcome(key: SendKey, path: Path, result: int, reason: str) -> Fact | None:
    if result == Result.denied or (result == Result.dropped and reason in _NEVER_CLAIMED):
        return None
    return Fact(key, path, settled=result == Result.delivered)
