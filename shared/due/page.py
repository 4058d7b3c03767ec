"""One page of the due index: looked up, planned, written down, brought to Kafka, and only then taken out."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date
from importlib.resources import files
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

import structlog

from shared import outbox
from shared.clock import Clock
from shared.due.candidate import Moment, User, candidate, moment, users_of
from shared.due.index import Due, DueIndex, Moved
from shared.planning import Denial, Planner
from shared.policy.holdout import Holdout
from shared.policy.kinds import ReminderKind
from shared.policy.localtime import UnknownTimeZoneError
from shared.policy.window import QuietHours
from shared.settings import Settings
from shared.store.databases import Database, Databases
from shared.wire.sends import Send

log = structlog.get_logger()

Connect = Callable[[], AbstractAsyncContextManager[Any]]
ConnectUsers = Callable[[Database], AbstractAsyncContextManager[Any]]


class FiringMeter(Protocol):
    """Counts what is fired, for whoever watches."""

    def planned(self, counts: Mapping[tuple[str, str], int]) -> None: ...
    def fired(self, kind: str, now: float, dues: Sequence[float]) -> None: ...


class Waiting(NamedTuple):
    """A reminder whose time has come, and where it was found."""

    kind: ReminderKind
    shard: int
    due: Due


@dataclass(slots=True)
class Fired:
    """What a page came to."""

    fired: int = 0
    """Taken out of the index: granted, denied, or of users that are no more."""
    kinds_fired: AbstractSet[str] = frozenset()
    paused: dict[str, set[int]] = field(default_factory=dict)
    """Kind -> shards of those who stay, because they are paused."""
    counts: Counts[tuple[str, str]] = field(default_factory=Counts)
    """(kind, "granted" or the reason of a denial) -> users."""


@dataclass(slots=True)
class _Sorted:
    """A page's users by what becomes of them, before the gate is asked."""

    candidates: list[Send] = field(default_factory=list)
    denied: list[Denial] = field(default_factory=list)
    moved: dict[str, list[Moved]] = field(default_factory=dict)


class PageFirer:
    """Fires pages, several at once if need be."""

    def __init__(
        self,
        own: Connect,
        users: ConnectUsers,
        databases: Databases,
        due: DueIndex,
        planner: Planner,
        settings: Settings,
        clock: Clock,
        meter: FiringMeter | None = None,
    ) -> None:
        """`own` lends a connection to Surnia's own tables, `users` one to a database that has users; both in autocommit
        mode."""
        self._own = own
        self._users = users
        self._databases = databases
        self._due = due
        self._planner = planner
        self._clock = clock
        self._quiet = QuietHours.of(settings)
        self._email = settings.sends_email
        self._meter = meter
        self._holdout = Holdout.of(settings)
        self._query = (files("shared.due") / "queries" / "fire_users.sql").read_text()

    async def fire(self, page: Sequence[Waiting]) -> Fired:
        """Plan a page, of whichever kinds, and take it out of the index, all but those who are paused or due later.

        Its steps are in the order in which a crash between any two of them loses nobody; safe to repeat.
        """
        found = self._sort(page, await self._look_up({one.due.user_id for one in page}))
        # Not before: whoever waits for a database that has users should not keep a connection from the others.
        async with self._own() as connection:
            written = await self._planner.write(connection, found.candidates, found.denied)
            if written.id is not None:
                await outbox.delete(connection, written.id)
        if self._meter:
            self._meter.planned(written.by_kind)
        paused = {(send.kind, send.user_id) for send in written.paused}
        result = Fired(counts=written.by_kind)
        # Without a copy for what nearly always is all of them.
        gone = [one for one in page if (one.kind.name, one.due.user_id) not in paused] if paused else page
        for kind, mine in groupby(gone, attrgetter("kind")):
            moved = found.moved.get(kind.name, [])
            later = {one.user_id for one in moved}
            fired = [one.due for one in mine if one.due.user_id not in later]
            await self._due.remove(kind, fired, moved)
            if self._meter:
                self._meter.fired(kind.name, self._clock.now(), [due for _, due in fired])
            result.fired += len(fired)
            result.kinds_fired |= {kind.name}
        for one in page if paused else ():
            if (one.kind.name, one.due.user_id) in paused:
                result.paused.setdefault(one.kind.name, set()).add(one.shard)
        return result

    async def _look_up(self, user_ids: AbstractSet[int]) -> dict[int, User]:
        found: dict[int, User] = {}
        for database, mine in self._databases.group(user_ids).items():
            async with self._users(database) as connection:
                cursor = await connection.execute(self._query, (outbox.array(mine),), binary=True)
                found |= users_of(await cursor.fetchall())
        return found

    def _sort(self, page: Sequence[Waiting], users: Mapping[int, User]) -> _Sorted:
        found = _Sorted()
        now, quiet, email = self._clock.now(), self._quiet, self._email
        for kind, mine in groupby(page, attrgetter("kind")):
            # Streak savers of a zone are due at the same moment.
            moments: dict[tuple[float, str, date | None], Moment] = {}
            for _, _, (user_id, due) in mine:
                user = users.get(user_id)
                if user is None:
                    continue  # Deleted since: nobody to remind, and nothing to count.
                key = (due, user.time_zone, user.practice_date)
                when = moments.get(key)
                if when is None:
                    try:
                        when = moments[key] = moment(kind, *key, quiet)
                    except UnknownTimeZoneError as error:
                        # Somebody wrote it past our checks. It has no local date, so it can be no candidate.
                        log.error("a user cannot be reminded", user_id=user_id, error=str(error))
                        continue
                if when.at > now:
                    found.moved.setdefault(kind.name, []).append(Moved(user_id, due, when.at))
                    continue
                send, reason = candidate(kind, when, user, email, self._holdout)
                if reason:
                    found.denied.append(Denial(send, reason))
                else:
                    found.candidates.append(send)
        return found
