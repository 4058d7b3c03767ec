"""The turnstile's script on a real server against a model of it, under whatever order of calls comes up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shared.keyspace import open_keyspace
from shared.policy.kinds import Lane
from stream.delivery.turnstile.contract import Answers, Grant, State
from stream.delivery.turnstile.redis import RedisTurnstile
from tests.integration.machines import run_machine
from tests.integration.turnstile_model import PROBES, Model
from tests.integration.valkeys import Valkey, settings_for

T = TypeVar("T")

EXAMPLES = 150
START = 1_795_262_400.0

lanes = st.sampled_from(list(Lane))
counts = st.sampled_from([0, 1, 3, 10, 25, 500]) | st.integers(0, 20_000)
some = st.integers(0, 30)
blocks = st.just(0.0) | st.just(0.0) | st.sampled_from([0.5, 7.0, 100.0])
randoms = st.sampled_from([0.0, 0.5, 0.999])


class Machine(RuleBasedStateMachine):
    """Workers, a provider that has its moods, a person on call and two clocks."""

    url: str
    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.instant = START
        self.random = 0.0
        self.turn = 0
        self.told = 0.0
        """The turnstile's time after the last question, which began at `looked` by the machine's."""
        self.looked = 0.0
        self.turned = 0.0
        """By how much the engine's clock went forward since."""
        self.granted: list[tuple[float, int]] = []
        """By the pacer: when, how many."""

    @initialize(rate=st.sampled_from([0.0, 0.5, 14.0, 10_000.0]))
    def start(self, rate: float) -> None:
        self.client.flushall()
        settings = settings_for(self.url, fcm_per_second=rate, clock_file=Path("turned by this test"))
        self.turnstile = RedisTurnstile(open_keyspace(settings), settings, self, lambda: self.random)
        self.model = Model(rate, settings.push_timeout_seconds + 20)

    def now(self) -> float:
        return self.instant

    def teardown(self) -> None:
        if hasattr(self, "turnstile"):
            self.run(self.turnstile.close())
        self.runner.close()

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(what)

    @rule(
        lane=lanes, n=counts, turns=st.lists(st.tuples(st.booleans(), some, some, blocks), max_size=3), random=randoms
    )
    def ask(self, lane: Lane, n: int, turns: list[tuple[bool, int, int, float]], random: float) -> None:
        self.random = random
        answers = [Answers(self.turn - late, good, bad, block) for late, good, bad, block in turns]
        self.asked(lane, n, answers)

    @rule(good=st.booleans(), n=st.sampled_from([5, 10, 19, 20, 40]))
    def all_say_the_same(self, good: bool, n: int) -> None:
        self.asked(Lane.normal, 0, [Answers(self.turn, n if good else 0, 0 if good else n)])

    @rule(bad=st.sampled_from([0, 0, 4, 5, 10, None]))
    def probe(self, bad: int | None) -> None:
        """All the probes that there are, and what becomes of them; None: their worker dies."""
        n = self.asked(Lane.urgent, PROBES, []).n
        if bad is not None:
            bad = min(bad, n)
            self.asked(Lane.urgent, 0, [Answers(self.turn, n - bad, bad)])

    @rule(healthy=st.sampled_from([0.0, 61.0]), random=randoms)
    def fall_ill_and_recover(self, healthy: float, random: float) -> None:
        self.turn_the_clock(healthy)
        self.random = random
        self.asked(Lane.normal, 0, [Answers(self.turn, 0, 20)])
        self.turn_the_clock(61.0)
        self.probe(0)

    def asked(self, lane: Lane, n: int, answers: list[Answers]) -> Grant:
        began = time.monotonic()
        grant = self.run(self.turnstile.ask("fcm", lane, n, answers))
        t = self.tell(began)
        expected = self.model.ask(t, lane is Lane.urgent, n, self.random, answers)
        assert grant._replace(wait=0) == expected._replace(wait=0)
        assert grant.wait == pytest.approx(expected.wait, abs=1e-5)
        self.turn = grant.turn
        if grant.state is State.open:
            assert grant.n == 0
        if grant.state is State.closed and self.model.rate:
            self.granted.append((t, grant.n))
        return grant

    def tell(self, began: float) -> float:
        """The turnstile's time, which must have gone on as far as the clock that went further."""
        t, elapsed = float(self.run(self.turnstile.read("fcm"))["t"]), time.monotonic() - self.looked
        if self.looked:
            assert self.turned - 1e-5 <= t - self.told <= self.turned + elapsed + 1e-5
        self.told, self.looked, self.turned = t, began, 0.0
        return t

    @rule(seconds=st.sampled_from([0.01, 0.2, 1.0, 2.5, 5.0, 9.0, 10.0, 31.0, 59.0, 61.0]))
    def turn_the_clock(self, seconds: float) -> None:
        self.instant += seconds
        self.turned += seconds

    @rule(seconds=st.sampled_from([0.5, 3600.0]))
    def set_the_clock_back(self, seconds: float) -> None:
        # With the way there told, so that what is gained and lost does not cancel out unseen.
        self.asked(Lane.normal, 0, [])
        self.instant -= seconds
        self.asked(Lane.normal, 0, [])

    @rule(state=st.sampled_from([State.open, State.closed]))
    def force(self, state: State) -> None:
        self.run(self.turnstile.force("fcm", state, "ana", "to see", self.instant))
        self.model.force(state)

    @rule()
    def reset(self) -> None:
        self.run(self.turnstile.reset("fcm"))
        self.model = Model(self.model.rate, self.model.lost)
        self.turn, self.looked = 0, 0.0
        self.granted.clear()

    @invariant()
    def no_more_than_the_rate_is_granted(self) -> None:
        if not self.granted:
            return
        end, total = self.granted[-1][0], 0
        for t, n in reversed(self.granted):
            total += n
            assert total <= self.model.rate * (end - t) + max(self.model.rate, 2) + 1e-6


def test_the_turnstile_does_what_the_model_does(server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    run_machine(Machine, server, monkeypatch, EXAMPLES, 50)
