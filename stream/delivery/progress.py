"""A send on its way: what has become of its devices so far, and in the end its one outcome, or a place to wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from shared.gate.contract import SendKey
from shared.identity import send_id_text
from shared.routes import Leg, without
from shared.templates import Text
from shared.wire.sends import Outcome, Result, RetiredToken, Send, Target

SETTLED_BEFORE = (Result.delivered, "settled_before")
"""An earlier delivery of the same batch had it accepted; the ledger keeps the row that came first."""
EXPIRED = (Result.expired, "expired")
PRACTISED = (Result.dropped, "practised")
OPTED_OUT = (Result.dropped, "opted_out")
NO_DEVICE = (Result.dropped, "no_device")
_NO_TEXT = Text("", "")


class Mailbox(NamedTuple):
    """A user's e-mail address in the place of a device."""

    address: str


Addressee = Target | Mailbox


def key_of(send: Send) -> SendKey:
    """The identity of a send, as the gate knows it."""
    return SendKey(send.user_id, send.kind, send.local_date, send.campaign)


class Progress:
    """One send. Its devices' answers come in any order; the best of them decides."""

    __slots__ = (
        "_doubtful",
        "_ending",
        "_failure",
        "_held",
        "_paused",
        "_provider",
        "_spent",
        "accepted",
        "key",
        "latency",
        "send",
        "send_id",
        "text",
    )

    def __init__(self, send: Send) -> None:
        self.send = send
        self.key = key_of(send)
        self.send_id = send_id_text(*self.key)
        self.text = _NO_TEXT
        # A provider accepted it: it is settled, or about to be, by us.
        self.accepted = False
        self.latency = 0.0
        self._provider = ""
        self._doubtful = False
        self._ending: tuple[Result, str] | None = None
        self._failure = ""
        self._paused = self._held = False
        self._spent: dict[Addressee, set[str]] = {}

    def accept(self, provider: str, seconds: float) -> None:
        """A device's provider accepted it, after a round trip of so long. The first counts."""
        if not self.accepted:
            self.accepted = True
            self._provider = provider
            self.latency = seconds

    def end(self, ending: tuple[Result, str]) -> None:
        """Nothing more is to be done: for what is not accepted by now, this is why."""
        self._ending = ending

    def pause(self) -> None:
        """It, or the provider of one of its devices, is paused: what was not tried now may be tried later."""
        self._paused = True

    def hold(self) -> None:
        """A provider of one of its devices is open, or too slow just now: the same, but its window may not pass so."""
        self._held = True

    def doubt(self) -> None:
        """A push of it may have arrived, though nobody said so. A device that gets it again shows it once, by its
        collapse id; an e-mail beside it would show it twice. So from here on none is sent."""
        self._doubtful = True

    def wants_email(self, now: float, last: float) -> bool:
        """Whether no push can have arrived, there is an address, and no other way is left, or none but open providers
        for the `last` seconds of its window."""
        send = self.send
        if not send.email or self.accepted or self._ending or self._doubtful or send.expires_at <= now:
            return False
        return not self._paused and (not self._held or send.expires_at - now <= last)

    @property
    def parked(self) -> Send | None:
        """The send as it has to wait for the end of a pause or for a provider, with the ways that are left to try.

        None: it has not. One device has it, it has its ending, or every way has failed.
        """
        if not (self._paused or self._held) or self.accepted or self._ending:
            return None
        send = self.send
        # What failed for good would be tried again, and fail, each time it comes back.
        left = tuple(rest for target in send.targets if (rest := without(target, self._spent.get(target, ()))))
        email = "" if self._doubtful or Mailbox(send.email) in self._spent else send.email
        return replace(send, targets=left, email=email) if left or email or not self._spent else None

    def retire(self, provider: str, target: Addressee) -> None:
        """The provider does not know this device, or mailbox, any more."""
        self._spend(provider, target)
        self._provider = self._provider or provider

    def fail(self, provider: str, reason: str, target: Addressee) -> None:
        """This provider could not reach the device, for good."""
        self._spend(provider, target)
        if not self.accepted:
            self._provider = provider
            self._failure = reason

    def _spend(self, provider: str, target: Addressee) -> None:
        self._spent.setdefault(target, set()).add(provider)

    def outcome(self, now: float) -> Outcome:
        """The one outcome of what is not parked, decided at `now` (unix seconds)."""
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
            send.campaign,
        )


class Job:
    """One send to one device, or to a mailbox: by one provider, and where that cannot, by the next."""

    __slots__ = ("_further", "_left", "leg", "progress", "reminted", "target")

    def __init__(self, progress: Progress, target: Addressee, legs: Sequence[Leg]) -> None:
        """`legs`: the ways to it, in order; one at least."""
        self.progress = progress
        self.target = target
        self.leg, *self._further = legs
        # It has had its one more try with new credentials.
        self.reminted = False
        self._left = False

    @property
    def ios(self) -> bool:
        return isinstance(self.target, Target) and self.target.platform == "ios"

    def fail(self, reason: str) -> None:
        """This provider could not, for good."""
        self.progress.fail(self.leg.provider, reason, self.target)
        self._left = True

    def wait(self) -> None:
        """This provider gets nothing now."""
        self.progress.hold()
        self._left = True

    def retire(self, reason: str, at: float) -> RetiredToken:
        """The provider says since when (unix seconds) there is no such device. Another provider's word for the same
        app on it is worth nothing then; the other way round, a token that FCM has dropped leaves that of APNs."""
        target = self.target
        self.progress.retire(self.leg.provider, target)
        if isinstance(target, Mailbox):
            return RetiredToken(self.progress.send.user_id, "", target.address, reason, at)
        if self.leg.token == target.token:
            for leg in self._further:
                self.progress.retire(leg.provider, target)
        else:
            self._left = True
        return RetiredToken(self.progress.send.user_id, target.device_id, self.leg.token, reason, at)

    def goes_over(self) -> bool:
        """Go over to the next provider, if this one was left and there is another."""
        if not self._left or not self._further:
            return False
        self.leg, *self._further = self._further
        self._left = self.reminted = False
        return True
