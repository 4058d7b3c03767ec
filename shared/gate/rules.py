"""A pause as the gate knows it: what it covers, and how it is written into the epoch keys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from shared.policy.kinds import KIND_BY_CODE, KINDS, Path

_ANY = "*"
_NAME = re.compile(r"[a-z0-9_-]+")


class Rule(NamedTuple):
    """What is paused; None stands for any."""

    path: Path | None = None
    kind: str | None = None
    campaign: str | None = None
    provider: str | None = None

    def covers(self, path: Path, kind: str, campaign: str = "", provider: str = "") -> bool:
        """Whether such a send is paused. A rule of one provider covers nothing before a provider is chosen."""
        return (
            self.path in (None, path)
            and self.kind in (None, kind)
            and self.campaign in (None, campaign)
            and self.provider in (None, provider)
        )

    def text(self) -> str:
        """path:kind:campaign:provider, `*` for any. Raises ValueError for a name that can't be written so."""
        for name in (self.campaign, self.provider):
            if name is not None and not _NAME.fullmatch(name):
                # A blank, a bar or an asterisk would make it another rule.
                raise ValueError(f"no pause can be written for {name!r}: names are of a–z, 0–9, _ and -")
        path = _ANY if self.path is None else str(int(self.path))
        kind = _ANY if self.kind is None else str(KINDS[self.kind].code)
        return f"{path}:{kind}:{self.campaign or _ANY}:{self.provider or _ANY}"


def written(rules: Iterable[Rule]) -> str:
    """What follows the epoch in its key: empty without rules, so that nothing has to be looked for."""
    texts = sorted({rule.text() for rule in rules})
    return f"|{'|'.join(texts)}|" if texts else ""


def parse(text: str) -> tuple[Rule, ...]:
    """The rules from what `written` made of them."""
    rules = []
    for one in filter(None, text.split("|")):
        path, kind, campaign, provider = (None if part == _ANY else part for part in one.split(":"))
        rules.append(
            Rule(Path(int(path)) if path else None, KIND_BY_CODE[int(kind)].name if kind else None, campaign, provider)
        )
    return tuple(rules)
