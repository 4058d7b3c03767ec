"""APNs' provider token, a JWT that a whole fleet shares without talking to each other.

Source: Apple's 'Establishing a token-based connection to APNs': not older than 60 minutes, and not renewed more often
than every 20, else 429 TooManyProviderTokenUpdates.
"""

from __future__ import annotations

from math import floor
from pathlib import Path

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm
from jwt.utils import der_to_raw_signature

from shared.clock import Clock
from stream.delivery.provider import SetupError

LIFE = 40 * 60
"""Seconds a token is used: in the middle of Apple's 20 and 60 minutes."""
LEAST_AGE = 20 * 60
"""Seconds before which a token is never renewed."""


class _Es256(ECAlgorithm):
    """ES256 with RFC 6979's nonces: the same claims give the same token, byte for byte, in every worker."""

    def __init__(self) -> None:
        super().__init__(SHA256)

    def sign(self, msg: bytes, key: EllipticCurvePrivateKey | EllipticCurvePublicKey) -> bytes:
        if not isinstance(key, EllipticCurvePrivateKey):
            raise TypeError("a token is signed with a private key")
        try:
            signature = key.sign(msg, ECDSA(SHA256(), deterministic_signing=True))
        except UnsupportedAlgorithm:
            # An OpenSSL before 3.2: each worker has a token of its own, which Apple only counts for large fleets.
            return super().sign(msg, key)
        return der_to_raw_signature(signature, key.curve)


class ProviderToken:
    """The current token. Issued at a full multiple of `LIFE`, so that all workers agree and change together."""

    def __init__(self, key_file: Path, key_id: str, team_id: str, clock: Clock) -> None:
        """Raises `SetupError` for a file that holds no EC key."""
        try:
            key = load_pem_private_key(key_file.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise SetupError(f"SURNIA_APNS_KEY_FILE {key_file} holds no usable key: {error}") from None
        if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise SetupError(f"SURNIA_APNS_KEY_FILE {key_file} must hold a P-256 key, as Apple's .p8 files do.")
        self._key = key
        self._key_id = key_id
        self._team_id = team_id
        self._clock = clock
        self._jws = jwt.PyJWS(algorithms=[])
        self._jws.register_algorithm("ES256", _Es256())
        self._issued = 0.0
        self._value = ""

    def current(self) -> str:
        """The authorization header's value, `bearer …`; a new one when the last is 40 minutes old."""
        now = self._clock.now()
        # A clock that was turned back makes a token of the future, which APNs refuses, too.
        if not self._value or not 0 <= now - self._issued < LIFE:
            self._mint(floor(now / LIFE) * LIFE)
        return self._value

    def reject(self, value: str) -> None:
        """APNs calls this token expired. Renewed at once, unless that would be one update too many."""
        now = self._clock.now()
        if value == self._value and now - self._issued >= LEAST_AGE:
            self._mint(floor(now))

    def _mint(self, issued: int) -> None:
        claims = msgspec.json.encode({"iss": self._team_id, "iat": issued})
        token = self._jws.encode(claims, self._key, algorithm="ES256", headers={"kid": self._key_id})
        self._issued = issued
        self._value = f"bearer {token}"
