"""Requests that travel together through the engine."""

from __future__ import annotations

from collections.abc import Callable

from stream.delivery.exchange import Answer, PushRequest, TransportError

NOT_SENT = TransportError("closed", sent=False)
CUT_OFF = TransportError("closed", sent=True)


class EngineClosedError(RuntimeError):
    """The engine is closed (the worker is stopping, or its thread failed: see the log). Nothing was sent: start
    the worker again."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class Batch:
    """Requests that came together and are answered together. Only the thread touches it until it is done."""

    __slots__ = ("abandoned", "answers", "left", "on_done", "requests")

    def __init__(self, requests: list[PushRequest], on_done: Callable[[list[Answer]], None]) -> None:
        self.requests = requests
        self.answers: list[Answer] = [NOT_SENT] * len(requests)
        self.left = len(requests)
        self.on_done = on_done
        # Nobody waits any more: what has not left yet is not sent.
        self.abandoned = False

    def put(self, index: int, answer: Answer) -> None:
        self.answers[index] = answer
        self.left -= 1
        if not self.left:
            self.on_done(self.answers)
