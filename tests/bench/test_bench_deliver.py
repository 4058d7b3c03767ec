"""The delivery bench, small: that it runs, prints the fields that others read, and says who could not finish."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from infra.bench.cores import Cores, on
from infra.bench.deliver import servers as servers_module
from infra.bench.deliver.child import Child, SenderChild
from infra.bench.deliver.limit import H2load
from infra.bench.deliver.material import apns_requests, pushes, sends
from infra.bench.deliver.report import BenchError, Report
from infra.bench.deliver.servers import Server, Servers
from infra.bench.deliver.side import Side

SENDERS = ("ours_engine", "ours_path", "ours_path_fcm", "aioapns", "limit")
"""Without the two slow ones, which take as long as all others together."""
LEFT_OUT = ("firebase_admin", "httpx")
RATIOS = ("engine_ratio_to_aioapns", "path_ratio_to_aioapns", "engine_ratio_to_limit", "path_ratio_to_limit")


def test_the_delivery_bench_prints_its_fields(tmp_path: Path) -> None:
    found = tmp_path / "deliver.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "surnia", "bench", "deliver", "--rounds", "1", "--seconds", "0.1"),
            *("--library", "aioapns", "--json", str(found)),
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
    for name in SENDERS:
        side = figures[name]
        assert side["errors"] == {}, done.stdout
        assert side["per_s"] > 0
        assert side["cpu_us_per_push"] > 0
        assert side["pushes"] >= 500
        assert (side["peak_rss_mb"] > 0) or not Path("/proc").is_dir()
        assert side["server"] == figures["server"]
    assert [figures[name]["per_s"] for name in LEFT_OUT] == [0, 0]
    assert all(figures[name] > 0 for name in (*RATIOS, "cores_for_4m_in_5s"))
    assert figures["path_ratio_to_firebase_admin"] is None
    for latency in ("kafka_to_accepted", "kafka_to_outcome_in_kafka"):
        assert figures["half_load"][latency]["p99_ms"] >= figures["half_load"][latency]["p50_ms"] > 0


@pytest.fixture
def without_nginx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[ExitStack], Servers]:
    monkeypatch.setattr(servers_module, "find_nginx", lambda: None)
    return lambda until: Servers(tmp_path, {}, Cores(), until)


async def test_without_nginx_the_simulator_answers_and_without_h2load_libcurl_is_the_limit(
    without_nginx: Callable[[ExitStack], Servers], tmp_path: Path
) -> None:
    with ExitStack() as until:
        server = without_nginx(until).at(0)
        assert server
        assert "no nginx" in server.what
        for name in ("libcurl", "aioapns", "firebase_admin"):
            child = SenderChild(name, server, Cores().sender, tmp_path)
            try:
                report = await child.push(500, 60)
                assert report.seconds > 0
                assert report.cpu_seconds > 0
            finally:
                await child.close()


@pytest.mark.skipif(not shutil.which("h2load"), reason="h2load is not installed")
async def test_h2load_says_how_many_succeeded(without_nginx: Callable[[ExitStack], Servers], tmp_path: Path) -> None:
    with ExitStack() as until:
        server = without_nginx(until).at(0)
        assert server
        settings = server.settings
        now = settings.clock().now()
        requests = await apns_requests(settings, pushes(sends(0, 1, now, "ios"), now))
        h2load = H2load(shutil.which("h2load") or "", requests[0], 2, 500, Cores().sender, tmp_path)
        assert (await h2load.push(1_000, 60)).seconds > 0


class _Stub:
    """Pushes a million a second, or fails, after some times when it did not."""

    def __init__(self, error: str = "", after: int = 0) -> None:
        self._error = error
        self._after = after
        self.closed = False

    async def push(self, n: int, within: float) -> Report:
        self._after -= 1
        if self._error and self._after < 0:
            raise BenchError(self._error)
        return Report(n / 1e6, n / 2e6, 10.0)

    async def close(self) -> None:
        self.closed = True


class _TwoServers(Servers):
    def __init__(self) -> None:
        self._two = [Server("first", {}), Server("second", {})]

    def at(self, n: int) -> Server | None:
        return self._two[n] if n < len(self._two) else None


async def test_who_cannot_finish_on_a_server_is_measured_on_the_next_and_the_error_is_told() -> None:
    stubs = {"first": _Stub("connection lost"), "second": _Stub()}
    side = Side("lame", lambda server: stubs[server.what], seconds=0.1)
    await side.find_server(_TwoServers())
    rates = [await side.turn(n) for n in range(3)]
    figures = side.figures(rates)
    assert (figures.server, figures.errors) == ("second", {"first": "connection lost"})
    assert figures.per_s == pytest.approx(1e6)
    assert figures.cpu_us_per_push == pytest.approx(0.5)
    assert stubs["first"].closed


async def test_who_fails_in_a_round_has_it_on_the_next_server_and_only_rounds_there_count() -> None:
    stubs = {"first": _Stub("hung", after=3), "second": _Stub()}
    side = Side("lame", lambda server: stubs[server.what], seconds=0.1)
    await side.find_server(_TwoServers())
    rates = [await side.turn(n) for n in range(3)]
    figures = side.figures(rates)
    assert (side.first, figures.server, figures.errors) == (1, "second", {"first": "in round 2: hung"})
    assert figures.rounds == pytest.approx([1e6, 1e6])
    assert stubs["first"].closed


async def test_who_fails_everywhere_in_a_round_has_no_rate() -> None:
    side = Side("lame", lambda _: _Stub("hung", after=3), seconds=0.1)
    await side.find_server(_TwoServers())
    rates = [await side.turn(n) for n in range(3)]
    figures = side.figures(rates)
    assert (figures.per_s, figures.pushes) == (0.0, 0)
    assert figures.errors == {"first": "in round 2: hung", "second": "in round 3: hung"}


async def test_who_can_finish_nowhere_has_no_rate_and_both_errors() -> None:
    side = Side("broken", lambda server: _Stub(f"no {server.what}"), seconds=0.1)
    await side.find_server(_TwoServers())
    figures = side.figures([await side.turn(0)])
    assert (figures.per_s, figures.errors) == (0.0, {"first": "no first", "second": "no second"})


async def test_a_sender_that_ends_is_an_error_with_what_it_said(tmp_path: Path) -> None:
    child = Child(("-c", "raise SystemExit('no such thing')"), {}, Cores().sender, tmp_path / "child.log")
    with pytest.raises(BenchError, match="no such thing"):
        await child.push(500, 20)
    await child.close()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processes cannot be bound to cores here")
def test_what_is_started_on_a_core_stays_there_and_we_do_not() -> None:
    before = os.sched_getaffinity(0)
    core = min(before)
    with on({core}):
        said = subprocess.run(
            [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert said.stdout.strip() == f"[{core}]"
    assert os.sched_getaffinity(0) == before
