"""Keys of the push providers for local use, in the form that Apple and Google hand them out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.stack.state import exclusive, write_private

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey


@dataclass(frozen=True)
class ProviderKeys:
    """Files: private ones for Surnia (0600), public ones for whoever checks the signatures."""

    apns_key_file: Path
    apns_public_key_file: Path
    fcm_credentials_file: Path
    fcm_public_key_file: Path


def ensure_provider_keys(state_dir: Path, token_uri: str, project_id: str = "surnia-demo") -> ProviderKeys:
    """The provider keys of a state folder, made at the first call; `token_uri` is where FCM's tokens are asked for."""
    folder = state_dir.absolute() / "keys"
    keys = ProviderKeys(folder / "apns.p8", folder / "apns.pub.pem", folder / "fcm.json", folder / "fcm.pub.pem")
    with exclusive(folder / "lock"):
        folder.chmod(0o700)
        if not (keys.apns_key_file.exists() and keys.apns_public_key_file.exists()):
            from cryptography.hazmat.primitives.asymmetric import ec

            _write_pair(ec.generate_private_key(ec.SECP256R1()), keys.apns_key_file, keys.apns_public_key_file)
        _ensure_fcm(keys, token_uri, project_id)
    return keys


def _ensure_fcm(keys: ProviderKeys, token_uri: str, project_id: str) -> None:
    try:
        account: dict[str, str] = json.loads(keys.fcm_credentials_file.read_text())
    except (OSError, ValueError):
        account = {}
    if not account.get("private_key") or not keys.fcm_public_key_file.exists():
        from cryptography.hazmat.primitives.asymmetric import rsa

        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        account = {"private_key": _pem(private), "private_key_id": _key_id(private)}
        write_private(keys.fcm_public_key_file, _public_pem(private), 0o644)
    wanted = {
        "type": "service_account",
        "project_id": project_id,
        "private_key_id": account["private_key_id"],
        "private_key": account["private_key"],
        "client_email": f"surnia@{project_id}.iam.gserviceaccount.com",
        "client_id": "100000000000000000000",
        "token_uri": token_uri,
    }
    if wanted != account:
        write_private(keys.fcm_credentials_file, json.dumps(wanted, indent=2) + "\n")


def _write_pair(private: EllipticCurvePrivateKey, key_file: Path, public_file: Path) -> None:
    write_private(public_file, _public_pem(private), 0o644)
    write_private(key_file, _pem(private))


def _pem(private: EllipticCurvePrivateKey | RSAPrivateKey) -> str:
    from cryptography.hazmat.primitives import serialization

    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _public_pem(private: EllipticCurvePrivateKey | RSAPrivateKey) -> str:
    from cryptography.hazmat.primitives import serialization

    return (
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def _key_id(private: RSAPrivateKey) -> str:
    import hashlib

    return hashlib.sha1(_public_pem(private).encode(), usedforsecurity=False).hexdigest()
