"""A certificate authority and a server certificate for loopback, for the provider simulator."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from infra.stack.state import LOOPBACK, exclusive, write_private

NAMES = ("localhost", LOOPBACK, "::1")
# Far enough away that no checkout outlives it; the authority's key is thrown away once it has signed.
_UNTIL = datetime(2099, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: what clients trust, what the server shows (chain), and its private key."""

    ca: Path
    cert: Path
    key: Path


def ensure_tls(state_dir: Path) -> TlsFiles:
    """The TLS files of a state folder, made at the first call."""
    folder = state_dir.absolute() / "tls"
    files = TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    mark = folder / "names.json"
    with exclusive(folder / "lock"):
        if _names(mark) == list(NAMES) and all(path.exists() for path in (files.ca, files.cert, files.key)):
            return files
        import trustme

        authority = trustme.CA(organization_name="Surnia", organization_unit_name="local stack")
        server = authority.issue_cert(*NAMES, not_after=_UNTIL)
        write_private(files.key, server.private_key_pem.bytes().decode())
        chain = "".join(blob.bytes().decode() for blob in server.cert_chain_pems)
        write_private(files.cert, chain, 0o644)
        write_private(files.ca, authority.cert_pem.bytes().decode(), 0o644)
        # Written last: without it the next call makes all files anew.
        write_private(mark, json.dumps(NAMES) + "\n", 0o644)
    return files


def _names(mark: Path) -> list[str] | None:
    try:
        names = json.loads(mark.read_text())
    except (OSError, ValueError):
        return None
    return names if isinstance(names, list) else None
