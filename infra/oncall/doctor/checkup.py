"""All checks at once, each bounded: a server that is dead is a finding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from infra.oncall import lag
from infra.oncall.doctor import kafka, local, postgres, redis
from infra.oncall.doctor.finding import Finding, broken
from infra.oncall.probe import ask_all, coroutine
from shared.settings import MissingAddressError, Settings
from shared.store.databases import Databases

_REMEDIES = {
    "PostgreSQL": ("postgres_url", "surnia up, or look at the server that SURNIA_POSTGRES_URL names"),
    "Redis": ("redis_url", "surnia up, or 'Gate down' in docs/operations.md"),
    "Kafka": ("kafka_brokers", "surnia up, or look at the brokers that SURNIA_KAFKA_BROKERS names"),
    "Airflow": ("", "surnia airflow status"),
}


def checkup(settings: Settings) -> list[Finding]:
    """Every finding, in the order in which a person would look. Takes 3 s at most."""
    questions: dict[str, Callable[[], Any]] = {
        "Configuration": lambda: list(local.configuration(settings)),
        "PostgreSQL": lambda: postgres.look(settings),
        "Redis": coroutine(lambda: redis.look(settings)),
        "Kafka": coroutine(lambda: kafka.look(settings)),
        "Workers": coroutine(lambda: _workers(settings)),
        "Credentials": lambda: list(local.credentials(settings)),
        "apns": lambda: local.reachable("apns", settings.apns_url),
        "fcm": lambda: local.reachable("fcm", settings.fcm_url),
        "Airflow": lambda: local.airflow(settings),
    }
    if settings.sends_email:
        questions["smtp"] = lambda: local.reachable("smtp", settings.smtp_host, settings.smtp_port)
    if settings.postgres_url:
        for database in Databases.of(settings):
            if not database.is_main:
                questions[f"PostgreSQL {database.name}"] = partial(postgres.look_users, database)
    missing = {name for name, (setting, _) in _REMEDIES.items() if setting and not getattr(settings, setting)}
    questions = {name: question for name, question in questions.items() if name not in missing}
    if "Kafka" in missing:
        del questions["Workers"]
    found = [
        broken(name, str(MissingAddressError(_REMEDIES[name][0])), "surnia up") for name in _REMEDIES if name in missing
    ]
    for name, answer in ask_all(questions).items():
        if answer.trouble:
            # Who reads is not to be known without the brokers, and they have a line of their own.
            if name != "Workers":
                _, remedy = _REMEDIES.get(name, ("", "see docs/operations.md"))
                found.append(broken(name, f"does not answer: {answer.trouble}", remedy))
        else:
            found += answer.value
    return found


async def _workers(settings: Settings) -> list[Finding]:
    return kafka.workers(await lag.kafka_lag(settings))
