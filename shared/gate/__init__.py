"""The gate that both paths write through: claim when a send is planned, settle when a provider accepted it."""

from shared.gate.contract import Claim, Gate, GateClosedError, GateUnavailableError, SendKey, Standing
from shared.gate.keeper import Keeper, open_fresh
from shared.gate.redis_gate import RedisGate
from shared.gate.rules import Rule

__all__ = [
    "Claim",
    "Gate",
    "GateClosedError",
    "GateUnavailableError",
    "Keeper",
    "RedisGate",
    "Rule",
    "SendKey",
    "Standing",
    "open_fresh",
]
