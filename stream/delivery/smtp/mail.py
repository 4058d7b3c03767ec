"""A send as an e-mail: the message, and what a mail server's answers mean.

Sources: RFC 5322 (the message), 2369 and 8058 (List-Unsubscribe with one click), 3834 (mail that nobody wrote).
"""

from __future__ import annotations

from email import policy
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr

from shared.clock import utc
from shared.routes import BY_EMAIL
from shared.settings import Settings
from shared.templates import Catalogue, letter
from shared.unsubscribe import Unsubscribe, UnsubscribeSetupError
from shared.wire.address import is_address
from stream.delivery.errors import Verdict
from stream.delivery.exchange import PushRequest, PushResponse
from stream.delivery.provider import Push, SetupError
from stream.delivery.smtp.codes import Stage, verdict

_SEVEN_BIT = policy.SMTP.clone(cte_type="7bit")
"""Servers that take only ASCII get what all others get."""


class Mail:
    """E-mails, carried by the engine of this package: a request is addressed to `mailto:…`, its body is the message."""

    name = BY_EMAIL

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        """Raises `SetupError` where a setting that e-mail needs is missing."""
        name, address = sender(settings)
        self._from = Address(name, addr_spec=address)
        self._catalogue = catalogue
        try:
            self._unsubscribe = Unsubscribe(settings)
        except UnsubscribeSetupError as error:
            raise SetupError(str(error)) from None

    async def credentials(self) -> str:
        # A connection logs in once, and the engine opens them.
        return ""

    def reject(self, credentials: str) -> None:
        """Nothing to renew: no answer asks for it."""

    def request(self, push: Push, credentials: str) -> PushRequest:  # noqa: ARG002  # a connection has logged in
        """Raises ValueError for an address that is none."""
        if not is_address(push.token):
            raise ValueError("not an e-mail address")
        return PushRequest(f"mailto:{push.token}", [], self._message(push))

    def verdict(self, answer: PushResponse) -> Verdict:
        stage, _, text = answer.body.decode("utf-8", "replace").partition(" ")
        return verdict(Stage(stage), answer.status, text)

    def _message(self, push: Push) -> bytes:
        send = push.send
        frame = self._catalogue.frame(send.locale)
        link = self._unsubscribe.link(send.user_id)
        texts = letter(push.text, frame, link)
        message = EmailMessage(policy=_SEVEN_BIT)
        message["From"] = self._from
        message["Subject"] = push.text.title
        message["Content-Language"] = frame.language
        message.set_content(texts.plain)
        message.add_alternative(texts.html, subtype="html")
        # Written out here: all of them ASCII and none to be folded, which `email` would do even inside a link.
        lines = (
            f"To: <{push.token}>",
            f"Date: {format_datetime(utc(push.now))}",
            # The same for every try, so that a mailbox that has it already can tell.
            f"Message-ID: <{push.send_id}@{self._from.domain}>",
            "Auto-Submitted: auto-generated",
            f"List-Unsubscribe: <{link}>",
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        )
        return "".join(f"{line}\r\n" for line in lines).encode("ascii") + message.as_bytes()


def sender(settings: Settings) -> tuple[str, str]:
    """Name and address that e-mails come from. Raises `SetupError`."""
    name, address = parseaddr(settings.email_from)
    try:
        if is_address(address):
            Address(name, addr_spec=address)
            return name, address
    except (ValueError, MessageError):
        pass
    raise SetupError('SURNIA_EMAIL_FROM: set the sender, such as "Surnia <reminders@example.com>".')
