"""`/healthz`, `/readyz` and `/metrics` of a worker: from a thread of their own, so that a blocked worker still answers,
and on Faust's web server beside its views, for those who have but that port."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from prometheus_client import CollectorRegistry, MetricsHandler, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shared.clock import SystemClock, utc
from stream.liveness import Stuck
from stream.restart import restarts

if TYPE_CHECKING:
    from stream.app import SurniaApp
    from stream.watch import Watch

HEALTHY, UNAVAILABLE = 200, 503


class Page(NamedTuple):
    status: int
    body: dict[str, Any]


Pages = dict[str, Callable[[], Page]]
"""By path."""


class Health:
    """What is said of a worker, from what its watch saw."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._clock = SystemClock()

    def healthz(self) -> Page:
        """503: only a restart helps. Waiting for a server, starting and stopping are healthy."""
        watch = self._watch
        stuck = watch.stuck()
        body = {
            "status": "stuck" if stuck else "ok",
            "role": str(watch.role),
            "stuck": [self._told(each) for each in stuck],
            "waiting": list(watch.app.runtime.patience.waiting),
            "restarts": restarts(),
        }
        return Page(UNAVAILABLE if stuck else HEALTHY, body)

    def readyz(self) -> Page:
        """503 with the reasons: it does not do its work now."""
        watch, seen = self._watch, self._watch.seen
        reasons = list(self._reasons())
        body = {
            "ready": not reasons,
            "role": str(watch.role),
            "reasons": reasons,
            "partitions": sorted(f"{topic}[{number}]" for topic, number in seen.assigned or ()),
            "behind": sum(position.behind for position in (seen.positions or {}).values()),
        }
        if not reasons and not seen.assigned:
            body["note"] = "the group has more members than partitions: there is none for this worker"
        return Page(UNAVAILABLE if reasons else HEALTHY, body)

    def _reasons(self) -> Iterator[str]:
        watch, seen = self._watch, self._watch.seen
        if watch.app.should_stop:
            yield "stopping"
        elif seen.assigned is None:
            yield "no partitions yet: it starts, or its group is sharing them out"
        if seen.positions is None and seen.looked:
            yield "the brokers do not answer"
        if seen.gate:
            yield seen.gate
        for server in watch.app.runtime.patience.waiting:
            yield f"waiting for {server}"
        for each in watch.stuck():
            yield f"stuck: {each}"

    def _told(self, stuck: Stuck) -> dict[str, Any]:
        since: datetime = utc(self._clock.now() - stuck.seconds)
        told: dict[str, Any] = {"what": stuck.what, "since": since.isoformat(), "seconds": round(stuck.seconds, 1)}
        if stuck.what == "partition":
            told |= {
                "topic": stuck.topic,
                "partition": stuck.partition,
                "committed": stuck.committed,
                "behind": stuck.behind,
            }
        return told | {"why": str(stuck)}


class WatchCollector(Collector):
    """What the watch sees, for Prometheus: read at each scrape, so that partitions that left are gone at once."""

    def __init__(self, health: Health, watch: Watch) -> None:
        self._health = health
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        seen = self._watch.seen
        lag = GaugeMetricFamily(
            "surnia_consumer_lag_messages", "Messages of its partitions that are not committed",
            labels=["topic", "partition"],
        )  # fmt: skip
        still = GaugeMetricFamily(
            "surnia_consumer_still_seconds", "For how long a partition with a backlog has not moved",
            labels=["topic", "partition"],
        )  # fmt: skip
        for (topic, number), position in (seen.positions or {}).items():
            lag.add_metric([topic, str(number)], position.behind)
            still.add_metric([topic, str(number)], seen.still.get((topic, number), 0.0))
        due = GaugeMetricFamily(
            "surnia_due_backlog_users", "Users of its shards that are due and not fired", labels=["kind"]
        )
        for kind, n in seen.due.items():
            due.add_metric([kind], n)
        yield from (lag, still, due)
        alive, ready = self._health.healthz().status == HEALTHY, self._health.readyz().status == HEALTHY
        yield GaugeMetricFamily("surnia_worker_stuck", "1 if the worker is stuck", value=float(not alive))
        yield GaugeMetricFamily("surnia_worker_ready", "1 if the worker does its work", value=float(ready))
        restarted = CounterMetricFamily("surnia_worker_restarts", "Times that a stuck worker has restarted itself")
        restarted.add_metric([], restarts())
        yield restarted


def serve(host: str, port: int, registry: CollectorRegistry, pages: Pages) -> ThreadingHTTPServer:
    """Answer until the process ends. Raises `OSError` where the port can't be had."""

    class Handler(MetricsHandler):
        # A client that says nothing must not keep a thread for ever.
        timeout = 10.0

        def do_GET(self) -> None:  # noqa: N802  # http.server's name
            page = pages.get(self.path.partition("?")[0].rstrip("/"))
            if page is None:
                super().do_GET()
                return
            status, body = page()
            content = msgspec.json.encode(body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    Handler.registry = registry
    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="surnia-health", daemon=True).start()
    return server


def mount(app: SurniaApp, registry: CollectorRegistry, pages: Pages) -> None:
    """The same pages beside Faust's views. They come from the worker's own loop: where that is blocked, so are they."""

    def view(page: Callable[[], Page]) -> Any:
        async def answer(web: Any, request: Any) -> Any:  # noqa: ARG001  # Faust's signature
            status, body = page()
            return web.bytes(msgspec.json.encode(body), content_type="application/json", status=status)

        return answer

    async def metrics(web: Any, request: Any) -> Any:  # noqa: ARG001  # Faust's signature
        media_type = CONTENT_TYPE_LATEST.partition(";")[0]
        return web.bytes(generate_latest(registry), content_type=media_type)

    for path, page in pages.items():
        app.page(path, name=path[1:])(view(page))
    app.page("/metrics", name="metrics")(metrics)
