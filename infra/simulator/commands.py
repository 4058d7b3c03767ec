"""`surnia simulator`: serve APNs, FCM and Google's token address on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from infra.simulator.config import SimulatorConfig
from infra.simulator.ports import PortTakenError, ReservedPort

PROJECT_ID = "surnia-demo"


def register(app: typer.Typer) -> None:
    """Add the command to the front door."""
    app.command("simulator")(simulator)


def simulator(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one")] = 0,
    host: Annotated[str, typer.Option(help="IPv4 address to listen on")] = "127.0.0.1",
    state_dir: Annotated[Path | None, typer.Option(help="Where certificates and keys are kept")] = None,
    devices: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="CSV `token,time_zone[,device]`")
    ] = None,
    faults: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="JSON rules: docs/simulator.md")
    ] = None,
    admin_token: Annotated[
        str,
        typer.Option(envvar="SURNIA_SIMULATOR_ADMIN_TOKEN", show_envvar=True, help="Opens /admin; empty: closed"),
    ] = "",
    ready_file: Annotated[Path | None, typer.Option(help="Gets port and url as JSON once serving")] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Every accepted push is written to it and read back at the next start")
    ] = None,
) -> None:
    """Serve APNs, FCM v1 and Google's token address over TLS, until SIGTERM or Ctrl-C.

    Faults are set by --faults, or while it runs by PUT /admin/faults: docs/simulator.md has them all.
    """
    # Here, because every other command of the front door would otherwise load the server, too.
    from infra.simulator.app import Simulator
    from infra.simulator.serve import serve
    from shared.settings import load_settings

    settings = load_settings()
    try:
        with ReservedPort(host, port) as reserved:
            config = _config(
                host=host,
                port=reserved.port,
                state_dir=state_dir or settings.state_dir,
                topic=settings.apns_topic,
                team_id=settings.apns_team_id,
                key_id=settings.apns_key_id,
                devices=devices,
                faults=faults,
                admin_token=admin_token,
                ready_file=ready_file,
                journal=journal,
            )
            serve(
                config,
                Simulator(config, settings.clock()),
                lambda url: _greet(url, state_dir or settings.state_dir),
            )
    except (PortTakenError, TypeError, ValueError, OSError) as error:
        typer.echo(f"The simulator cannot start: {error}", err=True)
        raise typer.Exit(1) from None


def _greet(url: str, state_dir: Path) -> None:
    from infra.simulator.engine_settings import engine_settings

    typer.echo(f"Provider simulator (APNs, FCM, OAuth) at {url}. Workers deliver to it with these lines in .env:")
    for name, value in engine_settings(state_dir, url).items():
        typer.echo(f"{name}={value}")


def _config(
    *,
    host: str,
    port: int,
    state_dir: Path,
    topic: str,
    team_id: str,
    key_id: str,
    devices: Path | None,
    faults: Path | None,
    admin_token: str,
    ready_file: Path | None,
    journal: Path | None,
) -> SimulatorConfig:
    from infra.stack.keys import ensure_provider_keys
    from infra.stack.tls import ensure_tls

    tls = ensure_tls(state_dir)
    keys = ensure_provider_keys(state_dir, f"https://{host}:{port}/token", project_id=PROJECT_ID)
    account = json.loads(keys.fcm_credentials_file.read_bytes())
    return SimulatorConfig(
        host=host,
        port=port,
        cert_file=tls.cert,
        key_file=tls.key,
        apns_public_key=keys.apns_public_key_file.read_bytes(),
        fcm_public_key=keys.fcm_public_key_file.read_bytes(),
        topic=topic,
        team_id=team_id,
        key_id=key_id,
        project_id=account["project_id"],
        client_email=account["client_email"],
        devices=devices,
        faults=faults,
        admin_token=admin_token,
        ready_file=ready_file,
        journal=journal,
    )
