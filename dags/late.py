"""What is called when a run has not ended by its deadline. In a file of its own, so that who calls it loads no more."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger("surnia.late")


def tell(consequence: str, context: Mapping[str, Any] | None = None) -> None:
    """Say in the log which run is late and what that means. `context` is the scheduler's: dag_run and deadline."""
    found = context or {}
    run, deadline = found.get("dag_run") or {}, found.get("deadline") or {}
    log.error(
        "late: run %s of %s is %s and was to be done by %s: %s",
        run.get("dag_run_id"),
        run.get("dag_id"),
        run.get("state"),
        deadline.get("deadline_time"),
        consequence,
    )
