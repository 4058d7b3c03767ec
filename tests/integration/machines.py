"""How state machines of hypothesis are run against a server."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.integration.valkeys import Valkey


def run_machine(
    machine: type[RuleBasedStateMachine], server: Valkey, patch: pytest.MonkeyPatch, examples: int, steps: int
) -> None:
    """Run it so often; it finds the server in its `url` and `client`."""
    with server.client() as client:
        patch.setattr(machine, "url", server.url, raising=False)
        patch.setattr(machine, "client", client, raising=False)
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                # A failure prints what makes it again. Explaining it would take minutes more.
                print_blob=True,
                report_multiple_bugs=False,
                phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
