"""A night on call: one engine on which the runbooks of docs/operations.md are rehearsed, one after the other."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.clock import FileClock, utc
from tests.acceptance.conftest import Engine, wait_for
from tests.conftest import NOON
from tests.integration.support import HOUR, add_users, sql, token_of

DAY = 24 * HOUR


@dataclass
class Night:
    """The engine, its clock, and what was typed."""

    engine: Engine
    clock: FileClock
    transcript: list[str] = field(default_factory=list)

    def begin(self, day: int) -> float:
        """Noon of another day: what one rehearsal leaves behind is over for the next one."""
        at = NOON + day * DAY
        self.clock.set(at)
        return at

    def type(self, line: str, code: int = 0) -> str:
        """Type a command as the runbook has it, and read what it says."""
        done = self.engine.typed(*shlex.split(line)[1:], code=code)
        said = done.stdout + done.stderr
        self.transcript += [f"$ {line}", *said.rstrip().splitlines(), *([f"(exit code {code})"] if code else []), ""]
        return said

    def practised(self, users: Sequence[int], at: float) -> None:
        """Users in Lisbon whose last practice was then."""
        when = utc(at)
        add_users(
            self.engine.settings,
            *(
                {
                    "id": user,
                    "last_event_at": when,
                    "last_active_date": when.date(),
                    "last_practice_at": when,
                    "last_practice_date": when.date(),
                    "streak": 3,
                }
                for user in users
            ),
        )

    def silent(self, users: Sequence[int], zone: str, due: datetime) -> None:
        """Users whose comeback is due on that day: silent for a week by then."""
        week_ago = due.date() - timedelta(days=7)
        add_users(
            self.engine.settings, *({"id": user, "time_zone": zone, "last_active_date": week_ago} for user in users)
        )

    def pushed(self, user: int) -> list[str]:
        """The kinds that a user was shown."""
        return [push["kind"] for push in self.engine.simulator.pushes(token_of(user))]

    def shown(self, kind: str, users: Sequence[int], seconds: float = 60.0) -> None:
        """Wait until each of them was shown it, and only that."""
        wait_for(lambda: all(self.pushed(user) for user in users), f"{kind} to arrive", seconds)
        assert {user: self.pushed(user) for user in users} == {user: [kind] for user in users}

    def ledger(self, users: Sequence[int], reason: str) -> None:
        """Wait until the ledger has that reason for each of them."""
        query = "SELECT count(DISTINCT user_id) FROM ledger WHERE user_id = ANY(%s) AND reason = %s"
        wait_for(lambda: sql(self.engine.settings, query, list(users), reason) == [(len(users),)], f"{reason} booked")

    def accounts_hold(self, at: float) -> None:
        """Of the date on which it was noon then."""
        found = self.engine.audit(utc(at).date().isoformat())
        assert found["holds"], found
        self.type(f"surnia audit --date {utc(at).date()}")


def iso(at: float) -> str:
    """As the options take it."""
    return f"{utc(at):%Y-%m-%dT%H:%M}"
