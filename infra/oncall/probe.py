"""Asking many servers at once, none for long: one that is dead is a line in the answer, never a hang.

Each question has a daemon thread, for the clients' own timeouts are not to be relied upon: a name that is not resolved,
a connection that is accepted and never served, a client that waits for its broker while it closes. A thread that is
late is left behind, and ends with the process. Modules are to be imported before: the server would be blamed for it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

SECONDS = 3.0
"""For everything together: a busy server answers within it, and nobody on call should have to wait longer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question came to: a value, or why there is none."""

    value: Any = None
    trouble: str = ""


def ask_all(questions: Mapping[str, Callable[[], Any]], seconds: float = SECONDS) -> dict[str, Answer]:
    """Ask them all at the same time; the answers in the questions' order."""
    answers: dict[str, Answer] = {}

    def ask(name: str, question: Callable[[], Any]) -> None:
        try:
            answers[name] = Answer(question())
        except Exception as error:  # every client has its own kinds
            answers[name] = Answer(trouble=said(error))

    threads = [
        threading.Thread(target=ask, args=each, name=f"asks {each[0]}", daemon=True) for each in questions.items()
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    late = Answer(trouble=f"no answer within {seconds:g} s")
    return {name: answers.get(name, late) for name in questions}


def coroutine(work: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[], Any]:
    """A question from a coroutine function: a loop of its own."""
    return lambda: asyncio.run(work())


def said(error: BaseException) -> str:
    """The first line of what an error says, bounded; its name where it says nothing."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
