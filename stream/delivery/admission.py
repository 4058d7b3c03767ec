"""What the gate says at the moment of delivery: who may be sent to, who has to wait, and who ends here, and why."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from shared.clock import Clock
from shared.gate.contract import Claim, Gate, Standing
from shared.patience import Patience
from shared.policy.kinds import Path
from shared.wire.sends import Result
from stream.delivery.progress import EXPIRED, OPTED_OUT, PRACTISED, SETTLED_BEFORE, Job, Progress

_ENDINGS = {Standing.practised: PRACTISED, Standing.opted_out: OPTED_OUT}


class Admission:
    """Asks the gate, and waits as long as it is down or closed."""

    def __init__(self, gate: Gate, clock: Clock, patience: Patience) -> None:
        self._gate = gate
        self._clock = clock
        self._patience = patience

    async def admit(self, path: Path, every: Iterable[Progress]) -> list[Progress]:
        """Those that may be sent now; the others are parked or have their ending.

        The gate is asked about what is past its window too: settled before, it was delivered, however late we hear.
        """
        asked = list(dict.fromkeys(every))
        keys = [progress.key for progress in asked]
        standings = await self._patience.until_done("asking the gate", lambda: self._gate.standing(path, keys))
        now = self._clock.now()
        admitted, strays = [], []
        for progress, standing in zip(asked, standings, strict=True):
            # Accepted: settled by ourselves, for another of the user's devices. This one still has its turn.
            if standing is Standing.settled and not progress.accepted:
                progress.end(SETTLED_BEFORE)
            elif progress.send.expires_at <= now:
                progress.end(EXPIRED)
            elif standing in (Standing.clear, Standing.settled):
                admitted.append(progress)
            elif standing is Standing.paused:
                progress.pause()
            elif standing is Standing.unclaimed:
                strays.append(progress)
            else:
                progress.end(_ENDINGS[standing])
        return admitted + await self._adopt(path, strays)

    async def wanted(self, path: Path, jobs: list[Job]) -> list[Job]:
        """Those of some jobs whose sends may still be sent: time has passed since they were admitted."""
        if not jobs:
            return []
        wanted = set(await self.admit(path, (job.progress for job in jobs)))
        return [job for job in jobs if job.progress in wanted]

    async def _adopt(self, path: Path, strays: list[Progress]) -> list[Progress]:
        """Claim what this path has no claim on: the gate may have been rebuilt without it. Never fail open."""
        groups: dict[tuple[str, date, str], list[Progress]] = {}
        for progress in strays:
            send = progress.send
            groups.setdefault((send.kind, send.local_date, send.campaign), []).append(progress)
        adopted = []
        for group, members in groups.items():
            for progress, claim in zip(members, await self._claim(path, group, members), strict=True):
                if claim in (Claim.granted, Claim.granted_again):
                    adopted.append(progress)
                elif claim is Claim.settled_before:
                    progress.end(SETTLED_BEFORE)
                elif claim is Claim.paused:
                    progress.pause()
                else:
                    progress.end((Result.dropped, claim.reason))
        return adopted

    async def _claim(self, path: Path, group: tuple[str, date, str], members: list[Progress]) -> list[Claim]:
        kind, day, campaign = group
        users = [progress.send.user_id for progress in members]
        return await self._patience.until_done(
            "claiming again at the gate", lambda: self._gate.claim(path, kind, day, users, campaign)
        )
