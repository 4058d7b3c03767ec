"""Kafka: does it answer, are the topics there with the partitions that workers insist on, who reads, what of clocks?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from infra.oncall import lag
from infra.oncall.doctor.finding import MOST_SKEW, Finding, broken, ok, warning
from shared.clock import SystemClock
from shared.settings import Settings
from shared.terminal import several
from shared.topics import Topics

PART = "Kafka"


async def look(settings: Settings) -> list[Finding]:
    """Raises aiokafka's errors where it does not answer."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.require_kafka())
    await admin.start()
    try:
        cluster = await admin.describe_cluster()
        names = set(await admin.list_topics())
        wanted = Topics.of(settings).all()
        described = await admin.describe_topics([name for name in wanted if name in names])
    finally:
        await admin.close()
    brokers = len(cluster["brokers"])
    counts = {topic["topic"]: len(topic["partitions"]) for topic in described}
    found = [ok(PART, f"{several(brokers, 'broker')} in the cluster")]
    found += _topics(wanted, counts, settings)
    if settings.replication > brokers:
        found.append(
            broken(PART, f"{settings.replication} copies of {brokers} brokers", f"SURNIA_REPLICATION={brokers}")
        )
    found += _offline(described)
    if counts.keys() >= set(wanted):
        found += await _times(settings, {name: counts[name] for name in wanted})
    return found


def _topics(wanted: Iterable[str], counts: dict[str, int], settings: Settings) -> Iterator[Finding]:
    missing = [name for name in wanted if name not in counts]
    if missing:
        yield broken(PART, f"topics are missing: {', '.join(missing)}", "surnia up")
    # Faust dies of another number, and everybody must agree which shards belong to which partition.
    unlike = {name: n for name, n in counts.items() if n != settings.partitions}
    if unlike:
        said = ", ".join(f"{name} has {n}" for name, n in unlike.items())
        more = f"kafka-topics.sh --alter --topic {next(iter(unlike))} --partitions {settings.partitions}"
        few = f"SURNIA_PARTITIONS={next(iter(unlike.values()))}"
        yield broken(PART, f"SURNIA_PARTITIONS is {settings.partitions}, but {said}", f"{few}, or {more}")
    if not missing and not unlike:
        yield ok(PART, f"all topics are there, with {settings.partitions} partitions each")


def _offline(described: Iterable[dict[str, object]]) -> list[Finding]:
    lost = []
    for topic in described:
        partitions = topic["partitions"]
        assert isinstance(partitions, list)
        lost += [f"{topic['topic']}/{each['partition']}" for each in partitions if each["leader"] < 0]
    if not lost:
        return []
    return [broken(PART, f"nobody leads {', '.join(sorted(lost)[:5])}", "Start the brokers that have them")]


async def _times(settings: Settings, counts: dict[str, int]) -> list[Finding]:
    """Brokers tell nobody their time; the newest messages tell what their writers' clocks say (or the brokers', where
    `message.timestamp.type` says so)."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.require_kafka(), enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(name, n) for name, most in counts.items() for n in range(most)]
        starts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        left = {each for each in partitions if ends[each] > starts[each]}
        newest = 0.0
        if left:
            consumer.assign(list(left))
            for each in left:
                consumer.seek(each, ends[each] - 1)
        while left:
            page = await consumer.getmany(*left, timeout_ms=300)
            if not page:
                break
            for partition, records in page.items():
                left.discard(partition)
                newest = max(newest, records[-1].timestamp / 1000)
    finally:
        await consumer.stop()
    ahead = newest - SystemClock().now()
    if not newest:
        return [ok(PART, "no message yet that would tell of clocks")]
    if ahead < MOST_SKEW:
        return [ok(PART, "no message is from the future: its writers' clocks are not ahead of this machine's")]
    return [
        warning(
            PART,
            f"the newest message was written {ahead:.0f} s in the future of this machine",
            "Run an NTP client on producers, brokers and here (`timedatectl`, `chronyc tracking`)",
        )
    ]


def workers(found: Iterable[lag.TopicLag]) -> list[Finding]:
    """Who reads."""
    findings = []
    for role, members in {each.role: each.members for each in found}.items():
        if members:
            findings.append(ok("Workers", f"{members} of role {role}"))
        else:
            findings.append(warning("Workers", f"none of role {role} runs", f"surnia worker {role}"))
    return findings
