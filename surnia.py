"""The command line's front door: one Typer app that gathers the parts' commands."""

from __future__ import annotations

import sys
from importlib import import_module

import typer

app = typer.Typer(
    name="surnia",
    help="Surnia, a reminder engine: one gate, a stream path for active users and a batch path for silent ones.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)

_PARTS = (
    "infra.stack.commands",
    "batch.users.commands",
    "stream.commands",
    "stream.keeping.commands",
    "stream.delivery.turnstile.commands",
    "batch.commands",
    "batch.oncall.commands",
    "batch.holdout.commands",
    "batch.maintenance_commands",
    "infra.oncall.commands",
    "infra.airflow.commands",
    "infra.simulator.commands",
    "infra.demo.commands",
    "infra.simulate.commands",
    "infra.bench.commands",
)


@app.callback()
def prepare() -> None:
    """Runs before every command: its log goes to standard error, so that its answer has standard output."""
    from shared.logs import configure_logs
    from shared.settings import load_settings

    configure_logs(load_settings())


def main() -> None:
    """Run the command line. What a user can mend is printed as one line with its remedy, not as a traceback."""
    for part in _PARTS:
        import_module(part).register(app)
    from pydantic import ValidationError

    from shared.settings import MissingAddressError

    try:
        app()
    except ValidationError as error:
        if error.title not in ("Settings", "GivenSettings"):
            raise
        # Without the values: one of them may be a password.
        for wrong in error.errors(include_input=False):
            print(f"surnia: SURNIA_{str(wrong['loc'][0]).upper()}: {wrong['msg']}", file=sys.stderr)
        raise SystemExit(2) from None
    except MissingAddressError as error:
        print(f"surnia: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
