"""Links that take somebody off the e-mails: signed, so that nobody can do so for others by counting up ids (RFC 8058).

The app that serves `SURNIA_UNSUBSCRIBE_URL` hands the parameter `t` of a POST to `Unsubscribe.user_of` and sends the
event `preferences_changed` with `email_opted_out`, or runs `surnia events unsubscribe`, which does both. A GET must
only ask for a confirmation: mail scanners open every link.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from shared.identity import MAX_USER_ID
from shared.settings import Settings

LEAST_KEY = 32
"""Characters of a key."""
_USER_BYTES, _MAC_BYTES = 8, 16
_PURPOSE = b"surnia unsubscribe 1 "
"""Signed too, so that a signature is good for nothing else, should a key be used for anything else."""


class UnsubscribeSetupError(ValueError):
    """A setting of the links is missing or wrong; the message names it."""


class BadTokenError(ValueError):
    """This is not a link of ours: it was cut off, changed, or signed with a key that is no longer accepted."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class Unsubscribe:
    """Makes the links and reads them."""

    def __init__(self, settings: Settings) -> None:
        """Raises `UnsubscribeSetupError`."""
        secrets = [key.strip() for key in settings.unsubscribe_keys.get_secret_value().split(",")]
        if any(len(key) < LEAST_KEY for key in secrets):
            raise UnsubscribeSetupError(
                f"SURNIA_UNSUBSCRIBE_KEYS: set one or more secrets of {LEAST_KEY} characters, comma-separated "
                "(`openssl rand -hex 32` makes one)."
            )
        self._keys = [key.encode() for key in secrets]
        self._url = urlsplit(settings.unsubscribe_url)
        # It becomes a header line as it is; RFC 8058 asks for https.
        plain = settings.unsubscribe_url.isascii() and settings.unsubscribe_url.isprintable()
        if self._url.scheme != "https" or not self._url.netloc or not plain or set(" <>,") & set(self._url.geturl()):
            raise UnsubscribeSetupError(
                "SURNIA_UNSUBSCRIBE_URL: set the https address of the app's page, such as "
                "https://app.example.com/unsubscribe."
            )

    def link(self, user_id: int) -> str:
        """The link of a user, the same every time."""
        query = urlencode([*parse_qsl(self._url.query, keep_blank_values=True), ("t", self.token(user_id))])
        return urlunsplit(self._url._replace(query=query, fragment=""))

    def token(self, user_id: int) -> str:
        """32 characters that may stand in a URL."""
        user = user_id.to_bytes(_USER_BYTES, "big")
        return urlsafe_b64encode(user + _sign(self._keys[0], user)).decode()

    def user_of(self, token: str) -> int:
        """Whose token it is. Raises `BadTokenError`."""
        try:
            raw = urlsafe_b64decode(token.encode("ascii"))
        except ValueError:
            raise BadTokenError from None
        user, mac = raw[:_USER_BYTES], raw[_USER_BYTES:]
        good = [hmac.compare_digest(mac, _sign(key, user)) for key in self._keys]
        user_id = int.from_bytes(user, "big")
        if not any(good) or not 0 < user_id <= MAX_USER_ID:
            raise BadTokenError
        return user_id


def token_in(link: str) -> str:
    """The token of a whole link; what is no link is the token itself."""
    return dict(parse_qsl(urlsplit(link).query)).get("t", link)


def _sign(key: bytes, user: bytes) -> bytes:
    return hmac.digest(key, _PURPOSE + user, sha256)[:_MAC_BYTES]
