"""What a soak came to, and how it is told."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from tests.chaos import checks

STRUCK = "stream-2"


@dataclass
class Sample:
    """Once a second. What workers take is in MB, by name and process."""

    second: float
    lag: int
    memory: dict[tuple[str, int], float]


@dataclass
class Soaked:
    """What a soak came to."""

    seconds: float
    events: int
    strikes: list[str]
    samples: list[Sample]
    count: checks.Count
    fallen: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    drained_seconds: float = 0.0

    def at(self, part: float) -> Sample:
        return min(self.samples, key=lambda sample: abs(sample.second - part * self.seconds))

    def lived(self) -> dict[str, tuple[float, float, float]]:
        """What the workers that nobody struck took near the start, in the middle, and in the end."""
        start, middle, end = self.at(min(0.1, 30 / self.seconds)), self.at(0.5), self.at(1.0)
        always = start.memory.keys() & middle.memory.keys() & end.memory.keys()
        return {
            who[0]: (start.memory[who], middle.memory[who], end.memory[who])
            for who in sorted(always)
            if who[0] != STRUCK
        }

    def struck(self) -> list[float]:
        """The last that each process of the struck worker was seen to take, one after another."""
        last: dict[int, float] = {}
        for sample in self.samples:
            last |= {pid: memory for (name, pid), memory in sample.memory.items() if name == STRUCK}
        return list(last.values())


def report(soaked: Soaked) -> list[str]:
    """In lines."""
    lags: defaultdict[int, int] = defaultdict(int)
    for sample in soaked.samples:
        lags[int(sample.second // 60)] = max(lags[int(sample.second // 60)], sample.lag)
    lines = [
        f"{soaked.seconds:.0f} s, {soaked.events:,} events ({soaked.events / soaked.seconds:,.0f}/s), struck: "
        f"{', '.join(soaked.strikes)}; all had settled {soaked.drained_seconds:.1f} s after",
        f"largest lag of each minute: {', '.join(f'{lag:,}' for _, lag in sorted(lags.items()))}",
        f"lag in the end: {soaked.samples[-1].lag:,}",
        *(
            f"memory of {name} at start, middle, end: {start:.0f}, {middle:.0f}, {end:.0f} MB"
            for name, (start, middle, end) in soaked.lived().items()
        ),
        f"memory of each {STRUCK} at its end: {', '.join(f'{mb:.0f}' for mb in soaked.struck())} MB",
        f"{soaked.count}",
    ]
    return lines + [f"PROBLEM {problem[:2000]}" for problem in soaked.problems]
