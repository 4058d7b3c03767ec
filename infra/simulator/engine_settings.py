"""The settings with which an engine delivers to a simulator instead of to Apple and Google."""

from __future__ import annotations

from pathlib import Path

from infra.stack.keys import ensure_provider_keys
from infra.stack.tls import ensure_tls


def engine_settings(state_dir: Path, url: str) -> dict[str, str]:
    """`SURNIA_*` variables for the simulator at `url` whose keys and certificates are in `state_dir`."""
    keys = ensure_provider_keys(state_dir, f"{url}/token")
    return {
        "SURNIA_APNS_URL": url,
        "SURNIA_FCM_URL": url,
        "SURNIA_CA_FILE": str(ensure_tls(state_dir).ca.resolve()),
        "SURNIA_APNS_KEY_FILE": str(keys.apns_key_file.resolve()),
        "SURNIA_APNS_KEY_ID": "SIMULATED1",
        "SURNIA_APNS_TEAM_ID": "SIMULATED0",
        "SURNIA_FCM_CREDENTIALS_FILE": str(keys.fcm_credentials_file.resolve()),
        # It has no quota; and a clock that jumps would let the pacer begin from cold at every step.
        "SURNIA_FCM_PER_SECOND": "0",
    }
