"""The engine under steady load, a stream worker struck again and again. `make soak`; a few seconds in `make test`."""

from __future__ import annotations

import pytest

from tests.chaos.conftest import Worlds
from tests.chaos.soak import REMINDERS_A_SECOND, Soak
from tests.chaos.soaked import report

RATE = 10_000
"""Events a second: about half of what a stream worker handles where it shares two cores with all the rest."""
_SMOKE_RATE = 1_000
LONG = 60
"""Seconds from which on memory is judged: before, workers still import and warm up."""


def flat(middle: float, end: float) -> bool:
    return end <= 1.25 * middle + 20


def test_nothing_is_lost_and_nothing_grows_while_a_worker_is_struck_again_and_again(
    minutes: float, worlds: Worlds, pytestconfig: pytest.Config
) -> None:
    seconds = round(minutes * 60)
    rate = pytestconfig.getoption("soak_rate", None) or (RATE if seconds >= LONG else _SMOKE_RATE)
    try:
        soaked = Soak(*worlds.standing(), seconds, rate).run()
    except BaseException as error:
        error.add_note(f"logs: {worlds.give_up(0)}")
        raise
    lines = report(soaked)
    print("\n".join(lines))
    grown = (
        [name for name, (_, middle, end) in soaked.lived().items() if not flat(middle, end)] if seconds >= LONG else []
    )
    if soaked.problems or soaked.fallen or grown:
        pytest.fail(
            "\n".join([*lines, f"fallen: {soaked.fallen}, grown: {grown}", f"logs: {worlds.give_up(0)}"]), False
        )
    assert soaked.strikes
    assert soaked.samples[-1].lag == 0
    assert soaked.count.lost == 0
    assert soaked.count.shown_twice == 0
    assert soaked.count.delivered > REMINDERS_A_SECOND * seconds / 4
