"""What is typed after `surnia pause` and `surnia resume`, checked: a selector that pauses nothing is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable

import typer

from shared.gate.pauses import PROVIDERS
from shared.gate.rules import Rule
from shared.policy.kinds import CAMPAIGN, KINDS, Path

_CAMPAIGN = re.compile(r"[a-z0-9_-]{1,64}")


def rule_of(path: str | None, kind: str | None, provider: str | None, campaign: str | None) -> Rule:
    """The rule that the options name; an option that is not given means any."""
    if campaign is not None and not _CAMPAIGN.fullmatch(campaign):
        raise typer.BadParameter(
            f"{campaign[:80]!r} is no campaign's name: 1–64 of a–z, 0–9, _ and -", param_hint="--campaign"
        )
    named = _one_of(KINDS, kind, "--kind")
    if campaign is not None and named not in (None, CAMPAIGN.name):
        raise typer.BadParameter(
            f"a campaign's sends are of kind {CAMPAIGN.name}, so with --kind {named} this would pause nothing: "
            "leave one of the two out",
            param_hint="--campaign",
        )
    chosen = _one_of([each.name for each in Path], path, "--path")
    return Rule(
        path=Path[chosen] if chosen else None,
        kind=named,
        campaign=campaign,
        provider=_one_of(PROVIDERS, provider, "--provider"),
    )


def _one_of(known: Iterable[str], text: str | None, option: str) -> str | None:
    if text is None:
        return None
    name = text.strip().lower().replace("-", "_")
    names = list(known)
    if name not in names:
        raise typer.BadParameter(f"{text[:80]!r} is none of {', '.join(names)}", param_hint=option)
    return name
