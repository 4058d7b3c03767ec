"""What a sender is to push, made by the bench and read from a file: a library's process must not be as large as ours.

So nothing of Surnia is imported here.
"""

from __future__ import annotations

from pathlib import Path

import msgspec


class Push(msgspec.Struct, frozen=True):
    """One push, its text rendered; `expires_at` in unix seconds, `ttl` in seconds from when it was made."""

    token: str
    send_id: str
    kind: str
    title: str
    body: str
    expires_at: int
    ttl: int


class Request(msgspec.Struct, frozen=True):
    """Our own request to APNs."""

    url: str
    headers: list[str]
    body: bytes


class Handed(msgspec.Struct, frozen=True):
    """Pushes or requests, as the sender takes them, and the part of the settings that libraries need."""

    url: str
    ca_file: str
    apns_topic: str
    apns_key: str
    apns_key_id: str
    apns_team_id: str
    fcm_account: str
    pushes: list[Push] = []
    requests: list[Request] = []


def read(path: Path) -> Handed:
    return msgspec.json.decode(path.read_bytes(), type=Handed)


def write(path: Path, handed: Handed) -> None:
    path.touch(mode=0o600)  # It holds keys.
    path.write_bytes(msgspec.json.encode(handed))
