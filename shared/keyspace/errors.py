"""What a server's answer means: not now, not until it is rebuilt, or a mistake of ours."""

from __future__ import annotations

from redis.exceptions import (
    AskError,
    ClusterError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)


class GateUnavailableError(RuntimeError):
    """The gate does not answer: nothing may be sent. Wait and ask again; nothing is lost meanwhile.
    See the 'Gate down' runbook in docs/operations.md."""


class GateClosedError(GateUnavailableError):
    """The gate's data is missing or may be incomplete: it stays closed until it is rebuilt (`surnia gate rebuild`)."""


_LATER = (AskError, ClusterError, MasterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError)
"""Answers of a server that may do it a moment later. A subclass of AskError: MOVED."""
_LATER_WORDS = ("BUSY", "MISCONF", "NOREPLICAS", "UNBLOCKED")
_REMEDIES = {
    "OutOfMemoryError": "its memory is full: raise maxmemory, or lower SURNIA_GATE_KEEP_HOURS",
    "ReadOnlyError": "it is a replica: after a failover the new primary is found by itself, else check the address",
    "AuthenticationError": "check the password in SURNIA_REDIS_URL",
}


def explain(error: RedisError | OSError) -> Exception:
    """What to raise for it. An answer that repeating does not mend comes back as it is."""
    if not isinstance(error, ResponseError):
        return _unavailable(error)
    said = str(error)
    if said.startswith("CLOSED"):
        return GateClosedError(f"the gate is closed: {said.removeprefix('CLOSED ')}; run `surnia gate rebuild`")
    if isinstance(error, _LATER) or said.startswith(_LATER_WORDS):
        return _unavailable(error)
    return error


def _unavailable(error: Exception) -> GateUnavailableError:
    name = type(error).__name__
    remedy = _REMEDIES.get(name, "")
    return GateUnavailableError(f"the gate does not answer ({name}: {error})" + (f": {remedy}" if remedy else ""))
