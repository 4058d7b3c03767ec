"""Users whose practice is due, for tests that fire them."""

from __future__ import annotations

from shared.due.index import Practised
from shared.identity import SHARDS
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.support import (
    DAY,
    HOUR,
    practised_at,
)

ALL = range(SHARDS)
USER = 4_242
DUE = NOON - 60
TEN = NOON + 10 * HOUR


def user(number: int = USER, **columns: object) -> dict[str, object]:
    """Somebody in Lisbon who practised yesterday."""
    return {"id": number, **practised_at(NOON - DAY), **columns}


async def schedule(runtime: Runtime, *users: int, due: float = DUE) -> None:
    await runtime.due.update([Practised(number, due, None, 0.0) for number in users or (USER,)], [])
