"""A send on its way: what has become of its devices so far, and in the end its one outcome."""

from __future__ import annotations

from shared.gate.contract import SendKey
from shared.templates import Text
from shared.wire.sends import Outcome, Result, Send, Target

SETTLED_BEFORE = (Result.delivered, "settled_before")
"""An earlier delivery of the same batch had it accepted; the ledger keeps the row that came first."""
EXPIRED = (Result.expired, "expired")
PRACTISED = (Result.dropped, "practised")
UNCLAIMED = (Result.dropped, "unclaimed")
NO_DEVICE = (Result.dropped, "no_device")


class Progress:
    """One send. Its devices' answers come in any order; the best of them decides."""

    __slots__ = ("_ending", "_failure", "_provider", "accepted", "key", "latency", "send", "send_id", "text")

    def __init__(self, send: Send) -> None:
        self.send = send
        self.key = SendKey(send.user_id, send.kind, send.local_date)
        self.send_id = str(send.send_id)
        self.text = Text("", "")
        # A provider accepted it: it is settled, or about to be, by us.
        self.accepted = False
        self.latency = 0.0
        self._provider = ""
        self._ending: tuple[Result, str] | None = None
        self._failure = ""

    def accept(self, provider: str, seconds: float) -> None:
        """A device's provider accepted it, after a round trip of so long. The first counts."""
        if not self.accepted:
            self.accepted = True
            self._provider = provider
            self.latency = seconds

    def end(self, ending: tuple[Result, str]) -> None:
        """Nothing more is to be done: for what is not accepted by now, this is why."""
        self._ending = ending

    def retire(self, provider: str) -> None:
        """One device turned out to be gone."""
        self._provider = self._provider or provider

    def fail(self, provider: str, reason: str, seconds: float = 0.0) -> None:
        """One device could not be reached, for good."""
        if not self.accepted:
            self._provider = provider
            self._failure = reason
            self.latency = seconds

    def outcome(self, now: float) -> Outcome:
        """The one outcome, decided at `now` (unix seconds)."""
        if self.accepted:
            result, reason = Result.delivered, "accepted"
        elif self._ending:
            result, reason = self._ending
        else:
            # Without a failure, every device was retired.
            result, reason = Result.failed, self._failure or "unregistered"
        send = self.send
        return Outcome(
            send.user_id,
            send.kind,
            send.local_date,
            result,
            reason,
            send.due_at,
            now,
            self.latency,
            self._provider,
        )


class Job:
    """One send to one device."""

    __slots__ = ("progress", "reminted", "target")

    def __init__(self, progress: Progress, target: Target) -> None:
        self.progress = progress
        self.target = target
        # It has had its one more try with new credentials.
        self.reminted = False
