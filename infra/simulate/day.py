"""One local date of a chunk of users: who practises, what is due, what the gate says, what goes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.simulate.calendar import Calendar
from infra.simulate.counts import Counts
from infra.simulate.mix import Mix
from infra.simulate.people import Bools, People, World
from shared.identity import SPREADS
from shared.policy.kinds import (
    ABANDONED_AFTER,
    ABANDONED_LESSON,
    COMEBACK,
    PRACTICE,
    PRACTICE_AFTER,
    STREAK_SAVER,
    ReminderKind,
)

Times = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

_HOUR = 3600.0
_DAY = 86_400.0
_ANSWERED_AFTER = 2 * _HOUR


@dataclass(slots=True)
class _Due:
    """Reminders of one kind and local date that are due: users and when; `practised`: before that, on that date."""

    kind: ReminderKind
    who: Index
    at: Times
    practised: Bools


class Days:
    """Steps from date to date. Changes the users it is given."""

    def __init__(self, mix: Mix, calendar: Calendar, world: World, counts: Counts) -> None:
        self._mix = mix
        self._calendar = calendar
        self._hours = world.hours
        self._stays = world.stays
        self._counts = counts
        self._returning = mix.behaviour.returning(mix.active)
        # By days of silence: 0, or the number of the rung.
        self._rung = np.zeros(1 << 16, np.int8)
        for n, day in enumerate(sorted(set(mix.ladder)), 1):
            self._rung[day] = n

    def run(self, rng: np.random.Generator, people: People) -> None:
        """All the dates."""
        behaviour = self._mix.behaviour
        regular = rng.random(len(people), dtype=np.float32) < behaviour.regular
        practises = np.where(regular, behaviour.regular_practises, behaviour.casual_practises).astype(np.float32)
        self._counts.timers[0] += 2 * int(np.count_nonzero(people.practice_date == -1))
        for day in range(self._calendar.days):
            self._active(rng, people, day, practises)
            if day and behaviour.steady:
                self._renew(rng, people, day)
            self._silent(rng, people, day)
            people.habit &= rng.random(len(people), dtype=np.float32) >= behaviour.churns

    def _active(self, rng: np.random.Generator, people: People, day: int, practises: npt.NDArray[np.float32]) -> None:
        behaviour, add = self._mix.behaviour, self._counts.add
        # Who stopped yesterday is still due today.
        who = np.flatnonzero(people.habit | (people.practice_date == day - 1))
        n = len(who)
        habit = people.habit[who]
        zone = people.zone[who]
        midnight = self._calendar.midnight[day][zone]
        practised = habit & (rng.random(n, dtype=np.float32) < practises[who])
        own = rng.random(n, dtype=np.float32) < behaviour.keeps_hour
        hour = np.where(own, people.hour[who], self._hours(rng, n))
        at = np.where(practised, midnight + hour * _HOUR + rng.random(n, dtype=np.float32) * _HOUR, np.inf)

        due = [
            *self._from_yesterday(people, day, who, at, midnight),
            self._abandoned(rng, who[habit], at[habit], midnight[habit]),
        ]
        opens = habit & ~practised & (rng.random(n, dtype=np.float32) < behaviour.opens)
        opened = midnight[opens] + (self._hours(rng, len(midnight[opens])) + 0.5) * _HOUR
        add("events", opened)
        add("user_rows", opened)
        self._practice(rng, people, day, who[practised], at[practised])
        # Who left a lesson unfinished was there, too.
        people.active_date[who[opens]] = day
        people.active_date[due[2].who] = day

        # At the gate: the first thing of the date makes the field, so each kind's grants are set against the marks.
        first = np.full(len(people), np.inf)
        first[who] = at
        for granted, when in self._gate(people, due):
            first[granted] = np.minimum(first[granted], when)
        self._counts.add_fields(day, first[np.isfinite(first)])

    def _practice(self, rng: np.random.Generator, people: People, day: int, who: Index, at: Times) -> None:
        """They practise: events, marks, rows, timers."""
        add = self._counts.add
        draw = rng.random(len(who), dtype=np.float32)
        lessons = 1 + (draw < 0.5).astype(np.int8) + (draw < 0.25) + (draw < 0.125)
        add("events", at, 1 + 2 * lessons)
        add("marks", at)
        add("user_rows", at)
        people.practice_date[who] = day
        people.active_date[who] = day
        people.practised_at[who] = at

    def _from_yesterday(self, people: People, day: int, who: Index, at: Times, midnight: Times) -> list[_Due]:
        """Practice reminders and streak savers of who practised the day before, and the timers of the due index."""
        yesterday = people.practice_date[who] == day - 1
        then, again = who[yesterday], at[yesterday]
        # Seconds into the date; what is quiet waits for the end of quiet hours, which may be the next morning.
        start = midnight[yesterday]
        into = self._awake(people.practised_at[then].astype(np.float64) + PRACTICE_AFTER - start)
        practice_at = start + into
        saver_at = self._calendar.saver[day][people.zone[then]]
        fires, saves = again >= practice_at, again >= saver_at
        none = np.zeros(len(then), np.bool_)
        # A timer goes when it fires; a lesson sets the one that is not there, and moves the one that is.
        self._counts.add_timers(practice_at[fires], -1)
        self._counts.add_timers(saver_at[saves], -1)
        for gone in (fires, saves):
            self._counts.add_timers(again[gone & np.isfinite(again)], 1)
        fresh = ~yesterday & np.isfinite(at)
        self._counts.add_timers(at[fresh], 2)
        return [
            _Due(PRACTICE, then[fires], practice_at[fires], none[fires]),
            _Due(STREAK_SAVER, then[saves], saver_at[saves], none[saves]),
        ]

    def _abandoned(self, rng: np.random.Generator, who: Index, at: Times, midnight: Times) -> _Due:
        chosen = rng.random(len(who), dtype=np.float32) < self._mix.behaviour.abandons
        n = int(np.count_nonzero(chosen))
        started = midnight[chosen] + (self._hours(rng, n) + rng.random(n)) * _HOUR
        self._counts.add("events", started)
        when = started + ABANDONED_AFTER
        quiet = self._awake(when - midnight[chosen]) != when - midnight[chosen]
        kind = ABANDONED_LESSON.name
        self._counts.add(f"due.{kind}", when[quiet])
        self._counts.add(f"denied.{kind}.quiet_hours", when[quiet])
        return _Due(ABANDONED_LESSON, who[chosen][~quiet], when[~quiet], (at[chosen] < when)[~quiet])

    def _awake(self, into: Times) -> Times:
        """Seconds into a date, moved out of quiet hours to their end."""
        start, end = self._mix.quiet_start, self._mix.quiet_end
        if start == end:
            return into
        second = into % _DAY
        quiet = (second >= start * _HOUR) & (second < end * _HOUR)
        if start > end:
            quiet = (second >= start * _HOUR) | (second < end * _HOUR)
        until = into - second + end * _HOUR
        return np.where(quiet, np.where(until > into, until, until + _DAY), into)

    def _gate(self, people: People, due: list[_Due]) -> list[tuple[Index, Times]]:
        """Claims of one date, with the daily cap; gives whom it granted what, and when."""
        had: npt.NDArray[Any] = np.zeros(len(people), np.int8)
        # In the order of their times, near enough: lessons and practice by day, streak savers last.
        ordered = sorted(due, key=lambda each: each.kind is STREAK_SAVER)
        return [self._claim(people, each, had) for each in ordered]

    def _claim(
        self, people: People, due: _Due, had: npt.NDArray[Any] | None, stopped: Bools | None = None
    ) -> tuple[Index, Times]:
        """Planner and gate for one kind; `had`: the date's reminders so far."""
        add, kind = self._counts.add, due.kind
        add(f"due.{kind.name}", due.at)
        devices = people.ios[due.who] + people.android[due.who]
        mails = people.mail[due.who] & (devices == 0) & self._mix.email
        left = np.ones(len(due.who), np.bool_)

        def deny(reason: str, whom: Bools) -> None:
            nonlocal left
            add(f"denied.{kind.name}.{reason}", due.at[left & whom])
            left &= ~whom

        deny("opted_out", (people.opted_out[due.who] >> kind.code & 1).astype(np.bool_))
        deny("no_device", (devices == 0) & ~mails)
        if stopped is not None:
            deny("unanswered", stopped)
        add(f"claims.{kind.path.name}", due.at[left])
        deny("practised", due.practised)
        if had is not None:
            deny("daily_cap", had[due.who] >= self._mix.daily_cap)
            had[due.who[left]] += 1
        who, at = due.who[left], due.at[left]
        add(f"sends.{kind.name}", at)
        for name, pushes in (
            ("apns", people.ios[who]),
            ("fcm", people.android[who]),
            ("smtp", mails[left].astype(np.uint8)),
        ):
            add(f"pushes.{name}.{kind.name}", at, pushes)
        return who, at

    def _renew(self, rng: np.random.Generator, people: People, day: int) -> None:
        silence = (day - people.active_date.astype(np.int32)).clip(0)
        leaves = ~people.habit & (rng.random(len(people), dtype=np.float32) >= self._stays[silence])
        people.active_date[leaves] = day - self._mix.active_days

    def _silent(self, rng: np.random.Generator, people: People, day: int) -> None:
        """Comebacks, who returns by themselves, and who does so after one."""
        calendar = self._calendar
        rung = self._rung[(day - people.active_date.astype(np.int32)).clip(0)]
        returns = ~people.habit & (rng.random(len(people), dtype=np.float32) < self._returning)
        back = np.flatnonzero(returns)
        hour = self._hours(rng, len(back))
        back_at = calendar.midnight[day][people.zone[back]] + (hour + rng.random(len(back))) * _HOUR

        who = np.flatnonzero(rung)
        zone = people.zone[who]
        # In whole seconds, as the planner has it.
        at = calendar.comeback[day][zone] + np.floor(people.place[who] * calendar.window[day][zone] / SPREADS)
        if len(back):
            here = np.full(len(people), np.inf, np.float64)
            here[back] = back_at
            there = here[who] >= at
            who, at = who[there], at[there]
        none = np.zeros(len(who), np.bool_)
        stopped = rung[who] > self._mix.stop_after if self._mix.stop_after else none
        granted, sent = self._claim(people, _Due(COMEBACK, who, at, none), None, stopped)
        self._counts.add("scanned", at)
        self._counts.add_fields(day, sent)

        answers = rng.random(len(granted), dtype=np.float32) < self._mix.behaviour.answers
        returned = np.concatenate((back, granted[answers]))
        times = np.concatenate((back_at, sent[answers] + _ANSWERED_AFTER))
        returned, chosen = np.unique(returned, return_index=True)
        self._practice(rng, people, day, returned, times[chosen])
        self._counts.add_timers(times[chosen], 2)
        self._counts.add_fields(day, times[chosen])
        people.habit[returned] = True
