"""Device tokens that look like the providers' own and belong to nobody."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import shake_128
from random import Random


def apns_token(rng: Random) -> str:
    """64 hex characters, as APNs gives them out."""
    return rng.randbytes(32).hex()


def fcm_token(rng: Random) -> str:
    """About 150 URL-safe characters: an instance id of 22, a colon, and the rest, as FCM gives them out."""
    return _fcm_token(rng.randbytes(_FCM_BYTES))


def fcm_token_beside(apns_token: str) -> str:
    """The FCM token of the same iOS device: made of its APNs token, without touching the dice."""
    return _fcm_token(shake_128(apns_token.encode()).digest(_FCM_BYTES))


def _fcm_token(data: bytes) -> str:
    text = urlsafe_b64encode(data).decode("ascii")
    return f"{text[:22]}:APA91b{text[22:]}"


_FCM_BYTES = 108
