"""What activity does to the due index, in the words of `lua/move.lua`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from shared.gate.keys import due_key
from shared.gate.places import USERS_A_CALL
from shared.policy.kinds import ABANDONED_LESSON, PRACTICE, STREAK_SAVER

__all__ = ["USERS_A_CALL", "Practised", "Started", "arguments", "keys", "script"]

_ORDER = (PRACTICE, STREAK_SAVER, ABANDONED_LESSON)


class Practised(NamedTuple):
    """A completed lesson: the reminders that are due next, and the timers it takes away."""

    user_id: int
    practice_due: float | None
    streak_saver_due: float | None
    started_before: float
    """Abandoned-lesson timers due up to this instant are taken away."""


class Started(NamedTuple):
    """A started lesson and when it counts as abandoned."""

    user_id: int
    due: float


def keys(shard: int) -> list[str]:
    """The due sets of a shard."""
    return [due_key(shard, kind) for kind in _ORDER]


def arguments(lessons: Sequence[Practised], timers: Iterable[Started]) -> list[Any]:
    """Of `update.lua`, for at most `USERS_A_CALL` users of one shard."""
    words = ["" if word is None else word for lesson in lessons for word in lesson]
    started = [word for timer in timers for word in reversed(timer)]
    return [len(lessons), len(started) // 2, *words, *started]


def script(name: str, package: str = "shared.due") -> str:
    """The text of a script from the folder `lua` of a package, behind `move.lua`."""
    move = files("shared.due") / "lua" / "move.lua"
    return f"{move.read_text()}\n{(files(package) / 'lua' / f'{name}.lua').read_text()}"
