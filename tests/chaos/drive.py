"""One seed: the clock is turned, users do what they do, hours are scanned, faults strike, and then all is counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from random import Random

import psycopg
from confluent_kafka import KafkaException
from redis.exceptions import RedisError

from shared.clock import utc
from tests.chaos import checks, scans
from tests.chaos.faults import Fault, deal
from tests.chaos.flow import Flow
from tests.chaos.load import DAY, MINUTE, SCANNED, SCANS, STEPS, make
from tests.chaos.world import DEADLINE, Care, World, wait_for

STEP_SECONDS = 1.0
"""Real seconds that a step of the clock lasts."""
FALLS = 8
"""Workers that end by themselves in one seed: more than a few faults explain, and something else is wrong."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    seed: int
    faults: str
    count: dict[str, int]
    """`checks.Count`."""
    seconds: float
    problems: list[str]


def run(world: World, flow: Flow, seed: int) -> Row:
    """Run a seed in a world that stands; what it came to."""
    began = time.monotonic()
    run = _Run(world, flow, seed)
    try:
        run.turn_the_clock()
        run.settle()
        count, problems = checks.check(world, run.evidence)
        world.say(f"{len(problems)} problems")
    finally:
        run.close()
    names = ", ".join(fault.name for fault in run.evidence.faults)
    return Row(seed, f"{names} ({world.care})", asdict(count), time.monotonic() - began, problems)


class _Run:
    def __init__(self, world: World, flow: Flow, seed: int) -> None:
        self._world = world
        self._flow = flow
        self._seed = seed
        self._rng = Random(f"run:{seed}")
        self._threads = ThreadPoolExecutor(16, thread_name_prefix="chaos")
        self._going: list[Future[None]] = []
        self.evidence = checks.Evidence(make(seed), deal(seed), world.journal.stat().st_size)

    def turn_the_clock(self) -> None:
        world, load = self._world, self.evidence.load
        world.paused.clear()
        world.turned.clear()
        world.workers.fallen.clear()
        world.turn(load.start - MINUTE, settled=True)
        # For some seeds in a row: workers read their settings at their start, and starting takes its time.
        world.begin(list(Care)[self._seed // 4 % len(Care)])
        world.say(f"seed {self._seed}: {len(load.users)} users, {[fault.name for fault in self.evidence.faults]}")
        with world.database() as connection:
            load.insert(connection)
        # What happened before is known before the clock is turned: a world that has just been started needs a moment.
        world.say(f"{self._flow.produce(load, 0)} events of before")
        wait_for(lambda: self._flow.unread_events() == 0, "the stream worker to know what happened before")
        moments = {fault: self._rng.uniform(1, STEPS - 2) for fault in self.evidence.faults if fault.strike}
        for step in range(1, STEPS + 1):
            end = time.monotonic() + STEP_SECONDS
            world.turn(load.at(step))
            world.say(f"step {step}: {self._flow.produce(load, step)} events")
            for fault, moment in moments.items():
                if step == int(moment):
                    self._going.append(self._threads.submit(self._strike, fault, moment % 1 * STEP_SECONDS))
            self._scan_what_is_over(step)
            self._look(step)
            self._mind_workers()
            time.sleep(max(0.0, end - time.monotonic()))

    def settle(self) -> None:
        """Let faults and scans come to their end, and then everything that is due, today's and the next days'."""
        world = self._world

        def ended() -> bool:
            self._mind_workers()
            return all(going.done() for going in self._going)

        wait_for(ended, "faults and scans to end", 2 * DEADLINE)
        for going in self._going:
            going.result()
        world.workers.only_one_each()
        world.say("faults and scans are over")
        self._until_nothing_is_in_flight()
        world.say("nothing is in flight")
        # What is still to come of this seed's users comes now, and all of it too late.
        world.turn(self.evidence.load.start + 2.5 * DAY, settled=True)
        self._until_nothing_is_in_flight()
        world.say("nothing is left")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        users = [user.id for user in self.evidence.load.users]
        with self._world.database() as connection:
            connection.execute("DELETE FROM users WHERE id = ANY(%s)", (users,))

    def _strike(self, fault: Fault, wait: float) -> None:
        assert fault.strike
        time.sleep(wait)
        self._world.say(f"{fault.name}: strikes")
        fault.strike(self._world, Random(f"strike:{self._seed}:{fault.name}"))
        self._world.say(f"{fault.name}: over")

    def _scan_what_is_over(self, step: int) -> None:
        """When an interval is over it is scanned, beside everything else; the faults say how."""
        number, rest = divmod(step, SCANNED)
        if rest or not 1 <= number <= SCANS:
            return
        ways = [fault.scan for fault in self.evidence.faults if fault.scan]
        scan = ways[number - 1] if number <= len(ways) else scans.once
        start, end = (utc(self.evidence.load.at(moment)) for moment in (step - SCANNED, step))
        rng = Random(f"scan:{self._seed}:{number}")
        self._going.append(self._threads.submit(scan, self._world, start, end, rng))

    def _look(self, step: int) -> None:
        """Note which practices the stream workers are through with."""
        if self._flow.unread_events() == 0:
            for practice in self.evidence.load.practices:
                if practice.step <= step:
                    self.evidence.known.setdefault(practice, time.monotonic())

    def _mind_workers(self) -> None:
        for name in self._world.workers.mind():
            self._world.say(f"{name} had ended by itself and was started again")
        fallen = self._world.workers.fallen
        assert len(fallen) <= FALLS, f"workers do not stay up: {', '.join(fallen)}"

    def _until_nothing_is_in_flight(self) -> None:
        until_nothing_is_in_flight(self._flow, self._mind_workers)


def until_nothing_is_in_flight(flow: Flow, mind: Callable[[], None]) -> None:
    """Wait for it; `mind` is called meanwhile, to start again what has ended."""
    last: dict[str, int] | str = "nothing was asked yet"
    calm = 0

    def settled() -> bool:
        nonlocal last, calm
        mind()
        try:
            last = flow.in_flight()
        except (KafkaException, RedisError, psycopg.Error) as error:
            last = str(error)
        # Twice, since parked sends go back to the lane they came from.
        calm = 0 if last else calm + 1
        return calm == 2

    try:
        wait_for(settled, "all of it to settle")
    except AssertionError as error:
        raise AssertionError(f"{error}: {last}") from None
