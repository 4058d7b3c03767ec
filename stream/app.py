"""The Faust applications, one a role, each with a consumer group of its own.

A role is what scales by itself: `stream` (activity and the due index), `delivery` (the lanes), `ledger` (outcomes).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from functools import partial
from typing import Any

import faust
import structlog
from faust.types import ConsumerT, EventT, StreamT

from shared.lag import group_of
from shared.policy.kinds import Lane
from shared.store.databases import Database
from stream import transport
from stream.activity import Activity
from stream.batches import handle_batches, records_of, single
from stream.due.fire import Firing, owned_shards
from stream.keeping.auto import LOOK_SECONDS, AutoRebuild
from stream.ledger import Ledger, handle_outcomes
from stream.runtime import Runtime
from stream.sweeper import sweep

WITHIN = 0.05
"""Seconds a message waits at most for company in its batch."""
EVENTS_WITHIN = 0.02
"""The same for events, which the gate is to hear of at once."""
EVENTS = 10_000
"""Events that are handled at once, about, where so many wait: a batch ends with the run that fills it. The more there
are, the fewer script calls an event costs: there is one a shard."""
BATCHES = 8
"""Of events, in hand, as far as the transport lets so many be: the gate hears of practice also while PostgreSQL takes
its time."""
MESSAGES = 8
"""Messages of up to 500 sends or outcomes that are handled side by side."""
GROUPS = 2
"""Times that many are in hand: while one group's last answers come in, the next one's requests go out."""
KNOWN_SECONDS = 10.0
"""Topics are looked at so often: a broker that has just started may not know them yet, and without them a group shares
out nothing. Kafka clients' own is five minutes."""
SETTLE_SECONDS = 2.0
"""For what follows a provider's answer: the gate, and outcomes to Kafka."""
HAND_OVER_SECONDS = 3.0
"""For what is in hand when a worker stops, or its group shares out the partitions anew; with the others' heartbeat they
have its partitions within five. What is not done by then comes again."""
HEARTBEAT_SECONDS = 1.0
"""Between two heartbeats to the group: so late does a member hear at most that it has to take over partitions. Faust's
own is three."""
SESSION_SECONDS = 20.0
"""Without a heartbeat so long, a member's partitions go to others. Heartbeats come from the consumer's thread, however
long the loop takes. Faust's own is a minute, for which a killed worker's partitions would stand still."""

log = structlog.get_logger()

Handler = Callable[[list[EventT[bytes]]], Awaitable[Any]]


class Role(StrEnum):
    """What a worker does."""

    stream = "stream"
    delivery = "delivery"
    ledger = "ledger"


class SurniaApp(faust.App):
    """A Faust app that opens and closes the worker's own connections with itself."""

    def __init__(self, runtime: Runtime, *args: Any, **options: Any) -> None:
        self.runtime = runtime
        self.starting: list[Callable[[], object]] = []
        """Called in the app's loop before anything else."""
        self.closing: list[Callable[[], object]] = []
        """Called when the app has stopped."""
        self.grace = HAND_OVER_SECONDS
        """Seconds that the batches in hand have when partitions are let go of."""
        self.end_calls: Callable[[], Awaitable[bool]] = _none
        """Begin no more calls that must not be cut off; returns when none is under way, and whether one was."""
        super().__init__(*args, **options)

    async def on_start(self) -> None:
        for start in self.starting:
            start()
        await self.runtime.open()
        await super().on_start()

    async def _consumer_wait_empty(self, consumer: ConsumerT, logger: Any) -> None:
        # Faust waits for the batches in hand when it stops or its group shares out the partitions anew: for ever, and
        # with it the whole group, where one of them waits for a server. What is not acknowledged by then comes again.
        waiting = asyncio.ensure_future(super()._consumer_wait_empty(consumer, logger))
        soon = min(self.grace, HAND_OVER_SECONDS) if self.should_stop else self.grace
        await asyncio.wait({waiting}, timeout=soon)
        if not waiting.done():
            # What is left waits for its turn, or for a server to be well again; but for calls that are under way.
            if self.should_stop and await self._calls_end(self.grace - soon):
                await asyncio.wait({waiting}, timeout=SETTLE_SECONDS)
            consumer.unacked.clear()
        await waiting

    async def _calls_end(self, seconds: float) -> bool:
        """Whether calls were under way and have ended in time."""
        try:
            return await asyncio.wait_for(self.end_calls(), seconds)
        except TimeoutError:
            return False

    async def on_stop(self) -> None:
        await super().on_stop()
        for close in self.closing:
            close()
        await self.runtime.close()


async def _none() -> bool:
    return False


def create_app(runtime: Runtime, role: Role) -> SurniaApp:
    """The application of a role; nothing is connected until a worker starts it."""
    settings = runtime.settings
    transport.register()
    # One topic's full buffer would stop the consumer, and with it every other lane. A partition is left out of the
    # next poll when a message of it finds the buffer four fifths full: a fifth is room for one poll of each partition.
    buffered = 5 * MESSAGES * settings.partitions
    app = SurniaApp(
        runtime,
        group_of(role, settings.topic_prefix),
        broker=[f"{transport.SCHEME}://{broker}" for broker in settings.require_kafka().split(",")],
        store="memory://",
        datadir=settings.state_dir / "faust" / role,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=int(KNOWN_SECONDS * 1000),
        broker_commit_interval=settings.commit_seconds,
        # Of a partition; events come in runs.
        broker_max_poll_records=MESSAGES,
        broker_heartbeat_interval=HEARTBEAT_SECONDS,
        broker_session_timeout=SESSION_SECONDS,
        stream_buffer_maxsize=buffered,
        # At least once: writes are idempotent, and Faust's exactly-once crashes and duplicates (FINDINGS, Faust).
        processing_guarantee="at_least_once",
        worker_redirect_stdouts=False,
        web_enabled=settings.web_port > 0,
        web_bind=settings.listen_host,
        web_port=settings.web_port or None,
    )
    {Role.stream: _stream, Role.delivery: _delivery, Role.ledger: _ledger}[role](app, runtime)
    return app


def _agent(
    app: SurniaApp, name: str, topic: str, largest: int, handle: Handler, at_once: int = 1, in_runs: bool = False
) -> None:
    schema = (
        transport.RunSchema()
        if in_runs
        else faust.Schema(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    )
    raw = app.topic(topic, schema=schema)

    # One of Faust's at a time: `handle_batches` says how many are handled side by side, and keeps their order.
    @app.agent(raw, name=name, concurrency=1)
    async def agent(stream: StreamT[bytes]) -> None:
        try:
            within, size = (EVENTS_WITHIN, records_of) if in_runs else (WITHIN, single)
            await handle_batches(stream, largest, within, handle, at_once, size)
        except Exception as error:
            # What a server's absence can't explain is a mistake of ours. Nothing of the batch is acknowledged,
            # and nothing after it may be: the worker ends, and whoever runs it starts it again.
            log.exception("a batch could not be handled", agent=name)
            await app.crash(error)
            raise


def _loop(app: SurniaApp, name: str, seconds: float, work: Callable[[], Awaitable[Any]]) -> None:
    """Do `work` for as long as the worker runs, with a rest of so many seconds after each round."""

    # Not a timer: those warn when a round takes longer than the pause between two, which a backlog may.
    @app.task  # type: ignore[untyped-decorator]  # Faust says Callable
    async def loop() -> None:
        while not app.should_stop:
            try:
                await work()
            except Exception as error:
                log.exception("a worker's loop failed", loop=name)
                await app.crash(error)
                raise
            await app.sleep(seconds)


def _stream(app: SurniaApp, runtime: Runtime) -> None:
    settings, activity = runtime.settings, runtime.topics.activity
    handler = Activity(runtime)

    async def handle(runs: Sequence[Any]) -> None:
        await handler.handle([record for run in runs for record in run.value.records])

    async def revoked(*_: Any, **__: Any) -> None:
        runtime.writeback.forget()

    app.on_partitions_revoked.connect(revoked)
    _agent(app, "activity", activity, EVENTS, handle, BATCHES, in_runs=True)

    def owned() -> list[int]:
        mine = {tp.partition for tp in app.consumer.assignment() if tp.topic == activity}
        return owned_shards(mine, settings.partitions)

    def owned_in(database: Database) -> list[int]:
        return [shard for shard in owned() if shard in database.shards]

    for database in runtime.firing.databases:
        # A loop each, so that one that does not answer holds up its own users alone.
        fire_due = partial(Firing(runtime).fire_owned, partial(owned_in, database))
        _loop(app, f"fire_due_{database.name}", settings.due_poll_seconds, fire_due)
    # A page is finished a third of its time after it is due at the latest, whichever worker looks first.
    _loop(app, "sweep", settings.outbox_seconds / 3, partial(sweep, runtime))
    if settings.gate_auto_rebuild:
        _loop(app, "keep_open", LOOK_SECONDS, AutoRebuild(runtime).look)


def _delivery(app: SurniaApp, runtime: Runtime) -> None:
    # Not needed by the other roles, and slow to import: the providers' libraries.
    from shared.routes import Routes
    from shared.templates import Catalogue
    from stream.delivery.agent import handle_sends
    from stream.delivery.calls import Calls
    from stream.delivery.deliverer import Deliverer, open_providers
    from stream.delivery.firsthand import Firsthand
    from stream.delivery.http2 import Http2Engine
    from stream.delivery.merged import MergedGate
    from stream.delivery.parking import HELD, handle_parked
    from stream.delivery.pauses import Pauses
    from stream.delivery.smtp import Mail, SmtpEngine
    from stream.delivery.turnstile.redis import RedisTurnstile

    settings, clock, gate, patience = runtime.settings, runtime.clock, runtime.gate, runtime.patience
    # Long enough for a provider's last answer to be settled.
    app.grace = settings.push_timeout_seconds + SETTLE_SECONDS
    calls = Calls()
    app.end_calls = calls.end
    providers, routes = open_providers(settings, clock), Routes.of(settings)
    catalogue, pauses = Catalogue.load(), Pauses(gate, patience)
    turnstile = RedisTurnstile(runtime.keyspace, settings, clock, registry=patience.registry)
    mail, firsthand = Mail(settings, catalogue) if settings.sends_email else None, Firsthand()

    async def assigned(*_: Any, **__: Any) -> None:
        firsthand.assigned()

    app.on_partitions_assigned.connect(assigned)
    for lane in Lane:
        # An engine each: in one alone, urgent requests would queue behind a blast's.
        engine = Http2Engine(settings)
        app.closing.append(engine.close)
        calls.winding_up.append(engine.wind_up)
        by_email = None
        if mail:
            by_email = mail, (post := SmtpEngine(settings))
            app.closing.append(post.close)
            # It finishes what is under way.
            calls.winding_up.append(post.close)
        deliverer = Deliverer(
            clock, MergedGate(gate), pauses, engine, providers, routes, catalogue, patience,
            turnstile=turnstile, mail=by_email, email_last=settings.email_last_minutes * 60, calls=calls,
        )  # fmt: skip
        handle = partial(handle_sends, runtime, deliverer, firsthand.knows, set())
        _agent(app, f"delivery_{lane}", runtime.topics.lane(lane), MESSAGES, handle, GROUPS)

    def leaving() -> bool:
        # Suspended: the worker stops, or its group shares out the partitions anew.
        return not app.flow_control.is_active()

    parked = partial(handle_parked, runtime, pauses, leaving, turnstile=turnstile)
    _agent(app, "parked", runtime.topics.parked, HELD, parked)


def _ledger(app: SurniaApp, runtime: Runtime) -> None:
    ledger = Ledger(runtime.users)
    _agent(
        app,
        "ledger",
        runtime.topics.outcomes,
        4 * MESSAGES,
        lambda batch: handle_outcomes(runtime, ledger, batch),
    )
