"""Transport faults as libcurl sees them: on one stream, on all streams of a connection, in the handshake."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pycurl
import pytest

from infra.simulator.process import SimulatorProcess
from tests.integration.simulator.asked import device
from tests.integration.simulator.with_pycurl import Told, curls

pytestmark = pytest.mark.timeout(120)

OK = Told(200)
# Numbers that PycURL does not name.
HTTP2_STREAM = 92


def once(**transport: Any) -> dict[str, Any]:
    return {"provider": "apns", "limit": 1, "transport": transport}


def accepted(simulator: SimulatorProcess) -> int:
    return int(simulator.stats()["accepted"])


def test_a_refused_stream_is_sent_again_and_accepted_once(simulator: SimulatorProcess) -> None:
    simulator.set_faults(once(fault="reset"))
    with curls(simulator) as client:
        assert client.push(device()) == [OK]
    assert accepted(simulator) == 1
    assert simulator.stats()["transport"]["broken"] == {"reset_before": 1}


@pytest.mark.parametrize(("when", "seen"), [("before", 0), ("after", 1)])
def test_a_reset_stream_does_not_say_whether_the_push_was_accepted(
    simulator: SimulatorProcess, when: str, seen: int
) -> None:
    simulator.set_faults(once(fault="reset", when=when, code=2))
    token = device()
    with curls(simulator) as client:
        assert client.push(token) == [Told(0, HTTP2_STREAM)]
        assert len(simulator.pushes(token)) == seen
        assert client.push(device()) == [OK], "the connection lives on"
    assert simulator.faults()[0]["hits"] == 1


def test_a_reset_takes_one_stream_of_many(simulator: SimulatorProcess) -> None:
    simulator.set_faults(once(fault="reset", when="after"))
    with curls(simulator) as client:
        assert Counter(client.push(*(device() for _ in range(50)))) == {OK: 49, Told(0, HTTP2_STREAM): 1}
    assert accepted(simulator) == 50


@pytest.mark.parametrize("tcp", ["reset", "close"])
def test_accepted_and_then_the_connection_is_gone(simulator: SimulatorProcess, tcp: str) -> None:
    simulator.set_faults(once(fault="drop", tcp=tcp))
    token = device()
    with curls(simulator) as client:
        [told] = client.push(token)
        assert told.error in (pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR, pycurl.E_HTTP2)
        assert len(simulator.pushes(token)) == 1
        # A sender that cannot know sends again: the witness tells on it.
        assert client.push(token) == [OK]
    assert simulator.stats()["shown_twice"] == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_goaway_in_the_middle_loses_nothing_and_repeats_nothing(simulator: SimulatorProcess, when: str) -> None:
    simulator.set_faults(once(fault="goaway", when=when, reason="Shutdown"))
    tokens = [device() for _ in range(100)]
    with curls(simulator) as client:
        assert set(client.push(*tokens)) == {OK}
    stats = simulator.stats()
    assert (stats["accepted"], stats["distinct_devices"], stats["shown_twice"]) == (100, 100, 0)
    # Two of libcurl's at least, and those of admin calls.
    assert stats["transport"]["broken"] == {f"goaway_{when}": 1}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_goaway_is_true_of_answers_out_of_order(simulator: SimulatorProcess, when: str) -> None:
    goaway = {"fault": "goaway", "when": when}
    simulator.set_faults(
        {"provider": "apns", "latency_ms": {"shape": "uniform", "low": 0, "high": 200}},
        {"provider": "apns", "limit": 5, "probability": 0.1, "transport": goaway},
    )
    with curls(simulator, connections=2) as client:
        assert set(client.push(*(device() for _ in range(200)))) == {OK}
    stats = simulator.stats()
    assert (stats["accepted"], stats["distinct_devices"], stats["shown_twice"]) == (200, 200, 0)


def test_a_goaway_that_answers_nobody_leaves_only_its_last_streams_in_doubt(simulator: SimulatorProcess) -> None:
    simulator.set_faults(once(fault="goaway", when="after", in_flight="drop"))
    token = device()
    with curls(simulator) as client:
        [told] = client.push(token)
    assert told == Told(0, pycurl.E_HTTP2)
    assert len(simulator.pushes(token)) == 1


@pytest.mark.parametrize(("when", "seen"), [("before", 49), ("after", 50)])
def test_a_stalled_stream_holds_up_no_other(simulator: SimulatorProcess, when: str, seen: int) -> None:
    simulator.set_faults(once(fault="stall", when=when))
    with curls(simulator) as client:
        told = Counter(client.push(*(device() for _ in range(50)), timeout=2))
    assert told == {OK: 49, Told(0, pycurl.E_OPERATION_TIMEDOUT): 1}
    assert accepted(simulator) == seen


def test_a_stalled_connection_holds_up_all_its_streams(simulator: SimulatorProcess) -> None:
    simulator.set_faults(once(fault="stall", scope="connection"))
    with curls(simulator) as client:
        told = client.push(*(device() for _ in range(20)), timeout=1)
    assert told.count(Told(0, pycurl.E_OPERATION_TIMEDOUT)) >= 19
    assert simulator.stats()["shown_twice"] == 0


def test_a_stall_that_ends_only_delays(simulator: SimulatorProcess) -> None:
    simulator.set_faults(once(fault="stall", scope="connection", seconds=0.3))
    with curls(simulator) as client:
        assert set(client.push(*(device() for _ in range(20)))) == {OK}
    assert accepted(simulator) == 20


@pytest.mark.parametrize(
    ("how", "error"),
    [("refused", pycurl.E_SSL_CONNECT_ERROR), ("stranger", pycurl.E_PEER_FAILED_VERIFICATION)],
)
def test_a_handshake_fails_and_the_next_one_does_not(simulator: SimulatorProcess, how: str, error: int) -> None:
    simulator.set_faults({"limit": 1, "transport": {"fault": "tls", "how": how}})
    with curls(simulator) as client:
        assert client.push(device()) == [Told(0, error)]
        assert client.push(device()) == [OK]
    assert simulator.stats()["transport"]["handshakes_failed"] == 1
    assert accepted(simulator) == 1


def test_latencies_are_drawn_from_a_distribution(simulator: SimulatorProcess) -> None:
    simulator.set_faults({"provider": "apns", "latency_ms": {"shape": "uniform", "low": 100, "high": 200}})
    with curls(simulator) as client:
        assert client.push(device()) == [OK]
        began = time.monotonic()
        assert set(client.push(*(device() for _ in range(50)))) == {OK}
        assert time.monotonic() - began >= 0.1


def test_a_days_quota_ends_until_midnight(simulator: SimulatorProcess) -> None:
    simulator.set_faults({"provider": "apns", "reason": "TooManyRequests", "free_a_day": 3})
    with curls(simulator) as client:
        told = [client.push(device())[0].status for _ in range(5)]
    assert told == [200, 200, 200, 429, 429]
