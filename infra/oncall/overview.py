"""The rest of `surnia status`: what goes through the parts. Asked of all servers at once, for 3 s at most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import psycopg
from rich.console import Group, RenderableType
from rich.text import Text

from batch.pressure import pressure_status
from infra.airflow.services import Airflow
from infra.oncall import lag
from infra.oncall.probe import Answer, ask_all, coroutine
from infra.stack.view import duration
from shared.settings import Settings
from shared.terminal import several
from stream.delivery.turnstile.redis import RedisTurnstile
from stream.delivery.turnstile.status import look as stand

_RUNNING = """
SELECT count(*) FILTER (WHERE state = 'active'), count(*), current_setting('max_connections')::int,
       coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)) FILTER (WHERE state <> 'idle'), 0)::float8,
       count(*) FILTER (WHERE wait_event_type = 'Lock'),
       count(*) FILTER (WHERE application_name LIKE 'surnia%')
FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@dataclass(slots=True)
class Overview:
    """What goes through the parts."""

    lag: lag.Lag
    providers: list[dict[str, Any]]
    database: dict[str, Any] | None
    scans: list[dict[str, Any]]
    airflow: dict[str, Any]
    trouble: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "lag": self.lag.document(),
            "providers": self.providers,
            "database": self.database,
            "scans": self.scans,
            "airflow": self.airflow,
            "trouble": self.trouble,
        }


def look(settings: Settings) -> Overview:
    """Ask them all."""
    answers = ask_all(
        {
            "Kafka": coroutine(lambda: lag.kafka_lag(settings)),
            "Redis": coroutine(lambda: lag.due_lag(settings)),
            "PostgreSQL": lambda: lag.outbox_lag(settings),
            "providers": coroutine(lambda: _providers(settings)),
            "database": lambda: _database(settings),
            "scans": coroutine(lambda: _scans(settings)),
            "Airflow": lambda: _airflow(settings),
        }
    )
    servers = {name: answers.pop(name) for name in ("Kafka", "Redis", "PostgreSQL")}
    return Overview(
        lag.folded(servers),
        answers["providers"].value or [],
        answers["database"].value,
        answers["scans"].value or [],
        answers["Airflow"].value or {"state": "unknown"},
        _troubles(answers),
    )


def _troubles(answers: dict[str, Answer]) -> dict[str, str]:
    return {name: answer.trouble for name, answer in answers.items() if answer.trouble}


async def _providers(settings: Settings) -> list[dict[str, Any]]:
    turnstile = RedisTurnstile.connect(settings)
    try:
        return [each.document() for each in await stand(turnstile)]
    finally:
        await turnstile.close()


def _database(settings: Settings) -> dict[str, Any]:
    with psycopg.connect(
        settings.require_postgres(), connect_timeout=2, application_name="surnia status"
    ) as connection:
        row = connection.execute(_RUNNING).fetchone() or (0, 0, 0, 0.0, 0, 0)
    names = ("active", "connections", "most_connections", "longest_transaction_seconds", "waiting_for_locks", "ours")
    return dict(zip(names, row, strict=True))


async def _scans(settings: Settings) -> list[dict[str, Any]]:
    """What the databases that have users bear of scans."""
    found: list[dict[str, Any]] = msgspec.to_builtins(await pressure_status(settings))
    return found


def _airflow(settings: Settings) -> dict[str, Any]:
    service = Airflow(settings)
    if not service.record().processes:
        return {"state": "stopped"}
    found = service.status()
    return {"state": found.state, "url": found.url, "dag": found.dag, "components": found.components}


def view(found: Overview) -> RenderableType:
    """A line for each, and what is behind."""
    lines = []
    lines += [_path("Stream path", found, "stream"), _lanes(found), _path("Ledger", found, "ledger")]
    if found.lag.due:
        waiting = ", ".join(f"{each.kind} {each.waiting:,}" for each in found.lag.due if each.waiting) or "nothing"
        lines.append(Text(f"Due and not fired: {waiting}"))
    if found.providers:
        states = ", ".join(f"{each['name']} {each['state'].replace('_', ' ')}" for each in found.providers)
        wrong = any(each["state"] != "closed" for each in found.providers)
        lines.append(Text(f"Providers (closed: sends flow): {states}", style="red" if wrong else ""))
    if found.database:
        lines.append(Text(_pressure(found.database)))
    lines += [_scanned(each) for each in found.scans]
    dag = f", its hourly scan is {found.airflow['dag']}" if "dag" in found.airflow else ""
    lines.append(Text(f"Airflow: {found.airflow['state']}{dag}"))
    lines += [Text(f"{name}: {why}", style="red") for name, why in {**found.lag.trouble, **found.trouble}.items()]
    lines += [Text(f"Behind: {words}. `surnia lag` says more.", style="yellow") for words in found.lag.behind]
    return Group(*(line for line in lines if line.plain))


def _path(title: str, found: Overview, role: str) -> Text:
    topics = [each for each in found.lag.topics if each.role == role]
    if not topics:
        return Text("")
    messages = sum(each.messages for each in topics)
    oldest = max((each.oldest_seconds or 0.0 for each in topics), default=0.0)
    behind = f"{several(messages, 'message')} behind, the oldest {duration(oldest)}" if messages else "nothing to read"
    workers = topics[0].members
    return Text(f"{title}: {several(workers, 'worker')}, {behind}", style="" if workers else "yellow")


def _lanes(found: Overview) -> Text:
    lanes = [each for each in found.lag.topics if each.role == "delivery"]
    if not lanes:
        return Text("")
    waiting = ", ".join(f"{each.topic.rpartition('sends.')[2]} {each.messages:,}" for each in lanes)
    return Text(
        f"Delivery: {several(lanes[0].members, 'worker')}, messages that wait: {waiting}",
        style="" if lanes[0].members else "yellow",
    )


def _pressure(database: dict[str, Any]) -> str:
    return (
        f"Database: {database['active']} statements run, {database['connections']} of {database['most_connections']} "
        f"connections, {database['waiting_for_locks']} wait for locks, "
        f"the longest transaction {duration(database['longest_transaction_seconds'])}"
    )


def _scanned(database: dict[str, Any]) -> Text:
    if database["trouble"]:
        return Text(f"Users of shards {database['shards']} ({database['name']}): {database['trouble']}", style="red")
    lag = f", its replica is {database['lag_seconds']} s behind" if database["lag_seconds"] is not None else ""
    return Text(
        f"Scans of {database['name']} (shards {database['shards']}): {database['running']} of {database['limit']} run, "
        f"{database['waiting']} wait{lag}"
    )
