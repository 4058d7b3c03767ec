"""A send on its way: what has become of its devices so far, and in the end its one outcome, or a place to wait."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from msgspec.structs import replace

from shared.gate.contract import SendKey
from shared.identity import send_id_text
from shared.templates import Text
from shared.wire.sends import Outcome, Result, Send

SETTLED_BEFORE = (Result.delivered, "settled_before")
"""An earlier delivery of the same batch had it accepted; the ledger keeps the row that came first."""
EXPIRED = (Result.expired, "expired")
PRACTISED = (Result.dropped, "practised")
OPTED_OUT = (Result.dropped, "opted_out")
NO_DEVICE = (Result.dropped, "no_device")
_NO_TEXT = Text("", "")


Device = tuple[str, str]
"""Platform and token."""


class Addressee(Protocol):
    """Where one attempt goes: a `Target` of the send, or its mailbox."""

    @property
    def device_id(self) -> str: ...
    @property
    def platform(self) -> str: ...
    @property
    def token(self) -> str: ...


class Mailbox(NamedTuple):
    """A user's e-mail address in the place of a device."""

    token: str
    device_id: str = ""
    platform: str = "email"


def key_of(send: Send) -> SendKey:
    """The identity of a send, as the gate knows it."""
    return SendKey(send.user_id, send.kind, send.local_date, send.campaign)


class Progress:
    """One send. Its devices' answers come in any order; the best of them decides."""

    __slots__ = (
        "_doubtful",
        "_ending",
        "_failure",
        "_parked",
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
        self._parked = False
        self._spent: set[Device] = set()

    def accept(self, provider: str, seconds: float) -> None:
        """A device's provider accepted it, after a round trip of so long. The first counts."""
        if not self.accepted:
            self.accepted = True
            self._provider = provider
            self.latency = seconds

    def end(self, ending: tuple[Result, str]) -> None:
        """Nothing more is to be done: for what is not accepted by now, this is why."""
        self._ending = ending

    def park(self) -> None:
        """It, or the provider of one of its devices, is paused or open: what was not tried now may be tried later."""
        self._parked = True

    def doubt(self) -> None:
        """A push of it may have arrived, though nobody said so. A device that gets it again shows it once, by its
        collapse id; an e-mail beside it would show it twice. So from here on none is sent."""
        self._doubtful = True

    @property
    def wants_email(self) -> bool:
        """Whether every device was tried, or there is none, no push can have arrived, and there is an address."""
        done = self.accepted or self._ending or self._parked
        return bool(self.send.email) and not (done or self._doubtful)

    @property
    def parked(self) -> Send | None:
        """The send as it has to wait for the end of a pause or for a provider, for the devices that are left to try.

        None: it has not. One device has it, or it has its ending.
        """
        if not self._parked or self.accepted or self._ending:
            return None
        # Those that failed for good would be tried again, and fail, each time it comes back.
        left = tuple(target for target in self.send.targets if _device(target) not in self._spent)
        return replace(self.send, targets=left, email="" if self._doubtful else self.send.email)

    def retire(self, provider: str, target: Addressee) -> None:
        """One device turned out to be gone."""
        self._spent.add(_device(target))
        self._provider = self._provider or provider

    def fail(self, provider: str, reason: str, target: Addressee) -> None:
        """One device could not be reached, for good."""
        self._spent.add(_device(target))
        if not self.accepted:
            self._provider = provider
            self._failure = reason

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


def _device(target: Addressee) -> Device:
    return target.platform, target.token


class Job:
    """One send to one device, or to a mailbox."""

    __slots__ = ("progress", "reminted", "target")

    def __init__(self, progress: Progress, target: Addressee) -> None:
        self.progress = progress
        self.target = target
        # It has had its one more try with new credentials.
        self.reminted = False
