"""What can go wrong with Airflow; every message says what to do next."""

from __future__ import annotations

from pathlib import Path

from infra.stack.errors import StackError
from infra.stack.process import tail


class AirflowError(StackError):
    """Something about Airflow a person has to act on."""

    def __init__(self, problem: str, log: Path | None = None) -> None:
        self.problem = problem
        self.log = log
        shown = "".join(f"\n    {line}" for line in tail(log)) if log else ""
        super().__init__(f"Airflow: {problem}" + (f"\n  The end of {log}:{shown}" if shown else ""))
