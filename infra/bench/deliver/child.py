"""A sender's process, from the bench's side."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path

from infra.bench.cores import on
from infra.bench.deliver.handed import write
from infra.bench.deliver.material import hand_over
from infra.bench.deliver.report import BenchError, Order, Report, decode_report, encode
from infra.bench.deliver.senders import DIFFERENT, OF_REQUESTS
from infra.bench.deliver.servers import Server
from infra.stack import process
from shared.wire.sends import Platform

_GRACE = 15.0
"""Seconds a sender has to import what it needs, and to end."""
_ROOT = Path(__file__).resolve().parents[3]


class Child:
    """Pushes what it is told to. Started with the first order."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], cores: AbstractSet[int], log: Path
    ) -> None:
        """`arguments`: of Python."""
        self._arguments = arguments
        self._environment = environment
        self._cores = cores
        self._log = log
        self._process: Process | None = None

    async def start(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log, on(self._cores):
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, *self._arguments),
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                # Nothing but what we say: neither the caller's SURNIA_* nor the `.env` where the bench was started.
                cwd=self._log.parent,
                env={name: value for name, value in os.environ.items() if not name.startswith("SURNIA_")}
                | dict(self._environment)
                | {"PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))},
            )

    async def push(self, pushes: int, within: float) -> Report:
        """Raises `BenchError` where it could not."""
        if self._process is None:
            await self.start()
        assert self._process
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(encode(Order(pushes, within)) + b"\n")
            async with asyncio.timeout(within + _GRACE):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise BenchError(f"not finished within {within:.0f} s") from None
        except ConnectionError:
            line = b""
        if not line:
            raise BenchError("the process ended. It said:\n" + "\n".join(process.tail(self._log)))
        report = decode_report(line)
        if report.error:
            raise BenchError(report.error)
        return report

    async def close(self) -> None:
        """End it: by the end of its input, or by signals where that is not enough."""
        if self._process is None:
            return
        if self._process.stdin:
            self._process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._process.wait()
        for stop in (self._process.terminate, self._process.kill):
            if self._process.returncode is not None:
                return
            stop()
            with suppress(TimeoutError):
                async with asyncio.timeout(_GRACE):
                    await self._process.wait()


class SenderChild(Child):
    """One of `senders`; what it is to push is written for it when it starts."""

    def __init__(self, name: str, server: Server, cores: AbstractSet[int], folder: Path) -> None:
        file = folder / f"handed-{name}.json"
        super().__init__(
            ("-m", "infra.bench.deliver.senders", name, str(file)),
            server.environment,
            cores,
            folder / "logs" / f"bench-{name}.log",
        )
        self._name = name
        self._settings = server.settings
        self._file = file

    async def start(self) -> None:
        platform: Platform = "android" if self._name == "firebase_admin" else "ios"
        made = await hand_over(self._settings, DIFFERENT, platform, as_requests=self._name in OF_REQUESTS)
        write(self._file, made)
        await super().start()
