"""`python -m infra.simulator`: the simulator's command alone, as `SimulatorProcess` starts it."""

from __future__ import annotations

import typer

from infra.simulator.commands import register

app = typer.Typer(add_completion=False)
register(app)

if __name__ == "__main__":
    app()
