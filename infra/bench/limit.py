"""What a Redis or Valkey can do at all, measured from outside."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from urllib.parse import urlsplit

from infra.bench.rounds import timed


class Limit:
    """Pipelined HSET by `redis-benchmark`; where it is not installed, over a raw socket."""

    def __init__(self, url: str, pipeline: int, connections: int, operations: int) -> None:
        """`operations` a round."""
        self._url = urlsplit(url)
        self._pipeline = pipeline
        self._connections = connections
        self._operations = operations
        self._binary = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
        self.what = (
            f"{self._binary.rpartition('/')[2]} -P {self._pipeline} HSET"
            if self._binary
            else "raw socket, pipelined HSET"
        )

    async def round(self, n: int) -> float:
        """Operations a second."""
        if self._binary:
            return await asyncio.to_thread(self._benchmark)
        return await timed(self._operations, self._raw(n))

    def _benchmark(self) -> float:
        assert self._binary
        done = subprocess.run(
            [
                # The password by an argument: it reads it from nowhere else, and this server ends with the bench.
                self._binary, "-a", self._url.password or "", "-h", str(self._url.hostname), "-p", str(self._url.port),
                "-c", str(self._connections),
                "-P", str(self._pipeline), "-n", str(self._operations), "-r", str(self._operations), "--csv",
                "HSET", "limit", "__rand_int__", "1",
            ],
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        # "test","rps",… with a line of headings since version 7, without one before.
        *_, values = (line for line in done.stdout.splitlines() if line.startswith('"'))
        return float(values.split(",")[1].strip('"'))

    async def _raw(self, n: int) -> None:
        reader, writer = await asyncio.open_connection(self._url.hostname, self._url.port)
        writer.write(f"AUTH {self._url.password}\r\n".encode())
        await reader.readline()
        for start in range(0, self._operations, self._pipeline):
            writer.write(b"".join(b"HSET limit:%d %d 1\r\n" % (n, start + k) for k in range(self._pipeline)))
            for _ in range(self._pipeline):
                await reader.readline()
        writer.close()
        await writer.wait_closed()
