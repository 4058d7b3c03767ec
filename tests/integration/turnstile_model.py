"""The turnstile in plain Python: what the script on the server has to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from stream.delivery.turnstile.contract import Answers, Grant, State

PROBES = 10


@dataclass
class Model:
    """One provider's. Times are the turnstile's own."""

    rate: float
    lost: float
    state: State = State.closed
    forced: State | None = None
    turn: int = 0
    since: float = 0.0
    until: float = 0.0
    opens: int = 0
    heard: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Second, turn, good, bad."""
    probes: int = 0
    probed: float = 0.0
    good: int = 0
    bad: int = 0
    tokens: float | None = None
    filled: float = 0.0
    used: float | None = None
    ramp: float = 0.0
    hungry: float | None = None

    def ask(self, t: float, urgent: bool, n: int, random: float, answers: Sequence[Answers]) -> Grant:
        if self.state is State.open and t >= self.until:
            self.become(State.half_open, t)
            self.probes = self.good = self.bad = 0
        if not self.forced:
            for each in answers:
                self.hear(t, each, random)
        n_granted, room, wait = self.grant(t, urgent, n)
        if n_granted:
            self.used = t
        return Grant(n_granted, self.forced or self.state, self.turn, room, wait)

    def force(self, state: State) -> None:
        self.forced, self.state = state, State.closed
        self.turn += 1

    def hear(self, t: float, answers: Answers, random: float) -> None:
        if answers.turn == self.turn and self.state is State.closed:
            second = math.floor(t)
            self.heard.append((second, self.turn, answers.good, answers.bad))
            lately = [(good, bad) for at, turn, good, bad in self.heard if at > second - 10 and turn == self.turn]
            good, bad = sum(good for good, _ in lately), sum(bad for _, bad in lately)
            if good + bad >= 20 and bad / (good + bad) >= 0.5:
                self.trip(t, random)
        elif answers.turn == self.turn and self.state is State.half_open:
            self.probes = max(0, self.probes - answers.good - answers.bad)
            self.good += answers.good
            self.bad += answers.bad
            if self.bad >= PROBES / 2:
                self.trip(t, random)
            elif self.good >= PROBES:
                self.become(State.closed, t)
                self.ramp = t
        if answers.block and self.state is State.open:
            self.until = max(self.until, t + answers.block)
        elif answers.block:
            self.become(State.open, t)
            self.until = t + answers.block

    def grant(self, t: float, urgent: bool, n: int) -> tuple[int, int, float]:
        state = self.forced or self.state
        if state is State.open:
            return 0, 0, 1.0 if self.forced else self.until - t
        if state is State.half_open:
            if self.probes and t - self.probed >= self.lost:
                self.probes = 0
            granted = min(n, PROBES - self.probes)
            if granted:
                self.probes += granted
                self.probed = t
            return granted, PROBES - self.probes, float(granted < n)
        if not self.rate:
            return n, 0, 0.0
        if n and (self.used is None or t - self.used >= 60):
            self.ramp = t
        now = max(self.rate * min(1.0, 0.01 + 0.99 * (t - self.ramp) / 60), min(self.rate, 1.0))
        size = max(now, 2.0)
        tokens = size if self.tokens is None else min(size, self.tokens + now * (t - self.filled))
        crowded = self.hungry is not None and t - self.hungry < 2
        reserve = 0.0 if urgent else min(size - 1, (0.8 if crowded else 0.2) * size)
        granted = max(0, min(n, math.floor(tokens - reserve + 1e-9)))
        self.tokens, self.filled = tokens - granted, t
        if granted == n:
            return granted, 0, 0.0
        if urgent:
            self.hungry = t
        more = min(n - granted, math.floor(size - reserve))
        return granted, 0, max(0.0, (more + reserve - self.tokens) / now)

    def trip(self, t: float, random: float) -> None:
        if self.state is State.closed and t - self.since >= 60:
            self.opens = 0
        self.become(State.open, t)
        self.until = t + random * min(60, 5 * 2**self.opens)
        self.opens += 1

    def become(self, state: State, t: float) -> None:
        self.state, self.since = state, t
        self.turn += 1
