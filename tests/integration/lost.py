"""A history for gates that are lost: everything that may have happened to users, left in every place it may lie."""

from __future__ import annotations

import random
from datetime import timedelta

from shared.outbox import Outbox
from shared.outbox import delete as delete_page
from shared.planning import Planner, claim, records
from shared.policy.kinds import KINDS, Path
from shared.policy.localtime import local_date
from shared.producer import Record
from shared.settings import Settings
from shared.wire.events import decode_event
from shared.wire.sends import Outcome, OutcomeBatch, Result, Send, Target, encode
from stream.activity import handle_events
from stream.delivery.progress import key_of
from stream.due.fire import Firing
from stream.effects import effects_of
from stream.ledger import Ledger
from stream.runtime import Runtime
from tests.conftest import NOON, connect_redis
from tests.integration.support import DAY, HOUR, IOS, add_users, event, record, redis_state

ZONES = ("Europe/Lisbon", "Asia/Tokyo", "America/Los_Angeles", "Pacific/Auckland")
CAMPAIGNS = ("spring", "black-friday", "new_text")


def zone_of(user: int) -> str:
    return ZONES[user % len(ZONES)]


def send(user: int, kind: str = "practice", *, campaign: str = "", days_ago: int = 0) -> Send:
    zone = zone_of(user)
    day = local_date(NOON, zone) - timedelta(days=days_ago)
    return Send(user, KINDS[kind].name, day, NOON, NOON + HOUR, zone, "en", 3, 0, (Target("d", "ios", IOS),), campaign)


def outcome(of: Send, result: Result, reason: str = "accepted") -> Outcome:
    return Outcome(of.user_id, of.kind, of.local_date, result, reason, of.due_at, NOON, 0.1, "apns", of.campaign)


async def gate_state(settings: Settings) -> dict[bytes, dict[bytes, bytes]]:
    """What users have at the gate; nothing is the same as 0."""
    held = {
        name: {user: value for user, value in values.items() if value != b"0"}
        for name, values in (await redis_state(settings)).items()
        if name.startswith((b"gate:", b"campaign:"))
    }
    return {name: values for name, values in held.items() if values}


async def due_state(settings: Settings) -> set[tuple[bytes, int, float]]:
    """(kind, user, when)."""
    return {
        (name.rpartition(b":")[2], int(member), score)
        for name, members in (await redis_state(settings)).items()
        if name.startswith(b"due:")
        for member, score in members
    }


async def lose(settings: Settings) -> None:
    redis = connect_redis(settings)
    await redis.flushall()
    await redis.aclose()


class History:
    """What happens to 60 users, by a seed."""

    def __init__(self, settings: Settings, runtime: Runtime, seed: int) -> None:
        self._settings = settings
        self._runtime = runtime
        self._random = random.Random(seed)
        self._users = self._random.sample(range(1, 2**62), 60)
        self._remembered = set(self._some())
        """Users whose events are still in Kafka; those of the others were handled and deleted."""

    async def happen(self) -> None:
        add_users(self._settings, *({"id": user, "time_zone": zone_of(user)} for user in self._users))
        await self._activity()
        await Firing(self._runtime).fire(range(256))
        for path, kind in ((Path.stream, "practice"), (Path.stream, "streak_saver"), (Path.batch, "comeback")):
            await self._planned(path, [send(user, kind, days_ago=n) for user in self._some() for n in (0, 1)])
        for campaign in CAMPAIGNS:
            await self._planned(Path.blast, [send(user, "campaign", campaign=campaign) for user in self._some()])
        # Before their page was delivered, a few have changed their minds.
        await self._choices(self._some(0.1))

    def _some(self, share: float = 0.5) -> list[int]:
        return [user for user in self._users if self._random.random() < share]

    async def _activity(self) -> None:
        await self._handled(
            [
                (user, event("lesson_completed", user, NOON - days * DAY - HOUR / 2, time_zone=zone_of(user)))
                for user in self._some(0.7)
                for days in sorted(range(self._random.randrange(2), 3), reverse=True)
            ]
        )
        # Only events in Kafka can tell of a lesson that was not finished.
        started = [(user, self._random.uniform(0, 2 * HOUR)) for user in self._some() if user in self._remembered]
        await self._handled(
            [(user, event("lesson_started", user, NOON - ago, time_zone=zone_of(user))) for user, ago in started]
        )
        await self._choices(self._some(0.2))
        await self._choices(self._some(0.1), back=True)
        in_hand = [event("lesson_completed", user, NOON - 60, time_zone=zone_of(user)) for user in self._some(0.1)]
        effects = effects_of([decode_event(raw, NOON) for raw in in_hand], {}, "UTC")
        await self._runtime.gate.practised(effects.marks(NOON))
        await self._runtime.due.update(effects.practised(self._runtime.quiet), [])
        await self._write(in_hand)

    async def _choices(self, users: list[int], *, back: bool = False) -> None:
        unwanted = [] if back else [self._random.choice(list(KINDS))]
        await self._handled(
            [
                (user, event("preferences_changed", user, NOON - 30, time_zone=zone_of(user), opted_out=unwanted))
                for user in users
            ]
        )

    async def _handled(self, events: list[tuple[int, bytes]]) -> None:
        await handle_events(self._runtime, [record(raw) for _, raw in events])
        await self._write([raw for user, raw in events if user in self._remembered])

    async def _write(self, events: list[bytes]) -> None:
        await self._runtime.producer.write(
            Record(self._runtime.topics.activity, str(decode_event(raw, NOON).user_id).encode(), raw) for raw in events
        )

    async def _planned(self, path: Path, candidates: list[Send]) -> None:
        """A third is still in the outbox alone, a third in Kafka, the rest has ended in all ways there are."""
        self._random.shuffle(candidates)
        third = len(candidates) // 3
        runtime = self._runtime
        async with runtime.pool.connection() as connection:
            plan = await claim(runtime.gate, path, candidates[:third], [], NOON)
            messages = records(plan, path, runtime.topics, NOON, 10)
            await Outbox().record(connection, path, plan.decisions, messages)
        planner = Planner(path, runtime.gate, runtime.producer, self._settings, runtime.clock)
        async with runtime.pool.connection() as connection:
            page = await planner.write(connection, candidates[third:], [])
            assert page.id is not None
            await delete_page(connection, page.id)
        granted = await claim(runtime.gate, path, candidates[2 * third :], [], NOON)
        await self._ended(path, granted.sends)

    async def _ended(self, path: Path, sends: list[Send]) -> None:
        results = [
            self._random.choice([Result.delivered, Result.failed, Result.expired, Result.dropped]) for _ in sends
        ]
        delivered = [key_of(each) for each, result in zip(sends, results, strict=True) if result is Result.delivered]
        await self._runtime.gate.settle(path, delivered)
        outcomes = [outcome(each, result, "a_reason") for each, result in zip(sends, results, strict=True)]
        half = len(outcomes) // 2
        await Ledger(self._runtime.users).write([OutcomeBatch(path, tuple(outcomes[:half]))])
        await self._runtime.producer.write(
            [Record(self._runtime.topics.outcomes, None, encode(OutcomeBatch(path, tuple(outcomes[half:]))))]
        )
