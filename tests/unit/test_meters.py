"""What a worker counts of its work: by batch, and as Prometheus reads it."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from shared.clock import SystemClock
from shared.wire.events import decode_event
from shared.wire.sends import Outcome, Result
from stream.meters import BatchHistogram, StreamMeter, counts_of

DAY = date(2026, 11, 21)
NOW = 1_795_262_400.0


class Read:
    """A meter and what a reader of the page sees."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.meter = StreamMeter(self.registry, "activity.events")

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def read() -> Read:
    return Read()


def event(kind: str) -> bytes:
    return b'{"type":"%s","user_id":1,"at":"2026-11-21T12:00:00Z"}' % kind.encode()


def test_events_are_counted_by_type(read: Read) -> None:
    kinds = ["lesson_completed", "app_opened", "lesson_completed"]
    read.meter.events(counts_of([decode_event(event(kind), NOW) for kind in kinds]))
    assert read("surnia_events_total", type="lesson_completed", answer="handled") == 2
    assert read("surnia_events_total", type="app_opened", answer="handled") == 1


def test_a_dead_letter_is_an_event_only_where_events_are_read(read: Read) -> None:
    read.meter.dead("activity.events", ["invalid", "too_old", "invalid"])
    read.meter.dead("outcomes", ["invalid"])
    assert read("surnia_dead_letters_total", topic="activity.events", reason="invalid") == 2
    assert read("surnia_dead_letters_total", topic="outcomes", reason="invalid") == 1
    assert read("surnia_events_total", type="unknown", answer="invalid") == 2
    assert read("surnia_events_total", type="unknown", answer="too_old") == 1


def test_the_write_back_is_as_late_as_its_first_event_is_old(read: Read) -> None:
    read.meter.written({"users": 3, "devices": 0}, SystemClock().now() - 20)
    assert read("surnia_writeback_rows_total", kind="users") == 3
    assert read("surnia_writeback_rows_total", kind="devices") is None
    assert read("surnia_writeback_lag_seconds_bucket", le="10.0") == 0
    assert read("surnia_writeback_lag_seconds_count") == 1
    # A producer's clock that is ahead makes nothing negative.
    read.meter.written({}, SystemClock().now() + 3600)
    assert read("surnia_writeback_lag_seconds_bucket", le="0.05") == 1


def test_what_is_fired_has_its_size_and_its_lateness(read: Read) -> None:
    read.meter.fired("practice", NOW, [NOW - 90, NOW - 3, NOW + 1])
    read.meter.fired("practice", NOW, [])
    assert read("surnia_batch_size_sum", of="fired") == 3
    assert read("surnia_batch_size_count", of="fired") == 1
    assert read("surnia_due_lateness_seconds_bucket", kind="practice", le="1.0") == 1
    assert read("surnia_due_lateness_seconds_bucket", kind="practice", le="5.0") == 2
    assert read("surnia_due_lateness_seconds_sum", kind="practice") == 93


def test_decisions_and_outcomes_are_counted(read: Read) -> None:
    read.meter.planned({("practice", "granted"): 3, ("practice", "cap"): 4, ("streak_saver", "cap"): 1})
    assert read("surnia_planned_total", kind="practice", answer="granted") == 3
    assert read("surnia_planned_total", kind="practice", answer="cap") == 4
    sent = Outcome(1, "practice", DAY, Result.delivered, "accepted", NOW, NOW, 0.1, "apns")
    read.meter.outcomes([sent, sent])
    assert read("surnia_outcomes_total", kind="practice", result="delivered", provider="apns") == 2


@given(st.lists(st.lists(st.floats(0, 1e6), max_size=20), max_size=5))
def test_a_batch_histogram_says_what_the_library_s_own_would(batches: list[list[float]]) -> None:
    bounds = (1, 2.5, 60, 3600)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    batched = BatchHistogram("surnia_h", "?", "kind", bounds)
    ours.register(batched)
    single = Histogram("surnia_h", "?", ["kind"], buckets=bounds, registry=theirs)
    for batch in batches:
        batched.observe("k", batch)
        for value in batch:
            single.labels("k").observe(value)
    if any(batches):
        assert samples(ours) == pytest.approx(samples(theirs))


def samples(registry: CollectorRegistry) -> dict[str, float]:
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        f"{sample.name}{sample.labels}": sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
