"""What a mail server's refusal means: rows by the enhanced status codes of RFC 3463 and the codes added to it.

Sources: RFC 3463 (the codes), 5248 (their registry at IANA), 5321 (replies without one), 7293 (a mailbox that has
changed hands), 7372 (authentication of mail), 7505 (domains without mail).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from stream.delivery.errors import ACCEPTED, Action, Verdict


class Stage(StrEnum):
    """What a mail server was asked when it answered."""

    connect = "connect"
    auth = "auth"
    sender = "sender"
    recipient = "recipient"
    data = "data"


@dataclass(frozen=True, slots=True)
class Row:
    """One permanent refusal: the subject and detail of 5.subject.detail. What is transient, 4.x.x, is tried again."""

    subject: int
    detail: int
    action: Action


ROWS = (
    # Addressing. Retired is what says of an address that nobody reads it, and nothing that could be our own mistake.
    Row(1, 0, Action.fail),
    Row(1, 1, Action.retire),  # no such mailbox
    Row(1, 2, Action.retire),  # no such domain
    Row(1, 3, Action.retire),  # no valid address
    Row(1, 4, Action.fail),  # more than one mailbox
    Row(1, 5, Action.fail),
    Row(1, 6, Action.retire),  # moved, and left no address
    Row(1, 7, Action.stop),  # the sender's address is not valid
    Row(1, 8, Action.stop),  # the sender's domain does not exist
    Row(1, 9, Action.fail),
    Row(1, 10, Action.retire),  # a domain that takes no mail
    # Mailbox.
    Row(2, 0, Action.fail),
    Row(2, 1, Action.retire),  # disabled
    Row(2, 2, Action.fail),  # full: its owner may come back
    Row(2, 3, Action.fail),
    Row(2, 4, Action.fail),
    # The server as a whole.
    Row(3, 0, Action.fail),
    Row(3, 1, Action.fail),
    Row(3, 2, Action.stop),  # takes no mail
    Row(3, 3, Action.fail),
    Row(3, 4, Action.fail),
    Row(3, 5, Action.stop),  # configured wrongly
    # The way there: the relay's trouble with others, and nothing that the address could help.
    Row(4, 0, Action.fail),
    Row(4, 1, Action.fail),
    Row(4, 2, Action.fail),
    Row(4, 3, Action.fail),
    Row(4, 4, Action.fail),
    Row(4, 5, Action.fail),
    Row(4, 6, Action.fail),
    Row(4, 7, Action.fail),
    # Protocol.
    Row(5, 0, Action.fail),
    Row(5, 1, Action.fail),
    Row(5, 2, Action.fail),
    Row(5, 3, Action.fail),
    Row(5, 4, Action.fail),
    Row(5, 5, Action.fail),
    Row(5, 6, Action.fail),
    # Content.
    Row(6, 0, Action.fail),
    Row(6, 1, Action.fail),
    Row(6, 2, Action.fail),
    Row(6, 3, Action.fail),
    Row(6, 4, Action.fail),
    Row(6, 5, Action.fail),
    # Security and policy: login, reputation, SPF, DKIM. Somebody has to look, but for those of one mailbox.
    Row(7, 2, Action.fail),  # a mailing list that is closed
    Row(7, 17, Action.retire),  # the mailbox belongs to somebody else now
    Row(7, 18, Action.retire),  # the domain does
)
_SECURITY = 7
_BY_CODE = {(row.subject, row.detail): row.action for row in ROWS}
_NEEDS_LOGIN = {530, 534, 535, 538}
"""Replies to whatever is asked before a login that the server wants (RFC 4954)."""
_ABOUT_THE_MAIL = {Stage.recipient, Stage.data}
_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?!\S)")


def verdict(stage: Stage, code: int, text: str) -> Verdict:
    """What to do about a reply. `text`: what follows the code, with the enhanced code where the server has those."""
    if 200 <= code < 300:
        return ACCEPTED
    found = _ENHANCED.match(text)
    subject, detail = (int(found[2]), int(found[3])) if found and int(found[1]) == code // 100 else (0, 0)
    place: tuple[str, ...] = () if stage in _ABOUT_THE_MAIL else (stage,)
    numbers = (code // 100, subject, detail) if subject else ()
    reason = "_".join(map(str, ("smtp", *place, code, *numbers)))
    action = _action(stage, code, subject, detail)
    # A relay that knows none of them is more likely than that nobody has a mailbox.
    return Verdict(action, reason, suspect=action is Action.retire)


def _action(stage: Stage, code: int, subject: int, detail: int) -> Action:
    if 400 <= code < 500:
        return Action.retry
    # What is wrong before a recipient was named is wrong for all of them. So is a reply that is none.
    if stage not in _ABOUT_THE_MAIL or code in _NEEDS_LOGIN or not 500 <= code < 600:
        return Action.stop
    # Without an enhanced code 550 may be anything, from "no such user" to a blocked sender: nobody is retired on it.
    return _BY_CODE.get((subject, detail), Action.stop if subject == _SECURITY else Action.fail)
