"""The limit: aiokafka alone, which does nothing with what it reads. `python -m` it with a port for its count."""

from __future__ import annotations

import asyncio
import os
import sys

from aiokafka import AIOKafkaConsumer
from prometheus_client import Counter, start_http_server

_HANDLED = Counter("surnia_events", "Events that were read")


async def main(port: int) -> None:
    consumer = AIOKafkaConsumer(
        os.environ["BENCH_TOPIC"], group_id=os.environ["BENCH_GROUP"], enable_auto_commit=False,
        bootstrap_servers=os.environ["SURNIA_KAFKA_BROKERS"], auto_offset_reset="earliest",
    )  # fmt: skip
    start_http_server(port, "127.0.0.1")
    await consumer.start()
    try:
        while True:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                _HANDLED.inc(len(records))
    finally:
        await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
