"""The harness itself: what must be true of it for a seed that passes to mean something."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import pytest

from shared.policy.window import QuietHours
from shared.wire.events import decoding
from stream.effects import effects_of
from tests.chaos.conftest import seeds_of
from tests.chaos.crowd import FRESH_IN, Crowd, reminded
from tests.chaos.faults import FAULTS, MOST, deal
from tests.chaos.load import HOUR, dates_of, make
from tests.chaos.proxy import LOOPBACK, Proxy
from tests.conftest import NOON


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says what it hears."""
    server = socket.create_server((LOOPBACK, 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection, suppress(ConnectionResetError):
            while heard := connection.recv(1024):
                connection.sendall(heard)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    proxy = Proxy(echo)
    yield proxy
    proxy.close()


def connected(proxy: Proxy) -> socket.socket:
    return socket.create_connection((LOOPBACK, proxy.port), timeout=5)


def test_a_whole_network_passes_everything_on(proxy: Proxy) -> None:
    with connected(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(16) == b"hello"


def test_a_cut_resets_connections_and_refuses_new_ones_until_it_is_mended(proxy: Proxy) -> None:
    with connected(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(16) == b"hello"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(16)
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)
    proxy.mend()
    with connected(proxy) as client:
        client.sendall(b"again")
        assert client.recv(16) == b"again"


def test_a_frozen_network_holds_bytes_back_and_loses_none(proxy: Proxy) -> None:
    with connected(proxy) as client:
        proxy.freeze()
        client.sendall(b"late")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(16)
        proxy.mend()
        client.settimeout(5)
        assert client.recv(16) == b"late"


def test_a_cut_ends_a_freeze(proxy: Proxy) -> None:
    with connected(proxy) as client:
        proxy.freeze()
        client.sendall(b"lost")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(16)


def test_in_fifty_seeds_every_fault_strikes_several_times() -> None:
    dealt = Counter(fault.name for seed in range(1, 51) for fault in deal(seed))
    assert set(dealt) == {fault.name for fault in FAULTS}
    assert min(dealt.values()) >= 4


def test_a_seed_always_means_the_same() -> None:
    for seed in range(1, 51):
        hand = deal(seed)
        assert 1 <= len(hand) <= MOST
        assert hand == deal(seed)
    assert make(7) == make(7)


def test_seeds_share_neither_users_nor_dates() -> None:
    loads = [make(seed) for seed in range(1, 6)]
    for load, following in pairwise(loads):
        assert not {user.id for user in load.users} & {user.id for user in following.users}
        assert max(dates_of(load)) < min(dates_of(following))


def test_seeds_are_named_one_by_one_or_as_ranges() -> None:
    assert seeds_of("3,17") == {3, 17}
    assert seeds_of("1-3,50") == {1, 2, 3, 50}


def test_a_crowd_knows_what_its_events_come_to() -> None:
    crowd = Crowd(NOON, partitions=4)
    parts = [crowd.said(5_000, NOON + second) for second in range(3)]
    assert all(sum(map(len, part)) == 5_000 for part in parts)
    decode = decoding(NOON + 3)
    # A partition at a time, as workers read.
    events = [decode(said) for n in range(4) for part in parts for _, said in part[n]]
    users = effects_of(events, {}, "UTC").users
    practised = {user: facts.last_practice()[1] for user, facts in users.items() if facts.practices}
    assert practised == crowd.practised
    expected = crowd.expected()
    assert users.keys() <= expected.keys()
    assert sum(expected[user] == 1 and crowd.streak(user) == 0 for user in practised) == 3 * 5_000 // FRESH_IN


def test_reminders_of_a_soak_come_due_while_it_lasts_and_outside_quiet_hours() -> None:
    load = reminded(NOON, 1200, 5.0)
    quiet = QuietHours(22, 8)
    assert len(load.users) == 6_000
    assert len(load.expected) + len(load.practices) == 6_000
    for timer in (effects := effects_of(load.events[0], {}, "UTC")).started():
        assert NOON < timer.due < NOON + 1200
    for lesson in effects.practised(quiet):
        assert NOON < (lesson.practice_due or 0) < NOON + 1200
        assert (lesson.streak_saver_due or 0) > NOON + 2 * HOUR
