"""Reason codes in words."""

from __future__ import annotations

from collections.abc import Sequence

from batch.oncall.facts import UNDER_WAY, Candidate
from shared.outbox import GRANTED

_DENIED = {
    "practised": "the user practised that day",
    "opted_out": "the user does not want this kind",
    "no_device": "the user had no device to show it on",
    "no_streak": "no streak was at stake",
    "quiet_hours": "it was due in quiet hours",
    "weekly_cap": "the user had had the reminders of seven days",
    "unanswered": "the user answered none of the last ones, and is left alone until active again",
    "holdout": "the user is in the holdout group of this kind",
}
_ENDED = {
    ("expired", "expired"): "it was still on its way when its window closed",
    ("dropped", "practised"): "the user practised before it was delivered",
    ("dropped", "opted_out"): "the user turned this kind off before it was delivered",
    ("dropped", "no_device"): "the user had no device left",
    ("dropped", "other_path"): "the other path had it by then",
    ("dropped", "daily_cap"): "the user had had the day's reminders by then",
    ("dropped", "weekly_cap"): "the user had had the reminders of seven days by then",
    ("failed", "unregistered"): "the app is gone from every device",
    ("failed", "no_provider"): "no provider serves the user's devices",
    ("delivered", "settled_before"): "a provider had accepted it before",
}


def sentence(one: Candidate, others: Sequence[Candidate], cap: int) -> str:
    """What became of a candidate. `others`: the same user's, of all dates; `cap`: reminders a day."""
    if one.gate != GRANTED:
        return f"denied: {_denial(one, others, cap)}"
    if one.result == UNDER_WAY:
        return f"granted, under way: {one.reason}"
    took = "" if one.latency_ms is None else f" in {one.latency_ms:.0f} ms"
    known = _ENDED.get((one.result, one.reason))
    if one.result == "delivered":
        return f"granted and delivered: {known or f'{one.provider} accepted it{took}'}"
    if not known and one.provider:
        known = f"{one.provider} answered {one.reason}{took}"
    return f"granted, but {one.result}: {known or one.reason}"


def _denial(one: Candidate, others: Sequence[Candidate], cap: int) -> str:
    granted = [other for other in others if other.local_date == one.local_date and other.gate == GRANTED]
    if one.reason == "daily_cap":
        took = " and ".join(f"{other.name} ({other.path})" for other in granted)
        return f"the daily cap of {cap} was reached" + (f" by {took}" if took else "")
    if one.reason == "other_path":
        paths = {other.path for other in granted if other.kind == one.kind} - {one.path}
        return f"the {paths.pop() if paths else 'other'} path had it"
    return _DENIED.get(one.reason, one.reason)
