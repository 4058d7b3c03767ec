"""What is asked of the simulator, whoever asks: keys, tokens, payloads, headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt

from infra.simulator.process import SimulatorProcess
from infra.stack.keys import ProviderKeys, ensure_provider_keys
from infra.stack.tls import ensure_tls

TOPIC = "com.example.app"


def ca(simulator: SimulatorProcess) -> Path:
    return ensure_tls(simulator.state_dir).ca


def keys(simulator: SimulatorProcess) -> ProviderKeys:
    return ensure_provider_keys(simulator.state_dir, f"{simulator.url}/token")


def device() -> str:
    return uuid4().hex * 2


def payload(send_id: str = "s1", kind: str = "practice") -> dict[str, Any]:
    return {"aps": {"alert": {"title": "Hi", "body": "Practise"}}, "send_id": send_id, "kind": kind}


def provider_headers(simulator: SimulatorProcess, now: float, **more: str) -> dict[str, str]:
    key = keys(simulator).apns_key_file.read_bytes()
    token = jwt.encode({"iss": "TEAM", "iat": int(now)}, key, algorithm="ES256", headers={"kid": "KEY"})
    return {"authorization": f"bearer {token}", "apns-topic": TOPIC, "apns-push-type": "alert"} | more
