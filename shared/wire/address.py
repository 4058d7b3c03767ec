"""E-mail addresses as all parts read them. What is accepted may stand in a header or a COPY line as it is."""

from __future__ import annotations

import re

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
BARE = rf"{_ATOM}(\.{_ATOM})*@{_LABEL}(\.{_LABEL})+"
"""RFC 5321's mailbox without quoted names, address literals and SMTPUTF8: more servers refuse each of them than there
are users who have one. A domain in another script comes as its xn-- form."""
MAX_LOCAL, MAX_ADDRESS = 64, 254
"""Characters (RFC 5321, 4.5.3.1)."""
# The look ahead counts the local part. `$` alone would let a last newline through.
PATTERN = rf"^(?=[^@]{{1,{MAX_LOCAL}}}@){BARE}$(?!\n)"
PATTERN_OR_EMPTY = rf"^((?=[^@]{{1,{MAX_LOCAL}}}@){BARE})?$(?!\n)"

_match = re.compile(PATTERN).match


def is_address(text: str) -> bool:
    """Whether mail can be sent to it, as far as its form says."""
    return len(text) <= MAX_ADDRESS and bool(_match(text))


def masked(address: str) -> str:
    """Enough to recognise it by: `a…@example.com`."""
    name, at, domain = address.rpartition("@")
    return f"{name[:1]}…{at}{domain}"
