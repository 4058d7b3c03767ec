"""Parts of the front that need no socket: what a client offers in its first words, and how many streams it may open."""

from __future__ import annotations

import ssl
from random import Random

import pytest

from infra.simulator.faults import Terms
from infra.simulator.faults.transport import MaxStreams, OneStream
from infra.simulator.front.hello import LONGEST, offers_http2, whole
from infra.simulator.front.streams import StreamLimit

ONE = OneStream(streams=100)


def hello(protocols: list[str], server_name: str | None = "localhost") -> bytes:
    """What Python's TLS says first."""
    context = ssl.create_default_context()
    context.check_hostname = server_name is not None
    if protocols:
        context.set_alpn_protocols(protocols)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", None])
@pytest.mark.parametrize(
    ("protocols", "offered"),
    [([], False), (["http/1.1"], False), (["h2"], True), (["http/1.1", "h2"], True), (["h2c", "xh2"], False)],
)
def test_a_client_is_known_by_its_protocols(protocols: list[str], offered: bool, name: str | None) -> None:
    assert offers_http2(hello(protocols, name)) is offered


def test_it_is_waited_for_until_it_is_whole() -> None:
    said = hello(["h2"])
    assert [whole(said[:size]) for size in (0, 1, 4, 5, len(said) - 1)] == [False] * 5
    assert whole(said)
    assert whole(said + b"more")


def test_what_is_no_handshake_is_not_waited_for() -> None:
    assert whole(b"GET / HTTP/1.1\r\n")
    assert not offers_http2(b"GET / HTTP/1.1\r\n")
    assert whole(b"\x16\x03\x01\xff\xff" + b"x" * LONGEST)


def test_garbage_offers_nothing_and_harms_nobody() -> None:
    random, said = Random(1), hello(["h2"])
    for _ in range(2000):
        broken = bytearray(said[: random.randrange(len(said) + 1)])
        for _ in range(random.randrange(1, 8)):
            if broken:
                broken[random.randrange(len(broken))] = random.randrange(256)
        offers_http2(bytes(broken))
        whole(bytes(broken))


def test_without_rules_a_connection_has_as_many_streams_as_apns_allows() -> None:
    limit = StreamLimit(Terms())
    assert (limit.wanted, limit.enforced, limit.announce()) == (1000, 1000, None)


def test_one_stream_until_the_credentials_were_accepted() -> None:
    limit = StreamLimit(Terms(one_stream=ONE))
    limit.acknowledged()
    assert limit.enforced == 1
    limit.answered(403)
    assert limit.announce() is None
    limit.answered(400)
    assert (limit.announce(), limit.announce()) == (100, None)
    assert limit.enforced == 1
    limit.acknowledged()
    assert limit.enforced == 100


def test_only_a_strict_rule_refuses_what_comes_before_the_settings_were_read() -> None:
    assert StreamLimit(Terms(one_stream=ONE)).enforced == 1000
    assert StreamLimit(Terms(one_stream=OneStream(strict=True))).enforced == 1


def test_the_lower_limit_of_two_rules_holds() -> None:
    limit = StreamLimit(Terms(ONE, MaxStreams(streams=5, after=2)))
    limit.answered(200)
    assert limit.wanted == 100
    limit.requested()
    limit.requested()
    assert limit.wanted == 5


def test_a_limit_lowered_twice_is_acknowledged_twice() -> None:
    limit = StreamLimit(Terms())
    limit.acknowledged()
    told = []
    for streams in (10, 3):
        limit.set(Terms(max_streams=MaxStreams(streams=streams)))
        told.append(limit.announce())
    assert told == [10, 3]
    enforced = [limit.enforced]
    for _ in range(2):
        limit.acknowledged()
        enforced.append(limit.enforced)
    assert enforced == [1000, 10, 3]
