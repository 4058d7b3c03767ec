"""One user as people and programs read it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg.rows import dict_row
from rich.console import Group, RenderableType
from rich.table import Table

from batch.users.database import Connection, query
from shared.policy.kinds import KINDS
from shared.policy.localtime import local_date, local_time
from shared.wire.address import masked


class NoSuchUserError(LookupError):
    """There is no user of that id."""

    def __init__(self, identity: int) -> None:
        super().__init__(f"No user {identity}: load users with `surnia users import` or `surnia users generate`.")


async def find_user(connection: Connection, identity: int, now: float) -> dict[str, Any]:
    """The user's columns and devices, and what the clock says where the user is."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query("show_user"), {"id": identity})
        user = await cursor.fetchone()
        if user is None:
            raise NoSuchUserError(identity)
        await cursor.execute(query("show_devices"), {"id": identity})
        user["devices"] = await cursor.fetchall()
    zone = user["time_zone"]
    user["opted_out"] = [kind.name for kind in KINDS.values() if user["opted_out"] >> kind.code & 1]
    user["local_time"] = local_time(now, zone)
    last = user["last_active_date"]
    user["silent_days"] = (local_date(now, zone) - last).days if last else None
    return user


def render(user: dict[str, Any]) -> RenderableType:
    """The user for a terminal; instants as the user's wall clock shows them."""
    zone = user["time_zone"]
    facts = Table.grid(padding=(0, 2))
    facts.add_row("user", f"[bold]{user['id']}[/]  (shard {user['shard']})")
    facts.add_row("local time", f"[bold]{user['local_time']:%Y-%m-%d %H:%M}[/]  {zone}  UTC{user['local_time']:%z}")
    facts.add_row("locale", f"{user['locale']}  {user['country'] or ''}")
    silent = f"  ({user['silent_days']} days ago)" if user["silent_days"] is not None else ""
    facts.add_row("last event", _local(user["last_event_at"], zone) + silent)
    facts.add_row("unanswered", f"{user['unanswered']} comebacks since")
    facts.add_row("last practice", _local(user["last_practice_at"], zone))
    facts.add_row("streak", str(user["streak"]))
    facts.add_row("e-mail", _email(user, zone))
    facts.add_row("opted out of", ", ".join(user["opted_out"]) or "nothing")
    if not user["devices"]:
        return Group(facts, "no devices: without e-mail there is nothing to remind the user on (no_device)")
    devices = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("device", "platform", "app", "token", "registered", "retired"):
        devices.add_column(title)
    for device in user["devices"]:
        devices.add_row(
            device["device_id"],
            device["platform"],
            device["app_version"] or "",
            # Whole tokens are for --json: they are what lets one push to a phone.
            device["token"][:12] + "…",
            _local(device["registered_at"], zone),
            _retired(device["retired_at"], device["retired_reason"], zone),
        )
        if device["fcm_token"]:
            retired = _retired(device["fcm_retired_at"], device["fcm_retired_reason"], zone)
            devices.add_row("", "  by FCM", "", device["fcm_token"][:12] + "…", "", retired)
    return Group(facts, "", devices)


def _retired(at: datetime | None, reason: str | None, zone: str) -> str:
    return f"{_local(at, zone)} {reason or ''}" if at else ""


def _email(user: dict[str, Any], zone: str) -> str:
    """Not whole, as tokens are: that is for --json."""
    if not user["email"]:
        return "none"
    notes = ["wants none"] if user["email_opted_out"] else []
    if user["email_retired_at"]:
        notes.append(f"retired {_local(user['email_retired_at'], zone)} {user['email_retired_reason'] or ''}")
    return masked(user["email"]) + (f"  ({', '.join(notes)})" if notes else "")


def _local(instant: datetime | None, zone: str) -> str:
    return f"{local_time(instant.timestamp(), zone):%Y-%m-%d %H:%M}" if instant else "never"
