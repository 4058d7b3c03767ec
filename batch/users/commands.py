"""`surnia users`: import, generate, show, erased."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batch.users.source import FileFormat
from batch.users.terminal import fail, print_json, read_settings, run
from shared.identity import MAX_USER_ID
from shared.settings import GivenSettings, Settings

if TYPE_CHECKING:
    from batch.users.importer import ImportCounts, ImportFile
    from batch.users.load import LoadCounts
    from batch.users.population import GeneratedUser
    from batch.users.progress import Advance

SOME_REJECTED = 3
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object; progress goes to standard error.")]

users = typer.Typer(no_args_is_help=True, help="Load users and devices, make up a population, look at one user.")


def register(app: typer.Typer) -> None:
    """Add `users` to the command line."""
    app.add_typer(users, name="users")


@users.command("import")
def import_users(
    file: Annotated[
        Path, typer.Argument(help="Users or devices, CSV with a header or Parquet; the header tells which.")
    ],
    devices: Annotated[Path | None, typer.Option(help="Devices to import after FILE.")] = None,
    rejects: Annotated[
        Path | None, typer.Option(help="Where rows that are not loaded go.", show_default="FILE.rejects.csv")
    ] = None,
    file_format: Annotated[
        FileFormat | None, typer.Option("--format", help="What FILE is.", show_default="the file tells")
    ] = None,
    as_json: JsonOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the files; write nothing but rejects.")] = False,
) -> None:
    """Load users and devices from files: new ones are inserted, known ones updated.

    Users have the columns id, time_zone (both required), locale, country,
    last_event_at, last_active_date, last_practice_at, last_practice_date,
    streak, opted_out, created_at, email, email_opted_out. Devices have
    user_id, device_id, platform, token (required), app_version,
    registered_at, fcm_token (of iOS devices, beside the APNs token). Instants
    carry an offset (2026-11-03T18:00:00Z). A missing column or an empty cell
    leaves what is stored; local dates are worked out from the instants where
    they are not given.

    A row a line. Bad rows go to the rejects file with their line and the
    reason; the good ones load. An import that was broken off is simply run
    again.

    Exit code: 0 all rows loaded, 3 some were rejected, 1 or 2 the import could
    not run.
    """
    from batch.users.importer import ImportFile
    from batch.users.validate import FormatError

    settings = read_settings()
    rejects = rejects or file.with_name(file.name + ".rejects.csv")
    started = time.perf_counter()
    try:
        if any(
            source.exists() and rejects.exists() and source.samefile(rejects) for source in (file, devices) if source
        ):
            fail(f"--rejects names the file to import, {rejects}; name another.")
        now = settings.clock().now()
        sources = [ImportFile(path, file_format, now) for path in (file, devices) if path]
        if devices and not sources[1].devices:
            fail(f"--devices names a file of users, {devices}; import it as FILE.")
        counts = run(_import(settings, sources, rejects, dry_run=dry_run))
    except FormatError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}; check the path and its permissions.")
    seconds = time.perf_counter() - started
    rejected = sum(count.rejected for count in counts)
    if as_json:
        files = [asdict(count) for count in counts]
        print_json(
            {"files": files, "rejects": str(rejects) if rejected else None, "dry_run": dry_run, "seconds": seconds}
        )
    else:
        for count in counts:
            typer.echo(
                f"{count.kind}: {count.read:,} read, {count.loaded:,} {'good' if dry_run else 'loaded'}, "
                f"{count.rejected:,} rejected"
            )
            if count.ignored_columns:
                typer.echo(
                    f"  not loaded, for they are not columns of {count.kind}: {', '.join(count.ignored_columns)}"
                )
        if rejected:
            typer.echo(f"rejected rows and their reasons: {rejects}")
    if rejected:
        raise typer.Exit(SOME_REJECTED)


async def _import(
    settings: Settings, sources: list[ImportFile], rejects_path: Path, *, dry_run: bool
) -> list[ImportCounts]:
    from batch.users.progress import progress_bar
    from batch.users.rejects import Rejects
    from batch.users.spread import spread

    counts = []
    async with AsyncExitStack() as stack:
        target = None if dry_run else await stack.enter_async_context(spread(settings))
        rejects = stack.enter_context(Rejects(rejects_path))
        for source in sources:
            with progress_bar(source.kind, source.source.total) as advance:
                counts.append(await source.load(target, rejects, advance))
    return counts


@users.command("generate")
def generate(
    count: Annotated[int, typer.Option(min=1, max=1_000_000_000, help="How many users.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same users.")] = 1,
    as_of: Annotated[
        str | None,
        typer.Option(
            help="The moment it is made for: an ISO 8601 instant with offset.", show_default="the clock's now"
        ),
    ] = None,
    devices_out: Annotated[
        Path | None, typer.Option(help="Write token,time_zone,device of every token, for the provider simulator.")
    ] = None,
    csv_folder: Annotated[
        Path | None, typer.Option("--csv", help="Write users.csv and devices.csv there instead of the database.")
    ] = None,
    as_json: JsonOption = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove all users and devices first.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --fresh: do so in a database that is not the local stack's.")
    ] = False,
) -> None:
    """Make up a population over the world's cities: 20% active, 80% silent, devices and all.

    The same --count, --seed and --as-of give the same users. Users who exist already are updated.
    """
    from batch.users.files import witnessed, write_csv
    from batch.users.load import LoadCounts
    from batch.users.population import Population
    from batch.users.progress import progress_bar

    settings = read_settings()
    started = time.perf_counter()
    population = Population(count, seed, _instant(as_of, settings), settings)
    try:
        chunks = witnessed(population, devices_out)
        with progress_bar("users", count) as advance:
            counts = LoadCounts()
            if csv_folder:
                for counts in write_csv(chunks, csv_folder):
                    advance(0, counts.users - advance.done)
            else:
                if fresh and not yes and _named_by_environment():
                    fail("--fresh would empty what SURNIA_POSTGRES_URL or SURNIA_DATABASES name; --yes if you mean it.")
                counts = run(_generate(settings, chunks, advance, fresh=fresh))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}; check the path and its permissions.")
    seconds = time.perf_counter() - started
    if as_json:
        print_json({**asdict(counts), "seed": seed, "as_of": population.as_of, "seconds": seconds})
    else:
        typer.echo(
            f"{counts.users:,} users ({counts.active:,} active, {counts.silent:,} silent), {counts.devices:,} devices, "
            f"{seconds:.1f} s"
        )


def _named_by_environment() -> bool:
    """Whether a database is somebody's own: such a one is not emptied on the way."""
    given = GivenSettings()  # type: ignore[call-arg, unused-ignore]  # pydantic fills the fields
    return bool(given.postgres_url or given.databases)


async def _generate(
    settings: Settings, chunks: Iterable[list[GeneratedUser]], advance: Advance, *, fresh: bool
) -> LoadCounts:
    from batch.users.load import load
    from batch.users.spread import spread

    if fresh:
        async with spread(settings) as target:
            await target.empty_tables()
    return await load(settings, chunks, lambda more: advance(more, more))


@users.command("show")
def show(
    identity: Annotated[int, typer.Argument(metavar="ID", min=1, max=MAX_USER_ID)], as_json: JsonOption = False
) -> None:
    """One user with devices, times as the user's wall clock shows them."""
    from rich.console import Console

    from batch.users.show import NoSuchUserError, find_user, render
    from shared.store.databases import Databases

    settings = read_settings()

    async def find() -> dict[str, Any]:
        async with await Databases.of(settings).for_user(identity).connect("surnia users") as connection:
            return await find_user(connection, identity, settings.clock().now())

    try:
        user = run(find())
    except NoSuchUserError as error:
        fail(str(error))
    if as_json:
        print_json(user)
    else:
        Console().print(render(user))


@users.command("erased")
def erased(
    since: Annotated[str | None, typer.Option(help="Those begun since this ISO 8601 instant with offset.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the proofs of erasures: when each was asked for and done, and what was found where.

    They say nothing of whom. Whether a user of an id is gone, `surnia inspect ID` knows: it ends with exit code 4.
    """
    from batch.users.database import connected
    from batch.users.erased import Proof, document, find_erasures, render
    from shared.clock import utc

    settings = read_settings()
    begun = utc(_instant(since, settings, "--since")) if since else None

    async def find() -> list[Proof]:
        async with connected(settings) as connection:
            return await find_erasures(connection, begun)

    proofs = run(find())
    if as_json:
        print_json(document(proofs))
    else:
        typer.echo(render(proofs))


def _instant(text: str | None, settings: Settings, option: str = "--as-of") -> float:
    if text is None:
        return settings.clock().now()
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None or not 2001 <= instant.year <= 9000:
        raise typer.BadParameter("an instant such as 2026-11-03T18:00:00Z", param_hint=option)
    return instant.timestamp()
