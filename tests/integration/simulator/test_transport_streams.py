"""How many streams a connection may have, and that libcurl keeps to it while it runs."""

from __future__ import annotations

from typing import Any

import pytest

from infra.simulator.process import SimulatorProcess
from tests.integration.simulator.asked import device
from tests.integration.simulator.with_pycurl import Told, curls

pytestmark = pytest.mark.timeout(120)

OK = Told(200)


def streams(simulator: SimulatorProcess) -> tuple[int, int]:
    """The most at a time on one connection, and those refused."""
    seen = simulator.stats()["transport"]
    return seen["most_streams"], seen["streams_refused"]


def limit(streams: int, **more: Any) -> dict[str, Any]:
    return {"transport": {"fault": "max_streams", "streams": streams} | more}


def many(count: int = 100) -> list[str]:
    return [device() for _ in range(count)]


def test_one_stream_until_a_token_was_accepted(simulator: SimulatorProcess) -> None:
    simulator.set_faults({"transport": {"fault": "one_stream_until_authorised", "strict": True}})
    with curls(simulator) as client:
        assert client.push(device()) == [OK]
        assert streams(simulator) == (1, 0)
        assert set(client.push(*many())) == {OK}
    most, refused = streams(simulator)
    assert most > 1
    assert refused == 0


def test_who_does_not_wait_for_it_is_refused(simulator: SimulatorProcess) -> None:
    simulator.set_faults({"transport": {"fault": "one_stream_until_authorised", "strict": True}})
    with curls(simulator) as client:
        client.push(*many(20))
    assert streams(simulator)[1] > 0
    assert simulator.stats()["shown_twice"] == 0


def test_one_stream_it_stays_for_a_token_that_is_not_accepted(simulator: SimulatorProcess) -> None:
    simulator.set_faults(
        {"transport": {"fault": "one_stream_until_authorised"}},
        {"provider": "apns", "reason": "InvalidProviderToken"},
    )
    with curls(simulator) as client:
        assert client.push(device()) == [Told(403)]
        simulator.reset()
        assert set(client.push(*many(20))) == {Told(403)}
        assert streams(simulator) == (1, 0)


def test_the_limit_is_lowered_and_raised_while_a_connection_is_in_use(simulator: SimulatorProcess) -> None:
    simulator.set_faults(limit(1000))
    with curls(simulator) as client:
        assert set(client.push(*many())) == {OK}
        assert streams(simulator)[0] > 3
        simulator.set_faults(limit(3))
        assert client.push(device()) == [OK]  # by now the SETTINGS are read
        simulator.reset()
        assert set(client.push(*many())) == {OK}
        assert streams(simulator) == (3, 0)
        simulator.set_faults(limit(1000))
        assert client.push(device()) == [OK]
        assert set(client.push(*many())) == {OK}
        assert streams(simulator)[0] > 3


def test_the_limit_is_lowered_after_some_requests_as_a_rule_file_can_say(simulator: SimulatorProcess) -> None:
    simulator.set_faults(limit(2, after=10))
    with curls(simulator) as client:
        assert [client.push(device()) for _ in range(11)] == [[OK]] * 11
        simulator.reset()
        assert set(client.push(*many(30))) == {OK}
        assert streams(simulator) == (2, 0)
