"""What a worker tells Prometheus of its work; every name is listed in docs/operations.md ("Metrics").

Counted by batch, never by event: a batch costs some microseconds, whatever its size.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from shared.clock import SystemClock
from shared.wire.sends import Outcome

SIZES = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
LAGS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800)
LATENESS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 14_400)
"""Seconds; `practice` may be 4 h late before it expires."""
HANDLED = "handled"
UNKNOWN = "unknown"
"""The type of an event that can't be read."""


class StreamMeter:
    """One worker's counts, for all of its agents."""

    def __init__(self, registry: CollectorRegistry, activity: str) -> None:
        """`activity`: the topic whose messages are events."""
        self._activity = activity
        self._clock = SystemClock()
        self._events = Counter(
            "surnia_events", "Activity events by type and what became of them", ["type", "answer"], registry=registry
        )
        self._dead = Counter(
            "surnia_dead_letters", "Messages that say nothing, by topic and reason", ["topic", "reason"],
            registry=registry,
        )  # fmt: skip
        self._sizes = Histogram(
            "surnia_batch_size", "Events, messages or users that were handled together", ["of"], buckets=SIZES,
            registry=registry,
        )  # fmt: skip
        self._rows = Counter("surnia_writeback_rows", "Rows written back to PostgreSQL", ["kind"], registry=registry)
        self._lag = Histogram(
            "surnia_writeback_lag_seconds", "Age in Kafka of a batch's first event when PostgreSQL had it",
            buckets=LAGS, registry=registry,
        )  # fmt: skip
        self._planned = Counter(
            "surnia_planned", "Candidates of the stream path by kind and what was decided", ["kind", "answer"],
            registry=registry,
        )  # fmt: skip
        self._outcomes = Counter(
            "surnia_outcomes", "Sends that delivery has answered for", ["kind", "result", "provider"], registry=registry
        )
        self._lateness = BatchHistogram(
            "surnia_due_lateness_seconds", "Seconds from when a reminder was due until it was fired", "kind", LATENESS
        )
        registry.register(self._lateness)

    def events(self, counts: Mapping[str, int]) -> None:
        """Events that were handled, by type (`counts_of`)."""
        for kind, n in counts.items():
            self._events.labels(kind, HANDLED).inc(n)

    def dead(self, topic: str, reasons: Iterable[str]) -> None:
        """Messages of a topic that went to the dead letters: the reason of each."""
        for reason, n in Counts(reasons).items():
            self._dead.labels(topic, reason).inc(n)
            if topic == self._activity:
                self._events.labels(UNKNOWN, reason).inc(n)

    def batch(self, of: str, size: int) -> None:
        """So many were handled together: of `events`, `messages`, or `fired` users."""
        self._sizes.labels(of).observe(size)

    def written(self, rows: Mapping[str, int], first_at: float | None) -> None:
        """PostgreSQL has a batch: rows by kind, and when Kafka had its first event (unix seconds of the machine)."""
        for kind, n in rows.items():
            if n:
                self._rows.labels(kind).inc(n)
        if first_at is not None:
            self._lag.observe(max(0.0, self._clock.now() - first_at))

    def fired(self, kind: str, now: float, due: Sequence[float]) -> None:
        """A page of users was fired at `now`, each due when `due` says."""
        if due:
            self.batch("fired", len(due))
            self._lateness.observe(kind, [max(0.0, now - each) for each in due])

    def planned(self, counts: Mapping[tuple[str, str], int]) -> None:
        """A planner's page: (kind, "granted" or the reason of a denial) -> candidates."""
        for (kind, answer), n in counts.items():
            self._planned.labels(kind, answer).inc(n)

    def outcomes(self, outcomes: Iterable[Outcome]) -> None:
        """What delivery has answered for."""
        counts = Counts((each.kind, each.result.name, each.provider) for each in outcomes)
        for (kind, result, provider), n in counts.items():
            self._outcomes.labels(kind, result, provider).inc(n)


def counts_of(events: Iterable[msgspec.Struct]) -> dict[str, int]:
    """Tagged structs by their tag. C does the counting."""
    return {str(cls.__struct_config__.tag): n for cls, n in Counts[type[msgspec.Struct]](map(type, events)).items()}


class BatchHistogram(Collector):
    """A histogram that takes many values at once, at a tenth of what prometheus_client's own asks for each."""

    def __init__(self, name: str, documentation: str, label: str, bounds: Sequence[float]) -> None:
        """`bounds`: upper ones, ascending; the last bucket has none."""
        self._name, self._documentation, self._label = name, documentation, label
        self._bounds = tuple(map(float, bounds))
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def observe(self, label: str, values: Sequence[float]) -> None:
        counts = self._counts.setdefault(label, [0] * (len(self._bounds) + 1))
        bounds = self._bounds
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self._sums[label] = self._sums.get(label, 0.0) + sum(values)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Called from the server's thread: copies first, so that no bucket is ahead of the next one's sum."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=[self._label])
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        for label, counts in list(self._counts.items()):
            buckets = zip(names, map(float, accumulate(list(counts))), strict=True)
            family.add_metric([label], list(buckets), self._sums.get(label, 0.0))
        yield family
