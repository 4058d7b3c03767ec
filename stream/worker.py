"""Runs one worker process until it is told to stop."""

from __future__ import annotations

import signal
import threading
from typing import Any, NoReturn

import faust
import structlog

from shared.logs import configure_logs
from shared.settings import Settings
from stream.app import Role, SurniaApp, create_app
from stream.garbage import collect_seldom
from stream.health import Health, WatchCollector, mount, serve
from stream.restart import Restart, restarts
from stream.runtime import Runtime
from stream.watch import Watch

log = structlog.get_logger("surnia")


class SurniaWorker(faust.Worker):
    """Faust's, which knows that it was told to stop even where its loop does not come round to it."""

    def __init__(self, *services: Any, **options: Any) -> None:
        self.told = threading.Event()
        super().__init__(*services, **options)

    def install_signal_handlers(self) -> None:
        super().install_signal_handlers()
        for each in (signal.SIGTERM, signal.SIGINT):
            # The loop hears of signals by its own way, and goes on to. This runs even in a circle without an end.
            signal.signal(each, lambda *_: self.told.set())

    def stop_soon(self) -> None:
        """Stop as on SIGTERM, which nobody has sent."""
        self._schedule_shutdown(signal.SIGTERM)


def run(settings: Settings, role: Role) -> NoReturn:
    """Start the role's Faust app; ends on SIGTERM or SIGINT with the batch in hand finished or not acknowledged."""
    configure_logs(settings)
    (settings.state_dir / "faust").mkdir(parents=True, exist_ok=True)
    app = create_app(Runtime.of(settings), role)
    worker = SurniaWorker(app, loglevel="WARN", redirect_stdouts=False, quiet=True)
    worker.spinner = None  # It writes control codes into logs.
    # Faust would set up logging its own way; ours is configured already.
    worker.override_logging = False
    restart = Restart(app, worker.stop_soon, worker.told)
    watch = Watch(app, role, restart, worker.told)
    _answer(app, watch)
    app.starting.append(watch.follow)
    collect_seldom()
    log.info("worker starts", role=str(role), restarts=restarts())
    watch.start()
    try:
        worker.execute_from_commandline()
    finally:
        restart.main_has_ended()
        watch.stop()
    raise SystemExit(0)


def _answer(app: SurniaApp, watch: Watch) -> None:
    """Serve the worker's pages, from a thread and on Faust's web server, as far as the settings have ports for them."""
    settings, registry = app.runtime.settings, app.runtime.patience.registry
    health = Health(watch)
    registry.register(WatchCollector(health, watch))
    pages = {"/healthz": health.healthz, "/readyz": health.readyz}
    if settings.web_port:
        mount(app, registry, pages)
    if settings.metrics_port:
        try:
            serve(settings.listen_host, settings.metrics_port, registry, pages)
        except OSError as error:
            raise SystemExit(
                f"surnia: SURNIA_METRICS_PORT: {settings.metrics_port} can't be used ({error.strerror}): "
                "give every worker of a host its own"
            ) from None
