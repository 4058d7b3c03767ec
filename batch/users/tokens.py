"""Device tokens that look like the providers' own and belong to nobody."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from random import Random


def apns_token(rng: Random) -> str:
    """64 hex characters, as APNs gives them out."""
    return rng.randbytes(32).hex()


def fcm_token(rng: Random) -> str:
    """About 150 URL-safe characters: an instance id of 22, a colon, and the rest, as FCM gives them out."""
    text = urlsafe_b64encode(rng.randbytes(108)).decode("ascii")
    return f"{text[:22]}:APA91b{text[22:]}"
