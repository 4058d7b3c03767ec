"""Why a provider refuses, and the HTTP status that goes with it.

APNs: Apple's "Handling notification responses from APNs". FCM: Google's "FCM v1 REST: ErrorCode" and
"google.rpc.Code".
"""

from __future__ import annotations

from typing import Final

APNS: Final[dict[str, int]] = {
    "BadCollapseId": 400,
    "BadDeviceToken": 400,
    "BadExpirationDate": 400,
    "BadMessageId": 400,
    "BadPriority": 400,
    "BadTopic": 400,
    "DeviceTokenNotForTopic": 400,
    "DuplicateHeaders": 400,
    "IdleTimeout": 400,
    "InvalidPushType": 400,
    "MissingDeviceToken": 400,
    "MissingTopic": 400,
    "PayloadEmpty": 400,
    "TopicDisallowed": 400,
    "BadCertificate": 403,
    "BadCertificateEnvironment": 403,
    "ExpiredProviderToken": 403,
    "Forbidden": 403,
    "InvalidProviderToken": 403,
    "MissingProviderToken": 403,
    "UnrelatedKeyIdInToken": 403,
    "BadEnvironmentKeyIdInToken": 403,
    "BadPath": 404,
    "MethodNotAllowed": 405,
    "ExpiredToken": 410,
    "Unregistered": 410,
    "PayloadTooLarge": 413,
    "TooManyProviderTokenUpdates": 429,
    "TooManyRequests": 429,
    "InternalServerError": 500,
    "ServiceUnavailable": 503,
    "Shutdown": 503,
}

# Error code -> (HTTP status, google.rpc.Code's name). Those of FcmError come first.
FCM: Final[dict[str, tuple[int, str]]] = {
    "INVALID_ARGUMENT": (400, "INVALID_ARGUMENT"),
    "THIRD_PARTY_AUTH_ERROR": (401, "UNAUTHENTICATED"),
    "SENDER_ID_MISMATCH": (403, "PERMISSION_DENIED"),
    "UNREGISTERED": (404, "NOT_FOUND"),
    "QUOTA_EXCEEDED": (429, "RESOURCE_EXHAUSTED"),
    "INTERNAL": (500, "INTERNAL"),
    "UNAVAILABLE": (503, "UNAVAILABLE"),
    "UNAUTHENTICATED": (401, "UNAUTHENTICATED"),
    "PERMISSION_DENIED": (403, "PERMISSION_DENIED"),
    "NOT_FOUND": (404, "NOT_FOUND"),
}
# Answered before a message reaches FCM itself, so without an FcmError in the details.
FCM_FRONT_DOOR: Final = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND"})

# "OAuth 2.0 Authorization Framework" (RFC 6749), 5.2; the last two are what an overloaded server says.
OAUTH: Final[dict[str, int]] = {
    "invalid_request": 400,
    "invalid_client": 401,
    "invalid_grant": 400,
    "unsupported_grant_type": 400,
    "invalid_scope": 400,
    "internal_failure": 500,
    "temporarily_unavailable": 503,
}


def status_of(provider: str, reason: str) -> int | None:
    """The documented HTTP status of a reason; None for one that the provider does not know."""
    if provider == "apns":
        return APNS.get(reason)
    if provider == "fcm":
        return FCM[reason][0] if reason in FCM else None
    return OAUTH.get(reason)


class Refused(Exception):  # noqa: N818  # an answer, not a mistake of ours
    """A request that is answered with an error, and all that the answer will say."""

    def __init__(
        self,
        reason: str,
        message: str = "",
        *,
        status: int | None = None,
        retry_after: int | None = None,
        timestamp: int | None = None,
        field: str = "",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.message = message
        self.status = status
        self.retry_after = retry_after  # seconds
        self.timestamp = timestamp  # unix milliseconds
        self.field = field  # the field at fault, for google.rpc.BadRequest
