"""What goes back over the wire, in each provider's own form."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from infra.simulator.faults.transport import OfRequest
from infra.simulator.reasons import APNS, FCM, FCM_FRONT_DOOR, OAUTH, Refused

JSON: Final = ("content-type", "application/json; charset=UTF-8")
FCM_ERROR: Final = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST: Final = "type.googleapis.com/google.rpc.BadRequest"
encode = msgspec.json.Encoder().encode


class Reply(NamedTuple):
    """An answer. An empty body ends the stream on its HEADERS frame, as APNs does after a success."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    fault: OfRequest | None = None  # what happens on the wire instead of the answer


def unanswered(fault: OfRequest) -> Reply:
    """What a request gets that is broken off before it is accepted."""
    return Reply(0, [], fault=fault)


def json_reply(status: int, value: Any) -> Reply:
    return Reply(status, [JSON], encode(value))


def _with_retry_after(headers: list[tuple[str, str]], refused: Refused) -> list[tuple[str, str]]:
    if refused.retry_after is not None:
        headers.append(("retry-after", str(refused.retry_after)))
    return headers


def apns_refusal(refused: Refused, apns_id: str) -> Reply:
    """`{"reason": …}`, and with a 410 the `timestamp` in milliseconds (Apple's "Handling notification responses")."""
    status = refused.status or APNS[refused.reason]
    body: dict[str, Any] = {"reason": refused.reason}
    if refused.timestamp is not None:
        body["timestamp"] = refused.timestamp
    return Reply(status, _with_retry_after([("apns-id", apns_id), JSON], refused), encode(body))


def fcm_refusal(refused: Refused) -> Reply:
    """A google.rpc.Status with an FcmError, as in Google's "FCM error codes"."""
    documented, name = FCM.get(refused.reason, (500, "UNKNOWN"))
    status = refused.status or documented
    details: list[dict[str, Any]] = []
    if refused.reason not in FCM_FRONT_DOOR:
        details.append({"@type": FCM_ERROR, "errorCode": refused.reason})
    if refused.field:
        violation = {"field": refused.field, "description": refused.message}
        details.append({"@type": BAD_REQUEST, "fieldViolations": [violation]})
    error: dict[str, Any] = {"code": status, "message": refused.message or refused.reason, "status": name}
    if details:
        error["details"] = details
    return Reply(status, _with_retry_after([JSON], refused), encode({"error": error}))


def oauth_refusal(refused: Refused) -> Reply:
    """An error in the form of RFC 6749, 5.2."""
    body = {"error": refused.reason, "error_description": refused.message or refused.reason}
    status = refused.status or OAUTH[refused.reason]
    return Reply(status, _with_retry_after([JSON], refused), encode(body))
