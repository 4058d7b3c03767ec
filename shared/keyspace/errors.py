"""What a server's answer means: not now, not until it is rebuilt, or a mistake of ours."""

from __future__ import annotations

from redis.exceptions import (
    AskError,
    ClusterError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
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


_LATER = (
    AskError,
    ClusterError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
"""Answers of a server that may do it later, by itself or put right by somebody. A subclass of AskError: MOVED."""
_LATER_WORDS = ("BUSY", "MISCONF", "NOREPLICAS", "UNBLOCKED")
_REMEDIES = {
    "AskError": "a part of the cluster is being moved: wait",
    "AuthenticationError": "check the password in SURNIA_REDIS_URL",
    "BUSY": "a script runs on it for too long: SCRIPT KILL, if it is none of Surnia's",
    "BusyLoadingError": "it is reading its data from disk: wait",
    "ClusterDownError": "some of the cluster's slots have no primary: bring their nodes back, see CLUSTER NODES",
    "MISCONF": "it can't write to its disk: see its log",
    "MovedError": "a part of the cluster has moved: wait; for a cluster SURNIA_REDIS_URL is redis+cluster://…",
    "NOREPLICAS": "it has fewer replicas than its min-replicas-to-write: bring them back",
    "NoPermissionError": "its ACL must allow the user in SURNIA_REDIS_URL all commands on all keys",
    "OutOfMemoryError": "its memory is full: raise its maxmemory, or lower SURNIA_GATE_KEEP_HOURS",
    "ReadOnlyError": "it is a replica: a new primary is found by itself after a failover, else check SURNIA_REDIS_URL",
    "TryAgainError": "a part of the cluster is being moved: wait",
}
_REMEDY = "is it up, and SURNIA_REDIS_URL right?"


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
    remedy = _REMEDIES.get(name) or _REMEDIES.get(str(error).partition(" ")[0], _REMEDY)
    return GateUnavailableError(f"the gate does not answer ({name}: {error}): {remedy}")
