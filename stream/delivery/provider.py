"""What a provider of pushes is to the deliverer."""

from __future__ import annotations

from typing import Protocol

import msgspec

from shared.templates import Text
from shared.wire.sends import Send
from stream.delivery.errors import Verdict
from stream.delivery.exchange import PushRequest, PushResponse

MAX_PAYLOAD = 4096
"""Bytes of a payload, the same for both (Apple's 'Generating a remote notification'; Google's 'FCM ErrorCode')."""


class PayloadTooLargeError(ValueError):
    """The rendered payload has more than 4096 bytes: shorten the texts in shared/templates."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class CredentialsError(RuntimeError):
    """The provider's credentials could not be renewed.

    `transient`: the token server did not answer, so trying again may help; else somebody has to change the set-up.
    """

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class SetupError(RuntimeError):
    """A setting of the provider is missing or wrong; the message names it."""


class Push(msgspec.Struct, frozen=True):
    """One send on one device, ready to be put into a provider's words.

    `now` is unix seconds; `ios`: whether it is an iOS device, whatever provider reaches it.
    """

    send: Send
    send_id: str
    text: Text
    token: str
    now: float
    ios: bool = False


class Provider(Protocol):
    """Turns pushes into requests and answers into verdicts. No I/O but for the credentials."""

    @property
    def name(self) -> str:
        """`apns` or `fcm`: what outcomes and reason codes call it."""

    async def credentials(self) -> str:
        """The value of the authorization header, renewed in time. Raises `CredentialsError`."""

    def reject(self, credentials: str) -> None:
        """The provider called these credentials too old: the next ones are to be new."""

    def request(self, push: Push, credentials: str) -> PushRequest:
        """The request for a push. Raises `PayloadTooLargeError`."""

    def verdict(self, answer: PushResponse) -> Verdict:
        """What an answer means."""
