"""`inspect`: what each source knows of a user, put together into one story."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any

from batch.oncall import sources
from batch.oncall.facts import UNDER_WAY, Candidate, Coming, GateDay, GateView, Inspection
from batch.oncall.words import sentence
from batch.users.show import NoSuchUserError, find_user
from shared.gate import pauses
from shared.gate.pauses import Pause
from shared.outbox import GRANTED
from shared.policy.holdout import Holdout
from shared.policy.kinds import COMEBACK, Path
from shared.policy.localtime import local_date, local_time
from shared.policy.window import comeback_due
from shared.routes import BY_EMAIL, Routes
from shared.settings import Settings
from shared.store.databases import Databases, user_connection
from shared.wire.address import masked
from shared.wire.sends import Result, Target


async def inspect(settings: Settings, user: int, days: int) -> Inspection:
    """Everything about the user's last `days` local dates. Raises psycopg's errors where PostgreSQL does not answer."""
    now = settings.clock().now()
    async with await pauses.connect(settings) as connection:
        async with user_connection(Databases.of(settings).for_user(user), connection) as theirs:
            facts = await _facts(theirs, user, now)
        zone = str(facts["time_zone"]) if facts else "UTC"
        today = local_date(now, zone)
        # Tomorrow too: who has just flown west has had a date that is not over where the user is now.
        dates = [today + timedelta(days=n) for n in range(1 - days, 2)]
        standing = await pauses.active(connection)
        ended = await sources.outcomes(connection, user, dates, zone)
        planned, skipped = await sources.planned(connection, user, dates)
    gate = await sources.gate(settings, user, dates)
    candidates = merged(ended, planned, gate.days)
    concerned = _concerning(standing, facts, Routes.of(settings))
    for one in candidates:
        if one.result == UNDER_WAY:
            one.reason += _held(concerned, Path[one.path], one.kind, one.campaign)
        one.words = sentence(one, candidates, settings.daily_cap)
    return Inspection(
        user_id=user,
        time_zone=zone,
        now=local_time(now, zone),
        facts=facts,
        candidates=candidates,
        coming=_coming(settings, facts, gate, concerned, now, zone),
        gate=gate,
        pauses=standing,
        planned_not_read=skipped,
    )


def merged(ended: Iterable[Candidate], planned: Iterable[Candidate], days: Iterable[GateDay]) -> list[Candidate]:
    """One entry a candidate, in the order of time: outcomes first, then what planners and gate know beyond them."""
    found = {one.key: one for one in ended}
    for one in planned:
        known = found.get(one.key)
        # A grant beats a denial, whichever was written down first.
        if known is None or (known.result == Result.denied.name and one.result == UNDER_WAY):
            one.due_at = known.due_at if known else None
            found[one.key] = one
    for day in days:
        for kind, state in day.kinds.items():
            step, _, path = state.partition(" by ")
            key = (day.local_date, kind, path, "")
            if path and (key not in found or found[key].result == Result.denied.name):
                why = {"claimed": "claimed at the gate, without an outcome yet"}
                found[key] = Candidate(
                    local_date=day.local_date,
                    kind=kind,
                    path=path,
                    gate=GRANTED,
                    result=UNDER_WAY,
                    reason=why.get(step, "a provider accepted it, the ledger has yet to hear of it"),
                )
    return sorted(found.values(), key=_order)


def _order(one: Candidate) -> tuple[date, float, str]:
    when = one.due_at or one.decided_at
    return one.local_date, when.timestamp() if when else float("inf"), one.name


async def _facts(connection: pauses.Connection, user: int, now: float) -> dict[str, Any] | None:
    try:
        facts = await find_user(connection, user, now)
    except NoSuchUserError:
        return None
    for device in facts["devices"]:
        # A whole token lets one push to a phone; its beginning is enough to compare it by.
        for name in ("token", "fcm_token"):
            device[name] = device[name] and device[name][:6]
    facts["email"] = facts["email"] and masked(facts["email"])
    return facts


def _coming(
    settings: Settings, facts: dict[str, Any] | None, gate: GateView, concerned: Sequence[Pause], now: float, zone: str
) -> list[Coming]:
    due = [(kind, Path.stream, at) for kind, at in gate.due]
    if facts and facts["last_active_date"]:
        rungs = (facts["last_active_date"] + timedelta(days=n) for n in sorted(settings.ladder_days))
        times = (comeback_due(day, settings.send_hour, zone) for day in rungs)
        if not settings.stop_after or facts["unanswered"] < settings.stop_after:
            due += [(COMEBACK.name, Path.batch, at) for at in times if at > now][:1]
    holdout = Holdout.of(settings)
    return [
        Coming(
            kind=kind,
            path=path.name,
            due_at=local_time(at, zone),
            words=("waits to be fired" if at <= now else "if the user stays silent" if path is Path.batch else "")
            + (", but held out" if facts and holdout.holds(kind, facts["id"]) else "")
            + _held(concerned, path, kind),
        )
        for kind, path, at in sorted(due, key=lambda each: each[2])
    ]


def _concerning(standing: Sequence[Pause], facts: dict[str, Any] | None, routes: Routes) -> list[Pause]:
    """Without the pauses of providers that are neither the first way to a device of the user's nor to the address."""
    serving: set[str | None] = {None}
    for device in facts["devices"] if facts else []:
        if not device["retired_at"]:
            fcm_token = "" if device["fcm_retired_at"] else device["fcm_token"] or ""
            legs = routes.legs(Target(device["device_id"], device["platform"], device["token"], fcm_token))
            serving |= {leg.provider for leg in legs[:1]}
    if facts and facts["email"] and not (facts["email_opted_out"] or facts["email_retired_at"]):
        serving.add(BY_EMAIL)
    return [pause for pause in standing if pause.rule.provider in serving]


def _held(concerned: Sequence[Pause], path: Path, kind: str, campaign: str = "") -> str:
    """Which pause holds it back."""
    held = [pause for pause in concerned if pause.rule.covers(path, kind, campaign, pause.rule.provider or "")]
    return f" (paused: {held[0].what}, by {held[0].paused_by}: {held[0].reason})" if held else ""
