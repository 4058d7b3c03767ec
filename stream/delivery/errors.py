"""From a provider's refusal to what is done about it: tables of rows, one documented reason each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NOT_A_CODE = re.compile(r"[^a-z0-9]+")


class Action(StrEnum):
    """What is done about an answer."""

    accepted = "accepted"
    """The provider has it: settle it."""
    retry = "retry"
    """The provider's or the network's trouble: the same again, with the same collapse id, later."""
    retire = "retire"
    """The device is gone: never use its token again."""
    remint = "remint"
    """The credentials are too old: renew them, and try once more."""
    fail = "fail"
    """This request can never be accepted."""
    stop = "stop"
    """No request can be accepted until somebody changes the set-up: alert."""


@dataclass(frozen=True, slots=True)
class Row:
    """One documented refusal.

    `after`: seconds to wait where the provider names none; None: back off. `wide`: it is about all that goes to the
    provider, such as a quota of the whole project. `suspect`: what a wrong setting of ours looks like, too.
    """

    status: int
    code: str
    action: Action
    after: float | None = None
    wide: bool = False
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer means.

    `reason` is a lowercase code such as `apns_503_service_unavailable`. `after`: seconds to wait before a retry,
    None: back off. `at`: unix seconds since when a retired token has been invalid, None: not told. `block`: seconds for
    which the provider wants nothing at all, 0 where it does not say so. `suspect`: too many of these are our mistake.
    """

    action: Action
    reason: str
    after: float | None = None
    at: float | None = None
    block: float = 0.0
    suspect: bool = False


ACCEPTED = Verdict(Action.accepted, "accepted")

_BY_STATUS = {401: Action.remint, 403: Action.stop, 408: Action.retry, 425: Action.retry, 429: Action.retry}


def snake(code: str) -> str:
    """A provider's code in our form: `TooManyRequests` and `TOO_MANY_REQUESTS` are `too_many_requests`."""
    words = code if code.isupper() else _WORD_START.sub("_", code)
    return _NOT_A_CODE.sub("_", words.lower()).strip("_")[:48]


class ErrorTable:
    """One provider's rows. A refusal that is not documented goes by its HTTP status alone."""

    def __init__(self, provider: str, rows: Iterable[Row]) -> None:
        self._provider = provider
        self._rows = {(row.status, row.code): row for row in rows}

    def verdict(self, status: int, code: str, retry_after: float | None = None, at: float | None = None) -> Verdict:
        """What to do about an HTTP status with the provider's own code (empty: none was readable)."""
        row = self._rows.get((status, code)) or Row(status, code, self._undocumented(status))
        waits = row.action is Action.retry
        reason = "_".join(part for part in (self._provider, str(status), snake(code)) if part)
        after = (row.after if retry_after is None else retry_after) if waits else None
        # Who says for how long speaks for more than one token, if many are told so (entry.py, A_TENTH).
        wide = row.wide or (waits and retry_after is not None)
        at = at if row.action is Action.retire else None
        return Verdict(row.action, reason, after, at, after or 0.0 if wide else 0.0, row.suspect)

    @staticmethod
    def _undocumented(status: int) -> Action:
        if 200 <= status < 300:
            return Action.accepted
        return _BY_STATUS.get(status, Action.retry if status >= 500 else Action.fail)
