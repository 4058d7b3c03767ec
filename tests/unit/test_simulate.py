"""The simulation against the planner itself, and against its own books."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from batch.plan import plan
from batch.users.population import GeneratedUser, Population
from infra.simulate.calendar import Calendar
from infra.simulate.commands import ladder_of, register, users_of
from infra.simulate.counts import Counts
from infra.simulate.figures import Result
from infra.simulate.mix import Behaviour, Mix
from infra.simulate.people import People, World, generated
from infra.simulate.rates import RatesError, rates
from infra.simulate.run import count, quotas_of, simulate
from shared.identity import spread
from shared.policy.kinds import COMEBACK
from shared.policy.window import QuietHours, practice_due, streak_saver_due
from shared.settings import GivenSettings, Settings

HOUR = 3600.0
USERS = 4_000
SETTINGS = GivenSettings(_env_file=None)  # type: ignore[call-arg, unused-ignore]


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def played(mix: Mix, settings: Settings) -> tuple[list[GeneratedUser], Counts]:
    """Users as the database could hold them, and what the simulation makes of them."""
    users = list(Population(mix.users, mix.seed, midnight(mix.start), settings).users())
    world = World(mix)
    calendar = Calendar(mix, sorted({user.time_zone for user in users}))
    return users, count(mix, calendar, world, [generated(users, calendar)])


def reached(user: GeneratedUser) -> bool:
    mail = user.email is not None and not user.email_opted_out
    return not user.opted_out >> COMEBACK.code & 1 and (mail or bool(user.devices))


# The clocks go back in America in the first week, forward in Europe in the second; some days skip 02:00.
@pytest.mark.parametrize(
    ("start", "ladder", "send_hour", "minutes"),
    [
        (date(2026, 10, 30), (7, 14, 30, 60, 90), 18, 60),
        (date(2026, 3, 27), (7, 8, 9, 120), 2, 0),
        (date(2026, 3, 27), (7, 14), 20, 200),
    ],
)
def test_comebacks_are_those_of_the_planner_hour_by_hour(
    start: date, ladder: tuple[int, ...], send_hour: int, minutes: int
) -> None:
    settings = SETTINGS.model_copy(update={"ladder_days": ladder, "send_hour": send_hour, "spread_minutes": minutes})
    mix = Mix(USERS, start, 7, 0.2, ladder, send_hour, minutes, stop_after=0, behaviour=Behaviour.still())
    users, counts = played(mix, settings)
    standing: dict[tuple[str, date], list[GeneratedUser]] = {}
    for user in users:
        standing.setdefault((user.time_zone, user.last_active_date), []).append(user)
    due, sent = [], []
    for hour in range(mix.hours):
        begin = midnight(start) + timedelta(hours=hour)
        slots = plan(begin, begin + timedelta(hours=1), settings).slots
        mine = [
            user
            for slot in slots
            for user in standing.get((slot.time_zone, slot.last_active), ())
            if slot.low <= spread(user.id) < slot.high
        ]
        due.append(len(mine))
        sent.append(sum(reached(user) for user in mine))
    assert sum(due) > USERS / 10
    assert counts.of("due.comeback").tolist() == due
    assert counts.of("scanned").tolist() == due
    assert counts.of("sends.comeback").tolist() == sent


def test_practice_and_streak_savers_are_due_when_the_policy_says() -> None:
    start = date(2026, 11, 23)
    mix = Mix(USERS, start, 3, behaviour=Behaviour.still())
    users, counts = played(mix, SETTINGS)
    began, quiet = midnight(start).timestamp(), QuietHours.of(SETTINGS)
    practice, savers = np.zeros(mix.hours, int), np.zeros(mix.hours, int)
    for user in users:
        if user.last_practice_at is None:
            continue
        at = user.last_practice_at.timestamp()
        for row, due in (
            (practice, practice_due(at, user.time_zone, quiet)),
            (savers, streak_saver_due(at, user.time_zone)),
        ):
            hour = int((due - began) // HOUR)
            if 0 <= hour < mix.hours:
                row[hour] += 1
    assert savers.sum() > USERS / 20
    assert counts.of("due.streak_saver").tolist() == savers.tolist()
    # Practice in single precision: a second before the hour may be the hour.
    assert np.abs(np.cumsum(counts.of("due.practice") - practice)).max() <= 2
    assert counts.of("due.practice").sum() == practice.sum()


def test_drawn_users_are_like_generated_ones() -> None:
    mix = Mix(200_000, date(2026, 11, 23))
    world = World(mix)
    calendar = Calendar(mix, world.zones)
    drawn = world.people(np.random.default_rng(3), mix.users, calendar)
    made = generated(Population(20_000, 3, midnight(mix.start), SETTINGS).users(), calendar)
    shares: list[Callable[[People], Any]] = [
        lambda people: people.habit,
        lambda people: people.ios > 0,
        lambda people: people.android > 0,
        lambda people: people.android + people.ios > 1,
        lambda people: people.opted_out > 0,
        lambda people: people.mail,
        lambda people: ~people.habit & (people.active_date < -60),
        lambda people: ~people.habit & (people.active_date > -14),
        lambda people: people.zone == calendar.number["Asia/Kolkata"],
        lambda people: people.zone == calendar.number["America/Sao_Paulo"],
        lambda people: people.hour >= 18,
    ]
    for share in shares:
        ours, theirs = share(drawn).mean(), share(made).mean()
        # Five standard errors of the smaller sample; dates differ by the day that has begun in the east.
        assert abs(ours - theirs) < 5 * (theirs * (1 - theirs) / 20_000) ** 0.5 + 0.006


@pytest.fixture(scope="module")
def simulated() -> Result:
    return simulate(Mix(60_000, date(2026, 11, 23), 3), rates([]), quotas_of(SETTINGS))


def test_what_is_due_is_denied_or_sent(simulated: Result) -> None:
    # A comeback that is due in the last hour is sent after the end, and one of the hour before the start within.
    mix = simulated.mix
    world = World(mix)
    calendar = Calendar(mix, world.zones)
    people = world.people(np.random.default_rng(1), mix.users, calendar)
    counts = count(mix, calendar, world, [people])
    for kind in ("practice", "streak_saver", "abandoned_lesson", "comeback"):
        denied = sum(counts.of(f"denied.{kind}.{reason}") for reason in counts.names(f"denied.{kind}."))
        assert (counts.of(f"due.{kind}") == denied + counts.of(f"sends.{kind}")).all()
    assert counts.of("denied.comeback.unanswered").sum() > 0, "the fifth rung, after four without an answer"
    assert counts.of("denied.streak_saver.daily_cap").sum() > 0
    assert simulated.totals["ledger_rows"] == simulated.totals["sends"] + simulated.totals["denied"]


def test_days_are_like_one_another(simulated: Result) -> None:
    """What is large on the last day must not be so because of how the first was drawn."""
    for row in ([h.events for h in simulated.hours], [h.due["comeback"] for h in simulated.hours]):
        days = np.array(row).reshape(3, 24).sum(axis=1)
        assert days.max() < 1.1 * days.min()
    timers = [hour.due_timers for hour in simulated.hours]
    assert min(timers) > 0 and max(timers) < 1.5 * min(timers)


def test_the_same_seed_gives_the_same_figures(simulated: Result) -> None:
    again = simulate(simulated.mix, rates([]), quotas_of(SETTINGS))
    assert again.hours == simulated.hours


def test_an_hour_at_once_is_a_herd() -> None:
    quotas = quotas_of(SETTINGS)
    flat, herd = (
        simulate(Mix(20_000, date(2026, 11, 23), 1, spread_minutes=minutes), (), quotas) for minutes in (60, 0)
    )
    assert herd.totals["sends"] == pytest.approx(flat.totals["sends"], rel=0.01)
    assert herd.quotas[1].peak_per_s > 100 * flat.quotas[1].peak_per_s


def test_rates_come_from_the_files_of_benches(tmp_path: Path) -> None:
    given = {
        "stream": {"ours": {"events_per_s": 1000.0}},
        "due": {"ours": {"users_per_s": 2000.0}},
        "scan": {"ours": {"users_per_s": 3000.0}, "orm_loop": {"users_per_s": 10.0}},
        "gate": {"sparse": {"ours": {"claims_per_s": 4000.0}}},
        "delivery": {"ours_path": {"per_s": 5000.0}},
    }
    files = []
    for name, figures in given.items():
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(figures))
    assert {rate.part: rate.per_s for rate in rates(files)} == {
        "stream": 1000, "due": 2000, "scan": 3000, "gate": 4000, "delivery": 5000,
    }  # fmt: skip
    files[0].write_text("[]")
    with pytest.raises(RatesError, match="surnia bench"):
        rates(files[:1])


@pytest.mark.parametrize(
    ("text", "count"), [("100_000_000", 100_000_000), ("100M", 100_000_000), ("2.5k", 2500), ("7", 7)]
)
def test_numbers_of_users(text: str, count: int) -> None:
    assert users_of(text) == count


@pytest.mark.parametrize("text", ["", "0", "-5", "1e9", "M", "100G", "9" * 30, "１００"])
def test_what_is_no_number_of_users(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        users_of(text)


def test_a_ladder() -> None:
    assert ladder_of("30, 7,7") == (7, 30)
    for wrong in ("", "7,", "0", "7;14", "-1", "99999"):
        with pytest.raises(typer.BadParameter):
            ladder_of(wrong)


def test_the_command_writes_figures_and_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    arguments = (
        "simulate --users 20k --days 2 --ladder 7,10 --send-hour 9 --date 2026-11-23 --page page.html --json out.json"
    )
    ran = CliRunner().invoke(app, arguments.split())
    assert ran.exit_code == 0, ran.output
    assert "20,000 users" in ran.output and "delivery: pushes" in ran.output
    result = msgspec.json.decode(Path("out.json").read_bytes(), type=Result)
    assert len(result.hours) == 48 and result.mix.ladder == (7, 10) and result.mix.send_hour == 9
    assert result.hours[0].hour == "2026-11-23T00:00Z"
    page = Path("page.html").read_text()
    assert "default-src 'none'" in page and 'id="plot-cores"' in page and "20,000" in page
