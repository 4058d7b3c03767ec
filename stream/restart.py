"""How a stuck worker comes back: it stops as orderly as it still can, and its process starts its command anew.

`exec` keeps the process's id, so whoever runs it need not notice (docs/decisions/016).
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

import structlog

from stream.liveness import Stuck
from stream.sight import leave_group

if TYPE_CHECKING:
    from stream.app import SurniaApp

RESTARTS = "_SURNIA_RESTARTS"
"""The environment's count of restarts, handed on from one to the next."""
STUCK = 75
"""Exit code (EX_TEMPFAIL: try again) of a worker that could not start itself anew, or did not stop when told to."""
MARGIN_SECONDS = 3.0
"""For an orderly stop, beside what the batches in hand may take."""
LEAVE_SECONDS = 2.0

log = structlog.get_logger()


def restarts() -> int:
    """How often this process has started itself anew."""
    count = os.environ.get(RESTARTS, "0")
    return int(count) if count.isdecimal() else 0


class Restart:
    """For one worker's process. Called from the watch's thread, while the main thread runs the worker or hangs."""

    def __init__(self, app: SurniaApp, stop: Callable[[], object], told: threading.Event) -> None:
        """`stop`: begins to stop the worker, called in its loop. `told`: set when somebody wants it to stay down."""
        self._app = app
        self._stop = stop
        self._told = told
        self._ended = threading.Event()
        self._begun = threading.Event()
        self._off = threading.Event()

    def main_has_ended(self) -> None:
        """Called by the main thread when the worker has ended; does not come back where it is to start anew."""
        self._ended.set()
        if self._begun.is_set():
            self._off.wait()

    def begin(self, why: Sequence[Stuck]) -> None:
        """Comes back only where the worker was told to stop meanwhile, and has."""
        self._begun.set()
        log.error("the worker is stuck and restarts itself", why=[str(each) for each in why], restarts=restarts() + 1)
        self._show()
        with contextlib.suppress(RuntimeError):  # Its loop may be gone already.
            self._app.loop.call_soon_threadsafe(self._stop)
        # A loop that does not come round stops nothing.
        seconds = 0.0 if any(each.what == "event loop" for each in why) else self._app.grace + MARGIN_SECONDS
        in_order = self._ended.wait(seconds)
        if self._told.is_set():
            if not in_order:
                self.end(seconds)
            self._off.set()
            return
        if not in_order:
            log.warning("it does not stop in order: what it has in hand comes again")
            leave_group(self._app, LEAVE_SECONDS)
        os.environ[RESTARTS] = str(restarts() + 1)
        logging.shutdown()
        try:
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # our own command, no shell
        finally:
            os._exit(STUCK)

    def end(self, seconds: float) -> NoReturn:
        """End a worker that was told to stop and does not."""
        log.error("the worker does not stop: its process ends here", seconds=round(seconds), exit_code=STUCK)
        self._show()
        leave_group(self._app, LEAVE_SECONDS)
        logging.shutdown()
        os._exit(STUCK)

    def _show(self) -> None:
        """Where it hangs, onto standard error: threads, and the loop's tasks."""
        faulthandler.dump_traceback(all_threads=True)
        # They are another thread's, which may go on and change them while they are looked at.
        with contextlib.suppress(Exception):
            for task in asyncio.all_tasks(self._app.loop):
                if any("stream" in frame.f_code.co_filename for frame in task.get_stack(limit=3)):
                    task.print_stack(limit=3)
