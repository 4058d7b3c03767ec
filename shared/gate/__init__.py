"""The gate that both paths write through: claim when a send is planned, settle when a provider accepted it."""

from shared.gate.contract import Claim, Gate, GateUnavailableError, SendKey, Standing
from shared.gate.redis_gate import RedisGate, connect_redis

__all__ = ["Claim", "Gate", "GateUnavailableError", "RedisGate", "SendKey", "Standing", "connect_redis"]
