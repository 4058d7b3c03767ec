"""Runs one worker process until it is told to stop."""

from __future__ import annotations

import logging
from typing import NoReturn

import faust
from prometheus_client import start_http_server

from shared.logs import configure_logs
from shared.settings import Settings
from stream.app import Role, create_app
from stream.garbage import collect_seldom
from stream.runtime import Runtime


def run(settings: Settings, role: Role) -> NoReturn:
    """Start the role's Faust app; ends on SIGTERM or SIGINT with the batch in hand finished or not acknowledged."""
    configure_logs(settings)
    (settings.state_dir / "faust").mkdir(parents=True, exist_ok=True)
    runtime = Runtime.of(settings)
    if settings.metrics_port:
        _serve_metrics(runtime, settings.metrics_port)
    app = create_app(runtime, role)
    worker = faust.Worker(app, loglevel="WARN", redirect_stdouts=False, quiet=True)
    worker.spinner = None  # It writes control codes into logs.
    # Faust would set up logging its own way; ours is configured already.
    worker.override_logging = False
    collect_seldom()
    logging.getLogger("surnia").info("worker starts")
    worker.execute_from_commandline()
    raise SystemExit(0)


def _serve_metrics(runtime: Runtime, port: int) -> None:
    """From a thread of its own, so that a worker which is stuck still says what it waits for."""
    try:
        start_http_server(port, "127.0.0.1", runtime.patience.registry)
    except OSError as error:
        raise SystemExit(
            f"surnia: SURNIA_METRICS_PORT: {port} can't be used ({error.strerror}): give every worker of a host its own"
        ) from None
