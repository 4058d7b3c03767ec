"""What breaks. Each fault strikes at a moment that the seed chooses and ends with everything as it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, count, islice
from random import Random

from redis import Redis

from tests.chaos import scans
from tests.chaos.world import Care, World, wait_for

MOST = 3
"""Faults of one seed."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong: it strikes while the clock is turned, or it is a way to scan the hours."""

    name: str
    strike: Callable[[World, Random], None] | None = None
    scan: scans.Scan | None = None
    repeats: bool = False
    """It can come between a provider's answer and our settle: the one window in which a provider is called again."""
    empties: bool = False
    """The due index goes with it: reminders that it alone knew of never become candidates."""
    stale: float = 3.0
    """Real seconds by which a push may come after the engine's last look at clock and gate."""


def kill_stream(world: World, rng: Random) -> None:
    _kill_and_start(world, rng, "stream")


def kill_ledger(world: World, rng: Random) -> None:
    _kill_and_start(world, rng, "ledger")


def kill_delivery(world: World, rng: Random) -> None:
    """In the middle of a batch: when the provider is seen receiving."""
    _until_receiving(world)
    time.sleep(rng.uniform(0, 0.1))
    _kill_and_start(world, rng, "delivery")


def fight_over_stream(world: World, rng: Random) -> None:
    _fight(world, rng, "stream")


def fight_over_delivery(world: World, rng: Random) -> None:
    _fight(world, rng, "delivery")


def kill_valkey(world: World, rng: Random) -> None:
    """It comes back with its data; but nobody can know that unless its settings promise it."""
    world.kill_server("valkey")
    time.sleep(rng.uniform(0, 3))
    world.start_server("valkey")
    if world.care is not Care.durable:
        _reopen(world, rng)


def flush_valkey(world: World, rng: Random) -> None:
    with Redis.from_url(world.addresses["redis_url"]) as redis:
        redis.flushall()
    _reopen(world, rng)
    world.until_done("due", "rebuild")


def wipe_valkey(world: World, rng: Random) -> None:
    world.kill_server("valkey")
    time.sleep(rng.uniform(0, 3))
    world.start_server("valkey", empty=True)
    _reopen(world, rng)
    world.until_done("due", "rebuild")


def kill_postgres(world: World, rng: Random) -> None:
    world.kill_server("postgres")
    time.sleep(rng.uniform(0, 3))
    world.start_server("postgres")


def kill_kafka(world: World, rng: Random) -> None:
    world.kill_server("kafka")
    time.sleep(rng.uniform(0, 2))
    world.start_server("kafka")


def kill_simulator(world: World, rng: Random) -> None:
    _until_receiving(world)
    world.kill_simulator()
    time.sleep(rng.uniform(0, 2))
    world.start_simulator()


def refuse_at_apns(world: World, rng: Random) -> None:
    """Long enough for the breaker: iPhones with a token of FCM are reached by that, the others wait."""
    world.break_providers({"provider": "apns", "reason": "ServiceUnavailable"}, seconds=rng.uniform(3, 10))


def lose_answers(world: World, rng: Random) -> None:
    """A provider accepts, and every second answer never comes."""
    _until_receiving(world)
    rule = {"provider": rng.choice(("apns", "fcm")), "transport": {"fault": "reset", "when": "after"}}
    world.break_providers(rule | {"probability": 0.5, "seed": rng.randrange(1000)}, seconds=rng.uniform(2, 8))


def cut_stream(world: World, rng: Random) -> None:
    _disturb(world, rng, "stream", freeze=False)


def cut_delivery(world: World, rng: Random) -> None:
    _until_receiving(world)
    _disturb(world, rng, "delivery", freeze=False)


def freeze_stream(world: World, rng: Random) -> None:
    _disturb(world, rng, "stream", freeze=True)


def freeze_delivery(world: World, rng: Random) -> None:
    _until_receiving(world)
    _disturb(world, rng, "delivery", freeze=True)


def pause_a_kind(world: World, rng: Random) -> None:
    kind = rng.choice(("practice", "streak_saver", "abandoned_lesson", "comeback"))
    world.until_done("pause", "--kind", kind, "--reason", "chaos")
    since = time.monotonic()
    time.sleep(rng.uniform(2, 8))
    world.paused.append((kind, since, time.monotonic()))
    world.until_done("resume", "--kind", kind, "--reason", "chaos")


FAULTS = (
    Fault("stream worker killed", kill_stream),
    Fault("delivery worker killed", kill_delivery, repeats=True),
    Fault("ledger worker killed", kill_ledger),
    Fault("two stream workers", fight_over_stream),
    Fault("two delivery workers", fight_over_delivery, repeats=True),
    Fault("Airflow task killed", scan=scans.by_airflow_killed),
    Fault("scan killed", scan=scans.killed_and_rerun),
    Fault("scan twice at once", scan=scans.twice_at_once),
    Fault("scans overlap", scan=scans.overlapping),
    Fault("Valkey killed", kill_valkey, repeats=True),
    Fault("Valkey flushed", flush_valkey, repeats=True, empties=True),
    Fault("Valkey wiped", wipe_valkey, repeats=True, empties=True),
    Fault("PostgreSQL killed", kill_postgres),
    Fault("Kafka killed", kill_kafka, repeats=True),
    Fault("simulator killed", kill_simulator, repeats=True, stale=15.0),
    Fault("APNs refuses all", refuse_at_apns),
    Fault("answers lost", lose_answers, repeats=True),
    Fault("stream–Redis cut", cut_stream),
    Fault("delivery–Redis cut", cut_delivery, repeats=True),
    Fault("stream–Redis frozen", freeze_stream),
    Fault("delivery–Redis frozen", freeze_delivery, repeats=True, stale=12.0),
    Fault("kind paused", pause_a_kind),
)


def deal(seed: int) -> list[Fault]:
    """One to three faults, from shuffled decks laid end to end: in many seeds each comes up equally often."""
    before = sum(_hand(earlier) for earlier in range(seed))
    cards = list(islice(_decks(), before, before + _hand(seed)))
    return list(dict.fromkeys(cards))  # A hand that reaches into the next deck may hold a card twice.


def _hand(seed: int) -> int:
    return 1 + seed % MOST


def _decks() -> Iterator[Fault]:
    return chain.from_iterable(Random(f"deck:{n}").sample(FAULTS, len(FAULTS)) for n in count())


def _kill_and_start(world: World, rng: Random, name: str) -> None:
    world.workers.kill(name)
    time.sleep(rng.uniform(0, 2))
    world.workers.start(name)


def _fight(world: World, rng: Random, role: str) -> None:
    """A second worker joins; then one of the two is killed and comes back while the group still sorts itself."""
    names = [role, f"{role}-2"]
    world.workers.start(names[1])
    for _ in range(rng.randint(1, 2)):
        time.sleep(rng.uniform(1, 5))
        _kill_and_start(world, rng, rng.choice(names))


def _disturb(world: World, rng: Random, worker: str, *, freeze: bool) -> None:
    proxy = world.workers.proxy(worker)
    (proxy.freeze if freeze else proxy.cut)()
    time.sleep(rng.uniform(0.5, 6))
    proxy.mend()


def _until_receiving(world: World) -> None:
    """Until the provider accepts a push; nobody knows how many are to come, so not for long."""
    before, end = _accepted(world), time.monotonic() + 8
    wait_for(lambda: _accepted(world) != before or time.monotonic() > end, "a push")


def _accepted(world: World) -> int:
    return world.journal.stat().st_size


def _reopen(world: World, rng: Random) -> None:
    """What whoever is on call does about a closed gate, where workers do not do it by themselves."""
    if world.care is not Care.by_itself:
        time.sleep(rng.uniform(0, 2))
        world.until_done("gate", "rebuild")
