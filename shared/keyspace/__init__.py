"""Where the shards live in Redis or Valkey: on one server, on a Sentinel's primary, or spread over a cluster."""

from shared.keyspace.calls import Call, Script
from shared.keyspace.errors import GateClosedError, GateUnavailableError, explain
from shared.keyspace.keyspace import Keyspace, open_keyspace

__all__ = ["Call", "GateClosedError", "GateUnavailableError", "Keyspace", "Script", "explain", "open_keyspace"]
