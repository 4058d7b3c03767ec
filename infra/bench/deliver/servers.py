"""Who answers the pushes: nginx where it is installed, else the provider simulator."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from infra.bench.cores import Cores, on
from infra.bench.deliver.nginx import Nginx, find_nginx
from infra.simulator.engine_settings import engine_settings
from infra.simulator.process import SimulatorProcess
from shared.settings import Settings


@dataclass(frozen=True)
class Server:
    """`environment`: `SURNIA_*` for whoever is to push to it."""

    what: str
    environment: dict[str, str]

    @property
    def settings(self) -> Settings:
        """The same for this process."""
        return Settings.model_validate(
            {name.removeprefix("SURNIA_").lower(): value for name, value in self.environment.items()}
        )


class Servers:
    """The first is what everybody is measured on. The others are for those who cannot finish there; each is started
    when it is needed, and ends with `until`."""

    def __init__(self, folder: Path, environment: dict[str, str], cores: Cores, until: ExitStack) -> None:
        self._folder = folder
        self._environment = environment
        self._cores = cores
        self._until = until
        self._nginx = find_nginx()
        self._kinds: list[Callable[[], Server]] = [self._start_nginx] if self._nginx else []
        self._kinds.append(self._start_simulator)
        self._started: list[Server] = []

    def at(self, n: int) -> Server | None:
        """The `n`th; None where there are no more."""
        while len(self._started) <= n < len(self._kinds):
            with on(self._cores.server):
                self._started.append(self._kinds[len(self._started)]())
        return self._started[n] if n < len(self._started) else None

    def _start_nginx(self) -> Server:
        assert self._nginx
        folder = self._folder / "of-nginx"
        nginx = self._until.enter_context(Nginx(self._nginx, folder))
        return Server(nginx.what, self._environment | engine_settings(folder, nginx.url))

    def _start_simulator(self) -> Server:
        folder = self._folder / "of-simulator"
        simulator = self._until.enter_context(SimulatorProcess(folder))
        what = "simulator on granian" + ("" if self._nginx else " (no nginx here)")
        return Server(what, self._environment | engine_settings(folder, simulator.url))
