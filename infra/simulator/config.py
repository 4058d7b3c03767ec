"""What a simulator is started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class SimulatorConfig:
    """Keys, addresses and files. An empty team, key id or client email accepts any."""

    host: str
    port: int
    cert_file: Path
    key_file: Path
    apns_public_key: bytes  # PEM
    fcm_public_key: bytes  # PEM
    topic: str
    team_id: str = ""
    key_id: str = ""
    project_id: str
    client_email: str = ""
    devices: Path | None = None
    faults: Path | None = None
    admin_token: str = ""
    ready_file: Path | None = None
    journal: Path | None = None

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"
