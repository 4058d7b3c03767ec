"""Every fault, at every provider: nothing is lost, nobody is shown a send twice, and no more is retried than has to be.

The deliverer with its real gate, turnstile and HTTP/2 engine, against the simulator over TLS; only time is turned.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from infra.simulator.engine_settings import engine_settings
from infra.simulator.process import SimulatorProcess
from shared.clock import FileClock
from shared.gate import RedisGate, open_fresh
from shared.keyspace import open_keyspace
from shared.patience import Patience
from shared.policy.kinds import Path as SendPath
from shared.routes import Routes
from shared.settings import Settings
from shared.templates import Catalogue
from shared.wire.sends import Outcome, Result, RetiredToken, Send, SendBatch, Target
from stream.delivery import Deliverer, Http2Engine, open_providers
from stream.delivery.apns import ROWS as APNS_ROWS
from stream.delivery.errors import Action, Row, snake
from stream.delivery.fcm import ROWS as FCM_ROWS
from stream.delivery.pauses import Pauses
from stream.delivery.turnstile.redis import RedisTurnstile
from tests.conftest import NOON
from tests.integration.support import DAY, TODAY
from tests.integration.valkeys import Valkey, running, settings_for

Provider = Literal["apns", "fcm"]
SENDS = 30
HIT = 3
"""Requests that a fault with a limit hits: too few for the breaker, which wants twenty answers."""
PROBES = 10
PATIENCE = 200
"""Rounds of delivery at most."""

pytestmark = pytest.mark.timeout(180)
_users = count(1)


class Found(NamedTuple):
    """What became of the sends of a test."""

    outcomes: list[Outcome]
    retired: list[RetiredToken]
    stats: dict[str, Any]
    hits: int
    """Requests that met the fault."""

    @property
    def reasons(self) -> Counter[str]:
        return Counter(outcome.reason for outcome in self.outcomes)

    @property
    def providers(self) -> Counter[str]:
        return Counter(outcome.provider for outcome in self.outcomes if outcome.result is Result.delivered)


class World:
    """A deliverer with all that belongs to it, and the simulator."""

    def __init__(self, simulator: SimulatorProcess, settings: Settings, clock: FileClock, engine: Http2Engine) -> None:
        self.simulator = simulator
        self.clock = clock
        self.keyspace = open_keyspace(settings)
        self.gate = RedisGate(self.keyspace, settings)
        patience = Patience(self.sleep)
        self.deliverer = Deliverer(
            clock,
            self.gate,
            Pauses(self.gate, patience),
            engine,
            open_providers(settings, clock),
            Routes.of(settings),
            Catalogue.load(),
            patience,
            turnstile=RedisTurnstile(self.keyspace, settings, clock),
        )

    async def sleep(self, seconds: float) -> None:
        self.clock.set(self.clock.now() + seconds)
        await asyncio.sleep(0)

    async def deliver(self, *rules: dict[str, Any], targets: list[Target], rest: float = 30.0) -> Found:
        """Claim a send for each device and deliver it under these faults, as often as it is parked, with a `rest` of so
        many seconds of the engine's time before."""
        self.simulator.set_faults(*rules)
        now = self.clock.now()
        users = [next(_users) for _ in targets]
        await self.gate.claim(SendPath.batch, "comeback", TODAY, users)
        waiting = SendBatch(
            SendPath.batch,
            now,
            tuple(
                Send(user, "comeback", TODAY, now, now + 2 * DAY, "Europe/Lisbon", "en", 0, 7, (target,))
                for user, target in zip(users, targets, strict=True)
            ),
        )
        outcomes: list[Outcome] = []
        retired: list[RetiredToken] = []
        for _ in range(PATIENCE):
            answered, waiting = await self.deliverer.deliver(waiting)
            outcomes += answered.outcomes
            retired += answered.retired
            if not waiting.sends:
                break
            await self.sleep(rest)
        hits = sum(int(rule["hits"]) for rule in self.simulator.faults())
        found = Found(outcomes, retired, self.simulator.stats(), hits)
        # Nothing is lost: every send has its one outcome. Nobody is shown one twice: what was repeated has the same
        # collapse id, which the witness checks.
        assert sorted(outcome.user_id for outcome in outcomes) == users
        assert found.stats["shown_twice"] == found.stats["repeated_calls"]
        assert not found.stats["outside_window"]
        assert found.stats["distinct_sends"] >= found.providers.total()
        return found


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matrix")


@pytest.fixture(scope="module")
def clock(state: Path) -> FileClock:
    return FileClock.create(state / "clock", NOON)


@pytest.fixture(scope="module")
def server(state: Path) -> Iterator[Valkey]:
    server = Valkey(state / "valkey")
    with running(server):
        yield server


@pytest.fixture(scope="module")
def simulator(state: Path, clock: FileClock) -> Iterator[SimulatorProcess]:
    # Where neither noon nor midnight UTC is in the quiet hours: a quota begins anew at midnight.
    devices = state / "devices.csv"
    with devices.open("w") as file:
        file.write("token,time_zone,device\n")
        for n in range(SENDS):
            device = iphone(n)
            file.writelines(f"{token},America/St_Johns,{n}\n" for token in (device.token, device.fcm_token))
    environment = {"SURNIA_CLOCK_FILE": str(state / "clock")}
    with SimulatorProcess(state, environment=environment, devices=devices) as simulator:
        yield simulator


@pytest.fixture
async def world(simulator: SimulatorProcess, server: Valkey, state: Path, clock: FileClock) -> AsyncIterator[World]:
    simulator.set_faults()
    simulator.reset()
    server("FLUSHALL")
    clock.set(NOON)
    options = {
        name.removeprefix("SURNIA_").lower(): value for name, value in engine_settings(state, simulator.url).items()
    }
    settings = settings_for(server.url, clock_file=state / "clock", push_timeout_seconds=1.0, **options)
    await open_fresh(settings)
    with closing(Http2Engine(settings)) as engine:
        world = World(simulator, settings, clock, engine)
        yield world
        await world.keyspace.close()


def iphone(n: int) -> Target:
    """With a token of FCM, too."""
    return Target(f"i{n}", "ios", f"{n:064x}", f"spare-token-{n:08d}")


def devices_of(provider: Provider) -> list[Target]:
    """Devices that only this provider reaches."""
    if provider == "apns":
        return [Target(f"i{n}", "ios", f"{n:064x}") for n in range(SENDS)]
    return [Target(f"a{n}", "android", f"android-token-{n:08d}") for n in range(SENDS)]


def rows() -> Iterator[Any]:
    for provider, table in (("apns", APNS_ROWS), ("fcm", FCM_ROWS)):
        for row in table:
            # Google's name of the status that QUOTA_EXCEEDED comes with.
            if row.code != "RESOURCE_EXHAUSTED":
                yield pytest.param(provider, row, id=f"{provider}-{row.code}")


@pytest.mark.parametrize(("provider", "row"), list(rows()))
async def test_each_documented_refusal(world: World, provider: Provider, row: Row) -> None:
    found = await world.deliver({"provider": provider, "reason": row.code, "limit": HIT}, targets=devices_of(provider))
    reason = f"{provider}_{row.status}_{snake(row.code)}"
    again = row.action in (Action.retry, Action.remint)
    assert found.stats["rejected"] == {row.code: HIT}
    assert found.stats["repeated_calls"] == 0
    # What can help is tried once more for each refusal; what can't is not.
    assert found.stats["accepted"] == (SENDS if again else SENDS - HIT)
    refused = {} if again else {"unregistered" if row.action is Action.retire else reason: HIT}
    assert found.reasons == {"accepted": found.stats["accepted"]} | refused
    assert [token.reason for token in found.retired] == ([reason] * HIT if row.action is Action.retire else [])


BEFORE: list[dict[str, Any]] = [
    {"fault": "reset", "when": "before"},
    {"fault": "goaway", "when": "before"},
    {"fault": "goaway", "when": "before", "code": 2, "reason": "Shutdown"},
]
"""The provider says that nothing was accepted, or all that was in flight is answered."""
AMBIGUOUS: list[dict[str, Any]] = [
    {"fault": "reset", "when": "before", "code": 2},
    {"fault": "reset", "when": "after"},
    {"fault": "drop", "when": "before"},
    {"fault": "drop", "when": "after"},
    {"fault": "drop", "when": "after", "tcp": "close"},
    {"fault": "goaway", "when": "before", "in_flight": "drop"},
    {"fault": "goaway", "when": "after", "in_flight": "drop"},
    {"fault": "stall", "when": "before"},
    {"fault": "stall", "when": "after"},
    {"fault": "stall", "when": "after", "scope": "connection"},
    {"fault": "stall", "when": "after", "seconds": 2},
]
CONNECTIONS: list[dict[str, Any]] = [
    {"fault": "max_streams", "streams": 1},
    {"fault": "max_streams", "streams": 2, "after": 5},
    {"fault": "one_stream_until_authorised"},
    {"fault": "one_stream_until_authorised", "strict": True},
]


def named(rule: dict[str, Any]) -> str:
    return "-".join(str(value) for value in rule.values())


@pytest.mark.parametrize("provider", ["apns", "fcm"])
@pytest.mark.parametrize("transport", [*BEFORE, *AMBIGUOUS], ids=named)
async def test_each_fault_of_a_request(world: World, provider: Provider, transport: dict[str, Any]) -> None:
    found = await world.deliver(
        {"provider": provider, "transport": transport, "limit": HIT}, targets=devices_of(provider)
    )
    assert found.reasons == {"accepted": SENDS}
    assert found.hits == HIT
    assert found.stats["distinct_devices"] == SENDS
    if transport in BEFORE:
        assert found.stats["accepted"] == SENDS
    # With a connection all that is under way on it is in doubt, and is pushed again.
    assert found.stats["accepted"] - found.stats["repeated_calls"] == SENDS


@pytest.mark.parametrize("provider", ["apns", "fcm"])
@pytest.mark.parametrize("transport", CONNECTIONS, ids=named)
async def test_each_fault_of_a_connection(world: World, provider: Provider, transport: dict[str, Any]) -> None:
    found = await world.deliver({"transport": transport}, targets=devices_of(provider))
    assert found.reasons == {"accepted": SENDS}
    assert found.stats["accepted"] == SENDS


@pytest.mark.parametrize("provider", ["apns", "fcm"])
@pytest.mark.parametrize("how", ["refused", "stranger"])
async def test_handshakes_that_fail(world: World, provider: Provider, how: str) -> None:
    found = await world.deliver({"transport": {"fault": "tls", "how": how}, "limit": 4}, targets=devices_of(provider))
    assert found.reasons == {"accepted": SENDS}
    assert found.stats["accepted"] == SENDS
    assert found.stats["transport"]["handshakes_failed"] >= 1


@pytest.mark.parametrize(("provider", "reason"), [("apns", "TooManyRequests"), ("fcm", "QUOTA_EXCEEDED")])
@pytest.mark.parametrize("retry_after", [None, 7])
async def test_429_with_and_without_retry_after(
    world: World, provider: Provider, reason: str, retry_after: int | None
) -> None:
    began = world.clock.now()
    rule = {"provider": provider, "reason": reason, "limit": HIT, "retry_after": retry_after}
    found = await world.deliver(rule, targets=devices_of(provider))
    assert found.reasons == {"accepted": SENDS}
    assert (found.hits, found.stats["accepted"]) == (HIT, SENDS)
    assert world.clock.now() - began >= (retry_after or 0)


@pytest.mark.parametrize(("provider", "reason"), [("apns", "TooManyRequests"), ("fcm", "QUOTA_EXCEEDED")])
async def test_a_days_quota(world: World, provider: Provider, reason: str) -> None:
    rule = {"provider": provider, "reason": reason, "free_a_day": 20}
    found = await world.deliver(rule, targets=devices_of(provider), rest=600.0)
    assert found.reasons == {"accepted": SENDS}
    assert found.stats["accepted"] == SENDS
    # The rest went on the next day.
    assert world.clock.now() >= NOON + DAY / 2
    # Ten probes an hour asked for it.
    assert found.hits <= SENDS + 12 * PROBES


@pytest.mark.parametrize("provider", ["apns", "fcm"])
async def test_slow_answers(world: World, provider: Provider) -> None:
    rule = {"provider": provider, "latency_ms": {"shape": "lognormal", "p50": 20, "p99": 300}}
    found = await world.deliver(rule, targets=devices_of(provider))
    assert found.reasons == {"accepted": SENDS}
    assert found.stats["accepted"] == SENDS + found.stats["repeated_calls"]


@pytest.mark.parametrize("reason", ["internal_failure", "temporarily_unavailable"])
async def test_a_token_address_in_trouble_delays_fcm(world: World, reason: str) -> None:
    found = await world.deliver({"provider": "oauth", "reason": reason, "limit": 2}, targets=devices_of("fcm"))
    assert found.reasons == {"accepted": SENDS}
    assert found.stats["accepted"] == SENDS


@pytest.mark.parametrize("reason", [row.code for row in APNS_ROWS if row.action in (Action.retry, Action.stop)])
async def test_with_apns_refusing_all_iphones_are_reached_by_fcm(world: World, reason: str) -> None:
    found = await world.deliver({"provider": "apns", "reason": reason}, targets=[iphone(n) for n in range(SENDS)])
    assert found.providers == {"fcm": SENDS}
    assert found.stats["accepted"] == SENDS


@pytest.mark.parametrize("transport", [*BEFORE, *AMBIGUOUS], ids=named)
async def test_with_apns_broken_iphones_are_reached_by_fcm_and_show_it_once(
    world: World, transport: dict[str, Any]
) -> None:
    found = await world.deliver({"provider": "apns", "transport": transport}, targets=[iphone(n) for n in range(SENDS)])
    assert found.providers == {"fcm": SENDS}
    assert found.stats["by_provider"]["fcm"] == SENDS
    assert found.stats["accepted"] - found.stats["repeated_calls"] == SENDS
