"""What is simulated: how many users, how they behave, and the policy they are reminded by."""

from __future__ import annotations

from datetime import date

import msgspec


class Behaviour(msgspec.Struct, frozen=True):
    """Shares of users a local day, unless it says otherwise. None of it is measured: replace it by your own app's."""

    regular: float = 0.75
    """Of active users: those who practise nearly daily."""
    regular_practises: float = 0.75
    casual_practises: float = 0.35
    keeps_hour: float = 0.7
    """Of practices: those in the user's own hour of habit; the others follow the curve of all."""
    opens: float = 1 / 6
    """Of active users who do not practise: those who look in."""
    abandons: float = 0.03
    """Of active users: those who leave a lesson unfinished."""
    churns: float = 0.005
    """Of active users: those who stop for good."""
    returns: float | None = None
    """Of silent users: those who come back by themselves; None: as many as churn."""
    answers: float = 0.015
    """Of comebacks that were sent: those after which the user practises that evening."""
    steady: bool = True
    """Silence keeps its shape: who leaves it without a practice is replaced by one who has just become silent."""

    @classmethod
    def still(cls) -> Behaviour:
        """Nobody does anything: what the database says is all there is. For comparing with the planner."""
        return cls(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, steady=False)

    def returning(self, active: float) -> float:
        """Share of silent users who return on a day; by default the number of active users stays what it is."""
        if self.returns is not None:
            return self.returns
        return 0.0 if active >= 1 else min(1.0, self.churns * active / (1 - active))


class Mix(msgspec.Struct, frozen=True):
    """One simulation. Hours are local where they say nothing else."""

    users: int
    start: date
    """It begins at 00:00 UTC."""
    days: int = 7
    active: float = 0.2
    ladder: tuple[int, ...] = (7, 14, 30, 60, 90)
    send_hour: int = 18
    spread_minutes: int = 60
    """From the send hour on comebacks are spread over so many minutes; 0: all at once."""
    active_days: int = 7
    stop_after: int = 4
    """Comebacks without an answer after which a user is left alone; 0: never."""
    daily_cap: int = 2
    quiet_start: int = 22
    quiet_end: int = 8
    gate_keep_hours: int = 96
    email: bool = True
    """Whether users without a device are reminded by e-mail."""
    seed: int = 1
    behaviour: Behaviour = Behaviour()

    @property
    def hours(self) -> int:
        return self.days * 24
