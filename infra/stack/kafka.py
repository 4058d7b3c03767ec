"""Apache Kafka, one KRaft node on loopback; librdkafka's mock broker only where Java or the jars cannot be had."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import re
import secrets
import shutil
import sys
from base64 import urlsafe_b64encode
from pathlib import Path
from subprocess import DEVNULL, run

from infra.stack import process
from infra.stack.errors import DownloadError, PartError, StackError
from infra.stack.jars import KAFKA_VERSION, ensure_jars
from infra.stack.java import Java, find_java
from infra.stack.part import Part, Report
from infra.stack.process import ProcessId
from infra.stack.state import LOOPBACK, PartRecord, choose_port

MOCK_VERSION = "librdkafka mock"
MOCK_COST = (
    "librdkafka's mock broker stands in for Kafka: one worker only, no topics of their own partition counts, "
    "at most 5 MiB a partition (older messages are dropped silently), and all is lost when it ends. "
    "Good for a look, not for a test that nothing is lost."
)

# One node: every replication factor is 1. A 1 MB message must pass broker and replica fetcher alike. A broker that
# starts again waits until its former session is over: with the default of 9 s every restart takes 13 s, not 6.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes=2097152
replica.fetch.max.bytes=2097152
offsets.topic.num.partitions=8
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
log.retention.hours=168
"""

_LOGGING = """\
status=warn
appender.out.type=Console
appender.out.name=OUT
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{yyyy-MM-dd HH:mm:ss.SSS} %-5p %m (%c{1})%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=OUT
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=info
"""


class Kafka(Part):
    """The local Kafka broker."""

    name = "kafka"
    title = "Kafka"
    setting = "kafka_brokers"
    start_seconds = 90
    stop_seconds = 30

    def launch(self, report: Report) -> ProcessId:
        self.home.mkdir(exist_ok=True)
        java = find_java()
        if java is None:
            return self._launch_mock("there is no Java 17 or newer", report)
        try:
            jars = ensure_jars(report)
        except DownloadError as error:
            return self._launch_mock(str(error), report)
        self._configure()
        self._format(java, jars, report)
        report(f"starting on {java}")
        self.store.record(self.name, version=KAFKA_VERSION, note=str(java))
        command = [*self._java(java, jars), "-Xms256m", "-Xmx512m", "kafka.Kafka", str(self.home / "server.properties")]
        return process.spawn(command, self.log, cwd=self.home)

    def address(self, record: PartRecord) -> str:
        return f"{LOOPBACK}:{record.port}"

    def check(self, address: str) -> str:
        asyncio.run(_describe(address))
        record = self.record()
        return record.version if record.port and address == self.address(record) else ""

    def wait(self, running: ProcessId) -> str:
        if self.record().version == MOCK_VERSION:
            # The mock chooses its own port and writes it down.
            written = self.home / "mock-address"
            process.wait_until(lambda: written.exists() or not process.is_alive(running), self.start_seconds)
            if not written.exists():
                raise self.failure("the mock broker did not start.")
            self.store.record(self.name, port=int(written.read_text().rsplit(":", 1)[-1]))
        return super().wait(running)

    def _configure(self) -> None:
        record = self.record()
        port = choose_port(record.port)
        controller = choose_port(record.extra_ports.get("controller"), (port,))
        data = self.home / "data"
        self.store.record(self.name, port=port, extra_ports={"controller": controller}, data=str(self.home))
        properties = _PROPERTIES.format(port=port, controller=controller, data=_escaped(data))
        (self.home / "server.properties").write_text(properties)
        (self.home / "log4j2.properties").write_text(_LOGGING)

    def _format(self, java: Java, jars: Path, report: Report) -> None:
        # The mark is made after the tool ended well: half a format must not pass for a whole one.
        mark = self.home / "formatted"
        if mark.exists():
            return
        report("formatting its storage")
        shutil.rmtree(self.home / "data", ignore_errors=True)
        cluster = urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        done = run(
            [
                *self._java(java, jars),
                "-XX:TieredStopAtLevel=1",
                "kafka.tools.StorageTool",
                "format",
                f"--cluster-id={cluster}",
                f"--config={self.home / 'server.properties'}",
            ],
            capture_output=True,
            text=True,
            check=False,
            stdin=DEVNULL,
            cwd=self.home,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise PartError(
                self.title, "formatting its storage failed. Try another Java by JAVA_HOME.", self.log, said[-15:]
            )
        mark.write_text(cluster + "\n")

    def _java(self, java: Java, jars: Path) -> list[str]:
        # Java 24 and later warn about what Kafka's compression libraries do; the log is for what matters.
        hushed = ["--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"]
        quiet = hushed if java.feature >= 24 else []
        log4j = f"-Dlog4j2.configurationFile={self.home / 'log4j2.properties'}"
        return [str(java.binary), *quiet, "-Djava.awt.headless=true", log4j, "-cp", f"{jars}/*"]

    def _launch_mock(self, reason: str, report: Report) -> ProcessId:
        if importlib.util.find_spec("confluent_kafka") is None:
            raise StackError(
                f"Kafka cannot be started: {reason}. Install Java 17 or newer, or set SURNIA_KAFKA_BROKERS to a Kafka "
                "of yours."
            )
        report("starting a mock broker")
        written = self.home / "mock-address"
        written.unlink(missing_ok=True)
        note = f"{reason.rstrip('.')}. {MOCK_COST}"
        self.store.record(self.name, version=MOCK_VERSION, note=note, data=str(self.home))
        root = str(Path(__file__).parents[2])
        return process.spawn([sys.executable, "-m", "infra.stack.mockkafka", str(written)], self.log, cwd=Path(root))


async def _describe(brokers: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(bootstrap_servers=brokers, request_timeout_ms=5000)
    # A broker that is still starting is what we ask about; aiokafka logs each refusal as an error.
    logger = logging.getLogger("aiokafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
        if not cluster["brokers"]:
            raise ConnectionError("no broker has registered yet")
    finally:
        await admin.close()
        logger.setLevel(level)


def _escaped(path: Path) -> str:
    """A path as a value in a Java properties file, which is Latin-1 with backslash escapes."""
    return re.sub(r"[^\x20-\x7e]", lambda found: f"\\u{ord(found[0]):04x}", str(path).replace("\\", "\\\\"))
