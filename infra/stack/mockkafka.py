"""librdkafka's mock cluster as a process: `python -m infra.stack.mockkafka FILE` writes its address to FILE."""

from __future__ import annotations

import signal
import sys
from pathlib import Path


def main(written: Path) -> None:
    """Run until SIGTERM; the cluster lives inside the producer object."""
    from confluent_kafka import Producer

    # Blocked before the first thread of librdkafka starts, so that only sigwait below sees them.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    producer = Producer({"bootstrap.servers": "127.0.0.1:0", "test.mock.num.brokers": 1})
    broker = next(iter(producer.list_topics(timeout=30).brokers.values()))
    half = written.with_suffix(".new")
    half.write_text(f"{broker.host}:{broker.port}")
    half.rename(written)
    signal.sigwait(ends)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
