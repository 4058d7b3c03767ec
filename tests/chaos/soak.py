"""A soak: steady load for minutes on end, a stream worker struck every other minute, and then all is counted.

The clock goes as real time does. There are two stream workers: the one that is struck and its elder, which takes over
and gives back each time, and whose memory therefore tells whether something grows.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import psutil  # type: ignore[import-untyped]  # comes with Airflow, its types do not

from infra.bench.stream.topic import Writer
from tests.chaos import checks
from tests.chaos.crowd import Crowd, check_crowd, reminded
from tests.chaos.drive import until_nothing_is_in_flight
from tests.chaos.faults import Fault
from tests.chaos.flow import Flow
from tests.chaos.load import Practice
from tests.chaos.soaked import STRUCK, Sample, Soaked
from tests.chaos.world import Care, World, wait_for

EVERY_SECONDS = 120.0
"""Between two strikes."""
DOWN_SECONDS = 3.0
REMINDERS_A_SECOND = 5.0
TICK = 0.25
STALE = 5.0
"""Real seconds by which a push may come after delivery's last look at clock and gate: both cores are busy."""


class Soak:
    """One soak in a world that stands. `run` it once."""

    def __init__(self, world: World, flow: Flow, seconds: int, rate: int) -> None:
        self._world, self._flow, self._seconds, self._rate = world, flow, seconds, rate
        self._start = world.clock.now()
        self._crowd = Crowd(self._start, world.settings.partitions)
        self._load = reminded(self._start, seconds, REMINDERS_A_SECOND)
        self._evidence = checks.Evidence(self._load, [Fault("soak", stale=STALE)], world.journal.stat().st_size)
        self._samples: list[Sample] = []
        self._strikes: list[str] = []
        self._unread: list[tuple[list[int], list[Practice]]] = []
        """Practices that the stream workers may not have handled, and the ends of the partitions behind them."""
        self._written = 0
        self._over = threading.Event()

    def run(self) -> Soaked:
        world = self._world
        world.turn(self._start, settled=True)
        world.begin(Care.by_hand)
        world.workers.start(STRUCK)
        with world.database() as connection:
            self._load.insert(connection)
            self._crowd.insert(connection)
        self._flow.produce(self._load, 0)
        wait_for(lambda: self._flow.unread_events() == 0, "the stream workers to know what happened before")
        with ThreadPoolExecutor(2, thread_name_prefix="soak") as threads:
            writing = threads.submit(asyncio.run, self._write())
            try:
                self._go_on(threads, writing)
            finally:
                self._over.set()
            writing.result()
        began = time.monotonic()
        until_nothing_is_in_flight(self._flow, self._mind)
        drained = time.monotonic() - began
        self._look(self._seconds)
        count, problems = checks.check(world, self._evidence)
        problems += check_crowd(world, self._crowd, {user.id for user in self._load.users})
        return Soaked(
            self._seconds,
            self._written,
            self._strikes,
            self._samples,
            count,
            list(world.workers.fallen),
            problems,
            drained,
        )

    def _go_on(self, threads: ThreadPoolExecutor, writing: Future[None]) -> None:
        """Turn the clock, let those who are reminded practise, strike, and look, second by second."""
        began, second = time.monotonic(), 0
        # More often where the soak is so short that it would see but one.
        every = min(EVERY_SECONDS, max(self._seconds / 4, min(self._seconds / 2, 30)))
        striking: list[Future[None]] = []
        while (passed := time.monotonic() - began) < self._seconds:
            self._world.turn(round(self._start + passed, 3))
            while second < int(passed):
                second += 1
                self._practise(second)
                if second % 60 == 0:
                    self._say(second)
            self._look(passed)
            self._mind()
            if every * (len(striking) + 1) <= passed < self._seconds - every / 4:
                striking.append(threads.submit(self._strike, len(striking)))
            if writing.done():
                writing.result()
            # The pace of the load, not a wait for something.
            time.sleep(TICK)
        for strike in striking:
            strike.result()

    async def _write(self) -> None:
        """The crowd's events, a batch a tick; what a slow moment held up follows at once."""
        loop, each = asyncio.get_running_loop(), max(1, round(self._rate * TICK))
        async with Writer(self._world.settings) as writer:
            began, ticks = loop.time(), 0
            while not self._over.is_set():
                if (early := began + ticks * TICK - loop.time()) > 0:
                    await asyncio.sleep(early)
                await writer.write(self._crowd.said(each, self._world.clock.now()))
                ticks += 1
                self._written += each

    def _strike(self, number: int) -> None:
        """kill -9 and SIGTERM in turns; it comes back."""
        workers = self._world.workers
        self._strikes.append("SIGTERM" if number % 2 else "kill -9")
        self._world.say(f"{STRUCK}: {self._strikes[-1]}")
        (workers.stop if number % 2 else workers.kill)(STRUCK)
        time.sleep(DOWN_SECONDS)
        workers.start(STRUCK)

    def _practise(self, second: int) -> None:
        self._flow.produce(self._load, second)
        if mine := [practice for practice in self._load.practices if practice.step == second]:
            # Behind what was written last; they know of it when they have got so far.
            wait_for(lambda: self._flow.unread_events() is not None, "the practices to be written")
            self._unread.append((self._flow.events()[1], mine))

    def _look(self, second: float) -> None:
        if self._samples and second < self._samples[-1].second + 1 and second != self._seconds:
            return
        committed, ends = self._flow.events()
        now = time.monotonic()
        known = [each for each in self._unread if all(c >= e for c, e in zip(committed, each[0], strict=True))]
        for each in known:
            self._unread.remove(each)
            self._evidence.known |= dict.fromkeys(each[1], now)
        memory = {}
        for name, pid in self._world.workers.pids().items():
            try:
                memory[name, pid] = psutil.Process(pid).memory_info().rss / 1e6
            except psutil.NoSuchProcess:
                continue  # It has just been struck.
        self._samples.append(Sample(second, sum(ends) - sum(committed), memory))

    def _say(self, second: int) -> None:
        lately = self._samples[-60:]
        memory = ", ".join(f"{name} {mb:.0f}" for (name, _), mb in sorted(self._samples[-1].memory.items()))
        print(
            f"minute {second // 60}: {self._written:,} events ({self._written / second:,.0f}/s), "
            f"lag {lately[-1].lag:,}, at most {max(sample.lag for sample in lately):,}; memory in MB: {memory}; "
            f"struck {len(self._strikes)} times",
            flush=True,
        )

    def _mind(self) -> None:
        self._world.workers.mind()
