"""Google's token address: a signed assertion in, an access token out.

Google's "Using OAuth 2.0 for server to server applications" and RFC 7523. Assertions and access tokens go by the
machine's clock: google-auth signs and renews by it, whatever the simulator's clock says.
"""

from __future__ import annotations

import secrets
from typing import Any, Final
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from infra.simulator.reasons import Refused
from shared.clock import Clock

GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
# google-auth 2 puts this audience into every assertion, wherever `token_uri` points.
GOOGLE_AUDIENCE: Final = "https://oauth2.googleapis.com/token"
SCOPES: Final = frozenset(
    {"https://www.googleapis.com/auth/firebase.messaging", "https://www.googleapis.com/auth/cloud-platform"}
)
LIFETIME: Final = 3600  # seconds
SKEW: Final = 300.0  # seconds
BODY_LIMIT: Final = 16_384
KEPT: Final = 10_000  # access tokens; the oldest goes first


class AccessTokens:
    """The access tokens that were issued and when they end (machine time)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends: dict[str, float] = {}

    def issue(self) -> str:
        token = f"ya29.{secrets.token_urlsafe(48)}"
        while len(self._ends) >= KEPT:
            del self._ends[next(iter(self._ends))]
        self._ends[f"bearer {token}"] = self._clock.now() + LIFETIME
        return token

    def valid(self, authorization: str | None) -> bool:
        """Whether an `authorization` header names a token of ours that has not ended."""
        if not authorization or len(authorization) > 512:
            return False
        scheme, _, token = authorization.partition(" ")
        ends = self._ends.get(f"{scheme.lower()} {token}")
        return ends is not None and self._clock.now() < ends


class TokenEndpoint:
    """`POST /token`."""

    def __init__(
        self, tokens: AccessTokens, public_key: bytes, clock: Clock, client_email: str, token_uri: str
    ) -> None:
        key = load_pem_public_key(public_key)
        if not isinstance(key, RSAPublicKey):
            raise TypeError("The FCM public key must be an RSA key: it verifies RS256 signatures.")
        self._tokens = tokens
        self._key = key
        self._clock = clock
        self._client_email = client_email
        self._audiences = [GOOGLE_AUDIENCE, token_uri]

    def answer(self, body: bytes) -> dict[str, Any]:
        """A token for a form with a good assertion; raises Refused."""
        try:
            form = parse_qs(body.decode("ascii"), max_num_fields=16, strict_parsing=True)
        except ValueError:
            raise Refused("invalid_request", "The body is not an URL-encoded form.") from None
        if form.get("grant_type") != [GRANT]:
            raise Refused("unsupported_grant_type", f"grant_type must be {GRANT}")
        assertion = form.get("assertion", [])
        if len(assertion) != 1:
            raise Refused("invalid_request", "One assertion is needed.")
        self._verify(assertion[0])
        return {"access_token": self._tokens.issue(), "expires_in": LIFETIME, "token_type": "Bearer"}

    def _verify(self, assertion: str) -> None:
        # PyJWT knows the machine's clock only; times are compared below with the clock we were given.
        options: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
        try:
            claims = jwt.decode(assertion, self._key, algorithms=["RS256"], audience=self._audiences, options=options)
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise Refused("invalid_grant", f"Invalid JWT: {str(error)[:200]}") from None
        now, issued, ends = self._clock.now(), claims.get("iat"), claims.get("exp")
        if not isinstance(issued, int) or not isinstance(ends, int):
            raise Refused("invalid_grant", "Invalid JWT: iat and exp must be unix seconds.")
        if issued > now + SKEW or ends < now - SKEW or not 0 < ends - issued <= LIFETIME:
            raise Refused("invalid_grant", "Invalid JWT: it must be issued now and end within one hour.")
        if self._client_email and claims.get("iss") != self._client_email:
            raise Refused("invalid_grant", "Invalid grant: account not found")
        scope = claims.get("scope")
        if not isinstance(scope, str) or SCOPES.isdisjoint(scope.split()):
            raise Refused("invalid_scope", "A scope that allows firebase.messaging is needed.")
