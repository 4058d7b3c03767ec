"""The stream bench, small: that it runs and prints the fields that others read, and that its load is what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

from infra.bench.stream.material import events
from infra.bench.stream.topic import partition_of
from shared.wire.events import LessonCompleted, LessonStarted, decoding

NOW = 1_795_262_400.0


def test_the_stream_bench_prints_its_fields(tmp_path: Path) -> None:
    found = tmp_path / "stream.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "surnia", "bench", "stream", "--events", "200000", "--rounds", "1"),
            *("--seconds", "1", "--latency-seconds", "1", "--json", str(found)),
        ],
        env=os.environ | {"SURNIA_STATE_DIR": str(tmp_path / "state")},
        check=False,
        timeout=280,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    figures = json.loads(found.read_bytes())
    for name in ("ours", "stock_faust", "limit"):
        assert figures[name]["events_per_s"] > 0, done.stdout
        assert figures[name]["cpu_us_per_event"] > 0
        assert figures[name]["peak_rss_mb"] > 0
    assert all(figures[name] > 0 for name in ("ratio_to_stock", "ratio_to_limit", "peak_rss_mb", "half_load_per_s"))
    for latency in ("latency_ms", "latency_ms_at_tenth"):
        assert figures[latency]["p99"] >= figures[latency]["p50"] > 0


def test_its_events_are_good_ones_in_order_of_about_120_bytes() -> None:
    records = list(events(20_000, NOW, "t"))
    said = [decoding(NOW)(record.value) for record in records]
    assert [record.key for record in records] == [str(event.user_id).encode() for event in said]
    assert all(one.at <= other.at for one, other in pairwise(said))
    assert 110 < sum(len(record.value) for record in records) / len(records) < 140
    kinds = Counter(map(type, said))
    assert len(kinds) == 5
    assert kinds[LessonStarted] > kinds[LessonCompleted] > len(said) / 4
    assert records == list(events(20_000, NOW, "t"))


def test_users_go_to_the_partitions_that_kafka_would_choose() -> None:
    # Of Java's own Utils.murmur2: "21" and "foobar" are in Kafka's UtilsTest.
    assert partition_of(b"21", 1 << 31) == -973932308 & 0x7FFFFFFF
    assert partition_of(b"foobar", 1 << 31) == -790332482 & 0x7FFFFFFF
