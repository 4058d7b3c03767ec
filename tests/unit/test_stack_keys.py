"""TLS files and provider keys: made once, private, and of the form the providers' own libraries read."""

from __future__ import annotations

import json
import ssl
import stat
from pathlib import Path

import jwt

from infra.stack.keys import ensure_provider_keys
from infra.stack.tls import ensure_tls

TOKEN_URI = "https://127.0.0.1:8443/token"


def private(path: Path) -> bool:
    return stat.S_IMODE(path.stat().st_mode) == 0o600


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """A TLS handshake in memory; raises what a real one would."""
    pipes = [ssl.MemoryBIO() for _ in range(4)]
    ends = [
        client.wrap_bio(pipes[0], pipes[1], server_hostname=name),
        server.wrap_bio(pipes[2], pipes[3], server_side=True),
    ]
    open_ends = set(ends)
    for _ in range(10):
        for end in list(open_ends):
            try:
                end.do_handshake()
                open_ends.discard(end)
            except ssl.SSLWantReadError:
                pass
        pipes[2].write(pipes[1].read())
        pipes[0].write(pipes[3].read())
    assert not open_ends


def test_the_certificate_is_good_for_loopback_by_all_its_names(tmp_path: Path) -> None:
    files = ensure_tls(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.cert, files.key)
    client = ssl.create_default_context(cafile=files.ca)
    for name in ("localhost", "127.0.0.1", "::1"):
        handshake(server, client, name)


def test_tls_files_are_made_once_and_the_key_is_private(tmp_path: Path) -> None:
    first = ensure_tls(tmp_path)
    before = first.cert.read_bytes()
    assert ensure_tls(tmp_path).cert.read_bytes() == before
    assert private(first.key)


def test_provider_keys_are_made_once_and_private(tmp_path: Path) -> None:
    keys = ensure_provider_keys(tmp_path, TOKEN_URI)
    before = [path.read_bytes() for path in (keys.apns_key_file, keys.fcm_credentials_file)]
    again = ensure_provider_keys(tmp_path, TOKEN_URI)
    assert [path.read_bytes() for path in (again.apns_key_file, again.fcm_credentials_file)] == before
    assert private(keys.apns_key_file)
    assert private(keys.fcm_credentials_file)


def test_what_a_private_key_signs_its_public_key_verifies(tmp_path: Path) -> None:
    keys = ensure_provider_keys(tmp_path, TOKEN_URI)
    account = json.loads(keys.fcm_credentials_file.read_text())
    for algorithm, key, public in (
        ("ES256", keys.apns_key_file.read_text(), keys.apns_public_key_file.read_text()),
        ("RS256", account["private_key"], keys.fcm_public_key_file.read_text()),
    ):
        token = jwt.encode({"iss": "team"}, key, algorithm=algorithm)
        assert jwt.decode(token, public, algorithms=[algorithm]) == {"iss": "team"}


def test_another_token_uri_keeps_the_key(tmp_path: Path) -> None:
    before = json.loads(ensure_provider_keys(tmp_path, TOKEN_URI).fcm_credentials_file.read_text())
    after = json.loads(ensure_provider_keys(tmp_path, "https://127.0.0.1:1/token").fcm_credentials_file.read_text())
    assert after == {**before, "token_uri": "https://127.0.0.1:1/token"}
