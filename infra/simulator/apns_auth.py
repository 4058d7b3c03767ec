"""Provider tokens: JWTs signed with ES256 (Apple's "Establishing a token-based connection to APNs")."""

from __future__ import annotations

from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from infra.simulator.reasons import Refused

LIFETIME: Final = 3600.0  # seconds after `iat`
SKEW: Final = 300.0  # seconds that a sender's clock may be ahead
TOKEN_LIMIT: Final = 4096  # characters of the header
CACHED: Final = 4096  # verifying costs 100 µs, looking up a known token nothing


class ProviderTokens:
    """Verifies `authorization: bearer JWT`, each token once."""

    def __init__(self, public_key: bytes, team_id: str = "", key_id: str = "") -> None:
        key = load_pem_public_key(public_key)
        if not isinstance(key, EllipticCurvePublicKey):
            raise TypeError("The APNs public key must be an EC key (P-256): it verifies ES256 signatures.")
        self._key = key
        self._team_id = team_id
        self._key_id = key_id
        self._issued: dict[str, float | None] = {}  # header -> iat; None for one that is not valid

    def check(self, authorization: str | None, now: float) -> None:
        """Raise Refused unless the header holds a valid token that was issued within the last hour."""
        if not authorization:
            raise Refused("MissingProviderToken")
        if len(authorization) > TOKEN_LIMIT:
            raise Refused("InvalidProviderToken")
        try:
            issued = self._issued[authorization]
        except KeyError:
            issued = self._verify(authorization)
            if len(self._issued) >= CACHED:
                self._issued.clear()
            self._issued[authorization] = issued
        if issued is None or issued > now + SKEW:
            raise Refused("InvalidProviderToken")
        if now - issued > LIFETIME:
            raise Refused("ExpiredProviderToken")

    def _verify(self, authorization: str) -> float | None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        # Times are checked by `check`, against the simulator's clock and not PyJWT's.
        options: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False}
        try:
            decoded = jwt.decode_complete(token.strip(), self._key, algorithms=["ES256"], options=options)
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
        key_id, claims = decoded["header"].get("kid"), decoded["payload"]
        team, issued = claims.get("iss"), claims.get("iat")
        if not isinstance(key_id, str) or not key_id or (self._key_id and key_id != self._key_id):
            return None
        if not isinstance(team, str) or not team or (self._team_id and team != self._team_id):
            return None
        return float(issued) if isinstance(issued, int) and 0 <= issued < 1 << 40 else None
