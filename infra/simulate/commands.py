"""`surnia simulate`: the load of every part by the hour, computed for any number of users."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

_COUNT = re.compile(r"([0-9][0-9_]*)(\.[0-9]+)?([kKmMgG]?)")
_TIMES = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
MOST_USERS = 10_000_000_000


def register(app: typer.Typer) -> None:
    """Add `surnia simulate`."""
    app.command("simulate")(simulate)


def users_of(text: str) -> int:
    """100_000_000 or 100M. Raises BadParameter."""
    match = _COUNT.fullmatch(text.strip())
    count = 0
    if match and len(text) <= 20:
        whole, part, unit = match.groups()
        count = round(float(whole.replace("_", "") + (part or "")) * _TIMES[unit.lower()])
    if not 1 <= count <= MOST_USERS:
        raise typer.BadParameter(f"{text[:20]!r}: write 100_000_000 or 100M, at most 10G", param_hint="--users")
    return count


def ladder_of(text: str) -> tuple[int, ...]:
    """7,14,30 as days. Raises BadParameter."""
    days = text.split(",")
    if len(days) > 50 or not all(re.fullmatch(r"[0-9]{1,4}", day.strip()) and int(day) for day in days):
        raise typer.BadParameter(f"{text[:40]!r}: write days of silence, such as 7,14,30,60,90", param_hint="--ladder")
    return tuple(sorted({int(day) for day in days}))


def simulate(
    users: Annotated[str, typer.Option(metavar="COUNT", help="Users, such as 100_000_000 or 100M")] = "100M",
    days: Annotated[int, typer.Option(min=1, max=60, help="Days to simulate")] = 7,
    active: Annotated[float, typer.Option(min=0, max=1, help="Share of users that are active")] = 0.2,
    ladder: Annotated[str | None, typer.Option(help="Days of silence with a comeback; default: the setting")] = None,
    send_hour: Annotated[
        int | None, typer.Option(min=0, max=23, help="Local hour of comebacks; default: the setting")
    ] = None,
    spread_minutes: Annotated[
        int | None,
        typer.Option(min=0, max=240, help="Minutes over which comebacks are spread, 0: none; default: the setting"),
    ] = None,
    start: Annotated[str | None, typer.Option("--date", help="First day, from 00:00 UTC; default: today")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same figures")] = 1,
    rates: Annotated[
        list[Path] | None, typer.Option(help="Figures of a bench (its --json file) instead of ours; may be repeated")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write a page with plots here")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures, hour by hour, here")] = None,
) -> None:
    """What every part has to carry by the hour: events, scans, claims, sends against quotas, memory, cores.

    Nothing is started and nothing is sent: users are drawn, their days played and counted, in bounded memory.
    The policy (quiet hours, daily cap, when to stop) is that of the settings.
    """
    import msgspec
    from rich.console import Console

    from batch.users.progress import progress_bar
    from infra.simulate import run
    from infra.simulate.page import write_page
    from infra.simulate.rates import RatesError
    from infra.simulate.rates import rates as measured
    from infra.simulate.table import tables
    from shared.settings import load_settings

    settings = load_settings()
    mix = run.mix_of(
        settings,
        users_of(users),
        _day(start),
        days,
        active,
        ladder_of(ladder) if ladder is not None else None,
        send_hour,
        spread_minutes,
        seed,
    )
    try:
        known = measured(rates or [])
    except RatesError as error:
        raise typer.BadParameter(str(error), param_hint="--rates") from None
    with progress_bar("users", mix.users) as advance:
        result = run.simulate(mix, known, run.quotas_of(settings), lambda n: advance(0, n))
    console = Console(highlight=False)
    console.print(tables(result))
    if page:
        console.print(f"plots: {write_page(page, result)}", markup=False, soft_wrap=True)
    if json_file:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


def _day(text: str | None) -> date:
    from shared.clock import SystemClock, utc

    try:
        return date.fromisoformat(text) if text else utc(SystemClock().now()).date()
    except ValueError:
        raise typer.BadParameter(f"{str(text)[:40]!r} is no date: use YYYY-MM-DD", param_hint="--date") from None
