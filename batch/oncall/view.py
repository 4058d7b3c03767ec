"""`inspect` for a terminal: a short sentence a candidate, in the order of time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from rich.text import Text

from batch.oncall.facts import Candidate, GateDay, Inspection
from shared.policy.localtime import local_time


def tell(found: Inspection) -> Text:
    """All of it; instants as the user's wall clock shows them."""
    text = Text()
    for title, lines in _sections(found):
        # Devices and campaigns are named by whoever wrote to us: no escape sequence may reach the terminal.
        text.append(_printable(title) + "\n", style="bold")
        for line in lines:
            text.append(f"  {_printable(line)}\n")
    text.rstrip()
    return text


def _sections(found: Inspection) -> Iterator[tuple[str, list[str]]]:
    now = f"where it is {found.now:%A %Y-%m-%d %H:%M} {_offset(found.now)} ({found.time_zone})"
    if found.facts:
        yield f"User {found.user_id}, {now}", list(_facts(found.facts, found.time_zone))
    else:
        yield f"User {found.user_id} is not in the database (any more); times are UTC", []
    for day in sorted({one.local_date for one in found.candidates}):
        yield f"{day:%A} {day}", [_candidate(one, day) for one in found.candidates if one.local_date == day]
    if not found.candidates:
        yield "No reminder was considered in these days", []
    if found.coming:
        lines = [(f"{one.due_at:%Y-%m-%d} {_clock(one.due_at)}  {one.kind} ({one.path})", one) for one in found.coming]
        yield "Coming", [f"{line}: {one.words}" if one.words else line for line, one in lines]
    gate = [_gate_day(day) for day in found.gate.days]
    if found.gate.trouble:
        gate.append(found.gate.trouble)
    if not found.gate.answers:
        gate.append("what only it knows is missing above: claims without an outcome, and what is coming")
    yield "At the gate", gate or ["nothing in these days"]
    if found.pauses:
        yield "Paused now (see `surnia pauses`)", [pause.said for pause in found.pauses]
    if found.planned_not_read:
        days = ", ".join(str(day) for day in sorted(found.planned_not_read))
        yield "Not looked through, since it would take too long", [f"the planners' pages of {days}"]


def _facts(facts: dict[str, Any], zone: str) -> Iterator[str]:
    days = facts["silent_days"]
    silent = "" if days is None else f" ({days} {'day' if days == 1 else 'days'} ago)"
    yield f"last practice {_short(facts['last_practice_at'], zone)}, streak {facts['streak']}"
    yield f"last event {_short(facts['last_event_at'], zone)}{silent}, locale {facts['locale']}"
    yield f"opted out of {', '.join(facts['opted_out']) or 'nothing'}"
    for device in facts["devices"]:
        retired = device["retired_at"]
        yield (
            f"device {device['device_id']}: {device['platform']}, token {device['token']}…"
            f"{_fcm_token(device, zone)}, registered {_short(device['registered_at'], zone)}"
            + (f", retired {_short(retired, zone)}: {device['retired_reason']}" if retired else "")
        )
    if not facts["devices"]:
        yield "no devices"


def _fcm_token(device: dict[str, Any], zone: str) -> str:
    if not device["fcm_token"]:
        return ""
    gone = device["fcm_retired_at"]
    ended = f" (retired {_short(gone, zone)}: {device['fcm_retired_reason']})" if gone else ""
    return f", FCM token {device['fcm_token']}…{ended}"


def _candidate(one: Candidate, day: date) -> str:
    decided = ""
    if one.decided_at:
        decided = f", decided {one.decided_at:%H:%M:%S}"
        if one.decided_at.date() != day:
            decided = f", decided {one.decided_at:%Y-%m-%d %H:%M:%S}"
    when = _clock(one.due_at) if one.due_at else "(due time unknown)"
    return f"{when}  {one.name} ({one.path}): {one.words}{decided}"


def _gate_day(day: GateDay) -> str:
    if day.erased:
        return f"{day.local_date}  a user of this id was erased: nothing is sent for this date"
    parts = ["practised"] * day.practised
    parts += [f"{kind} {state}" for kind, state in day.kinds.items()]
    parts += [f"campaigns claimed: {day.campaigns}"] * bool(day.campaigns)
    return f"{day.local_date}  {', '.join([*parts, f'counts for the daily cap: {day.count}'])}"


def _clock(at: datetime) -> str:
    return f"{at:%H:%M:%S} {_offset(at)}"


def _offset(at: datetime) -> str:
    text = f"{at:%z}"
    return f"UTC{text[:3]}:{text[3:5]}"


def _short(instant: datetime | None, zone: str) -> str:
    return f"{local_time(instant.timestamp(), zone):%Y-%m-%d %H:%M}" if instant else "never"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
