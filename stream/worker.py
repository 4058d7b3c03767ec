"""Runs one worker process until it is told to stop."""

from __future__ import annotations

import logging
from typing import NoReturn

import faust

from shared.logs import configure_logs
from shared.settings import Settings
from stream.app import Role, create_app
from stream.runtime import Runtime


def run(settings: Settings, role: Role) -> NoReturn:
    """Start the role's Faust app; ends on SIGTERM or SIGINT with the batch in hand finished or not acknowledged."""
    configure_logs(settings)
    (settings.state_dir / "faust").mkdir(parents=True, exist_ok=True)
    app = create_app(Runtime.of(settings), role)
    worker = faust.Worker(app, loglevel="WARN", redirect_stdouts=False, quiet=True)
    worker.spinner = None  # It writes control codes into logs.
    # Faust would set up logging its own way; ours is configured already.
    worker.override_logging = False
    logging.getLogger("surnia").info("worker starts")
    worker.execute_from_commandline()
    raise SystemExit(0)
