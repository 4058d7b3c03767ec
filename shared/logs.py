"""Structured logs: structlog, with the standard library's loggers going the same way."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

import structlog

from shared.settings import Settings

CHATTY = frozenset({"aiokafka", "kafka", "faust", "mode", "psycopg", "redis"})
"""Libraries that say the same again with every try: a worker without Kafka logged 3,700 lines a minute."""

THROTTLE_SECONDS = 30.0
_TEMPLATES = 500
"""Messages that are remembered: more than these libraries have; those whose texts are all different stay bounded."""


class Throttle(logging.Filter):
    """Lets what a chatty library repeats through once in 30 s, with how many it held back; never ours."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._lock = Lock()
        self._seen: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        """(logger, start of the template) -> (when one last went through, how many were held back since); the one
        that was said last stands at the end."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in CHATTY:
            return True
        now = self._monotonic()
        key = record.name, str(record.msg)[:200]
        with self._lock:
            at, held = self._seen.get(key, (-math.inf, 0))
            passes = now - at >= THROTTLE_SECONDS
            self._seen[key] = (now, 0) if passes else (at, held + 1)
            self._seen.move_to_end(key)
            if len(self._seen) > _TEMPLATES:
                self._seen.popitem(last=False)
        if passes and held:
            record.msg = f"{record.msg} … and {held} more like it in {now - at:.0f} s"
        return passes


def configure_logs(settings: Settings) -> None:
    """Log to standard error, as JSON lines or for a reader. Called once by whoever starts a process."""
    level = getattr(logging, settings.log_level.upper())
    shared_steps: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_json
        # Plain tracebacks: the pretty ones print local variables, and those hold tokens and passwords.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*shared_steps, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    # At the handler: a filter of a logger does not see what its children say.
    handler.addFilter(Throttle())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared_steps,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([structlog.processors.format_exc_info] if settings.log_json else []),
                renderer,
            ],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Chatty at info; what they have to say of trouble comes as warnings.
    for name in ("aiokafka", "faust", "mode", "kafka", "alembic"):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
