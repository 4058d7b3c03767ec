"""The engine under load while its parts are killed, cut off, emptied and fought over: nothing lost, nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest

from tests.chaos.conftest import ROW, Worlds
from tests.chaos.drive import run


@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nobody_is_shown_anything_twice(
    seed: int, worlds: Worlds, record_property: Callable[[str, object], None]
) -> None:
    again = f"again: make chaos ARGS='--chaos-seed {seed}'"
    try:
        row = run(*worlds.standing(), seed)
    except BaseException as error:
        error.add_note(f"logs: {worlds.give_up(seed)}; {again}")
        raise
    record_property(ROW, asdict(row))
    if row.problems:
        lines = "\n".join(f"- {problem[:2000]}" for problem in row.problems[:20])
        pytest.fail(f"{row.faults}:\n{lines}\nlogs: {worlds.give_up(seed)}; {again}", pytrace=False)
