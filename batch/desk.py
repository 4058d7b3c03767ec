"""One page of silent users, decided: who is turned down, who is granted, who has to wait for the end of a pause."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from batch.columns import Ints, lengths
from batch.denials import REASONS, Candidates, turned_down
from batch.messages import Messages
from batch.moments import Moments
from batch.plan import Slot
from batch.rows import Rows
from shared.clock import Clock
from shared.gate.contract import Claim, Gate
from shared.outbox import GRANTED, Decision
from shared.policy.kinds import COMEBACK, Path
from shared.policy.window import QuietHours
from shared.producer import Record
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.sends import Result

Answers = npt.NDArray[np.int64]

# One numbering for all that a candidate may be told: the gate's answers, our own reasons, then what past its window is.
_OWN = len(Claim)
_EXPIRED = _OWN + len(REASONS)
_NAMES = [claim.reason if claim.denied else GRANTED for claim in Claim] + list(REASONS) + [GRANTED]
_ENDINGS = [(Result.denied, name) for name in _NAMES[:_EXPIRED]] + [(Result.expired, "expired")]
_DENIED = np.array([claim.denied for claim in Claim] + [True] * len(REASONS) + [False])
_COUNTED = list(dict.fromkeys(_NAMES))
_COUNTED_AS = np.array([_COUNTED.index(name) for name in _NAMES])


class Decided(NamedTuple):
    """What some users were told. Its messages are made once; a pause is no answer."""

    decisions: dict[Decision, list[int]]
    messages: list[Record]
    counts: dict[int, Counter[tuple[str, str]]]
    """Shard -> (local date, "granted" or the reason of a denial) -> candidates."""
    paused: Rows


@dataclass(frozen=True, slots=True)
class Told:
    """A page's users and the answer of each, as numbers of `_NAMES`."""

    rows: Rows
    slots: Ints
    shards: Ints
    due: Ints
    expires: Ints
    answers: Answers
    now: float


class Desk:
    """Decides the pages of one plan."""

    def __init__(self, slots: Sequence[Slot], gate: Gate, settings: Settings, clock: Clock) -> None:
        self._gate = gate
        self._clock = clock
        self._moments = Moments(slots, QuietHours.of(settings))
        self._messages = Messages(slots, Topics.of(settings), settings.send_batch)
        self._days = sorted({slot.local_date for slot in slots})
        self._day_of = np.array([self._days.index(slot.local_date) for slot in slots], np.int64)

    async def ask(self, rows: Rows, slots: Ints, shards: Ints) -> Told:
        """Turn down whom we can, and ask the gate for all others; what is past its window is claimed too."""
        now = self._clock.now()
        due = self._moments.due(slots, rows.user_ids)
        expires = self._moments.expires(slots, due)
        reachable = (lengths(rows.targets) > 0) | (lengths(rows.emails) > 0)
        reasons = turned_down(Candidates(rows.user_ids, rows.opted_out.astype(np.int16), reachable))
        answers = reasons.astype(np.int64) + _OWN
        asked = np.flatnonzero(reasons == 0)
        days = self._day_of[slots[asked]]

        async def claim(day: int) -> None:
            mine = asked[days == day]
            found = await self._gate.claim(Path.batch, COMEBACK.name, self._days[day], rows.user_ids[mine].tolist())
            answers[mine] = found

        await asyncio.gather(*(claim(day) for day in np.unique(days).tolist()))
        return Told(rows, slots, shards, due, expires, answers, now)

    def decide(self, told: Told) -> Decided:
        """What the answers come to. Past its window a send is expired, whatever the gate would say after a pause."""
        answers, late = told.answers, told.now >= told.expires
        claimed = (answers == Claim.granted) | (answers == Claim.granted_again)
        paused = (answers == Claim.paused) & ~late
        answers = np.where(late & (claimed | (answers == Claim.paused)), _EXPIRED, answers)
        done = np.flatnonzero(~paused)
        sent = np.flatnonzero(claimed & ~late)
        ended = np.flatnonzero(~paused & (_DENIED[answers] | (answers == _EXPIRED)))
        messages = [
            *self._messages.sends(told.rows.take(sent), told.slots[sent], told.due[sent], told.expires[sent], told.now),
            *self._messages.outcomes(
                told.rows.user_ids[ended], told.slots[ended], told.due[ended], _ENDINGS, answers[ended], told.now
            ),
        ]
        days, names = self._day_of[told.slots[done]], _COUNTED_AS[answers[done]]
        return Decided(
            self._decisions(told.rows.user_ids[done], days, names),
            messages,
            self._counts(told.shards[done], days, names),
            told.rows.take(np.flatnonzero(paused)),
        )

    def _decisions(self, user_ids: Ints, days: Ints, names: Ints) -> dict[Decision, list[int]]:
        codes = days * len(_COUNTED) + names
        return {self._decision(code): user_ids[codes == code].tolist() for code in np.unique(codes).tolist()}

    def _decision(self, code: int) -> Decision:
        day, name = divmod(code, len(_COUNTED))
        return Decision(self._days[day], COMEBACK.name, "", _COUNTED[name])

    def _counts(self, shards: Ints, days: Ints, names: Ints) -> dict[int, Counter[tuple[str, str]]]:
        kinds = len(self._days) * len(_COUNTED)
        codes, numbers = np.unique(shards * kinds + days * len(_COUNTED) + names, return_counts=True)
        found: dict[int, Counter[tuple[str, str]]] = {}
        for code, n in zip(codes.tolist(), numbers.tolist(), strict=True):
            shard, rest = divmod(code, kinds)
            decision = self._decision(rest)
            found.setdefault(shard, Counter())[decision.local_date.isoformat(), decision.answer] = n
        return found
