"""`surnia doctor`: looks at everything that Surnia needs, and says for each finding what to type."""

from infra.oncall.doctor.checkup import checkup
from infra.oncall.doctor.finding import Finding, State

__all__ = ["Finding", "State", "checkup"]
