"""The gate on the stack's server: whether it is open, asked without the engine's slow imports, and opening it."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING

from infra.stack.state import LOOPBACK
from shared.identity import SHARDS

if TYPE_CHECKING:
    from shared.settings import Settings
    from stream.keeping.account import Rebuilt


def closed_shards(port: int, password: str, *, durable: bool) -> int:
    """How many shards of the Valkey on loopback are closed, by the rule of shared/gate/lua/door.lua; a test holds them
    together. One round trip by hand, like `valkey.ping`: `surnia up` asks every time. Raises OSError."""
    keys = " ".join(f"epoch:{{{shard}}}" for shard in range(SHARDS))
    with socket.create_connection((LOOPBACK, port), timeout=3) as connection:
        connection.sendall(f"AUTH {password}\r\nINFO server\r\nMGET {keys}\r\nQUIT\r\n".encode())
        with connection.makefile("rb") as answers:
            said = answers.read().decode(errors="replace")
    server = re.search(r"^run_id:(\w+)", said, re.MULTILINE)
    if not server:
        raise ConnectionError("Valkey does not say who it is")
    _, _, epochs = said.partition(f"*{SHARDS}\r\n")
    if durable:
        return epochs.count("$-1\r\n")
    return SHARDS - len(re.findall(rf"^{server[1]}[+ ]", epochs, re.MULTILINE))


def ask(settings: Settings) -> int:
    """The same of whatever server the settings name. Raises `GateUnavailableError`."""
    from shared.gate import Keeper

    async def closed() -> int:
        keeper = Keeper.connect(settings)
        try:
            return len(await keeper.closed())
        finally:
            await keeper.close()

    return asyncio.run(closed())


def open_it(settings: Settings) -> Rebuilt:
    """Rebuild the gate. Raises what `shared.patience.SERVER_TROUBLE` lists."""
    from stream.keeping.rebuild import rebuild
    from stream.runtime import Runtime

    async def work() -> Rebuilt:
        runtime = Runtime.of(settings)
        await runtime.open()
        try:
            return await rebuild(runtime)
        finally:
            await runtime.close()

    return asyncio.run(work())


def open_as_new(settings: Settings) -> None:
    """Open it without its past."""
    from shared.gate import open_fresh

    asyncio.run(open_fresh(settings))


def closed_note(shards: int) -> str:
    """What to tell of a closed gate, and what to type."""
    return f"The gate is closed for {shards} of {SHARDS} shards: nothing is sent there. To open it: surnia gate rebuild"
