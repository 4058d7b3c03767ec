"""What planners wrote down, read the way the audit reads it: distinct users, and granted beats a denial. And pauses."""

from __future__ import annotations

from collections import Counter
from datetime import date

from shared.gate import Keeper, Rule
from shared.outbox import GRANTED, unpack
from shared.policy.kinds import KIND_BY_CODE, Path
from shared.producer import Record
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.sends import Result, decode_outcomes, decode_sends
from tests.integration.support import TODAY, outcomes_in, read, sql

Candidate = tuple[Path, str, str, int]
"""(path, kind, campaign, user)."""


def decided(settings: Settings, day: date = TODAY) -> dict[Candidate, str]:
    """Candidate -> `GRANTED` or the reason of its denial."""
    query = "SELECT path, kind, campaign, answer, unnest(users) FROM planned WHERE local_date = %s ORDER BY page_id"
    found: dict[Candidate, str] = {}
    for path, kind, campaign, answer, user in sql(settings, query, day):
        candidate = (Path(path), KIND_BY_CODE[kind].name, campaign, user)
        if found.get(candidate) != GRANTED:
            found[candidate] = answer
    return found


def answers(settings: Settings, day: date = TODAY) -> dict[tuple[Path, str, str], int]:
    """(path, kind, answer) -> candidates."""
    return dict(Counter((path, kind, answer) for (path, kind, _, _), answer in decided(settings, day).items()))


def granted(settings: Settings, day: date = TODAY) -> set[int]:
    """Users with a send of any kind."""
    return {user for (_, _, _, user), answer in decided(settings, day).items() if answer == GRANTED}


def in_outbox(settings: Settings) -> list[Record]:
    """The messages of all pages that are not finished."""
    return [
        record
        for (packed,) in sql(settings, "SELECT records FROM outbox ORDER BY page_id")
        for record in unpack(packed)
    ]


async def accounted(settings: Settings) -> set[int]:
    """Users with a send or an outcome other than a denial, in Kafka or in the outbox."""
    topics = Topics.of(settings)
    records = in_outbox(settings)
    values = {topic: [record.value for record in records if record.topic == topic] for topic in topics.all()}
    users = {outcome.user_id for outcome in await outcomes_in(settings) if outcome.result is not Result.denied}
    for value in values[topics.outcomes]:
        users |= {o.user_id for o in decode_outcomes(value).outcomes if o.result is not Result.denied}
    for lane in (topics.urgent, topics.normal, topics.blast):
        written = [record.value for record in await read(settings, lane)]
        users |= {send.user_id for value in written + values[lane] for send in decode_sends(value).sends}
    return users


async def put_in_force(settings: Settings, *rules: Rule) -> None:
    """Exactly these pauses, at every shard."""
    keeper = Keeper.connect(settings)
    try:
        assert await keeper.write_rules(rules) == []
    finally:
        await keeper.close()
